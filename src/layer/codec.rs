//! Codecs: how the bytes of one frame become part of a layer blob.
//!
//! Every frame is compressed by itself, so that frames can be compressed side by side and an
//! unchanged one can be taken from an earlier blob. A gzip blob is a row of gzip members, a zstd
//! blob a row of zstd frames: both are one valid stream to every reader (RFC 1952, section 2.2;
//! RFC 8878, section 3.1).
//!
//! The traps that this file exists to avoid: gzip's bytes differ between libraries and, with
//! streaming encoders, with the sizes of the writes. One library is pinned, and it is handed a
//! whole frame at a time, so there are no writes whose sizes could matter.
//!
//! A frame that looks compressed already (pictures, fonts, archives) is stored as it is: deflate
//! would spend most of its time on it and win nothing. Only the frame's own bytes decide that.

use std::fmt;
use std::io::{self, Read};

use libdeflater::{CompressionLvl, Compressor, Decompressor};

use crate::oci::Codec;

/// Codec and level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Compression {
    codec: Codec,
    level: u8,
}

/// Why a level is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{codec} has no level {level}; choose {} to {}", .codec.levels().start(), .codec.levels().end())]
pub struct LevelError {
    /// The codec.
    pub codec: Codec,
    /// The level that it does not have.
    pub level: u8,
}

impl Codec {
    /// The levels that the codec has.
    pub fn levels(self) -> std::ops::RangeInclusive<u8> {
        match self {
            Codec::None => 0..=0,
            Codec::Gzip => 1..=12,
            Codec::Zstd => 1..=22,
        }
    }
}

impl Compression {
    /// gzip at a level that gives about the size of `gzip -6` in a third of its time.
    pub const GZIP: Compression = Compression {
        codec: Codec::Gzip,
        level: 5,
    };
    /// No compression.
    pub const NONE: Compression = Compression {
        codec: Codec::None,
        level: 0,
    };

    /// A codec at its own default level.
    pub fn default_of(codec: Codec) -> Compression {
        let level = match codec {
            Codec::None => 0,
            Codec::Gzip => Compression::GZIP.level,
            Codec::Zstd => 3,
        };
        Compression { codec, level }
    }

    /// A codec at a given level.
    ///
    /// # Errors
    /// A level that the codec does not have.
    pub fn new(codec: Codec, level: u8) -> Result<Compression, LevelError> {
        if codec.levels().contains(&level) {
            Ok(Compression { codec, level })
        } else {
            Err(LevelError { codec, level })
        }
    }

    /// The codec.
    pub fn codec(self) -> Codec {
        self.codec
    }

    /// The level; 0 where there is nothing to choose.
    pub fn level(self) -> u8 {
        self.level
    }

    /// The library that does the work, with its version: part of every layer's key, because
    /// another version may find other bytes.
    pub fn library(self) -> &'static str {
        match self.codec {
            Codec::None => "none",
            Codec::Gzip => "libdeflate 1.26 (libdeflater 1.26.1)",
            Codec::Zstd => "zstd (crate 0.14.3)",
        }
    }
}

impl Default for Compression {
    fn default() -> Compression {
        Compression::GZIP
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.codec {
            Codec::None => write!(f, "none"),
            codec => write!(f, "{codec}:{}", self.level),
        }
    }
}

/// Compresses frames; one for each thread, for the libraries keep their tables in it.
pub(crate) enum FrameEncoder {
    None,
    Gzip(Box<GzipEncoder>),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

/// Makes gzip members.
pub(crate) struct GzipEncoder {
    compressor: Compressor,
    /// The fastest level, to find out whether it is worth while.
    sampler: Compressor,
    sample: Vec<u8>,
}

/// A gzip member's header: no name, no time, and 255 for an unknown system, so that nothing of the
/// machine is in it.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

impl FrameEncoder {
    pub(crate) fn new(compression: Compression) -> io::Result<FrameEncoder> {
        let level = i32::from(compression.level);
        Ok(match compression.codec {
            Codec::None => FrameEncoder::None,
            Codec::Gzip => {
                let compressor = |level| match CompressionLvl::new(level) {
                    Ok(level) => Ok(Compressor::new(level)),
                    Err(_) => Err(io::Error::other("libdeflate refuses the level")),
                };
                FrameEncoder::Gzip(Box::new(GzipEncoder {
                    compressor: compressor(level)?,
                    sampler: compressor(1)?,
                    sample: Vec::new(),
                }))
            }
            Codec::Zstd => {
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                // The checksum lets a reader notice damage, as gzip's does.
                compressor.include_checksum(true)?;
                FrameEncoder::Zstd(Box::new(compressor))
            }
        })
    }

