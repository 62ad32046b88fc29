//! Trees and changes across the border of the namespace.
//!
//! Owners are only real inside it, so what is unpacked is unpacked by the outer process, and so is
//! what was changed read by it. A tree is unpacked once: `STORE/trees/DIGEST-WHO/root`, beside its
//! listing, under a temporary name until it is whole. It is a lower directory of overlays from then
//! on, and never written again.
//!
//! Of a tree that only adds to a large one below it, such as its base image's, only what differs is
//! unpacked, to be laid over the other: `DIGEST-WHO-on-OTHER/root`, beside the listing of the whole
//! and that of the `part`. So a base is unpacked once for all stages and commands on it.
//!
//! A store may be carried from machine to machine by whatever a CI has for its caches, which loses
//! what a tree is made of: owners, attributes, devices, setuid. So a tree says where it was made, and
//! one that lies elsewhere is a copy: it is made again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::oci::Digest;
use crate::plan::key;
use crate::sandbox::caches::used_now;
use crate::sandbox::changes::{Found, Reading, collect};
use crate::sandbox::error::{SandboxError, Setup};
use crate::sandbox::order::{Collected, Failed, Task};
use crate::sandbox::probe::{Circumstances, Footing, SandboxSettings};
use crate::sandbox::rootfs::{Ownership, unpack};
use crate::sandbox::run::order;
use crate::sandbox::tier::Tier;
use crate::store::Store;
use crate::tree::{Changeset, Detail, Tree};

/// A tree, and the digest of its listing.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The tree.
    pub tree: &'a Tree,
    /// Its digest.
    pub digest: &'a Digest,
}

/// A tree with fewer entries is unpacked as soon as two parts of it are put together.
const WORTH_SHARING: usize = 1000;

/// The root of the tree in the store's folder, unpacked now unless it was before. All of its contents
/// must be in the store or in files that have not changed.
///
/// # Errors
/// What unpacking it fails with; nothing of it stays then.
pub fn materialize(
    wanted: Listed<'_>,
    footing: &Footing,
    settings: &SandboxSettings,
    store: &Store,
) -> Result<PathBuf, SandboxError> {
    Trees::of(footing, settings, store)?.whole(wanted)
}

/// The same as directories that an overlay shows as one, the uppermost first: the tree may be laid
/// on `below`, whose contents must be there as well.
///
/// # Errors
/// As [`materialize`].
pub fn materialize_over(
    wanted: Listed<'_>,
    below: Listed<'_>,
    footing: &Footing,
    settings: &SandboxSettings,
    store: &Store,
) -> Result<Vec<PathBuf>, SandboxError> {
    let trees = Trees::of(footing, settings, store)?;
    let is_large = below.tree.len() >= WORTH_SHARING;
    // Without an overlay there is no laying over.
    match is_large && below.digest != wanted.digest && footing.tier != Tier::Chroot {
        true => trees.over(wanted, below),
        false => Ok(vec![trees.whole(wanted)?]),
    }
}

/// The trees of a store, as one builder makes them.
struct Trees<'a> {
    folder: PathBuf,
    footing: &'a Footing,
    settings: &'a SandboxSettings,
    store: &'a Store,
}

impl<'a> Trees<'a> {
    fn of(
        footing: &'a Footing,
        settings: &'a SandboxSettings,
        store: &'a Store,
    ) -> Result<Trees<'a>, SandboxError> {
        let folder = located(store)?.join("trees");
        fs::create_dir_all(&folder).map_err(SandboxError::io("make", &folder))?;
        Ok(Trees {
            folder,
            footing,
            settings,
            store,
        })
    }

    /// Where a tree lies.
    fn place_of(&self, digest: &Digest) -> PathBuf {
        let name = format!("{}-{}", digest.hex(), whose(self.footing.tier));
        self.folder.join(name)
    }

    fn whole(&self, wanted: Listed<'_>) -> Result<PathBuf, SandboxError> {
        let folder = self.place_of(wanted.digest);
        match unpacked(&folder) {
            Some(root) => Ok(root),
            None => self.unpack(&folder, wanted.tree, None),
        }
    }

    /// The tree as a part that lies over `below`, unless it is there as a whole or has to be one.
    fn over(&self, wanted: Listed<'_>, below: Listed<'_>) -> Result<Vec<PathBuf>, SandboxError> {
        let whole = self.place_of(wanted.digest);
        if let Some(root) = unpacked(&whole) {
            return Ok(vec![root]);
        }
        let mut name = whole.file_name().unwrap_or_default().to_owned();
        name.push(format!("-on-{}", below.digest.short()));
        let folder = self.folder.join(name);
        let root = match unpacked(&folder) {
            Some(root) => root,
            None => match wanted.tree.above(below.tree) {
                Some(part) => self.unpack(&folder, wanted.tree, Some(&part))?,
                None => return Ok(vec![self.unpack(&whole, wanted.tree, None)?]),
            },
        };
        Ok(vec![root, self.whole(below)?])
    }

    /// Fills a folder that holds no true tree. Whoever was at it in the meantime may have done it.
    fn unpack(
        &self,
        folder: &Path,
        tree: &Tree,
        part: Option<&Tree>,
    ) -> Result<PathBuf, SandboxError> {
        let (footing, settings, store) = (self.footing, self.settings, self.store);
        let name = folder.file_name().unwrap_or_default();
        let work = key::work("unpack", &Digest::of(name.as_encoded_bytes()));
        let _claim = store.claim_in_turn(&work, &|| !settings.stop.is_pulled());
        if let Some(root) = unpacked(folder) {
            return Ok(root);
        }
        if folder.exists() {
            drop_copy(&self.folder, folder, footing, settings)?;
        }
        let new = tempfile::Builder::new()
            .prefix("new-")
            .tempdir_in(&self.folder)
            .map_err(SandboxError::io("make a folder in", &self.folder))?
            .keep();
        let made = make(tree, part, &new, footing, settings, store);
        let named = made.and_then(|()| match fs::rename(&new, folder) {
            // Another build was quicker; its tree is as good.
            Err(error) if is_there(&error) => super::remove(&new, footing, settings),
            result => result.map_err(SandboxError::io("name", folder)),
        });
        match named {
            Ok(()) => Ok(folder.join(ROOT)),
            Err(error) => {
                // The error is what counts; what stays is swept with the store.
                let _ = super::remove(&new, footing, settings);
                Err(error)
            }
        }
    }
}

