//! Arguments: what was typed, and nothing else. The doc comments are the help text.
//!
//! What a value means together with others, with the environment and with defaults is decided in
//! `settings`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::styling::{AnsiColor, Style, Styles};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use boxwright::explain::Code;
use boxwright::oci::{DocumentFormat, Platform, Reference};
use boxwright::spec::{ByteSize, Compression, ImageSource, Name, ValueError};

mod bench;
mod caches;
mod commands;
mod compose;
mod index;
mod lock;
mod push;
mod registry;
mod serve;
mod shared_cache;
mod verify;

pub(crate) use bench::{BenchArgs, Peer};
pub(crate) use caches::{CacheArgs, CacheCommand, CarryArgs, ExportArgs, ImportArgs};
pub(crate) use commands::{CommandArgs, SecretSource};
pub(crate) use compose::ComposeArgs;
pub(crate) use index::IndexArgs;
pub(crate) use lock::LockArgs;
pub(crate) use push::PushArgs;
pub(crate) use registry::{LoginArgs, LogoutArgs, NetworkArgs};
pub(crate) use serve::ServeArgs;
pub(crate) use shared_cache::SharedCacheArgs;
pub(crate) use verify::{RequireArg, RunnerArg, SkipArg, VerifyArgs};

const HELP_STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(Style::new());

/// Build container images from a declarative spec: no daemon, no privilege, the same bytes
/// everywhere.
///
/// A spec (boxwright.yaml) says which stages there are and what each takes from where. Boxwright
/// turns it into an OCI image in an archive, a layout or a registry that podman, docker,
/// containerd and skopeo read.
#[derive(Debug, Parser)]
#[command(name = "boxwright", version, styles = HELP_STYLES, max_term_width = 100)]
#[command(disable_help_subcommand = true, subcommand_help_heading = "Commands")]
#[command(after_help = "Run `boxwright COMMAND --help` for the options of a command.")]
#[command(after_long_help = "\
Examples:
  boxwright build                     build ./boxwright.yaml into NAME.tar
  podman load -i NAME.tar             and load it
  boxwright check oci-archive:a.tar   what has no business in an image
  boxwright inspect a.tar             what is in it, and what makes it large

