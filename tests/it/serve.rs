//! The read-only registry: the pull half of the distribution spec by raw HTTP, real clients, and
//! clients that mean no good.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use boxwright::store::Store;
use boxwright::transport::serve::{ServeSettings, Server, Shelf};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::file_set::FileSet;
use crate::support::image_fixture::{Image, Layer, architecture, descriptor, set_index};
use crate::support::listing::content_of;
use crate::support::peers::{Containerd, Podman, Skopeo};
use crate::support::process::run;
use crate::support::raw_tar::{Header, flag};
use crate::support::sandbox::Sandbox;
use crate::support::served::{Caller, Heard, Served, ask};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Bytes that do not compress to nothing.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn image_with(noise_bytes: usize) -> Image {
    let file = |name: &str, content: &[u8]| {
        Layer::gzip(|tar| {
            let header = Header::new(flag::FILE, name).size(content.len() as u64);
            tar.file(header, content).expect("write to memory");
        })
    };
    Image {
        layers: vec![
            file("hello", b"hello\n"),
            file("noise", &noise(noise_bytes)),
        ],
        config: json!({"User": "1000"}),
    }
}

/// A layout with everything that can be asked for, and what is in it.
struct Laid {
    set: FileSet,
    /// The descriptor of an image, of an index over it, and of two documents that refer to it.
    image: Value,
    index: Value,
    signature: Value,
    bill: Value,
    /// The digest of its larger layer, and the layer.
    layer: (String, Vec<u8>),
}

fn named(entry: &Value, name: &str) -> Value {
    let mut entry = entry.clone();
    entry["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    entry
}

fn laid() -> Laid {
    let image = image_with(600_000);
    let mut set = image.oci_layout("x");
    let index: Value = serde_json::from_slice(&set.files["index.json"]).expect("JSON");
    let mut entry = index["manifests"][0].clone();
    entry["annotations"].take();
    let bytes = |document: &Value| serde_json::to_vec(document).expect("encode");
    let mut here = entry.clone();
    here["platform"] = json!({"os": "linux", "architecture": architecture()});
    // An image that was left out of the index.
    let mut gone = here.clone();
    gone["digest"] = json!(content_of(&b"gone"[..]).1);
    gone["platform"]["architecture"] = json!("s390x");
    let nested = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [here, gone]});
    let nested = descriptor(&mut set, INDEX, bytes(&nested));
    let config = descriptor(&mut set, "application/vnd.test.bill+json", b"{}".to_vec());
    let mut refer = |artifact_type: Option<&str>, note: &str| {
        let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": artifact_type,
            "config": config, "layers": [], "subject": entry, "annotations": {"note": note}});
        descriptor(&mut set, MANIFEST, bytes(&document))
    };
    let signature = refer(Some("application/vnd.test.signature"), "signed");
    let bill = refer(None, "listed");
    let layer = image.layers[1].bytes.clone();
    let entries = [
        named(&entry, "docker.io/acme/app:1"),
        named(&entry, "docker.io/acme/app:2"),
        named(&entry, "docker.io/acme/app:10"),
        named(&nested, "registry.test:5000/acme/multi:1"),
        signature.clone(),
        bill.clone(),
    ];
    set_index(&mut set, &entries);
    Laid {
        set,
        image: entry,
        index: nested,
        signature,
        bill,
        layer: (content_of(&layer[..]).1, layer),
    }
}

fn text<'a>(descriptor: &'a Value, key: &str) -> &'a str {
    descriptor[key].as_str().expect("text")
}

/// The image of one layer, small, in a layout at `dir`.
fn small_layout(dir: &Path, name: &str) -> Value {
    let mut set = image_with(1000).oci_layout("x");
    let index: Value = serde_json::from_slice(&set.files["index.json"]).expect("JSON");
    let entry = index["manifests"][0].clone();
    set_index(&mut set, &[named(&entry, name)]);
    set.write_to_directory(dir);
    entry
}

/// What is the same for GET and HEAD.
#[track_caller]
fn head_and_get(address: &str, target: &str) -> Heard {
    let get = ask(address, "GET", target, &[]);
    let head = ask(address, "HEAD", target, &[]);
    assert_eq!(
        (head.status, &head.headers),
        (get.status, &get.headers),
        "{target}"
    );
    let length = get.header("content-length").map(str::to_owned);
    assert_eq!(length, Some(get.body.len().to_string()), "{target}");
    get
}

