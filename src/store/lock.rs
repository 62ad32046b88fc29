//! Who may use the store: builds share it, cleaning wants it alone.
//!
//! The lock is `flock` on one file. It ends with the process however that ends, so nothing stale
//! is ever left behind. A build that finds no one else sweeps what killed ones left, before it
//! shares the store.

use std::fs::{File, OpenOptions};
use std::path::Path;

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

/// A piece of work that no other process does meanwhile; dropping it lets others do it.
#[derive(Debug)]
pub struct Claim {
    _file: File,
}

impl Store {
    /// Claims the work that `key` names; `None` if someone is at it.
    ///
    /// The file that is locked is temporary: it goes when nobody uses the store.
    ///
    /// # Errors
    /// The file system failing.
    pub fn claim(&self, key: &KeyRecord) -> Result<Option<Claim>, StoreError> {
        let name = format!("claim-{}", key.digest().hex());
        let path = self.root().join("tmp").join(name);
        let file = open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Claim { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(StoreError::io("lock", &path)(error.into())),
        }
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    options.open(path).map_err(StoreError::io("open", path))
}

#[cfg(test)]
mod tests {
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
    }
}
