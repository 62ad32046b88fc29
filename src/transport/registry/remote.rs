//! A repository as the files of a layout, so that what reads layouts reads registries, too.
//!
//! Documents that are in the store are not fetched again; those that are not go there. A document
//! is believed only if its digest is the one that was asked for. Distribution spec, "Pulling
//! manifests", "Pulling blobs".

use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use ureq::http::Method;

use crate::oci::{BlobReader, BlobSource, Descriptor, Digest, MediaType, Reference};
use crate::store::Store;
use crate::transport::error::TransportError;
use crate::transport::http::Response;
use crate::transport::layout::{LayoutFiles, MOST_DOCUMENT};
use crate::transport::registry::client::{Access, Call, Place, RegistryClient};
use crate::transport::registry::endpoint::Endpoint;
use crate::transport::registry::error::RegistryError;

/// One repository in one place.
pub(crate) struct Remote<'a> {
    pub(crate) client: &'a RegistryClient,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) store: &'a Store,
    /// The reference, where layouts have a path.
    pub(crate) name: PathBuf,
    pub(crate) access: [Access; 1],
}

/// What we can read.
const ACCEPT: [MediaType; 4] = [
    MediaType::OciIndex,
    MediaType::DockerIndex,
    MediaType::OciManifest,
    MediaType::DockerManifest,
];

/// Manifests of Docker before 1.10, which name layers by other digests than their own.
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";

impl<'a> Remote<'a> {
    pub(crate) fn new(
        client: &'a RegistryClient,
        endpoint: &'a Endpoint,
        store: &'a Store,
        reference: &Reference,
    ) -> Remote<'a> {
        Remote {
            client,
            endpoint,
            store,
            name: PathBuf::from(reference.to_string()),
            access: [Access {
                repository: endpoint.repository.clone(),
                actions: "pull",
            }],
        }
    }

    /// The document that a reference is now. A tag is always asked for, a digest only if its
    /// document is not here.
    pub(crate) fn resolve(&self, reference: &Reference) -> Result<Descriptor, RegistryError> {
        let known = |digest: &Digest| match stored(self.store, digest) {
            Ok(Some(bytes)) => described(&bytes, None).ok(),
            Ok(None) | Err(_) => None,
        };
        if let Some(digest) = reference.digest() {
            return match known(digest) {
                Some(found) => Ok(found),
                None if self.client.is_offline() => {
                    Err(RegistryError::Offline(reference.to_string()))
                }
                None => self.fetch_manifest(&digest.to_string(), Some(*digest)),
            };
        }
        let tag = reference.tag().unwrap_or("latest");
        let place = format!("manifests/{tag}");
        let head = self.call(Method::HEAD, &place, &[])?;
        if head.is_success()
            && let Some(digest) = head.header("docker-content-digest")
            && let Ok(digest) = digest.trim().parse()
        {
            return match known(&digest) {
                Some(found) => Ok(found),
                None => self.fetch_manifest(&digest.to_string(), Some(digest)),
            };
        }
        // One that is in trouble has been asked often enough.
        if head.status() == 429 || head.status() >= 500 {
            let what = self.manifest(tag);
            return Err(RegistryError::refused(format!("read {what}"), head));
        }
        // Some registries know no HEAD, or say no digest.
        self.fetch_manifest(tag, None)
    }

    /// Fetches a manifest or index into the store.
    fn fetch_manifest(
        &self,
        name: &str,
        expected: Option<Digest>,
    ) -> Result<Descriptor, RegistryError> {
        let what = self.manifest(name);
        let answer = self.call(Method::GET, &format!("manifests/{name}"), &[])?;
        if !answer.is_success() {
            return Err(RegistryError::refused(format!("read {what}"), answer));
        }
        let media_type = answer.header("content-type").map(str::to_owned);
        let bytes = answer
            .small(MOST_DOCUMENT)
            .map_err(RegistryError::http(format!("read {what}")))?;
        let found = Digest::of(&bytes);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(RegistryError::WrongDigest {
                what,
                expected,
                found,
            });
        }
        let described = described(&bytes, media_type.as_deref())
            .map_err(|problem| RegistryError::Document { what, problem })?;
        self.keep(&bytes)?;
        Ok(described)
    }

    /// A manifest, for messages.
    fn manifest(&self, name: &str) -> String {
        let Endpoint {
            host, repository, ..
        } = self.endpoint;
        format!("manifest {name} of {host}/{repository}")
    }

    /// Asks the repository; a layer from `offset` on.
    pub(crate) fn blob(&self, digest: &Digest, offset: u64) -> Result<Response, RegistryError> {
        let range = (offset > 0).then(|| ("range", format!("bytes={offset}-")));
        let range: Vec<_> = range.into_iter().collect();
        self.call(Method::GET, &format!("blobs/{digest}"), &range)
    }

    fn call(
        &self,
        method: Method,
        place: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Response, RegistryError> {
        let mut call = Call::new(method, Place::Repository(place), &self.access);
        call.headers = headers.to_vec();
        if place.starts_with("manifests/") {
            let accepted = ACCEPT.map(|one| one.as_str().to_owned()).join(", ");
            call.headers.push(("accept", accepted));
        }
        self.client.call(self.endpoint, &call)
    }

    fn keep(&self, bytes: &[u8]) -> Result<(), RegistryError> {
        self.store
            .put_blob(bytes)
            .map(drop)
            .map_err(|error| RegistryError::Document {
                what: "a document into the store".to_owned(),
                problem: error.to_string(),
            })
    }
}

