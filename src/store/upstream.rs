//! Records that another store has: asked for when ours has none.

use std::collections::BTreeMap;
use std::fmt;

use crate::oci::Digest;
use crate::store::key::{KeyRecord, put, put_number, take, take_number};
use crate::store::record::Record;
use crate::store::{Store, StoreError};

/// Another place that records come from.
pub trait Upstream: Send + Sync + fmt::Debug {
    /// Brings the record under `key` into `store`, with all blobs that it refers to, if the place
    /// has it and it may be believed. Whatever goes wrong is the place's to remember and tell: a
    /// cache that does not answer is one that has nothing.
    fn bring(&self, key: &KeyRecord, store: &Store) -> bool;
}

/// Records on their way to another store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundle {
    /// The files of the records, by the digests of their keys.
    files: BTreeMap<Digest, Vec<u8>>,
}

const MAGIC: &[u8] = b"boxwright bundle 1\n";

impl Bundle {
    /// Adds a record that the store has whole; false if it or one of its blobs is gone.
    ///
    /// # Errors
    /// The file system failing.
    pub fn add(&mut self, key: &KeyRecord, store: &Store) -> Result<bool, StoreError> {
        let Some(file) = store.record_file(key)? else {
            return Ok(false);
        };
        let Some(record) = Record::parse(&file) else {
            return Ok(false);
        };
        for blob in &record.blobs {
            if !store.contains_blob(blob)? {
                return Ok(false);
            }
        }
        self.files.insert(key.digest(), file);
        Ok(true)
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The record under `key`.
    pub fn record(&self, key: &KeyRecord) -> Option<Record> {
        let record = Record::parse(self.files.get(&key.digest())?)?;
        (record.key == *key).then_some(record)
    }

    /// All records that are whole.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.files.values().filter_map(|file| Record::parse(file))
    }

    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        put_number(&mut bytes, self.files.len() as u64);
        for file in self.files.values() {
            put(&mut bytes, file);
        }
        bytes
    }

    /// Reads what [`Bundle::encode`] wrote; `None` for anything else. Records of other versions
    /// are left out.
    pub fn decode(bytes: &[u8]) -> Option<Bundle> {
        let (count, mut rest) = take_number(bytes.strip_prefix(MAGIC)?)?;
        let mut files = BTreeMap::new();
        for _ in 0..count {
            let (file, bytes) = take(rest)?;
            if let Some(record) = Record::parse(file) {
                files.insert(record.key.digest(), file.to_vec());
            }
            rest = bytes;
        }
        rest.is_empty().then_some(Bundle { files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_has_what_was_put_into_it_and_is_whole_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let blob = store.put_blob(b"blob").unwrap();
        let key = |number: u64| KeyRecord::new("test").field("n", number);
        store
            .put_record_with_blobs(&key(1), b"one", &[blob])
            .unwrap();
        let gone = [Digest::of(b"gone")];
        store.put_record_with_blobs(&key(2), b"two", &gone).unwrap();
        let mut bundle = Bundle::default();
        let added = [1, 2, 3].map(|number| bundle.add(&key(number), &store).unwrap());
        assert_eq!(added, [true, false, false]);
        let bytes = bundle.encode();
        let again = Bundle::decode(&bytes).unwrap();
        assert_eq!(again, bundle);
        let record = again.record(&key(1)).unwrap();
        assert_eq!((record.value, record.blobs), (b"one".to_vec(), vec![blob]));
        assert!(again.record(&key(2)).is_none());
        for end in 0..bytes.len() {
            assert_eq!(Bundle::decode(&bytes[..end]), None, "{end}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let whole = Bundle::decode(&flipped).is_some_and(|found| !found.is_empty());
            assert!(!whole, "{at}");
        }
    }
}
