//! A layer of someone else becomes a changeset: read once, verified, and kept as a listing.
//!
//! The contents stay in the blob; a changeset of an indexed layer says where in the uncompressed
//! stream each of them lies. Only files that every build looks at (`/etc/passwd`, `/etc/group`) are
//! kept in the listing itself.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use crate::layer::codec::decoder;
use crate::layer::error::LayerError;
use crate::layer::header::{OPAQUE_NAME, WHITEOUT_PREFIX};
use crate::layer::reader::{Limits, TarEntry, TarKind, TarReader};
use crate::oci::{Codec, DiffId, Digest, HashingReader};
use crate::plan::key;
use crate::store::{KeyRecord, Store};
use crate::tree::{
    BlobRange, Change, Changeset, Content, Detail, Entry, File, Inline, Inode, LayerPath, Node,
};

/// What a layer of a base image holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedLayer {
    /// Its changes, contents located in the uncompressed blob.
    pub changes: Changeset,
    /// Size of the uncompressed tar stream in bytes.
    pub uncompressed_size: u64,
}

/// A layer blob of the store with what its image says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerBlob {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// How it is compressed.
    pub codec: Codec,
    /// What it uncompresses to.
    pub diff_id: DiffId,
}

/// The version of everything here that decides what an index says.
pub const READER: u32 = 1;

/// Files whose bytes are kept in the index, because names of owners are looked up in them.
const KEPT: [&[u8]; 3] = [b"etc/passwd", b"etc/group", b"etc/shadow"];
const KEPT_SIZE: u64 = 1 << 20;

/// What the layer holds, from the store's index or by reading it to the end once. `space` numbers
/// its inodes and must differ between the layers of one image.
///
/// # Errors
/// A blob that is missing, damaged, or does not uncompress to its diff_id; an archive that is
/// malformed, names paths with `..`, or asks for more than `limits` allow.
pub fn index(
    store: &Store,
    layer: &LayerBlob,
    limits: Limits,
    space: u64,
) -> Result<IndexedLayer, LayerError> {
    let key = key::layer_index(&layer.digest, &layer.diff_id, READER);
    if let Some(known) = recall(store, &key, space)? {
        return Ok(known);
    }
    let _claim = store.claim_soon(&key);
    if let Some(known) = recall(store, &key, space)? {
        return Ok(known);
    }
    let indexed = read(store, layer, limits, space)?;
    let mut record = indexed.uncompressed_size.to_le_bytes().to_vec();
    indexed
        .changes
        .write_listing(Detail::Located, &mut record)?;
    store.put_record(&key, &record)?;
    Ok(indexed)
}

fn recall(store: &Store, key: &KeyRecord, space: u64) -> Result<Option<IndexedLayer>, LayerError> {
    let record = store.record(key)?;
    let split = record.as_deref().and_then(<[u8]>::split_first_chunk::<8>);
    Ok(split.and_then(|(size, listing)| {
        Some(IndexedLayer {
            changes: Changeset::read_listing(listing, space).ok()?,
            uncompressed_size: u64::from_le_bytes(*size),
        })
    }))
}

/// Makes sure that the uncompressed layer is in the store, where contents are read from.
///
/// # Errors
/// As [`index`], and a full disk.
pub fn unpack(store: &Store, layer: &LayerBlob, limits: Limits) -> Result<(), LayerError> {
    if store.contains_blob(&layer.diff_id.0)? {
        return Ok(());
    }
    let _claim = store.claim_soon(&key::work("unpack", &layer.diff_id.0));
    if store.contains_blob(&layer.diff_id.0)? {
        return Ok(());
    }
    let stream = open(store, layer, limits)?;
    Ok(store.import_blob(&layer.diff_id.0, None, stream)?)
}

