//! Images: a config and its layers become a manifest; images for several platforms an index.
//!
//! Base layers are not touched: same bytes, same digest, same diff_id. If the base is of the other
//! format, only the media types in the new manifest are translated. OCI image spec, `manifest.md`,
//! `image-index.md`; Docker "Image Manifest Version 2, Schema 2".

use std::collections::{BTreeMap, BTreeSet};

use crate::image::error::ImageError;
use crate::layer::Layer;
use crate::oci::{
    Codec, Descriptor, DiffId, Digest, DocumentFormat, ImageConfig, Index, Manifest, MediaType,
    Platform, json,
};

/// A layer on its way into a manifest: a base's, or one of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayer {
    /// The blob.
    pub descriptor: Descriptor,
    /// The digest of the tar stream in it.
    pub diff_id: DiffId,
}

impl ImageLayer {
    /// A layer of our own. Its media type is decided when the format of the image is known.
    pub fn new(digest: Digest, size: u64, codec: Codec, diff_id: DiffId) -> ImageLayer {
        let descriptor = Descriptor::new(MediaType::OciLayer(codec), digest, size);
        ImageLayer {
            descriptor,
            diff_id,
        }
    }
}

impl From<&Layer> for ImageLayer {
    fn from(layer: &Layer) -> ImageLayer {
        ImageLayer::new(layer.digest, layer.size, layer.codec, layer.diff_id)
    }
}

/// A finished JSON document: its exact bytes, and what points at them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    media_type: MediaType,
    bytes: Vec<u8>,
    digest: Digest,
}

impl Document {
    fn new(media_type: MediaType, bytes: Vec<u8>) -> Document {
        let digest = Digest::of(&bytes);
        Document {
            media_type,
            bytes,
            digest,
        }
    }

    /// What the bytes are.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// The bytes as they are stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The pointer to the document.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(
            self.media_type.clone(),
            self.digest,
            self.bytes.len() as u64,
        )
    }
}

/// The image of one platform. The layers' blobs are elsewhere; everything else is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    manifest: Document,
    config: Document,
    layers: Vec<Descriptor>,
    platform: Platform,
    format: DocumentFormat,
}

/// Makes the image of `config` and `layers`, lowest first. Annotations are OCI's; Docker's format
/// has no place for them and leaves them out.
///
/// # Errors
/// Layers other than the config's, a zstd layer under Docker's format, or something that is no
/// layer.
pub fn assemble(
    config: &ImageConfig,
    layers: &[ImageLayer],
    format: DocumentFormat,
    annotations: &BTreeMap<String, String>,
) -> Result<Image, ImageError> {
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id).collect();
    if config.rootfs.diff_ids != diff_ids {
        return Err(ImageError::DiffIds {
            config: config.rootfs.diff_ids.clone(),
            layers: diff_ids,
        });
    }
    let descriptors = layers
        .iter()
        .map(|layer| translated(&layer.descriptor, format))
        .collect::<Result<Vec<_>, _>>()?;
    let platform = config.platform.clone();
    let config = Document::new(format.config(), json::to_vec(config));
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(format.manifest()),
        config: config.descriptor(),
        layers: descriptors.clone(),
        annotations: match format {
            DocumentFormat::Oci => annotations.clone(),
            DocumentFormat::Docker => BTreeMap::new(),
        },
        other: BTreeMap::new(),
    };
    Ok(Image {
        manifest: Document::new(format.manifest(), json::to_vec(&manifest)),
        config,
        layers: descriptors,
        platform,
        format,
    })
}

/// The image that these documents say, to the byte: one that was made elsewhere.
///
/// # Errors
/// Documents that are none, or a manifest that points at another config.
pub fn read(manifest: &[u8], config: &[u8]) -> Result<Image, ImageError> {
    let wrong = |problem: String| ImageError::Unreadable(problem);
    let parsed: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| wrong(format!("its manifest: {error}")))?;
    let found: ImageConfig =
        serde_json::from_slice(config).map_err(|error| wrong(format!("its config: {error}")))?;
    if parsed.config.digest != Digest::of(config) {
        return Err(wrong("its manifest points at another config".to_owned()));
    }
    let format = match parsed.config.media_type {
        MediaType::DockerConfig => DocumentFormat::Docker,
        _ => DocumentFormat::Oci,
    };
    let media_type = parsed.media_type.unwrap_or(format.manifest());
    Ok(Image {
        manifest: Document::new(media_type, manifest.to_vec()),
        config: Document::new(parsed.config.media_type, config.to_vec()),
        layers: parsed.layers,
        platform: found.platform,
        format,
    })
}

