//! Layouts as an output: a directory that may hold other images, of which nothing is lost.
//!
//! Writers exclude each other by a lock on the directory itself, which leaves no file behind and
//! ends with the process. Blobs come first and `index.json` last; each appears under its name by
//! one rename. So whoever is killed leaves the old image or the new one, and readers need no lock.
//!
//! Blobs of an image that was replaced stay: other images, or a reader at this moment, may need
//! them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::image::ImageSet;
use crate::oci::document::ANNOTATION_REF_NAME;
use crate::oci::{
    BlobSource, Descriptor, Digest, DocumentFormat, HashingWriter, Index, OciLayout, Reference,
    VerifyingReader, json,
};
use crate::store::{Store, StoreError};
use crate::transport::disk::{self, at};
use crate::transport::error::TransportError;
use crate::transport::layout::{self, LayoutDir};
use crate::transport::naming::image_names;
use crate::transport::stamp::Stamp;
use crate::transport::write::{Receipt, Written};

/// Writes `images` into the layout `dir`, which is created if it is missing. An entry with the
/// same `ref.name` is replaced, or the one without a name if the image has none.
pub(crate) fn write(
    dir: &Path,
    reference: Option<&str>,
    names: &[Reference],
    images: &ImageSet,
    blobs: &dyn BlobSource,
    stamps: Option<&Store>,
) -> Result<Receipt, TransportError> {
    fs::create_dir_all(dir).map_err(at("create", dir))?;
    let lock = File::open(dir).map_err(at("open", dir))?;
    lock.lock().map_err(at("lock", dir))?;
    let mut index = prepare(dir)?;
    let before = index.clone();
    let names = image_names(reference, names);
    for name in &names {
        let mut entry = images.root();
        entry.annotations = name.annotations();
        put_entry(&mut index, entry);
    }
    let bytes = put_blobs(dir, images, blobs, stamps)?;
    let receipt = |written| Receipt {
        path: dir.to_owned(),
        reference: names.first().and_then(|name| name.ref_name.clone()),
        bytes,
        written,
    };
    if before.as_ref() == index.as_ref() && bytes == 0 {
        return Ok(receipt(Written::Unchanged));
    }
    let index = index.unwrap_or_else(empty_index);
    put_file(dir, "index.json", &json::to_vec(&index))?;
    Ok(receipt(Written::New))
}

fn empty_index() -> Index {
    Index::new(DocumentFormat::Oci.index(), Vec::new())
}

/// Makes sure that `dir` is a layout; gives its index, if it has one yet.
fn prepare(dir: &Path) -> Result<Option<Index>, TransportError> {
    if let Some(marker) =
        disk::read_small(&dir.join("oci-layout"), layout::MOST_DOCUMENT).map_err(at("read", dir))?
    {
        disk::remove_stale(dir, disk::TEMPORARY).map_err(at("clear", dir))?;
        let index = dir.join("index.json");
        // A layout whose first writer was killed has no index yet.
        if disk::open_regular(&index)
            .map_err(at("read", &index))?
            .is_none()
        {
            let version: OciLayout = layout::parse(dir, "oci-layout", &marker)?;
            return match version == OciLayout::default() {
                true => Ok(None),
                false => Err(foreign(dir, "it is a layout of another version")),
            };
        }
        return layout::index(&LayoutDir::new(dir)).map(Some);
    }
    for entry in fs::read_dir(dir).map_err(at("list", dir))? {
        let name = entry.map_err(at("list", dir))?.file_name();
        if !disk::is_temporary(&name) {
            return Err(foreign(
                dir,
                &format!(
                    "it is no OCI layout and not empty: it holds {name:?}; name a new directory"
                ),
            ));
        }
    }
    disk::remove_stale(dir, disk::TEMPORARY).map_err(at("clear", dir))?;
    put_file(dir, "oci-layout", &json::to_vec(&OciLayout::default()))?;
    Ok(None)
}

fn foreign(dir: &Path, problem: &str) -> TransportError {
    TransportError::NotAnImage {
        path: dir.to_owned(),
        problem: problem.to_owned(),
    }
}

/// Puts an entry in the place of the one with its name, or a new one where the order of names wants
/// it: images that are written side by side must not stand in the order of their luck. What others
/// have put there in another order stays in it.
fn put_entry(index: &mut Option<Index>, entry: Descriptor) {
    let entries = &mut index.get_or_insert_with(empty_index).manifests;
    let name = entry.annotations.get(ANNOTATION_REF_NAME).cloned();
    let has_name = |other: &Descriptor| {
        let is_image = other.media_type.is_manifest() || other.media_type.is_index();
        is_image && other.annotations.get(ANNOTATION_REF_NAME) == name.as_ref()
    };
    match entries.iter().position(has_name) {
        None => {
            let is_before =
                |other: &Descriptor| other.annotations.get(ANNOTATION_REF_NAME) <= name.as_ref();
            let place = entries
                .iter()
                .rposition(is_before)
                .map_or(0, |last| last + 1);
            entries.insert(place, entry);
        }
        Some(place) => {
            entries[place] = entry;
            // One name means one image; a layout that had two of them is mended.
            let mut position = 0;
            entries.retain(|other| {
                position += 1;
                position - 1 <= place || !has_name(other)
            });
        }
    }
}