#[test]
fn manifests_and_blobs_are_found_as_the_conformance_tests_want() {
    let sandbox = Sandbox::new();
    let laid = laid();
    laid.set.write_to_directory(&sandbox.path("lay"));
    let served = Served::start(&format!("oci:{}", sandbox.path("lay").display()));
    let address = served.address();
    assert_eq!(head_and_get(address, "/v2/").status, 200);
    let (image, index) = (text(&laid.image, "digest"), text(&laid.index, "digest"));
    for (name, reference, expected, media_type) in [
        ("acme/app", "1", image, MANIFEST),
        ("acme/app", image, image, MANIFEST),
        ("docker.io/acme/app", "10", image, MANIFEST),
        ("acme/multi", "1", index, INDEX),
        ("acme/multi", index, index, INDEX),
        // What an index leads to, and what nothing names.
        ("acme/multi", image, image, MANIFEST),
        (
            "any/name",
            text(&laid.bill, "digest"),
            text(&laid.bill, "digest"),
            MANIFEST,
        ),
    ] {
        let found = head_and_get(address, &format!("/v2/{name}/manifests/{reference}"));
        assert_eq!(found.status, 200, "{name} {reference}");
        assert_eq!(found.header("content-type"), Some(media_type));
        assert_eq!(found.header("docker-content-digest"), Some(expected));
        assert_eq!(content_of(&found.body[..]).1, expected);
    }
    let (digest, bytes) = &laid.layer;
    for name in ["acme/app", "some/other/name"] {
        let found = head_and_get(address, &format!("/v2/{name}/blobs/{digest}"));
        assert_eq!((found.status, &found.body), (200, bytes));
        assert_eq!(found.header("docker-content-digest"), Some(digest.as_str()));
        assert_eq!(
            found.header("content-type"),
            Some("application/octet-stream")
        );
    }
    let etag = format!("If-None-Match: \"{digest}\"");
    let known = ask(address, "GET", &format!("/v2/a/blobs/{digest}"), &[&etag]);
    assert_eq!((known.status, known.body.len()), (304, 0));
}

#[test]
fn what_is_not_there_or_not_allowed_is_said_in_the_words_of_the_spec() {
    let sandbox = Sandbox::new();
    let laid = laid();
    laid.set.write_to_directory(&sandbox.path("lay"));
    let served = Served::start(&format!("oci:{}", sandbox.path("lay").display()));
    let image = text(&laid.image, "digest");
    let missing = [
        (404, "MANIFEST_UNKNOWN", "acme/app/manifests/3".to_owned()),
        (
            404,
            "MANIFEST_UNKNOWN",
            "acme/app/manifests/.INVALID_MANIFEST_NAME".to_owned(),
        ),
        (
            404,
            "MANIFEST_UNKNOWN",
            format!("acme/app/manifests/{EMPTY}"),
        ),
        (
            404,
            "MANIFEST_UNKNOWN",
            format!("acme/app/manifests/{}", laid.layer.0),
        ),
        (404, "NAME_UNKNOWN", "acme/none/manifests/1".to_owned()),
        (404, "NAME_UNKNOWN", "acme/tags/list".to_owned()),
        (404, "BLOB_UNKNOWN", format!("acme/app/blobs/{EMPTY}")),
        (
            404,
            "BLOB_UNKNOWN",
            format!("acme/app/blobs/sha512:{}", "0".repeat(128)),
        ),
        (
            404,
            "BLOB_UPLOAD_UNKNOWN",
            "acme/app/blobs/uploads/1".to_owned(),
        ),
        (
            400,
            "DIGEST_INVALID",
            "acme/app/manifests/sha256:totallywrong".to_owned(),
        ),
        (400, "DIGEST_INVALID", "acme/app/blobs/sha256:12".to_owned()),
        (400, "DIGEST_INVALID", "acme/app/blobs/%2e%2e".to_owned()),
        (400, "DIGEST_INVALID", "acme/app/referrers/x".to_owned()),
        (400, "NAME_INVALID", "Acme/tags/list".to_owned()),
        (400, "NAME_INVALID", format!("../../../etc/blobs/{EMPTY}")),
        (400, "NAME_INVALID", format!("a%2f..%2fb/blobs/{EMPTY}")),
        (400, "NAME_INVALID", format!("a%00/blobs/{EMPTY}")),
        (
            400,
            "PAGINATION_NUMBER_INVALID",
            "acme/app/tags/list?n=-1".to_owned(),
        ),
        (
            404,
            "UNSUPPORTED",
            "acme/app/blobs/../../../../oci-layout".to_owned(),
        ),
    ];
    for (status, code, target) in missing {
        let found = head_and_get(served.address(), &format!("/v2/{target}"));
        assert_eq!(
            (found.status, found.code()),
            (status, code.to_owned()),
            "{target}"
        );
        assert_eq!(found.header("content-type"), Some("application/json"));
    }
    for target in ["/", "/v1/", "/v2x", "/index.json", "*"] {
        let found = ask(served.address(), "GET", target, &[]);
        assert_eq!(
            (found.status, found.code().as_str()),
            (404, "UNSUPPORTED"),
            "{target}"
        );
    }
    for (method, target) in [
        ("POST", "acme/app/blobs/uploads/".to_owned()),
        (
            "POST",
            format!("acme/app/blobs/uploads/?mount={image}&from=a"),
        ),
        ("PATCH", "acme/app/blobs/uploads/1".to_owned()),
        ("PUT", format!("acme/app/blobs/uploads/1?digest={image}")),
        ("PUT", "acme/app/manifests/new".to_owned()),
        ("DELETE", format!("acme/app/manifests/{image}")),
        ("DELETE", "acme/app/manifests/1".to_owned()),
        ("DELETE", format!("acme/app/blobs/{}", laid.layer.0)),
        ("POST", "acme/app/tags/list".to_owned()),
        ("OPTIONS", String::new()),
    ] {
        // With a body that nobody wants, and without.
        for headers in [&[][..], &["Content-Length: 200000"]] {
            let found = ask(served.address(), method, &format!("/v2/{target}"), headers);
            assert_eq!(
                (found.status, found.code().as_str()),
                (405, "UNSUPPORTED"),
                "{target}"
            );
            assert_eq!(found.header("allow"), Some("GET, HEAD"));
        }
    }
    let wrong = "/v2/acme/app/manifests/sha256:totallywrong";
    let found = ask(served.address(), "PUT", wrong, &[]);
    assert_eq!(found.status, 400, "nonsense comes before what is forbidden");
    let after = FileSet::read(&sandbox.path("lay")).expect("a layout");
    assert_eq!(after.files, laid.set.files, "nothing was written");
}

