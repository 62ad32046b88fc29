//! A zip becomes a tar, entry by entry.
//!
//! Zips say little: names, modes if they were made on Unix, symlinks, bytes. Owners become root's.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::rc::Rc;

use zip::ZipArchive;
use zip::read::ZipFile;
use zip::result::ZipError;

use crate::layer::archive::ArchiveError;
use crate::layer::header::{BLOCK, END, padding, write_entry};
use crate::layer::index::EXPANDS;
use crate::layer::reader::Limits;
use crate::oci::Digest;
use crate::tree::{BlobRange, Content, Entry, File, LayerPath, MAX_PATH, Node};

/// How much of a zip may be read to find its directory, in bytes: it stays in memory.
const DIRECTORY: u64 = 48 << 20;

/// Writes the entries of a zip as a tar; together they may have `most` bytes.
pub(super) fn zip_to_tar(
    zip: impl Read + Seek,
    limits: Limits,
    most: u64,
    tar: &mut impl Write,
) -> Result<(), ArchiveError> {
    let budget = Rc::new(Cell::new(DIRECTORY));
    let zip = Budgeted {
        inner: zip,
        left: Rc::clone(&budget),
    };
    let mut zip = ZipArchive::new(zip).map_err(unreadable)?;
    budget.set(u64::MAX);
    let mut left = most;
    for number in 0..zip.len() {
        let mut file = zip.by_index(number).map_err(unreadable)?;
        let name = file.name_raw();
        let entry = format!(
            "{:?}",
            String::from_utf8_lossy(&name[..name.len().min(120)])
        );
        let written = match (number as u64) < limits.entries {
            true => write(&mut file, &mut left, tar),
            false => Err("the archive has more entries than we accept".to_owned()),
        };
        written.map_err(|problem| ArchiveError::Entry { entry, problem })?;
    }
    tar.write_all(&END).map_err(ArchiveError::Read)
}

/// Writes one entry; the error is one line.
fn write<R: Read + Seek>(
    file: &mut ZipFile<'_, R>,
    left: &mut u64,
    tar: &mut impl Write,
) -> Result<(), String> {
    let path = LayerPath::parse(file.name_raw()).map_err(|error| error.to_string())?;
    // A zip made where there are no modes has none.
    let mode = file.unix_mode().map(|mode| (mode & 0o7777) as u16);
    let size = file.size();
    let entry = if file.is_dir() {
        Entry::new(Node::Directory, mode.unwrap_or(0o755))
    } else if file.is_symlink() {
        let mut target = Vec::new();
        let target_size = file.take(MAX_PATH as u64 + 1).read_to_end(&mut target);
        target_size.map_err(|error| error.to_string())?;
        if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
            return Err("it is a symlink to no valid path".to_owned());
        }
        Entry::new(Node::Symlink(target.as_slice().into()), 0o777)
    } else {
        *left = left.checked_sub(size).ok_or(EXPANDS)?;
        Entry::new(to_come(size), mode.unwrap_or(0o644))
    };
    let mut header = Vec::new();
    let is_file = entry.as_file().is_some();
    write_entry(&mut header, &path, &entry, None, 0).map_err(|error| error.to_string())?;
    let mut copied = || -> io::Result<u64> {
        tar.write_all(&header)?;
        if !is_file {
            return Ok(size);
        }
        let copied = io::copy(&mut file.take(size.saturating_add(1)), tar)?;
        tar.write_all(&[0; BLOCK][..padding(size)])?;
        Ok(copied)
    };
    match copied() {
        Ok(copied) if copied == size => Ok(()),
        Ok(_) => Err(format!(
            "it is not as long as it says, which is {size} bytes"
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// A file of which only the size is known; only its header is written from this.
fn to_come(size: u64) -> Node {
    let nothing = Digest::of(b"");
    Node::File(File {
        content: Content::Blob(BlobRange {
            blob: nothing,
            offset: 0,
            size,
            digest: nothing,
        }),
        inode: None,
    })
}

fn unreadable(error: ZipError) -> ArchiveError {
    ArchiveError::Read(match error {
        ZipError::Io(error) => error,
        other => io::Error::other(other.to_string()),
    })
}

/// A file of which only so much may be read, however often it is turned back.
struct Budgeted<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64);
        self.left
            .set(left.ok_or_else(|| io::Error::other("its directory is larger than we accept"))?);
        Ok(count)
    }
}

impl<R: Seek> Seek for Budgeted<R> {
    fn seek(&mut self, place: SeekFrom) -> io::Result<u64> {
        self.inner.seek(place)
    }
}
