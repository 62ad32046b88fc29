//! The frame table: what frames a blob is made of, and how to go on from each.
//!
//! It is kept beside the blob. A later layer that begins with the same frames takes them over as
//! they are, and both of its hashers go on from the states that were saved here; a frame that has
//! only moved is found by its key. The store's records carry a checksum, which guards the states.

use std::collections::HashMap;

use crate::oci::{Digest, HASHER_STATE, HasherState};

/// The frames of one blob, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameTable {
    /// The blob.
    pub blob: Digest,
    pub(crate) lines: Vec<FrameLine>,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameLine {
    /// Says what the frame holds.
    pub(crate) key: Digest,
    /// Length of the uncompressed frame.
    pub(crate) raw: u32,
    /// Length of the compressed frame.
    pub(crate) packed: u32,
    /// The hasher of the uncompressed stream after this frame.
    pub(crate) diff_state: HasherState,
    /// The hasher of the blob after this frame.
    pub(crate) blob_state: HasherState,
}

const MAGIC: &[u8] = b"boxwright frame table 1\n";
const LINE: usize = 32 + 4 + 4 + 2 * HASHER_STATE;

impl FrameTable {
    /// The bytes to keep.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAGIC.len() + 32 + self.lines.len() * LINE);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.blob.raw());
        for line in &self.lines {
            bytes.extend_from_slice(line.key.raw());
            bytes.extend_from_slice(&line.raw.to_le_bytes());
            bytes.extend_from_slice(&line.packed.to_le_bytes());
            bytes.extend_from_slice(&line.diff_state.0);
            bytes.extend_from_slice(&line.blob_state.0);
        }
        bytes
    }

    /// Reads what [`FrameTable::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<FrameTable> {
        let bytes = bytes.strip_prefix(MAGIC)?;
        let (blob, lines) = bytes.split_first_chunk::<32>()?;
        let lines = lines
            .chunks(LINE)
            .map(FrameLine::decode)
            .collect::<Option<Vec<_>>>()?;
        Some(FrameTable {
            blob: Digest::from_raw(*blob),
            lines,
        })
    }

    /// Where each frame begins in the blob, by key.
    pub(crate) fn offsets(&self) -> HashMap<Digest, (u64, &FrameLine)> {
        let mut offset = 0;
        let mut offsets = HashMap::with_capacity(self.lines.len());
        for line in &self.lines {
            offsets.entry(line.key).or_insert((offset, line));
            offset += u64::from(line.packed);
        }
        offsets
    }
}

impl FrameLine {
    fn decode(bytes: &[u8]) -> Option<FrameLine> {
        let (key, bytes) = bytes.split_first_chunk::<32>()?;
        let (raw, bytes) = bytes.split_first_chunk::<4>()?;
        let (packed, bytes) = bytes.split_first_chunk::<4>()?;
        let (diff_state, bytes) = bytes.split_first_chunk::<HASHER_STATE>()?;
        let blob_state = bytes.try_into().ok()?;
        Some(FrameLine {
            key: Digest::from_raw(*key),
            raw: u32::from_le_bytes(*raw),
            packed: u32::from_le_bytes(*packed),
            diff_state: HasherState(*diff_state),
            blob_state: HasherState(blob_state),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Hasher;

    #[test]
    fn tables_round_trip() {
        let line = |text: &str, packed| FrameLine {
            key: Digest::of(text.as_bytes()),
            raw: 100,
            packed,
            diff_state: Hasher::new().save(),
            blob_state: Hasher::new().save(),
        };
        let table = FrameTable {
            blob: Digest::of(b"blob"),
            lines: vec![line("a", 7), line("b", 9)],
        };
        let bytes = table.encode();
        assert_eq!(FrameTable::decode(&bytes), Some(table.clone()));
        assert_eq!(FrameTable::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(FrameTable::decode(b"something else"), None);
        assert_eq!(table.offsets()[&Digest::of(b"b")].0, 7);
    }
}
