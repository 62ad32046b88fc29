//! Room 2: `BuildSpec` → [`Plan`].
//!
//! Comes in: a spec whose every value is valid by itself. Goes out: which stages the target needs,
//! in which order, and where every step takes its files from. What only the whole spec can tell is
//! judged here: names that nothing has, circles, an ambiguous target, a final stage that has no
//! business at run time, references that the lock does not have. This room looks at no file and no image. It also holds the keys of all
//! caches ([`key`]).
//!
//! `design.md`, sections 3 and 4.

mod bind;
mod describe;
mod graph;
pub mod key;
mod making;
mod origin;
mod outside;
mod rules;
mod stage;
mod target;
mod title;

pub use making::{Plan, PlanInputs, plan};
pub use outside::{Outside, outside, unknown};
pub use rules::{codes_allowed, final_user, is_root};
pub use stage::{
    ContextId, FileId, GivenBy, ImageId, KnownBy, PlannedContext, PlannedFile, PlannedLayer,
    PlannedStage, PlannedStep, Source, StageBase, StageId,
};
