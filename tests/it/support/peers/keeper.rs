//! A state folder, perhaps with a daemon, that is gone when the test is: also when the test
//! process is killed.
//!
//! A small shell watches a pipe whose other end only the test process holds. When that end
//! closes, for whatever reason, the shell stops the daemon, ends what still runs from the folder,
//! unmounts and removes it. Neither `Drop` (a killed process, a `static`) nor the parent-death
//! signal (which follows the *thread*, and every test is one) could promise that.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// `$1` is the folder, the rest the daemon's command line, which may be empty. `$FAREWELL` is run
/// before anything is stopped. What else still runs from the folder is found by the folder's
/// unique name: in the command line (shims and monitors), in the environment (children of what was
/// started here), or as the place of the process's own root (containers). That name is the
/// only reason to end a process.
const WATCH: &str = r#"
dir=$1; shift
export KEEPER_FOLDER=$dir
daemon=
if [ $# -gt 0 ]; then
    "$@" </dev/null >"$dir/log" 2>&1 &
    daemon=$!
    echo "$daemon" >"$dir/pid.new"; mv "$dir/pid.new" "$dir/pid"
fi
cat >/dev/null

ended() {
    for _ in $(seq 200); do
        grep -qs '^State:.[^Z]' "/proc/$daemon/status" || return 0
        sleep 0.05
    done
    return 1
}
strays() {
    name=${dir##*/}
    head='^[0-9]+ [0-9]+ [0-9:]+'
    {
        grep -lsaF "$dir" /proc/[0-9]*/cmdline
        grep -lsaFx -z "KEEPER_FOLDER=$dir" /proc/[0-9]*/environ
        grep -lsE "$head [^ ]*/$name/[^ ]* / |$head [^ ]+ / .*/$name/" /proc/[0-9]*/mountinfo
    } | cut -d/ -f3 | sort -u
}

eval "$FAREWELL" >/dev/null 2>&1
if [ -n "$daemon" ]; then
    kill -TERM "$daemon" 2>/dev/null
    ended || kill -KILL "$daemon" 2>/dev/null
    wait "$daemon" 2>/dev/null
fi
for _ in 1 2 3 4 5; do
    for pid in $(strays); do
        # The shell itself and the processes of its pipes carry the name as well.
        [ "$pid" = $$ ] || grep -qs "^PPid:.$$\$" "/proc/$pid/status" || kill -KILL "$pid"
    done 2>/dev/null
    awk -v d="$dir/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        while read -r mount; do umount -l "$mount"; done
    rm -rf --one-file-system "$dir" && break
    sleep 0.2
done
"#;

/// How long a daemon may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The folder, its watcher, and the daemon if there is one.
#[derive(Debug)]
pub(crate) struct Keeper {
    dir: PathBuf,
    watcher: Child,
}

impl Keeper {
    /// A folder without a daemon, for a tool that mounts or leaves processes behind; `farewell` is
    /// a line of shell, run before the rest is cleared away.
    pub(crate) fn of_folder(folder: TempDir, farewell: &str) -> Keeper {
        Keeper::start(folder, Command::new("none").env("FAREWELL", farewell), &[])
    }

    /// A daemon whose state lies in `folder`, started there; its output goes to `folder/log`.
    /// Returns when `answers` does; panics with the log if the daemon ends before.
    #[track_caller]
    pub(crate) fn of_daemon(
        folder: TempDir,
        daemon: &mut Command,
        answers: impl Fn(&Path) -> bool,
    ) -> Keeper {
        let mut line = vec![daemon.get_program().to_owned()];
        line.extend(daemon.get_args().map(ToOwned::to_owned));
        let keeper = Keeper::start(folder, daemon, &line);
        let start = Instant::now();
        while keeper.pid().is_none() || !answers(&keeper.dir) {
            let late = start.elapsed() > START_LIMIT;
            if late || keeper.has_ended() {
                panic!("{daemon:?} does not answer; it said:\n{}", keeper.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        keeper
    }

    /// Starts the watcher with the environment of `like` and the command line `daemon`.
    fn start(folder: TempDir, like: &Command, daemon: &[std::ffi::OsString]) -> Keeper {
        let mut watcher = Command::new("sh");
        watcher
            .args(["-c", WATCH, "watch"])
            .arg(folder.path())
            .args(daemon);
        watcher.env("FAREWELL", "");
        for (key, value) in like.get_envs() {
            match value {
                Some(value) => watcher.env(key, value),
                None => watcher.env_remove(key),
            };
        }
        let watcher = watcher
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C must reach the tests, not the one that cleans up after them.
            .process_group(0)
            .spawn()
            .expect("start a shell");
        // From here on the watcher removes it.
        Keeper {
            dir: folder.keep(),
            watcher,
        }
    }

    /// The folder that holds all state.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the daemon has said so far.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The process of the daemon, once it is started.
    pub(crate) fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.dir.join("pid"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    fn has_ended(&self) -> bool {
        let Some(pid) = self.pid() else { return false };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in parentheses, may hold spaces; the state is the word after it.
        let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        state.is_empty() || state.starts_with('Z')
    }
}

impl Drop for Keeper {
    /// Closes the pipe and waits until the watcher has cleared everything away.
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

/// A daemon that runs as root, with a `/run`, `/opt` and `/etc/docker` of its own: container daemons
/// leave sockets, locks and keys there, whatever they are told. Its mounts, too, are its own.
pub(crate) fn secluded(daemon: &Path) -> Command {
    let places = "for place in /run /opt /etc/docker; do \
        [ ! -d $place ] || mount -t tmpfs none $place || exit 1; done; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        places,
        "sh",
    ]);
    command.arg(daemon);
    command
}

/// A new folder for a keeper. Its path is short, because a socket's path ends at 108 bytes.
pub(crate) fn folder(tool: &str) -> TempDir {
    let prefix = format!("boxwright-{tool}-");
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir()
        .expect("create a state folder")
}

#[test]
fn a_daemon_and_its_folder_go_with_the_keeper() {
    let mut daemon = Command::new("sh");
    // Its child, too, is in a process group of its own and outlives it.
    daemon.args([
        "-c",
        "setsid sh -c 'echo $$ >\"$0/stray\"; exec sleep 98765' \"$0\" & wait",
    ]);
    let folder = folder("keeper");
    daemon.arg(folder.path());
    let keeper = Keeper::of_daemon(folder, &mut daemon, |dir| {
        fs::read_to_string(dir.join("stray")).is_ok_and(|pid| pid.ends_with('\n'))
    });
    let (dir, pid) = (keeper.dir().to_owned(), keeper.pid().expect("a daemon"));
    let stray = fs::read_to_string(dir.join("stray")).expect("a stray");
    drop(keeper);
    for pid in [pid.to_string(), stray.trim().to_owned()] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(
            status.is_empty() || status.contains("State:\tZ"),
            "{status}"
        );
    }
    assert!(!dir.exists());
}

#[test]
#[should_panic(expected = "cannot serve")]
fn a_daemon_that_ends_at_once_fails_with_its_log() {
    let mut daemon = Command::new("sh");
    daemon.args(["-c", "echo cannot serve; exit 1"]);
    Keeper::of_daemon(folder("keeper"), &mut daemon, |_| false);
}
