//! Room 1: text → [`BuildSpec`].
//!
//! Comes in: the text of a `boxwright.yaml`, the `--arg` overrides, the name of a profile and the
//! platform to build for.
//! Goes out: a [`BuildSpec`] in which every name, path, number and reference is parsed and every
//! `${ARG}` is expanded, or all [`Diagnostics`] at once. Strings die at this door: no later room
//! parses a value of the spec again. The lock beside a spec comes in here, too: text → [`Lock`], and so
//! does the list of specs that are built together: text → [`Workspace`];
//! and compose files, which say what of others' is built from specs: texts → [`Composition`].
//!
//! This room never reads a file: the texts of other specs, whose stages may be extended ([`link`]),
//! come in through [`SpecFiles`]. And it never asks whether a stage, a user or a path exists: what
//! concerns the graph of stages is `plan`'s, what concerns trees is `steps`'. The language is
//! described in `README.md` and, for editors, by the JSON Schema that [`schema()`] makes from the
//! same types.

pub mod action;
pub mod arguments;
pub mod budget;
pub mod compose;
pub mod config;
mod decode;
pub mod diagnostic;
pub mod error;
pub mod image_source;
pub mod link;
pub mod lock;
pub mod model;
pub mod parse;
pub mod path;
pub mod profile;
pub mod schema;
pub mod source;
pub mod units;
pub mod value;
pub mod workspace;
mod yaml;

pub use action::{
    Action, Add, Command, Copy, Link, Mkdir, Mount, Network, Remove, Run, SecretTarget, Sharing,
    Step, Write, WriteSource,
};
pub use arguments::ExpandError;
pub use arguments::nearest;
pub(crate) use arguments::{MOST_LISTED, similar};
pub use budget::Budget;
pub use compose::{ComposeInputs, ComposedImage, Composition, SecretPlace, SpecPlace, compose};
pub use config::{Config, EnvPart, EnvTemplate, EnvVariable, HealthProbe, ProbeTest, UserAs};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use error::ValueError;
pub use image_source::ImageSource;
pub use link::{FoundSpec, NoFiles, SpecFiles};
pub use lock::{Lock, LockedFile, LockedImage};
pub use model::{
    Allow, Args, Base, BuildSpec, Contexts, ExtendedSpec, Format, Home, NewGroup, NewUser, Origin,
    Stage,
};
pub use parse::{ParseInputs, declared_args, parse};
pub use path::{AbsolutePath, ContextPath, ImagePath};
pub use profile::Profile;
pub use schema::{schema, schema_text, workspace_schema, workspace_schema_text};
pub use source::{LineColumn, SourceText, Span, Spanned};
pub use units::{ByteSize, parse_duration};
pub use value::{
    AccountName, Compression, HttpUrl, Identity, Name, Owner, Port, Protocol, Signal, Tag,
};
pub use workspace::{Argument, Member, MemberTag, Workspace};
