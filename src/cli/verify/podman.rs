//! podman with a storage of its own in a scratch folder: the user's images and containers are not
//! touched, and nothing is left.
//!
//! The user's `containers.conf` holds. Where containers do not start with it, two things are tried
//! that rescue machines with few rights: this process's own limits, which podman would otherwise
//! raise, and runc, because crun refuses hybrid cgroups.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Resource, Signal, geteuid, getrlimit, kill_process};

use crate::cli::verify::asking::ask;
use crate::cli::verify::engine::{Engine, Kind};
use crate::cli::verify::runner::Reason;

const LIMIT: Duration = Duration::from_secs(60);
/// So long is waited for what podman does behind its containers.
const FAREWELL: Duration = Duration::from_secs(10);

/// The folder with everything of podman's; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Storage {
    folder: PathBuf,
}

/// podman, if a container starts with it.
pub(crate) fn engine(folder: &Path) -> Result<Engine, Reason> {
    let version = ask(Command::new("podman").arg("--version"), LIMIT)?;
    let version = version.out.trim().rsplit(' ').next().map(str::to_owned);
    let version = version.unwrap_or_default();
    let short = short_enough(folder);
    let storage = Storage {
        folder: short.map_err(|error| format!("podman: no storage can be made: {error}"))?,
    };
    let folder = &storage.folder.clone();
    let prepared = prepare(folder);
    prepared.map_err(|error| format!("podman: no storage can be made: {error}"))?;
    let mut engine = Engine {
        kind: Kind::Podman,
        name: format!("podman {version}"),
        global: Vec::new(),
        create: Vec::new(),
        env: vec![
            ("CONTAINERS_STORAGE_CONF", folder.join("storage.conf")),
            // Where a user's podman remembers where blobs came from.
            ("XDG_DATA_HOME", folder.join("d")),
        ],
        made: Cell::new(0),
        _storage: Some(storage),
    };
    let mut failure = String::new();
    for driver in ["overlay", "vfs"] {
        engine.global = global(folder, driver);
        let answer = ask(engine.command().arg("info"), LIMIT)?;
        if answer.is_ok() {
            return with_what_it_needs(engine, folder);
        }
        failure = answer.last_line();
    }
    Err(format!("podman does not work here: {failure}"))
}

/// podman refuses a `--runroot` of more than 50 bytes: sockets with names of their own go below it.
const LONGEST_RUNROOT: usize = 50;

/// The folder, or a new one with a shorter path.
fn short_enough(folder: &Path) -> std::io::Result<PathBuf> {
    if folder.join("rr").as_os_str().len() <= LONGEST_RUNROOT {
        return Ok(folder.to_owned());
    }
    let shorter = tempfile::Builder::new().prefix("bw-").tempdir_in("/tmp")?;
    Ok(shorter.keep())
}

fn global(folder: &Path, driver: &str) -> Vec<String> {
    let below = |name: &str| folder.join(name).display().to_string();
    let words = [
        ("--root", below("r")),
        ("--runroot", below("rr")),
        ("--tmpdir", below("t")),
        ("--storage-driver", driver.to_owned()),
        ("--cgroup-manager", "cgroupfs".to_owned()),
        ("--log-level", "error".to_owned()),
    ];
    let words = words.into_iter();
    words
        .flat_map(|(option, value)| [option.to_owned(), value])
        .collect()
}

/// Makes the folder: settings that keep the user's own storage out, and a root file system with this
/// program in it, to try containers with.
fn prepare(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder.join("rootfs"))?;
    let text = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/r\"\nrunroot = \"{0}/rr\"\n",
        folder.display()
    );
    fs::write(folder.join("storage.conf"), text)?;
    let (own, copy) = (std::env::current_exe()?, folder.join("rootfs/boxwright"));
    fs::hard_link(&own, &copy).or_else(|_| fs::copy(&own, &copy).map(drop))
}

/// The engine with the first settings with which a container starts.
fn with_what_it_needs(mut engine: Engine, folder: &Path) -> Result<Engine, Reason> {
    let rootfs = folder.join("rootfs").display().to_string();
    let tries: [(&str, Vec<String>, &[&str]); 3] = [
        ("", Vec::new(), &[]),
        (", with this process's limits", limits(), &[]),
        (
            ", with this process's limits and runc",
            limits(),
            &["--runtime", "runc"],
        ),
    ];
    let global = engine.global.clone();
    let mut first = None;
    for (what, create, more) in tries {
        engine.global = global.clone();
        engine
            .global
            .extend(more.iter().map(|&word| word.to_owned()));
        engine.create = create;
        let mut command = engine.command();
        command
            .args(["run", "--rm", "--network", "none"])
            .args(["--security-opt", "label=disable"])
            .args(&engine.create)
            .args(["--rootfs", &rootfs, "/boxwright", "--version"]);
        let answer = ask(&mut command, LIMIT)?;
        if answer.is_ok() {
            engine.name.push_str(what);
            return Ok(engine);
        }
        first.get_or_insert(answer.last_line());
    }
    let why = first.unwrap_or_default();
    Err(format!("podman starts no container here: {why}"))
}

/// What this process may, so that podman does not ask for more.
fn limits() -> Vec<String> {
    let limit = |resource, most: u64| {
        let hard = getrlimit(resource).maximum.unwrap_or(most);
        hard.min(most)
    };
    let (files, processes) = (
        limit(Resource::Nofile, 1 << 20),
        limit(Resource::Nproc, 32_768),
    );
    vec![
        format!("--ulimit=nofile={files}:{files}"),
        format!("--ulimit=nproc={processes}:{processes}"),
    ]
}

/// Ends the process that keeps podman's user namespace, whose number stands in our own folder: the
/// user's own podman has another.
fn end_pause(file: &Path) {
    let number = fs::read_to_string(file).ok();
    let number = number.and_then(|text| text.trim().parse().ok());
    if let Some(process) = number.and_then(Pid::from_raw) {
        let _ = kill_process(process, Signal::KILL);
    }
}

/// Whether a process works on the folder: what podman leaves to watch a container, and to clear up
/// behind it, names the folder on its command line.
fn is_in_use(folder: &Path) -> bool {
    let name = folder.as_os_str().as_encoded_bytes();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| memchr::memmem::find(&line, name).is_some())
}

impl Drop for Storage {
    fn drop(&mut self) {
        let began = Instant::now();
        while is_in_use(&self.folder) && began.elapsed() < FAREWELL {
            std::thread::sleep(Duration::from_millis(20));
        }
        if geteuid().is_root() {
            // podman mounts the folder of its layers onto itself.
            for name in ["r/overlay", "rr", "t"] {
                let _ = unmount(self.folder.join(name), UnmountFlags::DETACH);
            }
        } else {
            // Files in it belong to other users, of podman's namespace.
            let mut remove = Command::new("podman");
            remove.args(global(&self.folder, "vfs"));
            remove.args(["unshare", "rm", "-rf"]);
            let _ = ask(remove.arg(self.folder.join("r")), LIMIT);
            end_pause(&self.folder.join("t/pause.pid"));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
