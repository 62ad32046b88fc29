//! One connection: requests in, answers out, one after the other, as long as both sides like.
//!
//! Every wait has an end, and nothing grows with what a client sends: a head has
//! [`MOST_HEAD`] bytes and a whole of time, a piece of an answer has a time in which it must be
//! taken, bodies are never read.
//!
//! A whole blob is hashed as it is sent, and its last piece goes out only if the digest is right:
//! damage on disk becomes a cut connection and a note that names the blob, never an image. Parts of
//! blobs are checked by whoever puts them together. A blob that is a link is hashed before
//! anything of it is sent, because a link may lead to a file that is nobody's business.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use memchr::memmem;

use crate::oci::Hasher;
use crate::transport::serve::answer::{Answer, Body, Part};
use crate::transport::serve::head::{Head, MOST_HEAD, bad, too_large};
use crate::transport::serve::respond::respond;
use crate::transport::serve::seats::Seat;
use crate::transport::serve::server::ServeSettings;
use crate::transport::serve::shelf::Shelf;

/// How much of a blob is in memory at once, twice.
const PIECE: usize = 128 << 10;

/// How much of a body that nobody wants is taken from the line, so that the answer is read before
/// the connection ends.
const MOST_LEFT: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// Serves one client until it goes, or has to.
///
/// # Errors
/// The client went away, or did not keep up.
pub(crate) fn attend(
    seat: &Seat<'_>,
    shelf: &Shelf,
    settings: &ServeSettings,
    tell: &dyn Fn(&str),
) -> io::Result<()> {
    let stream: &TcpStream = &seat.stream;
    stream.set_nodelay(true)?;
    let mut line = Line {
        stream,
        settings,
        bytes: Vec::new(),
    };
    while seat.await_request() {
        let (head, answer) = match line.next_head()? {
            Arrived::End => return Ok(()),
            // It came as its sender was shown out.
            Arrived::Head(_) if !seat.begin_answer() => return Ok(()),
            Arrived::Head(head) => {
                let answer = respond(&head, shelf, tell);
                (head, answer)
            }
            Arrived::NoHead(answer) => {
                let head = Head {
                    has_body: true,
                    ..Head::default()
                };
                (head, *answer)
            }
        };
        let is_last = head.is_last || head.has_body;
        line.send(seat, &answer, head.method == "HEAD", is_last, tell)?;
        if head.has_body {
            return line.linger();
        }
        if is_last {
            return Ok(());
        }
    }
    Ok(())
}

/// What comes from a client.
enum Arrived {
    Head(Head),
    /// Something else, and its answer.
    NoHead(Box<Answer>),
    /// Nothing more.
    End,
}

/// A connection, and what was read of it too early.
struct Line<'a> {
    stream: &'a TcpStream,
    settings: &'a ServeSettings,
    bytes: Vec<u8>,
}

