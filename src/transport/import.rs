//! Base images: read from where they are, checked, their layers brought into the store.

use std::io;
use std::path::Path;

use crate::image::ImageLayer;
use crate::oci::{BlobSink, Descriptor, Digest, ImageConfig, Platform};
use crate::spec::ImageSource;
use crate::transport::archive::Archive;
use crate::transport::docker_archive;
use crate::transport::error::TransportError;
use crate::transport::layout::{self, FoundImage, LayoutDir, LayoutFiles};

/// A base image whose layers are in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImage {
    /// The digest of its manifest. A docker archive has none; there it is the image ID, the
    /// digest of the config.
    pub digest: Digest,
    /// The image ID: the digest of the config's own bytes.
    pub image_id: Digest,
    /// The names that it has where it was found.
    pub names: Vec<String>,
    /// Its config, as it came.
    pub config: ImageConfig,
    /// Its layers, lowest first, as the config's diff_ids name them.
    pub layers: Vec<ImageLayer>,
}

/// Reads the image for `platform` from `source`, whose path is seen from `base_dir`, and puts the
/// layers that `sink` does not have into it.
///
/// Sizes and digests of all documents and layers are checked. Layers of a docker archive are
/// checked against the config's diff_ids; those of a layout are when they are unpacked or listed,
/// since their descriptors already vouch for them.
///
/// # Errors
/// No such image, none for the platform, wrong or missing bytes, layers that nobody may pass on,
/// a registry, which is [`crate::transport::registry::RegistryClient::pull`]'s to read, or a sink
/// that fails.
pub fn import_base(
    source: &ImageSource,
    base_dir: &Path,
    platform: &Platform,
    sink: &dyn BlobSink,
) -> Result<BaseImage, TransportError> {
    match source {
        ImageSource::Registry(reference) => {
            Err(TransportError::RegistrySource(reference.to_string()))
        }
        ImageSource::Layout { dir, reference } => {
            let files = LayoutDir::new(&base_dir.join(dir));
            import_layout(&files, reference.as_deref(), platform, sink)
        }
        ImageSource::OciArchive { file, reference } => {
            let files = Archive::open(&base_dir.join(file))?;
            import_layout(&files, reference.as_deref(), platform, sink)
        }
        ImageSource::DockerArchive { file, reference } => {
            let archive = Archive::open(&base_dir.join(file))?;
            let imported = docker_archive::import(&archive, reference.as_deref(), platform, sink)?;
            Ok(BaseImage {
                digest: imported.image_id,
                image_id: imported.image_id,
                names: imported.names,
                config: imported.config,
                layers: imported.layers,
            })
        }
    }
}

fn import_layout(
    files: &dyn LayoutFiles,
    reference: Option<&str>,
    platform: &Platform,
    sink: &dyn BlobSink,
) -> Result<BaseImage, TransportError> {
    let found = layout::find(files, reference, platform)?;
    for layer in &found.layers {
        import_layer(files, layer, sink)?;
    }
    Ok(found.into())
}

impl From<FoundImage> for BaseImage {
    fn from(found: FoundImage) -> BaseImage {
        let diff_ids = found.config.rootfs.diff_ids.iter();
        let layers = found
            .layers
            .into_iter()
            .zip(diff_ids)
            .map(|(descriptor, diff_id)| ImageLayer {
                descriptor,
                diff_id: *diff_id,
            })
            .collect();
        BaseImage {
            digest: found.digest,
            image_id: found.image_id,
            names: found.names,
            config: found.config,
            layers,
        }
    }
}

fn import_layer(
    files: &dyn LayoutFiles,
    layer: &Descriptor,
    sink: &dyn BlobSink,
) -> Result<(), TransportError> {
    let (digest, size) = (layer.digest, layer.size);
    let failed = |source: io::Error| TransportError::Blob {
        path: files.path().to_owned(),
        digest,
        source,
    };
    if sink.has(&digest, size).map_err(failed)? {
        return Ok(());
    }
    let blob = files.open(&digest).map_err(failed)?;
    let mut blob = blob.ok_or_else(|| TransportError::Missing {
        path: files.path().to_owned(),
        what: format!("layer {digest}"),
    })?;
    sink.put(&digest, size, &mut blob).map_err(failed)
}

#[cfg(test)]
mod tests;
