//! The outer process of a service: starts its process, serves the builder, and waits for the end.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::sandbox::channel::{receive, send};
use crate::sandbox::error::Setup;
use crate::sandbox::job::Job;
use crate::sandbox::limits::{Groups, Used};
use crate::sandbox::mounts::refuse_writes;
use crate::sandbox::namespaces;
use crate::sandbox::order::{Ask, End, Failed, Inner, Outer, Report, ServiceRoot};
use crate::sandbox::outer::{WATCH, end_of, start};
use crate::sandbox::overlay::{self, PROGRAM};
use crate::sandbox::scratch;
use crate::sandbox::service::ServiceJob;
use crate::sandbox::service::exec::{Answer, Running};

/// Runs a service to its end.
pub(crate) fn host(
    order: &Outer,
    service: &ServiceJob,
    builder: &UnixStream,
) -> Result<End, Failed> {
    let job = &service.job;
    overlay::mount(&order.scratch, &job.lowers, &order.footing)?;
    let program = out_of_reach(&order.scratch)?;
    namespaces::enter_processes()?;
    let groups = Groups::make(&job.limits, &scratch::name_of(&order.scratch));
    let inner = Inner {
        footing: order.footing.clone(),
        scratch: order.scratch.clone(),
        job: Some(Box::new(job.clone())),
        service: Some(ServiceRoot {
            mode: service.mode,
            volumes: service.volumes.clone(),
        }),
    };
    let (child, _made) = start(&program, inner, &groups, None)?;
    let process = child.id();
    let host = Host {
        process: Pid::from_child(&child),
        // One that has ended already has no mounts to enter any more.
        mounts: File::open(format!("/proc/{process}/ns/mnt")).ok(),
        child,
        program,
        job,
        groups,
        builder,
        running: None,
    };
    let told = send(builder, &Report::Serving(process));
    told.map_err(Setup::of("tell that the service runs"))?;
    let end = host.attend()?;
    if end != End::Stopped {
        send(builder, &Report::Ended(end)).map_err(Setup::of("tell that the service ended"))?;
    }
    Ok(end)
}

/// This program under a path by which nobody can write to it.
fn out_of_reach(scratch: &Path) -> Result<PathBuf, Setup> {
    let action = || "keep Boxwright's own file from the service";
    let failed = |error: std::io::Error| Setup::of(action())(error);
    let own = std::fs::read_link("/proc/self/exe").map_err(failed)?;
    let program = scratch.join(PROGRAM);
    File::create_new(&program).map_err(failed)?;
    rustix::mount::mount_bind(&own, &program).map_err(Setup::of(action()))?;
    let mounted = rustix::fs::open(&program, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let mounted = mounted.map_err(Setup::of(action()))?;
    refuse_writes(&mounted).map_err(Setup::of(action()))?;
    let identity = |path: &Path| {
        let found = std::fs::metadata(path)?;
        Ok((found.dev(), found.ino()))
    };
    let running = identity(Path::new("/proc/self/exe")).map_err(failed)?;
    match identity(&program).map_err(failed)? == running {
        true => Ok(program),
        false => Err(Setup::because(
            action(),
            format!("{} is not what was started any more", own.display()),
        )),
    }
}

struct Host<'a> {
    child: Child,
    process: Pid,
    mounts: Option<File>,
    program: PathBuf,
    job: &'a Job,
    groups: Groups,
    builder: &'a UnixStream,
    running: Option<Running>,
}

/// What a moment brought.
#[derive(Default)]
struct Seen {
    builder: bool,
    ended: bool,
    output: bool,
    nothing: bool,
}

