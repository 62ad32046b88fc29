//! Caches of commands leave a machine in one file and come to another, whatever tier wrote them;
//! and what commands keep in a store is counted and removed.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::busybox;
use crate::support::mount::Mount;
use crate::support::peers::{Skip, may_mount, peer};
use crate::support::plain_user::plain_user;
use crate::support::process::{Ran, run};
use crate::support::sandbox::Sandbox;

/// Who builds, and in which tier: (user is root, tier, the owner that a command sees of a file
/// that was given to 33:34).
const BUILDERS: [(bool, &str, &str); 3] = [
    (true, "a", "33:34"),
    (false, "a", "33:34"),
    // With one id every file looks like root's.
    (false, "b", "0:0"),
];

/// Fills the cache; nothing in it depends on when.
const FILL: &str = "mkdir /out; cd /c; mkdir d; echo text > d/f; ln d/f name; ln -s d/f link; \
    chown 33:34 d/f d; chmod 640 d/f; chmod 700 d; chmod 755 .; \
    touch -h -d @1000000000 link d/f d .";

/// Says all that a command can see of it.
const SEE: &str = "mkdir /out; cd /c; stat -c '%n %a %h %Y %u:%g' d d/f; cat name; readlink link";

fn prepared() -> Result<Sandbox, Skip> {
    if !may_mount() {
        return Err(Skip::because("root is needed to become other users"));
    }
    let sandbox = Sandbox::new();
    busybox::base()?.write_layout(&sandbox.path("base"), "v1");
    fs::create_dir(sandbox.path("ctx")).expect("make a context");
    let (uid, gid) = plain_user();
    for folder in [sandbox.root(), &sandbox.home(), &sandbox.work()] {
        fs::set_permissions(folder, Permissions::from_mode(0o777)).expect("open a folder");
    }
    chown(sandbox.home(), Some(uid), Some(gid)).expect("give a folder away");
    Ok(sandbox)
}

/// Boxwright, run by root or by the plain user.
fn boxwright(sandbox: &Sandbox, is_root: bool, args: &[&str]) -> Command {
    if is_root {
        return sandbox.boxwright_command(args);
    }
    let (uid, gid) = plain_user();
    let mut command = sandbox.command("setpriv");
    command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
    command.args(["--clear-groups", "--inh-caps=-all"]);
    command.arg(env!("CARGO_BIN_EXE_boxwright")).args(args);
    command.env("TMPDIR", sandbox.work());
    command
}

/// The command that builds with a cache at `/c`, in this store.
fn building(sandbox: &Sandbox, builder: (bool, &str), store: &str, script: &str) -> Command {
    let spec = format!(
        "format: 1\nimage: test/caches\ncontext: ctx\nstages:\n  work:\n    from: oci:base:v1\n    \
         steps:\n      - run: {}\n        mounts: [{{cache: things, target: /c}}]\n  final:\n    \
         from: scratch\n    allow: [root]\n    steps:\n      - {{copy: /out, from: work, to: /out}}\n",
        serde_json::to_string(script).expect("text")
    );
    let name = format!("{store}.yaml");
    sandbox.file(&name, spec);
    let out = format!("oci-archive:{store}.tar");
    let (is_root, tier) = builder;
    let mut args = vec!["build", "-f", &name, "--store", store, "--sandbox", tier];
    args.extend(["--no-cache", "--progress", "json", "-o", &out]);
    boxwright(sandbox, is_root, &args)
}

/// What the build's command printed.
fn built(sandbox: &Sandbox, builder: (bool, &str), store: &str, script: &str) -> Vec<String> {
    let ran = run(&mut building(sandbox, builder, store, script)).ok();
    let events = ran.stderr.lines().map(|line| {
        let event: Value = serde_json::from_str(line).expect("an event a line");
        event
    });
    let lines = events.filter(|event| event["event"] == "step_output");
    lines
        .map(|event| event["text"].as_str().expect("text").to_owned())
        .collect()
}

