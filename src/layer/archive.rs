//! An archive becomes a tree: what `add` with `unpack` puts into an image.
//!
//! Comes in: a blob of the store that is a tar (plain, gzip, xz, bzip2, zstd) or a zip. Its first
//! bytes tell which; its name is not asked. Goes out: a [`Tree`] whose contents lie in an
//! uncompressed tar, which is kept in the store and indexed as a layer is. A zip is rewritten as
//! such a tar first, so that there is one way in which names, links and limits are judged.
//!
//! Nothing is unpacked on a disk: a name with `..` is refused, a link leads nowhere but into the
//! tree, and what an archive expands to is bounded, as are the memory of its decoder and of its
//! directory.

use std::io::{self, BufRead, BufReader, Read};

use liblzma::stream::{CONCATENATED, Stream};

use crate::layer::codec::decoder;
use crate::layer::error::LayerError;
use crate::layer::header::BLOCK;
use crate::layer::index::{Bounded, LayerBlob, READER, index};
use crate::layer::reader::{Limits, is_header};
use crate::oci::{Codec, DiffId, Digest, HashingWriter};
use crate::plan::key;
use crate::store::{Store, StoreError};
use crate::tree::{Change, Tree, TreeError};

mod zip_to_tar;

use zip_to_tar::zip_to_tar;

/// Why an archive is not unpacked. The texts fit after "failed to unpack it: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The first bytes are those of no archive.
    #[error("it is neither a tar (plain, gzip, xz, bzip2 or zstd) nor a zip")]
    Unknown,
    /// Something in it cannot be accepted.
    #[error("entry {entry}: {problem}")]
    Entry {
        /// The entry's name, or its number.
        entry: String,
        /// What is wrong.
        problem: String,
    },
    /// Its entries do not fit each other.
    #[error("its entries do not fit each other: {0}")]
    Tree(#[from] TreeError),
    /// The stream is damaged, truncated, or larger than it may be.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another trouble while it was indexed.
    #[error(transparent)]
    Layer(LayerError),
}

impl From<LayerError> for ArchiveError {
    fn from(error: LayerError) -> ArchiveError {
        match error {
            LayerError::Malformed { entry, problem, .. } => ArchiveError::Entry { entry, problem },
            LayerError::Store(error) => ArchiveError::Store(error),
            other => ArchiveError::Layer(other),
        }
    }
}

/// The memory that an xz stream may ask for in bytes: `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;

/// What the archive holds, with owners, modes and attributes as it says them. `space` numbers its
/// inodes and must differ from that of every other source of one image.
///
/// # Errors
/// A blob that is no archive, is damaged, names paths with `..` or as whiteouts, or expands to more
/// than `limits` allow; a full disk.
pub fn unpack_archive(
    store: &Store,
    archive: &Digest,
    limits: Limits,
    space: u64,
) -> Result<Tree, ArchiveError> {
    let tar = tar_of(store, archive, limits)?;
    let opened = store.open_blob(&tar)?.ok_or_else(|| gone(&tar))?;
    let blob = LayerBlob {
        digest: tar,
        size: opened.metadata().map_err(ArchiveError::Read)?.len(),
        codec: Codec::None,
        diff_id: DiffId(tar),
    };
    let indexed = index(store, &blob, limits, space);
    if indexed.is_err() {
        // Nobody will want the rest of what was refused.
        let _ = std::fs::remove_file(store.blob_path(&tar));
    }
    let changes = indexed?.changes;
    for (path, change) in changes.iter() {
        if !matches!(change, Change::Put(_)) {
            return Err(ArchiveError::Entry {
                entry: path.to_string(),
                problem: "a name next to it begins with \".wh.\", which marks removals in image \
                          layers and cannot be in an image"
                    .to_owned(),
            });
        }
    }
    let mut tree = Tree::new();
    tree.apply(&changes)?;
    Ok(tree)
}

/// The archive as an uncompressed tar in the store.
fn tar_of(store: &Store, archive: &Digest, limits: Limits) -> Result<Digest, ArchiveError> {
    let key = key::archive(archive, READER);
    if let Some(record) = store.record(&key)?
        && let Ok(tar) = std::str::from_utf8(&record)
            .unwrap_or_default()
            .parse::<Digest>()
        && store.contains_blob(&tar)?
    {
        return Ok(tar);
    }
    let file = store.open_blob(archive)?.ok_or_else(|| gone(archive))?;
    let size = file.metadata().map_err(ArchiveError::Read)?.len();
    let mut source = BufReader::with_capacity(1 << 17, file);
    let format = Format::of(source.fill_buf().map_err(ArchiveError::Read)?);
    let format = format.ok_or(ArchiveError::Unknown)?;
    let most = size.saturating_mul(limits.expansion).max(1 << 30);
    let left = most.min(limits.uncompressed);

    let mut blob = HashingWriter::new(store.create_blob()?);
    match format {
        Format::Zip => zip_to_tar(source.into_inner(), limits, left, &mut blob)?,
        compressed => {
            let stream = compressed.stream(source).map_err(ArchiveError::Read)?;
            let mut stream = Bounded::new(stream, left);
            let mut start = Vec::with_capacity(BLOCK);
            let read = (&mut stream).take(BLOCK as u64).read_to_end(&mut start);
            read.map_err(ArchiveError::Read)?;
            if !is_header(&start) {
                return Err(ArchiveError::Unknown);
            }
            let mut stream = start.chain(BufReader::with_capacity(1 << 17, stream));
            io::copy(&mut stream, &mut blob).map_err(ArchiveError::Read)?;
        }
    }
    let (blob, tar, size) = blob.finish();
    blob.finish_as(tar, size)?;
    store.put_record(&key, tar.to_string().as_bytes())?;
    Ok(tar)
}

fn gone(blob: &Digest) -> ArchiveError {
    ArchiveError::Layer(LayerError::Blob {
        digest: *blob,
        source: io::ErrorKind::NotFound.into(),
    })
}

/// What an archive's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Tar,
    Gzip,
    Xz,
    Bzip2,
    Zstd,
    Zip,
}

impl Format {
    fn of(start: &[u8]) -> Option<Format> {
        let begins = [
            (&b"\x1f\x8b"[..], Format::Gzip),
            (b"\xfd7zXZ\0", Format::Xz),
            (b"BZh", Format::Bzip2),
            (b"\x28\xb5\x2f\xfd", Format::Zstd),
            (b"PK\x03\x04", Format::Zip),
            // A zip of nothing.
            (b"PK\x05\x06", Format::Zip),
        ];
        let known = begins.iter().find(|(begin, _)| start.starts_with(begin));
        known
            .map(|(_, format)| *format)
            .or_else(|| is_header(start).then_some(Format::Tar))
    }

    /// The uncompressed bytes.
    fn stream<'a>(self, source: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        match self {
            Format::Gzip => decoder(Codec::Gzip, source),
            Format::Zstd => decoder(Codec::Zstd, source),
            Format::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
                let decoder = liblzma::bufread::XzDecoder::new_stream(source, stream);
                Ok(Box::new(decoder))
            }
            Format::Bzip2 => Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(source))),
            Format::Tar | Format::Zip => Ok(Box::new(source)),
        }
    }
}

#[cfg(test)]
mod tests;
