//! Caches in a registry: a second machine takes results from there and comes to the same digests; a
//! cache that lies, is sealed by someone else, or is not there, changes nothing.

use std::fs;

use boxwright::store::Store;
use serde_json::Value as Json;

use crate::support::busybox;
use crate::support::peers::{Skip, may_mount, peer};
use crate::support::process::Ran;
use crate::support::registry::RegistryServer;
use crate::support::sandbox::Sandbox;

const SPEC: &str = "\
format: 1
image: test/shared
target: final
stages:
  work:
    from: oci:base:v1
    steps:
      - {copy: source, to: /src/}
      - run: mkdir /out && wc -c < /src/source > /out/size && cat /proc/sys/kernel/random/uuid > /out/when
  deps:
    from: oci:base:v1
    steps:
      - run: mkdir /deps && cat /proc/sys/kernel/random/uuid > /deps/when
  final:
    from: oci:base:v1
    allow: [root]
    steps:
      - {copy: /deps, from: deps, to: /deps/}
      - {copy: /out, from: work, to: /out/}
      - {copy: large, to: /}
";

/// A machine with the sources, the base and an empty store.
fn machine() -> Result<Sandbox, Skip> {
    if !may_mount() {
        return Err(Skip::because("nothing can be mounted here"));
    }
    let sandbox = Sandbox::new();
    busybox::base()?.write_layout(&sandbox.path("base"), "v1");
    sandbox.file("boxwright.yaml", SPEC);
    sandbox.file("source", "one source");
    sandbox.file(
        "large",
        "a line that is not compressed away\n".repeat(100_000),
    );
    sandbox.file("key", "a key that is long enough\n");
    sandbox.file("other-key", "another key, long enough\n");
    Ok(sandbox)
}

fn build(sandbox: &Sandbox, more: &[&str]) -> Ran {
    let args = ["build", "--store", "store", "-o", "oci-archive:out.tar"];
    let told = ["--progress", "json", "--print", "digest"];
    let args = args.iter().chain(&told).chain(more);
    sandbox.boxwright(args).ok()
}

fn events(ran: &Ran) -> Vec<Json> {
    let lines = ran.stderr.lines();
    let parsed = lines.map(|line| serde_json::from_str(line).expect("an event a line"));
    parsed.collect()
}

/// How many commands were run and how many layers were written.
fn done(ran: &Ran) -> (usize, usize) {
    let events = events(ran);
    let count = |kind: &str| {
        let built = |event: &&Json| event["event"] == kind && event["origin"] == "built";
        events.iter().filter(built).count()
    };
    let runs = events.iter().filter(|event| {
        let title = event["title"].as_str().unwrap_or_default();
        event["event"] == "step_finished" && event["origin"] == "built" && title.starts_with("run")
    });
    (runs.count(), count("layer_finished"))
}

