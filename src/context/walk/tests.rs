//! Real directories, with everything in them that can be made.

use super::*;
use crate::context::{Snapshot, Survey};
use crate::store::FileIndex;
use crate::tree::{Entry, Node};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

/// What a walk comes to.
#[derive(Debug)]
struct Walked {
    entries: Vec<(LayerPath, Entry)>,
    notes: Vec<String>,
    counts: Counts,
}

fn survey(
    root: &Path,
    rules: &str,
    wanted: &Wanted,
    threads: usize,
) -> Result<Survey, ContextError> {
    let rules = IgnoreRules::parse(rules.as_bytes(), ".dockerignore").unwrap();
    Survey::take(root, &rules, wanted, NonZeroUsize::new(threads).unwrap())
}

fn walk(root: &Path, rules: &str, wanted: &Wanted, threads: usize) -> Result<Walked, ContextError> {
    let survey = survey(root, rules, wanted, threads)?;
    let threads = NonZeroUsize::new(threads).unwrap();
    let snapshot = Snapshot::of(&survey, FileIndex::default(), threads)?;
    let entries = snapshot.tree.iter().skip(1);
    Ok(Walked {
        entries: entries
            .map(|(path, entry)| (path.clone(), entry.clone()))
            .collect(),
        notes: survey.notes,
        counts: survey.counts,
    })
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

/// Runs this test program once more in `wrapper`, for the one test.
fn run_again(wrapper: &mut std::process::Command, test: &str) {
    let program = std::env::current_exe().unwrap();
    let name = format!("context::walk::tests::{test}");
    let command = wrapper
        .arg(program)
        .args(["--exact", &name, "--nocapture"])
        .env("BOXWRIGHT_TEST_AGAIN", "1");
    match command.output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(
                said.contains("1 passed")
                    || said.contains("Permission denied (os error 13)")
                        && !said.contains("panicked"),
                "{said}"
            );
        }
        Err(error) => eprintln!("skipped: {error}"),
    }
}

/// A place for very many files: in memory, if there is such a place.
fn roomy() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

#[test]
fn few_descriptors_suffice() {
    if std::env::var_os("BOXWRIGHT_TEST_AGAIN").is_none() {
        let mut shell = std::process::Command::new("sh");
        return run_again(
            shell.args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"]),
            "few_descriptors_suffice",
        );
    }
    let scratch = roomy();
    let paths: Vec<String> = (0..500).map(|n| format!("d{n}/e/f/g{n}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    files(scratch.path(), &paths);
    for threads in [1, 64] {
        let walked = walk(scratch.path(), "", &Wanted::All, threads).unwrap();
        assert_eq!(walked.counts.files, 500);
    }
}

#[test]
fn too_deep_is_an_error_that_says_so() {
    let scratch = roomy();
    let open = |directory: &OwnedFd, name| {
        rustix::fs::openat(directory, name, OFlags::DIRECTORY, Mode::empty()).unwrap()
    };
    let mut directory = rustix::fs::open(scratch.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..3_000 {
        rustix::fs::mkdirat(&directory, c"d", Mode::RWXU).unwrap();
        directory = open(&directory, c"d");
    }
    let error = walk(scratch.path(), "", &Wanted::All, 2).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("longer than Linux allows"), "{error}");
    assert!(error.contains("exclude a directory above it"), "{error}");
    assert!(
        walk(scratch.path(), "d", &Wanted::All, 2)
            .unwrap()
            .entries
            .is_empty()
    );
    // Too deep for anything but `rm` to take away again.
    let _ = std::process::Command::new("rm")
        .arg("-rf")
        .arg(scratch.path())
        .status();
}

#[test]
fn no_link_on_the_way_is_followed_with_or_without_the_call() {
    let scratch = tempfile::tempdir().unwrap();
    files(scratch.path(), &["root/a/b/x", "outside/b/x"]);
    symlink("../outside", scratch.path().join("root/out")).unwrap();
    symlink("a", scratch.path().join("root/in")).unwrap();
    let root = scratch.path().join("root");
    let root = rustix::fs::open(&root, OFlags::DIRECTORY, Mode::empty()).unwrap();
    let path = |text: &str| LayerPath::parse(text.as_bytes()).unwrap();
    for open in [open_below, open_name_by_name] {
        for good in ["", "a", "a/b"] {
            assert!(open(&root, &path(good)).is_ok(), "{good:?}");
        }
        for bad in ["out", "out/b", "in", "in/b", "a/b/x", "absent"] {
            assert!(open(&root, &path(bad)).is_err(), "{bad:?}");
        }
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
            excluded: 1,
            pruned: 1,
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
    assert!(
        walk(scratch.path(), "socket", &Wanted::All, 1)
            .unwrap()
            .notes
            .is_empty()
    );
}

#[test]
fn pipes_are_entries_and_the_first_device_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let make = |name: &str, kind| {
        let path = scratch.path().join(name);
        let device = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, Mode::RUSR, device)
    };
    make("pipe", FileType::Fifo).unwrap();
    let walked = walk(scratch.path(), "", &Wanted::All, 1).unwrap();
    assert_eq!(walked.entries[0].1, Entry::new(Node::Fifo, 0o400));
    for name in ["z", "b", "a", "y"] {
        if make(name, FileType::CharacterDevice).is_err() {
            eprintln!("skipped: no device can be made here");
            return;
        }
    }
    let error = walk(scratch.path(), "", &Wanted::All, 1).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("/a: it is a device; exclude it"), "{error}");
    assert!(walk(scratch.path(), "?", &Wanted::All, 1).is_ok());
}

