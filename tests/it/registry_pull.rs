//! Bases from registries: the reference registry behind every kind of door, and a server that
//! fails in every way we know.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use boxwright::oci::{Platform, Reference};
use boxwright::store::Store;
use boxwright::transport::BaseImage;
use boxwright::transport::http::{HttpClient, HttpSettings, Network, Patience, Secret, Trust};
use boxwright::transport::registry::{RegistryClient, RegistrySettings};
use serde_json::json;

use crate::support::fault_server::{Asked, FaultServer, Reply, Shelf};
use crate::support::image_fixture::{Image, Layer, architecture};
use crate::support::peers::{Skopeo, peer};
use crate::support::raw_tar::{Header, flag};
use crate::support::registry::{Door, PASSWORD, RegistryServer, USER, Wire};
use crate::support::sandbox::Sandbox;

const PASSWORD_OF_PROXY: &str = "hunter2";

/// An image with a small and a larger layer that does not compress to nothing.
fn image() -> Image {
    let mut noise = Vec::new();
    let mut state = 1u32;
    for _ in 0..600_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.push((state >> 24) as u8);
    }
    let file = |name: &str, content: &[u8]| {
        Layer::gzip(|tar| {
            let header = Header::new(flag::FILE, name).size(content.len() as u64);
            tar.file(header, content).expect("write to memory");
        })
    };
    Image {
        layers: vec![file("hello", b"hello\n"), file("noise", &noise)],
        config: json!({"User": "1000"}),
    }
}

/// The digests of the image's layers as a registry has them.
fn layer_digests(base: &BaseImage) -> Vec<String> {
    let layers = base.layers.iter();
    layers
        .map(|layer| layer.descriptor.digest.to_string())
        .collect()
}

/// Little patience, so that what never comes is not waited for.
pub(crate) fn hasty() -> RegistrySettings {
    let patience = Patience {
        answer: Duration::from_secs(2),
        idle: Duration::from_millis(700),
        pause: Duration::from_millis(2),
        longest_pause: Duration::from_secs(3),
        ..Patience::default()
    };
    RegistrySettings {
        http: HttpSettings {
            patience,
            ..HttpSettings::default()
        },
        ..RegistrySettings::default()
    }
}

struct Pulled {
    _folder: tempfile::TempDir,
    store: Store,
    result: Result<BaseImage, String>,
}

/// Pulls into a new store; an error is told with all its causes.
fn pull(settings: RegistrySettings, reference: &str) -> Pulled {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    let result = pull_into(&store, settings, reference);
    Pulled {
        _folder: folder,
        store,
        result,
    }
}

fn pull_into(
    store: &Store,
    settings: RegistrySettings,
    reference: &str,
) -> Result<BaseImage, String> {
    let reference: Reference = reference.parse().expect("a reference");
    let client = RegistryClient::new(settings);
    client
        .pull(&reference, &Platform::host(), store, &|_| ())
        .map_err(|error| {
            let mut text = error.to_string();
            let mut next = std::error::Error::source(&error);
            while let Some(cause) = next {
                text = format!("{text}: {cause}");
                next = cause.source();
            }
            text
        })
}

impl Pulled {
    #[track_caller]
    fn ok(&self) -> &BaseImage {
        let base = self
            .result
            .as_ref()
            .unwrap_or_else(|error| panic!("{error}"));
        for layer in &base.layers {
            let path = self.store.blob_path(&layer.descriptor.digest);
            let bytes = std::fs::read(path).expect("a layer of the store");
            assert_eq!(boxwright::oci::Digest::of(&bytes), layer.descriptor.digest);
        }
        base
    }

    #[track_caller]
    fn error(&self) -> &str {
        self.result.as_ref().map(drop).expect_err("a failure")
    }
}

#[test]
fn images_pushed_by_skopeo_are_bases_behind_every_door() {
    let skopeo = peer!(Skopeo::start());
    let sandbox = Sandbox::new();
    image().write_layout(&sandbox.path("lay"), "v1");
    for (wire, door) in [
        (Wire::Plain, Door::Open),
        (Wire::Tls, Door::Htpasswd),
        (Wire::Tls, Door::Token),
    ] {
        let server = peer!(RegistryServer::start(wire, door));
        let auth = sandbox.path(format!("auth-{}", server.address()));
        let account = format!("{USER}:{PASSWORD}");
        for format in ["oci", "v2s2"] {
            let target = format!("docker://{}/private/{format}:1", server.address());
            let from = format!("oci:{}:v1", sandbox.path("lay").display());
            let mut args = vec!["copy", "--dest-tls-verify=false", "--format", format];
            if door != Door::Open {
                args.extend(["--dest-creds", &account]);
            }
            args.extend([from.as_str(), &target]);
            skopeo.run(args).ok();
            let mut settings = hasty();
            if wire == Wire::Tls {
                settings.http.ca_file = Some(server.ca());
            }
            let reference = format!("{}/private/{format}:1", server.address());
            if door != Door::Open {
                let refused = pull(settings.clone(), &reference);
                let hint = format!("boxwright login {}", server.address());
                assert!(refused.error().contains(&hint), "{}", refused.error());
                let entry = json!({"username": USER, "password": PASSWORD});
                let file = json!({"auths": {server.address(): entry}});
                std::fs::write(&auth, file.to_string()).expect("write credentials");
                settings.auth_files = vec![auth.clone()];
            }
            let pulled = pull(settings.clone(), &reference);
            let base = pulled.ok();
            assert_eq!(base.layers.len(), 2);
            // By its digest it is the same image.
            let by_digest = format!("{}/private/{format}@{}", server.address(), base.digest);
            let again = pull(settings, &by_digest);
            assert_eq!(again.ok().digest, base.digest);
        }
    }
}

