//! `remove`: paths of the image are gone, with all that is below them.

use crate::spec::Remove;
use crate::steps::error::StepError;
use crate::steps::scene::Scene;
use crate::steps::wildcard;
use crate::tree::{Change, Changeset, Entry, LayerPath};

pub(crate) fn remove(step: &Remove, scene: &Scene<'_>) -> Result<Changeset, StepError> {
    let mut changes = Changeset::new();
    for path in &step.paths {
        let written = path.under(scene.workdir);
        let found = wildcard::find(scene.tree, written.as_str().as_bytes());
        if found.is_empty() && !step.optional {
            return Err(StepError::new(
                path.span,
                format!("nothing to remove at {:?}", path.as_str()),
            )
            .help("if it may be missing, say so: `optional: true`"));
        }
        for found in found {
            if found.real.is_root() {
                return Err(StepError::new(path.span, "the root cannot be removed")
                    .help("name what is in it: /*"));
            }
            if is_gone(&changes, &found.real) {
                continue;
            }
            // The directories on the way stay what they are, and say so (see the room's header).
            for ancestor in found
                .real
                .ancestors()
                .filter(|ancestor| !ancestor.is_root())
            {
                match scene.tree.entry(&ancestor) {
                    Some(entry) if entry.is_directory() && changes.change(&ancestor).is_none() => {
                        changes.put(ancestor, Entry::clone(entry));
                    }
                    _ => {}
                }
            }
            changes.remove(found.real);
        }
    }
    Ok(changes)
}

/// Whether a directory above `path` is removed already. A whiteout below another would have
/// loaders make the removed directory anew, as the parent of the whiteout.
fn is_gone(changes: &Changeset, path: &LayerPath) -> bool {
    path.ancestors()
        .any(|above| matches!(changes.change(&above), Some(Change::Whiteout)))
}