fn cache(sandbox: &Sandbox, is_root: bool, args: &[&str]) -> Ran {
    let mut all = vec!["cache"];
    all.extend(args);
    run(&mut boxwright(sandbox, is_root, &all))
}

#[test]
fn caches_move_between_machines_users_and_tiers() {
    let sandbox = peer!(prepared());
    let mut archives = Vec::new();
    for (number, (is_root, tier, _)) in BUILDERS.into_iter().enumerate() {
        let (store, file) = (format!("from{number}"), format!("{number}.tar.zst"));
        built(&sandbox, (is_root, tier), &store, FILL);
        let more = ["--store", &store, "--sandbox", tier];
        let ran = cache(&sandbox, is_root, &[&["export", &file], &more[..]].concat()).ok();
        assert_eq!(ran.stdout, "cache things: 5 files, 5 B\n");
        archives.push(fs::read(sandbox.path(&file)).expect("read the archive"));
        cache(&sandbox, is_root, &["clear", "--store", &store]).ok();
        let caches = sandbox.path(format!("{store}/caches/things"));
        assert!(!caches.exists(), "nothing is left of it");
    }
    // Whoever wrote the files, the archive says the same.
    assert!(archives.iter().all(|archive| *archive == archives[0]));
    for (number, (is_root, tier, owner)) in BUILDERS.into_iter().enumerate() {
        let store = format!("to{number}");
        let more = ["--store", &store, "--sandbox", tier];
        let import = [&["import", "0.tar.zst"], &more[..]].concat();
        let ran = cache(&sandbox, is_root, &import).ok();
        assert_eq!(ran.stdout, "cache things: 5 files, 5 B\n", "{tier}");
        let ran = cache(&sandbox, is_root, &import).ok();
        assert!(
            ran.stdout.contains("replaced the one that was here"),
            "{}",
            ran.stdout
        );
        let file = format!("again{number}.tar.zst");
        cache(&sandbox, is_root, &[&["export", &file], &more[..]].concat()).ok();
        let again = fs::read(sandbox.path(&file)).expect("read the archive");
        assert!(again == archives[0], "{tier}: it changed on the way");
        let seen = built(&sandbox, (is_root, tier), &store, SEE);
        let expected = [
            format!("d 700 2 1000000000 {owner}"),
            format!("d/f 640 2 1000000000 {owner}"),
            "text".to_owned(),
            "d/f".to_owned(),
        ];
        assert_eq!(seen, expected, "root: {is_root}, tier {tier}");
        cache(&sandbox, is_root, &["clear", "--store", &store]).ok();
    }
}

#[test]
fn a_cache_in_use_is_waited_for() {
    let sandbox = peer!(prepared());
    let script = "mkdir /out; echo > /c/started; \
                  while ! test -e /c/go; do sleep 0.1; done; echo > /c/last";
    let mut build = building(&sandbox, (true, "a"), "store", script);
    let build = build.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut build = build.expect("start a build");
    let caches = sandbox.path("store/caches/things");
    while !caches.join("started").exists() {
        let ended = build.try_wait().expect("look");
        assert!(ended.is_none(), "the build ended: {ended:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let ran = cache(
        &sandbox,
        true,
        &["gc", "--store", "store", "--max-size", "0B"],
    );
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(caches.join("started").exists());
    let args = ["cache", "export", "c.tar.zst", "--store", "store"];
    let mut export = boxwright(&sandbox, true, &args);
    let export = export.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut export = export.expect("start an export");
    let mut line = String::new();
    let mut told = BufReader::new(export.stderr.take().expect("a pipe"));
    told.read_line(&mut line).expect("read");
    assert_eq!(line, "waiting for the cache things: a command uses it\n");
    assert!(!sandbox.path("c.tar.zst").exists());
    fs::write(caches.join("go"), "").expect("let it go on");
    assert!(build.wait().expect("wait").success() && export.wait().expect("wait").success());
    cache(&sandbox, true, &["import", "c.tar.zst", "--store", "other"]).ok();
    assert!(sandbox.path("other/caches/things/last").exists());
}

/// Every file below a folder: path, size, mode, and time.
fn state(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, found) = (entry.path(), entry.metadata().expect("look"));
        let (size, mode, time) = (found.size(), found.mode(), found.mtime_nsec());
        if found.is_dir() {
            lines.extend(state(&path));
        }
        let size = if found.is_dir() { 0 } else { size };
        lines.push(format!("{} {size} {mode:o} {time}", path.display()));
    }
    lines.sort_unstable();
    lines
}

