//! Scratch directories: one a run, gone with it.
//!
//! `STORE/scratch/NAME/` with `STORE/scratch/NAME.lock`, which is locked as long as the run's
//! builder lives. One that nobody holds is left over from a builder that was killed, and the next
//! run takes it away.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::sandbox::error::SandboxError;

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

/// Removes a path with all below it; one that is not there is removed already.
///
/// A directory that its owner may not read, such as the overlay's own, is made readable first.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match fs::remove_dir_all(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => return Err(error),
    }
    make_readable(path);
    fs::remove_dir_all(path)
}

fn make_readable(directory: &Path) {
    let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_readable(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_rights_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        fs::create_dir_all(&deep).unwrap();
        fs::set_permissions(folder.path().join("a/b"), fs::Permissions::from_mode(0)).unwrap();
        remove(&folder.path().join("a")).unwrap();
        remove(&folder.path().join("a")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

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
