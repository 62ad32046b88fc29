//! Caches are made: the outer process's part.
//!
//! What comes may have been written by anyone. Everything is made by its name in the open directory
//! that holds it, which this process has made itself a moment ago, and nothing that exists is
//! opened or followed. Only when a cache has come whole does it take the place of another.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps,
    UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::sandbox::caches::entry::{CacheEntry, CacheKind, DEEPEST, Feed};
use crate::sandbox::channel::{receive, send};
use crate::sandbox::error::Setup;
use crate::sandbox::order::Report;
use crate::sandbox::owner;
use crate::sandbox::rootfs::{self, Ownership};
use crate::sandbox::tier::Tier;
use crate::sandbox::trees::{ownership, told};
use crate::tree::LayerPath;

/// Makes what the builder tells of below `staging`, and puts whole caches where they belong. At
/// the end nothing is left in `staging`. Gives what a person should know.
pub(crate) fn fill_here(
    staging: &Path,
    tier: Tier,
    builder: &UnixStream,
) -> Result<Vec<String>, Setup> {
    let filled = fill(staging, tier, builder);
    for entry in fs::read_dir(staging).into_iter().flatten().flatten() {
        // What stays behind is swept by the next run.
        let _ = rootfs::remove(&entry.path());
    }
    filled
}

fn fill(staging: &Path, tier: Tier, builder: &UnixStream) -> Result<Vec<String>, Setup> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open(staging, flags, Mode::empty())
        .map_err(Setup::of("open the folder for caches that come"))?;
    let mut incoming = Incoming {
        top,
        ownership: ownership(tier),
        open: Vec::new(),
        builder,
        strangers: 0,
        buffer: vec![0; 1 << 17],
    };
    let talk = || Setup::of("hear of the caches that come");
    send(builder, &Report::Ready).map_err(talk())?;
    loop {
        match receive::<Feed>(builder).map_err(talk())? {
            Some(Feed::Entry(entry)) => incoming.entry(&entry)?,
            Some(Feed::Place { name, place }) => {
                incoming.leave(&LayerPath::root())?;
                put(&staging.join(&name), &place)?;
            }
            Some(Feed::End) => break,
            None => {
                return Err(Setup::because(
                    "hear of the caches",
                    "the builder went away",
                ));
            }
        }
    }
    Ok(match incoming.strangers {
        0 => Vec::new(),
        count => vec![format!(
            "{count} files belong to root now: this tier cannot keep their owners"
        )],
    })
}

/// Gives a whole cache its name. The one that was there stays whole until that moment.
fn put(new: &Path, place: &Path) -> Result<(), Setup> {
    let action = || format!("name {}", place.display());
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).map_err(Setup::of(action()))?;
    }
    let renamed = match rustix::fs::renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE) {
        Err(Errno::NOENT) => rustix::fs::rename(new, place),
        // A file system that cannot exchange two names: for a moment there is no cache.
        Err(Errno::INVAL | Errno::NOSYS | Errno::XDEV) => {
            let old = new.with_file_name(".old");
            let renamed = rustix::fs::rename(place, &old);
            let renamed = renamed.and_then(|()| rustix::fs::rename(new, place));
            // It lies where all is swept in the end.
            let _ = rootfs::remove(&old);
            renamed
        }
        renamed => renamed,
    };
    renamed.map_err(Setup::of(action()))?;
    rootfs::remove(new).map_err(|error| told("remove the cache that was replaced", &error))
}

/// A directory that is not finished.
struct Open {
    entry: CacheEntry,
    file: OwnedFd,
}

struct Incoming<'a> {
    top: OwnedFd,
    ownership: Ownership,
    /// The directories on the way to where we are. A directory may be closed even to its owner,
    /// and making files changes its time, so it gets mode and time when it is left.
    open: Vec<Open>,
    builder: &'a UnixStream,
    /// Files whose owners this tier cannot keep.
    strangers: u64,
    buffer: Vec<u8>,
}