/// Writes the blobs that the layout does not have whole; gives the number of their bytes.
fn put_blobs(
    dir: &Path,
    images: &ImageSet,
    blobs: &dyn BlobSource,
    stamps: Option<&Store>,
) -> Result<u64, TransportError> {
    let folder = dir.join("blobs/sha256");
    fs::create_dir_all(&folder).map_err(at("create", &folder))?;
    disk::remove_stale(&folder, disk::TEMPORARY).map_err(at("clear", &folder))?;
    let layout = LayoutDir::new(dir);
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    for layer in images.layers() {
        if seen.insert(layer.digest) && !has_layer(&layout, layer, stamps)? {
            put_layer(&layout, &folder, layer, blobs)?;
            stamp(&layout.blob_path(&layer.digest), &layer.digest, stamps)?;
            bytes += layer.size;
        }
    }
    for document in images.documents() {
        let (digest, content) = (document.digest(), document.bytes());
        let path = layout.blob_path(&digest);
        let found = disk::read_small(&path, content.len() as u64);
        if found.ok().flatten().as_deref() != Some(content) {
            put_file(&folder, &digest.hex(), content)?;
            bytes += content.len() as u64;
        }
    }
    Ok(bytes)
}

/// Whether a layer is there whole. It is read once after the machine was started, because it may
/// have its size and its name from before a power cut, and not its bytes; then its times tell.
fn has_layer(
    layout: &LayoutDir,
    layer: &Descriptor,
    stamps: Option<&Store>,
) -> Result<bool, TransportError> {
    let path = layout.blob_path(&layer.digest);
    let Some(mut file) = disk::open_regular(&path).map_err(at("read", &path))? else {
        return Ok(false);
    };
    if file.metadata().map_err(at("read", &path))?.len() != layer.size {
        return Ok(false);
    }
    let Some(store) = stamps else {
        return Ok(true);
    };
    let stamp = Stamp::of(&file, &path, &layer.digest, store).map_err(at("read", &path))?;
    if stamp.is_known().map_err(unstamped(&path))? {
        return Ok(true);
    }
    let mut hasher = HashingWriter::new(io::sink());
    io::copy(&mut file, &mut hasher).map_err(at("read", &path))?;
    let is_whole = hasher.finish().1 == layer.digest;
    if is_whole {
        stamp.keep().map_err(unstamped(&path))?;
    }
    Ok(is_whole)
}

/// Notes that the layer that was just put there is whole.
fn stamp(path: &Path, digest: &Digest, stamps: Option<&Store>) -> Result<(), TransportError> {
    let Some(store) = stamps else {
        return Ok(());
    };
    let file = File::open(path).map_err(at("read", path))?;
    let stamp = Stamp::of(&file, path, digest, store).map_err(at("read", path))?;
    stamp.keep_of_own().map_err(unstamped(path))
}

fn unstamped(path: &Path) -> impl FnOnce(StoreError) -> TransportError {
    let failed = at("stamp", path);
    move |error| failed(io::Error::other(error))
}

/// Copies a layer. Between two files the kernel copies, which on file systems that can share
/// blocks is no copy at all; never a hard link, because whoever writes to a layout would then
/// write into the store.
fn put_layer(
    layout: &LayoutDir,
    folder: &Path,
    layer: &Descriptor,
    blobs: &dyn BlobSource,
) -> Result<(), TransportError> {
    let digest = layer.digest;
    let in_store = |source| TransportError::Store { digest, source };
    let path = layout.blob_path(&digest);
    let mut out = disk::temporary_in(folder)?;
    if let Some(file) = blobs.file(&digest).map_err(in_store)? {
        // One byte more than there should be, so that a blob that is too long is noticed.
        let mut source = (&file).take(layer.size + 1);
        let copied = io::copy(&mut source, out.as_file_mut()).map_err(at("write", &path))?;
        if copied != layer.size {
            return Err(in_store(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it has {copied} bytes instead of {}", layer.size),
            )));
        }
    } else {
        let blob = blobs.open(&digest).map_err(in_store)?;
        let blob = blob.ok_or_else(|| in_store(io::ErrorKind::NotFound.into()))?;
        io::copy(&mut VerifyingReader::new(blob, layer), out.as_file_mut()).map_err(|error| {
            match error.kind() {
                io::ErrorKind::InvalidData => in_store(error),
                _ => at("write", &path)(error),
            }
        })?;
    }
    disk::persist(out, &path)
}

fn put_file(folder: &Path, name: &str, content: &[u8]) -> Result<(), TransportError> {
    use io::Write as _;
    let path = folder.join(name);
    let mut out = disk::temporary_in(folder)?;
    out.write_all(content).map_err(at("write", &path))?;
    disk::persist(out, &path)
}

#[cfg(test)]
mod tests;
