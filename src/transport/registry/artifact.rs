//! Artifacts: manifests whose layers are no layers of an image, such as a build cache.
//!
//! OCI image spec, `manifest.md`, "Guidelines for Artifact Usage".

use std::collections::BTreeMap;

use crate::oci::document::Manifest;
use crate::oci::{Descriptor, MediaType, Reference, json};
use crate::store::Store;
use crate::transport::error::TransportError;
use crate::transport::layout::{self, LayoutFiles};
use crate::transport::registry::client::RegistryClient;
use crate::transport::registry::error::RegistryError;
use crate::transport::registry::pull;
use crate::transport::registry::remote::Remote;

/// The config of an artifact that has none. Image spec, "Guidance for an Empty Descriptor".
pub(crate) const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// The manifest of an artifact of this type, with these blobs and notes.
pub(crate) fn manifest(
    artifact_type: &str,
    layers: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
) -> (Vec<u8>, Descriptor) {
    let config = Descriptor::of(MediaType::from(EMPTY_TYPE), EMPTY);
    let bytes = json::to_vec(&Manifest {
        schema_version: 2,
        media_type: Some(MediaType::OciManifest),
        config: config.clone(),
        layers,
        annotations,
        other: BTreeMap::from([("artifactType".to_owned(), artifact_type.into())]),
    });
    (bytes, config)
}

impl RegistryClient {
    /// The manifest of an artifact, asked for at the registry itself: a mirror may lag behind.
    ///
    /// # Errors
    /// No network, no such artifact, one of another type, documents that are not what their
    /// digests say.
    pub fn artifact(
        &self,
        reference: &Reference,
        artifact_type: &str,
        store: &Store,
    ) -> Result<Manifest, TransportError> {
        let reference = reference.clone().with_default_tag();
        let wrong = |problem: &str| RegistryError::Document {
            what: reference.to_string(),
            problem: problem.to_owned(),
        };
        let (_, manifest) = self.browse(&reference, store, |files, root| {
            match root.media_type.is_manifest() {
                true => layout::document::<Manifest>(files, root),
                false => Err(wrong("it is an index").into()),
            }
        })?;
        let said = manifest.other.get("artifactType");
        match said.and_then(|said| said.as_str()) == Some(artifact_type) {
            true => Ok(manifest),
            false => Err(wrong(&format!("it is no {artifact_type}")).into()),
        }
    }

    /// Walks an image or artifact from its root down, at the registry itself.
    pub(crate) fn browse<T>(
        &self,
        reference: &Reference,
        store: &Store,
        walk: impl FnOnce(&dyn LayoutFiles, &Descriptor) -> Result<T, TransportError>,
    ) -> Result<(Descriptor, T), TransportError> {
        let endpoint = self.itself(reference)?;
        let remote = Remote::new(self, &endpoint, store, reference);
        let root = remote.resolve(reference)?;
        let found = walk(&remote, &root)?;
        Ok((root, found))
    }

    /// Brings blobs of an artifact or image into the store, those that are not here, several at once.
    ///
    /// # Errors
    /// No network, blobs that are missing or not what their digests say, a full disk.
    pub fn artifact_blobs(
        &self,
        reference: &Reference,
        blobs: &[Descriptor],
        store: &Store,
    ) -> Result<(), TransportError> {
        let endpoint = self.itself(reference)?;
        let remote = Remote::new(self, &endpoint, store, reference);
        pull::fetch_layers(&remote, blobs, self.settings().parallel.get(), &|_| {})
    }
}
