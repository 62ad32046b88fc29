//! A docker daemon with its own root, on a socket in a temporary folder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::keeper::{Keeper, folder, secluded};
use super::{Skip, require_root, required};
use crate::support::process::{Ran, run};

/// A running dockerd: the vfs driver, no bridge and no firewall rules, so that it changes nothing
/// on the machine.
#[derive(Debug)]
pub(crate) struct Dockerd {
    keeper: Keeper,
}

impl Dockerd {
    /// A daemon of its own; it stops when dropped.
    pub(crate) fn start() -> Result<Dockerd, Skip> {
        let program = required("dockerd")?;
        required("docker")?;
        require_root("dockerd")?;
        let folder = folder("docker");
        let dir = folder.path();
        let mut daemon = secluded(&program);
        daemon.arg("-H").arg(socket(dir));
        for (flag, place) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "docker.pid"),
            ("--config-file", "daemon.json"),
        ] {
            daemon.arg(flag).arg(dir.join(place));
        }
        daemon.args([
            "--storage-driver=vfs",
            "--iptables=false",
            "--ip6tables=false",
        ]);
        daemon.args(["--ip-forward=false", "--ip-masq=false", "--bridge=none"]);
        std::fs::write(dir.join("daemon.json"), "{}").expect("write daemon.json");
        let answers = |dir: &Path| dir.join("s").exists() && client(dir, ["version"]).code == 0;
        Ok(Dockerd {
            keeper: Keeper::of_daemon(folder, &mut daemon, answers),
        })
    }

    /// The one that all tests of this process share; it goes when the process does.
    pub(crate) fn shared() -> Result<&'static Dockerd, Skip> {
        static SHARED: OnceLock<Result<Dockerd, Skip>> = OnceLock::new();
        SHARED
            .get_or_init(Dockerd::start)
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Any docker command.
    #[track_caller]
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        client(self.keeper.dir(), args)
    }

    /// Where the daemon listens, as `DOCKER_HOST` has it.
    pub(crate) fn host(&self) -> String {
        socket(self.keeper.dir())
    }

    /// A client that can build with BuildKit on this daemon: newer ones need a plugin for it, which
    /// the distribution's own client, if it stands beside a newer one, does not.
    pub(crate) fn buildkit_client(&self) -> Result<PathBuf, Skip> {
        let context = self.keeper.dir().join("client/empty");
        std::fs::create_dir_all(&context).expect("create a folder");
        std::fs::write(
            context.join("Dockerfile"),
            "FROM scratch\nCOPY Dockerfile /\n",
        )
        .expect("write a file");
        let out = format!("type=tar,dest={}", context.join("out.tar").display());
        let clients = [required("docker")?, PathBuf::from("/usr/bin/docker")];
        clients
            .into_iter()
            .find(|client| {
                client.is_file() && self.build(client, &["-o", &out], &context).code == 0
            })
            .ok_or_else(|| Skip::because("no docker client here can build with BuildKit"))
    }

    /// `docker build` of a context with BuildKit, by a client that [`Dockerd::buildkit_client`]
    /// found.
    #[track_caller]
    pub(crate) fn build(&self, client: &Path, flags: &[&str], context: &Path) -> Ran {
        let mut command = client_of(client, self.keeper.dir());
        command
            .env("DOCKER_BUILDKIT", "1")
            .args(["build", "--progress", "plain", "--network", "none"])
            .args(flags);
        run(command.arg(context))
    }

    /// Loads an archive; gives the name or ID that docker prints.
    #[track_caller]
    pub(crate) fn load(&self, archive: &Path) -> String {
        let ran = self
            .run([OsStr::new("load"), OsStr::new("-i"), archive.as_ref()])
            .ok();
        let mut lines = ran.stdout.lines();
        let loaded = lines.find_map(|line| line.strip_prefix("Loaded image"));
        let loaded = loaded.and_then(|line| line.split_once(": "));
        loaded
            .unwrap_or_else(|| panic!("docker names no image: {ran:?}"))
            .1
            .to_owned()
    }

    /// Runs a command in a new container without network, to its end.
    #[track_caller]
    pub(crate) fn run_image(&self, image: &str, command: &[&str]) -> Ran {
        let flags = ["run", "--rm", "--network", "none", image];
        self.run(flags.iter().chain(command))
    }

    /// What `docker image inspect` says.
    #[track_caller]
    pub(crate) fn inspect(&self, image: &str) -> Value {
        let ran = self.run(["image", "inspect", image]).ok();
        let all: Value = serde_json::from_str(&ran.stdout).expect("docker prints JSON");
        all[0].clone()
    }
}

fn socket(dir: &Path) -> String {
    format!("unix://{}", dir.join("s").display())
}

/// The docker client, without the settings and contexts of whoever runs the tests.
#[track_caller]
fn client<A: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = A>) -> Ran {
    run(client_of(Path::new("docker"), dir).args(args))
}

fn client_of(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("HOME", dir)
        .env("DOCKER_CONFIG", dir.join("client"))
        .env_remove("DOCKER_CONTEXT")
        .env_remove("DOCKER_HOST")
        .arg("-H")
        .arg(socket(dir));
    command
}
