//! The way to registries: a finished image, from a file or just built, goes into repositories.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::build::error::BuildError;
use crate::build::event::{Event, Observer, OutputState};
use crate::oci::{Digest, Reference};
use crate::spec::ImageSource;
use crate::store::Store;
use crate::transport::registry::{
    Delivery, Destination, Progress, PushNews, PushedBlob, RegistryClient, RegistryError,
    RegistrySettings,
};
use crate::transport::{Parcel, TransportError};

/// What to push and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushRequest {
    /// The image: a layout, an archive or one in a registry. Paths are relative to the working directory.
    pub source: ImageSource,
    /// Repositories with the tags that the image gets there; `latest` where none is said.
    pub references: Vec<Reference>,
    /// The store's directory: what was pushed and how far uploads have come is kept there.
    pub store_root: PathBuf,
    /// Registries: where they are and who we are there.
    pub registries: RegistrySettings,
}

/// What came of pushing an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PushReport {
    /// Digest of the manifest, or of the index above several.
    pub digest: Digest,
    /// How many layers stayed out because nobody may pass them on.
    pub foreign_layers: usize,
    /// One for each repository, in the order in which they were asked for.
    pub pushes: Vec<PushLine>,
}

/// One repository that was pushed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PushLine {
    /// Registry and repository.
    pub repository: String,
    /// The tags that the image has there now; without any it is known by its digest.
    pub tags: Vec<String>,
    /// The digest by which the registry knows it.
    pub digest: Digest,
    /// The blobs, layers first.
    pub blobs: Vec<PushedBlob>,
    /// How many manifests and indexes were sent.
    pub documents: usize,
    /// Bytes on the wire from us: everything, requests and their headers among it.
    pub bytes_sent: u64,
    /// Bytes on the wire to us.
    pub bytes_received: u64,
    /// Whether anything was not there before.
    pub state: OutputState,
}

impl PushLine {
    /// The full names under which the image can be pulled.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let repository = &self.repository;
        let by_digest = self.tags.is_empty();
        let by_digest = by_digest.then(|| format!("{repository}@{}", self.digest));
        let tags = self
            .tags
            .iter()
            .map(move |tag| format!("{repository}:{tag}"));
        tags.chain(by_digest)
    }
}

/// Pushes an image that lies in a file or in another registry.
///
/// # Errors
/// An image that cannot be read, and whatever a registry fails with. Repositories that were done
/// before stay so.
pub fn push(request: &PushRequest, observer: &dyn Observer) -> Result<PushReport, BuildError> {
    let registries = RegistryClient::new(request.registries.clone());
    if registries.is_offline() {
        let name = request.references.first().map(Reference::repository);
        let error = RegistryError::OfflinePush(name.unwrap_or_default());
        return Err(TransportError::from(error).into());
    }
    let store = Store::open(&request.store_root)?;
    let parcel = match &request.source {
        ImageSource::Registry(reference) => Parcel::of_registry(&registries, reference, &store)?,
        file => Parcel::open(file, Path::new(""), &store)?,
    };
    let digest = parcel.root().digest;
    let to = destinations(&request.references, &["latest".to_owned()], &digest)?;
    let sender = Sender {
        parcel: &parcel,
        store: &store,
        registries: &registries,
        observer,
    };
    let pushes = to.iter().map(|to| sender.send(to));
    Ok(PushReport {
        digest,
        foreign_layers: parcel.foreign(),
        pushes: pushes.collect::<Result<_, _>>()?,
    })
}

/// The repositories of references, each once with all its tags; `tags` for those that say none.
pub(crate) fn destinations(
    references: &[Reference],
    tags: &[String],
    digest: &Digest,
) -> Result<Vec<Destination>, BuildError> {
    let mut found: Vec<Destination> = Vec::new();
    for reference in references {
        if let Some(wanted) = reference.digest().filter(|wanted| *wanted != digest) {
            let wanted = format!("{}@{wanted}", reference.repository());
            let error = RegistryError::OtherDigest {
                wanted,
                found: *digest,
            };
            return Err(TransportError::from(error).into());
        }
        let tags = match (reference.tag(), reference.digest()) {
            (Some(tag), _) => vec![tag.to_owned()],
            (None, Some(_)) => Vec::new(),
            (None, None) => tags.to_vec(),
        };
        let name = reference.repository();
        let known = found
            .iter_mut()
            .find(|known| known.repository.repository() == name);
        match known {
            Some(known) => {
                for tag in tags {
                    if !known.tags.contains(&tag) {
                        known.tags.push(tag);
                    }
                }
            }
            None => found.push(Destination {
                repository: reference.clone(),
                tags,
            }),
        }
    }
    Ok(found)
}

/// Sends one image to any number of places.
pub(crate) struct Sender<'a> {
    pub(crate) parcel: &'a Parcel<'a>,
    pub(crate) store: &'a Store,
    pub(crate) registries: &'a RegistryClient,
    pub(crate) observer: &'a dyn Observer,
}

impl Sender<'_> {
    pub(crate) fn send(&self, to: &Destination) -> Result<PushLine, BuildError> {
        let repository = to.repository.repository();
        let watch = |news: PushNews<'_>| {
            let name = &repository;
            self.observer.event(match news {
                PushNews::Progress(Progress { done, total }) => {
                    Event::PushProgress { name, done, total }
                }
                PushNews::Blob(blob) => Event::BlobPushed {
                    name,
                    digest: blob.digest,
                    size: blob.size,
                    delivery: blob.delivery,
                    sent: blob.sent,
                },
            });
        };
        let pushed = self.registries.push(self.parcel, to, self.store, &watch)?;
        let is_new = |blob: &PushedBlob| blob.delivery != Delivery::Present;
        let line = PushLine {
            repository: repository.clone(),
            tags: to.tags.clone(),
            digest: pushed.digest,
            state: match pushed.documents > 0 || pushed.blobs.iter().any(is_new) {
                true => OutputState::Written,
                false => OutputState::Unchanged,
            },
            blobs: pushed.blobs,
            documents: pushed.documents,
            bytes_sent: pushed.traffic.sent,
            bytes_received: pushed.traffic.received,
        };
        for name in line.names() {
            self.observer.event(Event::ImagePushed {
                name: &name,
                digest: line.digest,
                sent: line.bytes_sent,
                received: line.bytes_received,
                state: line.state,
            });
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(references: &[&str], tags: &[&str]) -> Result<Vec<String>, String> {
        let references: Vec<Reference> = references
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let found = destinations(&references, &tags, &Digest::of(b"x"));
        let found = found.map_err(|error| error.to_string())?;
        let show =
            |to: &Destination| format!("{} {}", to.repository.repository(), to.tags.join(","));
        Ok(found.iter().map(show).collect())
    }

    #[test]
    fn references_of_one_repository_are_one_destination() {
        let here = format!("r.x/a@{}", Digest::of(b"x"));
        let other = format!("r.x/a@{}", Digest::of(b"y"));
        for (references, tags, expected) in [
            (
                vec!["r.x/a:1", "r.x/b", "r.x/a:2", "r.x/a:1"],
                vec!["latest"],
                vec!["r.x/a 1,2", "r.x/b latest"],
            ),
            (
                vec!["r.x/a"],
                vec!["1.4", "latest"],
                vec!["r.x/a 1.4,latest"],
            ),
            (vec!["r.x/a"], vec![], vec!["r.x/a "]),
            (vec![&here], vec!["latest"], vec!["r.x/a "]),
        ] {
            assert_eq!(shown(&references, &tags).unwrap(), expected);
        }
        assert!(shown(&[&other], &[]).unwrap_err().contains("write a tag"));
    }
}
