//! Names: how an image is called in each kind of output.
//!
//! podman and containerd take the full reference from `io.containerd.image.name`, skopeo and umoci
//! compare `org.opencontainers.image.ref.name` letter by letter, docker reads `RepoTags`. Short
//! names are guessed at differently by each, so only full ones are written.

use std::collections::BTreeMap;

use crate::oci::Reference;
use crate::oci::document::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME};

/// One name of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ImageName {
    /// What `ref.name` says: the output's own reference as written, else the full name.
    pub(crate) ref_name: Option<String>,
    /// Registry, repository and tag.
    pub(crate) full: Option<String>,
}

impl ImageName {
    /// The annotations of an entry in `index.json`.
    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        let pairs = [
            (ANNOTATION_IMAGE_NAME, &self.full),
            (ANNOTATION_REF_NAME, &self.ref_name),
        ];
        let said = pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
        said.collect()
    }
}

/// The names of an image that is written to an output with `reference`: that one if it is given,
/// else all of `names`; an image without any has one name that says nothing.
///
/// A bare tag as reference stands for the first name's repository with this tag.
pub(crate) fn image_names(reference: Option<&str>, names: &[Reference]) -> Vec<ImageName> {
    let full = |name: &Reference| name.clone().with_default_tag().to_string();
    match reference {
        Some(reference) => {
            let name = if reference.contains(['/', ':']) {
                reference.parse().ok().as_ref().map(full)
            } else {
                names
                    .first()
                    .and_then(|name| name.with_tag(reference).ok())
                    .map(|name| full(&name))
            };
            vec![ImageName {
                ref_name: Some(reference.to_owned()),
                full: name,
            }]
        }
        None if names.is_empty() => vec![ImageName::default()],
        None => {
            let mut all: Vec<ImageName> = Vec::new();
            for name in names {
                let name = ImageName {
                    ref_name: Some(full(name)),
                    full: Some(full(name)),
                };
                if !all.contains(&name) {
                    all.push(name);
                }
            }
            all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_full_and_references_verbatim() {
        let names: Vec<Reference> = ["acme/app:1.4.0", "acme/app"]
            .map(|name| name.parse().unwrap())
            .to_vec();
        let shown = |reference: Option<&str>, names: &[Reference]| {
            let names = image_names(reference, names);
            let show = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
            names
                .iter()
                .map(|name| format!("{} {}", show(&name.ref_name), show(&name.full)))
                .collect::<Vec<_>>()
        };
        let full = "docker.io/acme/app:1.4.0";
        assert_eq!(
            shown(None, &names),
            [
                format!("{full} {full}"),
                "docker.io/acme/app:latest docker.io/acme/app:latest".to_owned()
            ]
        );
        assert_eq!(shown(None, &[]), ["- -"]);
        assert_eq!(shown(Some("v1"), &names), ["v1 docker.io/acme/app:v1"]);
        assert_eq!(shown(Some("v1"), &[]), ["v1 -"]);
        assert_eq!(shown(Some("x.y/z:2"), &names), ["x.y/z:2 x.y/z:2"]);
        assert_eq!(shown(Some("z:2"), &names), ["z:2 docker.io/library/z:2"]);
        assert_eq!(shown(Some("+odd+"), &names), ["+odd+ -"]);
    }
}
