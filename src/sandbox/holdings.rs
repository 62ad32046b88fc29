//! What commands keep in the store beside blobs and records: trees, caches, and what killed builds
//! have left.
//!
//! Comes in: the store's folder. Goes out: what lies there with its name, its room on the disk and
//! its last use; and, given what may stay, what has to go. Files may belong to ids that only a user
//! namespace has: what this process may not look into or remove, a process in one does.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::sandbox::caches::{Caches, DEEPEST};
use crate::sandbox::error::SandboxError;
use crate::sandbox::order::{Report, Task};
use crate::sandbox::probe::{Footing, SandboxSettings, best};
use crate::sandbox::rootfs;
use crate::sandbox::run::order_with;
use crate::sandbox::tier::Letter;
use crate::sandbox::trees::LISTING;
use crate::store::{GcPolicy, Item};

/// One directory that commands keep in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// What it is.
    pub kind: HoldingKind,
    /// Its name.
    pub name: String,
    /// The room it takes on the disk, in bytes. A file with several names counts once.
    pub size: u64,
    /// Whether all of it could be looked into; else it takes more than is said.
    pub is_measured: bool,
    /// When it was last used.
    pub used: SystemTime,
    path: PathBuf,
}

/// What a directory of commands is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldingKind {
    /// What a run works in, and what killed ones have left.
    Scratch,
    /// A stage's tree, unpacked for commands to run in. It is made again when it is needed.
    Tree,
    /// A cache that commands mount. Nobody but they can make it again.
    Cache,
}

/// What of a store goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The directories that go.
    pub gone: Vec<Holding>,
    /// The directories that stay.
    pub left: Vec<Holding>,
    /// What this leaves to blobs and records.
    pub store: GcPolicy,
}

/// The room that a directory takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Room {
    pub(crate) bytes: u64,
    /// Directories that could not be looked into.
    pub(crate) closed: u64,
}

/// How the names of what is being made or removed begin, which is worth nothing when nobody is at
/// it.
const UNFINISHED: [&str; 3] = ["new-", "gone-", ".gone-"];

/// All that lies in the store at `root`, sorted by kind and name.
///
/// # Errors
/// The file system failing.
pub fn holdings(root: &Path, settings: &SandboxSettings) -> Result<Vec<Holding>, SandboxError> {
    let caches = Caches::of(root).map_err(SandboxError::io("find", root))?;
    let mut found = Vec::new();
    for (kind, folder) in [
        (HoldingKind::Scratch, "scratch"),
        (HoldingKind::Tree, "trees"),
        (HoldingKind::Cache, "caches"),
    ] {
        let folder = root.join(folder);
        for (name, path) in directories(&folder)? {
            let is_unfinished = UNFINISHED.iter().any(|start| name.starts_with(start));
            let kind = match kind {
                HoldingKind::Cache if name.starts_with('.') && !is_unfinished => continue,
                _ if is_unfinished => HoldingKind::Scratch,
                kind => kind,
            };
            let note = match kind {
                HoldingKind::Scratch => path.clone(),
                HoldingKind::Tree => path.join(LISTING),
                HoldingKind::Cache => caches.lock_path(&name),
            };
            let time = |path: &Path| fs::symlink_metadata(path)?.modified();
            let used = time(&note).or_else(|_| time(&path));
            let room = room(&path);
            found.push(Holding {
                kind,
                name,
                size: room.bytes,
                is_measured: room.closed == 0,
                used: used.unwrap_or(SystemTime::UNIX_EPOCH),
                path,
            });
        }
    }
    measure_inside(&mut found, settings);
    found.sort_by(|one, two| (one.kind, &one.name).cmp(&(two.kind, &two.name)));
    Ok(found)
}

/// The unpacked trees of the store at `root` but for the `keep` that were used last. Sizes are not
/// measured. They are made again when they are needed, so a store has no use for many; only who has
/// the store to himself may discard them.
///
/// # Errors
/// The file system failing.
pub fn surplus_trees(root: &Path, keep: usize) -> Result<Vec<Holding>, SandboxError> {
    let mut found = Vec::new();
    for (name, path) in directories(&root.join("trees"))? {
        let used = fs::symlink_metadata(path.join(LISTING)).and_then(|note| note.modified());
        found.push(Holding {
            kind: HoldingKind::Tree,
            name,
            size: 0,
            is_measured: false,
            used: used.unwrap_or(SystemTime::UNIX_EPOCH),
            path,
        });
    }
    found.sort_by_key(|holding| std::cmp::Reverse(holding.used));
    Ok(found.split_off(keep.min(found.len())))
}

