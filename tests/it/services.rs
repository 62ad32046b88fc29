//! Images started in Boxwright's own sandbox by `boxwright verify`: what they find inside, what is
//! said of them, and what is left. As root and as a plain user with ranges of ids; podman is asked
//! for its opinion of the same images.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::acceptance::{nothing_is_left, prepared, with_verdict, write};
use crate::support::peers::{Podman, Skip, may_mount, on_path, peer};
use crate::support::plain_user::{as_plain_user, give_away};
use crate::support::process::{Ran, run, run_within};
use crate::support::sandbox::Sandbox;

/// Who verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    /// With ranges of ids.
    Plain,
}

/// Everybody who can start services here.
fn everybody() -> Vec<Who> {
    match on_path("newuidmap").and(on_path("setpriv")) {
        Some(_) => vec![Who::Root, Who::Plain],
        None => {
            Skip::missing("newuidmap").report();
            vec![Who::Root]
        }
    }
}

fn ready() -> Result<Sandbox, Skip> {
    if !may_mount() {
        return Err(Skip::because("root is needed to be everybody"));
    }
    prepared()
}

fn command(sandbox: &Sandbox, who: Who, args: &[&str]) -> Command {
    if who == Who::Root {
        return sandbox.boxwright_command(args);
    }
    give_away(sandbox.root());
    let plain = as_plain_user(env!("CARGO_BIN_EXE_boxwright"));
    let mut command = sandbox.command(plain.get_program());
    command.args(plain.get_args()).args(args);
    command
}

fn verify(sandbox: &Sandbox, who: Who, folder: &str, more: &[&str]) -> (Ran, Value) {
    let args = [&["verify", folder, "--json"], more].concat();
    let ran = run(&mut command(sandbox, who, &args));
    let json: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    (ran, json[0].clone())
}

const OWN: [&str; 2] = ["--runner", "sandbox"];

/// What is said about a subject of a report.
fn notes(report: &Value, subject: &str) -> String {
    let judgements = report["judgements"].as_array().expect("judgements");
    let found = judgements.iter().find(|one| one["subject"] == subject);
    found.expect("the subject")["notes"].to_string()
}

/// The service with a script in place of what it runs.
fn script(text: &str) -> (&'static str, String) {
    let words = serde_json::to_string(&["sh", "-c", text]).expect("words");
    ("entrypoint: [/bin/serve]", format!("entrypoint: {words}"))
}

/// Writes a variant whose changes are not all literals.
fn write_owned(sandbox: &Sandbox, folder: &str, changes: &[(&str, String)]) {
    let changes: Vec<(&str, &str)> = changes.iter().map(|(a, b)| (*a, b.as_str())).collect();
    write(sandbox, folder, &changes);
}

#[test]
fn a_service_that_keeps_its_promises_is_accepted() {
    let sandbox = peer!(ready());
    write(&sandbox, "app", &[]);
    // Whoever listens on the machine is in nobody's way.
    let _taken = TcpListener::bind("127.0.0.1:8080");
    for who in everybody() {
        // auto takes it without asking for anything else.
        let (ran, report) = verify(&sandbox, who, "app", &["--require", "start"]);
        assert_eq!(ran.code, 0, "{who:?}: {ran:?}");
        assert_eq!(with_verdict(&report, "failed"), [] as [&str; 0]);
        assert_eq!(with_verdict(&report, "skipped"), [] as [&str; 0]);
        let figures = &report["figures"];
        assert_eq!(
            figures["runner"], "Boxwright's own sandbox (tier A)",
            "{ran:?}"
        );
        assert_eq!(figures["run"]["user"]["inside"], 1001);
        assert_eq!(figures["run"]["stop"]["code"], 0);
        assert_eq!(figures["run"]["read_only"]["state"], "works");
        let said = "Images are started with Boxwright's own sandbox (tier A).\n";
        assert!(ran.stderr.starts_with(said), "{ran:?}");
        nothing_is_left(&sandbox);
    }
}

