//! One tree laid over another, as an overlay does: what has to lie above for the two to show a
//! third.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::entry::{Entry, Inode};
use crate::tree::merged::Tree;
use crate::tree::path::LayerPath;

impl Tree {
    /// The smallest tree that shows this one when it lies over `below`: what differs, and the
    /// directories on the way to it. Files with several names keep all of them in one of the two.
    ///
    /// `None` if that cannot be: something of `below` is not in this tree, and would show through.
    pub fn above(&self, below: &Tree) -> Option<Tree> {
        let shows_through = |(path, entry): (&LayerPath, &Entry)| match self.entry(path) {
            None => true,
            Some(now) => entry.is_directory() && !now.is_directory(),
        };
        if below.iter().any(shows_through) {
            return None;
        }
        let torn = torn(self, below);
        let is_torn = |entry: &Entry| inode(entry).is_some_and(|inode| torn.contains(&inode));
        let differs = self
            .iter()
            .filter(|(path, entry)| below.entry(path) != Some(*entry) || is_torn(entry));
        let mut wanted: BTreeSet<&LayerPath> = BTreeSet::new();
        let mut ways: BTreeSet<LayerPath> = BTreeSet::new();
        for (path, _) in differs {
            wanted.insert(path);
            ways.extend(path.ancestors());
        }
        let entries = self
            .iter()
            .filter(|(path, _)| !path.is_root() && (wanted.contains(path) || ways.contains(*path)));
        let entries = entries.map(|(path, entry)| (path.clone(), entry.clone()));
        let mut above = Tree::from_sorted(entries.collect());
        if let Some(root) = self.entry(&LayerPath::root()) {
            above.insert(LayerPath::root(), root.clone());
        }
        Some(above)
    }
}

/// The files with several names that are not the same in both trees, name by name.
fn torn(now: &Tree, below: &Tree) -> BTreeSet<Inode> {
    let (now, below) = (names(now), names(below));
    let torn = now
        .into_iter()
        .filter(|(inode, names)| below.get(inode) != Some(names));
    torn.map(|(inode, _)| inode).collect()
}

type Names<'a> = Vec<(&'a LayerPath, &'a Entry)>;

fn names(tree: &Tree) -> BTreeMap<Inode, Names<'_>> {
    let mut names: BTreeMap<Inode, Names<'_>> = BTreeMap::new();
    for (path, entry) in tree.iter() {
        if let Some(inode) = inode(entry) {
            names.entry(inode).or_default().push((path, entry));
        }
    }
    names
}

fn inode(entry: &Entry) -> Option<Inode> {
    entry.as_file()?.inode
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Change, Changeset};

    fn path(text: &str) -> LayerPath {
        LayerPath::parse(text.as_bytes()).unwrap()
    }

    fn linked(bytes: &str, number: u64) -> Entry {
        let mut entry = Entry::file(bytes, 0o644);
        if let crate::tree::Node::File(file) = &mut entry.node {
            file.inode = Some(Inode { space: 1, number });
        }
        entry
    }

    fn base() -> Tree {
        let mut tree = Tree::new();
        for (name, entry) in [
            ("etc", Entry::directory(0o755)),
            ("etc/one", Entry::file("1", 0o644)),
            ("usr", Entry::directory(0o755)),
            ("usr/bin", Entry::directory(0o755)),
            ("usr/bin/a", linked("a", 1)),
            ("usr/bin/b", linked("a", 1)),
            ("usr/bin/c", Entry::file("c", 0o755)),
        ] {
            tree.insert(path(name), entry);
        }
        tree
    }

    #[test]
    fn what_lies_above_is_what_differs_with_the_way_to_it() {
        let put = |name: &str, entry: Entry| (path(name), Change::Put(entry));
        let closed = Entry::directory(0o700);
        for (change, expected) in [
            (None, ""),
            (Some(put("etc/two", Entry::file("2", 0o644))), "etc etc/two"),
            (Some(put("etc/one", Entry::file("2", 0o644))), "etc etc/one"),
            (Some(put("usr/bin", closed)), "usr usr/bin"),
            // A directory hides a file below it.
            (Some(put("etc/one", Entry::directory(0o755))), "etc etc/one"),
            // A third name, or one that is taken away, tears the others off.
            (
                Some(put("etc/z", linked("a", 1))),
                "etc etc/z usr usr/bin usr/bin/a usr/bin/b",
            ),
            (
                Some(put("usr/bin/a", Entry::file("x", 0o644))),
                "usr usr/bin usr/bin/a usr/bin/b",
            ),
            // What is gone would show through.
            (Some((path("etc/one"), Change::Whiteout)), "none"),
            (Some(put("etc", Entry::file("", 0o644))), "none"),
        ] {
            let below = base();
            let mut now = base();
            now.apply(&change.clone().into_iter().collect::<Changeset>())
                .unwrap();
            let above = now.above(&below);
            let shown = above.as_ref().map_or("none".to_owned(), |above| {
                let paths = above.iter().skip(1).map(|(path, _)| path.to_string());
                paths.collect::<Vec<_>>().join(" ")
            });
            assert_eq!(
                shown.replace(" /", " ").trim_start_matches('/'),
                expected,
                "{change:?}"
            );
            if let Some(above) = above {
                let mut both = below;
                both.apply(&above.as_changes()).unwrap();
                assert_eq!(both, now);
            }
        }
    }
}