#[test]
fn a_registry_of_opposite_habits_gives_the_same_image() {
    let skopeo = peer!(Skopeo::start());
    let servers = [
        peer!(RegistryServer::open()),
        peer!(RegistryServer::ferro()),
    ];
    let sandbox = Sandbox::new();
    image().write_layout(&sandbox.path("lay"), "v1");
    let from = format!("oci:{}:v1", sandbox.path("lay").display());
    let pulled = servers.map(|server| {
        let reference = format!("{}/a/b:v1", server.address());
        skopeo.copy(&from, &format!("docker://{reference}")).ok();
        let pulled = pull(hasty(), &reference);
        (pulled.ok().digest, layer_digests(pulled.ok()))
    });
    assert_eq!(pulled[0], pulled[1]);
}

#[test]
fn tokens_are_asked_for_once_with_the_right_scope_and_again_when_they_expire() {
    let skopeo = peer!(Skopeo::start());
    let server = peer!(RegistryServer::start(Wire::Plain, Door::Token));
    let sandbox = Sandbox::new();
    image().write_layout(&sandbox.path("lay"), "v1");
    let reference = format!("{}/public/app:1", server.address());
    skopeo
        .run([
            "copy".to_owned(),
            "--dest-tls-verify=false".to_owned(),
            "--dest-creds".to_owned(),
            format!("{USER}:{PASSWORD}"),
            format!("oci:{}:v1", sandbox.path("lay").display()),
            format!("docker://{reference}"),
        ])
        .ok();
    let pushed = server.tokens().asked().len();
    pull(hasty(), &reference).ok();
    let asked = server.tokens().asked().split_off(pushed);
    assert_eq!(asked, ["- repository:public/app:pull"]);
    // A token that is worth nothing when it comes is fetched anew for every request, and the pull
    // still ends.
    server.tokens().set_lifetime(0);
    let pulled = pull(hasty(), &reference);
    assert!(server.tokens().asked().len() > pushed + 1);
    if let Err(error) = &pulled.result {
        assert!(
            error.contains("allows it to known accounts only"),
            "{error}"
        );
    }
    let private = format!("{}/private/app:1", server.address());
    let refused = pull(hasty(), &private);
    assert!(
        refused.error().contains("boxwright login"),
        "{}",
        refused.error()
    );
}

/// A server whose shelf has the image, some requests being answered by `fault`.
fn faulty(
    fault: impl Fn(&Asked, &Shelf, &AtomicUsize) -> Option<Reply> + Send + Sync + 'static,
) -> FaultServer {
    let mut shelf = Shelf::default();
    shelf.put_layout(&image().oci_layout("v1"), "v1");
    let count = AtomicUsize::new(0);
    FaultServer::start(move |asked| {
        fault(asked, &shelf, &count).unwrap_or_else(|| shelf.answer(asked))
    })
}

fn is_blob(asked: &Asked) -> bool {
    asked.target.contains("/blobs/")
}

/// Whether this is one of the first `most` times.
fn up_to(count: &AtomicUsize, most: usize) -> bool {
    count.fetch_add(1, Ordering::SeqCst) < most
}

