//! Round trips, and layouts and archives with one thing wrong.

use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::oci::{DocumentFormat, MediaType};
use crate::transport::fixture::{Blobs, image, two_platforms};
use crate::transport::output::Output;
use crate::transport::write::write;

fn import(source: &str, dir: &Path) -> Result<(BaseImage, Blobs), TransportError> {
    let sink = Blobs::default();
    let platform = "linux/amd64".parse().unwrap();
    import_base(&source.parse().unwrap(), dir, &platform, &sink).map(|base| (base, sink))
}

fn refusal(source: &str, dir: &Path) -> String {
    let error = import(source, dir).expect_err("it is refused");
    let cause = std::error::Error::source(&error)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    format!("{error}{cause}")
}

#[test]
fn what_was_written_is_read_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    for format in [DocumentFormat::Oci, DocumentFormat::Docker] {
        let (images, blobs) = image("content", format);
        let image = &images.images()[0];
        for output in [
            "oci:lay",
            "oci-archive:oci.tar",
            "docker-archive:docker.tar",
        ] {
            let target: Output = format!("{output}:acme/app:1").parse().unwrap();
            write(&target, dir.path(), &images, &[], &blobs, None).unwrap();
            for source in [output.to_owned(), format!("{output}:acme/app:1")] {
                let (base, sink) = import(&source, dir.path()).unwrap();
                let expected = match output.starts_with("docker") {
                    true => image.config().digest(),
                    false => image.manifest().digest(),
                };
                assert_eq!(base.digest, expected, "{source}");
                assert_eq!(
                    crate::oci::json::to_vec(&base.config),
                    image.config().bytes()
                );
                let digests = |layers: Vec<Digest>| layers;
                assert_eq!(
                    digests(
                        base.layers
                            .iter()
                            .map(|layer| layer.descriptor.digest)
                            .collect()
                    ),
                    digests(image.layers().iter().map(|layer| layer.digest).collect()),
                );
                let diff_ids: Vec<_> = base.layers.iter().map(|layer| layer.diff_id).collect();
                assert_eq!(diff_ids, base.config.rootfs.diff_ids);
                assert_eq!(sink.digests(), blobs.digests());
            }
        }
    }
}

#[test]
fn layers_that_are_there_are_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (images, blobs) = image("content", DocumentFormat::Oci);
    write(
        &"oci:lay".parse().unwrap(),
        dir.path(),
        &images,
        &[],
        &blobs,
        None,
    )
    .unwrap();
    for layer in images.layers() {
        fs::remove_file(dir.path().join("lay/blobs/sha256").join(layer.digest.hex())).unwrap();
    }
    let platform = "linux/amd64".parse().unwrap();
    let source = "oci:lay".parse().unwrap();
    assert!(import_base(&source, dir.path(), &platform, &blobs).is_ok());
    assert!(refusal("oci:lay", dir.path()).contains("it is incomplete"));
}

#[test]
fn platforms_are_chosen_from_a_nested_index() {
    let dir = tempfile::tempdir().unwrap();
    let (images, blobs) = two_platforms();
    write(
        &"oci-archive:x.tar:v1".parse().unwrap(),
        dir.path(),
        &images,
        &[],
        &blobs,
        None,
    )
    .unwrap();
    let sink = Blobs::default();
    let source = "oci-archive:x.tar".parse().unwrap();
    let arm = import_base(
        &source,
        dir.path(),
        &"linux/arm64/v8".parse().unwrap(),
        &sink,
    )
    .unwrap();
    assert_eq!(arm.digest, images.images()[1].manifest().digest());
    assert_eq!(sink.digests().len(), 2);
    let none =
        import_base(&source, dir.path(), &"linux/s390x".parse().unwrap(), &sink).unwrap_err();
    assert!(
        none.to_string()
            .contains("it is for linux/amd64, linux/arm64"),
        "{none}"
    );
}

