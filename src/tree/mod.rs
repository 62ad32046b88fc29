//! The second floor: file trees as pure words, with no file system under them.
//!
//! Comes in: entries that other rooms saw (a walk, an archive's listing, a step). Goes out: a
//! [`Tree`], which answers what stands at a path, and a [`Changeset`], which says what a step
//! changes. Content is referred to and never read here; this room does no input or output at all.
//!
//! The merged view of layers follows the OCI image spec, `layer.md` ("Whiteouts",
//! "Opaque Whiteout") and what containerd and podman do where the spec is silent.

pub mod above;
mod accounts;
pub mod changeset;
pub mod entry;
pub mod listing;
pub mod merged;
pub mod mode;
pub mod path;
pub mod resolve;

pub use accounts::{Accounts, User};
pub use changeset::{Change, Changeset, HardLinks};
pub use entry::{
    BlobRange, Bytes, Content, DiskFile, Entry, File, FileStat, Inline, Inode, Node, Xattrs,
};
pub use listing::{Detail, ListingError};
pub use merged::{Tree, TreeError};
pub use mode::{ModeChange, ModeError, ModeSubject};
pub use path::{LayerPath, MAX_PATH, PathError};
pub use resolve::{Follow, Resolved};
