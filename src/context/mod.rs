//! Room 3: directory → [`Survey`] → [`Snapshot`].
//!
//! Comes in: a directory, the rules of its ignore file, and which paths are wanted. A survey says
//! what stands there by `stat` alone; if nothing has changed, that is all that is needed. Goes
//! out: a tree of what a build may read, contents not read yet ([`read_digests`] does that for
//! those that a layer takes). Nothing outside the directory is ever opened, no symbolic link is followed on
//! disk, and what the rules exclude is neither read nor complained about.
//!
//! Neither `walkdir` nor `globset` serves here: the walk must be parallel, work by directory
//! descriptors and give one result for any order of `readdir`, and Docker's ignore files have a
//! language of their own, with quirks that images depend on (`pattern`, and `dialect` for the
//! regular expressions that show through it).

mod dialect;
mod digests;
mod error;
mod ignore;
mod ignore_file;
mod pattern;
mod snapshot;
mod survey;
mod walk;
pub(crate) mod xattrs;

pub use digests::read_digests;
pub use error::{ContextError, IgnoreError};
pub use ignore::{IgnoreRules, Judge, Verdict};
pub use ignore_file::rules_for;
pub use snapshot::Snapshot;
pub use survey::Survey;
pub use walk::{Counts, Wanted};