/// The root of a tree that is there and true, which is used now.
fn unpacked(folder: &Path) -> Option<PathBuf> {
    if !is_original(folder) {
        return None;
    }
    // The listing's time says when the tree was last used. It is no harm if that is wrong.
    if let Ok(listing) = File::open(folder.join(LISTING)) {
        let _ = used_now(&listing);
    }
    Some(folder.join(ROOT))
}

/// The store's folder for other processes, which work elsewhere.
pub(crate) fn located(store: &Store) -> Result<PathBuf, SandboxError> {
    std::path::absolute(store.root()).map_err(SandboxError::io("find", store.root()))
}

const ROOT: &str = "root";
pub(crate) const LISTING: &str = "listing";
/// The listing of what lies in the root, where that is not the whole tree.
const PART: &str = "part";
/// Where the tree's root was made, beside it.
const PLACE: &str = "place";

/// What tells the root of a tree from every copy of it: the change time of an inode is set by the
/// kernel alone, and a root that is whole does not change any more.
fn place(folder: &Path) -> io::Result<String> {
    let root = fs::symlink_metadata(folder.join(ROOT))?;
    let (inode, seconds, fraction) = (root.ino(), root.ctime(), root.ctime_nsec());
    Ok(format!("{inode} {seconds}.{fraction:09}\n"))
}

/// Whether a tree lies where it was made, as it was made.
fn is_original(folder: &Path) -> bool {
    let noted = fs::read_to_string(folder.join(PLACE));
    let is_here = matches!((noted, place(folder)), (Ok(noted), Ok(place)) if noted == place);
    let since = fs::metadata(folder.join(PLACE)).map(|note| changed(&note));
    is_here
        && fs::metadata(folder.join(LISTING)).is_ok_and(|listing| listing.len() > 0)
        && since.is_ok_and(|since| is_untouched(&folder.join(ROOT), since))
}

/// Whether nothing in a directory was changed since: cleaners of caches take files out of the middle
/// of a tree, and the kernel notes when. What only others may look into is not looked at.
fn is_untouched(directory: &Path, since: (i64, i64)) -> bool {
    let Ok(entries) = fs::read_dir(directory) else {
        return true;
    };
    entries.flatten().all(|entry| {
        let Ok(found) = entry.metadata() else {
            return true;
        };
        let is_older = changed(&found) <= since;
        is_older && (!found.is_dir() || is_untouched(&entry.path(), since))
    })
}

fn changed(found: &fs::Metadata) -> (i64, i64) {
    (found.ctime(), found.ctime_nsec())
}

/// Takes a tree away that is a copy. Another build may do the same, and have made a true one since.
fn drop_copy(
    trees: &Path,
    folder: &Path,
    footing: &Footing,
    settings: &SandboxSettings,
) -> Result<(), SandboxError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let gone = trees.join(format!("gone-{name}-{}", std::process::id()));
    {
        let alone = File::open(trees).and_then(|folder| folder.lock().map(|()| folder));
        let _alone = alone.map_err(SandboxError::io("lock", trees))?;
        if is_original(folder) || !folder.exists() {
            return Ok(());
        }
        fs::rename(folder, &gone).map_err(SandboxError::io("rename", folder))?;
    }
    // Files that only others may remove are swept with the store.
    let _ = super::remove(&gone, footing, settings);
    Ok(())
}

