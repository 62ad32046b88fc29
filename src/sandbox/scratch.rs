//! Scratch directories: one a run, gone with it.
//!
//! `STORE/scratch/NAME/` with `STORE/scratch/NAME.lock`, which is locked as long as the run's
//! builder lives. One that nobody holds is left over from a builder that was killed, and the next
//! run takes it away.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::sandbox::error::SandboxError;
use crate::sandbox::rootfs::remove;

/// The scratch directory of one run.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes a new one below `folder`.
    pub(crate) fn create(folder: &Path) -> Result<Scratch, SandboxError> {
        fs::create_dir_all(folder).map_err(SandboxError::io("make", folder))?;
        let made = tempfile::Builder::new()
            .prefix("run-")
            .rand_bytes(12)
            .suffix(".lock")
            .tempfile_in(folder)
            .map_err(SandboxError::io("write", folder))?;
        let (lock, lock_path) = made
            .keep()
            .map_err(|error| SandboxError::io("keep", folder)(error.error))?;
        lock.lock().map_err(SandboxError::io("lock", &lock_path))?;
        let path = lock_path.with_extension("");
        fs::create_dir(&path).map_err(SandboxError::io("make", &path))?;
        Ok(Scratch {
            path,
            lock_path,
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The outer process has emptied it; what it could not remove, the next run may.
        if remove(&self.path).is_ok() {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

/// The name of a scratch directory, for what is named after it.
pub(crate) fn name_of(scratch: &Path) -> String {
    let name = scratch.file_name().unwrap_or_default();
    format!("boxwright-{}", name.to_string_lossy())
}

/// Takes everything out of a scratch directory, and directories beside it that nobody holds.
/// Whoever runs this has the rights that the run's files need.
pub(crate) fn empty(scratch: &Path) {
    for entry in fs::read_dir(scratch).into_iter().flatten().flatten() {
        // What stays behind is tried again by the builder, and by the next run.
        let _ = remove(&entry.path());
    }
    let beside = scratch.parent().into_iter().flat_map(fs::read_dir);
    for entry in beside.flatten().flatten() {
        let lock_path = entry.path();
        if lock_path
            .extension()
            .is_none_or(|extension| extension != "lock")
        {
            continue;
        }
        let free = File::open(&lock_path).is_ok_and(|lock| lock.try_lock().is_ok());
        if free && remove(&lock_path.with_extension("")).is_ok() {
            let _ = fs::remove_file(&lock_path);
        }
    }
}

/// As [`empty`], when the builder has died and can take nothing away any more. Its lock may be free
/// a moment later than its end is seen, for a process gives back its files one after the other.
pub(crate) fn outlive_builder(scratch: &Path) {
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
    for _ in 0..250 {
        empty(scratch);
        if !scratch.exists() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let held = Scratch::create(folder.path()).unwrap();
        fs::create_dir(folder.path().join("run-dead")).unwrap();
        fs::write(folder.path().join("run-dead.lock"), "").unwrap();
        let own = Scratch::create(folder.path()).unwrap();
        fs::write(own.path().join("file"), "").unwrap();
        empty(own.path());
        assert!(held.path().exists() && own.path().exists());
        assert!(!folder.path().join("run-dead").exists());
        drop((held, own));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