/// The same pointer with the media type that the layer has in `format`.
fn translated(layer: &Descriptor, format: DocumentFormat) -> Result<Descriptor, ImageError> {
    let media_type = match (layer.media_type.layer_codec(), format) {
        (None, _) => return Err(ImageError::LayerType(layer.media_type.to_string())),
        (Some(Codec::Zstd), DocumentFormat::Docker) => return Err(ImageError::ZstdInDocker),
        (Some(codec), format) => format.layer(codec),
    };
    Ok(Descriptor {
        media_type,
        ..layer.clone()
    })
}

impl Image {
    /// The manifest: what registries know the image by.
    pub fn manifest(&self) -> &Document {
        &self.manifest
    }

    /// The config: its digest is the image ID of podman and docker.
    pub fn config(&self) -> &Document {
        &self.config
    }

    /// The layers as the manifest lists them, lowest first; the same blob may be there twice.
    pub fn layers(&self) -> &[Descriptor] {
        &self.layers
    }

    /// What the image runs on.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The family of its media types.
    pub fn format(&self) -> DocumentFormat {
        self.format
    }
}

/// One image, or several for different platforms under an index: what is written as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSet {
    images: Vec<Image>,
    index: Option<Document>,
}

impl ImageSet {
    /// The set of `images`, in the order in which an index lists them. One image stands for
    /// itself; several get an index.
    ///
    /// # Errors
    /// No image, two for one platform, or images of different formats.
    pub fn new(images: Vec<Image>) -> Result<ImageSet, ImageError> {
        let Some(format) = images.first().map(Image::format) else {
            return Err(ImageError::NoImages);
        };
        if images.iter().any(|image| image.format != format) {
            return Err(ImageError::MixedFormats);
        }
        let mut platforms = BTreeSet::new();
        for image in &images {
            if !platforms.insert(image.platform.normalized()) {
                return Err(ImageError::PlatformTwice(image.platform.clone()));
            }
        }
        let index = (images.len() > 1).then(|| {
            let entry = |image: &Image| {
                image
                    .manifest
                    .descriptor()
                    .with_platform(image.platform.clone())
            };
            let index = Index::new(format.index(), images.iter().map(entry).collect());
            Document::new(format.index(), json::to_vec(&index))
        });
        Ok(ImageSet { images, index })
    }

    /// The images, one per platform.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// The image for `platform`, if there is one.
    pub fn for_platform(&self, platform: &Platform) -> Option<&Image> {
        let wanted = platform.normalized();
        self.images
            .iter()
            .find(|image| image.platform.normalized() == wanted)
    }

    /// The pointer to the whole: the index if there is one, else the only manifest. A layout's
    /// entry for one image also says its platform.
    pub fn root(&self) -> Descriptor {
        match (&self.index, &self.images[..]) {
            (Some(index), _) => index.descriptor(),
            (None, [image, ..]) => image
                .manifest
                .descriptor()
                .with_platform(image.platform.clone()),
            (None, []) => unreachable!("a set is made of one image or more"),
        }
    }

    /// All documents, each once: the index first, then manifests and configs.
    pub fn documents(&self) -> Vec<&Document> {
        let mut seen = BTreeSet::new();
        let images = self
            .images
            .iter()
            .flat_map(|image| [&image.manifest, &image.config]);
        let all = self.index.iter().chain(images);
        all.filter(|document| seen.insert(document.digest))
            .collect()
    }

    /// All layers, each blob once, in the order in which the images list them.
    pub fn layers(&self) -> Vec<&Descriptor> {
        let mut seen = BTreeSet::new();
        let all = self.images.iter().flat_map(|image| &image.layers);
        all.filter(|layer| seen.insert(layer.digest)).collect()
    }
}

#[cfg(test)]
mod tests;
