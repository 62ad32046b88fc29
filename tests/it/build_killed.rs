//! A build may be killed at any moment, and a disk may be full: what is there afterwards is whole,
//! and the next build is right.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use boxwright::transport::{validate_archive, validate_layout};

use crate::support::file_set::FileSet;
use crate::support::image_reader::ReadImage;
use crate::support::listing::content_of;
use crate::support::peers::{Skip, peer, require_root};
use crate::support::process::run;
use crate::support::sandbox::Sandbox;

/// How often two builds are killed.
const ROUNDS: u64 = 20;

const SPEC: &str = "\
format: 1
image: test/killed
stages:
  app:
    from: scratch
    steps:
      - {copy: data, to: /data}
      - {copy: version, to: /version}
      - {copy: noise, to: /noise}
    config: {user: '1000'}
";

/// Numbers that look random and are the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 8) % limit
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let words = (0..length.div_ceil(8)).map(|_| self.next().to_le_bytes());
        words.flatten().take(length).collect()
    }
}

/// Two folders with one spec; all but a little of their contexts is the same.
fn projects(sandbox: &Sandbox) -> [&'static str; 2] {
    let names = ["first", "second"];
    for name in names {
        let mut dice = Dice(7);
        sandbox.file(&format!("{name}/boxwright.yaml"), SPEC);
        sandbox.file(&format!("{name}/version"), name);
        for n in 0..40 {
            sandbox.file(&format!("{name}/data/{n}"), dice.bytes(2000));
        }
        let mut own = Dice(name.len() as u64);
        sandbox.file(&format!("{name}/noise"), own.bytes(600_000));
    }
    names
}

fn command(sandbox: &Sandbox, project: &str, store: &Path) -> Command {
    let mut command = sandbox.boxwright_command(["build", project, "--progress", "quiet"]);
    command
        .args(["--print", "digest", "--jobs", "2", "--store"])
        .arg(store);
    command.args(["-o", "oci-archive:out/app.tar", "-o", "oci:out/lay"]);
    command
}

fn start(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let command = command.stderr(Stdio::null()).process_group(0);
    command.spawn().expect("start a build")
}

/// Every blob of the store is what its name says.
#[track_caller]
fn store_is_sound(store: &Path) {
    for entry in fs::read_dir(store.join("blobs/sha256")).expect("list the store") {
        let path = entry.expect("list the store").path();
        let (_, digest) = content_of(fs::File::open(&path).expect("open a blob"));
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        assert_eq!(digest, format!("sha256:{name}"), "a torn blob in the store");
    }
}

/// What stands at the outputs, if anything does, is whole and one of the known images.
#[track_caller]
fn outputs_are_sound(out: &Path, digests: &[String]) {
    let (archive, layout) = (out.join("app.tar"), out.join("lay"));
    if archive.exists() {
        let found = validate_archive(&archive).expect("an archive");
        assert!(found.is_empty(), "{found:#?}");
        let digest = ReadImage::at(&archive).digest;
        assert!(digests.contains(&digest), "{digest}");
    }
    // A layout is none before it has an index: that is written last.
    if layout.join("index.json").exists() {
        let found = validate_layout(&layout).expect("a layout");
        assert!(found.is_empty(), "{found:#?}");
        let set = FileSet::read(&layout).expect("a layout");
        let digest = ReadImage::of(&set).expect("an image").digest;
        assert!(digests.contains(&digest), "{digest}");
    }
}

