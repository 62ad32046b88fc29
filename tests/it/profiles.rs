//! Environments: one spec, an image for each, and nothing of one in the image of another.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::busybox;
use crate::support::file_set::FileSet;
use crate::support::image_reader::ReadImage;
use crate::support::listing::decompressed;
use crate::support::peers::{peer, require_root};
use crate::support::sandbox::Sandbox;

/// Everything that a profile can say, and all ways into an image: text, template, the name of a
/// file, a title in the history, the settings, and the target.
const SPEC: &str = r#"
format: 1
image: test/profiles
tags: ["${TAG}"]
context: ctx
args: {TAG: plain, WORD: plain-word, FILE: plain.conf, INNER: "<${WORD}>"}
profiles:
  dev:
    target: debug
    args: {TAG: devtag, WORD: dev-word, FILE: dev.conf}
    user: "1011010111:7"
    env: {APP_ENV: dev-env, ONLY_DEV: "dev-${WORD}", PATH: "/dev-path:${env.PATH}"}
    entrypoint: [/app/dev-entry]
    cmd: [dev-cmd, --reload]
    labels: {env: dev-label, dev-key: "1"}
  prod:
    args: {TAG: prodtag, WORD: prod-word, FILE: prod.conf}
    user: "2021020222:7"
    env: {APP_ENV: prod-env, ONLY_PROD: "prod-${WORD}", PATH: "/prod-path:${env.PATH}"}
    entrypoint: [/app/prod-entry]
    cmd: [prod-cmd, --quiet]
    labels: {env: prod-label, prod-key: "1"}
target: runtime
stages:
  common:
    from: scratch
    steps:
      - {copy: "conf/${FILE}", to: /etc/app.conf}
      - {write: /word, text: "${INNER}"}
      - {write: /filled, template: template}
      - {write: "/opt/${WORD}", text: same}
  runtime:
    from: common
    steps: [{write: /role, text: runtime-role}]
    config:
      user: "1:1"
      env: {APP_ENV: plain-env, PATH: /bin}
      entrypoint: [/app/plain-entry]
      cmd: [plain-cmd]
      labels: {env: plain-label, kept: "${WORD}"}
  debug:
    from: runtime
    steps: [{write: /debug, text: debug-role}]
"#;

/// Words of one profile, in the spec or in a file that it chooses.
const DEV: [&str; 13] = [
    "devtag",
    "dev-word",
    "dev.conf",
    "dev-content",
    "1011010111",
    "dev-env",
    "ONLY_DEV",
    "dev-path",
    "dev-entry",
    "dev-cmd",
    "--reload",
    "dev-label",
    "dev-key",
];
const PROD: [&str; 13] = [
    "prodtag",
    "prod-word",
    "prod.conf",
    "prod-content",
    "2021020222",
    "prod-env",
    "ONLY_PROD",
    "prod-path",
    "prod-entry",
    "prod-cmd",
    "--quiet",
    "prod-label",
    "prod-key",
];
/// Words of the spec that both profiles replace.
const PLAIN: [&str; 7] = [
    "plain-word",
    "plain.conf",
    "plain-content",
    "plain-env",
    "plain-entry",
    "plain-cmd",
    "plain-label",
];

fn prepared() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.file("boxwright.yaml", SPEC);
    for profile in ["plain", "dev", "prod"] {
        let content = format!("{profile}-content\n");
        sandbox.file(&format!("ctx/conf/{profile}.conf"), content);
    }
    sandbox.file("ctx/template", "filled with ${WORD}\n");
    sandbox
}

/// Builds the spec of the working directory; gives the digest and what happened, as events.
fn build(sandbox: &Sandbox, more: &[&str]) -> (String, Vec<Value>) {
    let args = ["build", "--progress", "json", "--print", "digest"];
    let ran = sandbox.boxwright(args.iter().chain(more)).ok();
    let events = ran.stderr.lines();
    let events = events.map(|line| serde_json::from_str(line).expect("an event a line"));
    (ran.stdout.trim().to_owned(), events.collect())
}

/// What was done: stages evaluated, layers that are new, outputs written.
fn work(events: &[Value]) -> [usize; 3] {
    let of = |kind: &str, key: &str, value: &str| {
        let of_kind = events.iter().filter(|event| event["event"] == kind);
        of_kind
            .filter(|event| key.is_empty() || event[key] == value)
            .count()
    };
    [
        of("stage_started", "", ""),
        of("layer_finished", "origin", "built"),
        of("output_written", "state", "written"),
    ]
}

