//! Snapshots of real directories, twice and more.

use super::*;
use crate::context::{IgnoreRules, Wanted, read_digests, rules_for};
use rustix::fs::Mode;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

const THREADS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

fn snapshot(root: &Path, wanted: &Wanted, index: FileIndex) -> Snapshot {
    let survey = Survey::take(root, &IgnoreRules::none(), wanted, THREADS).unwrap();
    Snapshot::of(&survey, index, THREADS).unwrap()
}

fn files_of(snapshot: &Snapshot) -> Vec<Arc<DiskFile>> {
    let contents = snapshot
        .tree
        .iter()
        .filter_map(|(_, entry)| Some(&entry.as_file()?.content));
    contents
        .filter_map(|content| match content {
            Content::Disk(file) => Some(Arc::clone(file)),
            _ => None,
        })
        .collect()
}

#[test]
fn links_on_the_way_to_what_is_wanted_are_followed_inside() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    fs::create_dir_all(root.join("real/dir")).unwrap();
    fs::create_dir_all(root.join("other")).unwrap();
    fs::write(root.join("real/dir/f"), "x").unwrap();
    symlink("real", root.join("link")).unwrap();
    symlink("../../../etc", root.join("out")).unwrap();
    let wanted = Wanted::Below(vec![path("link/dir"), path("out/passwd")]);
    let taken = snapshot(root, &wanted, FileIndex::default());
    let names: Vec<String> = taken
        .tree
        .iter()
        .map(|(path, _)| path.to_string())
        .collect();
    assert_eq!(
        names,
        ["/", "/link", "/out", "/real", "/real/dir", "/real/dir/f"]
    );
}

#[test]
fn the_rules_beside_the_spec_win() {
    let scratch = tempfile::tempdir().unwrap();
    let spec = scratch.path().join("boxwright.yaml");
    let is_excluded = |name: &str| {
        rules_for(scratch.path(), Some(&spec))
            .unwrap()
            .verdict(&path(name))
            .is_excluded
    };
    assert!(!is_excluded("a"));
    fs::write(scratch.path().join(".dockerignore"), "a").unwrap();
    assert!(is_excluded("a") && !is_excluded("b"));
    fs::write(scratch.path().join("boxwright.yaml.dockerignore"), "b").unwrap();
    assert!(!is_excluded("a") && is_excluded("b"));
    assert!(
        rules_for(scratch.path(), None)
            .unwrap()
            .verdict(&path("a"))
            .is_excluded
    );
    fs::write(scratch.path().join(".dockerignore"), "ok\n[").unwrap();
    let error = rules_for(scratch.path(), None).unwrap_err().to_string();
    assert!(error.contains(".dockerignore:2:"), "{error}");
}

#[test]
fn known_files_are_not_read_again_and_changed_ones_are() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(&scratch.path().join("store")).unwrap();
    let root = scratch.path().join("context");
    fs::create_dir(&root).unwrap();
    for name in ["a", "b"] {
        fs::write(root.join(name), name).unwrap();
    }
    let context = Digest::of(b"context");
    let later = SystemTime::now() + Duration::from_secs(10);
    let first = snapshot(&root, &Wanted::All, FileIndex::default());
    read_digests(&store, &files_of(&first), THREADS).unwrap();
    first.remember(&store, &context, later).unwrap();

    std::thread::sleep(Duration::from_millis(12));
    fs::write(root.join("b"), "c").unwrap();
    let index = FileIndex::load(&store, &context).unwrap();
    let second = snapshot(&root, &Wanted::All, index);
    let digests: Vec<Option<Digest>> = files_of(&second)
        .iter()
        .map(|file| file.digest().copied())
        .collect();
    assert_eq!(digests, [Some(Digest::of(b"a")), None]);
    read_digests(&store, &files_of(&second), THREADS).unwrap();
    assert_eq!(files_of(&second)[1].digest(), Some(&Digest::of(b"c")));
}

