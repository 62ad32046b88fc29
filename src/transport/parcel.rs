//! Parcels: an image with everything below it, in the order in which a registry takes it.
//!
//! A registry refuses a document that points at something it does not have, so blobs go before
//! manifests, manifests before the index that lists them. What is sent are the bytes that the image
//! has; only a docker archive, which has no manifest, is given one. Layers that nobody may pass on
//! stay out, as the image spec says ("Non-Distributable Layers").

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::image::ImageSet;
use crate::oci::document::Manifest;
use crate::oci::{
    BlobReader, BlobSource, Codec, Descriptor, Digest, DocumentFormat, ImageConfig, Index,
    MediaType, Reference, VerifyingReader, json,
};
use crate::spec::ImageSource;
use crate::store::Store;
use crate::transport::archive::Archive;
use crate::transport::disk;
use crate::transport::docker_archive;
use crate::transport::error::TransportError;
use crate::transport::layout::{self, LayoutDir, LayoutFiles, MOST_DEPTH, MOST_DOCUMENT};
use crate::transport::registry::{RegistryClient, artifact};
use crate::transport::select;

/// An image that can be pushed: its documents, and where its blobs are.
pub struct Parcel<'a> {
    /// Where it lies, for messages.
    path: PathBuf,
    root: Descriptor,
    papers: Vec<Paper>,
    layers: Vec<Descriptor>,
    configs: Vec<Descriptor>,
    foreign: usize,
    bytes: Box<dyn BlobSource + 'a>,
}

/// The bytes of an image's own documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDocuments {
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The config that it points at.
    pub config: Vec<u8>,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paper {
    pub(crate) descriptor: Descriptor,
    /// What it is said to belong to: a signature's image. Image spec, `subject`.
    pub(crate) subject: Option<Digest>,
}

impl<'a> Parcel<'a> {
    /// Images that were just put together; their layers are in `blobs`.
    pub fn of_images(images: &ImageSet, blobs: &'a dyn BlobSource) -> Parcel<'a> {
        let documents = images.documents();
        let is_paper = |descriptor: &Descriptor| {
            descriptor.media_type.is_manifest() || descriptor.media_type.is_index()
        };
        let descriptors = documents.iter().map(|document| document.descriptor());
        let (papers, configs): (Vec<_>, Vec<_>) = descriptors.partition(is_paper);
        // A set lists its index first, a registry takes it last.
        let papers = papers.into_iter().rev().map(|descriptor| Paper {
            descriptor,
            subject: None,
        });
        let documents = documents
            .iter()
            .map(|document| (document.digest(), document.bytes().to_vec()))
            .collect();
        Parcel {
            path: "the store".into(),
            root: images.root(),
            papers: papers.collect(),
            layers: images.layers().into_iter().cloned().collect(),
            configs,
            foreign: 0,
            bytes: Box::new(WithDocuments { documents, blobs }),
        }
    }

    /// An artifact of this type: blobs of the store, and documents that are at hand.
    pub fn of_artifact(
        artifact_type: &str,
        blobs: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
        store: &'a Store,
    ) -> Parcel<'a> {
        let (manifest, config) = artifact::manifest(artifact_type, blobs.clone(), annotations);
        let root = Descriptor::of(MediaType::OciManifest, &manifest);
        let documents = BTreeMap::from([
            (root.digest, manifest),
            (config.digest, artifact::EMPTY.to_vec()),
        ]);
        Parcel {
            path: "the store".into(),
            papers: vec![Paper {
                descriptor: root.clone(),
                subject: None,
            }],
            root,
            layers: blobs,
            configs: vec![config],
            foreign: 0,
            bytes: Box::new(WithDocuments {
                documents,
                blobs: store,
            }),
        }
    }

