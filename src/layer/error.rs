//! What can go wrong between a changeset and a layer.

use std::io;

use crate::oci::{DiffId, Digest};
use crate::store::{ContentError, StoreError};
use crate::tree::{LayerPath, ListingError};

/// Why a layer could not be written or read. The texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// A file's name has the form of a whiteout.
    #[error(
        "put {0} into a layer: names that begin with \".wh.\" mark removals in image layers; rename or exclude it"
    )]
    WhiteoutName(LayerPath),
    /// A content could not be read.
    #[error("read {path}")]
    Content {
        /// Its path in the image.
        path: LayerPath,
        /// Why.
        #[source]
        source: ContentError,
    },
    /// A file could not be read to find its digest.
    #[error(transparent)]
    Unread(#[from] ContentError),
    /// The content is not what it was when its digest was taken.
    #[error("read {0}: it changed while the build ran; build again when nothing writes to it")]
    Changed(LayerPath),
    /// Something in a tar stream cannot be accepted.
    #[error("read the layer: entry {entry} at byte {offset}: {problem}")]
    Malformed {
        /// The entry's name, or its number.
        entry: String,
        /// Where its header begins in the uncompressed stream.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// The uncompressed bytes are not those that the config promises.
    #[error(
        "read the layer: its uncompressed digest is {found}, but the image promises {expected}"
    )]
    WrongDiffId {
        /// As in the config.
        expected: DiffId,
        /// As it is.
        found: DiffId,
    },
    /// The compressed stream ends early or is damaged, or it could not be written.
    #[error("read the layer blob {digest}")]
    Blob {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The codec's library failed.
    #[error("compress a frame")]
    Codec(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blob could not be written.
    #[error("write the layer")]
    Write(#[source] io::Error),
    /// The changeset could not be listed.
    #[error(transparent)]
    Listing(#[from] ListingError),
}
