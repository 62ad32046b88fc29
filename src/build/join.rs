//! Joining: images that were built elsewhere, each for its platform, become one image of several.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::build::error::BuildError;
use crate::build::event::Observer;
use crate::build::outputs::{self, Outputs};
use crate::build::report::OutputLine;
use crate::image::{self, ImageSet};
use crate::oci::{BlobReader, BlobSource, Digest, Platform, Reference};
use crate::spec::ImageSource;
use crate::store::Store;
use crate::transport::Parcel;
use crate::transport::registry::{RegistryClient, RegistrySettings};

/// What to join and where to put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// Images: layouts, archives, registries. One of several platforms gives all of them. Paths are
    /// relative to the working directory.
    pub sources: Vec<ImageSource>,
    /// Where the joined image goes.
    pub outputs: Vec<ImageSource>,
    /// Its full names.
    pub names: Vec<Reference>,
    /// The store's directory.
    pub store_root: PathBuf,
    /// Registries: where they are and who we are there.
    pub registries: RegistrySettings,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JoinReport {
    /// Digest of the index.
    pub digest: Digest,
    /// The images in it, in its order.
    pub images: Vec<JoinedImage>,
    /// What was written.
    pub outputs: Vec<OutputLine>,
}

/// One image of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JoinedImage {
    /// What it runs on.
    pub platform: Platform,
    /// Digest of its manifest, as it was.
    pub digest: Digest,
}

/// Writes one index over the images of all sources, whose own bytes stay as they are.
///
/// # Errors
/// A source that cannot be read, two images for one platform, formats that cannot be mixed, an
/// output that cannot be written.
pub fn join(request: &JoinRequest, observer: &dyn Observer) -> Result<JoinReport, BuildError> {
    let registries = RegistryClient::new(request.registries.clone());
    outputs::check(&request.outputs, &[&request.store_root], &registries)?;
    let store = Store::open(&request.store_root)?;
    let parcels = request.sources.iter().map(|source| match source {
        ImageSource::Registry(reference) => Parcel::of_registry(&registries, reference, &store),
        file => Parcel::open(file, Path::new(""), &store),
    });
    let parcels = parcels.collect::<Result<Vec<_>, _>>()?;
    let mut images = Vec::new();
    for parcel in &parcels {
        for documents in parcel.images()? {
            images.push(image::read(&documents.manifest, &documents.config)?);
        }
    }
    let set = ImageSet::new(images)?;
    let outputs = Outputs {
        wanted: request.outputs.clone(),
        images: &set,
        names: &request.names,
        blobs: &Together(&parcels),
        store: &store,
        registries: &registries,
        observer,
    };
    let joined = set.images().iter().map(|image| JoinedImage {
        platform: image.platform().clone(),
        digest: image.manifest().digest(),
    });
    Ok(JoinReport {
        digest: set.root().digest,
        images: joined.collect(),
        outputs: outputs.write()?,
    })
}

/// The blobs of several parcels.
struct Together<'a>(&'a [Parcel<'a>]);

impl BlobSource for Together<'_> {
    fn open(&self, digest: &Digest) -> io::Result<Option<BlobReader>> {
        self.first(|source| source.open(digest))
    }

    fn file(&self, digest: &Digest) -> io::Result<Option<File>> {
        self.first(|source| source.file(digest))
    }
}

impl Together<'_> {
    fn first<T>(
        &self,
        ask: impl Fn(&dyn BlobSource) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        let mut failed = None;
        for parcel in self.0 {
            match ask(parcel.blobs()) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                // Another one may have it; what went wrong is told if none has.
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }
}
