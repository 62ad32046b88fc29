//! The model: what a spec says, once it is parsed. Every value is valid by construction.
//!
//! [`BuildSpec`] and [`Stage`] are here, the steps in [`crate::spec::action`], the run-time
//! settings in [`crate::spec::config`]. What only the graph of stages can judge (does a stage of
//! this name exist, which stage is the target) is not judged here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;

use crate::oci::{Platform, Reference};
use crate::spec::action::Step;
use crate::spec::budget::Budget;
use crate::spec::config::Config;
use crate::spec::error::ValueError;
use crate::spec::image_source::ImageSource;
use crate::spec::path::AbsolutePath;
use crate::spec::profile::Profile;
use crate::spec::schema::{BaseKeys, DirectoryText, IdText, one_base};
use crate::spec::source::{SourceText, Spanned};
use crate::spec::value::{AccountName, Compression, Identity, Name, Tag};

/// A whole spec with all arguments expanded.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BuildSpec {
    /// The text that all spans count in.
    #[schemars(skip)]
    pub source: Arc<SourceText>,
    /// The version of the language.
    pub format: Format,
    /// The repository of the image, without tag or digest.
    pub image: Option<Spanned<Reference>>,
    /// The tags that the image is given.
    #[schemars(with = "Option<Vec<Tag>>")]
    pub tags: Vec<Spanned<Tag>>,
    /// The platforms to build for; empty means the host's.
    #[schemars(with = "Option<Vec<Platform>>")]
    pub platforms: Vec<Spanned<Platform>>,
    /// The stage that becomes the image, where the spec names one.
    pub target: Option<Spanned<Name>>,
    /// Arguments with their final values.
    #[schemars(with = "Option<Args>")]
    pub args: Args,
    /// Values for single environments, by name; those of the one that `--profile` names are in
    /// effect, and the others are nowhere.
    #[schemars(rename = "profiles", with = "Option<BTreeMap<Name, Profile>>")]
    pub profile: Option<Profile>,
    /// Directories that steps may copy from.
    #[schemars(flatten)]
    pub contexts: Contexts,
    /// How layers are compressed, where the spec says so.
    pub compression: Option<Spanned<Compression>>,
    /// What `boxwright verify` demands of the image; it changes no digest.
    #[schemars(with = "Option<Budget>")]
    pub budget: Budget,
    /// The stages in the order of the file, which means nothing; behind them those of other files
    /// that they need.
    #[schemars(with = "BTreeMap<Name, Stage>")]
    pub stages: Vec<Stage>,
    /// The other files that those are of.
    #[schemars(skip)]
    pub extended: Vec<ExtendedSpec>,
}

/// A spec of which another one has stages (`extends`), and what names mean in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendedSpec {
    /// Where it lies, relative to the folder of the spec that is built.
    pub path: PathBuf,
    /// Its text.
    pub source: Arc<SourceText>,
    /// Its own arguments with their final values.
    pub args: Args,
    /// Its own contexts, as written: relative to its own folder.
    pub contexts: Contexts,
    /// All its stages, needed or not.
    pub names: Vec<Name>,
}

/// Which file a stage is of: the spec itself or a place in [`BuildSpec::extended`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Home {
    /// The spec itself.
    #[default]
    Own,
    /// Another file.
    Extended(usize),
}

/// The version of the spec language. It pins every behaviour that affects digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `format: 1`.
    V1,
}

/// Arguments by name with their final values: default, profile, override or platform.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Args(BTreeMap<String, String>);

/// The directories that steps may copy from, as written: relative to the spec's own folder.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Contexts {
    /// `context:`, where the spec has it.
    #[schemars(rename = "context", with = "Option<DirectoryText>")]
    pub main: Option<Spanned<PathBuf>>,
    /// `contexts:`, further directories by name.
    #[schemars(rename = "contexts", with = "Option<BTreeMap<Name, DirectoryText>>")]
    pub named: BTreeMap<Name, Spanned<PathBuf>>,
}

/// One stage: a base, accounts, steps and run-time settings.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, transform = one_base)]
pub struct Stage {
    /// The key of the stage.
    #[schemars(skip)]
    pub name: Spanned<Name>,
    /// The file that it is of, where its names, paths and arguments mean something.
    #[schemars(skip)]
    pub home: Home,
    /// What the stage starts from.
    #[schemars(flatten, with = "BaseKeys")]
    pub from: Spanned<Base>,
    /// The working directory of the steps and, unless `config` has another, of the container.
    pub workdir: Option<Spanned<AbsolutePath>>,
    /// Users to be written to `/etc/passwd`, `/etc/shadow` and `/etc/group` before the steps.
    #[schemars(with = "Option<Vec<NewUser>>")]
    pub users: Vec<NewUser>,
    /// Groups to be written to `/etc/group` before the steps.
    #[schemars(with = "Option<Vec<NewGroup>>")]
    pub groups: Vec<NewGroup>,
    /// What is done, in order.
    #[schemars(with = "Option<Vec<Step>>")]
    pub steps: Vec<Step>,
    /// What the image says to the runtime.
    #[schemars(with = "Option<Config>")]
    pub config: Config,
    /// Rules of the final stage that this stage may break.
    #[schemars(with = "Option<Vec<Allow>>")]
    pub allow: Vec<Spanned<Allow>>,
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Base {
    /// `scratch`: nothing at all.
    Scratch,
    /// A bare word: a stage of this spec.
    Name(Name),
    /// An image of the world outside.
    Image(ImageSource),
    /// `extends`: a stage of another file.
    Stage(Home, Name),
}

/// Where a step takes files from, if not from the main context.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A bare word: a stage or a named context.
    Name(Name),
    /// An image of the world outside.
    Image(ImageSource),
}

