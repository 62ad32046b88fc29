//! Stages of other spec files: whoever extends one gets the same bytes, and an edit is never missed.

use std::fs;
use std::os::unix::fs::symlink;

use boxwright::transport::validate_layout;
use serde_json::{Value, json};

use crate::support::busybox;
use crate::support::fault_server::{FaultServer, Reply};
use crate::support::image_reader::ReadImage;
use crate::support::peers::{Skip, Skopeo, Umoci, may_mount, peer};
use crate::support::sandbox::Sandbox;

/// A base that takes files from its own folder and from a folder beside, through everything that a
/// path can stand in.
const BASE: &str = r#"
format: 1
image: test/base
args: {WORD: plain}
contexts: {tools: ../tools}
profiles: {prod: {args: {WORD: produced}, env: {OF_BASE: prod}}}
stages:
  tool:
    from: scratch
    steps: [{copy: tool, from: tools, to: /tool}]
  node:
    from: scratch
    allow: [root]
    workdir: /work
    steps:
      - {copy: files, to: files}
      - {copy: /tool, from: tool, to: /usr/bin/tool}
      - {write: word, template: files/template}
    config: {env: {WORD: "${WORD}"}, cmd: [serve]}
target: node
"#;

const APP: &str = r#"
format: 1
image: test/NAME
profiles: {prod: {env: {OF_APP: prod}}}
stages:
  node: {extends: ../../base#node}
  app:
    from: node
    allow: [root]
    steps: [{copy: src, to: /app}]
    config: {labels: {of: NAME}}
target: app
"#;

fn prepared() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.file("base/boxwright.yaml", BASE);
    sandbox.file("base/files/one", "one");
    fs::hard_link(
        sandbox.path("base/files/one"),
        sandbox.path("base/files/two"),
    )
    .expect("link");
    sandbox.file("base/files/noise.log", "noise");
    sandbox.file("base/files/template", "the word is ${WORD}\n");
    sandbox.file("base/boxwright.yaml.dockerignore", "**/*.log\n");
    sandbox.file("tools/tool", "tool");
    for name in ["a", "b"] {
        sandbox.file(
            &format!("svc/{name}/boxwright.yaml"),
            APP.replace("NAME", name),
        );
        sandbox.file(&format!("svc/{name}/src/main"), name);
        // What one file ignores is no business of another.
        sandbox.file(&format!("svc/{name}/.dockerignore"), "**/one\n");
    }
    let same =
        "format: 1\nimage: test/same\nstages: {image: {extends: ../base/boxwright.yaml#node}}\n";
    sandbox.file("same/boxwright.yaml", same);
    sandbox
}

/// Builds into a layout; gives the image and the events.
#[track_caller]
fn build(sandbox: &Sandbox, spec: &str, more: &[&str]) -> (ReadImage, Vec<Value>) {
    let out = sandbox.path("out").join(spec.replace(['/', '.'], "-"));
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(out.parent().expect("a parent")).expect("make a folder");
    let output = format!("oci:{}:v1", out.display());
    let mut args = vec!["build", spec, "--store", "store", "--progress", "json"];
    args.extend(["-o", &output]);
    args.extend(more);
    let ran = sandbox.boxwright(&args).ok();
    assert_eq!(validate_layout(&out).expect("a layout"), []);
    let events = ran.stderr.lines();
    let events = events.map(|line| serde_json::from_str(line).expect("an event a line"));
    (ReadImage::at(&out), events.collect())
}

/// Waits until files are so old that a build may remember what it made of them.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(2100));
}

fn layers(image: &ReadImage) -> Vec<String> {
    let layers = image.manifest["layers"].as_array().expect("layers");
    let digest = |layer: &Value| layer["digest"].as_str().expect("a digest").to_owned();
    layers.iter().map(digest).collect()
}

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["event"] == kind).count()
}

