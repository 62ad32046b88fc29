//! Surveys: what stands in a directory, told by `stat` alone.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{FileType, Mode, OFlags};

use crate::context::error::ContextError;
use crate::context::ignore::IgnoreRules;
use crate::context::walk::{Counts, Listed, Seen, Walk, Wanted};
use crate::oci::{Digest, Hasher};
use crate::store::Settled;
use crate::tree::{Entry, Follow, LayerPath, Tree};

/// What a walk saw of a directory. No file was opened, so it costs little, and it says whether
/// anything can have changed since an earlier one.
#[derive(Debug)]
pub struct Survey {
    pub(crate) root: Arc<Path>,
    /// The directory itself, whatever its path leads to by now.
    pub(crate) opened: OwnedFd,
    pub(crate) listed: Vec<Listed>,
    /// What a person should know, such as a socket that was left out.
    pub notes: Vec<String>,
    /// What was met.
    pub counts: Counts,
}

impl Survey {
    /// Walks `root`.
    ///
    /// A wanted path that leads over symbolic links of the context is followed inside it, and what
    /// it leads to is wanted, too.
    ///
    /// # Errors
    /// A directory that cannot be read, a device, a name that no image can hold; each only where
    /// it is wanted and not excluded.
    pub fn take(
        root: &Path,
        rules: &IgnoreRules,
        wanted: &Wanted,
        threads: NonZeroUsize,
    ) -> Result<Survey, ContextError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(root, flags, Mode::empty());
        let opened = opened.map_err(|error| ContextError::Root {
            path: root.to_path_buf(),
            source: error.into(),
        })?;
        let mut wanted = wanted.clone();
        loop {
            let walk = Walk {
                root,
                rules,
                wanted: &wanted,
            };
            let listed = walk.run(&opened, threads)?;
            // Links can lead to further paths, which the walk has passed by.
            match further_paths(&listed, &wanted) {
                Some(more) => wanted = Wanted::Below(more),
                None => return Ok(Survey::new(root, opened, listed)),
            }
        }
    }

    fn new(root: &Path, opened: OwnedFd, mut listed: Vec<Listed>) -> Survey {
        let mut counts = Counts::default();
        let mut notes = Vec::new();
        for list in &mut listed {
            counts.files += list.counts.files;
            counts.bytes += list.counts.bytes;
            counts.excluded += list.counts.excluded;
            counts.pruned += list.counts.pruned;
            notes.append(&mut list.notes);
        }
        notes.sort();
        Survey {
            root: Arc::from(root),
            opened,
            listed,
            notes,
            counts,
        }
    }

    /// Covers the name, kind, mode, size, identity and times of everything that was seen: two
    /// surveys of one fingerprint saw the same files in the same versions, provided that the
    /// earlier one [has settled](Survey::has_settled).
    pub fn fingerprint(&self) -> Digest {
        let mut lists: Vec<&Listed> = self.listed.iter().collect();
        lists.sort_unstable_by(|one, two| one.path.cmp(&two.path));
        let mut hasher = Hasher::new();
        for list in lists {
            let path = list.path.as_bytes();
            hasher.update(&(path.len() as u64).to_le_bytes());
            hasher.update(path);
            hasher.update(list.digest.raw());
        }
        hasher.finish()
    }

    /// Whether everything is old enough that a later version will differ in its times. `began` is
    /// a time before the files were read, by the clock that stamps them.
    pub fn has_settled(&self, began: SystemTime) -> bool {
        let settled = Settled::before(began);
        let mut all = self.listed.iter().flat_map(|list| &list.seen);
        all.all(|seen| settled.holds(&seen.stat))
    }

    /// Everything in the order of paths. Directories that are only a way are left out where
    /// nothing below them was taken in.
    pub(crate) fn in_order(&self) -> Vec<(&Listed, &Seen)> {
        let mut order = Vec::with_capacity(self.listed.iter().map(|list| list.seen.len()).sum());
        // Directories that are only a way, waiting for something below them.
        let mut ways: Vec<(usize, &Listed, &Seen)> = Vec::new();
        let mut open = vec![(&self.listed[0], self.listed[0].seen.iter())];
        while let Some((list, entries)) = open.last_mut() {
            let (list, Some(seen)) = (*list, entries.next()) else {
                open.pop();
                continue;
            };
            let depth = open.len();
            ways.retain(|(way, ..)| *way < depth);
            if let Some(below) = seen.listed {
                let below = &self.listed[below as usize];
                open.push((below, below.seen.iter()));
            }
            if seen.is_only_a_way {
                ways.push((depth, list, seen));
                continue;
            }
            order.extend(ways.drain(..).map(|(_, list, seen)| (list, seen)));
            order.push((list, seen));
        }
        order
    }
}

/// The wanted paths with the targets of the links on their way; `None` if there are no new ones.
fn further_paths(listed: &[Listed], wanted: &Wanted) -> Option<Vec<LayerPath>> {
    let Wanted::Below(paths) = wanted else {
        return None;
    };
    let links = || {
        let all = listed
            .iter()
            .flat_map(|list| list.seen.iter().map(move |seen| (list, seen)));
        all.filter_map(|(list, seen)| Some((list.path_of(seen), seen.target.as_deref()?)))
    };
    if !links().any(|(link, _)| paths.iter().any(|path| path.starts_with(&link))) {
        return None;
    }
    let mut tree = Tree::new();
    for list in listed {
        for seen in &list.seen {
            let entry = match (&seen.target, seen.kind()) {
                (Some(target), _) => Entry::symlink(target),
                (None, FileType::Directory) => Entry::directory(0o755),
                _ => continue,
            };
            tree.insert(list.path_of(seen), entry);
        }
    }
    let mut all: BTreeSet<LayerPath> = paths.iter().cloned().collect();
    for (link, target) in links() {
        for path in paths.iter().filter(|path| path.starts_with(&link)) {
            let directory = link.parent().unwrap_or_default();
            let below = path.strip_prefix(&link).unwrap_or_default();
            let text = [target, b"/".as_slice(), below.as_bytes()].concat();
            // A link that leads out or nowhere leads to nothing here; whoever copies it will say so.
            if let Ok(led) = tree.resolve(&directory, &text, Follow::Last) {
                all.insert(led.path);
            }
        }
    }
    (all.len() > paths.len()).then(|| all.into_iter().collect())
}
