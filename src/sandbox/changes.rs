//! What a command has changed: the difference between the tree that it was given and the one that
//! it left.
//!
//! Comes in: the tree as it was, and either the upper directory of an overlay or the directory that
//! was written to itself. Goes out: the one changeset that leads from the first tree to the second,
//! contents packed into a blob of the store. It is the same however it was found out: directories
//! that were only walked through are no changes, nor are files that were written again with the
//! same bytes; times never count; a directory that was emptied and filled again is told by what is
//! gone and what is new in it.
//!
//! The command is dead, but what it left may be made to trouble us: names are only ever used in the
//! open directory that holds them, no link is followed, memory does not grow with files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::context::xattrs::read as attributes;
use crate::sandbox::error::SandboxError;
use crate::sandbox::owner;
use crate::sandbox::pack::Packer;
use crate::sandbox::rootfs::Ownership;
use crate::store::Store;
use crate::tree::{
    Change, Changeset, Content, Entry, File, Inline, Inode, LayerPath, Node, Tree, Xattrs,
};

/// How the directory that a command wrote to is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It holds only what was changed, as overlay writes it.
    Upper,
    /// It holds everything. What was last changed before this time, in nanoseconds of the clock
    /// that stamps files, is as it was.
    Whole { since: i128 },
}

/// What to look at, and how.
pub(crate) struct Found<'a> {
    /// The tree as the command was given it.
    pub(crate) before: &'a Tree,
    /// The same tree as it was unpacked, perhaps without devices.
    pub(crate) unpacked: &'a Path,
    /// The directory that it wrote to.
    pub(crate) directory: &'a Path,
    pub(crate) reading: Reading,
    pub(crate) ownership: Ownership,
    /// Owners that no attribute can say, of symbolic links and pipes, by inode number.
    pub(crate) owners: &'a BTreeMap<u64, (u32, u32)>,
    /// Paths that the sandbox itself has put there: neither they nor what is below them count.
    pub(crate) masked: &'a BTreeSet<LayerPath>,
    /// Directories that the sandbox has made to reach a masked path; they count only if something
    /// else is in them.
    pub(crate) made: &'a BTreeSet<LayerPath>,
}

/// What a command has changed.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) changes: Changeset,
    /// What a person should know, such as a socket that was left out.
    pub(crate) notes: Vec<String>,
}

/// Reads the changes and keeps their contents in the store.
///
/// # Errors
/// The file system failing, a name that no image can hold.
pub(crate) fn collect(found: &Found<'_>, store: &Store) -> Result<Collected, SandboxError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(found.directory, flags, Mode::empty())
        .map_err(|error| SandboxError::io("open", found.directory)(error.into()))?;
    let mut collector = Collector {
        found,
        packer: Packer::new(store),
        changes: Changeset::new(),
        inodes: BTreeMap::new(),
        unchanged: BTreeMap::new(),
        trust: Trust::Times,
        notes: Vec::new(),
    };
    collector.directory(&root, &LayerPath::root(), Merge::WithBefore)?;
    collector.join_links();
    let Collector {
        packer,
        mut changes,
        notes,
        ..
    } = collector;
    packer.finish(&mut changes)?;
    Ok(Collected { changes, notes })
}

/// Whether what the tree had in a directory before shows through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merge {
    WithBefore,
    Alone,
}

/// What tells that a file is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// A change time before the command.
    Times,
    /// Nothing but the file: a directory above it may have been another's before, and moving that
    /// one did not touch what is in it.
    Contents,
}

struct Collector<'a> {
    found: &'a Found<'a>,
    packer: Packer<'a>,
    changes: Changeset,
    /// Numbers of files with several names, in the order in which they are met.
    inodes: BTreeMap<(u64, u64), u64>,
    /// Names of such files that are as they were, by number. If the file gets a new name, a layer
    /// needs the old one beside it, or the two would be two files.
    unchanged: BTreeMap<u64, Vec<(LayerPath, Entry)>>,
    /// How far the directory that is read can be trusted.
    trust: Trust,
    notes: Vec<String>,
}