impl Incoming<'_> {
    fn entry(&mut self, entry: &CacheEntry) -> Result<(), Setup> {
        let path = &entry.path;
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Err(refused(path, "it has no name"));
        };
        let name = OsStr::from_bytes(name);
        self.leave(&parent)?;
        let here = self.open.last().map(|open| &open.entry.path);
        if here.map_or(!parent.is_root(), |here| *here != parent) {
            return Err(refused(path, "the directory that holds it did not come"));
        }
        if self.open.len() >= DEEPEST {
            return Err(refused(path, "it is in too many directories"));
        }
        match &entry.kind {
            CacheKind::Directory => {
                let made = rustix::fs::mkdirat(self.directory(), name, Mode::RWXU);
                made.map_err(failed("make", path))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let flags = flags | OFlags::CLOEXEC;
                let file = rustix::fs::openat(self.directory(), name, flags, Mode::empty())
                    .map_err(failed("open", path))?;
                let entry = entry.clone();
                self.open.push(Open { entry, file });
                Ok(())
            }
            CacheKind::File(size) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let mode = Mode::RUSR | Mode::WUSR;
                let flags = flags | OFlags::CLOEXEC;
                let file = rustix::fs::openat(self.directory(), name, flags, mode)
                    .map_err(failed("make", path))?;
                let mut file = File::from(file);
                self.content(&mut file, path, *size)?;
                self.dress(file.as_fd(), entry, 0o1777)
            }
            CacheKind::HardLink(first) => self.link(first, name, path),
            CacheKind::Symlink(target) => self.symlink(target, name, entry),
        }
    }

    fn directory(&self) -> BorrowedFd<'_> {
        self.open
            .last()
            .map_or(&self.top, |open| &open.file)
            .as_fd()
    }

    /// Finishes the directories that `path` is not in.
    fn leave(&mut self, path: &LayerPath) -> Result<(), Setup> {
        while let Some(open) = self.open.pop_if(|open| !path.starts_with(&open.entry.path)) {
            self.dress(open.file.as_fd(), &open.entry, 0o7777)?;
        }
        Ok(())
    }

    fn content(&mut self, file: &mut File, path: &LayerPath, size: u64) -> Result<(), Setup> {
        let mut left = size;
        while left > 0 {
            let most = (self.buffer.len() as u64).min(left) as usize;
            let count = self.builder.read(&mut self.buffer[..most]);
            let count = count.map_err(Setup::of("hear of the caches that come"))?;
            if count == 0 {
                return Err(Setup::because(
                    "hear of the caches",
                    "the builder went away",
                ));
            }
            let written = file.write_all(&self.buffer[..count]);
            written.map_err(failed("write", path))?;
            left -= count as u64;
        }
        Ok(())
    }

    /// A further name of a file that came before. The directories on the way to it are ours.
    fn link(&self, first: &LayerPath, name: &OsStr, path: &LayerPath) -> Result<(), Setup> {
        let (Some(parent), Some(first_name)) = (first.parent(), first.name()) else {
            return Err(refused(path, "it is a further name of nothing"));
        };
        let first_name = OsStr::from_bytes(first_name);
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = match parent.is_root() {
            true => rustix::io::dup(&self.top),
            false => {
                let mode = Mode::empty();
                rustix::fs::openat2(&self.top, parent.as_os_str(), flags, mode, how)
            }
        };
        let parent = parent.map_err(failed("find the file of which there is a name at", path))?;
        let found = rustix::fs::statat(&parent, first_name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("find the file of which there is a name at", path))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(refused(path, "it is a further name of what is no file"));
        }
        let flags = AtFlags::empty();
        rustix::fs::linkat(&parent, first_name, self.directory(), name, flags)
            .map_err(failed("make", path))
    }

    fn symlink(&mut self, target: &[u8], name: &OsStr, entry: &CacheEntry) -> Result<(), Setup> {
        let made = rustix::fs::symlinkat(OsStr::from_bytes(target), self.directory(), name);
        made.map_err(failed("make", &entry.path))?;
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let chown = || rustix::fs::chownat(self.directory(), name, Some(uid), Some(gid), flags);
        let is_kept = match self.ownership {
            Ownership::Real => given(chown()).map_err(failed("give away", &entry.path))?,
            Ownership::Recorded => (entry.uid, entry.gid) == (0, 0),
        };
        self.strangers += u64::from(!is_kept);
        rustix::fs::utimensat(self.directory(), name, &times(entry), flags)
            .map_err(failed("set the time of", &entry.path))
    }

    /// Owner, attributes, mode and time, in this order: each may take a later one away.
    fn dress(
        &mut self,
        file: BorrowedFd<'_>,
        entry: &CacheEntry,
        mode_mask: u16,
    ) -> Result<(), Setup> {
        let path = &entry.path;
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        let owned = match self.ownership {
            Ownership::Real => given(rustix::fs::fchown(file, Some(uid), Some(gid))),
            Ownership::Recorded => match owner::record(file, entry.uid, entry.gid) {
                Err(Errno::NOTSUP) => Ok(false),
                recorded => recorded.map(|()| true),
            },
        };
        self.strangers += u64::from(!owned.map_err(failed("note the owner of", path))?);
        for (name, value) in &entry.xattrs {
            // The header says who owns it, and other kinds of attributes are no matter of a cache.
            if !name.starts_with(b"user.") || name == owner::ATTRIBUTE.as_bytes() {
                continue;
            }
            let name = OsStr::from_bytes(name);
            match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
                Err(Errno::NOTSUP) => {}
                set => set.map_err(failed("set an attribute of", path))?,
            }
        }
        let mode = Mode::from_raw_mode(u32::from(entry.mode & mode_mask));
        rustix::fs::fchmod(file, mode).map_err(failed("set the mode of", path))?;
        rustix::fs::futimens(file, &times(entry)).map_err(failed("set the time of", path))
    }
}

/// Whether a file could be given away: not to an id that the namespace does not have.
fn given(outcome: Result<(), Errno>) -> Result<bool, Errno> {
    match outcome {
        Err(Errno::INVAL | Errno::PERM) => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

fn times(entry: &CacheEntry) -> Timestamps {
    let (seconds, nanos) = entry.modified;
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanos.into(),
        },
    }
}

fn failed<E: Into<std::io::Error>>(
    action: &str,
    path: &LayerPath,
) -> impl FnOnce(E) -> Setup + use<E> {
    Setup::of(format!("{action} {path}"))
}

fn refused(path: &LayerPath, cause: &str) -> Setup {
    Setup::because(format!("make {path}"), cause)
}
