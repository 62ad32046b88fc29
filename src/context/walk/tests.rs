//! Real directories, with everything in them that can be made.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn walk(root: &Path, rules: &str, wanted: &Wanted, threads: usize) -> Result<Walked, ContextError> {
    let rules = IgnoreRules::parse(rules.as_bytes(), ".dockerignore").unwrap();
    let walk = Walk {
        root: Arc::from(root),
        rules: &rules,
        wanted,
        index: &FileIndex::default(),
    };
    walk.run(NonZeroUsize::new(threads).unwrap())
}

fn names(walked: &Walked) -> Vec<String> {
    walked
        .entries
        .iter()
        .map(|(path, _)| path.to_string())
        .collect()
}

fn files(root: &Path, paths: &[&str]) {
    for path in paths {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
}

#[test]
fn the_list_is_the_same_for_any_number_of_threads() {
    let scratch = tempfile::tempdir().unwrap();
    let paths: Vec<String> = (0..300)
        .map(|n| format!("d{}/e{}/f{n}", n % 7, n % 11))
        .collect();
    files(
        scratch.path(),
        &paths.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    files(scratch.path(), &["d1-x", "d1.y"]);
    let first = names(&walk(scratch.path(), "", &Wanted::All, 1).unwrap());
    let mut sorted: Vec<LayerPath> = walk(scratch.path(), "", &Wanted::All, 1)
        .unwrap()
        .entries
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    sorted.sort();
    assert_eq!(
        first,
        sorted.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
    for threads in [2, 3, 8] {
        assert_eq!(
            names(&walk(scratch.path(), "", &Wanted::All, threads).unwrap()),
            first
        );
    }
}

#[test]
fn excluded_directories_are_left_out_or_are_a_way() {
    let scratch = tempfile::tempdir().unwrap();
    files(scratch.path(), &["a/x", "a/keep/y", "a/keep/z", "b/x", "c"]);
    let list = |rules: &str| names(&walk(scratch.path(), rules, &Wanted::All, 2).unwrap());
    assert_eq!(list("a"), ["/b", "/b/x", "/c"]);
    assert_eq!(list("*\n!a/keep/y"), ["/a", "/a/keep", "/a/keep/y"]);
    assert_eq!(list("*\n!c"), ["/c"]);
    assert_eq!(list("*\n!a/nothing"), [] as [&str; 0]);
    let walked = walk(scratch.path(), "a", &Wanted::All, 2).unwrap();
    assert_eq!(
        walked.counts,
        Counts {
            files: 2,
            bytes: 2,
            excluded: 1
        }
    );
}

#[test]
fn only_what_is_wanted_is_walked() {
    let scratch = tempfile::tempdir().unwrap();
    files(scratch.path(), &["a/b/x", "a/c", "d/x"]);
    fs::create_dir(scratch.path().join("secret")).unwrap();
    let wanted = Wanted::Below(vec![
        LayerPath::parse(b"a/b").unwrap(),
        LayerPath::parse(b"e").unwrap(),
    ]);
    assert_eq!(
        names(&walk(scratch.path(), "", &wanted, 2).unwrap()),
        ["/a", "/a/b", "/a/b/x"]
    );
}

#[test]
fn modes_links_and_hard_links_are_as_on_disk() {
    let scratch = tempfile::tempdir().unwrap();
    files(scratch.path(), &["f", "s"]);
    fs::set_permissions(scratch.path().join("s"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::hard_link(scratch.path().join("f"), scratch.path().join("g")).unwrap();
    symlink("../out", scratch.path().join("l")).unwrap();
    let walked = walk(scratch.path(), "", &Wanted::All, 1).unwrap();
    let entry = |text: &str| {
        let path = LayerPath::parse(text.as_bytes()).unwrap();
        walked
            .entries
            .iter()
            .find(|(found, _)| *found == path)
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(entry("s").mode, 0o4711);
    assert_eq!(entry("s").as_file().unwrap().inode, None);
    assert!(entry("f").as_file().unwrap().inode.is_some());
    assert_eq!(
        entry("f").as_file().unwrap().inode,
        entry("g").as_file().unwrap().inode
    );
    assert_eq!(entry("l"), Entry::symlink(b"../out"));
}

#[test]
fn nasty_names_are_only_names() {
    let scratch = tempfile::tempdir().unwrap();
    let nasty: [&[u8]; 5] = [
        b"\xff\xfe",
        b"new\nline",
        b"-rf *",
        &[b'n'; 255],
        "e\u{301}".as_bytes(),
    ];
    for name in nasty {
        fs::write(scratch.path().join(OsStr::from_bytes(name)), "x").unwrap();
    }
    let walked = walk(scratch.path(), "", &Wanted::All, 2).unwrap();
    let found: BTreeMap<&[u8], ()> = walked
        .entries
        .iter()
        .map(|(path, _)| (path.as_bytes(), ()))
        .collect();
    assert!(nasty.iter().all(|name| found.contains_key(name)));
}

#[test]
fn what_no_image_should_take_is_told_unless_it_is_excluded() {
    let scratch = tempfile::tempdir().unwrap();
    files(scratch.path(), &["f"]);
    let _socket = std::os::unix::net::UnixListener::bind(scratch.path().join("socket")).unwrap();
    let walked = walk(scratch.path(), "", &Wanted::All, 1).unwrap();
    assert_eq!(names(&walked), ["/f"]);
    assert!(walked.notes[0].contains("is a socket and was left out"));
    let pipe = scratch.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let error = walk(scratch.path(), "", &Wanted::All, 1)
        .unwrap_err()
        .to_string();
    assert!(error.contains("named pipe; exclude it"), "{error}");
    assert!(
        walk(scratch.path(), "pipe\nsocket", &Wanted::All, 1)
            .unwrap()
            .notes
            .is_empty()
    );
}

#[test]
fn deep_and_wide_and_long() {
    let scratch = tempfile::tempdir().unwrap();
    let deep = ["d"; 1200].join("/");
    fs::create_dir_all(scratch.path().join(&deep)).unwrap();
    let wide = scratch.path().join("wide");
    fs::create_dir(&wide).unwrap();
    for number in 0..20_000 {
        fs::File::create(wide.join(number.to_string())).unwrap();
    }
    let large = fs::File::create(scratch.path().join("large")).unwrap();
    large.set_len(9 << 30).unwrap();
    let walked = walk(scratch.path(), "", &Wanted::All, 4).unwrap();
    assert_eq!(walked.entries.len(), 1200 + 1 + 20_000 + 1);
    assert_eq!(walked.counts.bytes, 9 << 30);
}

#[test]
fn what_cannot_be_read_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let absent = walk(&scratch.path().join("absent"), "", &Wanted::All, 1).unwrap_err();
    assert!(absent.to_string().contains("read the context"), "{absent}");
    files(scratch.path(), &["locked/x"]);
    let locked = scratch.path().join("locked");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        eprintln!("skipped: root may read everything");
    } else {
        let error = walk(scratch.path(), "", &Wanted::All, 1)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("locked") && error.contains("exclude it"),
            "{error}"
        );
        assert!(walk(scratch.path(), "locked", &Wanted::All, 1).is_ok());
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn attributes_of_the_machine_stay_behind() {
    let scratch = tempfile::tempdir().unwrap();
    files(scratch.path(), &["f"]);
    let path = scratch.path().join("f");
    let set =
        |name: &str| rustix::fs::lsetxattr(&path, name, b"value", rustix::fs::XattrFlags::empty());
    if set("user.kept").is_err() {
        eprintln!("skipped: this file system has no attributes");
        return;
    }
    set("user.overlay.origin").unwrap();
    let walked = walk(scratch.path(), "", &Wanted::All, 1).unwrap();
    let names: Vec<&[u8]> = walked.entries[0]
        .1
        .xattrs
        .iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, [b"user.kept"]);
}

#[test]
fn capabilities_lose_their_namespace() {
    let version_3: Vec<u8> = [1, 0, 0, 3]
        .into_iter()
        .chain(0..16)
        .chain([0xe9, 3, 0, 0])
        .collect();
    let portable = portable_capability(version_3);
    assert_eq!((portable.len(), portable[3]), (20, 2));
    let version_2: Vec<u8> = [1, 0, 0, 2].into_iter().chain(0..16).collect();
    assert_eq!(portable_capability(version_2.clone()), version_2);
}