#[test]
fn passing_failures_pass() {
    type Fault = fn(&Asked, &Shelf, &AtomicUsize) -> Option<Reply>;
    let cases: [(&str, Fault); 9] = [
        ("429 with Retry-After", |asked, _, count| {
            (asked.target.contains("/manifests/") && up_to(count, 2))
                .then(|| Reply::with(429, "Retry-After", "1"))
        }),
        ("503", |asked, _, count| {
            (is_blob(asked) && up_to(count, 4)).then(|| Reply::status(503))
        }),
        ("no answer at all", |asked, _, count| {
            (is_blob(asked) && up_to(count, 3)).then_some(Reply::Close)
        }),
        ("cut in the middle", |asked, shelf, count| {
            let bytes = shelf.large(asked)?;
            let cut = || Reply::Cut(200, vec![], bytes[..bytes.len() / 2].to_vec(), bytes.len());
            up_to(count, 1).then(cut)
        }),
        ("cut again and again", |asked, shelf, _| {
            let bytes = shelf.large(asked)?;
            let from = asked.header("range").map_or(0, |range| {
                range[6..range.len() - 1].parse().expect("a number")
            });
            let rest = &bytes[from..];
            let part = rest.get(..300_000)?;
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            let status = if from == 0 { 200 } else { 206 };
            Some(Reply::Cut(
                status,
                vec![("Content-Range", range)],
                part.to_vec(),
                rest.len(),
            ))
        }),
        ("cut, and ranges are ignored", |asked, shelf, count| {
            let bytes = shelf.large(asked)?;
            Some(match up_to(count, 1) {
                true => Reply::Cut(200, vec![], bytes[..400_000].to_vec(), bytes.len()),
                false => Reply::Whole(200, vec![], bytes.to_vec()),
            })
        }),
        ("silence in the middle", |asked, _, count| {
            (is_blob(asked) && up_to(count, 1)).then_some(Reply::Silence)
        }),
        ("no HEAD", |asked, _, _| {
            (asked.method == "HEAD").then(|| Reply::status(405))
        }),
        ("no digest in HEAD", |asked, _, _| {
            (asked.method == "HEAD").then(|| Reply::status(200))
        }),
    ];
    for (name, fault) in cases {
        let server = faulty(fault);
        let pulled = pull(hasty(), &format!("{}/a/b:v1", server.address()));
        assert!(
            pulled.result.is_ok(),
            "{name}: {:?} {:?}",
            pulled.result,
            server.lines_with("")
        );
        assert_eq!(pulled.ok().layers.len(), 2, "{name}");
    }
}

#[test]
fn what_was_cut_is_asked_for_from_there_on() {
    let server = faulty(|asked, shelf, count| {
        let bytes = shelf.large(asked)?;
        let cut = || Reply::Cut(200, vec![], bytes[..400_000].to_vec(), bytes.len());
        up_to(count, 1).then(cut)
    });
    pull(hasty(), &format!("{}/a/b:v1", server.address())).ok();
    let ranges = server.lines_with("bytes=");
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    // What the client had read when the cut came may be less than what was sent.
    let from = ranges[0]
        .rsplit("bytes=")
        .next()
        .unwrap()
        .trim_end_matches('-');
    assert!(from.parse::<usize>().unwrap() > 100_000, "{ranges:?}");
}

#[test]
fn lies_and_endless_answers_are_refused_in_bounded_time() {
    type Fault = fn(&Asked, &Shelf, &AtomicUsize) -> Option<Reply>;
    let cases: [(&str, Fault); 14] = [
        (
            "holds bytes whose digest|have the digest",
            |asked, shelf, _| {
                if !is_blob(asked) {
                    return None;
                }
                let mut bytes = shelf.blob(asked.target.rsplit('/').next()?).to_vec();
                bytes[0] ^= 1;
                Some(Reply::Whole(200, vec![], bytes))
            },
        ),
        ("the registry would send", |asked, shelf, _| {
            let bytes = shelf.large(asked)?;
            Some(Reply::Whole(200, vec![], bytes[1..].to_vec()))
        }),
        ("were promised|goes on after|longer than", |asked, _, _| {
            is_blob(asked).then_some(Reply::Endless)
        }),
        ("longer than", |asked, _, _| {
            asked
                .target
                .contains("/manifests/")
                .then_some(Reply::Endless)
        }),
        ("reach|ask", |asked, _, _| {
            is_blob(asked).then_some(Reply::EndlessHeaders)
        }),
        ("", |asked, _, _| is_blob(asked).then_some(Reply::Silence)),
        ("too slowly", |asked, shelf, _| {
            shelf.large(asked).map(|bytes| Reply::Drip(bytes.len()))
        }),
        ("digest", |asked, shelf, _| {
            asked.target.contains("/manifests/sha256").then(|| {
                let mut bytes = shelf
                    .blob(asked.target.rsplit('/').next().unwrap())
                    .to_vec();
                bytes.push(b' ');
                Reply::Whole(200, vec![], bytes)
            })
        }),
        ("404", |asked, _, _| {
            is_blob(asked).then(|| Reply::status(404))
        }),
        ("neither a manifest nor an index", |asked, _, _| {
            asked
                .target
                .contains("/manifests/")
                .then(|| Reply::Whole(200, vec![], b"{}".to_vec()))
        }),
        ("schema 1", |asked, _, _| {
            let body = br#"{"schemaVersion":1,"name":"a/b","fsLayers":[]}"#.to_vec();
            asked
                .target
                .contains("/manifests/")
                .then(|| Reply::Whole(200, vec![], body))
        }),
        ("redirects behind each other", |asked, _, _| {
            is_blob(asked).then(|| Reply::with(307, "Location", asked.target.clone()))
        }),
        ("neither with http:// nor with https://", |asked, _, _| {
            is_blob(asked).then(|| Reply::with(307, "Location", "file:///etc/passwd"))
        }),
        ("answers 500", |asked, _, _| {
            let body = br#"{"errors":[{"code":"UNKNOWN","message":"on \u001b[31mfire"}]}"#.to_vec();
            is_blob(asked).then(|| Reply::Whole(500, vec![], body))
        }),
    ];
    for (expected, fault) in cases {
        let server = faulty(fault);
        let start = Instant::now();
        let mut settings = hasty();
        settings.http.patience.attempts = 2;
        settings.http.patience.grace = Duration::from_secs(1);
        settings.http.patience.slowest = 1 << 20;
        let pulled = pull(settings, &format!("{}/a/b:v1", server.address()));
        let error = pulled.error();
        assert!(
            expected.split('|').any(|part| error.contains(part)),
            "{expected}: {error}"
        );
        assert!(!error.contains('\u{1b}'), "{error}");
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{expected}: {:?}",
            start.elapsed()
        );
    }
}

