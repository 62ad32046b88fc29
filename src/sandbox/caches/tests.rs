//! Caches are held, told and made, without a sandbox around it.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::thread;

use super::*;
use crate::sandbox::channel::receive;
use crate::sandbox::error::Setup;
use crate::sandbox::tier::Tier;
use crate::tree::LayerPath;

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

fn entry(at: &str, kind: CacheKind) -> CacheEntry {
    CacheEntry {
        path: path(at),
        mode: match kind {
            CacheKind::Directory => 0o750,
            _ => 0o4640,
        },
        kind,
        uid: 0,
        gid: 0,
        modified: (-7, 123_456_789),
        xattrs: Vec::new(),
    }
}

/// Feeds entries, then has `a` put at its place; the content of every file is zeros.
fn filled(folder: &Path, entries: &[CacheEntry]) -> Result<Vec<String>, Setup> {
    let staging = folder.join("staging");
    fs::create_dir(&staging).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let caches = Caches::of(folder).unwrap();
    let filled = thread::scope(|scope| {
        let staging = &staging;
        // Its end closes when it ends, as that of a process does.
        let filling = scope.spawn(move || fill_here(staging, Tier::SingleMap, &theirs));
        assert!(matches!(receive(&ours), Ok(Some(Report::Ready))));
        let mut feeder = Feeder {
            socket: &ours,
            buffer: vec![0; 1000],
        };
        let given = entries
            .iter()
            .try_for_each(|entry| feeder.entry(entry, &mut io::repeat(0)));
        // One that was refused is not listened to any more.
        let _ = given
            .and_then(|()| feeder.place(&caches, "a"))
            .and_then(|()| feeder.tell(&Feed::End));
        filling.join().unwrap()
    });
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
    filled
}

#[test]
fn a_cache_takes_its_place_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("caches/a");
    fs::create_dir_all(&old).unwrap();
    fs::write(old.join("old"), "").unwrap();
    let entries = [
        entry("a", CacheKind::Directory),
        entry("a/closed", CacheKind::Directory),
        entry("a/closed/file", CacheKind::File(2500)),
        entry("a/link", CacheKind::Symlink(b"/etc/passwd".to_vec())),
        entry("a/name", CacheKind::HardLink(path("a/closed/file"))),
    ];
    assert_eq!(filled(folder.path(), &entries).unwrap(), [""; 0]);
    let found = |name: &str| fs::symlink_metadata(old.join(name)).unwrap();
    assert!(!old.join("old").exists());
    assert_eq!(found("closed").mode() & 0o7777, 0o750);
    // An archive brings no setuid.
    assert_eq!(found("closed/file").mode() & 0o7777, 0o640);
    assert_eq!(found("closed/file").size(), 2500);
    assert_eq!(found("closed/file").ino(), found("name").ino());
    for name in ["closed", "closed/file", "link", ""] {
        let time = (found(name).mtime(), found(name).mtime_nsec());
        assert_eq!(time, (-7, 123_456_789), "{name}");
    }
}

#[test]
fn what_reaches_out_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("caches/a");
    fs::create_dir_all(&old).unwrap();
    fs::write(folder.path().join("outside"), "mine").unwrap();
    let start = || entry("a", CacheKind::Directory);
    let away = || entry("a/away", CacheKind::Symlink(b"../..".to_vec()));
    let link = |first: &str| entry("a/z", CacheKind::HardLink(path(first)));
    for (what, rest) in [
        ("in no directory", vec![entry("a/b/c", CacheKind::File(1))]),
        (
            "through a link",
            vec![away(), entry("a/away/x", CacheKind::File(1))],
        ),
        (
            "over a link",
            vec![away(), entry("a/away", CacheKind::File(1))],
        ),
        (
            "twice",
            vec![
                entry("a/f", CacheKind::File(1)),
                entry("a/f", CacheKind::File(1)),
            ],
        ),
        ("a directory again", vec![start()]),
        (
            "a name of what is outside",
            vec![away(), link("a/away/outside")],
        ),
        ("a name of a directory", vec![link("a")]),
        ("a name of a link", vec![away(), link("a/away")]),
        ("a name of nothing", vec![link("a/none")]),
        ("the root", vec![entry("", CacheKind::Directory)]),
        (
            "a link to nothing",
            vec![entry("a/l", CacheKind::Symlink(Vec::new()))],
        ),
    ] {
        let entries = [vec![start()], rest].concat();
        let refused = filled(folder.path(), &entries);
        assert!(refused.is_err(), "{what} was taken");
        assert_eq!(fs::read_dir(&old).unwrap().count(), 0, "{what}");
        assert_eq!(fs::read(folder.path().join("outside")).unwrap(), b"mine");
        fs::remove_dir(folder.path().join("staging")).unwrap();
    }
    let deep: Vec<CacheEntry> = (0..300)
        .map(|depth| entry(&format!("a{}", "/d".repeat(depth)), CacheKind::Directory))
        .collect();
    assert!(filled(folder.path(), &deep).is_err());
}

