//! A service from the builder's side.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::sandbox::channel::{receive, send};
use crate::sandbox::error::{SandboxError, Setup};
use crate::sandbox::id_map;
use crate::sandbox::order::{Ask, End, Failed, Order, Report, Task};
use crate::sandbox::output::{Listener, OutputSink, Stream};
use crate::sandbox::probe::{Footing, Proc, SandboxSettings, best};
use crate::sandbox::run::{Begun, begin, spawn_failed};
use crate::sandbox::scratch::Scratch;
use crate::sandbox::service::ServiceJob;
use crate::sandbox::service::exec::Answer;
use crate::sandbox::stop::{Minded, hang_up};
use crate::sandbox::tier::Tier;

/// Why services cannot be started here although commands of builds can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfit {
    /// There is one id: every process is root, whatever the image says.
    OneUser,
    /// There are no namespaces: a process would be one of the builder's own.
    NoNamespaces,
    /// The process would be one of many, not the first of its own.
    SharedProcesses,
}

impl fmt::Display for Unfit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Unfit::OneUser => {
                "only one id is mapped here, so all would be root; give this user ranges in \
                 /etc/subuid and /etc/subgid"
            }
            Unfit::NoNamespaces => "no namespaces can be made here",
            Unfit::SharedProcesses => "no /proc of its own can be mounted in this container",
        })
    }
}

/// The best tier in which services can be started: real users and processes of their own are
/// needed, or what is seen would be of another service than the image's.
///
/// # Errors
/// No tier works at all.
pub fn footing(settings: &SandboxSettings) -> Result<Result<Footing, Unfit>, SandboxError> {
    let footing = best(settings)?;
    Ok(match (footing.tier, footing.proc) {
        (Tier::Root | Tier::RangeMap, Proc::Own) => Ok(footing),
        (Tier::Root | Tier::RangeMap, Proc::Shared) => Err(Unfit::SharedProcesses),
        (Tier::SingleMap, _) => Err(Unfit::OneUser),
        (Tier::Chroot, _) => Err(Unfit::NoNamespaces),
    })
}

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// With the number of its process, as the builder sees it.
    Running(u32),
    /// With its exit code: as shells say it, 128 and the signal for one that was killed, which
    /// passing a limit is too.
    Ended(i32),
}

/// What became of a command in a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exec {
    /// It ended with this exit code and these last words.
    Ended(i32, String),
    /// It was killed at its limit.
    TimedOut(String),
    /// It could not be started.
    NotStarted(String),
    /// The service has ended.
    TooLate,
}

/// A service that was started. Whatever it runs ends when this is dropped.
pub struct Service {
    process: u32,
    socket: UnixStream,
    state: Mutex<Inside>,
    listener: Arc<Listener<'static>>,
    _minded: Minded,
    _scratch: Scratch,
}

/// What changes while it runs.
struct Inside {
    outer: Child,
    threads: Vec<JoinHandle<()>>,
    end: Option<End>,
}

impl Service {
    /// Starts a service: when this comes back, the image's program runs.
    ///
    /// # Errors
    /// A sandbox that cannot be made; a program that is not there or cannot be run.
    pub fn start(
        job: &ServiceJob,
        footing: &Footing,
        settings: &SandboxSettings,
    ) -> Result<Service, SandboxError> {
        let Begun {
            order,
            child: mut outer,
            socket,
            minded,
            scratch,
        } = begin(footing, Task::Serve(Box::new(job.clone())), settings)?;
        const NOBODY: OutputSink<'static> = &|_, _| {};
        let listener = Arc::new(Listener::new(NOBODY, u64::MAX, &|| {}));
        let mut threads = Vec::new();
        if let Some(out) = outer.stdout.take() {
            threads.push(listen(&listener, Stream::Out, out));
        }
        if let Some(err) = outer.stderr.take() {
            threads.push(listen(&listener, Stream::Err, err));
        }
        let mut service = Service {
            process: 0,
            _minded: minded,
            socket,
            state: Mutex::new(Inside {
                outer,
                threads,
                end: None,
            }),
            listener,
            _scratch: scratch,
        };
        let begun = service.begin(&order).map_err(spawn_failed(settings))?;
        service.process = begun.map_err(|error| match error {
            Failed::Setup(setup) => SandboxError::Setup {
                tier: footing.tier,
                setup,
            },
            Failed::Start(setup) => SandboxError::Start {
                program: job.job.argv.first().cloned().unwrap_or_default(),
                setup,
            },
        })?;
        Ok(service)
    }