/// Every byte of an archive: names of files, documents, and layers as they are and unpacked.
fn every_byte(archive: &Path) -> Vec<u8> {
    let mut bytes = fs::read(archive).expect("an archive");
    let set = FileSet::read(archive).expect("an archive");
    for (name, content) in &set.files {
        bytes.extend(name.as_bytes());
        bytes.extend(content);
    }
    for layer in &ReadImage::at(archive).layers {
        std::io::copy(&mut decompressed(&layer[..]), &mut bytes).expect("a layer");
    }
    bytes
}

fn has(bytes: &[u8], word: &str) -> bool {
    bytes
        .windows(word.len())
        .any(|window| window == word.as_bytes())
}

#[test]
fn nothing_of_a_profile_is_in_the_image_of_another() {
    let sandbox = prepared();
    // One store for all, so that what one leaves there could reach the others.
    build(&sandbox, &[]);
    for profile in ["dev", "prod", "dev", "prod"] {
        build(&sandbox, &["--profile", profile]);
    }
    for compression in ["gzip", "none"] {
        let output = |name: &str| format!("oci-archive:{compression}-{name}.tar");
        let built = |more: &[&str], name: &str| {
            let output = output(name);
            build(
                &sandbox,
                &[more, &["--compression", compression, "-o", &output]].concat(),
            );
            every_byte(&sandbox.path(format!("{compression}-{name}.tar")))
        };
        let plain = built(&[], "plain");
        let dev = built(&["--profile", "dev"], "dev");
        let prod = built(&["--profile", "prod"], "prod");
        // Each word is found where it belongs, so one that is not found elsewhere is not there.
        for (image, bytes) in [("plain", plain), ("dev", dev), ("prod", prod)] {
            let [of_plain, of_dev, of_prod] = [&PLAIN[..], &DEV, &PROD].map(|words| {
                let found = words.iter().filter(|word| has(&bytes, word));
                found.copied().collect::<Vec<&str>>()
            });
            let expected = |words, owner| if image == owner { words } else { &[][..] };
            assert_eq!(of_plain, expected(&PLAIN[..], "plain"), "{image}");
            assert_eq!(of_dev, expected(&DEV[..], "dev"), "{image}");
            assert_eq!(of_prod, expected(&PROD[..], "prod"), "{image}");
            assert_eq!(has(&bytes, "debug-role"), image == "dev", "{image}");
        }
    }
}

#[test]
fn an_image_of_a_profile_is_that_of_a_spec_that_says_the_same() {
    let sandbox = prepared();
    let (prod, _) = build(&sandbox, &["--profile", "prod", "-o", "oci-archive:a.tar"]);
    let written = SPEC
        .replace("plain-word", "prod-word")
        .replace("FILE: plain.conf", "FILE: prod.conf")
        .replace("TAG: plain", "TAG: prodtag")
        .replace("user: \"1:1\"", "user: \"2021020222:7\"")
        .replace(
            "{APP_ENV: plain-env, PATH: /bin}",
            "{APP_ENV: prod-env, PATH: \"/prod-path:/bin\", ONLY_PROD: prod-prod-word}",
        )
        .replace("/app/plain-entry", "/app/prod-entry")
        .replace("[plain-cmd]", "[prod-cmd, --quiet]")
        .replace("{env: plain-label,", "{env: prod-label, prod-key: \"1\",");
    sandbox.file("boxwright.yaml", written);
    let (same, _) = build(&sandbox, &["-o", "oci-archive:b.tar", "--store", "other"]);
    assert_eq!(prod, same);
    let config = &ReadImage::at(&sandbox.path("a.tar")).config["config"];
    assert_eq!(config["User"], "2021020222:7");
    let env = [
        "APP_ENV=prod-env",
        "PATH=/prod-path:/bin",
        "ONLY_PROD=prod-prod-word",
    ];
    assert_eq!(config["Env"], serde_json::json!(env));
}

