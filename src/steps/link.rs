//! `link`: a symbolic link, or a further name of a file.

use crate::spec::{Link, Span};
use crate::steps::edit::Edit;
use crate::steps::error::StepError;
use crate::steps::scene::{Scene, at_root, complain};
use crate::tree::{Changeset, Entry, File, Follow, Inode, LayerPath, Node};

pub(crate) fn link(step: &Link, scene: &Scene<'_>) -> Result<Changeset, StepError> {
    let span = step.path.span;
    let written = step.path.under(scene.workdir);
    let resolved = scene
        .tree
        .resolve(&LayerPath::root(), at_root(&written), Follow::Parents)
        .map_err(complain(span))?;
    let mut edit = Edit::new(scene.tree, None);
    if step.hard {
        let (path, entry) = hard(step, scene)?;
        edit.put(path, entry.clone(), step.target.span)?;
        replaceable(scene, &resolved.path, &entry, span)?;
        edit.put(resolved.path, entry, span)?;
    } else {
        let entry = Entry::symlink(step.target.value.as_bytes());
        replaceable(scene, &resolved.path, &entry, span)?;
        edit.put(resolved.path, entry, span)?;
    }
    Ok(edit.finish())
}

/// The file that gets another name. It is put again beside it, for a hard link in a layer can only
/// name a file of the same layer.
fn hard(step: &Link, scene: &Scene<'_>) -> Result<(LayerPath, Entry), StepError> {
    let span = step.target.span;
    let directory = LayerPath::parse(at_root(scene.workdir)).unwrap_or_default();
    let target = scene
        .tree
        .resolve(&directory, step.target.value.as_bytes(), Follow::Last)
        .map_err(complain(span))?;
    let error = |message| {
        StepError::new(span, message).help("a hard link is a further name of a file of the image")
    };
    let mut entry = scene
        .tree
        .entry(&target.path)
        .cloned()
        .ok_or_else(|| error(format!("{} does not exist", target.path)))?;
    match &mut entry.node {
        Node::File(File { inode, .. }) => {
            *inode = Some(Inode {
                space: scene.space,
                number: 0,
            });
            Ok((target.path, entry))
        }
        _ => Err(error(format!("{} is not a file", target.path))),
    }
}

fn replaceable(
    scene: &Scene<'_>,
    path: &LayerPath,
    entry: &Entry,
    span: Span,
) -> Result<(), StepError> {
    match scene.tree.entry(path) {
        Some(standing) if standing.node != entry.node => {
            Err(StepError::new(span, format!("{path} exists already"))
                .help(format!("take it away first: `remove: {path}`")))
        }
        _ => Ok(()),
    }
}
