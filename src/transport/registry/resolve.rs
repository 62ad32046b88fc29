//! Resolve: what a reference is now, as a lock notes it.

use std::collections::BTreeMap;

use crate::oci::{Descriptor, Digest, Index, Platform, Reference};
use crate::store::Store;
use crate::transport::registry::client::RegistryClient;
use crate::transport::registry::endpoint::{Endpoint, Purpose};
use crate::transport::registry::error::RegistryError;
use crate::transport::registry::known;
use crate::transport::registry::remote::{Remote, stored};

/// What a reference is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The document that the registry gives: an index, or a manifest.
    pub digest: Digest,
    /// The manifests of an index by their platforms in normal form: of several for one the first,
    /// which is the one that a pull takes.
    pub platforms: BTreeMap<Platform, Digest>,
}

/// What builders call the platform of what is no image but a note about one.
const NO_PLATFORM: &str = "unknown";

impl RegistryClient {
    /// What a reference is now, at the first place that has it. Its documents come into the store,
    /// its layers do not.
    ///
    /// Without network it is what the reference was when it was last pulled for one of `platforms`.
    ///
    /// # Errors
    /// No place that has it, documents that are not what their digests say, a store that fails.
    pub fn resolve(
        &self,
        reference: &Reference,
        platforms: &[Platform],
        store: &Store,
    ) -> Result<Resolved, RegistryError> {
        let reference = reference.clone().with_default_tag();
        let top = match self.is_offline() && reference.digest().is_none() {
            true => remembered(&reference, platforms, store)?,
            false => self.ask_for(&reference, store)?,
        };
        Ok(Resolved {
            digest: top.digest,
            platforms: match top.media_type.is_index() {
                true => platforms_of(&index(&reference, &top.digest, store)?),
                false => BTreeMap::new(),
            },
        })
    }

    fn ask_for(&self, reference: &Reference, store: &Store) -> Result<Descriptor, RegistryError> {
        let endpoints = self.endpoints(reference, Purpose::Pull)?;
        let resolve =
            |endpoint: &Endpoint| Remote::new(self, endpoint, store, reference).resolve(reference);
        let (last, mirrors) = endpoints
            .split_last()
            .expect("the registry itself is always an endpoint");
        let of_mirrors = mirrors.iter().find_map(|mirror| resolve(mirror).ok());
        of_mirrors.map_or_else(|| resolve(last), Ok)
    }
}

fn remembered(
    reference: &Reference,
    platforms: &[Platform],
    store: &Store,
) -> Result<Descriptor, RegistryError> {
    for platform in platforms {
        let found = known::recall(store, reference, platform);
        let found = found.map_err(|error| RegistryError::Document {
            what: format!("what {reference} was from the store"),
            problem: error.to_string(),
        });
        if let Some(found) = found? {
            return Ok(found);
        }
    }
    Err(RegistryError::Offline(reference.to_string()))
}

fn index(reference: &Reference, digest: &Digest, store: &Store) -> Result<Index, RegistryError> {
    let wrong = |problem: String| RegistryError::Document {
        what: format!("index {digest} of {reference}"),
        problem,
    };
    let bytes = stored(store, digest).map_err(|error| wrong(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| wrong("the store does not have it any more".to_owned()))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
}

fn platforms_of(index: &Index) -> BTreeMap<Platform, Digest> {
    let mut platforms = BTreeMap::new();
    for entry in &index.manifests {
        let is_image = entry.media_type.is_manifest() || entry.media_type.is_index();
        let said = entry.platform.as_ref().filter(|_| is_image);
        if let Some(said) = said.filter(|said| said.platform.os != NO_PLATFORM) {
            let platform = said.platform.normalized();
            platforms.entry(platform).or_insert(entry.digest);
        }
    }
    platforms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    #[test]
    fn the_first_manifest_of_each_platform_counts_and_notes_do_not() {
        let entry = |platform: &str, content: &str| {
            let platform = platform.parse().unwrap();
            Descriptor::of(MediaType::OciManifest, content.as_bytes()).with_platform(platform)
        };
        let silent = Descriptor::of(MediaType::OciManifest, b"silent");
        let entries = vec![
            entry("linux/arm64/v8", "arm"),
            entry("linux/amd64", "first"),
            entry("linux/amd64", "second"),
            entry("unknown/unknown", "provenance"),
            silent,
        ];
        let found = platforms_of(&Index::new(MediaType::OciIndex, entries));
        let shown: Vec<String> = found.keys().map(ToString::to_string).collect();
        assert_eq!(shown, ["linux/amd64", "linux/arm64"]);
        let amd64 = &found[&"linux/amd64".parse().unwrap()];
        assert_eq!(*amd64, Digest::of(b"first"));
    }
}