fn open(store: &Store, layer: &LayerBlob, limits: Limits) -> Result<impl Read + use<>, LayerError> {
    let broken = |source| LayerError::Blob {
        digest: layer.digest,
        source,
    };
    let blob = store
        .open_blob(&layer.digest)?
        .ok_or_else(|| broken(io::ErrorKind::NotFound.into()))?;
    let stream = decoder(layer.codec, BufReader::with_capacity(1 << 17, blob)).map_err(broken)?;
    let most = (layer.size.saturating_mul(limits.expansion))
        .max(1 << 30)
        .min(limits.uncompressed);
    Ok(Bounded::new(stream, most))
}

fn read(
    store: &Store,
    layer: &LayerBlob,
    limits: Limits,
    space: u64,
) -> Result<IndexedLayer, LayerError> {
    let stream = HashingReader::new(open(store, layer, limits)?);
    let mut tar = TarReader::new(BufReader::with_capacity(1 << 17, stream), limits);
    let mut changes = Gathered::new(layer, space);
    while let Some(entry) = tar.next_entry()? {
        changes.take(&entry, &mut tar)?;
    }
    tar.drain()?;
    let (_, digest, uncompressed_size) = tar.into_inner().into_inner().finish();
    if digest != layer.diff_id.0 {
        return Err(LayerError::WrongDiffId {
            expected: layer.diff_id,
            found: DiffId(digest),
        });
    }
    Ok(IndexedLayer {
        changes: changes.finish(),
        uncompressed_size,
    })
}

/// Ends with an error, not silently, when a blob uncompresses to more than it may.
pub(crate) struct Bounded<R> {
    stream: R,
    left: u64,
}

/// What is wrong with a blob that uncompresses to more than it may.
pub(crate) const EXPANDS: &str = "it expands to many times its size, which no honest archive does";

impl<R> Bounded<R> {
    /// At most `most` bytes of the stream.
    pub(crate) fn new(stream: R, most: u64) -> Bounded<R> {
        Bounded { stream, left: most }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| io::Error::other(EXPANDS))?;
        Ok(count)
    }
}

/// The entries so far.
struct Gathered<'a> {
    layer: &'a LayerBlob,
    space: u64,
    files: u64,
    changes: Changeset,
    whiteouts: BTreeSet<LayerPath>,
    opaque: BTreeSet<LayerPath>,
}

