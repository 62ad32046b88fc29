//! Every output before every loader: an image on the busybox base, in both formats, written by
//! the rooms `image` and `transport` and judged by readers that share nothing with them.

use std::num::NonZeroUsize;
use std::path::Path;

use boxwright::image::{
    ConfigInputs, ImageLayer, ImageSet, NewLayer, Violation, assemble, config, validate,
};
use boxwright::layer::{Compression, WriteOptions};
use boxwright::oci::{Codec, DocumentFormat, ImageConfig, Platform};
use boxwright::spec::{Config, HealthProbe, ProbeTest, Span, Spanned};
use boxwright::store::Store;
use boxwright::transport::{
    Output, TransportError, Written, import_base, validate_archive, validate_layout, write,
};
use boxwright::tree::{Change, Changeset, Entry, LayerPath};

use crate::support::busybox;
use crate::support::hostile;
use crate::support::image_fixture::Image;
use crate::support::image_reader::ReadImage;
use crate::support::peers::{Containerd, Dockerd, Podman, Registry, Skopeo, Umoci, peer};
use crate::support::raw_tar::{Header, flag};
use crate::support::sandbox::Sandbox;

/// A file of our own layer, a file of the base, and the user.
const PROOF: [&str; 3] = ["sh", "-c", "cat /app/hello && cat /etc/os-release && id -u"];
const PROVEN: &str = "hello\nID=boxwright-test\n33\n";

const NAME: &str = "peers.test/acme/app:1.0";

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Span::new(0, 0))
}

/// `base` with one layer on it, a user and a health check; its blobs are in `store`.
fn built(base: &Image, sandbox: &Sandbox, format: DocumentFormat, store: &Store) -> ImageSet {
    base.write_layout(&sandbox.path("base"), "v1");
    let platform = Platform::host();
    let source = "oci:base:v1".parse().expect("a source");
    let base = import_base(&source, &sandbox.work(), &platform, store).expect("import the base");
    let path = |text: &str| LayerPath::parse(text.as_bytes()).expect("a path");
    let changes: Changeset = [
        (path("app"), Change::Put(Entry::directory(0o755))),
        (
            path("app/hello"),
            Change::Put(Entry::file("hello\n", 0o644)),
        ),
    ]
    .into_iter()
    .collect();
    let options = WriteOptions {
        compression: Compression::default_of(Codec::Gzip),
        epoch: 0,
        earlier: None,
        threads: NonZeroUsize::MIN,
        progress: &|_| (),
    };
    let (layer, ..) = boxwright::layer::write(&changes, store, &options).expect("write a layer");
    let test = ProbeTest::Exec(vec![
        "test".to_owned(),
        "-e".to_owned(),
        "/app/hello".to_owned(),
    ]);
    let probe = HealthProbe {
        test: Some(spanned(test)),
        ..HealthProbe::default()
    };
    let settings = Config {
        healthcheck: Some(spanned(probe)),
        ..Config::default()
    };
    let config = config(&ConfigInputs {
        base: Some(&base.config),
        settings: &settings,
        workdir: None,
        user: Some("33"),
        layers: &[NewLayer {
            diff_id: layer.diff_id,
            title: "write /app/hello",
        }],
        epoch: 0,
        platform: &platform,
    })
    .expect("make a config")
    .config;
    let mut layers = base.layers;
    layers.push(ImageLayer::from(&layer));
    let image = assemble(&config, &layers, format, &[].into()).expect("assemble");
    ImageSet::new(vec![image]).expect("a set")
}

fn put(sandbox: &Sandbox, output: &str, images: &ImageSet, store: &Store) -> Written {
    let output: Output = output.parse().expect("an output");
    let names = match output.reference() {
        Some(_) => vec![],
        None => vec![NAME.parse().expect("a name")],
    };
    let receipt = write(&output, &sandbox.work(), images, &names, store, None).expect("write");
    receipt.written
}

fn none(violations: Result<Vec<Violation>, TransportError>) {
    let violations = violations.expect("a layout");
    assert!(violations.is_empty(), "{violations:#?}");
}

/// The image in all three outputs, each checked by two readers.
fn outputs(base: &Image, format: DocumentFormat) -> (Sandbox, ImageSet) {
    let sandbox = Sandbox::new();
    let store = Store::open(&sandbox.path("store")).expect("a store");
    let images = built(base, &sandbox, format, &store);
    for output in [
        "oci:lay:v1",
        "oci-archive:app.tar",
        "docker-archive:docker.tar",
    ] {
        assert_eq!(put(&sandbox, output, &images, &store), Written::New);
        assert_eq!(put(&sandbox, output, &images, &store), Written::Unchanged);
    }
    none(validate_layout(&sandbox.path("lay")));
    none(validate_archive(&sandbox.path("app.tar")));
    let digest = images.images()[0].manifest().digest().to_string();
    for place in ["lay", "app.tar"] {
        assert_eq!(ReadImage::at(&sandbox.path(place)).digest, digest);
    }
    (sandbox, images)
}

