//! Arguments of `boxwright verify`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};

use boxwright::explain::Code;
use boxwright::spec::Name;

use crate::cli::args::{Age, CommandArgs, NetworkArgs, Override};

/// Accept images: build, measure, start, ask and stop them
///
/// Each spec is built without a store, again with nothing changed, and once more elsewhere; all
/// three must give the same image. It is looked into as by `check`, started with podman or docker,
/// asked by its own health check, and stopped. What `budget:` of the spec says is judged. Your
/// store and podman's own images stay as they are.
///
/// `build --verify` is less: it only builds twice and names the files that differ.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  boxwright verify                         the spec in this folder
  boxwright verify services/*/             several, one after the other
  boxwright verify --require start         fail where nothing can be started
  boxwright verify --junit v.xml --html v.html

A budget, at the top of the spec; all keys are optional:
  budget:
    size: 200MB        layers as a registry stores them
    layers: 20         their number
    context: 50MB      files that are left after .dockerignore
    cold_build: 5m     without a store
    warm_build: 30s    again, with nothing changed
    start: 15s         from the order until the process runs
    health: 10s        from then until the health check says yes
    read_only: true    it must work without a writable root, but for /tmp

Without a budget the numbers are only told. In any case an image must be
built the same each time, have no error of `check`, start, answer, not run
as root, and end when it is asked to.")]
pub(crate) struct VerifyArgs {
    /// The specs, or the folders of their boxwright.yaml, by default this one; or members of
    /// --workspace
    #[arg(value_name = "SPEC|MEMBER", value_hint = ValueHint::AnyPath)]
    pub(crate) specs: Vec<PathBuf>,
    /// Verify the members of a workspace, all or those that are named
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) workspace: Option<PathBuf>,
    /// The stage to build; by default the one that no other uses
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<Name>,
    /// The profile of the specs to build: its values go before those of the spec
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<Name>,
    /// Set an argument of the specs; without =VALUE it is taken from the environment
    #[arg(long = "arg", value_name = "NAME[=VALUE]")]
    pub(crate) args: Vec<Override>,
    /// Take from registries and the web only what the lock beside the spec says
    #[arg(long)]
    pub(crate) locked: bool,
    /// Pass over findings of `check` with this code; BW001 also accepts root inside
    #[arg(long = "allow", value_name = "CODE", value_delimiter = ',')]
    pub(crate) allow: Vec<Code>,
    /// What starts the image: auto, podman, docker or none
    ///
    /// auto is the first of podman and docker that works. podman is given a storage of its own, in
    /// the scratch folder; docker has only its daemon's, from which the image is removed again.
    #[arg(
        long,
        value_name = "RUNNER",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(crate) runner: RunnerArg,
    /// What may not be skipped: start
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub(crate) require: Vec<RequireArg>,
    /// What is left out: rebuild, the third build, from nothing and under other circumstances
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub(crate) skip: Vec<SkipArg>,
    /// The container's network, as podman and docker call it
    #[arg(long = "network", value_name = "NETWORK", default_value = "none")]
    pub(crate) container_network: String,
    /// A variable for the container; without =VALUE it is taken from the environment
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<Override>,
    /// How long a first good answer is waited for; by default a minute more than the start period
    #[arg(long, value_name = "TIME")]
    pub(crate) patience: Option<Age>,
    /// How long the process may take to end, as with `podman stop`
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(crate) stop_timeout: Age,
    /// Where the scratch folder is made
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) scratch: Option<PathBuf>,
    /// Print the judgements as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write them as JUnit's XML
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) junit: Option<PathBuf>,
    /// Write a table in Markdown: a line for each image, and what they store together
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) markdown: Option<PathBuf>,
    /// Write them as a page
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) html: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) commands: CommandArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunnerArg {
    Auto,
    Podman,
    Docker,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RequireArg {
    Start,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SkipArg {
    Rebuild,
}

impl VerifyArgs {
    /// How long a first answer is waited for, given the image's own start period and the budget.
    pub(crate) fn patience(&self, start_period: Duration, budget: Option<Duration>) -> Duration {
        const USUAL: Duration = Duration::from_secs(60);
        match (self.patience, budget) {
            (Some(typed), _) => typed.0,
            // So that a late answer is told as such, and not as none.
            (None, Some(budget)) => (budget * 2).max(Duration::from_secs(1)),
            (None, None) => start_period + USUAL,
        }
    }
}
