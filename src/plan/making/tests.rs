//! Specs as text, and the plan or the problems that they give.

use super::*;
use crate::plan::rules::final_user;
use crate::plan::stage::{ContextId, Source, StageBase};
use crate::spec::{NoFiles, ParseInputs, parse};

fn try_plan(
    text: &str,
    target: Option<&str>,
    contexts: &[(&str, &str)],
) -> Result<Plan, Diagnostics> {
    plan_of(&try_parse(text).unwrap(), target, contexts)
}

fn linux() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn try_parse(text: &str) -> Result<BuildSpec, Diagnostics> {
    parse_for(None, text)
}

fn parse_for(profile: Option<&str>, text: &str) -> Result<BuildSpec, Diagnostics> {
    parse(
        &Arc::new(SourceText::new("boxwright.yaml", text)),
        &ParseInputs {
            arg_overrides: &[],
            profile,
            platform: &linux(),
            files: &NoFiles,
        },
    )
}

fn plan_of(
    spec: &BuildSpec,
    target: Option<&str>,
    contexts: &[(&str, &str)],
) -> Result<Plan, Diagnostics> {
    let contexts = contexts
        .iter()
        .map(|(name, path)| ((*name).to_owned(), PathBuf::from(path)))
        .collect();
    plan(
        spec,
        &PlanInputs {
            target,
            contexts: &contexts,
            platform: &linux(),
            lock: None,
        },
    )
}

