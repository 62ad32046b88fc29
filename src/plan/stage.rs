//! Stages as they are planned: every name is bound to what it means.

use std::path::{Path, PathBuf};

use crate::oci::Digest;
use crate::plan::title::printable;
use crate::spec::{
    AbsolutePath, ContextPath, HttpUrl, ImagePath, Spanned, Stage, Step, ValueError,
};
use crate::tree::LayerPath;

/// A stage of the plan, by its place in [`crate::plan::Plan::stages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub usize);

/// A context of the plan, by its place in [`crate::plan::Plan::contexts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextId(pub usize);

/// An image of the plan, by its place in [`crate::plan::Plan::images`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(pub usize);

/// A file of the web, by its place in [`crate::plan::Plan::files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub usize);

/// What a stage starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageBase {
    /// Nothing.
    Scratch,
    /// Another stage.
    Stage(StageId),
    /// An image.
    Image(ImageId),
}

/// Where a step takes files from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A directory of the machine.
    Context(ContextId),
    /// The tree of another stage.
    Stage(StageId),
    /// The tree of an image.
    Image(ImageId),
    /// A file of the web.
    File(FileId),
}

/// A file of the web.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Where it is fetched from.
    pub url: Spanned<HttpUrl>,
    /// What its bytes must have. If the lock says it, it stands at the URL.
    pub digest: Spanned<Digest>,
    /// Who says so.
    pub known_by: KnownBy,
    /// Whether what it holds is wanted, and not itself.
    pub unpack: bool,
}

/// Who says which bytes a file of the web must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KnownBy {
    /// The spec.
    Spec,
    /// The lock alone.
    Lock,
}

/// A directory of the machine, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedContext {
    /// `context`, or the name of a named context; behind it the file that has it, if another does.
    pub name: String,
    /// The directory as the folder of the spec sees it; [`PlannedContext::located`] says where it
    /// lies.
    pub directory: PathBuf,
    /// The spec that has it, relative to the folder of the one that is built, unless it is that.
    pub of: Option<PathBuf>,
    /// Who wrote it, which decides what it is relative to.
    pub given_by: GivenBy,
    /// Whether this is the context that steps without `from` copy from.
    pub is_main: bool,
    /// The paths below which steps copy: the sources up to their first wildcard, sorted. The root
    /// alone if everything may be wanted.
    pub wanted: Vec<LayerPath>,
}

/// Who says where a context lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GivenBy {
    /// The spec: relative to its own folder.
    Spec,
    /// The caller (`--context`): relative to its working directory.
    Caller,
}

/// A stage that the target needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStage {
    /// The stage as written.
    pub stage: Stage,
    /// Its name for people; behind it the file that it is of, if that is another.
    pub title: String,
    /// What it starts from.
    pub base: StageBase,
    /// The working directory that the base brings; `None` if the config of an image says it, which
    /// nobody has read yet.
    pub base_workdir: Option<AbsolutePath>,
    /// The stages that must be there before it, in order.
    pub depends_on: Vec<StageId>,
    /// Its steps, grouped as they become layers.
    pub layers: Vec<PlannedLayer>,
}

/// The steps that become one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedLayer {
    /// What the layer does, in one line: for people, and for the image's history.
    pub title: String,
    /// The steps. At least one.
    pub steps: Vec<PlannedStep>,
}

/// A step with its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// Its number in the stage, from 1.
    pub number: usize,
    /// The step in one line.
    pub title: String,
    /// The step as written.
    pub step: Step,
    /// Where it takes files from, if it takes any.
    pub source: Option<Source>,
    /// What its bind mounts take files from, in their order.
    pub binds: Vec<Source>,
}

impl PlannedContext {
    /// The spec that has it, given the file of the one that is built: an ignore file may lie beside.
    pub fn spec_file(&self, built: &Path) -> PathBuf {
        match &self.of {
            Some(path) => built.parent().unwrap_or(Path::new("")).join(path),
            None => built.to_owned(),
        }
    }

    /// The directory for the file system, given the folder that holds the spec.
    pub fn located(&self, spec_folder: &Path) -> PathBuf {
        match self.given_by {
            GivenBy::Spec => spec_folder.join(&self.directory),
            GivenBy::Caller => self.directory.clone(),
        }
    }
}

impl PlannedStage {
    /// The name of the stage, which no other stage of the plan has.
    pub fn name(&self) -> &str {
        &self.title
    }