/// A spec whose process tells what it finds in one line of words.
const TELLS: &str = "echo id $(id -u):$(id -g):$(id -G) in $(pwd) pid $$ umask $(umask) home $HOME \
    name $(hostname) path $PATH said $SAID mode $MODE \
    caps $(sed -n 's/^CapBnd:.//p' /proc/self/status) held $(sed -n 's/^CapEff:.//p' /proc/self/status) \
    nnp $(sed -n 's/^NoNewPrivs:.//p' /proc/self/status) ign $(sed -n 's/^SigIgn:.//p' /proc/self/status) \
    devices $(ls /dev) net $(ls /sys/class/net) procs $(ls -d /proc/[0-9]* | wc -l) \
    volume $(stat -c %u:%g:%a /data /made) shm $(touch /dev/shm/a && echo ok) \
    in $(wc -c < /dev/stdin) hosts $(stat -c %a /etc/hosts) $(cat /etc/hostname); exit 7";

#[test]
fn a_service_finds_what_a_container_has() {
    let sandbox = peer!(ready());
    let config = "    config:\n      workdir: /srv/app\n      volumes: [/data, /made]\n      env: {SAID: image, MODE: image}\n";
    let users = "groups: [{name: logs, gid: 2002}]\n    users: [{name: web, uid: 1001, home: /home/web, groups: [logs]}]";
    let changes = [
        ("    config:\n", config.to_owned()),
        ("users: [{name: web, uid: 1001}]", users.to_owned()),
        (
            "    steps:\n",
            "    steps:\n      - {mkdir: /data, owner: web, mode: \"0750\"}\n".to_owned(),
        ),
        script(TELLS),
    ];
    write_owned(&sandbox, "app", &changes);
    for who in everybody() {
        let more = [&OWN[..], &["--env", "MODE=typed"]].concat();
        let mut command = command(
            &sandbox,
            who,
            &[&["verify", "app", "--json"], &more[..]].concat(),
        );
        // A umask that would close what is made for the service.
        let umask = "umask 077 && exec \"$0\" \"$@\"";
        let mut shell = sandbox.command("sh");
        shell.args(["-c", umask]).arg(command.get_program());
        shell.args(command.get_args());
        command = shell;
        let ran = run(&mut command);
        let json: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
        let told = notes(&json[0], "health");
        for expected in [
            "exit code 7: id 1001:1001:1001 2002 in /srv/app pid 1 umask 0022 home /home/web name boxwright",
            "path /usr/sbin:/usr/bin:/sbin:/bin said image mode typed",
            // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE,
            // SYS_CHROOT, SETFCAP: podman's.
            "caps 00000000800405fb held 0000000000000000 nnp 1 ign 0000000000000000",
            "devices fd full null ptmx pts random shm stderr stdin stdout tty urandom zero net lo procs",
            "volume 1001:1001:750 0:0:755 shm ok in 0 hosts 644 boxwright",
        ] {
            assert!(told.contains(expected), "{who:?}: {expected}\n{told}");
        }
        nothing_is_left(&sandbox);
    }
}

/// An image, and which subjects must fail.
struct Case {
    name: &'static str,
    changes: Vec<(&'static str, String)>,
    failing: &'static [&'static str],
    /// What is said about the first of them.
    note: &'static str,
}

impl Case {
    fn of(
        name: &'static str,
        changes: Vec<(&'static str, String)>,
        failing: &'static [&'static str],
        note: &'static str,
    ) -> Case {
        Case {
            name,
            changes,
            failing,
            note,
        }
    }
}

const TEST: &str =
    "{test: [wget, -q, -O, /dev/null, \"http://127.0.0.1:8080/health\"], timeout: 5s}";
const ENTRYPOINT: &str = "entrypoint: [/bin/serve]";

