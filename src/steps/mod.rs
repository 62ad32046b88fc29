//! Between room 3 and room 4: (tree, step) → changeset.
//!
//! Comes in: a step, the tree that the stage has so far, and the tree that the step takes files
//! from: a context, another stage or an image, all alike. Goes out: what the step changes. These
//! are pure functions over virtual trees; the only bytes ever looked at are those of small files
//! (templates, account files), through a reader that the caller passes in.
//!
//! The design names no room for this; it has one of its own because it needs nothing of a sandbox
//! and nothing of a layer.
//!
//! `copy` follows BuildKit's `COPY`, so that habits carry over. Every changeset brings all parent
//! directories of what it puts, existing ones as they stand: a layer that left them out would have
//! loaders make them anew, root's with mode 0755, over what the base has.
//!
//! `design.md`, section 3.

mod account_files;
mod add;
mod copy;
mod edit;
mod error;
mod link;
mod mkdir;
mod owner;
mod remove;
mod scene;
mod wildcard;
mod write;

pub use account_files::add_accounts;
pub use add::download_path;
pub use error::StepError;
pub use mkdir::make_workdir;
pub use owner::numbers as owner_numbers;
pub use scene::{ReadContent, Scene, SourceKind, apply};
