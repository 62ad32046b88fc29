//! Which image of a layout or archive is meant: by name, then by platform.

use std::path::Path;

use crate::oci::document::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME};
use crate::oci::{Descriptor, Index, Platform, Reference};
use crate::transport::error::TransportError;

/// The entry of a layout's index that `reference` means; without one, the only image.
///
/// A reference is, in this order: exactly a `ref.name`, exactly a full name, the same full name
/// once both are completed as Docker does, the tag of a name, a digest.
pub(crate) fn by_name<'a>(
    index: &'a Index,
    reference: Option<&str>,
    path: &Path,
) -> Result<&'a Descriptor, TransportError> {
    let images: Vec<&Descriptor> = index
        .manifests
        .iter()
        .filter(|entry| entry.media_type.is_manifest() || entry.media_type.is_index())
        .collect();
    let found = match reference {
        None => images.clone(),
        Some(wanted) => MATCHES
            .iter()
            .map(|matches| {
                images
                    .iter()
                    .copied()
                    .filter(|entry| matches(entry, wanted))
                    .collect::<Vec<_>>()
            })
            .find(|found| !found.is_empty())
            .unwrap_or_default(),
    };
    let available = || images.iter().map(|entry| shown(entry)).collect();
    match (found.first(), reference) {
        // One image may have several names.
        (Some(first), _) if found.iter().all(|entry| entry.digest == first.digest) => Ok(first),
        (Some(_), _) => Err(TransportError::Ambiguous {
            path: path.to_owned(),
            available: available(),
        }),
        (None, Some(wanted)) => Err(TransportError::NoSuchImage {
            path: path.to_owned(),
            wanted: wanted.to_owned(),
            available: available(),
        }),
        (None, None) => Err(TransportError::Contradiction {
            path: path.to_owned(),
            problem: "its index lists no image".to_owned(),
        }),
    }
}

type Match = fn(&Descriptor, &str) -> bool;

const MATCHES: [Match; 5] = [
    |entry, wanted| {
        entry
            .annotations
            .get(ANNOTATION_REF_NAME)
            .is_some_and(|name| name == wanted)
    },
    |entry, wanted| {
        entry
            .annotations
            .get(ANNOTATION_IMAGE_NAME)
            .is_some_and(|name| name == wanted)
    },
    |entry, wanted| {
        full_name(wanted)
            .is_some_and(|wanted| names(entry).any(|name| full_name(name) == Some(wanted.clone())))
    },
    |entry, wanted| names(entry).any(|name| tag_of(name).as_deref() == Some(wanted)),
    |entry, wanted| entry.digest.to_string() == wanted,
];

/// The names of an entry, as its annotations have them.
pub(crate) fn names(entry: &Descriptor) -> impl Iterator<Item = &str> {
    [ANNOTATION_REF_NAME, ANNOTATION_IMAGE_NAME]
        .into_iter()
        .filter_map(|key| entry.annotations.get(key))
        .map(String::as_str)
}

/// A text completed to registry, repository and tag.
pub(crate) fn full_name(text: &str) -> Option<Reference> {
    text.parse::<Reference>()
        .ok()
        .map(Reference::with_default_tag)
}

fn tag_of(name: &str) -> Option<String> {
    name.parse::<Reference>().ok()?.tag().map(str::to_owned)
}

fn shown(entry: &Descriptor) -> String {
    names(entry)
        .next()
        .map_or_else(|| entry.digest.to_string(), str::to_owned)
}

