//! Layouts as a source: a directory, or an archive with the same files in it.
//!
//! OCI image spec, `image-layout.md`. Every document is read with its declared size and digest
//! checked, every layer goes to a sink that checks both.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::oci::{
    BlobReader, BlobSource, Descriptor, Digest, ImageConfig, Index, Manifest, OciLayout, Platform,
    VerifyingReader,
};
use crate::transport::disk::{self, at};
use crate::transport::error::TransportError;
use crate::transport::select;

/// Larger documents are refused. Registries take 4 MiB.
pub(crate) const MOST_DOCUMENT: u64 = 8 << 20;

/// An index may point at an index, but not for ever.
pub(crate) const MOST_DEPTH: usize = 4;

/// The files of a layout, wherever they are.
pub(crate) trait LayoutFiles: BlobSource {
    /// Where they are, for messages.
    fn path(&self) -> &Path;

    /// A small file by its name; `None` if it is not there.
    fn small(&self, name: &str) -> Result<Option<Vec<u8>>, TransportError>;

    /// The document that a descriptor points at, unchecked; `None` if it is not there.
    fn open_document(&self, descriptor: &Descriptor) -> io::Result<Option<BlobReader>> {
        self.open(&descriptor.digest)
    }
}

/// A layout in a directory.
#[derive(Debug)]
pub(crate) struct LayoutDir {
    dir: PathBuf,
}

impl LayoutDir {
    pub(crate) fn new(dir: &Path) -> LayoutDir {
        LayoutDir {
            dir: dir.to_owned(),
        }
    }

    /// Where a blob is, or would be.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }
}

impl BlobSource for LayoutDir {
    fn open(&self, digest: &Digest) -> io::Result<Option<BlobReader>> {
        let file = self.file(digest)?;
        Ok(file.map(|file| Box::new(file) as BlobReader))
    }

    fn file(&self, digest: &Digest) -> io::Result<Option<File>> {
        disk::open_regular(&self.blob_path(digest))
    }
}

impl LayoutFiles for LayoutDir {
    fn path(&self) -> &Path {
        &self.dir
    }

    fn small(&self, name: &str) -> Result<Option<Vec<u8>>, TransportError> {
        let path = self.dir.join(name);
        disk::read_small(&path, MOST_DOCUMENT).map_err(at("read", &path))
    }
}

/// What was found of an image: everything but the bytes of its layers.
#[derive(Debug)]
pub(crate) struct FoundImage {
    /// The digest of the manifest.
    pub(crate) digest: Digest,
    /// The digest of the config.
    pub(crate) image_id: Digest,
    /// The names of its entry in the layout.
    pub(crate) names: Vec<String>,
    pub(crate) config: ImageConfig,
    /// As many as the config has diff_ids.
    pub(crate) layers: Vec<Descriptor>,
}

/// The index of a layout.
pub(crate) fn index(files: &dyn LayoutFiles) -> Result<Index, TransportError> {
    let not_an_image = |problem: &str| TransportError::NotAnImage {
        path: files.path().to_owned(),
        problem: problem.to_owned(),
    };
    let Some(marker) = files.small("oci-layout")? else {
        return Err(not_an_image(match files.small("manifest.json")? {
            Some(_) => "it is no OCI layout but a docker archive; write docker-archive:FILE",
            None => "it is no OCI layout: there is no file oci-layout in it",
        }));
    };
    let layout: OciLayout = parsed(files, "oci-layout", &marker)?;
    if layout.version != OciLayout::default().version {
        return Err(not_an_image(&format!(
            "it is an OCI layout of version {:?}; this version of boxwright knows 1.0.0",
            layout.version
        )));
    }
    let bytes = files
        .small("index.json")?
        .ok_or_else(|| missing(files, "index.json"))?;
    let index: Index = parsed(files, "index.json", &bytes)?;
    check_version(files, "index.json", index.schema_version)?;
    Ok(index)
}

/// The image of a layout that `reference` and `platform` mean.
pub(crate) fn find(
    files: &dyn LayoutFiles,
    reference: Option<&str>,
    platform: &Platform,
) -> Result<FoundImage, TransportError> {
    let top = index(files)?;
    let entry = select::by_name(&top, reference, files.path())?.clone();
    let mut names: Vec<String> = select::names(&entry).map(str::to_owned).collect();
    names.dedup();
    let (found, _) = descend(files, entry, platform)?;
    Ok(FoundImage { names, ..found })
}

/// The image for a platform that a descriptor leads to, through any indexes, and the documents on
/// the way: indexes, manifest, config.
pub(crate) fn descend(
    files: &dyn LayoutFiles,
    mut entry: Descriptor,
    platform: &Platform,
) -> Result<(FoundImage, Vec<Digest>), TransportError> {
    let mut documents = Vec::new();
    for _ in 0..MOST_DEPTH {
        documents.push(entry.digest);
        if entry.media_type.is_manifest() {
            let found = read_image(files, &entry, platform)?;
            documents.push(found.image_id);
            return Ok((found, documents));
        }
        let nested: Index = document(files, &entry)?;
        check_version(files, &entry.digest.to_string(), nested.schema_version)?;
        entry = select::by_platform(&nested, platform, files.path())?.clone();
    }
    Err(contradiction(
        files,
        format!("its indexes are nested more than {MOST_DEPTH} deep"),
    ))
}

