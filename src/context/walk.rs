//! The walk: a directory becomes a sorted list of entries, on all cores.
//!
//! Every directory is a job: opened by its path below the root without following a link, listed,
//! its entries judged and looked at, closed. So no more directories are open than there are
//! threads, and depth costs nothing. Jobs end in any order; the list is put together afterwards by
//! name, so neither `readdir` nor the number of threads shows in it.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::context::error::ContextError;
use crate::context::ignore::{IgnoreRules, Judge};
use crate::context::xattrs;
use crate::store::{FileIndex, Known};
use crate::tree::{Content, DiskFile, Entry, File, FileStat, Inode, LayerPath, Node, Xattrs};

/// What of a context is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Everything.
    All,
    /// Only what is at and below these paths, and the directories that lead there.
    Below(Vec<LayerPath>),
}

/// What a walk has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Regular files in the snapshot.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that rules exclude. What is below an excluded directory is not counted.
    pub excluded: u64,
    /// Directories among them that were not even listed, as no rule takes anything in below them.
    pub pruned: u64,
}

/// All that a walk has found, sorted.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(crate) entries: Vec<(LayerPath, Entry)>,
    pub(crate) stats: BTreeMap<LayerPath, FileStat>,
    pub(crate) notes: Vec<String>,
    pub(crate) counts: Counts,
}

/// What decides a walk.
pub(crate) struct Walk<'a> {
    pub(crate) root: Arc<Path>,
    pub(crate) rules: &'a IgnoreRules,
    pub(crate) wanted: &'a Wanted,
    pub(crate) index: &'a FileIndex,
}

/// One entry of a directory.
struct Found {
    path: LayerPath,
    entry: Entry,
    stat: FileStat,
    /// Excluded itself, but something below it may not be.
    is_only_a_way: bool,
    /// The job that lists it, if it is a directory that is walked.
    job: Option<usize>,
}

/// One directory, listed.
#[derive(Default)]
struct Listed {
    found: Vec<Found>,
    notes: Vec<String>,
    excluded: u64,
    pruned: u64,
}

/// What the rules make of an entry.
enum Judged {
    In,
    /// Excluded, but it may be a directory with something below it that is not.
    Way,
    Out,
}

/// A directory to be listed.
struct Job<'a> {
    id: usize,
    path: LayerPath,
    judge: Judge<'a>,
    /// It is excluded itself, and listed only for what is taken in again below it.
    is_only_a_way: bool,
}

/// The jobs that are left, and the answers so far.
#[derive(Default)]
struct Board<'a> {
    jobs: Vec<Job<'a>>,
    under_way: usize,
    next_id: usize,
    listed: Vec<Option<Listed>>,
    error: Option<(LayerPath, ContextError)>,
}

