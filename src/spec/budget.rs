//! Budgets: what an image may cost, as its author promises. `boxwright verify` judges them.
//!
//! A budget is no input of any step, layer or image: changing one changes no digest.

use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;

use crate::spec::schema::{CountText, DurationText, FlagText};
use crate::spec::source::Spanned;
use crate::spec::units::ByteSize;

/// What an image, its builds and its start may cost at most. What is absent is not judged.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Budget {
    /// The layers as a registry stores them, together.
    pub size: Option<Spanned<ByteSize>>,
    /// The layers unpacked, together: what runtimes call the size of an image.
    pub unpacked: Option<Spanned<ByteSize>>,
    /// Number of layers, those of the base among them.
    #[schemars(with = "Option<CountText>")]
    pub layers: Option<Spanned<NonZeroU32>>,
    /// The files of all contexts that are left after the ignore files, together.
    pub context: Option<Spanned<ByteSize>>,
    /// A build with an empty store.
    #[schemars(with = "Option<DurationText>")]
    pub cold_build: Option<Spanned<Duration>>,
    /// The same build again, with nothing changed.
    #[schemars(with = "Option<DurationText>")]
    pub warm_build: Option<Spanned<Duration>>,
    /// From the order to start a container until its process runs.
    #[schemars(with = "Option<DurationText>")]
    pub start: Option<Spanned<Duration>>,
    /// From then on until the health check first says yes.
    #[schemars(with = "Option<DurationText>")]
    pub health: Option<Spanned<Duration>>,
    /// Whether the service must also work on a root file system that cannot be written.
    #[schemars(with = "Option<FlagText>")]
    pub read_only: bool,
}
