//! Trees on disk: what a command runs in.
//!
//! Comes in: a virtual tree, whose contents are in the store or in files of a context, and an empty
//! directory. Goes out: the same tree as files. Names come from base images and may be hostile, so
//! no path is ever put together and followed: every entry is made by its name in the open
//! directory that holds it, and nothing that exists is opened.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::oci::Digest;
use crate::sandbox::error::SandboxError;
use crate::sandbox::owner;
use crate::sandbox::probe::Circumstances;
use crate::store::Store;
use crate::tree::{BlobRange, Content, Entry, Inode, LayerPath, Node, Tree};

/// How owners lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Ownership {
    /// As they are: the process may give files away.
    Real,
    /// All files belong to one user; those of others than root say so in an attribute. Devices are
    /// left out.
    Recorded,
}

impl Ownership {
    /// A word for file names.
    pub fn word(self) -> &'static str {
        match self {
            Ownership::Real => "real",
            Ownership::Recorded => "recorded",
        }
    }
}

/// Writes `tree` into the empty directory at `destination`.
///
/// # Errors
/// A content that cannot be read or has changed, a full disk, a right that is missing.
pub(crate) fn unpack(
    tree: &Tree,
    store: &Store,
    destination: &Path,
    ownership: Ownership,
    circumstances: Circumstances,
) -> Result<(), SandboxError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(destination, flags, Mode::empty())
        .map_err(|error| SandboxError::io("open", destination)(error.into()))?;
    let mut unpacker = Unpacker {
        store,
        ownership,
        open: vec![(LayerPath::root(), root)],
        blobs: HashMap::new(),
        names: HashMap::new(),
        buffer: vec![0; 1 << 17],
    };
    for (path, entry) in in_order(tree, circumstances).into_iter().skip(1) {
        let made = unpacker.entry(path, entry);
        made.map_err(|failure| failure.told(&destination.join(path.as_os_str())))?;
    }
    let directories: Vec<(&LayerPath, &Entry)> = tree
        .iter()
        .filter(|(_, entry)| entry.is_directory())
        .collect();
    // A directory may be closed even to its owner, so its mode is set when it is full; and making
    // entries changes its time.
    for (path, entry) in directories.into_iter().rev() {
        let finished = unpacker.finish_directory(path, entry);
        finished.map_err(|failure| failure.told(&destination.join(path.as_os_str())))?;
    }
    Ok(())
}

/// All entries, each directory before what is in it.
fn in_order(tree: &Tree, circumstances: Circumstances) -> Vec<(&LayerPath, &Entry)> {
    if circumstances == Circumstances::Usual {
        return tree.iter().collect();
    }
    let mut found = Vec::with_capacity(tree.len());
    let mut ahead: Vec<(&LayerPath, &Entry)> = tree.iter().take(1).collect();
    while let Some((path, entry)) = ahead.pop() {
        found.push((path, entry));
        // The last one comes out first.
        ahead.extend(tree.children(path));
    }
    found
}

