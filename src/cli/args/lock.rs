//! Arguments about locks.

use std::path::PathBuf;

use boxwright::oci::Platform;
use boxwright::spec::Name;
use clap::{Args, ValueHint};

use crate::cli::args::{NetworkArgs, Override, StoreArgs};

/// Note what everything is that a spec takes from registries and the web
///
/// Writes boxwright.lock beside boxwright.yaml: for every image of a registry the digest that its
/// reference has now, for every URL of an `add` step the digest of its file. Commit it with the
/// spec. `boxwright build --locked` asks for no tag and takes nothing else; without --locked the
/// lock is not looked at.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  boxwright lock
      Write the lock anew, and say what has changed.
  boxwright lock --update node:20
      Take what one reference is now, and leave the others.
  boxwright lock --arg NODE=22 --add
      Lock what another value of an argument leads to, too; the same with --profile.
  boxwright lock --check
      Has a tag moved, or does the lock lack something of the spec?")]
pub(crate) struct LockArgs {
    /// The specs, or the folders of their boxwright.yaml, by default this one; or members of
    /// --workspace
    #[arg(value_name = "SPEC|MEMBER", value_hint = ValueHint::AnyPath)]
    pub(crate) specs: Vec<PathBuf>,
    /// Lock the members of a workspace, all or those that are named, each beside its spec
    #[arg(short, long, value_name = "FILE", conflicts_with = "file", value_hint = ValueHint::AnyPath)]
    pub(crate) workspace: Option<PathBuf>,
    /// The spec, where its file has another name; the lock of NAME.yaml is NAME.lock
    #[arg(short, long, value_name = "FILE", conflicts_with = "specs", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// The profile of the spec to lock: its values go before those of the spec
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<Name>,
    /// Set an argument of the spec; without =VALUE it is taken from the environment
    #[arg(long = "arg", value_name = "NAME[=VALUE]")]
    pub(crate) args: Vec<Override>,
    /// The platforms whose ${TARGETARCH} and the like count; by default what the spec says, else
    /// this machine. Of an image all platforms are locked anyway
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platforms: Vec<Platform>,
    /// Keep what the spec does not use with these arguments and this profile
    #[arg(long)]
    pub(crate) add: bool,
    /// Only take what this reference, repository or URL is now; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "add")]
    pub(crate) update: Vec<String>,
    /// Write nothing; the exit code is 1 if the lock lacks something or a tag has moved
    ///
    /// Files of the web are not fetched, and with --offline no registry is asked.
    #[arg(long, conflicts_with_all = ["add", "update"])]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
