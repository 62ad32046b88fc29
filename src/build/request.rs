//! Requests: what to build, with every default decided.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::build::shared_cache::SharedCacheSettings;
use crate::oci::{DocumentFormat, Platform, Reference};
use crate::sandbox::{Circumstances, Letter, Limits, Secret};
use crate::spec::{Compression, ImageSource, Lock, Name, SourceText};
use crate::transport::registry::RegistrySettings;

/// What to build, where from and where to. Relative paths of the request are relative to the
/// caller's working directory, those in the spec to the spec's own folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// The spec's file: what is written in it is relative to its folder.
    pub spec_file: PathBuf,
    /// The spec's text.
    pub source: Arc<SourceText>,
    /// The stage to build; `None` leaves it to the spec.
    pub target: Option<Name>,
    /// The profile of the spec that is in effect; `None` takes the spec as it is.
    pub profile: Option<Name>,
    /// Values of the spec's arguments.
    pub arg_overrides: Vec<(String, String)>,
    /// Directories to use for named contexts.
    pub context_overrides: Vec<(Name, PathBuf)>,
    /// What to build for; empty leaves it to the spec, and after it to the machine.
    pub platforms: Vec<Platform>,
    /// Where the image goes: layouts, archives and registries. Empty means `oci-archive:NAME.tar`, `NAME`
    /// being the last part of the image's repository, or else the name of the spec's folder; with a
    /// profile `NAME-PROFILE.tar`.
    pub outputs: Vec<ImageSource>,
    /// What else the caller writes: no context holds it, as none holds the outputs.
    pub left_out: Vec<PathBuf>,
    /// Files that the request was made from beside the spec: no output may take their place.
    pub inputs: Vec<PathBuf>,
    /// The image's full names; empty leaves them to the spec.
    pub names: Vec<Reference>,
    /// The family of media types.
    pub format: DocumentFormat,
    /// How layers are compressed; `None` leaves it to the spec, and after it to gzip.
    pub compression: Option<Compression>,
    /// The store's directory.
    pub store_root: PathBuf,
    /// Registries: where they are, who we are there, and whether they may be asked.
    pub registries: RegistrySettings,
    /// What alone says what references of registries and URLs are; `None` asks the registries.
    pub lock: Option<Lock>,
    /// Whether results of earlier builds may be used.
    pub cache: CacheUse,
    /// Results of other machines, and ours for them.
    pub shared: SharedCacheSettings,
    /// How many threads may work at once.
    pub jobs: NonZeroUsize,
    /// What commands of stages are given, and what they may.
    pub commands: CommandSettings,
    /// `SOURCE_DATE_EPOCH`: the time that everything we write carries, in seconds since 1970.
    pub epoch: u64,
}

/// What commands are given, and what they may. None of it is in a key but the names of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSettings {
    /// Boxwright itself, which the sandbox starts again; without it no command can run.
    pub program: Option<PathBuf>,
    /// The only tier that is wanted, if one is.
    pub letter: Option<Letter>,
    /// What a command may use.
    pub limits: Limits,
    /// Secrets by their IDs.
    pub secrets: BTreeMap<String, Secret>,
    /// Sockets of SSH agents by their IDs.
    pub agents: BTreeMap<String, PathBuf>,
    /// Variables that commands see and images do not: the machine's proxies.
    pub private_env: Vec<(String, String)>,
    /// The machine's certificate authorities, which commands with a network are offered.
    pub certificates: Option<PathBuf>,
    /// The name of the machine that commands see.
    pub hostname: String,
    /// What else commands may notice of it.
    pub circumstances: Circumstances,
}

impl Default for CommandSettings {
    fn default() -> CommandSettings {
        CommandSettings {
            program: None,
            letter: None,
            limits: Limits::default(),
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
            private_env: Vec::new(),
            certificates: None,
            hostname: "boxwright".to_owned(),
            circumstances: Circumstances::Usual,
        }
    }
}

impl BuildRequest {
    /// The folder that paths of the spec are relative to.
    pub fn folder(&self) -> &Path {
        self.spec_file.parent().unwrap_or(Path::new(""))
    }

    /// Where the image goes: where the request says, else to the default.
    pub fn outputs_or_default(&self, names: &[Reference]) -> Vec<ImageSource> {
        match self.outputs.is_empty() {
            true => vec![self.default_output(names)],
            false => self.outputs.clone(),
        }
    }

    /// Where the image goes if nothing is said: an archive that is named after the repository of
    /// the first of `names`, or else after the spec's folder. Images of several profiles lie side by
    /// side.
    pub fn default_output(&self, names: &[Reference]) -> ImageSource {
        let repository = names
            .first()
            .and_then(|name| name.path().rsplit('/').next())
            .map(str::to_owned);
        let folder = || {
            self.folder()
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let name = repository
            .or_else(folder)
            .unwrap_or_else(|| "image".to_owned());
        let name = match &self.profile {
            Some(profile) => format!("{name}-{profile}"),
            None => name,
        };
        ImageSource::OciArchive {
            file: PathBuf::from(format!("{name}.tar")),
            reference: None,
        }
    }
}

/// Whether results of earlier builds may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CacheUse {
    /// Whatever the store has.
    #[default]
    All,
    /// Nothing but base images: every step is done and every layer made again.
    BasesOnly,
}