/// Why one entry could not be made.
enum Failure {
    System(&'static str, Errno),
    Io(&'static str, io::Error),
    Content(crate::store::ContentError),
}

impl Failure {
    fn told(self, path: &Path) -> SandboxError {
        match self {
            Failure::System(action, error) => SandboxError::io(action, path)(error.into()),
            Failure::Io(action, error) => SandboxError::io(action, path)(error),
            Failure::Content(error) => {
                SandboxError::io("copy what belongs in", path)(io::Error::other(error))
            }
        }
    }
}

fn system(action: &'static str) -> impl FnOnce(Errno) -> Failure {
    move |error| Failure::System(action, error)
}

struct Unpacker<'a> {
    store: &'a Store,
    ownership: Ownership,
    /// The directories on the way to where we are, the root first.
    open: Vec<(LayerPath, OwnedFd)>,
    blobs: HashMap<Digest, fs::File>,
    /// The first name of each file that may have several.
    names: HashMap<Inode, (LayerPath, Entry)>,
    buffer: Vec<u8>,
}

impl Unpacker<'_> {
    fn entry(&mut self, path: &LayerPath, entry: &Entry) -> Result<(), Failure> {
        let parent = path.parent().unwrap_or_default();
        self.descend(&parent)?;
        let name = path.name().unwrap_or_default().to_vec();
        let name = std::ffi::OsStr::from_bytes(&name);
        if self.link(path, entry, name)? {
            return Ok(());
        }
        let directory = self.directory();
        let file = match &entry.node {
            Node::Directory => {
                return rustix::fs::mkdirat(directory, name, Mode::RWXU)
                    .map_err(system("make the directory"));
            }
            Node::File(file) => Some(self.file(name, &file.content)?),
            Node::Symlink(target) => {
                let target = std::ffi::OsStr::from_bytes(target);
                rustix::fs::symlinkat(target, directory, name)
                    .map_err(system("make the symbolic link"))?;
                None
            }
            Node::Fifo => {
                self.special(name, FileType::Fifo, 0)?;
                None
            }
            Node::CharDevice(major, minor) | Node::BlockDevice(major, minor) => {
                let kind = match entry.node {
                    Node::CharDevice(..) => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                if !self.device(name, kind, *major, *minor)? {
                    return Ok(());
                }
                None
            }
        };
        self.dress(name, file.as_ref(), entry)
    }

    /// Makes a further name of a file that has one already; says whether it did.
    fn link(
        &mut self,
        path: &LayerPath,
        entry: &Entry,
        name: &std::ffi::OsStr,
    ) -> Result<bool, Failure> {
        let Some(inode) = entry.as_file().and_then(|file| file.inode) else {
            return Ok(false);
        };
        match self.names.get(&inode) {
            Some((first, same)) if same == entry => {
                // All directories on the way to it are ours, made by this function.
                let root = &self.open[0].1;
                rustix::fs::linkat(
                    root,
                    first.as_os_str(),
                    self.directory(),
                    name,
                    AtFlags::empty(),
                )
                .map_err(system("link"))?;
                Ok(true)
            }
            Some(_) => Ok(false),
            None => {
                self.names.insert(inode, (path.clone(), entry.clone()));
                Ok(false)
            }
        }
    }

    /// Opens the directory `path`, of which those above are mostly open.
    fn descend(&mut self, path: &LayerPath) -> Result<(), Failure> {
        while !path.starts_with(&self.open[self.open.len() - 1].0) {
            self.open.pop();
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        while self.open[self.open.len() - 1].0 != *path {
            let (above, directory) = &self.open[self.open.len() - 1];
            let below = path.strip_prefix(above).unwrap_or_default();
            let name = below.components().next().unwrap_or_default();
            let opened = rustix::fs::openat(directory, name, flags, Mode::empty())
                .map_err(system("open the directory"))?;
            let next = above.join(name).unwrap_or_default();
            self.open.push((next, opened));
        }
        Ok(())
    }

    fn directory(&self) -> BorrowedFd<'_> {
        self.open[self.open.len() - 1].1.as_fd()
    }

    fn file(&mut self, name: &std::ffi::OsStr, content: &Content) -> Result<fs::File, Failure> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(self.directory(), name, flags | OFlags::NOFOLLOW, mode)
            .map_err(system("make"))?;
        let mut file = fs::File::from(file);
        match content {
            Content::Blob(range) => self.copy_range(range, &mut file)?,
            content => {
                let source = self.store.open_content(content).map_err(Failure::Content)?;
                let mut at = 0;
                while at < source.size() {
                    let left = source.size() - at;
                    let most = (self.buffer.len() as u64).min(left) as usize;
                    let part = &mut self.buffer[..most];
                    source.read_exact_at(part, at).map_err(Failure::Content)?;
                    file.write_all(part)
                        .map_err(|error| Failure::Io("write", error))?;
                    at += most as u64;
                }
            }
        }
        Ok(file)
    }

    fn copy_range(&mut self, range: &BlobRange, out: &mut fs::File) -> Result<(), Failure> {
        if !self.blobs.contains_key(&range.blob) {
            let blob = self.store.open_blob(&range.blob);
            let blob = blob.map_err(|error| Failure::Content(error.into()))?;
            let missing = || Failure::Content(crate::store::ContentError::NotUnpacked(range.blob));
            self.blobs.insert(range.blob, blob.ok_or_else(missing)?);
        }
        let blob = &self.blobs[&range.blob];
        let (mut at, end) = (range.offset, range.offset + range.size);
        while at < end {
            let most = (self.buffer.len() as u64).min(end - at) as usize;
            let part = &mut self.buffer[..most];
            blob.read_exact_at(part, at)
                .map_err(|error| Failure::Io("read the content of", error))?;
            out.write_all(part)
                .map_err(|error| Failure::Io("write", error))?;
            at += most as u64;
        }
        Ok(())
    }

    fn special(&self, name: &std::ffi::OsStr, kind: FileType, device: u64) -> Result<(), Failure> {
        rustix::fs::mknodat(
            self.directory(),
            name,
            kind,
            Mode::RUSR | Mode::WUSR,
            device,
        )
        .map_err(system("make the device or pipe"))
    }

