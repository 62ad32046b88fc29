//! Room 2: `BuildSpec` → [`Plan`].
//!
//! Comes in: a spec whose every value is valid by itself. Goes out: which stages the target needs,
//! in which order, and where every step takes its files from. What only the whole spec can tell is
//! judged here: names that nothing has, circles, an ambiguous target, a final stage that has no
//! business at run time. This room looks at no file and no image. It also holds the keys of all
//! caches ([`key`]).
//!
//! `design.md`, sections 3 and 4.

mod bind;
mod describe;
mod graph;
pub mod key;
mod rules;
mod stage;

pub use graph::{Plan, PlanInputs, plan};
pub use rules::{codes_allowed, is_root};
pub use stage::{
    ContextId, ImageId, PlannedContext, PlannedLayer, PlannedStage, PlannedStep, Source, StageBase,
    StageId,
};
