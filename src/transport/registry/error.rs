//! What can go wrong with a registry.

use std::path::PathBuf;
use std::time::Duration;

use crate::oci::Digest;
use crate::transport::http::{HttpError, Response, UrlError};

/// Why a registry gave or took nothing. The texts fit after "failed to" and show no secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry did not answer.
    #[error("{action}")]
    Http {
        /// What was tried, such as `read manifest latest of HOST/NAME`.
        action: String,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// The registry says no.
    #[error("{action}: the registry answers {status}{}", in_its_words(message))]
    Refused {
        /// What was tried.
        action: String,
        /// The status.
        status: u16,
        /// Its reason, in its own words; may be empty.
        message: String,
    },
    /// The registry wants to know who we are, and what we said was not enough.
    #[error("{action}: {registry} {}", denied(credentials.as_deref(), registry))]
    Unauthorized {
        /// What was tried.
        action: String,
        /// The registry's host.
        registry: String,
        /// Where the credentials that it refuses are from; `None` if we have none.
        credentials: Option<String>,
    },
    /// The registry asks for an authorisation that we cannot give.
    #[error("authorise at {registry}: {problem}")]
    Challenge {
        /// The registry's host.
        registry: String,
        /// What is wrong with what it asks.
        problem: String,
    },
    /// The table blocks the registry.
    #[error("use {reference}: the table of registries says that {prefix} is blocked")]
    Blocked {
        /// What was asked for.
        reference: String,
        /// The prefix in the table.
        prefix: String,
    },
    /// A table of registries makes no sense.
    #[error("read the table of registries {}: {problem}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file with credentials makes no sense, or it cannot be written.
    #[error("use the credentials in {}: {problem}", path.display())]
    AuthFile {
        /// The file.
        path: PathBuf,
        /// What is wrong; never what stands in it.
        problem: String,
    },
    /// A credential helper failed.
    #[error("ask docker-credential-{name} for the credentials of {registry}: {problem}")]
    CredentialProgram {
        /// The helper's name behind `docker-credential-`.
        name: String,
        /// The registry.
        registry: String,
        /// What went wrong.
        problem: String,
    },
    /// A document is other than its digest says.
    #[error("read {what}: its bytes have the digest {found}, not {expected}")]
    WrongDigest {
        /// The document and where it is from.
        what: String,
        /// As it should be.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// A document makes no sense.
    #[error("read {what}: {problem}")]
    Document {
        /// The document and where it is from.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// The network may not be used, and the image was never here.
    #[error("use {0} with --offline: it was not pulled before; pull it once without --offline")]
    Offline(String),
    /// The network may not be used, and that is all that a push does.
    #[error("push to {0} with --offline: that needs the network; leave --offline out")]
    OfflinePush(String),
    /// The registry does something that the specification does not know.
    #[error("{action}: the registry misbehaves: {problem}")]
    Misbehaves {
        /// What was tried.
        action: String,
        /// What it does.
        problem: String,
    },
    /// A digest was asked for that the image does not have.
    #[error("push to {wanted}: the image has the digest {found}; write a tag, or no digest")]
    OtherDigest {
        /// As asked for.
        wanted: String,
        /// As it is.
        found: Digest,
    },
    /// No place has the image.
    #[error("find {reference} anywhere: {} and the registry itself failed", failed.join("; "))]
    Nowhere {
        /// What was asked for.
        reference: String,
        /// What the mirrors said, each in a line.
        failed: Vec<String>,
        /// What the registry itself said.
        #[source]
        source: Box<crate::transport::TransportError>,
    },
    /// A place makes no URL.
    #[error(transparent)]
    Url(#[from] UrlError),
}

/// The longest error document that is read.
const MOST_WORDS: u64 = 64 << 10;

impl RegistryError {
    /// What a registry that says no says: distribution spec, "Error Codes".
    pub fn refused(action: impl Into<String>, answer: Response) -> RegistryError {
        let status = answer.status();
        let body = answer.small(MOST_WORDS).unwrap_or_default();
        RegistryError::Refused {
            action: action.into(),
            status,
            message: words(&body),
        }
    }

    /// For `map_err` of a request.
    pub(crate) fn http(action: impl Into<String>) -> impl FnOnce(HttpError) -> RegistryError {
        let action = action.into();
        move |source| RegistryError::Http { action, source }
    }

    /// Whether the registry says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, RegistryError::Refused { status: 404, .. })
    }
}

/// How a helper that is too slow is told.
pub(crate) fn too_slow(limit: Duration) -> String {
    format!("it was still running after {} s", limit.as_secs_f32())
}

/// The first error of an error document, cut to a line. What is no such document is not shown: it
/// is someone's web page.
fn words(body: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let first = &document["errors"][0];
    let parts = ["code", "message"].map(|name| first[name].as_str().unwrap_or_default());
    let detail = first["detail"].as_str().unwrap_or_default();
    let text = [parts[0], parts[1], detail]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ");
    let text = text.chars().take(300);
    text.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn in_its_words(message: &str) -> String {
    match message {
        "" => String::new(),
        message => format!(" ({message})"),
    }
}

fn denied(credentials: Option<&str>, registry: &str) -> String {
    match credentials {
        Some(from) => format!("does not allow it to the account in {from}"),
        None => format!("allows it to known accounts only; run `boxwright login {registry}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_quoted_in_one_short_line() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m","detail":"x"}]}"#;
        assert_eq!(words(body), "DENIED: no [31m: x");
        assert_eq!(words(b"<html>"), "");
        assert_eq!(words(br#"{"errors":[]}"#), "");
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(5000));
        assert_eq!(words(long.as_bytes()).len(), 300);
    }
}
