//! What each loader wants, and what a failed or repeated write leaves.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::oci::{Manifest, Platform};
use crate::transport::archive::Archive;
use crate::transport::check::validate_archive;
use crate::transport::fixture::{Blobs, image, two_platforms};
use crate::transport::layout::{LayoutFiles, find};

fn names(names: &[&str]) -> Vec<Reference> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn listed(path: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(File::open(path).unwrap());
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

fn json_file(path: &Path, name: &str) -> serde_json::Value {
    let archive = Archive::open(path).unwrap();
    serde_json::from_slice(&archive.small(name).unwrap().unwrap()).unwrap()
}

fn is_valid(path: &Path) {
    let found: Vec<String> = validate_archive(path)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, [""; 0]);
}

#[test]
fn the_hybrid_archive_has_what_each_loader_wants() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.tar");
    for format in [DocumentFormat::Oci, DocumentFormat::Docker] {
        let (images, blobs) = image("content", format);
        let plan = ArchivePlan::hybrid(&images, None, &names(&["acme/app:1.4.0", "acme/app"]));
        let receipt = plan.write(&path, &blobs, None).unwrap();
        assert_eq!(receipt.written, Written::New);
        assert_eq!(receipt.bytes, fs::metadata(&path).unwrap().len());
        assert_eq!(
            receipt.reference.as_deref(),
            Some("docker.io/acme/app:1.4.0")
        );
        let image = &images.images()[0];
        let blob = |digest: Digest| format!("blobs/sha256/{}", digest.hex());
        let [first, second, _] = image.layers() else {
            panic!()
        };
        let expected = [
            "oci-layout".to_owned(),
            "index.json".to_owned(),
            "manifest.json".to_owned(),
            "blobs/".to_owned(),
            "blobs/sha256/".to_owned(),
            blob(image.manifest().digest()),
            blob(image.config().digest()),
            blob(first.digest),
            blob(second.digest),
        ];
        assert_eq!(listed(&path), expected);
        let index = json_file(&path, "index.json");
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        let annotations = &index["manifests"][0]["annotations"];
        for key in [
            "io.containerd.image.name",
            "org.opencontainers.image.ref.name",
        ] {
            assert_eq!(annotations[key], "docker.io/acme/app:1.4.0");
        }
        let docker = json_file(&path, "manifest.json");
        assert_eq!(
            docker[0]["RepoTags"],
            serde_json::json!(["docker.io/acme/app:1.4.0", "docker.io/acme/app:latest"])
        );
        assert_eq!(docker[0]["Layers"].as_array().unwrap().len(), 3);
        is_valid(&path);
    }
}

#[test]
fn several_platforms_are_nested_and_docker_gets_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.tar");
    let (images, blobs) = two_platforms();
    ArchivePlan::hybrid(&images, Some("v1"), &[])
        .write(&path, &blobs, None)
        .unwrap();
    let index = json_file(&path, "index.json");
    assert_eq!(
        index["manifests"][0]["mediaType"],
        "application/vnd.oci.image.index.v1+json"
    );
    assert_eq!(
        json_file(&path, "manifest.json").as_array().unwrap().len(),
        1
    );
    let archive = Archive::open(&path).unwrap();
    for (platform, image) in ["linux/amd64", "linux/arm64/v8"]
        .iter()
        .zip(images.images())
    {
        let platform: Platform = platform.parse().unwrap();
        let found = find(&archive, Some("v1"), &platform).unwrap();
        assert_eq!(found.digest, image.manifest().digest());
    }
    is_valid(&path);
    let refused = ArchivePlan::docker(&images, None, &[]);
    assert!(matches!(refused, Err(TransportError::SeveralPlatforms)));
}