impl<'a> Walk<'a> {
    /// Walks.
    pub(crate) fn run(&self, threads: NonZeroUsize) -> Result<Walked, ContextError> {
        let failed = |source: io::Error| ContextError::Root {
            path: self.root.to_path_buf(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&*self.root, flags, Mode::empty())
            .map_err(|error| failed(error.into()))?;
        let first = Job {
            id: 0,
            path: LayerPath::root(),
            judge: self.rules.judge(),
            is_only_a_way: false,
        };
        let board = Mutex::new(Board {
            jobs: vec![first],
            next_id: 1,
            ..Board::default()
        });
        let changed = Condvar::new();
        std::thread::scope(|scope| {
            for _ in 0..threads.get().min(8) {
                scope.spawn(|| self.work(&root, &board, &changed));
            }
        });
        let board = board
            .into_inner()
            .expect("no thread panics while it holds the board");
        match board.error {
            Some((_, error)) => Err(error),
            None => Ok(gather(board.listed)),
        }
    }

    /// Takes jobs until there are none and nobody can make new ones.
    fn work(&self, root: &OwnedFd, board: &Mutex<Board<'a>>, changed: &Condvar) {
        let mut held = board
            .lock()
            .expect("no thread panics while it holds the board");
        loop {
            while let Some(job) = held.jobs.pop() {
                held.under_way += 1;
                drop(held);
                let listed = self.list(root, &job);
                held = board
                    .lock()
                    .expect("no thread panics while it holds the board");
                held.under_way -= 1;
                held.answer(&job, listed);
                changed.notify_all();
            }
            if held.under_way == 0 {
                return;
            }
            held = changed
                .wait(held)
                .expect("no thread panics while it holds the board");
        }
    }

    fn list(&self, root: &OwnedFd, job: &Job<'a>) -> Result<Listed, ContextError> {
        let mut listed = Listed::default();
        let opened = open_below(root, &job.path).and_then(|directory| {
            let entries = Dir::read_from(&directory)?;
            Ok((directory, entries))
        });
        let (directory, entries) = match opened {
            Ok(opened) => opened,
            // What is excluded is no error; but if a rule hoped for something in it, that is told.
            Err(error) if job.is_only_a_way => {
                let shown = self.on_disk(&job.path);
                listed.notes.push(format!(
                    "{} is excluded and cannot be read ({error}), so nothing below it was taken in again",
                    shown.display()
                ));
                return Ok(listed);
            }
            Err(error) => return Err(self.unreadable(&job.path, error)),
        };
        // The error of the first name is the one to tell, whichever `readdir` gives first.
        let mut first_error: Option<(Vec<u8>, ContextError)> = None;
        for entry in entries {
            let entry = entry.map_err(|error| self.unreadable(&job.path, error))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if let Err(error) = self.look_at(job, &directory, &entry, &mut listed)
                && first_error
                    .as_ref()
                    .is_none_or(|(first, _)| name < first.as_slice())
            {
                first_error = Some((name.to_vec(), error));
            }
        }
        if let Some((_, error)) = first_error {
            return Err(error);
        }
        listed
            .found
            .sort_unstable_by(|one, two| one.path.cmp(&two.path));
        Ok(listed)
    }

    /// What the rules make of an entry, and the count of what they leave out.
    fn judge(
        &self,
        job: &Job<'a>,
        path: &LayerPath,
        kind: FileType,
        listed: &mut Listed,
    ) -> Judged {
        let verdict = job.judge.verdict(path);
        if !verdict.is_excluded {
            return Judged::In;
        }
        listed.excluded += 1;
        // Some file systems do not say what a name stands for before it is looked at.
        let may_be_directory = matches!(kind, FileType::Directory | FileType::Unknown);
        if may_be_directory && self.rules.may_take_in_below(path, verdict) {
            return Judged::Way;
        }
        listed.pruned += u64::from(kind == FileType::Directory);
        Judged::Out
    }

    /// Judges one entry, and looks at it if it is not left out.
    fn look_at(
        &self,
        job: &Job<'a>,
        directory: &OwnedFd,
        entry: &DirEntry,
        listed: &mut Listed,
    ) -> Result<(), ContextError> {
        let name = entry.file_name();
        let path = job.path.join(name.to_bytes());
        let path = path.map_err(|source| ContextError::Name {
            path: self
                .on_disk(&job.path)
                .join(OsStr::from_bytes(name.to_bytes())),
            source,
        })?;
        if !self.is_wanted(&path) {
            return Ok(());
        }
        let is_only_a_way = match self.judge(job, &path, entry.file_type(), listed) {
            Judged::In => false,
            Judged::Way => true,
            Judged::Out => return Ok(()),
        };
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It went away between being listed and being looked at, as if it had never been.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(self.unreadable(&path, error)),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if is_only_a_way && kind != FileType::Directory {
            return Ok(());
        }
        if kind == FileType::Socket {
            let shown = self.on_disk(&path);
            listed
                .notes
                .push(format!("{} is a socket and was left out", shown.display()));
            return Ok(());
        }
        let seen = file_stat(&stat);
        let known = self.index.lookup(&path, &seen);
        let node = self.node(&path, directory, name, &stat, known.as_ref())?;
        let is_link = matches!(node, Node::Symlink(_));
        let xattrs = match known {
            Some(known) => known.xattrs,
            None if is_link => Xattrs::default(),
            None => xattrs::read(directory, name, || self.on_disk(&path))
                .map_err(|error| self.unreadable(&path, error))?,
        };
        let mode = if is_link {
            0o777
        } else {
            (stat.st_mode & 0o7777) as u16
        };
        let entry = Entry {
            xattrs,
            ..Entry::new(node, mode)
        };
        listed.found.push(Found {
            path,
            entry,
            stat: seen,
            is_only_a_way,
            job: None,
        });
        Ok(())
    }

    fn node(
        &self,
        path: &LayerPath,
        directory: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        known: Option<&Known>,
    ) -> Result<Node, ContextError> {
        let special = |kind| {
            Err(ContextError::Special {
                path: self.on_disk(path),
                kind,
            })
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(Node::Directory),
            FileType::RegularFile => Ok(self.file(path, stat, file_stat(stat), known)),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new());
                let target = target.map_err(|error| self.unreadable(path, error))?;
                Ok(Node::Symlink(target.to_bytes().into()))
            }
            FileType::Fifo => Ok(Node::Fifo),
            FileType::CharacterDevice | FileType::BlockDevice => special("device"),
            _ => special("thing of an unknown kind"),
        }
    }

    fn file(
        &self,
        path: &LayerPath,
        stat: &Stat,
        file_stat: FileStat,
        known: Option<&Known>,
    ) -> Node {
        let file = DiskFile::new(
            Arc::clone(&self.root),
            PathBuf::from(path.as_os_str()),
            file_stat,
        );
        if let Some(digest) = known.and_then(|known| known.digest) {
            file.set_digest(digest);
        }
        let has_other_names = stat.st_nlink > 1;
        let inode = has_other_names.then_some(Inode {
            space: file_stat.device,
            number: file_stat.inode,
        });
        Node::File(File {
            content: Content::Disk(Arc::new(file)),
            inode,
        })
    }

    /// Whether a path is one of those wanted, below one, or on the way to one.
    fn is_wanted(&self, path: &LayerPath) -> bool {
        match self.wanted {
            Wanted::All => true,
            Wanted::Below(paths) => paths
                .iter()
                .any(|wanted| path.starts_with(wanted) || wanted.starts_with(path)),
        }
    }

    fn on_disk(&self, path: &LayerPath) -> PathBuf {
        self.root.join(path.as_os_str())
    }

    fn unreadable(&self, path: &LayerPath, error: Errno) -> ContextError {
        ContextError::Unreadable {
            path: self.on_disk(path),
            source: error.into(),
        }
    }
}

