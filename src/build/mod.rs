//! The corridor: walks through the rooms in order and owns no logic.
//!
//! Comes in: a [`BuildRequest`] in which every default is decided. Goes out: a [`BuildReport`], and on the
//! way [`Event`]s for whoever shows progress. What a room finds is passed on as it is; this
//! module judges nothing, prints nothing and knows no clock: a caller who wants durations stamps
//! the events as they come.

mod bases;
mod commands;
mod contexts;
mod crew;
mod downloads;
mod error;
pub mod event;
mod graph;
mod join;
mod lock;
mod memo;
mod mirror;
mod mounts;
mod outputs;
mod push;
pub mod report;
pub mod request;
mod run;
mod shared_cache;
mod spec_files;
mod stages;
mod start;
mod study;
mod target;
mod verify;

pub use crew::Crew;
pub use error::BuildError;

pub use event::{Event, Observer, OutputState, Silent};
pub use join::{JoinReport, JoinRequest, JoinedImage, join};
pub use lock::{
    LockChange, LockScope, Locked, check_lock, lock, may_be_pins, write_lock, write_pins,
};
pub use mirror::{Dockerfile, Mirror, mirror};
pub use push::{PushLine, PushReport, PushRequest, push};
pub use report::{BuildReport, LayerLine, LayerWork, Origin, OutputKind, OutputLine};
pub use request::{BuildRequest, CacheUse, CommandSettings};
pub use run::{build, build_beside, may_be_written, names_of, plans, spec};
pub use shared_cache::{CacheMode, SharedCacheSettings};
pub use spec_files::{SPEC_NAME, declared_args};
pub use start::{UnpackedImage, unpack_image};
pub use study::{check_image, check_spec, inspect_image};
pub use verify::{Difference, Verification, verify};