#[test]
fn an_unchanged_archive_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.tar");
    let (images, blobs) = image("content", DocumentFormat::Oci);
    let plan = |name| ArchivePlan::hybrid(&images, Some(name), &[]);
    plan("v1").write(&path, &blobs, None).unwrap();
    let before = fs::metadata(&path).unwrap();
    // What a killed process left beside it goes all the same.
    let left = disk::temporary_for(&path, dir.path()).unwrap();
    let (_, left) = left.keep().unwrap();
    assert_eq!(
        plan("v1").write(&path, &blobs, None).unwrap().written,
        Written::Unchanged
    );
    assert!(!left.exists());
    let after = fs::metadata(&path).unwrap();
    assert_eq!(
        (before.ino(), before.mtime_nsec()),
        (after.ino(), after.mtime_nsec())
    );
    // The same size, other bytes.
    assert_eq!(
        plan("v2").write(&path, &blobs, None).unwrap().written,
        Written::New
    );
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1500;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(
        plan("v2").write(&path, &blobs, None).unwrap().written,
        Written::New
    );
    fs::write(&path, "short").unwrap();
    assert_eq!(
        plan("v2").write(&path, &blobs, None).unwrap().written,
        Written::New
    );
    is_valid(&path);
}

#[test]
fn a_failed_write_leaves_the_old_archive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.tar");
    fs::write(&path, "old").unwrap();
    let (images, _) = image("content", DocumentFormat::Oci);
    let damaged = Blobs::default();
    for layer in images.layers() {
        let zeros = vec![0; layer.size as usize];
        damaged.0.lock().unwrap().insert(layer.digest, zeros);
    }
    for blobs in [Blobs::default(), damaged] {
        let error = ArchivePlan::hybrid(&images, None, &[])
            .write(&path, &blobs, None)
            .unwrap_err();
        assert!(matches!(error, TransportError::Store { .. }), "{error:?}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn links_are_followed_and_devices_are_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (images, blobs) = image("content", DocumentFormat::Oci);
    let plan = ArchivePlan::hybrid(&images, None, &[]);
    let (link, file) = (dir.path().join("link"), dir.path().join("file"));
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink("file", &link).unwrap();
    plan.write(&link, &blobs, None).unwrap();
    assert!(link.is_symlink());
    is_valid(&file);
    for place in ["/dev/null".as_ref(), dir.path()] {
        let error = plan.write(place, &blobs, None).unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
    }
    let missing = plan.write(&dir.path().join("no/such/file"), &blobs, None);
    assert!(matches!(missing, Err(TransportError::Io { .. })));
}

#[test]
fn the_docker_archive_has_docker_names_and_stored_layers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.tar");
    let (images, blobs) = image("content", DocumentFormat::Docker);
    let plan = ArchivePlan::docker(&images, Some("acme/app:1"), &names(&["ignored"])).unwrap();
    plan.write(&path, &blobs, None).unwrap();
    let docker = json_file(&path, "manifest.json");
    assert_eq!(
        docker[0]["RepoTags"],
        serde_json::json!(["docker.io/acme/app:1"])
    );
    let manifest: Manifest = serde_json::from_slice(images.images()[0].manifest().bytes()).unwrap();
    let [gzip, plain, _] = &manifest.layers[..] else {
        panic!()
    };
    let expected = [
        "manifest.json".to_owned(),
        format!("{}.json", manifest.config.digest.hex()),
        format!("{}.tar.gz", gzip.digest.hex()),
        format!("{}.tar", plain.digest.hex()),
    ];
    assert_eq!(listed(&path), expected);
}

#[test]
fn zstd_is_refused_where_docker_cannot_read_it() {
    let blobs = Blobs::default();
    let layer = crate::transport::fixture::layer(&blobs, "x", Codec::Zstd);
    let image = crate::transport::fixture::image_of(&[layer], "linux/amd64", DocumentFormat::Oci);
    let images = ImageSet::new(vec![image]).unwrap();
    let refused = ArchivePlan::docker(&images, None, &[]);
    assert!(matches!(refused, Err(TransportError::ZstdInDockerArchive)));
}
