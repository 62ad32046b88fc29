//! `add`: files of the web, known by their digests.

use boxwright::oci::Digest;
use serde_json::Value;

use crate::support::fault_server::{FaultServer, Reply};
use crate::support::sandbox::Sandbox;

const TOOL: &[u8] = b"#!/bin/sh\necho a tool\n";

/// A server with one file, found by a redirect, and a spec that adds it.
fn prepared(checksum: &str, more: &str) -> (Sandbox, FaultServer) {
    let server = FaultServer::start(|asked| match asked.target.as_str() {
        "/latest/tool" => Reply::with(302, "Location", "/v1/tool-1.0"),
        "/v1/tool-1.0" => Reply::Whole(200, Vec::new(), TOOL.to_vec()),
        _ => Reply::status(404),
    });
    let sandbox = Sandbox::new();
    let text = format!(
        "format: 1\nimage: test/add\nstages:\n  app:\n    from: scratch\n    allow: [root]\n    \
         workdir: /opt\n    steps:\n      - {{add: 'http://{}/latest/tool', checksum: '{checksum}'{more}}}\n",
        server.address()
    );
    sandbox.file("boxwright.yaml", text);
    (sandbox, server)
}

const BUILD: [&str; 5] = ["build", "-o", "oci-archive:app.tar", "--store", "store"];

/// The files of the image, with their modes.
fn files(sandbox: &Sandbox) -> Vec<String> {
    let ran = sandbox
        .boxwright(["inspect", "app.tar", "--json", "--store", "store"])
        .ok();
    let image: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let layers = image["layers"].as_array().expect("layers");
    let files = layers.iter().flat_map(|layer| layer["largest"].as_array());
    files
        .flatten()
        .map(|file| file["path"].as_str().expect("a path").to_owned())
        .collect()
}

#[test]
fn a_file_is_fetched_once_and_goes_where_copy_would_put_it() {
    let checksum = Digest::of(TOOL).to_string();
    for (more, expected) in [
        ("", "/opt/tool"),
        (", to: bin/, mode: '0755'", "/opt/bin/tool"),
        (", to: /usr/bin/it", "/usr/bin/it"),
    ] {
        let (sandbox, server) = prepared(&checksum, more);
        sandbox.boxwright(BUILD).ok();
        assert_eq!(files(&sandbox), [expected], "{more}");
        let asked = server.asked().len();
        sandbox
            .boxwright(BUILD.iter().chain(&["--no-cache", "--offline"]))
            .ok();
        assert_eq!(server.asked().len(), asked);
    }
}

#[test]
fn another_file_than_the_spec_wants_is_refused_and_not_kept() {
    let (sandbox, _server) = prepared(&Digest::of(b"another").to_string(), "");
    let ran = sandbox.boxwright(BUILD);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    for expected in [
        &Digest::of(TOOL).to_string(),
        "boxwright.yaml:9:",
        "checksum",
    ] {
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
    let blobs = std::fs::read_dir(sandbox.path("store/blobs/sha256")).expect("blobs");
    assert_eq!(blobs.count(), 0);
    assert!(!sandbox.path("app.tar").exists());
}

#[test]
fn offline_nothing_is_fetched() {
    let (sandbox, server) = prepared(&Digest::of(TOOL).to_string(), "");
    let ran = sandbox.boxwright(BUILD.iter().chain(&["--offline"]));
    assert_ne!(ran.code, 0);
    assert!(server.asked().is_empty());
    assert!(ran.stderr.contains("offline"), "{}", ran.stderr);
}
