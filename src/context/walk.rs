//! The walk: a directory becomes lists of what its directories hold, on all cores.
//!
//! Every directory is a job: opened by its path below the root without following a link, listed,
//! its entries judged and looked at, closed. So no more directories are open than there are
//! threads, and depth costs nothing. Jobs end in any order; every list is sorted by name, so
//! neither `readdir` nor the number of threads shows in it.
//!
//! A walk is all that a build does to a context that has not changed, so it makes nothing that
//! only a changed one needs: an entry is a name and what `stat` said of it.

use std::ffi::{CStr, OsStr};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, RawDirEntry, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::context::error::ContextError;
use crate::context::ignore::{IgnoreRules, Judge};
use crate::oci::{Digest, Hasher};
use crate::tree::{Bytes, FileStat, LayerPath, MAX_PATH};

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
    /// Regular files that may be copied.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that rules exclude. What is below an excluded directory is not counted.
    pub excluded: u64,
    /// Directories among them that were not even listed, as no rule takes anything in below them.
    pub pruned: u64,
}

/// What decides a walk.
pub(crate) struct Walk<'a> {
    pub(crate) root: &'a Path,
    pub(crate) rules: &'a IgnoreRules,
    pub(crate) wanted: &'a Wanted,
}

/// One directory as it was listed.
#[derive(Debug)]
pub(crate) struct Listed {
    /// The directory.
    pub(crate) path: LayerPath,
    /// What is in it, in the order of names.
    pub(crate) seen: Vec<Seen>,
    /// The names of all that is in it, one behind the other.
    names: Vec<u8>,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
    pub(crate) counts: Counts,
    /// Covers everything that `seen` says.
    pub(crate) digest: Digest,
}