const FORMATS: [DocumentFormat; 2] = [DocumentFormat::Oci, DocumentFormat::Docker];

#[test]
fn podman_runs_what_we_write() {
    let (base, podman) = (peer!(busybox::base()), peer!(Podman::start()));
    for format in FORMATS {
        let (sandbox, images) = outputs(base, format);
        for archive in ["app.tar", "docker.tar"] {
            let image = podman.load(&sandbox.path(archive));
            assert_eq!(image, NAME);
            assert_eq!(podman.run_image(&image, &PROOF).ok().stdout, PROVEN);
        }
        let image = podman.load(&sandbox.path("app.tar"));
        let seen = podman.inspect(&image);
        let digest = images.images()[0].manifest().digest().to_string();
        assert_eq!(seen["Digest"], digest, "podman keeps the manifest");
        // podman honours a health check only under Docker's media types.
        let is_seen = !podman.healthcheck(&image).is_null();
        assert_eq!(is_seen, format == DocumentFormat::Docker);
        podman.run(["rmi", "-f", &image]).ok();
    }
}

#[test]
fn docker_runs_what_we_write() {
    let (base, docker) = (peer!(busybox::base()), peer!(Dockerd::shared()));
    for format in FORMATS {
        let (sandbox, _) = outputs(base, format);
        for archive in ["app.tar", "docker.tar"] {
            let image = docker.load(&sandbox.path(archive));
            assert_eq!(image, NAME);
            assert_eq!(docker.run_image(&image, &PROOF).ok().stdout, PROVEN);
            let seen = docker.inspect(&image);
            assert_eq!(seen["Config"]["Healthcheck"]["Test"][0], "CMD");
        }
    }
}

#[test]
fn containerd_runs_what_we_write() {
    let (base, containerd) = (peer!(busybox::base()), peer!(Containerd::shared()));
    for format in FORMATS {
        let (sandbox, _) = outputs(base, format);
        let names = containerd.import(&sandbox.path("app.tar"));
        assert_eq!(names, [NAME]);
        assert_eq!(containerd.run_image(NAME, &PROOF).ok().stdout, PROVEN);
    }
}

#[test]
fn umoci_unpacks_what_we_write() {
    let (base, umoci) = (peer!(busybox::base()), peer!(Umoci::start()));
    let (sandbox, _) = outputs(base, DocumentFormat::Oci);
    let root = umoci.unpack(&sandbox.path("lay"), "v1", &sandbox.path("bundle"));
    let hello = std::fs::read_to_string(root.join("app/hello")).expect("our file");
    assert_eq!(hello, "hello\n");
    assert!(!root.join("etc/obsolete").exists());
}

#[test]
fn skopeo_carries_what_we_write_unchanged() {
    let (base, skopeo) = (peer!(busybox::base()), peer!(Skopeo::start()));
    let registry = peer!(Registry::start());
    for format in FORMATS {
        let (sandbox, images) = outputs(base, format);
        let digest = images.images()[0].manifest().digest().to_string();
        let path = |name: &str| sandbox.path(name).display().to_string();
        // By name skopeo finds only manifests of OCI's type; the only image it takes as it is.
        let mut sources = vec![
            format!("oci:{}", path("lay")),
            format!("oci-archive:{}", path("app.tar")),
        ];
        if format == DocumentFormat::Oci {
            sources.push(format!("oci:{}:v1", path("lay")));
            sources.push(format!("oci-archive:{}:{NAME}", path("app.tar")));
        }
        for (number, source) in sources.iter().enumerate() {
            let remote = format!("docker://{}/app:{format}{number}", registry.address());
            skopeo.copy(source, &remote).ok();
            assert_eq!(skopeo.inspect(&remote)["Digest"], digest.as_str());
        }
        // A docker archive has no manifest; the config and what the layers unpack to remain.
        let remote = format!("docker://{}/app:{format}-docker", registry.address());
        let source = format!("docker-archive:{}", path("docker.tar"));
        let flags = ["copy", "--dest-tls-verify=false"];
        skopeo
            .run(flags.iter().copied().chain([&source[..], &remote[..]]))
            .ok();
        let config: serde_json::Value =
            serde_json::from_slice(images.images()[0].config().bytes()).expect("JSON");
        assert_eq!(skopeo.config(&remote)["rootfs"], config["rootfs"]);
    }
}

