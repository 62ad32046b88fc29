//! Trees go to disk and come back.

use super::*;
use crate::sandbox::changes::{Found, Reading, collect};
use crate::tree::{Changeset, File};
use proptest::prelude::*;
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

/// A line for each entry but the root. Inodes and places of contents are left out.
fn shown(tree: &Tree) -> Vec<String> {
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
        unpack(&tree, &store, &root, ownership, Circumstances::Usual).unwrap();
        let mut again = Tree::new();
        again.apply(&read_back(&root, ownership, &store)).unwrap();
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
    assert!(
        unpack(
            &tree,
            &store,
            &root,
            Ownership::Recorded,
            Circumstances::Usual
        )
        .is_err()
    );
    assert_eq!(
        fs::read_dir(scratch.path().join("outside"))
            .unwrap()
            .count(),
        0
    );
}

/// Any tree that any user may make: directories two deep, files, links and second names.
fn trees() -> impl Strategy<Value = Tree> {
    let name = "[a-c]{1,2}";
    let entry = (0_u8..6, 0_u16..0o10000, 0_u32..3, any::<u16>());
    let entries = prop::collection::vec(((name, prop::option::of(name)), entry), 0..24);
    entries.prop_map(|entries| {
        let mut tree = Tree::new();
        for ((first, second), (kind, mode, owner, number)) in entries {
            let mut entry = match kind {
                0 | 1 => Entry::directory(mode),
                2 => Entry::symlink(format!("../{number}").as_bytes()),
                3 => Entry::new(Node::Fifo, mode),
                _ => Entry::file("x".repeat(usize::from(number % 300)), mode),
            };
            (entry.uid, entry.gid) = (owner, owner * 7);
            let path = match second {
                Some(second) => {
                    let parent = path(&first);
                    if !tree.entry(&parent).is_some_and(Entry::is_directory) {
                        tree.insert(parent.clone(), Entry::directory(0o755));
                    }
                    parent.join(second.as_bytes()).unwrap()
                }
                None => path(&first),
            };
            tree.insert(path, entry);
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_tree_that_is_unpacked_is_read_back(tree in trees(), perturbed: bool, recorded: bool) {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(&scratch.path().join("store")).unwrap();
        let root = scratch.path().join("root");
        fs::create_dir(&root).unwrap();
        let circumstances = match perturbed {
            true => Circumstances::Perturbed,
            false => Circumstances::Usual,
        };
        let ownership = match recorded {
            true => Ownership::Recorded,
            false => Ownership::Real,
        };
        unpack(&tree, &store, &root, ownership, circumstances).unwrap();
        let mut again = Tree::new();
        again.apply(&read_back(&root, ownership, &store)).unwrap();
        let mut expected = tree.clone();
        if recorded {
            // An attribute can be given to files and directories only.
            for (path, entry) in tree.iter() {
                if !entry.is_directory() && entry.as_file().is_none() {
                    let mut plain = entry.clone();
                    (plain.uid, plain.gid) = (0, 0);
                    expected.insert(path.clone(), plain);
                }
            }
        }
        prop_assert_eq!(shown(&again), shown(&expected));
        remove(&root).unwrap();
    }
}