#[test]
fn services_share_the_layers_of_their_base_byte_for_byte() {
    let sandbox = prepared();
    let (base, _) = build(&sandbox, "base", &[]);
    let (a, events) = build(&sandbox, "svc/a", &[]);
    let (b, _) = build(&sandbox, "svc/b", &[]);
    let (same, _) = build(&sandbox, "same", &[]);
    assert_eq!(layers(&base).len(), 4);
    for service in [&a, &b] {
        assert_eq!(layers(service)[..4], layers(&base));
        assert_eq!(layers(service).len(), 5);
        // The history of what is shared is the same, too.
        let lines =
            |image: &ReadImage| image.config["history"].as_array().expect("lines")[..4].to_vec();
        assert_eq!(lines(service), lines(&base));
        assert_eq!(service.config["config"]["Env"], json!(["WORD=plain"]));
        assert_eq!(service.config["config"]["Cmd"], json!(["serve"]));
        assert_eq!(service.config["config"]["WorkingDir"], "/work");
    }
    assert_ne!(layers(&a)[4], layers(&b)[4]);
    // Nothing of the base was written again.
    let built = events
        .iter()
        .filter(|event| event["event"] == "layer_finished" && event["origin"] == "built");
    assert_eq!(built.count(), 1);
    // A stage that says nothing but `extends` is that stage.
    assert_eq!(same.manifest["config"], base.manifest["config"]);
    let listings = base.listings();
    let paths: Vec<String> = listings.iter().flat_map(|layer| layer.paths()).collect();
    let has = |name: &str| paths.iter().any(|path| path.ends_with(name));
    assert!(has("files/template") && !has("noise.log"), "{paths:?}");
}

#[test]
fn where_the_caller_stands_and_which_way_leads_there_decides_nothing() {
    let sandbox = prepared();
    let (first, _) = build(&sandbox, "svc/a", &[]);
    let absolute = sandbox.path("svc/a/boxwright.yaml");
    let (second, _) = build(&sandbox, &absolute.display().to_string(), &["--no-cache"]);
    assert_eq!(first.digest, second.digest);
    symlink(sandbox.path("base"), sandbox.path("link")).expect("link");
    let spec = APP.replace("NAME", "a").replace("../../base", "../../link");
    sandbox.file("svc/a/boxwright.yaml", spec);
    let (third, _) = build(&sandbox, "svc/a", &["--no-cache"]);
    assert_eq!(first.digest, third.digest);
}

#[test]
fn an_edit_of_the_extended_file_is_never_missed() {
    let sandbox = prepared();
    settle();
    let (a, _) = build(&sandbox, "svc/a", &[]);
    let (b, _) = build(&sandbox, "svc/b", &[]);
    let (again, events) = build(&sandbox, "svc/a", &[]);
    assert_eq!(
        (&again.digest, count(&events, "stage_started")),
        (&a.digest, 0)
    );
    // Its text alone: the spec that is built and all contexts stay as they are.
    sandbox.file(
        "base/boxwright.yaml",
        BASE.replace("cmd: [serve]", "cmd: [other]"),
    );
    let (other_a, events) = build(&sandbox, "svc/a", &[]);
    let (other_b, _) = build(&sandbox, "svc/b", &[]);
    assert_ne!(count(&events, "stage_started"), 0);
    for (now, before) in [(&other_a, &a), (&other_b, &b)] {
        assert_ne!(now.digest, before.digest);
        assert_eq!(now.config["config"]["Cmd"], json!(["other"]));
        assert_eq!(layers(now), layers(before));
    }
    // A default of its arguments, which fills a template; then an override.
    sandbox.file(
        "base/boxwright.yaml",
        BASE.replace("WORD: plain", "WORD: new"),
    );
    let (new, _) = build(&sandbox, "svc/a", &[]);
    assert_eq!(new.config["config"]["Env"], json!(["WORD=new"]));
    assert_ne!(layers(&new)[3], layers(&a)[3]);
    let (given, _) = build(&sandbox, "svc/a", &["--arg", "WORD=given"]);
    assert_eq!(given.config["config"]["Env"], json!(["WORD=given"]));
    // A file of its context.
    sandbox.file("base/boxwright.yaml", BASE);
    sandbox.file("tools/tool", "another");
    let (tool, _) = build(&sandbox, "svc/a", &[]);
    let differ = layers(&tool)
        .iter()
        .zip(layers(&a))
        .map(|(one, other)| *one != other)
        .collect::<Vec<_>>();
    assert_eq!(differ, [false, false, true, false, false]);
    sandbox.file("tools/tool", "tool");
    let (back, _) = build(&sandbox, "svc/a", &[]);
    assert_eq!(back.digest, a.digest);
}