impl BlobSource for Remote<'_> {
    fn open(&self, digest: &Digest) -> io::Result<Option<BlobReader>> {
        if let Some(bytes) = stored(self.store, digest)? {
            return Ok(Some(Box::new(Cursor::new(bytes))));
        }
        let answer = self.blob(digest, 0).map_err(io::Error::other)?;
        if !answer.is_success() {
            let action = format!("read blob {digest} of {}", self.endpoint.host);
            return Err(io::Error::other(RegistryError::refused(action, answer)));
        }
        let bytes = answer.small(MOST_DOCUMENT).map_err(io::Error::other)?;
        // What is wrong is told by whoever reads it; it only must not stay.
        if Digest::of(&bytes) == *digest {
            self.keep(&bytes).map_err(io::Error::other)?;
        }
        Ok(Some(Box::new(Cursor::new(bytes))))
    }
}

impl LayoutFiles for Remote<'_> {
    fn path(&self) -> &Path {
        &self.name
    }

    fn small(&self, _: &str) -> Result<Option<Vec<u8>>, TransportError> {
        // A repository has no files with names.
        Ok(None)
    }

    fn open_document(&self, descriptor: &Descriptor) -> io::Result<Option<BlobReader>> {
        let is_manifest = descriptor.media_type.is_manifest() || descriptor.media_type.is_index();
        if is_manifest && stored(self.store, &descriptor.digest)?.is_none() {
            let name = descriptor.digest.to_string();
            self.fetch_manifest(&name, Some(descriptor.digest))
                .map_err(io::Error::other)?;
        }
        self.open(&descriptor.digest)
    }
}

/// The bytes of a document of the store; `None` if it is not there or damaged.
pub(crate) fn stored(store: &Store, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = BlobSource::open(store, digest)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(MOST_DOCUMENT + 1).read_to_end(&mut bytes)?;
    Ok((Digest::of(&bytes) == *digest).then_some(bytes))
}

/// What a document is: by what it says itself, else by what it was sent as, else by what is in it.
fn described(bytes: &[u8], sent_as: Option<&str>) -> Result<Descriptor, String> {
    #[derive(serde::Deserialize)]
    struct Document {
        #[serde(rename = "schemaVersion")]
        schema_version: Option<u64>,
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let document: Document = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let sent_as = sent_as
        .and_then(|text| text.split(';').next())
        .map(str::trim);
    let is_schema_1 = |text: &str| text.starts_with(SCHEMA_1);
    if document.schema_version == Some(1)
        || document
            .media_type
            .as_deref()
            .or(sent_as)
            .is_some_and(is_schema_1)
    {
        return Err("it is of schema 1, which docker gave up: its layers have no digests of their own bytes; push the image again with a tool of this decade".to_owned());
    }
    let known = |text: &str| {
        let media_type = MediaType::from(text);
        (media_type.is_manifest() || media_type.is_index()).then_some(media_type)
    };
    let by_content = match (document.manifests.is_some(), document.layers.is_some()) {
        (true, false) => Some(MediaType::OciIndex),
        (false, true) => Some(MediaType::OciManifest),
        // Both could be read as either: a document that is two things is refused.
        _ => None,
    };
    let Some(by_content) = by_content else {
        return Err("it is neither a manifest nor an index".to_owned());
    };
    let media_type = (document.media_type.as_deref().and_then(known))
        .or_else(|| sent_as.and_then(known))
        .unwrap_or_else(|| by_content.clone());
    if media_type.is_index() != by_content.is_index() {
        return Err(format!(
            "it says that it is {media_type}, and holds something else"
        ));
    }
    Ok(Descriptor::of(media_type, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_what_they_say_and_hold() {
        let index = MediaType::DockerIndex.as_str().to_owned();
        for (text, sent_as, expected) in [
            (
                r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(),
                None,
                Ok(MediaType::OciIndex),
            ),
            (
                r#"{"schemaVersion":2,"layers":[]}"#.to_owned(),
                Some("application/json"),
                Ok(MediaType::OciManifest),
            ),
            (
                r#"{"schemaVersion":2,"layers":[]}"#.to_owned(),
                Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"),
                Ok(MediaType::DockerManifest),
            ),
            (
                format!(r#"{{"mediaType":"{index}","manifests":[]}}"#),
                Some("text/plain"),
                Ok(MediaType::DockerIndex),
            ),
            (
                r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
                None,
                Err("schema 1"),
            ),
            (
                r#"{"layers":[],"manifests":[]}"#.to_owned(),
                None,
                Err("neither"),
            ),
            (
                format!(r#"{{"mediaType":"{index}","layers":[]}}"#),
                None,
                Err("something else"),
            ),
            ("<html>".to_owned(), None, Err("expected value")),
        ] {
            match (described(text.as_bytes(), sent_as), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.media_type, expected, "{text}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
