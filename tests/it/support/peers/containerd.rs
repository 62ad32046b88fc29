//! containerd with its own root, and `ctr` to talk to it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::keeper::{Keeper, folder, secluded};
use super::{Skip, require_root, required};
use crate::support::process::{Ran, run};

/// A running containerd.
#[derive(Debug)]
pub(crate) struct Containerd {
    keeper: Keeper,
}

impl Containerd {
    /// A containerd of its own; it stops when dropped.
    pub(crate) fn start() -> Result<Containerd, Skip> {
        let program = required("containerd")?;
        required("ctr")?;
        require_root("containerd")?;
        let folder = folder("ctd");
        let dir = folder.path().display();
        let settings = format!(
            "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{dir}/s\"\n[ttrpc]\naddress = \"{dir}/t\"\n"
        );
        fs::write(folder.path().join("config.toml"), settings).expect("write config.toml");
        let mut daemon = secluded(&program);
        daemon.arg("-c").arg(folder.path().join("config.toml"));
        let answers = |dir: &Path| UnixStream::connect(dir.join("s")).is_ok();
        Ok(Containerd {
            keeper: Keeper::of_daemon(folder, &mut daemon, answers),
        })
    }

    /// The one that all tests of this process share; it goes when the process does.
    pub(crate) fn shared() -> Result<&'static Containerd, Skip> {
        static SHARED: OnceLock<Result<Containerd, Skip>> = OnceLock::new();
        SHARED
            .get_or_init(Containerd::start)
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Any ctr command.
    #[track_caller]
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        let mut command = Command::new("ctr");
        command
            .arg("-a")
            .arg(self.keeper.dir().join("s"))
            .args(args);
        run(&mut command)
    }

    /// Imports an archive for a snapshotter that needs no mounts; gives the names it brought.
    #[track_caller]
    pub(crate) fn import(&self, archive: &Path) -> Vec<String> {
        let flags = ["images", "import", "--snapshotter", "native"].map(OsStr::new);
        let ran = self
            .run(flags.into_iter().chain([archive.as_os_str()]))
            .ok();
        let names = ran
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix("unpacking "));
        names
            .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
            .collect()
    }

    /// Runs a command in a new container on the host's network, to its end.
    #[track_caller]
    pub(crate) fn run_image(&self, image: &str, command: &[&str]) -> Ran {
        self.run_with(&["--rm", "--net-host"], image, command)
    }

    /// Starts a command in a new container, and leaves it running.
    #[track_caller]
    pub(crate) fn start_image(&self, image: &str, command: &[&str]) -> Ran {
        self.run_with(&["--detach"], image, command)
    }

    fn run_with(&self, flags: &[&str], image: &str, command: &[&str]) -> Ran {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // The state of containers lies in one place for the whole machine, unless told otherwise.
        let place = |name: &str| self.keeper.dir().join(name).display().to_string();
        let (root, fifos) = (place("runc"), place("fifo"));
        let id = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let places = ["--runc-root", &root, "--fifo-dir", &fifos];
        let mut args = vec!["run", "--snapshotter", "native"];
        args.extend(places.iter().chain(flags));
        args.extend([image, &id]);
        args.extend(command);
        self.run(args)
    }
}
