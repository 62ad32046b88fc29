//! Several images in one process: what they share is made once, whoever comes first.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use boxwright::transport::{validate_archive, validate_layout};
use serde_json::Value;

use crate::support::busybox;
use crate::support::file_set::FileSet;
use crate::support::image_reader::ReadImage;
use crate::support::listing::decompressed;
use crate::support::peers::{Skip, Skopeo, may_mount, peer};
use crate::support::process::{Ran, run};
use crate::support::sandbox::Sandbox;
use crate::support::strict_registry::StrictRegistry;

/// A spec whose first stage is the same in all of them.
fn spec(name: &str, command: &str) -> String {
    format!(
        "format: 1\nimage: acme/{name}\ntags: ['1']\ncontext: ../ctx\nargs: {{WORD: plain, OF_{up}: x}}\n\
         profiles: {{prod: {{args: {{WORD: of-prod}}}}}}\nstages:\n  tools:\n    from: scratch\n    steps:\n      \
         - {{copy: sh, to: /bin/sh, mode: '0755'}}\n      - run: {command}\n  app:\n    from: tools\n    \
         allow: [root, build-stage]\n    steps:\n      - {{write: /name, text: \"{name} is ${{WORD}} ${{OF_{up}}}\"}}\n",
        up = name.to_uppercase(),
    )
}

const NAMES: [&str; 3] = ["auth", "bill", "chat"];

const WORKSPACE: &str = "\
format: 1
args: {WORD: of-all, OF_BILL: billed}
members:
  - auth
  - {name: b, spec: bill, args: {WORD: of-bill}, tags: [stage, r.example/x/bill:2]}
  - {spec: chat, profile: prod}
";

/// Three specs that run one command each, and a workspace of them.
fn prepared(command: impl Fn(&str) -> String) -> Result<Sandbox, Skip> {
    if !may_mount() {
        return Err(Skip::because("nothing can be mounted here"));
    }
    let sandbox = Sandbox::new();
    sandbox.file("ctx/sh", busybox::program()?);
    for name in NAMES {
        let spec = spec(name, &command(name));
        sandbox.file(&format!("{name}/boxwright.yaml"), spec);
    }
    sandbox.file("boxwright.workspace.yaml", WORKSPACE);
    Ok(sandbox)
}

/// Three specs that need no privilege.
fn without_commands() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.file("ctx/sh", "no program ".repeat(5000));
    for name in NAMES {
        let spec = spec(name, "x").replace("      - run: x\n", "");
        sandbox.file(&format!("{name}/boxwright.yaml"), spec);
    }
    sandbox.file("boxwright.workspace.yaml", WORKSPACE);
    sandbox
}

fn build(sandbox: &Sandbox, more: &[&str]) -> Ran {
    let args = ["build", "--workspace", ".", "--store", "store"];
    sandbox.boxwright(args.iter().chain(more))
}

fn events(ran: &Ran) -> Vec<Value> {
    let lines = ran.stderr.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).expect("an event a line"))
        .collect()
}

/// How the command of the shared stage came to be, for each that has it.
fn origins(events: &[Value]) -> Vec<String> {
    let commands = events.iter().filter(|event| {
        event["event"] == "step_finished" && event["stage"] == "tools" && event["step"] == 2
    });
    let origins = commands.map(|event| event["origin"].as_str().expect("an origin").to_owned());
    let mut origins: Vec<String> = origins.collect();
    origins.sort();
    origins
}

