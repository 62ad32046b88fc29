//! Outgoing bytes: blobs as they are read on their way to a registry, counted, and with what is
//! wrong on this side of the wire told from what is wrong on the other.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::oci::{BlobReader, BlobSource, Descriptor, Digest, HashingReader};

/// How far the blobs of a push have come that the repository did not have, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// So far. Bytes that had to be sent again count once, those of mounted blobs as if sent.
    pub done: u64,
    /// In all.
    pub total: u64,
}

/// Adds up the progress of all blobs.
pub(crate) struct Counter<'a> {
    done: AtomicU64,
    total: u64,
    watch: &'a (dyn Fn(Progress) + Sync),
}

impl<'a> Counter<'a> {
    pub(crate) fn new(total: u64, watch: &'a (dyn Fn(Progress) + Sync)) -> Counter<'a> {
        let counter = Counter {
            done: AtomicU64::new(0),
            total,
            watch,
        };
        if total > 0 {
            counter.tell(0);
        }
        counter
    }

    fn add(&self, count: u64) {
        let before = self.done.fetch_add(count, Ordering::Relaxed);
        let done = before + count;
        if before / TELLING != done / TELLING || done == self.total {
            self.tell(done);
        }
    }

    fn tell(&self, done: u64) {
        let total = self.total;
        (self.watch)(Progress { done, total });
    }
}

/// How many bytes are told of at once.
const TELLING: u64 = 256 << 10;

/// The bytes of one blob, to be read from any offset, as often as it takes.
pub(crate) struct Outgoing<'a> {
    source: &'a dyn BlobSource,
    blob: &'a Descriptor,
    counter: &'a Counter<'a>,
    /// A reader at rest and where it stands: most chunks begin where the last one ended.
    at_rest: Mutex<Option<(u64, BlobReader)>>,
    /// Why the blob could not be read, if that is why it was not sent.
    failed: Mutex<Option<io::Error>>,
    /// The furthest byte that was read.
    reached: AtomicU64,
    /// How many bytes were read, those that were sent again among them.
    sent: AtomicU64,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(
        source: &'a dyn BlobSource,
        blob: &'a Descriptor,
        counter: &'a Counter<'a>,
    ) -> Outgoing<'a> {
        Outgoing {
            source,
            blob,
            counter,
            at_rest: Mutex::new(None),
            failed: Mutex::new(None),
            reached: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    /// The bytes from `offset` on, `size` of them.
    pub(crate) fn open<'b>(
        &'b self,
        offset: u64,
        size: u64,
    ) -> io::Result<Box<dyn Read + Send + 'b>> {
        match self.reader_at(offset) {
            Ok(reader) => Ok(Box::new(Part {
                outgoing: self,
                reader: Some(reader),
                at: offset,
                end: offset + size,
            })),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn reader_at(&self, offset: u64) -> io::Result<BlobReader> {
        let at_rest = locked(&self.at_rest).take();
        if let Some((at, reader)) = at_rest
            && at == offset
        {
            return Ok(reader);
        }
        if let Some(mut file) = self.source.file(&self.blob.digest)? {
            file.seek(SeekFrom::Start(offset))?;
            return Ok(Box::new(file) as BlobReader);
        }
        let reader = self.source.open(&self.blob.digest)?;
        let mut reader = reader.ok_or(io::ErrorKind::NotFound)?;
        io::copy(&mut (&mut reader).take(offset), &mut io::sink())?;
        Ok(reader)
    }

    /// The digest of the bytes that are here.
    pub(crate) fn digest(&self) -> io::Result<Digest> {
        let mut reader = HashingReader::new(self.reader_at(0)?);
        io::copy(&mut reader, &mut io::sink())?;
        Ok(reader.finish().1)
    }

    /// Keeps why the blob cannot be read, and gives the client a reason to break off.
    fn fail(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        locked(&self.failed).get_or_insert(error);
        kind.into()
    }

    /// Why the blob could not be read, if that was it.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        locked(&self.failed).take()
    }

    /// Counts all bytes before `offset` as done.
    pub(crate) fn reach(&self, offset: u64) {
        let before = self.reached.fetch_max(offset, Ordering::Relaxed);
        if offset > before {
            self.counter.add(offset - before);
        }
    }

    /// How many bytes were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// A part of a blob on its way.
struct Part<'a> {
    outgoing: &'a Outgoing<'a>,
    reader: Option<BlobReader>,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end - self.at;
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let Some(reader) = self.reader.as_mut().filter(|_| most > 0) else {
            return Ok(0);
        };
        let count = match reader.read(&mut buffer[..most]) {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!(
                    "it ends after {} of {} bytes",
                    self.at, self.outgoing.blob.size
                ),
            )),
            result => result,
        };
        let count = match count {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.reader = None;
                return Err(self.outgoing.fail(error));
            }
        };
        self.at += count as u64;
        self.outgoing
            .sent
            .fetch_add(count as u64, Ordering::Relaxed);
        self.outgoing.reach(self.at);
        Ok(count)
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            *locked(&self.outgoing.at_rest) = Some((self.at, reader));
        }
    }
}

/// What a thread that panicked left behind is whole: every change is one assignment.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;
    use std::collections::BTreeMap;

    #[test]
    fn parts_are_read_from_anywhere_and_counted_once() {
        let bytes: Vec<u8> = (0..=255).collect();
        let blob = Descriptor::of(MediaType::from("x/y"), &bytes);
        let source = BTreeMap::from([(blob.digest, bytes.clone())]);
        let told = Mutex::new(Vec::new());
        let watch = |progress: Progress| told.lock().unwrap().push(progress.done);
        let counter = Counter::new(256, &watch);
        let outgoing = Outgoing::new(&source, &blob, &counter);
        for (offset, size) in [(0, 100), (100, 50), (20, 200), (220, 36)] {
            let mut part = Vec::new();
            let mut reader = outgoing.open(offset, size).unwrap();
            reader.read_to_end(&mut part).unwrap();
            let offset = usize::try_from(offset).unwrap();
            assert_eq!(part, bytes[offset..offset + usize::try_from(size).unwrap()]);
        }
        assert_eq!(outgoing.sent(), 386);
        assert_eq!(told.lock().unwrap().last(), Some(&256));
        assert!(outgoing.failure().is_none());
    }

    #[test]
    fn what_is_wrong_on_this_side_is_kept() {
        let bytes = b"short".to_vec();
        let blob = Descriptor::new(MediaType::from("x/y"), Digest::of(&bytes), 9);
        let source = BTreeMap::from([(blob.digest, bytes)]);
        let counter = Counter::new(9, &|_| ());
        let outgoing = Outgoing::new(&source, &blob, &counter);
        let mut reader = outgoing.open(0, 9).unwrap();
        assert!(io::copy(&mut reader, &mut io::sink()).is_err());
        drop(reader);
        let failure = outgoing.failure().unwrap().to_string();
        assert_eq!(failure, "it ends after 5 of 9 bytes");
        let other = Descriptor::of(MediaType::from("x/y"), b"other");
        let outgoing = Outgoing::new(&source, &other, &counter);
        assert!(outgoing.open(0, 5).is_err());
        assert!(outgoing.failure().is_some());
    }
}