    /// The image that `source` names, all its platforms, and what of the same layout says that it
    /// belongs to it. Layers of a docker archive are brought into the store on the way: nothing
    /// says their digests.
    ///
    /// # Errors
    /// No such image, wrong or missing documents, or a source that is a registry.
    pub fn open(
        source: &ImageSource,
        base_dir: &Path,
        store: &'a Store,
    ) -> Result<Parcel<'a>, TransportError> {
        match source {
            ImageSource::Registry(reference) => {
                Err(TransportError::RegistrySource(reference.to_string()))
            }
            ImageSource::Layout { dir, reference } => {
                Parcel::of_layout(LayoutDir::new(&base_dir.join(dir)), reference.as_deref())
            }
            ImageSource::OciArchive { file, reference } => {
                Parcel::of_layout(Archive::open(&base_dir.join(file))?, reference.as_deref())
            }
            ImageSource::DockerArchive { file, reference } => {
                Parcel::of_docker_archive(&base_dir.join(file), reference.as_deref(), store)
            }
        }
    }

    /// An image of a registry, all its platforms. Its documents come into the store now, a layer
    /// when it is asked for: whoever pushes it where it is needs none.
    ///
    /// # Errors
    /// No network, no such image, documents that are not what their digests say.
    pub fn of_registry(
        client: &'a RegistryClient,
        reference: &Reference,
        store: &'a Store,
    ) -> Result<Parcel<'a>, TransportError> {
        let reference = reference.clone().with_default_tag();
        let (root, walk) = client.browse(&reference, store, |files, root| {
            let mut walk = Walk::new(files);
            walk.add(root, 0)?;
            Ok(walk.found)
        })?;
        let blobs = walk.layers.iter().chain(&walk.configs);
        let blobs = blobs.map(|blob| (blob.digest, blob.clone())).collect();
        Ok(Parcel {
            path: reference.to_string().into(),
            root,
            bytes: Box::new(Afar {
                client,
                reference,
                store,
                blobs,
            }),
            papers: walk.papers,
            layers: walk.layers,
            configs: walk.configs,
            foreign: walk.foreign,
        })
    }

    /// The documents of the images in it. What belongs to another
    /// manifest, or is for no platform that there is, is no image: signatures, provenance.
    ///
    /// # Errors
    /// Documents that are missing, damaged or none.
    pub fn images(&self) -> Result<Vec<ImageDocuments>, TransportError> {
        let mut images = Vec::new();
        for paper in &self.papers {
            if !paper.descriptor.media_type.is_manifest() || paper.subject.is_some() {
                continue;
            }
            let bytes = self.paper(paper)?;
            let contradiction = |problem: String| TransportError::Contradiction {
                path: self.path.clone(),
                problem,
            };
            let manifest: Manifest =
                serde_json::from_slice(&bytes).map_err(|error| contradiction(error.to_string()))?;
            let config = Paper {
                descriptor: manifest.config,
                subject: None,
            };
            let config = self.paper(&config)?;
            let parsed = serde_json::from_slice::<ImageConfig>(&config);
            if parsed.is_ok_and(|config| config.platform.os != "unknown") {
                images.push(ImageDocuments {
                    manifest: bytes,
                    config,
                });
            }
        }
        Ok(images)
    }

    fn of_layout(
        files: impl LayoutFiles + 'a,
        reference: Option<&str>,
    ) -> Result<Parcel<'a>, TransportError> {
        let top = layout::index(&files)?;
        let root = select::by_name(&top, reference, files.path())?.clone();
        let mut walk = Walk::new(&files);
        walk.add(&root, 0)?;
        walk.add_attached(&top)?;
        let Below {
            papers,
            layers,
            configs,
            foreign,
        } = walk.found;
        Ok(Parcel {
            path: files.path().to_owned(),
            root,
            papers,
            layers,
            configs,
            foreign,
            bytes: Box::new(files),
        })
    }

    fn of_docker_archive(
        file: &Path,
        reference: Option<&str>,
        store: &'a Store,
    ) -> Result<Parcel<'a>, TransportError> {
        let archive = Archive::open(file)?;
        let listed = docker_archive::list(&archive, reference)?;
        let platform = listed.config.platform.clone();
        let layers = docker_archive::import_layers(&archive, &listed, &platform, store)?;
        let is_zstd = layers
            .iter()
            .any(|layer| layer.descriptor.media_type.layer_codec() == Some(Codec::Zstd));
        // Docker's own manifests know no zstd.
        let format = match is_zstd {
            true => DocumentFormat::Oci,
            false => DocumentFormat::Docker,
        };
        let layers: Vec<Descriptor> = layers
            .into_iter()
            .map(|layer| {
                let codec = layer.descriptor.media_type.layer_codec();
                let media_type = codec.map(|codec| format.layer(codec));
                Descriptor {
                    media_type: media_type.unwrap_or(layer.descriptor.media_type.clone()),
                    ..layer.descriptor
                }
            })
            .collect();
        let config = Descriptor::of(format.config(), &listed.config_bytes);
        let manifest = json::to_vec(&Manifest {
            schema_version: 2,
            media_type: Some(format.manifest()),
            config: config.clone(),
            layers: layers.clone(),
            annotations: BTreeMap::new(),
            other: BTreeMap::new(),
        });
        let root = Descriptor::of(format.manifest(), &manifest);
        let documents = BTreeMap::from([
            (root.digest, manifest),
            (config.digest, listed.config_bytes),
        ]);
        let mut seen = BTreeSet::new();
        Ok(Parcel {
            path: file.to_owned(),
            papers: vec![Paper {
                descriptor: root.clone(),
                subject: None,
            }],
            root,
            layers: layers
                .into_iter()
                .filter(|layer| seen.insert(layer.digest))
                .collect(),
            configs: vec![config],
            foreign: 0,
            bytes: Box::new(WithDocuments {
                documents,
                blobs: store,
            }),
        })
    }

    /// The manifest, or the index above several: what the image is known by.
    pub fn root(&self) -> &Descriptor {
        &self.root
    }

    /// How many layers stay out because nobody may pass them on.
    pub fn foreign(&self) -> usize {
        self.foreign
    }

    /// Manifests and indexes, each behind all that it lists.
    pub(crate) fn papers(&self) -> &[Paper] {
        &self.papers
    }

    /// The layers and whatever else is no document, each once.
    pub(crate) fn layers(&self) -> &[Descriptor] {
        &self.layers
    }

    /// The configs, each once.
    pub(crate) fn configs(&self) -> &[Descriptor] {
        &self.configs
    }

    /// Where all blobs are, documents among them.
    pub fn blobs(&self) -> &dyn BlobSource {
        &*self.bytes
    }

    /// The bytes of one of its papers, checked again.
    pub(crate) fn paper(&self, paper: &Paper) -> Result<Vec<u8>, TransportError> {
        let descriptor = &paper.descriptor;
        let read = || {
            let blob = self.bytes.open(&descriptor.digest)?;
            let blob = blob.ok_or(io::ErrorKind::NotFound)?;
            disk::read_at_most(VerifyingReader::new(blob, descriptor), MOST_DOCUMENT)
        };
        read().map_err(|source| self.damaged(&descriptor.digest, source))
    }

    /// What is said of a blob that cannot be read.
    pub(crate) fn damaged(&self, digest: &Digest, source: io::Error) -> TransportError {
        TransportError::Blob {
            path: self.path.clone(),
            digest: *digest,
            source,
        }
    }
}

