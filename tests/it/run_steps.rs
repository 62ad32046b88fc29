//! `run` steps: what commands are given, what becomes of their results, and when they run again.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::busybox;
use crate::support::peers::{Podman, Skip, may_mount, peer};
use crate::support::sandbox::Sandbox;

/// A sandbox with the busybox base in it, on a machine where commands can run.
fn prepared() -> Result<Sandbox, Skip> {
    if !may_mount() {
        return Err(Skip::because("nothing can be mounted here"));
    }
    let sandbox = Sandbox::new();
    busybox::base()?.write_layout(&sandbox.path("base"), "v1");
    Ok(sandbox)
}

/// A spec with one stage of these steps on the base, and one that copies `/out` from it.
fn spec(steps: &str) -> String {
    let indented = steps.trim_end().replace('\n', "\n      ");
    format!(
        "format: 1\nimage: test/run\ncontext: ctx\nstages:\n  work:\n    from: oci:base:v1\n    \
         steps:\n      {indented}\n  final:\n    from: scratch\n    allow: [root]\n    steps:\n      \
         - {{copy: /out, from: work, to: /out}}\n"
    )
}

/// Builds; gives the digest and the events.
fn build(sandbox: &Sandbox, steps: &str, more: &[&str]) -> (String, Vec<Value>) {
    fs::create_dir_all(sandbox.path("ctx")).expect("make a context");
    sandbox.file("boxwright.yaml", spec(steps));
    let mut args = vec!["build", "-o", "oci:out:v1", "--store", "store"];
    args.extend(["--progress", "json", "--print", "digest"]);
    args.extend(more);
    let ran = sandbox.boxwright(&args).ok();
    let events = ran.stderr.lines();
    let events = events.map(|line| serde_json::from_str(line).expect("an event a line"));
    (ran.stdout.trim().to_owned(), events.collect())
}

/// The origins of the steps of the stage that works, in order.
fn origins(events: &[Value]) -> Vec<String> {
    let finished = events
        .iter()
        .filter(|event| event["event"] == "step_finished" && event["stage"] == "work");
    finished
        .map(|event| event["origin"].as_str().expect("an origin").to_owned())
        .collect()
}

/// What the commands printed.
fn printed(events: &[Value]) -> Vec<String> {
    let lines = events
        .iter()
        .filter(|event| event["event"] == "step_output");
    lines
        .map(|event| event["text"].as_str().expect("text").to_owned())
        .collect()
}

#[test]
fn a_command_sees_what_the_stage_and_the_step_say() {
    let sandbox = peer!(prepared());
    let steps = "- {mkdir: /srv/app, owner: www-data}\n\
                 - run: id -u; id -g; pwd; echo $A $B $SOURCE_DATE_EPOCH; umask; test ! -t 0 && cat; hostname\n  \
                   user: www-data\n  workdir: /srv/app\n  env: {A: one, B: two}\n\
                 - run: [sh, -c, 'mkdir /out; echo \"$0 $1\" > /out/args', zero, 'a b']\n";
    let (_, events) = build(&sandbox, steps, &[]);
    assert_eq!(
        printed(&events),
        ["33", "33", "/srv/app", "one two 0", "0022", "boxwright"]
    );
}

#[test]
fn only_what_can_have_changed_runs_again() {
    let sandbox = peer!(prepared());
    sandbox.file("ctx/source", "# a comment\nprogram\n");
    let steps = "- {copy: source, to: /src}\n\
                 - run: mkdir /out && grep -v '#' /src > /out/compiled && rm /src\n\
                 - run: cat /out/compiled > /out/linked\n";
    let (first, events) = build(&sandbox, steps, &[]);
    assert_eq!(origins(&events), ["built", "built", "built"]);
    // Another comment: what is compiled is the same, so nothing behind it runs.
    sandbox.file("ctx/source", "# another comment\nprogram\n");
    let (second, events) = build(&sandbox, steps, &[]);
    assert_eq!(origins(&events), ["built", "built", "cached"]);
    assert_eq!(first, second);
    sandbox.file("ctx/source", "# another comment\nanother program\n");
    let (third, events) = build(&sandbox, steps, &[]);
    assert_eq!(origins(&events), ["built", "built", "built"]);
    assert_ne!(first, third);
    // The environment is an input, and `--no-cache` asks nobody.
    let other = steps.replace("/out/linked", "/out/linked\n  env: {X: y}");
    let (_, events) = build(&sandbox, &other, &[]);
    assert_eq!(origins(&events), ["built", "cached", "built"]);
    let (again, events) = build(&sandbox, steps, &["--no-cache"]);
    assert_eq!(origins(&events), ["built", "built", "built"]);
    assert_eq!(again, third);
}

