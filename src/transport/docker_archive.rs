//! Docker archives as a source: `manifest.json` names a config and the layers' files.
//!
//! No descriptor vouches for the layers here; their one proof are the diff_ids of the config, so
//! every layer is unpacked on the way. Archives of `docker save` before version 25 have
//! `ID/layer.tar` and symlinks between them, later ones `blobs/sha256/…`; podman and skopeo write
//! `DIGEST.tar`. All are read the same way, by the names in `manifest.json`.
//!
//! Docker image spec v1.2, "Combined Image JSON + Filesystem Changeset Format".

use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::image::{ImageLayer, sniffed};
use crate::layer::decoder;
use crate::oci::{
    BlobSink, Codec, Descriptor, DiffId, Digest, HashingReader, ImageConfig, MediaType, Platform,
};
use crate::transport::archive::{Archive, FilePlace};
use crate::transport::error::TransportError;
use crate::transport::layout::{self, LayoutFiles};
use crate::transport::select::full_name;

/// Layers that unpack to more are refused: 64 GiB.
const MOST_UNPACKED: u64 = 64 << 30;

/// One image of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerImage {
    /// The file of the config.
    pub(crate) config: String,
    /// The image's names, `repository:tag`.
    pub(crate) repo_tags: Option<Vec<String>>,
    /// The files of the layers, lowest first.
    pub(crate) layers: Option<Vec<String>>,
}

/// What was found of an image, its layers in the sink.
pub(crate) struct Imported {
    /// The digest of the config.
    pub(crate) image_id: Digest,
    /// The names of the image in the archive.
    pub(crate) names: Vec<String>,
    pub(crate) config: ImageConfig,
    pub(crate) layers: Vec<ImageLayer>,
}

/// What an archive says of an image; its layers are not looked at yet.
pub(crate) struct Listed {
    /// The config's own bytes.
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) config: ImageConfig,
    /// The names of the image in the archive.
    pub(crate) names: Vec<String>,
    /// The files of the layers, lowest first.
    files: Vec<String>,
}

/// Reads the image that `reference` means, checks it against the platform and puts its layers
/// into `sink`.
pub(crate) fn import(
    archive: &Archive,
    reference: Option<&str>,
    platform: &Platform,
    sink: &dyn BlobSink,
) -> Result<Imported, TransportError> {
    let listed = list(archive, reference)?;
    let layers = import_layers(archive, &listed, platform, sink)?;
    Ok(Imported {
        image_id: Digest::of(&listed.config_bytes),
        names: listed.names,
        config: listed.config,
        layers,
    })
}

/// Puts the layers of an image into `sink`, if it is for the platform.
pub(crate) fn import_layers(
    archive: &Archive,
    listed: &Listed,
    platform: &Platform,
    sink: &dyn BlobSink,
) -> Result<Vec<ImageLayer>, TransportError> {
    let Listed { config, files, .. } = listed;
    layout::check_config(archive.path(), config, files.len(), platform)?;
    files
        .iter()
        .zip(&config.rootfs.diff_ids)
        .map(|(file, diff_id)| import_layer(archive, file, *diff_id, sink))
        .collect()
}

/// Reads what an archive says of the image that `reference` means.
pub(crate) fn list(archive: &Archive, reference: Option<&str>) -> Result<Listed, TransportError> {
    let path = archive.path();
    let Some(bytes) = archive.small("manifest.json")? else {
        let problem = match archive.small("oci-layout")? {
            Some(_) => "it has no manifest.json; it is an OCI archive: write oci-archive:FILE",
            None => "it is no docker archive: there is no file manifest.json in it",
        };
        return Err(TransportError::NotAnImage {
            path: path.to_owned(),
            problem: problem.to_owned(),
        });
    };
    let images: Vec<DockerImage> = layout::parse(path, "manifest.json", &bytes)?;
    let image = select(&images, reference, path)?;
    let (config_bytes, config) = read_config(archive, &image.config)?;
    Ok(Listed {
        config_bytes,
        config,
        names: image.repo_tags.iter().flatten().cloned().collect(),
        files: image.layers.clone().unwrap_or_default(),
    })
}