#[test]
fn builds_that_are_killed_leave_nothing_torn() {
    let sandbox = Sandbox::new();
    let projects = projects(&sandbox);
    fs::create_dir(sandbox.path("out")).expect("a folder");
    let mut longest = Duration::ZERO;
    let digests = projects.map(|project| {
        let began = Instant::now();
        let store = sandbox.path(format!("store-of-{project}"));
        let ran = run(&mut command(&sandbox, project, &store)).ok();
        longest = longest.max(began.elapsed());
        ran.stdout.trim().to_owned()
    });
    assert_ne!(digests[0], digests[1]);
    fs::remove_dir_all(sandbox.path("out")).expect("start anew");
    fs::create_dir(sandbox.path("out")).expect("a folder");

    let (store, out) = (sandbox.path("store"), sandbox.path("out"));
    let mut dice = Dice(0x00b0_c501);
    let (mut killed, mut rounds) = (0, 0);
    while killed < 2 * ROUNDS && rounds < 4 * ROUNDS {
        rounds += 1;
        // A cold store every now and then: a warm build ends before it can be killed.
        if rounds % 4 == 0 {
            fs::remove_dir_all(&store).expect("a cold store");
        }
        let mut children = projects.map(|project| {
            let mut command = command(&sandbox, project, &store);
            if dice.below(3) > 0 {
                command.arg("--no-cache");
            }
            start(&mut command)
        });
        let moment = dice.below(longest.as_micros() as u64);
        std::thread::sleep(Duration::from_micros(moment));
        for child in &mut children {
            let is_running = child.try_wait().expect("look at a build").is_none();
            killed += u64::from(is_running);
            child.kill().expect("kill a build");
            child.wait().expect("wait for a killed build");
        }
        if store.join("blobs").exists() {
            store_is_sound(&store);
        }
        outputs_are_sound(&out, &digests);
        let chosen = dice.below(2) as usize;
        let ran = run(&mut command(&sandbox, projects[chosen], &store)).ok();
        assert_eq!(ran.stdout.trim(), digests[chosen], "round {rounds}");
        assert_eq!(ReadImage::at(&out.join("app.tar")).digest, digests[chosen]);
        outputs_are_sound(&out, &digests);
    }
    assert!(
        killed >= 2 * ROUNDS,
        "only {killed} builds were alive to be killed"
    );
    store_is_sound(&store);
    let mut left: Vec<_> = FileSet::read(&out)
        .expect("the outputs")
        .files
        .into_keys()
        .collect();
    left.retain(|path| !path.starts_with("lay/blobs/"));
    assert_eq!(
        left,
        ["app.tar", "lay/index.json", "lay/oci-layout"],
        "what killed builds left"
    );
}

/// A small disk of its own below the sandbox, gone with this value.
struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    fn of(place: PathBuf, size: &str) -> Result<SmallDisk, Skip> {
        require_root("a small disk")?;
        fs::create_dir(&place).expect("a folder");
        let disk = SmallDisk { place };
        match disk.mount(&format!("size={size}")).code {
            0 => Ok(disk),
            _ => Err(Skip::because("no tmpfs can be mounted here")),
        }
    }

    fn mount(&self, options: &str) -> crate::support::process::Ran {
        let mut mount = Command::new("mount");
        run(mount
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(&self.place))
    }

    fn grow(&self) {
        self.mount("remount,size=64m").ok();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        let _ = umount.arg("--lazy").arg(&self.place).status();
    }
}

/// Builds on a full disk, then with room; `on_disk` says which part lies on it.
fn full(on_disk: &str, size: &str) {
    let sandbox = Sandbox::new();
    let project = projects(&sandbox)[0];
    fs::create_dir(sandbox.path("elsewhere")).expect("a folder");
    let disk = peer!(SmallDisk::of(sandbox.path("disk"), size));
    let place = |part: &str| match part == on_disk {
        true => format!("disk/{part}"),
        false => format!("elsewhere/{part}"),
    };
    let build = || {
        let mut command = sandbox.boxwright_command(["build", project, "--print", "digest"]);
        command.args(["--progress", "quiet", "--store", &place("store")]);
        command.args(["-o", &format!("oci-archive:{}", place("app.tar"))]);
        command.args(["-o", &format!("oci:{}", place("lay"))]);
        run(&mut command)
    };
    let ran = build().fails_with(3);
    assert!(ran.stderr.starts_with("error: failed to "), "{ran:?}");
    assert!(ran.stderr.contains("No space left on device"), "{ran:?}");
    assert!(ran.stderr.contains("hint: make room"), "{ran:?}");
    assert_eq!(ran.stdout, "");
    if sandbox.path(place("store")).join("blobs/sha256").exists() {
        store_is_sound(&sandbox.path(place("store")));
    }
    assert!(on_disk != "app.tar" || !sandbox.path(place("app.tar")).exists());
    assert!(!sandbox.path(place("lay")).join("index.json").exists());
    disk.grow();
    let digest = build().ok().stdout.trim().to_owned();
    store_is_sound(&sandbox.path(place("store")));
    assert_eq!(
        ReadImage::at(&sandbox.path(place("app.tar"))).digest,
        digest
    );
    assert_eq!(ReadImage::at(&sandbox.path(place("lay"))).digest, digest);
    let left = FileSet::read(&sandbox.path("disk"))
        .expect("the disk")
        .files;
    let stray = left.keys().filter(|path| path.contains("tmp"));
    assert_eq!(stray.count(), 0, "{:?}", left.keys());
}

#[test]
fn a_full_disk_below_the_store_is_told_and_survived() {
    for size in ["16k", "100k", "400k"] {
        full("store", size);
    }
}

#[test]
fn a_full_disk_below_an_archive_is_told_and_survived() {
    full("app.tar", "300k");
}

#[test]
fn a_full_disk_below_a_layout_is_told_and_survived() {
    for size in ["16k", "300k"] {
        full("lay", size);
    }
}