/// Whose files they are on disk: no two builders of different rights share a tree.
fn whose(tier: Tier) -> String {
    let user = rustix::process::geteuid().as_raw();
    match tier {
        Tier::Root | Tier::Chroot => "root".to_owned(),
        Tier::RangeMap => format!("range-{user}"),
        Tier::SingleMap => format!("single-{user}"),
    }
}

/// How owners lie on disk in a tier.
pub(crate) fn ownership(tier: Tier) -> Ownership {
    match tier {
        Tier::Root | Tier::RangeMap | Tier::Chroot => Ownership::Real,
        Tier::SingleMap => Ownership::Recorded,
    }
}

fn is_there(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty)
}

fn make(
    tree: &Tree,
    part: Option<&Tree>,
    folder: &Path,
    footing: &Footing,
    settings: &SandboxSettings,
    store: &Store,
) -> Result<(), SandboxError> {
    list(tree, &folder.join(LISTING))?;
    if let Some(part) = part {
        list(part, &folder.join(PART))?;
    }
    let task = Task::Unpack {
        folder: folder.to_owned(),
        store: located(store)?,
    };
    let ended = order(footing, task, settings, u64::MAX, &|_, _| {})?;
    if let Err(Failed::Setup(setup) | Failed::Start(setup)) = ended.outcome {
        let tier = footing.tier;
        return Err(SandboxError::Setup { tier, setup });
    }
    let note = folder.join(PLACE);
    let noted = place(folder).and_then(|place| fs::write(&note, place));
    noted.map_err(SandboxError::io("write", &note))
}

fn list(tree: &Tree, listing: &Path) -> Result<(), SandboxError> {
    let mut bytes = Vec::new();
    let written = tree.as_changes().write_listing(Detail::Local, &mut bytes);
    written.map_err(|error| SandboxError::io("list", listing)(io::Error::other(error)))?;
    fs::write(listing, bytes).map_err(SandboxError::io("write", listing))
}

/// The outer process's part of [`materialize`].
pub(crate) fn unpack_here(
    folder: &Path,
    store: &Path,
    tier: Tier,
    circumstances: Circumstances,
) -> Result<(), Setup> {
    let unpacking = |error: &dyn std::error::Error| told("unpack the stage's tree", error);
    let part = folder.join(PART);
    let tree = read(&if part.exists() {
        part
    } else {
        folder.join(LISTING)
    })?;
    let store = Store::open(store).map_err(|error| unpacking(&error))?;
    let root = folder.join(ROOT);
    fs::create_dir(&root).map_err(Setup::of("make the root of the stage's tree"))?;
    let unpacked = unpack(&tree, &store, &root, ownership(tier), circumstances);
    unpacked.map_err(|error| unpacking(&error))
}

/// The tree of a listing.
fn read(listing: &Path) -> Result<Tree, Setup> {
    let reading =
        |error: &dyn std::error::Error| told("read the listing of the stage's tree", error);
    let bytes = fs::read(listing).map_err(|error| reading(&error))?;
    let changes = Changeset::read_local(&bytes, 0).map_err(|error| reading(&error))?;
    let mut tree = Tree::new();
    tree.apply(&changes).map_err(|error| reading(&error))?;
    Ok(tree)
}

/// What a command has changed over the tree whose root, or the uppermost part of it, is at `lower`, kept in the store: the outer process's part
/// of a run.
pub(crate) fn collect_here(
    lower: &Path,
    directory: &Path,
    reading: Reading,
    owners: &BTreeMap<u64, (u32, u32)>,
    store: &Path,
    tier: Tier,
) -> Result<Collected, Setup> {
    let keeping = |error: &dyn std::error::Error| told("keep what the command changed", error);
    let before = read(&lower.with_file_name(LISTING))?;
    let store = Store::open(store).map_err(|error| keeping(&error))?;
    let found = Found {
        before: &before,
        unpacked: lower,
        directory,
        reading,
        ownership: ownership(tier),
        owners,
        masked: &BTreeSet::new(),
        made: &BTreeSet::new(),
    };
    let collected = collect(&found, &store).map_err(|error| keeping(&error))?;
    let mut listing = Vec::new();
    let listed = collected
        .changes
        .write_listing(Detail::Located, &mut listing);
    listed.map_err(|error| keeping(&error))?;
    let listing = store.put_blob(&listing).map_err(|error| keeping(&error))?;
    Ok(Collected {
        listing,
        notes: collected.notes,
    })
}

/// An error with its causes, as one process tells another.
pub(crate) fn told(action: &str, error: &dyn std::error::Error) -> Setup {
    let mut cause = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        cause.push_str(": ");
        cause.push_str(&error.to_string());
        next = error.source();
    }
    Setup::because(action, cause)
}
