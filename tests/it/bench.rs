//! `boxwright bench`: every scenario is run for real; the numbers are never judged.

use std::fs;

use serde_json::Value;

use crate::support::sandbox::Sandbox;

fn prepared() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.file(
        "app/boxwright.yaml",
        "format: 1\nimage: test/bench\ncontext: ctx\nstages:\n  app:\n    from: scratch\n    \
         allow: [root]\n    steps:\n      - {copy: package.json, to: /app/}\n      - {copy: src, to: /app/src/}\n",
    );
    sandbox.file("app/ctx/package.json", "{}");
    sandbox.file("app/ctx/.dockerignore", "secret\n");
    sandbox.file("app/ctx/secret", "not copied");
    for n in 0..40 {
        let text = format!("export const n = {n};\n").repeat(2000);
        sandbox.file(&format!("app/ctx/src/f{n}.js"), text);
    }
    sandbox.file("app/ctx/src/small.js", "x\n");
    sandbox.file("app/ctx/src/large.bin", vec![7; 5 << 20]);
    sandbox
}

/// All files of the context with their contents.
fn contents(sandbox: &Sandbox) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for folder in ["app/ctx", "app/ctx/src"] {
        for entry in fs::read_dir(sandbox.path(folder)).expect("list") {
            let path = entry.expect("list").path();
            if path.is_file() {
                all.push((path.display().to_string(), fs::read(&path).expect("read")));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn scenarios_are_run_and_what_is_reused_is_told() {
    let sandbox = prepared();
    let before = contents(&sandbox);
    let args = [
        "bench",
        "app",
        "--runs",
        "1",
        "--json",
        "--html",
        "page.html",
    ];
    let ran = sandbox.boxwright(args).ok();
    assert_eq!(contents(&sandbox), before);
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(report["files"], 43, "{report}");
    let lines = report["lines"].as_array().expect("lines");
    let line = |scenario: &str| {
        let found = lines.iter().find(|line| line["scenario"] == scenario);
        found.unwrap_or_else(|| panic!("no {scenario} in {report}"))
    };
    let sum = |scenario: &str, field: &str| -> u64 {
        let layers = line(scenario)["layers"].as_array().expect("layers");
        layers
            .iter()
            .filter_map(|layer| layer[field].as_u64())
            .sum()
    };
    assert_eq!(sum("cold", "compressed"), sum("cold", "bytes"));
    assert_eq!(sum("unchanged", "compressed"), 0);
    for changed in ["small_file", "largest_file"] {
        let (made, all) = (sum(changed, "compressed"), sum(changed, "bytes"));
        assert!(0 < made && made < all, "{changed}: {made} of {all}");
        assert!(sum(changed, "frames_reused") > 0, "{changed}");
    }
    // Only the small layer of the dependency file is made again.
    assert!(sum("dependencies", "compressed") < 8192);
    assert!(
        line("dependencies")["changed"]
            .as_str()
            .is_some_and(|file| file.ends_with("ctx/package.json"))
    );
    assert!(
        lines
            .iter()
            .all(|line| line["wall"]["median"].as_f64().is_some_and(|s| s > 0.0))
    );
    let page = fs::read_to_string(sandbox.path("page.html")).expect("a page");
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(page.contains("app/boxwright.yaml") && !page.contains("http"));
}

#[test]
fn other_tools_do_the_same_or_are_left_out_with_a_reason() {
    let sandbox = prepared();
    let args = ["bench", "app", "--runs", "1", "--against", "umoci,docker"];
    let ran = sandbox.boxwright(args).ok();
    for tool in ["umoci", "docker"] {
        assert!(ran.stdout.contains(tool), "{}", ran.stdout);
    }
    assert!(ran.stdout.contains("it keeps no cache") || ran.stdout.contains("not installed"));
}

#[test]
fn a_spec_that_cannot_be_built_is_an_error_before_anything_is_measured() {
    let sandbox = Sandbox::new();
    sandbox.file("boxwright.yaml", "format: 1\nimage: a\nstages: {}\n");
    let ran = sandbox.boxwright(["bench"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
}

#[test]
fn a_report_takes_the_place_of_no_input() {
    let sandbox = prepared();
    let spec = fs::read(sandbox.path("app/boxwright.yaml")).expect("a spec");
    let args = ["bench", "app", "--html", "app/boxwright.yaml"];
    let ran = sandbox.boxwright(args).fails_with(1);
    assert!(ran.stderr.contains("would take the place of"), "{ran:?}");
    assert_eq!(
        fs::read(sandbox.path("app/boxwright.yaml")).expect("a spec"),
        spec
    );
}
