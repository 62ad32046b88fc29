//! The same commands over an overlay and in a copy of the tree: one changeset.

use super::*;
use crate::sandbox::probe::Circumstances;
use crate::sandbox::rootfs::{remove, unpack};
use std::fs;
use std::process::Command;

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

fn before() -> Tree {
    let mut tree = Tree::new();
    let mut put = |name: &str, entry: Entry| tree.insert(path(name), entry);
    for directory in [
        "etc",
        "etc/deep",
        "etc/deep/er",
        "gone",
        "gone/sub",
        "one",
        "one/sub",
        "run",
        "swap",
        "two",
        "two/sub",
    ] {
        put(directory, Entry::directory(0o755));
    }
    for file in [
        "etc/a",
        "etc/b",
        "etc/deep/er/c",
        "gone/f",
        "gone/sub/g",
        "one/same",
        "one/sub/same",
        "swap/old",
        "swap/both",
        "two/same",
        "two/sub/same",
    ] {
        put(file, Entry::file(file, 0o644));
    }
    put("etc/link", Entry::symlink(b"a"));
    put(
        "etc/owned",
        Entry {
            uid: 7,
            gid: 8,
            ..Entry::file("owned", 0o600)
        },
    );
    tree
}

/// What a command does, and what must come of it.
const COMMANDS: [(&str, &[&str]); 21] = [
    ("true", &[]),
    ("touch etc/a etc/deep", &[]),
    ("cat etc/a > t && cat t > etc/a && rm t", &[]),
    ("cp etc/a n && mv n etc/a", &[]),
    ("printf x >> etc/b", &["/etc dir", "/etc/b file"]),
    ("chmod 600 etc/b", &["/etc dir", "/etc/b file"]),
    ("chmod 700 etc/deep", &["/etc dir", "/etc/deep dir"]),
    ("chown 5:6 etc/a", &["/etc dir", "/etc/a file"]),
    (
        "chown 9 etc/owned && chown 7:8 etc/owned && chmod 600 etc/owned",
        &[],
    ),
    (
        "echo new > etc/deep/er/n",
        &[
            "/etc dir",
            "/etc/deep dir",
            "/etc/deep/er dir",
            "/etc/deep/er/n file",
        ],
    ),
    ("rm etc/a", &["/etc dir", "/etc/a gone"]),
    ("rm -r gone", &["/gone gone"]),
    (
        "rm -r gone && mkdir gone && echo f > gone/new",
        &[
            "/gone dir",
            "/gone/f gone",
            "/gone/new file",
            "/gone/sub gone",
        ],
    ),
    (
        "rm -r swap && mkdir swap && printf swap/both > swap/both",
        &["/swap dir", "/swap/old gone"],
    ),
    ("rm -r gone && echo file > gone", &["/gone file"]),
    // What is in a directory that took another's place was not touched itself.
    (
        "rm -r one && mv two one",
        &[
            "/one dir",
            "/one/same file",
            "/one/sub dir",
            "/one/sub/same file",
            "/two gone",
        ],
    ),
    (
        "mv one/sub s && mv two/sub one/sub && mv s two/sub",
        &[
            "/one dir",
            "/one/sub dir",
            "/one/sub/same file",
            "/two dir",
            "/two/sub dir",
            "/two/sub/same file",
        ],
    ),
    ("mv one o && mv o one", &[]),
    (
        "rm etc/a && mkdir etc/a && echo x > etc/a/x",
        &["/etc dir", "/etc/a dir", "/etc/a/x file"],
    ),
    (
        "ln -sf b etc/link && mkfifo etc/pipe && ln etc/b etc/hard",
        &[
            "/etc dir",
            "/etc/b file",
            "/etc/hard file",
            "/etc/link link",
            "/etc/pipe pipe",
        ],
    ),
    (
        "mkdir -p run/sandbox/deep && echo x > run/sandbox/deep/x && mkdir proc",
        &[],
    ),
];

fn shown(changes: &Changeset) -> Vec<String> {
    let word = |change: &Change| match change.entry().map(|entry| &entry.node) {
        None => "gone",
        Some(Node::Directory) => "dir",
        Some(Node::File(_)) => "file",
        Some(Node::Symlink(_)) => "link",
        Some(_) => "pipe",
    };
    changes
        .iter()
        .map(|(path, change)| format!("{path} {}", word(change)))
        .collect()
}

fn collected(directory: &Path, reading: Reading, ownership: Ownership, store: &Store) -> Changeset {
    let found = Found {
        before: &before(),
        unpacked: directory,
        directory,
        reading,
        ownership,
        owners: &BTreeMap::new(),
        masked: &BTreeSet::from([path("proc"), path("run/sandbox/deep")]),
        made: &BTreeSet::from([path("run/sandbox")]),
    };
    collect(&found, store).unwrap().changes
}