fn select<'a>(
    images: &'a [DockerImage],
    reference: Option<&str>,
    path: &Path,
) -> Result<&'a DockerImage, TransportError> {
    let tags = |image: &'a DockerImage| image.repo_tags.iter().flatten();
    let is_meant = |image: &&DockerImage| match reference {
        None => true,
        Some(wanted) => image.repo_tags.iter().flatten().any(|tag| {
            tag == wanted || full_name(tag).is_some_and(|tag| full_name(wanted) == Some(tag))
        }),
    };
    let available = || {
        let all = images.iter().flat_map(tags).cloned().collect::<Vec<_>>();
        if all.is_empty() {
            vec![format!("{} images without names", images.len())]
        } else {
            all
        }
    };
    let mut meant = images.iter().filter(is_meant);
    match (meant.next(), meant.next(), reference) {
        (Some(image), None, _) => Ok(image),
        (None, _, Some(wanted)) => Err(TransportError::NoSuchImage {
            path: path.to_owned(),
            wanted: wanted.to_owned(),
            available: available(),
        }),
        (None, _, None) => Err(TransportError::Contradiction {
            path: path.to_owned(),
            problem: "its manifest.json lists no image".to_owned(),
        }),
        (Some(_), Some(_), _) => Err(TransportError::Ambiguous {
            path: path.to_owned(),
            available: available(),
        }),
    }
}

fn read_config(archive: &Archive, file: &str) -> Result<(Vec<u8>, ImageConfig), TransportError> {
    let path = archive.path();
    let missing = || TransportError::Missing {
        path: path.to_owned(),
        what: format!("the config {file:?}"),
    };
    let bytes = archive.small(file)?.ok_or_else(missing)?;
    let found = Digest::of(&bytes);
    // Every writer names the file by its digest; a name that is none proves nothing.
    let name = file.rsplit('/').next().unwrap_or(file);
    let name = name.strip_suffix(".json").unwrap_or(name);
    if Digest::from_hex(name).is_ok_and(|said| said != found) {
        let problem = format!("its config {file:?} has the digest {found}");
        return Err(TransportError::Contradiction {
            path: path.to_owned(),
            problem,
        });
    }
    let config = layout::parse(path, file, &bytes)?;
    Ok((bytes, config))
}

fn import_layer(
    archive: &Archive,
    file: &str,
    diff_id: DiffId,
    sink: &dyn BlobSink,
) -> Result<ImageLayer, TransportError> {
    let path = archive.path();
    let place = archive
        .place(file)?
        .ok_or_else(|| TransportError::Missing {
            path: path.to_owned(),
            what: format!("the layer {file:?}"),
        })?;
    let failed = |source| TransportError::Blob {
        path: path.to_owned(),
        digest: diff_id.0,
        source,
    };
    let stored = examine(archive, place).map_err(failed)?;
    if stored.diff_id != diff_id {
        return Err(TransportError::WrongDiffId {
            path: path.to_owned(),
            layer: file.to_owned(),
            expected: diff_id,
            found: stored.diff_id,
        });
    }
    let descriptor = Descriptor::new(
        MediaType::DockerLayer(stored.codec),
        stored.digest,
        place.size,
    );
    if !sink
        .has(&descriptor.digest, descriptor.size)
        .map_err(failed)?
    {
        let mut bytes = archive.read(place).map_err(failed)?;
        sink.put(&descriptor.digest, descriptor.size, &mut bytes)
            .map_err(failed)?;
    }
    Ok(ImageLayer {
        descriptor,
        diff_id,
    })
}

/// A layer's file, read to its end.
struct StoredLayer {
    codec: Codec,
    digest: Digest,
    diff_id: DiffId,
}

fn examine(archive: &Archive, place: FilePlace) -> io::Result<StoredLayer> {
    let mut start = Vec::new();
    archive.read(place)?.take(4).read_to_end(&mut start)?;
    let codec = sniffed(&start);
    let mut stored = HashingReader::new(archive.read(place)?);
    let mut plain = HashingReader::new(decoder(codec, &mut stored)?.take(MOST_UNPACKED + 1));
    io::copy(&mut plain, &mut io::sink())?;
    let (_, plain_digest, plain_size) = plain.finish();
    if plain_size > MOST_UNPACKED {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it unpacks to more than 64 GiB",
        ));
    }
    io::copy(&mut stored, &mut io::sink())?;
    let (_, digest, size) = stored.finish();
    if size != place.size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(StoredLayer {
        codec,
        digest,
        diff_id: DiffId(plain_digest),
    })
}
