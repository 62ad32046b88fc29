//! Output: what the command prints, line by line, and its last lines for the error.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Which of the two a line was printed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Takes lines without their newline, from two threads at once. What is no text comes as it is.
pub type OutputSink<'a> = &'a (dyn Fn(Stream, &[u8]) + Sync);

/// Lines that an error shows.
const TAIL: usize = 20;
/// A line longer than this is given out in pieces, so that memory stays bounded.
const MAX_LINE: usize = 8 << 10;

/// Reads what a command prints.
pub(crate) struct Listener<'a> {
    sink: OutputSink<'a>,
    tail: Mutex<VecDeque<String>>,
    bytes: AtomicU64,
    limit: u64,
    /// Ends the command.
    stop: &'a (dyn Fn() + Sync),
}

impl<'a> Listener<'a> {
    pub(crate) fn new(
        sink: OutputSink<'a>,
        limit: u64,
        stop: &'a (dyn Fn() + Sync),
    ) -> Listener<'a> {
        Listener {
            sink,
            tail: Mutex::new(VecDeque::new()),
            bytes: AtomicU64::new(0),
            limit,
            stop,
        }
    }

    /// Reads one stream to its end. Past the limit nothing is told any more.
    pub(crate) fn listen(&self, stream: Stream, mut from: impl Read) -> io::Result<()> {
        let mut line = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            let length = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let before = self.bytes.fetch_add(length as u64, Ordering::Relaxed);
            if before > self.limit {
                continue;
            }
            if before + length as u64 > self.limit {
                (self.stop)();
            }
            for piece in buffer[..length].split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if line.ends_with(b"\n") {
                    line.pop();
                    // Programs that take us for a terminal, through one of their own, end so.
                    if line.ends_with(b"\r") {
                        line.pop();
                    }
                    self.tell(stream, &mut line);
                } else if line.len() >= MAX_LINE {
                    self.tell(stream, &mut line);
                }
            }
        }
        if !line.is_empty() {
            self.tell(stream, &mut line);
        }
        Ok(())
    }

    fn tell(&self, stream: Stream, line: &mut Vec<u8>) {
        (self.sink)(stream, line);
        if let Ok(mut tail) = self.tail.lock() {
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(String::from_utf8_lossy(line).into_owned());
        }
        line.clear();
    }

    /// Whether the command wrote more than it may.
    pub(crate) fn is_beyond(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.limit
    }

    /// The last lines so far.
    pub(crate) fn tail(&self) -> Vec<String> {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().cloned().collect()
    }

    /// The last lines, of both streams as they came.
    pub(crate) fn into_tail(self) -> Vec<String> {
        let tail = self.tail.into_inner();
        tail.map_or_else(|poisoned| poisoned.into_inner().into(), Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(text: &[u8], limit: u64) -> (Vec<String>, Vec<String>, bool) {
        let lines = Mutex::new(Vec::new());
        let stopped = Mutex::new(false);
        let sink = |_: Stream, line: &[u8]| {
            lines
                .lock()
                .unwrap()
                .push(String::from_utf8_lossy(line).into_owned());
        };
        let stop = || *stopped.lock().unwrap() = true;
        let listener = Listener::new(&sink, limit, &stop);
        listener.listen(Stream::Out, text).unwrap();
        let tail = listener.into_tail();
        (
            lines.into_inner().unwrap(),
            tail,
            stopped.into_inner().unwrap(),
        )
    }

    #[test]
    fn lines_come_whole_and_the_last_stay() {
        let text: String = (0..50).map(|n| format!("{n}\n")).collect();
        let text = text.replace("7\n", "7\r\n");
        let (lines, tail, stopped) = heard(format!("{text}end").as_bytes(), 1000);
        assert_eq!(lines[7], "7");
        assert_eq!((lines.len(), lines[50].as_str()), (51, "end"));
        assert_eq!(
            (tail.len(), tail[0].as_str(), tail[19].as_str()),
            (20, "31", "end")
        );
        assert!(!stopped);
    }

    #[test]
    fn endless_output_is_stopped_and_a_long_line_is_cut() {
        let (lines, tail, stopped) = heard(&vec![b'y'; 1 << 20], 100_000);
        assert!(stopped);
        assert!(lines.iter().all(|line| line.len() < MAX_LINE + (16 << 10)));
        assert!(lines.len() < 20 && tail.len() <= TAIL);
    }
}
