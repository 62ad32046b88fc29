//! Running a program to its end: exit code and both outputs, with a time limit.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long any program of a test may take, before the test fails instead of hanging.
const LIMIT: Duration = Duration::from_secs(120);

/// What a program that has ended left behind.
#[derive(Clone)]
pub(crate) struct Ran {
    command: String,
    /// The exit code; 128 + signal for a program that was killed, as shells say it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The most memory that the program itself held, in KiB, as seen every two milliseconds; a
    /// program of its own that it starts is not counted.
    pub(crate) peak_kib: u64,
    /// The processor time of the program itself, which a busy machine does not stretch.
    pub(crate) cpu: Duration,
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.command, self.golden())
    }
}

impl Ran {
    /// What several programs have said, all of which succeeded.
    pub(crate) fn of(stdout: &str, stderr: &str) -> Ran {
        Ran {
            command: "several".to_owned(),
            code: 0,
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
            peak_kib: 0,
            cpu: Duration::ZERO,
        }
    }

    /// The same, after checking that the program succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Ran {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// The same, after checking that the program ended with `code`.
    #[track_caller]
    pub(crate) fn fails_with(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Exit code, stdout and stderr as one text, for a golden.
    pub(crate) fn golden(&self) -> String {
        format!(
            "exit: {}\n--- stdout\n{}--- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

/// Runs `command` with an empty stdin and waits for it.
///
/// The outputs go through files, not pipes: a process that a foreign tool leaves behind may keep
/// a pipe open for ever.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ran {
    run_within(LIMIT, command)
}

/// As [`run`], for a program that may take longer than others.
#[track_caller]
pub(crate) fn run_within(limit: Duration, command: &mut Command) -> Ran {
    let text = format!("{command:?}");
    let (mut out, mut err) = (scratch_file(), scratch_file());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("duplicate the output file"))
        .stderr(err.try_clone().expect("duplicate the output file"))
        .process_group(0)
        .spawn()
        .unwrap_or_else(|cause| panic!("failed to start {text}: {cause}"));
    let start = Instant::now();
    let (mut peak_kib, mut cpu) = (0, Duration::ZERO);
    let status = loop {
        peak_kib = peak_kib.max(peak_of(child.id()));
        cpu = cpu.max(cpu_of(child.id()));
        if let Some(status) = child.try_wait().expect("wait for a child") {
            break status;
        }
        if start.elapsed() > limit {
            child.kill().expect("kill a child");
            child.wait().expect("wait for a killed child");
            let so_far = read_all(&mut out) + &read_all(&mut err);
            panic!("{text} was still running after {limit:?}; it said:\n{so_far}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let killed = status.signal().unwrap_or(0);
    Ran {
        command: text,
        code: status.code().unwrap_or(128 + killed),
        stdout: read_all(&mut out),
        stderr: read_all(&mut err),
        peak_kib,
        cpu,
    }
}

/// The processor time of all threads of a running process, in user and in kernel mode.
fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field is the name in parentheses, which may hold anything; user time is the 14th.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    // Linux counts in hundredths of a second towards programs, on every machine.
    Duration::from_millis(ticks * 10)
}

/// The high-water mark of a running process's memory, in KiB; 0 if it has ended.
fn peak_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

fn scratch_file() -> File {
    tempfile::tempfile().expect("create a temporary file")
}

fn read_all(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().expect("rewind an output");
    file.read_to_end(&mut bytes).expect("read an output");
    String::from_utf8_lossy(&bytes).into_owned()
}
