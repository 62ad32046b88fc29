//! What the store holds, and how it is kept small.
//!
//! Files are forgotten one by one, the least recently used first. A blob counts as used when a
//! record that refers to it was, and of two files of the same age the record goes first: so at
//! every instant of a cleaning, also of one that is killed, no record stands without its blobs.
//! Records whose blobs are gone for other reasons go at once. Only a store that is held alone can
//! be cleaned, which is a type of its own.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::store::blobs::Store;
use crate::store::error::StoreError;
use crate::store::record::Record;

/// A store that no build uses: the only kind that may be cleaned. It can do all else that a store
/// can.
#[derive(Debug)]
pub struct ExclusiveStore(Store);

/// One file of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Its name: a digest in hex.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last used, to the hour.
    pub used: SystemTime,
    path: PathBuf,
}

/// What a file of the store is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemKind {
    /// A layer, config or manifest, or an uncompressed layer.
    Blob,
    /// A record of this kind.
    Record(String),
    /// The file index of a context.
    Index,
}

/// What the store holds in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Number of blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Number of records and file indexes.
    pub records: u64,
    /// Their bytes.
    pub record_bytes: u64,
}

/// What may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GcPolicy {
    /// The most bytes that the store may hold; what was used last stays.
    pub max_bytes: Option<u64>,
    /// How long ago something may have been used last.
    pub max_age: Option<Duration>,
}

/// What was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GcReport {
    /// Number of files.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// What is left.
    pub left: Usage,
}

impl Usage {
    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.blob_bytes + self.record_bytes
    }

    fn add(&mut self, item: &Item) {
        let (count, bytes) = match item.kind {
            ItemKind::Blob => (&mut self.blobs, &mut self.blob_bytes),
            ItemKind::Record(_) | ItemKind::Index => (&mut self.records, &mut self.record_bytes),
        };
        *count += 1;
        *bytes += item.size;
    }
}

impl Deref for ExclusiveStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.0
    }
}

impl Store {
    /// All files of the store, the least recently used first.
    ///
    /// # Errors
    /// The file system failing.
    pub fn items(&self) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::new();
        let blobs = self.root().join("blobs/sha256");
        collect(&blobs, &ItemKind::Blob, &mut items)?;
        collect(&self.root().join("index"), &ItemKind::Index, &mut items)?;
        for kind in folders(&self.root().join("records"))? {
            let name = name_of(&kind);
            for part in folders(&kind)? {
                collect(&part, &ItemKind::Record(name.clone()), &mut items)?;
            }
        }
        sort(&mut items);
        Ok(items)
    }

    /// What the store holds in all.
    ///
    /// # Errors
    /// The file system failing.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let mut usage = Usage::default();
        self.items()?.iter().for_each(|item| usage.add(item));
        Ok(usage)
    }
}

impl ExclusiveStore {
    /// For a store whose lock is exclusive.
    pub(crate) fn new(store: Store) -> ExclusiveStore {
        ExclusiveStore(store)
    }

    /// Takes away what the policy does not let stay, records without their blobs, and what killed
    /// builds have left. What a record that stays refers to stays too.
    ///
    /// # Errors
    /// The file system failing.
    pub fn gc(&self, policy: GcPolicy, now: SystemTime) -> Result<GcReport, StoreError> {
        sweep_temporary(self.root())?;
        self.sync_noted()?;
        let (items, worthless) = bind(self.items()?)?;
        let mut report = GcReport::default();
        for item in &worthless {
            report.remove(item)?;
        }
        let mut bytes: u64 = items.iter().map(|item| item.size).sum();
        for item in &items {
            let age = now.duration_since(item.used).unwrap_or_default();
            let is_old = policy.max_age.is_some_and(|most| age > most);
            let is_too_much = policy.max_bytes.is_some_and(|most| bytes > most);
            if is_old || is_too_much {
                bytes -= item.size;
                report.remove(item)?;
            } else {
                report.left.add(item);
            }
        }
        Ok(report)
    }

    /// Takes away every blob, record and index.
    ///
    /// # Errors
    /// The file system failing.
    pub fn clear(&self) -> Result<GcReport, StoreError> {
        sweep_temporary(self.root())?;
        self.sync_noted()?;
        let mut report = GcReport::default();
        let (blobs, others): (Vec<Item>, Vec<Item>) =
            (self.items()?.into_iter()).partition(|item| item.kind == ItemKind::Blob);
        for item in others.iter().chain(&blobs) {
            report.remove(item)?;
        }
        Ok(report)
    }
}

impl GcReport {
    fn remove(&mut self, item: &Item) -> Result<(), StoreError> {
        match fs::remove_file(&item.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &item.path)(error));
            }
            _ => self.removed += 1,
        }
        self.removed_bytes += item.size;
        Ok(())
    }
}