/// The directories in a folder that may not be there.
fn directories(folder: &Path) -> Result<Vec<(String, PathBuf)>, SandboxError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(SandboxError::io("list", folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(SandboxError::io("list", folder))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// Has a process that may look into them measure the directories that this one may not.
fn measure_inside(found: &mut [Holding], settings: &SandboxSettings) {
    let closed = || found.iter().filter(|holding| !holding.is_measured);
    let paths: Vec<PathBuf> = closed().map(|holding| holding.path.clone()).collect();
    if paths.is_empty() {
        return;
    }
    let mut rooms = Vec::new();
    // Without a namespace it stays with what was seen, and `is_measured` says so.
    let _ = with_range(settings).and_then(|(footing, settings)| {
        order_with(
            &footing,
            Task::Measure(paths),
            &settings,
            &mut |report, _| {
                match report {
                    Report::Measured(measured) => rooms = measured,
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                }
                Ok(())
            },
        )
    });
    let closed = found.iter_mut().filter(|holding| !holding.is_measured);
    for (holding, room) in closed.zip(rooms) {
        holding.size = room.bytes;
        holding.is_measured = room.closed == 0;
    }
}

/// The tier whose ids files may belong to.
fn with_range(settings: &SandboxSettings) -> Result<(Footing, SandboxSettings), SandboxError> {
    let settings = SandboxSettings {
        letter: Some(Letter::A),
        ..settings.clone()
    };
    Ok((best(&settings)?, settings))
}

/// The room that a directory takes on the disk.
pub(crate) fn room(path: &Path) -> Room {
    let mut room = Room::default();
    let mut seen = HashSet::new();
    match open(CWD, path) {
        Ok(opened) => add(opened.as_fd(), &mut room, &mut seen, 0),
        Err(_) => room.closed += 1,
    }
    room
}

fn open<P: rustix::path::Arg>(directory: BorrowedFd<'_>, name: P) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty()).map(File::from)
}

/// Adds a directory and what is in it. What cannot be looked at is counted and passed over.
fn add(directory: BorrowedFd<'_>, room: &mut Room, seen: &mut HashSet<(u64, u64)>, depth: usize) {
    let blocks = |blocks: i64| blocks.cast_unsigned().saturating_mul(512);
    if let Ok(stat) = rustix::fs::fstat(directory) {
        room.bytes += blocks(stat.st_blocks);
    }
    let Ok(entries) = rustix::fs::Dir::read_from(directory) else {
        room.closed += 1;
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(_) => {
                room.closed += 1;
                continue;
            }
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match open(directory, name) {
                Ok(below) if depth < DEEPEST => add(below.as_fd(), room, seen, depth + 1),
                Err(Errno::NOENT) => {}
                _ => room.closed += 1,
            }
        } else if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
            room.bytes += blocks(stat.st_blocks);
        }
    }
}

/// What has to go so that the policy is kept: what killed builds have left always, and what was
/// not used for too long; then trees, which are made again when they are needed; then caches and
/// what the store itself holds, the least recently used first.
pub fn choose(found: Vec<Holding>, items: &[Item], policy: GcPolicy, now: SystemTime) -> Chosen {
    let is_old = |used: SystemTime| {
        let age = now.duration_since(used).unwrap_or_default();
        policy.max_age.is_some_and(|most| age > most)
    };
    let goes = |holding: &Holding| holding.kind == HoldingKind::Scratch || is_old(holding.used);
    let (mut gone, mut left): (Vec<_>, Vec<_>) = found.into_iter().partition(goes);
    left.sort_by_key(|holding| (holding.kind, holding.used));
    let mut items: Vec<&Item> = items.iter().filter(|item| !is_old(item.used)).collect();
    items.sort_by_key(|item| item.used);
    let mut items = items.into_iter().peekable();
    let most = policy.max_bytes.unwrap_or(u64::MAX);
    let sum: u64 = left.iter().map(|holding| holding.size).sum();
    let mut bytes = sum + items.clone().map(|item| item.size).sum::<u64>();
    while bytes > most {
        let first = left.first();
        let is_tree = first.is_some_and(|first| first.kind == HoldingKind::Tree);
        let oldest = items.peek();
        let is_item = oldest.is_some_and(|item| first.is_none_or(|first| item.used <= first.used));
        if is_item && !is_tree {
            bytes -= items.next().map_or(0, |item| item.size);
        } else if first.is_some() {
            let holding = left.remove(0);
            bytes -= holding.size;
            gone.push(holding);
        } else {
            break;
        }
    }
    let kept: u64 = left.iter().map(|holding| holding.size).sum();
    let store = GcPolicy {
        max_bytes: policy.max_bytes.map(|most| most.saturating_sub(kept)),
        max_age: policy.max_age,
    };
    Chosen { gone, left, store }
}

/// Removes directories of a store that nobody else uses. A tree or cache is whole until it has lost
/// its name.
///
/// # Errors
/// Files of ids that only a user namespace has, where none can be made any more.
pub fn discard(gone: &[Holding], settings: &SandboxSettings) -> Result<(), SandboxError> {
    let mut inside = None;
    for holding in gone {
        let path = match holding.kind {
            HoldingKind::Scratch => holding.path.clone(),
            // Within the folder: a directory of another's cannot be moved elsewhere.
            HoldingKind::Tree => unnamed(&holding.path, "gone-")?,
            HoldingKind::Cache => unnamed(&holding.path, ".gone-")?,
        };
        if rootfs::remove(&path).is_err() {
            let (footing, settings) = match &inside {
                Some(known) => known,
                None => inside.insert(with_range(settings)?),
            };
            super::remove(&path, footing, settings)?;
        }
        if holding.kind == HoldingKind::Scratch {
            // Of a run; others have none.
            let _ = fs::remove_file(path.with_extension("lock"));
        }
    }
    Ok(())
}

/// Takes a directory's name away.
fn unnamed(path: &Path, start: &str) -> Result<PathBuf, SandboxError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let gone = path.with_file_name(format!("{start}{name}"));
    let failed = SandboxError::io("remove", path);
    fs::rename(path, &gone).map_err(failed)?;
    Ok(gone)
}

#[cfg(test)]
mod tests;
