//! Acceptance: whether an image, its builds and its start are what its author promises.
//!
//! Comes in: [`Figures`], measured by the porch, and the spec's [`Budget`](crate::spec::Budget). Goes out: an
//! [`Acceptance`] for each spec, one [`Judgement`] for each thing that is judged, which serializes
//! to JSON that keeps its field names, and for several specs together as an [`Overview`], as JUnit's
//! XML and as one page of HTML. Nothing is measured or started here: this room knows no clock and no runner.
//!
//! What has no budget is *told*: measured, and judged by nobody. What could not be measured is
//! *skipped*, with the reason; [`Demands`] say which of it then counts as failed.

mod html;
mod judge;
mod junit;
mod overview;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::oci::Digest;

pub use html::html;
pub use judge::judge;
pub use junit::junit;
pub use overview::{Overview, Row};

/// Everything that was measured of one spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// The spec, as it was named.
    pub spec: String,
    /// The image's first name; the spec if it has none.
    pub image: String,
    /// What the image runs on.
    pub platform: String,
    /// What it was built and started with, such as `podman 5.2.1`.
    pub runner: Option<String>,
    /// The builds, or why there is no image.
    #[serde(serialize_with = "or_reason")]
    pub build: Result<BuildFigures, String>,
    /// The start, or why nothing was started.
    #[serde(serialize_with = "or_reason")]
    pub run: Result<RunFigures, String>,
}

/// What was measured of the builds and of the image itself. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuildFigures {
    /// The manifest of the cold build.
    pub manifest: Digest,
    /// The manifest of the warm one.
    pub warm_manifest: Digest,
    /// The manifest of a build with another empty store, under other circumstances, if there was one.
    pub other_manifest: Option<Digest>,
    /// What differs in that one, a line for each path.
    pub differences: Vec<String>,
    /// The build with an empty store, as a user waits for it.
    #[serde(serialize_with = "as_seconds")]
    pub cold: Duration,
    /// The same again.
    #[serde(serialize_with = "as_seconds")]
    pub warm: Duration,
    /// The layers as a registry stores them.
    pub size: u64,
    /// The tar streams in them.
    pub unpacked: u64,
    /// The layers' blobs, lowest first.
    pub layers: Vec<Blob>,
    /// What the build read.
    pub context: ContextFigures,
    /// What `check` found.
    pub check: CheckFigures,
}

/// A blob as a registry stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Files of all contexts of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ContextFigures {
    /// Files that are left after the ignore files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// All files.
    pub all_files: u64,
    /// Their bytes.
    pub all_bytes: u64,
}

/// What `check` found in an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CheckFigures {
    /// Errors, one line each.
    pub errors: Vec<String>,
    /// How many warnings.
    pub warnings: usize,
}

/// What was measured of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunFigures {
    /// Whether its process came up.
    pub start: Start,
    /// Whether it answered.
    pub health: Health,
    /// User IDs as the image's config has it and as the process has it, or why they cannot be seen.
    #[serde(serialize_with = "or_reason")]
    pub user: Result<UserFigures, String>,
    /// Whether whoever started the run accepts root.
    pub root_is_allowed: bool,
    /// How it ended.
    pub stop: Stop,
    /// Whether the same works without a writable root.
    pub read_only: ReadOnly,
}

/// Who runs the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserFigures {
    /// `user[:group]` of the image's config; empty means root.
    pub configured: String,
    /// The number inside the container.
    pub inside: u32,
}

/// How a container came up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Start {
    /// Its process runs.
    Up {
        /// Since it was ordered.
        #[serde(serialize_with = "as_seconds")]
        after: Duration,
    },
    /// It does not.
    Down {
        /// What is known about it.
        why: String,
    },
}

/// What a container answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Health {
    /// Its health check said yes.
    Answered {
        /// Since its process ran.
        #[serde(serialize_with = "as_seconds")]
        after: Duration,
    },
    /// Its health check never said yes.
    Silent {
        /// How long it was asked.
        #[serde(serialize_with = "as_seconds")]
        waited: Duration,
        /// What it said last.
        why: String,
    },
    /// It has none, and its process stayed up.
    Unasked {
        /// How long it was watched.
        #[serde(serialize_with = "as_seconds")]
        watched: Duration,
    },
    /// Its process ended by itself.
    Ended {
        /// The exit code and the last words.
        why: String,
    },
}