/// Two files with the same text in two folders, and a spec that extends both.
#[test]
fn equal_texts_in_two_places_are_two_files() {
    let sandbox = Sandbox::new();
    let part = "format: 1\nstages: {part: {from: scratch, steps: [{copy: own, to: /}]}}\n";
    for name in ["one", "two"] {
        sandbox.file(&format!("{name}/boxwright.yaml"), part);
        sandbox.file(&format!("{name}/own/file"), name);
        fs::create_dir_all(sandbox.path("link")).expect("make a folder");
    }
    let spec = "format: 1\nimage: test/two\nstages:\n  first: {extends: link/first#part}\n  \
        second: {extends: link/second#part}\n  app:\n    from: scratch\n    allow: [root]\n    steps:\n      \
        - {copy: /file, from: first, to: /first}\n      - {copy: /file, from: second, to: /second}\n";
    sandbox.file("boxwright.yaml", spec);
    settle();
    let mut seen = Vec::new();
    for (first, second) in [("one", "two"), ("two", "one"), ("one", "one")] {
        for (link, to) in [("first", first), ("second", second)] {
            let link = sandbox.path("link").join(link);
            let _ = fs::remove_file(&link);
            symlink(sandbox.path(to), link).expect("link");
        }
        let (image, _) = build(&sandbox, ".", &[]);
        let (fresh, _) = build(&sandbox, ".", &["--no-cache"]);
        assert_eq!(image.digest, fresh.digest, "{first} {second}");
        assert!(!seen.contains(&image.digest), "{first} {second}");
        seen.push(image.digest);
    }
}

#[test]
fn a_stage_that_is_there_already_may_be_meant_by_a_link() {
    let sandbox = Sandbox::new();
    let part = "format: 1\nstages: {part: {from: scratch, steps: [{copy: own, to: /}]}}\n";
    for name in ["one", "two"] {
        sandbox.file(&format!("{name}/boxwright.yaml"), part);
        sandbox.file(&format!("{name}/own/file"), name);
    }
    // Both are stages of this spec anyway: only the link says which of them `now` is.
    let spec = "format: 1\nimage: test/now\nstages:\n  a: {extends: one#part}\n  b: {extends: two#part}\n  \
        now: {extends: link#part}\n  app:\n    from: scratch\n    allow: [root]\n    steps:\n      \
        - {copy: /file, from: a, to: /a}\n      - {copy: /file, from: b, to: /b}\n      \
        - {copy: /file, from: now, to: /now}\ntarget: app\n";
    sandbox.file("boxwright.yaml", spec);
    settle();
    let seen = ["one", "two"].map(|to| {
        let link = sandbox.path("link");
        let _ = fs::remove_file(&link);
        symlink(to, link).expect("link");
        let (image, _) = build(&sandbox, ".", &[]);
        let (fresh, _) = build(&sandbox, ".", &["--no-cache"]);
        assert_eq!(image.digest, fresh.digest, "{to}");
        image.digest
    });
    assert_ne!(seen[0], seen[1]);
}

#[test]
fn arguments_profiles_and_contexts_reach_the_file_that_has_them() {
    let sandbox = prepared();
    let (plain, _) = build(&sandbox, "svc/a", &[]);
    let (prod, _) = build(&sandbox, "svc/a", &["--profile", "prod"]);
    let (base, _) = build(&sandbox, "base", &["--profile", "prod"]);
    assert_eq!(
        prod.config["config"]["Env"],
        json!(["WORD=produced", "OF_BASE=prod", "OF_APP=prod"])
    );
    assert_eq!(layers(&prod)[..4], layers(&base));
    assert!(!plain.config.to_string().contains("prod"));
    let ran = sandbox
        .boxwright(["build", "svc/a", "--dry-run", "--arg", "NONE=1"])
        .fails_with(1);
    assert!(
        ran.stderr
            .contains("`NONE` is not declared in this spec nor in those"),
        "{ran:?}"
    );
    // `--context` speaks of the contexts of the spec that is built.
    sandbox.file("else/src/main", "else");
    let (moved, _) = build(&sandbox, "svc/a", &["--context", "context=else"]);
    assert_eq!(layers(&moved)[..4], layers(&plain)[..4]);
    assert_ne!(layers(&moved)[4], layers(&plain)[4]);
    let args = ["build", "svc/a", "--dry-run", "--context", "tools=else"];
    let ran = sandbox.boxwright(args).fails_with(1);
    assert!(
        ran.stderr.contains("\"tools\", which is no context"),
        "{ran:?}"
    );
}

#[test]
fn a_plan_shows_whose_stages_they_are() {
    let sandbox = prepared();
    let ran = sandbox.boxwright(["build", "svc/a", "--dry-run"]).ok();
    insta::assert_snapshot!(sandbox.golden(&ran));
    let ran = sandbox
        .boxwright(["build", "svc/a", "--dry-run", "--json"])
        .ok();
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(
        plan["stages"][1]["name"],
        "node (../../base/boxwright.yaml)"
    );
    assert_eq!(
        plan["stages"][2]["from"],
        json!({"stage": "node (../../base/boxwright.yaml)"})
    );
    assert_eq!(plan["pruned"], json!([]));
    // What the other file says of the image is judged as well.
    let check = sandbox
        .boxwright(["check", "svc/a", "--store", "store"])
        .fails_with(1);
    assert!(
        check.stdout.contains("error[BW011]") && check.stdout.contains("serve"),
        "{check:?}"
    );
}

