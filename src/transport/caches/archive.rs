//! The archive of caches, written and read without trust.

use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::layer::codec::{FrameEncoder, decoder};
use crate::layer::header::{END, Kept, padding, write_kept};
use crate::layer::reader::{Limits, TarEntry, TarKind, TarReader};
use crate::layer::{Compression, LayerError};
use crate::oci::{Codec, json};
use crate::sandbox::{CacheEntry, CacheKind};
use crate::spec::Name;
use crate::transport::caches::error::CacheError;
use crate::transport::caches::is_within;
use crate::tree::LayerPath;

/// The version of everything here.
const FORMAT: u32 = 1;
const HEAD: &str = "boxwright-caches";
const FOOT: &str = "boxwright-end";
const FOLDER: &[u8] = b"caches/";
/// More than either of the two documents has.
const MOST_DOCUMENT: u64 = 4096;

/// Each of these is compressed by itself, so the bytes do not depend on the sizes of writes.
const FRAME: usize = 1 << 20;

/// What a file costs beside its content, and the unit in which its content is counted: about what
/// it takes on a disk.
const COST: u64 = 4096;

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Foot {
    bytes: u64,
    entries: u64,
}

/// Why an archive could not be written or read, before anyone named it.
#[derive(Debug)]
pub(crate) enum Failure {
    Io(io::Error),
    /// It is not what an export writes.
    Foreign(String),
    TooLarge(u64),
}

impl Failure {
    pub(crate) fn into_written(self, path: &Path) -> CacheError {
        self.told("write", path)
    }

    pub(crate) fn into_read(self, path: &Path) -> CacheError {
        self.told("take caches out of", path)
    }

