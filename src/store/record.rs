//! Records: what was found out before, under keys that name every input.
//!
//! A key is a list of named, typed fields. Its bytes are length-framed, so two different lists
//! never look alike, and they are kept whole beside the value: a look-up compares the key itself
//! and not only its digest, and two keys can be compared field by field to tell why one missed.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use crate::oci::{DiffId, Digest};
use crate::store::blobs::Store;
use crate::store::error::StoreError;

/// The key of a record: its kind and every input, in order.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRecord {
    kind: &'static str,
    fields: Vec<(String, Value)>,
}

/// The value of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(u64),
    /// A digest.
    Digest(Digest),
    /// Several texts, in order.
    List(Vec<String>),
}

impl KeyRecord {
    /// A key without fields yet. Kinds are words of lower-case letters and dashes.
    pub fn new(kind: &'static str) -> KeyRecord {
        KeyRecord {
            kind,
            fields: Vec::new(),
        }
    }

    /// The key with one more field.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> KeyRecord {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// What is recorded under the key.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The inputs.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// The digest of the whole key.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = b"boxwright key 1\n".to_vec();
        put(&mut bytes, self.kind.as_bytes());
        bytes.extend_from_slice(&(self.fields.len() as u64).to_le_bytes());
        for (name, value) in &self.fields {
            put(&mut bytes, name.as_bytes());
            value.encode(&mut bytes);
        }
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, framed: &[u8]) {
    bytes.extend_from_slice(&(framed.len() as u64).to_le_bytes());
    bytes.extend_from_slice(framed);
}

impl Value {
    fn encode(&self, bytes: &mut Vec<u8>) {
        match self {
            Value::Text(text) => {
                bytes.push(1);
                put(bytes, text.as_bytes());
            }
            Value::Number(number) => {
                bytes.push(2);
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            Value::Digest(digest) => {
                bytes.push(3);
                bytes.extend_from_slice(digest.raw());
            }
            Value::List(texts) => {
                bytes.push(4);
                bytes.extend_from_slice(&(texts.len() as u64).to_le_bytes());
                texts.iter().for_each(|text| put(bytes, text.as_bytes()));
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Number(number.into())
    }
}

impl From<&Digest> for Value {
    fn from(digest: &Digest) -> Value {
        Value::Digest(*digest)
    }
}

impl From<&DiffId> for Value {
    fn from(diff_id: &DiffId) -> Value {
        Value::Digest(diff_id.0)
    }
}

impl From<&[&str]> for Value {
    fn from(texts: &[&str]) -> Value {
        Value::List(texts.iter().map(|text| (*text).to_owned()).collect())
    }
}

/// One line, as `why` and tests show it.
impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        self.fields
            .iter()
            .try_for_each(|(name, value)| write!(f, " {name}={value:?}"))
    }
}

const MAGIC: &[u8] = b"boxwright record 1\n";

impl Store {
    /// The value under `key`, if there is one. A record that is damaged is taken away.
    ///
    /// # Errors
    /// The file system failing otherwise than by not having the file.
    pub fn record(&self, key: &KeyRecord) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.record_path(key);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        match open(&bytes, &key.encode()) {
            Some(value) => {
                self.mark_used(&path);
                Ok(Some(value.to_vec()))
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
        let path = self.record_path(key);
        let folder = path
            .parent()
            .expect("a record's path has three parts below the root");
        fs::create_dir_all(folder).map_err(StoreError::io("make", folder))?;
        let key = key.encode();
        let mut bytes = Vec::with_capacity(MAGIC.len() + key.len() + value.len() + 48);
        bytes.extend_from_slice(MAGIC);
        put(&mut bytes, &key);
        put(&mut bytes, value);
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(checksum.raw());
        self.write_whole(&path, |file| file.write_all(&bytes))
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

/// The value of a record file, if the file is whole and is the one for `key`.
fn open<'a>(bytes: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let (body, checksum) = bytes.split_last_chunk::<32>()?;
    if Digest::of(body).raw() != checksum {
        return None;
    }
    let (found, rest) = take(body.strip_prefix(MAGIC)?)?;
    let (value, rest) = take(rest)?;
    (found == key && rest.is_empty()).then_some(value)
}

fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str, value: impl Into<Value>) -> KeyRecord {
        KeyRecord::new("test").field(name, value)
    }

    #[test]
    fn values_come_back_and_can_be_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(scratch.path()).unwrap();
        let key = key("n", 1u64);
        assert_eq!(store.record(&key).unwrap(), None);
        for value in ["one", "two"] {
            store.put_record(&key, value.as_bytes()).unwrap();
            assert_eq!(store.record(&key).unwrap().unwrap(), value.as_bytes());
        }
    }

    #[test]
    fn a_damaged_record_is_no_record() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(scratch.path()).unwrap();
        let key = key("n", "text");
        for damage in 0..60 {
            store.put_record(&key, b"value").unwrap();
            let path = store.record_path(&key);
            let mut bytes = fs::read(&path).unwrap();
            let at = damage * bytes.len() / 60;
            match damage % 2 {
                0 => bytes[at] ^= 0x40,
                _ => bytes.truncate(at),
            }
            fs::write(&path, bytes).unwrap();
            assert_eq!(store.record(&key).unwrap(), None, "{damage}");
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_record_answers_only_to_its_own_key() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(scratch.path()).unwrap();
        let (one, two) = (key("n", 1u64), key("n", 2u64));
        store.put_record(&one, b"value").unwrap();
        let stolen = store.record_path(&two);
        fs::create_dir_all(stolen.parent().unwrap()).unwrap();
        fs::copy(store.record_path(&one), &stolen).unwrap();
        assert_eq!(store.record(&two).unwrap(), None);
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            "[a-c\\x00\\x01]{0,4}".prop_map(Value::Text),
            any::<u64>().prop_map(Value::Number),
            any::<[u8; 2]>().prop_map(|bytes| Value::Digest(Digest::of(&bytes))),
            proptest::collection::vec("[a-b]{0,2}", 0..3).prop_map(Value::List),
        ]
    }

    fn keys() -> impl Strategy<Value = KeyRecord> {
        let fields = proptest::collection::vec(("[a-b]{0,2}", values()), 0..4);
        fields.prop_map(|fields| KeyRecord {
            kind: "test",
            fields,
        })
    }

    proptest! {
        #[test]
        fn different_keys_have_different_bytes(one in keys(), two in keys()) {
            prop_assert_eq!(one == two, one.encode() == two.encode());
        }
    }
}
