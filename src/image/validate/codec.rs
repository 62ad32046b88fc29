//! Decompression for the judge, apart from the layer writer's own.

use std::io::{self, BufReader, Read};

use crate::oci::Codec;

/// The uncompressed bytes of `compressed`. Several gzip members or zstd frames are one stream, and
/// whatever stands behind the last is an error.
///
/// # Errors
/// The decoder cannot be made: memory is short.
pub(crate) fn decoder<'a, R: Read + Send + 'a>(
    codec: Codec,
    compressed: R,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match codec {
        Codec::None => Box::new(compressed),
        Codec::Gzip => Box::new(flate2::read::MultiGzDecoder::new(compressed)),
        Codec::Zstd => {
            let buffered = BufReader::with_capacity(1 << 17, compressed);
            Box::new(zstd::Decoder::with_buffer(buffered)?)
        }
    })
}

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