/// The layers of an archive or of one image of a layout, unpacked, as one text.
fn text_of(archive: &std::path::Path) -> String {
    let mut bytes = Vec::new();
    for layer in &ReadImage::at(archive).layers {
        std::io::copy(&mut decompressed(&layer[..]), &mut bytes).expect("a layer");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_shared_command_runs_once_however_many_are_at_it() {
    let sandbox = peer!(prepared(|_| "'sleep 0.7; echo made > /shared'".to_owned()));
    let ran = build(
        &sandbox,
        &["--jobs", "3", "--progress", "json", "-o", "oci:all"],
    )
    .ok();
    let events = events(&ran);
    assert!(events.iter().all(|event| event["member"].is_string()));
    assert_eq!(origins(&events), ["built", "reused", "reused"]);
    let waits = events.iter().filter(|event| event["event"] == "step_waits");
    assert_eq!(waits.count(), 2);
    let tools = events.iter().filter(|event| {
        event["event"] == "layer_finished"
            && event["origin"] == "built"
            && event["title"]
                .as_str()
                .is_some_and(|title| title.starts_with("copy"))
    });
    assert_eq!(tools.count(), 1, "the shared layer is written once");
    // Without results of earlier builds it is run once more, and not three times.
    let again = [
        "--jobs",
        "3",
        "--progress",
        "json",
        "-o",
        "oci:all",
        "--no-cache",
    ];
    let again = self::events(&build(&sandbox, &again).ok());
    let built = origins(&again).iter().filter(|one| *one == "built").count();
    assert_eq!(built, 1, "{:?}", origins(&again));
}

fn start(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let command = command.stderr(Stdio::piped()).process_group(0);
    command.spawn().expect("start a build")
}

fn said_by(child: Child) -> Vec<Value> {
    let said = child.wait_with_output().expect("the end of a build").stderr;
    let said = String::from_utf8_lossy(&said).into_owned();
    let lines = said.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).expect("an event a line"))
        .collect()
}

#[test]
fn processes_share_a_command_and_one_that_is_killed_is_no_obstacle() {
    let sandbox = peer!(prepared(|_| "'sleep 1; echo made > /shared'".to_owned()));
    let start = |spec: &str| {
        let args = ["build", spec, "--store", "store", "--progress", "json"];
        start(&mut sandbox.boxwright_command(args))
    };
    let both = [start("auth"), start("bill")];
    let origins_of_both: Vec<String> = both
        .into_iter()
        .flat_map(|child| origins(&said_by(child)))
        .collect();
    assert_eq!(origins_of_both.len(), 2);
    let built = origins_of_both.iter().filter(|one| *one == "built").count();
    assert_eq!(built, 1, "{origins_of_both:?}");

    fs::remove_dir_all(sandbox.path("store")).expect("a cold store");
    let mut first = start("auth");
    std::thread::sleep(Duration::from_millis(500));
    let second = start("bill");
    std::thread::sleep(Duration::from_millis(200));
    first.kill().expect("kill a build");
    first.wait().expect("wait for a killed build");
    assert_eq!(origins(&said_by(second)), ["built"]);
    assert!(sandbox.path("bill.tar").exists());
    // Claims are no part of what a store holds.
    let cleared = ["cache", "clear", "--store", "store"];
    sandbox.boxwright(cleared).ok();
    let left = fs::read_dir(sandbox.path("store/tmp"))
        .expect("list")
        .count();
    assert_eq!(left, 0);
}

#[test]
fn side_by_side_and_one_by_one_give_the_same() {
    let sandbox = peer!(prepared(|_| "'echo made > /shared'".to_owned()));
    let side = ["--print", "digest", "-o", "oci:side", "--jobs", "3"];
    let side = build(&sandbox, &side).ok().stdout;
    for (name, more) in [
        ("one", &["--jobs", "1"][..]),
        ("eight", &["--jobs", "8", "--no-cache"]),
    ] {
        let output = format!("oci:{name}");
        let args = [&["--print", "digest", "-o", &output], more].concat();
        assert_eq!(build(&sandbox, &args).ok().stdout, side, "{name}");
        let index = |name: &str| fs::read_to_string(sandbox.path(name).join("index.json"));
        assert_eq!(index(name).expect("read"), index("side").expect("read"));
    }
    let alone = ["auth", "bill", "chat"].map(|spec| {
        let word = match spec {
            "auth" => &["--arg", "WORD=of-all"][..],
            "bill" => &["--arg", "WORD=of-bill", "--arg", "OF_BILL=billed"],
            _ => &["--profile", "prod", "--arg", "WORD=of-all"],
        };
        let args = ["build", spec, "--print", "digest", "--store", "other"];
        sandbox.boxwright(args.iter().chain(word)).ok().stdout
    });
    assert_eq!(alone.concat(), side);
    assert_eq!(
        validate_layout(&sandbox.path("side")).expect("a layout"),
        []
    );
    let skopeo = peer!(Skopeo::start());
    let layout = sandbox.path("side").display().to_string();
    let names =
        ["acme/auth:1", "acme/bill:stage", "acme/chat:1"].map(|name| format!("docker.io/{name}"));
    for (name, digest) in names.iter().zip(side.lines()) {
        let read = skopeo.inspect(&format!("oci:{layout}:{name}"));
        assert_eq!(read["Digest"], digest);
    }
}

