//! The two halves of the pipeline behind the plan: frames are encoded side by side, and put
//! together in order.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use crate::layer::chunk::{ChunkList, settle};
use crate::layer::codec::{Compression, FrameDecoder, FrameEncoder};
use crate::layer::error::LayerError;
use crate::layer::frame::{Frame, Hole};
use crate::layer::table::{FrameLine, FrameTable};
use crate::layer::writer::{Layer, Reuse};
use crate::oci::{Codec, DiffId, Digest, Hasher};
use crate::store::{BlobWriter, Store};
use crate::tree::Content;

/// A frame, ready to be put in its place.
pub(crate) struct Encoded {
    raw: Vec<u8>,
    packed: Vec<u8>,
    key: Digest,
    is_reused: bool,
    /// Parts of large contents that this frame has read: the content, the length, the digest.
    parts: Vec<(Content, u32, Digest)>,
}

/// An earlier blob with its frames.
pub(crate) struct Earlier<'a> {
    table: &'a FrameTable,
    offsets: HashMap<Digest, (u64, &'a FrameLine)>,
    blob: File,
}

impl<'a> Earlier<'a> {
    /// Opens the blob of `table`; `None` if it is no longer there, or not of the length that the
    /// table says.
    pub(crate) fn open(
        store: &Store,
        table: &'a FrameTable,
    ) -> Result<Option<Earlier<'a>>, LayerError> {
        let Some(blob) = store.open_blob(&table.blob)? else {
            return Ok(None);
        };
        let size: u64 = table.lines.iter().map(|line| u64::from(line.packed)).sum();
        let is_whole = blob.metadata().is_ok_and(|metadata| metadata.len() == size);
        Ok(is_whole.then(|| Earlier {
            table,
            offsets: table.offsets(),
            blob,
        }))
    }

    /// The key of the frame in this place.
    pub(crate) fn key(&self, place: usize) -> Option<Digest> {
        self.table.lines.get(place).map(|line| line.key)
    }

    /// The compressed frame with this key, and its uncompressed length.
    fn packed(&self, key: &Digest) -> Option<(Vec<u8>, usize)> {
        let (offset, line) = self.offsets.get(key)?;
        let mut packed = vec![0; line.packed as usize];
        // A blob that cannot be read is as good as none: the frame is made anew.
        self.blob.read_exact_at(&mut packed, *offset).ok()?;
        Some((packed, line.raw as usize))
    }
}

/// Reads and compresses frames; one for each thread.
pub(crate) struct FrameReader<'a> {
    store: &'a Store,
    encoder: FrameEncoder,
    decoder: FrameDecoder,
    earlier: Option<&'a Earlier<'a>>,
}

impl<'a> FrameReader<'a> {
    pub(crate) fn new(
        store: &'a Store,
        compression: Compression,
        earlier: Option<&'a Earlier<'a>>,
    ) -> Result<FrameReader<'a>, LayerError> {
        let encoder = FrameEncoder::new(compression).map_err(LayerError::Codec)?;
        let decoder = FrameDecoder::new(compression.codec()).map_err(LayerError::Codec)?;
        Ok(FrameReader {
            store,
            encoder,
            decoder,
            earlier,
        })
    }

    /// The frame's bytes, compressed now or taken from the earlier blob.
    pub(crate) fn encode(
        &mut self,
        mut frame: Frame,
        key: Option<Digest>,
    ) -> Result<Encoded, LayerError> {
        if let Some(key) = key
            && let Some((packed, size)) = self.earlier.and_then(|earlier| earlier.packed(&key))
            && size == frame.size
            && let Some(raw) = self.decoder.decode(&packed, size)
        {
            return Ok(Encoded {
                raw,
                packed,
                key,
                is_reused: true,
                parts: Vec::new(),
            });
        }
        let unknown: Vec<bool> = frame
            .holes
            .iter()
            .map(|hole| hole.digest.is_none())
            .collect();
        let raw = self.fill(&mut frame)?;
        let key = frame
            .key()
            .expect("filling a frame finds the digests of all its parts");
        let parts = frame
            .holes
            .iter()
            .zip(unknown)
            .filter(|(_, unknown)| *unknown)
            .filter(|(hole, _)| !hole.is_whole())
            .filter_map(|(hole, _)| Some((hole.content.clone(), hole.size as u32, hole.digest?)));
        let parts = parts.collect();
        // A part whose digest only reading could tell may turn out to be an old one.
        if let Some((packed, _)) = self.earlier.and_then(|earlier| earlier.packed(&key))
            && self.decoder.decode(&packed, raw.len()).as_ref() == Some(&raw)
        {
            return Ok(Encoded {
                raw,
                packed,
                key,
                is_reused: true,
                parts,
            });
        }
        let mut packed = Vec::new();
        self.encoder
            .encode(&raw, &mut packed)
            .map_err(LayerError::Codec)?;
        Ok(Encoded {
            raw,
            packed,
            key,
            is_reused: false,
            parts,
        })
    }

    /// Reads all contents into their places and checks that they are what their digests say.
    fn fill(&self, frame: &mut Frame) -> Result<Vec<u8>, LayerError> {
        let mut raw = Vec::with_capacity(frame.size);
        let mut from = 0;
        for hole in &mut frame.holes {
            raw.extend_from_slice(&frame.literal[from..hole.at]);
            from = hole.at;
            let start = raw.len();
            match hole.bytes.take() {
                Some(bytes) => raw.extend_from_slice(&bytes),
                None => {
                    raw.resize(start + hole.size, 0);
                    self.read(hole, &mut raw[start..])?;
                }
            }
            let found = Digest::of(&raw[start..]);
            let is_settled = !hole.is_whole() || settle(&hole.content, found);
            if *hole.digest.get_or_insert(found) != found || !is_settled {
                return Err(LayerError::Changed(hole.path.clone()));
            }
        }
        raw.extend_from_slice(&frame.literal[from..]);
        Ok(raw)
    }

    fn read(&self, hole: &Hole, part: &mut [u8]) -> Result<(), LayerError> {
        let file = self.store.open_content(&hole.content);
        file.and_then(|file| file.read_exact_at(part, hole.offset))
            .map_err(|source| LayerError::Content {
                path: hole.path.clone(),
                source,
            })
    }
}