/// Images of all kinds, good and bad.
fn cases() -> Vec<Case> {
    let to = |from, to: &str| (from, to.to_owned());
    let volumes = "entrypoint: [/bin/serve]\n      volumes: [/data, /srv/more]";
    let root = || {
        vec![
            to("user: web", "user: root"),
            to("    users:", "    allow: [root]\n    users:"),
        ]
    };
    let silent = to("/health\"]", "/nothing\"]");
    vec![
        Case::of("good", vec![], &[], ""),
        Case::of("root", root(), &["user"], ""),
        Case::of("silent", vec![silent.clone()], &["health"], ""),
        Case::of(
            "slow",
            vec![to(TEST, "{test: [sleep, \"60\"], timeout: 200ms}")],
            &["health"],
            "timeout",
        ),
        Case::of(
            "no-test",
            vec![to(TEST, "{test: [no-such-program]}")],
            &["health"],
            "",
        ),
        Case::of(
            "unasked",
            vec![to(&format!("\n      healthcheck: {TEST}").leak()[..], "")],
            &[],
            "",
        ),
        Case::of(
            "shell",
            vec![to(
                "[wget, -q, -O, /dev/null, \"http://127.0.0.1:8080/health\"]",
                "wget -qO- http://localhost:8080/health | grep -q ok",
            )],
            &[],
            "",
        ),
        Case::of(
            "deaf",
            vec![to(
                ENTRYPOINT,
                "entrypoint: [httpd, -f, -p, \"8080\", -h, /srv]",
            )],
            &["stop"],
            "",
        ),
        Case::of(
            "quits",
            vec![
                to(
                    ENTRYPOINT,
                    "entrypoint: [/bin/serve]\n      stop_signal: SIGQUIT",
                ),
                to("copy: serve", "copy: quit"),
            ],
            &[],
            "",
        ),
        Case::of(
            "ends",
            vec![script("echo told >&2; exit 3")],
            &["health"],
            "exit code 3: told",
        ),
        Case::of(
            "killed",
            vec![script("kill -9 -1; sh -c 'kill -9 $$'; exit $?")],
            &["health"],
            "exit code 137",
        ),
        Case::of(
            "missing",
            vec![to("[/bin/serve]", "[/bin/servant]")],
            &["start"],
            "/bin/servant",
        ),
        Case::of(
            "writes",
            vec![
                to("/srv/health, text: ok", "/srv/health, text: ok, owner: web"),
                script("echo ok > /srv/health && exec /bin/serve"),
            ],
            &["read_only"],
            "Read-only file system",
        ),
        Case::of(
            "writes-to-tmp",
            vec![script("echo ok > /tmp/a && exec /bin/serve")],
            &[],
            "",
        ),
        Case::of(
            "writes-to-volumes",
            vec![
                to(ENTRYPOINT, volumes),
                to(
                    "      - {copy: serve",
                    "      - {write: /data/there, text: kept}\n      - {mkdir: /srv/more, owner: web}\n      - {copy: serve",
                ),
                to("to: /bin/serve", "to: /bin/serve2"),
                to(
                    "      - {write: /srv/health",
                    "      - {write: /bin/serve, mode: \"0755\", text: \"#!/bin/sh\\ngrep -q kept /data/there && echo a > /srv/more/a && exec /bin/serve2\\n\"}\n      - {write: /srv/health",
                ),
            ],
            &[],
            "",
        ),
    ]
}

/// For all cases with one runner, each of which takes a second or two on an idle machine.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
fn the_own_sandbox_and_podman_judge_alike() {
    let sandbox = peer!(ready());
    let mut runners: Vec<_> = everybody()
        .into_iter()
        .map(|who| (who, "sandbox"))
        .collect();
    match Podman::start() {
        Ok(_) => runners.push((Who::Root, "podman")),
        Err(skip) => skip.report(),
    }
    let cases = cases();
    let mut typed = vec!["verify", "--json", "--allow", "BW011", "--skip", "rebuild"];
    typed.extend(["--stop-timeout", "2s"]);
    for case in &cases {
        write_owned(&sandbox, case.name, &case.changes);
        let quit = "#!/bin/sh\ntrap 'exit 0' QUIT\nhttpd -f -p 8080 -h /srv &\nwait\n";
        sandbox.file(&format!("{}/ctx/quit", case.name), quit);
    }
    let mut opinions = Vec::new();
    for (who, runner) in runners {
        // podman takes its time, and every second case shows as well whether it judges alike.
        let (step, patience) = match runner {
            "podman" => (2, "10s"),
            _ => (1, "4s"),
        };
        let names = cases.iter().map(|case| case.name).step_by(step);
        let mut args = [&typed[..], &["--runner", runner, "--patience", patience]].concat();
        args.extend(names);
        let ran = run_within(PATIENCE, &mut command(&sandbox, who, &args));
        let reports: Value =
            serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
        for (number, case) in cases.iter().enumerate().step_by(step) {
            let report = &reports[number / step];
            let told = format!("{}, {who:?} with {runner}: {report:#}", case.name);
            assert_eq!(with_verdict(report, "failed"), case.failing, "{told}");
            if let Some(first) = case.failing.first() {
                assert!(notes(report, first).contains(case.note), "{told}");
            }
            let run = &report["figures"]["run"];
            let (code, user) = (&run["stop"]["code"], &run["user"]["inside"]);
            let opinion = format!("{:?} {code} {user}", with_verdict(report, "skipped"));
            match opinions.get(number) {
                None => opinions.push(opinion),
                Some(first) => assert_eq!(first, &opinion, "{told}"),
            }
        }
    }
    nothing_is_left(&sandbox);
}