#[test]
fn an_overlay_and_a_copy_tell_the_same() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may mount without a user namespace");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let store = Store::open(&at("store")).unwrap();
    fs::create_dir(at("lower")).unwrap();
    unpack(
        &before(),
        &store,
        &at("lower"),
        Ownership::Real,
        Circumstances::Usual,
    )
    .unwrap();
    for (command, expected) in COMMANDS {
        for folder in ["upper", "work", "merged", "copy"] {
            remove(&at(folder)).unwrap();
            fs::create_dir(at(folder)).unwrap();
        }
        let script = format!(
            "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged \
             && cd merged && {{ {command}; }}"
        );
        let ran = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .current_dir(scratch.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        if said.contains("mount:") || said.contains("unshare:") {
            eprintln!("skipped: {said}");
            return;
        }
        assert!(ran.status.success(), "{command}: {said}");
        let over = collected(&at("upper"), Reading::Upper, Ownership::Real, &store);
        assert_eq!(shown(&over), expected, "{command}");

        unpack(
            &before(),
            &store,
            &at("copy"),
            Ownership::Real,
            Circumstances::Usual,
        )
        .unwrap();
        // Files get the time of the clock's last tick: by the next one, time can be trusted.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let stamp = fs::metadata(tempfile::NamedTempFile::new_in(scratch.path()).unwrap()).unwrap();
        let since = std::os::unix::fs::MetadataExt::ctime(&stamp);
        let since = i128::from(since) * 1_000_000_000
            + i128::from(std::os::unix::fs::MetadataExt::ctime_nsec(&stamp));
        let ran = Command::new("sh")
            .args(["-c", command])
            .current_dir(at("copy"))
            .status()
            .unwrap();
        assert!(ran.success(), "{command}");
        let whole = Reading::Whole { since };
        let copied = collected(&at("copy"), whole, Ownership::Real, &store);
        assert_eq!(copied, over, "{command}");

        let mut after = before();
        after.apply(&over).unwrap();
        assert!(store_has_all(&after, &store), "{command}");
    }
}

fn store_has_all(tree: &Tree, store: &Store) -> bool {
    let mut files = tree.iter().filter_map(|(_, entry)| entry.as_file());
    files.all(|file| {
        let bytes = store.read_content(&file.content, 1 << 20).unwrap();
        Some(&crate::oci::Digest::of(&bytes)) == file.content.digest()
    })
}

#[test]
fn recorded_owners_come_back_and_forged_ones_are_only_numbers() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let store = Store::open(&at("store")).unwrap();
    fs::create_dir(at("upper")).unwrap();
    for (name, owner) in [("a", "33:44"), ("b", "0:0"), ("c", "../../etc"), ("d", "")] {
        fs::write(at("upper").join(name), name).unwrap();
        if !owner.is_empty() {
            let flags = rustix::fs::XattrFlags::empty();
            let noted = rustix::fs::setxattr(
                at("upper").join(name),
                owner::ATTRIBUTE,
                owner.as_bytes(),
                flags,
            );
            if noted.is_err() {
                eprintln!("skipped: this file system has no attributes");
                return;
            }
        }
    }
    let changes = collected(&at("upper"), Reading::Upper, Ownership::Recorded, &store);
    let owner = |name: &str| {
        let entry = changes.entry(&path(name)).unwrap();
        assert!(entry.xattrs.is_empty());
        (entry.uid, entry.gid)
    };
    assert_eq!(owner("a"), (33, 44));
    for name in ["b", "c", "d"] {
        assert_eq!(owner(name), (0, 0), "{name}");
    }
}

#[test]
fn a_device_that_could_not_be_made_was_not_removed() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let store = Store::open(&at("store")).unwrap();
    fs::create_dir(at("unpacked")).unwrap();
    fs::create_dir(at("copy")).unwrap();
    let mut before = Tree::new();
    before.insert(path("null"), Entry::new(Node::CharDevice(1, 3), 0o666));
    let gone = |reading| {
        let found = Found {
            before: &before,
            unpacked: &at("unpacked"),
            directory: &at("copy"),
            reading,
            ownership: Ownership::Real,
            owners: &BTreeMap::new(),
            masked: &BTreeSet::new(),
            made: &BTreeSet::new(),
        };
        shown(&collect(&found, &store).unwrap().changes)
    };
    let whole = Reading::Whole { since: 0 };
    assert_eq!(gone(whole), [""; 0]);
    // What stands there need not be a device for this.
    fs::write(at("unpacked/null"), "").unwrap();
    assert_eq!(gone(whole), ["/null gone"]);
}

#[test]
fn a_file_that_is_one_endless_hole_is_refused_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let upper = scratch.path().join("upper");
    let store = Store::open(&scratch.path().join("store")).unwrap();
    fs::create_dir(&upper).unwrap();
    let hole = fs::File::create(upper.join("hole")).unwrap();
    if hole.set_len(8 << 40).is_err() {
        eprintln!("skipped: this file system has no files of this size");
        return;
    }
    let found = Found {
        before: &Tree::new(),
        unpacked: &upper,
        directory: &upper,
        reading: Reading::Upper,
        ownership: Ownership::Real,
        owners: &BTreeMap::new(),
        masked: &BTreeSet::new(),
        made: &BTreeSet::new(),
    };
    let error = collect(&found, &store).unwrap_err();
    assert!(error.to_string().contains("hole"), "{error}");
}
