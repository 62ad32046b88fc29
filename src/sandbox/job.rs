//! Jobs: one command with all it may see.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One command to run in a tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The program and its arguments; at least one. A program without a slash is looked for on
    /// the `PATH` of the environment below, in the tree.
    pub argv: Vec<String>,
    /// The environment: what the stage and the step say. Of a name that comes twice the last
    /// counts. Without `PATH` the usual one is added, without `HOME` the user's.
    pub env: Vec<(String, String)>,
    /// More of the environment that is in no key and no record: proxies, the place of the
    /// certificates, secrets. A name in `env` wins.
    pub private_env: Vec<(String, Secret)>,
    /// Who runs it.
    pub user: RunUser,
    /// The home directory of the user, for `HOME`.
    pub home: String,
    /// Where it runs: absolute. Missing directories are made, root's, mode 0755.
    pub workdir: String,
    /// The name of the machine that the command sees.
    pub hostname: String,
    /// Its network.
    pub network: Network,
    /// What is mounted while it runs, in this order.
    pub mounts: Vec<Mount>,
    /// What it may use.
    pub limits: Limits,
    /// The roots of the materialized tree, the uppermost first. They are read, never written.
    pub lowers: Vec<PathBuf>,
    /// Files of the machine that the command sees instead of the tree's: `/etc/resolv.conf` and
    /// `/etc/hosts` with [`Network::Host`]. Those that are missing on the machine are left out.
    pub host_files: Vec<PathBuf>,
}

/// Who runs a command, as numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// The network of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Network {
    /// Only a loopback device of its own.
    None,
    /// The machine's.
    #[default]
    Host,
}

/// Something mounted while a command runs. It is not part of what the command changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    /// Where it appears: absolute, in the tree. Missing directories are made and go again.
    pub target: String,
    /// What appears there.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MountKind {
    /// A file or directory of the machine: a cache, a materialized bind, the socket of an SSH
    /// agent, the certificates.
    Path {
        /// Which one.
        source: PathBuf,
        /// Whether the command may write to it.
        writes: Writes,
    },
    /// A file in memory, mode 0400 and the user's unless said otherwise.
    Secret {
        /// Its bytes.
        content: Secret,
        /// Its mode.
        mode: u16,
    },
    /// A directory in memory.
    Tmpfs {
        /// The most it may hold, in bytes.
        size: Option<u64>,
    },
}

/// What becomes of writes to a mounted path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writes {
    /// They fail.
    Refused,
    /// They reach the machine's file: caches.
    Kept,
    /// They are seen by the command and then thrown away: writable binds.
    Discarded,
}

/// Bytes that nobody may see. Printing them for debugging says only that they are there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(Vec<u8>);

/// What a command may use. The default is meant for builds: generous, but not all the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory, all processes together where a cgroup lets us, else each one by itself.
    pub memory: Option<u64>,
    /// Processes and threads at once.
    pub pids: u32,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// Bytes of output, both streams together.
    pub output: u64,
}

impl Secret {
    /// Hides the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret(bytes.into())
    }

    /// The bytes, for the one place that hands them to the command.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory: None,
            pids: 16384,
            timeout: None,
            output: 1 << 30,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let mount = Mount {
            target: "/run/secrets/npm".to_owned(),
            kind: MountKind::Secret {
                content: Secret::new("hunter2"),
                mode: 0o400,
            },
        };
        assert!(!format!("{mount:?}").contains("hunter2"));
        assert!(!format!("{mount:?}").contains("104"));
    }
}
