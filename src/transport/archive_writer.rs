//! Archives as an output: one tar that every loader takes.
//!
//! The OCI archive is **hybrid**: an OCI layout, and Docker's `manifest.json` over the same blobs.
//! What loaders demand beyond the specs, all of it measured:
//!
//! - podman wants exactly one descriptor in `index.json`, else it falls back to `manifest.json`
//!   and makes up a manifest of its own. So several platforms go into a nested index, and further
//!   names only into `RepoTags`: podman and ctr know the first name, docker all of them.
//! - docker before its containerd store reads nothing but `manifest.json`, which holds one image:
//!   that of the platform listed first. `RepoTags` must be full names, or podman changes them.
//! - skopeo without root unpacks the tar and needs entries for `blobs/` and `blobs/sha256/`.
//! - containerd 1.6 and kind take no compression around the tar.
//!
//! Metadata comes first, so that a reader of a stream may decide early; all times are 0. The
//! archive is streamed, and nothing of it is held in memory but its documents.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use crate::image::{Image, ImageSet};
use crate::oci::{
    BlobSource, Codec, Descriptor, Digest, DocumentFormat, Hasher, Index, OciLayout, Reference,
    VerifyingReader, json,
};
use crate::store::Store;
use crate::transport::disk::{self, at};
use crate::transport::docker_archive::DockerImage;
use crate::transport::error::TransportError;
use crate::transport::naming::{ImageName, image_names};
use crate::transport::stamp::Stamp;
use crate::transport::tar_writer::{TarWriter, total_size};
use crate::transport::write::{Receipt, Written};

/// What the tar holds, in order.
pub(crate) struct ArchivePlan {
    entries: Vec<PlanEntry>,
    reference: Option<String>,
}

enum PlanEntry {
    Directory(&'static str),
    Document(String, Vec<u8>),
    Blob(String, Descriptor),
}

impl ArchivePlan {
    /// The hybrid archive.
    pub(crate) fn hybrid(
        images: &ImageSet,
        reference: Option<&str>,
        names: &[Reference],
    ) -> ArchivePlan {
        let names = image_names(reference, names);
        let first = names.first().cloned().unwrap_or_default();
        let mut root = images.root();
        root.annotations = first.annotations();
        // Whatever the format of the image, the layout's own index is OCI's.
        let index = Index::new(DocumentFormat::Oci.index(), vec![root]);
        let blob_path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let mut entries = vec![
            PlanEntry::Document("oci-layout".to_owned(), json::to_vec(&OciLayout::default())),
            PlanEntry::Document("index.json".to_owned(), json::to_vec(&index)),
        ];
        let docker = images.images().iter().take(1);
        let docker: Vec<_> = docker
            .map(|image| DockerImage {
                config: blob_path(&image.config().digest()),
                repo_tags: Some(repo_tags(&names)),
                layers: Some(
                    image
                        .layers()
                        .iter()
                        .map(|layer| blob_path(&layer.digest))
                        .collect(),
                ),
            })
            .collect();
        entries.push(PlanEntry::Document(
            "manifest.json".to_owned(),
            json::to_vec(&docker),
        ));
        entries.push(PlanEntry::Directory("blobs/"));
        entries.push(PlanEntry::Directory("blobs/sha256/"));
        for document in images.documents() {
            let path = blob_path(&document.digest());
            entries.push(PlanEntry::Document(path, document.bytes().to_vec()));
        }
        for layer in images.layers() {
            entries.push(PlanEntry::Blob(blob_path(&layer.digest), layer.clone()));
        }
        ArchivePlan {
            entries,
            reference: first.ref_name,
        }
    }

