//! Records: what was found out before, under keys that name every input.
//!
//! A record's file holds the key whole, the blobs that the value refers to, and the value, behind
//! each other, and a digest over all of it. A look-up compares the key itself and not only its
//! digest. Because a torn file gives itself away, records are not synced one by one: after a power
//! cut one may be absent, and then its value is found out again.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::oci::Digest;
use crate::store::blobs::Store;
use crate::store::error::StoreError;
use crate::store::gc::{files, folders};
use crate::store::key::{KeyRecord, put, put_number, take, take_digest, take_number};

/// One record, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Every input of what was found out.
    pub key: KeyRecord,
    /// What was found out.
    pub value: Vec<u8>,
    /// The blobs without which the value is worth nothing.
    pub blobs: Vec<Digest>,
    /// When it was last used, to the hour; 1970 for one that is no store's yet.
    pub used: SystemTime,
}

const MAGIC: &[u8] = b"boxwright record 2\n";

impl Store {
    /// The value under `key`, if there is one. A record that is damaged is taken away.
    ///
    /// # Errors
    /// The file system failing otherwise than by not having the file.
    pub fn record(&self, key: &KeyRecord) -> Result<Option<Vec<u8>>, StoreError> {
        let mut found = self.own_record(key)?;
        if found.is_none()
            && let Some(upstream) = self.upstream()
            && upstream.bring(key, self)
        {
            found = self.own_record(key)?;
        }
        if found.is_some() {
            self.touch(key);
        }
        Ok(found)
    }

    /// The record's whole file, if there is one.
    pub(crate) fn record_file(&self, key: &KeyRecord) -> Result<Option<Vec<u8>>, StoreError> {
        read(&self.record_path(key))
    }

    fn own_record(&self, key: &KeyRecord) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.record_path(key);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        match Parts::open(&bytes).filter(|parts| parts.key == key.encode()) {
            Some(parts) => {
                self.mark_used(&path);
                Ok(Some(parts.value.to_vec()))
            }
            None => {
                // Someone else may have taken it away already.
                let _ = fs::remove_file(&path);
                Ok(None)
            }
        }
    }

    /// Keeps `value` under `key`, in the place of what was there.
    ///
    /// # Errors
    /// The file system failing; the earlier value stays then.
    pub fn put_record(&self, key: &KeyRecord, value: &[u8]) -> Result<(), StoreError> {
        self.put_record_with_blobs(key, value, &[])
    }

    /// Keeps `value`, which refers to `blobs`: cleaning keeps those as long as the record, and
    /// takes the record away when one of them is gone. Put the blobs first.
    ///
    /// # Errors
    /// As [`Store::put_record`].
    pub fn put_record_with_blobs(
        &self,
        key: &KeyRecord,
        value: &[u8],
        blobs: &[Digest],
    ) -> Result<(), StoreError> {
        self.touch(key);
        let path = self.record_path(key);
        let folder = path
            .parent()
            .expect("a record's path has three parts below the root");
        fs::create_dir_all(folder).map_err(StoreError::io("make", folder))?;
        let key = key.encode();
        let mut bytes = Vec::with_capacity(MAGIC.len() + key.len() + value.len() + 96);
        bytes.extend_from_slice(MAGIC);
        put(&mut bytes, &key);
        put_number(&mut bytes, blobs.len() as u64);
        blobs
            .iter()
            .for_each(|blob| bytes.extend_from_slice(blob.raw()));
        put(&mut bytes, value);
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(checksum.raw());
        self.write_checked(&path, |file| file.write_all(&bytes))
    }

    /// Takes the value under `key` away. It is no error if there is none.
    ///
    /// # Errors
    /// The file system failing; the value stays then.
    pub fn forget_record(&self, key: &KeyRecord) -> Result<(), StoreError> {
        let path = self.record_path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// All whole records of a kind, in the order of their keys' digests. Damaged ones, and those
    /// that go while this looks, are passed over.
    ///
    /// # Errors
    /// The file system failing.
    pub fn records(
        &self,
        kind: &str,
    ) -> Result<impl Iterator<Item = Result<Record, StoreError>>, StoreError> {
        let is_kind = |folder: &PathBuf| folder.file_name().is_some_and(|name| name == kind);
        let mut paths = Vec::new();
        for kind in folders(&self.root().join("records"))?
            .iter()
            .filter(|folder| is_kind(folder))
        {
            for part in folders(kind)? {
                paths.extend(files(&part)?.into_iter().map(|(path, _)| path));
            }
        }
        paths.sort();
        Ok(paths
            .into_iter()
            .filter_map(|path| Record::read(&path).transpose()))
    }

    fn record_path(&self, key: &KeyRecord) -> PathBuf {
        let hex = key.digest().hex();
        self.root()
            .join("records")
            .join(key.kind())
            .join(&hex[..2])
            .join(hex)
    }
}