    /// The working directory of the steps: the stage's own, else the one of its base, as in a
    /// Dockerfile. `of_base` is what the config of the base says, once it is known; empty means
    /// nothing, and a relative one counts from the root, as runtimes have it.
    ///
    /// # Errors
    /// The base's text is needed and is no path of an image.
    pub fn workdir(&self, of_base: Option<&str>) -> Result<AbsolutePath, ValueError> {
        let root = AbsolutePath::default();
        match (self.known_workdir(), of_base) {
            (Some(known), _) => Ok(known.clone()),
            (None, None | Some("")) => Ok(root),
            (None, Some(text)) => Ok(text.parse::<ImagePath>()?.under(&root)),
        }
    }

    /// The same, if the spec alone tells.
    pub(crate) fn known_workdir(&self) -> Option<&AbsolutePath> {
        let own = self.stage.workdir.as_ref();
        let own = own.or(self.stage.config.workdir.as_ref());
        own.map_or(self.base_workdir.as_ref(), |path| Some(&path.value))
    }

    /// What a stage that is built from this one begins with, if the spec alone tells: the
    /// working directory of the image that this stage would be.
    pub(crate) fn final_workdir(&self) -> Option<&AbsolutePath> {
        let own = self.stage.config.workdir.as_ref();
        let own = own.or(self.stage.workdir.as_ref());
        own.map_or(self.base_workdir.as_ref(), |path| Some(&path.value))
    }

    /// The directories that must be there before the first step, which `workdir` promises.
    pub fn workdirs(&self) -> impl Iterator<Item = &AbsolutePath> {
        let both = [
            self.stage.workdir.as_ref(),
            self.stage.config.workdir.as_ref(),
        ];
        both.into_iter().flatten().map(|path| &path.value)
    }

    /// What is set up before the first step, in one line; `None` if nothing is.
    pub fn setup_title(&self) -> Option<String> {
        let names = |kind: &str, names: Vec<&str>| {
            let plural = if names.len() == 1 { "" } else { "s" };
            (!names.is_empty()).then(|| format!("{kind}{plural} {}", names.join(", ")))
        };
        let users = names(
            "user",
            self.stage
                .users
                .iter()
                .map(|user| user.name.as_str())
                .collect(),
        );
        let groups = names(
            "group",
            self.stage
                .groups
                .iter()
                .map(|group| group.name.as_str())
                .collect(),
        );
        let mut workdirs: Vec<&str> = self
            .workdirs()
            .map(AbsolutePath::as_str)
            .filter(|path| *path != "/")
            .collect();
        workdirs.dedup();
        let workdirs = names("workdir", workdirs);
        let parts: Vec<String> = [users, groups, workdirs].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| printable(&parts.join("; ")))
    }

    /// All steps in order.
    pub fn steps(&self) -> impl Iterator<Item = &PlannedStep> {
        self.layers.iter().flat_map(|layer| &layer.steps)
    }
}

/// The part of a source before its first wildcard, below which everything may be wanted.
pub(crate) fn fixed_part(source: &ContextPath) -> LayerPath {
    let mut fixed = LayerPath::root();
    for name in source.as_str().split('/') {
        let has_wildcard = name.contains(['*', '?', '[', '\\']);
        match fixed.join(name.as_bytes()) {
            Ok(longer) if !has_wildcard => fixed = longer,
            // `..` between names, or a wildcard: what stands before decides what is walked.
            _ => {
                return if name == ".." {
                    LayerPath::root()
                } else {
                    fixed
                };
            }
        }
    }
    fixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_lies_beside_who_named_it() {
        for (given_by, directory, expected) in [
            (GivenBy::Spec, "ctx", "specs/ctx"),
            (GivenBy::Spec, "/ctx", "/ctx"),
            (GivenBy::Caller, "ctx", "ctx"),
        ] {
            let context = PlannedContext {
                name: "shared".to_owned(),
                directory: directory.into(),
                of: None,
                given_by,
                is_main: false,
                wanted: Vec::new(),
            };
            assert_eq!(context.located(Path::new("specs")), Path::new(expected));
        }
    }

    #[test]
    fn what_is_wanted_is_known_up_to_the_first_wildcard() {
        for (source, expected) in [
            (".", "/"),
            ("./", "/"),
            ("src", "/src"),
            ("/src/./lib/", "/src/lib"),
            ("src/*.ts", "/src"),
            ("*/x", "/"),
            ("a/[bc]/d", "/a"),
            ("a/b/../c", "/"),
        ] {
            let source: ContextPath = source.parse().unwrap();
            assert_eq!(
                fixed_part(&source).to_string(),
                expected,
                "{}",
                source.as_str()
            );
        }
    }
}
