//! Compose files: every service is built, named as compose looks for it, and run by podman-compose
//! without building; a lock pins what was built.

use std::fs;
use std::io::Read as _;

use serde_json::Value;

use crate::support::busybox;
use crate::support::image_reader::ReadImage;
use crate::support::listing::decompressed;
use crate::support::peers::{Podman, Registry, peer, require_root, required};
use crate::support::process::{Ran, run};
use crate::support::sandbox::Sandbox;

/// A spec without any base; `WORD` is the image.
const SPEC: &str = r#"
format: 1
image: not/used
args: {WORD: plain}
stages:
  app:
    from: scratch
    steps: [{write: /word, text: "${WORD}\n"}]
    config: {user: "1:1", cmd: [/word]}
  debug:
    from: app
    steps: [{write: /debug, text: "on\n"}]
target: app
"#;

const COMPOSE: &str = r#"
name: trial
x-args: &args {WORD: "${WORD:-merged}"}
services:
  web:
    build: web
    environment: {PASSWORD: "${PASSWORD:?is of the run}"}
  job:
    image: example/job:${TAG}
    build: {context: web, args: {<<: *args}, target: debug}
  copy: {image: example/job:1.2}
  cache: {image: docker.io/library/redis:7}
"#;

fn prepared() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.file("stack/web/boxwright.yaml", SPEC);
    sandbox.file("stack/compose.yaml", COMPOSE);
    sandbox.file(
        "stack/.env",
        "export TAG='1.2' # of the release\nWORD=from-file\n",
    );
    sandbox
}

/// The text of a file in the image of an archive.
fn file_of(sandbox: &Sandbox, archive: &str, path: &str) -> Option<String> {
    let image = ReadImage::at(&sandbox.path(archive));
    let in_layer = |layer: &Vec<u8>| {
        let mut tar = tar::Archive::new(decompressed(&layer[..]));
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path_bytes().as_ref() == path.as_bytes() {
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                return Some(text);
            }
        }
        None
    };
    image.layers.iter().find_map(in_layer)
}

