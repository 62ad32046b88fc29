//! Arguments of `cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use boxwright::sandbox::Letter;
use boxwright::spec::{ByteSize, Name};

use crate::cli::args::{GcArgs, JsonArgs, StoreArgs};

/// Look after the store
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List what the store holds
    Ls(JsonArgs),
    /// Show how much space the store takes
    ///
    /// Blobs and records are the layers and what is remembered of builds. Trees are stages
    /// unpacked for `run`, caches what `run` mounts, scratch what killed builds have left. These
    /// three are counted in blocks of the disk.
    Du(JsonArgs),
    /// Remove what was not used for long, or the oldest until the store is small enough
    ///
    /// What killed builds have left always goes. Where the store is too large trees go first, for
    /// they are made again from the rest; then caches of `run`, blobs and records by their last
    /// use. Refuses while a build uses the store.
    #[command(after_long_help = "\
Examples:
  boxwright cache gc --max-age 14d
  boxwright cache gc --max-size 5GB
  boxwright cache gc --trees --max-size 2GB
      What CI runs before it saves the store.")]
    Gc(GcArgs),
    /// Remove everything
    Clear(JsonArgs),
    /// Write the caches that `run` mounts to a file
    ///
    /// A machine that forgets everything, as CI's do, keeps them so. Content, modes, owners, times,
    /// user.* attributes and hard links are kept; sockets, pipes and devices are left out. The same
    /// caches give the same bytes: a tar compressed by zstd. A cache in use is waited for.
    #[command(after_long_help = "\
Examples:
  boxwright cache export caches.tar.zst
  boxwright cache export npm.tar.zst --mount npm")]
    Export(ExportArgs),
    /// Take caches from a file that `cache export` wrote
    ///
    /// Each takes the place of the one of its name as a whole, when all of the file was found
    /// right; other caches stay as they are. Owners become those of the sandbox that is used here.
    /// Files lose setuid and setgid.
    #[command(after_long_help = "\
Examples:
  boxwright cache import caches.tar.zst
  boxwright cache import caches.tar.zst --max-size 200GiB")]
    Import(ImportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) how: CarryArgs,
    /// Only the cache of this name; may be given several times
    #[arg(long = "mount", value_name = "NAME")]
    pub(crate) mounts: Vec<Name>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    pub(crate) how: CarryArgs,
}

/// What both ways have in common.
#[derive(Debug, Args)]
pub(crate) struct CarryArgs {
    /// The file
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The most that all files of the caches may have in all
    #[arg(long, value_name = "SIZE", default_value = "64GiB")]
    pub(crate) max_size: ByteSize,
    /// Whose owners files have, as `build --sandbox`: a, b or c; by default the best that works
    #[arg(long, value_name = "TIER")]
    pub(crate) sandbox: Option<Letter>,
}
