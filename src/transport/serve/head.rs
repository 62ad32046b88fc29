//! Heads of requests: what is asked, in bounds.
//!
//! Comes in: the bytes up to the empty line. Goes out: the few things of them that mean something
//! here, or the answer that a malformed head gets. RFC 9112.

use percent_encoding::percent_decode_str;

use crate::transport::serve::answer::Answer;

/// The longest head. Tokens of registries are a few kilobytes; clients send none here.
pub(crate) const MOST_HEAD: usize = 16 << 10;

/// The most headers.
const MOST_HEADERS: usize = 64;

/// The head of one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// The path, decoded.
    pub(crate) path: String,
    /// Names and values of the query, decoded.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) range: Option<String>,
    pub(crate) if_range: Option<String>,
    pub(crate) if_none_match: Option<String>,
    /// A body follows. Nobody here wants one, so nothing that follows it can be read.
    pub(crate) has_body: bool,
    /// The client wants no other answer on this connection.
    pub(crate) is_last: bool,
}

impl Head {
    /// Reads a whole head. The error is the answer, boxed because it is large and rare.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Head, Box<Answer>> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(bad("the request is cut off")),
            Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
            Err(httparse::Error::Version) => {
                let message = "this server speaks HTTP/1.1";
                return Err(Box::new(Answer::error(505, "UNSUPPORTED", message)));
            }
            Err(error) => return Err(bad(&error.to_string())),
        }
        let is_old = request.version == Some(0);
        let mut head = Head {
            method: request.method.unwrap_or_default().to_owned(),
            is_last: is_old,
            ..Head::default()
        };
        head.take_target(request.path.unwrap_or_default())?;
        let mut hosts = 0;
        for header in request.headers.iter() {
            hosts += usize::from(header.name.eq_ignore_ascii_case("host"));
            head.take_header(header)?;
        }
        match hosts {
            1 => Ok(head),
            0 if is_old => Ok(head),
            _ => Err(bad("a request has exactly one Host header")),
        }
    }

    /// The first value that the query has under `name`.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.iter();
        let found = pairs.find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn take_target(&mut self, target: &str) -> Result<(), Box<Answer>> {
        // Clients may write the whole address, as they do towards a proxy.
        let target = match target.split_once("://") {
            Some((scheme, rest)) if !scheme.contains('/') => {
                rest.find('/').map_or("/", |slash| &rest[slash..])
            }
            _ => target,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        self.path = decoded(path)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            // A plus stays a plus: no value that is asked for has spaces, and media types have
            // pluses that people forget to encode.
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.query.push((decoded(name)?, decoded(value)?));
        }
        Ok(())
    }

    fn take_header(&mut self, header: &httparse::Header<'_>) -> Result<(), Box<Answer>> {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let text = || String::from_utf8_lossy(header.value).trim().to_owned();
        if is("range") {
            self.range = Some(text());
        } else if is("if-range") {
            self.if_range = Some(text());
        } else if is("if-none-match") {
            self.if_none_match = Some(text());
        } else if is("transfer-encoding") {
            self.has_body = true;
        } else if is("content-length") {
            let length: u64 = text()
                .parse()
                .map_err(|_| bad("Content-Length is no number"))?;
            self.has_body |= length > 0;
        } else if is("connection") {
            let text = text();
            let mut options = text.split(',').map(str::trim);
            self.is_last |= options.any(|option| option.eq_ignore_ascii_case("close"));
        }
        Ok(())
    }
}

/// The answer to what is no request.
pub(crate) fn bad(message: &str) -> Box<Answer> {
    Box::new(Answer::error(400, "UNSUPPORTED", message))
}

/// The answer to a head that is longer than [`MOST_HEAD`] or has too many lines.
pub(crate) fn too_large() -> Box<Answer> {
    let message = format!("a request has at most {MOST_HEAD} bytes and {MOST_HEADERS} headers");
    Box::new(Answer::error(431, "UNSUPPORTED", message))
}

fn decoded(text: &str) -> Result<String, Box<Answer>> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| bad("the address is not UTF-8"))?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Head, u16> {
        Head::parse(text.as_bytes()).map_err(|answer| answer.status)
    }

    #[test]
    fn what_means_something_is_read() {
        let text = "GET /v2/a%2Fb/tags/list?n=2&last=x%20y&artifactType=a/b+json HTTP/1.1\r\n\
            HOST: x\r\nRange: bytes=1-\r\nconnection: keep-alive, Close\r\ncontent-length: 0\r\n\r\n";
        let head = parsed(text).unwrap();
        assert_eq!(
            (head.method.as_str(), head.path.as_str()),
            ("GET", "/v2/a/b/tags/list")
        );
        assert_eq!(head.parameter("last"), Some("x y"));
        assert_eq!(head.parameter("artifactType"), Some("a/b+json"));
        assert_eq!(head.parameter("ns"), None);
        assert_eq!(head.range.as_deref(), Some("bytes=1-"));
        assert!(head.is_last && !head.has_body);
        let whole = parsed("GET http://h:1/v2/?a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!((whole.path.as_str(), whole.is_last), ("/v2/", false));
        assert!(parsed("GET /v2/ HTTP/1.0\r\n\r\n").unwrap().is_last);
        let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(parsed(chunked).unwrap().has_body);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(80));
        for (text, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
                400,
            ),
            ("GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a", 400),
            ("\u{16}\u{3}\u{1}", 400),
            ("PRI * HTTP/2.0\r\n\r\n", 505),
            (many.as_str(), 431),
        ] {
            assert_eq!(parsed(text).unwrap_err(), status, "{text}");
        }
    }
}
