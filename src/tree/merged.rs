//! The merged view of layers: a virtual file tree.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::tree::accounts::Accounts;
use crate::tree::changeset::{Change, Changeset};
use crate::tree::entry::{Content, Entry};
use crate::tree::path::LayerPath;
use crate::tree::resolve::Follow;

/// A file tree: every path below the root with its entry. The root itself is always there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<LayerPath, Entry>,
}

/// Why a changeset or a path does not fit a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Something below a file was named.
    #[error("{0} is not a directory")]
    NotADirectory(LayerPath),
    /// More than 40 symbolic links were followed: Linux's own limit.
    #[error("{0}: too many levels of symbolic links")]
    Loop(LayerPath),
    /// A symbolic link leads to a path that cannot be: too long, or with a NUL byte.
    #[error("{0}: the symbolic link leads to no valid path")]
    BadTarget(LayerPath),
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    /// The empty tree: `scratch`.
    pub fn new() -> Tree {
        Tree {
            entries: BTreeMap::from([(LayerPath::root(), Entry::directory(0o755))]),
        }
    }

    /// The tree of these entries, which come in order, each directory before what is in it.
    pub fn from_sorted(entries: Vec<(LayerPath, Entry)>) -> Tree {
        debug_assert!(entries.is_sorted_by(|one, two| one.0 < two.0));
        let root = (LayerPath::root(), Entry::directory(0o755));
        Tree {
            entries: std::iter::once(root).chain(entries).collect(),
        }
    }

    /// What stands at `path`; symbolic links are not followed.
    pub fn entry(&self, path: &LayerPath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Number of entries, the root among them.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 1
    }

    /// All entries from the root on; a directory comes right before what is in it.
    pub fn iter(&self) -> impl Iterator<Item = (&LayerPath, &Entry)> {
        self.entries.iter()
    }

    /// The entry at `path` and all below it.
    pub fn below<'a>(
        &'a self,
        path: &'a LayerPath,
    ) -> impl Iterator<Item = (&'a LayerPath, &'a Entry)> {
        self.entries
            .range(path..)
            .take_while(move |(candidate, _)| candidate.starts_with(path))
    }

    /// The tree as a changeset that puts all of it onto nothing.
    pub fn as_changes(&self) -> Changeset {
        let entries = self.entries.iter();
        entries
            .map(|(path, entry)| (path.clone(), Change::Put(entry.clone())))
            .collect()
    }

    /// What stands directly in the directory `path`.
    pub fn children<'a>(&'a self, path: &'a LayerPath) -> Children<'a> {
        Children {
            tree: self,
            directory: path,
            next: self.first_after(path),
        }
    }

    /// Adds or replaces one entry, as [`Change::Put`] does, without a look at its parents.
    pub fn insert(&mut self, path: LayerPath, entry: Entry) {
        if !entry.is_directory() && self.entry(&path).is_some_and(Entry::is_directory) {
            self.remove_below(&path);
        }
        self.entries.insert(path, entry);
    }

    /// Does what `changes` says.
    ///
    /// Parents that are symbolic links are followed inside the tree, and missing parents become
    /// directories of root's with mode 0755: both as loaders do.
    ///
    /// # Errors
    /// A parent that is neither, or links that go round in circles.
    pub fn apply(&mut self, changes: &Changeset) -> Result<(), TreeError> {
        let mut parents = KnownParent::default();
        for (path, change) in changes.iter() {
            let path = parents.settle(self, path, change)?;
            match change {
                Change::Put(entry) => self.insert(path, entry.clone()),
                Change::Whiteout => {
                    self.remove_below(&path);
                    if !path.is_root() {
                        self.entries.remove(&path);
                    }
                }
                Change::Opaque(entry) => {
                    self.remove_below(&path);
                    let stands = || {
                        self.entry(&path)
                            .filter(|entry| entry.is_directory())
                            .cloned()
                    };
                    let entry = entry.clone().or_else(stands);
                    self.insert(path, entry.unwrap_or_else(|| Entry::directory(0o755)));
                }
            }
        }
        Ok(())
    }

    /// The users and groups of the tree's `/etc/passwd` and `/etc/group`, as far as those are in
    /// memory; `read` is asked for the bytes of files that are not.
    ///
    /// # Errors
    /// Whatever `read` fails with.
    pub fn accounts<E>(
        &self,
        read: impl Fn(&Content) -> Result<Vec<u8>, E>,
    ) -> Result<Accounts, E> {
        let bytes = |text: &str| {
            let resolved = self
                .resolve(&LayerPath::root(), text.as_bytes(), Follow::Last)
                .ok();
            let file = resolved.and_then(|found| self.entry(&found.path)?.as_file().cloned());
            match file {
                None => Ok(Vec::new()),
                Some(file) => match &file.content {
                    Content::Inline(inline) => Ok(inline.bytes().to_vec()),
                    content => read(content),
                },
            }
        };
        Ok(Accounts::parse(&bytes("etc/passwd")?, &bytes("etc/group")?))
    }

    fn remove_below(&mut self, path: &LayerPath) {
        while let Some(next) = self.first_after(path) {
            if !next.starts_with(path) {
                break;
            }
            let next = next.clone();
            self.entries.remove(&next);
        }
    }

    fn first_after(&self, path: &LayerPath) -> Option<&LayerPath> {
        let after = (Bound::Excluded(path), Bound::Unbounded);
        self.entries
            .range::<LayerPath, _>(after)
            .next()
            .map(|(path, _)| path)
    }
}

/// The entries directly in a directory, in order.
#[derive(Debug)]
pub struct Children<'a> {
    tree: &'a Tree,
    directory: &'a LayerPath,
    next: Option<&'a LayerPath>,
}

impl<'a> Iterator for Children<'a> {
    type Item = (&'a LayerPath, &'a Entry);

