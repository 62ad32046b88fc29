//! Stamps: outputs that were found to be whole, by their times, so that they need not be read again.
//!
//! An output is compared with what would be written byte by byte. That is right, and for a large
//! archive slow; so what `stat` says of it is kept once the comparison has shown that it is the
//! same, and the file is old enough that a later version would have other times.
//!
//! Nobody waits for the disk, so after a power cut a file may have its length and its times and
//! not its bytes. A stamp therefore holds only until the machine is started again; the next build
//! compares once more.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::oci::Digest;
use crate::plan::key;
use crate::store::{Settled, Store, StoreError};

/// What is kept of one output.
pub(crate) struct Stamp<'a> {
    store: &'a Store,
    key: crate::store::KeyRecord,
    value: Vec<u8>,
    may_be_kept: bool,
}

impl<'a> Stamp<'a> {
    /// The stamp that `file`, which lies at `path`, has if it holds `content`.
    pub(crate) fn of(
        file: &File,
        path: &Path,
        content: &Digest,
        store: &'a Store,
    ) -> std::io::Result<Stamp<'a>> {
        let found = file.metadata()?;
        let nanoseconds = |seconds: i64, nanoseconds: i64| {
            i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
        };
        let stat = crate::tree::FileStat {
            device: found.dev(),
            inode: found.ino(),
            size: found.len(),
            mtime: nanoseconds(found.mtime(), found.mtime_nsec()),
            ctime: nanoseconds(found.ctime(), found.ctime_nsec()),
        };
        let mut value = Vec::with_capacity(96);
        for number in [stat.device, stat.inode, stat.size] {
            value.extend_from_slice(&number.to_le_bytes());
        }
        for time in [stat.mtime, stat.ctime] {
            value.extend_from_slice(&time.to_le_bytes());
        }
        // Last, so that it needs no frame.
        value.extend_from_slice(store.boot().unwrap_or_default().as_bytes());
        let path = std::path::absolute(path)?;
        Ok(Stamp {
            store,
            key: key::output(path.as_os_str().as_encoded_bytes(), content),
            value,
            may_be_kept: store.boot().is_some() && Settled::before(store.opened()).holds(&stat),
        })
    }

    /// Whether the file was found to be whole and has not changed since.
    pub(crate) fn is_known(&self) -> Result<bool, StoreError> {
        Ok(self.store.record(&self.key)?.as_ref() == Some(&self.value))
    }

    /// Notes that a file is whole that this process has just given its name: nobody else has had
    /// the time to write to it.
    pub(crate) fn keep_of_own(&self) -> Result<(), StoreError> {
        match self.store.boot() {
            Some(_) => self.store.put_record(&self.key, &self.value),
            None => Ok(()),
        }
    }

    /// Notes that the file is whole, if a later version can be told from it.
    pub(crate) fn keep(&self) -> Result<(), StoreError> {
        match self.may_be_kept {
            true => self.store.put_record(&self.key, &self.value),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_stamp_holds_until_the_machine_is_started_again() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(&scratch.path().join("store")).unwrap();
        let path = scratch.path().join("app.tar");
        std::fs::write(&path, "content").unwrap();
        let content = Digest::of(b"content");
        let stamp = || Stamp::of(&File::open(&path).unwrap(), &path, &content, &store).unwrap();
        let mut one = stamp();
        assert!(!one.is_known().unwrap());
        // Too young to be told from a later version.
        one.keep().unwrap();
        assert!(!stamp().is_known().unwrap());
        one.may_be_kept = true;
        one.keep().unwrap();
        assert!(stamp().is_known().unwrap());
        let boot = store.boot().expect("Linux names its boots").to_owned();
        assert!(one.value.ends_with(boot.as_bytes()));
        let mut earlier = stamp();
        earlier.value.truncate(one.value.len() - boot.len());
        earlier.value.extend_from_slice(b"an earlier boot");
        assert!(!earlier.is_known().unwrap());
        // Other times are another file.
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(9))
            .unwrap();
        assert!(!stamp().is_known().unwrap());
    }
}
