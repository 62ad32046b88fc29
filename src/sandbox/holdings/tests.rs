//! What lies in a store is found, measured, chosen and removed.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::*;
use crate::sandbox::probe::Circumstances;
use crate::sandbox::stop::StopSwitch;
use crate::store::Store;

fn settings(root: &Path) -> SandboxSettings {
    SandboxSettings {
        program: "/nonexistent".into(),
        scratch: root.join("scratch"),
        letter: None,
        stop: StopSwitch::default(),
        circumstances: Circumstances::Usual,
    }
}

fn store() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for made in [
        "trees/aa-root/root",
        "trees/new-x",
        "trees/gone-y",
        "caches/npm",
        "caches/.gone-pip",
        "caches/.locks",
        "scratch/run-1",
    ] {
        fs::create_dir_all(root.join(made)).unwrap();
    }
    fs::write(root.join("trees/aa-root/listing"), "l").unwrap();
    fs::write(root.join("caches/.locks/npm"), "").unwrap();
    fs::write(root.join("scratch/run-1.lock"), "").unwrap();
    fs::write(root.join("caches/npm/file"), vec![1; 10_000]).unwrap();
    fs::hard_link(root.join("caches/npm/file"), root.join("caches/npm/again")).unwrap();
    folder
}

#[test]
fn everything_is_found_and_only_once() {
    let folder = store();
    let found = holdings(folder.path(), &settings(folder.path())).unwrap();
    let names: Vec<_> = found
        .iter()
        .map(|one| (one.kind, one.name.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            (HoldingKind::Scratch, ".gone-pip"),
            (HoldingKind::Scratch, "gone-y"),
            (HoldingKind::Scratch, "new-x"),
            (HoldingKind::Scratch, "run-1"),
            (HoldingKind::Tree, "aa-root"),
            (HoldingKind::Cache, "npm"),
        ]
    );
    let blocks = |name: &str| fs::metadata(folder.path().join(name)).unwrap().blocks() * 512;
    let npm = blocks("caches/npm") + blocks("caches/npm/file");
    assert_eq!(found[5].size, npm);
    assert!(found.iter().all(|one| one.is_measured));
    assert_eq!(
        holdings(&folder.path().join("none"), &settings(folder.path())).unwrap(),
        []
    );
}

#[test]
fn holes_take_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let empty = room(folder.path()).bytes;
    let file = File::create(folder.path().join("hole")).unwrap();
    file.set_len(1 << 40).unwrap();
    let hole = file.metadata().unwrap().blocks() * 512;
    assert!(room(folder.path()).bytes <= empty + hole + 4096 && hole < 1 << 20);
}

#[test]
fn what_is_discarded_is_gone_with_its_lock() {
    let folder = store();
    let root = folder.path();
    let found = holdings(root, &settings(root)).unwrap();
    discard(&found, &settings(root)).unwrap();
    assert_eq!(holdings(root, &settings(root)).unwrap(), []);
    for left in ["trees", "scratch"] {
        assert_eq!(fs::read_dir(root.join(left)).unwrap().count(), 0, "{left}");
    }
    // The time of a lock is the last use of a cache, which is worth knowing when it comes back.
    assert!(root.join("caches/.locks").is_dir());
}

fn holding(kind: HoldingKind, name: &str, size: u64, days: u64, now: SystemTime) -> Holding {
    Holding {
        kind,
        name: name.to_owned(),
        size,
        is_measured: true,
        used: now - Duration::from_secs(days * 86_400),
        path: PathBuf::new(),
    }
}

#[test]
fn the_least_valuable_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    // One blob, used now.
    store.put_blob(&[7; 1000]).unwrap();
    let items = store.items().unwrap();
    let now = items[0].used;
    let found = || {
        vec![
            holding(HoldingKind::Cache, "old", 100, 9, now),
            holding(HoldingKind::Cache, "new", 100, 1, now),
            holding(HoldingKind::Tree, "stale", 100, 3, now),
            holding(HoldingKind::Tree, "fresh", 100, 0, now),
            holding(HoldingKind::Scratch, "left", 100, 0, now),
        ]
    };
    let day = |days: u64| Some(Duration::from_secs(days * 86_400));
    let cases: [(Option<u64>, Option<Duration>, &[&str]); 9] = [
        (Some(9999), None, &["left"]),
        (Some(1400), None, &["left"]),
        (Some(1399), None, &["left", "stale"]),
        (Some(1299), None, &["left", "stale", "fresh"]),
        (Some(1199), None, &["left", "stale", "fresh", "old"]),
        (Some(1099), None, &["left", "stale", "fresh", "old", "new"]),
        (Some(0), None, &["left", "stale", "fresh", "old", "new"]),
        (None, day(2), &["old", "stale", "left"]),
        (Some(1299), day(5), &["old", "left", "stale"]),
    ];
    for (max_bytes, max_age, gone) in cases {
        let policy = GcPolicy { max_bytes, max_age };
        let chosen = choose(found(), &items, policy, now);
        let names: Vec<_> = chosen.gone.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, gone, "{policy:?}");
        assert_eq!(chosen.left.len(), 5 - gone.len());
        let kept: u64 = chosen.left.iter().map(|one| one.size).sum();
        assert_eq!(chosen.store.max_bytes, max_bytes.map(|most| most - kept));
    }
}
