//! The keys of the house: everything that a cached result depends on, field by field.
//!
//! What is left out is left out on purpose: no host, no path of the machine, no time, no number of
//! threads. Whoever adds an input to a computation adds it here. `design.md`, section 4.

use crate::oci::{DiffId, Digest};
use crate::store::KeyRecord;

/// A layer: what changes, and everything that decides how it becomes bytes. What lies below the
/// layer is no input; where it mattered (a parent that exists, a name in `/etc/passwd`) it is in
/// the changeset already.
pub fn layer(
    changeset: &Digest,
    encoder: u32,
    compression: &str,
    library: &str,
    epoch: u64,
) -> KeyRecord {
    KeyRecord::new("layer")
        .field("changeset", changeset)
        .field("encoder", encoder)
        .field("compression", compression)
        .field("library", library)
        .field("epoch", epoch)
}

/// What a layer of someone else holds. The diff_id is an input: a blob that was accepted under one
/// must not pass under another.
pub fn layer_index(blob: &Digest, diff_id: &DiffId, reader: u32) -> KeyRecord {
    KeyRecord::new("layer-index")
        .field("blob", blob)
        .field("diff_id", diff_id)
        .field("reader", reader)
}

/// The frames of a blob that we wrote.
pub fn frame_table(blob: &Digest) -> KeyRecord {
    KeyRecord::new("frames").field("blob", blob)
}

/// The last layer that stood in a place of an image. It decides nothing but where frames are
/// looked for, so a wrong one costs time and no more.
pub fn layer_slot(
    slot: &[&str],
    encoder: u32,
    compression: &str,
    library: &str,
    epoch: u64,
) -> KeyRecord {
    KeyRecord::new("layer-slot")
        .field("slot", slot)
        .field("encoder", encoder)
        .field("compression", compression)
        .field("library", library)
        .field("epoch", epoch)
}

/// The chunks of a large content.
pub fn chunks(content: &Digest, chunker: u32) -> KeyRecord {
    KeyRecord::new("chunks")
        .field("content", content)
        .field("chunker", chunker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_counts() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let keys = [
            layer(&a, 1, "gzip:6", "lib", 0),
            layer(&b, 1, "gzip:6", "lib", 0),
            layer(&a, 2, "gzip:6", "lib", 0),
            layer(&a, 1, "gzip:7", "lib", 0),
            layer(&a, 1, "gzip:6", "lib 2", 0),
            layer(&a, 1, "gzip:6", "lib", 1),
            layer_index(&a, &DiffId(a), 1),
            layer_index(&a, &DiffId(b), 1),
            layer_index(&a, &DiffId(a), 2),
            frame_table(&a),
            layer_slot(&["a", "b"], 1, "gzip:6", "lib", 0),
            layer_slot(&["ab"], 1, "gzip:6", "lib", 0),
            chunks(&a, 1),
            chunks(&a, 2),
        ];
        let digests: std::collections::BTreeSet<Digest> =
            keys.iter().map(KeyRecord::digest).collect();
        assert_eq!(digests.len(), keys.len());
    }
}
