//! Snapshots: what a build may read of a directory, frozen.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rustix::fs::FileType;

use crate::context::error::ContextError;
use crate::context::survey::Survey;
use crate::context::walk::{Listed, Seen, open_below};
use crate::context::xattrs;
use crate::oci::Digest;
use crate::store::{FileIndex, IndexBuilder, Known, Store, StoreError};
use crate::tree::{Content, DiskFile, Entry, File, Inode, LayerPath, Node, Tree, Xattrs};

/// The files of a directory that a build may read, as they were at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The files, owned by root as in a Dockerfile's `COPY`. Contents are read when a layer takes
    /// them.
    pub tree: Tree,
    index: FileIndex,
}

/// So many entries are made at a time by one thread.
const PORTION: usize = 512;

impl Snapshot {
    /// The files that `survey` saw. What `index` knows of unchanged ones is taken from it.
    ///
    /// # Errors
    /// Attributes that cannot be read.
    pub fn of(
        survey: &Survey,
        index: FileIndex,
        threads: NonZeroUsize,
    ) -> Result<Snapshot, ContextError> {
        let order = survey.in_order();
        let portions: Vec<&[(&Listed, &Seen)]> = order.chunks(PORTION).collect();
        let next = AtomicUsize::new(0);
        type Made = Result<Vec<(LayerPath, Entry)>, ContextError>;
        let made: Vec<Mutex<Option<Made>>> = portions.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            while let Some(place) = Some(next.fetch_add(1, Ordering::Relaxed))
                && let Some(portion) = portions.get(place)
            {
                let entries = Entries::new(survey, &index).of(portion);
                *made[place].lock().expect("no thread panics here") = Some(entries);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.get().min(portions.len()) {
                scope.spawn(work);
            }
            work();
        });
        let mut entries = Vec::with_capacity(order.len());
        for portion in made {
            let portion = portion.into_inner().expect("no thread panics here");
            entries.append(&mut portion.expect("every portion was taken by a thread")?);
        }
        Ok(Snapshot {
            tree: Tree::from_sorted(entries),
            index,
        })
    }

    /// Keeps what is known of the files now, if that is news, so that the next build need not read
    /// them. What the earlier index knew of files that were not wanted this time is forgotten.
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
            let Some(Content::Disk(file)) = entry.as_file().map(|file| &file.content) else {
                continue;
            };
            let known = Known {
                digest: file.digest().copied(),
                xattrs: entry.xattrs.clone(),
            };
            is_new |= builder.add(path, &file.stat, &known)
                && self.index.lookup(path, &file.stat).as_ref() != Some(&known);
        }
        match is_new || builder.len() != self.index.len() {
            true => builder.save(store, context),
            false => Ok(()),
        }
    }
}

/// Makes entries of what a survey saw.
struct Entries<'a> {
    survey: &'a Survey,
    index: &'a FileIndex,
    /// The directory that was opened last, for the attributes of what is in it.
    directory: Option<(&'a Path, OwnedFd)>,
}

impl<'a> Entries<'a> {
    fn new(survey: &'a Survey, index: &'a FileIndex) -> Entries<'a> {
        Entries {
            survey,
            index,
            directory: None,
        }
    }

    fn of(
        mut self,
        portion: &[(&'a Listed, &'a Seen)],
    ) -> Result<Vec<(LayerPath, Entry)>, ContextError> {
        portion
            .iter()
            .map(|(list, seen)| self.entry(list, seen))
            .collect()
    }

    fn entry(
        &mut self,
        list: &'a Listed,
        seen: &'a Seen,
    ) -> Result<(LayerPath, Entry), ContextError> {
        let path = list.path_of(seen);
        let mode = (seen.mode & 0o7777) as u16;
        let entry = match (seen.kind(), &seen.target) {
            (_, Some(target)) => Entry::symlink(target),
            (FileType::RegularFile, None) => self.file(list, seen, &path)?,
            (FileType::Directory, None) => Entry {
                xattrs: self.xattrs(list, seen, &path)?,
                ..Entry::directory(mode)
            },
            // The walk has refused every other kind.
            _ => Entry::new(Node::Fifo, mode),
        };
        Ok((path, entry))
    }

    fn file(
        &mut self,
        list: &'a Listed,
        seen: &'a Seen,
        path: &LayerPath,
    ) -> Result<Entry, ContextError> {
        let known = self.index.lookup(path, &seen.stat);
        let file = DiskFile::new(Arc::clone(&self.survey.root), path.clone(), seen.stat);
        let digest = known.as_ref().and_then(|known| known.digest);
        let digest = digest.or_else(|| (seen.stat.size == 0).then(|| Digest::of(b"")));
        if let Some(digest) = digest {
            file.set_digest(digest);
        }
        let inode = seen.is_linked.then_some(Inode {
            space: seen.stat.device,
            number: seen.stat.inode,
        });
        let content = Content::Disk(Arc::new(file));
        let node = Node::File(File { content, inode });
        let xattrs = match known {
            Some(known) => known.xattrs,
            None => self.xattrs(list, seen, path)?,
        };
        Ok(Entry {
            xattrs,
            ..Entry::new(node, (seen.mode & 0o7777) as u16)
        })
    }

    fn xattrs(
        &mut self,
        list: &'a Listed,
        seen: &'a Seen,
        path: &LayerPath,
    ) -> Result<Xattrs, ContextError> {
        let on_disk = || self.survey.root.join(path.as_os_str());
        let failed = |error: rustix::io::Errno| ContextError::Unreadable {
            path: on_disk(),
            source: error.into(),
        };
        let parent = Path::new(list.path.as_os_str());
        let directory = match self.directory.take() {
            Some((opened, directory)) if opened == parent => directory,
            _ => open_below(&self.survey.opened, &list.path).map_err(failed)?,
        };
        let read = xattrs::read(&directory, list.name(seen), on_disk).map_err(failed);
        self.directory = Some((parent, directory));
        read
    }
}

#[cfg(test)]
mod tests;