impl<'a> Board<'a> {
    /// Takes the answer of a job, and makes jobs of the directories in it.
    fn answer(&mut self, job: &Job<'a>, listed: Result<Listed, ContextError>) {
        let mut listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                // The error of the first path is the one to tell, whoever met theirs first.
                if self.error.as_ref().is_none_or(|(path, _)| job.path < *path) {
                    self.error = Some((job.path.clone(), error));
                }
                return;
            }
        };
        for found in &mut listed.found {
            if found.entry.is_directory() {
                found.job = Some(self.next_id);
                self.jobs.push(Job {
                    id: self.next_id,
                    path: found.path.clone(),
                    judge: job.judge.enter(&found.path),
                    is_only_a_way: found.is_only_a_way,
                });
                self.next_id += 1;
            }
        }
        if self.listed.len() <= job.id {
            self.listed
                .resize_with(self.next_id.max(job.id + 1), || None);
        }
        self.listed[job.id] = Some(listed);
    }
}

/// Puts the directories together in the order of paths.
fn gather(mut listed: Vec<Option<Listed>>) -> Walked {
    let mut walked = Walked {
        entries: Vec::new(),
        stats: BTreeMap::new(),
        notes: Vec::new(),
        counts: Counts::default(),
    };
    let mut take = |id: usize, walked: &mut Walked| {
        let listed = listed
            .get_mut(id)
            .and_then(Option::take)
            .unwrap_or_default();
        walked.notes.extend(listed.notes);
        walked.counts.excluded += listed.excluded;
        walked.counts.pruned += listed.pruned;
        listed.found.into_iter()
    };
    // Directories that are only a way, waiting for something below them.
    let mut ways: Vec<Found> = Vec::new();
    let mut open = vec![take(0, &mut walked)];
    while let Some(directory) = open.last_mut() {
        let Some(found) = directory.next() else {
            open.pop();
            continue;
        };
        ways.retain(|way| found.path.starts_with(&way.path));
        if let Some(job) = found.job {
            open.push(take(job, &mut walked));
        }
        if found.is_only_a_way {
            ways.push(found);
            continue;
        }
        for found in ways.drain(..).chain([found]) {
            if let Some(file) = found.entry.as_file() {
                walked.counts.files += 1;
                walked.counts.bytes += file.content.size();
            }
            walked.stats.insert(found.path.clone(), found.stat);
            walked.entries.push((found.path, found.entry));
        }
    }
    walked.notes.sort();
    walked
}

/// Opens a directory below the root so that no link on the way is followed.
fn open_below(root: &OwnedFd, path: &LayerPath) -> Result<OwnedFd, Errno> {
    let name = if path.is_root() {
        OsStr::new(".")
    } else {
        path.as_os_str()
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(root.as_fd(), name, flags, Mode::empty(), resolve) {
        // Old kernels and old sandboxes do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => open_name_by_name(root, path),
        result => result,
    }
}

/// The same without the call: every directory on the way is opened by its name in the one before,
/// and none of them may be a link.
fn open_name_by_name(root: &OwnedFd, path: &LayerPath) -> Result<OwnedFd, Errno> {
    let common = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut directory = rustix::fs::openat(root, c".", OFlags::PATH | common, Mode::empty())?;
    for name in path.components() {
        directory = rustix::fs::openat(&directory, name, OFlags::PATH | common, Mode::empty())?;
    }
    rustix::fs::openat(&directory, c".", OFlags::RDONLY | common, Mode::empty())
}

fn file_stat(stat: &Stat) -> FileStat {
    let nanoseconds = |seconds: i64, nanoseconds: u64| {
        i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
    };
    FileStat {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: stat.st_size.cast_unsigned(),
        mtime: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        ctime: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
    }
}

#[cfg(test)]
mod tests;
