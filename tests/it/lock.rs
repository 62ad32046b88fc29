//! The lock: what a spec takes from outside is noted, compared, and alone counts with `--locked`;
//! and with `--offline` nobody is asked at all.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use boxwright::oci::Digest;
use serde_json::json;

use crate::support::busybox;
use crate::support::fault_server::{FaultServer, Reply, Shelf};
use crate::support::image_fixture::{Image, Layer};
use crate::support::peers::{Skip, Skopeo, may_mount, on_path, peer};
use crate::support::process::{Ran, run};
use crate::support::raw_tar::{Header, flag};
use crate::support::registry::RegistryServer;
use crate::support::sandbox::Sandbox;

/// An image with one small file.
fn image(content: &str) -> Image {
    Image {
        layers: vec![Layer::plain(|tar| {
            let header = Header::new(flag::FILE, "hello").size(content.len() as u64);
            tar.file(header, content.as_bytes())
                .expect("write to memory");
        })],
        config: json!({"User": "1000"}),
    }
}

/// The world outside: a registry's images and a file of the web, which a test may change.
struct World {
    server: FaultServer,
    shelf: Arc<Mutex<Shelf>>,
    tool: Arc<Mutex<Vec<u8>>>,
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl World {
    fn new() -> World {
        let (shelf, tool) = (Arc::new(Mutex::default()), Arc::new(Mutex::default()));
        let (of_registry, of_web) = (Arc::clone(&shelf), Arc::clone(&tool));
        let server = FaultServer::start(move |asked| match asked.target.as_str() {
            "/tool" => Reply::Whole(200, Vec::new(), Vec::clone(&of_web.lock().unwrap())),
            _ => Shelf::answer(&of_registry.lock().unwrap(), asked),
        });
        let world = World {
            server,
            shelf,
            tool,
        };
        world.set_tool("one");
        world
    }

    /// What the URL gives from now on.
    fn set_tool(&self, content: &str) {
        *self.tool.lock().unwrap() = content.as_bytes().to_vec();
    }

    /// Puts an image under a tag.
    fn put(&self, content: &str, tag: &str) -> String {
        let layout = image(content).oci_layout(tag);
        self.shelf.lock().unwrap().put_layout(&layout, tag)
    }

    /// Puts an index under a tag whose manifests nobody will ask for.
    fn put_index(&self, platforms: &[&str], tag: &str) {
        let entry = |platform: &&str| {
            let (os, architecture) = platform.split_once('/').expect("OS/ARCH");
            let digest = self
                .shelf
                .lock()
                .unwrap()
                .put_blob(platform.as_bytes().to_vec());
            json!({"mediaType": MANIFEST, "digest": digest, "size": platform.len(),
                   "platform": {"os": os, "architecture": architecture}})
        };
        let entries: Vec<_> = platforms.iter().map(entry).collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        let bytes = serde_json::to_vec(&index).expect("encode");
        self.shelf.lock().unwrap().put_manifest(tag, INDEX, bytes);
    }

    fn address(&self) -> &str {
        self.server.address()
    }

    /// A text without what differs from run to run.
    fn redact(&self, sandbox: &Sandbox, text: &str) -> String {
        sandbox.redact(text).replace(self.address(), "HOST")
    }

    fn golden(&self, sandbox: &Sandbox, ran: &Ran) -> String {
        self.redact(sandbox, &ran.golden())
    }
}

/// A spec whose image holds `/hello` of one reference and the file of a URL.
fn spec(world: &World, tag: &str, more: &str) -> String {
    let host = world.address();
    format!(
        "format: 1\nimage: test/lock\nargs: {{TAG: '{tag}'}}\nstages:\n  app:\n    \
         from: '{host}/a/base:${{TAG}}'\n    steps:\n      \
         - {{add: 'http://{host}/tool', to: /tool{more}}}\n"
    )
}

/// The key that makes an `add` step demand this file.
fn checksum(content: &str) -> String {
    format!(", checksum: '{}'", Digest::of(content.as_bytes()))
}

const STORE: [&str; 2] = ["--store", "store"];

/// Runs `boxwright lock` with these arguments.
fn lock(sandbox: &Sandbox, more: &[&str]) -> Ran {
    sandbox.boxwright([&["lock"], &STORE[..], more].concat())
}

/// Builds with these arguments; standard output is the digest.
fn build(sandbox: &Sandbox, more: &[&str]) -> Ran {
    let args = [
        "build",
        "-o",
        "oci:out:v1",
        "--print",
        "digest",
        "--progress",
        "quiet",
    ];
    let store: &[&str] = if more.contains(&"--store") {
        &[]
    } else {
        &STORE
    };
    sandbox.boxwright([&args[..], store, more].concat())
}

fn read(sandbox: &Sandbox) -> String {
    std::fs::read_to_string(sandbox.path("boxwright.lock")).expect("a lock")
}

#[test]
fn everything_from_outside_is_in_the_lock_and_nothing_else() {
    let world = World::new();
    world.put_index(&["linux/s390x", "linux/riscv64", "unknown/unknown"], "all");
    world.put_index(&["linux/riscv64"], "rv-riscv64");
    let other = world.put("never built", "other");
    let (sandbox, host) = (Sandbox::new(), world.address());
    image("local").write_layout(&sandbox.path("lay"), "v1");
    sandbox.file(
        "boxwright.yaml",
        format!(
            "format: 1\nplatforms: [linux/riscv64]\nargs: {{T: all}}\ntarget: app\nstages:\n  \
             app:\n    from: oci:lay:v1\n    steps:\n      \
             - {{copy: /hello, from: '{host}/z/x:${{T}}', to: /a}}\n      \
             - {{copy: /hello, from: '{host}/a/x:rv-${{TARGETARCH}}', to: /b}}\n  \
             unused:\n    from: '{host}/a/x@{other}'\n    steps:\n      \
             - {{add: 'http://{host}/tool'}}\n      - {{add: 'http://{host}/tool'{}}}\n",
            checksum("one")
        ),
    );
    let ran = lock(&sandbox, &[]).ok();
    // The one digest that depends on the machine, by which the image was asked for anyway.
    let text = world
        .redact(&sandbox, &read(&sandbox))
        .replace(&other, "sha256:OTHER");
    insta::assert_snapshot!(text);
    let said = world.redact(&sandbox, &ran.stderr);
    assert!(
        said.contains("wrote boxwright.lock: 3 images, 1 file"),
        "{said}"
    );
    // Layers stay where they are, and so do manifests of an index.
    assert!(world.server.lines_with("/blobs/").is_empty());
    // The same world gives the same bytes, and an unchanged file is not touched.
    let before = std::fs::metadata(sandbox.path("boxwright.lock")).unwrap();
    let again = lock(&sandbox, &[]).ok();
    let after = std::fs::metadata(sandbox.path("boxwright.lock")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    insta::assert_snapshot!(world.golden(&sandbox, &again), @r"
    exit: 0
    --- stdout
    --- stderr
    boxwright.lock is up to date: 3 images, 1 file
    ");
    lock(&sandbox, &["--check"]).ok();
}

#[test]
fn a_locked_build_is_what_it_was_while_the_world_moves() {
    let skopeo = peer!(Skopeo::start());
    let registry = peer!(RegistryServer::open());
    let (sandbox, world) = (Sandbox::new(), World::new());
    let reference = format!("{}/acme/base:1", registry.address());
    let push = |content: &str| {
        image(content).write_layout(&sandbox.path(content), "v1");
        let from = format!("oci:{}:v1", sandbox.path(content).display());
        skopeo.copy(&from, &format!("docker://{reference}")).ok();
    };
    push("one");
    let text = spec(&world, "1", "").replace(
        &format!("{}/a/base", world.address()),
        &format!("{}/acme/base", registry.address()),
    );
    sandbox.file("boxwright.yaml", text);
    lock(&sandbox, &[]).ok();
    let first = build(&sandbox, &["--locked"]).ok().stdout;
    lock(&sandbox, &["--check"]).ok();
    push("two");
    world.set_tool("two");
    // On another machine, which has nothing: the file of the web is not what it was, and is refused.
    let refused = build(&sandbox, &["--locked", "--store", "fresh"]).fails_with(1);
    assert!(
        refused.stderr.contains("boxwright lock --update http://"),
        "{}",
        refused.stderr
    );
    world.set_tool("one");
    let asked = |tag: &str| registry.log().matches(&format!("/manifests/{tag}")).count();
    let before = asked("1 ");
    assert!(
        before > 0,
        "the log says which tags were asked for:\n{}",
        registry.log()
    );
    assert_eq!(
        build(&sandbox, &["--locked", "--store", "fresh"])
            .ok()
            .stdout,
        first
    );
    assert_eq!(
        build(&sandbox, &["--locked", "--no-cache"]).ok().stdout,
        first
    );
    assert_eq!(asked("1 "), before, "a tag was asked for");
    let moved = lock(&sandbox, &["--check"]).fails_with(1);
    assert!(
        moved.stderr.contains("has moved to sha256:"),
        "{}",
        moved.stderr
    );
    let updated = lock(&sandbox, &["--update", &reference]).ok();
    assert!(updated.stderr.contains(" → "), "{}", updated.stderr);
    assert!(!updated.stderr.contains("/tool"), "{}", updated.stderr);
    assert_ne!(build(&sandbox, &["--locked"]).ok().stdout, first);
    lock(&sandbox, &["--check"]).ok();
}

#[test]
fn a_locked_build_shares_results_with_one_that_resolves_to_the_same() {
    let world = World::new();
    world.put("one", "1");
    let sandbox = Sandbox::new();
    sandbox.file("boxwright.yaml", spec(&world, "1", &checksum("one")));
    let open = build(&sandbox, &[]).ok().stdout;
    lock(&sandbox, &[]).ok();
    let args = [
        "build",
        "-o",
        "oci:out:v1",
        "--store",
        "store",
        "--locked",
        "--progress",
        "json",
    ];
    let events = sandbox.boxwright(args).ok().stderr;
    assert!(!events.contains("step_started"), "{events}");
    assert_eq!(build(&sandbox, &["--locked"]).ok().stdout, open);
}

#[test]
fn another_digest_in_the_lock_is_another_build() {
    let world = World::new();
    world.put("one", "1");
    let sandbox = Sandbox::new();
    sandbox.file("boxwright.yaml", spec(&world, "1", ""));
    let without = build(&sandbox, &[]).fails_with(1);
    insta::assert_snapshot!("no_checksum", world.golden(&sandbox, &without));
    lock(&sandbox, &[]).ok();
    let first = build(&sandbox, &["--locked"]).ok().stdout;
    world.set_tool("two");
    let changed = lock(&sandbox, &[]).ok();
    insta::assert_snapshot!("changes", world.golden(&sandbox, &changed));
    let second = build(&sandbox, &["--locked"]).ok().stdout;
    assert_ne!(first, second, "the spec is the same, and the lock is not");
}

#[test]
fn arguments_lead_to_entries_of_their_own() {
    let world = World::new();
    for tag in ["1", "2"] {
        world.put(tag, tag);
    }
    let sandbox = Sandbox::new();
    sandbox.file("boxwright.yaml", spec(&world, "1", ""));
    lock(&sandbox, &[]).ok();
    let refused = build(&sandbox, &["--locked", "--arg", "TAG=2"]).fails_with(1);
    insta::assert_snapshot!("not_locked", world.golden(&sandbox, &refused));
    lock(&sandbox, &["--arg", "TAG=2", "--add"]).ok();
    build(&sandbox, &["--locked", "--arg", "TAG=2"]).ok();
    build(&sandbox, &["--locked"]).ok();
    let gone = lock(&sandbox, &["--arg", "TAG=2"]).ok();
    assert!(
        gone.stderr.contains("(not used any more)"),
        "{}",
        gone.stderr
    );
    build(&sandbox, &["--locked"]).fails_with(1);
}

#[test]
fn what_is_wrong_with_a_lock_is_told_in_its_place() {
    let world = World::new();
    world.put_index(&["linux/s390x", "linux/amd64"], "1");
    let sandbox = Sandbox::new();
    sandbox.file("boxwright.yaml", spec(&world, "1", ""));
    let mut told = Vec::new();
    let mut tell = |name: &str, ran: Ran| {
        let ran = ran.fails_with(1);
        told.push(format!("# {name}\n{}", world.golden(&sandbox, &ran)));
    };
    tell("no lock", build(&sandbox, &["--locked"]));
    lock(&sandbox, &[]).ok();
    let whole = read(&sandbox);
    tell(
        "no platform",
        build(&sandbox, &["--locked", "--platform", "linux/riscv64"]),
    );
    tell("unknown name", lock(&sandbox, &["--update", "alpine"]));
    let other = format!(", checksum: 'sha256:{}'", "0".repeat(64));
    sandbox.file("boxwright.yaml", spec(&world, "1", &other));
    tell("conflict", build(&sandbox, &["--locked"]));
    tell(
        "conflict, checked",
        lock(&sandbox, &["--check", "--offline"]),
    );
    sandbox.file("boxwright.yaml", spec(&world, "1", ""));
    world.put_index(&["linux/amd64"], "1");
    tell("moved", lock(&sandbox, &["--check"]));
    sandbox.file(
        "boxwright.lock",
        whole.replace("digest: sha256:", "digest: sha256:x"),
    );
    tell("damaged", build(&sandbox, &["--locked"]));
    sandbox.file("boxwright.lock", format!("<<<<<<< ours\n{whole}"));
    tell("merged", build(&sandbox, &["--locked"]));
    insta::assert_snapshot!(told.join("\n"));
    // A new lock does not ask the damaged one.
    lock(&sandbox, &[]).ok();
    lock(&sandbox, &["--check"]).ok();
}

/// Nobody may knock here.
struct Silence(TcpListener);

impl Silence {
    fn new() -> Silence {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen on loopback");
        listener
            .set_nonblocking(true)
            .expect("a socket that does not wait");
        Silence(listener)
    }

    fn address(&self) -> String {
        self.0.local_addr().expect("a bound address").to_string()
    }

    #[track_caller]
    fn assert_kept(&self) {
        let came = self.0.accept().map(drop).map_err(|error| error.kind());
        assert_eq!(
            came,
            Err(std::io::ErrorKind::WouldBlock),
            "somebody knocked"
        );
    }
}

#[test]
fn offline_nobody_is_asked_and_what_is_missing_is_named() {
    let (sandbox, silence) = (Sandbox::new(), Silence::new());
    let host = silence.address();
    let image = format!("from: '{host}/a/base:1'");
    let file = format!(
        "from: scratch\n    allow: [root]\n    steps:\n      - {{add: 'http://{host}/tool', \
         checksum: 'sha256:{}'}}",
        "0".repeat(64)
    );
    let pinned = format!("from: '{host}/a/base@sha256:{}'", "0".repeat(64));
    let mut told = Vec::new();
    for what in [image, file, pinned] {
        sandbox.file(
            "boxwright.yaml",
            format!("format: 1\nstages:\n  app:\n    {what}\n"),
        );
        let ran = build(&sandbox, &["--offline"]).fails_with(1);
        told.push(sandbox.golden(&ran).replace(&host, "HOST"));
        let ran = lock(&sandbox, &["--offline"]).fails_with(1);
        told.push(sandbox.golden(&ran).replace(&host, "HOST"));
    }
    silence.assert_kept();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_store_that_has_everything_builds_where_there_is_no_network() {
    let unshare = on_path("unshare").ok_or_else(|| Skip::missing("unshare"));
    let unshare = peer!(unshare);
    let world = World::new();
    world.put("one", "1");
    let sandbox = Sandbox::new();
    // As root it needs no user namespace, and where users may have none, root has to do.
    let flags = ["-n", "-rn"].into_iter().find(|flags| {
        let mut command = sandbox.command(&unshare);
        run(command.args([flags, "true"])).code == 0
    });
    let flags = peer!(flags.ok_or_else(|| Skip::because("no network namespace can be made")));
    sandbox.file("boxwright.yaml", spec(&world, "1", ""));
    lock(&sandbox, &[]).ok();
    let first = build(&sandbox, &["--locked"]).ok().stdout;
    sandbox.file("open/boxwright.yaml", spec(&world, "1", &checksum("one")));
    let open = build(&sandbox, &["open"]).ok().stdout;
    let asked = world.server.asked().len();
    let cut_off = |more: &[&str]| {
        let mut command = sandbox.command(&unshare);
        command.args([
            flags,
            env!("CARGO_BIN_EXE_boxwright"),
            "build",
            "-o",
            "oci:out:v1",
        ]);
        command
            .args(["--print", "digest", "--store", "store", "--no-cache"])
            .args(more);
        run(&mut command)
    };
    assert_eq!(cut_off(&["--locked", "--offline"]).ok().stdout, first);
    assert_eq!(cut_off(&["--offline", "open"]).ok().stdout, open);
    // A lock alone asks for no tag either, and all the rest is here.
    assert_eq!(cut_off(&["--locked"]).ok().stdout, first);
    // The counter-proof: there really is no network.
    cut_off(&["open"]).fails_with(3);
    assert_eq!(world.server.asked().len(), asked);
}

#[test]
fn offline_commands_have_no_network_and_nobody_takes_their_results_for_others() {
    if !may_mount() {
        return Skip::because("nothing can be mounted here").report();
    }
    let sandbox = Sandbox::new();
    peer!(busybox::base()).write_layout(&sandbox.path("base"), "v1");
    sandbox.file(
        "boxwright.yaml",
        "format: 1\nstages:\n  work:\n    from: oci:base:v1\n    steps:\n      \
         - run: wc -l < /proc/net/dev; touch /out\n  app:\n    from: scratch\n    \
         allow: [root]\n    steps:\n      - {copy: /out, from: work}\n",
    );
    let has = |store: &str, more: &[&str], words: &[&str]| {
        let args = [
            "build",
            "-o",
            "oci:out:v1",
            "--progress",
            "json",
            "--store",
            store,
        ];
        let ran = sandbox.boxwright([&args[..], more].concat()).ok();
        let mut lines = ran.stderr.lines();
        lines.any(|line| words.iter().all(|word| line.contains(word)))
    };
    let (offline, runs) = (["--offline"], ["step_finished", "\"work\"", "\"built\""]);
    // Two lines of headings and the loopback: no namespace has less.
    assert!(has("a", &offline, &["step_output", "\"3\""]));
    assert!(
        has("a", &[], &runs),
        "what ran without a network is no result for others"
    );
    assert!(has("b", &[], &runs));
    assert!(
        !has("b", &offline, &["runs without a network"]),
        "it need not run again"
    );
    let told = ["--offline", "--no-cache"];
    assert!(has("b", &told, &["note", "runs without a network"]));
}