/// A user to be created.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NewUser {
    /// Login name.
    pub name: Spanned<AccountName>,
    /// User ID.
    #[schemars(with = "IdText")]
    pub uid: Spanned<u32>,
    /// Primary group; by default a group with the user's own name and number.
    #[schemars(with = "Option<IdText>")]
    pub gid: Option<Spanned<u32>>,
    /// Home directory, as written to `/etc/passwd`; it is not created.
    pub home: Option<Spanned<AbsolutePath>>,
    /// Login shell.
    pub shell: Option<Spanned<AbsolutePath>>,
    /// Further groups that the user is a member of.
    #[schemars(with = "Option<Vec<Identity>>")]
    pub groups: Vec<Spanned<Identity>>,
}

/// A group to be created.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NewGroup {
    /// Name of the group.
    pub name: Spanned<AccountName>,
    /// Group ID.
    #[schemars(with = "IdText")]
    pub gid: Spanned<u32>,
}

/// A rule that a stage may break.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Allow {
    /// `root`: the image runs as root.
    Root,
    /// `build-stage`: the final stage is built from a stage that ran commands.
    BuildStage,
    /// A finding of `check`, such as `BW006`.
    Code(String),
}

impl BuildSpec {
    /// The stage of this name.
    pub fn stage(&self, name: &Name) -> Option<&Stage> {
        self.own_stages().find(|stage| stage.name.value == *name)
    }

    /// The stages of the spec itself.
    pub fn own_stages(&self) -> impl Iterator<Item = &Stage> {
        self.stages.iter().filter(|stage| stage.home == Home::Own)
    }

    /// The contexts that steps of a file mean.
    pub fn contexts_of(&self, home: Home) -> &Contexts {
        match home {
            Home::Own => &self.contexts,
            Home::Extended(place) => &self.extended[place].contexts,
        }
    }

    /// The names of all stages of a file.
    pub fn names_of(&self, home: Home) -> Vec<&str> {
        match home {
            Home::Own => self.own_stages().map(|stage| stage.name.as_str()).collect(),
            Home::Extended(place) => self.extended[place]
                .names
                .iter()
                .map(Name::as_str)
                .collect(),
        }
    }

    /// A path of a file as the folder of the spec itself sees it.
    pub fn located(&self, home: Home, path: &Path) -> PathBuf {
        match home {
            Home::Own => path.to_owned(),
            // A `.` within says nothing.
            Home::Extended(place) => {
                let path = self.extended[place].folder().join(path);
                path.components().collect()
            }
        }
    }
}

impl ExtendedSpec {
    /// The folder that its paths are relative to, as the folder of the spec that is built sees it.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

impl Args {
    /// Arguments with these values.
    pub fn new(values: BTreeMap<String, String>) -> Args {
        Args(values)
    }

    /// Gives `name` a value.
    pub(crate) fn insert(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// The value of `name`, if it is an argument.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All arguments in the order of their names, the predefined ones among them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Contexts {
    /// The directory that steps without `from` copy from: `.` unless `context:` says otherwise.
    pub fn main_directory(&self) -> &Path {
        self.main
            .as_ref()
            .map_or(Path::new("."), |main| main.value.as_path())
    }

    /// The directory of a named context.
    pub fn directory(&self, name: &Name) -> Option<&Spanned<PathBuf>> {
        self.named.get(name)
    }
}

impl FromStr for Base {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Base, ValueError> {
        if text == "scratch" {
            return Ok(Base::Scratch);
        }
        Ok(match text.parse()? {
            Origin::Name(name) => Base::Name(name),
            Origin::Image(image) => Base::Image(image),
        })
    }
}

/// A bare word, without `/`, `:` or `@`, is a name of this spec and never an image.
impl FromStr for Origin {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Origin, ValueError> {
        if text == "scratch" {
            return Err(
                ValueError::new("`scratch` is empty: there is nothing to take from it")
                    .help("name a stage, a context or an image"),
            );
        }
        if text.contains(['/', ':', '@']) {
            return text.parse().map(Origin::Image);
        }
        text.parse().map(Origin::Name).map_err(|_| {
            ValueError::new(format!("{text:?} names no stage, context or image"))
                .help("name a stage or a context, or write an image with its registry, such as docker.io/library/alpine:3.20")
        })
    }
}

impl FromStr for Allow {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Allow, ValueError> {
        let digits = text.strip_prefix("BW");
        match text {
            "root" => Ok(Allow::Root),
            "build-stage" => Ok(Allow::BuildStage),
            _ if digits.is_some_and(|code| {
                code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit())
            }) =>
            {
                Ok(Allow::Code(text.to_owned()))
            }
            _ => Err(ValueError::new(format!("{text:?} is nothing to allow"))
                .help("write root, build-stage or the code of a finding, such as BW006")),
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Base::Scratch => f.write_str("scratch"),
            Base::Name(name) | Base::Stage(_, name) => name.fmt(f),
            Base::Image(image) => image.fmt(f),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Name(name) => name.fmt(f),
            Origin::Image(image) => image.fmt(f),
        }
    }
}
