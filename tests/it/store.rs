//! The store under what it must survive: killed writers, several processes, a full disk, and files
//! that change within one tick of the clock that stamps them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use boxwright::oci::{Digest, HashingWriter};
use boxwright::store::{FileIndex, IndexBuilder, KeyRecord, Known, Store, StoreError};
use boxwright::tree::{FileStat, LayerPath, Xattrs};

use crate::support::mount::Mount;

/// Where a child process of these tests finds its store; only such a process writes.
const CHILD_STORE: &str = "BOXWRIGHT_TEST_CHILD_STORE";

/// Different sizes, so that kills land in all parts of a write.
const SIZES: [usize; 4] = [10, 5_000, 300_000, 3_000_000];

/// A child whose parent is gone ends by itself.
const LIFE: Duration = Duration::from_secs(120);

/// No test by itself: a process that writes blobs and records until it is killed.
#[test]
fn child_that_writes() {
    let Some(root) = std::env::var_os(CHILD_STORE) else {
        return;
    };
    let store = Store::open(Path::new(&root)).expect("open");
    let born = Instant::now();
    for round in (0u64..).take_while(|_| born.elapsed() < LIFE) {
        for size in SIZES {
            write_pair(&store, round % 40, size).expect("write");
        }
    }
}

fn write_pair(store: &Store, round: u64, size: usize) -> Result<(), StoreError> {
    let bytes = content(round, size);
    let mut writer = HashingWriter::new(store.create_blob()?);
    // In parts, so that the file grows in view of a kill.
    for part in bytes.chunks(60_000) {
        writer.write_all(part).expect("write a part");
    }
    let (writer, digest, size) = writer.finish();
    writer.finish_as(digest, size)?;
    store.put_record_with_blobs(&key(round, size), digest.raw(), &[digest])
}

fn content(round: u64, size: usize) -> Vec<u8> {
    let seed = round.to_le_bytes();
    (0..size)
        .map(|at| seed[at % 8] ^ at as u8 ^ (at >> 8) as u8)
        .collect()
}

fn key(round: u64, size: u64) -> KeyRecord {
    KeyRecord::new("test")
        .field("round", round)
        .field("size", size)
}

fn spawn(root: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "store::child_that_writes"])
        .env(CHILD_STORE, root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start a child")
}

/// Every file under a name is whole: blobs are what they are called, records are as written and
/// their blobs are there. Returns how many blobs and records there are.
fn check(store: &Store) -> (usize, usize) {
    let mut blobs = 0;
    for file in fs::read_dir(store.root().join("blobs/sha256")).expect("list") {
        let path = file.expect("list").path();
        let found = Digest::of(&fs::read(&path).expect("read"));
        assert_eq!(
            Some(found.hex().as_str()),
            path.file_name().and_then(|name| name.to_str())
        );
        blobs += 1;
    }
    let files = store.usage().expect("usage").records;
    let records: Vec<_> = store
        .records("test")
        .expect("list")
        .map(|record| record.expect("read"))
        .collect();
    assert_eq!(records.len() as u64, files, "a torn record has a name");
    for record in &records {
        let number = |at| match record.key.fields().nth(at) {
            Some((_, boxwright::store::Value::Number(number))) => *number,
            other => panic!("{other:?}"),
        };
        let bytes = content(number(0), number(1) as usize);
        assert_eq!(record.value, Digest::of(&bytes).raw());
        assert!(store.contains_blob(&Digest::of(&bytes)).expect("look"));
    }
    (blobs, records.len())
}

#[test]
fn killed_writers_leave_whole_files_only() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path();
    let mut written = (0, 0);
    for kill in 0..25u64 {
        let mut children = [spawn(root), spawn(root)];
        std::thread::sleep(Duration::from_millis(40 + kill * 7));
        for child in &mut children {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
        // Alone again: what the two have left under temporary names is swept.
        let store = Store::open(root).expect("a killed process holds no lock");
        assert_eq!(fs::read_dir(root.join("tmp")).expect("list").count(), 0);
        written = check(&store);
    }
    assert!(
        written.0 > 0 && written.1 > 0,
        "no child came to write anything"
    );
}

