//! Images to registries: the reference registry behind every kind of door, a registry of opposite
//! habits, and one that fails in every way we know.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use boxwright::build::{PushReport, PushRequest, Silent, push};
use boxwright::store::Store;
use boxwright::transport::http::Network;
use boxwright::transport::registry::{Delivery, RegistryClient, RegistrySettings};
use serde_json::{Value, json};

use crate::registry_pull::hasty;
use crate::support::fault_server::{Asked, FaultServer, Reply};
use crate::support::file_set::FileSet;
use crate::support::gate::Gate;
use crate::support::image_fixture::{Image, Layer, architecture, set_index};
use crate::support::listing::content_of;
use crate::support::peers::{Podman, Skopeo, peer};
use crate::support::process::{Ran, run};
use crate::support::raw_tar::{Header, flag};
use crate::support::registry::{Door, PASSWORD, RegistryServer, USER, Wire};
use crate::support::sandbox::Sandbox;
use crate::support::strict_registry::{Fault, Habits, StrictRegistry};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Small enough for several chunks of a small blob.
const CHUNK: usize = 200_000;
/// The size of the larger layer's file: three chunks and a bit.
const LARGE: usize = 700_000;

/// Bytes that do not compress to nothing, the same in every run.
fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn layer(name: &str, content: &[u8]) -> Layer {
    Layer::plain(|tar| {
        let header = Header::new(flag::FILE, name).size(content.len() as u64);
        tar.file(header, content).expect("write to memory");
    })
}

/// An image with a small and a larger layer.
fn image() -> Image {
    Image {
        layers: vec![layer("hello", b"hello\n"), layer("noise", &noise(LARGE, 1))],
        config: json!({"User": "1000"}),
    }
}

/// The bytes of all blobs of an image that are no manifests.
fn blob_bytes(layout: &FileSet) -> usize {
    let manifest = &entries(layout)[0]["digest"];
    let hex = manifest.as_str().unwrap().trim_start_matches("sha256:");
    let blobs = layout.files.iter();
    let blobs = blobs.filter(|(path, _)| path.starts_with("blobs/") && !path.ends_with(hex));
    blobs.map(|(_, bytes)| bytes.len()).sum()
}

