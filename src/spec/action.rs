//! Steps: what a stage does, one action each.

use schemars::JsonSchema;

use crate::oci::Digest;
use crate::spec::config::EnvVariable;
use crate::spec::model::Origin;
use crate::spec::path::{AbsolutePath, ContextPath, ImagePath};
use crate::spec::schema::{FlagText, OneOrMany, TextMap, secret_variable};
use crate::spec::source::{Span, Spanned};
use crate::spec::units::ByteSize;
use crate::spec::value::{HttpUrl, Name, Owner};
use crate::tree::ModeChange;

/// One step of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The whole step in the text.
    pub span: Span,
    /// Neighbouring steps with the same name here share one layer; without it a step has its own.
    pub layer: Option<Spanned<Name>>,
    /// What is done.
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Copies files.
    Copy(Copy),
    /// Fetches a file from the web.
    Add(Add),
    /// Writes a file.
    Write(Write),
    /// Makes directories.
    Mkdir(Mkdir),
    /// Makes a link.
    Link(Link),
    /// Removes paths.
    Remove(Remove),
    /// Runs a command.
    Run(Run),
}

/// Copies files and directories, with the semantics of a Dockerfile's `COPY`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Copy {
    /// What is copied; wildcards are allowed. At least one.
    #[schemars(rename = "copy", with = "OneOrMany<ContextPath>")]
    pub sources: Vec<Spanned<ContextPath>>,
    /// A stage, a named context or an image; by default the main context.
    pub from: Option<Spanned<Origin>>,
    /// Where to; by default the working directory.
    pub to: Option<Spanned<ImagePath>>,
    /// The new owner; by default root, or the owner in the source if that is a stage or image.
    pub owner: Option<Spanned<Owner>>,
    /// How modes change; by default they stay.
    pub mode: Option<Spanned<ModeChange>>,
    /// Patterns of what is left out, relative to the source, as in `.dockerignore`.
    #[schemars(with = "Option<OneOrMany<String>>")]
    pub exclude: Vec<Spanned<String>>,
    /// Whether the directories of a source are kept, from its `/./` on if it has one.
    #[schemars(with = "Option<FlagText>")]
    pub parents: bool,
    /// Whether symlinks in the source are replaced by what they point at.
    #[schemars(with = "Option<FlagText>")]
    pub follow: bool,
}

/// Fetches one file from the web.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Add {
    /// Where from.
    #[schemars(rename = "add")]
    pub url: Spanned<HttpUrl>,
    /// The digest that the fetched bytes must have; it may be left to the lock.
    pub checksum: Option<Spanned<Digest>>,
    /// Where to; by default the working directory.
    pub to: Option<Spanned<ImagePath>>,
    /// Whether the file is an archive (a tar, plain or compressed by gzip, xz, bzip2 or zstd, or a
    /// zip) whose contents go into the directory `to`.
    #[schemars(with = "Option<FlagText>")]
    pub unpack: bool,
    /// The owner; by default root, or as in the archive that is unpacked.
    pub owner: Option<Spanned<Owner>>,
    /// How modes change; by default 0644, or as in the archive that is unpacked.
    pub mode: Option<Spanned<ModeChange>>,
}

/// Writes one file.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Write {
    /// The file.
    #[schemars(rename = "write")]
    pub to: Spanned<ImagePath>,
    /// Its bytes.
    #[schemars(skip)]
    pub content: WriteSource,
    /// The owner; by default root.
    pub owner: Option<Spanned<Owner>>,
    /// The mode, as a change of 0644.
    pub mode: Option<Spanned<ModeChange>>,
}

/// The bytes of a written file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteSource {
    /// `text:`, with arguments expanded.
    Text(Spanned<String>),
    /// `template:`, a file whose `${ARG}` are expanded like those of the spec.
    Template {
        /// The file.
        path: Spanned<ContextPath>,
        /// A stage, a named context or an image; by default the main context.
        from: Option<Spanned<Origin>>,
    },
}

/// Makes directories, with their parents.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Mkdir {
    /// The directories. At least one.
    #[schemars(rename = "mkdir", with = "OneOrMany<ImagePath>")]
    pub paths: Vec<Spanned<ImagePath>>,
    /// The owner; by default root.
    pub owner: Option<Spanned<Owner>>,
    /// The mode, as a change of 0755.
    pub mode: Option<Spanned<ModeChange>>,
}

/// Makes a link.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Link {
    /// The new name.
    #[schemars(rename = "link")]
    pub path: Spanned<ImagePath>,
    /// What it points at: for a symlink any text, for a hard link a path in the image.
    pub target: Spanned<String>,
    /// Whether it is a hard link.
    #[schemars(with = "Option<FlagText>")]
    pub hard: bool,
}

