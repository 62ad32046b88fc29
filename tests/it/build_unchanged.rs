//! What has not changed is not done again, and nothing that has changed passes for it.
//!
//! Files must be left alone for two seconds before their times are trusted, so every case is made
//! first, all of them wait together, and each is edited once.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;

use crate::support::busybox;
use crate::support::peers::{peer, require_root};
use crate::support::sandbox::Sandbox;

const SPEC: &str = "format: 1\nimage: test/unchanged\ncontext: ctx\nargs: {WORD: one}\nstages:\n  app:\n    \
                    from: scratch\n    allow: [root]\n    steps:\n      - {copy: ., to: /app}\n      \
                    - {write: /word, text: \"${WORD}\"}\n";

/// Builds into `app.tar`; gives the digest and what happened, as events.
fn build(sandbox: &Sandbox, case: &str, store: &str, more: &[&str]) -> (String, Vec<Value>) {
    let spec = format!("{case}/boxwright.yaml");
    let output = format!("oci-archive:{case}/app.tar");
    let mut args = vec!["build", "-f", &spec, "-o", &output, "--store", store];
    args.extend(["--progress", "json", "--print", "digest"]);
    args.extend(more);
    let ran = sandbox.boxwright(&args).ok();
    let events = ran.stderr.lines();
    let events = events.map(|line| serde_json::from_str(line).expect("an event a line"));
    (ran.stdout.trim().to_owned(), events.collect())
}

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["event"] == kind).count()
}

fn output_state(events: &[Value]) -> String {
    let written = events
        .iter()
        .find(|event| event["event"] == "output_written");
    written.expect("an output")["state"].to_string()
}

/// Other bytes of the same length, and the old modification time.
fn rewrite(path: &Path) {
    let found = fs::metadata(path).expect("a file");
    let mut bytes = fs::read(path).expect("a file");
    let last = bytes.len() - 1;
    bytes[last / 2] ^= 1;
    fs::write(path, bytes).expect("rewrite");
    let file = fs::OpenOptions::new().write(true).open(path).expect("open");
    file.set_modified(found.modified().expect("a time"))
        .expect("set the time back");
}