#[test]
fn a_result_whose_files_are_gone_is_made_again() {
    let sandbox = peer!(prepared());
    let steps = "- run: mkdir /out && echo text > /out/f\n";
    let (first, _) = build(&sandbox, steps, &[]);
    for blob in fs::read_dir(sandbox.path("store/blobs/sha256")).expect("blobs") {
        let blob = blob.expect("a blob").path();
        if fs::read(&blob).expect("a blob") == b"text\n" {
            fs::remove_file(&blob).expect("remove the pack");
        }
    }
    let (second, _) = build(&sandbox, steps, &[]);
    assert_eq!(first, second);
}

#[test]
fn caches_stay_and_are_in_no_image() {
    let sandbox = peer!(prepared());
    let steps = |text: &str| {
        format!(
            "- run: mkdir /out; cat /c/* 2>/dev/null; echo {text} > /c/{text}; test ! -e /t/x && echo x > /t/x\n  \
             mounts: [{{cache: things, target: /c}}, {{tmpfs: /t}}]\n"
        )
    };
    let (first, events) = build(&sandbox, &steps("one"), &[]);
    assert_eq!(printed(&events), [] as [&str; 0]);
    let (second, events) = build(&sandbox, &steps("two"), &[]);
    assert_eq!(printed(&events), ["one"]);
    assert_eq!(first, second);
    assert!(sandbox.path("store/caches/things/two").exists());
}

#[test]
fn binds_are_inputs_and_writes_to_them_are_lost() {
    let sandbox = peer!(prepared());
    sandbox.file("ctx/src/a", "first\n");
    let steps = "- run: mkdir /out; cat /src/a > /out/a; echo lost > /src/b\n  \
                   mounts: [{bind: src, target: /src, writable: true}]\n";
    let (first, _) = build(&sandbox, steps, &[]);
    assert!(!sandbox.path("ctx/src/b").exists());
    sandbox.file("ctx/src/a", "second\n");
    let (second, events) = build(&sandbox, steps, &[]);
    assert_eq!(origins(&events), ["built"]);
    assert_ne!(first, second);
    let read_only = steps
        .replace(", writable: true", "")
        .replace("echo lost >", "! echo lost >");
    build(&sandbox, &read_only, &[]);
}

/// Every file below a folder.
fn all_files(folder: &Path, see: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).expect("list") {
        let path = entry.expect("list").path();
        match fs::symlink_metadata(&path).expect("look") {
            found if found.is_dir() => all_files(&path, see),
            found if found.is_file() => see(&path),
            _ => {}
        }
    }
}

