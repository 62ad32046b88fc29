//! Changesets: what a layer adds, replaces and removes, in the order of paths.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use crate::tree::entry::{Entry, Inode};
use crate::tree::path::LayerPath;

/// What happens at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The entry is added, or replaces what is there. A directory put over a directory keeps what
    /// is in it.
    Put(Entry),
    /// Like `Put` of a directory, but nothing that lower layers have in it shows through. Archives
    /// may say so without giving the directory itself.
    Opaque(Option<Entry>),
    /// What lower layers have here, with all that is below it, is gone.
    Whiteout,
}

/// The changes of one step or layer, each path at most once, in the order of [`LayerPath`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changeset {
    changes: BTreeMap<LayerPath, Change>,
}

impl Change {
    /// The entry that stands here afterwards, if the change names one.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Change::Put(entry) | Change::Opaque(Some(entry)) => Some(entry),
            Change::Opaque(None) | Change::Whiteout => None,
        }
    }
}

impl Changeset {
    /// A changeset without changes.
    pub fn new() -> Changeset {
        Changeset::default()
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The change at `path`.
    pub fn change(&self, path: &LayerPath) -> Option<&Change> {
        self.changes.get(path)
    }

    /// Whether the changeset says anything of the path with these bytes.
    pub fn names(&self, path: &[u8]) -> bool {
        LayerPath::parse(path).is_ok_and(|path| self.changes.contains_key(&path))
    }

    /// The entry that the changeset puts at `path`.
    pub fn entry(&self, path: &LayerPath) -> Option<&Entry> {
        self.change(path)?.entry()
    }

    /// All changes; a directory comes right before what is in it.
    pub fn iter(&self) -> impl Iterator<Item = (&LayerPath, &Change)> {
        self.changes.iter()
    }

    /// The changes at and below `path`.
    pub fn below<'a>(
        &'a self,
        path: &'a LayerPath,
    ) -> impl Iterator<Item = (&'a LayerPath, &'a Change)> {
        self.changes
            .range(path..)
            .take_while(move |(candidate, _)| candidate.starts_with(path))
    }

    /// Keeps only the changes for which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&LayerPath, &mut Change) -> bool) {
        self.changes.retain(keep);
    }

    /// Puts an entry, after what the changeset did so far: what it put below a path that stops
    /// being a directory is forgotten, and a directory that comes after a removal is opaque, for
    /// the removed contents must not come back.
    pub fn put(&mut self, path: LayerPath, entry: Entry) {
        if !entry.is_directory() {
            self.forget_below(&path);
            self.changes.insert(path, Change::Put(entry));
            return;
        }
        let hides_what_was = match self.changes.get(&path) {
            Some(Change::Put(earlier)) => !earlier.is_directory(),
            Some(Change::Opaque(_) | Change::Whiteout) => true,
            None => false,
        };
        let change = if hides_what_was {
            Change::Opaque(Some(entry))
        } else {
            Change::Put(entry)
        };
        self.changes.insert(path, change);
    }

    /// Removes what stands at `path` and below, in lower layers and in this changeset so far.
    pub fn remove(&mut self, path: LayerPath) {
        self.forget_below(&path);
        self.changes.insert(path, Change::Whiteout);
    }

    /// Hides what lower layers have in the directory `path`. What this changeset puts there stays,
    /// before or after: an opaque whiteout never applies to its own layer.
    pub fn hide_contents(&mut self, path: LayerPath) {
        let entry = match self.changes.remove(&path) {
            Some(Change::Put(entry) | Change::Opaque(Some(entry))) => Some(entry),
            Some(Change::Opaque(None) | Change::Whiteout) | None => None,
        };
        self.changes.insert(path, Change::Opaque(entry));
    }

    /// Does what `later` does, after what this changeset did: the way steps become one layer.
    pub fn merge(&mut self, later: Changeset) {
        for (path, change) in later.changes {
            match change {
                Change::Put(entry) => self.put(path, entry),
                Change::Whiteout => self.remove(path),
                Change::Opaque(entry) => {
                    self.forget_below(&path);
                    let entry = entry.or_else(|| self.entry(&path).cloned());
                    self.changes.insert(path, Change::Opaque(entry));
                }
            }
        }
    }

    fn forget_below(&mut self, path: &LayerPath) {
        let below = (Bound::Excluded(path.clone()), Bound::Unbounded);
        let doomed: Vec<LayerPath> = self
            .changes
            .range(below)
            .map(|(candidate, _)| candidate)
            .take_while(|candidate| candidate.starts_with(path))
            .cloned()
            .collect();
        for path in doomed {
            self.changes.remove(&path);
        }
    }
}

