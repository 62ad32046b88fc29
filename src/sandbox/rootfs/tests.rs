//! Trees go to disk and come back.

use super::*;
use crate::sandbox::changes::{Found, Reading, collect};
use crate::tree::{Changeset, File};
use std::collections::{BTreeMap, BTreeSet};

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

/// A tree with one of everything that any user may make.
fn one_of_everything() -> Tree {
    let mut tree = Tree::new();
    let mut put = |name: &str, entry: Entry| tree.insert(path(name), entry);
    put("bin", Entry::directory(0o755));
    put("bin/su", Entry::file("su", 0o4755));
    put("closed", Entry::directory(0o000));
    put("closed/secret", Entry::file("s", 0o000));
    put("empty", Entry::file("", 0o600));
    put("link", Entry::symlink(b"/etc/passwd"));
    put("loop", Entry::symlink(b"loop"));
    put("pipe", Entry::new(Node::Fifo, 0o640));
    put("sticky", Entry::directory(0o1777));
    put("new\nline \u{e9}", Entry::file("n", 0o644));
    let mut linked = Entry::file("linked", 0o644);
    if let Node::File(File { inode, .. }) = &mut linked.node {
        *inode = Some(Inode {
            space: 1,
            number: 9,
        });
    }
    put("one", linked.clone());
    put("sticky/two", linked);
    let xattrs = [("user.note".as_bytes().into(), "v".as_bytes().into())];
    let noted = Entry {
        xattrs: xattrs.into_iter().collect(),
        ..Entry::file("x", 0o644)
    };
    put("noted", noted);
    let owned = |entry: Entry| Entry {
        uid: 33,
        gid: 34,
        ..entry
    };
    put("var", owned(Entry::directory(0o750)));
    put("var/www", owned(Entry::file("<html>", 0o640)));
    tree
}

/// What is in a directory, as changes onto nothing.
fn read_back(directory: &Path, ownership: Ownership, store: &Store) -> Changeset {
    let found = Found {
        before: &Tree::new(),
        unpacked: directory,
        directory,
        reading: Reading::Whole { since: 0 },
        ownership,
        owners: &BTreeMap::new(),
        masked: &BTreeSet::new(),
        made: &BTreeSet::new(),
    };
    collect(&found, store).unwrap().changes
}

#[test]
fn what_is_unpacked_is_what_was_there() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(&scratch.path().join("store")).unwrap();
    let tree = one_of_everything();
    for ownership in [Ownership::Real, Ownership::Recorded] {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root may read what is closed to all");
            return;
        }
        let root = scratch.path().join(ownership.word());
        fs::create_dir(&root).unwrap();
        unpack(&tree, &store, &root, ownership).unwrap();
        let mut again = Tree::new();
        again.apply(&read_back(&root, ownership, &store)).unwrap();
        let shown = |tree: &Tree| -> Vec<String> {
            let line = |(path, entry): (&LayerPath, &Entry)| {
                let content = entry.as_file().map(|file| file.content.digest().copied());
                let kind = match &entry.node {
                    Node::File(_) => "file".to_owned(),
                    node => format!("{node:?}"),
                };
                let (mode, uid, gid) = (entry.mode, entry.uid, entry.gid);
                format!(
                    "{path:?} {kind} {mode:o} {uid}:{gid} {content:?} {:?}",
                    entry.xattrs
                )
            };
            tree.iter().skip(1).map(line).collect()
        };
        assert_eq!(shown(&again), shown(&tree), "{ownership:?}");
        let inode = |name: &str| again.entry(&path(name)).unwrap().as_file().unwrap().inode;
        assert!(inode("one").is_some() && inode("one") == inode("sticky/two"));
        remove(&root).unwrap();
        assert!(!root.exists());
        remove(&root).unwrap();
    }
}

#[test]
fn what_is_in_the_way_is_an_error_and_nothing_outside_is_touched() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(&scratch.path().join("store")).unwrap();
    let root = scratch.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::create_dir(scratch.path().join("outside")).unwrap();
    std::os::unix::fs::symlink("../outside", root.join("d")).unwrap();
    let mut tree = Tree::new();
    tree.insert(path("d"), Entry::directory(0o755));
    tree.insert(path("d/f"), Entry::file("x", 0o644));
    assert!(unpack(&tree, &store, &root, Ownership::Recorded).is_err());
    assert_eq!(
        fs::read_dir(scratch.path().join("outside"))
            .unwrap()
            .count(),
        0
    );
}
