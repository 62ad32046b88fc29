//! Names of every kind, and documents that are not as they should be.

use serde_json::json;

use super::*;
use crate::transport::layout::LayoutDir;

fn named(full: Option<&str>, said: Option<&str>) -> Descriptor {
    let mut descriptor = Descriptor::of(MediaType::OciManifest, b"{}");
    let pairs = [(ANNOTATION_IMAGE_NAME, full), (ANNOTATION_REF_NAME, said)];
    for (key, value) in pairs {
        let value = value.map(|value| (key.to_owned(), value.to_owned()));
        descriptor.annotations.extend(value);
    }
    descriptor
}

/// `repository[=alias]:tag` of every name.
fn names(manifests: Vec<Descriptor>) -> Vec<String> {
    let entries = layout_entries(manifests, "place");
    let names = entries.iter().flat_map(|entry| &entry.names);
    names
        .map(|name| {
            let aliases: String = name.aliases.iter().map(|one| format!("={one}")).collect();
            format!("{}{aliases}:{}", name.repository, name.tag)
        })
        .collect()
}

#[test]
fn names_become_repositories_and_tags() {
    for (full, said, expected) in [
        (
            Some("docker.io/acme/app:1"),
            Some("docker.io/acme/app:1"),
            vec!["acme/app=docker.io/acme/app:1"; 2],
        ),
        (
            Some("docker.io/acme/app:1"),
            Some("1"),
            vec!["acme/app=docker.io/acme/app:1"; 2],
        ),
        (
            Some("docker.io/acme/app:1"),
            None,
            vec!["acme/app=docker.io/acme/app:1"],
        ),
        (
            Some("app"),
            None,
            vec!["app=docker.io/library/app=library/app:latest"],
        ),
        (None, Some("ghcr.io/a/b:2"), vec!["a/b=ghcr.io/a/b:2"]),
        (
            None,
            Some("localhost:5000/a:2"),
            vec!["a=localhost:5000/a:2"],
        ),
        (None, Some("v1"), vec!["place:v1"]),
        (None, Some("+odd+"), vec![]),
        (None, Some("a/../b:1"), vec![]),
        (Some("\u{1b}[2J"), Some("v1"), vec!["place:v1"]),
        (None, None, vec!["place:latest"]),
    ] {
        assert_eq!(
            names(vec![named(full, said)]),
            expected,
            "{full:?} {said:?}"
        );
    }
    let two = vec![named(None, None), named(None, None)];
    assert_eq!(names(two), [""; 0], "nobody knows which is the latest");
}

/// A layout on disk with these documents as manifests, each with a name.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Scratch {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        Scratch(dir)
    }

    fn put(&self, document: &serde_json::Value) -> Descriptor {
        let bytes = crate::oci::json::to_vec(document);
        let descriptor = Descriptor::of(MediaType::OciManifest, &bytes);
        let path = self.files().blob_path(&descriptor.digest);
        std::fs::write(path, bytes).unwrap();
        descriptor
    }

    fn files(&self) -> LayoutDir {
        LayoutDir::new(self.0.path())
    }

    fn catalogue(&self, entries: Vec<(Descriptor, &str)>) -> Catalogue {
        let entry = |(mut descriptor, name): (Descriptor, &str)| {
            descriptor
                .annotations
                .insert(ANNOTATION_REF_NAME.to_owned(), name.to_owned());
            descriptor
        };
        let manifests = entries.into_iter().map(entry).collect();
        Catalogue::of(layout_entries(manifests, "place"), &self.files())
    }
}