impl<'a> Gathered<'a> {
    fn new(layer: &'a LayerBlob, space: u64) -> Gathered<'a> {
        Gathered {
            layer,
            space,
            files: 0,
            changes: Changeset::new(),
            whiteouts: BTreeSet::new(),
            opaque: BTreeSet::new(),
        }
    }

    fn take<R: Read>(
        &mut self,
        entry: &TarEntry,
        tar: &mut TarReader<R>,
    ) -> Result<(), LayerError> {
        let path = LayerPath::parse(&entry.name).map_err(|error| malformed(entry, error))?;
        if self.marker(&path, entry)? {
            return Ok(());
        }
        if let TarKind::HardLink(target) = &entry.kind {
            let first = self.linked(target, entry)?;
            self.changes.put(path, first);
            return Ok(());
        }
        let node = self.node(&path, entry, tar)?;
        if path.is_root() && node != Node::Directory {
            return Err(malformed(entry, "the root can only be a directory"));
        }
        let xattrs = entry.xattrs.iter();
        let xattrs = xattrs.filter(|(name, _)| belongs_to_image(name)).cloned();
        let is_link = matches!(node, Node::Symlink(_));
        let entry = Entry {
            node,
            mode: if is_link { 0o777 } else { entry.mode },
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: xattrs.collect(),
        };
        self.changes.put(path, entry);
        Ok(())
    }

    /// Takes note of a whiteout; false if the entry is none.
    fn marker(&mut self, path: &LayerPath, entry: &TarEntry) -> Result<bool, LayerError> {
        let directory = path.parent().unwrap_or_default();
        if path.name() == Some(OPAQUE_NAME) {
            self.opaque.insert(directory);
            return Ok(true);
        }
        match path
            .name()
            .and_then(|name| name.strip_prefix(WHITEOUT_PREFIX))
        {
            None => return Ok(false),
            // Notes of AUFS that no one else reads.
            Some(name) if name.starts_with(WHITEOUT_PREFIX) => {}
            Some(b"" | b"." | b"..") => {
                return Err(malformed(entry, "it is a whiteout of nothing"));
            }
            Some(name) => {
                let hidden = directory
                    .join(name)
                    .map_err(|error| malformed(entry, error))?;
                self.whiteouts.insert(hidden);
            }
        }
        Ok(true)
    }

    /// The file that a hard link is a further name of.
    fn linked(&self, target: &[u8], entry: &TarEntry) -> Result<Entry, LayerError> {
        let target = LayerPath::parse(target).map_err(|error| malformed(entry, error))?;
        let first = self
            .changes
            .entry(&target)
            .filter(|first| !first.is_directory());
        first.cloned().ok_or_else(|| {
            let problem =
                format!("it is a hard link to {target}, which is not in the layer before it");
            malformed(entry, problem)
        })
    }

    fn node<R: Read>(
        &mut self,
        path: &LayerPath,
        entry: &TarEntry,
        tar: &mut TarReader<R>,
    ) -> Result<Node, LayerError> {
        Ok(match &entry.kind {
            TarKind::Directory => Node::Directory,
            TarKind::Symlink(target) => Node::Symlink(target.as_slice().into()),
            TarKind::CharDevice(major, minor) => Node::CharDevice(*major, *minor),
            TarKind::BlockDevice(major, minor) => Node::BlockDevice(*major, *minor),
            TarKind::Fifo => Node::Fifo,
            TarKind::File | TarKind::HardLink(_) => {
                self.files += 1;
                let inode = Some(Inode {
                    space: self.space,
                    number: self.files,
                });
                Node::File(File {
                    content: self.content(path, entry, tar)?,
                    inode,
                })
            }
        })
    }

    fn content<R: Read>(
        &self,
        path: &LayerPath,
        entry: &TarEntry,
        tar: &mut TarReader<R>,
    ) -> Result<Content, LayerError> {
        let truncated = |source| LayerError::Blob {
            digest: self.layer.digest,
            source,
        };
        if KEPT.contains(&path.as_bytes()) && entry.size <= KEPT_SIZE {
            let mut bytes = Vec::new();
            tar.content().read_to_end(&mut bytes).map_err(truncated)?;
            return Ok(Content::Inline(Arc::new(Inline::new(bytes))));
        }
        let mut content = HashingReader::new(tar.content());
        io::copy(&mut content, &mut io::sink()).map_err(truncated)?;
        let (_, digest, size) = content.finish();
        Ok(Content::Blob(BlobRange {
            blob: self.layer.diff_id.0,
            offset: entry.content_offset,
            size,
            digest,
        }))
    }

    /// Whiteouts hide what lower layers have and nothing of their own layer, wherever in the
    /// archive they stand, so they are judged last. OCI image spec, `layer.md`, "Whiteouts".
    fn finish(mut self) -> Changeset {
        for path in self.whiteouts {
            match self.changes.change(&path) {
                Some(Change::Put(entry)) if !entry.is_directory() => {}
                Some(_) => self.changes.hide_contents(path),
                None if self.changes.below(&path).next().is_some() => {
                    self.changes.hide_contents(path)
                }
                None => self.changes.remove(path),
            }
        }
        for path in self.opaque {
            self.changes.hide_contents(path);
        }
        self.changes
    }
}

fn malformed(entry: &TarEntry, problem: impl ToString) -> LayerError {
    let name = &entry.name[..entry.name.len().min(200)];
    LayerError::Malformed {
        entry: format!("{:?}", String::from_utf8_lossy(name)),
        offset: entry.header_offset,
        problem: problem.to_string(),
    }
}

/// Attributes of the machine that made a layer (labels of SELinux, notes of overlay) are left out
/// of what steps see; the layer itself stays as it is.
fn belongs_to_image(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

#[cfg(test)]
mod tests;