#[test]
fn a_builder_that_goes_away_leaves_what_was() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("staging")).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    send(
        &ours,
        &Feed::Entry(Box::new(entry("a", CacheKind::Directory))),
    )
    .unwrap();
    send(
        &ours,
        &Feed::Entry(Box::new(entry("a/f", CacheKind::File(5)))),
    )
    .unwrap();
    (&ours).write_all(b"abc").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    let staging = folder.path().join("staging");
    assert!(fill_here(&staging, Tier::SingleMap, &theirs).is_err());
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
    assert!(!folder.path().join("caches").exists());
}

/// What the builder is told of a folder; contents after the entry.
fn told(folder: &Path, tier: Tier) -> Result<Vec<(CacheEntry, Vec<u8>)>, Setup> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut told = Vec::new();
    let packed = thread::scope(|scope| {
        let packing = scope.spawn(move || pack_here(folder, tier, &theirs));
        while let Ok(Some(Report::Entry(entry))) = receive(&ours) {
            let mut content = Vec::new();
            let size = entry.content_size();
            (&ours).take(size).read_to_end(&mut content).unwrap();
            told.push((*entry, content));
        }
        packing.join().unwrap()
    });
    packed.map(|notes| {
        assert_eq!(notes.len(), 1, "the pipe was left out: {notes:?}");
        told
    })
}

#[test]
fn files_are_told_in_order_with_their_owners() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    fs::create_dir(cache.join("a")).unwrap();
    fs::write(cache.join("a/x"), "content").unwrap();
    fs::write(cache.join("a-b"), "").unwrap();
    fs::hard_link(cache.join("a/x"), cache.join("z")).unwrap();
    symlink("/nowhere", cache.join("l")).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        cache.join("pipe"),
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let set =
        |name: &str, value: &[u8]| rustix::fs::setxattr(cache.join("a/x"), name, value, flags);
    if set("user.boxwright.owner", b"33:34").is_err() || set("user.note", b"v").is_err() {
        eprintln!("skipped: attributes cannot be set here");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        // Outside of a namespace the files of a plain user belong to a stranger.
        assert!(told(cache, Tier::SingleMap).is_err());
        return;
    }
    for tier in [Tier::Root, Tier::SingleMap] {
        let told = told(cache, tier).unwrap();
        let paths: Vec<String> = told
            .iter()
            .map(|(entry, _)| entry.path.to_string())
            .collect();
        assert_eq!(
            paths,
            ["", "a", "a/x", "a-b", "l", "z"].map(|at| path(at).to_string())
        );
        let (file, content) = &told[2];
        assert_eq!((file.uid, file.gid), (33, 34));
        assert_eq!(file.xattrs, [(b"user.note".to_vec(), b"v".to_vec())]);
        assert_eq!(content, b"content");
        assert_eq!(told[4].0.kind, CacheKind::Symlink(b"/nowhere".to_vec()));
        let (link, _) = &told[5];
        assert_eq!(link.kind, CacheKind::HardLink(path("a/x")));
        assert_eq!((link.uid, link.gid, link.xattrs.len()), (33, 34, 0));
    }
}

#[test]
fn caches_are_shared_or_held_alone() {
    let folder = tempfile::tempdir().unwrap();
    let caches = Caches::of(folder.path()).unwrap();
    assert_eq!(caches.names().unwrap(), [""; 0]);
    caches.make("b").unwrap();
    caches.make("a").unwrap();
    let never = || panic!("waited");
    let one = caches.hold("a", Hold::Shared, &never).unwrap();
    let two = caches.hold("a", Hold::Shared, &never).unwrap();
    assert!(!caches.is_free("a").unwrap() && caches.is_free("b").unwrap());
    drop(one);
    let waits = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let (caches, told) = (&caches, waits.0);
        let alone = scope.spawn(move || {
            caches
                .hold("a", Hold::Alone, &|| told.send(()).unwrap())
                .unwrap();
        });
        waits.1.recv().expect("it waits for the other");
        drop(two);
        alone.join().unwrap();
    });
    caches.hold("a", Hold::Alone, &never).unwrap();
    assert_eq!(caches.names().unwrap(), ["a", "b"]);
}
