//! Commands run for real, in each tier that this machine has: as root, and as a plain user that
//! the test makes.
//!
//! The tier's conditions are those of a process, so each job runs in one of its own: this binary
//! again, as the right user, doing the ignored test [`job_process`].

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use boxwright::sandbox::{
    Footing, Job, Limits, Mount, MountKind, Network, RunUser, SandboxSettings, Secret, Stream,
    Tier, Writes, probe, run,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::support::busybox;
use crate::support::peers::{Skip, may_mount, peer};

/// What a job's process is told, by a file that this variable names.
const ORDER: &str = "BOXWRIGHT_TEST_ORDER";
/// The user that the tests make.
const USER: &str = "boxwright-test";

/// What a job's process is to do.
#[derive(Serialize, Deserialize)]
struct Order {
    tier: Tier,
    job: Job,
    scratch: PathBuf,
    answer: PathBuf,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    footing: Option<Footing>,
    out: String,
    err: String,
    error: Option<String>,
    millis: u64,
}

/// A folder for runs, with a tree of busybox, that every user may enter.
struct Ground {
    folder: TempDir,
}

impl Ground {
    fn new() -> Result<Ground, Skip> {
        if !may_mount() {
            return Err(Skip::because("root is needed to become other users"));
        }
        let folder = tempfile::Builder::new()
            .prefix("boxwright-run-")
            .tempdir()
            .expect("make a folder");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("open the folder");
        let ground = Ground { folder };
        fs::create_dir(ground.path("tree")).expect("make a folder");
        busybox::write_tree(&ground.path("tree"))?;
        // The same as the plain user's: its one id, or the first of its range, is root there.
        let (uid, gid) = user();
        let copy = ground.path("users-tree");
        for (program, arguments) in [
            (
                "cp",
                vec!["-a".into(), ground.path("tree").into_os_string()],
            ),
            ("chown", vec!["-R".into(), format!("{uid}:{gid}").into()]),
        ] {
            let done = Command::new(program).args(arguments).arg(&copy).status();
            assert!(done.expect("start a program").success(), "{program} failed");
        }
        Ok(ground)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn job(&self, script: &str) -> Job {
        Job {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: Vec::new(),
            private_env: Vec::new(),
            user: RunUser::default(),
            home: "/root".to_owned(),
            workdir: "/".to_owned(),
            hostname: "boxwright".to_owned(),
            network: Network::Host,
            mounts: Vec::new(),
            limits: Limits::default(),
            lower: self.path("tree"),
            host_files: vec!["/etc/resolv.conf".into()],
        }
    }

    /// Runs a job in a tier, as the user that the tier is for.
    #[track_caller]
    fn run(&self, tier: Tier, job: &Job) -> Answer {
        let order = self.order(tier, job);
        let ran = self
            .process(tier, &order)
            .output()
            .expect("start the job's process");
        let text = fs::read(order.with_file_name("answer"))
            .unwrap_or_else(|_| panic!("no answer: {}", String::from_utf8_lossy(&ran.stdout)));
        let scratch = fs::read_dir(order.with_file_name("scratch")).expect("look for scratch");
        let left: Vec<_> = scratch.collect();
        assert!(left.is_empty(), "{tier:?} left something behind: {left:?}");
        serde_json::from_slice(&text).expect("read the answer")
    }

    /// Writes down what the job's process is to do.
    fn order(&self, tier: Tier, job: &Job) -> PathBuf {
        let place = self.path(&format!("{tier:?}"));
        fs::create_dir_all(&place).expect("make a folder");
        let answer = place.join("answer");
        let _ = fs::remove_file(&answer);
        let mut job = job.clone();
        if matches!(tier, Tier::RangeMap | Tier::SingleMap) {
            job.lower = self.path("users-tree");
        }
        let scratch = place.join("scratch");
        let order = Order {
            tier,
            job,
            scratch,
            answer,
        };
        let bytes = serde_json::to_vec(&order).expect("say what to do");
        fs::write(place.join("order"), bytes).expect("write the order");
        place.join("order")
    }

    fn process(&self, tier: Tier, order: &Path) -> Command {
        let this = env::current_exe().expect("find this program");
        let mut command = match tier {
            Tier::Root | Tier::Chroot => Command::new(this),
            _ => {
                let user = user();
                let place = order.parent().expect("an order lies in a folder");
                for path in [place, order] {
                    chown(path, Some(user.0), Some(user.1)).expect("give a folder away");
                }
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={}", user.0), format!("--regid={}", user.1)]);
                command
                    .args(["--clear-groups", "--inh-caps=-all"])
                    .arg(this);
                command
            }
        };
        command.args([
            "--ignored",
            "--exact",
            "run_tiers::job_process",
            "--nocapture",
        ]);
        command.env(ORDER, order);
        command
    }
}

/// Ids of the plain user, made when it is first wanted.
fn user() -> (u32, u32) {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().expect("make the user");
    let line = || {
        let passwd = fs::read_to_string("/etc/passwd").expect("read the users");
        let line = passwd
            .lines()
            .find(|line| line.starts_with(&format!("{USER}:")))?;
        let fields: Vec<&str> = line.split(':').collect();
        Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
    };
    line().unwrap_or_else(|| {
        let made = Command::new("useradd")
            .args(["--no-create-home", USER])
            .status();
        assert!(made.expect("start useradd").success(), "useradd failed");
        line().expect("the user that was made")
    })
}

/// Not a test: one job, told by a file. Others start it.
#[test]
#[ignore = "started by the other tests of this module"]
fn job_process() {
    let Some(path) = env::var_os(ORDER) else {
        return;
    };
    let order: Order = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let settings = SandboxSettings {
        program: env!("CARGO_BIN_EXE_boxwright").into(),
        scratch: order.scratch.clone(),
        letter: Some(order.tier.letter()),
    };
    let (out, err) = (Mutex::new(String::new()), Mutex::new(String::new()));
    let sink = |stream, line: &[u8]| {
        let text = match stream {
            Stream::Out => &out,
            Stream::Err => &err,
        };
        *text.lock().unwrap() += &format!("{}\n", String::from_utf8_lossy(line));
    };
    let found = probe(&settings);
    let verdict = found
        .verdicts()
        .iter()
        .find(|verdict| verdict.tier == order.tier);
    let footing = verdict.expect("the tier is tried").outcome.clone();
    let begun = std::time::Instant::now();
    let error = match &footing {
        Ok(footing) => run(&order.job, footing, &settings, &sink)
            .err()
            .map(|error| format!("{error}\n{}", error.tail().join("\n"))),
        Err(setup) => Some(format!("no footing: {setup}")),
    };
    let answer = Answer {
        footing: footing.ok(),
        out: out.into_inner().unwrap(),
        err: err.into_inner().unwrap(),
        error,
        millis: u64::try_from(begun.elapsed().as_millis()).unwrap(),
    };
    fs::write(order.answer, serde_json::to_vec(&answer).unwrap()).unwrap();
}

/// The tiers of namespaces.
const NAMESPACES: [Tier; 3] = [Tier::Root, Tier::RangeMap, Tier::SingleMap];

#[test]
fn a_command_runs_in_every_tier() {
    let ground = peer!(Ground::new());
    for tier in Tier::ALL {
        let answer = ground.run(
            tier,
            &ground.job("echo hi > /x; cat /x; echo no >&2; id -u"),
        );
        assert_eq!(answer.error, None, "{tier:?}: {answer:?}");
        assert_eq!(
            (answer.out.as_str(), answer.err.as_str()),
            ("hi\n0\n", "no\n"),
            "{tier:?}"
        );
        assert!(
            !ground.path("tree/x").exists(),
            "{tier:?} wrote to the tree"
        );
        eprintln!("{tier:?}: {} ms {:?}", answer.millis, answer.footing);
    }
}

/// What a command sees, the same in every tier: (script, what it prints).
const SEEN: &[(&str, &str)] = &[
    ("id -u; id -g", "0\n0\n"),
    ("pwd", "/\n"),
    ("umask", "0022\n"),
    ("hostname", "boxwright\n"),
    ("readlink /proc/self/fd/0", "/dev/null\n"),
    (
        "echo $HOME:$PATH:${LANG-unset}",
        "/root:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:unset\n",
    ),
    (
        "ls /dev",
        "fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n",
    ),
    ("echo a > /dev/null; head -c 2 /dev/zero | wc -c", "2\n"),
    (
        "echo a > /dev/shm/a; cat /dev/shm/a; stat -c %a /dev/shm",
        "a\n1777\n",
    ),
    ("ls /proc/self/fd", "0\n1\n2\n3\n"),
    ("test -d /proc/$$ && echo yes", "yes\n"),
    ("test -d /sys/kernel && echo yes", "yes\n"),
    ("test -s /etc/resolv.conf && echo yes", "yes\n"),
    ("mount -t tmpfs none /tmp 2>/dev/null || echo no", "no\n"),
    (
        "mkdir /d; mv /etc /d/etc; ls /d/etc; rm -r /bin/cat; ls /bin/cat 2>&1 | wc -l",
        "group\npasswd\n1\n",
    ),
    (
        "rm -r /var; mkdir /var; rmdir /var; mkdir /var && ls -a /var",
        ".\n..\n",
    ),
];

#[test]
fn commands_see_the_same_everywhere() {
    let ground = peer!(Ground::new());
    for tier in Tier::ALL {
        for (script, seen) in SEEN {
            // Tier C has neither names nor file systems of its own.
            let namespaces = ["/proc", "/sys", "ls /dev", "hostname", "mount"];
            if tier == Tier::Chroot && namespaces.iter().any(|word| script.contains(word)) {
                continue;
            }
            let mut job = ground.job(script);
            if script.contains("/etc") {
                job.host_files.retain(|_| script.contains("resolv"));
            }
            let answer = ground.run(tier, &job);
            assert_eq!(answer.error, None, "{tier:?}: {script}: {answer:?}");
            assert_eq!(answer.out, *seen, "{tier:?}: {script}: {answer:?}");
        }
    }
}

#[test]
fn a_job_says_environment_user_and_place() {
    let ground = peer!(Ground::new());
    for tier in Tier::ALL {
        let mut job =
            ground.job("echo $A $B $P; pwd; stat -c %a:%u /work /work/deep; id -u; id -g; id -G");
        job.env = vec![
            ("A".into(), "1".into()),
            ("B".into(), "2".into()),
            ("A".into(), "3".into()),
        ];
        job.private_env = vec![
            ("A".into(), Secret::new("no")),
            ("P".into(), Secret::new("proxy")),
        ];
        job.workdir = "/work/deep".into();
        job.user = RunUser {
            uid: 33,
            gid: 34,
            groups: vec![34, 35],
        };
        let answer = ground.run(tier, &job);
        // With one id there is only one.
        let ids = match tier {
            Tier::SingleMap => "0\n0\n",
            _ => "33\n34\n34 35\n",
        };
        let start = "3 2 proxy\n/work/deep\n755:0\n755:0\n";
        assert_eq!(answer.error, None, "{tier:?}");
        assert!(
            answer.out.starts_with(&format!("{start}{ids}")),
            "{tier:?}: {answer:?}"
        );
    }
}

#[test]
fn failures_say_what_happened() {
    let ground = peer!(Ground::new());
    for tier in Tier::ALL {
        let mut timed = ground.job("sleep 60 & sleep 60");
        timed.limits.timeout = Some(Duration::from_millis(300));
        let mut noisy = ground.job("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyy; done");
        noisy.limits.output = 1 << 20;
        let mut bomb = ground.job("while :; do sleep 100 & done; wait");
        bomb.limits.pids = 100;
        let mut hungry = ground.job("x=y; while :; do x=$x$x; done");
        hungry.limits.memory = Some(64 << 20);
        let mut missing = ground.job("");
        missing.argv = vec!["no-such-program".into()];
        for (job, text) in [
            (
                ground.job("echo last; exit 7"),
                "run the command: it ended with exit code 7\nlast",
            ),
            (timed, "run the command within 0 s"),
            (
                noisy,
                "run the command: it wrote more than 1048576 bytes of output",
            ),
            (bomb, "run the command with 100 processes"),
            (hungry, "run the command"),
            (
                missing,
                "start \"no-such-program\" in the stage's tree: run \"no-such-program\": No such file",
            ),
        ] {
            let answer = ground.run(tier, &job);
            let error = answer.error.clone().unwrap_or_default();
            assert!(
                error.starts_with(text),
                "{tier:?}: {:?}: {answer:?}",
                job.argv
            );
            assert!(
                answer.millis < 20_000,
                "{tier:?}: {:?}: {answer:?}",
                job.argv
            );
            eprintln!("{tier:?} {} ms: {error:.100}", answer.millis);
        }
    }
}

#[test]
fn mounts_come_and_leave_nothing() {
    let ground = peer!(Ground::new());
    let (uid, gid) = user();
    let cache = ground.path("cache");
    let bind = ground.path("bind");
    for (folder, owner) in [(&cache, Some(uid)), (&bind, Some(uid))] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), "from outside\n").unwrap();
        chown(folder, owner, Some(gid)).unwrap();
        chown(folder.join("file"), owner, Some(gid)).unwrap();
    }
    let path = |target: &str, source: &Path, writes| Mount {
        target: target.into(),
        kind: MountKind::Path {
            source: source.to_owned(),
            writes,
        },
    };
    for tier in Tier::ALL {
        let mut job = ground.job(
            "cat /mnt/deep/file /bind/file /copy/file /one; \
             cat /run/secrets/key; stat -c %a /run/secrets/key; \
             echo new > /mnt/deep/new; echo changed > /copy/file; cat /copy/file; \
             echo no 2>/dev/null > /bind/file || echo refused; \
             echo no 2>/dev/null > /one || echo refused; \
             echo t > /big/t; cat /big/t",
        );
        job.mounts = vec![
            path("/mnt/deep", &cache, Writes::Kept),
            path("/bind", &bind, Writes::Refused),
            path("/copy", &bind, Writes::Discarded),
            path("/one", &bind.join("file"), Writes::Refused),
            Mount {
                target: "/run/secrets/key".into(),
                kind: MountKind::Secret {
                    content: Secret::new("hunter2\n"),
                    mode: 0o400,
                },
            },
            Mount {
                target: "/big".into(),
                kind: MountKind::Tmpfs {
                    size: Some(1 << 20),
                },
            },
        ];
        let answer = ground.run(tier, &job);
        let line = "from outside\n";
        // In tier C what may not be written to is a copy.
        let refused = match tier {
            Tier::Chroot => "",
            _ => "refused\nrefused\n",
        };
        let seen = format!("{line}{line}{line}{line}hunter2\n400\nchanged\n{refused}t\n");
        assert_eq!(answer.error, None, "{tier:?}: {answer:?}");
        assert_eq!(answer.out, seen, "{tier:?}: {answer:?}");
        assert_eq!(fs::read_to_string(bind.join("file")).unwrap(), line);
        assert_eq!(fs::read_to_string(cache.join("new")).unwrap(), "new\n");
        fs::remove_file(cache.join("new")).unwrap();
    }
}

