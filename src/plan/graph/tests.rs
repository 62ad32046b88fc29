//! Specs as text, and the plan or the problems that they give.

use super::*;
use crate::plan::stage::{ContextId, Source, StageBase};
use crate::spec::{ParseInputs, parse};

fn try_plan(
    text: &str,
    target: Option<&str>,
    contexts: &[(&str, &str)],
) -> Result<Plan, Diagnostics> {
    let platform: Platform = "linux/amd64".parse().unwrap();
    let source = Arc::new(SourceText::new("boxwright.yaml", text));
    let spec = parse(
        &source,
        &ParseInputs {
            arg_overrides: &[],
            platform: &platform,
        },
    )
    .unwrap();
    let contexts = contexts
        .iter()
        .map(|(name, path)| ((*name).to_owned(), PathBuf::from(path)))
        .collect();
    plan(
        &spec,
        &PlanInputs {
            target,
            contexts: &contexts,
            platform: &platform,
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
    for (lines, expected) in [
        (&["a: a"][..], "stage \"a\" uses itself"),
        (&["a: b", "b: a"][..], "a -> b -> a"),
        (
            &["t: a", "a: b", "b: scratch c", "c: a"][..],
            "a -> b -> c -> a",
        ),
    ] {
        let found = problems(&stages(lines));
        assert!(found.contains(expected), "{found}");
    }
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
fn what_cannot_be_done_yet_is_said_for_needed_stages_only() {
    let text = |used: &str| {
        format!(
            "format: 1\ntarget: app\nstages:\n  app:\n    from: {used}\n    allow: [root, build-stage]\n  build:\n    from: docker.io/library/node:20\n    steps: [{{run: make}}, {{add: 'https://example.org/x', checksum: 'sha256:{}'}}]\n",
            "0".repeat(64)
        )
    };
    planned(&text("scratch"));
    let found = problems(&text("build"));
    for expected in [
        "cannot run commands yet",
        "cannot fetch URLs yet",
        "cannot pull from registries yet",
    ] {
        assert!(found.contains(expected), "{expected}: {found}");
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