    /// Puts the compressed form of `frame` into `out`, which is emptied first.
    pub(crate) fn encode(&mut self, frame: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        out.clear();
        match self {
            FrameEncoder::None => out.extend_from_slice(frame),
            FrameEncoder::Gzip(encoder) => {
                out.extend_from_slice(&GZIP_HEADER);
                match encoder.looks_compressed(frame) {
                    true => store(frame, out),
                    false => encoder.deflate(frame, out)?,
                }
                out.extend_from_slice(&crc32fast::hash(frame).to_le_bytes());
                // The format keeps the length modulo 2^32.
                out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            }
            FrameEncoder::Zstd(compressor) => {
                out.reserve(zstd::zstd_safe::compress_bound(frame.len()));
                compressor.compress_to_buffer(frame, out)?;
            }
        }
        Ok(())
    }
}

impl GzipEncoder {
    fn deflate(&mut self, frame: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let start = out.len();
        out.resize(
            start + self.compressor.deflate_compress_bound(frame.len()),
            0,
        );
        let written = self
            .compressor
            .deflate_compress(frame, &mut out[start..])
            .map_err(|_| io::Error::other("libdeflate outgrew its own bound"))?;
        out.truncate(start + written);
        Ok(())
    }

    /// Whether nothing is won by compressing: four samples, evenly spread, lose hardly anything.
    fn looks_compressed(&mut self, frame: &[u8]) -> bool {
        const SAMPLE: usize = 16 << 10;
        // Of a hundred bytes.
        const WORTH_WHILE: usize = 3;
        if frame.len() < 8 * SAMPLE {
            return false;
        }
        let step = (frame.len() - SAMPLE) / 3;
        let (mut taken, mut left) = (0, 0);
        for place in 0..4 {
            let sample = &frame[place * step..][..SAMPLE];
            self.sample
                .resize(self.sampler.deflate_compress_bound(SAMPLE), 0);
            // What cannot be compressed within its own bound cannot be compressed.
            let size = self.sampler.deflate_compress(sample, &mut self.sample);
            taken += SAMPLE;
            left += size.unwrap_or(SAMPLE);
        }
        left * 100 > taken * (100 - WORTH_WHILE)
    }
}

/// Appends `frame` as it is, in deflate's stored blocks. RFC 1951, section 3.2.4.
fn store(frame: &[u8], out: &mut Vec<u8>) {
    const MOST: usize = 0xffff;
    out.reserve(frame.len() + 5 * frame.len().div_ceil(MOST));
    let mut blocks = frame.chunks(MOST).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(u8::from(blocks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
}

/// Uncompresses single frames that [`FrameEncoder`] has made; one for each thread.
pub(crate) enum FrameDecoder {
    None,
    Gzip(Box<Decompressor>),
    Zstd(Box<zstd::bulk::Decompressor<'static>>),
}

impl FrameDecoder {
    pub(crate) fn new(codec: Codec) -> io::Result<FrameDecoder> {
        Ok(match codec {
            Codec::None => FrameDecoder::None,
            Codec::Gzip => FrameDecoder::Gzip(Box::new(Decompressor::new())),
            Codec::Zstd => FrameDecoder::Zstd(Box::new(zstd::bulk::Decompressor::new()?)),
        })
    }

    /// The frame, which must be of exactly this size; `None` for anything else, damage included.
    pub(crate) fn decode(&mut self, packed: &[u8], size: usize) -> Option<Vec<u8>> {
        let frame = match self {
            FrameDecoder::None => packed.to_vec(),
            FrameDecoder::Gzip(decompressor) => {
                let mut frame = vec![0; size];
                let written = decompressor.gzip_decompress(packed, &mut frame).ok()?;
                frame.truncate(written);
                frame
            }
            FrameDecoder::Zstd(decompressor) => decompressor.decompress(packed, size).ok()?,
        };
        (frame.len() == size).then_some(frame)
    }
}

/// The uncompressed bytes of a layer blob, whoever wrote it.
///
/// # Errors
/// The decoder could not be set up. Damage shows while reading, as an error, never as an early end.
pub fn decoder<'a>(
    codec: Codec,
    blob: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match codec {
        Codec::None => Box::new(blob),
        Codec::Gzip => Box::new(flate2::read::MultiGzDecoder::new(blob)),
        Codec::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(blob)?;
            // 128 MiB: what `zstd -d` accepts without being asked; more would let a small blob
            // claim any amount of memory.
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(compression: Compression, frame: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        FrameEncoder::new(compression)
            .unwrap()
            .encode(frame, &mut out)
            .unwrap();
        out
    }

    #[test]
    fn joined_frames_are_one_stream() {
        let text = b"frames ".repeat(1000);
        for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
            let compression = Compression::default_of(codec);
            let blob = [
                encode(compression, &text),
                encode(compression, b""),
                encode(compression, b"end"),
            ]
            .concat();
            let mut read = Vec::new();
            decoder(codec, &blob[..])
                .unwrap()
                .read_to_end(&mut read)
                .unwrap();
            assert_eq!(read, [&text[..], b"end"].concat(), "{codec}");
        }
    }

    #[test]
    fn what_is_compressed_already_is_stored_and_read_back() {
        let mut state = 1u64;
        let mut noise = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        let noise: Vec<u8> = (0..300_001).map(|_| noise()).collect();
        let packed = encode(Compression::GZIP, &noise);
        assert!(packed.len() < noise.len() + 64, "{}", packed.len());
        let mut read = Vec::new();
        decoder(Codec::Gzip, &packed[..])
            .unwrap()
            .read_to_end(&mut read)
            .unwrap();
        assert_eq!(read, noise);
        // Text in between is worth while.
        let mixed = [&noise[..100_000], &b"text ".repeat(40_000)].concat();
        let size = encode(Compression::GZIP, &mixed).len();
        assert!(size < 110_000, "{size}");
    }

    #[test]
    fn truncation_is_an_error() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|n| n.to_le_bytes()).collect();
        for codec in [Codec::Gzip, Codec::Zstd] {
            let blob = encode(Compression::default_of(codec), &text);
            let cut = &blob[..blob.len() - 9];
            let result = decoder(codec, cut).unwrap().read_to_end(&mut Vec::new());
            assert!(result.is_err(), "{codec}");
        }
    }

    /// The library is pinned; if its bytes change, the version in the key must change with it.
    #[test]
    fn the_pinned_libraries_give_the_bytes_they_gave() {
        let text = b"The same input gives the same bytes. ".repeat(64);
        let digest = |compression| crate::oci::Digest::of(&encode(compression, &text)).short();
        assert_eq!(digest(Compression::GZIP), "cf3d75857414");
        assert_eq!(digest(Compression::default_of(Codec::Zstd)), "bcb4c189f665");
    }

    #[test]
    fn an_encoder_has_no_memory_of_earlier_frames() {
        for codec in [Codec::Gzip, Codec::Zstd] {
            let mut encoder = FrameEncoder::new(Compression::default_of(codec)).unwrap();
            let (mut first, mut again) = (Vec::new(), Vec::new());
            encoder.encode(b"one frame", &mut first).unwrap();
            encoder.encode(&b"another".repeat(999), &mut again).unwrap();
            encoder.encode(b"one frame", &mut again).unwrap();
            assert_eq!(first, again, "{codec}");
        }
    }

    #[test]
    fn levels_are_checked() {
        assert_eq!(
            Compression::new(Codec::Gzip, 9).unwrap().to_string(),
            "gzip:9"
        );
        let error = Compression::new(Codec::Gzip, 13).unwrap_err().to_string();
        assert_eq!(error, "gzip has no level 13; choose 1 to 12");
        assert_eq!(Compression::NONE.to_string(), "none");
    }
}