fn read_image(
    files: &dyn LayoutFiles,
    entry: &Descriptor,
    platform: &Platform,
) -> Result<FoundImage, TransportError> {
    let manifest: Manifest = document(files, entry)?;
    check_version(files, &entry.digest.to_string(), manifest.schema_version)?;
    if let Some(said) = manifest
        .media_type
        .as_ref()
        .filter(|said| **said != entry.media_type)
    {
        let problem = format!(
            "manifest {} says it is {said}, its index says {}",
            entry.digest, entry.media_type
        );
        return Err(contradiction(files, problem));
    }
    let config: ImageConfig = document(files, &manifest.config)?;
    check_config(files.path(), &config, manifest.layers.len(), platform)?;
    for layer in &manifest.layers {
        if layer.media_type.layer_codec().is_none() {
            return Err(TransportError::Layer {
                path: files.path().to_owned(),
                digest: layer.digest,
                media_type: layer.media_type.to_string(),
            });
        }
    }
    Ok(FoundImage {
        digest: entry.digest,
        image_id: manifest.config.digest,
        names: Vec::new(),
        config,
        layers: manifest.layers,
    })
}

/// Whether a config fits the layers and the platform.
pub(crate) fn check_config(
    path: &Path,
    config: &ImageConfig,
    layers: usize,
    platform: &Platform,
) -> Result<(), TransportError> {
    let contradiction = |problem| TransportError::Contradiction {
        path: path.to_owned(),
        problem,
    };
    if config.rootfs.kind != "layers" {
        return Err(contradiction(format!(
            "its config says that rootfs is {:?}",
            config.rootfs.kind
        )));
    }
    let diff_ids = config.rootfs.diff_ids.len();
    if diff_ids != layers {
        return Err(contradiction(format!(
            "its config lists {diff_ids} diff_ids, but it has {layers} layers"
        )));
    }
    let (wanted, found) = (platform.normalized(), config.platform.normalized());
    let same = wanted.os == found.os
        && wanted.architecture == found.architecture
        // Many configs leave the variant out, and then it is the index that says it.
        && (config.platform.variant.is_none() || wanted.variant == found.variant);
    match same {
        true => Ok(()),
        false => Err(TransportError::NoPlatform {
            path: path.to_owned(),
            wanted: platform.clone(),
            available: vec![config.platform.to_string()],
        }),
    }
}

/// A document that a descriptor points at, its size and digest checked.
pub(crate) fn document<T: DeserializeOwned>(
    files: &dyn LayoutFiles,
    descriptor: &Descriptor,
) -> Result<T, TransportError> {
    let bytes = document_bytes(files, descriptor)?;
    parsed(files, &descriptor.digest.to_string(), &bytes)
}

/// The bytes of a document, its size and digest checked.
fn document_bytes(
    files: &dyn LayoutFiles,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, TransportError> {
    let digest = descriptor.digest;
    let wrong = |source| TransportError::Blob {
        path: files.path().to_owned(),
        digest,
        source,
    };
    if descriptor.size > MOST_DOCUMENT {
        let problem = format!(
            "document {digest} is said to have {} bytes; {MOST_DOCUMENT} are the most",
            descriptor.size
        );
        return Err(contradiction(files, problem));
    }
    let blob = files.open_document(descriptor).map_err(wrong)?;
    let blob = blob.ok_or_else(|| missing(files, &format!("blob {digest}")))?;
    disk::read_at_most(VerifyingReader::new(blob, descriptor), MOST_DOCUMENT).map_err(wrong)
}

fn parsed<T: DeserializeOwned>(
    files: &dyn LayoutFiles,
    document: &str,
    bytes: &[u8],
) -> Result<T, TransportError> {
    parse(files.path(), document, bytes)
}

/// Reads a JSON document of the layout or archive at `path`.
pub(crate) fn parse<T: DeserializeOwned>(
    path: &Path,
    document: &str,
    bytes: &[u8],
) -> Result<T, TransportError> {
    serde_json::from_slice(bytes).map_err(|source| TransportError::Document {
        path: path.to_owned(),
        document: document.to_owned(),
        source,
    })
}

fn check_version(
    files: &dyn LayoutFiles,
    document: &str,
    version: u32,
) -> Result<(), TransportError> {
    match version {
        2 => Ok(()),
        other => Err(contradiction(
            files,
            format!("{document} has schemaVersion {other}, not 2"),
        )),
    }
}

fn contradiction(files: &dyn LayoutFiles, problem: String) -> TransportError {
    TransportError::Contradiction {
        path: files.path().to_owned(),
        problem,
    }
}

fn missing(files: &dyn LayoutFiles, what: &str) -> TransportError {
    TransportError::Missing {
        path: files.path().to_owned(),
        what: what.to_owned(),
    }
}
