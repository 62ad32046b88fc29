//! What the three processes tell each other.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::oci::Digest;
use crate::sandbox::caches::CacheEntry;
use crate::sandbox::error::Setup;
use crate::sandbox::holdings::Room;
use crate::sandbox::job::{Job, Network};
use crate::sandbox::probe::{Circumstances, Footing};
use crate::sandbox::service::{Answer, RootMode, ServiceJob};

/// The first message to a process of the sandbox: what it is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Be the outer process.
    Outer(Box<Outer>),
    /// Be the inner process.
    Inner(Box<Inner>),
    /// Become a command in a service that runs, whose namespace of mounts follows as a file.
    Join(Box<Job>),
}

/// What the outer process is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outer {
    pub(crate) footing: Footing,
    /// The directory of this run: empty, and removed at the end.
    pub(crate) scratch: PathBuf,
    pub(crate) task: Task,
    pub(crate) circumstances: Circumstances,
}

/// What is done in the sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Everything short of a command, to see whether it works.
    Try,
    /// Runs a command and collects what it changed.
    Run {
        job: Box<Job>,
        /// Where the contents of changed files go.
        store: PathBuf,
    },
    /// Runs an image's process until it ends or the builder goes, and does meanwhile what the
    /// builder asks ([`Ask`]).
    Serve(Box<ServiceJob>),
    /// Makes the tree that a folder lists.
    Unpack {
        folder: PathBuf,
        /// Where the contents of its files are.
        store: PathBuf,
    },
    /// Removes a directory whose files belong to ids of the namespace.
    Remove(PathBuf),
    /// Says how much room directories take, which only ids of the namespace may look into.
    Measure(Vec<PathBuf>),
    /// Tells of every file of a cache.
    PackCache(PathBuf),
    /// Makes caches in this directory and puts them where they belong.
    FillCaches(PathBuf),
}

/// What the inner process is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Inner {
    pub(crate) footing: Footing,
    pub(crate) scratch: PathBuf,
    /// `None` for a trial: everything is made, nothing is run.
    pub(crate) job: Option<Box<Job>>,
    /// What a service has besides.
    pub(crate) service: Option<ServiceRoot>,
}

/// What of a service's root is not as that of a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServiceRoot {
    pub(crate) mode: RootMode,
    pub(crate) volumes: Vec<String>,
}

/// What the outer process tells the builder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// It waits for its ids; the builder answers with `Ok` or with why not.
    MapIds,
    /// What the command has changed.
    Collected(Collected),
    /// How much room the directories take, in their order.
    Measured(Vec<Room>),
    /// A file of a cache; its content follows.
    Entry(Box<CacheEntry>),
    /// It waits for what is to be put into caches.
    Ready,
    /// What a person should know.
    Notes(Vec<String>),
    /// The process of a service runs, under this number.
    Serving(u32),
    /// What became of a command in a service.
    Answered(Answer),
    /// The process of a service has ended; what it left is cleared away next.
    Ended(End),
    /// It is done.
    Done(Result<End, Failed>),
}

/// What a command has changed, kept in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Collected {
    /// The blob with the listing of the changes.
    pub(crate) listing: Digest,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
}

/// What the builder asks the outer process of a service.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// To run a command inside, and to end it at the limit. One at a time.
    Exec { argv: Vec<String>, limit: Duration },
    /// To send the first process a signal.
    Signal(i32),
}

/// The builder's answer to [`Report::MapIds`].
pub(crate) type Mapped = Result<(), Setup>;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    Code(u8),
    Signal(i32),
    TimedOut,
    TooManyProcesses,
    OutOfMemory,
    /// The builder went away or wanted it to stop.
    Stopped,
}

/// What failed before the command ran, or after it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Failed {
    /// The sandbox.
    Setup(Setup),
    /// The program could not be started.
    Start(Setup),
}

/// What the inner process tells the outer; its end without a word means that the command runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// All is made. These paths were not in the tree and are only there to mount on.
    Made(Vec<String>),
    /// It takes the file that follows: the listener of the filter of tier B.
    Listener,
    /// It failed.
    Failed(Failed),
}

impl Outer {
    /// The network that the namespaces are made for.
    pub(crate) fn network(&self) -> Network {
        match &self.task {
            Task::Run { job, .. } => job.network,
            Task::Serve(service) => service.job.network,
            _ => Network::Host,
        }
    }
}

impl From<Setup> for Failed {
    fn from(setup: Setup) -> Failed {
        Failed::Setup(setup)
    }
}