/// A store whose cache `things` is all of one word, without a build.
fn filled(sandbox: &Sandbox, store: &str, word: &str) {
    // A folder with something in it would not be taken for a store.
    sandbox.boxwright(["cache", "du", "--store", store]).ok();
    for number in 0..40 {
        let name = format!("{store}/caches/things/{}/{number}", number % 4);
        let mut noise = number as u64 + 1;
        let mut bytes = word.as_bytes().to_vec();
        bytes.extend((0..60_000).map(|_| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (noise >> 56) as u8
        }));
        sandbox.file(&name, bytes);
    }
}

#[test]
fn what_no_export_wrote_changes_nothing() {
    let sandbox = peer!(prepared());
    filled(&sandbox, "store", "mine");
    sandbox.file("text", "text");
    sandbox.file("inner/boxwright-caches", "{\"format\":1}");
    let tar = |args: &[&str]| run(sandbox.command("tar").args(args)).ok();
    tar(&["--zstd", "-cf", "headless.tar.zst", "-C", "inner", "."]);
    tar(&["-cf", "plain.tar", "-C", "inner", "boxwright-caches"]);
    tar(&[
        "--zstd",
        "-cf",
        "endless.tar.zst",
        "-C",
        "inner",
        "boxwright-caches",
    ]);
    sandbox.file("inner/caches/things/x", "hostile");
    for (name, prefix) in [("up", "../../../"), ("root", "/")] {
        let transform = format!("--transform=s,^caches/things/x,{prefix}outside,");
        let file = format!("{name}.tar.zst");
        let args = ["--zstd", "-P", "-cf", &file, &transform, "-C", "inner"];
        tar(&[&args[..], &["boxwright-caches", "caches"]].concat());
    }
    cache(
        &sandbox,
        true,
        &["export", "good.tar.zst", "--store", "store"],
    )
    .ok();
    let good = fs::read(sandbox.path("good.tar.zst")).expect("read");
    sandbox.file("torn.tar.zst", &good[..good.len() / 2]);
    sandbox.file("short.tar.zst", &good[..good.len() - 40]);
    let before = state(&sandbox.path("store/caches/things"));
    for (file, told) in [
        ("text", "did not write it"),
        ("plain.tar", "did not write it"),
        ("headless.tar.zst", "did not write it"),
        ("endless.tar.zst", "its end is missing"),
        ("up.tar.zst", "nothing was changed"),
        ("root.tar.zst", "nothing was changed"),
        ("torn.tar.zst", "nothing was changed"),
        ("short.tar.zst", "nothing was changed"),
    ] {
        let ran = cache(&sandbox, true, &["import", file, "--store", "store"]);
        assert_eq!(ran.code, 1, "{file}: {}", ran.stderr);
        assert!(ran.stderr.contains(told), "{file}: {}", ran.stderr);
        assert_eq!(
            state(&sandbox.path("store/caches/things")),
            before,
            "{file}"
        );
        assert_eq!(state(&sandbox.path("store/scratch")), [""; 0], "{file}");
    }
    let small = ["good.tar.zst", "--store", "store", "--max-size", "1MB"];
    let ran = cache(&sandbox, true, &[&["import"], &small[..]].concat());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("--max-size"), "{}", ran.stderr);
    assert_eq!(state(&sandbox.path("store/caches/things")), before);
    let ran = cache(
        &sandbox,
        true,
        &["export", "x", "--mount", "none", "--store", "store"],
    );
    assert!(
        ran.code == 1 && ran.stderr.contains("there are things"),
        "{}",
        ran.stderr
    );
    assert!(!sandbox.path("x").exists() && !sandbox.root().join("outside").exists());
}