fn planned(text: &str) -> Plan {
    try_plan(text, None, &[]).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The problems as text, with their remedies.
fn problems(text: &str) -> String {
    let problems = try_plan(text, None, &[]).expect_err("the spec is wrong");
    shown(&problems)
}

fn shown(problems: &Diagnostics) -> String {
    problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}

const SERVICE: &str = "
format: 1
image: acme/app
tags: ['1.0', latest]
contexts: {shared: ../shared}
stages:
  runtime:
    from: oci:base:1
    users: [{name: app, uid: 1001}]
    steps:
      - {copy: /out/bin, from: build, to: /app/bin, layer: app}
      - {copy: cert.pem, from: shared, to: /app/, layer: app}
      - {write: /app/build.json, text: '{}'}
    config: {user: app, workdir: /app}
  build:
    from: deps
    steps:
      - copy: [src/*.ts, src/lib, package.json]
  deps:
    from: scratch
    workdir: /work
    steps: [{copy: package.json}]
  unused:
    from: nothing-of-the-sort/image:1
    steps: [{run: make}]
target: runtime
";

#[test]
fn a_service_is_planned() {
    insta::assert_snapshot!(planned(SERVICE));
}

#[test]
fn dependencies_come_first_and_are_known() {
    let plan = planned(SERVICE);
    let names: Vec<&str> = plan.stages.iter().map(PlannedStage::name).collect();
    assert_eq!(names, ["deps", "build", "runtime"]);
    assert_eq!(plan.target_stage().depends_on, [StageId(1)]);
    assert_eq!(plan.pruned, ["unused"]);
    assert_eq!(plan.stages[1].base, StageBase::Stage(StageId(0)));
    let sources: Vec<Option<Source>> = plan
        .target_stage()
        .steps()
        .map(|step| step.source)
        .collect();
    assert_eq!(
        sources,
        [
            Some(Source::Stage(StageId(1))),
            Some(Source::Context(ContextId(1))),
            None
        ]
    );
}

#[test]
fn only_what_is_copied_is_wanted() {
    let plan = planned(SERVICE);
    let wanted = |id: usize| {
        plan.contexts[id]
            .wanted
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(wanted(0), ["/package.json", "/src"]);
    assert_eq!(wanted(1), ["/cert.pem"]);
}

#[test]
fn contexts_can_be_elsewhere() {
    let plan = try_plan(SERVICE, None, &[("shared", "/other"), ("context", "ctx")]).unwrap();
    let directories: Vec<String> = plan
        .contexts
        .iter()
        .map(|context| context.directory.display().to_string())
        .collect();
    assert_eq!(directories, ["ctx", "/other"]);
    // What the caller names does not lie beside the spec.
    let located = plan.contexts[0].located(std::path::Path::new("specs"));
    assert_eq!(located, std::path::Path::new("ctx"));
    let problems = try_plan(SERVICE, None, &[("sharde", "/other")]).unwrap_err();
    assert!(
        shown(&problems).contains("--context names \"sharde\""),
        "{problems}"
    );
}

#[test]
fn neighbours_of_one_name_are_one_layer() {
    let step = |layer: &str| format!("      - {{mkdir: /x, {layer}}}\n");
    let steps: String = ["layer: a", "layer: a", "owner: '0'", "layer: a", "layer: b"]
        .map(step)
        .concat();
    let text = format!(
        "format: 1\nstages:\n  s:\n    from: scratch\n    allow: [root]\n    steps:\n{steps}"
    );
    let sizes: Vec<usize> = planned(&text)
        .target_stage()
        .layers
        .iter()
        .map(|layer| layer.steps.len())
        .collect();
    assert_eq!(sizes, [2, 1, 1, 1]);
}

/// `stages` as lines `name: from [copy-from]`.
fn stages(lines: &[&str]) -> String {
    let mut text = "format: 1\nstages:\n".to_owned();
    for line in lines {
        let (name, rest) = line.split_once(": ").unwrap();
        let mut words = rest.split(' ');
        text += &format!(
            "  {name}:\n    from: {}\n    allow: [root]\n",
            words.next().unwrap()
        );
        let copies: Vec<String> = words
            .map(|from| format!("{{copy: /x, from: {from}}}"))
            .collect();
        text += &format!("    steps: [{}]\n", copies.join(", "));
    }
    text
}

#[test]
fn a_diamond_is_built_once() {
    let plan = planned(&stages(&[
        "top: scratch left right",
        "left: root",
        "right: root",
        "root: scratch",
    ]));
    let names: Vec<&str> = plan.stages.iter().map(PlannedStage::name).collect();
    assert_eq!(names, ["root", "left", "right", "top"]);
    assert_eq!(plan.target_stage().depends_on, [StageId(1), StageId(2)]);
}

#[test]
fn circles_are_shown_whole() {
    let mut circles = Vec::new();
    for lines in [
        &["a: a"][..],
        &["a: b", "b: a"],
        &["t: a", "a: b", "b: scratch c", "c: a"],
        &["a: b", "b: a", "x: scratch x"],
        &["a: scratch b c", "b: a", "c: a"],
    ] {
        let found = try_plan(&stages(lines), None, &[]).unwrap_err();
        let labels = |problem: &Diagnostic| {
            let first = problem.label.clone().into_iter();
            let others = problem.also.iter().map(|(_, label)| label.clone());
            first.chain(others).collect::<Vec<_>>().join("; ")
        };
        let shown: Vec<String> = found
            .iter()
            .map(|problem| format!("{} ({})", problem.message, labels(problem)))
            .collect();
        circles.push(format!(
            "{}\n    {}",
            lines.join(" | "),
            shown.join("\n    ")
        ));
    }
    insta::assert_snapshot!(circles.join("\n"));
}

#[test]
fn the_image_must_be_unambiguous() {
    let found = problems(&stages(&["one: scratch", "two: scratch"]));
    assert!(
        found.contains("2 stages could be the image: one, two"),
        "{found}"
    );
    let text = stages(&["one: scratch", "two: scratch"]);
    assert_eq!(
        try_plan(&text, Some("one"), &[])
            .unwrap()
            .target_stage()
            .name(),
        "one"
    );
    let wrong = try_plan(&text, Some("on"), &[]).unwrap_err();
    assert!(shown(&wrong).contains("--target names \"on\""), "{wrong}");
    let wrong = problems(&format!("{text}target: tow\n"));
    assert!(wrong.contains("there is no stage \"tow\""), "{wrong}");
}

#[test]
fn names_that_nothing_has_are_reported_together() {
    let found = problems(&stages(&[
        "app: bulid",
        "build: scratch",
        "t: app dpes",
        "deps: scratch build",
    ]));
    assert!(
        found.contains("there is no stage \"bulid\"")
            && found.contains("no stage or context \"dpes\""),
        "{found}"
    );
}

#[test]
fn a_misspelt_use_makes_no_second_candidate() {
    let found = try_plan(
        &stages(&["app: bulid", "build: scratch", "other: scratch"]),
        None,
        &[],
    );
    assert_eq!(found.unwrap_err().len(), 1);
}

#[test]
fn bare_words_that_are_something_else() {
    let text = |contexts: &str, from: &str, copy: &str| {
        format!(
            "format: 1\ncontexts: {{{contexts}}}\nstages:\n  s:\n    from: {from}\n    allow: [root]\n    steps: [{{copy: x, from: {copy}}}]\n"
        )
    };
    for (contexts, from, copy, expected) in [
        (
            "shared: x",
            "shared",
            "shared",
            "a stage cannot start from a context",
        ),
        ("", "scratch", "context", "leave `from` out"),
        ("", "alpine", "s2", "docker.io/library/alpine:TAG"),
        ("shared: x", "scratch", "sharde", "did you mean \"shared\"?"),
        (
            "context: x",
            "scratch",
            "context",
            "cannot be called \"context\"",
        ),
        ("s: x", "scratch", "s", "both a stage and a context"),
    ] {
        let found = match try_parse(&text(contexts, from, copy)) {
            Ok(spec) => plan_of(&spec, None, &[]).expect_err("the spec is wrong"),
            Err(found) => found,
        };
        assert!(shown(&found).contains(expected), "{expected}: {found}");
    }
}

#[test]
fn a_final_stage_is_for_running_only() {
    let text = |from: &str, more: &str| {
        format!(
            "format: 1\ntarget: app\nstages:\n  app:\n    from: {from}\n{more}  build:\n    from: scratch\n    steps: [{{run: make}}]\n"
        )
    };
    let cases = [
        ("scratch", "", Some("names no user")),
        (
            "scratch",
            "    config: {user: root}\n",
            Some("runs as root"),
        ),
        (
            "scratch",
            "    config: {user: '0:5'}\n",
            Some("runs as root"),
        ),
        ("scratch", "    config: {user: '5'}\n", None),
        ("scratch", "    allow: [root]\n", None),
        ("oci:base", "", None),
        (
            "scratch",
            "    users: [{name: toor, uid: 0}]\n    config: {user: toor}\n",
            Some("runs as root"),
        ),
        (
            "scratch",
            "    users: [{name: app, uid: 7}]\n    config: {user: app}\n",
            None,
        ),
        ("oci:base", "    config: {user: app}\n", None),
        (
            "build",
            "    config: {user: '5'}\n",
            Some("is built from \"build\", which runs commands"),
        ),
    ];
    for (from, more, expected) in cases {
        match (try_plan(&text(from, more), None, &[]), expected) {
            (Ok(_), None) => {}
            (Err(found), Some(expected)) => assert!(shown(&found).contains(expected), "{found}"),
            (Ok(_), Some(expected)) => panic!("{from} {more}: nothing says {expected}"),
            (Err(found), None) => panic!("{from} {more}: {found}"),
        }
    }
}

#[test]
fn tags_need_an_image() {
    let found = problems("format: 1\ntags: ['1']\nstages: {s: {from: scratch, allow: [root]}}\n");
    assert!(found.contains("no image that they belong to"), "{found}");
}

#[test]
fn a_user_can_come_from_the_base() {
    let text = |more: &str| {
        format!(
            "format: 1\ntarget: app\nstages:\n  mid: {{from: 'oci:base'{more}}}\n  app: {{from: mid}}\n  free: {{from: mid, allow: [root]}}\n"
        )
    };
    let judged = |text: &str, target: &str, user: &str| {
        let plan = try_plan(text, Some(target), &[]).unwrap();
        final_user(&plan, user).is_some()
    };
    for (user, is_root) in [
        ("", true),
        ("root", true),
        ("0", true),
        ("0:5", true),
        ("root:app", true),
        ("000", true),
        ("+0", true),
        (":5", true),
        ("node", false),
        ("1000:0", false),
    ] {
        assert_eq!(judged(&text(""), "app", user), is_root, "{user:?}");
        assert!(!judged(&text(""), "free", user), "{user:?}");
        // What the name turned out to be counts, whoever wrote it.
        let named = text(", config: {user: app}");
        assert_eq!(judged(&named, "app", user), is_root, "{user:?}");
    }
}

#[test]
fn working_directories_are_inherited() {
    let text = |base: &str, middle: &str, top: &str| {
        format!(
            "format: 1\ntarget: top\nstages:\n  mid: {{from: {base}{middle}}}\n  top: {{from: mid, allow: [root]{top}, steps: [{{copy: x}}]}}\n"
        )
    };
    for (base, middle, top, workdir, title) in [
        ("scratch", "", "", "/", "copy x -> /"),
        ("scratch", ", workdir: /a", "", "/a", "copy x -> /a"),
        (
            "scratch",
            ", config: {workdir: /c}",
            "",
            "/c",
            "copy x -> /c",
        ),
        (
            "scratch",
            ", workdir: /a, config: {workdir: /c}",
            "",
            "/c",
            "copy x -> /c",
        ),
        (
            "scratch",
            ", workdir: /a",
            ", workdir: /b",
            "/b",
            "copy x -> /b",
        ),
        (
            "scratch",
            "",
            ", workdir: /b, config: {workdir: /c}",
            "/b",
            "copy x -> /b",
        ),
        ("'oci:base'", ", workdir: /a", "", "/a", "copy x -> /a"),
        // Only the image knows: the plan says what was written.
        ("'oci:base'", "", "", "/img", "copy x -> ."),
    ] {
        let plan = planned(&text(base, middle, top));
        let stage = plan.target_stage();
        let found = stage.workdir(Some("/img")).unwrap();
        assert_eq!(found.as_str(), workdir, "{middle} {top}");
        assert_eq!(stage.layers[0].title, title, "{middle} {top}");
    }
    let plan = planned(&text("'oci:base'", "", ""));
    for (of_base, expected) in [
        (None, Some("/")),
        (Some(""), Some("/")),
        (Some("app/"), Some("/app")),
        (Some("/a/../../b"), None),
        (Some("a\0"), None),
    ] {
        let found = plan.target_stage().workdir(of_base).ok();
        let found = found.as_ref().map(|path| path.as_str());
        assert_eq!(found, expected, "{of_base:?}");
    }
}

#[test]
fn titles_are_short_and_say_nothing_of_the_machine() {
    let long = "x".repeat(300);
    let many: Vec<String> = (0..40).map(|n| format!("file-{n}.txt")).collect();
    let many = format!("{{copy: [{}], to: /m/}}", many.join(", "));
    let steps = [
        "{copy: [package.json, package-lock.json]}",
        "{copy: /x, from: 'oci:/home/me/base:1', to: sub/}",
        "{copy: /x, from: 'oci-archive:/home/me/base.tar', to: /x}",
        "{write: etc/conf, text: x}",
        "{write: \"/a\\nb\\e[31m\", text: x}",
        "{mkdir: [a, /b]}",
        "{link: l, target: ../t}",
        "{remove: [tmp/*, /var/x]}",
        &many,
        &format!("{{mkdir: /{}/{}}}", &long[..200], &long[..200]),
    ];
    let text = format!(
        "format: 1\nstages:\n  s:\n    from: scratch\n    workdir: /app\n    allow: [root]\n    steps:\n{}",
        steps.map(|step| format!("      - {step}\n")).concat()
    );
    let plan = planned(&text);
    let titles: Vec<&str> = plan
        .target_stage()
        .steps()
        .map(|step| step.title.as_str())
        .collect();
    assert!(titles.iter().all(|title| title.chars().count() <= 160));
    insta::assert_snapshot!(titles.join("\n"));
    // Where the image lies is no input of the image.
    let moved = planned(&text.replace("/home/me/", "/elsewhere/"));
    let others: Vec<&str> = moved
        .target_stage()
        .steps()
        .map(|step| step.title.as_str())
        .collect();
    assert_eq!(titles, others);
    // A dry run says it, though.
    assert!(plan.to_string().contains("(oci:/home/me/base:1)"), "{plan}");
}

#[test]
fn the_place_of_a_stage_in_the_file_means_nothing() {
    let lines = [
        "top: scratch left right",
        "left: root",
        "right: root",
        "root: scratch",
    ];
    let expected = planned(&stages(&lines)).to_string();
    for turn in 1..lines.len() {
        let mut turned = lines;
        turned.rotate_left(turn);
        assert_eq!(planned(&stages(&turned)).to_string(), expected);
    }
}

#[test]
fn thousands_of_stages_are_planned_in_no_time() {
    let most = 8_000;
    let spec = |next: fn(usize) -> usize, last: &str| {
        let stages: String = (0..most)
            .map(|place| format!("  s{place}: {{from: s{}}}\n", next(place)))
            .collect();
        let text = format!("format: 1\ntarget: s0\nstages:\n{stages}  s8000: {{from: {last}}}\n");
        try_parse(&text).unwrap()
    };
    let chain = spec(|place| place + 1, "scratch, config: {user: '5'}");
    let plan = plan_of(&chain, None, &[]).unwrap();
    assert_eq!(plan.stages.len(), most + 1);
    let circle = plan_of(&spec(|place| place + 1, "s0"), None, &[]).unwrap_err();
    assert_eq!(circle.len(), 1);
    let shown = shown(&circle);
    assert!(
        shown.contains("-> s19 -> 7981 more -> s0") && shown.len() < 2_000,
        "{shown}"
    );
    let unknown = spec(|place| place + 9_000, "scratch");
    assert_eq!(plan_of(&unknown, None, &[]).unwrap_err().len(), 100);
}

#[test]
fn a_profile_speaks_for_the_target_and_for_no_other_stage() {
    let text = "
format: 1
image: acme/app
target: runtime
profiles:
  dev: {target: debug, user: '2:2', env: {A: dev}}
  root: {user: root}
  lost: {target: runtme}
stages:
  debug: {from: runtime, config: {env: {A: debug}}}
  runtime: {from: scratch, config: {user: '1:1', env: {A: runtime}}}
";
    let plan_for = |profile, target| plan_of(&parse_for(profile, text).unwrap(), target, &[]);
    let said = |plan: &Plan| {
        let of_stage = |stage: &PlannedStage| {
            let config = &stage.stage.config;
            let user = config.user.as_ref().map(ToString::to_string);
            let env = config.env.iter().map(|one| one.value.resolve(|_| None));
            format!("{} {user:?} {:?}", stage.name(), env.collect::<Vec<_>>())
        };
        plan.stages.iter().map(of_stage).collect::<Vec<_>>()
    };
    let runtime = "runtime Some(\"1:1\") [\"runtime\"]";
    assert_eq!(said(&plan_for(None, None).unwrap()), [runtime]);
    // The target of the profile goes before the spec's, and the caller's before both.
    let dev = plan_for(Some("dev"), None).unwrap();
    assert_eq!(
        said(&dev),
        [runtime, "debug Some(\"2:2\") [\"debug\", \"dev\"]"]
    );
    assert_eq!(
        dev.to_string().lines().next(),
        Some("image docker.io/acme/app:latest for linux/amd64, profile dev")
    );
    let caller = plan_for(Some("dev"), Some("runtime")).unwrap();
    assert_eq!(
        said(&caller),
        ["runtime Some(\"2:2\") [\"runtime\", \"dev\"]"]
    );
    // The rules for a final stage judge what is in effect, at the place that says it.
    let root = shown(&plan_for(Some("root"), None).unwrap_err());
    assert!(
        root.contains("boxwright.yaml:7:16: the image runs as root"),
        "{root}"
    );
    let lost = shown(&plan_for(Some("lost"), None).unwrap_err());
    assert!(
        lost.contains("8:18: there is no stage \"runtme\""),
        "{lost}"
    );
    assert!(lost.contains("did you mean \"runtime\"?"), "{lost}");
}
