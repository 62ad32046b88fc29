//! Room 5: changeset ↔ layer.
//!
//! Comes in: a [`crate::tree::Changeset`] whose contents have digests, or a layer blob that someone
//! else wrote. Goes out: a [`Layer`] in the store, or the changeset that a layer holds ([`index`]),
//! or the tree of an archive from elsewhere ([`unpack_archive`]).
//! This room never sees a transport, a registry or a manifest, and it never holds more of a file
//! in memory than a few frames.
//!
//! The same changeset, compression and epoch give the same bytes: whatever the number of threads,
//! and whether frames were compressed now or taken from an earlier blob. Headers are written by
//! ourselves (`header`), because the `tar` crate's builder keeps the order and the times of the
//! file system; that crate reads our layers in the tests instead.
//!
//! OCI image spec, `layer.md`; `design.md`, section 5.

mod archive;
mod cache;
mod chunk;
pub(crate) mod codec;
mod error;
mod frame;
pub(crate) mod header;
mod index;
mod pipeline;
pub(crate) mod reader;
mod table;
mod writer;

pub use archive::{ArchiveError, unpack_archive};
pub use cache::{Provided, Records, find, holds_what_it_says, provide, unread};
pub use codec::{Compression, LevelError, decoder};
pub use error::LayerError;
pub use index::{IndexedLayer, LayerBlob, READER, index, unpack};
pub use reader::Limits;
pub use table::FrameTable;
pub use writer::{ENCODER, Layer, Reuse, WriteOptions, write};
