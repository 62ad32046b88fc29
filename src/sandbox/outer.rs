//! The outer process: enters the namespaces, starts the inner process, watches over the command,
//! collects, cleans up.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use rustix::thread::CpuSet;

use crate::sandbox::caches;
use crate::sandbox::changes::Reading;
use crate::sandbox::channel::{receive, receive_file, send};
use crate::sandbox::copy_tree::copy_tree;
use crate::sandbox::error::Setup;
use crate::sandbox::holdings;
use crate::sandbox::job::{Job, Limits};
use crate::sandbox::limits::{Groups, Used};
use crate::sandbox::namespaces;
use crate::sandbox::new_root::NewRoot;
use crate::sandbox::order::{End, Failed, Inner, Order, Outer, Report, Task, Word};
use crate::sandbox::overlay;
use crate::sandbox::probe::{Circumstances, Footing, Proc};
use crate::sandbox::rootfs;
use crate::sandbox::run::INIT_COMMAND;
use crate::sandbox::scratch;
use crate::sandbox::stand_in::StandIns;
use crate::sandbox::supervisor::{Owners, Supervisor};
use crate::sandbox::tier::Tier;
use crate::sandbox::trees;

/// How often a running command is counted.
const WATCH: Duration = Duration::from_millis(100);

/// Does what the builder orders and reports it.
pub(crate) fn serve(order: &Outer, builder: &UnixStream) {
    // A Ctrl-C at the terminal is for the builder; its end is seen by the end of the socket.
    let _ = rustix::process::setsid();
    let outcome = work(order, builder);
    overlay::unmount(&order.scratch);
    scratch::empty(&order.scratch);
    if send(builder, &Report::Done(outcome)).is_err() {
        scratch::outlive_builder(&order.scratch);
    }
}

fn work(order: &Outer, builder: &UnixStream) -> Result<End, Failed> {
    namespaces::enter(order.footing.tier, order.network(), builder)?;
    if order.circumstances == Circumstances::Perturbed {
        keep_one_processor().map_err(Setup::of("leave all processors but one"))?;
    }
    match &order.task {
        Task::Remove(path) => {
            rootfs::remove(path).map_err(|error| trees::told("remove a tree", &error))?;
            Ok(End::Code(0))
        }
        Task::Measure(paths) => {
            let rooms = paths.iter().map(|path| holdings::room(path)).collect();
            send(builder, &Report::Measured(rooms)).map_err(Setup::of("tell how much it takes"))?;
            Ok(End::Code(0))
        }
        Task::PackCache(folder) => {
            let notes = caches::pack_here(folder, order.footing.tier, builder)?;
            note(builder, notes)
        }
        Task::FillCaches(folder) => {
            let notes = caches::fill_here(folder, order.footing.tier, builder)?;
            note(builder, notes)
        }
        Task::Try => {
            let lower = order.scratch.join("empty");
            fs::create_dir(&lower).map_err(Setup::of("make an empty tree"))?;
            Ok(command(order, None, &[lower], builder)?.end)
        }
        Task::Unpack { folder, store } => {
            trees::unpack_here(folder, store, order.footing.tier, order.circumstances)?;
            Ok(End::Code(0))
        }
        Task::Run { job, store } => {
            let ran = command(order, Some(job), &job.lowers, builder)?;
            if ran.end == End::Code(0) {
                let directory = order.scratch.join(match order.footing.tier {
                    Tier::Chroot => overlay::MERGED,
                    _ => overlay::UPPER,
                });
                let tier = order.footing.tier;
                let (lower, owners) = (uppermost(&job.lowers)?, &ran.owners);
                let collected =
                    trees::collect_here(lower, &directory, ran.reading, owners, store, tier)?;
                send(builder, &Report::Collected(collected))
                    .map_err(Setup::of("tell what the command changed"))?;
            }
            Ok(ran.end)
        }
    }
}

fn note(builder: &UnixStream, notes: Vec<String>) -> Result<End, Failed> {
    send(builder, &Report::Notes(notes)).map_err(Setup::of("tell what became of the caches"))?;
    Ok(End::Code(0))
}

/// All that is started from here sees and has one processor.
fn keep_one_processor() -> io::Result<()> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    if let Some(last) = (0..CpuSet::MAX_CPU).rfind(|&number| allowed.is_set(number)) {
        one.set(last);
    }
    Ok(rustix::thread::sched_setaffinity(None, &one)?)
}

/// How a command ended, and what is needed to read what it left.
struct Ran {
    end: End,
    reading: Reading,
    owners: Owners,
}

