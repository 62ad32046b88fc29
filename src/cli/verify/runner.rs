//! The seam to whatever starts images: Boxwright's own sandbox, podman, docker.

use std::path::Path;
use std::time::Duration;

use crate::cli::args::{RunnerArg, VerifyArgs};
use crate::cli::verify::engine::Engine;
use crate::cli::verify::own;
use crate::cli::verify::podman;

/// Why something did not work, in words for the report.
pub(crate) type Reason = String;

/// Starts images.
pub(crate) trait Runner {
    /// What it is, with its version and what it is given.
    fn name(&self) -> &str;

    /// Takes the image called `name` out of an archive; it is forgotten with the runner or by
    /// [`Runner::forget`].
    ///
    /// # Errors
    /// It cannot be loaded.
    fn load(&self, archive: &Path, name: &str) -> Result<(), Reason>;

    /// Gives the image up.
    fn forget(&self, name: &str);

    /// Makes a container that is not started yet. It is gone when it is dropped.
    ///
    /// # Errors
    /// It cannot be made.
    fn create(&self, name: &str, launch: &Launch<'_>) -> Result<Box<dyn Container + '_>, Reason>;
}

/// How a container is to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch<'a> {
    pub(crate) root: Root,
    pub(crate) network: &'a str,
    pub(crate) env: &'a [(String, String)],
}

/// The root file system of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    Writable,
    /// But for `/tmp`, which is in memory, and the image's volumes.
    ReadOnly,
}

/// One container.
pub(crate) trait Container {
    /// Starts its process.
    ///
    /// # Errors
    /// It does not come up.
    fn start(&self) -> Result<(), Reason>;

    /// How it is.
    ///
    /// # Errors
    /// The runner does not know.
    fn state(&self) -> Result<State, Reason>;

    /// Runs a command inside to its end.
    ///
    /// # Errors
    /// It fails, or takes longer than `limit`.
    fn exec(&self, command: &[String], limit: Duration) -> Result<(), Reason>;

    /// The user ID of its first process, as it is inside.
    ///
    /// # Errors
    /// It cannot be seen from here.
    fn user(&self) -> Result<u32, Reason>;

    /// Sends its first process a signal.
    ///
    /// # Errors
    /// There is no such signal, or no process.
    fn signal(&self, signal: &str) -> Result<(), Reason>;

    /// What it printed last.
    fn last_words(&self) -> String;
}

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// With the number of its first process, as this machine sees it; 0 if it does not.
    Running(u32),
    /// With its exit code.
    Ended(i32),
}

/// What starts images, and why what would have been better does not.
pub(crate) struct Chosen {
    pub(crate) runner: Box<dyn Runner>,
    pub(crate) passed_over: Vec<Reason>,
}

type Candidate<'a> = &'a dyn Fn() -> Result<Box<dyn Runner>, Reason>;

/// The runner that is wanted, or the first that works. What they keep lies in `scratch`.
pub(crate) fn choose(args: &VerifyArgs, scratch: &Path) -> Result<Chosen, Reason> {
    let own = || own::sandbox(args, &scratch.join("o")).map(boxed);
    let podman = || podman::engine(&scratch.join("p")).map(boxed);
    let docker = || Engine::docker().map(boxed);
    let candidates: &[Candidate<'_>] = match args.runner {
        RunnerArg::None => return Err("--runner none".to_owned()),
        RunnerArg::Sandbox => &[&own],
        RunnerArg::Podman => &[&podman],
        RunnerArg::Docker => &[&docker],
        RunnerArg::Auto => &[&own, &podman, &docker],
    };
    let mut passed_over = Vec::new();
    for candidate in candidates {
        match candidate() {
            Ok(runner) => {
                return Ok(Chosen {
                    runner,
                    passed_over,
                });
            }
            Err(why) => passed_over.push(why),
        }
    }
    Err(passed_over.join("; "))
}

fn boxed<'a>(runner: impl Runner + 'a) -> Box<dyn Runner + 'a> {
    Box::new(runner)
}
