//! Room 6: layers + config → image.
//!
//! Comes in: the config of the base, the settings of the stage, and finished layers. Goes out: an
//! [`ImageSet`] of documents whose bytes are decided by nothing else, and, for any image of the
//! world, the list of rules that it breaks ([`validate`]).
//!
//! This room never reads or writes a file, never sees an unfinished layer and changes no byte of a
//! base's. OCI image spec: `config.md`, `manifest.md`, `image-index.md`.

mod advice;
mod assemble;
mod config;
mod error;
mod history;
mod tar;
mod time;
mod user;
mod validate;

pub use advice::loader_notes;
pub use assemble::{Document, Image, ImageLayer, ImageSet, assemble, read};
pub use config::{BuiltConfig, ConfigInputs, NewLayer, config, environment};
pub use error::{ImageError, UserError};
pub(crate) use tar::{Advance, TarEntry, TarError, TarKind, TarWalk};
pub use time::rfc3339;
pub use user::{ResolvedUser, resolve_user};
pub(crate) use validate::sniffed;
pub use validate::{Rule, Violation, validate};
