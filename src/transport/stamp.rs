//! Stamps: outputs that were found to be whole, by their times, so that they need not be read again.
//!
//! An output is compared with what would be written byte by byte. That is right, and for a large
//! archive slow; so what `stat` says of it is kept once the comparison has shown that it is the
//! same, and the file is old enough that a later version would have other times.

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
    has_settled: bool,
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
        let mut value = Vec::with_capacity(56);
        for number in [stat.device, stat.inode, stat.size] {
            value.extend_from_slice(&number.to_le_bytes());
        }
        for time in [stat.mtime, stat.ctime] {
            value.extend_from_slice(&time.to_le_bytes());
        }
        let path = std::path::absolute(path)?;
        Ok(Stamp {
            store,
            key: key::output(path.as_os_str().as_encoded_bytes(), content),
            value,
            has_settled: Settled::before(store.opened()).holds(&stat),
        })
    }

    /// Whether the file was found to be whole and has not changed since.
    pub(crate) fn is_known(&self) -> Result<bool, StoreError> {
        Ok(self.store.record(&self.key)?.as_ref() == Some(&self.value))
    }

    /// Notes that the file is whole, if a later version can be told from it.
    pub(crate) fn keep(&self) -> Result<(), StoreError> {
        match self.has_settled {
            true => self.store.put_record(&self.key, &self.value),
            false => Ok(()),
        }
    }
}