#[test]
fn a_file_that_changes_twice_in_one_tick_is_read_twice() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(&scratch.path().join("store")).unwrap();
    let root = scratch.path().join("context");
    fs::create_dir(&root).unwrap();
    let context = Digest::of(b"context");
    for round in 0..20u8 {
        for version in [b'a', b'b'] {
            let bytes = [version, round];
            fs::write(root.join("f"), bytes).unwrap();
            let began = SystemTime::now();
            let index = FileIndex::load(&store, &context).unwrap();
            let taken = snapshot(&root, &Wanted::All, index);
            read_digests(&store, &files_of(&taken), THREADS).unwrap();
            assert_eq!(files_of(&taken)[0].digest(), Some(&Digest::of(&bytes)));
            taken.remember(&store, &context, began).unwrap();
        }
    }
}

#[test]
fn a_file_that_changes_before_it_is_read_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(&scratch.path().join("store")).unwrap();
    let root = scratch.path().join("context");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("f"), "one").unwrap();
    let taken = snapshot(&root, &Wanted::All, FileIndex::default());
    std::thread::sleep(Duration::from_millis(12));
    fs::write(root.join("f"), "two").unwrap();
    let error = read_digests(&store, &files_of(&taken), THREADS)
        .unwrap_err()
        .to_string();
    assert!(error.contains("changed while the build ran"), "{error}");
}

#[test]
fn an_ignore_file_is_a_small_file_of_the_context() {
    let scratch = tempfile::tempdir().unwrap();
    let context = scratch.path().join("context");
    let file = context.join(".dockerignore");
    let beside = scratch.path().join("secret");
    fs::write(&beside, "a").unwrap();
    type Make = fn(&Path);
    let bad: [(&str, Make, &str); 6] = [
        (
            "a link out",
            |file| symlink("../secret", file).unwrap(),
            "leads out",
        ),
        (
            "an absolute link",
            |file| symlink("/dev/zero", file).unwrap(),
            "leads out",
        ),
        (
            "a link to itself",
            |file| symlink(".dockerignore", file).unwrap(),
            "leads out",
        ),
        (
            "a directory",
            |file| fs::create_dir(file).unwrap(),
            "not a regular file",
        ),
        (
            "a pipe",
            |file| {
                let fifo = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(rustix::fs::CWD, file, fifo, Mode::RUSR, 0).unwrap();
            },
            "not a regular file",
        ),
        (
            "a huge file",
            |file| fs::File::create(file).unwrap().set_len(1 << 40).unwrap(),
            "larger than 1 MiB",
        ),
    ];
    for (what, make, expected) in bad {
        fs::create_dir(&context).unwrap();
        make(&file);
        let error = rules_for(&context, None).unwrap_err().to_string();
        assert!(error.contains(expected), "{what}: {error}");
        fs::remove_dir_all(&context).unwrap();
    }
    fs::create_dir(&context).unwrap();
    fs::write(context.join("rules"), "a").unwrap();
    symlink("rules", &file).unwrap();
    assert!(
        rules_for(&context, None)
            .unwrap()
            .verdict(&path("a"))
            .is_excluded
    );
    assert!(
        rules_for(&scratch.path().join("absent"), None)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn of_several_bad_files_the_first_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(&scratch.path().join("store")).unwrap();
    let root = scratch.path().join("context");
    fs::create_dir(&root).unwrap();
    for number in 100..200 {
        fs::write(root.join(number.to_string()), "x").unwrap();
    }
    for _ in 0..10 {
        let taken = snapshot(&root, &Wanted::All, FileIndex::default());
        for number in [120, 121, 122, 150] {
            fs::remove_file(root.join(number.to_string())).unwrap();
        }
        let threads = NonZeroUsize::new(8).unwrap();
        let error = read_digests(&store, &files_of(&taken), threads).unwrap_err();
        assert!(error.to_string().contains("/120:"), "{error}");
        for number in [120, 121, 122, 150] {
            fs::write(root.join(number.to_string()), "x").unwrap();
        }
    }
}
