//! The foreign tools and the hand-made base image themselves: they must work before they may judge
//! anything of ours.

use std::fs;
use std::net::TcpStream;

use crate::support::busybox;
use crate::support::image_reader::ReadImage;
use crate::support::listing::Listing;
use crate::support::peers::{Containerd, Dockerd, Podman, Registry, Skopeo, Umoci, peer};
use crate::support::sandbox::Sandbox;

/// What a container of the base proves: applets, accounts, the whiteout and both hard links.
const PROOF: [&str; 3] = [
    "sh",
    "-c",
    "test ! -e /etc/obsolete && test /usr/sbin/busybox -ef /bin/busybox \
     && test /etc/issue -ef /etc/os-release && stat -c %a /tmp && id -un",
];

#[test]
fn the_base_is_an_image_whose_every_digest_is_right() {
    let base = peer!(busybox::base());
    let sandbox = Sandbox::new();
    base.write_layout(&sandbox.path("base"), "v1");
    base.oci_layout("v1")
        .write_as_tar(&sandbox.path("base.tar"));
    let directory = ReadImage::at(&sandbox.path("base"));
    let archive = ReadImage::at(&sandbox.path("base.tar"));
    assert_eq!(directory.digest, archive.digest);
    assert_eq!(directory.manifest, archive.manifest);
    let listings = directory.listings();
    assert_eq!(listings[0].row("tmp").mode, 0o1777);
    insta::assert_snapshot!(listings[1], @r"
    dir  0755 0:0 @0 etc
    file 0644 0:0 @0 etc/.wh.obsolete 0 sha256:e3b0c4
    file 0644 0:0 @0 etc/os-release 18 sha256:1366d9
    hard 0644 0:0 @0 etc/issue -> etc/os-release
    ");
}

#[test]
fn podman_runs_the_base_from_both_archives() {
    let (base, podman) = (peer!(busybox::base()), peer!(Podman::start()));
    let sandbox = Sandbox::new();
    for set in [
        base.oci_layout("v1"),
        base.docker_archive("localhost/base:v1"),
    ] {
        let archive = sandbox.path("base.tar");
        set.write_as_tar(&archive);
        let image = podman.load(&archive);
        assert_eq!(podman.run_image(&image, &PROOF).ok().stdout, "1777\nroot\n");
        assert_eq!(podman.inspect(&image)["Config"]["Cmd"][0], "sh");
        assert!(podman.healthcheck(&image).is_null());
    }
}

#[test]
fn docker_runs_the_base() {
    let (base, docker) = (peer!(busybox::base()), peer!(Dockerd::shared()));
    let sandbox = Sandbox::new();
    let archive = sandbox.path("base.tar");
    base.docker_archive("peers/base:v1").write_as_tar(&archive);
    let image = docker.load(&archive);
    assert_eq!(image, "peers/base:v1");
    assert_eq!(docker.run_image(&image, &PROOF).ok().stdout, "1777\nroot\n");
    assert_eq!(docker.inspect(&image)["Config"]["Cmd"][0], "sh");
}

#[test]
fn containerd_runs_the_base() {
    let (base, containerd) = (peer!(busybox::base()), peer!(Containerd::shared()));
    let sandbox = Sandbox::new();
    let archive = sandbox.path("base.tar");
    base.oci_layout("peers.test/base:v1").write_as_tar(&archive);
    let names = containerd.import(&archive);
    let [image] = &names[..] else {
        panic!("one image, not {names:?}")
    };
    assert_eq!(
        containerd.run_image(image, &PROOF).ok().stdout,
        "1777\nroot\n"
    );
}

#[test]
fn umoci_unpacks_the_base() {
    let (base, umoci) = (peer!(busybox::base()), peer!(Umoci::start()));
    let sandbox = Sandbox::new();
    base.write_layout(&sandbox.path("base"), "v1");
    let root = umoci.unpack(&sandbox.path("base"), "v1", &sandbox.path("bundle"));
    let listing = Listing::of_directory(&root);
    assert!(!root.join("etc/obsolete").exists());
    assert_eq!(listing.row("bin").target.as_deref(), Some(&b"usr/bin"[..]));
    assert_eq!(listing.row("usr/sbin/busybox").kind, "hard");
}

#[test]
fn skopeo_carries_the_base_through_a_registry_unchanged() {
    let (base, skopeo) = (peer!(busybox::base()), peer!(Skopeo::start()));
    let registry = peer!(Registry::start());
    let sandbox = Sandbox::new();
    base.oci_layout("v1")
        .write_as_tar(&sandbox.path("base.tar"));
    let archive = format!("oci-archive:{}:v1", sandbox.path("base.tar").display());
    let remote = format!("docker://{}/base:v1", registry.address());
    let back = format!("oci:{}:v1", sandbox.path("back").display());
    skopeo.copy(&archive, &remote).ok();
    skopeo.copy(&remote, &back).ok();
    let sent = ReadImage::at(&sandbox.path("base.tar"));
    assert_eq!(ReadImage::at(&sandbox.path("back")).digest, sent.digest);
    assert_eq!(skopeo.inspect(&remote)["Digest"], sent.digest.as_str());
    assert_eq!(skopeo.config(&remote), sent.config);
}

#[test]
fn daemons_of_their_own_leave_nothing_behind() {
    let registry = peer!(Registry::start());
    let address = registry.address().to_owned();
    drop(registry);
    assert!(TcpStream::connect(address).is_err());
    drop(peer!(Dockerd::start()));
    no_mount_is_left_behind();
}

#[test]
fn containers_end_with_their_keepers() {
    let (base, sandbox) = (peer!(busybox::base()), Sandbox::new());
    let archive = sandbox.path("base.tar");
    base.oci_layout("peers.test/base:v1").write_as_tar(&archive);
    // How long they sleep tells them from all other processes of this machine.
    let time = format!("7{:09}", std::process::id());
    let podman = peer!(Podman::start());
    let image = podman.load(&archive);
    podman
        .run(["run", "-d", "--network", "none", &image, "sleep", &time])
        .ok();
    let containerd = peer!(Containerd::start());
    let names = containerd.import(&archive);
    containerd.start_image(&names[0], &["sleep", &time]).ok();
    assert_eq!(processes_that_say(&time), 2);
    drop((podman, containerd));
    assert_eq!(processes_that_say(&time), 0);
    no_mount_is_left_behind();
}

/// How many processes have `text` as an argument.
fn processes_that_say(text: &str) -> usize {
    let processes = fs::read_dir("/proc").expect("list the processes");
    let lines = processes.filter_map(|p| fs::read_to_string(p.ok()?.path().join("cmdline")).ok());
    lines
        .filter(|line| line.split('\0').any(|argument| argument == text))
        .count()
}

/// Other tests mount in the meantime; what no test may leave is a mount of a folder that is gone.
fn no_mount_is_left_behind() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
    let left = mounts
        .lines()
        .filter(|line| line.contains("boxwright-") && line.contains("//deleted"));
    assert_eq!(left.count(), 0, "{mounts}");
}
