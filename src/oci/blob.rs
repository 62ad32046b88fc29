//! Blobs as other rooms see them: where bytes come from, where they go, and a reader that lets no
//! wrong byte pass unnoticed.
//!
//! OCI image spec, `descriptor.md`: the size and the digest of every blob are checked before its
//! content is believed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use crate::oci::digest::{Digest, Hasher};
use crate::oci::document::Descriptor;

/// The bytes of a blob, from the first to the last.
pub type BlobReader = Box<dyn Read + Send>;

/// A place that has blobs.
pub trait BlobSource: Sync {
    /// The bytes of a blob, unchecked; `None` if the place does not have it.
    ///
    /// # Errors
    /// The place cannot be read.
    fn open(&self, digest: &Digest) -> io::Result<Option<BlobReader>>;

    /// The blob as a file of its own, where it is one: such a file can be cloned without reading.
    ///
    /// # Errors
    /// The place cannot be read.
    fn file(&self, _digest: &Digest) -> io::Result<Option<File>> {
        Ok(None)
    }
}

/// A place that takes blobs.
pub trait BlobSink: Sync {
    /// Whether the place has the blob already, whole and of this size.
    ///
    /// # Errors
    /// The place cannot be read.
    fn has(&self, digest: &Digest, size: u64) -> io::Result<bool>;

    /// Takes a blob. Bytes other than those that `digest` and `size` promise are refused with
    /// [`io::ErrorKind::InvalidData`], and nothing of them stays.
    ///
    /// # Errors
    /// `bytes` fails or gives the wrong bytes, or the place cannot be written.
    fn put(&self, digest: &Digest, size: u64, bytes: &mut dyn Read) -> io::Result<()>;
}

/// Blobs in memory: the documents of an image.
impl BlobSource for BTreeMap<Digest, Vec<u8>> {
    fn open(&self, digest: &Digest) -> io::Result<Option<BlobReader>> {
        let bytes = self.get(digest).cloned();
        Ok(bytes.map(|bytes| Box::new(io::Cursor::new(bytes)) as BlobReader))
    }
}

/// Reads a blob and fails, at the latest at its end, if it is not what its descriptor says.
///
/// The caller must read to the end: bytes before it are not proven yet.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    digest: Digest,
    size: u64,
    /// `None` once the end was reached and all was right.
    hasher: Option<Hasher>,
}

/// How the bytes of a blob differ from what its descriptor says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// There are fewer bytes.
    #[error("blob {digest} ends after {found} of {size} bytes")]
    Short {
        /// The blob.
        digest: Digest,
        /// Its declared size in bytes.
        size: u64,
        /// The bytes there are.
        found: u64,
    },
    /// There are more bytes.
    #[error("blob {digest} goes on after its {size} bytes")]
    Long {
        /// The blob.
        digest: Digest,
        /// Its declared size in bytes.
        size: u64,
    },
    /// The bytes are others.
    #[error("blob {digest} holds bytes whose digest is {found}")]
    Digest {
        /// The blob.
        digest: Digest,
        /// The digest of the bytes that are there.
        found: Digest,
    },
}

impl<R: Read> VerifyingReader<R> {
    /// Wraps a reader of the blob that `descriptor` points at.
    pub fn new(inner: R, descriptor: &Descriptor) -> VerifyingReader<R> {
        VerifyingReader {
            inner,
            digest: descriptor.digest,
            size: descriptor.size,
            hasher: Some(Hasher::new()),
        }
    }

    /// What is left to say when the inner reader has ended.
    fn judge(&mut self) -> Result<(), BlobError> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        let (digest, size, found) = (self.digest, self.size, hasher.size());
        if found < size {
            self.hasher = Some(hasher);
            return Err(BlobError::Short {
                digest,
                size,
                found,
            });
        }
        let found = hasher.clone().finish();
        if found != digest {
            self.hasher = Some(hasher);
            return Err(BlobError::Digest { digest, found });
        }
        Ok(())
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        let wrong = match &mut self.hasher {
            _ if count == 0 => self.judge().err(),
            Some(hasher) if hasher.size() + count as u64 <= self.size => {
                hasher.update(&buffer[..count]);
                None
            }
            _ => Some(BlobError::Long {
                digest: self.digest,
                size: self.size,
            }),
        };
        match wrong {
            None => Ok(count),
            Some(wrong) => Err(io::Error::new(io::ErrorKind::InvalidData, wrong)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], size: u64, digest: Digest) -> Result<Vec<u8>, String> {
        let descriptor = Descriptor::new("x/y".into(), digest, size);
        let mut reader = VerifyingReader::new(bytes, &descriptor);
        let mut out = Vec::new();
        reader.read_to_end(&mut out).map_err(|e| e.to_string())?;
        assert_eq!(reader.read(&mut [0; 8]).map_err(|e| e.to_string())?, 0);
        Ok(out)
    }

    #[test]
    fn no_wrong_byte_passes() {
        let right = Digest::of(b"content");
        assert_eq!(read(b"content", 7, right).unwrap(), b"content");
        assert_eq!(read(b"", 0, Digest::of(b"")).unwrap(), b"");
        for (bytes, size, why) in [
            (&b"content"[..], 8, "ends after 7 of 8 bytes"),
            (b"content", 6, "goes on after its 6 bytes"),
            (b"content", 0, "goes on after its 0 bytes"),
            (b"c0ntent", 7, "holds bytes whose digest is"),
            (b"", 7, "ends after 0 of 7 bytes"),
        ] {
            let error = read(bytes, size, right).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