impl Host<'_> {
    /// Does what the builder asks until the process ends, or has to.
    fn attend(mut self) -> Result<End, Setup> {
        let ended = rustix::process::pidfd_open(self.process, PidfdFlags::empty())
            .map_err(Setup::of("watch the service"))?;
        loop {
            let seen = self.pause(&ended)?;
            if seen.ended {
                let status = self.child.wait();
                let status = status.map_err(Setup::of("wait for the service"))?;
                self.finish_command(true)?;
                return Ok(self.groups.verdict().unwrap_or_else(|| end_of(status)));
            }
            if seen.output
                && let Some(running) = &mut self.running
            {
                running.listen();
            }
            self.finish_command(false)?;
            if seen.builder && !self.obey()? {
                return self.end(End::Stopped);
            }
            if seen.nothing {
                let beyond = Used::by_all(self.process).beyond(&self.job.limits);
                if let Some(end) = beyond.or_else(|| self.groups.verdict()) {
                    return self.end(end);
                }
            }
        }
    }

    fn end(&mut self, end: End) -> Result<End, Setup> {
        let waiting = || Setup::of("end the service");
        self.child.kill().map_err(waiting())?;
        if end != End::Stopped {
            self.finish_command(true)?;
        }
        self.reap();
        Ok(end)
    }

    /// Takes the ends of what was killed. The first process of a namespace is gone only when all
    /// others are, so a command, which is our child, goes before it.
    fn reap(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
        let _ = self.child.wait();
    }

    /// Waits for something to happen.
    fn pause(&self, ended: &OwnedFd) -> Result<Seen, Setup> {
        let mut files = vec![
            PollFd::from_borrowed_fd(self.builder.as_fd(), PollFlags::IN),
            PollFd::new(ended, PollFlags::IN),
        ];
        let mut time = WATCH;
        let mut output_at = None;
        if let Some(running) = &self.running {
            let left = running.deadline.saturating_duration_since(Instant::now());
            time = time.min(left);
            files.push(PollFd::new(&running.ended, PollFlags::IN));
            if let Some(output) = &running.output {
                output_at = Some(files.len());
                files.push(PollFd::new(output, PollFlags::IN));
            }
        }
        let time = Timespec::try_from(time).unwrap_or_default();
        match rustix::event::poll(&mut files, Some(&time)) {
            Ok(0) => {
                return Ok(Seen {
                    nothing: true,
                    ..Seen::default()
                });
            }
            Err(rustix::io::Errno::INTR) => return Ok(Seen::default()),
            other => other.map_err(Setup::of("wait for the service"))?,
        };
        let seen = |at: usize| files.get(at).is_some_and(|file| !file.revents().is_empty());
        Ok(Seen {
            builder: seen(0),
            ended: seen(1),
            output: output_at.is_some_and(seen),
            nothing: false,
        })
    }

    /// Tells of a command that has ended, or must: for its time, or with the service.
    fn finish_command(&mut self, with_the_service: bool) -> Result<(), Setup> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let answer = match running.outcome() {
            Some(answer) => answer,
            None if with_the_service => {
                running.kill();
                Answer::TooLate
            }
            None if running.deadline <= Instant::now() => running.time_out(),
            None => return Ok(()),
        };
        self.running = None;
        self.answer(answer)
    }

    fn answer(&self, answer: Answer) -> Result<(), Setup> {
        let told = send(self.builder, &Report::Answered(answer));
        told.map_err(Setup::of("tell what a command in the service did"))
    }

    /// Does what the builder asks; says whether it is still there.
    fn obey(&mut self) -> Result<bool, Setup> {
        // One that was killed in the middle of a word is gone as well.
        match receive(self.builder).unwrap_or(None) {
            None => return Ok(false),
            Some(Ask::Signal(number)) => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    // One that is ending just now needs no signal.
                    let _ = rustix::process::kill_process(self.process, signal);
                }
            }
            Some(Ask::Exec { argv, limit }) => self.exec(argv, limit)?,
        }
        Ok(true)
    }

    fn exec(&mut self, argv: Vec<String>, limit: Duration) -> Result<(), Setup> {
        let Some(mounts) = &self.mounts else {
            return self.answer(Answer::TooLate);
        };
        let mounts = mounts.as_fd().try_clone_to_owned();
        let mounts = mounts.map_err(Setup::of("enter the service's mounts"))?;
        let mut job = self.job.clone();
        job.argv = argv;
        match Running::start(&self.program, &job, &mounts, &self.groups, limit) {
            Ok(running) => {
                self.running = Some(running);
                Ok(())
            }
            Err(setup) => self.answer(Answer::Failed(setup)),
        }
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        // Both have ended already but when something failed.
        let _ = self.child.kill();
        self.reap();
    }
}