#[test]
fn foreign_layers_are_refused_with_a_reason() {
    let mut shelf = Shelf::default();
    let layout = image().oci_layout("v1");
    let digest = shelf.put_layout(&layout, "v1");
    let manifest = String::from_utf8(shelf.blob(&digest).to_vec()).unwrap();
    let foreign = manifest.replace("layer.v1.tar+gzip", "layer.nondistributable.v1.tar+gzip");
    shelf.put_manifest(
        "f",
        "application/vnd.oci.image.manifest.v1+json",
        foreign.into_bytes(),
    );
    let server = FaultServer::start(move |asked| shelf.answer(asked));
    let pulled = pull(hasty(), &format!("{}/a/b:f", server.address()));
    assert!(
        pulled.error().contains("allows nobody to pass on"),
        "{}",
        pulled.error()
    );
    assert_eq!(
        server.lines_with("/blobs/").len(),
        1,
        "the config, and no layer"
    );
}

#[test]
fn the_entry_of_an_index_for_the_platform_is_taken() {
    let mut shelf = Shelf::default();
    let right = shelf.put_layout(&image().oci_layout("v1"), "right");
    let size = shelf.blob(&right).len();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let other = shelf.put_blob(b"never asked for".to_vec());
    let entry = |digest: &str, size: usize, architecture: &str| {
        json!({"mediaType": media_type, "digest": digest, "size": size,
               "platform": {"os": "linux", "architecture": architecture}})
    };
    let index_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": index_type,
        "manifests": [entry(&other, 15, "s390x"), entry(&right, size, architecture())]});
    let bytes = serde_json::to_vec(&index).unwrap();
    let digest = shelf.put_manifest("all", index_type, bytes);
    let server = FaultServer::start(move |asked| shelf.answer(asked));
    let reference = format!("{}/a/b:all", server.address());
    let pulled = pull(hasty(), &reference);
    assert_eq!(pulled.ok().digest.to_string(), right);
    assert!(server.lines_with(&other).is_empty());
    // What a lock file notes is the index, for all platforms.
    let client = RegistryClient::new(hasty());
    let resolved = client
        .resolve(
            &reference.parse().unwrap(),
            &[Platform::host()],
            &pulled.store,
        )
        .unwrap();
    assert_eq!(resolved.digest.to_string(), digest);
    let none = client.pull(
        &reference.parse().unwrap(),
        &"linux/riscv64".parse().unwrap(),
        &pulled.store,
        &|_| (),
    );
    let none = none.unwrap_err().to_string();
    assert!(none.contains("it is for linux/s390x"), "{none}");
}

#[test]
fn what_is_here_is_not_fetched_again_and_offline_asks_nobody() {
    let server = faulty(|_, _, _| None);
    let reference = format!("{}/a/b:v1", server.address());
    let pulled = pull(hasty(), &reference);
    let (first, asked) = (pulled.ok().clone(), server.asked().len());
    // A tag is asked for, and nothing else.
    assert_eq!(
        pull_into(&pulled.store, hasty(), &reference).as_ref(),
        Ok(&first)
    );
    let lines: Vec<String> = server.asked()[asked..].iter().map(Asked::line).collect();
    assert_eq!(lines, ["HEAD /v2/a/b/manifests/v1"]);
    // A digest is not even asked for.
    let asked = server.asked().len();
    let by_digest = format!("{}/a/b@{}", server.address(), first.digest);
    let again = pull_into(&pulled.store, hasty(), &by_digest).unwrap();
    assert_eq!(layer_digests(&again), layer_digests(&first));
    let mut offline = hasty();
    offline.http.network = Network::Forbidden;
    assert_eq!(
        pull_into(&pulled.store, offline.clone(), &reference).as_ref(),
        Ok(&first)
    );
    assert_eq!(
        pull_into(&pulled.store, offline.clone(), &by_digest)
            .unwrap()
            .digest,
        first.digest
    );
    let elsewhere = format!("never.invalid/x/y@{}", first.digest);
    assert_eq!(
        pull_into(&pulled.store, offline.clone(), &elsewhere)
            .unwrap()
            .digest,
        first.digest
    );
    let unknown = format!("{}/a/b:v2", server.address());
    let error = pull_into(&pulled.store, offline.clone(), &unknown).unwrap_err();
    assert!(error.contains("it was not pulled before"), "{error}");
    // A layer that is gone is missed, not fetched.
    std::fs::remove_file(pulled.store.blob_path(&first.layers[1].descriptor.digest)).unwrap();
    let error = pull_into(&pulled.store, offline, &reference).unwrap_err();
    assert!(error.contains("--offline"), "{error}");
    assert_eq!(server.asked().len(), asked);
    // And with the network only that layer travels.
    pull_into(&pulled.store, hasty(), &reference).unwrap();
    let fetched: Vec<String> = server.asked()[asked..].iter().map(Asked::line).collect();
    assert_eq!(
        fetched
            .iter()
            .filter(|line| line.contains("/blobs/"))
            .count(),
        1,
        "{fetched:?}"
    );
}

