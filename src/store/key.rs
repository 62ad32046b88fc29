//! Keys of records: every input of a computation, named and typed.
//!
//! Comes in: names with values. Goes out: bytes that are framed by lengths and tagged by types, so
//! that two different lists never look alike, and the same list back from the bytes. Keys are kept
//! whole beside what they found, so that two of them can be compared field by field to tell why
//! one missed. No bytes make the reader panic, and nesting is bounded.

use std::borrow::Cow;
use std::fmt;

use crate::oci::{DiffId, Digest};

/// The key of a record: its kind and every input, in order.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRecord {
    kind: Cow<'static, str>,
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
    /// Bytes that need not be text: a path, a link's target.
    Bytes(Vec<u8>),
    /// A key within the key, such as one of several mounts. At most [`DEPTH`] deep: a deeper one
    /// is found by its digest as any other, but cannot be listed.
    Record(KeyRecord),
}

/// How deep keys may lie within keys.
pub const DEPTH: usize = 8;

const MAGIC: &[u8] = b"boxwright key 1\n";

impl KeyRecord {
    /// A key without fields yet. Kinds are words of lower-case letters and dashes.
    pub fn new(kind: &'static str) -> KeyRecord {
        KeyRecord {
            kind: Cow::Borrowed(kind),
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
    pub fn kind(&self) -> &str {
        &self.kind
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

    /// The bytes that are hashed and kept.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        self.encode_into(&mut bytes);
        bytes
    }

    /// The key of these bytes, if they are those of one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<KeyRecord> {
        let (key, rest) = KeyRecord::decode_from(bytes.strip_prefix(MAGIC)?, DEPTH)?;
        rest.is_empty().then_some(key)
    }

    fn encode_into(&self, bytes: &mut Vec<u8>) {
        put(bytes, self.kind.as_bytes());
        put_number(bytes, self.fields.len() as u64);
        for (name, value) in &self.fields {
            put(bytes, name.as_bytes());
            value.encode_into(bytes);
        }
    }

    fn decode_from(bytes: &[u8], depth: usize) -> Option<(KeyRecord, &[u8])> {
        let (kind, bytes) = take_text(bytes)?;
        if !kind.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'-')) {
            return None;
        }
        let (count, mut rest) = take_number(bytes)?;
        // No capacity from the count: it may lie, and the bytes run out before memory does.
        let mut fields = Vec::new();
        for _ in 0..count {
            let (name, bytes) = take_text(rest)?;
            let (value, bytes) = Value::decode_from(bytes, depth)?;
            fields.push((name, value));
            rest = bytes;
        }
        let kind = Cow::Owned(kind);
        Some((KeyRecord { kind, fields }, rest))
    }
}

impl Value {
    fn encode_into(&self, bytes: &mut Vec<u8>) {
        match self {
            Value::Text(text) => {
                bytes.push(1);
                put(bytes, text.as_bytes());
            }
            Value::Number(number) => {
                bytes.push(2);
                put_number(bytes, *number);
            }
            Value::Digest(digest) => {
                bytes.push(3);
                bytes.extend_from_slice(digest.raw());
            }
            Value::List(texts) => {
                bytes.push(4);
                put_number(bytes, texts.len() as u64);
                texts.iter().for_each(|text| put(bytes, text.as_bytes()));
            }
            Value::Bytes(value) => {
                bytes.push(5);
                put(bytes, value);
            }
            Value::Record(key) => {
                bytes.push(6);
                key.encode_into(bytes);
            }
        }
    }

    fn decode_from(bytes: &[u8], depth: usize) -> Option<(Value, &[u8])> {
        let (kind, bytes) = bytes.split_first()?;
        Some(match kind {
            1 => take_text(bytes).map(|(text, rest)| (Value::Text(text), rest))?,
            2 => take_number(bytes).map(|(number, rest)| (Value::Number(number), rest))?,
            3 => take_digest(bytes).map(|(digest, rest)| (Value::Digest(digest), rest))?,
            4 => {
                let (count, mut rest) = take_number(bytes)?;
                let mut texts = Vec::new();
                for _ in 0..count {
                    let (text, bytes) = take_text(rest)?;
                    texts.push(text);
                    rest = bytes;
                }
                (Value::List(texts), rest)
            }
            5 => take(bytes).map(|(value, rest)| (Value::Bytes(value.to_vec()), rest))?,
            6 => {
                let (key, rest) = KeyRecord::decode_from(bytes, depth.checked_sub(1)?)?;
                (Value::Record(key), rest)
            }
            _ => return None,
        })
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

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value::Bytes(bytes.to_vec())
    }
}

