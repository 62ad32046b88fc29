//! What is asked, and what is answered.

use std::fmt;
use std::io::{self, Read};
use std::time::Instant;

use ureq::http::HeaderMap;
pub use ureq::http::Method;

use crate::transport::http::error::{HttpError, Unreachable};
use crate::transport::http::secret::Secret;
use crate::transport::http::trust::Trust;
use crate::transport::http::url::Url;

/// One thing that is asked of a server.
#[derive(Debug)]
pub struct Request<'a> {
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: Method,
    /// Of what.
    pub url: Url,
    /// Headers besides the usual ones.
    pub headers: Vec<(&'static str, String)>,
    /// The value of `Authorization`; sent to the URL's own origin only.
    pub authorization: Option<Secret>,
    /// What is sent along.
    pub payload: Payload<'a>,
    /// How the server proves itself.
    pub trust: &'a Trust,
    /// Whether redirects are followed.
    pub redirects: Redirects,
    /// Whether it is asked again when that may help.
    pub retry: Retry,
}

impl<'a> Request<'a> {
    /// A `GET` that follows redirects and is made again when that may help.
    pub fn get(url: Url, trust: &'a Trust) -> Request<'a> {
        Request {
            method: Method::GET,
            url,
            headers: Vec::new(),
            authorization: None,
            payload: Payload::Empty,
            trust,
            redirects: Redirects::Follow,
            retry: Retry::Yes,
        }
    }
}

/// Opens the bytes of a payload.
pub type Opener<'a> = dyn Fn() -> io::Result<Box<dyn Read + Send + 'a>> + Sync + 'a;

/// What is sent with a request. It can be sent again.
#[derive(Clone, Copy)]
pub enum Payload<'a> {
    /// Nothing.
    Empty,
    /// Bytes that are at hand.
    Bytes(&'a [u8]),
    /// Bytes that are read as they are sent.
    Stream {
        /// How many.
        size: u64,
        /// Opens them anew for each attempt.
        open: &'a Opener<'a>,
    },
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Empty => f.write_str("Empty"),
            Payload::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Payload::Stream { size, .. } => write!(f, "Stream({size})"),
        }
    }
}

/// Whether redirects are followed. Only those of `GET` and `HEAD` ever are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirects {
    /// The answer is that of the last place.
    Follow,
    /// The redirect is the answer.
    Keep,
}

/// Whether a request that failed for a reason that passes is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// As often as patience allows.
    Yes,
    /// Never: the caller knows better what to do.
    No,
}

/// An answer whose body is not read yet.
pub struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ureq::BodyReader<'static>,
    pub(crate) url: Url,
    /// When the body must be there at the latest.
    pub(crate) deadline: Instant,
}

impl Response {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the status is one of success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Where it came from, behind all redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The first value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All values of a header that are text.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self.headers.get_all(name).into_iter();
        values.filter_map(|value| value.to_str().ok())
    }

    /// The number of bytes in the body, if the server says it.
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// The whole body, if it is not longer than `most` bytes.
    ///
    /// # Errors
    /// A longer body, and a server that breaks off or is too slow.
    pub fn small(self, most: u64) -> Result<Vec<u8>, HttpError> {
        let url = self.url.clone();
        let mut bytes = Vec::new();
        let read = self.into_reader().take(most + 1).read_to_end(&mut bytes);
        read.map_err(|source| HttpError::Unreachable {
            url: url.clone(),
            attempts: 1,
            kind: match source.kind() {
                io::ErrorKind::TimedOut => Unreachable::Slow,
                _ => Unreachable::Broken,
            },
            source,
        })?;
        match bytes.len() as u64 > most {
            true => Err(HttpError::TooLong { url, most }),
            false => Ok(bytes),
        }
    }

    /// The body as it comes. It ends in an error if it is cut or takes too long.
    pub fn into_reader(self) -> Body {
        Body {
            inner: self.body,
            deadline: self.deadline,
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} of {})", self.status, self.url)
    }
}

/// The body of an answer.
pub struct Body {
    inner: ureq::BodyReader<'static>,
    deadline: Instant,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() > self.deadline {
            let slow = "the server sends too slowly";
            return Err(io::Error::new(io::ErrorKind::TimedOut, slow));
        }
        self.inner.read(buffer)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}
