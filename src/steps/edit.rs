//! Puts entries into a changeset, with all directories that lead to them.

use crate::spec::Span;
use crate::steps::error::StepError;
use crate::steps::scene::check_length;
use crate::tree::{Change, Changeset, Entry, LayerPath, Tree};

/// A changeset in the making, over the tree that it will change.
pub(crate) struct Edit<'a> {
    tree: &'a Tree,
    changes: Changes,
    /// Whose the directories are that have to be made.
    owner: (u32, u32),
    /// The directory that was written to last.
    last: Option<KnownDirectory>,
}

/// A directory that is in the changeset, with all that lead to it.
struct KnownDirectory {
    path: LayerPath,
    /// Whether the tree has it, too, and with it entries that could be in the way.
    is_in_tree: bool,
}

/// What is put, in one of two forms. One directory copied to one place comes in the order of
/// paths, and then a list is many times faster than a map.
enum Changes {
    Ordered(Vec<(LayerPath, Change)>),
    Any(Changeset),
}

impl Changes {
    fn entry(&self, path: &LayerPath) -> Option<&Entry> {
        match self {
            Changes::Ordered(list) => match list.last() {
                Some((last, _)) if path > last => None,
                _ => list
                    .binary_search_by(|(standing, _)| standing.cmp(path))
                    .ok()
                    .and_then(|at| list[at].1.entry()),
            },
            Changes::Any(changes) => changes.entry(path),
        }
    }

    fn put(&mut self, path: LayerPath, entry: Entry) {
        match self {
            Changes::Ordered(list) if list.last().is_none_or(|(last, _)| path > *last) => {
                list.push((path, Change::Put(entry)));
            }
            Changes::Ordered(list) => {
                let mut changes: Changeset = std::mem::take(list).into_iter().collect();
                changes.put(path, entry);
                *self = Changes::Any(changes);
            }
            Changes::Any(changes) => changes.put(path, entry),
        }
    }
}

impl<'a> Edit<'a> {
    pub(crate) fn new(tree: &'a Tree, owner: Option<(u32, u32)>) -> Edit<'a> {
        Edit {
            tree,
            changes: Changes::Ordered(Vec::new()),
            owner: owner.unwrap_or((0, 0)),
            last: None,
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
        let clashes = |standing: &Entry| standing.is_directory() != entry.is_directory();
        let in_tree = match &self.last {
            Some(last) if !last.is_in_tree && !path.is_root() => None,
            _ => self.tree.entry(&path),
        };
        let standing = self.changes.entry(&path).or(in_tree);
        if standing.is_some_and(clashes) {
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
        // What is in the changeset has brought its own parents.
        if path.is_root() || self.changes.entry(path).is_some_and(Entry::is_directory) {
            return Ok(());
        }
        self.parents(path, span)?;
        let entry = match self.entry(path) {
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
        match self.changes {
            Changes::Ordered(list) => list.into_iter().collect(),
            Changes::Any(changes) => changes,
        }
    }

    /// Brings the directories that lead to `path` into the changeset. Entries come directory by
    /// directory, so it is mostly the same one as before.
    fn parents(&mut self, path: &LayerPath, span: Span) -> Result<(), StepError> {
        let is_last = |last: &KnownDirectory| path.is_directly_in(&last.path);
        if self.last.as_ref().is_some_and(is_last) {
            return Ok(());
        }
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        self.directory(&parent, span)?;
        self.last = Some(KnownDirectory {
            is_in_tree: self.tree.entry(&parent).is_some(),
            path: parent,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_puts_makes_no_difference() {
        let path = |text: &str| LayerPath::parse(text.as_bytes()).unwrap();
        let mut tree = Tree::new();
        tree.insert(path("a"), Entry::directory(0o700));
        let names = ["a/b/c", "a/b/d", "a/e", "f", "g/h"];
        let made = |order: &[usize]| {
            let mut edit = Edit::new(&tree, Some((7, 8)));
            for &at in order {
                edit.put(
                    path(names[at]),
                    Entry::file(names[at], 0o644),
                    Span::default(),
                )
                .unwrap();
            }
            edit.finish()
        };
        let ordered = made(&[0, 1, 2, 3, 4]);
        assert_eq!(ordered.len(), 8);
        assert_eq!(ordered.entry(&path("a")), Some(&Entry::directory(0o700)));
        assert_eq!(ordered.entry(&path("a/b")).map(|entry| entry.gid), Some(8));
        for order in [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
            assert_eq!(made(&order), ordered);
        }
        assert_eq!(made(&[1, 0, 1, 2, 3, 4]), ordered);
    }
}
