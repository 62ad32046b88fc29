//! The study: what an image holds, and what is wrong with it.
//!
//! Comes in: an image's config and the changesets of its layers, as `layer` read or made them, and
//! someone who reads the first bytes of a content. Goes out: an [`Inspection`] (facts) or a
//! [`CheckReport`] (findings with stable codes); both serialize to JSON that keeps its field names.
//!
//! This room never opens an archive, a layout or the store, never changes anything, and never
//! runs what it looks at. How reports look on a terminal is the porch's affair.
//!
//! OCI image spec: `config.md` for what the settings mean, `layer.md` for what hides what.

pub mod acceptance;
pub mod bench;
pub mod check;
pub mod error;
pub mod inspect;
pub mod size;

pub use acceptance::{
    Acceptance, Blob, BuildFigures, CheckFigures, ContextFigures, Demands, Figures, Health,
    Judgement, Overview, ReadOnly, RunFigures, Start, Stop, Subject as Judged, UserFigures,
    Verdict, judge,
};
pub use bench::{BenchLine, BenchReport, LayerShare, Scenario, Spread};
pub use check::{
    Allowed, CheckReport, Code, Contents, Finding, FoundIn, LayerOrigin, Severity, Subject,
    UnknownCode, check,
};
pub use error::ExplainError;
pub use inspect::{
    Duplicate, Hiding, ImageFacts, Inspection, LargeFile, LayerFacts, LayerInspection,
    ShippedTwice, inspect,
};
pub use size::{Count, Size};
