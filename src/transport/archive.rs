//! Archives as a source: a tar is listed once, and then read by name without being unpacked.
//!
//! Names in the archive are only compared with names that we look for; none becomes a path of this
//! machine. Links lead from name to name inside the archive and nowhere else. A name that stands
//! there twice has no meaning that all readers share, so whoever needs it gets an error.
//!
//! An archive that is compressed as a whole is read from its beginning for every file, which needs
//! no temporary space.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::image::{Advance, TarEntry, TarError, TarKind, TarWalk, sniffed};
use crate::layer::decoder;
use crate::oci::{BlobReader, BlobSource, Codec, Digest};
use crate::transport::disk::{self, at};
use crate::transport::error::TransportError;
use crate::transport::layout::{LayoutFiles, MOST_DOCUMENT};

/// More files than any image archive has.
const MOST_ENTRIES: usize = 200_000;

/// A link may lead to a link, but not for ever.
const MOST_LINKS: usize = 8;

/// A listed archive.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    file: Arc<File>,
    /// How the whole archive is compressed.
    outer: Codec,
    entries: BTreeMap<String, Slot>,
}

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    /// A file: where its content is in the uncompressed archive, and how long.
    File(FilePlace),
    /// A link to another name.
    Link(String),
    /// Nothing that can be read, and why.
    Unreadable(&'static str),
}

/// Where a file's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FilePlace {
    at: u64,
    /// Length in bytes.
    pub(crate) size: u64,
}

impl Archive {
    /// Lists the archive at `path`.
    ///
    /// # Errors
    /// No file, no tar, a tar that ends early, or one with more entries than any image needs.
    pub(crate) fn open(path: &Path) -> Result<Archive, TransportError> {
        let not_an_image = |problem: String| TransportError::NotAnImage {
            path: path.to_owned(),
            problem,
        };
        let file = disk::open_regular(path).map_err(at("open", path))?;
        let file = file.ok_or_else(|| at("open", path)(io::ErrorKind::NotFound.into()))?;
        let size = file.metadata().map_err(at("read", path))?.len();
        let mut start = [0; 6];
        let whole = Slice {
            file: Arc::new(file),
            at: 0,
            end: size,
        };
        let length = whole
            .file
            .read_at(&mut start, 0)
            .map_err(at("read", path))?;
        let start = &start[..length];
        if let Some(compression) = unknown_compression(start) {
            return Err(not_an_image(format!(
                "it is compressed with {compression}; unpack it, or use gzip or zstd"
            )));
        }
        let outer = sniffed(start);
        let entries = match outer {
            Codec::None => list(whole.clone()),
            codec => decoder(codec, whole.clone())
                .map_err(TarError::Io)
                .and_then(list),
        };
        let entries = entries.map_err(|error| match error {
            TarError::Io(source) => at("read", path)(source),
            other => not_an_image(other.to_string()),
        })?;
        Ok(Archive {
            path: path.to_owned(),
            file: whole.file,
            outer,
            entries,
        })
    }

    /// Where the file `name` is, links followed; `None` if there is nothing of this name.
    pub(crate) fn place(&self, name: &str) -> Result<Option<FilePlace>, TransportError> {
        let problem = |problem: String| TransportError::Contradiction {
            path: self.path.clone(),
            problem,
        };
        let mut current = name.to_owned();
        for _ in 0..=MOST_LINKS {
            match self.entries.get(&current) {
                None if current == name => return Ok(None),
                None => {
                    return Err(problem(format!(
                        "{name} is a link to {current}, which is not in the archive"
                    )));
                }
                Some(Slot::File(place)) => return Ok(Some(*place)),
                Some(Slot::Link(target)) => current.clone_from(target),
                Some(Slot::Unreadable(why)) => return Err(problem(format!("{current} {why}"))),
            }
        }
        Err(problem(format!("{name} is a link to a link to a link …")))
    }

    /// Whether the whole archive is compressed, so that nothing in it has a place in the file.
    pub(crate) fn is_compressed(&self) -> bool {
        self.outer != Codec::None
    }