/// Directories within directories that are read. Each is held open on the way down, and takes its
/// part of the stack.
const DEEPEST: usize = 256;

/// What overlay notes in a directory whose lower contents are hidden.
const OPAQUE: [&str; 2] = ["user.overlay.opaque", "trusted.overlay.opaque"];

impl Collector<'_> {
    /// Everything in one directory, in the order of names.
    fn directory(
        &mut self,
        opened: &OwnedFd,
        path: &LayerPath,
        merge: Merge,
    ) -> Result<(), SandboxError> {
        if path.ancestors().take(DEEPEST + 1).count() > DEEPEST {
            return Err(self.failed(
                "follow so many directories down to",
                path,
                Errno::NAMETOOLONG,
            ));
        }
        let names = names(opened).map_err(|error| self.failed("list", path, error))?;
        let is_whole = merge == Merge::Alone || self.found.reading != Reading::Upper;
        if is_whole && self.was_directory(path) {
            self.gone(path, &names);
        }
        for name in &names {
            let below = path.join(name).map_err(|error| {
                let shown = self.on_disk(path).join(OsStr::from_bytes(name));
                SandboxError::io("keep what the command made,", &shown)(std::io::Error::other(
                    error,
                ))
            })?;
            if !self.found.masked.contains(&below) {
                self.entry(opened, name, &below)?;
            }
        }
        Ok(())
    }

    fn was_directory(&self, path: &LayerPath) -> bool {
        self.found
            .before
            .entry(path)
            .is_some_and(Entry::is_directory)
    }

    /// What stood in the directory before and does not any more.
    fn gone(&mut self, path: &LayerPath, names: &BTreeSet<Vec<u8>>) {
        let before = self.found.before.children(path);
        let gone: Vec<LayerPath> = before
            .filter(|(child, entry)| {
                !names.contains(child.name().unwrap_or_default())
                    && !self.found.masked.contains(*child)
                    && !self.is_left_out(child, entry)
            })
            .map(|(child, _)| child.clone())
            .collect();
        for child in gone {
            self.put(child, Change::Whiteout);
        }
    }

    /// Whether it is a device that could not be made: that it is not in a copy of the tree is
    /// nobody's doing. An upper directory only lacks what was taken away.
    fn is_left_out(&self, path: &LayerPath, entry: &Entry) -> bool {
        is_device(entry)
            && self.found.reading != Reading::Upper
            && std::fs::symlink_metadata(self.found.unpacked.join(path.as_os_str())).is_err()
    }

    fn entry(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        path: &LayerPath,
    ) -> Result<(), SandboxError> {
        let name = OsStr::from_bytes(name);
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(self.failed("look at", path, error)),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            if self.found.before.entry(path).is_some() {
                self.put(path.clone(), Change::Whiteout);
            }
            return Ok(());
        }
        if kind == FileType::Socket {
            self.notes
                .push(format!("{path} is a socket and was left out"));
            return Ok(());
        }
        if kind == FileType::Directory {
            return self.below(directory, name, path, &stat);
        }
        if self.is_untouched(path, &stat) {
            return Ok(());
        }
        let xattrs = self.xattrs(directory, name, path, kind)?;
        let node = match kind {
            FileType::RegularFile => {
                return self.file(directory, name, path, &stat, xattrs);
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new());
                let target = target.map_err(|error| self.failed("read the link", path, error))?;
                Node::Symlink(target.to_bytes().into())
            }
            FileType::CharacterDevice => Node::CharDevice(
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            ),
            FileType::BlockDevice => Node::BlockDevice(
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            ),
            _ => Node::Fifo,
        };
        let entry = self.dressed(node, path, &stat, xattrs);
        self.put_if_new(path, entry);
        Ok(())
    }

    /// Whether the change time says that a command cannot have touched it.
    fn is_untouched(&self, path: &LayerPath, stat: &Stat) -> bool {
        self.trust == Trust::Times && self.is_older(stat) && self.found.before.entry(path).is_some()
    }

    /// Whether it was last changed before the command. Never so for what an upper directory holds.
    fn is_older(&self, stat: &Stat) -> bool {
        let changed = i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec);
        matches!(self.found.reading, Reading::Whole { since } if changed < since)
    }

    /// How far what is in a directory can be trusted. One that was moved here has a new change
    /// time, and so has the directory that holds it; any other is where it was.
    fn trust_below(
        &self,
        directory: &OwnedFd,
        path: &LayerPath,
        stat: &Stat,
    ) -> Result<Trust, SandboxError> {
        if self.trust == Trust::Contents || self.is_older(stat) {
            return Ok(self.trust);
        }
        let holder = rustix::fs::fstat(directory)
            .map_err(|error| self.failed("look at the directory of", path, error))?;
        Ok(match self.is_older(&holder) {
            true => Trust::Times,
            false => Trust::Contents,
        })
    }

    /// A directory and what is in it.
    fn below(
        &mut self,
        directory: &OwnedFd,
        name: &OsStr,
        path: &LayerPath,
        stat: &Stat,
    ) -> Result<(), SandboxError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(directory, name, flags, Mode::empty())
            .map_err(|error| self.failed("open", path, error))?;
        let xattrs = self.xattrs(directory, name, path, FileType::Directory)?;
        let through = through(&opened);
        let is_opaque = OPAQUE
            .iter()
            .any(|name| value(&through, name).is_some_and(|value| value == b"y"));
        let entry = self.dressed(Node::Directory, path, stat, xattrs);
        let made_by_us = self.found.made.contains(path) && self.found.before.entry(path).is_none();
        if !made_by_us {
            self.put_if_new(path, entry);
        }
        let merge = match is_opaque || !self.was_directory(path) {
            true => Merge::Alone,
            false => Merge::WithBefore,
        };
        let below = self.trust_below(directory, path, stat)?;
        let here = std::mem::replace(&mut self.trust, below);
        let done = self.directory(&opened, path, merge);
        self.trust = here;
        done
    }

    /// The size of a file. One with holes must find room on the disk before it is read.
    fn size(&self, path: &LayerPath, stat: &Stat) -> Result<u64, SandboxError> {
        let size = stat.st_size.cast_unsigned();
        if size > stat.st_blocks.cast_unsigned().saturating_mul(512) {
            let room = self.packer.has_room(size);
            room.map_err(SandboxError::io("keep", &self.on_disk(path)))?;
        }
        Ok(size)
    }

    fn file(
        &mut self,
        directory: &OwnedFd,
        name: &OsStr,
        path: &LayerPath,
        stat: &Stat,
        xattrs: Attributes,
    ) -> Result<(), SandboxError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(directory, name, flags, Mode::empty())
            .map_err(|error| self.failed("open", path, error))?;
        let opened = std::fs::File::from(opened);
        let size = self.size(path, stat)?;
        let shown = self.on_disk(path);
        let keeping = |error| SandboxError::io("read the content of", &shown)(error);
        let content = match size {
            0 => Content::Inline(std::sync::Arc::new(Inline::new(Vec::new()))),
            _ => Content::Blob(self.packer.look_at(&opened, size).map_err(keeping)?),
        };
        let inode = (stat.st_nlink > 1).then(|| {
            let next = self.inodes.len() as u64;
            let number = *self
                .inodes
                .entry((stat.st_dev, stat.st_ino))
                .or_insert(next);
            Inode { space: 0, number }
        });
        let node = Node::File(File { content, inode });
        let mut entry = self.dressed(node, path, stat, xattrs);
        let before = self.found.before.entry(path);
        if let Some(before) = before.filter(|before| is_same(before, &entry)) {
            if let (Some(inode), Node::File(file)) = (inode, &mut entry.node)
                && let Some(was) = before.as_file()
            {
                match (&was.content, &file.content) {
                    (Content::Disk(_), Content::Blob(range)) => {
                        let kept = self.packer.keep(&opened, range);
                        let shown = self.on_disk(path);
                        kept.map_err(|error| {
                            SandboxError::io("keep the content of", &shown)(error)
                        })?;
                    }
                    (was, _) => file.content = was.clone(),
                }
                let names = self.unchanged.entry(inode.number).or_default();
                names.push((path.clone(), entry));
            }
            return Ok(());
        }
        if let Node::File(File { content, .. }) = &mut entry.node {
            let before = before.and_then(Entry::as_file).map(|file| &file.content);
            match (before, &content) {
                // The store has these bytes already.
                (Some(before @ (Content::Blob(_) | Content::Inline(_))), after)
                    if before == *after =>
                {
                    *content = before.clone();
                }
                (_, Content::Blob(range)) => {
                    let kept = self.packer.keep(&opened, range);
                    kept.map_err(|error| {
                        SandboxError::io("keep the content of", &self.on_disk(path))(error)
                    })?;
                }
                _ => {}
            }
        }
        self.put(path.clone(), Change::Put(entry));
        Ok(())
    }

    /// Puts the old names of files that got new ones.
    fn join_links(&mut self) {
        let linked: BTreeSet<u64> = self
            .changes
            .iter()
            .filter_map(|(_, change)| Some(change.entry()?.as_file()?.inode?.number))
            .collect();
        let unchanged = std::mem::take(&mut self.unchanged);
        let joined = unchanged
            .into_iter()
            .filter(|(number, _)| linked.contains(number));
        for (path, entry) in joined.flat_map(|(_, names)| names) {
            self.put(path, Change::Put(entry));
        }
    }

    /// The entry with its owner, mode and attributes.
    fn dressed(&self, node: Node, path: &LayerPath, stat: &Stat, xattrs: Attributes) -> Entry {
        let (uid, gid) = match self.found.ownership {
            Ownership::Real => (stat.st_uid, stat.st_gid),
            Ownership::Recorded => {
                let noted = xattrs
                    .owner
                    .or(self.found.owners.get(&stat.st_ino).copied());
                let carried = || self.carried(&node, path);
                match noted {
                    Some(owner::AS_SEEN) => self.replaced(&node, path).unwrap_or((0, 0)),
                    noted => noted.or_else(carried).unwrap_or((0, 0)),
                }
            }
        };
        let mode = match node {
            Node::Symlink(_) => 0o777,
            _ => (stat.st_mode & 0o7777) as u16,
        };
        Entry {
            uid,
            gid,
            xattrs: xattrs.belonging,
            ..Entry::new(node, mode)
        }
    }

    /// The owner of a link or pipe that carries no attribute: overlay copies those up, too, when
    /// only their time changes, and then they are still whose they were.
    fn carried(&self, node: &Node, path: &LayerPath) -> Option<(u32, u32)> {
        let before = self.found.before.entry(path)?;
        let is_bare = matches!(node, Node::Symlink(_) | Node::Fifo);
        (is_bare && before.node == *node).then_some((before.uid, before.gid))
    }

    /// The owner of a file that stands where another stood, and was given the owner that was seen
    /// of that one: `sed -i` and the programs for accounts do so. What they saw was root.
    fn replaced(&self, node: &Node, path: &LayerPath) -> Option<(u32, u32)> {
        let before = self.found.before.entry(path)?;
        let are_files = matches!((node, &before.node), (Node::File(_), Node::File(_)));
        are_files.then_some((before.uid, before.gid))
    }

    fn xattrs(
        &self,
        directory: &OwnedFd,
        name: &OsStr,
        path: &LayerPath,
        kind: FileType,
    ) -> Result<Attributes, SandboxError> {
        if kind == FileType::Symlink {
            return Ok(Attributes::default());
        }
        let on_disk = || self.on_disk(path);
        let belonging = attributes(directory, name.as_bytes(), on_disk)
            .map_err(|error| self.failed("read the attributes of", path, error))?;
        let owner = match self.found.ownership {
            Ownership::Real => None,
            Ownership::Recorded => {
                let mut through = through(directory);
                through.push(b'/');
                through.extend_from_slice(name.as_bytes());
                value(&through, owner::ATTRIBUTE).and_then(|value| owner::parse(&value))
            }
        };
        Ok(Attributes { belonging, owner })
    }

    /// Puts an entry, unless it stood there before just so.
    fn put_if_new(&mut self, path: &LayerPath, entry: Entry) {
        let before = self.found.before.entry(path);
        if !before.is_some_and(|before| is_same(before, &entry)) {
            self.put(path.clone(), Change::Put(entry));
        }
    }

    /// Puts a change with all directories that lead to it, as layers want them.
    fn put(&mut self, path: LayerPath, change: Change) {
        let above: Vec<LayerPath> = path.ancestors().filter(|path| !path.is_root()).collect();
        for directory in above {
            if self.changes.change(&directory).is_none() {
                let before = self.found.before.entry(&directory).cloned();
                let entry = before.unwrap_or_else(|| Entry::directory(0o755));
                self.changes.put(directory, entry);
            }
        }
        match change {
            Change::Whiteout => self.changes.remove(path),
            Change::Put(entry) | Change::Opaque(Some(entry)) => self.changes.put(path, entry),
            Change::Opaque(None) => {}
        }
    }

    fn on_disk(&self, path: &LayerPath) -> std::path::PathBuf {
        self.found.directory.join(path.as_os_str())
    }

    fn failed(&self, action: &'static str, path: &LayerPath, error: Errno) -> SandboxError {
        SandboxError::io(action, &self.on_disk(path))(error.into())
    }
}