    /// The archive of `docker save` before it learned OCI. Layers are put in as they are stored:
    /// docker and skopeo find out by themselves that one is gzip.
    pub(crate) fn docker(
        images: &ImageSet,
        reference: Option<&str>,
        names: &[Reference],
    ) -> Result<ArchivePlan, TransportError> {
        let [image] = images.images() else {
            return Err(TransportError::SeveralPlatforms);
        };
        let names = image_names(reference, names);
        let layers = image
            .layers()
            .iter()
            .map(docker_layer_file)
            .collect::<Result<Vec<_>, _>>()?;
        let config = format!("{}.json", image.config().digest().hex());
        let manifest = DockerImage {
            config: config.clone(),
            repo_tags: Some(repo_tags(&names)),
            layers: Some(layers.clone()),
        };
        let mut entries = vec![
            PlanEntry::Document("manifest.json".to_owned(), json::to_vec(&[manifest])),
            PlanEntry::Document(config, image.config().bytes().to_vec()),
        ];
        entries.extend(layer_entries(image, layers));
        let reference = names.into_iter().next().and_then(|name| name.full);
        Ok(ArchivePlan { entries, reference })
    }

    /// Writes the archive under its final name, unless the file has these very bytes already.
    pub(crate) fn write(
        &self,
        path: &Path,
        blobs: &dyn BlobSource,
        stamps: Option<&Store>,
    ) -> Result<Receipt, TransportError> {
        let (target, directory) = disk::target_file(path)?;
        let bytes = self.size();
        let receipt = |written| Receipt {
            path: path.to_owned(),
            reference: self.reference.clone(),
            bytes,
            written,
        };
        if self.is_at(&target, bytes, blobs, stamps)? {
            // The archive is as it shall be; what stands beside it does not make that an error.
            let _ = disk::clear_for(&target, &directory);
            return Ok(receipt(Written::Unchanged));
        }
        let file = disk::temporary_for(&target, &directory)?;
        let written = self.emit(BufWriter::with_capacity(1 << 17, file), blobs, path)?;
        let file = written
            .into_inner()
            .map_err(|error| at("write", path)(error.into_error()))?;
        disk::persist(file, &target)?;
        Ok(receipt(Written::New))
    }

    /// The size of the whole archive in bytes.
    fn size(&self) -> u64 {
        let files = self.entries.iter().filter_map(|entry| match entry {
            PlanEntry::Directory(_) => None,
            PlanEntry::Document(_, bytes) => Some(bytes.len() as u64),
            PlanEntry::Blob(_, descriptor) => Some(descriptor.size),
        });
        let directories = self
            .entries
            .iter()
            .filter(|entry| matches!(entry, PlanEntry::Directory(_)));
        total_size(files, directories.count() as u64)
    }

    /// Covers every byte of the archive.
    fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        let mut put = |kind: u8, name: &str, size: u64, bytes: &[u8]| {
            hasher.update(&[kind]);
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(&size.to_le_bytes());
            hasher.update(bytes);
        };
        for entry in &self.entries {
            match entry {
                PlanEntry::Directory(name) => put(0, name, 0, b""),
                PlanEntry::Document(name, bytes) => put(1, name, bytes.len() as u64, bytes),
                PlanEntry::Blob(name, blob) => put(2, name, blob.size, blob.digest.raw()),
            }
        }
        hasher.finish()
    }