    fn next(&mut self) -> Option<Self::Item> {
        let path = self.next.filter(|path| path.starts_with(self.directory))?;
        let entry = self.tree.entry(path)?;
        // What is below this child is skipped: the first path that is not below it comes next.
        let after = (Bound::Excluded(path), Bound::Unbounded);
        self.next = self
            .tree
            .entries
            .range::<LayerPath, _>(after)
            .map(|(path, _)| path)
            .find(|candidate| !candidate.starts_with(path));
        Some((path, entry))
    }
}

/// The parent of the entry before: entries come in order, so most share it.
#[derive(Default)]
struct KnownParent {
    written: Option<LayerPath>,
    real: LayerPath,
}

impl KnownParent {
    /// Where an entry written as `path` really goes. Parents are made where `change` needs them.
    fn settle(
        &mut self,
        tree: &mut Tree,
        path: &LayerPath,
        change: &Change,
    ) -> Result<LayerPath, TreeError> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Ok(LayerPath::root());
        };
        let stands = tree.entry(&self.real).is_some_and(Entry::is_directory);
        if self.written.as_ref() != Some(&parent) || !stands {
            self.real = tree
                .resolve(&LayerPath::root(), parent.as_bytes(), Follow::Last)?
                .path;
            if !matches!(change, Change::Whiteout) {
                make_directories(tree, &self.real)?;
            }
            self.written = Some(parent);
        }
        let name = LayerPath::parse(name).map_err(|_| TreeError::BadTarget(path.clone()))?;
        Ok(self.real.join_path(&name))
    }
}

fn make_directories(tree: &mut Tree, path: &LayerPath) -> Result<(), TreeError> {
    let missing: Vec<LayerPath> = path
        .ancestors()
        .chain([path.clone()])
        .filter(|ancestor| tree.entry(ancestor).is_none())
        .collect();
    if let Some(entry) = tree.entry(path).filter(|entry| !entry.is_directory()) {
        debug_assert!(!entry.is_directory());
        return Err(TreeError::NotADirectory(path.clone()));
    }
    for path in missing {
        tree.insert(path, Entry::directory(0o755));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> LayerPath {
        LayerPath::parse(text.as_bytes()).unwrap()
    }

    fn tree(entries: &[(&str, Entry)]) -> Tree {
        let mut changes = Changeset::new();
        for (text, entry) in entries {
            changes.put(path(text), entry.clone());
        }
        let mut tree = Tree::new();
        tree.apply(&changes).unwrap();
        tree
    }

    fn names(tree: &Tree) -> Vec<String> {
        tree.iter().map(|(path, _)| path.to_string()).collect()
    }

    fn file() -> Entry {
        Entry::file("x", 0o644)
    }

    #[test]
    fn missing_parents_become_directories() {
        let tree = tree(&[("a/b/c", file())]);
        assert_eq!(names(&tree), ["/", "/a", "/a/b", "/a/b/c"]);
        assert_eq!(tree.entry(&path("a/b")), Some(&Entry::directory(0o755)));
    }

    #[test]
    fn whiteouts_and_opaque_directories_hide_what_is_below() {
        let mut tree = tree(&[
            ("a/x/y", file()),
            ("a/z", file()),
            ("a-b", file()),
            ("b/x", file()),
        ]);
        let mut changes = Changeset::new();
        changes.remove(path("a/x"));
        changes.hide_contents(path("b"));
        changes.put(path("b/new"), file());
        tree.apply(&changes).unwrap();
        assert_eq!(names(&tree), ["/", "/a", "/a/z", "/a-b", "/b", "/b/new"]);
    }

    #[test]
    fn a_whiteout_of_nothing_makes_nothing() {
        let mut tree = Tree::new();
        let mut changes = Changeset::new();
        changes.remove(path("a/b/c"));
        tree.apply(&changes).unwrap();
        assert!(tree.is_empty());
    }

    #[test]
    fn entries_below_a_symlink_go_where_it_leads() {
        let mut tree = tree(&[("usr/bin/sh", file()), ("bin", Entry::symlink(b"/usr/bin"))]);
        let mut changes = Changeset::new();
        changes.put(path("bin/ls"), file());
        changes.remove(path("bin/sh"));
        tree.apply(&changes).unwrap();
        assert_eq!(
            names(&tree),
            ["/", "/bin", "/usr", "/usr/bin", "/usr/bin/ls"]
        );
    }

    #[test]
    fn a_directory_gives_way_to_a_file_or_a_link() {
        let mut tree = tree(&[("lib/a", file()), ("usr/lib", Entry::directory(0o755))]);
        let mut changes = Changeset::new();
        changes.put(path("lib"), Entry::symlink(b"usr/lib"));
        changes.put(path("lib/b"), file());
        tree.apply(&changes).unwrap();
        assert_eq!(
            names(&tree),
            ["/", "/lib", "/usr", "/usr/lib", "/usr/lib/b"]
        );
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let mut changes = Changeset::new();
        changes.put(path("f/x"), file());
        assert_eq!(
            tree(&[("f", file())]).apply(&changes),
            Err(TreeError::NotADirectory(path("f")))
        );
        let mut looped = tree(&[("f", Entry::symlink(b"f"))]);
        assert!(matches!(looped.apply(&changes), Err(TreeError::Loop(_))));
    }

    #[test]
    fn children_are_only_the_direct_ones() {
        let tree = tree(&[("a/b/c", file()), ("a/d", file()), ("e", file())]);
        let of = |text: &str| {
            tree.children(&path(text))
                .map(|(p, _)| p.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(of(""), ["/a", "/e"]);
        assert_eq!(of("a"), ["/a/b", "/a/d"]);
        assert_eq!(of("e"), [] as [&str; 0]);
    }
}
