//! Answers: a status, headers and a body; and the errors of the distribution spec, "Error codes".

use std::io::Write;
use std::ops::Range;

use serde_json::json;

use crate::oci::Digest;
use crate::transport::serve::shelf::Place;

/// What a request is answered with.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

/// The bytes of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// A document, an error, or nothing.
    Bytes(Vec<u8>),
    /// A blob or a part of one.
    Blob(Part),
}

/// Bytes of a blob.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) digest: Digest,
    pub(crate) place: Place,
    /// Which of its bytes.
    pub(crate) range: Range<u64>,
}

impl Part {
    /// Whether it is all of the blob, so that its digest can be checked on the way.
    pub(crate) fn is_whole(&self) -> bool {
        self.range == (0..self.place.size)
    }
}

impl Body {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Blob(part) => part.range.end - part.range.start,
        }
    }
}

impl Answer {
    pub(crate) fn new(status: u16, body: Body) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body,
        }
    }

    /// An answer that is a document.
    pub(crate) fn document(media_type: &str, bytes: Vec<u8>) -> Answer {
        Answer::new(200, Body::Bytes(bytes)).header("Content-Type", media_type)
    }

    /// An error in the spec's words.
    pub(crate) fn error(status: u16, code: &str, message: impl Into<String>) -> Answer {
        let error = json!({"errors": [{"code": code, "message": message.into()}]});
        let bytes = crate::oci::json::to_vec(&error);
        Answer::new(status, Body::Bytes(bytes)).header("Content-Type", "application/json")
    }

    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    #[must_use]
    pub(crate) fn with(self, body: Body) -> Answer {
        Answer { body, ..self }
    }

    /// The bytes before the body.
    pub(crate) fn head(&self, is_last: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status)).into_bytes();
        let mut line = |name: &str, value: &str| {
            // Media types come from documents that anyone may have written; none of them may end
            // a header and begin another.
            let is_safe = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
            let value = value
                .bytes()
                .map(|byte| if is_safe(byte) { byte } else { b'?' });
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend(value);
            head.extend_from_slice(b"\r\n");
        };
        for (name, value) in &self.headers {
            line(name, value);
        }
        // A 304 has no body, whatever its headers say, and here they say nothing.
        if self.status != 304 {
            line("Content-Length", &self.body.length().to_string());
        }
        line("Docker-Distribution-API-Version", "registry/2.0");
        line("X-Content-Type-Options", "nosniff");
        if is_last {
            line("Connection", "close");
        }
        // Writing to memory does not fail.
        let _ = head.write_all(b"\r\n");
        head
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_begins_another_header() {
        let answer = Answer::document("a/b\r\nSet-Cookie: x\u{e9}", b"{}".to_vec());
        let head = String::from_utf8(answer.head(true)).unwrap();
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: a/b??Set-Cookie: x??\r\n\
            Content-Length: 2\r\nDocker-Distribution-API-Version: registry/2.0\r\n\
            X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n";
        assert_eq!(head, expected);
    }

    #[test]
    fn errors_are_in_the_words_of_the_spec() {
        let answer = Answer::error(404, "BLOB_UNKNOWN", "no \"x\"");
        let Body::Bytes(bytes) = &answer.body else {
            panic!("an error is no blob");
        };
        assert_eq!(
            String::from_utf8_lossy(bytes),
            r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"no \"x\""}]}"#
        );
    }
}
