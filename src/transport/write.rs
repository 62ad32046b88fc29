//! One door for all outputs.

use std::path::{Path, PathBuf};

use crate::image::ImageSet;
use crate::oci::{BlobSource, Reference};
use crate::store::Store;
use crate::transport::archive_writer::ArchivePlan;
use crate::transport::error::TransportError;
use crate::transport::layout_writer;
use crate::transport::output::Output;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The file or directory.
    pub path: PathBuf,
    /// The first name of the image in it, if it has one.
    pub reference: Option<String>,
    /// The size of the whole file, or of the blobs that a layout did not have yet.
    pub bytes: u64,
    /// Whether anything had to be written.
    pub written: Written,
}

/// Whether an output had to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was written.
    New,
    /// It held this very image under these names already, and no file was touched.
    Unchanged,
}

/// Writes `images` to `output`, whose path is seen from `base_dir`. Their layers come from
/// `blobs`. The image is named by the output's own reference, else by all of `names`. `stamps` is
/// where it is kept which archives and blobs were found whole; without it each archive is read to
/// its end, and a blob of a layout is taken for whole if it has its size.
///
/// # Errors
/// A layer that is missing or damaged, a place that cannot be written or holds something else, or
/// an image that does not fit the output. What stood there before is still whole then.
pub fn write(
    output: &Output,
    base_dir: &Path,
    images: &ImageSet,
    names: &[Reference],
    blobs: &dyn BlobSource,
    stamps: Option<&Store>,
) -> Result<Receipt, TransportError> {
    let path = base_dir.join(output.path());
    let reference = output.reference();
    match output {
        Output::Layout { .. } => {
            layout_writer::write(&path, reference, names, images, blobs, stamps)
        }
        Output::OciArchive { .. } => {
            ArchivePlan::hybrid(images, reference, names).write(&path, blobs, stamps)
        }
        Output::DockerArchive { .. } => {
            ArchivePlan::docker(images, reference, names)?.write(&path, blobs, stamps)
        }
    }
}
