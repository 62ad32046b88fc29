//! Commands run for real, in each tier that this machine has: as root, and as a plain user that
//! the test makes.
//!
//! The tier's conditions are those of a process, so each job runs in one of its own: this binary
//! again, as the right user, doing the ignored test [`job_process`].

use std::env;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use boxwright::oci::Digest;
use boxwright::sandbox::{
    Circumstances, Footing, Job, Limits, Listed, Mount, MountKind, Network, RunUser, SandboxError,
    SandboxSettings, Secret, StopSwitch, Stream, Tier, Writes, materialize, probe, run,
};
use boxwright::store::Store;
use boxwright::tree::{Change, Changeset, Entry, LayerPath, Node, Tree};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::support::busybox;
use crate::support::peers::{Skip, may_mount, peer, required};
use crate::support::plain_user::{as_plain_user, plain_user};

/// What a job's process is told, by a file that this variable names.
const ORDER: &str = "BOXWRIGHT_TEST_ORDER";

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
    /// What it changed, a line a path.
    changes: String,
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
            lowers: vec![self.path("tree")],
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
        let job = job.clone();
        let scratch = place.join("scratch");
        let order = Order {
            tier,
            job,
            scratch,
            answer,
        };
        let bytes = serde_json::to_vec(&order).expect("say what to do");
        fs::write(place.join("order"), bytes).expect("write the order");
        fs::create_dir_all(place.join("store")).expect("make a store");
        fs::create_dir_all(place.join("scratch")).expect("make a store");
        place.join("order")
    }

    fn process(&self, tier: Tier, order: &Path) -> Command {
        let this = env::current_exe().expect("find this program");
        let mut command = match tier {
            Tier::Root | Tier::Chroot => Command::new(this),
            _ => {
                let place = order.parent().expect("an order lies in a folder");
                let (user, group) = plain_user();
                for path in [place, order, &place.join("store"), &place.join("scratch")] {
                    chown(path, Some(user), Some(group)).expect("give a folder away");
                }
                as_plain_user(this)
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
        stop: StopSwitch::default(),
        circumstances: Circumstances::Usual,
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
    let store = Store::open(&order.scratch.with_file_name("store")).unwrap();
    let tree = tree_of(&order.job.lowers[0]);
    let begun = std::time::Instant::now();
    let ran = footing
        .clone()
        .map_err(|setup| format!("no footing: {setup}"));
    let ran = ran.and_then(|footing| {
        let digest = tree.as_changes().digest().unwrap();
        let told = |error: SandboxError| format!("{error}\n{}", error.tail().join("\n"));
        let wanted = Listed {
            tree: &tree,
            digest: &digest,
        };
        let lower = materialize(wanted, &footing, &settings, &store).map_err(told)?;
        let job = Job {
            lowers: vec![lower],
            ..order.job
        };
        run(&job, &footing, &settings, &store, &sink).map_err(told)
    });
    let (changes, error) = match ran {
        Ok(outcome) => (changes(&store, &outcome.listing), None),
        Err(error) => (String::new(), Some(error)),
    };
    let answer = Answer {
        footing: footing.ok(),
        out: out.into_inner().unwrap(),
        err: err.into_inner().unwrap(),
        changes,
        error,
        millis: u64::try_from(begun.elapsed().as_millis()).unwrap(),
    };
    fs::write(order.answer, serde_json::to_vec(&answer).unwrap()).unwrap();
}

/// The tree of a folder, all root's.
fn tree_of(folder: &Path) -> Tree {
    fn below(folder: &Path, at: &LayerPath, tree: &mut Tree) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = at.join(entry.file_name().as_bytes()).unwrap();
            let (file, metadata) = (entry.path(), entry.metadata().unwrap());
            let mode = u16::try_from(metadata.mode() & 0o7777).unwrap();
            let (kind, inner) = (metadata.file_type(), path.clone());
            tree.insert(
                path,
                match (kind.is_dir(), kind.is_symlink()) {
                    (true, _) => Entry::directory(mode),
                    (_, true) => {
                        Entry::symlink(fs::read_link(&file).unwrap().as_os_str().as_bytes())
                    }
                    _ => Entry::file(fs::read(&file).unwrap(), mode),
                },
            );
            if kind.is_dir() {
                below(&file, &inner, tree);
            }
        }
    }
    let mut tree = Tree::new();
    below(folder, &LayerPath::root(), &mut tree);
    // One file that is not root's.
    let path = |text: &str| LayerPath::parse(text.as_bytes()).unwrap();
    tree.insert(path("srv"), Entry::directory(0o755));
    let owned = Entry {
        uid: 33,
        gid: 34,
        ..Entry::file("a\n", 0o640)
    };
    tree.insert(path("srv/owned"), owned);
    tree
}