/// The entries of a layout's index.
fn entries(layout: &FileSet) -> Vec<Value> {
    let index: Value = serde_json::from_slice(&layout.files["index.json"]).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

fn put(layout: &mut FileSet, bytes: Vec<u8>) -> String {
    let digest = content_of(&bytes[..]).1;
    let path = format!("blobs/{}", digest.replace(':', "/"));
    layout.files.insert(path, bytes);
    digest
}

/// A layout on disk, a store, and how registries are reached.
struct Pusher {
    sandbox: Sandbox,
    settings: RegistrySettings,
}

impl Pusher {
    fn new(layout: &FileSet) -> Pusher {
        let sandbox = Sandbox::new();
        layout.write_to_directory(&sandbox.path("lay"));
        let settings = RegistrySettings {
            chunk: NonZeroU64::new(CHUNK as u64).unwrap(),
            ..hasty()
        };
        Pusher { sandbox, settings }
    }

    fn request(&self, source: &str, references: &[&str]) -> PushRequest {
        let (kind, rest) = source.split_once(':').unwrap();
        let path = self.sandbox.path(rest.split(':').next().unwrap());
        let name = rest.split_once(':').map(|(_, name)| format!(":{name}"));
        let source = format!("{kind}:{}{}", path.display(), name.unwrap_or_default());
        PushRequest {
            source: source.parse().unwrap(),
            references: references
                .iter()
                .map(|text| text.parse().unwrap())
                .collect(),
            store_root: self.sandbox.path("store"),
            registries: self.settings.clone(),
        }
    }

    /// Pushes with the library; an error is told with all its causes.
    fn push_all(&self, source: &str, references: &[&str]) -> Result<PushReport, String> {
        push(&self.request(source, references), &Silent).map_err(|error| {
            let mut text = error.to_string();
            let mut next = std::error::Error::source(&error);
            while let Some(cause) = next {
                text = format!("{text}: {cause}");
                next = cause.source();
            }
            text
        })
    }

    fn push(&self, reference: &str) -> Result<PushReport, String> {
        self.push_all("oci:lay", &[reference])
    }
}

/// How the blobs of the only repository came there, and how many bytes were sent.
fn deliveries(report: &PushReport) -> (Vec<Delivery>, u64) {
    let line = &report.pushes[0];
    let how = line.blobs.iter().map(|blob| blob.delivery).collect();
    (how, line.bytes_sent)
}

/// The files of an image as skopeo copies it out of a registry, every digest kept.
fn pulled_by_skopeo(skopeo: &Skopeo, sandbox: &Sandbox, more: &[&str], reference: &str) -> FileSet {
    let folder = sandbox.path(format!(
        "copied-{}",
        content_of(reference.as_bytes()).1.replace(':', "-")
    ));
    let mut args = vec!["copy", "--all", "--preserve-digests"];
    args.extend(["--src-tls-verify=false"]);
    args.extend(more);
    let (from, to) = (
        format!("docker://{reference}"),
        format!("oci:{}", folder.display()),
    );
    args.extend([from.as_str(), &to]);
    skopeo.run(args).ok();
    FileSet::read(&folder).unwrap()
}

/// `boxwright push` as a program.
fn push_command(pusher: &Pusher, args: &[&str]) -> std::process::Command {
    let mut all = vec!["push", "--store", "store"];
    all.extend(args);
    pusher.sandbox.boxwright_command(all)
}

#[test]
fn images_go_through_every_door_and_come_back_the_same() {
    let skopeo = peer!(Skopeo::start());
    let podman = peer!(Podman::start());
    let layout = image().oci_layout("v1");
    let digest = entries(&layout)[0]["digest"].as_str().unwrap().to_owned();
    for (wire, door) in [
        (Wire::Plain, Door::Open),
        (Wire::Tls, Door::Token),
        (Wire::Tls, Door::Htpasswd),
    ] {
        let server = peer!(RegistryServer::start(wire, door));
        let pusher = Pusher::new(&layout);
        let reference = format!("{}/private/app:1", server.address());
        let second = format!("docker://{}/private/app:2", server.address());
        let auth = pusher.sandbox.path("auth.json");
        let push = || -> Ran {
            let args = ["oci:lay:v1", &reference, &second, "--print", "digest"];
            let mut command = push_command(&pusher, &args);
            command.env("REGISTRY_AUTH_FILE", &auth);
            if wire == Wire::Tls {
                command.env("SSL_CERT_FILE", server.ca());
            }
            run(&mut command)
        };
        if door != Door::Open {
            let refused = push().fails_with(1);
            assert!(refused.stderr.contains("boxwright login"), "{refused:?}");
            let account = json!({"username": USER, "password": PASSWORD});
            let file = json!({"auths": {server.address(): account}});
            std::fs::write(&auth, file.to_string()).unwrap();
        }
        let ran = push().ok();
        assert_eq!(ran.stdout, format!("{digest}\n"), "{ran:?}");
        assert!(
            ran.stderr.contains("3 sent, 0 mounted, 0 there already"),
            "{ran:?}"
        );
        let again = push().ok();
        assert!(
            again.stderr.contains("0 sent, 0 mounted, 3 there already"),
            "{again:?}"
        );
        for told in [ran.golden(), again.golden()] {
            assert!(
                !told.contains(PASSWORD) && !told.contains("Bearer"),
                "{told}"
            );
        }
        if door == Door::Token {
            let asked = server.tokens().asked();
            let scope = format!("{USER} repository:private/app:pull,push");
            assert!(asked.contains(&scope), "{asked:?}");
        }
        let account = format!("{USER}:{PASSWORD}");
        let more = ["--src-creds", &account];
        let more = if door == Door::Open { &[] } else { &more[..] };
        for tag in ["1", "2"] {
            let reference = format!("{}/private/app:{tag}", server.address());
            let copied = pulled_by_skopeo(&skopeo, &pusher.sandbox, more, &reference);
            assert_eq!(entries(&copied)[0]["digest"], digest.as_str());
        }
        let mut args = vec!["pull", "-q", "--tls-verify=false"];
        if door != Door::Open {
            args.extend(["--creds", &account]);
        }
        args.push(&reference);
        podman.run(args).ok();
        assert_eq!(podman.inspect(&reference)["Digest"], digest.as_str());
    }
}

#[test]
fn a_build_sends_only_what_the_registry_lacks() {
    let skopeo = peer!(Skopeo::start());
    let server = peer!(RegistryServer::open());
    let sandbox = Sandbox::new();
    sandbox.file("large", noise(LARGE, 1)).file("small", "one");
    sandbox.file("boxwright.yaml", "format: 1\nimage: acme/app\ntags: [1.4.0, latest]\nstages:\n  app:\n    from: scratch\n    steps:\n      - {copy: large, to: /large}\n      - {copy: small, to: /small}\n    config: {user: '1000'}\n");
    let output = format!("docker://{}/team/app", server.address());
    let build = || -> Value {
        let args = ["build", "-o", "oci:out", "-o", &output, "--print", "json"];
        let ran = sandbox.boxwright(args).ok();
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let push_of = |report: &Value| report["outputs"][1]["push"].clone();
    let sent_blobs = |push: &Value| {
        let blobs = push["blobs"].as_array().unwrap().iter();
        blobs.filter(|blob| blob["delivery"] == "sent").count()
    };
    let first = build();
    let push = push_of(&first);
    assert_eq!(push["tags"], json!(["1.4.0", "latest"]), "{first}");
    assert_eq!(sent_blobs(&push), 3);
    assert!(push["bytes_sent"].as_u64().unwrap() > LARGE as u64);
    for tag in ["1.4.0", "latest"] {
        let reference = format!("{}/team/app:{tag}", server.address());
        let copied = pulled_by_skopeo(&skopeo, &sandbox, &[], &reference);
        assert_eq!(entries(&copied)[0]["digest"], first["manifest"]);
    }
    // Nothing changed: no blob, no document, only questions.
    let second = build();
    let push = push_of(&second);
    assert_eq!((sent_blobs(&push), &push["documents"]), (0, &json!(0)));
    assert_eq!(second["outputs"][1]["state"], "unchanged");
    assert!(push["bytes_sent"].as_u64().unwrap() < 4_000, "{push}");
    // One small file changed: its layer, the config and the manifest.
    sandbox.file("small", "two");
    let push = push_of(&build());
    assert_eq!((sent_blobs(&push), &push["documents"]), (2, &json!(2)));
    assert!(push["bytes_sent"].as_u64().unwrap() < 16_000, "{push}");
    assert_eq!(push["blobs"][0]["delivery"], "present", "{push}");
}

#[test]
fn registries_of_opposite_habits_take_the_same_images() {
    let skopeo = peer!(Skopeo::start());
    let reference = peer!(RegistryServer::open());
    let strict = StrictRegistry::start();
    // Where it is installed, the registry that the strict one is modelled after.
    let ferro = RegistryServer::ferro().ok();
    let mut layout = image().oci_layout("v1");
    let one = entries(&layout)[0].clone();
    let entry = |architecture: &str| {
        json!({"mediaType": MANIFEST, "digest": one["digest"], "size": one["size"],
               "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = json!({"schemaVersion": 2, "mediaType": INDEX,
        "manifests": [entry(architecture())]});
    let index = serde_json::to_vec(&index).unwrap();
    let size = index.len();
    let digest = put(&mut layout, index);
    let name = json!({"org.opencontainers.image.ref.name": "all"});
    let nested = json!({"mediaType": INDEX, "digest": digest, "size": size, "annotations": name});
    set_index(&mut layout, &[one, nested]);
    let pusher = Pusher::new(&layout);
    layout.write_as_tar(&pusher.sandbox.path("image.tar"));
    let docker = image().docker_archive("acme/app:1");
    docker.write_as_tar(&pusher.sandbox.path("docker.tar"));
    let addresses = [
        Some(reference.address()),
        Some(strict.address()),
        ferro.as_ref().map(RegistryServer::address),
    ];
    for source in [
        "oci:lay:v1",
        "oci:lay:all",
        "oci-archive:image.tar:all",
        "docker-archive:docker.tar",
    ] {
        let mut seen = Vec::new();
        for address in addresses.into_iter().flatten() {
            let target = format!("{address}/a/b:{}", source.replace([':', '.'], "-"));
            let report = pusher.push_all(source, &[&target]).unwrap();
            let copied = pulled_by_skopeo(&skopeo, &pusher.sandbox, &[], &target);
            assert_eq!(entries(&copied)[0]["digest"], report.digest.to_string());
            seen.push(report.digest);
        }
        assert!(
            seen.windows(2).all(|pair| pair[0] == pair[1]),
            "{source}: {seen:?}"
        );
    }
}

#[test]
fn what_another_repository_has_is_mounted() {
    let layout = image().oci_layout("v1");
    let server = peer!(RegistryServer::open());
    let pusher = Pusher::new(&layout);
    let [one, two] = ["one", "two"].map(|name| format!("{}/a/{name}:1", server.address()));
    let report = pusher.push_all("oci:lay", &[&one, &two]).unwrap();
    assert_eq!(deliveries(&report).0, [Delivery::Sent; 3]);
    let second = &report.pushes[1];
    for blob in &second.blobs {
        assert_eq!(blob.delivery, Delivery::Mounted, "{second:?}");
        assert_eq!(blob.mounted_from.as_deref(), Some("a/one"));
    }
    assert!(second.bytes_sent < 6_000, "{second:?}");
    // What was pulled is known to be there, too: a base is not sent to its own registry.
    let puller = Pusher::new(&layout);
    let store = Store::open(&puller.sandbox.path("store")).unwrap();
    let client = RegistryClient::new(hasty());
    let platform = boxwright::oci::Platform::host();
    client
        .pull(&one.parse().unwrap(), &platform, &store, &|_| ())
        .unwrap();
    let report = puller
        .push(&format!("{}/a/three:1", server.address()))
        .unwrap();
    assert_eq!(deliveries(&report).0, [Delivery::Mounted; 3]);
    // A registry that answers a mount with an upload gets the bytes there.
    let strict = StrictRegistry::start();
    let [one, two] = ["one", "two"].map(|name| format!("{}/a/{name}:1", strict.address()));
    let report = pusher.push_all("oci:lay", &[&one, &two]).unwrap();
    assert!(
        report.pushes[1]
            .blobs
            .iter()
            .all(|blob| blob.delivery == Delivery::Sent)
    );
    let begun = strict.lines("POST /v2/a/two");
    assert_eq!(begun.len(), 3, "one for each blob: {begun:?}");
    assert!(
        begun.iter().all(|line| line.contains("mount=")),
        "{begun:?}"
    );
    let willing = StrictRegistry::with(
        Habits {
            mounts: true,
            ..Habits::default()
        },
        |_| None,
    );
    let [one, two] = ["one", "two"].map(|name| format!("{}/a/{name}:1", willing.address()));
    pusher.push_all("oci:lay", &[&one, &two]).unwrap();
    assert_eq!(willing.uploaded(), blob_bytes(&layout));
}

/// A registry some of whose requests go wrong; the judge is told how many were judged so before.
fn faulty(habits: Habits, judge: fn(&Asked, &AtomicUsize) -> Option<Fault>) -> StrictRegistry {
    let count = AtomicUsize::new(0);
    StrictRegistry::with(habits, move |asked| judge(asked, &count))
}

/// Whether this is one of the first `most` times.
fn up_to(count: &AtomicUsize, most: usize) -> bool {
    count.fetch_add(1, Ordering::SeqCst) < most
}

fn is(asked: &Asked, method: &str, part: &str) -> bool {
    asked.method == method && asked.target.contains(part)
}

#[test]
fn passing_failures_pass() {
    type Judge = fn(&Asked, &AtomicUsize) -> Option<Fault>;
    let honest = Habits::default();
    let cases: [(&str, Habits, Judge); 15] = [
        (
            "429 with Retry-After at the beginning",
            honest,
            |asked, count| {
                (is(asked, "POST", "/uploads/") && up_to(count, 2))
                    .then(|| Fault::Reply(Reply::with(429, "Retry-After", "1")))
            },
        ),
        ("503 for chunks", honest, |asked, count| {
            (is(asked, "PATCH", "") && up_to(count, 3)).then(|| Fault::Reply(Reply::status(503)))
        }),
        ("500 at the end of an upload", honest, |asked, count| {
            (is(asked, "PUT", "/uploads/") && up_to(count, 2))
                .then(|| Fault::Reply(Reply::status(500)))
        }),
        ("cuts within chunks", honest, |asked, count| {
            (is(asked, "PATCH", "") && up_to(count, 3)).then_some(Fault::CutAfter(70_000))
        }),
        ("cuts without progress", honest, |asked, count| {
            (is(asked, "PATCH", "") && up_to(count, 3)).then_some(Fault::CutAfter(0))
        }),
        (
            "a cut within a blob of one request",
            honest,
            |asked, count| {
                (is(asked, "PUT", "/uploads/") && asked.length() > 1000 && up_to(count, 1))
                    .then_some(Fault::CutAfter(900))
            },
        ),
        ("answers of chunks are lost", honest, |asked, count| {
            (is(asked, "PATCH", "") && up_to(count, 2)).then_some(Fault::LoseAnswer)
        }),
        (
            "answers of the ends of uploads are lost",
            honest,
            |asked, count| {
                (is(asked, "PUT", "/uploads/") && up_to(count, 3)).then_some(Fault::LoseAnswer)
            },
        ),
        ("answers of beginnings are lost", honest, |asked, count| {
            (is(asked, "POST", "/uploads/") && up_to(count, 2)).then_some(Fault::LoseAnswer)
        }),
        (
            "the answer of the manifest is lost",
            honest,
            |asked, count| {
                (is(asked, "PUT", "/manifests/") && up_to(count, 1)).then_some(Fault::LoseAnswer)
            },
        ),
        ("416 for no reason", honest, |asked, count| {
            (is(asked, "PATCH", "") && up_to(count, 2)).then(|| Fault::Reply(Reply::status(416)))
        }),
        ("uploads are forgotten", honest, |asked, count| {
            (is(asked, "PATCH", "") && count.fetch_add(1, Ordering::SeqCst) == 2)
                .then(|| Fault::Reply(Reply::status(404)))
        }),
        ("uploads are sent elsewhere", honest, |asked, _| {
            let is_first = is(asked, "PUT", "/uploads/") && !asked.target.contains("again=1");
            is_first.then(|| {
                let place = format!("{}&again=1", asked.target);
                Fault::Reply(Reply::with(307, "Location", place))
            })
        }),
        (
            "no chunks are taken",
            Habits {
                chunks: false,
                ..honest
            },
            |_, _| None,
        ),
        (
            "places are absolute and have a query",
            Habits {
                absolute: true,
                ..honest
            },
            |asked, count| {
                (is(asked, "PATCH", "") && up_to(count, 1)).then_some(Fault::CutAfter(70_000))
            },
        ),
    ];
    let layout = image().oci_layout("v1");
    for (name, habits, judge) in cases {
        let server = faulty(habits, judge);
        let pusher = Pusher::new(&layout);
        let result = pusher.push(&format!("{}/a/b:1", server.address()));
        let report =
            result.unwrap_or_else(|error| panic!("{name}: {error}: {:#?}", server.lines("")));
        let manifest = server
            .manifest("a/b", "1")
            .unwrap_or_else(|| panic!("{name}"));
        assert_eq!(
            content_of(&manifest[..]).1,
            report.digest.to_string(),
            "{name}"
        );
        // What is kept of uploads goes when they are done.
        let kept = pusher.sandbox.path("store/records/upload");
        let files = |folder: &Path| -> usize {
            let folders = std::fs::read_dir(folder).into_iter().flatten().flatten();
            folders
                .map(|part| std::fs::read_dir(part.path()).unwrap().count())
                .sum()
        };
        assert_eq!(files(&kept), 0, "{name}");
    }
}

#[test]
fn what_was_cut_goes_on_from_there() {
    let layout = image().oci_layout("v1");
    let server = faulty(Habits::default(), |asked, count| {
        let cut = is(asked, "PATCH", "") && matches!(count.fetch_add(1, Ordering::SeqCst), 1 | 2);
        cut.then_some(Fault::CutAfter(70_000))
    });
    Pusher::new(&layout)
        .push(&format!("{}/a/b:1", server.address()))
        .unwrap();
    assert_eq!(server.uploaded(), blob_bytes(&layout), "no byte twice");
}

#[test]
fn a_killed_push_is_gone_on_with_by_the_next_process() {
    let layout = image().oci_layout("v1");
    let stopped = Arc::new(AtomicUsize::new(0));
    let server = {
        let stopped = Arc::clone(&stopped);
        StrictRegistry::with(Habits::default(), move |asked| {
            let is_third = asked
                .header("content-range")
                .is_some_and(|range| range.starts_with("400000-"));
            (is_third && stopped.fetch_add(1, Ordering::SeqCst) == 0)
                .then_some(Fault::StopAfter(50_000))
        })
    };
    let pusher = Pusher::new(&layout);
    let reference = format!("{}/a/b:1", server.address());
    let args = [
        "oci:lay",
        &reference,
        "--chunk-size",
        "200000",
        "--print",
        "json",
    ];
    let mut child = push_command(&pusher, &args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The small layer and two chunks and a quarter.
    let small = image().layers[0].bytes.len();
    let sent = small + 2 * CHUNK + 50_000;
    let start = Instant::now();
    while server.uploaded() < sent {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{}",
            server.uploaded()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(server.manifest("a/b", "1").is_none());
    let ran = run(&mut push_command(&pusher, &args)).ok();
    assert_eq!(
        server.uploaded(),
        blob_bytes(&layout),
        "no byte twice: {ran:?}"
    );
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let line = &report["pushes"][0];
    assert_eq!(line["blobs"][0]["delivery"], "present", "{line}");
    let rest = image().layers[1].bytes.len() - 2 * CHUNK - 50_000;
    assert_eq!(line["blobs"][1]["sent"], json!(rest), "{line}");
    assert!(
        line["bytes_sent"].as_u64().unwrap() < rest as u64 + 8_000,
        "{line}"
    );
    assert!(ran.stderr.contains("of it now"), "{ran:?}");
    assert!(server.manifest("a/b", "1").is_some());
}

#[test]
fn docker_registry_goes_on_after_the_last_whole_chunk() {
    let skopeo = peer!(Skopeo::start());
    let server = peer!(RegistryServer::open());
    let layout = image().oci_layout("v1");
    let gate = Gate::before(server.address(), 2);
    let pusher = Pusher::new(&layout);
    let reference = format!("{}/a/b:1", gate.address());
    let args = [
        "oci:lay",
        &reference,
        "--chunk-size",
        "200000",
        "--print",
        "json",
    ];
    let mut child = push_command(&pusher, &args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !gate.has_stopped() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{}",
            server.log()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What the small layer had on the way arrives before anything is counted.
    std::thread::sleep(Duration::from_millis(300));
    gate.open();
    let before = gate.passed();
    let ran = run(&mut push_command(&pusher, &args)).ok();
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let rest = image().layers[1].bytes.len() - 2 * CHUNK;
    let line = &report["pushes"][0];
    assert_eq!(
        line["blobs"][1]["sent"],
        json!(rest),
        "{line} {}",
        server.log()
    );
    // The other side of the wire agrees with what is told, but for an attempt at TLS.
    let passed = gate.passed() - before;
    let told = line["bytes_sent"].as_u64().unwrap();
    assert!(told.abs_diff(passed as u64) < 1_000, "{passed}: {line}");
    assert!(passed < rest + 20_000, "{passed}");
    let reference = format!("{}/a/b:1", server.address());
    let copied = pulled_by_skopeo(&skopeo, &pusher.sandbox, &[], &reference);
    assert_eq!(entries(&copied)[0]["digest"], report["digest"]);
}

#[test]
fn a_place_that_is_gone_costs_the_way_and_not_the_push() {
    let layout = image().oci_layout("v1");
    let broken = Arc::new(AtomicUsize::new(1));
    let server = {
        let broken = Arc::clone(&broken);
        StrictRegistry::with(Habits::default(), move |asked| {
            let is_later = asked
                .header("content-range")
                .is_some_and(|range| !range.starts_with("0-"));
            (is_later && broken.load(Ordering::SeqCst) > 0)
                .then(|| Fault::Reply(Reply::status(403)))
        })
    };
    let pusher = Pusher::new(&layout);
    let reference = format!("{}/a/b:1", server.address());
    let error = pusher.push(&reference).unwrap_err();
    assert!(error.contains("answers 403"), "{error}");
    broken.store(0, Ordering::SeqCst);
    server.forget_uploads();
    let report = pusher.push(&reference).unwrap();
    assert_eq!(
        report.pushes[0].blobs[1].sent,
        report.pushes[0].blobs[1].size
    );
    // And where the first bytes were others than ours, all are sent again.
    let twice = StrictRegistry::with(Habits::default(), {
        let count = AtomicUsize::new(0);
        move |asked| (is(asked, "PATCH", "") && up_to(&count, 4)).then_some(Fault::CutAfter(0))
    });
    let pusher = Pusher::new(&layout);
    pusher.push(&format!("{}/a/b:1", twice.address())).unwrap();
}

#[test]
fn lies_and_refusals_are_told_in_bounded_time() {
    type Judge = fn(&Asked, &AtomicUsize) -> Option<Fault>;
    let cases: [(&str, Judge); 10] = [
        ("it says that it took sha256:", |asked, _| {
            let other = content_of(&b"other"[..]).1;
            is(asked, "PUT", "/uploads/").then_some(Fault::Header("Docker-Content-Digest", other))
        }),
        ("it says that it took sha256:", |asked, _| {
            let other = content_of(&b"other"[..]).1;
            is(asked, "PUT", "/manifests/").then_some(Fault::Header("Docker-Content-Digest", other))
        }),
        ("answers 400", |asked, _| {
            is(asked, "PUT", "/uploads/").then(|| Fault::Reply(Reply::status(400)))
        }),
        // A small blob cannot have so much, and of a large one it takes no more from there.
        ("send a part of", |asked, _| {
            is(asked, "PATCH", "").then(|| Fault::Header("Range", "0-9998".to_owned()))
        }),
        ("does not say where", |asked, _| {
            is(asked, "POST", "/uploads/").then(|| Fault::Reply(Reply::status(202)))
        }),
        ("neither with http:// nor with https://", |asked, _| {
            is(asked, "POST", "/uploads/")
                .then(|| Fault::Reply(Reply::with(202, "Location", "file:///x")))
        }),
        ("answers 503", |asked, _| {
            is(asked, "PATCH", "").then(|| Fault::Reply(Reply::status(503)))
        }),
        ("answers 404", |asked, _| {
            is(asked, "PATCH", "").then(|| Fault::Reply(Reply::status(404)))
        }),
        ("answers 500 (UNKNOWN: on  [31mfire)", |asked, _| {
            let body = br#"{"errors":[{"code":"UNKNOWN","message":"on \u001b[31mfire"}]}"#.to_vec();
            is(asked, "PUT", "/manifests/").then(|| Fault::Reply(Reply::Whole(500, vec![], body)))
        }),
        ("", |asked, _| {
            is(asked, "PUT", "/manifests/").then_some(Fault::Reply(Reply::EndlessHeaders))
        }),
    ];
    let layout = image().oci_layout("v1");
    for (expected, judge) in cases {
        let server = faulty(Habits::default(), judge);
        let mut pusher = Pusher::new(&layout);
        pusher.settings.http.patience.attempts = 3;
        let start = Instant::now();
        let error = pusher
            .push(&format!("{}/a/b:1", server.address()))
            .unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(!error.contains('\u{1b}'), "{error}");
        assert!(start.elapsed() < Duration::from_secs(30), "{expected}");
    }
}

#[test]
fn what_is_damaged_here_is_not_blamed_on_the_registry() {
    let mut layout = image().oci_layout("v1");
    let is_layer =
        |(path, bytes): &(&String, &mut Vec<u8>)| path.starts_with("blobs/") && bytes.len() > LARGE;
    let (_, bytes) = layout.files.iter_mut().find(is_layer).unwrap();
    bytes[5000] ^= 1;
    let server = StrictRegistry::start();
    let reference = format!("{}/a/b:1", server.address());
    let error = Pusher::new(&layout).push(&reference).unwrap_err();
    assert!(error.contains("holds bytes whose digest"), "{error}");
    let (_, bytes) = layout.files.iter_mut().find(is_layer).unwrap();
    bytes.truncate(300_000);
    bytes.resize(300_000, 0);
    let error = Pusher::new(&layout).push(&reference).unwrap_err();
    assert!(error.contains("it ends after 300000 of"), "{error}");
    assert!(server.manifest("a/b", "1").is_none());
}

#[test]
fn tokens_that_expire_on_the_way_are_fetched_anew() {
    let given = Arc::new(AtomicUsize::new(0));
    let tokens = {
        let given = Arc::clone(&given);
        FaultServer::start(move |_| {
            let token = format!("geheim-{}", given.fetch_add(1, Ordering::SeqCst));
            let answer = json!({"token": token, "expires_in": 300});
            Reply::Whole(200, Vec::new(), answer.to_string().into_bytes())
        })
    };
    let realm = format!("http://{}/token", tokens.address());
    let uses = std::sync::Mutex::new(BTreeMap::<String, usize>::new());
    let server = StrictRegistry::with(Habits::default(), move |asked| {
        let challenge = || {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
            Some(Fault::Reply(Reply::with(
                401,
                "WWW-Authenticate",
                challenge,
            )))
        };
        let Some(token) = asked.header("authorization").map(str::to_owned) else {
            return challenge();
        };
        let mut uses = uses.lock().unwrap();
        let used = uses.entry(token).or_default();
        *used += 1;
        // Each is good for four requests.
        if *used > 4 { challenge() } else { None }
    });
    let layout = image().oci_layout("v1");
    let mut pusher = Pusher::new(&layout);
    pusher.settings.parallel = std::num::NonZeroUsize::MIN;
    let folder = pusher.sandbox.path("auth.json");
    let account = json!({"username": USER, "password": PASSWORD});
    std::fs::write(
        &folder,
        json!({"auths": {server.address(): account}}).to_string(),
    )
    .unwrap();
    pusher.settings.auth_files = vec![folder];
    pusher.push(&format!("{}/a/b:1", server.address())).unwrap();
    assert!(server.manifest("a/b", "1").is_some());
    let (asked, given) = (server.asked().len(), given.load(Ordering::SeqCst));
    assert!(
        given >= 4 && given > asked / 8,
        "{given} tokens for {asked} requests"
    );
}

#[test]
fn uploads_to_another_host_carry_no_credentials_and_are_not_kept() {
    let storage = Arc::new(FaultServer::start(|asked| match asked.method.as_str() {
        "PATCH" => {
            let range = asked.header("content-range").unwrap().to_owned();
            let end = range.split_once('-').unwrap().1.to_owned();
            Reply::with(202, "Range", format!("0-{end}"))
        }
        _ => Reply::status(201),
    }));
    let place = format!("http://{}/put?X-Signature=geheim", storage.address());
    let server = StrictRegistry::with(Habits::default(), move |asked| {
        if asked.header("authorization").is_none() {
            return Some(Fault::Reply(Reply::with(
                401,
                "WWW-Authenticate",
                "Basic realm=\"x\"",
            )));
        }
        is(asked, "POST", "/uploads/")
            .then(|| Fault::Reply(Reply::with(202, "Location", place.clone())))
    });
    let layout = image().oci_layout("v1");
    let mut pusher = Pusher::new(&layout);
    let auth = pusher.sandbox.path("auth.json");
    let account = json!({"username": USER, "password": PASSWORD});
    std::fs::write(
        &auth,
        json!({"auths": {server.address(): account}}).to_string(),
    )
    .unwrap();
    pusher.settings.auth_files = vec![auth];
    // The registry never hears of the blobs, so it refuses the manifest in the end.
    let error = pusher
        .push(&format!("{}/a/b:1", server.address()))
        .unwrap_err();
    assert!(error.contains("MANIFEST_BLOB_UNKNOWN"), "{error}");
    assert!(
        !error.contains("geheim") && !error.contains(PASSWORD),
        "{error}"
    );
    let asked = storage.asked();
    assert!(asked.len() > 5, "{:?}", storage.lines_with(""));
    assert!(
        asked
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
    let mut kept = String::new();
    for folder in ["store/records", "store/tmp"] {
        let grep = run(pusher
            .sandbox
            .command("grep")
            .args(["-rl", "geheim"])
            .arg(pusher.sandbox.path(folder)));
        kept.push_str(&grep.stdout);
    }
    assert_eq!(kept, "");
}

#[test]
fn without_network_nothing_is_pushed_and_nobody_is_asked() {
    let layout = image().oci_layout("v1");
    let server = StrictRegistry::start();
    let mut pusher = Pusher::new(&layout);
    let reference = format!("{}/a/b:1", server.address());
    let ran = run(&mut push_command(
        &pusher,
        &["oci:lay", &reference, "--offline"],
    ))
    .fails_with(1);
    assert!(
        ran.stderr.contains("--offline: that needs the network"),
        "{ran:?}"
    );
    pusher.settings.http.network = Network::Forbidden;
    assert!(pusher.push(&reference).unwrap_err().contains("--offline"));
    // A build says so before it does anything.
    pusher.sandbox.file(
        "boxwright.yaml",
        "format: 1\nimage: a/b\nstages:\n  app:\n    from: scratch\n    config: {user: '1000'}\n",
    );
    let output = format!("docker://{reference}");
    let args = ["build", "-o", "oci:out", "-o", &output, "--offline"];
    let ran = pusher.sandbox.boxwright(args).fails_with(1);
    assert!(
        ran.stderr.contains("--offline: that needs the network"),
        "{ran:?}"
    );
    assert!(!pusher.sandbox.path("out").exists());
    assert!(server.asked().is_empty());
}

/// A layout with an image and artifacts that say they belong to it.
fn signed(artifacts: usize) -> (FileSet, String, Vec<String>) {
    let mut layout = image().oci_layout("v1");
    let mut all = entries(&layout);
    let subject = all[0].clone();
    let empty = put(&mut layout, b"{}".to_vec());
    let mut digests = Vec::new();
    for number in 0..artifacts {
        let text = format!("signature {number}").into_bytes();
        let size = text.len();
        let blob = put(&mut layout, text);
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "artifactType": "application/vnd.test.signature",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
            "layers": [{"mediaType": "text/plain", "digest": blob, "size": size}],
            "subject": {"mediaType": MANIFEST, "digest": subject["digest"], "size": subject["size"]},
            "annotations": {"number": number.to_string()}});
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let size = bytes.len();
        let digest = put(&mut layout, bytes);
        all.push(json!({"mediaType": MANIFEST, "digest": digest, "size": size}));
        digests.push(digest);
    }
    set_index(&mut layout, &all);
    let subject = subject["digest"].as_str().unwrap().to_owned();
    (layout, subject, digests)
}

#[test]
fn what_belongs_to_an_image_goes_with_it_and_is_found_there() {
    let client = |server: &RegistryServer, path: &str| -> Value {
        let mut command = std::process::Command::new("curl");
        command.args(["-s", "-H", &format!("Accept: {INDEX}")]);
        let ran = run(command.arg(format!("http://{}/v2/a/b/{path}", server.address()))).ok();
        serde_json::from_str(&ran.stdout).unwrap_or_default()
    };
    let listed = |index: &Value| -> Vec<String> {
        let entries = index["manifests"].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|entry| entry["digest"].as_str().unwrap().to_owned())
            .collect()
    };
    // A registry that keeps the list needs no tag for it.
    let strict = StrictRegistry::start();
    let (layout, subject, digests) = signed(2);
    let reference = format!("{}/a/b:1", strict.address());
    Pusher::new(&layout)
        .push_all("oci:lay:v1", &[&reference])
        .unwrap();
    let tag = subject.replace(':', "-");
    for digest in &digests {
        assert!(strict.manifest("a/b", digest).is_some());
    }
    assert!(strict.manifest("a/b", &tag).is_none());
    let order = strict.lines("PUT /v2/a/b/manifests/");
    assert!(
        order.last().unwrap().ends_with("/1"),
        "the tag comes last: {order:?}"
    );
    // One that does not is given the index under the tag; what is in it stays.
    let server = peer!(RegistryServer::open());
    let reference = format!("{}/a/b:1", server.address());
    for (artifacts, expected) in [(1, 1), (2, 2), (2, 2), (1, 2)] {
        let (layout, _, digests) = signed(artifacts);
        Pusher::new(&layout)
            .push_all("oci:lay:v1", &[&reference])
            .unwrap();
        let index = client(&server, &format!("manifests/{tag}"));
        let found = listed(&index);
        assert_eq!(found.len(), expected, "{index}");
        assert!(
            digests.iter().all(|digest| found.contains(digest)),
            "{index}"
        );
        let entry = &index["manifests"][0];
        assert_eq!(entry["artifactType"], "application/vnd.test.signature");
        assert_eq!(entry["annotations"]["number"], "0");
    }
}

#[test]
fn layers_that_nobody_may_pass_on_stay_out() {
    let mut layout = image().oci_layout("v1");
    let digest = entries(&layout)[0]["digest"]
        .as_str()
        .unwrap()
        .replace(':', "/");
    let path = format!("blobs/{digest}");
    let manifest = String::from_utf8(layout.files.remove(&path).unwrap()).unwrap();
    let foreign = manifest
        .replace("layer.v1.tar", "layer.nondistributable.v1.tar")
        .into_bytes();
    let size = foreign.len();
    let digest = put(&mut layout, foreign);
    set_index(
        &mut layout,
        &[json!({"mediaType": MANIFEST, "digest": digest, "size": size})],
    );
    let server = StrictRegistry::start();
    let report = Pusher::new(&layout)
        .push(&format!("{}/a/b:1", server.address()))
        .unwrap();
    assert_eq!(
        (report.foreign_layers, report.pushes[0].blobs.len()),
        (2, 1)
    );
}

#[test]
fn a_large_layer_passes_through_little_memory() {
    let server = peer!(RegistryServer::open());
    let image = Image {
        layers: vec![layer("noise", &noise(96 << 20, 3))],
        config: json!({}),
    };
    let pusher = Pusher::new(&image.oci_layout("v1"));
    let reference = format!("{}/a/b:1", server.address());
    let ran = run(&mut push_command(&pusher, &["oci:lay", &reference])).ok();
    assert!(ran.peak_kib < 48 << 10, "{} KiB", ran.peak_kib);
}

#[test]
fn two_processes_that_push_the_same_do_not_disturb_each_other() {
    let server = peer!(RegistryServer::open());
    let layout = image().oci_layout("v1");
    let pusher = Pusher::new(&layout);
    let reference = format!("{}/a/b:1", server.address());
    let args = ["oci:lay", &reference, "--chunk-size", "100000"];
    let children: Vec<_> = (0..3)
        .map(|_| {
            let mut command = push_command(&pusher, &args);
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