impl std::fmt::Debug for Parcel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parcel({} of {})", self.root.digest, self.path.display())
    }
}

/// Documents at hand, and everything else elsewhere.
struct WithDocuments<'a> {
    documents: BTreeMap<Digest, Vec<u8>>,
    blobs: &'a dyn BlobSource,
}

impl BlobSource for WithDocuments<'_> {
    fn open(&self, digest: &Digest) -> io::Result<Option<BlobReader>> {
        match self.documents.open(digest)? {
            Some(document) => Ok(Some(document)),
            None => self.blobs.open(digest),
        }
    }

    fn file(&self, digest: &Digest) -> io::Result<Option<std::fs::File>> {
        match self.documents.contains_key(digest) {
            true => Ok(None),
            false => self.blobs.file(digest),
        }
    }
}

/// The way down from the root of an image.
struct Walk<'a> {
    files: &'a dyn LayoutFiles,
    seen: BTreeSet<Digest>,
    found: Below,
}

/// What is below a root.
#[derive(Default)]
struct Below {
    papers: Vec<Paper>,
    layers: Vec<Descriptor>,
    configs: Vec<Descriptor>,
    foreign: usize,
}

/// Blobs of a registry, each brought into the store when it is asked for.
struct Afar<'a> {
    client: &'a RegistryClient,
    reference: Reference,
    store: &'a Store,
    blobs: BTreeMap<Digest, Descriptor>,
}