#[test]
fn a_layer_that_stands_twice_in_an_image_travels_once() {
    let mut twice = image();
    twice.layers.push(twice.layers[1].clone());
    let mut shelf = Shelf::default();
    shelf.put_layout(&twice.oci_layout("v1"), "v1");
    let server = FaultServer::start(move |asked| shelf.answer(asked));
    let pulled = pull(hasty(), &format!("{}/a/b:v1", server.address()));
    assert_eq!(pulled.ok().layers.len(), 3);
    assert_eq!(
        server.lines_with("/blobs/").len(),
        3,
        "config and two layers"
    );
}

#[test]
fn credentials_go_to_the_registry_alone() {
    let mut shelf = Shelf::default();
    shelf.put_layout(&image().oci_layout("v1"), "v1");
    let shelf = Arc::new(shelf);
    let storage = {
        let shelf = Arc::clone(&shelf);
        Arc::new(FaultServer::start(move |asked| shelf.answer(asked)))
    };
    let registry = {
        let elsewhere = storage.address().to_owned();
        FaultServer::start(move |asked| match asked.header("authorization") {
            None => Reply::with(401, "WWW-Authenticate", "Basic realm=\"x\""),
            Some(_) if is_blob(asked) => {
                let place = format!("http://{elsewhere}{}?X-Signature=geheim", asked.target);
                Reply::with(307, "Location", place)
            }
            Some(_) => shelf.answer(asked),
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let auth = folder.path().join("auth.json");
    let entry = json!({"username": USER, "password": PASSWORD});
    let file = json!({"auths": {registry.address(): entry}});
    std::fs::write(&auth, file.to_string()).unwrap();
    let settings = RegistrySettings {
        auth_files: vec![auth],
        ..hasty()
    };
    pull(settings, &format!("{}/a/b:v1", registry.address())).ok();
    let elsewhere = storage.asked();
    assert_eq!(elsewhere.len(), 3);
    assert!(
        elsewhere
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
}

#[test]
fn storage_behind_tls_is_trusted_by_the_authorities_and_not_without() {
    let storage = peer!(RegistryServer::start(Wire::Tls, Door::Open));
    let place = storage.address().to_owned();
    let registry = faulty(move |asked, _, _| {
        let location = format!("https://{place}{}", asked.target);
        is_blob(asked).then(|| Reply::with(307, "Location", location))
    });
    let reference = format!("{}/a/b:v1", registry.address());
    let distrusted = pull(hasty(), &reference);
    assert!(
        distrusted.error().contains("certificate"),
        "{}",
        distrusted.error()
    );
    let mut settings = hasty();
    settings.http.ca_file = Some(storage.ca());
    assert!(pull(settings, &reference).error().contains("404"));
}

#[test]
fn passwords_are_not_sent_into_the_clear_to_others() {
    let registry = FaultServer::start(|_| {
        let challenge = "Bearer realm=\"http://tokens.invalid/token\",service=\"s\"";
        Reply::with(401, "WWW-Authenticate", challenge)
    });
    let pulled = pull(hasty(), &format!("{}/a/b:v1", registry.address()));
    assert!(
        pulled
            .error()
            .contains("http://tokens.invalid/token has no TLS"),
        "{}",
        pulled.error()
    );
}

#[test]
fn mirrors_are_asked_first_and_what_they_lack_comes_from_the_registry() {
    let registry = faulty(|_, _, _| None);
    let broken = faulty(|asked, _, _| is_blob(asked).then(|| Reply::status(404)));
    let good = faulty(|_, _, _| None);
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("registries.toml");
    let settings = |mirrors: &[&str], more: &str| {
        let mirrors: Vec<String> = mirrors
            .iter()
            .map(|mirror| format!("[[registry.mirror]]\nlocation = \"{mirror}/hub\"\n"))
            .collect();
        let text = format!(
            "[[registry]]\nprefix = \"made.up/lib\"\nlocation = \"{}/upstream\"\n{more}\n{}",
            registry.address(),
            mirrors.concat()
        );
        std::fs::write(&table, text).unwrap();
        RegistrySettings {
            tables: vec![table.clone()],
            ..hasty()
        }
    };
    // Nobody listens on the discard port of loopback.
    let dead = "127.0.0.1:9";
    pull(settings(&[dead, good.address()], ""), "made.up/lib/x:v1").ok();
    assert!(registry.asked().is_empty());
    assert_eq!(good.lines_with("/v2/hub/x/blobs/").len(), 3);
    pull(settings(&[dead, broken.address()], ""), "made.up/lib/x:v1").ok();
    assert!(!broken.lines_with("/blobs/").is_empty());
    assert_eq!(registry.lines_with("/v2/upstream/x/blobs/").len(), 3);
    let nowhere = pull(settings(&[dead], ""), "made.up/lib/x:v9");
    let error = nowhere.error();
    assert!(error.contains(dead) && error.contains("404"), "{error}");
    let blocked = pull(settings(&[], "blocked = true"), "made.up/lib/x:v1");
    assert!(
        blocked.error().contains("made.up/lib is blocked"),
        "{}",
        blocked.error()
    );
}

#[test]
fn a_build_from_a_registry_is_the_build_from_the_same_layout() {
    let skopeo = peer!(Skopeo::start());
    let server = peer!(RegistryServer::open());
    let sandbox = Sandbox::new();
    image().write_layout(&sandbox.path("lay"), "v1");
    let reference = format!("{}/acme/base:v1", server.address());
    let from = format!("oci:{}:v1", sandbox.path("lay").display());
    skopeo.copy(&from, &format!("docker://{reference}")).ok();
    let spec = |base: &str| {
        format!(
            "format: 1\nimage: acme/app\nstages:\n  app:\n    from: \"{base}\"\n    steps:\n      - {{copy: /hello, from: \"{base}\", to: /copied}}\n"
        )
    };
    sandbox.file("a/boxwright.yaml", spec(&reference));
    sandbox.file("b/boxwright.yaml", spec(&from));
    let digest = |folder: &str, more: &[&str]| {
        let mut args = vec!["build", folder, "-o", "oci:out", "--print", "digest"];
        args.extend(more);
        sandbox.boxwright(args).ok().stdout
    };
    let json = [
        "build",
        "a",
        "-o",
        "oci:json",
        "--progress",
        "json",
        "--store",
        "fresh",
    ];
    let told = sandbox.boxwright(json).ok().stderr;
    let mut fetched = told
        .lines()
        .filter(|line| line.contains("\"base_fetched\""));
    let last: serde_json::Value =
        serde_json::from_str(fetched.next_back().expect("an event")).unwrap();
    assert_eq!(last["done"], last["total"], "{told}");
    // Titles of steps name the source, and are in the history; the layers are the same.
    let (first, local) = (digest("a", &[]), digest("b", &[]));
    assert!(!first.is_empty() && !local.is_empty());
    assert_eq!(digest("a", &["--offline"]), first);
    let blobs = |log: &str| log.matches("GET /v2/acme/base/blobs/").count();
    let fetched = blobs(&server.log());
    assert_eq!(digest("a", &[]), first);
    assert_eq!(blobs(&server.log()), fetched, "{}", server.log());
    let shown = sandbox
        .boxwright(["inspect", &format!("docker://{reference}"), "--json"])
        .ok();
    assert!(shown.stdout.contains("\"names\""), "{shown:?}");
}

#[test]
fn logins_are_shared_with_skopeo_and_secrets_are_never_shown() {
    let skopeo = peer!(Skopeo::start());
    let server = peer!(RegistryServer::start(Wire::Tls, Door::Token));
    let sandbox = Sandbox::new();
    image().write_layout(&sandbox.path("lay"), "v1");
    let auth = sandbox.path("auth.json");
    let login = |password: &str| {
        sandbox.file("password", password);
        let mut command = sandbox.command("sh");
        command
            .env("SSL_CERT_FILE", server.ca())
            .env("REGISTRY_AUTH_FILE", &auth)
            .env("BOXWRIGHT", env!("CARGO_BIN_EXE_boxwright"))
            .args([
                "-c",
                "exec \"$BOXWRIGHT\" login -u \"$0\" --password-stdin \"$1\" <password",
            ])
            .args([USER, server.address()]);
        crate::support::process::run(&mut command)
    };
    let refused = login("wrong-secret").fails_with(1);
    assert!(!refused.golden().contains("wrong-secret"), "{refused:?}");
    assert!(!auth.exists());
    let taken = login(PASSWORD).ok();
    assert!(!taken.golden().contains(PASSWORD), "{taken:?}");
    // skopeo pushes with what we kept.
    let reference = format!("{}/private/app:1", server.address());
    skopeo
        .run([
            "copy".to_owned(),
            "--authfile".to_owned(),
            auth.display().to_string(),
            "--dest-tls-verify=false".to_owned(),
            format!("oci:{}:v1", sandbox.path("lay").display()),
            format!("docker://{reference}"),
        ])
        .ok();
    let inspect = || {
        let mut command = sandbox.boxwright_command(["inspect", &format!("docker://{reference}")]);
        command
            .env("SSL_CERT_FILE", server.ca())
            .env("REGISTRY_AUTH_FILE", &auth);
        crate::support::process::run(&mut command)
    };
    let seen = inspect().ok();
    assert!(!seen.golden().contains(PASSWORD), "{seen:?}");
    let mut command = sandbox.boxwright_command(["logout", server.address()]);
    crate::support::process::run(command.env("REGISTRY_AUTH_FILE", &auth)).ok();
    let denied = inspect().fails_with(1);
    assert!(denied.stderr.contains("boxwright login"), "{denied:?}");
}

#[test]
fn an_unknown_authority_is_no_reason_to_go_without_tls() {
    let server = peer!(RegistryServer::start(Wire::Tls, Door::Open));
    let reference = format!("{}/a/b:1", server.address());
    let distrusted = pull(hasty(), &reference);
    assert!(
        distrusted.error().contains("certificate"),
        "{}",
        distrusted.error()
    );
    let insecure = RegistrySettings {
        insecure: vec![server.address().to_owned()],
        ..hasty()
    };
    assert!(pull(insecure, &reference).error().contains("404"));
    // The folder of the registry in certs.d vouches for it.
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join(server.address());
    std::fs::create_dir(&certs).unwrap();
    std::fs::copy(server.ca(), certs.join("ca.crt")).unwrap();
    let trusted = RegistrySettings {
        certs: vec![folder.path().to_owned()],
        ..hasty()
    };
    assert!(pull(trusted, &reference).error().contains("404"));
}

#[test]
fn downloads_resume_and_know_their_end() {
    use std::io::Read;
    let bytes: Vec<u8> = (0..900_000u32).map(|number| (number % 251) as u8).collect();
    let sent = bytes.clone();
    let count = AtomicUsize::new(0);
    let server = FaultServer::start(move |asked| {
        let mut shelf = Shelf::default();
        let digest = shelf.put_blob(sent.clone());
        let asked = Asked {
            target: format!("/v2/x/blobs/{digest}"),
            ..asked.clone()
        };
        match up_to(&count, 1) {
            true => Reply::Cut(
                200,
                vec![("ETag", "\"1\"".to_owned())],
                sent[..500_000].to_vec(),
                sent.len(),
            ),
            false => shelf.answer(&asked),
        }
    });
    let client = HttpClient::new(hasty().http);
    let url = format!("http://{}/file.tar", server.address())
        .parse()
        .unwrap();
    let trust = Trust::default();
    let mut read = Vec::new();
    let mut download = client.download(&url, &trust, 1 << 20).unwrap();
    assert_eq!(download.size(), Some(bytes.len() as u64));
    download.read_to_end(&mut read).unwrap();
    assert!(read == bytes);
    assert_eq!(server.asked()[1].header("if-range"), Some("\"1\""));
    let too_long = client.download(&url, &trust, 1000).unwrap_err().to_string();
    assert!(too_long.contains("longer than 1000 bytes"), "{too_long}");
    let mut offline = hasty().http;
    offline.network = Network::Forbidden;
    assert!(HttpClient::new(offline).download(&url, &trust, 1).is_err());
}

#[test]
fn a_large_layer_passes_through_little_memory() {
    let server = {
        let mut noise = vec![0u8; 96 << 20];
        let mut state = 7u64;
        for chunk in noise.chunks_mut(8) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
        }
        let layer = Layer::plain(|tar| {
            let header = Header::new(flag::FILE, "noise").size(noise.len() as u64);
            tar.file(header, &noise).expect("write to memory");
        });
        let image = Image {
            layers: vec![layer],
            config: json!({}),
        };
        let mut shelf = Shelf::default();
        shelf.put_layout(&image.oci_layout("v1"), "v1");
        FaultServer::start(move |asked| shelf.answer(asked))
    };
    let sandbox = Sandbox::new();
    let reference = format!("docker://{}/a/b:v1", server.address());
    let ran = sandbox.boxwright(["inspect", &reference]).ok();
    assert!(ran.peak_kib < 64 << 10, "{} KiB", ran.peak_kib);
}

#[test]
fn one_layer_at_a_time_gives_the_same_image() {
    let server = faulty(|_, _, _| None);
    let reference = format!("{}/a/b:v1", server.address());
    let alone = RegistrySettings {
        parallel: NonZeroUsize::MIN,
        ..hasty()
    };
    assert_eq!(pull(alone, &reference).ok(), pull(hasty(), &reference).ok());
}

#[test]
fn a_client_certificate_opens_a_door() {
    let server = peer!(RegistryServer::start(Wire::Mutual, Door::Open));
    let reference = format!("{}/a/b:1", server.address());
    let mut settings = hasty();
    settings.http.ca_file = Some(server.ca());
    assert!(!pull(settings.clone(), &reference).error().contains("404"));
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join(server.address());
    std::fs::create_dir(&certs).unwrap();
    std::fs::copy(server.ca(), certs.join("me.cert")).unwrap();
    std::fs::copy(server.key(), certs.join("me.key")).unwrap();
    settings.certs = vec![folder.path().to_owned()];
    assert!(pull(settings, &reference).error().contains("404"));
}

#[test]
fn an_identity_token_is_exchanged_and_its_scope_is_asked_for() {
    let mut shelf = Shelf::default();
    shelf.put_layout(&image().oci_layout("v1"), "v1");
    let tokens = Arc::new(FaultServer::start(|_| {
        let answer = json!({"access_token": "good", "expires_in": 300});
        Reply::Whole(200, Vec::new(), answer.to_string().into_bytes())
    }));
    let realm = format!("http://{}/oauth", tokens.address());
    let registry = FaultServer::start(move |asked| match asked.header("authorization") {
        Some("Bearer good") => shelf.answer(asked),
        _ => Reply::with(
            401,
            "WWW-Authenticate",
            format!("Bearer realm=\"{realm}\",service=\"s & t\""),
        ),
    });
    let folder = tempfile::tempdir().unwrap();
    let auth = folder.path().join("auth.json");
    let entry = json!({"auth": "PHRva2VuPjo=", "identitytoken": "long/lived"});
    std::fs::write(
        &auth,
        json!({"auths": {registry.address(): entry}}).to_string(),
    )
    .unwrap();
    let settings = RegistrySettings {
        auth_files: vec![auth],
        ..hasty()
    };
    pull(settings, &format!("{}/a/b:v1", registry.address())).ok();
    let asked = tokens.asked();
    assert_eq!(asked.len(), 1, "one token for all requests of all threads");
    assert_eq!(
        String::from_utf8_lossy(&asked[0].body),
        "grant_type=refresh_token&service=s%20%26%20t&client_id=boxwright&scope=repository:a/b:pull&refresh_token=long/lived"
    );
}

#[test]
fn helpers_and_flags_of_the_command_line_count() {
    let registry = {
        let mut shelf = Shelf::default();
        shelf.put_layout(&image().oci_layout("v1"), "latest");
        // `ada:key` in base64.
        FaultServer::start(move |asked| match asked.header("authorization") {
            Some("Basic YWRhOmtleQ==") => shelf.answer(asked),
            _ => Reply::with(401, "WWW-Authenticate", "Basic realm=\"x\""),
        })
    };
    let sandbox = Sandbox::new();
    sandbox.tree("file 0755 bin/docker-credential-test #!/bin/sh\\nread key\\necho \"$1 $key\" >>$HOME/asked\\necho '{\"Username\":\"ada\",\"Secret\":\"key\"}'\\n");
    let config = json!({"credHelpers": {registry.address(): "test"}});
    sandbox.file("docker/config.json", config.to_string());
    let path = std::env::var("PATH").unwrap_or_default();
    let mirror = format!("{}/hub", registry.address());
    let mut command =
        sandbox.boxwright_command(["inspect", "docker://alpine", "--registry-mirror", &mirror]);
    command
        .env("DOCKER_CONFIG", sandbox.path("docker"))
        .env("PATH", format!("{}:{path}", sandbox.path("bin").display()));
    let ran = crate::support::process::run(&mut command).ok();
    assert!(ran.stdout.contains("docker.io/library/alpine"), "{ran:?}");
    assert!(
        !registry
            .lines_with("/v2/hub/library/alpine/manifests/latest")
            .is_empty()
    );
    let asked = std::fs::read_to_string(sandbox.home().join("asked")).unwrap();
    assert_eq!(asked, format!("get {}\n", registry.address()));
    // Offline nothing is resolved, however the registry is called.
    let before = registry.asked().len();
    let args = [
        "inspect",
        "docker://alpine:other",
        "--offline",
        "--registry-mirror",
        &mirror,
    ];
    let refused = sandbox.boxwright(args).fails_with(1);
    assert!(refused.stderr.contains("with --offline"), "{refused:?}");
    assert_eq!(registry.asked().len(), before);
}

#[test]
fn proxies_are_used_for_all_but_this_machine() {
    let proxy = FaultServer::start(|_| Reply::status(502));
    let mut settings = hasty();
    settings.http.patience.attempts = 1;
    let address = Secret::new(format!(
        "http://ada:{PASSWORD_OF_PROXY}@{}",
        proxy.address()
    ));
    settings.http.proxies.https = Some(address.clone());
    settings.http.proxies.http = Some(address);
    settings.http.proxies.none_for = "direct.invalid".to_owned();
    let through = pull(settings.clone(), "registry.invalid/a/b:v1");
    assert!(
        !through.error().contains(PASSWORD_OF_PROXY),
        "{}",
        through.error()
    );
    assert_eq!(proxy.lines_with("CONNECT registry.invalid:443").len(), 1);
    pull(settings.clone(), "direct.invalid/a/b:v1").error();
    let here = faulty(|_, _, _| None);
    pull(settings, &format!("{}/a/b:v1", here.address())).ok();
    assert_eq!(proxy.asked().len(), 1, "{:?}", proxy.lines_with(""));
}

#[test]
fn a_slow_but_steady_server_is_waited_for() {
    use std::io::Read;
    let server = FaultServer::start(|_| Reply::Drip(60));
    let mut settings = hasty().http;
    settings.patience.answer = Duration::from_millis(300);
    let client = HttpClient::new(settings);
    let url = format!("http://{}/file", server.address()).parse().unwrap();
    let trust = Trust::default();
    let mut read = Vec::new();
    let mut download = client.download(&url, &trust, 1 << 20).unwrap();
    download.read_to_end(&mut read).unwrap();
    // In one go: this server knows no ranges, and beginning anew would never end.
    assert_eq!((read.len(), server.asked().len()), (60, 1));
}