#[test]
fn what_is_wrong_is_drawn_in_the_file_that_has_it() {
    let sandbox = prepared();
    sandbox.file(
        "base/boxwright.yaml",
        BASE.replace("from: tool,", "from: tol,"),
    );
    let name = sandbox
        .boxwright(["build", "svc/a", "--dry-run"])
        .fails_with(1);
    sandbox.file(
        "base/boxwright.yaml",
        BASE.replace("{copy: /tool,", "{copy: /lost,"),
    );
    let step = sandbox
        .boxwright(["build", "svc/a", "--store", "store"])
        .fails_with(1);
    let back = "{extends: ../svc/a/boxwright.yaml#app}";
    let circle = BASE.replace(
        "    from: scratch\n    steps: [{copy: tool",
        "    extends: back.yaml#back\n    steps: [{copy: tool",
    );
    sandbox.file("base/boxwright.yaml", circle);
    sandbox.file(
        "base/back.yaml",
        format!("format: 1\nstages:\n  back: {back}\n"),
    );
    let circle = sandbox
        .boxwright(["build", "svc/a", "--dry-run"])
        .fails_with(1);
    let all = [name, step, circle].map(|ran| sandbox.golden(&ran));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn nothing_but_a_file_is_read_and_nobody_waits() {
    let sandbox = prepared();
    let place = sandbox.path("svc/a/other.yaml");
    let spec = |path: &str| {
        let text = format!("format: 1\nstages: {{app: {{extends: '{path}#node'}}}}\n");
        sandbox.file("svc/a/boxwright.yaml", text);
        sandbox
            .boxwright(["build", "svc/a", "--dry-run"])
            .fails_with(1)
            .stderr
    };
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &place, rustix::fs::FileType::Fifo, mode, 0)
        .expect("make a pipe");
    for (path, expected) in [
        (
            "other.yaml",
            "svc/a/other.yaml cannot be read: it is no regular file",
        ),
        (
            "/dev/zero",
            "/dev/zero cannot be read: it is no regular file",
        ),
        ("none", "there is no spec svc/a/none"),
        ("src", "there is no spec svc/a/src/boxwright.yaml"),
        ("boxwright.yaml", "svc/a/boxwright.yaml extends itself"),
        (".", "svc/a/boxwright.yaml extends itself"),
        ("../../base", "has no stage"),
    ] {
        if path == "../../base" {
            sandbox.file(
                "base/boxwright.yaml",
                "format: 1\nstages: {x: {from: scratch}}\n",
            );
        }
        let error = spec(path);
        assert!(error.contains(expected), "{path}: {error}");
        assert!(error.contains("help: "), "{path}: {error}");
    }
    fs::remove_file(&place).expect("remove the pipe");
    fs::File::create(&place)
        .and_then(|file| file.set_len(20 << 20))
        .expect("make a large file");
    assert!(spec("other.yaml").contains("more than 16777216 bytes"));
}

#[test]
fn the_lock_of_a_spec_has_what_extended_stages_take() {
    let server = FaultServer::start(|_| Reply::Whole(200, Vec::new(), b"tool".to_vec()));
    let url = format!("http://{}/tool", server.address());
    let sandbox = Sandbox::new();
    let base = format!(
        "format: 1\nstages:\n  tool: {{from: scratch, steps: [{{add: {url}, to: /tool}}]}}\n  \
         unused: {{from: scratch, steps: [{{add: {url}/unused, to: /tool}}]}}\n"
    );
    sandbox.file("base.yaml", base);
    let spec =
        "format: 1\nimage: test/app\nstages: {app: {extends: ../base.yaml#tool, allow: [root]}}\n";
    sandbox.file("app/boxwright.yaml", spec);
    let unknown = sandbox
        .boxwright(["build", "app", "--dry-run"])
        .fails_with(1);
    assert!(unknown.stderr.contains("base.yaml:3:39"), "{unknown:?}");
    assert!(!unknown.stderr.contains("unused"), "{unknown:?}");
    sandbox.boxwright(["lock", "app", "--store", "store"]).ok();
    let lock = fs::read_to_string(sandbox.path("app/boxwright.lock")).expect("a lock");
    assert!(lock.contains(&url) && !lock.contains("unused"), "{lock}");
    sandbox
        .boxwright(["lock", "app", "--check", "--store", "store"])
        .ok();
    build(&sandbox, "app", &["--locked"]);
    sandbox.file("app/boxwright.lock", "format: 1\n");
    let stale = sandbox
        .boxwright(["build", "app", "--locked", "--store", "store"])
        .fails_with(1);
    assert!(stale.stderr.contains("base.yaml:3:39"), "{stale:?}");
}