/// Puts frames one after the other, hashes both streams and writes the blob.
pub(crate) struct Assembler {
    writer: BlobWriter,
    codec: Codec,
    diff: Hasher,
    blob: Hasher,
    lines: Vec<FrameLine>,
    reuse: Reuse,
    chunks: Vec<ChunkList>,
}

/// What the assembler has made.
pub(crate) struct Assembled {
    pub(crate) layer: Layer,
    pub(crate) table: FrameTable,
    pub(crate) reuse: Reuse,
    /// The chunks of the large contents that had to be read.
    pub(crate) chunks: Vec<ChunkList>,
}

impl Assembler {
    pub(crate) fn new(store: &Store, codec: Codec) -> Result<Assembler, LayerError> {
        Ok(Assembler {
            writer: store.create_blob()?,
            codec,
            diff: Hasher::new(),
            blob: Hasher::new(),
            lines: Vec::new(),
            reuse: Reuse::default(),
            chunks: Vec::new(),
        })
    }

    /// Takes over the first `count` frames of the earlier blob: their bytes are copied, and the
    /// hashers go on from where they were. Returns the number of uncompressed bytes.
    pub(crate) fn take_prefix(
        &mut self,
        earlier: &Earlier<'_>,
        count: usize,
    ) -> Result<u64, LayerError> {
        let lines = &earlier.table.lines[..count];
        let Some(last) = lines.last() else {
            return Ok(0);
        };
        let (Some(diff), Some(blob)) = (
            Hasher::resume(&last.diff_state),
            Hasher::resume(&last.blob_state),
        ) else {
            return Err(LayerError::Write(io::Error::other(
                "the frame table holds no hasher state",
            )));
        };
        let mut source = &earlier.blob;
        source.seek(SeekFrom::Start(0)).map_err(LayerError::Write)?;
        let copied = self.writer.append_file(source.take(blob.size()));
        let copied = copied.map_err(LayerError::Write)?;
        if copied != blob.size() {
            return Err(LayerError::Write(io::ErrorKind::UnexpectedEof.into()));
        }
        let raw = diff.size();
        (self.diff, self.blob) = (diff, blob);
        self.lines.extend_from_slice(lines);
        self.reuse.frames += count;
        self.reuse.frames_reused += count;
        self.reuse.bytes_reused += raw;
        Ok(raw)
    }

    /// Puts the next frame. Returns the number of its uncompressed bytes.
    pub(crate) fn push(&mut self, encoded: Encoded) -> Result<u64, LayerError> {
        self.diff.update(&encoded.raw);
        self.blob.update(&encoded.packed);
        self.writer
            .write_all(&encoded.packed)
            .map_err(LayerError::Write)?;
        self.lines.push(FrameLine {
            key: encoded.key,
            raw: encoded.raw.len() as u32,
            packed: encoded.packed.len() as u32,
            diff_state: self.diff.save(),
            blob_state: self.blob.save(),
        });
        for (content, size, digest) in encoded.parts {
            match self.chunks.last_mut() {
                Some((last, chunks)) if *last == content => chunks.push((size, digest)),
                _ => self.chunks.push((content, vec![(size, digest)])),
            }
        }
        let raw = encoded.raw.len() as u64;
        self.reuse.frames += 1;
        match encoded.is_reused {
            true => {
                self.reuse.frames_reused += 1;
                self.reuse.bytes_reused += raw;
            }
            false => self.reuse.bytes_compressed += raw,
        }
        Ok(raw)
    }

    /// The layer, whole in the store.
    pub(crate) fn finish(self) -> Result<Assembled, LayerError> {
        let (size, uncompressed_size) = (self.blob.size(), self.diff.size());
        let (digest, diff_id) = (self.blob.finish(), DiffId(self.diff.finish()));
        self.writer.finish_as(digest, size)?;
        Ok(Assembled {
            layer: Layer {
                digest,
                size,
                diff_id,
                uncompressed_size,
                codec: self.codec,
            },
            table: FrameTable {
                blob: digest,
                lines: self.lines,
            },
            reuse: self.reuse,
            chunks: self.chunks,
        })
    }
}