#[test]
fn deep_and_wide_and_long() {
    let scratch = roomy();
    let deep = ["d"; 1200].join("/");
    fs::create_dir_all(scratch.path().join(&deep)).unwrap();
    let wide = scratch.path().join("wide");
    fs::create_dir(&wide).unwrap();
    for number in 0..100_000 {
        fs::File::create(wide.join(number.to_string())).unwrap();
    }
    let large = fs::File::create(scratch.path().join("large")).unwrap();
    large.set_len(9 << 30).unwrap();
    let walked = walk(scratch.path(), "", &Wanted::All, 4).unwrap();
    assert_eq!(walked.entries.len(), 1200 + 1 + 100_000 + 1);
    assert_eq!(walked.counts.bytes, 9 << 30);
}

#[test]
fn what_cannot_be_read_is_named() {
    // Not in TMPDIR: the user that this runs as may have no way into it.
    let scratch = tempfile::tempdir_in("/tmp").unwrap();
    let absent = walk(&scratch.path().join("absent"), "", &Wanted::All, 1).unwrap_err();
    assert!(absent.to_string().contains("read the context"), "{absent}");
    files(scratch.path(), &["locked/x"]);
    let locked = scratch.path().join("locked");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    if rustix::process::geteuid().is_root() {
        // Root may read everything: the test is run once more as somebody else.
        let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        let mut again = std::process::Command::new("setpriv");
        run_again(again.args(nobody), "what_cannot_be_read_is_named");
    } else {
        let error = walk(scratch.path(), "", &Wanted::All, 1).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("locked: Permission denied"), "{error}");
        assert!(error.contains("exclude it in .dockerignore"), "{error}");
        let excluded = walk(scratch.path(), "locked", &Wanted::All, 1).unwrap();
        assert!(excluded.notes.is_empty());
        // A rule hopes for something below it.
        let hoped = walk(scratch.path(), "locked\n!**/*.md", &Wanted::All, 1).unwrap();
        assert!(hoped.notes[0].contains("locked is excluded and cannot be read"));
        // A file that cannot be read is no error before somebody wants its content.
        files(scratch.path(), &["secret"]);
        let secret = scratch.path().join("secret");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
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