#[test]
fn an_output_never_takes_the_place_of_an_extended_file() {
    let sandbox = prepared();
    let args = [
        "build",
        "svc/a",
        "--store",
        "store",
        "-o",
        "oci-archive:base/boxwright.yaml",
    ];
    sandbox.boxwright(args).fails_with(1);
    let text = fs::read_to_string(sandbox.path("base/boxwright.yaml")).expect("the file");
    assert_eq!(text, BASE);
}

#[test]
fn a_benchmark_copies_extended_files_too() {
    let sandbox = prepared();
    let args = ["bench", "svc/a", "--runs", "1", "--json"];
    let ran = sandbox.boxwright(args).ok();
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(report["files"], 5, "{report}");
}

fn with_busybox() -> Result<Sandbox, Skip> {
    if !may_mount() {
        return Err(Skip::because("nothing can be mounted here"));
    }
    let sandbox = Sandbox::new();
    busybox::base()?.write_layout(&sandbox.path("images/busybox"), "v1");
    Ok(sandbox)
}

#[test]
fn commands_of_a_shared_stage_run_once() {
    let sandbox = peer!(with_busybox());
    let base = "
format: 1
image: test/base
args: {WORD: plain}
stages:
  node:
    from: oci:../images/busybox:v1
    allow: [root, build-stage]
    steps:
      - run: cp /in/file /made && echo $WORD >> /made
        mounts: [{bind: sources, target: /in}]
    config: {env: {WORD: \"${WORD}\"}}
";
    sandbox.file("base/boxwright.yaml", base);
    sandbox.file("base/sources/file", "source");
    for name in ["a", "b"] {
        let spec = APP
            .replace("NAME", name)
            .replace("allow: [root]", "allow: [root, build-stage]");
        sandbox.file(&format!("svc/{name}/boxwright.yaml"), spec);
        sandbox.file(&format!("svc/{name}/src/main"), name);
    }
    let ran = |events: &[Value]| {
        let steps = events
            .iter()
            .filter(|event| event["event"] == "step_finished");
        let runs = steps.filter(|event| {
            event["title"]
                .as_str()
                .expect("a title")
                .starts_with("run ")
        });
        let origins = runs.map(|event| event["origin"].as_str().expect("an origin").to_owned());
        origins.collect::<Vec<_>>()
    };
    let (a, events) = build(&sandbox, "svc/a", &[]);
    assert_eq!(ran(&events), ["built"]);
    let (b, events) = build(&sandbox, "svc/b", &[]);
    assert_eq!(ran(&events), ["cached"]);
    let (base, events) = build(&sandbox, "base", &[]);
    assert_eq!(ran(&events), ["cached"]);
    let shared = layers(&base);
    assert_eq!(
        (&layers(&a)[..shared.len()], &layers(&b)[..shared.len()]),
        (&shared[..], &shared[..])
    );
}

#[test]
fn foreign_tools_read_what_extends() {
    let sandbox = prepared();
    let (image, _) = build(&sandbox, "svc/a", &[]);
    let layout = sandbox.path("out/svc-a");
    let skopeo = peer!(Skopeo::start());
    let config = skopeo.config(&format!("oci:{}:v1", layout.display()));
    assert_eq!(config, image.config);
    let umoci = peer!(Umoci::start());
    let root = umoci.unpack(&layout, "v1", &sandbox.path("bundle"));
    let read = |name: &str| fs::read_to_string(root.join(name)).expect("a file");
    assert_eq!(read("app/main"), "a");
    assert_eq!(read("usr/bin/tool"), "tool");
    assert_eq!(read("work/word"), "the word is plain\n");
    assert!(!root.join("work/files/noise.log").exists());
}

#[test]
fn figures_of_contexts_are_those_of_every_folder_that_is_read() {
    let sandbox = prepared();
    let args = ["verify", "svc/a", "--runner", "none", "--json"];
    let more = ["--skip", "rebuild", "--allow", "BW011"];
    let ran = sandbox.boxwright(args.iter().chain(&more)).ok();
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let context = &report[0]["figures"]["build"]["context"];
    // Six files of the base, of which steps take three, the tool, and one of the service's three.
    assert_eq!(context["all_files"], 6 + 1 + 3, "{context}");
    assert_eq!(context["files"], 3 + 1 + 1, "{context}");
}
