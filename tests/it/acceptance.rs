//! `boxwright verify`: a real small service is built, started and judged; variants of it fail one
//! judgement each. The times that are measured are never judged by a test.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::busybox;
use crate::support::peers::{Dockerd, Podman, Skip, may_mount, peer};
use crate::support::process::{Ran, run};
use crate::support::sandbox::Sandbox;

/// A service that answers `/health` and goes when it is asked to; the name of `serve` tells how.
const SERVE: &str = "#!/bin/sh\ntrap 'exit 0' TERM\nhttpd -f -p 8080 -h /srv &\nwait\n";

/// The spec of the service; each variant is this with a few words replaced.
const SPEC: &str = "format: 1
image: test/service
budget: {size: 50MB, layers: 12, context: 1MB, cold_build: 1h, warm_build: 1h, start: 1h, read_only: true}
context: ctx
stages:
  service:
    from: oci:../base:v1
    users: [{name: web, uid: 1001}]
    steps:
      - {copy: serve, to: /bin/serve, mode: \"0755\"}
      - {write: /srv/health, text: ok}
    config:
      user: web
      entrypoint: [/bin/serve]
      healthcheck: {test: [wget, -q, -O, /dev/null, \"http://127.0.0.1:8080/health\"], timeout: 5s}
";

/// A sandbox with the base in it.
pub(crate) fn prepared() -> Result<Sandbox, Skip> {
    let sandbox = Sandbox::new();
    busybox::base()?.write_layout(&sandbox.path("base"), "v1");
    Ok(sandbox)
}

/// The same where podman starts containers. Its peer shows that it does, with its settings.
fn startable() -> Result<Sandbox, Skip> {
    if !may_mount() {
        return Err(Skip::because("root is needed to start containers here"));
    }
    Podman::start()?;
    prepared()
}

/// Writes a variant of the service into a folder of its own.
pub(crate) fn write(sandbox: &Sandbox, folder: &str, changes: &[(&str, &str)]) {
    let mut spec = SPEC.to_owned();
    for (from, to) in changes {
        assert!(spec.contains(from), "{from}");
        spec = spec.replace(from, to);
    }
    sandbox.file(&format!("{folder}/boxwright.yaml"), spec);
    sandbox.file(&format!("{folder}/ctx/serve"), SERVE);
    sandbox.file(&format!("{folder}/ctx/ignored/large"), vec![7; 2 << 20]);
    sandbox.file(&format!("{folder}/ctx/.dockerignore"), "ignored\n");
}

fn verify(sandbox: &Sandbox, folder: &str, more: &[&str]) -> (Ran, Value) {
    let args = [&["verify", folder, "--json"], more].concat();
    let ran = sandbox.boxwright(args);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    (ran, json[0].clone())
}

/// Subjects of a report with this verdict.
pub(crate) fn with_verdict(report: &Value, verdict: &str) -> Vec<String> {
    let judgements = report["judgements"].as_array().expect("judgements");
    let found = judgements.iter().filter(|one| one["verdict"] == verdict);
    found
        .map(|one| one["subject"].as_str().expect("a subject").to_owned())
        .collect()
}

/// Nothing of podman's or ours is left behind.
#[track_caller]
pub(crate) fn nothing_is_left(sandbox: &Sandbox) {
    let left: Vec<_> = fs::read_dir(sandbox.root().join("tmp"))
        .expect("list")
        .map(|entry| entry.expect("list").path())
        .collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    let home = sandbox.home();
    assert!(!home.join(".local").exists() && !home.join(".cache").exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
    let root = sandbox.root().display().to_string();
    assert!(!mounts.contains(&root), "{mounts}");
}

#[test]
fn a_service_that_keeps_its_promises_is_accepted() {
    let sandbox = peer!(startable());
    write(&sandbox, "app", &[]);
    let files = ["--junit", "v.xml", "--html", "v.html", "--require", "start"];
    let (ran, report) = verify(
        &sandbox,
        "app",
        &[&files[..], &["--runner", "podman"]].concat(),
    );
    assert_eq!(with_verdict(&report, "failed"), [] as [&str; 0], "{ran:?}");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(with_verdict(&report, "skipped"), [] as [&str; 0]);
    let figures = &report["figures"];
    assert_eq!(figures["run"]["user"]["inside"], 1001);
    assert_eq!(figures["run"]["stop"]["code"], 0);
    assert_eq!(figures["run"]["read_only"]["state"], "works");
    let context = &figures["build"]["context"];
    assert!(context["bytes"].as_u64() < Some(1000), "{context}");
    assert!(context["all_bytes"].as_u64() > Some(2 << 20), "{context}");
    let junit = fs::read_to_string(sandbox.path("v.xml")).expect("a file");
    assert!(
        junit.contains("tests=\"13\" failures=\"0\" skipped=\"0\""),
        "{junit}"
    );
    let page = fs::read_to_string(sandbox.path("v.html")).expect("a page");
    assert!(page.contains("accepted") && page.ends_with("</html>\n"));
    nothing_is_left(&sandbox);
}

/// A variant that fails: what is replaced, what is typed, and the only subjects that may fail.
type Variant<'a> = (
    &'a str,
    &'a [(&'a str, &'a str)],
    &'a [&'a str],
    &'a [&'a str],
);

#[test]
fn each_broken_promise_fails_its_own_judgement() {
    let sandbox = peer!(prepared());
    if !may_mount() {
        Skip::because("nothing can be mounted here").report();
        return;
    }
    let variants: [Variant<'_>; 9] = [
        (
            "root",
            &[
                ("user: web", "user: root"),
                ("    users:", "    allow: [root]\n    users:"),
            ],
            &[],
            &["user"],
        ),
        ("large", &[("size: 50MB", "size: 10kB")], &[], &["size"]),
        ("many", &[("layers: 12", "layers: 2")], &[], &["layers"]),
        (
            "context",
            &[("context: 1MB", "context: 10B")],
            &[],
            &["context"],
        ),
        (
            "slow",
            &[(
                "cold_build: 1h, warm_build: 1h",
                "cold_build: 0ms, warm_build: 0ms",
            )],
            &[],
            &["cold_build", "warm_build"],
        ),
        (
            "silent",
            &[("/health\"]", "/nothing\"]")],
            &["--patience", "1s"],
            &["health"],
        ),
        (
            "deaf",
            &[(
                "entrypoint: [/bin/serve]",
                "entrypoint: [httpd, -f, -p, \"8080\", -h, /srv]",
            )],
            &["--stop-timeout", "1s"],
            &["stop"],
        ),
        (
            "writes",
            &[
                ("/srv/health, text: ok", "/srv/health, text: ok, owner: web"),
                (
                    "entrypoint: [/bin/serve]",
                    "entrypoint: [sh, -c, \"echo ok > /srv/health && exec /bin/serve\"]",
                ),
            ],
            &[],
            &["read_only"],
        ),
        (
            "missing",
            &[("[/bin/serve]", "[/bin/servant]")],
            &["--allow", "BW011"],
            &["start"],
        ),
    ];
    for (name, changes, more, failing) in variants {
        write(&sandbox, name, changes);
        let (ran, report) = verify(&sandbox, name, more);
        assert_eq!(with_verdict(&report, "failed"), failing, "{name}: {ran:?}");
        assert_eq!(ran.code, 1, "{name}: {ran:?}");
    }
    // Root that is accepted is only told.
    let (ran, report) = verify(&sandbox, "root", &["--allow", "BW001"]);
    assert_eq!((ran.code, with_verdict(&report, "failed").len()), (0, 0));
    nothing_is_left(&sandbox);
}

#[test]
fn a_command_that_writes_the_time_is_found_by_name() {
    let sandbox = peer!(prepared());
    if !may_mount() {
        Skip::because("nothing can be mounted here").report();
        return;
    }
    let run = "    steps:\n      - {run: cat /proc/uptime > /built}";
    let allow = ("    users:", "    allow: [build-stage]\n    users:");
    write(&sandbox, "app", &[("    steps:", run), allow]);
    let (ran, report) = verify(&sandbox, "app", &["--runner", "none"]);
    assert_eq!(with_verdict(&report, "failed"), ["digest"], "{ran:?}");
    let notes = report["judgements"][2]["notes"].to_string();
    assert!(notes.contains("/built in run cat /proc/uptime"), "{notes}");
    assert_eq!(ran.code, 1);
    nothing_is_left(&sandbox);
}

#[test]
fn without_a_runner_the_start_is_skipped_unless_it_is_required() {
    let sandbox = peer!(prepared());
    write(&sandbox, "app", &[]);
    write(&sandbox, "other", &[]);
    let start = ["start", "health", "user", "stop", "read_only"];
    let (ran, report) = verify(&sandbox, "app", &["--runner", "none"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(with_verdict(&report, "skipped"), start);
    let more = ["--runner", "none", "--require", "start"];
    let (ran, report) = verify(&sandbox, "app", &more);
    assert_eq!(ran.code, 1);
    assert_eq!(with_verdict(&report, "failed"), ["start"]);
    // Several specs, for people; one without runners on its path, one by one. With one id there are
    // no users, so the own sandbox is no runner either.
    let mut command = sandbox.boxwright_command(["verify", "app", "other", "--sandbox", "b"]);
    let ran = run(command.env("PATH", sandbox.home())).ok();
    assert!(ran.stderr.contains("No image is started: "), "{ran:?}");
    let reasons = "podman is not installed; docker is not installed";
    assert!(ran.stderr.contains(reasons), "{ran:?}");
    assert_eq!(
        ran.stdout.matches("accepted, 5 skipped").count(),
        2,
        "{ran:?}"
    );
    let mut command = sandbox.boxwright_command(["verify", "app", "--runner", "podman"]);
    let ran = run(command.env("PATH", sandbox.home()));
    assert_eq!(ran.code, 3, "{ran:?}");
    nothing_is_left(&sandbox);
}

#[test]
fn a_wrong_spec_is_told_before_anything_is_built() {
    let sandbox = peer!(prepared());
    write(&sandbox, "app", &[]);
    write(&sandbox, "wrong", &[("size: 50MB", "sise: 50MB")]);
    let ran = sandbox.boxwright(["verify", "app", "wrong"]).fails_with(1);
    assert!(ran.stderr.contains("did you mean `size`?"), "{ran:?}");
    assert!(!ran.stderr.contains("building"), "{ran:?}");
    // What only a build finds out fails that spec, and the next is verified all the same.
    write(&sandbox, "broken", &[("copy: serve", "copy: servant")]);
    let args = ["verify", "broken", "app", "--runner", "none"];
    let ran = sandbox.boxwright(args).fails_with(1);
    assert!(
        ran.stdout.contains("no image") && ran.stdout.contains("accepted, 5 skipped"),
        "{ran:?}"
    );
    nothing_is_left(&sandbox);
}

#[test]
fn a_budget_changes_no_digest() {
    let sandbox = peer!(prepared());
    write(&sandbox, "app", &[]);
    let digest = |sandbox: &Sandbox| {
        let args = ["build", "app", "-o", "oci:out:v1", "--print", "digest"];
        sandbox.boxwright(args).ok().stdout
    };
    let with = digest(&sandbox);
    let line = SPEC
        .lines()
        .find(|line| line.starts_with("budget"))
        .expect("a budget");
    write(&sandbox, "app", &[(&format!("{line}\n"), "")]);
    assert_eq!(digest(&sandbox), with);
}

#[test]
fn docker_verifies_too_and_keeps_nothing() {
    let (sandbox, docker) = (peer!(prepared()), peer!(Dockerd::start()));
    write(&sandbox, "app", &[]);
    let args = ["verify", "app", "--runner", "docker", "--require", "start"];
    let mut command = sandbox.boxwright_command(args);
    let ran = run(command.env("DOCKER_HOST", docker.host()));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("user 1001"), "{ran:?}");
    for listing in [["images", "-q"], ["ps", "-aq"]] {
        assert_eq!(docker.run(listing).ok().stdout, "");
    }
}

#[test]
fn interrupted_verification_leaves_no_container() {
    let sandbox = peer!(startable());
    write(&sandbox, "app", &[("/health\"]", "/nothing\"]")]);
    let mut command =
        sandbox.boxwright_command(["verify", "app", "--patience", "1h", "--runner", "podman"]);
    let said = sandbox.path("said");
    let output = fs::File::create(&said).expect("make a file");
    let mut child = command.stderr(output).spawn().expect("start");
    let began = std::time::Instant::now();
    while !asks(&said) && began.elapsed() < std::time::Duration::from_secs(90) {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
    let status = child.wait().expect("wait");
    assert_eq!(
        status.code(),
        Some(3),
        "{}",
        fs::read_to_string(&said).unwrap_or_default()
    );
    nothing_is_left(&sandbox);
}

fn asks(said: &Path) -> bool {
    fs::read_to_string(said).is_ok_and(|text| text.contains("starting, asking"))
}