#[test]
fn processes_write_the_same_at_once() {
    let scratch = tempfile::tempdir().expect("scratch");
    let mut children = [(); 3].map(|()| spawn(scratch.path()));
    let store = Store::open(scratch.path()).expect("open");
    for round in 0..20 {
        for size in SIZES {
            write_pair(&store, round, size).expect("write");
        }
    }
    assert!(matches!(
        Store::open_exclusive(scratch.path()),
        Err(StoreError::Busy(_))
    ));
    for child in &mut children {
        assert!(
            child.try_wait().expect("look").is_none(),
            "a writer failed beside the others"
        );
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    let (blobs, records) = check(&store);
    assert!(blobs >= 80 && records >= 80);
}

#[test]
fn a_full_disk_leaves_whole_files_and_says_what_to_do() {
    let scratch = tempfile::tempdir().expect("scratch");
    let Some(disk) = Mount::new("tmpfs", "size=1m", scratch.path()) else {
        return;
    };
    {
        let store = Store::open(&disk.0).expect("open");
        let small = store.put_blob(b"small").expect("there is room");
        let large = vec![1; 2 << 20];
        let record = KeyRecord::new("large");
        let digest = Digest::of(&large);
        for error in [
            store.put_blob(&large).expect_err("full"),
            store
                .import_blob(&digest, Some(2 << 20), &large[..])
                .expect_err("full"),
            store.put_record(&record, &large).expect_err("full"),
        ] {
            assert!(error.is_disk_full(), "{error:?}");
            assert!(error.to_string().contains("boxwright cache gc"), "{error}");
        }
        assert_eq!(fs::read_dir(disk.0.join("tmp")).expect("list").count(), 0);
        assert!(!store.contains_blob(&digest).expect("look"));
        assert_eq!(store.record(&record).expect("look"), None);
        assert!(store.contains_blob(&small).expect("look"));
        // What failed has given its room back.
        store
            .put_blob(&large[..500_000])
            .expect("there is room again");
    }
}

#[test]
fn a_second_change_within_one_tick_is_not_missed() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("store");
    let folder = scratch.path().join("context");
    fs::create_dir(&folder).expect("make");
    // Since Linux 6.13 the common file systems give a change after a look a time of its own. This
    // one does not, as older kernels, network and overlay file systems do not.
    let Some(_coarse) = Mount::new("ramfs", "mode=755", &folder) else {
        return;
    };
    let file = folder.join("file");
    let path = LayerPath::parse(b"file").expect("a path");
    let context = Digest::of(b"context");
    let store = Store::open(&root).expect("open");
    let known = Known {
        digest: Some(Digest::of(b"one")),
        xattrs: Xattrs::default(),
    };
    let mut unseen = 0;
    for _ in 0..200 {
        // Nothing between the two changes, so that most fall into one tick.
        fs::write(&file, "one").expect("write");
        let first = stat(&file);
        fs::write(&file, "two").expect("write");
        let second = stat(&file);
        unseen += u32::from(first == second);
        let mut index = IndexBuilder::new(store.opened());
        index.add(&path, &first, &known);
        index.save(&store, &context).expect("save");
        let index = FileIndex::load(&store, &context).expect("load");
        assert_eq!(
            index.lookup(&path, &second),
            None,
            "the second change would be missed"
        );
    }
    assert!(unseen > 0, "no two changes fell into one tick");
}

fn stat(path: &Path) -> FileStat {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::symlink_metadata(path).expect("stat");
    let nanoseconds =
        |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    FileStat {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        mtime: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        ctime: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    }
}

#[test]
fn a_folder_of_someone_else_is_no_store() {
    let fill = |entries: &[&str]| {
        let folder = tempfile::tempdir().expect("a folder");
        for entry in entries {
            let path = folder.path().join(entry);
            fs::create_dir_all(path.parent().expect("a parent")).expect("make a folder");
            match entry.ends_with('/') {
                true => fs::create_dir_all(&path).expect("make a folder"),
                false => fs::write(&path, "mine").expect("write a file"),
            }
        }
        folder
    };
    for entries in [
        &["notes.txt"][..],
        &["tmp/notes.txt"],
        &["blobs/sha256/mine", "oci-layout", "index.json"],
        &["blobs/sha256/mine"],
        &["scratch/d/f"],
    ] {
        let folder = fill(entries);
        let error = Store::open(folder.path())
            .expect_err("no store")
            .to_string();
        assert!(
            error.contains("no store of boxwright's"),
            "{entries:?}: {error}"
        );
        for entry in entries {
            let text = fs::read_to_string(folder.path().join(entry)).expect("it is still there");
            assert_eq!(text, "mine");
        }
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), {
            let tops: std::collections::BTreeSet<_> = entries
                .iter()
                .filter_map(|entry| entry.split('/').next())
                .collect();
            tops.len()
        });
    }
    // Empty ones, those that a kill left half made, and those that were one before.
    for entries in [
        &[][..],
        &["blobs/sha256/"],
        &["blobs/sha256/", "records/", "index/", "tmp/", "lock"],
    ] {
        let folder = fill(entries);
        drop(Store::open(folder.path()).expect("open"));
        Store::open(folder.path()).expect("open again");
    }
}
