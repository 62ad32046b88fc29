//! What can go wrong with running a command.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::oci::Platform;
use crate::sandbox::tier::{Letter, Tier};

/// Why a command did not run, or not to its end. The texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The command ended with another code than 0.
    #[error("run the command: it ended with exit code {code}")]
    Exited {
        /// Its exit code.
        code: u8,
        /// The last lines of its output.
        tail: Vec<String>,
    },
    /// A signal ended the command.
    #[error("run the command: signal {signal} ended it")]
    Signalled {
        /// The number of the signal.
        signal: i32,
        /// The last lines of its output.
        tail: Vec<String>,
    },
    /// The command took too long.
    #[error("run the command within {} s; give it more with --timeout", limit.as_secs())]
    TimedOut {
        /// What it was allowed.
        limit: Duration,
        /// The last lines of its output.
        tail: Vec<String>,
    },
    /// The command started too many processes, and was ended for it.
    #[error("run the command with {limit} processes; give it more with --pids")]
    TooManyProcesses {
        /// What it was allowed.
        limit: u32,
        /// The last lines of its output.
        tail: Vec<String>,
    },
    /// The command wanted more memory than it may have.
    #[error("run the command with {limit} bytes of memory; give it more with --memory")]
    OutOfMemory {
        /// What it was allowed.
        limit: u64,
        /// The last lines of its output.
        tail: Vec<String>,
    },
    /// The command wrote too much output, and was ended for it.
    #[error("run the command: it wrote more than {limit} bytes of output")]
    TooMuchOutput {
        /// What it was allowed.
        limit: u64,
        /// The last lines of its output.
        tail: Vec<String>,
    },
    /// The command was ended because the build could not come to a good end any more.
    #[error("run the command: it was stopped, because another stage had failed")]
    Stopped {
        /// The last lines of its output.
        tail: Vec<String>,
    },
    /// The disk under the store is full.
    #[error("run the command: no space is left in {}; make room with `boxwright cache gc --max-size 5GB`", path.display())]
    DiskFull {
        /// Where.
        path: PathBuf,
        /// The last lines of its output.
        tail: Vec<String>,
    },
    /// The program of the command is not there, or cannot be run.
    #[error("start {program:?} in the stage's tree: {setup}")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        setup: Setup,
    },
    /// The program of the command is one of another kind of machine, and nothing emulates that.
    #[error(
        "start {program:?} in the stage's tree: this machine, {host}, cannot run what is made for {platform}; \
             register an emulator for it (Debian and Ubuntu: `apt-get install qemu-user-static`), or build that \
             platform on a machine of its own and join the images with `boxwright index`"
    )]
    Foreign {
        /// The program.
        program: String,
        /// The platform that is built.
        platform: String,
        /// The platform of this machine.
        host: String,
    },
    /// The sandbox could not be made.
    #[error("make the sandbox of tier {tier}: {setup}")]
    Setup {
        /// The tier.
        tier: Tier,
        /// What failed.
        setup: Setup,
    },
    /// A cache could not be read, or made.
    #[error("{setup} (in tier {tier})")]
    Cache {
        /// The tier.
        tier: Tier,
        /// What failed.
        setup: Setup,
    },
    /// No tier works here. The text names each with what it lacks.
    #[error("run a command: no sandbox works here\n{0}")]
    NoTier(String),
    /// The tier that was asked for does not work here.
    #[error("run a command in tier {letter}: {reason}")]
    TierRefused {
        /// As asked for.
        letter: Letter,
        /// What it lacks, and how to get it.
        reason: String,
    },
    /// The process that makes the sandbox could not be started, or ended without a word.
    #[error("start the sandbox's own process {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The job could not be handed over: a path in it is not UTF-8.
    #[error("describe the command to the sandbox's process")]
    Describe(#[source] serde_json::Error),
    /// The file system said no.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A step of making a sandbox that failed, as one process tells another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// What was tried, on what: "mount /proc".
    pub action: String,
    /// The system's number for the cause, if it was the system's.
    pub errno: Option<i32>,
    /// The cause in words.
    pub cause: String,
}

impl Setup {
    /// For `map_err`: what was tried when the system said no.
    pub(crate) fn of<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> Setup {
        let action = action.into();
        move |error| {
            let error: io::Error = error.into();
            Setup {
                action,
                errno: error.raw_os_error(),
                cause: error.to_string(),
            }
        }
    }

    /// A failure that the system has no number for.
    pub(crate) fn because(action: impl Into<String>, cause: impl Into<String>) -> Setup {
        Setup {
            action: action.into(),
            errno: None,
            cause: cause.into(),
        }
    }
}

impl std::fmt::Display for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.action, self.cause)
    }
}

impl SandboxError {
    /// For `map_err`: the file system said no.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SandboxError {
        let path = path.to_owned();
        move |source| SandboxError::Io {
            action,
            path,
            source,
        }
    }

    /// The same, if it failed since this machine does not run the programs of `platform`.
    pub fn of_platform(self, platform: &Platform) -> SandboxError {
        let host = Platform::host();
        match self {
            SandboxError::Start { program, setup }
                if setup.errno == Some(Errno::NOEXEC.raw_os_error())
                    && platform.architecture != host.architecture =>
            {
                SandboxError::Foreign {
                    program,
                    platform: platform.to_string(),
                    host: host.to_string(),
                }
            }
            other => other,
        }
    }

    /// The command's last lines, where there was a command.
    pub fn tail(&self) -> &[String] {
        match self {
            SandboxError::Exited { tail, .. }
            | SandboxError::Signalled { tail, .. }
            | SandboxError::TimedOut { tail, .. }
            | SandboxError::TooManyProcesses { tail, .. }
            | SandboxError::OutOfMemory { tail, .. }
            | SandboxError::TooMuchOutput { tail, .. }
            | SandboxError::Stopped { tail }
            | SandboxError::DiskFull { tail, .. } => tail,
            _ => &[],
        }
    }
}