/// Runs the command, or all but the command. Nothing that it started runs any more then, and
/// nothing of ours stands in its tree.
fn command(
    order: &Outer,
    job: Option<&Job>,
    lowers: &[PathBuf],
    builder: &UnixStream,
) -> Result<Ran, Failed> {
    let (footing, scratch) = (&order.footing, &order.scratch);
    let mut stand_ins = None;
    let mut reading = Reading::Upper;
    if footing.tier == Tier::Chroot {
        copy_tree(uppermost(lowers)?, &scratch.join(overlay::MERGED))
            .map_err(Setup::of("copy the tree"))?;
        let since = now(scratch).map_err(Setup::of("ask for the time of files"))?;
        reading = Reading::Whole { since };
        stand_ins = job.map(|job| StandIns::place(scratch, job)).transpose()?;
    } else {
        overlay::mount(scratch, lowers, footing)?;
    }
    // A thread can be started only before the namespace for processes is entered.
    let attendant = match footing.tier {
        Tier::SingleMap => Some(Attendant::start(&scratch.join(overlay::UPPER))?),
        _ => None,
    };
    let orphans = adopt_orphans(footing)?;
    let outcome = run_inner(order, job, builder, attendant.as_ref());
    if orphans == Orphans::ComeHere {
        end_all_children();
    }
    let owners = attendant.map(Attendant::finish).transpose()?;
    let (end, made) = outcome?;
    match &mut stand_ins {
        Some(stand_ins) => stand_ins.take_away(),
        None => NewRoot::open(&scratch.join(overlay::MERGED))?.remove(&made),
    }
    Ok(Ran {
        end,
        reading,
        owners: owners.unwrap_or_default(),
    })
}

/// The directory that has the tree's root, and in tier C all of it.
fn uppermost(lowers: &[PathBuf]) -> Result<&Path, Setup> {
    let first = lowers.first().map(PathBuf::as_path);
    first.ok_or_else(|| Setup::because("find the tree", "the order names none"))
}

/// The time that the file system would stamp a file with now, in nanoseconds.
fn now(scratch: &Path) -> io::Result<i128> {
    let path = scratch.join("now");
    fs::write(&path, "")?;
    let found = fs::metadata(&path)?;
    Ok(i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec()))
}

/// What becomes of processes that the command leaves running.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Orphans {
    /// They end with the first process of their namespace.
    EndWithTheirInit,
    /// This process adopts and ends them.
    ComeHere,
}

fn adopt_orphans(footing: &Footing) -> Result<Orphans, Setup> {
    if footing.tier != Tier::Chroot && footing.proc == Proc::Own {
        namespaces::enter_processes()?;
        return Ok(Orphans::EndWithTheirInit);
    }
    let own = Some(rustix::process::getpid());
    rustix::process::set_child_subreaper(own).map_err(Setup::of("adopt orphans"))?;
    Ok(Orphans::ComeHere)
}

/// The thread of tier B's supervisor.
struct Attendant {
    listener: Sender<OwnedFd>,
    thread: JoinHandle<io::Result<Owners>>,
}

impl Attendant {
    fn start(upper: &Path) -> Result<Attendant, Setup> {
        let supervisor = Supervisor::new(upper).map_err(Setup::of("prepare for owners"))?;
        let (listener, arriving) = mpsc::channel();
        let thread = thread::spawn(move || match arriving.recv() {
            Ok(listener) => supervisor.serve(&listener),
            // The inner process failed before it came so far.
            Err(mpsc::RecvError) => Ok(Owners::new()),
        });
        Ok(Attendant { listener, thread })
    }

    /// Has the calls answered that arrive at the listener.
    fn attend(&self, listener: OwnedFd) {
        // A supervisor that is gone says why when it is asked for its owners.
        let _ = self.listener.send(listener);
    }

    /// The owners, when all processes of the command have ended.
    fn finish(self) -> Result<Owners, Setup> {
        drop(self.listener);
        let action = "record owners";
        let ended = self.thread.join();
        let ended = ended.map_err(|_| Setup::because(action, "the supervisor panicked"))?;
        ended.map_err(Setup::of(action))
    }
}

/// Starts the inner process, with limits, and waits for its end.
fn run_inner(
    order: &Outer,
    job: Option<&Job>,
    builder: &UnixStream,
    attendant: Option<&Attendant>,
) -> Result<(End, Vec<String>), Failed> {
    let default = Limits::default();
    let limits = job.map_or(&default, |job| &job.limits);
    let groups = match job {
        Some(_) => Groups::make(limits, &scratch::name_of(&order.scratch)),
        None => Groups::default(),
    };
    let (mut child, made) = start(order, job, &groups, attendant)?;
    let end = watch(&mut child, builder, limits, &groups, order.footing.proc)?;
    Ok((end, made))
}

