//! Measuring a start: the process comes up, answers, shows whose it is, and ends when it is asked to.

use std::path::Path;
use std::time::{Duration, Instant};

use boxwright::explain::{Health, ReadOnly, RunFigures, Start, Stop, UserFigures};
use boxwright::oci::RuntimeConfig;
use boxwright::spec::Budget;

use crate::cli::args::VerifyArgs;
use crate::cli::exit::Failure;
use crate::cli::terminal::Terminal;
use crate::cli::verify::interrupt::{Delayed, pause};
use crate::cli::verify::runner::{Container, Launch, Reason, Root, Runner, State};
use crate::cli::verify::signals;

/// Between two questions.
const STEP: Duration = Duration::from_millis(50);
/// So long a process is watched that nobody can ask.
const MOMENT: Duration = Duration::from_secs(2);
/// For one question, if the image does not say: Docker's own.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An image that is to be started, and how.
pub(crate) struct Service<'a> {
    pub(crate) runner: &'a dyn Runner,
    pub(crate) archive: &'a Path,
    /// Its name in the archive.
    pub(crate) name: &'a str,
    pub(crate) config: &'a RuntimeConfig,
    pub(crate) budget: &'a Budget,
    pub(crate) args: &'a VerifyArgs,
    pub(crate) env: &'a [(String, String)],
    pub(crate) root_is_allowed: bool,
    pub(crate) terminal: &'a Terminal,
}

/// What a start gave, and the container if it came up.
type Started<'a> = (Start, Option<Box<dyn Container + 'a>>);

impl Service<'_> {
    /// Starts the image twice: as it is, and without a writable root.
    ///
    /// # Errors
    /// A signal asked for the end.
    pub(crate) fn measure(&self) -> Result<RunFigures, Failure> {
        let _delayed = Delayed::begin();
        self.terminal.say("  starting, asking and stopping it …\n");
        if let Err(why) = self.runner.load(self.archive, self.name) {
            return Ok(self.not_started(Start::Down { why }));
        }
        let figures = self.writable().and_then(|mut figures| {
            figures.read_only = self.read_only(&figures)?;
            Ok(figures)
        });
        self.runner.forget(self.name);
        figures
    }

    fn writable(&self) -> Result<RunFigures, Failure> {
        let (start, container) = self.start(Root::Writable);
        let Some(container) = container else {
            return Ok(self.not_started(start));
        };
        let health = self.health(&*container)?;
        let user = container.user().map(|inside| UserFigures {
            configured: self.config.user.clone(),
            inside,
        });
        Ok(RunFigures {
            start,
            health,
            user,
            root_is_allowed: self.root_is_allowed,
            stop: self.stop(&*container)?,
            read_only: ReadOnly::Untried,
        })
    }

    fn not_started(&self, start: Start) -> RunFigures {
        RunFigures {
            start,
            health: Health::Unasked {
                watched: Duration::ZERO,
            },
            user: Err("it does not start".to_owned()),
            root_is_allowed: self.root_is_allowed,
            stop: Stop::Unasked,
            read_only: ReadOnly::Untried,
        }
    }

    fn read_only(&self, writable: &RunFigures) -> Result<ReadOnly, Failure> {
        if !is_well(&writable.health) || matches!(writable.start, Start::Down { .. }) {
            return Ok(ReadOnly::Untried);
        }
        let (start, container) = self.start(Root::ReadOnly);
        let Some(container) = container else {
            return Ok(match start {
                Start::Down { why } => ReadOnly::Fails { why },
                Start::Up { .. } => ReadOnly::Works,
            });
        };
        Ok(match self.health(&*container)? {
            Health::Answered { .. } | Health::Unasked { .. } => ReadOnly::Works,
            Health::Silent { why, .. } | Health::Ended { why } => ReadOnly::Fails { why },
        })
    }

    fn start(&self, root: Root) -> Started<'_> {
        let down = |why: Reason| (Start::Down { why }, None);
        let launch = Launch {
            root,
            network: &self.args.container_network,
            env: self.env,
        };
        let container = match self.runner.create(self.name, &launch) {
            Ok(container) => container,
            Err(why) => return down(why),
        };
        let began = Instant::now();
        match container.start() {
            Ok(()) => {
                let after = began.elapsed();
                (Start::Up { after }, Some(container))
            }
            Err(why) => down(why),
        }
    }

    /// Asks until the answer is good, the process has ended, or patience has.
    fn health(&self, container: &dyn Container) -> Result<Health, Failure> {
        let began = Instant::now();
        let Some(question) = self.question() else {
            while began.elapsed() < MOMENT {
                if let Some(ended) = ended(container) {
                    return Ok(ended);
                }
                pause(STEP)?;
            }
            return Ok(Health::Unasked {
                watched: began.elapsed(),
            });
        };
        let nanos = |field: fn(&boxwright::oci::Healthcheck) -> u64| {
            Duration::from_nanos(self.config.healthcheck.as_ref().map_or(0, field))
        };
        let timeout = match nanos(|check| check.timeout) {
            Duration::ZERO => TIMEOUT,
            timeout => timeout,
        };
        let budget = self.budget.health.as_ref().map(|most| most.value);
        let patience = self
            .args
            .patience(nanos(|check| check.start_period), budget);
        loop {
            let left = patience.saturating_sub(began.elapsed());
            let why = match container.exec(&question, timeout.min(left.max(STEP))) {
                Ok(()) => {
                    let after = began.elapsed();
                    return Ok(Health::Answered { after });
                }
                Err(why) => why,
            };
            if let Some(ended) = ended(container) {
                return Ok(ended);
            }
            if began.elapsed() >= patience {
                return Ok(Health::Silent {
                    waited: began.elapsed(),
                    why,
                });
            }
            pause(STEP)?;
        }
    }

    /// The command of the health check, if the image has one.
    fn question(&self) -> Option<Vec<String>> {
        question(&self.config.healthcheck.as_ref()?.test, &self.config.shell)
    }

    fn stop(&self, container: &dyn Container) -> Result<Stop, Failure> {
        let signal = match &*self.config.stop_signal {
            "" => "SIGTERM",
            signal => signal,
        };
        let (began, limit) = (Instant::now(), self.args.stop_timeout.0);
        // One that has ended by itself cannot be asked to.
        if !matches!(container.state(), Ok(State::Running(_))) || container.signal(signal).is_err()
        {
            return Ok(Stop::Unasked);
        }
        loop {
            if let Ok(State::Ended(code)) = container.state() {
                return Ok(Stop::Ended {
                    signal: signal.to_owned(),
                    after: began.elapsed(),
                    code,
                    is_clean: code == 0 || signals::number(signal).is_some_and(|n| code == 128 + n),
                });
            }
            if began.elapsed() > limit {
                return Ok(Stop::Ignored {
                    signal: signal.to_owned(),
                    waited: began.elapsed(),
                });
            }
            pause(STEP)?;
        }
    }
}