#[test]
fn a_secret_is_seen_by_its_command_and_by_nobody_else() {
    const SECRET: &str = "correct-horse-battery-staple";
    let sandbox = peer!(prepared());
    sandbox.file("token", SECRET);
    let steps = "- run: test $(cat /run/secrets/token) = $VIA && mkdir /out && echo done > /out/f; stat -c %a /run/secrets/token\n  \
                   mounts: [{secret: token}, {secret: token, env: VIA}]\n\
                 - run: test ! -e /run/secrets/token && test -z \"$VIA\"\n";
    let secret = ["--secret", "id=token,src=token"];
    let (first, events) = build(&sandbox, steps, &secret);
    assert_eq!(printed(&events), ["400"]);
    for place in ["store", "out"] {
        all_files(&sandbox.path(place), &mut |path| {
            let bytes = fs::read(path).expect("read");
            let found = bytes
                .windows(SECRET.len())
                .any(|window| window == SECRET.as_bytes());
            assert!(!found, "{} holds the secret", path.display());
        });
    }
    // Whether there is a secret is an input.
    let ran = sandbox.boxwright(["build", "-o", "oci:out:v1", "--store", "store"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    // Another value is no other input; that is what the key says of secrets.
    sandbox.file("token", "another");
    let (second, events) = build(&sandbox, steps, &secret);
    assert_eq!(origins(&events), [] as [&str; 0], "{events:?}");
    assert_eq!(first, second);
}

#[test]
fn what_is_missing_or_fails_is_told() {
    let sandbox = peer!(prepared());
    fs::create_dir_all(sandbox.path("ctx")).expect("make a context");
    let cases = [
        (
            "- run: 'true'\n  mounts: [{secret: token, required: true}]\n",
            &[][..],
            1,
            "--secret id=token,src=FILE",
        ),
        ("- run: echo last words; exit 7\n", &[], 1, "exit code 7"),
        ("- run: [no-such-program]\n", &[], 1, "no-such-program"),
        ("- run: sleep 60\n", &["--timeout", "1s"], 1, "--timeout"),
    ];
    for (steps, more, code, expected) in cases {
        sandbox.file("boxwright.yaml", spec(steps));
        let mut args = vec!["build", "-o", "oci:out:v1", "--store", "store"];
        args.extend(more);
        let ran = sandbox.boxwright(&args);
        assert_eq!(ran.code, code, "{steps}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{steps}: {}", ran.stderr);
    }
    let left = fs::read_dir(sandbox.path("store/scratch")).expect("list");
    assert_eq!(left.count(), 0);
}

#[test]
fn a_program_of_another_machine_is_told_as_such() {
    let sandbox = peer!(prepared());
    let (foreign, machine) = match std::env::consts::ARCH {
        "x86_64" => ("arm64", 183_u16),
        _ => ("amd64", 62),
    };
    let emulator = "/proc/sys/fs/binfmt_misc";
    let is_emulated =
        |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("qemu-");
    if fs::read_dir(emulator).is_ok_and(|list| list.flatten().any(is_emulated)) {
        return Skip::because("this machine emulates others").report();
    }
    // The header of an ELF program with nothing in it.
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(64, 0);
    (program[16], program[52]) = (2, 64);
    program[18..20].copy_from_slice(&machine.to_le_bytes());
    fs::create_dir_all(sandbox.path("ctx")).expect("make a context");
    sandbox.file("ctx/sh", program);
    let steps = "- {copy: sh, to: /bin/, mode: '755'}\n- run: echo never\n";
    sandbox.file(
        "boxwright.yaml",
        spec(steps).replace("oci:base:v1", "scratch"),
    );
    let platform = format!("linux/{foreign}");
    let ran = sandbox.boxwright(["build", "--store", "store", "--platform", &platform]);
    assert_eq!(ran.code, 1, "{ran:?}");
    for expected in [
        &platform,
        "cannot run what is made for",
        "qemu-user-static",
        "echo never",
    ] {
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
}

#[test]
fn a_check_runs_what_its_spec_runs() {
    let sandbox = peer!(prepared());
    fs::create_dir(sandbox.path("ctx")).expect("make a context");
    sandbox.file("token", "a secret");
    let step = "- {run: 'mkdir /out; wc -c < /run/secrets/t > /out/n', mounts: [{secret: t}]}";
    sandbox.file("boxwright.yaml", spec(step));
    let secret = ["--secret", "id=t,src=token"];
    let check = ["check", "--store", "store"];
    sandbox.boxwright(check.iter().chain(&secret)).ok();
    // What it made, a build takes.
    let (_, events) = build(&sandbox, step, &secret);
    assert_eq!(origins(&events), ["cached"]);
}

#[test]
fn asking_the_doctor_first_does_no_harm() {
    let sandbox = peer!(prepared());
    sandbox.boxwright(["doctor", "--store", "store"]).ok();
    build(&sandbox, "- run: mkdir /out", &[]);
    // Nor does a place where nothing can be written keep it from its answer.
    sandbox.boxwright(["doctor", "--store", "/proc/store"]).ok();
}

#[test]
fn unpacked_trees_do_not_grow_in_number() {
    let sandbox = peer!(prepared());
    // Each command finds another tree.
    let steps: String = (0..16)
        .map(|step| format!("- run: touch /{step}\n"))
        .collect();
    let steps = format!("{steps}- run: mkdir /out\n");
    let (first, _) = build(&sandbox, &steps, &[]);
    let trees = || {
        fs::read_dir(sandbox.path("store/trees"))
            .expect("list")
            .count()
    };
    assert_eq!(trees(), 12);
    let (again, events) = build(&sandbox, &steps, &["--no-cache"]);
    assert_eq!(
        (again, origins(&events)),
        (first, vec!["built".to_owned(); 17])
    );
    assert_eq!(trees(), 12);
}

#[test]
fn accounts_made_by_a_command_are_known_to_the_steps_behind_it() {
    let sandbox = peer!(prepared());
    let steps = "- run: echo bob:x:1234:1235::/home/bob:/bin/sh >> /etc/passwd\n\
                 - {mkdir: /out, owner: bob}\n\
                 - run: stat -c %u:%g /out\n";
    let (_, events) = build(&sandbox, steps, &[]);
    assert_eq!(printed(&events), ["1234:1235"]);
}

#[test]
fn an_image_whose_files_a_command_made_starts() {
    let (sandbox, podman) = (peer!(prepared()), peer!(Podman::start()));
    let text = "format: 1\nimage: test/ran\nstages:\n  app:\n    from: oci:base:v1\n    \
                allow: [build-stage]\n    steps:\n      \
                - run: echo 'echo made by a command' > /bin/app && chmod 755 /bin/app && ln /bin/app /bin/app2 && rm -r /var/*\n    \
                config: {user: '1001', cmd: [sh, /bin/app2]}\n";
    sandbox.file("boxwright.yaml", text);
    sandbox
        .boxwright(["build", "-o", "oci-archive:app.tar", "--store", "store"])
        .ok();
    let image = podman.load(&sandbox.path("app.tar"));
    let ran = podman.run_image(&image, &[]);
    assert_eq!(ran.stdout.trim(), "made by a command");
}

#[test]
fn verifying_names_the_files_that_are_not_the_same_twice() {
    let sandbox = peer!(prepared());
    let run = |steps: &str| {
        fs::create_dir_all(sandbox.path("ctx")).expect("make a context");
        sandbox.file("boxwright.yaml", spec(steps));
        sandbox.boxwright(["build", "--verify", "-o", "oci:out:v1", "--store", "store"])
    };
    let ran = run("- run: mkdir /out && echo same > /out/same\n").ok();
    let said = "Verified: both builds gave this image.";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    let ran = run(
        "- run: mkdir /out && hostname > /out/host && echo same > /out/same && touch /out/$(hostname); nproc > /out/processors\n",
    );
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    for expected in [
        "the second build gave another image",
        "/out/host in copy /out from work -> /out: its content",
        "/out/boxwright in copy /out from work -> /out: only the first build has it",
        "/out/elsewhere in copy /out from work -> /out: only the second build has it",
    ] {
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("/out/same in"), "{}", ran.stderr);
    let several = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    assert_eq!(
        ran.stderr.contains("/out/processors in"),
        several,
        "{}",
        ran.stderr
    );
}

/// A base of many files, with names that share a file.
fn large(sandbox: &Sandbox) {
    for number in 0..1200 {
        sandbox.file(&format!("many/{}/{number}", number % 7), number.to_string());
    }
    fs::hard_link(sandbox.path("many/0/7"), sandbox.path("many/1/seven")).expect("link a file");
    sandbox.file(
        "large.yaml",
        "format: 1\ncontext: many\nstages:\n  base:\n    from: oci:base:v1\n    allow: [root]\n    \
         steps: [{copy: ., to: /many}]\n",
    );
    let built = ["build", "-f", "large.yaml", "-o", "oci:base:large"];
    sandbox.boxwright(built).ok();
}

#[test]
fn a_large_base_is_unpacked_once_and_laid_under_every_stage() {
    let sandbox = peer!(prepared());
    large(&sandbox);
    let look = "for f in `find /many /moved /etc -type f`; do stat -c '%n %a %u %s' $f; done 2>/dev/null | \
                grep -v -e /hosts -e /resolv.conf | sort | tee -a /out/seen | md5sum";
    let steps = format!(
        "- {{copy: source, to: /many/3/source}}\n\
         - run: mkdir /out; echo more >> /many/0/14; cat /many/1/seven /many/3/* > /out/seven; {look}\n\
         - run: chmod 700 /many/2; ln /many/2/2 /many/2/two; stat -c %h /many/2/2 >> /out/links; {look}\n\
         - run: cmp /many/2/2 /many/2/two; rm -r /many/4; mkdir /many/4; mv /many/5 /moved; {look}\n\
         - run: test ! -e /many/4/4 -a ! -e /many/5; {look}\n"
    );
    sandbox.file("ctx/source", "text\n");
    sandbox.file(
        "boxwright.yaml",
        spec(&steps).replace("oci:base:v1", "oci:base:large"),
    );
    let in_tier = |tier: &str| {
        let store = format!("store-{tier}");
        let args = [
            "build",
            "-o",
            "oci:out:v1",
            "--store",
            &store,
            "--sandbox",
            tier,
        ];
        let ran =
            sandbox.boxwright([&args[..], &["--progress", "plain", "--print", "digest"]].concat());
        let sums = ran
            .stderr
            .lines()
            .filter_map(|line| line.split_once("[work "));
        let sums = sums.filter(|(_, line)| line.ends_with("  -"));
        let sums: Vec<String> = sums.map(|(_, line)| line.to_owned()).collect();
        (ran.stdout, sums, sandbox.path(store).join("trees"))
    };
    // Tier C has no overlay: every command is given a copy of a whole tree.
    let (whole, expected, _) = in_tier("C");
    assert!(whole.starts_with("sha256:"), "{expected:?}");
    for tier in ["A", "B"] {
        let (digest, sums, trees) = in_tier(tier);
        // Not every machine has every tier.
        if digest.is_empty() {
            continue;
        }
        assert_eq!(
            (sums, digest),
            (expected.clone(), whole.clone()),
            "tier {tier}"
        );
        let names = fs::read_dir(trees).expect("trees");
        let names = names.map(|one| {
            one.expect("a tree")
                .file_name()
                .into_string()
                .expect("a name")
        });
        let (laid, alone): (Vec<_>, Vec<_>) = names.partition(|name| name.contains("-on-"));
        // Three trees add to the base. What the last command finds lacks files of it, so it is whole.
        assert_eq!(
            (laid.len(), alone.len()),
            (3, 2),
            "tier {tier}: {laid:?} {alone:?}"
        );
    }
}