impl Line<'_> {
    /// Waits for the next head.
    fn next_head(&mut self) -> io::Result<Arrived> {
        let start = Instant::now();
        let mut begun = (!self.bytes.is_empty()).then_some(start);
        loop {
            // Empty lines between requests mean nothing.
            let blank = |byte: &&u8| matches!(byte, b'\r' | b'\n');
            let blanks = self.bytes.iter().take_while(blank).count();
            self.bytes.drain(..blanks);
            if let Some(end) = end_of_head(&self.bytes).filter(|end| *end <= MOST_HEAD) {
                let head = Head::parse(&self.bytes[..end]);
                self.bytes.drain(..end);
                return Ok(head.map_or_else(Arrived::NoHead, Arrived::Head));
            }
            // Whoever begins with something else, such as TLS, must hear at once that this is HTTP:
            // clients that try both wait for it.
            if self
                .bytes
                .first()
                .is_some_and(|byte| !byte.is_ascii_alphabetic())
            {
                return Ok(Arrived::NoHead(bad("this is no HTTP request")));
            }
            if self.bytes.len() >= MOST_HEAD {
                return Ok(Arrived::NoHead(match self.bytes.contains(&b'\n') {
                    true => too_large(),
                    false => {
                        let message = "the address is too long";
                        Box::new(Answer::error(414, "UNSUPPORTED", message))
                    }
                }));
            }
            let (since, most) = match begun {
                Some(begun) => (begun, self.settings.head),
                None => (start, self.settings.idle),
            };
            match self.receive(since + most) {
                Ok(0) => return Ok(Arrived::End),
                Ok(_) => {
                    begun.get_or_insert_with(Instant::now);
                }
                Err(error) if is_late(&error) && begun.is_some() => {
                    let message = "the request took too long";
                    let answer = Answer::error(408, "UNSUPPORTED", message);
                    return Ok(Arrived::NoHead(Box::new(answer)));
                }
                Err(error) if is_late(&error) => return Ok(Arrived::End),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once; gives how much came.
    fn receive(&mut self, deadline: Instant) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left_until(deadline)?))?;
        let held = self.bytes.len();
        let mut buffer = [0; 4096];
        let room = buffer.len().min(MOST_HEAD.saturating_sub(held).max(1));
        let count = loop {
            match (&mut &*self.stream).read(&mut buffer[..room]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.bytes.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    /// Sends an answer.
    fn send(
        &mut self,
        seat: &Seat<'_>,
        answer: &Answer,
        is_head: bool,
        is_last: bool,
        tell: &dyn Fn(&str),
    ) -> io::Result<()> {
        let mut bytes = answer.head(is_last);
        match &answer.body {
            _ if is_head => self.write(&bytes),
            // Mostly one packet, and never a second copy of a large document.
            Body::Bytes(body) if body.len() <= PIECE => {
                bytes.extend_from_slice(body);
                self.write(&bytes)
            }
            Body::Bytes(body) => {
                self.write(&bytes)?;
                self.write(body)
            }
            Body::Blob(part) => {
                let sent = self.send_blob(seat, &bytes, part);
                if let Err(error) = &sent
                    && error.kind() == io::ErrorKind::InvalidData
                {
                    tell(&format!("{} was not sent whole: {error}", part.digest));
                }
                sent
            }
        }
    }

    fn send_blob(&mut self, seat: &Seat<'_>, head: &[u8], part: &Part) -> io::Result<()> {
        if part.place.is_link {
            let end = part.place.size;
            let whole = (0..end)
                .step_by(PIECE)
                .map(|at| at..(at + PIECE as u64).min(end));
            let mut hasher = Hasher::new();
            let mut buffer = Vec::new();
            for range in whole {
                if seat.is_cut() {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                read_piece(part, range, &mut buffer)?;
                hasher.update(&buffer);
            }
            check(hasher, part)?;
        }
        self.write(head)?;
        let mut hasher = part.is_whole().then(Hasher::new);
        let (mut held, mut next) = (Vec::new(), Vec::new());
        let mut at = part.range.start;
        while at < part.range.end {
            let end = (at + PIECE as u64).min(part.range.end);
            read_piece(part, at..end, &mut next)?;
            at = end;
            if let Some(hasher) = &mut hasher {
                hasher.update(&next);
            }
            self.write(&held)?;
            std::mem::swap(&mut held, &mut next);
        }
        if let Some(hasher) = hasher {
            check(hasher, part)?;
        }
        self.write(&held)
    }

    /// Sends bytes, all of which must be taken within the patience for a piece.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + self.settings.piece;
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(left_until(deadline)?))?;
            match (&mut &*self.stream).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends a connection on which something still comes: closed at once, it would take the answer
    /// with it before the client has read it.
    fn linger(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let deadline = Instant::now() + LINGER;
        let mut left = MOST_LEFT;
        let mut buffer = [0; 4096];
        while left > 0 {
            self.stream.set_read_timeout(Some(left_until(deadline)?))?;
            let count = (&mut &*self.stream).read(&mut buffer)?;
            if count == 0 {
                break;
            }
            left = left.saturating_sub(count);
        }
        Ok(())
    }
}

/// Where the empty line after a head ends.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let ends = [&b"\n\r\n"[..], b"\n\n"];
    let ends = ends.iter();
    ends.filter_map(|end| Some(memmem::find(bytes, end)? + end.len()))
        .min()
}

fn read_piece(part: &Part, range: std::ops::Range<u64>, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.resize((range.end - range.start) as usize, 0);
    let place = &part.place;
    let read = place.file.read_exact_at(buffer, place.at + range.start);
    read.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(io::ErrorKind::InvalidData, "it became shorter")
        }
        _ => error,
    })
}

fn check(hasher: Hasher, part: &Part) -> io::Result<()> {
    let found = hasher.finish();
    match found == part.digest {
        true => Ok(()),
        false => {
            let problem = format!("it holds bytes whose digest is {found}");
            Err(io::Error::new(io::ErrorKind::InvalidData, problem))
        }
    }
}

fn left_until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

/// What a read is that has waited long enough.
fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_end_with_an_empty_line() {
        for (text, end) in [
            ("GET / HTTP/1.1\r\n\r\nrest", Some(18)),
            ("GET / HTTP/1.1\n\nrest\r\n\r\n", Some(16)),
            ("GET / HTTP/1.1\r\na: b\n\r\n", Some(23)),
            ("GET / HTTP/1.1\r\n", None),
            ("", None),
        ] {
            assert_eq!(end_of_head(text.as_bytes()), end, "{text:?}");
        }
    }
}
