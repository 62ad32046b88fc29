//! Snapshots: what a build may read of a directory, frozen.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use crate::context::error::ContextError;
use crate::context::ignore::IgnoreRules;
use crate::context::walk::{Counts, Walk, Wanted};
use crate::oci::{Digest, Hasher};
use crate::store::{ContentError, FileIndex, IndexBuilder, Known, Store, StoreError};
use crate::tree::{Content, DiskFile, Entry, FileStat, LayerPath, Node, Tree};

/// The files of a directory that a build may read, as they were at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The files, owned by root as in a Dockerfile's `COPY`. Contents are read when a layer takes
    /// them.
    pub tree: Tree,
    /// What a person should know, such as a socket that was left out.
    pub notes: Vec<String>,
    /// What was met.
    pub counts: Counts,
    stats: BTreeMap<LayerPath, FileStat>,
    index: FileIndex,
}

impl Snapshot {
    /// Walks `root`. What `index` knows of unchanged files is taken from it.
    ///
    /// A wanted path that leads over symbolic links of the context is followed inside it, and what
    /// it leads to is wanted, too.
    ///
    /// # Errors
    /// A directory that cannot be read, a device or a pipe, a name that no image can hold; each
    /// only where it is wanted and not excluded.
    pub fn take(
        root: &Path,
        rules: &IgnoreRules,
        wanted: &Wanted,
        index: FileIndex,
        threads: NonZeroUsize,
    ) -> Result<Snapshot, ContextError> {
        let root: Arc<Path> = Arc::from(root);
        let mut wanted = wanted.clone();
        loop {
            let walk = Walk {
                root: Arc::clone(&root),
                rules,
                wanted: &wanted,
                index: &index,
            };
            let walked = walk.run(threads)?;
            let tree = Tree::from_sorted(walked.entries);
            // Links can lead to further paths, which the walk has passed by.
            match further_paths(&tree, &wanted) {
                Some(more) => wanted = Wanted::Below(more),
                None => {
                    return Ok(Snapshot {
                        tree,
                        notes: walked.notes,
                        counts: walked.counts,
                        stats: walked.stats,
                        index,
                    });
                }
            }
        }
    }

    /// Keeps what is known of the files now, if that is news, so that the next build need not read
    /// them. What the
    /// earlier index knew of files that were not wanted this time is forgotten.
    ///
    /// `began` is a time before the walk began, by the clock that stamps the files.
    ///
    /// # Errors
    /// The store failing.
    pub fn remember(
        &self,
        store: &Store,
        context: &Digest,
        began: SystemTime,
    ) -> Result<(), StoreError> {
        let mut builder = IndexBuilder::new(began);
        let mut is_new = false;
        for (path, entry) in self.tree.iter() {
            let Some(stat) = self.stats.get(path) else {
                continue;
            };
            let digest = entry
                .as_file()
                .and_then(|file| file.content.digest().copied());
            let known = Known {
                digest,
                xattrs: entry.xattrs.clone(),
            };
            is_new |= builder.add(path, stat, &known)
                && self.index.lookup(path, stat).as_ref() != Some(&known);
        }
        match is_new || builder.len() != self.index.len() {
            true => builder.save(store, context),
            false => Ok(()),
        }
    }
}

/// The wanted paths with the targets of the links on their way; `None` if there are no new ones.
fn further_paths(tree: &Tree, wanted: &Wanted) -> Option<Vec<LayerPath>> {
    let Wanted::Below(paths) = wanted else {
        return None;
    };
    let mut all: BTreeSet<LayerPath> = paths.iter().cloned().collect();
    let before = all.len();
    for path in paths {
        for way in path.ancestors().chain([path.clone()]) {
            let Some(Entry {
                node: Node::Symlink(target),
                ..
            }) = tree.entry(&way)
            else {
                continue;
            };
            let directory = way.parent().unwrap_or_default();
            let below = path.strip_prefix(&way).unwrap_or_default();
            let text = [target, b"/".as_slice(), below.as_bytes()].concat();
            // A link that leads out or nowhere leads to nothing here; whoever copies it will say so.
            if let Ok(led) = tree.resolve(&directory, &text, crate::tree::Follow::Last) {
                all.insert(led.path);
            }
        }
    }
    (all.len() > before).then(|| all.into_iter().collect())
}

/// The rules for a context: for the main one, the file beside the spec that is named after it
/// (`boxwright.yaml.dockerignore`) wins over `.dockerignore` in the context; they are never merged.
///
/// # Errors
/// An ignore file that cannot be read, or that is malformed.
pub fn rules_for(context: &Path, spec_file: Option<&Path>) -> Result<IgnoreRules, ContextError> {
    let beside = spec_file.map(|spec| {
        let mut name = spec.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in beside.into_iter().chain([context.join(".dockerignore")]) {
        match std::fs::read(&path) {
            Ok(text) => return Ok(IgnoreRules::parse(&text, &path.display().to_string())?),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(source) => return Err(ContextError::IgnoreFile { path, source }),
        }
    }
    Ok(IgnoreRules::none())
}

/// Reads the files whose digests are not known yet, on several threads.
///
/// # Errors
/// A file that cannot be read, or that is no longer the one that was walked.
pub fn read_digests(
    store: &Store,
    files: &[Arc<DiskFile>],
    threads: NonZeroUsize,
) -> Result<(), ContextError> {
    let files: Vec<&Arc<DiskFile>> = files
        .iter()
        .filter(|file| file.digest().is_none())
        .collect();
    let next = AtomicUsize::new(0);
    let read_some = || {
        let mut buffer = vec![0; 1 << 17];
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            file.set_digest(read_digest(store, file, &mut buffer)?);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.get().min(files.len()))
            .map(|_| scope.spawn(read_some))
            .collect();
        let results = threads
            .into_iter()
            .map(|thread| thread.join().expect("reading files does not panic"));
        results
            .collect::<Vec<Result<(), ContentError>>>()
            .into_iter()
            .collect::<Result<(), ContentError>>()
    })?;
    Ok(())
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

#[cfg(test)]
mod tests;