#[test]
fn killed_carriers_leave_what_was_or_what_is_to_be() {
    let sandbox = peer!(prepared());
    for (store, word) in [("one", "first"), ("two", "second")] {
        filled(&sandbox, store, word);
        cache(
            &sandbox,
            true,
            &["export", &format!("{store}.tar.zst"), "--store", store],
        )
        .ok();
        cache(
            &sandbox,
            true,
            &["import", &format!("{store}.tar.zst"), "--store", store],
        )
        .ok();
    }
    let at = |store: &str| {
        let lines = state(&sandbox.path(format!("{store}/caches/things")));
        let start = sandbox.path(store).display().to_string();
        let lines = lines.into_iter().map(|line| line.replace(&start, ""));
        lines.collect::<Vec<String>>()
    };
    let (one, two) = (at("one"), at("two"));
    assert_ne!(one, two);
    let file = fs::read(sandbox.path("one.tar.zst")).expect("read");
    for round in 0..16u64 {
        for (verb, name) in [("import", "two.tar.zst"), ("export", "copy.tar.zst")] {
            let args = ["cache", verb, name, "--store", "one"];
            let mut command = boxwright(&sandbox, true, &args);
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut child = child.expect("start");
            std::thread::sleep(Duration::from_millis(round * 17));
            child.kill().expect("kill");
            child.wait().expect("wait");
            let now = at("one");
            assert!(now == one || now == two, "round {round}: torn: {now:#?}");
            if let Ok(copy) = fs::read(sandbox.path("copy.tar.zst")) {
                let other = fs::read(sandbox.path("two.tar.zst")).expect("read");
                assert!(
                    copy == file || copy == other,
                    "round {round}: a torn archive"
                );
            }
        }
        cache(&sandbox, true, &["import", "one.tar.zst", "--store", "one"]).ok();
        assert_eq!(at("one"), one);
    }
    let du = cache(
        &sandbox,
        true,
        &["gc", "--max-age", "9d", "--json", "--store", "one"],
    )
    .ok();
    let value: Value = serde_json::from_str(&du.stdout).expect("JSON");
    assert_eq!(
        (&value["left"]["scratch"], &value["left"]["caches"]),
        (&0.into(), &1.into())
    );
    assert_eq!(state(&sandbox.path("one/scratch")), [""; 0]);
}

#[test]
fn a_full_disk_leaves_what_was() {
    let sandbox = peer!(prepared());
    filled(&sandbox, "store", "word");
    cache(&sandbox, true, &["export", "c.tar.zst", "--store", "store"]).ok();
    fs::create_dir(sandbox.path("small")).expect("make");
    let Some(disk) = Mount::new("tmpfs", "size=1m,mode=777", &sandbox.path("small")) else {
        return;
    };
    let full = |ran: &Ran| {
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("No space left on device"),
            "{}",
            ran.stderr
        );
    };
    sandbox.file("small/c.tar.zst", "as it was");
    full(&cache(
        &sandbox,
        true,
        &["export", "small/c.tar.zst", "--store", "store"],
    ));
    let left = fs::read(disk.0.join("c.tar.zst")).expect("read");
    assert_eq!(left, b"as it was");
    assert_eq!(fs::read_dir(&disk.0).expect("list").count(), 1);
    // A folder with something in it would not be taken for a store.
    cache(&sandbox, true, &["du", "--store", "small/store"]).ok();
    sandbox.file("small/store/caches/things/old", "as it was");
    full(&cache(
        &sandbox,
        true,
        &["import", "c.tar.zst", "--store", "small/store"],
    ));
    let things = state(&sandbox.path("small/store/caches/things"));
    assert_eq!(things.len(), 1, "{things:?}");
    assert_eq!(state(&sandbox.path("small/store/scratch")), [""; 0]);
}

fn numbers(sandbox: &Sandbox, is_root: bool, store: &str) -> Value {
    let ran = cache(sandbox, is_root, &["du", "--json", "--store", store]).ok();
    serde_json::from_str(&ran.stdout).expect("JSON")
}

