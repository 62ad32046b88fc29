//! Commands that are stopped: by a person, by the system, by another stage's failure. What was
//! running is gone then, and nothing of it is left.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::support::busybox;
use crate::support::peers::{Skip, may_mount, peer};
use crate::support::sandbox::Sandbox;

/// A sandbox with the busybox base in it, on a machine where commands can run.
fn prepared(stages: &str) -> Result<Sandbox, Skip> {
    if !may_mount() {
        return Err(Skip::because("nothing can be mounted here"));
    }
    let sandbox = Sandbox::new();
    busybox::base()?.write_layout(&sandbox.path("base"), "v1");
    sandbox.file(
        "boxwright.yaml",
        format!("format: 1\nimage: test/stopped\ntarget: final\nstages:\n{stages}"),
    );
    Ok(sandbox)
}

const BUILD: [&str; 7] = [
    "build",
    "--store",
    "store",
    "-o",
    "oci:out:v1",
    "--jobs",
    "4",
];

/// The processes whose arguments have `mark` in them.
fn marked(mark: &str) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("list processes");
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let has_mark = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|bytes| {
            bytes
                .windows(mark.len())
                .any(|part| part == mark.as_bytes())
        })
    };
    numbers.filter(has_mark).collect()
}

/// Waits for something that takes a moment.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_clean(sandbox: &Sandbox, mark: &str) {
    wait_for("a process is left", || marked(mark).is_empty());
    let scratch = sandbox.path("store/scratch");
    wait_for("a scratch directory is left", || {
        fs::read_dir(&scratch).map_or(0, Iterator::count) == 0
    });
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let root = sandbox.root().display().to_string();
    assert!(!mounts.contains(&root), "{mounts}");
}

#[test]
fn whoever_ends_a_build_ends_its_commands() {
    // The numbers tell the commands of this test from all others.
    for (signal, whom, mark) in [
        (Signal::INT, "group", "86431"),
        (Signal::TERM, "builder", "86432"),
        (Signal::KILL, "builder", "86433"),
        (Signal::HUP, "builder", "86434"),
    ] {
        let stages = format!(
            "  final:\n    from: oci:base:v1\n    allow: [root, build-stage]\n    steps:\n      \
             - run: (trap '' INT TERM HUP; sleep {mark}) & sleep {mark}\n"
        );
        let sandbox = peer!(prepared(&stages));
        let mut command = sandbox.boxwright_command(BUILD);
        command
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut build = command.spawn().expect("start a build");
        wait_for("the command does not start", || marked(mark).len() >= 2);
        let pid = Pid::from_child(&build);
        match whom {
            // As a terminal does.
            "group" => kill_process_group(pid, signal),
            _ => kill_process(pid, signal),
        }
        .expect("send a signal");
        let status = build.wait().expect("the build ends");
        assert!(!status.success());
        is_clean(&sandbox, mark);
        assert!(!sandbox.path("out").exists());
    }
}

#[test]
fn a_stage_that_fails_stops_the_commands_of_the_others() {
    let mark = "86435";
    let stages = format!(
        "  slow:\n    from: oci:base:v1\n    steps:\n      - run: sleep {mark}\n  \
         bad:\n    from: oci:base:v1\n    steps:\n      - run: sleep 1; echo no good; exit 3\n  \
         final:\n    from: scratch\n    allow: [root]\n    steps:\n      \
         - {{copy: /etc, from: slow}}\n      - {{copy: /etc, from: bad}}\n"
    );
    let sandbox = peer!(prepared(&stages));
    // It would be a day until the slow one had ended.
    let ran = sandbox.boxwright(BUILD).fails_with(1);
    assert!(ran.stderr.contains("exit code 3"), "{}", ran.stderr);
    assert!(ran.stderr.contains("no good"), "{}", ran.stderr);
    is_clean(&sandbox, mark);
}