impl Record {
    /// The record in a file; `None` if it is damaged, of another version, or gone.
    pub(crate) fn read(path: &Path) -> Result<Option<Record>, StoreError> {
        let Some(bytes) = read(path)? else {
            return Ok(None);
        };
        let used = match fs::metadata(path).and_then(|metadata| metadata.modified()) {
            Ok(used) => used,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", path)(error)),
        };
        Ok(Record::parse(&bytes).map(|record| Record { used, ..record }))
    }

    /// The record in these bytes, if they are those of a whole one. When it was used they do not
    /// say.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Record> {
        let parts = Parts::open(bytes)?;
        Some(Record {
            key: KeyRecord::decode(parts.key)?,
            value: parts.value.to_vec(),
            blobs: parts.blobs,
            used: SystemTime::UNIX_EPOCH,
        })
    }
}

/// The parts of a record's file, in place.
struct Parts<'a> {
    key: &'a [u8],
    blobs: Vec<Digest>,
    value: &'a [u8],
}

impl<'a> Parts<'a> {
    /// The parts, if the file is whole.
    fn open(bytes: &'a [u8]) -> Option<Parts<'a>> {
        let (body, checksum) = bytes.split_last_chunk::<32>()?;
        if Digest::of(body).raw() != checksum {
            return None;
        }
        let (key, rest) = take(body.strip_prefix(MAGIC)?)?;
        let (count, mut rest) = take_number(rest)?;
        let mut blobs = Vec::new();
        for _ in 0..count {
            let (blob, bytes) = take_digest(rest)?;
            blobs.push(blob);
            rest = bytes;
        }
        let (value, rest) = take(rest)?;
        rest.is_empty().then_some(Parts { key, blobs, value })
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::key::Value;

    fn key(name: &str, value: impl Into<Value>) -> KeyRecord {
        KeyRecord::new("test").field(name, value)
    }

    fn scratch() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    #[test]
    fn values_come_back_and_can_be_replaced() {
        let (_folder, store) = scratch();
        let key = key("n", 1u64);
        assert_eq!(store.record(&key).unwrap(), None);
        for value in ["one", "two"] {
            store.put_record(&key, value.as_bytes()).unwrap();
            assert_eq!(store.record(&key).unwrap().unwrap(), value.as_bytes());
        }
        for _ in 0..2 {
            store.forget_record(&key).unwrap();
            assert_eq!(store.record(&key).unwrap(), None);
        }
    }

    #[test]
    fn a_damaged_record_is_no_record() {
        let (_folder, store) = scratch();
        let (key, blob) = (key("n", "text"), Digest::of(b"blob"));
        store
            .put_record_with_blobs(&key, b"value", &[blob])
            .unwrap();
        let path = store.record_path(&key);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x40;
            for bytes in [&flipped[..], &whole[..at]] {
                fs::write(&path, bytes).unwrap();
                assert_eq!(store.records("test").unwrap().count(), 0);
                assert_eq!(store.record(&key).unwrap(), None, "{at}");
                assert!(!path.exists());
            }
        }
    }

    #[test]
    fn a_record_answers_only_to_its_own_key() {
        let (_folder, store) = scratch();
        let (one, two) = (key("n", 1u64), key("n", 2u64));
        store.put_record(&one, b"value").unwrap();
        let stolen = store.record_path(&two);
        fs::create_dir_all(stolen.parent().unwrap()).unwrap();
        fs::copy(store.record_path(&one), &stolen).unwrap();
        assert_eq!(store.record(&two).unwrap(), None);
    }

    #[test]
    fn records_are_listed_with_their_keys() {
        let (_folder, store) = scratch();
        let blob = store.put_blob(b"blob").unwrap();
        let keys = [1u64, 2, 3].map(|number| key("n", number));
        for key in &keys {
            store.put_record_with_blobs(key, b"value", &[blob]).unwrap();
        }
        store.put_record(&KeyRecord::new("other"), b"").unwrap();
        fs::write(store.root().join("records/test/stray"), "no folder").unwrap();
        let records: Vec<Record> = store.records("test").unwrap().map(Result::unwrap).collect();
        let digests: Vec<Digest> = records.iter().map(|record| record.key.digest()).collect();
        assert!(digests.is_sorted() && digests.len() == 3);
        for record in records {
            assert!(keys.contains(&record.key));
            assert_eq!(
                (record.value, record.blobs),
                (b"value".to_vec(), vec![blob])
            );
        }
        assert_eq!(store.records("absent").unwrap().count(), 0);
    }
}
