//! Services: an image's process, started as a container's would be, asked, and ended.
//!
//! Comes in: a [`ServiceJob`], which names a materialized tree and what is started in it. Goes out:
//! a [`Service`] that runs until its process ends, its owner drops it, or its owner dies; no
//! process, mount or file is left in any case.
//!
//! **What it is like.** Namespaces of its own for processes, mounts, IPC, names and, with
//! [`Network::None`](crate::sandbox::Network::None), the network; a user namespace unless the
//! builder is root. The process is number 1 and so takes only signals that it asks for. Its root is
//! the tree under an overlay that is thrown away. `/proc`, `/sys` and `/dev` are those of a command
//! of a build. It has the image's user with real ids, an empty standard input, no ignored signal,
//! umask 022, and limits as a command has.
//!
//! **What it is not.** Rights are podman's default ones for root, none for others, and nothing
//! gains any (`no_new_privs`): `sudo`, and programs with capabilities of their own, work with podman
//! and fail here. There is no seccomp filter, which podman has: in
//! [`Tier::RangeMap`](crate::sandbox::Tier::RangeMap) the user namespace stands in for it, in
//! [`Tier::Root`](crate::sandbox::Tier::Root) the rights that are missing have to do. No cgroup
//! namespace, no published port, no names but the machine's, no health checks but those that are
//! asked for.
//!
//! **Hostile images.** A process inside that reached a process of ours could reach our program's
//! file, and root inside may be its owner outside. So what joins the service is started from a
//! read-only mount of that file, and has more rights than anything inside until it becomes what it
//! shall run: nothing inside may look into it.

mod builder;
mod exec;
mod host;
mod program;
mod root;
mod user;

pub use builder::{Exec, Service, State, Unfit, footing};
pub(crate) use exec::Answer;
pub(crate) use host::host;
pub(crate) use program::has_a_format;
pub(crate) use root::{close_root, furnish};
pub use user::{UnknownUser, run_user};

use serde::{Deserialize, Serialize};

use crate::sandbox::job::Job;

/// An image's process with all it may see.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceJob {
    /// The process, as if it were a command of a build.
    pub job: Job,
    /// Whether it may write to its root.
    pub mode: RootMode,
    /// Directories that it may always write to. Missing ones are made, root's, mode 0755.
    pub volumes: Vec<String>,
}

/// Whether a root can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootMode {
    /// What is written is thrown away at the end.
    Writable,
    /// But for mounts and volumes.
    ReadOnly,
}