    fn told(self, action: &'static str, path: &Path) -> CacheError {
        let path = path.to_owned();
        match self {
            Failure::Io(source) => CacheError::Io {
                action,
                path,
                source,
            },
            Failure::Foreign(problem) => CacheError::NotCaches { path, problem },
            Failure::TooLarge(most) => CacheError::TooLarge { path, most },
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl From<LayerError> for Failure {
    fn from(error: LayerError) -> Failure {
        Failure::Foreign(match error {
            LayerError::Malformed {
                entry,
                offset,
                problem,
            } => format!("entry {entry} at byte {offset}: {problem}"),
            other => other.to_string(),
        })
    }
}

fn foreign<T>(problem: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Foreign(problem.into()))
}

/// What may still come.
struct Budget {
    most: u64,
    left: u64,
}

impl Budget {
    fn new(most: u64) -> Budget {
        Budget { most, left: most }
    }

    fn take(&mut self, bytes: u64) -> Result<(), Failure> {
        let cost = bytes.checked_next_multiple_of(COST);
        let left = cost.and_then(|cost| self.left.checked_sub(cost)?.checked_sub(COST));
        self.left = left.ok_or(Failure::TooLarge(self.most))?;
        Ok(())
    }
}

/// An archive in the making.
pub(crate) struct ArchiveWriter<W> {
    frames: Frames<W>,
    budget: Budget,
    foot: Foot,
    header: Vec<u8>,
}

impl<W: Write> ArchiveWriter<W> {
    pub(crate) fn new(out: W, most: u64) -> io::Result<ArchiveWriter<W>> {
        let mut writer = ArchiveWriter {
            frames: Frames {
                out,
                encoder: FrameEncoder::new(Compression::default_of(Codec::Zstd))?,
                frame: Vec::with_capacity(FRAME),
                packed: Vec::new(),
            },
            budget: Budget::new(most),
            foot: Foot::default(),
            header: Vec::new(),
        };
        writer.document(HEAD, &json::to_vec(&Head { format: FORMAT }))?;
        Ok(writer)
    }

    /// A file of the cache `name`.
    pub(crate) fn entry(
        &mut self,
        name: &str,
        entry: &CacheEntry,
        content: &mut dyn Read,
    ) -> Result<(), Failure> {
        let size = entry.content_size();
        self.budget.take(size)?;
        self.foot.entries += 1;
        self.foot.bytes += size;
        let full = |path: &LayerPath| [FOLDER, name.as_bytes(), b"/", path.as_bytes()].concat();
        let mut path = full(&entry.path);
        let mut link = Vec::new();
        let kind = match &entry.kind {
            CacheKind::File(_) => b'0',
            CacheKind::Directory => {
                if !path.ends_with(b"/") {
                    path.push(b'/');
                }
                b'5'
            }
            CacheKind::HardLink(first) => {
                link = full(first);
                b'1'
            }
            CacheKind::Symlink(target) => {
                link.clone_from(target);
                b'2'
            }
        };
        self.header.clear();
        let kept = Kept {
            name: &path,
            kind,
            link: &link,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size,
            modified: entry.modified,
            xattrs: &entry.xattrs,
        };
        write_kept(&mut self.header, &kept);
        self.frames.write_all(&self.header)?;
        if io::copy(&mut content.take(size), &mut self.frames)? != size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(self.frames.write_all(&END[..padding(size)])?)
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.document(FOOT, &json::to_vec(&self.foot))?;
        self.frames.write_all(&END)?;
        self.frames.end_frame()?;
        self.frames.out.flush()
    }

    fn document(&mut self, name: &str, text: &[u8]) -> io::Result<()> {
        self.header.clear();
        let kept = Kept {
            name: name.as_bytes(),
            kind: b'0',
            link: b"",
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: text.len() as u64,
            modified: (0, 0),
            xattrs: &[],
        };
        write_kept(&mut self.header, &kept);
        self.frames.write_all(&self.header)?;
        self.frames.write_all(text)?;
        self.frames.write_all(&END[..padding(text.len() as u64)])
    }
}

/// Compresses what is written, frame by frame.
struct Frames<W> {
    out: W,
    encoder: FrameEncoder,
    frame: Vec<u8>,
    packed: Vec<u8>,
}

impl<W: Write> Frames<W> {
    fn end_frame(&mut self) -> io::Result<()> {
        if !self.frame.is_empty() {
            self.encoder.encode(&self.frame, &mut self.packed)?;
            self.out.write_all(&self.packed)?;
            self.frame.clear();
        }
        Ok(())
    }
}

impl<W: Write> Write for Frames<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(FRAME - self.frame.len());
        self.frame.extend_from_slice(&bytes[..count]);
        if self.frame.len() == FRAME {
            self.end_frame()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What comes next in an archive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The directory of a cache, which begins with it.
    Cache(String),
    /// A file of the last cache.
    Entry(LayerPath),
    /// The end, which fits what came.
    End,
}

/// An archive that is read. Only what [`ArchiveWriter`] writes is taken.
pub(crate) struct ArchiveReader {
    tar: TarReader<Bounded<Box<dyn Read>>>,
    budget: Budget,
    foot: Foot,
    last: CacheEntry,
}

impl ArchiveReader {
    /// Begins to read; the head must be ours.
    pub(crate) fn new(mut source: impl Read + Send + 'static, most: u64) -> Result<Self, Failure> {
        const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
        const NOT_OURS: &str = "`boxwright cache export` did not write it";
        let mut magic = [0; 4];
        match source.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
            _ => return foreign(NOT_OURS),
        }
        let source = io::BufReader::new(io::Cursor::new(MAGIC).chain(source));
        let stream: Box<dyn Read> = Box::new(decoder(Codec::Zstd, source)?);
        let limits = Limits {
            entries: u64::MAX,
            metadata: u64::MAX,
            extended_header: 1 << 20,
            uncompressed: u64::MAX,
            expansion: u64::MAX,
        };
        let stream = Bounded {
            stream,
            left: most.saturating_add(SLACK),
        };
        let mut tar = TarReader::new(stream, limits);
        let head = tar
            .next_entry()?
            .filter(|entry| entry.name == HEAD.as_bytes());
        let Some(head) = head else {
            return foreign(NOT_OURS);
        };
        let head: Head = document(&mut tar, &head)?;
        if head.format != FORMAT {
            return foreign("a newer boxwright wrote it; use that one");
        }
        Ok(ArchiveReader {
            tar,
            budget: Budget::new(most),
            foot: Foot::default(),
            last: CacheEntry {
                path: LayerPath::root(),
                kind: CacheKind::Directory,
                mode: 0,
                uid: 0,
                gid: 0,
                modified: (0, 0),
                xattrs: Vec::new(),
            },
        })
    }

    /// Goes on to the next file.
    pub(crate) fn next(&mut self) -> Result<Found, Failure> {
        let Some(found) = self.tar.next_entry()? else {
            return foreign("it is torn: its end is missing");
        };
        if found.name == FOOT.as_bytes() {
            let foot: Foot = document(&mut self.tar, &found)?;
            let is_last = self.tar.next_entry()?.is_none();
            // The last frame's checksum stands behind all that a tar needs.
            self.tar.drain()?;
            return match foot == self.foot && is_last {
                true => Ok(Found::End),
                false => foreign("it is damaged: its end does not fit what comes before"),
            };
        }
        self.budget
            .take(found.content_offset - found.header_offset + found.size)?;
        let entry = judged(found)?;
        if entry.path <= self.last.path {
            let path = &entry.path;
            return foreign(format!(
                "{path} is not in its place: paths come in order, once"
            ));
        }
        self.foot.entries += 1;
        self.foot.bytes += entry.content_size();
        self.last = entry;
        let path = &self.last.path;
        let mut names = path.components();
        match (names.next(), names.next()) {
            (Some(name), None) => {
                let text = std::str::from_utf8(name).ok();
                let name = text.and_then(|text| text.parse::<Name>().ok());
                let is_directory = self.last.kind == CacheKind::Directory;
                match name.filter(|_| is_directory) {
                    Some(name) => Ok(Found::Cache(name.as_str().to_owned())),
                    None => foreign(format!("{path} cannot be a cache")),
                }
            }
            _ => Ok(Found::Entry(path.clone())),
        }
    }

    /// The file that [`ArchiveReader::next`] went to.
    pub(crate) fn entry(&self) -> &CacheEntry {
        &self.last
    }

    /// Hands the file out, with its content. What the content itself fails with is the archive's.
    pub(crate) fn give(
        &mut self,
        give: &mut dyn FnMut(&CacheEntry, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let mut content = Watched {
            content: self.tar.content(),
            failure: None,
        };
        let given = give(&self.last, &mut content);
        match (given, content.failure) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(error)) => match error.kind() {
                io::ErrorKind::UnexpectedEof => foreign("it is torn: its end is missing"),
                _ => foreign(format!("it is damaged: {error}")),
            },
            (Err(error), None) => Err(error.into()),
        }
    }
}