#[test]
fn each_member_is_given_what_is_said_of_it() {
    let sandbox = without_commands();
    let name_in = |archive: &str| text_of(&sandbox.path(archive));
    build(&sandbox, &[]).ok();
    assert!(name_in("auth.tar").contains("auth is of-all x"));
    assert!(name_in("bill.tar").contains("bill is of-bill billed"));
    assert!(name_in("chat-prod.tar").contains("chat is of-all x"));
    // What is typed has the last word, for those that know the word.
    build(
        &sandbox,
        &[
            "--arg",
            "OF_CHAT=typed",
            "--arg",
            "WORD=too",
            "-o",
            "oci-archive:out/",
        ],
    )
    .ok();
    assert!(name_in("out/auth.tar").contains("auth is too x"));
    assert!(name_in("out/bill.tar").contains("bill is too billed"));
    assert!(name_in("out/chat-prod.tar").contains("chat is too typed"));
    let report = build(&sandbox, &["b", "--print", "json"]).ok();
    let report: Value = serde_json::from_str(&report.stdout).expect("JSON");
    assert_eq!(report[0]["member"], "b");
    let names = serde_json::json!(["docker.io/acme/bill:stage", "r.example/x/bill:2"]);
    assert_eq!(
        (report.as_array().map(Vec::len), &report[0]["names"]),
        (Some(1), &names)
    );
    // In the order of the file, whatever the order on the command line.
    let plans = build(&sandbox, &["chat/", "auth", "--dry-run", "--json"]).ok();
    let plans: Value = serde_json::from_str(&plans.stdout).expect("JSON");
    let named = |place: usize| (&plans[place]["member"], &plans[place]["plan"]["profile"]);
    assert_eq!(named(0), (&"auth".into(), &Value::Null));
    assert_eq!(named(1), (&"chat".into(), &"prod".into()));
    let text = build(&sandbox, &["--dry-run"]).ok().stdout;
    assert!(
        text.starts_with("auth\nimage docker.io/acme/auth:1"),
        "{text}"
    );
}

#[test]
fn a_failing_member_leaves_the_others_whole() {
    let command = |name: &str| match name {
        "bill" => "exit 7".to_owned(),
        _ => "'echo made > /shared'".to_owned(),
    };
    let sandbox = peer!(prepared(command));
    let ran = build(&sandbox, &["--jobs", "1", "--progress", "plain"]).fails_with(1);
    assert!(sandbox.path("auth.tar").exists());
    assert!(!sandbox.path("bill.tar").exists() && !sandbox.path("chat-prod.tar").exists());
    assert_eq!(
        validate_archive(&sandbox.path("auth.tar")).expect("read"),
        []
    );
    for expected in [
        "\nb         failed",
        "\nb\nerror: failed to do step 2 of stage \"tools\"",
        "Not begun: chat; with --keep-going",
    ] {
        let text: Vec<&str> = ran.stderr.lines().map(str::trim_end).collect();
        let squeezed = text.join("\n");
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words(&squeezed).contains(&words(expected)),
            "{expected}: {}",
            ran.stderr
        );
    }
    assert_eq!(ran.stdout, "");
    let ran = build(&sandbox, &["--keep-going", "--jobs", "1"]).fails_with(1);
    assert!(sandbox.path("chat-prod.tar").exists());
    assert!(!ran.stderr.contains("Not begun"), "{}", ran.stderr);
}