impl FromIterator<(LayerPath, Change)> for Changeset {
    fn from_iter<I: IntoIterator<Item = (LayerPath, Change)>>(changes: I) -> Changeset {
        Changeset {
            changes: changes.into_iter().collect(),
        }
    }
}

/// Finds which entries of a changeset are further names of a file that came before.
///
/// Ask in the order of [`Changeset::iter`]. Two entries are hard links of each other if their
/// inodes are equal and nothing else about them differs: one inode has one owner and one mode.
#[derive(Debug, Default)]
pub struct HardLinks<'a> {
    first: HashMap<Inode, (&'a LayerPath, &'a Entry)>,
}

impl<'a> HardLinks<'a> {
    /// Nothing seen yet.
    pub fn new() -> HardLinks<'a> {
        HardLinks::default()
    }

    /// The first name of the file at `path`, if an earlier entry was one; otherwise this is it.
    pub fn earlier_name(&mut self, path: &'a LayerPath, entry: &'a Entry) -> Option<&'a LayerPath> {
        let inode = entry.as_file()?.inode?;
        match self.first.get(&inode) {
            Some((first, same)) if *same == entry => Some(first),
            Some(_) => None,
            None => {
                self.first.insert(inode, (path, entry));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::{File, Node};

    fn path(text: &str) -> LayerPath {
        LayerPath::parse(text.as_bytes()).unwrap()
    }

    fn shown(changes: &Changeset) -> Vec<String> {
        let mark = |change: &Change| match change {
            Change::Put(entry) if entry.is_directory() => "dir",
            Change::Put(_) => "file",
            Change::Opaque(Some(_)) => "opaque dir",
            Change::Opaque(None) => "opaque",
            Change::Whiteout => "whiteout",
        };
        changes
            .iter()
            .map(|(path, change)| format!("{path} {}", mark(change)))
            .collect()
    }

    #[test]
    fn a_later_file_takes_the_place_of_a_directory() {
        let mut changes = Changeset::new();
        changes.put(path("a"), Entry::directory(0o755));
        changes.put(path("a/b"), Entry::file("x", 0o644));
        changes.put(path("a-b"), Entry::file("x", 0o644));
        changes.put(path("a"), Entry::file("y", 0o644));
        assert_eq!(shown(&changes), ["/a file", "/a-b file"]);
    }

    #[test]
    fn what_was_removed_does_not_come_back_with_its_directory() {
        let mut changes = Changeset::new();
        changes.remove(path("a"));
        changes.put(path("a"), Entry::directory(0o755));
        changes.put(path("a"), Entry::directory(0o700));
        assert_eq!(shown(&changes), ["/a opaque dir"]);
    }

    #[test]
    fn merging_is_doing_one_after_the_other() {
        let mut first = Changeset::new();
        first.put(path("a"), Entry::directory(0o755));
        first.put(path("a/old"), Entry::file("x", 0o644));
        let mut second = Changeset::new();
        second.hide_contents(path("a"));
        second.put(path("a/new"), Entry::file("x", 0o644));
        second.remove(path("b"));
        first.merge(second);
        assert_eq!(
            shown(&first),
            ["/a opaque dir", "/a/new file", "/b whiteout"]
        );
    }

    #[test]
    fn hard_links_share_everything_but_the_name() {
        let mut entry = Entry::file("x", 0o644);
        if let Node::File(File { inode, .. }) = &mut entry.node {
            *inode = Some(Inode {
                space: 1,
                number: 2,
            });
        }
        let other_mode = Entry {
            mode: 0o600,
            ..entry.clone()
        };
        let (a, b, c) = (path("a"), path("b"), path("c"));
        let mut links = HardLinks::new();
        assert_eq!(links.earlier_name(&a, &entry), None);
        assert_eq!(links.earlier_name(&b, &entry), Some(&a));
        assert_eq!(links.earlier_name(&c, &other_mode), None);
    }
}