    /// Where a blob is in the file, and how long; `None` if it is not there. Only an archive that
    /// is not compressed has such places.
    pub(crate) fn part(
        &self,
        digest: &Digest,
    ) -> Result<Option<(Arc<File>, u64, u64)>, TransportError> {
        let place = self.place(&blob_name(digest))?;
        Ok(place.map(|place| (Arc::clone(&self.file), place.at, place.size)))
    }

    /// The content of a file.
    pub(crate) fn read(&self, place: FilePlace) -> io::Result<BlobReader> {
        match self.outer {
            Codec::None => Ok(Box::new(Slice {
                file: Arc::clone(&self.file),
                at: place.at,
                end: place.at + place.size,
            })),
            codec => {
                let whole = Slice {
                    file: Arc::clone(&self.file),
                    at: 0,
                    end: u64::MAX,
                };
                let mut plain = decoder(codec, whole)?;
                plain.advance(place.at)?;
                Ok(Box::new(plain.take(place.size)))
            }
        }
    }
}

impl BlobSource for Archive {
    fn open(&self, digest: &Digest) -> io::Result<Option<BlobReader>> {
        let place = self.place(&blob_name(digest)).map_err(io::Error::other)?;
        place.map(|place| self.read(place)).transpose()
    }
}

impl LayoutFiles for Archive {
    fn path(&self) -> &Path {
        &self.path
    }

    fn small(&self, name: &str) -> Result<Option<Vec<u8>>, TransportError> {
        let Some(place) = self.place(name)? else {
            return Ok(None);
        };
        let bytes = self
            .read(place)
            .and_then(|reader| disk::read_at_most(reader, MOST_DOCUMENT));
        bytes.map(Some).map_err(at("read", &self.path))
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// All entries by their names.
fn list<R: Advance>(reader: R) -> Result<BTreeMap<String, Slot>, TarError> {
    let mut walk = TarWalk::new(reader);
    let mut entries = BTreeMap::new();
    while let Some(entry) = walk.next_entry()? {
        // Names that nobody could ask for are of no interest.
        let Some(name) = inside("", &entry.name) else {
            continue;
        };
        if entry.kind == TarKind::Directory || name.is_empty() {
            continue;
        }
        let slot = slot(&name, &entry);
        entries
            .entry(name)
            .and_modify(|earlier| *earlier = Slot::Unreadable("stands in the archive twice"))
            .or_insert(slot);
        if entries.len() > MOST_ENTRIES {
            return Err(TarError::Malformed {
                at: entry.header_at,
                problem: "comes after 200,000 others; no image has so many",
            });
        }
    }
    Ok(entries)
}

fn slot(name: &str, entry: &TarEntry) -> Slot {
    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
    let target = match entry.kind {
        TarKind::File => {
            return Slot::File(FilePlace {
                at: entry.content_at,
                size: entry.size,
            });
        }
        TarKind::Sparse => {
            return Slot::Unreadable("is a sparse file, which readers unpack differently");
        }
        // A hard link names its target from the root of the archive, a symlink from where it is.
        TarKind::HardLink => inside("", &entry.link),
        TarKind::Symlink => inside(directory, &entry.link),
        _ => return Slot::Unreadable("is no file"),
    };
    target.map_or(
        Slot::Unreadable("is a link that leads out of the archive"),
        Slot::Link,
    )
}

/// `path`, seen from `directory`, in its normal form; `None` if it is no text, absolute, or leaves
/// the archive.
fn inside(directory: &str, path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path)
        .ok()
        .filter(|path| !path.starts_with('/'))?;
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn unknown_compression(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("xz"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        _ => None,
    }
}

/// A part of a file. It has a position of its own, so several may be read at once.
#[derive(Debug, Clone)]
struct Slice {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_sub(self.at);
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Advance for Slice {
    fn advance(&mut self, count: u64) -> io::Result<()> {
        match self.at.checked_add(count).filter(|at| *at <= self.end) {
            Some(at) => {
                self.at = at;
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests;