#[test]
fn equal_names_are_told_apart_by_their_registry() {
    let scratch = Scratch::new();
    let (first, second) = (scratch.put(&json!({"a": 1})), scratch.put(&json!({"a": 2})));
    let catalogue = scratch.catalogue(vec![
        (first.clone(), "docker.io/acme/app:1"),
        (second.clone(), "ghcr.io/acme/app:1"),
        (second.clone(), "docker.io/acme/app:1"),
    ]);
    let digest = |repository, registry| catalogue.tags(repository, registry).map(|tags| tags["1"]);
    assert_eq!(digest("acme/app", None), Some(first.digest));
    assert_eq!(digest("acme/app", Some("ghcr.io")), Some(second.digest));
    assert_eq!(digest("acme/app", Some("quay.io")), Some(first.digest));
    assert_eq!(digest("ghcr.io/acme/app", None), Some(second.digest));
    assert_eq!(digest("acme", None), None);
    assert_eq!(catalogue.images().count(), 1);
    assert_eq!(
        catalogue.notes,
        [
            "acme/app:1 is another image; ghcr.io/acme/app:1 is this one".to_owned(),
            format!(
                "docker.io/acme/app:1 is there twice; {} is served",
                first.digest
            ),
        ]
    );
}

#[test]
fn what_is_missing_or_damaged_has_no_tag() {
    let scratch = Scratch::new();
    let good = scratch.put(&json!({"layers": "what?"}));
    let gone = Descriptor::of(MediaType::OciManifest, b"gone");
    let damaged = scratch.put(&json!({"layers": []}));
    std::fs::write(scratch.files().blob_path(&damaged.digest), "{}").unwrap();
    let mut huge = good.clone();
    huge.digest = Digest::of(b"huge");
    huge.size = u64::MAX;
    let catalogue = scratch.catalogue(vec![
        (good.clone(), "good"),
        (gone, "gone"),
        (damaged, "damaged"),
        (huge, "huge"),
    ]);
    let tags = catalogue.tags("place", None).unwrap();
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["good"]);
    assert_eq!(catalogue.notes.len(), 2, "{:?}", catalogue.notes);
}

#[test]
fn referrers_have_the_type_that_the_spec_gives_them() {
    let scratch = Scratch::new();
    let subject = scratch.put(&json!({"layers": []}));
    let descriptor = |media_type: &str| json!({"mediaType": media_type, "digest": Digest::of(b"x").to_string(), "size": 1});
    let by_config = json!({"config": descriptor("c/d"), "layers": [], "subject": subject, "annotations": {"k": "v"}});
    let by_itself = json!({"artifactType": "a/b", "config": descriptor("c/d"), "subject": subject});
    let index = json!({"manifests": [], "subject": subject});
    let entries = [by_config, by_itself, index].map(|document| (scratch.put(&document), "x/y"));
    let catalogue = scratch.catalogue(entries.to_vec());
    let types = |wanted: Option<&str>| {
        let found = catalogue.referrers(&subject.digest, wanted);
        let mut types: Vec<_> = found
            .iter()
            .map(|one| one.other.get("artifactType").and_then(|text| text.as_str()))
            .collect();
        types.sort_unstable();
        types
            .iter()
            .map(|text| text.unwrap_or("-").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(types(None), ["-", "a/b", "c/d"]);
    assert_eq!(types(Some("c/d")), ["c/d"]);
    assert_eq!(types(Some("")), [""; 0]);
    let found = catalogue.referrers(&subject.digest, Some("c/d"));
    assert_eq!(found[0].annotations["k"], "v");
    assert_eq!(catalogue.size(&Digest::of(b"x")), Some(1));
    let other = json!({"layers": [{"mediaType": "l/l", "digest": Digest::of(b"x").to_string(), "size": 2}]});
    let mut entries = entries.to_vec();
    entries.push((scratch.put(&other), "x/z"));
    let catalogue = scratch.catalogue(entries);
    assert_eq!(catalogue.size(&Digest::of(b"x")), None, "nobody knows");
}

#[test]
fn pages_follow_each_other() {
    let all = ["A", "a", "b"].map(str::to_owned);
    let page = |most, last: Option<&str>| {
        let last = last.map(str::to_owned);
        page_of(all.iter(), &Page { most, last })
    };
    assert_eq!(page(None, None), (vec!["A", "a", "b"], false));
    assert_eq!(page(Some(2), None), (vec!["A", "a"], true));
    assert_eq!(page(Some(2), Some("a")), (vec!["b"], false));
    assert_eq!(page(Some(1), Some("B")), (vec!["a"], true));
    assert_eq!(page(Some(0), None), (vec![], true));
    assert_eq!(page(Some(3), Some("z")), (vec![], false));
}
