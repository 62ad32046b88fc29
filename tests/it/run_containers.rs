//! Builds with commands inside containers, as CI has them: each gets the tier that its rights
//! allow, and all that can build build the same image.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;

use crate::support::busybox;
use crate::support::peers::{Dockerd, Podman, Skip, peer};
use crate::support::process::Ran;
use crate::support::sandbox::Sandbox;

const SPEC: &str = "\
format: 1
image: acme/in-a-container
stages:
  app:
    from: oci:/work/base:v1
    allow: [root, build-stage]
    steps:
      - run: |
          echo hello > /hello && chown 33:33 /hello && chmod 4750 /hello
          mkdir -p /srv/data && chown -R 1000:1000 /srv
          rm /etc/issue && sh -c 'test -c /dev/null && test $(id -u) = 0' && echo done
";

/// What a container runs: the build, with everything below `/tmp`.
const BUILD: &str = "/work/boxwright build /work --store /tmp/store \
    -o oci-archive:/tmp/image.tar --progress plain --print digest";

/// A folder to mount at `/work`: the program, the spec, the base.
fn work() -> Result<Sandbox, Skip> {
    let base = busybox::base()?;
    let sandbox = Sandbox::new();
    base.write_layout(&sandbox.path("base"), "v1");
    sandbox.file("boxwright.yaml", SPEC);
    let program = sandbox.path("boxwright");
    fs::copy(env!("CARGO_BIN_EXE_boxwright"), &program).expect("copy the program");
    let archive = sandbox.path("image.tar");
    base.docker_archive("acme/base:v1").write_as_tar(&archive);
    for folder in [sandbox.root().to_owned(), sandbox.work()] {
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder, open).expect("open a folder");
    }
    Ok(sandbox)
}

/// All containers must come to the digest that the first came to.
#[track_caller]
fn same(ran: Ran, tier: &str) {
    static DIGEST: OnceLock<String> = OnceLock::new();
    let ran = ran.ok();
    let digest = ran.stdout.lines().last().unwrap_or_default().to_owned();
    assert!(digest.starts_with("sha256:"), "{tier}: {ran:?}");
    assert_eq!(
        *DIGEST.get_or_init(|| digest.clone()),
        digest,
        "{tier}: {ran:?}"
    );
}

/// The letters of the tiers that `doctor` finds working.
fn letters(ran: &Ran) -> String {
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON of doctor");
    let tiers = found["tiers"].as_array().expect("tiers");
    let works = tiers.iter().filter(|tier| tier["works"] == true);
    works.filter_map(|tier| tier["tier"].as_str()).collect()
}

#[test]
fn in_docker_a_build_gets_what_its_rights_allow() {
    let (work, docker) = (peer!(work()), peer!(Dockerd::shared()));
    docker.load(&work.path("image.tar"));
    let mount = format!("{}:/work:ro", work.work().display());
    let run = |options: &[&str], command: &str| {
        let fixed = ["run", "--rm", "--network", "none", "-v", &mount];
        let image = ["acme/base:v1", "sh", "-c", command];
        docker.run(fixed.iter().chain(options).chain(&image))
    };
    let doctor = "/work/boxwright doctor --json --store /tmp/store";
    let unconfined = ["--security-opt", "seccomp=unconfined", "--user", "1000"];
    assert_eq!(letters(&run(&[], doctor).ok()), "C");
    same(run(&[], BUILD), "C");
    assert_eq!(letters(&run(&unconfined, doctor).ok()), "B");
    same(run(&unconfined, BUILD), "B");
    // Neither root nor a namespace: the build says what is missing, and how it comes.
    let user = ["--user", "1000"];
    assert_eq!(letters(&run(&user, doctor).ok()), "");
    let refused = run(&user, BUILD).fails_with(3).stderr;
    for text in [
        "no sandbox works here",
        "lacks the right to make user namespaces",
        "docker run --security-opt seccomp=unconfined",
        "seccompProfile: {type: Unconfined}",
        "security_opt = [",
        "boxwright doctor",
    ] {
        assert!(refused.contains(text), "{text}: {refused}");
    }
}

#[test]
fn in_podman_a_plain_user_builds() {
    let (work, podman) = (peer!(work()), peer!(Podman::start()));
    podman.load(&work.path("image.tar"));
    let mount = format!("{}:/work:ro", work.work().display());
    let run = |command: &str| {
        let fixed = [
            "run",
            "--rm",
            "--network",
            "none",
            "--user",
            "1000",
            "-v",
            &mount,
        ];
        podman.run(fixed.iter().chain(&["acme/base:v1", "sh", "-c", command]))
    };
    let doctor = "/work/boxwright doctor --json --store /tmp/store";
    assert_eq!(letters(&run(doctor).ok()), "B");
    same(run(BUILD), "B in podman");
}