fn notes(ran: &Ran) -> String {
    let events = events(ran);
    let notes = events.iter().filter(|event| event["event"] == "note");
    notes
        .filter_map(|event| event["text"].as_str())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_second_machine_runs_nothing_and_comes_to_the_same_digest() {
    let (first, second) = (peer!(machine()), peer!(machine()));
    let registry = peer!(RegistryServer::open());
    let cache = format!("docker://{}/cache/app:main", registry.address());
    let to = ["--cache-to", &cache, "--cache-key", "key"];
    let from = ["--cache-from", &cache, "--cache-key", "key"];

    let made = build(&first, &to);
    assert_eq!(done(&made), (2, 3), "{}", made.stderr);
    let taken = build(&second, &from);
    assert_eq!(taken.stdout, made.stdout);
    assert_eq!(done(&taken), (0, 0), "{}", taken.stderr);
    let archives =
        [&first, &second].map(|machine| fs::read(machine.path("out.tar")).expect("read"));
    assert!(archives[0] == archives[1]);
    assert!(
        notes(&taken).contains("results came from the cache"),
        "{}",
        notes(&taken)
    );

    // A change makes what depends on it again, and no more.
    second.file("source", "another source");
    let changed = build(&second, &from);
    assert_eq!(done(&changed), (1, 1), "{}", changed.stderr);

    // What the registry has is not sent again.
    let again = build(&first, &to);
    assert_eq!(again.stdout, made.stdout);
    let shared = events(&again);
    let shared = shared.iter().find(|event| event["event"] == "cache_shared");
    let sent = shared
        .and_then(|event| event["sent"].as_u64())
        .expect("bytes");
    assert!(sent < 20_000, "{sent} bytes were sent again");
}

#[test]
fn without_a_key_only_layers_are_believed() {
    let (first, second, third) = (peer!(machine()), peer!(machine()), peer!(machine()));
    let registry = peer!(RegistryServer::open());
    let cache = format!("{}/cache/app", registry.address());
    let made = build(&first, &["--cache-to", &cache]);
    let unproved = build(&second, &["--cache-from", &cache]);
    assert_eq!(done(&unproved).0, 2, "{}", unproved.stderr);
    // `large` is the one layer that no command decides.
    assert_eq!(done(&unproved).1, 2, "{}", unproved.stderr);
    assert!(
        notes(&unproved).contains("--cache-trust"),
        "{}",
        notes(&unproved)
    );
    let trusted = build(&third, &["--cache-from", &cache, "--cache-trust"]);
    assert_eq!(
        (trusted.stdout.as_str(), done(&trusted)),
        (made.stdout.as_str(), (0, 0))
    );
}

#[test]
fn a_cache_may_have_layers_only() {
    let (first, second) = (peer!(machine()), peer!(machine()));
    let registry = peer!(RegistryServer::open());
    let cache = format!("{}/cache/app:min", registry.address());
    build(
        &first,
        &[
            "--cache-to",
            &format!("{cache},mode=min"),
            "--cache-key",
            "key",
        ],
    );
    let taken = build(&second, &["--cache-from", &cache, "--cache-key", "key"]);
    assert_eq!(done(&taken), (2, 2), "{}", taken.stderr);
}

/// Makes a store say of each layer that it is the smallest of all.
fn lie(sandbox: &Sandbox) {
    let store = Store::open(&sandbox.path("store")).expect("open the store");
    let records = store
        .records("layer")
        .expect("list")
        .map(|record| record.expect("read"));
    let records: Vec<_> = records.collect();
    let size = |value: &[u8]| u64::from_le_bytes(value[32..40].try_into().expect("a size"));
    let smallest = records.iter().min_by_key(|record| size(&record.value));
    let smallest = smallest.expect("a layer").clone();
    for record in &records {
        store
            .put_record_with_blobs(&record.key, &smallest.value, &smallest.blobs)
            .expect("write a lie");
    }
}

#[test]
fn a_lying_cache_is_found_out() {
    let (honest, liar, victim) = (peer!(machine()), peer!(machine()), peer!(machine()));
    let registry = peer!(RegistryServer::open());
    let cache = format!("{}/cache/app", registry.address());
    let copies = SPEC.replace(
        "{copy: /deps, from: deps, to: /deps/}",
        "{copy: source, to: /}",
    );
    let copies = copies.replace("{copy: /out, from: work, to: /out/}", "{copy: key, to: /}");
    for machine in [&honest, &liar, &victim] {
        machine.file("boxwright.yaml", &copies);
    }
    let expected = build(&honest, &[]);
    build(&liar, &[]);
    lie(&liar);
    let lied = build(&liar, &["--cache-to", &cache]);
    assert_ne!(lied.stdout, expected.stdout, "the lie was not told");
    let taken = build(&victim, &["--cache-from", &cache]);
    assert_eq!(taken.stdout, expected.stdout);
    assert!(
        notes(&taken).contains("is not what its record says"),
        "{}",
        notes(&taken)
    );
    // Nothing of it stays.
    assert_eq!(build(&victim, &[]).stdout, expected.stdout);
}

#[test]
fn a_cache_of_someone_else_or_of_nobody_is_told_and_passed_over() {
    let (first, second) = (peer!(machine()), peer!(machine()));
    let registry = peer!(RegistryServer::open());
    let cache = format!("{}/cache/app", registry.address());
    build(&first, &["--cache-to", &cache, "--cache-key", "other-key"]);
    for (from, expected) in [
        (cache.clone(), "not sealed with our key"),
        (format!("{}/cache/none", registry.address()), "is not used"),
        ("127.0.0.1:1/cache".to_owned(), "is not used"),
    ] {
        let ran = build(
            &second,
            &["--no-cache", "--cache-from", &from, "--cache-key", "key"],
        );
        assert!(!notes(&ran).contains(expected), "--no-cache asks nobody");
        fs::remove_dir_all(second.path("store")).expect("remove the store");
        let ran = build(&second, &["--cache-from", &from, "--cache-key", "key"]);
        assert_eq!(done(&ran), (2, 3), "{from}: {}", ran.stderr);
        assert!(notes(&ran).contains(expected), "{from}: {}", notes(&ran));
        fs::remove_dir_all(second.path("store")).expect("remove the store");
    }
}