Exit codes:
  0   all went well
  1   the input is wrong: a spec, an image, or an error found by `check`
  2   the command line is wrong
  3   a disk or another program failed
  70  a bug of Boxwright")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    /// When to use colour
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    #[arg(
        help = "When to use colour: auto, always or never",
        help_heading = "Global options"
    )]
    pub(crate) color: ColorArg,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Build(Box<BuildArgs>),
    Lock(Box<LockArgs>),
    Push(PushArgs),
    Index(IndexArgs),
    Check(Box<CheckArgs>),
    Verify(Box<VerifyArgs>),
    Inspect(InspectArgs),
    Serve(ServeArgs),
    Login(LoginArgs),
    Logout(LogoutArgs),
    Bench(Box<BenchArgs>),
    Cache(CacheArgs),
    Doctor(DoctorArgs),
    Schema(SchemaArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Build an image from a spec
///
/// Only the stages that the target needs are touched, and only what changed is done again.
/// Progress and the summary go to standard error; standard output carries what `--print` asks
/// for, and nothing else.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  boxwright build
      Build ./boxwright.yaml into NAME.tar, after the last part of `image:`.
  boxwright build services/auth -t registry.example.com/auth:1.4.0
      Build services/auth/boxwright.yaml and name the image.
  boxwright build -o oci-archive:auth.tar -o oci:layout:1.4.0
      Write an archive and add the image to a layout.
  boxwright build -o docker://registry.example.com/team/auth
      Push the image, under all tags of the spec.
  boxwright build --profile prod
      Build with what `profiles: {prod: …}` of the spec says, into NAME-prod.tar.
  boxwright build --compose compose.yaml
      Build all services of a compose file, an archive each; after `podman load -i` of each
      podman-compose starts them without building.
  boxwright build --arg NODE=22 --target runtime --print digest
      Set an argument, choose the stage, print the manifest's digest.

The environment:
  BOXWRIGHT_STORE     where the store is (see --store)
  SOURCE_DATE_EPOCH   the time of all files, in seconds since 1970; else 0
  BOXWRIGHT_CACHE_KEY the key that caches in registries are sealed with
  REGISTRY_AUTH_FILE  accounts at registries; else those of podman and docker
  BOXWRIGHT_REGISTRIES  a table of registries, as registries.conf; else podman's
  HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR  as everywhere
  NO_COLOR            no colour")]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    #[command(flatten)]
    pub(crate) compose: ComposeArgs,
    #[command(flatten)]
    pub(crate) result: ResultArgs,
    #[command(flatten)]
    pub(crate) how: HowArgs,
    #[command(flatten)]
    pub(crate) commands: CommandArgs,
    #[command(flatten)]
    pub(crate) shared: SharedCacheArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Which spec, and what it is given.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to build")]
pub(crate) struct SpecArgs {
    /// The spec, or the folder of a boxwright.yaml; several are built one after the other
    ///
    /// What they share, layers and results of commands, is made once. An image each goes where -o
    /// says, which must be one layout (oci:DIR) then, or by default into an archive of its own.
    #[arg(value_name = "SPEC", default_value = ".", value_hint = ValueHint::AnyPath, help_heading = None::<&str>)]
    pub(crate) specs: Vec<PathBuf>,
    /// The spec, where its file has another name
    #[arg(short, long, value_name = "FILE", conflicts_with = "specs", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// The stage to build; by default the one that no other uses
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<Name>,
    /// The profile of the spec to build: its values go before those of the spec
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<Name>,
    /// Set an argument of the spec; without =VALUE it is taken from the environment
    #[arg(long = "arg", value_name = "NAME[=VALUE]")]
    pub(crate) args: Vec<Override>,
    /// Use another directory for a named context of the spec
    #[arg(long = "context", value_name = "NAME=DIR")]
    pub(crate) contexts: Vec<ContextOverride>,
    /// What to build for, such as linux/arm64; by default what the spec says, else this machine
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platforms: Vec<Platform>,
}

/// What comes out.
#[derive(Debug, Args)]
#[command(next_help_heading = "What comes out")]
pub(crate) struct ResultArgs {
    /// Where the image goes; may be given several times
    ///
    /// oci-archive:FILE[:REF]     one file that every loader reads
    /// oci:DIR[:REF]              a layout, added to if it exists
    /// docker-archive:FILE[:REF]  as `docker save` writes it
    /// docker://HOST/NAME[:TAG]   a registry; without TAG all tags of the spec
    ///
    /// By default oci-archive:NAME.tar, or NAME-PROFILE.tar.
    #[arg(short, long = "output", value_name = "OUTPUT", value_parser = parse_output, verbatim_doc_comment)]
    pub(crate) outputs: Vec<ImageSource>,
    /// Name the image, instead of `image:` and `tags:` of the spec; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]", value_parser = parse_name)]
    pub(crate) tags: Vec<Reference>,
    /// The media types of the documents: oci or docker
    ///
    /// podman honours a health check only with docker.
    #[arg(long, value_name = "FORMAT", default_value = "oci")]
    pub(crate) format: DocumentFormat,
    /// How layers are compressed: gzip[:1-12], zstd[:1-22] or none
    ///
    /// gzip is what everything loads; docker loads zstd from version 23 on. By default what the
    /// spec says, else gzip.
    #[arg(long, value_name = "CODEC[:LEVEL]")]
    pub(crate) compression: Option<Compression>,
}

/// How the work is done.
#[derive(Debug, Args)]
#[command(next_help_heading = "How")]
pub(crate) struct HowArgs {
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --dry-run: show the plan as JSON on standard output
    #[arg(long, requires = "dry_run")]
    pub(crate) json: bool,
    /// Build twice, the second time under other circumstances, and name what differs
    ///
    /// `boxwright verify` does this, and measures, starts and judges the image.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Take from registries and the web only what the lock beside the spec says, and ask for no tag
    ///
    /// Whatever is not in the lock is an error; an `add` step may leave its checksum to it. Without
    /// this option the lock is not looked at. See `boxwright lock`.
    #[arg(long)]
    pub(crate) locked: bool,
    /// Do every step again, whatever the store has
    #[arg(long)]
    pub(crate) no_cache: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// How many threads work at once; by default one for each processor
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
}

/// What is told.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is told")]
pub(crate) struct ReportArgs {
    /// How progress is shown: auto, plain, json or quiet
    ///
    /// auto is lines that are drawn again on a terminal, and plain elsewhere: one line for each
    /// thing done. json is one object a line. All of it goes to standard error.
    #[arg(
        long,
        value_name = "HOW",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(crate) progress: ProgressArg,
    /// Print to standard output: digest (the manifest's) or json (the whole report)
    #[arg(long, value_name = "WHAT", hide_possible_values = true)]
    pub(crate) print: Option<PrintArg>,
}

#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Where the store is
    ///
    /// By default $BOXWRIGHT_STORE, else boxwright in $XDG_CACHE_HOME or in ~/.cache. Any number
    /// of builds may share it at once; it may be saved and restored between CI jobs.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) store: Option<PathBuf>,
}

