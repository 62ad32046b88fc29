//! The seam to whatever starts images: podman and docker today.

use std::path::Path;
use std::time::Duration;

use crate::cli::args::RunnerArg;
use crate::cli::verify::engine::Engine;
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

/// The runner that is wanted, or the first that works.
pub(crate) fn choose(wanted: RunnerArg, scratch: &Path) -> Result<Box<dyn Runner>, Reason> {
    let podman = || podman::engine(scratch).map(|engine| Box::new(engine) as Box<dyn Runner>);
    let docker = || Engine::docker().map(|engine| Box::new(engine) as Box<dyn Runner>);
    match wanted {
        RunnerArg::None => Err("--runner none".to_owned()),
        RunnerArg::Podman => podman(),
        RunnerArg::Docker => docker(),
        RunnerArg::Auto => podman()
            .or_else(|no_podman| docker().map_err(|no_docker| format!("{no_podman}; {no_docker}"))),
    }
}