/// The attributes of one entry.
#[derive(Default)]
struct Attributes {
    /// Those that belong to an image.
    belonging: Xattrs,
    /// The owner that was noted.
    owner: Option<(u32, u32)>,
}

fn is_device(entry: &Entry) -> bool {
    matches!(entry.node, Node::CharDevice(..) | Node::BlockDevice(..))
}

/// Whether two entries differ in nothing that a layer says. Numbers of inodes are arbitrary.
fn is_same(before: &Entry, after: &Entry) -> bool {
    let nodes = match (&before.node, &after.node) {
        (Node::File(before), Node::File(after)) => before.content == after.content,
        (before, after) => before == after,
    };
    nodes
        && before.mode == after.mode
        && (before.uid, before.gid) == (after.uid, after.gid)
        && before.xattrs == after.xattrs
}

/// The names in a directory, sorted.
fn names(directory: &OwnedFd) -> Result<BTreeSet<Vec<u8>>, Errno> {
    let mut names = BTreeSet::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.insert(name);
        }
    }
    Ok(names)
}

/// A path that leads to an open directory, for calls that take no descriptor.
fn through(directory: &OwnedFd) -> Vec<u8> {
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into_bytes()
}

/// One attribute of what a path leads to; a link at its end is not followed, but for the one in
/// `/proc` itself.
fn value(path: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let path = Path::new(OsStr::from_bytes(path));
    let name = CString::new(name).ok()?;
    let is_descriptor = path.parent() == Some(Path::new("/proc/self/fd"));
    let length = match is_descriptor {
        true => rustix::fs::getxattr(path, &name, &mut value[..]),
        false => rustix::fs::lgetxattr(path, &name, &mut value[..]),
    };
    value.truncate(length.ok()?);
    Some(value)
}

#[cfg(test)]
mod tests;
