//! The store itself: its folder, and the blobs in it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

use crate::oci::{Digest, Hasher, Index, MediaType, OciLayout, json};
use crate::store::error::StoreError;
use crate::store::gc::ExclusiveStore;
use crate::store::key::KeyRecord;
use crate::store::lock::Lock;
use crate::store::unsynced::Unsynced;
use crate::store::upstream::Upstream;

/// A store that is open: shared with other builds until it is dropped.
#[derive(Debug, Clone)]
pub struct Store {
    root: Arc<Path>,
    opened: SystemTime,
    unsynced: Arc<Unsynced>,
    upstream: Option<Arc<dyn Upstream>>,
    /// The records that were found or made, if that is noted.
    touched: Option<Arc<Mutex<Vec<KeyRecord>>>>,
    _lock: Arc<Lock>,
}

/// The version of everything in the store that is no blob.
const VERSION: &str = "1\n";

/// Times of use are kept no finer than this, so that a warm build writes next to nothing.
const USE_GRAIN: Duration = Duration::from_secs(3600);

impl Store {
    /// Opens the store in the folder `root`, which is made if it is missing, and shares it with
    /// other builds.
    ///
    /// # Errors
    /// A folder that cannot be made or written, or one that a newer Boxwright made.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        Store::open_locked(root, Lock::shared)
    }

    /// Opens the store for cleaning: no build may use it meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while a build uses it, and those of [`Store::open`].
    pub fn open_exclusive(root: &Path) -> Result<ExclusiveStore, StoreError> {
        Store::open_locked(root, Lock::exclusive).map(ExclusiveStore::new)
    }

    fn open_locked(
        root: &Path,
        lock: fn(&Path) -> Result<Lock, StoreError>,
    ) -> Result<Store, StoreError> {
        if !may_be_store(root)? {
            return Err(StoreError::NoStore(root.to_owned()));
        }
        for folder in ["blobs/sha256", "records", "index", "tmp"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(StoreError::io("make", &folder))?;
        }
        let mut store = Store {
            _lock: Arc::new(lock(root)?),
            root: Arc::from(root),
            opened: SystemTime::UNIX_EPOCH,
            unsynced: Arc::new(Unsynced::open(root)?),
            upstream: None,
            touched: None,
        };
        let stamped = store.temporary()?;
        let stamp = stamped
            .as_file()
            .metadata()
            .and_then(|metadata| metadata.modified());
        store.opened = stamp.map_err(StoreError::io("read", stamped.path()))?;
        store.write_once("version", VERSION.as_bytes())?;
        let version = root.join("version");
        let found = fs::read_to_string(&version).map_err(StoreError::io("read", &version))?;
        if found != VERSION {
            return Err(StoreError::Newer(root.to_owned()));
        }
        store.write_once("oci-layout", &json::to_vec(&OciLayout::default()))?;
        store.write_once(
            "index.json",
            &json::to_vec(&Index::new(MediaType::OciIndex, Vec::new())),
        )?;
        Ok(store)
    }

    /// The same store, which asks `upstream` for the records that it does not have.
    #[must_use]
    pub fn with_upstream(mut self, upstream: Arc<dyn Upstream>) -> Store {
        self.upstream = Some(upstream);
        self
    }

    pub(crate) fn upstream(&self) -> Option<&dyn Upstream> {
        self.upstream.as_deref()
    }

    /// The same store, which notes what records are found and made from here on.
    #[must_use]
    pub fn with_notes(mut self) -> Store {
        self.touched = Some(Arc::default());
        self
    }

    /// The keys of the records that were found or made since that was noted, each once, in no order
    /// that means anything.
    pub fn touched(&self) -> Vec<KeyRecord> {
        let Some(touched) = &self.touched else {
            return Vec::new();
        };
        let touched = touched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = BTreeSet::new();
        let keys = touched.iter().filter(|key| seen.insert(key.digest()));
        keys.cloned().collect()
    }

    pub(crate) fn touch(&self, key: &KeyRecord) {
        if let Some(touched) = &self.touched {
            let mut touched = touched.lock().unwrap_or_else(PoisonError::into_inner);
            touched.push(key.clone());
        }
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A name for the time since the machine was started. What was written since then is as it was
    /// written; what was written before may have been cut off with the power. `None` where the
    /// system gives no name.
    pub fn boot(&self) -> Option<&str> {
        self.unsynced.boot()
    }

    /// The notes of blobs that may not have reached the disk.
    pub(crate) fn unsynced(&self) -> &Unsynced {
        &self.unsynced
    }

    /// Where the blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Whether the blob is there.
    ///
    /// # Errors
    /// The file system failing otherwise than by not having the file.
    pub fn contains_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.blob_path(digest);
        let is_there = path
            .try_exists()
            .map_err(StoreError::io("look for", &path))?;
        if is_there {
            self.mark_used(&path);
        }
        Ok(is_there)
    }

    /// The blob, if it is there.
    ///
    /// # Errors
    /// The file system failing otherwise than by not having the file.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Ok(file) => {
                self.mark_used(&path);
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("open", &path)(error)),
        }
    }

    /// The bytes of a blob that has at most `most` of them, checked; `None` if it is not there, is
    /// larger, or is damaged.
    ///
    /// # Errors
    /// The file system failing otherwise than by not having the file.
    pub fn small_blob(&self, digest: &Digest, most: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(file) = self.open_blob(digest)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let is_read = file.take(most).read_to_end(&mut bytes).is_ok();
        Ok((is_read && Digest::of(&bytes) == *digest).then_some(bytes))
    }

    /// A blob to be written. It is nowhere until it is finished.
    ///
    /// # Errors
    /// The file system failing.
    pub fn create_blob(&self) -> Result<BlobWriter, StoreError> {
        Ok(BlobWriter {
            file: self.temporary()?,
            store: self.clone(),
        })
    }

    /// Keeps bytes that are at hand.
    ///
    /// # Errors
    /// The file system failing.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.contains_whole(&digest, Some(bytes.len() as u64))? {
            let mut writer = self.create_blob()?;
            let path = self.blob_path(&digest);
            writer
                .write_all(bytes)
                .map_err(StoreError::io("write", &path))?;
            writer.finish_as(digest, bytes.len() as u64)?;
        }
        Ok(digest)
    }

    /// Takes bytes from outside, if they are what they were said to be. Reading stops at the
    /// promised size, so that a source that lies cannot fill the disk.
    ///
    /// # Errors
    /// [`StoreError::WrongDigest`] and [`StoreError::WrongSize`], the source or the disk failing.
    pub fn import_blob(
        &self,
        digest: &Digest,
        size: Option<u64>,
        mut source: impl Read,
    ) -> Result<(), StoreError> {
        if self.contains_whole(digest, size)? {
            return Ok(());
        }
        let mut writer = self.create_blob()?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 1 << 17];
        loop {
            let count = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(StoreError::Source {
                        digest: *digest,
                        source,
                    });
                }
            };
            hasher.update(&buffer[..count]);
            if let Some(expected) = size.filter(|size| hasher.size() > *size) {
                return Err(StoreError::WrongSize {
                    digest: *digest,
                    expected,
                    found: hasher.size(),
                });
            }
            let path = writer.file.path().to_owned();
            writer
                .write_all(&buffer[..count])
                .map_err(StoreError::io("write", &path))?;
        }
        let found_size = hasher.size();
        if let Some(expected) = size.filter(|size| found_size != *size) {
            return Err(StoreError::WrongSize {
                digest: *digest,
                expected,
                found: found_size,
            });
        }
        let found = hasher.finish();
        if found != *digest {
            return Err(StoreError::WrongDigest {
                expected: *digest,
                found,
            });
        }
        writer.finish_as(found, found_size)
    }

    /// Whether the blob is there and has the length that it must have. One of another length is
    /// damaged, and whoever asks this is about to write it anew.
    fn contains_whole(&self, digest: &Digest, size: Option<u64>) -> Result<bool, StoreError> {
        let path = self.blob_path(digest);
        let Some(file) = self.open_blob(digest)? else {
            return Ok(false);
        };
        let found = file.metadata().map_err(StoreError::io("read", &path))?;
        Ok(size.is_none_or(|size| size == found.len()))
    }

    /// Writes a file under a temporary name, hands it to the disk, and gives it its own name.
    fn write_whole(
        &self,
        path: &Path,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let mut file = self.temporary()?;
        write(file.as_file_mut()).map_err(StoreError::io("write", path))?;
        sync(&file, path)?;
        name(file, path)
    }

    /// As [`Store::write_whole`] for a file that ends with a checksum, so that it need not wait
    /// for the disk.
    pub(crate) fn write_checked(
        &self,
        path: &Path,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let mut file = self.temporary()?;
        write(file.as_file_mut()).map_err(StoreError::io("write", path))?;
        name(file, path)
    }

    /// When the store was opened, by the clock that stamps its files. The library has no other
    /// clock: the file index compares the times of files with it, and `gc` the times of use.
    pub fn opened(&self) -> SystemTime {
        self.opened
    }

    /// Notes that something was used, for `gc`. It is no harm if that fails.
    pub(crate) fn mark_used(&self, path: &Path) {
        let used = fs::metadata(path).and_then(|metadata| metadata.modified());
        let is_long_ago = |used| {
            let age = self.opened.duration_since(used);
            age.is_ok_and(|age| age > USE_GRAIN)
        };
        if used.is_ok_and(is_long_ago)
            && let Ok(file) = OpenOptions::new().write(true).open(path)
        {
            let _ = file.set_modified(self.opened);
        }
    }

    fn temporary(&self) -> Result<NamedTempFile, StoreError> {
        let folder = self.root.join("tmp");
        NamedTempFile::new_in(&folder).map_err(StoreError::io("write in", &folder))
    }

    fn write_once(&self, file: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.root.join(file);
        match path.exists() {
            true => Ok(()),
            false => self.write_whole(&path, |file| file.write_all(bytes)),
        }
    }
}