#[test]
fn ranges_of_blobs_are_sent_alone() {
    let sandbox = Sandbox::new();
    let laid = laid();
    laid.set.write_to_directory(&sandbox.path("lay"));
    let served = Served::start(&format!("oci:{}", sandbox.path("lay").display()));
    let (digest, bytes) = &laid.layer;
    let size = bytes.len();
    let target = format!("/v2/acme/app/blobs/{digest}");
    let asked = |range: &str| {
        ask(
            served.address(),
            "GET",
            &target,
            &[&format!("Range: {range}")],
        )
    };
    let huge = "9".repeat(30);
    for (range, start, end) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=100-".to_owned(), 100, size),
        (
            format!("bytes=131071-{}", 2 * 131_072),
            131_071,
            2 * 131_072 + 1,
        ),
        ("bytes=-7".to_owned(), size - 7, size),
        (format!("bytes=5-{huge}"), 5, size),
    ] {
        let part = asked(&range);
        assert_eq!(
            (part.status, &part.body[..]),
            (206, &bytes[start..end]),
            "{range}"
        );
        let expected = format!("bytes {start}-{}/{size}", end - 1);
        assert_eq!(part.header("content-range"), Some(expected.as_str()));
        assert_eq!(part.header("docker-content-digest"), Some(digest.as_str()));
    }
    for range in [
        format!("bytes={size}-"),
        format!("bytes={huge}-{huge}"),
        "bytes=-0".to_owned(),
    ] {
        let none = asked(&range);
        assert_eq!(
            (none.status, none.code().as_str()),
            (416, "RANGE_INVALID"),
            "{range}"
        );
        assert_eq!(
            none.header("content-range"),
            Some(format!("bytes */{size}").as_str())
        );
    }
    for range in ["bytes=5-2", "bytes=0-1,3-4", "lines=1-2"] {
        let whole = asked(range);
        assert_eq!((whole.status, &whole.body), (200, bytes), "{range}");
    }
    let other = [
        format!("If-Range: \"{EMPTY}\""),
        "Range: bytes=3-".to_owned(),
    ];
    let whole = ask(
        served.address(),
        "GET",
        &target,
        &other.each_ref().map(String::as_str),
    );
    assert_eq!(whole.status, 200);
    let same = [
        format!("If-Range: \"{digest}\""),
        "Range: bytes=3-".to_owned(),
    ];
    let part = ask(
        served.address(),
        "GET",
        &target,
        &same.each_ref().map(String::as_str),
    );
    assert_eq!(part.status, 206);
}

