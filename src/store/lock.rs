//! Who may use the store: builds share it, cleaning wants it alone.
//!
//! The lock is `flock` on one file. It ends with the process however that ends, so nothing stale
//! is ever left behind. A build that finds no one else sweeps what killed ones left, before it
//! shares the store.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::store::blobs::Store;
use crate::store::error::StoreError;
use crate::store::gc::sweep_temporary;
use crate::store::key::KeyRecord;
use crate::store::unsynced::verify_earlier_boots;

/// A held lock; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until no one has the store alone. Whoever is the only one for a moment sweeps.
    pub(crate) fn shared(root: &Path) -> Result<Lock, StoreError> {
        let path = root.join("lock");
        let file = open(&path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // What cannot be swept, such as another user's file, is in no one's way.
            let _ = sweep_temporary(root);
            verify_earlier_boots(root)?;
        }
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockShared))
            .map_err(|error| StoreError::io("lock", &path)(error.into()))?;
        Ok(Lock { _file: file })
    }

    /// Does not wait: a build may take long, and the user can decide.
    pub(crate) fn exclusive(root: &Path) -> Result<Lock, StoreError> {
        let path = root.join("lock");
        let file = open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                verify_earlier_boots(root)?;
                Ok(Lock { _file: file })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Busy(root.to_owned())),
            Err(error) => Err(StoreError::io("lock", &path)(error.into())),
        }
    }
}

/// So long it may take until a claim is noticed to be free.
const LONGEST_NAP: Duration = Duration::from_millis(50);

/// A piece of work that no other process does meanwhile; dropping it lets others do it.
#[derive(Debug)]
pub struct Claim {
    _file: File,
    path: PathBuf,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While it is locked: whoever has opened it meanwhile sees that it has lost its name.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Store {
    /// Claims the work that `key` names; `None` if someone is at it.
    ///
    /// The file that is locked goes with the claim, or, if its holder was killed, when nobody uses
    /// the store.
    ///
    /// # Errors
    /// The file system failing.
    pub fn claim(&self, key: &KeyRecord) -> Result<Option<Claim>, StoreError> {
        let path = self.claim_path(key);
        loop {
            let file = open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if has_name(&file, &path)? => {
                    return Ok(Some(Claim { _file: file, path }));
                }
                // It was another's, who has just finished: the next one has a file of its own.
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(StoreError::io("lock", &path)(error.into())),
            }
        }
    }

    /// Claims the work that `key` names as soon as nobody else is at it. Whoever had to wait should
    /// look whether it is done before doing it again.
    ///
    /// A claim keeps others from the same work, and nothing from being right without it: a store
    /// that cannot lock gives none, and so does `is_wanted` saying no while another is at it, which
    /// it is asked again and again.
    ///
    /// **No deadlock.** Claims are held for one command, one tree, one layer or one file that is
    /// fetched, in this order: whoever holds one takes only claims that come later in it.
    pub fn claim_in_turn(&self, key: &KeyRecord, is_wanted: &dyn Fn() -> bool) -> Option<Claim> {
        let mut nap = Duration::from_millis(1);
        loop {
            match self.claim(key) {
                Ok(Some(claim)) => return Some(claim),
                Ok(None) if is_wanted() => {
                    std::thread::sleep(nap);
                    nap = (nap * 2).min(LONGEST_NAP);
                }
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The same, but nobody is told that there is a wait, so it does not take longer than a few
    /// minutes: another process may be stopped, and doing work twice does no harm.
    pub fn claim_soon(&self, key: &KeyRecord) -> Option<Claim> {
        const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
        let most = LONGEST_WAIT.as_millis() / LONGEST_NAP.as_millis();
        let asked = Cell::new(0);
        self.claim_in_turn(key, &|| asked.replace(asked.get() + 1) < most)
    }

    fn claim_path(&self, key: &KeyRecord) -> PathBuf {
        let name = format!("claim-{}", key.digest().hex());
        self.root().join("tmp").join(name)
    }
}

/// Whether an open file is the one at `path`.
fn has_name(file: &File, path: &Path) -> Result<bool, StoreError> {
    let failed = || StoreError::io("look at", path);
    let opened = file.metadata().map_err(failed())?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed()(error)),
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    options.open(path).map_err(StoreError::io("open", path))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    #[test]
    fn work_is_claimed_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let [one, two] = [1u64, 2].map(|number| KeyRecord::new("work").field("n", number));
        let claim = store.claim(&one).unwrap();
        assert!(claim.is_some());
        assert!(store.claim(&one).unwrap().is_none());
        assert!(store.claim(&two).unwrap().is_some());
        drop(claim);
        assert!(store.claim(&one).unwrap().is_some());
        let left = std::fs::read_dir(folder.path().join("tmp")).unwrap();
        assert_eq!(left.count(), 0, "a claim takes its file with it");
    }

    #[test]
    fn nobody_else_is_at_work_however_many_ask() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (work, at_it) = (KeyRecord::new("work"), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let claim = store.claim_in_turn(&work, &|| true);
                        assert_eq!(at_it.fetch_add(1, SeqCst), 0);
                        std::thread::yield_now();
                        at_it.fetch_sub(1, SeqCst);
                        drop(claim);
                    }
                });
            }
        });
    }

    #[test]
    fn work_is_waited_for_as_long_as_it_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let work = KeyRecord::new("work");
        let claim = store.claim(&work).unwrap();
        let asked = Cell::new(0);
        let thrice = || {
            asked.set(asked.get() + 1);
            asked.get() < 3
        };
        assert!(store.claim_in_turn(&work, &thrice).is_none());
        assert_eq!(asked.get(), 3);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| store.claim_in_turn(&work, &|| true).is_some());
            std::thread::sleep(Duration::from_millis(20));
            drop(claim);
            assert!(waiting.join().unwrap());
        });
        // What cannot be locked is done without.
        std::fs::remove_dir_all(folder.path().join("tmp")).unwrap();
        assert!(store.claim_in_turn(&work, &|| true).is_none());
    }
}
