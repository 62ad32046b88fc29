//! Packs: the contents of the files that a command has made, one behind the other in one blob.
//!
//! Each content is there once, in the order in which files are met, which is the order of paths: a
//! pack is a function of the files alone.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use crate::oci::{Digest, Hasher};
use crate::sandbox::error::SandboxError;
use crate::store::{BlobWriter, Store};
use crate::tree::{BlobRange, Change, Changeset, Content, Node};

/// Makes one pack.
pub(crate) struct Packer<'a> {
    store: &'a Store,
    /// There is none before there is a content to keep.
    blob: Option<BlobWriter>,
    hasher: Hasher,
    packed: HashMap<Digest, u64>,
    buffer: Vec<u8>,
}

/// Read at a time.
const PORTION: usize = 1 << 17;

impl<'a> Packer<'a> {
    pub(crate) fn new(store: &'a Store) -> Packer<'a> {
        Packer {
            store,
            blob: None,
            hasher: Hasher::new(),
            packed: HashMap::new(),
            buffer: vec![0; PORTION],
        }
    }

    /// The content of a file of `size` bytes. Its range is good for its length and digest until it
    /// is kept.
    ///
    /// # Errors
    /// A file that is shorter than it was.
    pub(crate) fn look_at(&mut self, file: &File, size: u64) -> io::Result<BlobRange> {
        let mut hasher = Hasher::new();
        self.read(file, size, &mut |part| {
            hasher.update(part);
            Ok(())
        })?;
        Ok(BlobRange {
            blob: UNNAMED,
            offset: 0,
            size,
            digest: hasher.finish(),
        })
    }

    /// Whether the disk could hold a content of `size` bytes. A file may be all hole and have any
    /// size: to read it first would take days.
    ///
    /// # Errors
    /// It could not.
    pub(crate) fn has_room(&self, size: u64) -> io::Result<()> {
        let disk = rustix::fs::statvfs(self.store.root())?;
        if size
            <= disk
                .f_bavail
                .saturating_mul(disk.f_frsize)
                .max(PORTION as u64)
        {
            return Ok(());
        }
        let told = format!("it has {size} bytes, more than the store's disk has left");
        Err(io::Error::new(io::ErrorKind::StorageFull, told))
    }

    /// Keeps a content that was looked at, unless it is in the pack already.
    ///
    /// # Errors
    /// A file that is not what it was, a full disk.
    pub(crate) fn keep(&mut self, file: &File, range: &BlobRange) -> io::Result<()> {
        if self.packed.contains_key(&range.digest) {
            return Ok(());
        }
        let mut blob = match self.blob.take() {
            Some(blob) => blob,
            None => self.store.create_blob().map_err(io::Error::other)?,
        };
        let offset = self.hasher.size();
        let mut hasher = std::mem::take(&mut self.hasher);
        let mut again = Hasher::new();
        let written = self.read(file, range.size, &mut |part| {
            again.update(part);
            hasher.update(part);
            blob.write_all(part)
        });
        (self.blob, self.hasher) = (Some(blob), hasher);
        written?;
        if again.finish() != range.digest {
            return Err(io::Error::other("it changed while it was read"));
        }
        self.packed.insert(range.digest, offset);
        Ok(())
    }

    fn read(
        &mut self,
        file: &File,
        size: u64,
        see: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut at = 0;
        while at < size {
            let most = (size - at).min(PORTION as u64) as usize;
            let part = &mut self.buffer[..most];
            file.read_exact_at(part, at)?;
            see(part)?;
            at += most as u64;
        }
        Ok(())
    }

    /// Keeps the pack, and tells the contents of `changes` where they are.
    ///
    /// # Errors
    /// The store failing.
    pub(crate) fn finish(self, changes: &mut Changeset) -> Result<(), SandboxError> {
        let Some(blob) = self.blob else {
            return Ok(());
        };
        let size = self.hasher.size();
        let digest = self.hasher.finish();
        blob.finish_as(digest, size).map_err(|error| {
            SandboxError::io("keep", self.store.root())(io::Error::other(error))
        })?;
        changes.retain(|_, change| {
            if let Change::Put(entry) | Change::Opaque(Some(entry)) = change
                && let Node::File(file) = &mut entry.node
                && let Content::Blob(range) = &mut file.content
                && let Some(offset) = self.packed.get(&range.digest)
                && range.blob == UNNAMED
            {
                (range.blob, range.offset) = (digest, *offset);
            }
            true
        });
        Ok(())
    }
}

/// Stands for the pack that is being made. No blob has this digest: nobody knows bytes for it.
const UNNAMED: Digest = Digest::from_raw([0; 32]);
