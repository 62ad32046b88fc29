//! Contents, opened wherever they lie.
//!
//! A file of a context may change while a build runs. What the walk saw is compared with the file
//! when it is opened and again after it was read, so that bytes of two versions never mix.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::oci::Digest;
use crate::store::blobs::Store;
use crate::store::error::StoreError;
use crate::tree::{BlobRange, Content, DiskFile, FileStat, Inline};

/// Why a content could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// A file of a context could not be read.
    #[error("read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of a context is not the one that the walk saw.
    #[error("read {}: it changed while the build ran; build again when nothing writes to it", .0.display())]
    Changed(PathBuf),
    /// The uncompressed layer that holds the content is not in the store.
    #[error("read from the layer {0}: its uncompressed form is not in the store")]
    NotUnpacked(Digest),
    /// More was asked for than the content has.
    #[error("read up to byte {end} of a content of {size} bytes")]
    PastEnd {
        /// Where the part that was asked for ends.
        end: u64,
        /// The content's length.
        size: u64,
    },
    /// The content is longer than the caller is willing to hold in memory.
    #[error("read it whole: it has {size} bytes, and at most {limit} are expected here")]
    TooLong {
        /// Its length.
        size: u64,
        /// What the caller allows.
        limit: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A content that is open. It may be read by several threads at once.
#[derive(Debug)]
pub struct ContentFile {
    source: Source,
    size: u64,
}

#[derive(Debug)]
enum Source {
    Inline(Arc<Inline>),
    Disk(File, Arc<DiskFile>),
    Blob(File, PathBuf, u64),
}

impl Store {
    /// Opens a content.
    ///
    /// # Errors
    /// A file that cannot be opened or is not the one that was walked, a layer that is not there.
    /// A layer that ends before the content does is damaged: it is taken away, and so not there.
    pub fn open_content(&self, content: &Content) -> Result<ContentFile, ContentError> {
        let source = match content {
            Content::Inline(inline) => Source::Inline(Arc::clone(inline)),
            Content::Disk(disk) => Source::Disk(open_disk(disk)?, Arc::clone(disk)),
            Content::Blob(range) => {
                let file = self
                    .open_range(range)?
                    .ok_or(ContentError::NotUnpacked(range.blob))?;
                Source::Blob(file, self.blob_path(&range.blob), range.offset)
            }
        };
        Ok(ContentFile {
            source,
            size: content.size(),
        })
    }

    /// The layer that holds the range, if it is there and holds all of it.
    fn open_range(&self, range: &BlobRange) -> Result<Option<File>, StoreError> {
        let path = self.blob_path(&range.blob);
        let Some(file) = self.open_blob(&range.blob)? else {
            return Ok(None);
        };
        let found = file.metadata().map_err(StoreError::io("read", &path))?;
        let end = range.offset.checked_add(range.size);
        if end.is_some_and(|end| end <= found.len()) {
            return Ok(Some(file));
        }
        // Someone else may have taken it away already.
        let _ = fs::remove_file(&path);
        Ok(None)
    }

    /// Reads a small content whole.
    ///
    /// # Errors
    /// [`ContentError::TooLong`] for more than `limit` bytes, and those of [`Store::open_content`].
    pub fn read_content(&self, content: &Content, limit: u64) -> Result<Vec<u8>, ContentError> {
        let size = content.size();
        if size > limit {
            return Err(ContentError::TooLong { size, limit });
        }
        let mut bytes =
            vec![0; usize::try_from(size).map_err(|_| ContentError::TooLong { size, limit })?];
        self.open_content(content)?.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

impl ContentFile {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `part` with the bytes from `offset` on, and checks that the file is still what it was.
    ///
    /// # Errors
    /// [`ContentError::PastEnd`] for more than there is: what lies behind a content in its layer is
    /// never given out. A file that changed, or the file system failing.
    pub fn read_exact_at(&self, part: &mut [u8], offset: u64) -> Result<(), ContentError> {
        let end = offset.saturating_add(part.len() as u64);
        if end > self.size {
            return Err(ContentError::PastEnd {
                end,
                size: self.size,
            });
        }
        match &self.source {
            Source::Inline(inline) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                part.copy_from_slice(&inline.bytes()[start..start + part.len()]);
                Ok(())
            }
            Source::Disk(file, disk) => match file.read_exact_at(part, offset) {
                Ok(()) => check(file, disk),
                // A file that ends too soon was cut; that is a change, and says more than an end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Err(ContentError::Changed(disk.full_path()))
                }
                Err(source) => Err(ContentError::File {
                    path: disk.full_path(),
                    source,
                }),
            },
            Source::Blob(file, path, start) => {
                file.read_exact_at(part, start + offset)
                    .map_err(|source| ContentError::File {
                        path: path.clone(),
                        source,
                    })
            }
        }
    }
}

/// Opens a file of a context without following a link in its place and without waiting for a pipe
/// that took its place.
fn open_disk(disk: &Arc<DiskFile>) -> Result<File, ContentError> {
    let path = disk.full_path();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(&path);
    match file {
        Ok(file) => check(&file, disk).map(|()| file),
        // The walk saw a file: a link or nothing in its place is a change.
        Err(error)
            if matches!(error.raw_os_error(), Some(code) if code == rustix::io::Errno::LOOP.raw_os_error())
                || error.kind() == io::ErrorKind::NotFound =>
        {
            Err(ContentError::Changed(path))
        }
        Err(source) => Err(ContentError::File { path, source }),
    }
}

fn check(file: &File, disk: &DiskFile) -> Result<(), ContentError> {
    let metadata = file.metadata().map_err(|source| ContentError::File {
        path: disk.full_path(),
        source,
    })?;
    let nanoseconds = |seconds: i64, nanoseconds: i64| {
        i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
    };
    let stat = FileStat {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        mtime: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        ctime: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    };
    match metadata.is_file() && stat == disk.stat {
        true => Ok(()),
        false => Err(ContentError::Changed(disk.full_path())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Entry;

    fn walked(path: &std::path::Path) -> Content {
        let metadata = fs::symlink_metadata(path).unwrap();
        let nanoseconds = |s: i64, n: i64| i128::from(s) * 1_000_000_000 + i128::from(n);
        let stat = FileStat {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        };
        let name = path.file_name().unwrap().as_encoded_bytes();
        let name = crate::tree::LayerPath::parse(name).unwrap();
        Content::Disk(Arc::new(DiskFile::new(
            path.parent().unwrap().into(),
            name,
            stat,
        )))
    }

    #[test]
    fn contents_are_read_wherever_they_lie() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(&scratch.path().join("store")).unwrap();
        let path = scratch.path().join("f");
        fs::write(&path, "some text").unwrap();
        let blob = store.put_blob(b"before some text after").unwrap();
        let range = BlobRange {
            blob,
            offset: 7,
            size: 9,
            digest: Digest::of(b"some text"),
        };
        let inline = Entry::file("some text", 0o644)
            .as_file()
            .unwrap()
            .content
            .clone();
        for content in [walked(&path), Content::Blob(range), inline] {
            assert_eq!(store.read_content(&content, 9).unwrap(), b"some text");
            let mut part = [0; 4];
            store
                .open_content(&content)
                .unwrap()
                .read_exact_at(&mut part, 5)
                .unwrap();
            assert_eq!(&part, b"text");
            let open = store.open_content(&content).unwrap();
            for offset in [6, 9, 10, u64::MAX] {
                assert!(matches!(
                    open.read_exact_at(&mut part, offset),
                    Err(ContentError::PastEnd { size: 9, .. })
                ));
            }
            assert!(matches!(
                store.read_content(&content, 8),
                Err(ContentError::TooLong { .. })
            ));
        }
        let absent = BlobRange {
            blob: Digest::of(b"absent"),
            ..range
        };
        assert!(matches!(
            store.open_content(&Content::Blob(absent)),
            Err(ContentError::NotUnpacked(_))
        ));
    }

    #[test]
    fn a_layer_that_was_cut_counts_as_absent() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(scratch.path()).unwrap();
        let blob = store.put_blob(b"uncompressed layer").unwrap();
        let range = BlobRange {
            blob,
            offset: 8,
            size: 10,
            digest: Digest::of(b"ssed layer"),
        };
        let content = Content::Blob(range);
        assert_eq!(store.read_content(&content, 10).unwrap(), b"ssed layer");
        fs::write(store.blob_path(&blob), "uncompressed lay").unwrap();
        for _ in 0..2 {
            assert!(matches!(
                store.open_content(&content),
                Err(ContentError::NotUnpacked(found)) if found == blob
            ));
        }
        store.put_blob(b"uncompressed layer").unwrap();
        assert_eq!(store.read_content(&content, 10).unwrap(), b"ssed layer");
    }

    #[test]
    fn a_file_that_changed_is_not_read() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(&scratch.path().join("store")).unwrap();
        let path = scratch.path().join("f");
        type Change = fn(&std::path::Path);
        let changes: [(&str, Change); 5] = [
            ("other bytes", |path| fs::write(path, "other").unwrap()),
            ("shorter", |path| fs::write(path, "s").unwrap()),
            ("gone", |path| fs::remove_file(path).unwrap()),
            ("a link", |path| {
                fs::remove_file(path).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
            }),
            ("a pipe", |path| {
                fs::remove_file(path).unwrap();
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    path,
                    rustix::fs::FileType::Fifo,
                    0o644.into(),
                    0,
                )
                .unwrap();
            }),
        ];
        for (what, change) in changes {
            let _ = fs::remove_file(&path);
            fs::write(&path, "bytes").unwrap();
            let content = walked(&path);
            let open = store.open_content(&content).unwrap();
            // Times of files move in ticks of the kernel.
            std::thread::sleep(std::time::Duration::from_millis(12));
            change(&path);
            assert!(
                matches!(store.open_content(&content), Err(ContentError::Changed(_))),
                "{what}"
            );
            if matches!(what, "other bytes" | "shorter") {
                assert!(
                    matches!(
                        open.read_exact_at(&mut [0; 5], 0),
                        Err(ContentError::Changed(_))
                    ),
                    "{what}"
                );
            }
        }
    }
}
