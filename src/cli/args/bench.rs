//! Arguments of `boxwright bench`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use boxwright::spec::{Compression, Name};

use crate::cli::args::Override;

/// Measure how well a spec caches
///
/// What the build reads is copied to a scratch folder, and built there: without a store, with
/// nothing changed, after one small file, a byte of the largest file and the dependency file have
/// changed. Each build is a process of its own with a store of its own; your files and your store
/// stay as they are.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  boxwright bench                                  the spec in this folder
  boxwright bench services/auth --against buildah,umoci
  boxwright bench --runs 5 --html caching.html     a page with charts")]
pub(crate) struct BenchArgs {
    /// The spec, or the folder of a boxwright.yaml
    #[arg(value_name = "SPEC", default_value = ".", value_hint = ValueHint::AnyPath)]
    pub(crate) spec: PathBuf,
    /// The stage to build; by default the one that no other uses
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<Name>,
    /// The profile of the spec to build: its values go before those of the spec
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<Name>,
    /// Set an argument of the spec; without =VALUE it is taken from the environment
    #[arg(long = "arg", value_name = "NAME[=VALUE]")]
    pub(crate) args: Vec<Override>,
    /// How layers are compressed: gzip[:1-12], zstd[:1-22] or none
    #[arg(long, value_name = "CODEC[:LEVEL]")]
    pub(crate) compression: Option<Compression>,
    /// How often each build is run
    #[arg(long, value_name = "N", default_value = "3")]
    pub(crate) runs: NonZeroUsize,
    /// Do the same with other tools: buildah, podman, docker, umoci
    #[arg(
        long,
        value_name = "TOOL",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub(crate) against: Vec<Peer>,
    /// Where the scratch folder is made: on the disk that is to be measured
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) scratch: Option<PathBuf>,
    /// Print the numbers as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a page with charts
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) html: Option<PathBuf>,
}

/// A tool that builds the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    Buildah,
    Podman,
    Docker,
    Umoci,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Peer::Buildah => "buildah",
            Peer::Podman => "podman",
            Peer::Docker => "docker",
            Peer::Umoci => "umoci",
        })
    }
}
