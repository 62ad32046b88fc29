//! Snapshots: what a build may read of a directory, frozen.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

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
    if let Some(path) = beside
        && let Some(text) = ignore_file(
            rustix::fs::CWD,
            path.as_os_str(),
            &path,
            ResolveFlags::empty(),
        )?
    {
        return Ok(IgnoreRules::parse(&text, &path.display().to_string())?);
    }
    // The context itself is reported missing by the walk.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open(context, flags, Mode::empty()) else {
        return Ok(IgnoreRules::none());
    };
    let path = context.join(".dockerignore");
    // It is part of the context: a link in it may lead to another file of the context only.
    match ignore_file(
        root.as_fd(),
        OsStr::new(".dockerignore"),
        &path,
        ResolveFlags::BENEATH,
    )? {
        Some(text) => Ok(IgnoreRules::parse(&text, &path.display().to_string())?),
        None => Ok(IgnoreRules::none()),
    }
}

/// The largest ignore file that is read.
const LARGEST_IGNORE_FILE: u64 = 1 << 20;

/// The text of an ignore file that people know as `path`; `None` if it is not there.
fn ignore_file(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
    resolve: ResolveFlags,
) -> Result<Option<Vec<u8>>, ContextError> {
    let no_file = |problem| ContextError::NoIgnoreFile {
        path: path.to_owned(),
        problem,
    };
    let failed = |source: io::Error| ContextError::IgnoreFile {
        path: path.to_owned(),
        source,
    };
    // A pipe must not make the build wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve) {
        // Old kernels and old sandboxes do not know the call; then no link is followed at all.
        Err(Errno::NOSYS | Errno::PERM) => {
            let flags = match resolve.is_empty() {
                true => flags,
                false => flags | OFlags::NOFOLLOW,
            };
            rustix::fs::openat(directory, name, flags, Mode::empty())
        }
        result => result,
    };
    let file = match opened {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::XDEV | Errno::LOOP) => {
            return Err(no_file(
                "it is a link that leads out of the context or nowhere",
            ));
        }
        Err(error) => return Err(failed(error.into())),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(no_file("it is not a regular file"));
    }
    let mut text = Vec::new();
    file.take(LARGEST_IGNORE_FILE + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    match text.len() as u64 > LARGEST_IGNORE_FILE {
        true => Err(no_file("it is larger than 1 MiB")),
        false => Ok(Some(text)),
    }
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
        Some((_, error)) => Err(error.into()),
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

#[cfg(test)]
mod tests;