#[test]
fn what_is_wrong_with_several_is_told_before_any_is_built() {
    let sandbox = without_commands();
    let told = |more: &[&str], code: i32| {
        let ran = build(&sandbox, &[&["--progress", "plain"], more].concat()).fails_with(code);
        assert_eq!(ran.stdout, "");
        sandbox.redact(&ran.stderr)
    };
    let mut all = vec![
        told(&["auht"], 1),
        told(&["--arg", "WROD=x"], 2),
        told(&["auth", "--arg", "OF_CHAT=x"], 2),
        told(&["--profile", "prdo", "auth", "b"], 1),
        told(&["-t", "x"], 2),
        told(&["-o", "oci-archive:x.tar"], 2),
        told(&["-o", "docker://r.example/x:1"], 2),
    ];
    sandbox.file(
        "boxwright.workspace.yaml",
        WORKSPACE.replace("OF_BILL", "OF_BLIL"),
    );
    all.push(told(&[], 1));
    let wrong = WORKSPACE
        .replace("- auth", "- aut")
        .replace("args: {WORD: of-bill}", "args: {W: x}");
    sandbox.file("boxwright.workspace.yaml", wrong);
    all.push(told(&[], 1));
    let twice = "format: 1\nmembers:\n  - auth\n  - {name: again, spec: auth}\n";
    sandbox.file("boxwright.workspace.yaml", twice);
    all.push(told(&[], 2));
    all.push(told(&["-o", "oci:all"], 2));
    all.push(told(&["-o", "docker://r.example/x/"], 2));
    sandbox.file(
        "nameless/boxwright.yaml",
        "format: 1\nstages: {a: {from: scratch, allow: [root]}}\n",
    );
    sandbox.file(
        "boxwright.workspace.yaml",
        "format: 1\nmembers: [{spec: nameless, tags: [x]}]\n",
    );
    all.push(told(&[], 1));
    fs::remove_file(sandbox.path("boxwright.workspace.yaml")).expect("remove");
    all.push(told(&[], 1));
    insta::assert_snapshot!(all.join("\n----\n"));
    assert!(!sandbox.path("auth.tar").exists());
}

#[test]
fn one_command_pushes_all() {
    let sandbox = without_commands();
    let registry = StrictRegistry::start();
    let place = format!("docker://{}/team/", registry.address());
    let ran = build(&sandbox, &["-o", &place, "--print", "digest"]).ok();
    let digests: Vec<&str> = ran.stdout.lines().collect();
    for (repository, tag) in [
        ("team/acme/auth", "1"),
        ("team/acme/bill", "stage"),
        ("team/x/bill", "2"),
        ("team/acme/chat", "1"),
    ] {
        let manifest = registry.manifest(repository, tag);
        let digest = manifest.map(|bytes| boxwright::oci::Digest::of(&bytes).to_string());
        let digest = digest.unwrap_or_else(|| panic!("{repository}:{tag}"));
        assert!(digests.contains(&digest.as_str()), "{repository}:{tag}");
    }
}

