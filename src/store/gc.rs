//! What the store holds, and how it is kept small.
//!
//! Blobs and records are forgotten one by one, the least recently used first. A record whose blob
//! is gone is no hit, and a blob that no record names is found by its digest or not at all, so
//! nothing can be left half: every look-up checks what it needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::store::blobs::Store;
use crate::store::error::StoreError;

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

impl Store {
    /// All files of the store, the least recently used first.
    ///
    /// # Errors
    /// The file system failing.
    pub fn items(&self) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::new();
        collect(
            &self.root().join("blobs/sha256"),
            &ItemKind::Blob,
            &mut items,
        )?;
        collect(&self.root().join("index"), &ItemKind::Index, &mut items)?;
        for kind in folder(&self.root().join("records"))? {
            let name = kind
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            for part in folder(&kind)? {
                collect(&part, &ItemKind::Record(name.clone()), &mut items)?;
            }
        }
        items.sort_by(|one, two| {
            (one.used, &one.kind, &one.name).cmp(&(two.used, &two.kind, &two.name))
        });
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

    /// Takes away what the policy does not let stay, and what killed builds have left. The store
    /// must have been opened with [`Store::open_exclusive`].
    ///
    /// # Errors
    /// The file system failing.
    pub fn gc(&self, policy: GcPolicy, now: SystemTime) -> Result<GcReport, StoreError> {
        self.sweep_temporary()?;
        let items = self.items()?;
        let mut report = GcReport::default();
        let mut bytes: u64 = items.iter().map(|item| item.size).sum();
        for item in &items {
            let age = now.duration_since(item.used).unwrap_or_default();
            let is_old = policy.max_age.is_some_and(|most| age > most);
            let is_too_much = policy.max_bytes.is_some_and(|most| bytes > most);
            if is_old || is_too_much {
                fs::remove_file(&item.path).map_err(StoreError::io("remove", &item.path))?;
                bytes -= item.size;
                report.removed += 1;
                report.removed_bytes += item.size;
            } else {
                report.left.add(item);
            }
        }
        Ok(report)
    }

    /// Takes away everything. The store must have been opened with [`Store::open_exclusive`].
    ///
    /// # Errors
    /// The file system failing.
    pub fn clear(&self) -> Result<GcReport, StoreError> {
        self.gc(
            GcPolicy {
                max_bytes: Some(0),
                max_age: Some(Duration::ZERO),
            },
            self.opened(),
        )
    }

    /// With the store alone, no file without a name can belong to anyone.
    fn sweep_temporary(&self) -> Result<(), StoreError> {
        for path in folder(&self.root().join("tmp"))? {
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
        Ok(())
    }
}

fn folder(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(path).map_err(StoreError::io("list", path))?;
    entries
        .map(|entry| Ok(entry.map_err(StoreError::io("list", path))?.path()))
        .collect()
}

fn collect(path: &Path, kind: &ItemKind, items: &mut Vec<Item>) -> Result<(), StoreError> {
    for path in folder(path)? {
        let metadata = fs::metadata(&path).map_err(StoreError::io("read", &path))?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        items.push(Item {
            kind: kind.clone(),
            name,
            size: metadata.len(),
            used,
            path,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::KeyRecord;

    fn filled(root: &Path) -> Store {
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
        assert!(
            !store
                .contains_blob(&crate::oci::Digest::of(&[1; 1000]))
                .unwrap()
        );
        assert_eq!(
            folder(&scratch.path().join("tmp")).unwrap(),
            [] as [PathBuf; 0]
        );
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
        let oldest = crate::oci::Digest::of(&[1; 1000]);
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
}