/// An entry of a directory as `stat` saw it.
#[derive(Debug)]
pub(crate) struct Seen {
    name: (u32, u32),
    /// Kind and permissions.
    pub(crate) mode: u32,
    /// Whether the file has other names.
    pub(crate) is_linked: bool,
    /// Excluded itself, but something below it may not be.
    pub(crate) is_only_a_way: bool,
    /// Which list tells what is in it, if it is a directory.
    pub(crate) listed: Option<u32>,
    pub(crate) stat: FileStat,
    /// Where it leads, if it is a symbolic link.
    pub(crate) target: Option<Bytes>,
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

/// What one call for directory entries may fill; most directories take a single call.
const BUFFER: usize = 1 << 15;

/// More threads than this do not make a walk faster.
const MOST_THREADS: usize = 8;

impl<'a> Walk<'a> {
    /// Walks. The list of the root is the first; [`Seen::listed`] leads from it to all others.
    pub(crate) fn run(
        &self,
        root: &OwnedFd,
        threads: NonZeroUsize,
    ) -> Result<Vec<Listed>, ContextError> {
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
            for _ in 1..threads.get().min(MOST_THREADS) {
                scope.spawn(|| self.work(root, &board, &changed));
            }
            self.work(root, &board, &changed);
        });
        let board = board
            .into_inner()
            .expect("no thread panics while it holds the board");
        match board.error {
            Some((_, error)) => Err(error),
            None => Ok(board
                .listed
                .into_iter()
                .map(|listed| listed.expect("without an error every job was answered"))
                .collect()),
        }
    }

    /// Takes jobs until there are none and nobody can make new ones.
    fn work(&self, root: &OwnedFd, board: &Mutex<Board<'a>>, changed: &Condvar) {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut held = board
            .lock()
            .expect("no thread panics while it holds the board");
        loop {
            while let Some(job) = held.jobs.pop() {
                held.under_way += 1;
                drop(held);
                let listed = self.list(root, &job, &mut buffer);
                held = board
                    .lock()
                    .expect("no thread panics while it holds the board");
                held.under_way -= 1;
                held.answer(&job, listed);
                if held.jobs.len() > 1 || held.under_way == 0 {
                    changed.notify_all();
                }
            }
            if held.under_way == 0 {
                return;
            }
            held = changed
                .wait(held)
                .expect("no thread panics while it holds the board");
        }
    }

    fn list(
        &self,
        root: &OwnedFd,
        job: &Job<'a>,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<Listed, ContextError> {
        let mut listed = Listed::new(job.path.clone());
        let directory = match open_below(root, &job.path) {
            Ok(directory) => directory,
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
        let mut entries = RawDir::new(&directory, buffer);
        while let Some(entry) = entries.next() {
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
        match first_error {
            Some((_, error)) => Err(error),
            None => {
                listed.settle();
                Ok(listed)
            }
        }
    }

    /// What the rules make of an entry, and the count of what they leave out.
    fn judge(
        &self,
        job: &Job<'a>,
        name: &[u8],
        kind: FileType,
        counts: &mut Counts,
    ) -> Result<Judged, ContextError> {
        if self.rules.is_empty() && *self.wanted == Wanted::All {
            return Ok(Judged::In);
        }
        let path = self.path(&job.path, name)?;
        if !self.is_wanted(&path) {
            return Ok(Judged::Out);
        }
        let verdict = job.judge.verdict(&path);
        if !verdict.is_excluded {
            return Ok(Judged::In);
        }
        counts.excluded += 1;
        // Some file systems do not say what a name stands for before it is looked at.
        let may_be_directory = matches!(kind, FileType::Directory | FileType::Unknown);
        if may_be_directory && self.rules.may_take_in_below(&path, verdict) {
            return Ok(Judged::Way);
        }
        counts.pruned += u64::from(kind == FileType::Directory);
        Ok(Judged::Out)
    }

    /// Judges one entry, and looks at it if it is not left out.
    fn look_at(
        &self,
        job: &Job<'a>,
        directory: &OwnedFd,
        entry: &RawDirEntry<'_>,
        listed: &mut Listed,
    ) -> Result<(), ContextError> {
        let name = entry.file_name();
        let bytes = name.to_bytes();
        if job.path.as_bytes().len() + 1 + bytes.len() > MAX_PATH {
            return self.path(&job.path, bytes).map(|_| ());
        }
        let is_only_a_way = match self.judge(job, bytes, entry.file_type(), &mut listed.counts)? {
            Judged::In => false,
            Judged::Way => true,
            Judged::Out => return Ok(()),
        };
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It went away between being listed and being looked at, as if it had never been.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(self.unreadable(&self.path(&job.path, bytes)?, error)),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if is_only_a_way && kind != FileType::Directory {
            return Ok(());
        }
        let special = |kind| {
            let path = self.on_disk(&self.path(&job.path, bytes)?);
            Err(ContextError::Special { path, kind })
        };
        let target = match kind {
            FileType::Symlink => Some(self.target(&job.path, directory, name)?),
            FileType::Socket => {
                let shown = self.on_disk(&self.path(&job.path, bytes)?);
                let note = format!("{} is a socket and was left out", shown.display());
                listed.notes.push(note);
                return Ok(());
            }
            FileType::Directory | FileType::RegularFile | FileType::Fifo => None,
            FileType::CharacterDevice | FileType::BlockDevice => return special("device"),
            _ => return special("thing of an unknown kind"),
        };
        listed.push(bytes, &stat, target, is_only_a_way);
        Ok(())
    }

    fn target(
        &self,
        directory: &LayerPath,
        opened: &OwnedFd,
        name: &CStr,
    ) -> Result<Bytes, ContextError> {
        match rustix::fs::readlinkat(opened, name, Vec::new()) {
            Ok(target) => Ok(target.to_bytes().into()),
            Err(error) => Err(self.unreadable(&self.path(directory, name.to_bytes())?, error)),
        }
    }

    /// The path of a name in a directory.
    fn path(&self, directory: &LayerPath, name: &[u8]) -> Result<LayerPath, ContextError> {
        directory.join(name).map_err(|source| ContextError::Name {
            path: self.on_disk(directory).join(OsStr::from_bytes(name)),
            source,
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

impl Listed {
    fn new(path: LayerPath) -> Listed {
        Listed {
            path,
            seen: Vec::new(),
            names: Vec::new(),
            notes: Vec::new(),
            counts: Counts::default(),
            digest: Digest::of(b""),
        }
    }

    /// The name of one of its entries.
    pub(crate) fn name(&self, seen: &Seen) -> &[u8] {
        name_in(&self.names, seen)
    }

    /// The path of one of its entries.
    pub(crate) fn path_of(&self, seen: &Seen) -> LayerPath {
        self.path
            .join(self.name(seen))
            .expect("names that make no path were refused when they were listed")
    }

    fn push(&mut self, name: &[u8], stat: &Stat, target: Option<Bytes>, is_only_a_way: bool) {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let seen = Seen {
            name: (self.names.len() as u32, name.len() as u32),
            mode: stat.st_mode,
            is_linked: stat.st_nlink > 1 && kind == FileType::RegularFile,
            is_only_a_way,
            listed: None,
            stat: file_stat(stat),
            target,
        };
        if kind == FileType::RegularFile {
            self.counts.files += 1;
            self.counts.bytes += seen.stat.size;
        }
        self.names.extend_from_slice(name);
        self.seen.push(seen);
    }

    /// Brings the entries into order and finds the digest.
    fn settle(&mut self) {
        let names = &self.names;
        self.seen
            .sort_unstable_by(|one, two| name_in(names, one).cmp(name_in(names, two)));
        let mut hasher = Hasher::new();
        let mut line = Vec::with_capacity(512);
        for seen in &self.seen {
            line.clear();
            seen.describe(name_in(names, seen), &mut line);
            hasher.update(&line);
        }
        self.digest = hasher.finish();
    }
}

fn name_in<'a>(names: &'a [u8], seen: &Seen) -> &'a [u8] {
    let (start, length) = seen.name;
    &names[start as usize..][..length as usize]
}

impl Seen {
    /// Everything that the walk knows of it, every field of a fixed length or framed.
    fn describe(&self, name: &[u8], line: &mut Vec<u8>) {
        let FileStat {
            device,
            inode,
            size,
            mtime,
            ctime,
        } = self.stat;
        line.extend_from_slice(&(name.len() as u32).to_le_bytes());
        line.extend_from_slice(name);
        line.extend_from_slice(&self.mode.to_le_bytes());
        line.extend([u8::from(self.is_linked), u8::from(self.is_only_a_way)]);
        [device, inode, size]
            .iter()
            .for_each(|number| line.extend_from_slice(&number.to_le_bytes()));
        [mtime, ctime]
            .iter()
            .for_each(|time| line.extend_from_slice(&time.to_le_bytes()));
        let target = self.target.as_deref().unwrap_or_default();
        line.extend_from_slice(&(target.len() as u32).to_le_bytes());
        line.extend_from_slice(target);
    }

    /// What kind of thing it is.
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
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
        for at in 0..listed.seen.len() {
            if listed.seen[at].kind() != FileType::Directory {
                continue;
            }
            let path = listed.path_of(&listed.seen[at]);
            let seen = &mut listed.seen[at];
            seen.listed = Some(self.next_id as u32);
            self.jobs.push(Job {
                id: self.next_id,
                judge: job.judge.enter(&path),
                path,
                is_only_a_way: seen.is_only_a_way,
            });
            self.next_id += 1;
        }
        if self.listed.len() < self.next_id {
            self.listed.resize_with(self.next_id, || None);
        }
        self.listed[job.id] = Some(listed);
    }
}

/// Opens a directory below the root so that no link on the way is followed.
pub(crate) fn open_below(root: &OwnedFd, path: &LayerPath) -> Result<OwnedFd, Errno> {
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
