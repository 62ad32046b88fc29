//! `mkdir`, and the working directory that a stage promises.

use crate::spec::{AbsolutePath, Mkdir, Span};
use crate::steps::edit::Edit;
use crate::steps::error::StepError;
use crate::steps::owner;
use crate::steps::scene::{Scene, at_root, complain};
use crate::tree::{Changeset, Entry, Follow, LayerPath, ModeSubject, Tree};

pub(crate) fn mkdir(step: &Mkdir, scene: &Scene<'_>) -> Result<Changeset, StepError> {
    let owner = owner::optional(step.owner.as_ref(), scene.accounts)?;
    let mut edit = Edit::new(scene.tree, owner);
    for path in &step.paths {
        let written = path.under(scene.workdir);
        let resolved = scene
            .tree
            .resolve(&LayerPath::root(), at_root(&written), Follow::Last)
            .map_err(complain(path.span))?;
        edit.directory(&resolved.path, path.span)?;
        if resolved.path.is_root() {
            if owner.is_some() || step.mode.is_some() {
                return Err(StepError::new(
                    path.span,
                    "the root keeps its owner and mode: no layer can change them everywhere",
                )
                .help("leave owner and mode out, or name a directory below the root"));
            }
            continue;
        }
        // An existing directory changes only where the step says so.
        let mut entry = edit
            .entry(&resolved.path)
            .cloned()
            .unwrap_or_else(|| Entry::directory(0o755));
        if let Some((uid, gid)) = owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if let Some(mode) = &step.mode {
            let from = if resolved.exists { entry.mode } else { 0o755 };
            entry.mode = mode.apply(from, ModeSubject::Directory);
        }
        edit.put(resolved.path, entry, path.span)?;
    }
    Ok(edit.finish())
}

/// Makes the working directory of a stage if it is missing, root's with mode 0755 as `WORKDIR`
/// does. Nothing changes if it is there.
///
/// # Errors
/// Something that is no directory stands there, or on the way.
pub fn make_workdir(tree: &Tree, path: &AbsolutePath, span: Span) -> Result<Changeset, StepError> {
    let resolved = tree
        .resolve(&LayerPath::root(), at_root(path), Follow::Last)
        .map_err(complain(span))?;
    let mut edit = Edit::new(tree, None);
    match tree.entry(&resolved.path).is_some_and(Entry::is_directory) {
        true => Ok(Changeset::new()),
        false => {
            edit.directory(&resolved.path, span)?;
            Ok(edit.finish())
        }
    }
}
