//! A folder of its own for one test, and the compiled `boxwright` run inside it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use tempfile::TempDir;

use super::process::{Ran, run};
use super::tree_text;

/// The variables of the caller that a program in a test may see: where programs are, and how the
/// machine reaches the network. Everything else would make results depend on who runs the tests.
const KEPT_VARIABLES: [&str; 9] = [
    "PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// A temporary folder with `home/`, `tmp/` and `work/`; gone when the test ends.
#[derive(Debug)]
pub(crate) struct Sandbox {
    dir: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Sandbox {
        let dir = tempfile::Builder::new()
            .prefix("boxwright-")
            .tempdir()
            .expect("create a sandbox");
        for name in ["home", "tmp", "work"] {
            fs::create_dir(dir.path().join(name)).expect("create a sandbox folder");
        }
        Sandbox { dir }
    }

    /// The root of the sandbox.
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// `$HOME` of programs run here; the default store lies below it.
    pub(crate) fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    /// The working directory of programs run here.
    pub(crate) fn work(&self) -> PathBuf {
        self.root().join("work")
    }

    /// A path below [`Sandbox::work`].
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.work().join(name)
    }

    /// Writes a tree, given in the language of [`tree_text`], below [`Sandbox::work`].
    pub(crate) fn tree(&self, text: &str) -> &Sandbox {
        tree_text::write(&self.work(), text);
        self
    }

    /// Writes one file below [`Sandbox::work`], with the folders it needs.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Sandbox {
        let path = self.path(name);
        let parent = path.parent().expect("a file has a parent");
        fs::create_dir_all(parent).expect("create the folders of a file");
        fs::write(&path, content).expect("write a file");
        self
    }

    /// A command in a cleared environment: fixed `HOME`, `TMPDIR` and time zone, no
    /// `SOURCE_DATE_EPOCH`, the plain C locale.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.work());
        for name in KEPT_VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", self.home())
            .env("TMPDIR", self.root().join("tmp"))
            .env("LC_ALL", "C")
            .env("TZ", "UTC");
        command
    }

    /// The compiled `boxwright` with these arguments, not yet run.
    pub(crate) fn boxwright_command<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_boxwright"));
        command.args(args);
        command
    }

    /// Runs the compiled `boxwright` with these arguments.
    #[track_caller]
    pub(crate) fn boxwright<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        run(&mut self.boxwright_command(args))
    }

    /// Exit code, stdout and stderr as one text, without what differs from run to run: the
    /// sandbox's own path and all durations.
    pub(crate) fn golden(&self, ran: &Ran) -> String {
        self.redact(&ran.golden())
    }

    /// `text` with the sandbox's path written `[SANDBOX]` and durations written `[TIME]`.
    pub(crate) fn redact(&self, text: &str) -> String {
        let path = self.root().to_str().expect("sandbox paths are UTF-8");
        let durations = Regex::new(r"\b\d+(\.\d+)?\s?(ns|µs|us|ms|s)\b").expect("a fixed pattern");
        let text = text.replace(path, "[SANDBOX]");
        durations.replace_all(&text, "[TIME]").into_owned()
    }
}

#[test]
fn programs_see_a_cleared_environment() {
    let sandbox = Sandbox::new();
    let ran = run(&mut sandbox.command("env")).ok();
    let mut names: Vec<_> = ran
        .stdout
        .lines()
        .filter_map(|l| l.split('=').next())
        .collect();
    names.retain(|name| !KEPT_VARIABLES.contains(name));
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LC_ALL", "TMPDIR", "TZ"]);
}

#[test]
fn a_golden_does_not_know_where_or_how_long() {
    let sandbox = Sandbox::new();
    sandbox
        .file("said/first", "took 1.25 s")
        .tree("file 0644 said/then , 3ms\\n");
    let mut command = sandbox.command("sh");
    command.args(["-c", "echo in $PWD; cat said/first said/then >&2; exit 3"]);
    let ran = run(&mut command).fails_with(3);
    insta::assert_snapshot!(sandbox.golden(&ran), @r"
    exit: 3
    --- stdout
    in [SANDBOX]/work
    --- stderr
    took [TIME], [TIME]
    ");
}

#[test]
fn the_compiled_binary_runs() {
    let ran = Sandbox::new().boxwright(["--version"]);
    assert!(ran.code < 128, "{ran:?}");
}