/// How a container ended after it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Stop {
    /// Within its time.
    Ended {
        /// The signal that asked.
        signal: String,
        /// How long it took.
        #[serde(serialize_with = "as_seconds")]
        after: Duration,
        /// The process's exit code.
        code: i32,
        /// Whether that is 0, or 128 and the signal's own number.
        is_clean: bool,
    },
    /// It had to be killed.
    Ignored {
        /// The signal that asked.
        signal: String,
        /// How long it was waited for.
        #[serde(serialize_with = "as_seconds")]
        waited: Duration,
    },
    /// It was not running any more.
    Unasked,
}

/// How the same image does on a root file system that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ReadOnly {
    /// As well as on one that can.
    Works,
    /// Not.
    Fails {
        /// What is known about it.
        why: String,
    },
    /// It does not work at all, so it was not tried.
    Untried,
}

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The builds succeed, and how long the first takes.
    ColdBuild,
    /// How long the second takes.
    WarmBuild,
    /// All builds give the same image.
    Digest,
    /// Bytes of layers in a registry.
    Size,
    /// Bytes of layers on a disk.
    Unpacked,
    /// Number of layers.
    Layers,
    /// Bytes that the builds may read.
    Context,
    /// `check` finds no error.
    Check,
    /// The process comes up.
    Start,
    /// It answers.
    Health,
    /// It is not root's.
    User,
    /// It ends when it is asked to.
    Stop,
    /// It needs no writable root.
    ReadOnly,
}

/// What was found about one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// The subject.
    pub subject: Subject,
    /// The verdict.
    pub verdict: Verdict,
    /// What was measured, in words.
    pub measured: String,
    /// What was demanded, in words; empty if nothing was.
    pub demanded: String,
    /// Why it failed or was skipped, and what else helps; a line each.
    pub notes: Vec<String>,
    /// How much of the budget it is, in whole percent.
    pub percent: Option<u64>,
}

/// What came of judging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As demanded.
    Passed,
    /// Nothing was demanded.
    Told,
    /// It could not be measured.
    Skipped,
    /// Not as demanded.
    Failed,
}

/// What may not be skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demands {
    /// Whether it fails that nothing can be started.
    pub start: bool,
}

/// One spec with all that was found about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Acceptance {
    /// Whether nothing failed.
    pub passed: bool,
    /// The judgements, in the order of [`Subject::ALL`].
    pub judgements: Vec<Judgement>,
    /// What they rest on.
    pub figures: Figures,
}

impl Subject {
    /// All of them, in the order in which they are told.
    pub const ALL: [Subject; 13] = [
        Subject::ColdBuild,
        Subject::WarmBuild,
        Subject::Digest,
        Subject::Size,
        Subject::Unpacked,
        Subject::Layers,
        Subject::Context,
        Subject::Check,
        Subject::Start,
        Subject::Health,
        Subject::User,
        Subject::Stop,
        Subject::ReadOnly,
    ];

    /// Whether a container is needed to judge it.
    pub fn needs_a_start(self) -> bool {
        self >= Subject::Start
    }
}

impl Acceptance {
    /// How many judgements have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        let of = |judgement: &&Judgement| judgement.verdict == verdict;
        self.judgements.iter().filter(of).count()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Subject::ColdBuild => "cold build",
            Subject::WarmBuild => "warm build",
            Subject::Digest => "same digest",
            Subject::Size => "size",
            Subject::Unpacked => "unpacked",
            Subject::Layers => "layers",
            Subject::Context => "context",
            Subject::Check => "check",
            Subject::Start => "start",
            Subject::Health => "health",
            Subject::User => "user",
            Subject::Stop => "stop",
            Subject::ReadOnly => "read-only",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Passed => "pass",
            Verdict::Told => "told",
            Verdict::Skipped => "skipped",
            Verdict::Failed => "FAIL",
        })
    }
}

fn as_seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

/// A value as it is; the reason for its absence as `{"missing": REASON}`.
fn or_reason<T: Serialize, S: Serializer>(
    value: &Result<T, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Missing<'a> {
        missing: &'a str,
    }
    match value {
        Ok(value) => value.serialize(serializer),
        Err(missing) => Missing { missing }.serialize(serializer),
    }
}
