//! `add`: files of the web, known by their digests.

use boxwright::oci::Digest;
use boxwright::transport::validate_layout;
use serde_json::Value;

use crate::support::fault_server::{FaultServer, Reply};
use crate::support::peers::required;
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

/// A spec that unpacks what a server has under `/tool`, with these further keys.
fn unpacking(archive: &[u8], more: &str) -> (Sandbox, FaultServer) {
    let checksum = Digest::of(archive).to_string();
    let archive = archive.to_vec();
    let server = FaultServer::start(move |_| Reply::Whole(200, Vec::new(), archive.clone()));
    let sandbox = Sandbox::new();
    let text = format!(
        "format: 1\nimage: test/add\nstages:\n  app:\n    from: scratch\n    allow: [root]\n    \
         workdir: /opt\n    steps:\n      - {{add: 'http://{}/tool', checksum: '{checksum}', unpack: true{more}}}\n",
        server.address()
    );
    sandbox.file("boxwright.yaml", text);
    (sandbox, server)
}

/// What GNU tar, told to write in this way, makes of a folder with a program of two names.
fn archive(flag: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let tool = folder.path().join("tool/bin");
    std::fs::create_dir_all(&tool).expect("a folder");
    std::fs::write(tool.join("run"), TOOL).expect("a file");
    std::fs::hard_link(tool.join("run"), tool.join("same")).expect("a link");
    std::os::unix::fs::symlink("/etc", tool.join("etc")).expect("a link");
    let made = std::process::Command::new("tar")
        .args([
            "--sort=name",
            "--owner=:7",
            "--group=:8",
            "--mode=u=rwX,go=rX",
            flag,
        ])
        .args(["-cf", "-", "-C"])
        .arg(folder.path())
        .arg("tool")
        .output()
        .expect("tar");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    made.stdout
}

/// The names of the image's one layer, as tar lists them.
fn listed(sandbox: &Sandbox) -> String {
    let script = "mkdir x && tar -xf app.tar -C x && for blob in x/blobs/sha256/*; do \
         tar --numeric-owner -tvzf $blob 2>/dev/null || :; done";
    let ran = std::process::Command::new("sh")
        .args(["-ec", script])
        .env("TZ", "UTC")
        .current_dir(sandbox.work())
        .output()
        .expect("sh");
    assert!(ran.status.success());
    assert_eq!(validate_layout(&sandbox.path("x")).expect("a layout"), []);
    let text = String::from_utf8(ran.stdout).expect("text");
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        [&[words[0], words[1]], &words[5..]].concat().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn an_archive_is_unpacked_where_the_spec_says() {
    let formats = [
        ("--format=gnu", "tar"),
        ("-z", "gzip"),
        ("-J", "xz"),
        ("-j", "bzip2"),
        ("--zstd", "zstd"),
    ];
    for (flag, program) in formats {
        if let Err(skip) = required(program) {
            skip.report();
            continue;
        }
        let (sandbox, _server) = unpacking(&archive(flag), "");
        sandbox.boxwright(BUILD).ok();
        insta::assert_snapshot!("unpacked", listed(&sandbox));
    }
    let (sandbox, _server) = unpacking(&archive("-z"), ", to: /usr, owner: '0:0', mode: u=rwX");
    sandbox.boxwright(BUILD).ok();
    insta::assert_snapshot!("unpacked_owned", listed(&sandbox));
}

#[test]
fn what_is_no_archive_is_told_at_its_url() {
    let (sandbox, server) = unpacking(TOOL, "");
    let ran = sandbox.boxwright(BUILD);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let text = ran.stderr.replace(&server.address().to_string(), "SERVER");
    let text = text.replace(&Digest::of(TOOL).to_string(), "DIGEST");
    insta::assert_snapshot!(text);
    assert!(!sandbox.path("app.tar").exists());
}
