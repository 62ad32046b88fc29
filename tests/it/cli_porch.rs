//! The compiled program as a shell sees it: exit codes, what goes to which stream, and what people
//! are told when something is wrong.

use std::fs::{self, File, OpenOptions};
use std::process::Stdio;

use crate::support::process::run;
use crate::support::sandbox::Sandbox;

const NO_ARGUMENTS: [&str; 0] = [];

const WRONG_SPEC: &str = "\
format: 1
stages:
  app:
    from: scratch
    stepps: []
  web:
    from: scratch
    workdir: app
";

#[test]
fn alone_it_prints_short_help() {
    let ran = Sandbox::new().boxwright(NO_ARGUMENTS).ok();
    assert!(ran.stdout.contains("Usage: boxwright"), "{}", ran.stdout);
    assert_eq!(ran.stderr, "");
}

#[test]
fn a_wrong_spec_is_drawn_with_carets() {
    let sandbox = Sandbox::new();
    sandbox.file("boxwright.yaml", WRONG_SPEC);
    let ran = sandbox.boxwright(["build"]).fails_with(1);
    let checked = sandbox.boxwright(["check"]).fails_with(1);
    assert_eq!(ran.golden(), checked.golden());
    insta::assert_snapshot!(sandbox.golden(&ran), @r#"
        exit: 1
        --- stdout
        --- stderr
        error: a stage has no key `stepps`
         --> boxwright.yaml:5:5
          |
        5 |     stepps: []
          |     ^^^^^^
          |
          = help: did you mean `steps`?

        error: path "app" is not absolute
         --> boxwright.yaml:8:14
          |
        8 |     workdir: app
          |              ^^^
          |
          = help: write /app

        error: 2 problems in boxwright.yaml
    "#);
}

#[test]
fn a_dry_run_shows_the_plan_and_does_nothing() {
    let sandbox = Sandbox::new();
    let spec = "format: 1\nimage: acme/app\nstages:\n  app:\n    from: scratch\n    steps:\n      - copy: a.txt\n    config: {user: 1001}\n";
    sandbox.file("boxwright.yaml", spec).file("a.txt", "a");
    let ran = sandbox.boxwright(["build", "--dry-run"]).ok();
    assert!(
        ran.stdout.contains("stage app from scratch (the image)"),
        "{}",
        ran.stdout
    );
    let ran = sandbox.boxwright(["build", "--dry-run", "--json"]).ok();
    let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(plan["target"], "app");
    assert_eq!(
        plan["stages"][0]["layers"].as_array().map(Vec::len),
        Some(1)
    );
    assert!(!sandbox.home().join(".cache").exists());
    let ran = sandbox
        .boxwright(["build", "--dry-run", "--target", "none"])
        .fails_with(1);
    assert!(ran.stderr.contains("none"), "{}", ran.stderr);
}

#[test]
fn a_folder_stands_for_the_spec_in_it() {
    let sandbox = Sandbox::new();
    sandbox.file("app/boxwright.yaml", WRONG_SPEC);
    let ran = sandbox.boxwright(["build", "app"]).fails_with(1);
    assert!(
        ran.stderr.contains("app/boxwright.yaml:5:5"),
        "{}",
        ran.stderr
    );
    let ran = sandbox.boxwright(["build"]).fails_with(1);
    insta::assert_snapshot!(ran.stderr, @r"
    error: there is no boxwright.yaml in this folder
    hint: name the spec or its folder: boxwright build path/to/folder
    ");
    sandbox.file("docker/Dockerfile", "FROM scratch\n");
    let ran = sandbox.boxwright(["build", "docker"]).fails_with(1);
    insta::assert_snapshot!(ran.stderr, @r"
    error: there is no boxwright.yaml in docker
    hint: there is a Dockerfile; this version reads only boxwright.yaml
    ");
}

#[test]
fn each_kind_of_failure_has_its_exit_code() {
    let sandbox = Sandbox::new();
    sandbox.file("text", "not an image");
    for (arguments, code, told) in [
        (
            &["build", "nowhere.yaml"][..],
            1,
            "cannot read the spec nowhere.yaml",
        ),
        (&["inspect", "nowhere.tar"], 1, "cannot read nowhere.tar"),
        (&["inspect", "text"], 1, "neither a layout nor an archive"),
        (&["bild"], 2, "a similar subcommand exists: 'build'"),
        (&["inspect", "oci:"], 2, "names no path"),
        (
            &["build", "--arg", "NOT_SET", "text"],
            2,
            "where NOT_SET is not set",
        ),
        (
            &["cache", "du", "--store", "text/store"],
            3,
            "Not a directory",
        ),
    ] {
        let ran = sandbox.boxwright(arguments).fails_with(code);
        assert!(ran.stderr.contains(told), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments:?}");
    }
}

#[test]
fn a_wrong_environment_is_a_wrong_command_line() {
    let sandbox = Sandbox::new();
    sandbox.file(
        "boxwright.yaml",
        "format: 1\nstages: {app: {from: scratch}}\n",
    );
    let mut command = sandbox.boxwright_command(["build"]);
    let ran = run(command.env("SOURCE_DATE_EPOCH", "today")).fails_with(2);
    assert!(
        ran.stderr.contains("SOURCE_DATE_EPOCH is \"today\""),
        "{}",
        ran.stderr
    );
    let mut command = sandbox.boxwright_command(["cache", "du"]);
    let ran = run(command.env_remove("HOME")).fails_with(2);
    assert!(
        ran.stderr.contains("no place for the store"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_schema_is_the_one_in_the_repository() {
    let ran = Sandbox::new().boxwright(["schema"]).ok();
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/specs/boxwright.schema.json");
    assert_eq!(ran.stdout, fs::read_to_string(kept).unwrap());
}

#[test]
fn shells_can_read_their_completions() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = sandbox.boxwright(["completions", shell]).ok();
        assert!(ran.stdout.contains("no-cache"), "{shell}");
        sandbox.file(shell, ran.stdout);
    }
    run(sandbox.command("bash").args(["-n", "bash"])).ok();
}

#[test]
fn every_command_has_a_manual_page() {
    let sandbox = Sandbox::new();
    sandbox.boxwright(["man", "--dir", "man/pages"]).ok();
    for page in ["boxwright.1", "boxwright-build.1", "boxwright-cache-gc.1"] {
        let text = fs::read_to_string(sandbox.path("man/pages").join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
    let ran = sandbox.boxwright(["man"]).ok();
    let page = fs::read_to_string(sandbox.path("man/pages/boxwright.1")).unwrap();
    assert_eq!(ran.stdout, page);
}

#[test]
fn an_empty_store_is_looked_after() {
    let sandbox = Sandbox::new();
    let ran = sandbox.boxwright(["cache", "du", "--store", "s"]).ok();
    insta::assert_snapshot!(ran.stdout, @r"
    s
      blobs    0  0 B
      records  0  0 B
      trees    0  0 B
      caches   0  0 B
      scratch  0  0 B
      total    0  0 B
    ");
    let ran = sandbox
        .boxwright(["cache", "--store", "s", "gc", "--max-age", "1d"])
        .ok();
    assert_eq!(ran.stdout, "removed 0 files, 0 B; 0 B left\n");
    let ran = sandbox
        .boxwright(["cache", "ls", "--json", "--store", "s"])
        .ok();
    assert_eq!(ran.stdout, "[]\n");
    sandbox.boxwright(["cache", "clear"]).ok();
    assert!(sandbox.home().join(".cache/boxwright").is_dir());
}

#[test]
fn a_reader_that_goes_away_ends_it_without_a_word() {
    let sandbox = Sandbox::new();
    for arguments in [
        &["schema"][..],
        &["--help"],
        &["man"],
        &["completions", "zsh"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = sandbox.boxwright_command(arguments);
        let output = command
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = output.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn a_full_disk_is_told() {
    let sandbox = Sandbox::new();
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = sandbox.boxwright_command(["schema"]);
    let output = command.stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"));
    // Nobody can be told of a standard error that is full; the exit code stays.
    let mut command = sandbox.boxwright_command(["build"]);
    let status = command
        .stderr(full())
        .stdout(File::create("/dev/null").unwrap())
        .status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn colour_is_for_those_who_want_it() {
    let sandbox = Sandbox::new();
    let escapes = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = sandbox.boxwright_command(arguments);
        let ran = run(command.envs(variables.iter().copied())).fails_with(1);
        ran.stderr.contains('\u{1b}')
    };
    assert!(!escapes(&[], &["build"]));
    assert!(escapes(&[], &["build", "--color", "always"]));
    assert!(escapes(&[("CLICOLOR_FORCE", "1")], &["build"]));
    assert!(!escapes(
        &[("CLICOLOR_FORCE", "1")],
        &["build", "--color", "never"]
    ));
    assert!(!escapes(
        &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")],
        &["build"]
    ));
}

#[test]
fn several_specs_share_what_they_have_in_common() {
    let sandbox = Sandbox::new();
    sandbox.file("common", "the same for both".repeat(10_000));
    for name in ["one", "two"] {
        let spec = format!(
            "format: 1\nimage: test/{name}\ncontext: ..\nstages:\n  app:\n    from: scratch\n    \
             allow: [root]\n    steps:\n      - {{copy: common, to: /}}\n      \
             - {{write: /name, text: {name}}}\n"
        );
        sandbox.file(&format!("{name}/boxwright.yaml"), spec);
    }
    let build = ["build", "--store", "store", "--progress", "plain"];
    let ran = sandbox.boxwright(build.iter().chain(&["one", "two", "--print", "digest"]));
    let ran = ran.ok();
    assert_eq!(ran.stdout.lines().count(), 2, "{ran:?}");
    for expected in [
        "2 images",
        "in 3 blobs of layers",
        "Wrote oci-archive:one.tar",
    ] {
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
    assert!(sandbox.path("one.tar").exists() && sandbox.path("two.tar").exists());
    let alone = ["two", "-o", "oci-archive:alone.tar"];
    sandbox.boxwright(build.iter().chain(&alone)).ok();
    let bytes = |name: &str| fs::read(sandbox.path(name)).expect("read");
    assert!(bytes("alone.tar") == bytes("two.tar"));
    sandbox
        .boxwright(build.iter().chain(&["one", "two", "-o", "oci:all"]))
        .ok();
    let index = fs::read_to_string(sandbox.path("all/index.json")).expect("read");
    assert!(
        index.contains("test/one") && index.contains("test/two"),
        "{index}"
    );
    for (more, expected) in [
        (vec!["-t", "a"], "--tag is for one image"),
        (vec!["-o", "oci-archive:x.tar"], "write -o oci:DIR"),
        (vec!["one"], "would both be oci-archive:one.tar"),
    ] {
        let args = build.iter().copied().chain(["one", "two"]).chain(more);
        let ran = sandbox.boxwright(args).fails_with(2);
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
}

#[test]
fn what_never_ends_is_not_read_to_its_end() {
    let sandbox = Sandbox::new();
    sandbox.file(
        "boxwright.yaml",
        "format: 1\nimage: a/b\nstages:\n  app: {from: scratch, allow: [root]}\n",
    );
    std::os::unix::fs::symlink("/dev/zero", sandbox.path("boxwright.lock")).expect("link");
    for (args, expected) in [
        (&["build", "/dev/zero"][..], "more than"),
        (&["build", "--locked"], "is no file"),
        (&["build", "--secret", "id=x,src=/dev/zero"], "more than"),
        (&["build", "--cache-key", "/dev/zero"], "more than"),
    ] {
        let ran = sandbox.boxwright(args);
        assert_ne!(ran.code, 0, "{args:?}");
        assert!(ran.stderr.contains(expected), "{args:?}: {}", ran.stderr);
        assert!(ran.peak_kib < 300_000, "{args:?}: {} KiB", ran.peak_kib);
    }
}
