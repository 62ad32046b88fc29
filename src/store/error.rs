//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::oci::Digest;

/// Why the store could not do something. The texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system said no.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried: `write`, `open`, …
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk is full, or the user's share of it.
    #[error("{action} {}: no space is left; make room with `boxwright cache gc --max-size 5GB`", path.display())]
    Full {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// As the file system said it.
        #[source]
        source: io::Error,
    },
    /// A newer Boxwright made the store.
    #[error("open the store {}: it was made by a newer boxwright; use that one, or another --store", .0.display())]
    Newer(PathBuf),
    /// The folder holds something that is no store.
    #[error("open the store {}: the folder is not empty and no store of boxwright's; name another with --store or BOXWRIGHT_STORE", .0.display())]
    NoStore(PathBuf),
    /// A build is running, and what was asked for needs the store alone.
    #[error("lock the store {}: a build is using it; try again when it is done", .0.display())]
    Busy(PathBuf),
    /// Bytes from outside are not what they were said to be.
    #[error("take blob {expected}: the bytes have the digest {found}")]
    WrongDigest {
        /// As it was promised.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// Bytes from outside are more or fewer than was said.
    #[error("take blob {digest}: {expected} bytes were promised, {found} came")]
    WrongSize {
        /// The blob.
        digest: Digest,
        /// As it was promised.
        expected: u64,
        /// As it is; where more came, where reading was stopped.
        found: u64,
    },
    /// The source of a blob failed.
    #[error("read the source of blob {digest}")]
    Source {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// For `map_err`: the file system said no.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full {
                action,
                path,
                source,
            },
            _ => StoreError::Io {
                action,
                path,
                source,
            },
        }
    }

    /// Whether the disk is full, which has a remedy of its own.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, StoreError::Full { .. })
    }
}