/// Two platforms under a nested index, and two names: everyone finds this machine's image, docker
/// finds both names, podman and ctr the first.
#[test]
fn several_platforms_and_names_in_one_archive() {
    let (base, podman) = (peer!(busybox::base()), peer!(Podman::start()));
    let (docker, containerd) = (peer!(Dockerd::shared()), peer!(Containerd::shared()));
    let sandbox = Sandbox::new();
    let store = Store::open(&sandbox.path("store")).expect("a store");
    let here = built(base, &sandbox, DocumentFormat::Oci, &store).images()[0].clone();
    let mut config: ImageConfig = serde_json::from_slice(here.config().bytes()).expect("a config");
    config.platform = "linux/s390x".parse().expect("a platform");
    let diff_ids = config.rootfs.diff_ids.iter();
    let layers: Vec<_> = here
        .layers()
        .iter()
        .zip(diff_ids)
        .map(|(layer, diff_id)| ImageLayer {
            descriptor: layer.clone(),
            diff_id: *diff_id,
        })
        .collect();
    let other = assemble(&config, &layers, DocumentFormat::Oci, &[].into()).expect("assemble");
    let images = ImageSet::new(vec![here, other]).expect("a set");
    let names = ["peers.test/multi:1", "peers.test/multi:2"];
    let parsed = names.map(|name| name.parse().expect("a name"));
    let output = "oci-archive:multi.tar".parse().expect("an output");
    write(&output, &sandbox.work(), &images, &parsed, &store, None).expect("write");
    let archive = sandbox.path("multi.tar");
    none(validate_archive(&archive));
    let loaded = podman.load(&archive);
    assert_eq!(loaded, names[0]);
    assert_eq!(podman.run_image(&loaded, &PROOF).ok().stdout, PROVEN);
    assert!(containerd.import(&archive).contains(&names[0].to_owned()));
    assert_eq!(containerd.run_image(names[0], &PROOF).ok().stdout, PROVEN);
    docker.load(&archive);
    for name in names {
        assert_eq!(docker.run_image(name, &PROOF).ok().stdout, PROVEN);
    }
}

/// What skopeo and podman write, we read: the same config and the same layers.
#[test]
fn bases_of_other_writers_are_read() {
    let (base, skopeo) = (peer!(busybox::base()), peer!(Skopeo::start()));
    let sandbox = Sandbox::new();
    base.write_layout(&sandbox.path("base"), "v1");
    let source = format!("oci:{}:v1", sandbox.path("base").display());
    let expected = ReadImage::at(&sandbox.path("base"));
    let mut sources = Vec::new();
    for (kind, file) in [
        ("oci", "by-skopeo"),
        ("oci-archive", "by-skopeo.tar"),
        ("docker-archive", "by-skopeo-docker.tar"),
    ] {
        let target = format!("{kind}:{}:acme/base:v1", sandbox.path(file).display());
        skopeo.run(["copy", &source, &target]).ok();
        sources.push(format!("{kind}:{file}"));
    }
    if let Ok(podman) = Podman::start() {
        base.oci_layout(NAME)
            .write_as_tar(&sandbox.path("base.tar"));
        let image = podman.load(&sandbox.path("base.tar"));
        for format in ["oci-archive", "docker-archive"] {
            let file = format!("by-podman-{format}.tar");
            let path = sandbox.path(&file).display().to_string();
            podman
                .run(["save", "-q", "--format", format, "-o", &path, &image])
                .ok();
            sources.push(format!("{format}:{file}"));
        }
    }
    if let Ok(docker) = Dockerd::shared() {
        base.docker_archive("peers/saved:v1")
            .write_as_tar(&sandbox.path("saved-in.tar"));
        let image = docker.load(&sandbox.path("saved-in.tar"));
        let path = sandbox.path("by-docker.tar").display().to_string();
        docker.run(["save", "-o", &path, &image]).ok();
        sources.push("docker-archive:by-docker.tar:peers/saved:v1".to_owned());
    }
    for source in sources {
        let store = Store::open(&sandbox.path("store")).expect("a store");
        let parsed = source.parse().expect("a source");
        let read = import_base(&parsed, &sandbox.work(), &Platform::host(), &store).unwrap_or_else(
            |error| panic!("{source}: {error}: {:?}", std::error::Error::source(&error)),
        );
        let diff_ids = serde_json::to_value(&read.config.rootfs.diff_ids).expect("JSON");
        assert_eq!(diff_ids, expected.config["rootfs"]["diff_ids"], "{source}");
        assert_eq!(read.config.config.cmd, ["sh"], "{source}");
        assert_eq!(read.layers.len(), 2);
        for layer in &read.layers {
            assert!(
                store
                    .contains_blob(&layer.descriptor.digest)
                    .expect("the store")
            );
        }
    }
}

