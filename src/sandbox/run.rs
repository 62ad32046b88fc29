//! Running a job, from the builder's side.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::oci::Digest;
use crate::sandbox::channel::{receive, send};
use crate::sandbox::error::{SandboxError, Setup};
use crate::sandbox::id_map;
use crate::sandbox::inner;
use crate::sandbox::job::{Job, Limits, Mount, MountKind, Secret};
use crate::sandbox::order::{Collected, End, Failed, Order, Outer, Report, Task};
use crate::sandbox::outer;
use crate::sandbox::output::{Listener, OutputSink, Stream};
use crate::sandbox::probe::{Footing, SandboxSettings};
use crate::sandbox::scratch::Scratch;
use crate::sandbox::stop::{Minded, hang_up};
use crate::sandbox::syscalls::keep_files_from_programs;
use crate::sandbox::tier::Tier;
use crate::sandbox::trees::located;
use crate::store::Store;

/// The command of the command line that people do not see: it must call [`inside`] and exit with
/// what that returns.
pub const INIT_COMMAND: &str = "sandbox-init";

/// A disk with less than this left is full, for the purpose of explaining a failure.
const FULL: u64 = 1 << 20;

/// What a command that ended well did.
#[derive(Debug)]
pub struct Outcome {
    /// The tier that ran it.
    pub tier: Tier,
    /// The blob of the store with the listing of what it changed.
    pub listing: Digest,
    /// What a person should know, such as a socket that was left out.
    pub notes: Vec<String>,
}

/// How an order to the outer process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Result<End, Failed>,
    pub(crate) collected: Option<Collected>,
    pub(crate) tail: Vec<String>,
    /// Whether it was stopped for the amount of its output.
    pub(crate) printed_too_much: bool,
}

/// Runs a job and says what it changed. Lines of output are told as they come.
///
/// # Errors
/// A command that fails or passes a limit, with its last lines; a sandbox that cannot be made.
/// No process, mount or file of the run is left in either case.
pub fn run(
    job: &Job,
    footing: &Footing,
    settings: &SandboxSettings,
    store: &Store,
    output: OutputSink<'_>,
) -> Result<Outcome, SandboxError> {
    let task = Task::Run {
        job: Box::new(fitted(job, footing.tier)),
        store: located(store)?,
    };
    let ended = order(footing, task, settings, job.limits.output, output)?;
    let tier = footing.tier;
    let tail = ended.tail;
    let limits = &job.limits;
    Err(match ended.outcome {
        Err(Failed::Setup(setup)) => SandboxError::Setup { tier, setup },
        Err(Failed::Start(setup)) => SandboxError::Start {
            program: job.argv.first().cloned().unwrap_or_default(),
            setup,
        },
        _ if ended.printed_too_much => SandboxError::TooMuchOutput {
            limit: limits.output,
            tail,
        },
        Ok(End::Code(0)) => {
            let lost = || {
                let cause = "the outer process said nothing of it";
                let setup = Setup::because("collect what the command changed", cause);
                SandboxError::Setup { tier, setup }
            };
            let Collected { listing, notes } = ended.collected.ok_or_else(lost)?;
            return Ok(Outcome {
                tier,
                listing,
                notes,
            });
        }
        Ok(end) => failure(end, limits, tail, &settings.scratch),
    })
}

/// The job with what the tier needs besides. In tier B there is one user, so apt must not want to
/// become another; that is said in a file which is not part of the tree.
fn fitted(job: &Job, tier: Tier) -> Job {
    const APT: (&str, &str) = ("/run/boxwright/apt.conf", "APT::Sandbox::User \"root\";\n");
    let mut job = job.clone();
    if tier == Tier::SingleMap {
        let (path, text) = APT;
        job.mounts.push(Mount {
            target: path.to_owned(),
            kind: MountKind::Secret {
                content: Secret::new(text),
                mode: 0o444,
            },
        });
        let variable = ("APT_CONFIG".to_owned(), Secret::new(path));
        job.private_env.push(variable);
    }
    job
}

fn failure(end: End, limits: &Limits, tail: Vec<String>, scratch: &Path) -> SandboxError {
    match end {
        End::Code(_) | End::Signal(_) if is_full(scratch) => SandboxError::DiskFull {
            path: scratch.to_owned(),
            tail,
        },
        End::Code(code) => SandboxError::Exited { code, tail },
        End::Signal(signal) => SandboxError::Signalled { signal, tail },
        End::TimedOut => SandboxError::TimedOut {
            limit: limits.timeout.unwrap_or_default(),
            tail,
        },
        End::TooManyProcesses => SandboxError::TooManyProcesses {
            limit: limits.pids,
            tail,
        },
        End::OutOfMemory => SandboxError::OutOfMemory {
            limit: limits.memory.unwrap_or_default(),
            tail,
        },
        End::Stopped => SandboxError::Stopped { tail },
    }
}

fn is_full(path: &Path) -> bool {
    rustix::fs::statvfs(path)
        .is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) < FULL)
}

/// Removes a directory whose files belong to ids that only the tier's namespace has.
///
/// # Errors
/// What the file system says.
pub fn remove(
    path: &Path,
    footing: &Footing,
    settings: &SandboxSettings,
) -> Result<(), SandboxError> {
    let ignore = |_, _: &[u8]| {};
    let task = Task::Remove(path.to_owned());
    match order(footing, task, settings, u64::MAX, &ignore)?.outcome {
        Ok(_) => Ok(()),
        Err(Failed::Setup(setup) | Failed::Start(setup)) => Err(SandboxError::Setup {
            tier: footing.tier,
            setup,
        }),
    }
}

