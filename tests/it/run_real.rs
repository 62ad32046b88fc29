//! Real builds by a user without any right: apt installs, npm and pip fetch, tsc and gcc compile,
//! and the images start and answer. `testdata/run` has the spec.
//!
//! The base is a small Debian or Ubuntu, of this machine's release and from its mirror. Where no
//! mirror or registry can be reached, the tests say so and are skipped.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::image_fixture::{Image, Layer};
use crate::support::peers::{Podman, Skip, may_mount, peer, required};
use crate::support::plain_user::{as_plain_user, give_away};
use crate::support::process::{Ran, run_within};
use crate::support::sandbox::Sandbox;
use crate::support::source::root;

/// So long may a build take that fetches and compiles.
const PATIENCE: Duration = Duration::from_secs(600);

/// A folder with the spec, its sources and its base, all of the plain user's.
fn prepared() -> Result<Sandbox, Skip> {
    if !may_mount() {
        return Err(Skip::because("root is needed to become other users"));
    }
    let sandbox = Sandbox::new();
    base()?.write_layout(&sandbox.path("base"), "v1");
    let copied = Command::new("cp")
        .arg("-rT")
        .arg(root().join("testdata/run"))
        .arg(sandbox.work())
        .status();
    assert!(copied.expect("cp").success());
    give_away(sandbox.root());
    Ok(sandbox)
}

/// The smallest Debian in which packages can be installed.
fn base() -> Result<Image, Skip> {
    required("mmdebstrap")?;
    let folder = tempfile::tempdir().expect("make a folder");
    let tar = folder.path().join("base.tar");
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .ok_or_else(|| Skip::because("this is no Debian and no Ubuntu"))?;
    let mut command = Command::new("mmdebstrap");
    command
        .env("TMPDIR", folder.path())
        .args(["--quiet", "--variant=minbase", "--include=ca-certificates"])
        .arg(codename)
        .arg(&tar);
    let lists = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten();
    let lists = lists.filter_map(|entry| Some(entry.ok()?.path()));
    for list in [Path::new("/etc/apt/sources.list").to_owned()]
        .into_iter()
        .chain(lists)
    {
        if list
            .extension()
            .is_some_and(|end| end == "list" || end == "sources")
            && list.exists()
        {
            command.arg(list);
        }
    }
    let ran = run_within(PATIENCE, &mut command);
    if ran.code != 0 {
        let reason = ran.stderr.lines().last().unwrap_or_default().to_owned();
        return Err(Skip::because(format!("no base can be made: {reason}")));
    }
    let bytes = fs::read(&tar).expect("read the base");
    Ok(Image {
        layers: vec![Layer::of_bytes(bytes, "tar")],
        config: json!({"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}),
    })
}

/// Builds a stage in tier B, as the plain user.
#[track_caller]
fn build(sandbox: &Sandbox, stage: &str) -> Ran {
    let mut command = as_plain_user(env!("CARGO_BIN_EXE_boxwright"));
    let environment = sandbox.command("env");
    command
        .current_dir(sandbox.work())
        .env_clear()
        .envs(
            environment
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .args([
            "build",
            "--store",
            "store",
            "--sandbox",
            "b",
            "--target",
            stage,
        ])
        .args([
            "--progress",
            "plain",
            "-o",
            &format!("oci-archive:{stage}.tar"),
        ]);
    run_within(PATIENCE, &mut command).ok()
}

/// Starts the image's own command without a network, asks it for `/health`, and gives the answer.
#[track_caller]
fn answer(podman: &Podman, image: &str, program: &str) -> String {
    let script = format!(
        "{program} & for try in $(seq 300); do exec 3<>/dev/tcp/127.0.0.1/8080 && break; sleep 0.1; \
         done 2>/dev/null; printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3; kill %1 || :"
    );
    podman
        .run_image(image, &["bash", "-c", &script])
        .ok()
        .stdout
}

/// Puts npm itself into the context; false where its registry cannot be reached.
fn fetch_npm(sandbox: &Sandbox) -> bool {
    let folder = sandbox.root().join("npm");
    fs::create_dir(&folder).expect("make a folder");
    let mut pack = Command::new("npm");
    pack.args(["pack", "--silent", "npm@10", "--pack-destination"]);
    if !succeeds(pack.arg(&folder)) {
        return false;
    }
    let packed = fs::read_dir(&folder).expect("list").next();
    let packed = packed.expect("npm packs itself").expect("list").path();
    fs::copy(packed, sandbox.path("npm.tgz")).expect("copy npm");
    give_away(&sandbox.path("npm.tgz"));
    true
}

/// Whether a package manager reaches its registry.
fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|ran| ran.status.success())
}

#[test]
fn services_are_built_without_a_right_and_answer() {
    let (sandbox, podman) = (peer!(prepared()), peer!(Podman::start()));
    let has_npm = fetch_npm(&sandbox);
    let has_pip = succeeds(
        Command::new("python3")
            .args([
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "bottle==0.13.2",
                "-d",
            ])
            .arg(sandbox.root().join("tmp")),
    );
    let services = [
        ("c", "answer", true),
        ("node", "node dist/server.js", has_npm),
        ("python", "venv/bin/python app.py", has_pip),
        ("nginx", "nginx", true),
    ];
    for (stage, program, can) in services {
        if !can {
            Skip::because(format!("the registry of {stage} cannot be reached")).report();
            continue;
        }
        let first = build(&sandbox, stage).stdout;
        // Package managers write down when they did what: nothing has been run twice.
        assert_eq!(build(&sandbox, stage).stdout, first, "{stage}");
        let image = podman.load(&sandbox.path(format!("{stage}.tar")));
        let answer = answer(&podman, &image, program);
        let expected = [
            format!("\"service\":\"{stage}\""),
            format!("\"service\": \"{stage}\""),
        ];
        assert!(
            expected.iter().any(|text| answer.contains(text)),
            "{stage}: {answer}"
        );
        if stage == "nginx" {
            insta::assert_snapshot!(owners(&podman, &image));
        }
    }
}

/// What the packages want to belong to others than root.
#[track_caller]
fn owners(podman: &Podman, image: &str) -> String {
    let paths = "/usr/bin/crontab /usr/bin/ssh-agent /var/cache/man /var/lib/redis /var/log/redis \
                 /etc/redis/redis.conf /var/spool/cron/crontabs /var/log/nginx /etc/shadow";
    let script = format!("stat -c '%U:%G %a %n' {paths}");
    podman.run_image(image, &["sh", "-c", &script]).ok().stdout
}
