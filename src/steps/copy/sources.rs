//! What a step copies: its sources, found in the source tree.

use crate::spec::{ContextPath, Copy, Spanned};
use crate::steps::error::StepError;
use crate::steps::scene::SourceKind;
use crate::steps::wildcard::{self, Found};
use crate::tree::Tree;

/// One path to copy, and the text that named it.
pub(crate) struct Source<'a> {
    pub(crate) pattern: &'a Spanned<ContextPath>,
    pub(crate) found: Found,
}

/// All sources of a step, in the order of the spec and then of their paths.
///
/// # Errors
/// A text that leads to nothing.
pub(crate) fn find<'a>(
    step: &'a Copy,
    tree: &Tree,
    kind: SourceKind,
) -> Result<Vec<Source<'a>>, StepError> {
    let mut sources = Vec::new();
    for pattern in &step.sources {
        let found = wildcard::find(tree, pattern.as_str().as_bytes());
        if found.is_empty() {
            return Err(missing(tree, kind, pattern));
        }
        sources.extend(found.into_iter().map(|found| Source { pattern, found }));
    }
    Ok(sources)
}

fn missing(tree: &Tree, kind: SourceKind, pattern: &Spanned<ContextPath>) -> StepError {
    let text = pattern.as_str();
    let message = match wildcard::is_pattern(text.as_bytes()) {
        true => format!("nothing matches {text:?}"),
        false => format!("{text:?} does not exist"),
    };
    // The nearest name where the path ends, as far as it exists.
    let path = text.trim_end_matches('/');
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let directory = wildcard::find(tree, directory.as_bytes());
    let siblings: Vec<String> = directory
        .iter()
        .flat_map(|directory| tree.children(&directory.real))
        .filter_map(|(path, _)| Some(String::from_utf8_lossy(path.name()?).into_owned()))
        .collect();
    StepError::new(pattern.span, message)
        .did_you_mean(name, siblings.iter().map(String::as_str))
        .help(match kind {
            SourceKind::Context => {
                "paths are relative to the context; .dockerignore may exclude it"
            }
            SourceKind::Tree => "paths are those of the stage or image it is copied from",
        })
}