/// An edit of a case's folder, and whether the image must differ afterwards.
type Edit = (&'static str, fn(&Path), bool);

const EDITS: [Edit; 12] = [
    ("nothing", |_| {}, false),
    ("content", |root| rewrite(&root.join("ctx/sub/b")), true),
    (
        "mode",
        |root| {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(root.join("ctx/a"), mode).expect("chmod");
        },
        true,
    ),
    (
        "name",
        |root| fs::rename(root.join("ctx/a"), root.join("ctx/z")).expect("rename"),
        true,
    ),
    (
        "swap",
        |root| {
            let at = |name: &str| root.join("ctx").join(name);
            fs::rename(at("same1"), at("t")).expect("rename");
            fs::rename(at("same2"), at("same1")).expect("rename");
            fs::rename(at("t"), at("same2")).expect("rename");
        },
        true,
    ),
    (
        "new",
        |root| fs::write(root.join("ctx/sub/new"), "").expect("write"),
        true,
    ),
    (
        "folder",
        |root| fs::create_dir(root.join("ctx/empty")).expect("mkdir"),
        true,
    ),
    (
        "deleted",
        |root| fs::remove_file(root.join("ctx/a")).expect("delete"),
        true,
    ),
    (
        "target",
        |root| {
            fs::remove_file(root.join("ctx/link")).expect("delete");
            symlink("sub", root.join("ctx/link")).expect("link");
        },
        true,
    ),
    (
        "ignored",
        |root| fs::write(root.join("ctx/.dockerignore"), "sub").expect("write"),
        true,
    ),
    (
        "spec",
        |root| {
            let text = SPEC.replace("/word", "/world");
            fs::write(root.join("boxwright.yaml"), text).expect("write");
        },
        true,
    ),
    (
        "comment",
        |root| {
            fs::write(root.join("boxwright.yaml"), format!("# why\n{SPEC}")).expect("write");
        },
        false,
    ),
];

#[test]
fn what_is_the_same_is_not_evaluated_and_what_is_not_is() {
    let sandbox = Sandbox::new();
    for (case, ..) in EDITS {
        for (name, text) in [
            ("a", "aaaa"),
            ("sub/b", "bbbb"),
            ("same1", "1"),
            ("same2", "2"),
        ] {
            sandbox.file(&format!("{case}/ctx/{name}"), text);
        }
        symlink("a", sandbox.path(case).join("ctx/link")).expect("link");
        sandbox.file(&format!("{case}/boxwright.yaml"), SPEC);
    }
    std::thread::sleep(std::time::Duration::from_millis(2100));
    for (case, edit, differs) in EDITS {
        let (first, events) = build(&sandbox, case, "store", &[]);
        assert_eq!(count(&events, "stage_started"), 1, "{case}");
        let (second, events) = build(&sandbox, case, "store", &[]);
        assert_eq!(count(&events, "stage_started"), 0, "{case}: {events:?}");
        assert_eq!(count(&events, "layer_finished"), 2, "{case}");
        assert_eq!(output_state(&events), "\"unchanged\"", "{case}");
        assert_eq!(first, second, "{case}");
        // Another argument, another platform and `--no-cache` are not answered either.
        for more in [
            &["--arg", "WORD=two"][..],
            &["--platform", "linux/arm64"],
            &["--no-cache"],
        ] {
            let (_, events) = build(&sandbox, case, "store", more);
            assert_eq!(count(&events, "stage_started"), 1, "{case} {more:?}");
        }
        edit(&sandbox.path(case));
        let (warm, _) = build(&sandbox, case, "store", &[]);
        let (fresh, _) = build(&sandbox, case, &format!("store-{case}"), &["--no-cache"]);
        assert_eq!(warm, fresh, "{case}");
        assert_eq!(warm != first, differs, "{case}");
    }
}

#[test]
fn an_answer_whose_layers_are_gone_is_no_answer() {
    let sandbox = Sandbox::new();
    sandbox
        .file("one/ctx/a", "a")
        .file("one/boxwright.yaml", SPEC);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let (first, _) = build(&sandbox, "one", "store", &[]);
    for blob in fs::read_dir(sandbox.path("store/blobs/sha256")).expect("blobs") {
        fs::remove_file(blob.expect("a blob").path()).expect("remove");
    }
    let (second, events) = build(&sandbox, "one", "store", &[]);
    assert_eq!(count(&events, "stage_started"), 1);
    assert_eq!(first, second);
}

#[test]
fn an_archive_that_was_tampered_with_is_written_again() {
    let sandbox = Sandbox::new();
    sandbox
        .file("one/ctx/a", "a")
        .file("one/boxwright.yaml", SPEC);
    build(&sandbox, "one", "store", &[]);
    let archive = sandbox.path("one/app.tar");
    let whole = fs::read(&archive).expect("an archive");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    // The first build that finds it whole may note its times; the next ones rely on the note.
    for _ in 0..3 {
        let (_, events) = build(&sandbox, "one", "store", &[]);
        assert_eq!(output_state(&events), "\"unchanged\"");
    }
    rewrite(&archive);
    assert_ne!(fs::read(&archive).expect("an archive"), whole);
    let (_, events) = build(&sandbox, "one", "store", &[]);
    assert_eq!(output_state(&events), "\"written\"");
    assert_eq!(fs::read(&archive).expect("an archive"), whole);
}

#[test]
fn a_secret_that_was_not_given_before_is_no_answer() {
    let sandbox = Sandbox::new();
    peer!(require_root("a command"));
    let shell = peer!(busybox::program());
    let script = "if [ -e /run/secrets/token ]; then echo with; else echo without; fi > /told";
    let spec = format!(
        "format: 1\nimage: test/secret\ncontext: ctx\nstages:\n  app:\n    from: scratch\n    \
         allow: [root, build-stage]\n    steps:\n      - {{copy: sh, to: /bin/sh, mode: \"0755\"}}\n      \
         - run: {script:?}\n        mounts: [{{secret: token, required: false}}]\n"
    );
    sandbox
        .file("one/ctx/sh", shell)
        .file("one/boxwright.yaml", spec)
        .file("token", "s3cret");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let given = ["--secret", "id=token,src=token"];
    let (without, _) = build(&sandbox, "one", "store", &[]);
    let (again, events) = build(&sandbox, "one", "store", &[]);
    assert_eq!((&again, count(&events, "stage_started")), (&without, 0));
    let (with, _) = build(&sandbox, "one", "store", &given);
    let (fresh, _) = build(&sandbox, "one", "store-fresh", &given);
    assert_eq!(with, fresh);
    assert_ne!(with, without);
    // Both answers are kept now, each for its own question.
    let (last, events) = build(&sandbox, "one", "store", &[]);
    assert_eq!((&last, count(&events, "stage_started")), (&without, 0));
}
