//! Room 3: directory → [`Snapshot`].
//!
//! Comes in: a directory, the rules of its ignore file, and which paths are wanted. Goes out: a
//! tree of what a build may read, contents not read yet ([`read_digests`] does that for those that
//! a layer takes). Nothing outside the directory is ever opened, no symbolic link is followed on
//! disk, and what the rules exclude is neither read nor complained about.
//!
//! Neither `walkdir` nor `globset` serves here: the walk must be parallel, work by directory
//! descriptors and give one result for any order of `readdir`, and Docker's ignore files have a
//! language of their own, with quirks that images depend on (`pattern`, and `dialect` for the
//! regular expressions that show through it).

mod dialect;
mod error;
mod ignore;
mod pattern;
mod snapshot;
mod walk;
mod xattrs;

pub use error::{ContextError, IgnoreError};
pub use ignore::{IgnoreRules, Judge, Verdict};
pub use snapshot::{Snapshot, read_digests, rules_for};
pub use walk::{Counts, Wanted};
