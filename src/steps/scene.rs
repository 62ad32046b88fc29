//! What a step sees, and the one way in.

use crate::spec::{AbsolutePath, Action, Args, Span};
use crate::steps::error::StepError;
use crate::steps::{add, copy, link, mkdir, remove, write};
use crate::tree::{Accounts, Changeset, Content, LayerPath, Tree, TreeError};

/// What a step takes files from: it decides whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A directory of the machine: what is copied belongs to root.
    Context,
    /// The tree of a stage or image: owners stay.
    Tree,
}

/// Reads the bytes of a small file; the error is one line.
pub type ReadContent<'a> = dyn Fn(&Content) -> Result<Vec<u8>, String> + 'a;

/// What a step sees.
#[expect(missing_debug_implementations, reason = "a reader cannot be shown")]
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The stage's tree so far.
    pub tree: &'a Tree,
    /// The working directory in force.
    pub workdir: &'a AbsolutePath,
    /// The users and groups of the stage's tree.
    pub accounts: &'a Accounts,
    /// What the step takes files from.
    pub source: Option<(&'a Tree, SourceKind)>,
    /// A number that no other step of the image has: hard links never reach across steps.
    pub space: u64,
    /// Arguments, for templates.
    pub args: &'a Args,
    /// Reads small files.
    pub read: &'a ReadContent<'a>,
}

/// The longest file that a step looks into, in bytes. The largest account files and templates are
/// far smaller, and an image from outside must not fill the memory.
const MOST_READ: u64 = 4 << 20;

/// Reads a small file whole.
pub(crate) fn read_small(read: &ReadContent<'_>, content: &Content) -> Result<Vec<u8>, String> {
    match content.size() {
        0..=MOST_READ => read(content),
        size => Err(format!(
            "it has {size} bytes, and at most {MOST_READ} are read into memory"
        )),
    }
}

impl<'a> Scene<'a> {
    /// The tree that the step takes files from.
    pub(crate) fn source(&self, span: Span) -> Result<(&'a Tree, SourceKind), StepError> {
        self.source
            .ok_or_else(|| StepError::new(span, "this step has nothing to take files from"))
    }
}

/// What the step changes.
///
/// # Errors
/// What is wrong with the step now that its trees are known. A `run` needs a machine and is
/// not done here; the file of an `add` must be in the scene's source.
pub fn apply(action: &Action, scene: &Scene<'_>) -> Result<Changeset, StepError> {
    match action {
        Action::Copy(step) => copy::copy(step, scene),
        Action::Write(step) => write::write(step, scene),
        Action::Mkdir(step) => mkdir::mkdir(step, scene),
        Action::Link(step) => link::link(step, scene),
        Action::Remove(step) => remove::remove(step, scene),
        Action::Add(step) => add::add(step, scene),
        Action::Run(step) => Err(StepError::new(
            step.command.span,
            "a command is not a matter of trees alone",
        )),
    }
}

/// A path of the image as the spec has it, from the root.
pub(crate) fn at_root(path: &AbsolutePath) -> &[u8] {
    path.as_str().as_bytes()
}

/// A tree's complaint, told of a place in the spec.
pub(crate) fn complain(span: Span) -> impl Fn(TreeError) -> StepError {
    move |error| {
        let help = match &error {
            TreeError::NotADirectory(path) => {
                format!("remove {path} first, or choose another path")
            }
            TreeError::Loop(_) | TreeError::BadTarget(_) => {
                "choose a path that does not lead over this link".to_owned()
            }
        };
        StepError::new(span, error.to_string()).help(help)
    }
}

/// A path longer than Linux allows is found out here, where two paths are joined.
pub(crate) fn check_length(path: &LayerPath, span: Span) -> Result<(), StepError> {
    match path.as_bytes().len() > crate::tree::MAX_PATH {
        true => Err(StepError::new(
            span,
            "a path becomes longer than the 4095 bytes that Linux allows",
        )
        .help("copy to a shorter path, or exclude what lies so deep")),
        false => Ok(()),
    }
}
