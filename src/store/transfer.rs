//! The store as a place that has blobs and takes them, for rooms that do not care which place.

use std::fs::{self, File};
use std::io::{self, Read};

use crate::oci::{BlobReader, BlobSink, BlobSource, Digest};
use crate::store::blobs::Store;
use crate::store::error::StoreError;

impl BlobSource for Store {
    fn open(&self, digest: &Digest) -> io::Result<Option<BlobReader>> {
        let file = self.file(digest)?;
        Ok(file.map(|file| Box::new(file) as BlobReader))
    }

    fn file(&self, digest: &Digest) -> io::Result<Option<File>> {
        self.open_blob(digest).map_err(as_io)
    }
}

impl BlobSink for Store {
    fn has(&self, digest: &Digest, size: u64) -> io::Result<bool> {
        match self.open_blob(digest).map_err(as_io)? {
            Some(file) => Ok(file.metadata()?.len() == size),
            None => Ok(false),
        }
    }

    fn put(&self, digest: &Digest, size: u64, bytes: &mut dyn Read) -> io::Result<()> {
        // A file of another length is damaged, and its name would keep the right one out.
        if self.open_blob(digest).map_err(as_io)?.is_some() && !self.has(digest, size)? {
            fs::remove_file(self.blob_path(digest))?;
        }
        self.import_blob(digest, Some(size), bytes).map_err(as_io)
    }
}

fn as_io(error: StoreError) -> io::Error {
    match error {
        StoreError::Source { source, .. } => source,
        StoreError::WrongDigest { .. } | StoreError::WrongSize { .. } => {
            io::Error::new(io::ErrorKind::InvalidData, error)
        }
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_bytes_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (digest, content) = (Digest::of(b"content"), b"content");
        assert!(!store.has(&digest, 7).unwrap());
        for (bytes, size) in [(&b"c0ntent"[..], 7), (b"content!", 7), (b"content", 8)] {
            let error = store.put(&digest, size, &mut &*bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(!store.has(&digest, 7).unwrap());
        }
        store.put(&digest, 7, &mut &content[..]).unwrap();
        assert!(store.has(&digest, 7).unwrap());
        assert_eq!(
            io::read_to_string(BlobSource::open(&store, &digest).unwrap().unwrap()).unwrap(),
            "content"
        );
    }

    #[test]
    fn a_damaged_blob_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = store.put_blob(b"content").unwrap();
        fs::write(store.blob_path(&digest), "cut").unwrap();
        assert!(!store.has(&digest, 7).unwrap());
        store.put(&digest, 7, &mut &b"content"[..]).unwrap();
        assert_eq!(fs::read(store.blob_path(&digest)).unwrap(), b"content");
    }
}
