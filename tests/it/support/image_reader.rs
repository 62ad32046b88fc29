//! Reads an image back from a layout or an archive, and checks every digest, size and diff_id on
//! the way: the judge of what the library writes.

use std::path::Path;

use serde_json::Value;

use super::file_set::FileSet;
use super::listing::{Listing, content_of, decompressed};

/// An image whose every pointer was followed and found right.
#[derive(Debug)]
pub(crate) struct ReadImage {
    /// The digest of the manifest.
    pub(crate) digest: String,
    pub(crate) manifest: Value,
    pub(crate) config: Value,
    /// The stored bytes of the layers, lowest first.
    pub(crate) layers: Vec<Vec<u8>>,
}

impl ReadImage {
    /// The one image for this machine in the layout directory or archive at `path`; panics at the
    /// first thing that is not as it should be.
    #[track_caller]
    pub(crate) fn at(path: &Path) -> ReadImage {
        let read = FileSet::read(path).and_then(|set| ReadImage::of(&set));
        read.unwrap_or_else(|wrong| panic!("{}: {wrong}", path.display()))
    }

    /// The same from files in memory, or the first thing that is wrong.
    pub(crate) fn of(set: &FileSet) -> Result<ReadImage, String> {
        let layout = json(file(set, "oci-layout")?)?;
        must(
            layout["imageLayoutVersion"] == "1.0.0",
            "the version of the layout",
        )?;
        let index = json(file(set, "index.json")?)?;
        let [entry] = &list(&index["manifests"])?[..] else {
            return Err(format!("loaders want exactly one descriptor: {index:#}"));
        };
        let mut entry = entry.clone();
        while media_type(&entry)?.contains("index") || media_type(&entry)?.contains("list") {
            entry = for_this_machine(&json(blob(set, &entry)?)?)?;
        }
        must(
            media_type(&entry)?.contains("manifest"),
            "the media type of a manifest",
        )?;
        let manifest = json(blob(set, &entry)?)?;
        must(
            manifest["schemaVersion"] == 2,
            "the schema version of a manifest",
        )?;
        let config = json(blob(set, &manifest["config"])?)?;
        let mut layers = Vec::new();
        for descriptor in list(&manifest["layers"])? {
            layers.push(blob(set, descriptor)?.clone());
        }
        let diff_ids: Vec<_> = layers
            .iter()
            .map(|layer| content_of(decompressed(&layer[..])).1)
            .collect();
        must(
            config["rootfs"]["diff_ids"] == serde_json::json!(diff_ids),
            "the diff_ids",
        )?;
        let digest = text(&entry["digest"])?.to_owned();
        Ok(ReadImage {
            digest,
            manifest,
            config,
            layers,
        })
    }

    /// What each layer holds, lowest first.
    pub(crate) fn listings(&self) -> Vec<Listing> {
        self.layers
            .iter()
            .map(|layer| Listing::of_layer(&layer[..]))
            .collect()
    }
}

fn must(holds: bool, what: &str) -> Result<(), String> {
    holds
        .then_some(())
        .ok_or_else(|| format!("{what} is wrong"))
}

fn media_type(descriptor: &Value) -> Result<&str, String> {
    text(&descriptor["mediaType"])
}

fn text(value: &Value) -> Result<&str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("{value} should be a text"))
}

fn list(value: &Value) -> Result<&Vec<Value>, String> {
    value
        .as_array()
        .ok_or_else(|| format!("{value} should be a list"))
}

fn json(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|cause| format!("a document is no JSON: {cause}"))
}

fn file<'a>(set: &'a FileSet, path: &str) -> Result<&'a Vec<u8>, String> {
    set.files
        .get(path)
        .ok_or_else(|| format!("{path} is missing"))
}

fn for_this_machine(index: &Value) -> Result<Value, String> {
    let here = super::image_fixture::architecture();
    let entries = list(&index["manifests"])?;
    let found = entries
        .iter()
        .find(|entry| entry["platform"]["architecture"] == here);
    found
        .cloned()
        .ok_or_else(|| format!("no entry for {here} in {index:#}"))
}

/// The bytes that a descriptor points at.
fn blob<'a>(set: &'a FileSet, descriptor: &Value) -> Result<&'a Vec<u8>, String> {
    let digest = text(&descriptor["digest"])?;
    let path = format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
    let bytes = file(set, &path)?;
    let (size, found) = content_of(&bytes[..]);
    must(found == digest, &format!("the digest of {path}"))?;
    must(descriptor["size"] == size, &format!("the size of {path}"))?;
    Ok(bytes)
}