/// The header as a file of a cache, if it is one that an export writes.
fn judged(found: TarEntry) -> Result<CacheEntry, Failure> {
    let shown = || found.name.escape_ascii().to_string();
    let path = |name: &[u8]| match name.strip_prefix(FOLDER) {
        None => foreign(format!("{} is in no cache", name.escape_ascii())),
        Some(name) => LayerPath::parse(name).map_err(|error| Failure::Foreign(error.to_string())),
    };
    let at = path(&found.name)?;
    let kind = match &found.kind {
        TarKind::Directory => CacheKind::Directory,
        TarKind::File => CacheKind::File(found.size),
        TarKind::HardLink(first) => CacheKind::HardLink(path(first)?),
        TarKind::Symlink(target) if target.contains(&0) => {
            return foreign(format!("{} leads to no path", shown()));
        }
        TarKind::Symlink(target) => CacheKind::Symlink(target.clone()),
        TarKind::CharDevice(..) | TarKind::BlockDevice(..) | TarKind::Fifo => {
            return foreign(format!("{} is a device or pipe", shown()));
        }
    };
    let xattrs = found.xattrs.iter();
    let entry = CacheEntry {
        path: at,
        kind,
        mode: found.mode,
        uid: found.uid,
        gid: found.gid,
        modified: (found.mtime, found.mtime_nanos),
        xattrs: xattrs
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect(),
    };
    match is_within(&entry) {
        true => Ok(entry),
        false => foreign(format!("{} is a name of a file elsewhere", shown())),
    }
}

fn document<T: for<'de> Deserialize<'de>>(
    tar: &mut TarReader<Bounded<Box<dyn Read>>>,
    entry: &TarEntry,
) -> Result<T, Failure> {
    let shown = String::from_utf8_lossy(&entry.name).into_owned();
    let mut text = Vec::new();
    if entry.kind != TarKind::File || entry.size > MOST_DOCUMENT {
        return foreign(format!("{shown} is no document"));
    }
    let read = tar.content().read_to_end(&mut text);
    let parsed = read.ok().and_then(|_| serde_json::from_slice(&text).ok());
    parsed.map_or_else(|| foreign(format!("{shown} is no document")), Ok)
}

/// Remembers that reading failed, for whoever only learns that giving did.
struct Watched<C> {
    content: C,
    failure: Option<io::Error>,
}

impl<C: Read> Read for Watched<C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer).map_err(|error| {
            let told = io::Error::new(error.kind(), error.to_string());
            self.failure.get_or_insert(error);
            told
        })
    }
}

/// Headers that no file comes with, and the end.
const SLACK: u64 = 16 << 20;

/// Ends with an error where a bomb goes on.
struct Bounded<S> {
    stream: S,
    left: u64,
}

impl<S: Read> Read for Bounded<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)? as u64;
        self.left = self.left.checked_sub(count).ok_or_else(|| {
            io::Error::other("it has more bytes than were allowed; allow more with --max-size")
        })?;
        Ok(count as usize)
    }
}