/// Find what has no business in an image, and why it may not start
///
/// A spec is built without output and its target checked; an image is checked as it is. Findings
/// have stable codes, which `allow:` of a stage or --allow silences. The exit code is 1 if a
/// finding is an error.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  boxwright check                            the image of ./boxwright.yaml
  boxwright check oci-archive:auth.tar       an image in an archive
  boxwright check auth.tar --allow BW008     all but one kind of finding
  boxwright check --list                     what can be found")]
pub(crate) struct CheckArgs {
    /// A spec, its folder, or an image: oci:DIR[:REF], oci-archive:FILE, docker-archive:FILE
    #[arg(value_name = "SPEC|IMAGE", default_value = ".", value_hint = ValueHint::AnyPath)]
    pub(crate) subject: String,
    /// The stage of the spec to check; by default the one that no other uses
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<Name>,
    /// The profile of the spec to check: its values go before those of the spec
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<Name>,
    /// Set an argument of the spec; without =VALUE it is taken from the environment
    #[arg(long = "arg", value_name = "NAME[=VALUE]")]
    pub(crate) args: Vec<Override>,
    /// Take from registries and the web only what the lock beside the spec says
    #[arg(long)]
    pub(crate) locked: bool,
    /// Pass over findings with this code
    #[arg(long = "allow", value_name = "CODE", value_delimiter = ',')]
    pub(crate) allow: Vec<Code>,
    /// Print the findings as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// List all codes with their meanings and remedies
    #[arg(long, exclusive = true)]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) commands: CommandArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Show what an image holds and what makes it large
///
/// Config, layers with their largest files, bytes that no container sees because a higher layer
/// hides them, and equal files.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  boxwright inspect auth.tar
  boxwright inspect oci:layout:1.4.0 --largest 20
  boxwright inspect auth.tar --json | jq .layers[].size")]
pub(crate) struct InspectArgs {
    /// oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF], or just the path
    #[arg(value_name = "IMAGE", value_hint = ValueHint::AnyPath)]
    pub(crate) image: String,
    /// How many of the largest files to show of each layer
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) largest: usize,
    /// Print everything as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Say which sandboxes for `run` work here
///
/// Each is tried. For one that does not work: what is missing, and the setting that grants it in
/// docker, podman, Kubernetes, GitLab and GitHub.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  boxwright doctor
  boxwright doctor --json
  docker run --rm -v $PWD:/w image /w/boxwright doctor")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) format: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("limit").args(["max_size", "max_age", "trees"]).required(true).multiple(true)))]
pub(crate) struct GcArgs {
    /// The most that may stay, such as 5GB or 512MiB
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_size: Option<ByteSize>,
    /// How long a thing may lie unused, such as 14d or 36h
    #[arg(long, value_name = "TIME")]
    pub(crate) max_age: Option<Age>,
    /// Remove the unpacked stages, too, as one does before CI saves the store
    ///
    /// They are made again when a command needs them. CI would carry them in vain: a copy of one is
    /// never used.
    #[arg(long)]
    pub(crate) trees: bool,
    #[command(flatten)]
    pub(crate) format: JsonArgs,
}

/// Print the JSON Schema of the spec
///
/// With it editors complete a spec and underline what is wrong.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  boxwright schema > boxwright.schema.json
      Then let the first line of the spec be:
      # yaml-language-server: $schema=boxwright.schema.json")]
pub(crate) struct SchemaArgs {}

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  source <(boxwright completions bash)
  boxwright completions zsh > ~/.zfunc/_boxwright
  boxwright completions fish > ~/.config/fish/completions/boxwright.fish")]
pub(crate) struct CompletionsArgs {
    /// bash, elvish, fish, powershell or zsh
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    pub(crate) shell: Shell,
}

/// Print the manual page, or write the pages of all commands
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write boxwright.1, boxwright-build.1 and so on into this directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorArg {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    Auto,
    Plain,
    Json,
    Quiet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrintArg {
    Digest,
    Json,
}

/// `NAME=VALUE`, or `NAME` for the environment's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Override {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

/// `NAME=DIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContextOverride {
    pub(crate) name: Name,
    pub(crate) directory: PathBuf,
}

/// A time span that may be as long as days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Age(pub(crate) std::time::Duration);

impl FromStr for Override {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Override, ValueError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() {
            return Err(ValueError::new("the name is missing").help("write NAME=VALUE"));
        }
        Ok(Override {
            name: name.to_owned(),
            value,
        })
    }
}

