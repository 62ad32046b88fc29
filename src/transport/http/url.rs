//! URLs: `http` and `https`, as far as registries and downloads need them. RFC 3986.

use std::fmt;
use std::str::FromStr;

/// The scheme of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// An absolute URL without user and fragment.
///
/// `Display` leaves the query out, because signatures of storage services stand there; what is
/// requested is [`Url::as_requested`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    scheme: Scheme,
    /// Host and, where one was written, port.
    authority: String,
    /// Begins with a slash; may have a query.
    target: String,
}

/// Why a text is no URL that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown:?} is no URL: {problem}")]
pub struct UrlError {
    shown: String,
    problem: &'static str,
}

impl Scheme {
    /// As it is written, without `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Url {
    /// The URL of a path, which begins with a slash, on a host.
    ///
    /// # Errors
    /// A host or path with characters that do not belong there.
    pub fn of(scheme: Scheme, authority: &str, target: &str) -> Result<Url, UrlError> {
        format!("{}://{authority}{target}", scheme.as_str()).parse()
    }

    /// Its scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host and port, the port only where it was written.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host without port and without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        split_port(&self.authority)
            .0
            .trim_start_matches('[')
            .trim_end_matches(']')
    }

    /// The port, written or not.
    pub fn port(&self) -> u16 {
        let written = split_port(&self.authority).1;
        let written = written.and_then(|port| port.parse().ok());
        written.unwrap_or(self.scheme.default_port())
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The whole URL, with its query.
    pub fn as_requested(&self) -> String {
        format!(
            "{}://{}{}",
            self.scheme.as_str(),
            self.authority,
            self.target
        )
    }

    /// Whether credentials for one are meant for the other: same scheme, host and port.
    pub fn same_origin(&self, other: &Url) -> bool {
        self.scheme == other.scheme
            && self.host().eq_ignore_ascii_case(other.host())
            && self.port() == other.port()
    }

    /// Whether the host is this machine itself.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }

    /// The same URL with another scheme.
    #[must_use]
    pub fn with_scheme(mut self, scheme: Scheme) -> Url {
        self.scheme = scheme;
        self
    }

    /// The same URL with one more `name=value` in its query; the value is encoded.
    #[must_use]
    pub fn with_query(mut self, name: &str, value: &str) -> Url {
        self.target
            .push(if self.target.contains('?') { '&' } else { '?' });
        self.target.push_str(name);
        self.target.push('=');
        self.target.push_str(&query_encoded(value));
        self
    }

    /// What `location`, an absolute URL or one relative to this, means.
    ///
    /// # Errors
    /// Another scheme than `http` and `https`, or a text that is no URL.
    pub fn join(&self, location: &str) -> Result<Url, UrlError> {
        let location = location.split('#').next().unwrap_or_default();
        if has_scheme(location) {
            return location.parse();
        }
        let target = if let Some(rest) = location.strip_prefix("//") {
            return format!("{}://{rest}", self.scheme.as_str()).parse();
        } else if location.starts_with('/') {
            location.to_owned()
        } else {
            let path = self.target.split('?').next().unwrap_or("/");
            match location.starts_with('?') || location.is_empty() {
                true => format!("{path}{location}"),
                false => {
                    let folder = &path[..path.rfind('/').map_or(0, |slash| slash + 1)];
                    format!("{folder}{location}")
                }
            }
        };
        Url::of(self.scheme, &self.authority, &target)
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let wrong = |problem| UrlError {
            shown: without_secrets(text),
            problem,
        };
        let text = text.split('#').next().unwrap_or_default();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            _ => return Err(wrong("it begins neither with http:// nor with https://")),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let allowed = |c: char| {
            c.is_ascii_graphic()
                && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
        };
        if !target.chars().all(allowed) {
            return Err(wrong(
                "spaces and special characters must be written as %XX",
            ));
        }
        if authority.contains('@') {
            return Err(wrong("user and password do not belong into it"));
        }
        let (host, port) = split_port(authority);
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let host_is_valid = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(is_host),
        };
        if !host_is_valid || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(wrong("its host or port is malformed"));
        }
        Ok(Url {
            scheme,
            authority: authority.to_owned(),
            target: match target.starts_with('/') {
                true => target.to_owned(),
                false => format!("/{target}"),
            },
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = match self.target.split_once('?') {
            Some((path, _)) => (path, "?…"),
            None => (self.target.as_str(), ""),
        };
        write!(
            f,
            "{}://{}{path}{query}",
            self.scheme.as_str(),
            self.authority
        )
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

/// A text as it may stand in a query: RFC 3986, unreserved characters, and `/` and `:`, which need
/// no escape there.
pub fn query_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '+')
    })
}

/// Host, and port where there is one. A colon within brackets belongs to an IPv6 address.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// A malformed URL for a message: without what may be a password or a signature.
fn without_secrets(text: &str) -> String {
    let text = text.split('?').next().unwrap_or_default();
    let text: String = text.chars().take(200).collect();
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        (None, Some((_, host))) => format!("…@{host}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn parts_are_told_apart() {
        for (text, host, port, target) in [
            ("http://a", "a", 80, "/"),
            ("https://a.b:8443/c?d=e#f", "a.b", 8443, "/c?d=e"),
            ("HTTPS://[::1]:5000/", "::1", 5000, "/"),
            ("https://a?b", "a", 443, "/?b"),
        ] {
            let url = url(text);
            assert_eq!((url.host(), url.port(), url.target()), (host, port, target));
        }
        for wrong in [
            "",
            "a",
            "ftp://a/",
            "http://",
            "http:///a",
            "http://a b/",
            "http://a/b c",
            "http://a:99999/",
            "http://a/\r\nX: y",
            "http://[::x]/",
            "http://u:p@a/",
        ] {
            assert!(wrong.parse::<Url>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn locations_are_joined() {
        let base = url("https://r.x:5000/v2/a/blobs/uploads/?x=1");
        for (location, joined) in [
            ("/v2/b?c=d", "https://r.x:5000/v2/b?c=d"),
            ("https://s.y/z", "https://s.y/z"),
            ("//s.y/z", "https://s.y/z"),
            ("1234", "https://r.x:5000/v2/a/blobs/uploads/1234"),
            ("?y=2", "https://r.x:5000/v2/a/blobs/uploads/?y=2"),
        ] {
            assert_eq!(
                base.join(location).unwrap().as_requested(),
                joined,
                "{location}"
            );
        }
        assert!(base.join("file:///etc/passwd").is_err());
    }

    #[test]
    fn no_message_shows_a_signature_or_a_password() {
        let signed = url("https://s3.x/b?X-Amz-Signature=deadbeef");
        assert_eq!(signed.to_string(), "https://s3.x/b?…");
        assert_eq!(format!("{signed:?}"), "Url(https://s3.x/b?…)");
        for wrong in ["https://u:hunter2@h/x", "u:hunter2@h", "h x?sig=hunter2"] {
            let error = wrong.parse::<Url>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        let base = url("https://a.b/x");
        assert!(base.same_origin(&url("https://A.b:443/y")));
        for other in ["http://a.b/", "https://a.b:444/", "https://b.a.b/"] {
            assert!(!base.same_origin(&url(other)), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_and_what_parses_survives(text in "(https?://)?[ -~]{0,40}") {
            if let Ok(parsed) = text.parse::<Url>() {
                prop_assert_eq!(&url(&parsed.as_requested()), &parsed);
                prop_assert!(ureq::http::Uri::try_from(parsed.as_requested()).is_ok());
            }
            let _ = url("http://a/b/c").join(&text);
        }
    }
}