#[test]
fn workspaces_that_are_killed_leave_nothing_torn() {
    let sandbox = without_commands();
    for (number, name) in NAMES.iter().enumerate() {
        let own: Vec<u8> = (0..400_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761 + number as u32) >> 13) as u8)
            .collect();
        sandbox.file(&format!("{name}/own"), own);
        let spec =
            fs::read_to_string(sandbox.path(format!("{name}/boxwright.yaml"))).expect("read");
        let spec = spec.replace("context: ../ctx", "context: ../ctx\ncontexts: {own: .}");
        let step = "      - {copy: own, from: own, to: /own}\n";
        sandbox.file(&format!("{name}/boxwright.yaml"), spec + step);
    }
    let args = |store: &'static str| {
        [
            "build",
            "-w",
            ".",
            "--jobs",
            "3",
            "--print",
            "digest",
            "--progress",
            "quiet",
            "-o",
            "oci:all",
            "--store",
        ]
        .into_iter()
        .chain([store])
        .collect::<Vec<_>>()
    };
    let began = Instant::now();
    let digests = sandbox.boxwright(args("first")).ok().stdout;
    let whole = began.elapsed();
    fs::remove_dir_all(sandbox.path("all")).expect("start anew");
    let mut killed = 0;
    for round in 0..30u32 {
        if round % 3 == 0 && sandbox.path("store").exists() {
            fs::remove_dir_all(sandbox.path("store")).expect("a cold store");
        }
        let mut command = sandbox.boxwright_command(args("store"));
        let mut child = start(&mut command);
        std::thread::sleep(whole.mul_f64(f64::from(round % 10) / 10.0));
        killed += u32::from(child.try_wait().expect("look at a build").is_none());
        child.kill().expect("kill a build");
        child.wait().expect("wait for a killed build");
        if sandbox.path("all/index.json").exists() {
            let found = validate_layout(&sandbox.path("all")).expect("a layout");
            assert!(found.is_empty(), "{found:#?}");
        }
    }
    assert!(killed > 5, "only {killed} builds were alive to be killed");
    let ran = run(&mut sandbox.boxwright_command(args("store"))).ok();
    assert_eq!(ran.stdout, digests);
    let set = FileSet::read(&sandbox.path("all")).expect("a layout");
    let index: Value = serde_json::from_slice(&set.files["index.json"]).expect("JSON");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(4));
}

#[test]
fn members_are_verified_checked_and_locked_under_their_names() {
    let sandbox = without_commands();
    let args = [
        "verify",
        "--workspace",
        ".",
        "auth",
        "b",
        "--runner",
        "none",
        "--json",
    ];
    let ran = sandbox.boxwright(args);
    let judged: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    let names: Vec<&str> = judged
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["figures"]["spec"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["auth", "b"]);
    let checked = sandbox.boxwright(["check", "-w", ".", "--json", "chat"]);
    let checked: Value = serde_json::from_str(&checked.stdout).expect("JSON");
    assert_eq!(checked[0]["subject"], "chat");
    sandbox.boxwright(["lock", "-w", ".", "auth", "b"]).ok();
    let locked = |name: &str| sandbox.path(name).join("boxwright.lock").exists();
    assert_eq!(NAMES.map(locked), [true, true, false]);
    let wrong = sandbox
        .boxwright(["verify", "-w", ".", "auht"])
        .fails_with(1);
    assert!(wrong.stderr.contains("did you mean `auth`?"), "{wrong:?}");
}

#[test]
fn arguments_reach_the_specs_that_members_extend() {
    let sandbox = without_commands();
    sandbox.file(
        "base.yaml",
        "format: 1\nargs: {DEEP: default}\nstages: {base: {from: scratch, steps: [{write: /deep, text: \"${DEEP}\"}]}}\n",
    );
    sandbox.file(
        "auth/boxwright.yaml",
        "format: 1\nimage: acme/auth\nstages: {app: {extends: '../base.yaml#base', allow: [root]}}\n",
    );
    let workspace = "format: 1\nargs: {DEEP: from-the-workspace}\nmembers: [auth, bill]\n";
    sandbox.file("boxwright.workspace.yaml", workspace);
    let text = |more: &[&str]| {
        build(&sandbox, &[&["-o", "oci-archive:out/"], more].concat()).ok();
        text_of(&sandbox.path("out/auth.tar"))
    };
    assert!(text(&[]).contains("from-the-workspace"));
    assert!(text(&["--arg", "DEEP=typed"]).contains("typed"));
}