#[test]
fn tags_come_in_pages_and_referrers_by_type() {
    let sandbox = Sandbox::new();
    let laid = laid();
    laid.set.write_to_directory(&sandbox.path("lay"));
    let served = Served::start(&format!("oci:{}", sandbox.path("lay").display()));
    let get = |target: &str| head_and_get(served.address(), target);
    let tags = |query: &str| {
        let heard = get(&format!("/v2/acme/app/tags/list{query}"));
        let list = heard.json();
        assert_eq!(list["name"], "acme/app");
        (
            list["tags"].to_string(),
            heard.header("link").map(str::to_owned),
        )
    };
    assert_eq!(tags(""), (r#"["1","10","2"]"#.to_owned(), None));
    assert_eq!(tags("?n=9"), (r#"["1","10","2"]"#.to_owned(), None));
    assert_eq!(tags("?n=0"), ("[]".to_owned(), None));
    assert_eq!(tags("?n=2&last=10"), (r#"["2"]"#.to_owned(), None));
    assert_eq!(tags("?last=zzz"), ("[]".to_owned(), None));
    let (first, link) = tags("?n=2");
    assert_eq!(first, r#"["1","10"]"#);
    let link = link.expect("there is more");
    let next = link
        .strip_prefix('<')
        .and_then(|link| link.strip_suffix(">; rel=\"next\""));
    let next = get(next.expect("a link as the RFC has it"));
    assert_eq!(next.json()["tags"], json!(["2"]));
    assert_eq!(
        get("/v2/_catalog").json()["repositories"],
        json!(["acme/app", "acme/multi"])
    );

    let subject = text(&laid.image, "digest");
    let referrers = |query: &str| {
        let heard = get(&format!("/v2/acme/app/referrers/{subject}{query}"));
        assert_eq!(
            (heard.status, heard.header("content-type")),
            (200, Some(INDEX))
        );
        let filters = heard.header("oci-filters-applied").map(str::to_owned);
        (
            heard.json()["manifests"]
                .as_array()
                .expect("a list")
                .clone(),
            filters,
        )
    };
    let (mut all, filters) = referrers("");
    all.sort_by_key(|one| text(one, "artifactType").to_owned());
    let expected = [
        (&laid.bill, "application/vnd.test.bill+json", "listed"),
        (&laid.signature, "application/vnd.test.signature", "signed"),
    ];
    let expected = expected.map(|(descriptor, artifact_type, note)| {
        let mut expected = descriptor.clone();
        expected["artifactType"] = json!(artifact_type);
        expected["annotations"] = json!({"note": note});
        expected
    });
    assert_eq!((&all[..], filters), (&expected[..], None));
    for query in [
        "application/vnd.test.bill+json",
        "application%2Fvnd.test.bill%2Bjson",
    ] {
        let (some, filters) = referrers(&format!("?artifactType={query}"));
        assert_eq!(
            (&some[..], filters.as_deref()),
            (&expected[..1], Some("artifactType"))
        );
    }
    let unknown = get(&format!("/v2/any/referrers/{EMPTY}"));
    assert_eq!(
        (unknown.status, &unknown.json()["manifests"]),
        (200, &json!([]))
    );
    assert_eq!(unknown.json()["mediaType"], INDEX);
}

#[test]
fn every_client_pulls_what_was_laid_down() {
    let sandbox = Sandbox::new();
    let laid = laid();
    laid.set.write_to_directory(&sandbox.path("lay"));
    let served = Served::start(&format!("oci:{}", sandbox.path("lay").display()));
    let reference = format!("{}/acme/app:1", served.address());

    // A build takes it as its base.
    sandbox.file(
        "boxwright.yaml",
        format!(
            "format: 1\nimage: acme/next\nstages:\n  app:\n    from: {}/acme/multi:1\n    steps:\n\
             \x20     - write: /more\n        text: more\n    config: {{user: \"1000\"}}\n",
            served.address()
        ),
    );
    sandbox.boxwright(["build", "-o", "oci:next"]).ok();
    let next = FileSet::read(&sandbox.path("next")).expect("a layout");
    for layer in &image_with(600_000).layers {
        let hex = content_of(&layer.bytes[..]).1;
        let path = format!("blobs/sha256/{}", hex.trim_start_matches("sha256:"));
        assert_eq!(next.files.get(&path), Some(&layer.bytes));
    }

    match Skopeo::start() {
        Ok(skopeo) => {
            let copy = sandbox.path("copy");
            skopeo.copy(
                &format!("docker://{reference}"),
                &format!("oci:{}:1", copy.display()),
            );
            let copied = FileSet::read(&copy).expect("a layout");
            let index: Value = serde_json::from_slice(&copied.files["index.json"]).expect("JSON");
            assert_eq!(index["manifests"][0]["digest"], laid.image["digest"]);
            assert_eq!(
                copied
                    .files
                    .get(&format!("blobs/sha256/{}", &laid.layer.0[7..])),
                Some(&laid.layer.1)
            );
            let pushed = skopeo.run([
                "copy".to_owned(),
                "--dest-tls-verify=false".to_owned(),
                format!("oci:{}:1", copy.display()),
                format!("docker://{}/acme/new:1", served.address()),
            ]);
            assert_ne!(pushed.code, 0, "it is read-only: {pushed:?}");
        }
        Err(skip) => skip.report(),
    }
    match Podman::start() {
        Ok(podman) => {
            podman.run(["pull", "--tls-verify=false", &reference]).ok();
            let pulled = podman.inspect(&reference);
            assert_eq!(pulled["Digest"], laid.image["digest"]);
            let multi = format!("{}/acme/multi:1", served.address());
            podman.run(["pull", "--tls-verify=false", &multi]).ok();
        }
        Err(skip) => skip.report(),
    }
    match Containerd::shared() {
        Ok(containerd) => {
            let pull = ["images", "pull", "--plain-http", "--snapshotter", "native"];
            containerd
                .run(pull.iter().chain([&reference.as_str()]))
                .ok();
            let listed = containerd.run(["images", "ls"]).ok();
            let line = listed
                .stdout
                .lines()
                .find(|line| line.starts_with(&reference));
            let line = line.unwrap_or_else(|| panic!("{listed:?}"));
            assert!(line.contains(text(&laid.image, "digest")), "{line}");
        }
        Err(skip) => skip.report(),
    }
    assert!(!served.log().contains("warning"), "{}", served.log());
}

#[test]
fn archives_are_served_in_place_and_layouts_as_they_grow() {
    let sandbox = Sandbox::new();
    let laid = laid();
    laid.set.write_as_tar(&sandbox.path("app.tar"));
    let served = Served::start(&sandbox.path("app.tar").display().to_string());
    let (digest, bytes) = &laid.layer;
    let target = format!("/v2/acme/app/blobs/{digest}");
    assert_eq!(&head_and_get(served.address(), &target).body, bytes);
    let part = ask(served.address(), "GET", &target, &["Range: bytes=10-19"]);
    assert_eq!((part.status, &part.body[..]), (206, &bytes[10..20]));
    assert_eq!(
        head_and_get(served.address(), "/v2/acme/multi/manifests/1").status,
        200
    );

    // A build replaces the archive, and another adds to a layout.
    let small = image_with(10).oci_layout("localhost/small:1");
    fs::write(sandbox.path("new.tar"), small.tar()).expect("write an archive");
    fs::rename(sandbox.path("new.tar"), sandbox.path("app.tar")).expect("replace it");
    assert_eq!(
        head_and_get(served.address(), "/v2/small/manifests/1").status,
        200
    );
    assert_eq!(
        head_and_get(served.address(), "/v2/acme/app/manifests/1").status,
        404
    );

    sandbox.file("boxwright.yaml", "format: 1\nimage: acme/app\nstages:\n  app:\n    from: scratch\n    users: [{name: u, uid: 1001, gid: 1001}]\n    steps:\n      - write: /a\n        text: a\n    config: {user: u}\n");
    let build = |tag: &str| {
        let tag = format!("acme/app:{tag}");
        sandbox
            .boxwright(["build", "-o", "oci:lay", "-t", &tag])
            .ok();
    };
    build("1");
    let served = Served::start(&format!("oci:{}", sandbox.path("lay").display()));
    let tags = || head_and_get(served.address(), "/v2/acme/app/tags/list").json()["tags"].clone();
    assert_eq!(tags(), json!(["1"]));
    build("2");
    assert_eq!(tags(), json!(["1", "2"]));
    // An archive of ours has one entry for an image of several names.
    let names = ["-t", "acme/app:1", "-t", "ghcr.io/acme/other:2"];
    let build = ["build", "-o", "oci-archive:both.tar"];
    sandbox.boxwright(build.iter().chain(&names)).ok();
    let both = Served::start(&sandbox.path("both.tar").display().to_string());
    for name in ["acme/app/manifests/1", "acme/other/manifests/2"] {
        assert_eq!(
            head_and_get(both.address(), &format!("/v2/{name}")).status,
            200
        );
    }
    // An index that is half written is a matter of a moment.
    let index = fs::read(sandbox.path("lay/index.json")).expect("an index");
    fs::write(sandbox.path("lay/index.json"), &index[..index.len() / 2]).expect("cut it");
    assert_eq!(tags(), json!(["1", "2"]));
    assert!(
        served.log().contains("served as it was"),
        "{}",
        served.log()
    );
    fs::write(sandbox.path("lay/index.json"), &index).expect("mend it");
    assert_eq!(tags(), json!(["1", "2"]));
}

#[test]
fn the_store_serves_the_bases_that_builds_have_pulled() {
    let sandbox = Sandbox::new();
    let laid = laid();
    laid.set.write_to_directory(&sandbox.path("lay"));
    let first = Served::start(&format!("oci:{}", sandbox.path("lay").display()));
    let store = sandbox.path("store");
    let served = {
        Store::open(&store).expect("a store");
        Served::start(&store.display().to_string())
    };
    assert_eq!(
        ask(served.address(), "GET", "/v2/acme/app/tags/list", &[]).status,
        404
    );
    let reference = format!("docker://{}/acme/multi:1", first.address());
    let mut inspect = sandbox.boxwright_command(["inspect", &reference, "--store"]);
    run(inspect.arg(&store)).ok();
    let found = head_and_get(served.address(), "/v2/acme/multi/manifests/1");
    assert_eq!(
        found.header("docker-content-digest"),
        laid.index["digest"].as_str()
    );
    let target = format!("/v2/acme/multi/blobs/{}", laid.layer.0);
    assert_eq!(head_and_get(served.address(), &target).body, laid.layer.1);
    // Its blobs are not cleaned away under it.
    let mut clear = sandbox.boxwright_command(["cache", "clear", "--store"]);
    run(clear.arg(&store)).fails_with(3);
}

#[test]
fn damage_is_never_sent_as_an_image() {
    let sandbox = Sandbox::new();
    let laid = laid();
    let lay = sandbox.path("lay");
    laid.set.write_to_directory(&lay);
    let server = Local::start(
        Shelf::layout(&lay).expect("a layout"),
        ServeSettings::default(),
    );
    let (digest, bytes) = &laid.layer;
    let path = lay.join(format!("blobs/sha256/{}", &digest[7..]));
    let target = format!("/v2/acme/app/blobs/{digest}");
    let told = |word: &str| {
        let told = server.told.lock().expect("no panic");
        told.iter()
            .any(|note| note.contains(&digest[..]) && note.contains(word))
    };
    // One byte is another: the last piece is held back, whole or as the only one.
    let mut damaged = bytes.clone();
    damaged[100] ^= 1;
    fs::write(&path, &damaged).expect("damage a blob");
    let mut caller = Caller::of(&server.address);
    caller.say(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
    let sent = caller.rest();
    let head = sent
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .expect("a head")
        + 4;
    assert!(sent.len() - head < bytes.len(), "all of it was sent");
    assert!(told("holds bytes whose digest is"));
    // A blob of another length is not even begun.
    fs::write(&path, &bytes[1..]).expect("damage a blob");
    let refused = ask(&server.address, "GET", &target, &[]);
    assert_eq!((refused.status, refused.code().as_str()), (500, "UNKNOWN"));
    assert!(told("should have"));
    // A link that leads to a file of the machine gives nothing of it away.
    fs::remove_file(&path).expect("remove a blob");
    let secret = sandbox.path("secret");
    fs::write(&secret, noise(bytes.len())).expect("write a secret");
    std::os::unix::fs::symlink(&secret, &path).expect("make a link");
    for header in ["A: b", "Range: bytes=0-99"] {
        let mut caller = Caller::of(&server.address);
        caller.say(format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n"
        ));
        assert_eq!(caller.rest(), b"", "{header}");
    }
    // One that leads to the right bytes is as good as they are.
    fs::write(&secret, bytes).expect("write the blob");
    let found = ask(&server.address, "GET", &target, &["Range: bytes=0-99"]);
    assert_eq!((found.status, &found.body[..]), (206, &bytes[..100]));
    // A manifest that is another is not sent at all.
    let manifest = text(&laid.image, "digest");
    fs::write(lay.join(format!("blobs/sha256/{}", &manifest[7..])), "{}").expect("damage it");
    let refused = ask(&server.address, "GET", "/v2/acme/app/manifests/1", &[]);
    assert_eq!((refused.status, refused.code().as_str()), (500, "UNKNOWN"));
}

/// The server in a thread of this process; it ends when dropped.
struct Local {
    address: String,
    told: Arc<Mutex<Vec<String>>>,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Local {
    fn start(shelf: Shelf, settings: ServeSettings) -> Local {
        let address = "127.0.0.1:0".parse().expect("an address");
        let server = Server::bind(address, shelf, settings).expect("listen on loopback");
        let address = server.address().to_string();
        let (stop, other) = UnixStream::pair().expect("a pair of sockets");
        let told = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&told);
        let thread = std::thread::spawn(move || {
            let tell = |note: &str| notes.lock().expect("no panic").push(note.to_owned());
            server.run(other, &tell).expect("a server that runs");
        });
        Local {
            address,
            told,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Asks for the end and waits for it.
    fn end(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.stop.take();
        // A failed join would be a second panic here; `end` looks at it.
        self.thread.take().map(JoinHandle::join);
    }
}

/// Little patience, and few seats.
fn hasty() -> ServeSettings {
    ServeSettings {
        connections: 4,
        head: Duration::from_millis(500),
        idle: Duration::from_secs(30),
        piece: Duration::from_millis(500),
        farewell: Duration::from_millis(500),
    }
}

const GET: &str = "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn nonsense_is_answered_and_ended() {
    let sandbox = Sandbox::new();
    small_layout(&sandbox.path("lay"), "a/b:1");
    let shelf = Shelf::layout(&sandbox.path("lay")).expect("a layout");
    let mut server = Local::start(shelf, hasty());
    let long = "x".repeat(1 << 20);
    let many = "A: b\r\n".repeat(100_000);
    for (bytes, status) in [
        // TLS, as clients try it first.
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            400,
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 505),
        (b"hello\r\n\r\n".to_vec(), 400),
        (b"GET /v2/\r\n\r\n".to_vec(), 400),
        (b"GET /v2/ HTTP/1.1\r\n\r\n".to_vec(), 400),
        (
            b"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(),
            400,
        ),
        (
            b"GET /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n".to_vec(),
            400,
        ),
        (b"GET /v2/\xff HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400),
        (b"GET /v2/%ff HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400),
        (b"GET /v2/\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400),
        (long.clone().into_bytes(), 414),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes(),
            414,
        ),
        (
            format!("GET /v2/ HTTP/1.1\r\nHost: {long}\r\n\r\n").into_bytes(),
            431,
        ),
        (
            format!("GET /v2/ HTTP/1.1\r\nHost: a\r\n{many}\r\n").into_bytes(),
            431,
        ),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let mut caller = Caller::of(&server.address);
        // It may be answered before it was said to the end.
        caller.say(&bytes);
        let heard = caller
            .hear()
            .unwrap_or_else(|| panic!("no answer to {shown:?}"));
        assert_eq!(heard.status, status, "{shown:?}");
        assert_eq!(heard.header("connection"), Some("close"));
        assert_eq!(heard.code(), "UNSUPPORTED");
        assert_eq!(caller.rest(), b"");
    }
    // Nothing of that has hurt it.
    assert_eq!(ask(&server.address, "GET", "/v2/", &[]).status, 200);
    server.end();
}

#[test]
fn connections_are_kept_pipelined_and_ended_as_clients_say() {
    let sandbox = Sandbox::new();
    small_layout(&sandbox.path("lay"), "a/b:1");
    let shelf = Shelf::layout(&sandbox.path("lay")).expect("a layout");
    let server = Local::start(shelf, ServeSettings::default());
    let mut caller = Caller::of(&server.address);
    let manifest = "GET /v2/a/b/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n";
    let head = "HEAD /v2/a/b/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    // All at once, with empty lines between, and more behind the last.
    caller.say(format!("{GET}\r\n{head}{manifest}{GET}{last}{GET}"));
    let statuses = [false, true, false, false, false].map(|is_head| caller.hear_of(is_head));
    let statuses = statuses.map(|heard| heard.expect("an answer").status);
    assert_eq!((statuses, caller.rest()), ([200; 5], Vec::new()));
    // One after the other.
    let mut caller = Caller::of(&server.address);
    for _ in 0..100 {
        caller.say(manifest);
        assert_eq!(caller.hear().expect("an answer").status, 200);
    }
    // In pieces.
    for byte in manifest.bytes() {
        caller.say([byte]);
    }
    assert_eq!(caller.hear().expect("an answer").status, 200);
    // An old client says nothing about itself and hears one answer.
    let mut caller = Caller::of(&server.address);
    caller.say("GET /v2/ HTTP/1.0\r\n\r\nGET /v2/ HTTP/1.0\r\n\r\n");
    let heard = caller.hear().expect("an answer");
    assert_eq!(
        (heard.status, heard.header("connection")),
        (200, Some("close"))
    );
    // A body is not read as the next request.
    let smuggled = format!(
        "POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{GET}",
        GET.len()
    );
    let mut caller = Caller::of(&server.address);
    caller.say(smuggled);
    assert_eq!(caller.hear().expect("an answer").status, 405);
    assert_eq!(caller.rest(), b"");
}

#[test]
fn slow_and_silent_clients_do_not_keep_others_out() {
    let sandbox = Sandbox::new();
    let laid = laid();
    let lay = sandbox.path("lay");
    laid.set.write_to_directory(&lay);
    let mut server = Local::start(Shelf::layout(&lay).expect("a layout"), hasty());
    // Many more than there are seats: they say nothing, or half a request.
    let mut silent: Vec<Caller> = (0..100).map(|_| Caller::of(&server.address)).collect();
    for caller in silent.iter_mut().step_by(2) {
        caller.say("GET /v2/ HTTP/1.1\r\nHost:");
    }
    assert_eq!(ask(&server.address, "GET", "/v2/", &[]).status, 200);
    // As many as there are seats ask for what they never read.
    let hungry = format!(
        "GET /v2/a/blobs/{} HTTP/1.1\r\nHost: x\r\n\r\n",
        laid.layer.0
    );
    let hungry = hungry.repeat(100);
    let unread: Vec<Caller> = (0..4)
        .map(|_| {
            let mut caller = Caller::of(&server.address);
            caller.say(&hungry);
            caller
        })
        .collect();
    assert_eq!(ask(&server.address, "GET", "/v2/", &[]).status, 200);
    // A request that never ends is ended.
    let mut drip = Caller::of(&server.address);
    drip.say("GET /v2/ HTTP/1.1\r\n");
    assert_eq!(drip.hear().expect("an answer").status, 408);
    assert_eq!(drip.rest(), b"");
    drop((silent, unread));
    server.end();
}

#[test]
fn a_server_that_ends_lets_answers_finish_or_cuts_them() {
    let sandbox = Sandbox::new();
    // More than the system holds for a client that does not read.
    let image = image_with(16_000_000);
    let layer = &image.layers[1].bytes;
    image.write_layout(&sandbox.path("lay"), "localhost/large:1");
    let target = format!("/v2/large/blobs/{}", content_of(&layer[..]).1);
    for (reads, signal, times) in [
        (true, Signal::TERM, 1),
        (false, Signal::TERM, 1),
        // The second one is for those in a hurry.
        (false, Signal::INT, 2),
    ] {
        let source = format!("oci:{}", sandbox.path("lay").display());
        let mut command = sandbox.boxwright_command(["serve", "--listen", "0", &source]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start boxwright");
        let mut address = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        out.read_line(&mut address).expect("an address");
        let mut caller = Caller::of(address.trim());
        let mut idle = Caller::of(address.trim());
        idle.say(GET);
        assert_eq!(idle.hear().expect("an answer").status, 200);
        caller.say(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        // The answer has begun.
        let mut begun = [0; 1];
        let mut stream = caller.stream();
        stream.read_exact(&mut begun).expect("a byte");
        for _ in 0..times {
            let pid = Pid::from_child(&child);
            kill_process(pid, signal).expect("send a signal");
            assert_eq!(idle.rest(), b"", "who waits is let go");
        }
        let length = match reads {
            true => caller.rest().len(),
            false => 0,
        };
        let ended = child.wait().expect("wait for it");
        assert_eq!(ended.code(), Some(0), "{signal:?}");
        if reads {
            assert!(length > layer.len(), "{length} of {}", layer.len());
        } else {
            assert!(caller.rest().len() < layer.len());
        }
        let mut said = String::new();
        let mut err = child.stderr.take().expect("a pipe");
        err.read_to_string(&mut said).expect("text");
        assert!(!said.contains("error"), "{said}");
        let mut more = String::new();
        out.read_to_string(&mut more).expect("text");
        assert_eq!(more, "", "standard output is one line");
    }
}

#[test]
fn what_cannot_be_served_is_refused_with_a_remedy() {
    let sandbox = Sandbox::new();
    small_layout(&sandbox.path("lay"), "a/b:1");
    sandbox.file("plain.txt", "no image");
    image_with(10)
        .docker_archive("a/b:1")
        .write_as_tar(&sandbox.path("docker.tar"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    for (args, code, words) in [
        (vec!["none"], 1, "none"),
        (vec!["plain.txt"], 1, "neither a layout nor an archive"),
        (vec!["docker-archive:docker.tar"], 1, "oci-archive:FILE"),
        (vec!["docker://acme/app"], 1, "oci:DIR"),
        (vec!["oci:lay:1"], 2, "as a whole"),
        (vec!["oci:none"], 1, "no OCI layout"),
        (vec!["oci:lay", "--listen", ":5000"], 2, "0.0.0.0:5000"),
        (
            vec!["oci:lay", "--listen", "example.com:80"],
            2,
            "127.0.0.1:5000",
        ),
        (vec!["oci:lay", "--listen", &taken], 3, "--listen"),
    ] {
        let ran = sandbox
            .boxwright(["serve"].iter().chain(&args))
            .fails_with(code);
        assert!(ran.stderr.contains(words), "{args:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{args:?}");
    }
}

#[test]
fn who_listens_for_everybody_is_warned() {
    let sandbox = Sandbox::new();
    small_layout(&sandbox.path("lay"), "a/b:1");
    let mut command = sandbox.boxwright_command(["serve", "--listen", "0.0.0.0:0", "oci:lay"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start boxwright");
    let mut address = String::new();
    let out = child.stdout.take().expect("a pipe");
    BufReader::new(out)
        .read_line(&mut address)
        .expect("an address");
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::TERM).expect("send a signal");
    let ended = child.wait_with_output().expect("wait for it");
    assert_eq!(ended.status.code(), Some(0));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let warned = said.contains("warning: everybody who reaches 0.0.0.0:");
    assert!(warned && address.starts_with("0.0.0.0:"), "{said}");
    assert!(said.contains("/a/b:1"), "{said}");
}
