//! Downloads: a body that goes on where it was cut.
//!
//! RFC 9110, section 14: after a cut the rest is asked for by `Range`. A server that sends all of
//! it again is read past what is there already. What comes is not believed here; whoever reads it
//! has a digest.

use std::fmt;
use std::io::{self, Read};
use std::time::Instant;

use crate::transport::http::client::HttpClient;
use crate::transport::http::error::HttpError;
use crate::transport::http::request::{Body, Request, Response};
use crate::transport::http::trust::Trust;
use crate::transport::http::url::Url;

/// Asks for the bytes from an offset on.
type Ask<'a> = Box<dyn FnMut(u64) -> io::Result<Response> + Send + 'a>;

/// The bytes of a resource, over as many connections as it takes.
pub struct Download<'a> {
    ask: Ask<'a>,
    body: Option<Body>,
    /// The number of bytes in all, if it is known.
    size: Option<u64>,
    /// The most bytes that are read.
    most: u64,
    done: u64,
    /// Where the last cut was, and how many cuts there were since bytes came in numbers.
    last_cut: u64,
    cuts: u32,
    most_cuts: u32,
    deadline: Instant,
}

/// What must come between two cuts for the second to count as a new one: less is a server that
/// drips.
const PROGRESS: u64 = 256 << 10;

impl HttpClient {
    /// Fetches a resource that has at most `most` bytes.
    ///
    /// # Errors
    /// As [`HttpClient::send`]; a status other than success; a length that is over `most`.
    pub fn download<'a>(
        &'a self,
        url: &Url,
        trust: &'a Trust,
        most: u64,
    ) -> Result<Download<'a>, HttpError> {
        let first = self.send(&Request::get(url.clone(), trust))?;
        if !first.is_success() {
            return Err(HttpError::Status {
                url: first.url().clone(),
                status: first.status(),
            });
        }
        let size = first.content_length();
        if size.is_some_and(|size| size > most) {
            return Err(HttpError::TooLong {
                url: url.clone(),
                most,
            });
        }
        let url = url.clone();
        let unchanged = first.header("etag").filter(|tag| !tag.starts_with("W/"));
        let unchanged = unchanged.map(str::to_owned);
        let ask = move |offset| {
            let mut request = Request::get(url.clone(), trust);
            request.headers.push(("range", format!("bytes={offset}-")));
            request
                .headers
                .extend(unchanged.clone().map(|tag| ("if-range", tag)));
            self.send(&request).map_err(io::Error::other)
        };
        Ok(self.resuming(first, size, most, Box::new(ask)))
    }

    /// A body of which the rest is asked for by `ask` when it is cut.
    pub(crate) fn resuming<'a>(
        &self,
        first: Response,
        size: Option<u64>,
        most: u64,
        ask: Ask<'a>,
    ) -> Download<'a> {
        let patience = &self.settings().patience;
        Download {
            ask,
            body: Some(first.into_reader()),
            size,
            most,
            done: 0,
            last_cut: 0,
            cuts: 0,
            most_cuts: patience.attempts,
            deadline: patience.deadline(size.unwrap_or(most)),
        }
    }
}

impl Download<'_> {
    /// The number of bytes, if the server said it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Goes on behind what is there, or gives the error that cut it.
    fn resume(&mut self, cut: io::Error) -> io::Result<()> {
        self.body = None;
        if self.done - self.last_cut >= PROGRESS {
            self.cuts = 0;
        }
        (self.last_cut, self.cuts) = (self.done, self.cuts + 1);
        let is_late = Instant::now() > self.deadline;
        // Without a size nobody knows what is missing, but a cut is told by its error.
        if self.cuts >= self.most_cuts || is_late {
            return Err(cut);
        }
        let answer = (self.ask)(self.done)?;
        let mut skip = match answer.status() {
            206 => match range_start(answer.header("content-range")) {
                Some(start) if start == self.done => 0,
                _ => {
                    return Err(io::Error::other(
                        "the server sends another part than it was asked for",
                    ));
                }
            },
            200 => self.done,
            status => {
                return Err(io::Error::other(format!(
                    "the server answers {status} when it is asked for the rest"
                )));
            }
        };
        let mut body = answer.into_reader();
        let mut buffer = [0; 1 << 15];
        while skip > 0 {
            let wanted = usize::try_from(skip).map_or(buffer.len(), |skip| skip.min(buffer.len()));
            match body.read(&mut buffer[..wanted]) {
                // Cut before anything new came: the next read tells, and counts.
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => skip -= count as u64,
            }
        }
        self.body = Some(body);
        Ok(())
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let cut = match self.body.as_mut().map(|body| body.read(buffer)) {
                Some(Ok(0)) => match self.size {
                    Some(size) if self.done < size => {
                        io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was cut")
                    }
                    _ => return Ok(0),
                },
                Some(Ok(count)) => {
                    self.done += count as u64;
                    if self.done > self.most {
                        return Err(io::Error::other(format!(
                            "it goes on after {} bytes",
                            self.most
                        )));
                    }
                    return Ok(count);
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                Some(Err(error)) => error,
                None => io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was cut"),
            };
            // All that was promised is here; how the connection ends does not matter.
            if self.size == Some(self.done) {
                return Ok(0);
            }
            self.resume(cut)?;
        }
    }
}

impl fmt::Debug for Download<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Download({} of {:?})", self.done, self.size)
    }
}

/// The first byte of `bytes 7-99/100`.
fn range_start(value: Option<&str>) -> Option<u64> {
    let range = value?.trim().strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}