impl Afar<'_> {
    fn bring(&self, digest: &Digest) -> io::Result<()> {
        let Some(blob) = self.blobs.get(digest) else {
            return Ok(());
        };
        let blobs = std::slice::from_ref(blob);
        let brought = self
            .client
            .artifact_blobs(&self.reference, blobs, self.store);
        brought.map_err(io::Error::other)
    }
}

impl BlobSource for Afar<'_> {
    fn open(&self, digest: &Digest) -> io::Result<Option<BlobReader>> {
        self.bring(digest)?;
        self.store.open(digest)
    }

    fn file(&self, digest: &Digest) -> io::Result<Option<std::fs::File>> {
        self.bring(digest)?;
        self.store.file(digest)
    }
}

impl<'a> Walk<'a> {
    fn new(files: &'a dyn LayoutFiles) -> Walk<'a> {
        Walk {
            files,
            seen: BTreeSet::new(),
            found: Below::default(),
        }
    }

    /// Adds a descriptor and everything below it, unless it is here already.
    fn add(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), TransportError> {
        if !self.seen.insert(descriptor.digest) {
            return Ok(());
        }
        let media_type = &descriptor.media_type;
        let other = if media_type.is_index() && depth < MOST_DEPTH {
            let index: Index = layout::document(self.files, descriptor)?;
            for entry in &index.manifests {
                self.add(entry, depth + 1)?;
            }
            index.other
        } else if media_type.is_manifest() {
            let manifest: Manifest = layout::document(self.files, descriptor)?;
            manifest
                .layers
                .iter()
                .for_each(|layer| self.add_blob(layer));
            if self.seen.insert(manifest.config.digest) {
                self.found.configs.push(manifest.config);
            }
            manifest.other
        } else if media_type.is_index() {
            return Err(TransportError::Contradiction {
                path: self.files.path().to_owned(),
                problem: format!("its indexes are nested more than {MOST_DEPTH} deep"),
            });
        } else {
            self.seen.remove(&descriptor.digest);
            self.add_blob(descriptor);
            return Ok(());
        };
        self.found.papers.push(Paper {
            descriptor: descriptor.clone(),
            subject: subject(&other),
        });
        Ok(())
    }

    fn add_blob(&mut self, blob: &Descriptor) {
        if matches!(
            blob.media_type,
            MediaType::OciForeignLayer(_) | MediaType::DockerForeignLayer(_)
        ) {
            self.found.foreign += 1;
        } else if self.seen.insert(blob.digest) {
            self.found.layers.push(blob.clone());
        }
    }

    /// Adds the manifests of a layout that say they belong to one that is here: signatures, bills
    /// of materials, and what belongs to those in turn.
    fn add_attached(&mut self, top: &Index) -> Result<(), TransportError> {
        let mut attached = Vec::new();
        for entry in &top.manifests {
            if entry.media_type.is_manifest() && !self.seen.contains(&entry.digest) {
                let manifest: Manifest = layout::document(self.files, entry)?;
                attached.extend(subject(&manifest.other).map(|subject| (subject, entry)));
            }
        }
        loop {
            let (now, later): (Vec<_>, Vec<_>) = attached
                .into_iter()
                .partition(|(subject, _)| self.seen.contains(subject));
            if now.is_empty() {
                return Ok(());
            }
            for (_, entry) in now {
                self.add(entry, 0)?;
            }
            attached = later;
        }
    }
}

/// What a document belongs to, as it says itself.
fn subject(other: &BTreeMap<String, Value>) -> Option<Digest> {
    other.get("subject")?.get("digest")?.as_str()?.parse().ok()
}