/// Whether a folder is a store, or one in the making, or empty: whatever else is in it, such as an
/// image layout, must not be taken for our own and cleaned away.
fn may_be_store(root: &Path) -> Result<bool, StoreError> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        entries => entries.map_err(StoreError::io("list", root))?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        names.insert(entry.map_err(StoreError::io("list", root))?.file_name());
    }
    let has = |name: &str| names.contains(std::ffi::OsStr::new(name));
    if names.is_empty() || has("version") {
        return Ok(true);
    }
    // A kill or a full disk may have come before the version was written.
    let begun = ["blobs", "records", "index", "tmp"];
    let further = [
        "oci-layout",
        "index.json",
        "unsynced",
        "scratch",
        "trees",
        "caches",
    ];
    let is_all_begun = begun.iter().all(|name| has(name));
    let is_ours = |name: &std::ffi::OsString| {
        let further = further.iter().filter(|_| is_all_begun);
        name == "lock" || begun.iter().chain(further).any(|known| name == known)
    };
    if !names.iter().all(is_ours) {
        return Ok(false);
    }
    match is_all_begun {
        true => Ok(true),
        false => begun.iter().try_fold(true, |so_far, name| {
            Ok(so_far && is_empty(&root.join(name)).map_err(StoreError::io("list", root))?)
        }),
    }
}

