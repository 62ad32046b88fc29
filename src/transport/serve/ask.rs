//! What is asked: a path of the distribution API, its names and digests checked.
//!
//! Nothing of a request becomes a path of this machine: what leaves this file is a name that
//! follows the grammar, and is only ever looked up in a map, or a [`Digest`].

use crate::oci::reference::{is_repository, is_tag};
use crate::oci::{Digest, DigestError};
use crate::transport::serve::answer::Answer;
use crate::transport::serve::head::Head;

/// A request of the distribution API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Whether this is a registry at all.
    Base,
    /// Which repositories there are: no part of the OCI spec, but of Docker's before it.
    Repositories(Page),
    Tags(String, Page),
    Manifest(String, Name),
    Blob(Digest),
    /// An upload, which is never under way here.
    Upload,
    Referrers {
        digest: Digest,
        artifact_type: Option<String>,
    },
}

/// What a manifest is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Tag(String),
    Digest(Digest),
}

/// Which part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Page {
    /// At most so many.
    pub(crate) most: Option<usize>,
    /// Only what comes after this.
    pub(crate) last: Option<String>,
}

impl Ask {
    /// What a head asks for; the error is the answer to what makes no sense, whatever its method.
    pub(crate) fn of(head: &Head) -> Result<Ask, Box<Answer>> {
        let unknown = || {
            let message = "there is nothing here; the registry is at /v2/";
            Box::new(Answer::error(404, "UNSUPPORTED", message))
        };
        let rest = head.path.strip_prefix("/v2").ok_or_else(unknown)?;
        if rest.is_empty() || rest == "/" {
            return Ok(Ask::Base);
        }
        let rest = rest.strip_prefix('/').ok_or_else(unknown)?;
        if rest == "_catalog" {
            return Ok(Ask::Repositories(page(head)?));
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Ask::Tags(repository(name)?, page(head)?));
        }
        // Repositories may be called `blobs` or `manifests`, therefore from behind.
        let (rest, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
        if let Some(name) = rest.strip_suffix("/blobs/uploads") {
            repository(name)?;
            return Ok(Ask::Upload);
        }
        let (name, kind) = rest.rsplit_once('/').ok_or_else(unknown)?;
        match kind {
            "manifests" => {
                let name = repository(name)?;
                manifest(last).map(|reference| Ask::Manifest(name, reference))
            }
            "blobs" if last == "uploads" => repository(name).map(|_| Ask::Upload),
            "blobs" => {
                repository(name)?;
                digest(last, "BLOB_UNKNOWN").map(Ask::Blob)
            }
            "referrers" => {
                repository(name)?;
                Ok(Ask::Referrers {
                    digest: digest(last, "MANIFEST_UNKNOWN")?,
                    artifact_type: head.parameter("artifactType").map(str::to_owned),
                })
            }
            _ => Err(unknown()),
        }
    }
}

fn repository(name: &str) -> Result<String, Box<Answer>> {
    match is_repository(name) {
        true => Ok(name.to_owned()),
        false => {
            let message = "a repository has lower-case letters, digits and . _ - between slashes";
            Err(Box::new(Answer::error(400, "NAME_INVALID", message)))
        }
    }
}

fn manifest(reference: &str) -> Result<Name, Box<Answer>> {
    if reference.contains(':') {
        return digest(reference, "MANIFEST_UNKNOWN").map(Name::Digest);
    }
    match is_tag(reference) {
        true => Ok(Name::Tag(reference.to_owned())),
        // The conformance tests ask for one, and want to hear that it is not there.
        false => {
            let message = "no manifest can have this tag";
            Err(Box::new(Answer::error(404, "MANIFEST_UNKNOWN", message)))
        }
    }
}

/// A digest. One of another algorithm than ours may be right, but nothing here has it.
fn digest(text: &str, code: &str) -> Result<Digest, Box<Answer>> {
    text.parse().map_err(|error| {
        Box::new(match error {
            DigestError::Algorithm(_) => {
                Answer::error(404, code, "blobs are kept by their sha256 digests here")
            }
            _ => {
                let message = "a digest is sha256: and 64 lower-case hex digits";
                Answer::error(400, "DIGEST_INVALID", message)
            }
        })
    })
}