#[test]
fn a_network_is_none_or_the_machines() {
    let sandbox = peer!(ready());
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("an address").port();
    let test = format!("{{test: [nc, 127.0.0.1, \"{port}\", -e, \"true\"]}}");
    write_owned(
        &sandbox,
        "app",
        &[(TEST, test), script("trap 'exit 0' TERM; sleep 600 & wait")],
    );
    for who in everybody() {
        let impatient = [&OWN[..], &["--patience", "500ms"]].concat();
        let (_, report) = verify(&sandbox, who, "app", &impatient);
        assert_eq!(with_verdict(&report, "failed"), ["health"], "{report}");
        let (ran, report) = verify(
            &sandbox,
            who,
            "app",
            &[&OWN[..], &["--network", "host"]].concat(),
        );
        assert_eq!(with_verdict(&report, "failed"), [""; 0], "{ran:?}");
        let args = [
            "verify",
            "app",
            "--network",
            "bridge",
            "--runner",
            "sandbox",
        ];
        let ran = run(&mut command(&sandbox, who, &args)).fails_with(3);
        let why = "the sandbox has no network \"bridge\", only none and host";
        assert!(ran.stderr.contains(why), "{ran:?}");
    }
}

#[test]
fn where_users_are_not_real_it_is_not_taken() {
    let sandbox = peer!(ready());
    write(&sandbox, "app", &[]);
    for (who, tier) in [(Who::Plain, "b"), (Who::Root, "c")] {
        let args = ["verify", "app", "--sandbox", tier, "--runner", "sandbox"];
        let ran = run(&mut command(&sandbox, who, &args)).fails_with(3);
        assert!(
            ran.stderr.contains("cannot start images as asked: "),
            "{ran:?}"
        );
        assert!(ran.stderr.contains("sandbox"), "{ran:?}");
    }
}

#[test]
fn a_script_without_an_interpreter_does_not_start() {
    let sandbox = peer!(ready());
    let bare = "      - {write: /bin/bare, mode: \"0755\", text: exit 0}\n      - {copy: serve";
    let changes = [
        ("      - {copy: serve", bare.to_owned()),
        (ENTRYPOINT, "entrypoint: [bare]".to_owned()),
    ];
    write_owned(&sandbox, "app", &changes);
    let more = [&OWN[..], &["--allow", "BW013"]].concat();
    let (ran, report) = verify(&sandbox, Who::Root, "app", &more);
    assert_eq!(with_verdict(&report, "failed"), ["start"], "{ran:?}");
    let why = "run /usr/bin/bare: Exec format error";
    assert!(notes(&report, "start").contains(why), "{ran:?}");
}