/// Takes away the files without a name. Held alone, the store has none that belong to anyone.
pub(crate) fn sweep_temporary(root: &Path) -> Result<(), StoreError> {
    for (path, _) in files(&root.join("tmp"))? {
        fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
    }
    Ok(())
}

/// The files in a folder, without those that go while it is read.
pub(crate) fn files(folder: &Path) -> Result<Vec<(PathBuf, Metadata)>, StoreError> {
    let mut found = list(folder)?;
    found.retain(|(_, metadata)| !metadata.is_dir());
    Ok(found)
}

/// The folders in a folder.
pub(crate) fn folders(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let found = list(folder)?.into_iter();
    Ok(found
        .filter(|(_, metadata)| metadata.is_dir())
        .map(|(path, _)| path)
        .collect())
}

fn list(folder: &Path) -> Result<Vec<(PathBuf, Metadata)>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(StoreError::io("list", folder))? {
        let path = entry.map_err(StoreError::io("list", folder))?.path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) => found.push((path, metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        }
    }
    Ok(found)
}

fn collect(folder: &Path, kind: &ItemKind, items: &mut Vec<Item>) -> Result<(), StoreError> {
    for (path, metadata) in files(folder)? {
        items.push(Item {
            kind: kind.clone(),
            name: name_of(&path),
            size: metadata.len(),
            used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            path,
        });
    }
    Ok(())
}

/// Makes every blob as young as the youngest record that refers to it, and sorts out the records
/// that are damaged or have lost a blob.
fn bind(items: Vec<Item>) -> Result<(Vec<Item>, Vec<Item>), StoreError> {
    let is_blob = |item: &Item| item.kind == ItemKind::Blob;
    let (mut kept, others): (Vec<Item>, Vec<Item>) = items.into_iter().partition(is_blob);
    let places: HashMap<String, usize> = (kept.iter().enumerate())
        .map(|(at, item)| (item.name.clone(), at))
        .collect();
    let mut worthless = Vec::new();
    for item in others {
        let blobs = match item.kind {
            ItemKind::Record(_) => Record::read(&item.path)?.map(|record| record.blobs),
            ItemKind::Blob | ItemKind::Index => Some(Vec::new()),
        };
        let found: Option<Vec<usize>> = blobs.and_then(|blobs| {
            (blobs.iter())
                .map(|blob| places.get(&blob.hex()).copied())
                .collect()
        });
        match found {
            Some(found) => {
                for at in found {
                    kept[at].used = kept[at].used.max(item.used);
                }
                kept.push(item);
            }
            None => worthless.push(item),
        }
    }
    sort(&mut kept);
    Ok((kept, worthless))
}