    /// Makes a device where that is allowed; says whether it did. A command that needs one that
    /// could not be made finds those of `/dev`.
    fn device(
        &self,
        name: &std::ffi::OsStr,
        kind: FileType,
        major: u32,
        minor: u32,
    ) -> Result<bool, Failure> {
        if self.ownership == Ownership::Recorded {
            return Ok(false);
        }
        match self.special(name, kind, rustix::fs::makedev(major, minor)) {
            Err(Failure::System(_, Errno::PERM)) => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Owner, attributes, mode and time of what was just made; in this order, for a change of
    /// owner takes setuid bits and capabilities away.
    fn dress(
        &self,
        name: &std::ffi::OsStr,
        file: Option<&fs::File>,
        entry: &Entry,
    ) -> Result<(), Failure> {
        let directory = self.directory();
        if self.ownership == Ownership::Real {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(directory, name, Some(uid), Some(gid), flags)
                .map_err(system("give an owner to"))?;
        }
        if let Some(file) = file {
            self.attributes(file.as_fd(), entry)?;
        }
        if !matches!(entry.node, Node::Symlink(_)) {
            let mode = Mode::from_raw_mode(entry.mode.into());
            match file {
                Some(file) => rustix::fs::fchmod(file, mode),
                None => rustix::fs::chmodat(directory, name, mode, AtFlags::empty()),
            }
            .map_err(system("set the mode of"))?;
        }
        let times = modified(entry);
        rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system("set the time of"))
    }

    fn attributes(&self, file: BorrowedFd<'_>, entry: &Entry) -> Result<(), Failure> {
        for (name, value) in entry.xattrs.iter() {
            let name = std::ffi::OsStr::from_bytes(name);
            match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
                // A capability that this process may not give: the command does without it, and
                // the layer has it all the same, for what was not changed is not read back.
                Err(Errno::PERM | Errno::NOTSUP) => {}
                result => result.map_err(system("set an attribute of"))?,
            }
        }
        if self.ownership == Ownership::Recorded {
            owner::record(file, entry.uid, entry.gid).map_err(system("note the owner of"))?;
        }
        Ok(())
    }

    fn finish_directory(&mut self, path: &LayerPath, entry: &Entry) -> Result<(), Failure> {
        self.descend(path)?;
        let directory = self.directory();
        if self.ownership == Ownership::Real {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::fchown(directory, Some(uid), Some(gid))
                .map_err(system("give an owner to"))?;
        }
        self.attributes(directory, entry)?;
        let mode = Mode::from_raw_mode(entry.mode.into());
        rustix::fs::fchmod(directory, mode).map_err(system("set the mode of"))?;
        rustix::fs::futimens(directory, &modified(entry)).map_err(system("set the time of"))
    }
}

fn modified(entry: &Entry) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: entry.mtime,
            tv_nsec: 0,
        },
    }
}

/// Takes a tree away, whatever modes its directories have. What is gone already is no error.
///
/// # Errors
/// A right that is missing: the ids of another namespace.
pub(crate) fn remove(path: &Path) -> Result<(), SandboxError> {
    let failed = |error: io::Error| SandboxError::io("remove", path)(error);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.is_dir() => return fs::remove_file(path).map_err(failed),
        Ok(_) => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::chmod(path, Mode::RWXU).map_err(|error| failed(error.into()))?;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let opened = opened.map_err(|error| failed(error.into()))?;
    let mut lifted = 0;
    loop {
        let before = lifted;
        empty(&opened, &opened, 0, &mut lifted).map_err(|error| failed(error.into()))?;
        if lifted == before {
            return fs::remove_dir(path).map_err(failed);
        }
    }
}

/// Directories are held open on the way down, and a process may not hold many.
const DEEPEST: usize = 100;

/// Empties a directory. What lies too deep is lifted up to `top`, under a number that `lifted`
/// counts, to be emptied from there.
fn empty(directory: &OwnedFd, top: &OwnedFd, depth: usize, lifted: &mut u64) -> Result<(), Errno> {
    let entries = rustix::fs::Dir::read_from(directory)?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            // Nothing but a directory may go on: the mode of a link's target is not ours to set.
            Err(Errno::ISDIR) => {}
            Err(Errno::NOENT) => continue,
            result => {
                result?;
                continue;
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::chmodat(directory, name, Mode::RWXU, AtFlags::empty())?;
        if depth == DEEPEST {
            *lifted += 1;
            rustix::fs::renameat(directory, name, top, format!(".lifted-{lifted}"))?;
            continue;
        }
        let below = rustix::fs::openat(directory, name, flags, Mode::empty())?;
        empty(&below, top, depth + 1, lifted)?;
        drop(below);
        rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
