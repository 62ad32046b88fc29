//! Measuring whole processes: the clock, the processors' time, the most memory.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::cli::exit::{Blame, Failure};

/// What one run took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    pub(crate) wall: Duration,
    /// The process and all children that it waited for.
    pub(crate) cpu: Duration,
    /// The most memory that the process itself had, in bytes. Its children are not counted.
    pub(crate) peak: Option<u64>,
    /// What it printed.
    pub(crate) printed: Vec<u8>,
}

/// How often the memory is looked at. The system keeps the highest value, so only a rise within
/// the last interval of a process's life is missed.
const INTERVAL: Duration = Duration::from_millis(2);

/// Runs a command to its end.
///
/// # Errors
/// It cannot be started, or it fails; then its last words are told.
pub(crate) fn run(command: &mut Command) -> Result<Run, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::system(format!("start {name}"), &error))?;
    let (printed, said) = (child.stdout.take(), child.stderr.take());
    let pid = child.id();
    let has_ended = AtomicBool::new(false);
    let (run, printed, said) = std::thread::scope(|scope| {
        let printed = scope.spawn(move || read(printed));
        let said = scope.spawn(move || read(said));
        let peak = scope.spawn(|| watch_memory(pid, &has_ended));
        let ended = wait_without_reaping(&child);
        let wall = began.elapsed();
        has_ended.store(true, Ordering::Relaxed);
        let run = Run {
            wall,
            cpu: cpu_of(pid).unwrap_or_default(),
            peak: peak.join().unwrap_or_default(),
            printed: Vec::new(),
        };
        (
            ended.map(|()| run),
            printed.join().unwrap_or_default(),
            said.join().unwrap_or_default(),
        )
    });
    let failed = |error: std::io::Error| Failure::system(format!("wait for {name}"), &error);
    let status = child.wait().map_err(failed)?;
    let run = run.map_err(|error| failed(error.into()))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&said);
        let last: Vec<&str> = said.lines().rev().take(8).collect();
        let mut failure = Failure::new(Blame::System, format!("{name} failed ({status})"));
        for line in last.iter().rev() {
            failure = failure.hint((*line).to_owned());
        }
        return Err(failure);
    }
    Ok(Run { printed, ..run })
}

fn read(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What cannot be read is only missing from a message.
        let _ = stream.read_to_end(&mut bytes);
    }
    bytes
}

/// Waits for the end, but leaves the process in the system's books, where its times stand.
fn wait_without_reaping(child: &Child) -> rustix::io::Result<()> {
    let pid = Pid::from_child(child);
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), options)).map(drop)
}

/// Processor time of an ended process and its children. `proc_pid_stat(5)`: fields 14 to 17.
fn cpu_of(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, field 2, may hold anything; it ends at the last parenthesis.
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(4)
        .map(|field| field.parse().unwrap_or(0))
        .sum();
    let a_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(ticks * 1000 / a_second))
}

fn watch_memory(pid: u32, has_ended: &AtomicBool) -> Option<u64> {
    let path = format!("/proc/{pid}/status");
    let mut peak = None;
    while !has_ended.load(Ordering::Relaxed) {
        let status = fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kilobytes.map(|kilobytes| kilobytes * 1024));
        std::thread::sleep(INTERVAL);
    }
    peak
}