#[test]
fn each_service_is_built_and_named_as_compose_looks_for_it() {
    let sandbox = prepared();
    let args = [
        "build",
        "--compose",
        "stack",
        "--print",
        "json",
        "--compose-lock",
        "stack/lock.yaml",
    ];
    let ran = sandbox.boxwright(args).ok();
    let reports: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        reports[0]["names"],
        serde_json::json!([
            "localhost/trial_web:latest",
            "docker.io/library/trial-web:latest"
        ])
    );
    assert_eq!(
        reports[1]["names"],
        serde_json::json!(["docker.io/example/job:1.2"])
    );
    assert_eq!(
        file_of(&sandbox, "trial_web.tar", "word").as_deref(),
        Some("plain\n")
    );
    assert_eq!(
        file_of(&sandbox, "job.tar", "word").as_deref(),
        Some("from-file\n")
    );
    assert!(file_of(&sandbox, "job.tar", "debug").is_some());
    // Whoever runs one of the images is pinned, and nobody else.
    let digest = |number: usize| reports[number]["manifest"].as_str().unwrap().to_owned();
    let (web, job) = (digest(0), digest(1));
    let lock = fs::read_to_string(sandbox.path("stack/lock.yaml")).unwrap();
    let pinned = |service: &str, name: &str, digest: &str| {
        format!("  {service}:\n    image: {name}@{digest}\n    pull_policy: never\n")
    };
    let pins = [
        pinned("copy", "docker.io/example/job", &job),
        pinned("job", "docker.io/example/job", &job),
        pinned("web", "localhost/trial_web", &web),
    ];
    assert!(
        lock.ends_with(&format!("services:\n{}", pins.concat())),
        "{lock}"
    );
    // The same again, and nothing is written.
    let ran = sandbox.boxwright(args).ok();
    assert!(
        ran.stderr.contains("stack/lock.yaml is up to date"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_environment_and_the_command_line_go_before_the_files() {
    let sandbox = prepared();
    let mut command =
        sandbox.boxwright_command(["build", "--compose", "stack/compose.yaml", "job"]);
    command.env("WORD", "from-environment");
    run(&mut command).ok();
    assert!(!sandbox.path("trial_web.tar").exists());
    assert_eq!(
        file_of(&sandbox, "job.tar", "word").as_deref(),
        Some("from-environment\n")
    );
    let typed = ["build", "--compose", "stack", "job", "--arg", "WORD=typed"];
    sandbox.boxwright(typed).ok();
    assert_eq!(
        file_of(&sandbox, "job.tar", "word").as_deref(),
        Some("typed\n")
    );
    // A file over the other, and a project's name of one's own.
    sandbox.file(
        "over.yaml",
        "services: {job: {build: {target: app}, image: !reset null}}",
    );
    let files = ["build", "--compose", "stack", "--compose", "over.yaml"];
    let more = ["--project-name", "own", "-o", "oci:out", "job"];
    sandbox.boxwright(files.iter().chain(&more)).ok();
    let index = fs::read_to_string(sandbox.path("out/index.json")).unwrap();
    assert!(index.contains("localhost/own_job"), "{index}");
}

#[test]
fn a_spec_elsewhere_takes_the_context_of_the_service() {
    let sandbox = Sandbox::new();
    let spec = "format: 1\ncontext: gone\nprofiles: {dev: {env: {MODE: dev}}}\nstages: {app: {from: scratch, steps: [{copy: file, to: /}], config: {user: '1:1'}}}\n";
    sandbox.file("specs/app.yaml", spec);
    sandbox.file("src/file", "of the service");
    sandbox.file(
        "compose.yaml",
        "services:\n  app:\n    image: app\n    build: {context: src}\n    x-boxwright: {spec: specs/app.yaml, profile: dev}\n",
    );
    let ran = sandbox
        .boxwright(["build", "--compose", ".", "--print", "json"])
        .ok();
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let report = report.get(0).unwrap_or(&report);
    assert_eq!(report["profile"], "dev");
    assert_eq!(
        file_of(&sandbox, "app-dev.tar", "file").as_deref(),
        Some("of the service")
    );
}

#[test]
fn secrets_and_further_contexts_come_from_the_compose_file() {
    let (base, sandbox) = (peer!(busybox::base()), Sandbox::new());
    base.write_layout(&sandbox.path("base"), "v1");
    sandbox.file("app/boxwright.yaml", "format: 1\ncontexts: {more: gone}\nstages:\n  made:\n    from: oci:../base:v1\n    steps:\n      - run: cat /run/secrets/one /run/secrets/two | wc -c > /length\n        mounts: [{secret: one}, {secret: two}]\n  app:\n    from: scratch\n    steps:\n      - {copy: /length, from: made, to: /}\n      - {copy: text, from: more, to: /}\n    config: {user: '1:1'}\n");
    sandbox.file("more/text", "more");
    sandbox.file("one.txt", "12345");
    sandbox.file(".env", "TWO=678\n");
    sandbox.file("compose.yaml", "services:\n  app: {image: app, build: {context: app, secrets: [one, two], additional_contexts: {more: more}}}\nsecrets: {one: {file: one.txt}, two: {environment: TWO}}\n");
    sandbox.boxwright(["build", "--compose", "."]).ok();
    assert_eq!(
        file_of(&sandbox, "app.tar", "length").as_deref(),
        Some("8\n")
    );
    assert_eq!(
        file_of(&sandbox, "app.tar", "text").as_deref(),
        Some("more")
    );
}

#[test]
fn no_image_holds_what_was_written_for_another() {
    let sandbox = Sandbox::new();
    sandbox.file(
        "boxwright.yaml",
        SPEC.replace("steps: [{", "steps: [{copy: ., to: /all}, {"),
    );
    sandbox.file("own", "content");
    let text = "services:\n  a: {image: a, build: .}\n  b: {image: b, build: .}\n";
    sandbox.file("compose.yaml", text);
    let args = [
        "build",
        "--compose",
        ".",
        "--print",
        "digest",
        "--compose-lock",
        "lock.yaml",
    ];
    let first = sandbox.boxwright(args).ok().stdout;
    assert!(sandbox.path("b.tar").exists() && sandbox.path("lock.yaml").exists());
    assert_eq!(sandbox.boxwright(args).ok().stdout, first);
    assert_eq!(
        file_of(&sandbox, "a.tar", "all/own").as_deref(),
        Some("content")
    );
    assert_eq!(file_of(&sandbox, "a.tar", "all/lock.yaml"), None);
}

#[test]
fn what_is_wrong_is_told_before_anything_is_built() {
    let sandbox = prepared();
    sandbox.file("stack/docker/Dockerfile", "FROM scratch\n");
    sandbox.file(
        "stack/wrong.yaml",
        "services:\n  web: {build: web}\n  docker: {build: {context: docker, dockerfile: Dockerfile}}\n  gone: {build: {x-boxwright: gone.yaml}}\n",
    );
    let wrong = sandbox.boxwright(["build", "--compose", "stack/wrong.yaml"]);
    assert!(!sandbox.path("stack_web.tar").exists());
    let undeclared = sandbox.boxwright(["build", "--compose", "stack", "web", "--arg", "NONE=1"]);
    let both = sandbox.boxwright(["build", "--compose", "stack", "-t", "name"]);
    let nothing = sandbox.boxwright(["build", "--compose", "stack/web"]);
    let alone = sandbox.boxwright(["build", "--compose-lock", "lock.yaml"]);
    let all = [wrong, undeclared, both, nothing, alone];
    let all = all.iter().map(|ran| sandbox.golden(ran));
    insta::assert_snapshot!(all.collect::<Vec<_>>().join("\n"));
}

#[test]
fn nothing_is_written_over_what_was_read() {
    let sandbox = prepared();
    sandbox.file("run.env", "Y=z\n");
    sandbox.file(
        "boxwright.workspace.yaml",
        "format: 1\nmembers: [stack/web]\n",
    );
    let build = |args: &[&str]| sandbox.boxwright(["build", "--store", "store"].iter().chain(args));
    let composed = |args: &[&str]| build(&[&["--compose", "stack"], args].concat());
    for file in [
        "stack/compose.yaml",
        "stack/.env",
        "stack/web/boxwright.yaml",
    ] {
        let before = fs::read(sandbox.path(file)).expect("an input");
        let ran = composed(&["-o", "oci-archive:out/", "--compose-lock", file]);
        assert_ne!(ran.code, 0, "{ran:?}");
        assert!(
            ran.stderr.contains("something else stands there"),
            "{ran:?}"
        );
        assert_eq!(fs::read(sandbox.path(file)).expect("an input"), before);
    }
    let in_place = |ran: Ran| {
        assert_ne!(ran.code, 0, "{ran:?}");
        assert!(ran.stderr.contains("would take the place of"), "{ran:?}");
    };
    in_place(build(&[
        "-w",
        ".",
        "-o",
        "oci-archive:boxwright.workspace.yaml",
    ]));
    in_place(build(&[
        "stack/web",
        "--secret",
        "id=tok,src=run.env",
        "-o",
        "oci-archive:run.env",
    ]));
    for report in ["--markdown", "--junit", "--html"] {
        in_place(sandbox.boxwright(["verify", "stack/web", report, "stack/web/boxwright.yaml"]));
    }
    let ran = composed(&["-o", "docker-archive:out/", "--compose-lock", "lock.yaml"]);
    assert!(ran.stderr.contains("does not keep"), "{ran:?}");
}

#[test]
fn a_push_is_pinned_where_it_went() {
    let registry = peer!(Registry::start());
    let sandbox = prepared();
    let to = format!("docker://{}/team/job", registry.address());
    let args = [
        "build",
        "--compose",
        "stack",
        "job",
        "-o",
        &to,
        "--compose-lock",
        "lock.yaml",
    ];
    sandbox.boxwright(args).ok();
    let lock = fs::read_to_string(sandbox.path("lock.yaml")).unwrap();
    let image = format!("image: {}/team/job@sha256:", registry.address());
    assert!(
        lock.contains(&image) && !lock.contains("pull_policy"),
        "{lock}"
    );
}

#[test]
fn podman_compose_runs_what_was_built_and_what_was_locked() {
    // Elsewhere podman's network may want what a machine does not have.
    peer!(require_root("podman's network"));
    let podman = peer!(Podman::start());
    peer!(required("podman-compose"));
    let program = peer!(busybox::program());
    let sandbox = Sandbox::new();
    sandbox.file("app/busybox", program);
    let spec = SPEC.replace(
        "steps: [{write: /word",
        "steps: [{copy: busybox, to: /bin/cat, mode: '0755'}, {write: /word",
    );
    let spec = spec.replace("cmd: [/word]", "cmd: [/bin/cat, /word]");
    sandbox.file("app/boxwright.yaml", spec);
    // podman-compose 1.0 names projects after the folder.
    let folder = sandbox
        .work()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_lowercase();
    let text = "services:\n  web: {build: {context: app, args: {WORD: first}}}\n  job: {image: example/job:1, build: {context: app, args: {WORD: '${WORD:-locked}'}}}\nnetworks: {default: {external: true, name: podman}}\n";
    sandbox.file("compose.yaml", format!("name: {folder}\n{text}"));
    let args = ["build", "--compose", ".", "--compose-lock", "lock.yaml"];
    sandbox.boxwright(args).ok();
    podman.load(&sandbox.path(format!("{folder}_web.tar")));
    podman.load(&sandbox.path("job.tar"));
    let up = podman.compose(&sandbox.work(), &["-f", "compose.yaml", "up"]);
    let text = format!("{}{}", up.stdout, up.stderr);
    assert!(text.contains("first") && text.contains("locked"), "{text}");
    podman.compose(&sandbox.work(), &["-f", "compose.yaml", "down"]);
    // Another image takes the name; the lock still means the first.
    sandbox
        .boxwright(["build", "--compose", ".", "--arg", "WORD=other", "job"])
        .ok();
    podman.load(&sandbox.path("job.tar"));
    let files = ["-f", "compose.yaml", "-f", "lock.yaml"];
    let up = podman.compose(
        &sandbox.work(),
        &[&files[..], &["up", "--no-build"]].concat(),
    );
    let text = format!("{}{}", up.stdout, up.stderr);
    assert!(text.contains("locked") && !text.contains("other"), "{text}");
    podman.compose(&sandbox.work(), &[&files[..], &["down"]].concat());
}