/// Whether there is nothing in a folder of a store that has only just been begun, if it is there.
fn is_empty(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let is_sha256 = entry.file_name() == "sha256";
        if !is_sha256 || fs::read_dir(entry.path())?.next().is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits until the bytes are on the disk: a name must never get there before them.
fn sync(file: &NamedTempFile, path: &Path) -> Result<(), StoreError> {
    file.as_file()
        .sync_data()
        .map_err(StoreError::io("write", path))
}

/// Gives the file its name.
fn name(file: NamedTempFile, path: &Path) -> Result<(), StoreError> {
    // Temporary files are private; a store may be shared, and what is in it is no secret.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file()
        .set_permissions(readable)
        .map_err(StoreError::io("write", path))?;
    file.persist(path)
        .map(drop)
        .map_err(|error| StoreError::io("name", path)(error.error))
}

/// A blob that is being written. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    file: NamedTempFile,
    store: Store,
}

impl BlobWriter {
    /// Gives the blob its name. The caller has hashed every byte that it wrote and answers for the
    /// digest; the size is checked. A blob that is there already stays as it is.
    ///
    /// # Errors
    /// [`StoreError::WrongSize`], or the file system failing.
    pub fn finish_as(self, digest: Digest, size: u64) -> Result<(), StoreError> {
        let path = self.store.blob_path(&digest);
        let written = self
            .file
            .as_file()
            .metadata()
            .map_err(StoreError::io("read", &path))?
            .len();
        if written != size {
            return Err(StoreError::WrongSize {
                digest,
                expected: size,
                found: written,
            });
        }
        if self.store.contains_whole(&digest, Some(size))? {
            return Ok(());
        }
        self.store
            .unsynced
            .secure(self.file.as_file(), &digest)
            .map_err(StoreError::io("note", &path))?;
        name(self.file, &path)
    }
}