fn is_well(health: &Health) -> bool {
    matches!(health, Health::Answered { .. } | Health::Unasked { .. })
}

fn ended(container: &dyn Container) -> Option<Health> {
    let Ok(State::Ended(code)) = container.state() else {
        return None;
    };
    let words = container.last_words();
    let words = words.trim().replace('\n', "; ");
    let why = match words.is_empty() {
        true => format!("exit code {code}"),
        false => format!("exit code {code}: {words}"),
    };
    Some(Health::Ended { why })
}

/// A health check's `Test` as a command; none if it says that there is none.
fn question(test: &[String], shell: &[String]) -> Option<Vec<String>> {
    match test {
        [kind, command @ ..] if kind == "CMD" && !command.is_empty() => Some(command.to_vec()),
        [kind, script] if kind == "CMD-SHELL" => {
            let mut command = match shell {
                [] => vec!["/bin/sh".to_owned(), "-c".to_owned()],
                shell => shell.to_vec(),
            };
            command.push(script.clone());
            Some(command)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_checks_become_commands() {
        let words = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
        for (test, shell, command) in [
            ("CMD,wget,-q", "", Some("wget,-q")),
            ("CMD-SHELL,a && b", "", Some("/bin/sh,-c,a && b")),
            (
                "CMD-SHELL,a && b",
                "/bin/ash,-ec",
                Some("/bin/ash,-ec,a && b"),
            ),
            ("NONE", "", None),
            ("CMD", "", None),
        ] {
            let shell = if shell.is_empty() {
                Vec::new()
            } else {
                words(shell)
            };
            assert_eq!(question(&words(test), &shell), command.map(words), "{test}");
        }
        assert_eq!(question(&[], &[]), None);
    }
}