/// Removes paths.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Remove {
    /// What is removed; wildcards are allowed. At least one.
    #[schemars(rename = "remove", with = "OneOrMany<ImagePath>")]
    pub paths: Vec<Spanned<ImagePath>>,
    /// Whether it may be missing.
    #[schemars(with = "Option<FlagText>")]
    pub optional: bool,
}

/// Runs a command in the stage's tree.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Run {
    /// The command.
    #[schemars(rename = "run")]
    pub command: Spanned<Command>,
    /// Further environment variables, for this command only.
    #[schemars(with = "Option<TextMap>")]
    pub env: Vec<EnvVariable>,
    /// What is mounted while it runs.
    #[schemars(with = "Option<Vec<Mount>>")]
    pub mounts: Vec<Spanned<Mount>>,
    /// Its network.
    #[schemars(with = "Option<Network>")]
    pub network: Network,
    /// Who runs it; by default the user of what the stage starts from, or root. `config.user` is
    /// about containers of the image, not about its steps.
    pub user: Option<Spanned<Owner>>,
    /// Where it runs; by default the stage's working directory.
    pub workdir: Option<Spanned<AbsolutePath>>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// For `/bin/sh -c`.
    Shell(String),
    /// A program and its arguments. At least one, and the first is not empty.
    Argv(Vec<String>),
}

/// The network of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Network {
    /// No network at all.
    None,
    /// The network of the machine.
    #[default]
    Host,
}

/// What is mounted while a command runs.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(untagged, deny_unknown_fields, transform = secret_variable)]
pub enum Mount {
    /// A directory that outlives the build and is shared by its name.
    Cache {
        /// The name.
        #[schemars(rename = "cache")]
        name: Spanned<Name>,
        /// Where it appears.
        target: Spanned<ImagePath>,
        /// What happens if two commands want it at once.
        #[schemars(with = "Option<Sharing>")]
        sharing: Sharing,
    },
    /// A secret, by its ID. It is never in a layer, a key or a log.
    Secret {
        /// The ID.
        #[schemars(rename = "secret")]
        id: Spanned<Name>,
        /// How the command sees it.
        #[schemars(with = "Option<AbsolutePath>")]
        target: SecretTarget,
        /// Whether the build fails without it.
        #[schemars(with = "Option<FlagText>")]
        required: bool,
    },
    /// Files of a context, stage or image.
    Bind {
        /// What is mounted.
        #[schemars(rename = "bind")]
        source: Spanned<ContextPath>,
        /// A stage, a named context or an image; by default the main context.
        from: Option<Spanned<Origin>>,
        /// Where it appears.
        target: Spanned<ImagePath>,
        /// Whether the command may write there; what it writes is thrown away.
        #[schemars(with = "Option<FlagText>")]
        writable: bool,
    },
    /// A directory in memory.
    Tmpfs {
        /// Where it appears.
        #[schemars(rename = "tmpfs")]
        target: Spanned<ImagePath>,
        /// The most it may hold.
        size: Option<Spanned<ByteSize>>,
    },
    /// The socket of an SSH agent.
    Ssh {
        /// Which agent.
        #[schemars(rename = "ssh")]
        id: Spanned<Name>,
    },
}

/// How a command sees a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretTarget {
    /// As a file; by default `/run/secrets/ID`.
    File(Spanned<AbsolutePath>),
    /// As an environment variable of this name.
    Variable(Spanned<String>),
}

/// What happens if two commands want the same cache at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Sharing {
    /// Both write to it.
    #[default]
    Shared,
    /// The second waits.
    Locked,
    /// The second gets a cache of its own.
    Private,
}

impl Step {
    /// All places where it names a stage, a context or an image.
    pub fn origins(&self) -> Vec<&Spanned<Origin>> {
        match &self.action {
            Action::Run(run) => {
                let mounts = run.mounts.iter();
                let binds = mounts.filter_map(|mount| match &mount.value {
                    Mount::Bind { from, .. } => from.as_ref(),
                    _ => None,
                });
                binds.collect()
            }
            Action::Copy(copy) => copy.from.iter().collect(),
            Action::Write(write) => match &write.content {
                WriteSource::Template { from, .. } => from.iter().collect(),
                WriteSource::Text(_) => Vec::new(),
            },
            _ => Vec::new(),
        }
    }
}

impl Action {
    /// The key that a spec writes this action with.
    pub fn keyword(&self) -> &'static str {
        match self {
            Action::Copy(_) => "copy",
            Action::Add(_) => "add",
            Action::Write(_) => "write",
            Action::Mkdir(_) => "mkdir",
            Action::Link(_) => "link",
            Action::Remove(_) => "remove",
            Action::Run(_) => "run",
        }
    }
}