/// A small image that needs no busybox.
fn plain_image() -> Image {
    hostile::image_of(crate::support::image_fixture::Layer::gzip(|tar| {
        tar.file(Header::new(flag::FILE, "file"), b"content")
            .expect("write to memory");
        tar.raw(&[0; 1024]).expect("write to memory");
    }))
}

fn import(kind: &str, place: &Path) -> Result<(), String> {
    let store_folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(store_folder.path()).expect("a store");
    let source = format!("{kind}:{}", place.display())
        .parse()
        .expect("a source");
    let read = import_base(&source, Path::new("/"), &Platform::host(), &store);
    read.map(drop).map_err(|error| error.to_string())
}

#[test]
fn spoiled_layouts_are_refused() {
    let good = plain_image();
    for case in hostile::layouts(&good) {
        let sandbox = Sandbox::new();
        case.input.write_to_directory(&sandbox.path("lay"));
        case.input.write_as_tar(&sandbox.path("lay.tar"));
        for (kind, place) in [("oci", "lay"), ("oci-archive", "lay.tar")] {
            let place = sandbox.path(place);
            let violations = match kind {
                "oci" => validate_layout(&place),
                _ => validate_archive(&place),
            };
            let is_judged = violations.as_ref().map_or(true, |found| !found.is_empty());
            // Layers of a layout are not unpacked on import: their diff_ids are the judge's, and
            // whoever lists the layer's. Two entries of one name are an image each.
            match case.name {
                "a diff_id that is not the layer's" => assert!(is_judged, "{}", case.name),
                // An index may list nothing, or things that are no images.
                "the same reference twice" | "index is empty" | "media type of something else" => {
                    assert!(import(kind, &place).is_err())
                }
                name => assert!(
                    is_judged && import(kind, &place).is_err(),
                    "{name}: {violations:?}"
                ),
            }
        }
    }
}

#[test]
fn hostile_archives_are_refused() {
    let good = plain_image();
    let sandbox = Sandbox::new();
    for (name, bytes) in [
        ("links.tar", hostile::archive_of_links(&good)),
        ("twice.tar", hostile::archive_of_duplicates(&good)),
    ] {
        sandbox.file(name, bytes);
        let refused = import("oci-archive", &sandbox.path(name));
        assert!(refused.is_err(), "{name}");
    }
}

#[test]
fn the_judge_reads_every_hostile_layer_to_its_end() {
    let malformed = hostile::layers_that_are_malformed().into_iter();
    let damaged = hostile::layers_with_bad_compression().into_iter();
    let must_be_judged: Vec<_> = malformed.chain(damaged).collect();
    let may_be_contained = hostile::layers_that_reach_out();
    // These are no tars, but nothing in them is wrong to every reader.
    let harmless = [
        "empty",
        "PAX owner huge",
        "PAX time not a number",
        "empty global header",
    ];
    for (case, must) in must_be_judged
        .iter()
        .map(|case| (case, !harmless.contains(&case.name)))
        .chain(may_be_contained.iter().map(|case| (case, false)))
    {
        let set = hostile::image_of(case.input.clone()).oci_layout("v1");
        let sandbox = Sandbox::new();
        set.write_to_directory(&sandbox.path("lay"));
        let found = validate_layout(&sandbox.path("lay")).expect("a layout");
        let of_layer = found.iter().any(|found| found.place.starts_with("layer 0"));
        assert!(of_layer || !must, "{}: {found:?}", case.name);
    }
    let bomb = hostile::image_of(hostile::gzip_bomb(256 << 20)).oci_layout("v1");
    let sandbox = Sandbox::new();
    bomb.write_to_directory(&sandbox.path("bomb"));
    none(validate_layout(&sandbox.path("bomb")));
}

#[test]
fn a_missing_blob_is_the_store_s_fault() {
    let sandbox = Sandbox::new();
    let store = Store::open(&sandbox.path("store")).expect("a store");
    let images = built(&plain_image(), &sandbox, DocumentFormat::Oci, &store);
    let root = images.root();
    assert!(
        validate(&root, &store)
            .iter()
            .any(|found| found.rule.code() == "IS001")
    );
    std::fs::remove_file(store.blob_path(&images.layers()[0].digest)).expect("remove");
    let output = "oci-archive:app.tar".parse().expect("an output");
    let error =
        write(&output, &sandbox.work(), &images, &[], &store, None).expect_err("a blob is missing");
    assert!(matches!(error, TransportError::Store { .. }), "{error}");
    assert!(!sandbox.path("app.tar").exists());
}
