//! The only encoder of JSON whose bytes are hashed.
//!
//! Keys are sorted by their bytes, there is no white space, and nothing depends on the order in
//! which a map was filled. `serde_json`'s own map is sorted only until some dependency enables its
//! `preserve_order` feature, so objects are sorted here, once more.

use serde::Serialize;
use serde_json::Value;

/// The canonical bytes of a document.
///
/// # Panics
/// If `document` cannot be represented as JSON, which the types of [`crate::oci`] always can.
pub fn to_vec<T: Serialize>(document: &T) -> Vec<u8> {
    let value = serde_json::to_value(document).expect("OCI documents are representable as JSON");
    let mut bytes = Vec::new();
    write(&value, &mut bytes);
    bytes
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(key, _)| key.as_bytes());
            out.push(b'{');
            for (position, (key, member)) in members.into_iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write_scalar(key, out);
                out.push(b':');
                write(member, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        scalar => write_scalar(scalar, out),
    }
}

fn write_scalar<T: Serialize + ?Sized>(scalar: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, scalar).expect("scalars are representable and memory is writable");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let value: Value =
            serde_json::from_str(r#"{"b":[{"z":1,"a":null}],"a":"é\n","A":1.5}"#).unwrap();
        let expected = r#"{"A":1.5,"a":"é\n","b":[{"a":null,"z":1}]}"#;
        assert_eq!(String::from_utf8(to_vec(&value)).unwrap(), expected);
    }

    #[test]
    fn hash_maps_have_one_encoding() {
        let encode = || {
            let labels: HashMap<String, u32> = (0..64).map(|n| (format!("k{n}"), n)).collect();
            to_vec(&labels)
        };
        let first = encode();
        assert!((0..16).all(|_| encode() == first));
    }
}
