//! Content-defined chunks of large files.
//!
//! A large file is cut where a rolling hash over its last 64 bytes says so. Cuts depend on the
//! bytes around them only, so a byte that is inserted or removed moves no distant cut, and all
//! chunks but the touched ones stay what they were. The hash is "gear" (Xia et al., FastCDC,
//! USENIX ATC 2016) without its normalisation, which a minimum and a maximum length replace.

use crate::layer::error::LayerError;
use crate::oci::{Digest, Hasher};
use crate::plan::key;
use crate::store::{ContentFile, Store};
use crate::tree::{Content, LayerPath};

/// The version of everything here that decides where chunks end.
const CHUNKER: u32 = 1;

/// Shorter contents are never cut.
pub(crate) const LARGE: u64 = 2 * TARGET as u64;

/// What a chunk should measure; also the target of a frame.
pub(crate) const TARGET: usize = 1 << 20;

const SHORTEST: usize = TARGET / 2;
const LONGEST: usize = 2 * TARGET;

/// The hash must have this many zeros in its upper bits: one cut in half a target, on average,
/// after the shortest length.
const MASK: u64 = !0 << (64 - (TARGET / 2).trailing_zeros());

/// Finds the end of the first chunk of `bytes`, the rest of a file or the longest chunk of it.
pub(crate) fn first_chunk(bytes: &[u8]) -> usize {
    if bytes.len() <= SHORTEST {
        return bytes.len();
    }
    let end = bytes.len().min(LONGEST);
    let mut hash = 0u64;
    // The hash sees 64 bytes; those before the shortest cut warm it up.
    for &byte in &bytes[SHORTEST - 64..SHORTEST] {
        hash = (hash << 1).wrapping_add(GEAR[byte as usize]);
    }
    for (position, &byte) in bytes[SHORTEST..end].iter().enumerate() {
        hash = (hash << 1).wrapping_add(GEAR[byte as usize]);
        if hash & MASK == 0 {
            return SHORTEST + position + 1;
        }
    }
    end
}

/// The most that [`first_chunk`] looks at.
const WINDOW: usize = LONGEST;

/// One chunk of a large content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Length in bytes.
    pub(crate) size: usize,
    /// Digest, if it is known without reading.
    pub(crate) digest: Option<Digest>,
    /// The bytes, if they had to be read.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Finds the chunks of large contents: in the store's records if the content was cut before,
/// otherwise by reading it.
#[derive(Debug)]
pub(crate) struct ChunkFinder<'a> {
    store: &'a Store,
}

/// The chunks of one content, in order.
pub(crate) enum Chunks {
    /// As a record has them.
    Known(std::vec::IntoIter<(u32, Digest)>),
    /// As reading finds them.
    Read(Box<Reading>),
}

/// A large content on its way through the rolling hash.
pub(crate) struct Reading {
    path: LayerPath,
    content: Content,
    file: ContentFile,
    hasher: Hasher,
    window: Vec<u8>,
}

/// A content, and the length and digest of each of its chunks.
pub(crate) type ChunkList = (Content, Vec<(u32, Digest)>);

impl<'a> ChunkFinder<'a> {
    pub(crate) fn new(store: &'a Store) -> ChunkFinder<'a> {
        ChunkFinder { store }
    }

    /// The chunks of the content at `path`.
    pub(crate) fn chunks(&self, path: &LayerPath, content: &Content) -> Result<Chunks, LayerError> {
        if let Some(digest) = content.digest()
            && let Some(record) = self.store.record(&key::chunks(digest, CHUNKER))?
            && let Some(chunks) = decode(&record, content.size())
        {
            return Ok(Chunks::Known(chunks.into_iter()));
        }
        let file = self
            .store
            .open_content(content)
            .map_err(|source| LayerError::Content {
                path: path.clone(),
                source,
            })?;
        Ok(Chunks::Read(Box::new(Reading {
            path: path.clone(),
            content: content.clone(),
            file,
            hasher: Hasher::new(),
            window: Vec::new(),
        })))
    }

    /// Keeps what reading has found.
    pub(crate) fn remember(&self, lists: &[ChunkList]) -> Result<(), LayerError> {
        for (content, chunks) in lists {
            let Some(digest) = content.digest() else {
                continue;
            };
            let mut value = Vec::with_capacity(chunks.len() * 36);
            for (size, digest) in chunks {
                value.extend_from_slice(&size.to_le_bytes());
                value.extend_from_slice(digest.raw());
            }
            self.store
                .put_record(&key::chunks(digest, CHUNKER), &value)?;
        }
        Ok(())
    }
}

fn decode(record: &[u8], size: u64) -> Option<Vec<(u32, Digest)>> {
    let chunks = record
        .chunks(36)
        .map(|line| {
            let (size, digest) = line.split_first_chunk::<4>()?;
            Some((
                u32::from_le_bytes(*size),
                Digest::from_raw(digest.try_into().ok()?),
            ))
        })
        .collect::<Option<Vec<_>>>()?;
    let sum: u64 = chunks.iter().map(|(size, _)| u64::from(*size)).sum();
    (sum == size).then_some(chunks)
}

impl Chunks {
    /// The next chunk; `None` after the last.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Chunk>, LayerError> {
        match self {
            Chunks::Known(chunks) => Ok(chunks.next().map(|(size, digest)| Chunk {
                size: size as usize,
                digest: Some(digest),
                bytes: None,
            })),
            Chunks::Read(reading) => reading.next_chunk(),
        }
    }
}

