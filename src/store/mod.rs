//! The cellar: blobs, records and the file index, in plain files.
//!
//! Comes in: bytes with their digest, and records under typed keys. Goes out: the same bytes, or
//! nothing: what is damaged, torn or of another version counts as absent. This room decides
//! nothing about images; it never runs a program and never touches a path outside its root but the
//! files of contexts that it is asked to read.
//!
//! ```text
//! ROOT/oci-layout, index.json     so that other tools can read the blobs
//! ROOT/blobs/sha256/HEX           blobs, named by their digest
//! ROOT/records/KIND/HH/HEX        records, named by the digest of their key
//! ROOT/index/HEX                  file indexes, one a context
//! ROOT/lock                       shared by builds, exclusive for gc and clear
//! ROOT/tmp/                       files that have no name yet; locks on work that one does at a time
//! ROOT/unsynced/BOOT/             blobs that a power cut could have torn
//! ```
//!
//! **Whole or absent.** Every file is written under a temporary name and renamed when it is
//! complete, so a process that is killed at any instant, a full disk, or two builds of the same
//! thing leave whole files only. A power cut is another matter, for a name may reach the disk
//! before the bytes do:
//!
//! - Blobs carry nothing that gives a torn one away cheaply. Nobody waits for the disk, which can
//!   take as long as making them; instead a note says under which boot of the machine a blob was
//!   written, and after another boot the noted ones are read once (`unsynced`).
//! - Records and indexes end with a checksum, so a torn one counts as absent. They are small and
//!   many, and handing each to the disk costs 8 ms there: they are not waited for.
//! - Names may be lost. Then the file is absent, and whoever follows a record looks for its blob.
//!
//! What a killed process left under temporary names goes when the store is next opened by someone
//! who is alone in it.
//!
//! `design.md`, section 4. OCI image spec, `image-layout.md`.

mod blobs;
mod content;
mod error;
mod gc;
mod index;
mod key;
mod lock;
mod record;
mod transfer;
mod unsynced;
mod upstream;

pub use blobs::{BlobWriter, Store};
pub use content::{ContentError, ContentFile};
pub use error::StoreError;
pub use gc::{ExclusiveStore, GcPolicy, GcReport, Item, ItemKind, Usage};
pub use index::{FileIndex, IndexBuilder, Known, Settled};
pub use key::{DEPTH, KeyRecord, Value};
pub use lock::Claim;
pub use record::Record;
pub use upstream::{Bundle, Upstream};
