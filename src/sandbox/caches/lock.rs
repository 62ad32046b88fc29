//! Who holds a cache.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

/// The caches of a store.
#[derive(Debug, Clone)]
pub struct Caches {
    folder: PathBuf,
}

/// How a cache is held. Commands that share it hold it together; they keep out, and are kept out
/// by, whoever must have it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// Beside others.
    Shared,
    /// By nobody else.
    Alone,
}

/// A cache that is held; dropping it gives it back.
#[derive(Debug)]
pub struct HeldCache {
    _lock: File,
}

const LOCKS: &str = ".locks";

impl Caches {
    /// Those of the store at `root`.
    ///
    /// # Errors
    /// The working directory is gone.
    pub fn of(root: &Path) -> io::Result<Caches> {
        // Mounts are made somewhere else.
        let folder = std::path::absolute(root.join("caches"))?;
        Ok(Caches { folder })
    }

    /// Where the cache of a name lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The file that is locked by whoever holds the cache.
    pub(crate) fn lock_path(&self, name: &str) -> PathBuf {
        self.folder.join(LOCKS).join(name)
    }

    /// The names of all caches that are there, sorted.
    ///
    /// # Errors
    /// The file system failing.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string()
                && !name.starts_with('.')
                && entry.file_type()?.is_dir()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The directory of a cache, made if it is not there.
    ///
    /// # Errors
    /// The file system failing.
    pub fn make(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Whether nobody holds it now.
    ///
    /// # Errors
    /// The file system failing.
    pub fn is_free(&self, name: &str) -> io::Result<bool> {
        Ok(self.open(name)?.try_lock().is_ok())
    }

    /// Holds a cache. `waiting` is told if another has it.
    ///
    /// # Errors
    /// The file system failing.
    pub fn hold(&self, name: &str, hold: Hold, waiting: &dyn Fn()) -> io::Result<HeldCache> {
        let file = self.open(name)?;
        let is_held = match hold {
            Hold::Shared => file.try_lock_shared(),
            Hold::Alone => file.try_lock(),
        };
        if is_held.is_err() {
            waiting();
            match hold {
                Hold::Shared => file.lock_shared()?,
                Hold::Alone => file.lock()?,
            }
        }
        Ok(HeldCache { _lock: file })
    }

    fn open(&self, name: &str) -> io::Result<File> {
        fs::create_dir_all(self.folder.join(LOCKS))?;
        let mut options = OpenOptions::new();
        // Its time is when the cache was last used, so it is not emptied again.
        options.create(true).truncate(false).write(true);
        options.open(self.lock_path(name))
    }
}

impl HeldCache {
    /// Notes that the cache is used now.
    pub fn mark_used(&self) {
        // What comes of it being wrong is that gc takes it for older.
        let _ = used_now(&self._lock);
    }
}

/// Gives a file the time that it is now.
pub(crate) fn used_now(file: &File) -> io::Result<()> {
    let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps {
        last_access: time(UTIME_OMIT),
        last_modification: time(UTIME_NOW),
    };
    Ok(rustix::fs::futimens(file, &times)?)
}
