//! # Boxwright: the map of the house
//!
//! Boxwright turns a declarative spec of stages into OCI images, without a daemon and without
//! privilege. One idea carries everything: **an image is a pure function of its inputs, evaluated
//! over file trees.**
//!
//! ```text
//! stage step : Tree -> Changeset          copy, write, users … each says what changes
//! layer      : Changeset -> bytes         deterministic, framed, content-addressed
//! image      : [Layer] + config -> Image  same inputs, same digest, anywhere
//! ```
//!
//! A room may import only rooms that stand above it in this list; `tests/it/architecture.rs`
//! reads the sources and fails on a wrong arrow.
//!
//! | room | what comes in → what goes out |
//! |---|---|
//! | [`oci`] | the words of the OCI specifications: digests, references, documents |
//! | [`tree`] | paths, entries, virtual trees and changesets |
//! | [`store`] | blobs, records and the file index on disk; locks and garbage collection |
//! | [`spec`] | text → [`spec::BuildSpec`] |
//! | [`plan`] | `BuildSpec` → [`plan::Plan`]: which stages, in which order, from which sources |
//! | [`context`] | directory → [`context::Snapshot`]: ignore rules, walk, content digests |
//! | [`steps`] | (tree, step) → changeset: copy, write, mkdir, link, remove, users |
//! | [`sandbox`] | (tree, command) → changeset: tiers, namespaces, mounts, limits |
//! | [`layer`] | changeset ↔ layer: tar, whiteouts, frames, codecs |
//! | [`image`] | layers + config → image: documents and their validation |
//! | [`transport`] | image ↔ the world: layouts, archives, registries, and a server of images |
//! | [`explain`] | what an image holds and what is wrong with it |
//! | [`build`] | the corridor: walks through the rooms in order and owns no logic |
//!
//! Nothing in this library prints, exits, or reads the environment, the working directory or the
//! clock: all of that is decided by the caller (`src/cli/`, which the library cannot import).

#![deny(missing_docs)]
// Tests say so when they are skipped.
#![cfg_attr(
    not(test),
    deny(clippy::print_stdout, clippy::print_stderr, clippy::exit)
)]

pub mod build;
pub mod context;
pub mod explain;
pub mod image;
pub mod layer;
pub mod oci;
pub mod plan;
pub mod sandbox;
pub mod spec;
pub mod steps;
pub mod store;
pub mod transport;
pub mod tree;
