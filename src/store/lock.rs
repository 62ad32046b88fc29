//! Who may use the store: builds share it, cleaning wants it alone.
//!
//! The lock is `flock` on one file. It ends with the process however that ends, so nothing stale
//! is ever left behind. A build that finds no one else sweeps what killed ones left, before it
//! shares the store.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::store::error::StoreError;
use crate::store::gc::sweep_temporary;
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

fn open(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    options.open(path).map_err(StoreError::io("open", path))
}
