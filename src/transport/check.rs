//! Whole layouts and archives before the judge of images.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::image::{Violation, validate};
use crate::oci::{BlobReader, BlobSource, Descriptor, Digest, MediaType};
use crate::transport::archive::Archive;
use crate::transport::error::TransportError;
use crate::transport::layout::{self, LayoutDir, LayoutFiles};

/// The rules that the images of a layout directory break.
///
/// # Errors
/// The directory is no layout at all, or it cannot be read.
pub fn validate_layout(dir: &Path) -> Result<Vec<Violation>, TransportError> {
    validate_files(&LayoutDir::new(dir))
}

/// The rules that the images of an OCI archive break.
///
/// # Errors
/// The file is no archive of a layout, or it cannot be read.
pub fn validate_archive(file: &Path) -> Result<Vec<Violation>, TransportError> {
    validate_files(&Archive::open(file)?)
}

/// `index.json` is judged like any index, as a blob that only this source has.
fn validate_files(files: &dyn LayoutFiles) -> Result<Vec<Violation>, TransportError> {
    layout::index(files)?;
    let bytes = files.small("index.json")?.unwrap_or_default();
    let root = Descriptor::of(MediaType::OciIndex, &bytes);
    let index = BTreeMap::from([(root.digest, bytes)]);
    Ok(validate(&root, &WithIndex { index, files }))
}

struct WithIndex<'a> {
    index: BTreeMap<Digest, Vec<u8>>,
    files: &'a dyn LayoutFiles,
}

impl BlobSource for WithIndex<'_> {
    fn open(&self, digest: &Digest) -> io::Result<Option<BlobReader>> {
        match self.index.open(digest)? {
            Some(index) => Ok(Some(index)),
            None => self.files.open(digest),
        }
    }
}
