//! Puts entries into a changeset, with all directories that lead to them.

use std::collections::BTreeSet;

use crate::spec::Span;
use crate::steps::error::StepError;
use crate::steps::scene::check_length;
use crate::tree::{Changeset, Entry, LayerPath, Tree};

/// A changeset in the making, over the tree that it will change.
pub(crate) struct Edit<'a> {
    tree: &'a Tree,
    changes: Changeset,
    /// Whose the directories are that have to be made.
    owner: (u32, u32),
    /// Directories whose parents are in the changeset.
    known: BTreeSet<LayerPath>,
}

impl<'a> Edit<'a> {
    pub(crate) fn new(tree: &'a Tree, owner: Option<(u32, u32)>) -> Edit<'a> {
        Edit {
            tree,
            changes: Changeset::new(),
            owner: owner.unwrap_or((0, 0)),
            known: BTreeSet::new(),
        }
    }

    /// What stands at `path` now: in the changeset, or else in the tree.
    pub(crate) fn entry(&self, path: &LayerPath) -> Option<&Entry> {
        self.changes.entry(path).or_else(|| self.tree.entry(path))
    }

    /// Puts an entry. A directory and anything else never take each other's place in silence.
    pub(crate) fn put(
        &mut self,
        path: LayerPath,
        entry: Entry,
        span: Span,
    ) -> Result<(), StepError> {
        check_length(&path, span)?;
        self.parents(&path, span)?;
        let clashes =
            |standing: &Entry| standing.is_directory() != entry.is_directory();
        if self.entry(&path).is_some_and(clashes) {
            let (old, new) = match entry.is_directory() {
                true => ("file or link", "directory"),
                false => ("directory", "file or link"),
            };
            return Err(StepError::new(
                span,
                format!("cannot replace the {old} {path} with a {new}"),
            )
            .help(format!(
                "choose another path, or take it away first: `remove: {path}`"
            )));
        }
        self.changes.put(path, entry);
        Ok(())
    }

    /// Makes a directory unless one stands there, and brings it into the changeset either way.
    pub(crate) fn directory(&mut self, path: &LayerPath, span: Span) -> Result<(), StepError> {
        self.parents(path, span)?;
        if path.is_root() || self.changes.entry(path).is_some_and(Entry::is_directory) {
            return Ok(());
        }
        let entry = match self.tree.entry(path) {
            Some(entry) if entry.is_directory() => entry.clone(),
            Some(_) => {
                return Err(
                    StepError::new(span, format!("{path} is not a directory")).help(format!(
                        "choose another path, or take it away first: `remove: {path}`"
                    )),
                );
            }
            None => Entry {
                uid: self.owner.0,
                gid: self.owner.1,
                ..Entry::directory(0o755)
            },
        };
        check_length(path, span)?;
        self.changes.put(path.clone(), entry);
        Ok(())
    }

    /// The changes.
    pub(crate) fn finish(self) -> Changeset {
        self.changes
    }

    fn parents(&mut self, path: &LayerPath, span: Span) -> Result<(), StepError> {
        let Some(parent) = path.parent().filter(|parent| !self.known.contains(parent)) else {
            return Ok(());
        };
        self.directory(&parent, span)?;
        self.known.insert(parent);
        Ok(())
    }
}