fn page(head: &Head) -> Result<Page, Box<Answer>> {
    let most = head.parameter("n").map(str::parse).transpose();
    let most = most.map_err(|_| {
        let message = "n is a number of entries";
        Box::new(Answer::error(400, "PAGINATION_NUMBER_INVALID", message))
    })?;
    Ok(Page {
        most,
        last: head.parameter("last").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str) -> Result<Ask, u16> {
        let head = Head {
            path: path.to_owned(),
            ..Head::default()
        };
        Ask::of(&head).map_err(|answer| answer.status)
    }

    #[test]
    fn paths_are_read_from_behind() {
        let digest = Digest::of(b"x");
        let manifest = |name: &str, reference| Ok(Ask::Manifest(name.to_owned(), reference));
        let tag = |tag: &str| Name::Tag(tag.to_owned());
        for (path, expected) in [
            ("/v2".to_owned(), Ok(Ask::Base)),
            ("/v2/".to_owned(), Ok(Ask::Base)),
            (
                "/v2/_catalog".to_owned(),
                Ok(Ask::Repositories(Page::default())),
            ),
            ("/v2/a/manifests/1".to_owned(), manifest("a", tag("1"))),
            (
                "/v2/blobs/manifests/tags/list".to_owned(),
                Ok(Ask::Tags("blobs/manifests".to_owned(), Page::default())),
            ),
            (
                "/v2/tags/list/manifests/x".to_owned(),
                manifest("tags/list", tag("x")),
            ),
            (
                format!("/v2/a/b/manifests/{digest}"),
                manifest("a/b", Name::Digest(digest)),
            ),
            (
                format!("/v2/a/manifests/blobs/{digest}"),
                Ok(Ask::Blob(digest)),
            ),
            ("/v2/a/blobs/uploads".to_owned(), Ok(Ask::Upload)),
            ("/v2/a/blobs/uploads/".to_owned(), Ok(Ask::Upload)),
            ("/v2/a/blobs/uploads/0-1".to_owned(), Ok(Ask::Upload)),
            (
                format!("/v2/a/referrers/{digest}"),
                Ok(Ask::Referrers {
                    digest,
                    artifact_type: None,
                }),
            ),
        ] {
            assert_eq!(asked(&path), expected, "{path}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_from_what_is_not_there() {
        let digest = Digest::of(b"x");
        let long = "a".repeat(256);
        for (path, status) in [
            ("/".to_owned(), 404),
            ("*".to_owned(), 404),
            ("/v1/".to_owned(), 404),
            ("/v2a/".to_owned(), 404),
            ("/v2/a".to_owned(), 404),
            ("/v2/a/b/c".to_owned(), 404),
            (format!("/v2/../../etc/blobs/{digest}"), 400),
            (format!("/v2/a/../b/blobs/{digest}"), 400),
            (format!("/v2//a/blobs/{digest}"), 400),
            (format!("/v2/A/blobs/{digest}"), 400),
            (format!("/v2/a\0/blobs/{digest}"), 400),
            (format!("/v2/{long}/blobs/{digest}"), 400),
            (format!("/v2//blobs/{digest}"), 400),
            ("/v2/a/blobs/sha256:12".to_owned(), 400),
            ("/v2/a/blobs/../../../x".to_owned(), 404),
            ("/v2/a/blobs/..".to_owned(), 400),
            ("/v2/a/manifests/sha256:totallywrong".to_owned(), 400),
            ("/v2/a/manifests/.INVALID_MANIFEST_NAME".to_owned(), 404),
            ("/v2/a/manifests/".to_owned(), 404),
            (format!("/v2/a/blobs/sha512:{}", "0".repeat(128)), 404),
            ("/v2/a/referrers/x".to_owned(), 400),
        ] {
            assert_eq!(asked(&path), Err(status), "{path}");
        }
    }
}