/// The least recently used first; of the same age, blobs last, for records refer to them.
fn sort(items: &mut [Item]) {
    items.sort_by(|one, two| {
        let place = |item: &Item| (item.used, item.kind == ItemKind::Blob);
        (place(one).cmp(&place(two)))
            .then_with(|| (&one.kind, &one.name).cmp(&(&two.kind, &two.name)))
    });
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;
    use crate::store::key::KeyRecord;

    fn filled(root: &Path) -> ExclusiveStore {
        let store = Store::open_exclusive(root).unwrap();
        for (number, age) in [(1u8, 30), (2, 20), (3, 10)] {
            let digest = store.put_blob(&[number; 1000]).unwrap();
            let file = fs::OpenOptions::new()
                .write(true)
                .open(store.blob_path(&digest))
                .unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age * 86_400))
                .unwrap();
        }
        store.put_record(&KeyRecord::new("test"), b"value").unwrap();
        fs::write(root.join("tmp/left-by-a-killed-build"), "x").unwrap();
        store
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let scratch = tempfile::tempdir().unwrap();
        let store = filled(scratch.path());
        let usage = store.usage().unwrap();
        assert_eq!((usage.blobs, usage.blob_bytes, usage.records), (3, 3000, 1));
        let policy = GcPolicy {
            max_bytes: Some(usage.bytes() - 1),
            max_age: None,
        };
        let report = store.gc(policy, SystemTime::now()).unwrap();
        assert_eq!(
            (report.removed, report.removed_bytes, report.left.blobs),
            (1, 1000, 2)
        );
        assert!(!store.contains_blob(&Digest::of(&[1; 1000])).unwrap());
        assert_eq!(fs::read_dir(scratch.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_old_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let store = filled(scratch.path());
        let policy = GcPolicy {
            max_bytes: None,
            max_age: Some(Duration::from_secs(15 * 86_400)),
        };
        let report = store.gc(policy, SystemTime::now()).unwrap();
        assert_eq!(
            (report.removed, report.left.blobs, report.left.records),
            (2, 1, 1)
        );
    }

    #[test]
    fn using_something_keeps_it() {
        let scratch = tempfile::tempdir().unwrap();
        let store = filled(scratch.path());
        let oldest = Digest::of(&[1; 1000]);
        drop(store.open_blob(&oldest).unwrap().unwrap());
        let policy = GcPolicy {
            max_bytes: None,
            max_age: Some(Duration::from_secs(25 * 86_400)),
        };
        assert_eq!(store.gc(policy, SystemTime::now()).unwrap().removed, 0);
    }

    #[test]
    fn clearing_leaves_an_empty_store() {
        let scratch = tempfile::tempdir().unwrap();
        let store = filled(scratch.path());
        assert_eq!(store.clear().unwrap().removed, 4);
        assert_eq!(store.usage().unwrap(), Usage::default());
        drop(store);
        Store::open(scratch.path()).unwrap();
    }

    /// Three layers of ages 30, 20 and 10 days, and for each a record of the age that is given.
    fn layers(root: &Path, ages: [u64; 3]) -> (ExclusiveStore, [Digest; 3], [KeyRecord; 3]) {
        let store = filled(root);
        let blobs = [1u8, 2, 3].map(|number| Digest::of(&[number; 1000]));
        let keys = [1u64, 2, 3].map(|number| KeyRecord::new("layer").field("n", number));
        for (at, age) in ages.into_iter().enumerate() {
            store
                .put_record_with_blobs(&keys[at], b"layer", &[blobs[at]])
                .unwrap();
            let name = keys[at].digest().hex();
            let items = store.items().unwrap();
            let item = items.iter().find(|item| item.name == name).unwrap();
            let file = fs::OpenOptions::new().write(true).open(&item.path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age * 86_400))
                .unwrap();
        }
        (store, blobs, keys)
    }

    #[test]
    fn what_a_kept_record_refers_to_is_kept() {
        for most in (0..5000).step_by(211) {
            let scratch = tempfile::tempdir().unwrap();
            let (store, blobs, keys) = layers(scratch.path(), [1, 25, 15]);
            let policy = GcPolicy {
                max_bytes: Some(most),
                max_age: None,
            };
            let report = store.gc(policy, SystemTime::now()).unwrap();
            assert!(report.left.bytes() <= most);
            assert_eq!(report.left, store.usage().unwrap());
            for (blob, key) in blobs.iter().zip(&keys) {
                let has_record = store.record(key).unwrap().is_some();
                assert!(!has_record || store.contains_blob(blob).unwrap(), "{most}");
            }
        }
    }

    #[test]
    fn a_record_keeps_an_older_blob_young() {
        let scratch = tempfile::tempdir().unwrap();
        let (store, blobs, keys) = layers(scratch.path(), [1, 25, 15]);
        let policy = GcPolicy {
            max_bytes: None,
            max_age: Some(Duration::from_secs(12 * 86_400)),
        };
        // Goes: the second blob, and the records of the second and the third.
        assert_eq!(store.gc(policy, SystemTime::now()).unwrap().removed, 3);
        let left = blobs.map(|blob| store.contains_blob(&blob).unwrap());
        assert_eq!(left, [true, false, true]);
        let left = keys.map(|key| store.record(&key).unwrap().is_some());
        assert_eq!(left, [true, false, false]);
    }

    #[test]
    fn a_record_without_its_blob_goes_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let (store, blobs, keys) = layers(scratch.path(), [1, 1, 1]);
        fs::remove_file(store.blob_path(&blobs[0])).unwrap();
        let report = store.gc(GcPolicy::default(), SystemTime::now()).unwrap();
        assert_eq!((report.removed, report.left.records), (1, 3));
        assert_eq!(store.record(&keys[0]).unwrap(), None);
    }

    #[test]
    fn strange_things_in_the_store_do_not_stop_cleaning() {
        let scratch = tempfile::tempdir().unwrap();
        let store = filled(scratch.path());
        for folder in ["tmp/folder", "blobs/sha256/folder", "index/folder"] {
            fs::create_dir(scratch.path().join(folder)).unwrap();
        }
        fs::write(scratch.path().join("records/stray"), "x").unwrap();
        std::os::unix::fs::symlink("/nowhere", scratch.path().join("tmp/link")).unwrap();
        assert_eq!(store.clear().unwrap().removed, 4);
        assert_eq!(store.usage().unwrap(), Usage::default());
    }

    #[test]
    fn whoever_is_alone_sweeps_what_killed_builds_left() {
        let scratch = tempfile::tempdir().unwrap();
        let left = scratch.path().join("tmp/left-by-a-killed-build");
        drop(filled(scratch.path()));
        let first = Store::open(scratch.path()).unwrap();
        assert!(!left.exists());
        fs::write(&left, "this could be the first one's").unwrap();
        drop(Store::open(scratch.path()).unwrap());
        assert!(left.exists());
        drop(first);
        drop(Store::open(scratch.path()).unwrap());
        assert!(!left.exists());
    }
}