/// The entry of an image index that is for `platform`.
pub(crate) fn by_platform<'a>(
    index: &'a Index,
    platform: &Platform,
    path: &Path,
) -> Result<&'a Descriptor, TransportError> {
    let wanted = platform.normalized();
    let images = || {
        let is_image =
            |entry: &&Descriptor| entry.media_type.is_manifest() || entry.media_type.is_index();
        index.manifests.iter().filter(is_image)
    };
    let said = |entry: &Descriptor| {
        entry
            .platform
            .as_ref()
            .map(|said| said.platform.normalized())
    };
    if let Some(entry) = images().find(|entry| said(entry).as_ref() == Some(&wanted)) {
        return Ok(entry);
    }
    let mut all = images();
    match (all.next(), all.next()) {
        // An index that says no platform leaves it to the config, which is checked later.
        (Some(only), None) if only.platform.is_none() => Ok(only),
        _ => Err(TransportError::NoPlatform {
            path: path.to_owned(),
            wanted: platform.clone(),
            available: images()
                .filter_map(said)
                .map(|platform| platform.to_string())
                .collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, MediaType};

    fn entry(ref_name: &str, image_name: &str, content: &str) -> Descriptor {
        let mut entry = Descriptor::of(MediaType::OciManifest, content.as_bytes());
        for (key, name) in [
            (ANNOTATION_REF_NAME, ref_name),
            (ANNOTATION_IMAGE_NAME, image_name),
        ] {
            if !name.is_empty() {
                entry.annotations.insert(key.to_owned(), name.to_owned());
            }
        }
        entry
    }

    fn layout() -> Index {
        let other = Descriptor::of(MediaType::Other("application/x".to_owned()), b"other");
        let entries = vec![
            entry("1.0", "docker.io/acme/app:1.0", "a"),
            entry("docker.io/acme/app:2.0", "docker.io/acme/app:2.0", "b"),
            entry("quay.io/x/y:2.0", "", "c"),
            entry("same", "", "b"),
            other,
            entry("", "", "d"),
        ];
        Index::new(MediaType::OciIndex, entries)
    }

    fn picked(index: &Index, reference: Option<&str>) -> Result<String, String> {
        let found = by_name(index, reference, Path::new("lay"));
        let content = |digest| {
            ["a", "b", "c", "d"]
                .into_iter()
                .find(|text| Digest::of(text.as_bytes()) == digest)
        };
        found
            .map(|entry| content(entry.digest).unwrap().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn images_are_found_by_any_of_their_names() {
        let unnamed = Digest::of(b"d").to_string();
        for (reference, content) in [
            ("1.0", "a"),
            ("docker.io/acme/app:1.0", "a"),
            ("acme/app:2.0", "b"),
            ("same", "b"),
            ("quay.io/x/y:2.0", "c"),
            (unnamed.as_str(), "d"),
        ] {
            assert_eq!(
                picked(&layout(), Some(reference)),
                Ok(content.to_owned()),
                "{reference}"
            );
        }
    }

    #[test]
    fn what_is_unclear_or_absent_is_listed() {
        let ambiguous = picked(&layout(), Some("2.0")).unwrap_err();
        assert!(ambiguous.contains("choose an image of lay"), "{ambiguous}");
        let absent = picked(&layout(), Some("3.0")).unwrap_err();
        assert!(
            absent.contains("it holds 1.0, docker.io/acme/app:2.0, quay.io/x/y:2.0, same"),
            "{absent}"
        );
        assert!(picked(&layout(), None).is_err());
        let only = Index::new(
            MediaType::OciIndex,
            vec![entry("x", "", "a"), entry("y", "", "a")],
        );
        assert_eq!(picked(&only, None), Ok("a".to_owned()));
        let none = Index::new(MediaType::OciIndex, Vec::new());
        assert!(picked(&none, None).unwrap_err().contains("lists no image"));
    }

    #[test]
    fn platforms_are_compared_in_their_normal_form() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let index = Index::new(
            MediaType::OciIndex,
            ["linux/arm64/v8", "linux/amd64", "unknown/unknown"]
                .map(|text| {
                    Descriptor::of(MediaType::OciManifest, text.as_bytes())
                        .with_platform(platform(text))
                })
                .to_vec(),
        );
        let found = by_platform(&index, &platform("linux/aarch64"), Path::new("lay")).unwrap();
        assert_eq!(found.digest, Digest::of(b"linux/arm64/v8"));
        let error = by_platform(&index, &platform("linux/s390x"), Path::new("lay"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "find an image for linux/s390x in lay: it is for linux/arm64, linux/amd64, unknown/unknown"
        );
    }
}