/// Starts the inner process and hears it out; after that the command runs.
fn start(
    order: &Outer,
    job: Option<&Job>,
    groups: &Groups,
    attendant: Option<&Attendant>,
) -> Result<(Child, Vec<String>), Failed> {
    let talk = || Setup::of("talk to the inner process");
    let (ours, theirs) = UnixStream::pair().map_err(Setup::of("make a socket"))?;
    let mut child = Command::new("/proc/self/exe")
        .arg(INIT_COMMAND)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .map_err(Setup::of("start the inner process"))?;
    groups.take(child.id());
    let inner = Inner {
        footing: order.footing.clone(),
        scratch: order.scratch.clone(),
        job: job.cloned().map(Box::new),
    };
    send(&ours, &Order::Inner(Box::new(inner))).map_err(talk())?;
    let mut made = None;
    let failed = loop {
        match receive(&ours).map_err(talk())? {
            Some(Word::Made(paths)) => made = Some(paths),
            Some(Word::Listener) => {
                let listener = receive_file(&ours).map_err(talk())?;
                if let Some(attendant) = attendant {
                    attendant.attend(listener);
                }
            }
            Some(Word::Failed(failed)) => break Some(failed),
            None => break None,
        }
    };
    let failed = match (failed, made) {
        (None, Some(made)) => return Ok((child, made)),
        (Some(failed), _) => failed,
        (None, None) => Setup::because("make the sandbox", "the inner process was killed").into(),
    };
    let _ = child.kill();
    let _ = child.wait();
    Err(failed)
}

/// Waits for the command's end, or ends it.
fn watch(
    child: &mut Child,
    builder: &UnixStream,
    limits: &Limits,
    groups: &Groups,
    proc: Proc,
) -> Result<End, Setup> {
    let waiting = || Setup::of("wait for the command");
    let process = Pid::from_child(child);
    // Where there is no such call the watch is all there is, and ends are noticed a little later.
    let ended = rustix::process::pidfd_open(process, PidfdFlags::empty()).ok();
    let deadline = limits.timeout.map(|timeout| Instant::now() + timeout);
    loop {
        if let Some(status) = child.try_wait().map_err(waiting())? {
            return Ok(groups.verdict().unwrap_or_else(|| end_of(status)));
        }
        let stop = match pause(builder, ended.as_ref(), deadline)? {
            Pause::Stop => Some(End::Stopped),
            Pause::Late => Some(End::TimedOut),
            Pause::Ended => None,
            Pause::Tick => {
                let used = match proc {
                    Proc::Own => Used::by_all(process),
                    Proc::Shared => Used::by_descendants(rustix::process::getpid()),
                };
                used.beyond(limits)
            }
        };
        let stop = stop.or_else(|| groups.verdict());
        if let Some(end) = stop {
            child.kill().map_err(waiting())?;
            child.wait().map_err(waiting())?;
            return Ok(end);
        }
    }
}

/// Why waiting was interrupted.
enum Pause {
    /// The builder went away, or wants the command to stop: it never says anything.
    Stop,
    Late,
    Ended,
    Tick,
}

fn pause(
    builder: &UnixStream,
    ended: Option<&OwnedFd>,
    deadline: Option<Instant>,
) -> Result<Pause, Setup> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if left == Some(Duration::ZERO) {
        return Ok(Pause::Late);
    }
    let time = left.map_or(WATCH, |left| left.min(WATCH));
    let time = Timespec::try_from(time).unwrap_or_default();
    let mut files = vec![PollFd::from_borrowed_fd(builder.as_fd(), PollFlags::IN)];
    files.extend(ended.map(|ended| PollFd::new(ended, PollFlags::IN)));
    match rustix::event::poll(&mut files, Some(&time)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Pause::Tick),
        other => other.map_err(Setup::of("wait for the command"))?,
    };
    let seen = |at: usize| files.get(at).is_some_and(|file| !file.revents().is_empty());
    Ok(match (seen(1), seen(0)) {
        (true, _) => Pause::Ended,
        (_, true) => Pause::Stop,
        _ => Pause::Tick,
    })
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Code(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    }
}

/// Ends what the command left running where no namespace does: orphans come to this process.
fn end_all_children() {
    let list = format!(
        "/proc/self/task/{}/children",
        rustix::thread::gettid().as_raw_nonzero()
    );
    loop {
        let children = fs::read_to_string(&list).unwrap_or_default();
        let numbers = children
            .split_whitespace()
            .filter_map(|text| text.parse().ok());
        for child in numbers.filter_map(Pid::from_raw) {
            // One that ended by itself meanwhile is waited for like the others.
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
