//! The supervisor of tier B: says yes to changes of owners, and remembers them.
//!
//! Comes in: the listener of a filter ([`filter`]) that the command runs under. Goes out: owners,
//! in an attribute of each file ([`owner::ATTRIBUTE`]), and for what takes no attribute, such as
//! symbolic links, in a table. overlay carries the attribute along.
//!
//! **What is not emulated.** A program that asks for an owner sees root, and one that asks who it
//! is is root. So a program that copies owners from file to file (`cp -a`) copies root's, and so
//! does one that gives a file to a group by naming the owner that it saw (busybox's `chgrp`; GNU's
//! leaves the owner out). Only a file that takes the place of another is known to be meant like
//! that one ([`owner::AS_SEEN`]).
//!
//! **Races.** A path is read once out of the caller's memory and resolved by us, with the caller's
//! own root as ours; what it led to is held open and changed by that, and the call is answered, not
//! let through. So whatever the caller's other threads do to the path in the meantime, only what
//! was found inside its root is changed, and that is the user's own anyway. Links of `/proc` that
//! lead elsewhere are not followed. A caller that has died is noticed before anything is changed.

mod call;
mod filter;

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use libc::seccomp_notif;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

pub(crate) use crate::sandbox::supervisor::filter::program;

use crate::sandbox::owner;
use crate::sandbox::supervisor::call::{Chown, Empty, Links, Target};
use crate::sandbox::syscalls::own_directories;
use crate::sandbox::syscalls::seccomp::{answer, is_waiting, next};

/// The longest path that the kernel takes, with its end.
const MAX_PATH: usize = 4096;

/// Owners of upper files that take no attribute, by inode number.
pub(crate) type Owners = BTreeMap<u64, (u32, u32)>;

/// Answers the calls of one command.
pub(crate) struct Supervisor {
    /// The `/proc` in which callers have the numbers that we are told.
    proc: OwnedFd,
    /// What the overlay writes to, to know files by what they are there.
    upper: OwnedFd,
    /// Owners by number of the upper file.
    table: HashMap<u64, Kept>,
    /// How many files may be held open.
    most_open: usize,
}

/// An owner that no attribute takes.
struct Kept {
    /// Held open, the file's number is not given to another when it is removed. With very many
    /// of them some are not: then a number that is used again has the owner of the former one.
    file: Option<OwnedFd>,
    owner: (u32, u32),
}

/// Files that the outer process needs beside those of the table.
const OTHER_FILES: usize = 100;

