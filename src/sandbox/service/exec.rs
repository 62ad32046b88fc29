//! A command in a service: started on request, heard, and ended at its limit.
//!
//! It is a child of the outer process, whose children all are in the namespace of processes that
//! the service's first process leads; so it ends with that one. It is in a group of its own, with
//! what it starts.

use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use crate::sandbox::channel::{receive, send, send_file};
use crate::sandbox::error::Setup;
use crate::sandbox::job::Job;
use crate::sandbox::limits::Groups;
use crate::sandbox::order::{End, Failed, Order, Word};
use crate::sandbox::outer::end_of;
use crate::sandbox::run::INIT_COMMAND;

/// What became of a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It ended, with these last words.
    Ended(End, String),
    /// It could not be started.
    Failed(Setup),
    /// The service ended first.
    TooLate,
}

/// So much is kept of what it printed last.
const WORDS: usize = 8 << 10;

/// A command that runs.
pub(super) struct Running {
    child: Child,
    /// Readable when it has ended.
    pub(super) ended: OwnedFd,
    /// Both of its outputs, as long as somebody can write to them.
    pub(super) output: Option<std::fs::File>,
    words: Vec<u8>,
    /// Where it says why it could not be started.
    socket: UnixStream,
    pub(super) deadline: Instant,
}

impl Running {
    /// Starts a command in the namespace `mounts`.
    pub(super) fn start(
        program: &Path,
        job: &Job,
        mounts: &OwnedFd,
        groups: &Groups,
        limit: Duration,
    ) -> Result<Running, Setup> {
        let talk = || Setup::of("talk to a command in the service");
        let (ours, theirs) = UnixStream::pair().map_err(talk())?;
        let (read, write) = std::io::pipe().map_err(talk())?;
        let read = OwnedFd::from(read);
        let unblocked = rustix::io::ioctl_fionbio(&read, true);
        unblocked.map_err(|error| talk()(error.into()))?;
        let again = write.try_clone().map_err(talk())?;
        let child = Command::new(program)
            .arg(INIT_COMMAND)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(again)
            .stderr(write)
            .process_group(0)
            .spawn()
            .map_err(Setup::of("start a command in the service"))?;
        groups.take(child.id());
        let ended = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let mut running = Running {
            ended: ended.map_err(Setup::of("watch a command in the service"))?,
            child,
            output: Some(read.into()),
            words: Vec::new(),
            socket: ours,
            deadline: Instant::now() + limit,
        };
        let handed = send(&running.socket, &Order::Join(Box::new(job.clone())))
            .and_then(|()| send_file(&running.socket, mounts));
        if let Err(error) = handed {
            running.kill();
            return Err(talk()(error));
        }
        Ok(running)
    }

    /// Takes what it has printed.
    pub(super) fn listen(&mut self) {
        let mut buffer = [0; 4 << 10];
        // A process that prints without end must not keep us here.
        for _ in 0..16 {
            let Some(output) = &mut self.output else {
                return;
            };
            match output.read(&mut buffer) {
                Ok(0) => self.output = None,
                Ok(length) => {
                    self.words.extend_from_slice(&buffer[..length]);
                    let surplus = self.words.len().saturating_sub(WORDS);
                    self.words.drain(..surplus);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// What became of it, if it has ended.
    pub(super) fn outcome(&mut self) -> Option<Answer> {
        let status = self.child.try_wait().ok()??;
        self.listen();
        // The end of one that could not be started is told by its helper; of one that was, the
        // socket's other end is closed.
        Some(match receive::<Word>(&self.socket) {
            Ok(Some(Word::Failed(Failed::Setup(setup) | Failed::Start(setup)))) => {
                Answer::Failed(setup)
            }
            _ => Answer::Ended(end_of(status), self.said()),
        })
    }

    /// Ends it, with what it started and did not send away.
    pub(super) fn time_out(&mut self) -> Answer {
        self.kill();
        self.listen();
        Answer::Ended(End::TimedOut, self.said())
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.words).into_owned()
    }

    pub(super) fn kill(&mut self) {
        let group = Pid::from_child(&self.child);
        // What has ended by itself meanwhile need not be killed.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