/// Changes as text: kind, path, mode, owner, attributes, content or link.
fn changes(store: &Store, listing: &Digest) -> String {
    let bytes = fs::read(store.blob_path(listing)).unwrap();
    let changes = Changeset::read_listing(&bytes, 1).unwrap();
    let mut text = String::new();
    for (path, change) in changes.iter() {
        let (word, entry) = match change {
            Change::Put(entry) => ("put", Some(entry)),
            Change::Opaque(entry) => ("opaque", entry.as_ref()),
            Change::Whiteout => ("gone", None),
        };
        text += &format!("{word} {path}");
        if let Some(Entry {
            node,
            mode,
            uid,
            gid,
            xattrs,
            ..
        }) = entry
        {
            text += &format!(" {mode:o} {uid}:{gid}");
            text += &match node {
                Node::File(file) => {
                    let bytes = store.read_content(&file.content, 1 << 20).unwrap();
                    let link = file
                        .inode
                        .map_or(String::new(), |inode| format!(" inode {}", inode.number));
                    format!(" {:?}{link}", String::from_utf8_lossy(&bytes))
                }
                Node::Symlink(target) => format!(" -> {}", target.escape_ascii()),
                other => format!(" {other:?}"),
            };
            if !xattrs.is_empty() {
                text += &format!(" {xattrs:?}");
            }
        }
        text += "\n";
    }
    text
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
    (
        "busybox mount -t tmpfs none /tmp 2>/dev/null || echo no",
        "no\n",
    ),
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

/// Changes owners by the calls of a 32-bit machine, then by those of x32; prints what they return.
const OTHER_CALLS: &str = r#"
#include <stdio.h>
#include <errno.h>
#include <unistd.h>
#include <sys/syscall.h>
static const char one[] = "/one", two[] = "/two", three[] = "/three";
static long int80(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
    return result;
}
int main(void) {
    printf("%ld\n", int80(212, (long)one, 5, 6));
    printf("%ld\n", int80(16, (long)two, 7, 8));
    printf("%ld\n", int80(214, 1000, 0, 0));
    printf("%ld\n", syscall(0x40000000 | 92, three, 9, 9) < 0 ? (long)errno : 0);
}
"#;

#[test]
#[cfg(target_arch = "x86_64")]
fn owners_are_recorded_whatever_calls_a_program_makes() {
    let ground = peer!(Ground::new());
    peer!(required("gcc"));
    let (source, program) = (ground.path("calls.c"), ground.path("tree/bin/calls"));
    fs::write(&source, OTHER_CALLS).expect("write a program");
    // The calls of a 32-bit machine take addresses of 32 bits.
    let compiled = Command::new("gcc")
        .args(["-static", "-no-pie", "-o"])
        .args([&program, &source])
        .output()
        .expect("start gcc");
    let told = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{told}");
    let alone = Command::new(&program).output().expect("start the program");
    if !alone.status.success() {
        return Skip::because("this kernel has no calls of 32-bit machines").report();
    }
    let job = ground.job("touch /one /two /three; exec /bin/calls");
    let answer = ground.run(Tier::SingleMap, &job);
    assert_eq!(answer.error, None, "{answer:?}");
    let no_such_call = rustix::io::Errno::NOSYS.raw_os_error();
    assert_eq!(
        answer.out,
        format!("0\n0\n0\n{no_such_call}\n"),
        "{answer:?}"
    );
    for line in ["one 5:6", "two 7:8", "three 0:0"] {
        let (name, owner) = line.split_once(' ').expect("a name and an owner");
        let found = answer.changes.lines().find(|line| line.contains(name));
        assert!(
            found.is_some_and(|line| line.contains(owner)),
            "{line}: {}",
            answer.changes
        );
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
    let (uid, gid) = plain_user();
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
             (echo hello | nc -l -p 7777 >/dev/null & for try in 1 2 3 4 5 6 7 8 9; do \
             sleep 0.2; nc 127.0.0.1 7777 </dev/null 2>/dev/null && break; done)",
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

/// What commands change, each in a fresh tree: the same in every tier.
const CHANGES: &[&str] = &[
    // As `sed -i` and `usermod` do it: a copy with the owner that was seen takes the place.
    "cp /srv/owned /srv/new; chown $(stat -c %u:%g /srv/owned) /srv/new; mv /srv/new /srv/owned; echo b >> /srv/owned",
    "chown 0:0 /srv/owned; echo c > /srv/c; chown 0:0 /srv/c",
    "true",
    "echo hi > /x; chmod 4755 /x; ln /x /y; ln -s x /z; mkdir -p /d/e; chmod 1777 /d",
    "rm /etc/group; echo 'a:x:1:' > /etc/group; rm -r /var; touch /etc/passwd",
    "rm -r /etc; mkdir /etc; echo new > /etc/new",
    "chmod 700 /root; echo same > /tmp/a; rm /tmp/a; mkdir /tmp/b; rmdir /tmp/b",
    "echo a > /a; chown 33:34 /a; mkdir /own; chown 33:4 /own; chown 33:33 /etc/passwd",
    "ln -s /a /l; chown -h 33:34 /l; chown -h 1 /bin/sh; busybox mkfifo /p; chown 5:6 /p",
    "echo a > /a; cp /a /c; chown 33:34 /a; mv /a /b; chown 1:1 /c; chown 0:0 /c; chmod 6755 /b; chown 33:0 /b",
    "cd /tmp; echo a > a; chown 1:2 a; chown 3:4 ./a; ln -s ../tmp r; chown 7:8 r/a; chown 9:9 /var/../tmp/../tmp/a",
    "mkdir /deep; cd /deep; mkdir a; ln -s /etc a/etc; chown 5:0 a/etc/group; chown -R 44:44 /deep",
    "mkdir -p /run/x; echo a > /dev/shm/x; echo 1 > /run/x/pid; mkdir -p /opt/app; chown 100:100 /opt/app",
];

#[test]
fn a_command_changes_the_same_in_every_tier() {
    let ground = peer!(Ground::new());
    let mut all = String::new();
    for script in CHANGES {
        let mut first = None;
        for tier in Tier::ALL {
            let mut job = ground.job(script);
            // A file that something is mounted on cannot be removed.
            job.host_files.clear();
            job.mounts = vec![Mount {
                target: "/run/boxwright/ca.pem".into(),
                kind: MountKind::Secret {
                    content: Secret::new("x"),
                    mode: 0o444,
                },
            }];
            let answer = ground.run(tier, &job);
            assert_eq!(answer.error, None, "{tier:?}: {script}: {answer:?}");
            assert_eq!(answer.err, "", "{tier:?}: {script}");
            let first = first.get_or_insert(answer.changes.clone());
            assert_eq!(*first, answer.changes, "{tier:?}: {script}");
        }
        all += &format!("$ {script}\n{}\n", first.unwrap_or_default());
    }
    insta::assert_snapshot!(all);
}

#[test]
fn hostile_commands_end_and_leave_nothing() {
    let ground = peer!(Ground::new());
    for tier in Tier::ALL {
        for (script, text) in [
            // Deeper than anything sensible.
            (
                "i=0; while [ $i -lt 400 ]; do mkdir a; cd a; i=$((i+1)); done",
                "keep what the command changed",
            ),
            // Without any right on its own directories.
            ("mkdir -p /a/b/c; chmod 0 /a/b/c /a/b /a", ""),
            // Mount points replaced while they are in use.
            ("cd /; mv /mnt /gone; ln -s /etc /mnt; true", ""),
            ("rm -rf /run /mnt /dev 2>/dev/null; true", ""),
            // Programs that stay, deaf to all that can be ignored.
            (
                "trap '' TERM HUP; for i in 1 2 3 4 5; do busybox setsid sh -c 'busybox setsid sleep 1000 & sleep 1000' & done; true",
                "",
            ),
        ] {
            let mut job = ground.job(script);
            job.mounts = vec![Mount {
                target: "/mnt/deep/secret".into(),
                kind: MountKind::Secret {
                    content: Secret::new("hunter2"),
                    mode: 0o400,
                },
            }];
            let answer = ground.run(tier, &job);
            let error = answer.error.clone().unwrap_or_default();
            assert!(error.contains(text), "{tier:?}: {script}: {answer:?}");
            assert!(
                text == error || !text.is_empty(),
                "{tier:?}: {script}: {answer:?}"
            );
            assert!(answer.millis < 20_000, "{tier:?}: {script}: {answer:?}");
            assert!(
                !answer.changes.contains("hunter2"),
                "{tier:?}: {script}: {answer:?}"
            );
        }
    }
    assert_eq!(running("1000"), 0, "something was left running");
}

#[test]
fn many_links_get_owners_with_one_id() {
    let ground = peer!(Ground::new());
    // More than a process may usually hold open.
    let script = "mkdir /l; cd /l; i=0; while [ $i -lt 1500 ]; do ln -s x $i; i=$((i+1)); done; chown -R 7:8 /l";
    let answer = ground.run(Tier::SingleMap, &ground.job(script));
    assert_eq!(answer.error, None);
    let owned = answer
        .changes
        .lines()
        .filter(|line| line.contains(" 7:8"))
        .count();
    assert_eq!(owned, 1501, "{}", answer.changes);
}