impl Supervisor {
    /// Ready to answer for a command whose changes are written to the directory `upper`.
    pub(crate) fn new(upper: &Path) -> io::Result<Supervisor> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Supervisor {
            proc: rustix::fs::open("/proc", flags, Mode::empty())?,
            upper: rustix::fs::open(upper, flags, Mode::empty())?,
            table: HashMap::new(),
            most_open: 0,
        })
    }

    /// Answers until nobody is left under the filter. The thread that calls this has other roots
    /// from then on, and must end.
    pub(crate) fn serve(mut self, listener: &OwnedFd) -> io::Result<Owners> {
        own_directories()?;
        self.most_open = raise_open_files().saturating_sub(OTHER_FILES);
        while wait(listener)? {
            let call = match next(listener) {
                Ok(call) => call,
                // The caller was killed between the two.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let outcome = self.attend(listener, &call);
            let errno = outcome.err().map_or(0, Errno::raw_os_error);
            answer(listener, &call, errno);
        }
        let is_alive = |kept: &Kept| {
            let found = kept.file.as_ref().map(rustix::fs::fstat);
            found.is_none_or(|found| found.is_ok_and(|found| found.st_nlink > 0))
        };
        let alive = self.table.into_iter().filter(|(_, kept)| is_alive(kept));
        Ok(alive.map(|(inode, kept)| (inode, kept.owner)).collect())
    }

    fn attend(&mut self, listener: &OwnedFd, call: &seccomp_notif) -> Result<(), Errno> {
        let chown = Chown::of(call).ok_or(Errno::NOSYS)?;
        let found = self.find(call.pid, chown.target)?;
        if !is_waiting(listener, call) {
            return Err(Errno::SRCH);
        }
        let Some(file) = found else {
            return Ok(());
        };
        // Being root's already, it becomes root's again: the overlay copies it up, the kernel takes
        // setuid and capabilities away, and says if the file may not be changed at all.
        let root = (Uid::ROOT, Gid::ROOT);
        rustix::fs::chownat(&file, "", Some(root.0), Some(root.1), AtFlags::EMPTY_PATH)?;
        self.note(&file, chown.uid, chown.gid)
    }

    /// What a call is about, held open; nothing where it is a link of `/proc`'s to something that
    /// belongs to no tree.
    fn find(&self, caller: u32, target: Target) -> Result<Option<OwnedFd>, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let of_caller = |name: &str, flags| {
            rustix::fs::openat(&self.proc, format!("{caller}/{name}"), flags, Mode::empty())
        };
        let base = |number: Option<i32>| match number {
            None => of_caller("cwd", flags | OFlags::DIRECTORY),
            Some(number) => {
                of_caller(&format!("fd/{number}"), flags).map_err(|errno| match errno {
                    Errno::NOENT => Errno::BADF,
                    other => other,
                })
            }
        };
        // The caller's root becomes ours, so that what begins with a slash, be it a link, and what
        // goes up, end where they end for the caller.
        let root = of_caller("root", flags | OFlags::DIRECTORY)?;
        rustix::process::fchdir(&root)?;
        rustix::process::chroot(".")?;
        let (number, address, links, empty) = match target {
            Target::Open(number) => return base(number).map(Some),
            Target::Path {
                base,
                address,
                links,
                empty,
            } => (base, address, links, empty),
        };
        let path = self.path(caller, address)?;
        if path.is_empty() {
            return match empty {
                Empty::TheBase => base(number).map(Some),
                Empty::Nothing => Err(Errno::NOENT),
            };
        }
        let start = match path.as_bytes().starts_with(b"/") {
            true => root,
            false => base(number)?,
        };
        let last = match links {
            Links::Followed => flags,
            Links::Kept => flags | OFlags::NOFOLLOW,
        };
        let how = ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&start, &*path, last, Mode::empty(), how) {
            Err(Errno::LOOP) if path.as_bytes().starts_with(b"/dev/std") => Ok(None),
            Err(Errno::LOOP) if path.as_bytes().starts_with(b"/proc/") => Ok(None),
            found => found.map(Some),
        }
    }

    /// The path at an address of the caller's memory.
    fn path(&self, caller: u32, address: u64) -> Result<CString, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let memory = rustix::fs::openat(&self.proc, format!("{caller}/mem"), flags, Mode::empty())?;
        let memory = std::fs::File::from(memory);
        let mut path = Vec::new();
        while path.len() < MAX_PATH {
            // Never past the end of a page: the next one may not be there.
            let at = address.checked_add(path.len() as u64).ok_or(Errno::FAULT)?;
            let mut part = [0; MAX_PATH];
            let wanted = MAX_PATH - usize::try_from(at % MAX_PATH as u64).unwrap_or(0);
            let length = memory
                .read_at(&mut part[..wanted], at)
                .map_err(|_| Errno::FAULT)?;
            if length == 0 {
                return Err(Errno::FAULT);
            }
            if let Some(end) = memchr::memchr(0, &part[..length]) {
                path.extend_from_slice(&part[..end]);
                return CString::new(path).map_err(|_| Errno::INVAL);
            }
            path.extend_from_slice(&part[..length]);
        }
        Err(Errno::NAMETOOLONG)
    }

    /// Remembers the new owner of a file of the tree.
    fn note(&mut self, file: &OwnedFd, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let found = rustix::fs::fstat(file)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile | FileType::Directory => {
                let again = format!("self/fd/{}", file.as_raw_fd());
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let open = rustix::fs::openat(&self.proc, again, flags, Mode::empty())?;
                let mut value = [0; 32];
                let length = rustix::fs::fgetxattr(&open, owner::ATTRIBUTE, &mut value[..]);
                let value = length.ok().and_then(|length| value.get(..length));
                let before = value.and_then(owner::parse);
                let known = before.unwrap_or((0, 0));
                let (uid, gid) = (uid.unwrap_or(known.0), gid.unwrap_or(known.1));
                let is_seen = before.is_none_or(|before| before == owner::AS_SEEN);
                let recorded = match (uid, gid) == owner::AS_SEEN && is_seen {
                    true => owner::record_as_seen(open.as_fd()),
                    false => owner::record(open.as_fd(), uid, gid),
                };
                match recorded {
                    // A file system of the machine that keeps no attributes: not of the image.
                    Err(Errno::NOTSUP) if self.in_upper(file, &found)?.is_none() => Ok(()),
                    recorded => recorded,
                }
            }
            _ => {
                if let Some(upper) = self.in_upper(file, &found)? {
                    let inode = rustix::fs::fstat(&upper)?.st_ino;
                    let before = self.table.get(&inode).map_or((0, 0), |kept| kept.owner);
                    let owner = (uid.unwrap_or(before.0), gid.unwrap_or(before.1));
                    let file = (self.table.len() < self.most_open).then_some(upper);
                    self.table.insert(inode, Kept { file, owner });
                }
                Ok(())
            }
        }
    }

    /// The upper directory's own file for one that the command sees. Its path is asked of the
    /// kernel, in the caller's root; a caller that made a root of its own deeper in the tree is
    /// not followed there.
    fn in_upper(&self, file: &OwnedFd, found: &Stat) -> Result<Option<OwnedFd>, Errno> {
        let link = format!("self/fd/{}", file.as_raw_fd());
        let path = rustix::fs::readlinkat(&self.proc, link, Vec::new())?;
        let Some(path) = path
            .as_bytes()
            .strip_prefix(b"/")
            .filter(|path| !path.is_empty())
        else {
            return Ok(None);
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let Ok(upper) = rustix::fs::openat2(&self.upper, path, flags, Mode::empty(), how) else {
            return Ok(None);
        };
        let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
        let is_the_same = kind(&rustix::fs::fstat(&upper)?) == kind(found);
        Ok(is_the_same.then_some(upper))
    }
}

/// Lets this process hold as many files open as it ever may. The command is started already, with
/// the limits that the builder has.
fn raise_open_files() -> usize {
    let found = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: found.maximum,
        maximum: found.maximum,
    };
    let limit = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => found.maximum,
        Err(_) => found.current,
    };
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

/// Waits for a call; not if nobody is left who could make one.
fn wait(listener: &OwnedFd) -> io::Result<bool> {
    loop {
        let mut files = [PollFd::new(listener, PollFlags::IN)];
        match rustix::event::poll(&mut files, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        return Ok(files[0].revents().contains(PollFlags::IN));
    }
}
