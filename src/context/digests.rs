//! The digests of a context's files, found by reading those that no index knows.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::oci::{Digest, Hasher};
use crate::store::{ContentError, Store};
use crate::tree::{Content, DiskFile};

/// Reads the files whose digests are not known yet, on several threads.
///
/// # Errors
/// A file that cannot be read, or that is no longer the one that was walked.
pub fn read_digests(
    store: &Store,
    files: &[Arc<DiskFile>],
    threads: NonZeroUsize,
) -> Result<(), ContentError> {
    let files: Vec<&Arc<DiskFile>> = files
        .iter()
        .filter(|file| file.digest().is_none())
        .collect();
    let next = AtomicUsize::new(0);
    // The error of the first file in the list is the one to tell. Every file before one that fails
    // has been taken up by then, and whoever has it reads it to its end.
    let failed = Mutex::new(None::<(usize, ContentError)>);
    let has_failed = AtomicBool::new(false);
    let read_some = || {
        let mut buffer = vec![0; 1 << 17];
        while !has_failed.load(Ordering::Relaxed) {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(place) else {
                return;
            };
            match read_digest(store, file, &mut buffer) {
                Ok(digest) => file.set_digest(digest),
                Err(error) => {
                    has_failed.store(true, Ordering::Relaxed);
                    let mut first = failed
                        .lock()
                        .expect("no thread panics while it holds the error");
                    if first.as_ref().is_none_or(|(before, _)| place < *before) {
                        *first = Some((place, error));
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.get().min(files.len()) {
            scope.spawn(read_some);
        }
    });
    match failed
        .into_inner()
        .expect("no thread panics while it holds the error")
    {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

fn read_digest(
    store: &Store,
    file: &Arc<DiskFile>,
    buffer: &mut [u8],
) -> Result<Digest, ContentError> {
    let content = store.open_content(&Content::Disk(Arc::clone(file)))?;
    let mut hasher = Hasher::new();
    while hasher.size() < content.size() {
        let left = usize::try_from(content.size() - hasher.size()).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let part = &mut buffer[..length];
        content.read_exact_at(part, hasher.size())?;
        hasher.update(part);
    }
    Ok(hasher.finish())
}
