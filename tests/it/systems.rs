//! The systems of `specs/systems`: eleven real services, built, started and judged as their owners
//! want them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::peers::{Skip, peer, require_root, required};
use crate::support::process::run_within;
use crate::support::sandbox::Sandbox;

/// So long may it take to build the bases, or all services.
const PATIENCE: Duration = Duration::from_secs(1500);

/// The bases of the services, without those of their stacks.
const BASES: [&str; 7] = [
    "node-build",
    "node",
    "node-images",
    "node18-build",
    "node18",
    "python-build",
    "python",
];

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn are_in_both_workspaces() {
    let sandbox = Sandbox::new();
    for name in ["boxwright.workspace.yaml", "local.workspace.yaml"] {
        let file = checkout().join("specs/systems").join(name);
        let file = file.display().to_string();
        let args = ["build", "-w", &file, "-o", "oci:all", "--dry-run", "--json"];
        let plans: Value =
            serde_json::from_str(&sandbox.boxwright(args).ok().stdout).expect("JSON");
        assert_eq!(plans.as_array().map(Vec::len), Some(13), "{name}");
    }
}

#[test]
fn no_lock_file_says_where_its_packages_were_fetched() {
    let mut ahead = vec![checkout().join("testdata/systems")];
    let mut seen = 0;
    while let Some(folder) = ahead.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                ahead.push(path);
            } else if path.ends_with("package-lock.json") {
                let lock = fs::read_to_string(&path).expect("a lock");
                let lock: Value = serde_json::from_str(&lock).expect("JSON");
                for (name, package) in lock["packages"].as_object().expect("packages") {
                    let from = package["resolved"].as_str().unwrap_or_default();
                    // Parts of the same folder are linked by their path.
                    assert!(!from.contains("://"), "{}: {name}", path.display());
                }
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 11);
}

/// Makes the bases, unless they are there from an earlier run.
fn make_bases(sandbox: &Sandbox) -> Result<(), Skip> {
    required("mmdebstrap")?;
    required("npm")?;
    let folder = checkout().join("specs/bases");
    let mut fetch = sandbox.command(folder.join("fetch"));
    let fetched = run_within(PATIENCE, &mut fetch);
    if fetched.code != 0 {
        let last = fetched.stderr.lines().last().unwrap_or_default().to_owned();
        return Err(Skip::because(format!("packages cannot be fetched: {last}")));
    }
    let mut make = sandbox.command(folder.join("make"));
    make.args(BASES);
    make.env("BOXWRIGHT", env!("CARGO_BIN_EXE_boxwright"));
    make.env("BOXWRIGHT_STORE", sandbox.path("store"));
    run_within(PATIENCE, &mut make).ok();
    Ok(())
}

/// Every service is built cold and warm, measured, started in the own sandbox on a root that can be
/// written and on one that cannot, asked, looked at and stopped, and held against its owners' figures.
#[test]
fn are_accepted() {
    peer!(require_root("this test"));
    let sandbox = Sandbox::new();
    peer!(make_bases(&sandbox));
    let workspace = checkout().join("specs/systems/local.workspace.yaml");
    let workspace = workspace.display().to_string();
    let args = [
        "verify",
        "-w",
        &workspace,
        "--require",
        "start",
        "--runner",
        "sandbox",
    ];
    let secret = "JWT_SECRET=0123456789abcdef0123456789abcdef";
    let key = "API_KEY=0123456789abcdef0123456789abcdef";
    let told = [
        "-e",
        secret,
        "-e",
        key,
        "-e",
        "STRIPE_WEBHOOK_SECRET=whsec_x",
    ];
    // The third build is tried by other tests: time is dear here.
    let more = ["--skip", "rebuild", "--markdown", "table.md", "--json"];
    let args: Vec<&str> = args.into_iter().chain(told).chain(more).collect();
    let ran = run_within(PATIENCE, &mut sandbox.boxwright_command(&args));
    let all: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let all = all.as_array().expect("a list");
    assert_eq!(all.len(), 13);
    let judgements = all.iter().flat_map(|one| {
        let judgements = one["judgements"].as_array().expect("judgements");
        judgements
            .iter()
            .map(|judgement| (&one["figures"]["spec"], judgement))
    });
    let failed = judgements.filter(|(_, judgement)| judgement["verdict"] == "failed");
    // How long something takes is the machine's affair as well: it is told, and stops nobody.
    let times = ["cold_build", "warm_build", "start", "health"];
    let is_late = |judgement: &Value| {
        times.iter().any(|time| judgement["subject"] == *time) && !judgement["percent"].is_null()
    };
    let (late, failed): (Vec<_>, Vec<_>) = failed.partition(|(_, judgement)| is_late(judgement));
    assert!(failed.is_empty(), "{failed:#?}\n{}", ran.stderr);
    for (spec, judgement) in late {
        eprintln!("later than its owners want: {spec}: {judgement}");
    }
    let table = fs::read_to_string(sandbox.path("table.md")).expect("a table");
    assert!(table.contains("13 images, "), "{table}");
}