    /// Gives the order and waits until the program runs.
    fn begin(&self, order: &Order) -> io::Result<Result<u32, Failed>> {
        send(&self.socket, order)?;
        let outer = self.inside().outer.id();
        loop {
            match receive(&self.socket)? {
                Some(Report::MapIds) => send(&self.socket, &id_map::grant(outer))?,
                Some(Report::Serving(process)) => return Ok(Ok(process)),
                Some(Report::Done(Err(failed))) => return Ok(Err(failed)),
                Some(Report::Done(Ok(end))) => {
                    let setup = Setup::because("start the service", format!("it ended: {end:?}"));
                    return Ok(Err(Failed::Setup(setup)));
                }
                Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// How it is now.
    pub fn state(&self) -> State {
        let mut inside = self.inside();
        while inside.end.is_none() && self.has_news() {
            inside.end = self.news().err();
        }
        match inside.end {
            None => State::Running(self.process),
            Some(end) => State::Ended(code(end)),
        }
    }

    /// Runs a command inside as the image's user, in its environment and working directory, to its
    /// end or the limit's.
    pub fn exec(&self, argv: &[String], limit: Duration) -> Exec {
        let mut inside = self.inside();
        let ask = Ask::Exec {
            argv: argv.to_vec(),
            limit,
        };
        if argv.is_empty() {
            return Exec::NotStarted("there is no command".to_owned());
        }
        if inside.end.is_some() || send(&self.socket, &ask).is_err() {
            return Exec::TooLate;
        }
        loop {
            match self.news() {
                Ok(Some(Answer::Ended(End::TimedOut, words))) => return Exec::TimedOut(words),
                Ok(Some(Answer::Ended(end, words))) => return Exec::Ended(code(end), words),
                Ok(Some(Answer::Failed(setup))) => return Exec::NotStarted(setup.to_string()),
                Ok(Some(Answer::TooLate)) => return Exec::TooLate,
                Ok(None) => {}
                Err(end) => {
                    inside.end = Some(end);
                    return Exec::TooLate;
                }
            }
        }
    }

    /// Sends the process a signal. One that has ended does not mind.
    ///
    /// # Errors
    /// There is no such signal.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        if rustix::process::Signal::from_named_raw(number).is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Where the other side has gone the process has ended.
        let _ = send(&self.socket, &Ask::Signal(number));
        Ok(())
    }

    /// The last lines that it printed, of both streams as they came.
    pub fn last_words(&self) -> Vec<String> {
        let mut inside = self.inside();
        if let Some(end) = inside.end {
            // All that could print is gone, so the outputs come to their ends.
            inside.conclude();
            let mut lines = self.listener.tail();
            lines.extend(remark(end).map(str::to_owned));
            return lines;
        }
        self.listener.tail()
    }

    fn has_news(&self) -> bool {
        let mut files = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
        rustix::event::poll(&mut files, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Waits for a report: an answer, or the end.
    fn news(&self) -> Result<Option<Answer>, End> {
        match receive(&self.socket) {
            Ok(Some(Report::Answered(answer))) => Ok(Some(answer)),
            Ok(Some(Report::Ended(end) | Report::Done(Ok(end)))) => Err(end),
            Ok(Some(Report::Done(Err(_))) | None) | Err(_) => Err(End::Stopped),
            Ok(Some(_)) => Ok(None),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn conclude(&mut self) {
        // A process that is waited for already has no status left, which is as good.
        let _ = self.outer.wait();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        hang_up(&self.socket);
        self.inside().conclude();
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = out.debug_struct("Service");
        shown
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

fn listen(
    listener: &Arc<Listener<'static>>,
    stream: Stream,
    from: impl io::Read + Send + 'static,
) -> JoinHandle<()> {
    let listener = Arc::clone(listener);
    thread::spawn(move || {
        // What cannot be read is only missing from a message.
        let _ = listener.listen(stream, from);
    })
}

/// The exit code of an end, as shells and engines say it.
fn code(end: End) -> i32 {
    match end {
        End::Code(code) => i32::from(code),
        End::Signal(signal) => 128 + signal,
        End::TimedOut | End::TooManyProcesses | End::OutOfMemory | End::Stopped => 128 + 9,
    }
}

/// What an exit code does not say.
fn remark(end: End) -> Option<&'static str> {
    match end {
        End::TooManyProcesses => Some("it was ended for starting too many processes"),
        End::OutOfMemory => Some("it was ended for using too much memory"),
        _ => None,
    }
}
