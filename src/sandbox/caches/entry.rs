//! One file of a cache, as the two processes tell each other.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::tree::LayerPath;

/// Directories within directories. Each is held open on the way down.
pub(crate) const DEEPEST: usize = 256;

/// A file of a cache without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheEntry {
    /// Where it is: below the cache when it is read, below all caches when it is made.
    #[serde(with = "bytes")]
    pub path: LayerPath,
    /// What it is.
    pub kind: CacheKind,
    /// Permission bits.
    pub mode: u16,
    /// The user that a command sees.
    pub uid: u32,
    /// The group that a command sees.
    pub gid: u32,
    /// When it was last written: seconds and nanoseconds.
    pub modified: (i64, u32),
    /// `user.*` attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a file of a cache is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheKind {
    /// A directory.
    Directory,
    /// A file, with the size of its content.
    File(u64),
    /// A further name of the file at this path.
    HardLink(#[serde(with = "bytes")] LayerPath),
    /// A symbolic link. What it says is nobody's business here.
    Symlink(Vec<u8>),
}

impl CacheEntry {
    /// How many bytes of content follow.
    pub fn content_size(&self) -> u64 {
        match self.kind {
            CacheKind::File(size) => size,
            _ => 0,
        }
    }
}

/// What the builder tells the process that makes caches.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Feed {
    /// A file; its content follows.
    Entry(Box<CacheEntry>),
    /// A cache is whole and goes where it belongs.
    Place { name: String, place: PathBuf },
    /// That was all.
    End,
}

/// Paths need not be text.
mod bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::tree::LayerPath;

    pub(super) fn serialize<S: Serializer>(path: &LayerPath, to: S) -> Result<S::Ok, S::Error> {
        path.as_bytes().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<LayerPath, D::Error> {
        let bytes = Vec::<u8>::deserialize(from)?;
        LayerPath::parse(&bytes).map_err(D::Error::custom)
    }
}