#[test]
fn profiles_stay_cached_side_by_side() {
    let sandbox = prepared();
    // Files must be left alone for two seconds before their times are trusted.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let choices: [&[&str]; 3] = [&[], &["--profile", "dev"], &["--profile", "prod"]];
    let first = choices.map(|choice| build(&sandbox, choice).0);
    assert_ne!(first[1], first[2]);
    for archive in ["profiles.tar", "profiles-dev.tar", "profiles-prod.tar"] {
        assert!(sandbox.path(archive).exists(), "{archive}");
    }
    for _ in 0..2 {
        for (choice, first) in choices.into_iter().zip(&first) {
            let (digest, events) = build(&sandbox, choice);
            assert_eq!((&digest, work(&events)), (first, [0, 0, 0]), "{choice:?}");
        }
    }
    // An answer for one profile is none for another that makes the same files of the same
    // arguments and differs in its settings alone, nor for the spec as it is.
    let spec = "format: 1\nimage: test/same\nprofiles: {a: {cmd: [a]}, b: {cmd: [b]}, c: {}}\n\
                stages: {app: {from: scratch, allow: [root], config: {cmd: [none]}}}\n";
    sandbox.file("boxwright.yaml", spec);
    for _ in 0..2 {
        for (profile, cmd) in [("a", "a"), ("b", "b"), ("c", "none"), ("", "none")] {
            let output = format!("oci-archive:same{profile}.tar");
            let chosen = ["--profile", profile, "-o", &output];
            build(
                &sandbox,
                if profile.is_empty() {
                    &chosen[2..]
                } else {
                    &chosen
                },
            );
            let image = ReadImage::at(&sandbox.path(format!("same{profile}.tar")));
            assert_eq!(image.config["config"]["Cmd"], serde_json::json!([cmd]));
        }
    }
}

#[test]
fn commands_of_the_target_see_the_variables_and_others_are_not_run_again() {
    peer!(require_root("a command"));
    let shell = peer!(busybox::program());
    let spec = "format: 1\nimage: test/seen\ncontext: ctx\n\
                profiles: {dev: {env: {MODE: dev}}, prod: {env: {MODE: prod}}}\nstages:\n  \
                tools:\n    from: scratch\n    config: {env: {MODE: tools}}\n    steps:\n      \
                - {copy: sh, to: /bin/sh, mode: \"0755\"}\n      - run: echo made for $MODE > /tools\n  \
                app:\n    from: tools\n    allow: [root, build-stage]\n    steps:\n      \
                - run: echo made for $MODE > /app\n";
    let sandbox = Sandbox::new();
    sandbox.file("ctx/sh", shell).file("boxwright.yaml", spec);
    for (profile, other, origin) in [("dev", "prod", "built"), ("prod", "dev", "cached")] {
        let (_, events) = build(&sandbox, &["--profile", profile]);
        let bytes = every_byte(&sandbox.path(format!("seen-{profile}.tar")));
        for (word, is_there) in [("tools", true), (profile, true), (other, false)] {
            let found = has(&bytes, &format!("made for {word}\n"));
            assert_eq!(found, is_there, "{word} for {profile}");
        }
        let command = |event: &&Value| {
            event["event"] == "step_finished" && event["stage"] == "tools" && event["step"] == 2
        };
        let command = events.iter().find(command).expect("the command of tools");
        assert_eq!(command["origin"], origin, "{profile}");
    }
}

#[test]
fn people_are_told_which_profile_it_is() {
    let sandbox = prepared();
    let said = |args: &[&str]| sandbox.boxwright(args).golden();
    let dry = sandbox
        .boxwright(["build", "--dry-run", "--profile", "prod"])
        .ok();
    let first = dry.stdout.lines().next().map(str::to_owned);
    let is_said = first.is_some_and(|line| line.ends_with(", profile prod"));
    assert!(is_said, "{}", dry.stdout);
    let json = ["build", "--dry-run", "--json", "--profile", "dev"];
    let json: Value = serde_json::from_str(&sandbox.boxwright(json).ok().stdout).expect("JSON");
    assert_eq!(
        (&json["profile"], &json["target"]),
        (&"dev".into(), &"debug".into())
    );
    let built = sandbox
        .boxwright(["build", "--profile", "prod", "--print", "json"])
        .ok();
    assert!(
        built.stderr.contains(", profile prod, in "),
        "{}",
        built.stderr
    );
    let report: Value = serde_json::from_str(&built.stdout).expect("JSON");
    assert_eq!(report["profile"], "prod");
    for command in ["build", "check", "lock", "bench"] {
        let wrong = said(&[command, "--profile", "prdo"]);
        assert!(
            wrong.contains("this spec has no profile \"prdo\""),
            "{wrong}"
        );
        assert!(wrong.contains("did you mean `prod`?"), "{wrong}");
        assert!(wrong.contains("its profiles are dev, prod"), "{wrong}");
    }
    // `check` looks at the image that the profile makes.
    let spec = "format: 1\nimage: a/b\nprofiles: {dev: {cmd: [/nowhere]}}\n\
                stages: {app: {from: scratch, allow: [root], config: {cmd: [/bin]}, steps: [{write: /bin, text: x, mode: \"755\"}]}}\n";
    sandbox.file("boxwright.yaml", spec);
    assert!(!said(&["check"]).contains("/nowhere"));
    assert!(said(&["check", "--profile", "dev"]).contains("/nowhere"));
}
