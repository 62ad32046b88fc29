//! Room 7: image ↔ the world.
//!
//! Comes in: an [`crate::image::ImageSet`] and an [`Output`], or the source of a base image. Goes
//! out: a layout or an archive under its final name, complete or not at all ([`write()`]); a
//! [`BaseImage`] whose layers are in the store ([`import_base`]); or a [`Parcel`], which
//! [`registry`] pushes.
//!
//! What is read is believed only after its size and digest were checked. Names inside an archive
//! never become paths of this machine. Nothing is ever written under its final name before it is
//! whole, and nothing of another image in a layout is touched. Registries are a room in this room,
//! [`registry`], and [`http`] is the one door to the network; [`serve`] is the one that others knock
//! at.
//!
//! OCI image spec, `image-layout.md`; Docker image spec v1.2, "Combined Image JSON + Filesystem
//! Changeset Format"; what loaders demand beyond them stands in `archive_writer`.

mod archive;
mod archive_writer;
mod caches;
mod check;
mod disk;
mod docker_archive;
mod error;
#[cfg(test)]
mod fixture;
pub mod http;
mod import;
mod layout;
mod layout_writer;
mod naming;
mod output;
mod parcel;
pub mod registry;
mod select;
pub mod serve;
mod stamp;
mod tar_writer;
mod write;

pub use caches::{CacheError, CacheEvent, CacheObserver, CarriedCache, Carrier};
pub use check::{validate_archive, validate_layout};
pub use error::{OutputError, TransportError, with_causes};
pub use import::{BaseImage, import_base};
pub use output::Output;
pub use parcel::Parcel;
pub use write::{Receipt, Written, write};