impl From<KeyRecord> for Value {
    fn from(key: KeyRecord) -> Value {
        Value::Record(key)
    }
}

/// As `why` shows it: quoted where it could be mistaken, digests in full.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Digest(digest) => write!(f, "{digest}"),
            Value::List(texts) => write!(f, "{texts:?}"),
            Value::Bytes(bytes) => write!(f, "b\"{}\"", bytes.escape_ascii()),
            Value::Record(key) => write!(f, "({key:?})"),
        }
    }
}

/// One line, as `why` and tests show it.
impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        self.fields
            .iter()
            .try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// Bytes behind their length.
pub(crate) fn put(bytes: &mut Vec<u8>, framed: &[u8]) {
    put_number(bytes, framed.len() as u64);
    bytes.extend_from_slice(framed);
}

pub(crate) fn put_number(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

/// The bytes behind a length, and what follows them.
pub(crate) fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = take_number(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

pub(crate) fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

pub(crate) fn take_digest(bytes: &[u8]) -> Option<(Digest, &[u8])> {
    let (raw, rest) = bytes.split_first_chunk::<32>()?;
    Some((Digest::from_raw(*raw), rest))
}

fn take_text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (text, rest) = take(bytes)?;
    Some((String::from_utf8(text.to_vec()).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_can_read_keys() {
        let key = KeyRecord::new("run")
            .field("argv", &["npm", "ci"][..])
            .field("path", &b"a\xff"[..])
            .field("mount", KeyRecord::new("mount").field("id", "npm"))
            .field("uid", 0u64);
        assert_eq!(
            format!("{key:?}"),
            r#"run argv=["npm", "ci"] path=b"a\xff" mount=(mount id="npm") uid=0"#
        );
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| {
            (0..depth).fold(KeyRecord::new("k"), |key, _| {
                KeyRecord::new("k").field("n", key)
            })
        };
        assert_eq!(
            KeyRecord::decode(&nested(DEPTH).encode()),
            Some(nested(DEPTH))
        );
        assert_eq!(KeyRecord::decode(&nested(DEPTH + 1).encode()), None);
    }

    #[test]
    fn a_kind_is_a_word() {
        for kind in ["../up", "UP", "a b"] {
            let key = KeyRecord {
                kind: Cow::Borrowed(kind),
                fields: Vec::new(),
            };
            assert_eq!(KeyRecord::decode(&key.encode()), None, "{kind}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let flat = prop_oneof![
            "[a-c\\x00\\x01]{0,4}".prop_map(Value::Text),
            any::<u64>().prop_map(Value::Number),
            any::<[u8; 2]>().prop_map(|bytes| Value::Digest(Digest::of(&bytes))),
            proptest::collection::vec("[a-b]{0,2}", 0..3).prop_map(Value::List),
            proptest::collection::vec(0u8..3, 0..4).prop_map(Value::Bytes),
        ];
        flat.prop_recursive(3, 12, 3, |value| keys_of(value).prop_map(Value::Record))
    }

    fn keys_of(value: impl Strategy<Value = Value>) -> impl Strategy<Value = KeyRecord> {
        let fields = proptest::collection::vec(("[a-b]{0,2}", value), 0..4);
        fields.prop_map(|fields| KeyRecord {
            kind: Cow::Borrowed("test"),
            fields,
        })
    }

    proptest! {
        #[test]
        fn different_keys_have_different_bytes(one in keys_of(values()), two in keys_of(values())) {
            prop_assert_eq!(one == two, one.encode() == two.encode());
        }

        #[test]
        fn keys_come_back(key in keys_of(values())) {
            prop_assert_eq!(KeyRecord::decode(&key.encode()), Some(key));
        }

        #[test]
        fn no_bytes_make_it_panic(key in keys_of(values()), at in any::<usize>(), to in any::<u8>()) {
            let mut bytes = key.encode();
            let at = at % bytes.len();
            bytes[at] = to;
            // What is read at all is read exactly: no two texts for one key.
            if let Some(read) = KeyRecord::decode(&bytes) {
                prop_assert_eq!(&read.encode(), &bytes);
            }
            let _ = KeyRecord::decode(&bytes[..at]);
        }
    }
}