/// Processes whose arguments have `mark` in them.
fn marked(mark: &str) -> usize {
    let processes = fs::read_dir("/proc").expect("list processes").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines
        .filter(|line| line.windows(mark.len()).any(|part| part == mark.as_bytes()))
        .count()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn whatever_ends_the_builder_ends_the_service() {
    let sandbox = peer!(ready());
    let marks = [
        ("86511", Signal::KILL, "1h"),
        ("86512", Signal::TERM, "500ms"),
        ("86513", Signal::INT, "500ms"),
    ];
    for who in everybody() {
        for (mark, signal, timeout) in marks {
            // Processes that leave their group and session end all the same.
            let text = format!("trap '' TERM INT HUP; setsid sleep {mark} & sleep {mark} & wait");
            let test = format!(
                "{{test: [sh, -c, \"setsid sleep {mark} & sleep {mark}\"], timeout: {timeout}}}"
            );
            write_owned(&sandbox, mark, &[(TEST, test), script(&text)]);
            let args = [&["verify", mark, "--patience", "1h"], &OWN[..]].concat();
            let mut builder = command(&sandbox, who, &args);
            let mut builder = builder.spawn().expect("start");
            wait_for("the service does not start", || marked(mark) >= 5);
            kill_process(Pid::from_child(&builder), signal).expect("kill");
            let status = builder.wait().expect("wait");
            wait_for("a process is left", || marked(mark) == 0);
            wait_for("a scratch directory is left", || {
                scratch_directories(&sandbox) == 0
            });
            let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
            let root = sandbox.root().display().to_string();
            assert!(!mounts.contains(&root), "{mounts}");
            if signal != Signal::KILL {
                // A signal is waited out: even what was unpacked is gone, but for what the killed
                // ones had.
                assert_eq!(status.code(), Some(3));
                let left = fs::read_dir(sandbox.root().join("tmp")).expect("list");
                let killed = 1 + usize::from(who == Who::Plain);
                assert_eq!(left.count(), killed, "{who:?}, {mark}");
            }
        }
    }
}

/// Scratch directories of services that still hold something.
fn scratch_directories(sandbox: &Sandbox) -> usize {
    let places = fs::read_dir(sandbox.root().join("tmp"))
        .expect("list")
        .flatten();
    let scratch = places.filter_map(|place| fs::read_dir(place.path().join("o/scratch")).ok());
    scratch.map(Iterator::count).sum()
}

#[test]
fn nothing_inside_can_write_to_the_program_that_started_it() {
    let sandbox = peer!(ready());
    // The health check is the program that joins the service: what it finds as its own file.
    let test = "{test: [/proc/self/exe, serve, \"oci:/\", --listen, \"127.0.0.1:0\"], timeout: 1h}";
    // Writing is refused as long as the file is run, whose mount it may be; but its mode is not.
    // One that has ended meanwhile says nothing either way.
    let text = "while sleep 0.05; do for p in /proc/[2-9]* /proc/1[0-9]*; do \
        case $(readlink $p/exe) in *program*) \
            said=$(chmod 4777 $p/exe 2>&1) && exit 5; \
            case $said in *'No such'*) ;; *) echo \"$said\" >&2; exit 6;; esac;; \
        esac; done; done";
    let changes = [
        (TEST, test.to_owned()),
        ("user: web", "user: root".to_owned()),
        ("    users:", "    allow: [root]\n    users:".to_owned()),
        script(text),
    ];
    write_owned(&sandbox, "app", &changes);
    // A copy, in case it can.
    let program = sandbox.path("boxwright");
    fs::copy(env!("CARGO_BIN_EXE_boxwright"), &program).expect("copy");
    let mode = || fs::metadata(&program).expect("the copy").mode();
    let before = mode();
    for who in everybody() {
        let args = [
            "verify",
            "app",
            "--json",
            "--patience",
            "20s",
            "--runner",
            "sandbox",
        ];
        let mut command = match who {
            Who::Root => sandbox.command(&program),
            Who::Plain => {
                give_away(sandbox.root());
                let plain = as_plain_user(&program);
                let mut command = sandbox.command(plain.get_program());
                command.args(plain.get_args());
                command
            }
        };
        let ran = run(command.args(args));
        let json: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
        let told = notes(&json[0], "health");
        assert!(told.contains("exit code 6"), "{who:?}: {told} {ran:?}");
        assert!(told.contains("Read-only file system"), "{who:?}: {told}");
        assert_eq!(mode(), before);
    }
}