impl BlobWriter {
    /// Appends what is left in `source`, without a way through memory where the system has one.
    ///
    /// # Errors
    /// One of the files failing.
    pub fn append_file(&mut self, mut source: io::Take<&File>) -> io::Result<u64> {
        io::copy(&mut source, self.file.as_file_mut())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    fn temporary_files(store: &Store) -> usize {
        fs::read_dir(store.root().join("tmp")).unwrap().count()
    }

    #[test]
    fn blobs_come_back() {
        let (_folder, store) = scratch();
        let digest = store.put_blob(b"bytes").unwrap();
        let mut bytes = Vec::new();
        store
            .open_blob(&digest)
            .unwrap()
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(bytes, b"bytes");
        assert!(store.open_blob(&Digest::of(b"other")).unwrap().is_none());
        assert_eq!(temporary_files(&store), 0);
    }

    #[test]
    fn bytes_that_are_not_what_was_promised_are_refused() {
        let (_folder, store) = scratch();
        let digest = Digest::of(b"bytes");
        let take = |size, bytes: &'static [u8]| store.import_blob(&digest, size, bytes);
        assert!(matches!(
            take(None, b"other"),
            Err(StoreError::WrongDigest { .. })
        ));
        assert!(matches!(
            take(Some(4), b"bytes"),
            Err(StoreError::WrongSize { .. })
        ));
        assert!(matches!(
            take(Some(9), b"bytes"),
            Err(StoreError::WrongSize { .. })
        ));
        let endless = io::repeat(0);
        assert!(matches!(
            store.import_blob(&digest, Some(1 << 20), endless),
            Err(StoreError::WrongSize { .. })
        ));
        assert!(!store.contains_blob(&digest).unwrap());
        assert_eq!(temporary_files(&store), 0);
        take(Some(5), b"bytes").unwrap();
        assert!(store.contains_blob(&digest).unwrap());
    }

    #[test]
    fn an_unfinished_blob_leaves_nothing() {
        let (_folder, store) = scratch();
        let mut writer = store.create_blob().unwrap();
        writer.write_all(b"half").unwrap();
        assert_eq!(temporary_files(&store), 1);
        assert!(writer.finish_as(Digest::of(b"half a blob"), 11).is_err());
        assert_eq!(temporary_files(&store), 0);
    }

    #[test]
    fn a_store_of_a_newer_version_is_left_alone() {
        let (folder, store) = scratch();
        drop(store);
        fs::write(folder.path().join("version"), "2\n").unwrap();
        assert!(matches!(
            Store::open(folder.path()),
            Err(StoreError::Newer(_))
        ));
    }

    #[test]
    fn builds_share_and_cleaning_does_not() {
        let (folder, store) = scratch();
        let second = Store::open(folder.path()).unwrap();
        assert!(matches!(
            Store::open_exclusive(folder.path()),
            Err(StoreError::Busy(_))
        ));
        drop((store, second));
        Store::open_exclusive(folder.path()).unwrap();
    }

    #[test]
    fn many_writers_of_one_blob_agree() {
        let (_folder, store) = scratch();
        let bytes = vec![7; 1 << 20];
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| store.put_blob(&bytes).unwrap());
            }
        });
        assert_eq!(
            fs::read(store.blob_path(&Digest::of(&bytes))).unwrap(),
            bytes
        );
        assert_eq!(temporary_files(&store), 0);
    }

    #[test]
    fn a_blob_that_is_there_is_not_written_again() {
        let (_folder, store) = scratch();
        let digest = store.put_blob(b"bytes").unwrap();
        let inode = || {
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(store.blob_path(&digest)).unwrap())
        };
        let first = inode();
        let mut writer = store.create_blob().unwrap();
        writer.write_all(b"bytes").unwrap();
        writer.finish_as(digest, 5).unwrap();
        store.put_blob(b"bytes").unwrap();
        store.import_blob(&digest, Some(5), &b"bytes"[..]).unwrap();
        assert_eq!(inode(), first);
        assert_eq!(temporary_files(&store), 0);
    }

    #[test]
    fn a_blob_that_was_cut_is_written_again() {
        type Put = fn(&Store, Digest);
        let puts: [Put; 3] = [
            |store, _| assert!(store.put_blob(b"bytes").is_ok()),
            |store, digest| store.import_blob(&digest, Some(5), &b"bytes"[..]).unwrap(),
            |store, digest| {
                let mut writer = store.create_blob().unwrap();
                writer.write_all(b"bytes").unwrap();
                writer.finish_as(digest, 5).unwrap();
            },
        ];
        let (_folder, store) = scratch();
        let digest = store.put_blob(b"bytes").unwrap();
        for put in puts {
            fs::write(store.blob_path(&digest), "byt").unwrap();
            put(&store, digest);
            assert_eq!(fs::read(store.blob_path(&digest)).unwrap(), b"bytes");
        }
    }
}
