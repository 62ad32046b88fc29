//! Responding: a request of the distribution API becomes an answer.
//!
//! The document of a name is sent as it is, whatever `Accept` says: its digest is what clients came
//! for, so there is nothing to choose, and what a client cannot read it says better than a 406.

use std::io;

use serde_json::json;

use crate::oci::{Descriptor, Digest, MediaType};
use crate::transport::serve::answer::{Answer, Body, Part};
use crate::transport::serve::ask::{Ask, Name, Page};
use crate::transport::serve::catalogue::{page_of, referrers_index};
use crate::transport::serve::head::Head;
use crate::transport::serve::range::{Wanted, wanted};
use crate::transport::serve::shelf::{Loaded, Shelf};

/// The answer to a request. `tell` is told what is wrong with the place.
pub(crate) fn respond(head: &Head, shelf: &Shelf, tell: &dyn Fn(&str)) -> Answer {
    let ask = match Ask::of(head) {
        Ok(ask) => ask,
        Err(answer) => return *answer,
    };
    if !matches!(head.method.as_str(), "GET" | "HEAD") {
        let message = "this registry is read-only: write with `boxwright build -o oci:DIR`";
        return Answer::error(405, "UNSUPPORTED", message).header("Allow", "GET, HEAD");
    }
    if ask == Ask::Base {
        return Answer::document("application/json", b"{}".to_vec());
    }
    let desk = Desk {
        head,
        shelf: &shelf.current(tell),
        tell,
    };
    match ask {
        Ask::Base => unreachable!("it was answered"),
        Ask::Repositories(page) => desk.repositories(&page),
        Ask::Tags(repository, page) => desk.tags(&repository, &page),
        Ask::Manifest(repository, name) => desk.manifest(&repository, &name),
        Ask::Blob(digest) => desk.blob(digest),
        Ask::Upload => Answer::error(404, "BLOB_UPLOAD_UNKNOWN", "nothing is uploaded here"),
        Ask::Referrers {
            digest,
            artifact_type,
        } => desk.referrers(&digest, artifact_type.as_deref()),
    }
}

/// One request, and the place as it is now.
struct Desk<'a> {
    head: &'a Head,
    shelf: &'a Loaded,
    tell: &'a dyn Fn(&str),
}

