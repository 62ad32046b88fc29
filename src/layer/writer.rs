//! A changeset becomes a layer in the store: planned, read, compressed and hashed in one pass.
//!
//! One thread plans frames, several read and compress them, one hashes and writes them in order:
//!
//! ```text
//! cut ──frames──▶ encode (n threads) ──in order──▶ diff_id hash, blob hash, write
//! ```
//!
//! A frame is taken from an earlier blob if that holds one with the same key; the bytes are the
//! same either way. Memory is bounded by the frames under way, whatever the sizes of the files.

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SendError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::layer::chunk::ChunkFinder;
use crate::layer::codec::Compression;
use crate::layer::error::LayerError;
use crate::layer::frame::{self, Frame};
use crate::layer::pipeline::{Assembled, Assembler, Earlier, Encoded, FrameReader};
use crate::layer::table::FrameTable;
use crate::oci::{Codec, DiffId, Digest};
use crate::store::Store;
use crate::tree::Changeset;

/// The version of everything here that decides about bytes: headers, order, cuts.
pub const ENCODER: u32 = 2;

/// A finished layer, whole in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Digest of the uncompressed tar stream.
    pub diff_id: DiffId,
    /// Size of the uncompressed tar stream in bytes.
    pub uncompressed_size: u64,
    /// How the blob is compressed.
    pub codec: Codec,
}

/// What a layer was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reuse {
    /// Number of frames.
    pub frames: usize,
    /// Those that an earlier blob had.
    pub frames_reused: usize,
    /// Uncompressed bytes that were compressed now.
    pub bytes_compressed: u64,
    /// Uncompressed bytes in frames that were not.
    pub bytes_reused: u64,
}

/// How a layer is to be written.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "a listener cannot be shown")]
pub struct WriteOptions<'a> {
    /// Codec and level.
    pub compression: Compression,
    /// The time of every entry, in seconds since 1970.
    pub epoch: u64,
    /// The frames of an earlier blob, to be reused.
    pub earlier: Option<&'a FrameTable>,
    /// How many threads may compress.
    pub threads: NonZeroUsize,
    /// Told the number of uncompressed bytes of every frame that is done.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// More threads do not help one layer, and every one of them holds a frame.
const MOST_THREADS: usize = 16;

/// Writes the layer of `changes` into `store`.
///
/// # Errors
/// A content that cannot be read or is no longer what its digest says, a name that layers cannot
/// hold, a full disk. Nothing stays behind then.
pub fn write(
    changes: &Changeset,
    store: &Store,
    options: &WriteOptions<'_>,
) -> Result<(Layer, FrameTable, Reuse), LayerError> {
    let threads = options.threads.get().min(MOST_THREADS);
    let earlier = match options.earlier {
        Some(table) => Earlier::open(store, table)?,
        None => None,
    };
    let chunks = ChunkFinder::new(store);
    let (jobs, queue) = sync_channel::<Job>(2 * threads);
    let queue = Arc::new(Mutex::new(queue));
    let (ordered, results) = sync_channel::<Ordered>(2 * threads);
    let assembled = thread::scope(|scope| {
        for _ in 0..threads {
            let (queue, earlier) = (Arc::clone(&queue), earlier.as_ref());
            scope.spawn(move || encode_frames(&queue, store, options.compression, earlier));
        }
        drop(queue);
        let earlier = earlier.as_ref();
        let assembler = scope.spawn(move || assemble(results, store, earlier, options));
        let planned = plan(changes, options.epoch, &chunks, earlier, &jobs, &ordered);
        drop((jobs, ordered));
        let assembled = assembler
            .join()
            .expect("the assembler returns its errors and does not panic");
        // If planning stopped because nobody listened any more, the assembler knows why.
        match planned {
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Hung) | Ok(()) => assembled,
        }
    })?;
    chunks.remember(&assembled.chunks)?;
    Ok((assembled.layer, assembled.table, assembled.reuse))
}

/// A frame on its way to a thread that compresses it, and the way back.
struct Job {
    frame: Frame,
    key: Option<Digest>,
    reply: SyncSender<Result<Encoded, LayerError>>,
}

/// What comes next in the blob.
enum Ordered {
    /// The first so many frames of the earlier blob, as they are.
    Prefix(usize),
    /// A frame that is being encoded.
    Frame(Receiver<Result<Encoded, LayerError>>),
}

/// Why planning ended early.
enum Stop {
    /// The threads behind have ended; they know why.
    Hung,
    /// Planning itself failed.
    Failed(LayerError),
}

impl From<LayerError> for Stop {
    fn from(error: LayerError) -> Stop {
        Stop::Failed(error)
    }
}

impl<T> From<SendError<T>> for Stop {
    fn from(_: SendError<T>) -> Stop {
        Stop::Hung
    }
}

fn plan(
    changes: &Changeset,
    epoch: u64,
    chunks: &ChunkFinder<'_>,
    earlier: Option<&Earlier<'_>>,
    jobs: &SyncSender<Job>,
    ordered: &SyncSender<Ordered>,
) -> Result<(), Stop> {
    // As long as the frames are those of the earlier blob, they are only counted.
    let mut prefix = Some(0);
    frame::cut::<Stop>(changes, epoch, chunks, &mut |frame| {
        let key = frame.key();
        if let Some(count) = prefix {
            if key.is_some() && earlier.and_then(|earlier| earlier.key(count)) == key {
                prefix = Some(count + 1);
                return Ok(());
            }
            prefix = None;
            ordered.send(Ordered::Prefix(count))?;
        }
        let (reply, result) = sync_channel(1);
        ordered.send(Ordered::Frame(result))?;
        Ok(jobs.send(Job { frame, key, reply })?)
    })?;
    match prefix {
        Some(count) => Ok(ordered.send(Ordered::Prefix(count))?),
        None => Ok(()),
    }
}

fn encode_frames(
    queue: &Mutex<Receiver<Job>>,
    store: &Store,
    compression: Compression,
    earlier: Option<&Earlier<'_>>,
) {
    let mut reader = FrameReader::new(store, compression, earlier);
    loop {
        let job = match queue
            .lock()
            .expect("no thread panics while it holds the queue")
            .recv()
        {
            Ok(job) => job,
            Err(_) => return,
        };
        let result = match &mut reader {
            Ok(reader) => reader.encode(job.frame, job.key),
            Err(error) => Err(LayerError::Codec(std::io::Error::other(error.to_string()))),
        };
        // If nobody waits any more, the assembler has failed and says why.
        let _ = job.reply.send(result);
    }
}

fn assemble(
    results: Receiver<Ordered>,
    store: &Store,
    earlier: Option<&Earlier<'_>>,
    options: &WriteOptions<'_>,
) -> Result<Assembled, LayerError> {
    let mut assembler = Assembler::new(store, options.compression.codec())?;
    for next in results {
        let done = match (next, earlier) {
            (Ordered::Prefix(count), Some(earlier)) => assembler.take_prefix(earlier, count)?,
            (Ordered::Prefix(_), None) => 0,
            (Ordered::Frame(result), _) => {
                let encoded = result.recv().expect("every frame in the queue is answered");
                assembler.push(encoded?)?
            }
        };
        (options.progress)(done);
    }
    assembler.finish()
}

#[cfg(test)]
mod tests;