#[test]
fn no_network_is_a_loopback_device_and_no_more() {
    let ground = peer!(Ground::new());
    for tier in NAMESPACES {
        let mut job = ground.job(
            "ls /sys/class/net; cat /etc/hosts; \
             (echo hello | nc -l -p 7777 >/dev/null & sleep 0.2; nc 127.0.0.1 7777 </dev/null)",
        );
        job.network = Network::None;
        let answer = ground.run(tier, &job);
        let hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\tboxwright\n";
        assert_eq!(
            answer.out,
            format!("lo\n{hosts}hello\n"),
            "{tier:?}: {answer:?}"
        );
    }
}

#[test]
fn a_killed_builder_leaves_nothing() {
    let ground = peer!(Ground::new());
    for tier in Tier::ALL {
        // A name that no other process of the machine has, and one that ignores polite signals.
        let mark = format!("86{}", std::process::id());
        let script =
            format!("trap '' TERM INT HUP; busybox setsid sleep {mark} & sleep {mark}; true");
        let order = ground.order(tier, &ground.job(&script));
        let mut builder = ground
            .process(tier, &order)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until(&format!("{tier:?}: the command runs"), || {
            running(&mark) >= 2
        });
        builder.kill().unwrap();
        builder.wait().unwrap();
        wait_until(&format!("{tier:?}: the command has ended"), || {
            running(&mark) == 0
        });
        let scratch = order.with_file_name("scratch");
        let left = || {
            fs::read_dir(&scratch)
                .unwrap()
                .flatten()
                .map(|entry| entry.path())
        };
        // The lock's file and the empty folder are the next run's to sweep.
        wait_until(&format!("{tier:?}: scratch is empty"), || {
            let mut folders = left().filter(|path| path.is_dir());
            folders.all(|folder| fs::read_dir(folder).unwrap().next().is_none())
        });
        ground.run(tier, &ground.job("true"));
        assert_eq!(
            left().collect::<Vec<_>>(),
            Vec::<PathBuf>::new(),
            "{tier:?}"
        );
        assert!(
            !fs::read_to_string("/proc/mounts")
                .unwrap()
                .contains(&*ground.path("").to_string_lossy())
        );
    }
}

/// How many processes have `word` among their arguments.
fn running(word: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            line.split(|byte| *byte == 0)
                .any(|argument| argument == word.as_bytes())
        })
        .count()
}

#[track_caller]
fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    assert!(within(holds), "{what}: not within 10 s");
}

/// Whether it holds within ten seconds.
fn within(mut holds: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