impl Desk<'_> {
    fn repositories(&self, page: &Page) -> Answer {
        let (repositories, has_more) = self.shelf.catalogue.repositories(page);
        let document = json!({"repositories": repositories});
        listed(&document, "/v2/_catalog", &repositories, has_more)
    }

    fn tags(&self, repository: &str, page: &Page) -> Answer {
        let Some(tags) = self.shelf.catalogue.tags(repository, self.registry()) else {
            return name_unknown(repository);
        };
        // The order of the bytes, one of the two that the spec allows.
        let (tags, has_more) = page_of(tags.keys(), page);
        let document = json!({"name": repository, "tags": tags});
        let path = format!("/v2/{repository}/tags/list");
        listed(&document, &path, &tags, has_more)
    }

    fn manifest(&self, repository: &str, name: &Name) -> Answer {
        let catalogue = &self.shelf.catalogue;
        let found = match name {
            Name::Digest(digest) => Some(digest),
            Name::Tag(tag) => match catalogue.tags(repository, self.registry()) {
                Some(tags) => tags.get(tag),
                None => return name_unknown(repository),
            },
        };
        let Some(descriptor) = found.and_then(|digest| catalogue.document(digest)) else {
            let message = format!("{repository} has no such manifest");
            return Answer::error(404, "MANIFEST_UNKNOWN", message);
        };
        let digest = descriptor.digest;
        match self.shelf.document(descriptor) {
            Ok(Some(bytes)) => self.found(digest, |answer| {
                let media_type = descriptor.media_type.as_str();
                answer
                    .header("Content-Type", media_type)
                    .with(Body::Bytes(bytes))
            }),
            Ok(None) => Answer::error(404, "MANIFEST_UNKNOWN", format!("{digest} is gone")),
            Err(error) => self.damaged(digest, &error),
        }
    }

    fn blob(&self, digest: Digest) -> Answer {
        let place = match self.shelf.blob(&digest) {
            Ok(Some(place)) => place,
            Ok(None) => {
                let message = format!("there is no blob {digest}");
                return Answer::error(404, "BLOB_UNKNOWN", message);
            }
            Err(error) => return self.damaged(digest, &error),
        };
        let size = place.size;
        if let Some(said) = self
            .shelf
            .catalogue
            .size(&digest)
            .filter(|said| *said != size)
        {
            let problem = format!("it has {size} bytes, and should have {said}");
            return self.damaged(digest, &io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let range = match self.range(&digest).map(|header| wanted(header, size)) {
            Some(Wanted::Part(range)) => Some(range),
            Some(Wanted::Nothing) => {
                let message = format!("the blob has {size} bytes");
                return Answer::error(416, "RANGE_INVALID", message)
                    .header("Content-Range", format!("bytes */{size}"));
            }
            Some(Wanted::Whole) | None => None,
        };
        self.found(digest, |answer| {
            let answer = match &range {
                None => answer,
                Some(range) => {
                    let (first, last) = (range.start, range.end - 1);
                    let header = format!("bytes {first}-{last}/{size}");
                    Answer {
                        status: 206,
                        ..answer
                    }
                    .header("Content-Range", header)
                }
            };
            answer
                .header("Content-Type", "application/octet-stream")
                .header("Accept-Ranges", "bytes")
                .with(Body::Blob(Part {
                    digest,
                    place,
                    range: range.unwrap_or(0..size),
                }))
        })
    }

    fn referrers(&self, digest: &Digest, artifact_type: Option<&str>) -> Answer {
        let referrers: Vec<Descriptor> = self.shelf.catalogue.referrers(digest, artifact_type);
        let bytes = referrers_index(referrers);
        let answer = Answer::document(MediaType::OciIndex.as_str(), bytes);
        match artifact_type {
            Some(_) => answer.header("OCI-Filters-Applied", "artifactType"),
            None => answer,
        }
    }

    /// The answer of something that is there, unless the client has it already.
    fn found(&self, digest: Digest, fill: impl FnOnce(Answer) -> Answer) -> Answer {
        let answer = Answer::new(200, Body::Bytes(Vec::new()))
            .header("Docker-Content-Digest", digest.to_string())
            .header("ETag", etag(&digest));
        let known = self.head.if_none_match.as_deref().unwrap_or_default();
        let is_known = known.split(',').map(str::trim).any(|one| {
            let one = one.strip_prefix("W/").unwrap_or(one);
            one == "*" || one == etag(&digest)
        });
        match is_known {
            true => Answer {
                status: 304,
                ..answer
            },
            false => fill(answer),
        }
    }

    /// The range of a request for bytes; one that holds only for other bytes counts for nothing.
    fn range(&self, digest: &Digest) -> Option<&str> {
        let range = self.head.range.as_deref()?;
        let condition = self.head.if_range.as_deref();
        let holds = condition.is_none_or(|condition| condition == etag(digest));
        (self.head.method == "GET" && holds).then_some(range)
    }

    /// Whom a client takes this server for: containerd says so to mirrors.
    fn registry(&self) -> Option<&str> {
        self.head.parameter("ns")
    }

    fn damaged(&self, digest: Digest, error: &io::Error) -> Answer {
        (self.tell)(&format!("{digest} cannot be served: {error}"));
        let message = format!("{digest} is damaged where it is kept: {error}");
        Answer::error(500, "UNKNOWN", message)
    }
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

fn name_unknown(repository: &str) -> Answer {
    Answer::error(
        404,
        "NAME_UNKNOWN",
        format!("there is no repository {repository}"),
    )
}

/// A list, and where it goes on.
fn listed(document: &serde_json::Value, path: &str, shown: &[&str], has_more: bool) -> Answer {
    let answer = Answer::document("application/json", crate::oci::json::to_vec(document));
    // After an empty page there is no last entry, and whoever asks for no entries gets none.
    match shown.last().filter(|_| has_more) {
        Some(last) => {
            let next = format!("<{path}?n={}&last={last}>; rel=\"next\"", shown.len());
            answer.header("Link", next)
        }
        None => answer,
    }
}
