//! podman with its own storage: loads, runs and inspects images.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::keeper::{Keeper, folder};
use super::{Skip, on_path, required};
use crate::support::process::{Ran, run};

/// A podman whose images and containers are seen by nobody else.
#[derive(Debug)]
pub(crate) struct Podman {
    keeper: Keeper,
    driver: &'static str,
}

impl Podman {
    /// podman on an empty storage: native overlay where the file system allows it, else vfs.
    pub(crate) fn start() -> Result<Podman, Skip> {
        required("podman")?;
        let folder = folder("podman");
        write_configuration(folder.path(), "");
        let farewell = farewell(folder.path());
        let keeper = Keeper::of_folder(folder, &farewell);
        let mut podman = Podman {
            keeper,
            driver: "overlay",
        };
        if podman.run(["info"]).code != 0 {
            podman.driver = "vfs";
            let info = podman.run(["info"]);
            if info.code != 0 {
                let reason = info.stderr.lines().last().unwrap_or_default();
                return Err(Skip::because(format!(
                    "podman does not work here: {reason}"
                )));
            }
        }
        Ok(podman)
    }

    /// Has pods be held together by a loaded image that does nothing but stay.
    pub(crate) fn set_for_pods(&self, image: &str) {
        let engine = format!("infra_image = \"{image}\"\n");
        write_configuration(self.keeper.dir(), &engine);
    }

    /// Any podman command on this storage.
    #[track_caller]
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        let mut command = self.command("podman");
        command.args(self.flags()).args(args);
        run(&mut command)
    }

    /// podman-compose on this storage, in a folder of compose files.
    #[track_caller]
    pub(crate) fn compose(&self, folder: &Path, args: &[&str]) -> Ran {
        let program = self.keeper.dir().join("podman");
        let flags: Vec<String> = self
            .flags()
            .iter()
            .map(|flag| format!("'{}'", flag.display()))
            .collect();
        let script = format!("#!/bin/sh\nexec podman {} \"$@\"\n", flags.join(" "));
        fs::write(&program, script).expect("write a program");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("set a mode");
        let mut command = self.command("podman-compose");
        command.arg("--podman-path").arg(&program).args(args);
        run(command.current_dir(folder))
    }

    /// A program that sees this podman's settings and no others.
    fn command(&self, program: &str) -> Command {
        let dir = self.keeper.dir();
        let mut command = Command::new(program);
        command
            .current_dir(dir)
            .env("CONTAINERS_CONF", dir.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", dir.join("storage.conf"))
            .env("HOME", dir)
            .env("TMPDIR", dir.join("tmp"))
            .env("XDG_RUNTIME_DIR", dir.join("runtime"));
        command
    }

    /// What every podman command begins with.
    fn flags(&self) -> Vec<OsString> {
        let dir = self.keeper.dir();
        let words = ["--log-level", "error", "--cgroup-manager", "cgroupfs"];
        let mut flags: Vec<OsString> = words.map(OsString::from).into();
        flags.extend(["--storage-driver", self.driver, "--root"].map(OsString::from));
        flags.extend([
            dir.join("root").into(),
            "--runroot".into(),
            dir.join("run").into(),
        ]);
        if on_path("runc").is_some() {
            // Its state would otherwise lie in one place for the whole machine.
            let state = format!("root={}", dir.join("runc").display());
            flags.extend(["--runtime-flag".into(), state.into()]);
        }
        flags
    }

    /// Loads an archive or a layout directory; gives the name or ID that podman prints.
    #[track_caller]
    pub(crate) fn load(&self, archive: &Path) -> String {
        let ran = self.run([
            OsStr::new("load"),
            OsStr::new("-q"),
            OsStr::new("-i"),
            archive.as_ref(),
        ]);
        let ran = ran.ok();
        let loaded = ran
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("Loaded image: "));
        loaded
            .unwrap_or_else(|| panic!("podman names no image: {ran:?}"))
            .to_owned()
    }

    /// Runs a command in a new container without network, to its end.
    #[track_caller]
    pub(crate) fn run_image(&self, image: &str, command: &[&str]) -> Ran {
        let flags = ["run", "--rm", "--network", "none", image];
        self.run(flags.iter().chain(command))
    }

    /// What `podman image inspect` says.
    #[track_caller]
    pub(crate) fn inspect(&self, image: &str) -> Value {
        let ran = self.run(["image", "inspect", image]).ok();
        let all: Value = serde_json::from_str(&ran.stdout).expect("podman prints JSON");
        all[0].clone()
    }

    /// The health check that podman found in the image; null if it saw none.
    #[track_caller]
    pub(crate) fn healthcheck(&self, image: &str) -> Value {
        let image = self.inspect(image);
        match &image["Healthcheck"] {
            Value::Null => image["Config"]["Healthcheck"].clone(),
            found => found.clone(),
        }
    }
}

/// The settings that podman needs on machines with few rights: explicit limits, because it would
/// otherwise raise them, and runc, because crun refuses hybrid cgroups.
fn write_configuration(dir: &Path, engine: &str) {
    let (files, processes) = (hard_limit("Max open files"), hard_limit("Max processes"));
    let (files, processes) = (files.min(1 << 20), processes.min(32_768));
    let mut text = format!(
        "[containers]\ndefault_ulimits = [\"nofile={files}:{files}\", \
         \"nproc={processes}:{processes}\"]\n[engine]\n{engine}"
    );
    if on_path("runc").is_some() {
        text.push_str("runtime = \"runc\"\n");
    }
    fs::write(dir.join("containers.conf"), text).expect("write containers.conf");
    // Given, so that the machine's own settings have no say.
    let text = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/root\"\nrunroot = \"{0}/run\"\n",
        dir.display()
    );
    fs::write(dir.join("storage.conf"), text).expect("write storage.conf");
    for name in ["tmp", "runtime"] {
        fs::create_dir_all(dir.join(name)).expect("create a folder");
    }
}

/// What only podman can clear away, and only without root: files of other user IDs, and the process
/// that keeps the user namespace.
fn farewell(dir: &Path) -> String {
    if rustix::process::geteuid().is_root() {
        return String::new();
    }
    format!(
        "cd {0}; export HOME={0} XDG_RUNTIME_DIR={0}/runtime CONTAINERS_CONF={0}/containers.conf \
         CONTAINERS_STORAGE_CONF={0}/storage.conf; podman unshare rm -rf {0}/root; \
         kill $(cat {0}/runtime/libpod/tmp/pause.pid)",
        dir.display()
    )
}

/// A hard limit of this process, by its name in `/proc/self/limits`.
fn hard_limit(name: &str) -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").expect("read the limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect("a known limit");
    let hard = line.split_whitespace().nth(1).expect("a hard limit");
    hard.parse().unwrap_or(u64::MAX)
}
