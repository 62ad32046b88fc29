//! Room 4, the sandbox: runs a command in a tree and says what it changed.
//!
//! Comes in: a [`Job`], which names a materialized tree, a command and all it may see. Goes out:
//! the tier that ran it and what became of the tree, or why it failed with the command's last
//! lines. This room never decides what is run, never writes to the tree it was given, never keeps
//! a mount or a process behind, and never lets a secret out of the memory it was handed in.
//!
//! **Tiers.** A machine gives a builder more or less; [`probe`] finds out by trying. The same job
//! changes the same files in each tier that can run it, see [`Tier`].
//!
//! **Processes.** Boxwright has threads, and a process with threads cannot change its user
//! namespace. So the program starts itself again, under a name that people do not see
//! ([`INIT_COMMAND`]):
//!
//! ```text
//! boxwright build          threads; reads the output; answers "map my ids"
//!  └ sandbox-init   outer  one thread; namespaces, overlay, limits, waits, collects, cleans up
//!     └ sandbox-init inner own mounts and root; becomes the command (process 1 where it can be)
//! ```
//!
//! The outer process hears of the builder's end by the end of their socket, kills what runs and
//! removes the scratch directory; the inner one dies with the outer. Mounts live in namespaces
//! that end with them.
//!
//! **Services.** What an image starts is started in the same way, by [`service`]: the inner process
//! becomes the image's, and the outer one stays to run commands beside it and to end it.
//!
//! `design.md`, section 6; OCI runtime spec, `config-linux.md` (default file systems, devices).

mod caches;
mod changes;
mod channel;
mod copy_tree;
mod doctor;
mod error;
mod holdings;
mod id_map;
mod inner;
mod job;
mod limits;
mod mounts;
mod namespaces;
mod new_root;
mod order;
mod outer;
mod output;
mod overlay;
mod owner;
mod pack;
mod probe;
mod rootfs;
mod run;
mod scratch;
pub mod service;
mod stand_in;
mod stop;
mod supervisor;
mod syscalls;
mod tier;
mod trees;

pub use caches::{
    CacheEntry, CacheKind, Caches, Feeder, HeldCache, Hold, read_cache, write_caches,
};
pub use doctor::{Lack, Remedy};
pub use error::{SandboxError, Setup};
pub use holdings::{Chosen, Holding, HoldingKind, choose, discard, holdings, surplus_trees};
pub use job::{Job, Limits, Mount, MountKind, Network, RunUser, Secret, Writes};
pub use output::{OutputSink, Stream};
pub use probe::{
    Circumstances, Footing, Probe, Proc, SandboxSettings, Upper, Verdict, best, probe,
};
pub use rootfs::Ownership;
pub use run::{INIT_COMMAND, Outcome, inside, remove, run};
pub use stop::StopSwitch;
pub use tier::{Letter, Tier};
pub use trees::{Listed, materialize, materialize_over};