/// Blocks of the disk below a folder; root may look everywhere.
fn blocks(folder: &Path) -> u64 {
    let own = fs::symlink_metadata(folder).expect("look").blocks() * 512;
    let below = fs::read_dir(folder).expect("list").map(|entry| {
        let entry = entry.expect("list");
        let found = entry.metadata().expect("look");
        match found.is_dir() {
            true => blocks(&entry.path()),
            false => found.blocks() * 512 / found.nlink(),
        }
    });
    own + below.sum::<u64>()
}

/// Makes a file look as if it was last used so many days ago.
fn age(path: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    File::open(path)
        .and_then(|file| file.set_modified(then))
        .expect("set a time");
}

#[test]
fn what_commands_keep_is_counted_and_removed() {
    let sandbox = peer!(prepared());
    for (number, (is_root, tier, _)) in BUILDERS.into_iter().enumerate() {
        let store = format!("store{number}");
        let script = format!("{FILL}; head -c 100000 /dev/zero > d/large; chown 33 d/large");
        built(&sandbox, (is_root, tier), &store, &script);
        let left = sandbox.path(format!("{store}/scratch/run-dead"));
        fs::create_dir(&left).expect("leave something behind");
        if !is_root {
            let (uid, gid) = plain_user();
            chown(&left, Some(uid), Some(gid)).expect("give it to the builder");
        }
        let found = numbers(&sandbox, is_root, &store);
        let count = |name: &str| found[name].as_u64().expect("a number");
        assert_eq!(
            (count("trees"), count("caches"), count("scratch")),
            (1, 1, 1),
            "{found}"
        );
        let things = sandbox.path(format!("{store}/caches/things"));
        // Directories that only the ids of a range may look into, too.
        assert_eq!(count("cache_bytes"), blocks(&things), "{tier}");
        let trees = sandbox.path(format!("{store}/trees"));
        let tree = fs::read_dir(&trees).expect("list").next().expect("a tree");
        let tree = tree.expect("list").path();
        assert_eq!(count("tree_bytes"), blocks(&tree), "{tier}");
        let ran = cache(&sandbox, is_root, &["ls", "--json", "--store", &store]).ok();
        let rows: Vec<Value> = serde_json::from_str(&ran.stdout).expect("JSON");
        let row = rows
            .iter()
            .find(|row| row["kind"] == "cache")
            .expect("a cache");
        assert_eq!(
            (&row["name"], &row["size"]),
            (&"things".into(), &found["cache_bytes"])
        );

        let gc = |limit: [&str; 2]| {
            let args = ["gc", limit[0], limit[1], "--json", "--store", &store];
            let ran = cache(&sandbox, is_root, &args).ok();
            let value: Value = serde_json::from_str(&ran.stdout).expect("JSON");
            let number = |name: &str| value[name].as_u64().expect("a number");
            let left = &value["left"];
            assert_eq!(*left, numbers(&sandbox, is_root, &store), "{tier}");
            (
                number("removed_scratch"),
                number("removed_trees"),
                number("removed_caches"),
            )
        };
        assert_eq!(gc(["--max-age", "1d"]), (1, 0, 0), "{tier}");
        // A tree goes before a cache and the blobs that it is made again from.
        let most = count("bytes") - count("scratch_bytes") - 1;
        assert_eq!(gc(["--max-size", &format!("{most}")]), (0, 1, 0), "{tier}");
        built(&sandbox, (is_root, tier), &store, SEE);
        age(&sandbox.path(format!("{store}/caches/.locks/things")), 3);
        assert_eq!(gc(["--max-age", "2d"]), (0, 0, 1), "{tier}");
        assert!(!things.exists());
        let ran = cache(&sandbox, is_root, &["clear", "--json", "--store", &store]).ok();
        let value: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(
            (&value["removed_trees"], &value["left"]["bytes"]),
            (&1.into(), &0.into())
        );
        assert_eq!(numbers(&sandbox, is_root, &store)["bytes"], 0);
    }
}