impl FromStr for ContextOverride {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<ContextOverride, ValueError> {
        match text.split_once('=') {
            Some((name, directory)) if !directory.is_empty() => Ok(ContextOverride {
                name: name.parse()?,
                directory: directory.into(),
            }),
            _ => Err(ValueError::new("the directory is missing").help("write NAME=DIR")),
        }
    }
}

impl FromStr for Age {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Age, ValueError> {
        const DAY: u64 = 24 * 60 * 60;
        let days = text
            .strip_suffix('d')
            .and_then(|days| days.parse::<u32>().ok());
        match days {
            Some(days) => Ok(Age(std::time::Duration::from_secs(u64::from(days) * DAY))),
            None => boxwright::spec::parse_duration(text).map(Age),
        }
    }
}

fn parse_output(text: &str) -> Result<ImageSource, ValueError> {
    let kinds = "write oci:DIR, oci-archive:FILE, docker-archive:FILE or docker://HOST/NAME";
    if !text.contains(':') {
        return Err(ValueError::new("the kind of output is missing").help(kinds));
    }
    match text.parse()? {
        // A registry is not what someone means who has mistyped a file.
        ImageSource::Registry(_) if !text.starts_with("docker://") => {
            Err(ValueError::new("the kind of output is missing").help(kinds))
        }
        ImageSource::Registry(reference) if reference.digest().is_some() => {
            let message = "what is built has the digest that it has";
            Err(ValueError::new(message).help("write docker://HOST/NAME:TAG"))
        }
        output => Ok(output),
    }
}

fn parse_name(text: &str) -> Result<Reference, ValueError> {
    let reference: Reference = text.parse()?;
    if reference.digest().is_some() {
        let message = "an image cannot be given a digest as its name";
        return Err(ValueError::new(message).help("write NAME:TAG"));
    }
    Ok(reference.with_default_tag())
}

#[cfg(test)]
mod tests;
