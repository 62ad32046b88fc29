//! Other images in a layout, killed writers, writers at the same time.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::image::Image;
use crate::oci::Platform;
use crate::transport::check::validate_layout;
use crate::transport::fixture::{Blobs, image};
use crate::transport::layout::find;

fn write_as(dir: &Path, reference: &str, content: &str) -> (Receipt, Image) {
    let (images, blobs) = image(content, DocumentFormat::Oci);
    let receipt = write(dir, Some(reference), &[], &images, &blobs, None).unwrap();
    (receipt, images.images()[0].clone())
}

fn found(dir: &Path, reference: &str) -> Digest {
    let platform: Platform = "linux/amd64".parse().unwrap();
    find(&LayoutDir::new(dir), Some(reference), &platform)
        .unwrap()
        .digest
}

fn is_valid(dir: &Path) {
    let found: Vec<String> = validate_layout(dir)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, [""; 0]);
}

/// Names, sizes, inodes and times of all files.
fn state(dir: &Path) -> Vec<(String, u64, u64, i64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.metadata().unwrap();
        files.push((
            path.display().to_string(),
            meta.len(),
            meta.ino(),
            meta.mtime_nsec(),
        ));
        if path.is_dir() {
            files.extend(state(&path));
        }
    }
    files.sort();
    files
}

#[test]
fn what_is_written_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/layout");
    let (first, image) = write_as(&dir, "v1", "content");
    assert_eq!(first.written, Written::New);
    assert_eq!(first.reference.as_deref(), Some("v1"));
    assert_eq!(found(&dir, "v1"), image.manifest().digest());
    is_valid(&dir);
    let before = state(&dir);
    let (again, _) = write_as(&dir, "v1", "content");
    assert_eq!((again.written, again.bytes), (Written::Unchanged, 0));
    assert_eq!(state(&dir), before);
}

#[test]
fn nothing_of_another_image_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (_, one) = write_as(dir.path(), "one", "first");
    let index_path = dir.path().join("index.json");
    let mut foreign: serde_json::Value =
        serde_json::from_slice(&fs::read(&index_path).unwrap()).unwrap();
    foreign["annotations"] = serde_json::json!({"kept": "yes"});
    foreign["x-unknown"] = serde_json::json!([1]);
    foreign["manifests"][0]["annotations"]["more"] = serde_json::json!("kept");
    fs::write(&index_path, foreign.to_string()).unwrap();
    let (_, _) = write_as(dir.path(), "two", "second");
    let (replaced, two) = write_as(dir.path(), "two", "third");
    assert_eq!(replaced.written, Written::New);
    assert_eq!(found(dir.path(), "one"), one.manifest().digest());
    assert_eq!(found(dir.path(), "two"), two.manifest().digest());
    let index: serde_json::Value = serde_json::from_slice(&fs::read(&index_path).unwrap()).unwrap();
    assert_eq!(index["annotations"]["kept"], "yes");
    assert_eq!(index["x-unknown"][0], 1);
    assert_eq!(index["manifests"][0], foreign["manifests"][0]);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    is_valid(dir.path());
}

#[test]
fn every_name_is_an_entry_and_an_unnamed_image_has_one_place() {
    let dir = tempfile::tempdir().unwrap();
    let (images, blobs) = image("content", DocumentFormat::Docker);
    let names = ["acme/app:1", "acme/app:2"].map(|name| name.parse().unwrap());
    write(dir.path(), None, &names, &images, &blobs, None).unwrap();
    let digest = images.images()[0].manifest().digest();
    for name in ["docker.io/acme/app:1", "acme/app:2", "2"] {
        assert_eq!(found(dir.path(), name), digest);
    }
    for content in ["unnamed", "unnamed again"] {
        let (images, blobs) = image(content, DocumentFormat::Oci);
        write(dir.path(), None, &[], &images, &blobs, None).unwrap();
    }
    let index = layout::index(&LayoutDir::new(dir.path())).unwrap();
    assert_eq!(index.manifests.len(), 3);
    is_valid(dir.path());
}

#[test]
fn what_is_no_layout_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("precious"), "data").unwrap();
    let (images, blobs) = image("content", DocumentFormat::Oci);
    let error = write(dir.path(), Some("v1"), &[], &images, &blobs, None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no OCI layout and not empty: it holds \"precious\""),
        "{error}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let file = dir.path().join("precious");
    assert!(write(&file, Some("v1"), &[], &images, &blobs, None).is_err());
    assert_eq!(fs::read(&file).unwrap(), b"data");
}

#[test]
fn a_failed_write_leaves_the_old_image() {
    let dir = tempfile::tempdir().unwrap();
    let (_, old) = write_as(dir.path(), "v1", "old");
    let index = fs::read(dir.path().join("index.json")).unwrap();
    let (images, _) = image("new", DocumentFormat::Oci);
    let damaged = Blobs::default();
    for layer in images.layers() {
        damaged
            .0
            .lock()
            .unwrap()
            .insert(layer.digest, b"damaged".to_vec());
    }
    for blobs in [Blobs::default(), damaged] {
        let error = write(dir.path(), Some("v1"), &[], &images, &blobs, None).unwrap_err();
        assert!(matches!(error, TransportError::Store { .. }), "{error:?}");
        assert_eq!(fs::read(dir.path().join("index.json")).unwrap(), index);
    }
    assert_eq!(found(dir.path(), "v1"), old.manifest().digest());
    is_valid(dir.path());
}

/// What a killed process may leave: temporary files, a layout without an index, half a blob.
#[test]
fn what_a_killed_writer_left_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let stale = format!("{}x", disk::TEMPORARY);
    fs::write(dir.path().join(&stale), "half").unwrap();
    let (_, image) = write_as(dir.path(), "v1", "content");
    fs::remove_file(dir.path().join("index.json")).unwrap();
    let folder = dir.path().join("blobs/sha256");
    fs::write(folder.join(&stale), "half").unwrap();
    let layer = folder.join(image.layers()[0].digest.hex());
    fs::write(&layer, "half").unwrap();
    write_as(dir.path(), "v1", "content");
    assert_eq!(found(dir.path(), "v1"), image.manifest().digest());
    assert!(!folder.join(stale).exists());
    is_valid(dir.path());
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = &dir.path().join("layout");
    let images: Vec<(String, Digest)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|number| {
                scope.spawn(move || {
                    let name = format!("v{number}");
                    let (_, image) = write_as(dir, &name, &format!("content {number}"));
                    (name, image.manifest().digest())
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    for (name, digest) in images {
        assert_eq!(found(dir, &name), digest);
    }
    is_valid(dir);
}

#[test]
fn blobs_that_lost_their_bytes_are_mended() {
    let dir = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path()).unwrap();
    let (images, blobs) = image("content", DocumentFormat::Oci);
    let layout = dir.path().join("layout");
    let written = || {
        let stamps = Some(&store);
        let receipt = write(&layout, Some("v1"), &[], &images, &blobs, stamps).unwrap();
        is_valid(&layout);
        (receipt.written, receipt.bytes)
    };
    assert_eq!(written().0, Written::New);
    let layer = images.layers()[0].clone();
    let document = images.documents()[0].digest();
    for digest in [layer.digest, document] {
        let path = LayoutDir::new(&layout).blob_path(&digest);
        let length = fs::metadata(&path).unwrap().len();
        assert_eq!(written(), (Written::Unchanged, 0));
        // What a power cut may leave: name and length are there, the bytes are not.
        fs::write(&path, vec![0; length as usize]).unwrap();
        assert_eq!(written(), (Written::New, length));
    }
    assert_eq!(written(), (Written::Unchanged, 0));
}