#[test]
fn the_wrong_kind_of_place_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (images, blobs) = image("content", DocumentFormat::Oci);
    write(
        &"docker-archive:docker.tar".parse().unwrap(),
        dir.path(),
        &images,
        &[],
        &blobs,
        None,
    )
    .unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    for (source, why) in [
        (
            "oci-archive:docker.tar",
            "it is no OCI layout but a docker archive; write docker-archive:FILE",
        ),
        ("oci:empty", "there is no file oci-layout in it"),
        ("oci:docker.tar", "there is no file oci-layout in it"),
        ("oci-archive:empty", "open"),
        ("oci-archive:missing.tar", "open"),
    ] {
        let error = refusal(source, dir.path());
        assert!(error.contains(why), "{source}: {error}");
    }
}

/// A layout that is wrong in one place: the change is applied to its files.
fn spoiled(change: impl FnOnce(&Path, &crate::image::Image)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (images, blobs) = image("content", DocumentFormat::Oci);
    write(
        &"oci:lay:v1".parse().unwrap(),
        dir.path(),
        &images,
        &[],
        &blobs,
        None,
    )
    .unwrap();
    change(&dir.path().join("lay"), &images.images()[0]);
    refusal("oci:lay", dir.path())
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Changes the manifest and the entry that points at it, so that only the change is wrong.
fn edit_manifest(lay: &Path, image: &crate::image::Image, change: impl FnOnce(&mut Value)) {
    let mut manifest: Value = serde_json::from_slice(image.manifest().bytes()).unwrap();
    change(&mut manifest);
    let bytes = manifest.to_string().into_bytes();
    fs::write(
        lay.join("blobs/sha256").join(Digest::of(&bytes).hex()),
        &bytes,
    )
    .unwrap();
    edit(&lay.join("index.json"), |index| {
        index["manifests"][0]["digest"] = json!(Digest::of(&bytes));
        index["manifests"][0]["size"] = json!(bytes.len());
    });
}

#[test]
fn layouts_with_a_wrong_pointer_are_refused() {
    let blob = |lay: &Path, digest: Digest| lay.join("blobs/sha256").join(digest.hex());
    type Change<'a> = &'a dyn Fn(&Path, &crate::image::Image);
    let entry = |key: &'static str, value: Value| {
        move |lay: &Path, _: &crate::image::Image| {
            edit(&lay.join("index.json"), |index| {
                index["manifests"][0][key] = value.clone()
            });
        }
    };
    let cases: [(&str, Change<'_>); 17] = [
        ("goes on after its", &|lay, image| {
            fs::write(blob(lay, image.config().digest()), vec![b' '; 5000]).unwrap()
        }),
        ("ends after 3 of", &|lay, image| {
            fs::write(blob(lay, image.layers()[0].digest), "cut").unwrap()
        }),
        ("whose digest is", &|lay, image| {
            let path = blob(lay, image.layers()[0].digest);
            let mut bytes = fs::read(&path).unwrap();
            bytes[20] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("it is incomplete", &|lay, image| {
            fs::remove_file(blob(lay, image.manifest().digest())).unwrap()
        }),
        ("find index.json", &|lay, _| {
            fs::remove_file(lay.join("index.json")).unwrap()
        }),
        ("layout of version \"9.0.0\"", &|lay, _| {
            fs::write(lay.join("oci-layout"), r#"{"imageLayoutVersion":"9.0.0"}"#).unwrap();
        }),
        ("read index.json", &|lay, _| {
            fs::write(lay.join("index.json"), "<html>").unwrap()
        }),
        ("recursion limit", &|lay, _| {
            fs::write(
                lay.join("index.json"),
                format!(r#"{{"x":{}"#, "[".repeat(100_000)),
            )
            .unwrap()
        }),
        ("lists no image", &|lay, _| {
            edit(&lay.join("index.json"), |index| {
                index["manifests"] = json!([])
            })
        }),
        ("schemaVersion 1", &|lay, _| {
            edit(&lay.join("index.json"), |index| {
                index["schemaVersion"] = json!(1)
            })
        }),
        (
            "read index.json",
            &entry("digest", json!("sha256:../../../../etc/passwd")),
        ),
        ("ends after", &entry("size", json!(1 << 20))),
        ("are the most", &entry("size", json!(1_u64 << 60))),
        ("lists no image", &entry("mediaType", json!("text/html"))),
        ("which its maker allows nobody to pass on", &|lay, image| {
            edit_manifest(lay, image, |manifest| {
                manifest["layers"][0]["mediaType"] =
                    json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
            });
        }),
        ("lists 3 diff_ids, but it has 2 layers", &|lay, image| {
            edit_manifest(lay, image, |manifest| {
                drop(manifest["layers"].as_array_mut().unwrap().pop())
            });
        }),
        ("its index says", &|lay, image| {
            edit_manifest(lay, image, |manifest| {
                manifest["mediaType"] = json!(MediaType::DockerManifest.as_str())
            });
        }),
    ];
    for (why, change) in cases {
        let error = spoiled(change);
        assert!(error.contains(why), "{error} instead of {why}");
    }
}

/// As `docker save` before version 25 wrote it: a folder per layer, links between them, JSON
/// that nobody needs.
#[test]
fn archives_of_old_dockers_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (images, blobs) = image("content", DocumentFormat::Docker);
    let image = &images.images()[0];
    let plain = blobs.0.lock().unwrap()[&image.layers()[1].digest].clone();
    let gzip = blobs.0.lock().unwrap()[&image.layers()[0].digest].clone();
    let mut tar = tar::Builder::new(fs::File::create(dir.path().join("old.tar")).unwrap());
    let mut file = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content).unwrap();
    };
    let config = format!("{}.json", image.config().digest().hex());
    file("one/VERSION", b"1.0");
    file("one/json", b"{}");
    file("one/layer.tar", &gzip);
    file("two/layer.tar", &plain);
    file(&config, image.config().bytes());
    let manifest = json!([
        {"Config": config, "RepoTags": ["app:1"], "Layers": ["one/layer.tar", "two/layer.tar", "three/layer.tar"]},
        {"Config": "none.json", "RepoTags": ["app:2"], "Layers": []},
        {"Config": config, "RepoTags": null, "Layers": ["two/layer.tar", "one/layer.tar", "three/layer.tar"]},
    ]);
    file("manifest.json", manifest.to_string().as_bytes());
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "three/layer.tar", "../one/layer.tar")
        .unwrap();
    tar.into_inner().unwrap();
    let (base, sink) =
        import("docker-archive:old.tar:docker.io/library/app:1", dir.path()).unwrap();
    assert_eq!(base.digest, image.config().digest());
    assert_eq!(sink.digests(), blobs.digests());
    for (source, why) in [
        ("docker-archive:old.tar", "it holds app:1, app:2"),
        ("docker-archive:old.tar:app:3", "it holds app:1, app:2"),
        (
            "docker-archive:old.tar:app:2",
            "find the config \"none.json\"",
        ),
        ("oci-archive:old.tar", "write docker-archive:FILE"),
    ] {
        let error = refusal(source, dir.path());
        assert!(error.contains(why), "{source}: {error}");
    }
}

#[test]
fn a_layer_of_a_docker_archive_must_be_the_config_s() {
    let dir = tempfile::tempdir().unwrap();
    let (images, blobs) = image("content", DocumentFormat::Docker);
    write(
        &"docker-archive:x.tar:a/b:1".parse().unwrap(),
        dir.path(),
        &images,
        &[],
        &blobs,
        None,
    )
    .unwrap();
    let path = dir.path().join("x.tar");
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes
        .windows(6)
        .rposition(|window| window == b"second")
        .unwrap();
    bytes[place] = b'S';
    fs::write(&path, &bytes).unwrap();
    let error = refusal("docker-archive:x.tar", dir.path());
    assert!(error.contains("it unpacks to sha256:"), "{error}");
    bytes[place] = b's';
    let config = bytes
        .windows(9)
        .position(|window| window == b"boxwright")
        .unwrap();
    bytes[config] = b'B';
    fs::write(&path, &bytes).unwrap();
    let error = refusal("docker-archive:x.tar", dir.path());
    assert!(error.contains("has the digest sha256:"), "{error}");
}
