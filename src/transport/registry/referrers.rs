//! Referrers: documents that say they belong to others, on registries that keep no list of them.
//!
//! Distribution spec, "Pushing Manifests with Subject": a registry that keeps the list itself says
//! so with `OCI-Subject`. For one that does not, clients keep an index under a tag that is made of
//! the subject's digest ("Referrers Tag Schema").

use serde_json::Value;
use ureq::http::Method;

use crate::oci::{Descriptor, Digest, Index, MediaType, json};
use crate::transport::http::Payload;
use crate::transport::layout::MOST_DOCUMENT;
use crate::transport::registry::client::Place;
use crate::transport::registry::error::RegistryError;
use crate::transport::registry::target::{Ask, Target};

/// How often the list is written when others write it meanwhile.
const MOST_ATTEMPTS: usize = 4;

/// Puts a document into the list under the subject's tag, where it may be already. The list is read
/// again afterwards: registries know no condition for writing, and someone else may have written
/// it in the same moment.
pub(crate) fn list(
    target: &Target<'_>,
    subject: &Digest,
    referrer: &Descriptor,
    bytes: &[u8],
) -> Result<(), RegistryError> {
    let tag = subject.to_string().replace(':', "-");
    let place = format!("manifests/{tag}");
    let what = format!("the list of referrers {tag} of {}", target.name());
    for _ in 0..MOST_ATTEMPTS {
        let mut index = read(target, &place, &what)?;
        if index
            .manifests
            .iter()
            .any(|entry| entry.digest == referrer.digest)
        {
            return Ok(());
        }
        index.manifests.push(entry(referrer, bytes));
        let index = json::to_vec(&index);
        let mut ask = Ask::new(Method::PUT, Place::Repository(&place));
        let media_type = MediaType::OciIndex.as_str().to_owned();
        ask.headers.push(("content-type", media_type));
        ask.payload = Payload::Bytes(&index);
        let answer = target.ask(ask)?;
        if !answer.is_success() {
            return Err(RegistryError::refused(format!("write {what}"), answer));
        }
    }
    Err(RegistryError::Misbehaves {
        action: format!("write {what}"),
        problem: format!("what was written is not in it; it was tried {MOST_ATTEMPTS} times"),
    })
}

/// The list as it is; empty if there is none.
fn read(target: &Target<'_>, place: &str, what: &str) -> Result<Index, RegistryError> {
    let mut ask = Ask::new(Method::GET, Place::Repository(place));
    let accepted = MediaType::OciIndex.as_str().to_owned();
    ask.headers.push(("accept", accepted));
    let answer = target.ask(ask)?;
    match answer.status() {
        200..=299 => {}
        404 => return Ok(Index::new(MediaType::OciIndex, Vec::new())),
        _ => return Err(RegistryError::refused(format!("read {what}"), answer)),
    }
    let bytes = answer
        .small(MOST_DOCUMENT)
        .map_err(RegistryError::http(format!("read {what}")))?;
    serde_json::from_slice(&bytes).map_err(|error| RegistryError::Document {
        what: what.to_owned(),
        problem: error.to_string(),
    })
}

/// What the list says of a document: its type and its annotations stand there, too.
fn entry(referrer: &Descriptor, bytes: &[u8]) -> Descriptor {
    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let mut entry = Descriptor::new(referrer.media_type.clone(), referrer.digest, referrer.size);
    let kind = match &document["artifactType"] {
        Value::String(kind) if !kind.is_empty() => Some(kind),
        _ => match &document["config"]["mediaType"] {
            Value::String(kind) => Some(kind),
            _ => None,
        },
    };
    if let Some(kind) = kind {
        let kind = Value::String(kind.clone());
        entry.other.insert("artifactType".to_owned(), kind);
    }
    let annotations = document["annotations"].as_object();
    entry.annotations = annotations
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_what_kind_of_artifact_it_is() {
        for (document, kind) in [
            (
                r#"{"artifactType":"a/b","config":{"mediaType":"c/d"},"annotations":{"k":"v"}}"#,
                "a/b",
            ),
            (
                r#"{"config":{"mediaType":"c/d"},"annotations":{"k":"v"}}"#,
                "c/d",
            ),
        ] {
            let descriptor = Descriptor::of(MediaType::OciManifest, document.as_bytes());
            let entry = entry(&descriptor, document.as_bytes());
            assert_eq!(entry.other["artifactType"], kind);
            assert_eq!(entry.annotations["k"], "v");
            assert_eq!(entry.digest, descriptor.digest);
        }
    }
}
