//! What a stream looks like, whatever its media type says.

use crate::oci::Codec;

/// The codec that the first bytes of a stream speak of.
pub(crate) fn sniffed(start: &[u8]) -> Codec {
    match start {
        [0x1f, 0x8b, ..] => Codec::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Codec::Zstd,
        // A skippable frame, with which zstd:chunked layers may begin.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Codec::Zstd,
        _ => Codec::None,
    }
}
