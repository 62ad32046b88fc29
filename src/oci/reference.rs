//! References: repository plus tag or digest, normalised as Docker does.
//!
//! `alpine` means `docker.io/library/alpine:latest`. The grammar is the distribution spec's
//! ("Pulling manifests") with the domain rules of `distribution/reference`.

use std::fmt;
use std::str::FromStr;

use crate::oci::digest::{Digest, DigestError};

/// A full reference: domain, repository path, and a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The repository part is empty or has a character outside the grammar.
    #[error("{0:?} is no repository: use lower-case letters, digits and . _ - between slashes")]
    Repository(String),
    /// The domain is malformed.
    #[error("{0:?} is no registry host")]
    Domain(String),
    /// The tag is malformed.
    #[error("{0:?} is no tag: use up to 128 letters, digits and . _ -, not beginning with . or -")]
    Tag(String),
    /// The digest is malformed.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

const DEFAULT_DOMAIN: &str = "docker.io";

impl Reference {
    /// The registry host, with a port where one was written.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository below the registry: `library/alpine`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Registry and repository without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag, if one was written (or added by [`Reference::with_default_tag`]).
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        Ok(Reference {
            tag: Some(valid_tag(tag)?.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same reference, which from now on means the document with this digest, wherever its tag
    /// goes.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Reference {
        self.digest = Some(digest);
        self
    }

    /// The same reference, `:latest` if it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon before the last slash belongs to the port of the domain.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(valid_tag(tag)?.to_owned())),
            _ => (name, None),
        };
        let (domain, path) = match name.split_once('/') {
            Some((domain, path)) if is_domain(domain) => (domain, path.to_owned()),
            Some(_) => (DEFAULT_DOMAIN, name.to_owned()),
            None => (DEFAULT_DOMAIN, name.to_owned()),
        };
        let (domain, path) = match domain {
            "docker.io" | "index.docker.io" if !path.contains('/') => {
                (DEFAULT_DOMAIN, format!("library/{path}"))
            }
            "index.docker.io" => (DEFAULT_DOMAIN, path),
            domain => (domain, path),
        };
        if !is_repository(&path) || path.len() + domain.len() > 255 {
            return Err(ReferenceError::Repository(name.to_owned()));
        }
        if !is_valid_host(domain) {
            return Err(ReferenceError::Domain(domain.to_owned()));
        }
        Ok(Reference {
            domain: domain.to_owned(),
            path,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest
            .iter()
            .try_for_each(|digest| write!(f, "@{digest}"))
    }
}

/// The first part of a name is a host if it could not be a repository on the default one.
fn is_domain(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_valid_host(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let host_is_valid = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        }),
    };
    host_is_valid && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Lower-case alphanumerics, separated by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    let separators = component.split(|c: char| c.is_ascii() && is_word(c as u8));
    is_word(first)
        && is_word(last)
        && separators
            .filter(|separator| !separator.is_empty())
            .all(|separator| {
                matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
            })
}

/// Whether a text is a repository below a registry, as `library/alpine` is.
pub(crate) fn is_repository(path: &str) -> bool {
    path.len() <= 255 && path.split('/').all(is_path_component)
}

/// Whether a text is a tag.
pub(crate) fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag
            .bytes()
            .all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

fn valid_tag(tag: &str) -> Result<&str, ReferenceError> {
    match is_tag(tag) {
        true => Ok(tag),
        false => Err(ReferenceError::Tag(tag.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_full() {
        let digest = Digest::of(b"x");
        let with_digest = format!("a/b@{digest}");
        let full_with_digest = format!("docker.io/a/b@{digest}");
        for (text, full) in [
            ("alpine", "docker.io/library/alpine"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("docker.io/alpine", "docker.io/library/alpine"),
            ("index.docker.io/acme/app", "docker.io/acme/app"),
            ("acme/app", "docker.io/acme/app"),
            ("localhost/app:1", "localhost/app:1"),
            ("127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t"),
            ("[::1]:5000/a", "[::1]:5000/a"),
            ("quay.io/a/b__c--d.e", "quay.io/a/b__c--d.e"),
            (with_digest.as_str(), full_with_digest.as_str()),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), full);
        }
    }

    #[test]
    fn what_is_outside_the_grammar_is_refused() {
        for text in [
            "",
            ":",
            "a:",
            "a:-x",
            "a b",
            "Alpine",
            "a//b",
            "a/",
            "/a",
            "a..b",
            "a___b",
            "a_",
            "-a",
            "a@sha256:12",
            "a@",
            "host:port/a",
            "h.x:99999/a",
            "é",
            "a:b:c",
            "..",
            "a/../b",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn latest_is_added_only_where_nothing_is_said() {
        let latest = |text: &str| {
            text.parse::<Reference>()
                .unwrap()
                .with_default_tag()
                .to_string()
        };
        assert_eq!(latest("a/b"), "docker.io/a/b:latest");
        assert_eq!(latest("a/b:1"), "docker.io/a/b:1");
    }
}