    /// Whether `target` is this archive already.
    fn is_at(
        &self,
        target: &Path,
        size: u64,
        blobs: &dyn BlobSource,
        stamps: Option<&Store>,
    ) -> Result<bool, TransportError> {
        let found = disk::open_regular(target).map_err(at("read", target))?;
        let Some(file) = found else {
            return Ok(false);
        };
        if file.metadata().map_err(at("read", target))?.len() != size {
            return Ok(false);
        }
        let stamp = stamps.map(|store| Stamp::of(&file, target, &self.digest(), store));
        let stamp = stamp.transpose().map_err(at("read", target))?;
        let failed = |error| at("read the stamp of", target)(io::Error::other(error));
        if let Some(stamp) = &stamp
            && stamp.is_known().map_err(failed)?
        {
            return Ok(true);
        }
        let comparison = Comparison {
            file: BufReader::with_capacity(1 << 17, file),
            buffer: vec![0; 1 << 16],
        };
        match self.emit(comparison, blobs, target) {
            Ok(_) => {
                stamp.map_or(Ok(()), |stamp| stamp.keep()).map_err(failed)?;
                Ok(true)
            }
            Err(TransportError::Io { source, .. }) if is_difference(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes the bytes of the archive to `out`.
    fn emit<W: Write>(
        &self,
        out: W,
        blobs: &dyn BlobSource,
        path: &Path,
    ) -> Result<W, TransportError> {
        let mut tar = TarWriter::new(out);
        for entry in &self.entries {
            match entry {
                PlanEntry::Directory(name) => tar.directory(name).map_err(at("write", path))?,
                PlanEntry::Document(name, bytes) => {
                    tar.file(name, bytes.len() as u64, &mut &bytes[..])
                        .map_err(at("write", path))?;
                }
                PlanEntry::Blob(name, descriptor) => {
                    emit_blob(&mut tar, name, descriptor, blobs, path)?
                }
            }
        }
        tar.finish().map_err(at("write", path))
    }
}

fn emit_blob<W: Write>(
    tar: &mut TarWriter<W>,
    name: &str,
    descriptor: &Descriptor,
    blobs: &dyn BlobSource,
    path: &Path,
) -> Result<(), TransportError> {
    let digest = descriptor.digest;
    let in_store = |source| TransportError::Store { digest, source };
    let blob = blobs.open(&digest).map_err(in_store)?;
    let blob = blob.ok_or_else(|| in_store(io::ErrorKind::NotFound.into()))?;
    let mut source = BlameReader {
        inner: VerifyingReader::new(blob, descriptor),
        error: None,
    };
    let written = tar.file(name, descriptor.size, &mut source);
    // The last byte is only proven when the reader has been asked for one more.
    let proven = written.and_then(|()| match source.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    });
    match (proven, source.error) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(blame)) => Err(in_store(blame)),
        (Err(error), None) => Err(at("write", path)(error)),
    }
}

/// A reader that keeps its error, so that a bad blob is not taken for a full disk.
struct BlameReader<R> {
    inner: R,
    error: Option<io::Error>,
}

impl<R: Read> Read for BlameReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.error = Some(error);
            }
            kind.into()
        })
    }
}

/// A writer that compares with a file and fails at the first difference.
struct Comparison {
    file: BufReader<File>,
    buffer: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
#[error("the file has other bytes")]
struct Difference;

fn is_difference(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<Difference>())
}

impl Write for Comparison {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = bytes.len().min(self.buffer.len());
        let found = &mut self.buffer[..most];
        match self.file.read_exact(found) {
            Ok(()) if *found == bytes[..most] => Ok(most),
            Ok(()) => Err(io::Error::other(Difference)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(io::Error::other(Difference))
            }
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn repo_tags(names: &[ImageName]) -> Vec<String> {
    names.iter().filter_map(|name| name.full.clone()).collect()
}

fn docker_layer_file(layer: &Descriptor) -> Result<String, TransportError> {
    match layer.media_type.layer_codec() {
        Some(Codec::Zstd) => Err(TransportError::ZstdInDockerArchive),
        Some(Codec::Gzip) => Ok(format!("{}.tar.gz", layer.digest.hex())),
        Some(Codec::None) | None => Ok(format!("{}.tar", layer.digest.hex())),
    }
}

/// Each blob once, though the manifest may list it twice.
fn layer_entries(image: &Image, files: Vec<String>) -> Vec<PlanEntry> {
    let mut seen = BTreeSet::new();
    let layers = image.layers().iter().zip(files);
    layers
        .filter(|(layer, _)| seen.insert(layer.digest))
        .map(|(layer, file)| PlanEntry::Blob(file, layer.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
