//! Compose files: texts → what is built for which service.
//!
//! Comes in: the texts of one or more compose files, the variables they may use, and the names of
//! services. Goes out: for each service with a `build:` what to build, under which names, with
//! which values. The format is somebody else's: keys that say nothing about building are passed
//! over, whatever they hold, and variables are replaced only in what is read, so that a build needs
//! no secret of the run. What would change the image and has no equal here is an error, never
//! left out in silence.
//!
//! As everywhere in this room no file is read and no path looked at: a place of a spec brings along
//! what is wrong if nothing is there.

mod build;
mod dotenv;
mod interpolate;
mod names;
mod pins;
mod reader;
mod services;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::oci::{Platform, Reference};
use crate::spec::compose::reader::Reader;
use crate::spec::compose::tree::{At, Item, merge};
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::source::SourceText;
use crate::spec::value::Name;

pub use dotenv::dotenv;
pub use names::is_project_name;
pub use pins::{PINS_HEADER, Pin, PinPull, pins_text};

/// What reading compose files depends on.
#[derive(Clone, Copy)]
#[expect(
    missing_debug_implementations,
    reason = "what variables stand for is a function"
)]
pub struct ComposeInputs<'a> {
    /// The files; later ones go before earlier ones. At least one.
    pub files: &'a [Arc<SourceText>],
    /// The folder of the first file, as it shall be shown: paths are relative to it.
    pub folder: &'a Path,
    /// The real name of that folder, after which a project is named that has no name.
    pub folder_name: &'a str,
    /// A name for the project that goes before all others.
    pub project: Option<&'a str>,
    /// What variables stand for.
    pub variables: &'a dyn Fn(&str) -> Option<String>,
    /// The services to build; none means all that can be built.
    pub wanted: &'a [String],
}

/// What compose files want to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composition {
    /// The project's name.
    pub project: String,
    /// The images, in the order of the files.
    pub images: Vec<ComposedImage>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// One image that compose files want to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposedImage {
    /// The services that run it, first the one that says how it is built.
    pub services: Vec<String>,
    /// The spec.
    pub spec: SpecPlace,
    /// The names that compose looks for, then those of `tags`.
    pub names: Vec<Reference>,
    /// The stage to build.
    pub target: Option<Name>,
    /// The profile of the spec.
    pub profile: Option<Name>,
    /// Values of arguments.
    pub args: Vec<(String, String)>,
    /// Directories for contexts.
    pub contexts: Vec<(Name, PathBuf)>,
    /// What to build for; empty leaves it to the caller.
    pub platforms: Vec<Platform>,
    /// What commands may read.
    pub secrets: Vec<(Name, SecretPlace)>,
    /// SSH agents that commands may ask; without a socket the caller's.
    pub agents: Vec<(Name, Option<PathBuf>)>,
    /// Whether results of earlier builds must not be used.
    pub no_cache: bool,
}

/// Where a spec is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecPlace {
    /// The spec, or the folder of a `boxwright.yaml`.
    pub path: PathBuf,
    /// What is wrong if it is not there.
    pub missing: Diagnostic,
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// In a file.
    File(PathBuf),
    /// In a variable.
    Variable(String),
}

/// Reads compose files.
///
/// # Errors
/// All that is wrong with what concerns building.
pub fn compose(inputs: &ComposeInputs<'_>) -> Result<Composition, Diagnostics> {
    let root = merged(inputs)?;
    let mut reader = Reader::new(inputs);
    let project = reader.project(&root);
    reader.know_project(project.clone());
    let images = reader.images(&root);
    let (notes, images) = reader.finish(images)?;
    Ok(Composition {
        project: project.unwrap_or_default(),
        images,
        notes,
    })
}

/// All files as one.
fn merged(inputs: &ComposeInputs<'_>) -> Result<Item, Diagnostics> {
    let mut all: Option<Item> = None;
    let mut problems = Diagnostics::new();
    for (file, source) in inputs.files.iter().enumerate() {
        match tree::read(source, file) {
            Ok(None) => {}
            Ok(Some(item)) if item.fields().is_none() => problems.push(
                Diagnostic::new(source, item.place.span, "a compose file is a map")
                    .help("begin with `services:`"),
            ),
            Ok(Some(item)) => {
                all = Some(match all {
                    Some(earlier) => merge(earlier, item, At::Top),
                    None => item,
                });
            }
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() && all.is_none() {
        let first = inputs.files.first();
        problems.extend(first.map(|source| {
            Diagnostic::about(source, "the compose file is empty")
                .help("begin with:\nservices:\n  app:\n    build: .")
        }));
    }
    let all = problems.finish(all)?;
    Ok(all.expect("one of the files is not empty").settled())
}

#[cfg(test)]
mod tests;
