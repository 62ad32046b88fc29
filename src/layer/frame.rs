//! Frames: where the tar stream of a layer is cut.
//!
//! A frame is a run of whole entries, or a chunk of a large file. Where it ends depends on the
//! paths and sizes around it only, so an entry that comes, goes or changes moves no distant cut.
//! Frames are planned from metadata alone; nothing of a small file is read here.

use crate::layer::chunk::{Chunk, ChunkFinder, LARGE, TARGET};
use crate::layer::error::LayerError;
use crate::layer::header;
use crate::oci::{Digest, Hasher};
use crate::tree::{Change, Changeset, Content, Entry, HardLinks, LayerPath};

/// A run of the tar stream, not read yet.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// All bytes that are not content: headers and padding.
    pub(crate) literal: Vec<u8>,
    /// Where contents go, in order.
    pub(crate) holes: Vec<Hole>,
    /// Length of the frame with its contents.
    pub(crate) size: usize,
}

/// A place for content in a frame.
#[derive(Debug)]
pub(crate) struct Hole {
    /// How much of the literal comes before it.
    pub(crate) at: usize,
    /// Whose content, for errors.
    pub(crate) path: LayerPath,
    /// The content.
    pub(crate) content: Content,
    /// Where in the content this part begins.
    pub(crate) offset: u64,
    /// Length of this part; all of the content unless it is large.
    pub(crate) size: usize,
    /// Digest of this part, if it is known without reading.
    pub(crate) digest: Option<Digest>,
    /// The bytes, if finding the end of the part meant reading them.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Cuts the tar stream of `changes` and hands out its frames in order.
pub(crate) fn cut<E: From<LayerError>>(
    changes: &Changeset,
    mtime: u64,
    chunks: &ChunkFinder<'_>,
    emit: &mut dyn FnMut(Frame) -> Result<(), E>,
) -> Result<(), E> {
    let mut cutter = Cutter {
        mtime,
        chunks,
        emit,
        frame: Frame::default(),
    };
    let mut links = HardLinks::new();
    for (path, change) in changes.iter() {
        let start = cutter.frame.size;
        match change {
            Change::Put(entry) => cutter.entry(path, entry, links.earlier_name(path, entry))?,
            Change::Whiteout => cutter.literal(|out| header::write_whiteout(out, path, mtime)),
            Change::Opaque(entry) => {
                if let Some(entry) = entry {
                    cutter.entry(path, entry, None)?;
                }
                cutter.literal(|out| header::write_opaque(out, path, mtime));
            }
        }
        let size = cutter.frame.size.saturating_sub(start);
        if cutter.frame.ends_after(path, size) {
            cutter.flush()?;
        }
    }
    cutter.literal(|out| out.extend_from_slice(&header::END));
    cutter.flush()
}

struct Cutter<'a, E> {
    mtime: u64,
    chunks: &'a ChunkFinder<'a>,
    emit: &'a mut dyn FnMut(Frame) -> Result<(), E>,
    frame: Frame,
}

impl<E: From<LayerError>> Cutter<'_, E> {
    fn literal(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.frame.literal.len();
        write(&mut self.frame.literal);
        self.frame.size += self.frame.literal.len() - before;
    }

    fn entry(
        &mut self,
        path: &LayerPath,
        entry: &Entry,
        earlier: Option<&LayerPath>,
    ) -> Result<(), E> {
        let content = match (entry.as_file(), earlier) {
            (Some(file), None) => Some(&file.content),
            _ => None,
        };
        let is_large = content.is_some_and(|content| content.size() > LARGE);
        if is_large {
            // Its first chunk has a frame of its own, whatever came before.
            self.flush()?;
        }
        let before = self.frame.literal.len();
        header::write_entry(&mut self.frame.literal, path, entry, earlier, self.mtime)?;
        self.frame.size += self.frame.literal.len() - before;
        match content {
            Some(content) if is_large => self.large(path, content)?,
            Some(content) if content.size() > 0 => {
                let (at, size) = (self.frame.literal.len(), content.size() as usize);
                let digest = content.digest().copied();
                let (path, content) = (path.clone(), content.clone());
                self.frame.holes.push(Hole {
                    at,
                    path,
                    content,
                    offset: 0,
                    size,
                    digest,
                    bytes: None,
                });
                self.frame.size += size;
                self.pad(size as u64);
            }
            _ => {}
        }
        Ok(())
    }

    fn large(&mut self, path: &LayerPath, content: &Content) -> Result<(), E> {
        let mut chunks = self.chunks.chunks(path, content)?;
        let mut offset = 0;
        while let Some(Chunk {
            size,
            digest,
            bytes,
        }) = chunks.next_chunk()?
        {
            let at = self.frame.literal.len();
            let hole = Hole {
                at,
                path: path.clone(),
                content: content.clone(),
                offset,
                size,
                digest,
                bytes,
            };
            self.frame.holes.push(hole);
            self.frame.size += size;
            offset += size as u64;
            // The last chunk is joined by the padding that follows the file.
            if offset < content.size() {
                self.flush()?;
            }
        }
        self.pad(content.size());
        self.flush()
    }

    fn pad(&mut self, size: u64) {
        self.literal(|out| out.resize(out.len() + header::padding(size), 0));
    }

    fn flush(&mut self) -> Result<(), E> {
        match self.frame.size {
            0 => Ok(()),
            _ => (self.emit)(std::mem::take(&mut self.frame)),
        }
    }
}

impl Hole {
    /// Whether the part is all of its content.
    pub(crate) fn is_whole(&self) -> bool {
        self.size as u64 == self.content.size()
    }
}

impl Frame {
    /// Whether the frame ends after the entry at `path`, which added `size` bytes. The larger the
    /// entry the likelier, so that frames measure about a target whatever they hold.
    fn ends_after(&self, path: &LayerPath, size: usize) -> bool {
        if self.size < TARGET / 4 {
            return false;
        }
        // The chance per byte is one in three quarters of a target: with the quarter above, frames
        // measure one target on average.
        let chance = (size as u64).min(3 * TARGET as u64 / 4);
        self.size >= 2 * TARGET || hash(path) % (3 * TARGET as u64 / 4) < chance
    }

    /// What the frame holds, said without reading it: equal keys, equal bytes. `None` while the
    /// digest of a part is not known.
    pub(crate) fn key(&self) -> Option<Digest> {
        let mut hasher = Hasher::new();
        hasher.update(b"boxwright frame 1\n");
        hasher.update(&(self.literal.len() as u64).to_le_bytes());
        hasher.update(&self.literal);
        for hole in &self.holes {
            hasher.update(&(hole.at as u64).to_le_bytes());
            hasher.update(&(hole.size as u64).to_le_bytes());
            hasher.update(hole.digest.as_ref()?.raw());
        }
        Some(hasher.finish())
    }
}

/// FNV-1a, finished with SplitMix64's mixer: well spread, and the same for ever.
fn hash(path: &LayerPath) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325u64;
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut mixed = path.as_bytes().iter().fold(start, fold);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