/// Starts the outer process, hands it the order, and listens until it has ended.
pub(crate) fn order(
    footing: &Footing,
    task: Task,
    settings: &SandboxSettings,
    output_limit: u64,
    output: OutputSink<'_>,
) -> Result<Ended, SandboxError> {
    let mut collected = None;
    let mut ended = converse(
        footing,
        task,
        settings,
        &Listening {
            most: output_limit,
            output,
        },
        &mut |report, _| match report {
            Report::Collected(changes) => {
                collected = Some(changes);
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        },
    )?;
    ended.collected = collected;
    Ok(ended)
}

/// The same for a task without a command, whose reports are all for `answer`.
pub(crate) fn order_with(
    footing: &Footing,
    task: Task,
    settings: &SandboxSettings,
    answer: Answer<'_>,
) -> Result<Result<End, Failed>, SandboxError> {
    let listening = Listening {
        most: u64::MAX,
        output: &|_, _| {},
    };
    Ok(converse(footing, task, settings, &listening, answer)?.outcome)
}

/// Takes what the outer process reports, and what follows it on the socket.
pub(crate) type Answer<'a> = &'a mut dyn FnMut(Report, &UnixStream) -> io::Result<()>;

/// Who hears the output, and how much of it.
struct Listening<'a> {
    most: u64,
    output: OutputSink<'a>,
}

fn converse(
    footing: &Footing,
    task: Task,
    settings: &SandboxSettings,
    listening: &Listening<'_>,
    answer: Answer<'_>,
) -> Result<Ended, SandboxError> {
    let Begun {
        order,
        mut child,
        socket,
        minded,
        scratch: _scratch,
    } = begin(footing, task, settings)?;
    let stop = || hang_up(&socket);
    let listener = Listener::new(listening.output, listening.most, &stop);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let outcome = thread::scope(|scope| {
        if let Some(out) = out {
            scope.spawn(|| listener.listen(Stream::Out, out));
        }
        if let Some(err) = err {
            scope.spawn(|| listener.listen(Stream::Err, err));
        }
        let outcome = listen(&socket, &order, child.id(), answer);
        if outcome.is_err() {
            // It will not end by itself when it does not understand us.
            let _ = child.kill();
        }
        let _ = child.wait();
        outcome
    });
    drop(minded);
    Ok(Ended {
        outcome: outcome.map_err(spawn_failed(settings))?,
        collected: None,
        printed_too_much: listener.is_beyond(),
        tail: listener.into_tail(),
    })
}

/// An outer process that waits for its order.
pub(crate) struct Begun {
    pub(crate) order: Order,
    pub(crate) child: Child,
    pub(crate) socket: UnixStream,
    /// The switch that stops it, as long as this is kept.
    pub(crate) minded: Minded,
    /// Its directory, as long as this is kept.
    pub(crate) scratch: Scratch,
}

/// Starts an outer process. It does nothing until it is sent its order.
pub(crate) fn begin(
    footing: &Footing,
    task: Task,
    settings: &SandboxSettings,
) -> Result<Begun, SandboxError> {
    let scratch = Scratch::create(&settings.scratch)?;
    let failed = spawn_failed(settings);
    let (socket, theirs) = UnixStream::pair().map_err(&failed)?;
    let order = Order::Outer(Box::new(Outer {
        footing: footing.clone(),
        scratch: scratch.path().to_owned(),
        task,
        circumstances: settings.circumstances,
    }));
    let child = spawn(&settings.program, theirs).map_err(&failed)?;
    let minded = settings.stop.mind(&socket).map_err(&failed)?;
    Ok(Begun {
        order,
        child,
        socket,
        minded,
        scratch,
    })
}

pub(crate) fn spawn_failed(settings: &SandboxSettings) -> impl Fn(io::Error) -> SandboxError {
    |source| SandboxError::Spawn {
        program: settings.program.clone(),
        source,
    }
}

fn spawn(program: &Path, socket: UnixStream) -> io::Result<Child> {
    Command::new(program)
        .arg(INIT_COMMAND)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Gives the order and waits for the report.
fn listen(
    socket: &UnixStream,
    order: &Order,
    child: u32,
    answer: Answer<'_>,
) -> io::Result<Result<End, Failed>> {
    send(socket, order)?;
    loop {
        match receive(socket)? {
            Some(Report::MapIds) => send(socket, &id_map::grant(child))?,
            Some(Report::Done(outcome)) => return Ok(outcome),
            Some(report) => answer(report, socket)?,
            None => {
                let error = "it ended without a word";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
            }
        }
    }
}

/// The inside of the sandbox: what the hidden command [`INIT_COMMAND`] does. The order comes by
/// the socket that standard input is. What is returned is the exit code.
pub fn inside() -> u8 {
    let take = || -> io::Result<UnixStream> {
        keep_files_from_programs()?;
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(UnixStream::from(socket))
    };
    let Ok(socket) = take() else {
        return 1;
    };
    match receive(&socket) {
        Ok(Some(Order::Outer(order))) => {
            outer::serve(&order, &socket);
            0
        }
        Ok(Some(Order::Inner(order))) => inner::become_command(&order, &socket),
        Ok(Some(Order::Join(job))) => inner::join_service(&job, &socket),
        Ok(None) | Err(_) => 1,
    }
}