impl Reading {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, LayerError> {
        let read = self.hasher.size();
        let wanted = (self.content.size() - read).min((WINDOW - self.window.len()) as u64) as usize;
        let kept = self.window.len();
        self.window.resize(kept + wanted, 0);
        self.file
            .read_exact_at(&mut self.window[kept..], read)
            .map_err(|source| LayerError::Content {
                path: self.path.clone(),
                source,
            })?;
        self.hasher.update(&self.window[kept..]);
        if self.window.is_empty() {
            return self.check().map(|()| None);
        }
        let rest = self.window.split_off(first_chunk(&self.window));
        let bytes = std::mem::replace(&mut self.window, rest);
        Ok(Some(Chunk {
            size: bytes.len(),
            digest: None,
            bytes: Some(bytes),
        }))
    }

    /// All was read: is it what the changeset's digest says it is?
    fn check(&mut self) -> Result<(), LayerError> {
        let found = std::mem::take(&mut self.hasher).finish();
        match settle(&self.content, found) {
            true => Ok(()),
            false => Err(LayerError::Changed(self.path.clone())),
        }
    }
}

/// Whether a content has the digest that reading all of it has found. A file that nobody had read
/// before has it from now on.
pub(crate) fn settle(content: &Content, found: Digest) -> bool {
    if let Content::Disk(file) = content {
        file.set_digest(found);
    }
    content.digest() == Some(&found)
}

/// 256 numbers without a pattern: the output of SplitMix64 from a fixed seed. They are part of the
/// encoder's version, for they decide where frames end.
const GEAR: [u64; 256] = {
    let mut table = [0; 256];
    let mut state = 0x424f_5857_5249_4748u64;
    let mut index = 0;
    while index < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[index] = mixed ^ (mixed >> 31);
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        (0..length)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect()
    }

    fn chunks(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut chunks = Vec::new();
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at(first_chunk(&bytes[..bytes.len().min(WINDOW)]));
            chunks.push(chunk);
            bytes = rest;
        }
        chunks
    }

    #[test]
    fn lengths_are_bounded_and_near_the_target() {
        let bytes = noise(40 << 20);
        let chunks = chunks(&bytes);
        let (last, others) = chunks.split_last().unwrap();
        assert!(
            others
                .iter()
                .all(|chunk| (SHORTEST..=LONGEST).contains(&chunk.len()))
        );
        assert!(last.len() <= LONGEST);
        assert!((25..=60).contains(&chunks.len()), "{}", chunks.len());
    }

    #[test]
    fn an_insertion_touches_few_chunks() {
        let before = noise(20 << 20);
        let mut after = before.clone();
        after.splice(10 << 20..10 << 20, *b"inserted");
        let known: HashSet<&[u8]> = chunks(&before).into_iter().collect();
        let fresh = chunks(&after)
            .into_iter()
            .filter(|chunk| !known.contains(chunk))
            .count();
        assert!((1..=3).contains(&fresh), "{fresh}");
    }

    #[test]
    fn bytes_without_a_pattern_to_cut_at_are_cut_at_the_longest() {
        let zeros = vec![0; 5 << 20];
        let lengths: Vec<usize> = chunks(&zeros).iter().map(|chunk| chunk.len()).collect();
        assert_eq!(lengths, [LONGEST, LONGEST, 1 << 20]);
    }
}
