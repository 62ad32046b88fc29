//! Commands run for real, in each tier that this machine has: as root, and as a plain user that
//! the test makes.
//!
//! The tier's conditions are those of a process, so each job runs in one of its own: this binary
//! again, as the right user, doing the ignored test [`job_process`].

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use boxwright::sandbox::{
    Footing, Job, Letter, Limits, Mount, MountKind, Network, RunUser, SandboxSettings, Secret,
    Stream, Tier, Writes, probe, run,
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
        let place = self.path(&format!("{tier:?}"));
        let (order, answer) = (place.join("order"), place.join("answer"));
        fs::create_dir_all(&place).expect("make a folder");
        let mut job = job.clone();
        if matches!(tier, Tier::RangeMap | Tier::SingleMap) {
            job.lower = self.path("users-tree");
        }
        let bytes = serde_json::to_vec(&Order {
            tier,
            job,
            scratch: place.join("scratch"),
            answer: answer.clone(),
        });
        fs::write(&order, bytes.expect("say what to do")).expect("write the order");
        let ran = self
            .process(tier, &order)
            .output()
            .expect("start the job's process");
        let text = fs::read(&answer)
            .unwrap_or_else(|_| panic!("no answer: {}", String::from_utf8_lossy(&ran.stdout)));
        let left: Vec<_> = fs::read_dir(place.join("scratch"))
            .expect("look for scratch")
            .collect();
        assert!(left.is_empty(), "{tier:?} left something behind: {left:?}");
        serde_json::from_slice(&text).expect("read the answer")
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

/// The tiers that a machine with a kernel of these years has for root.
const NAMESPACES: [Tier; 3] = [Tier::Root, Tier::RangeMap, Tier::SingleMap];

#[test]
fn a_command_runs_in_every_tier() {
    let ground = peer!(Ground::new());
    for tier in NAMESPACES {
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
