//! podman and docker by their commands, which are the same for what is done here.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cli::verify::asking::{Answer, ask};
use crate::cli::verify::podman::Storage;
use crate::cli::verify::runner::{Container, Launch, Reason, Root, Runner, State};

/// No single command of a runner takes longer, not even loading a large image.
const LIMIT: Duration = Duration::from_secs(600);
/// What is asked often answers soon, or not at all.
const SHORT: Duration = Duration::from_secs(60);

/// One of the two, with what it is given.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// For every command, before it.
    pub(crate) global: Vec<String>,
    /// For every new container.
    pub(crate) create: Vec<String>,
    /// Variables of podman.
    pub(crate) env: Vec<(&'static str, PathBuf)>,
    /// Containers so far.
    pub(crate) made: Cell<usize>,
    /// Podman's own folder, gone with the engine.
    pub(crate) _storage: Option<Storage>,
}

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With images and containers in a folder of its own.
    Podman,
    /// With those of its daemon.
    Docker,
}

impl Engine {
    /// Docker, if its daemon answers.
    pub(crate) fn docker() -> Result<Engine, Reason> {
        let mut engine = Engine {
            kind: Kind::Docker,
            name: "docker".to_owned(),
            global: Vec::new(),
            create: Vec::new(),
            env: Vec::new(),
            made: Cell::new(0),
            _storage: None,
        };
        let version = ["version", "--format", "{{.Server.Version}}"];
        let answer = ask(engine.command().args(version), SHORT)?;
        if !answer.is_ok() {
            return Err(format!("docker does not answer: {}", answer.last_line()));
        }
        engine.name = format!("docker {}", answer.out.trim());
        Ok(engine)
    }

    fn program(&self) -> &'static str {
        match self.kind {
            Kind::Podman => "podman",
            Kind::Docker => "docker",
        }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.program());
        command.args(&self.global);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn do_it(&self, args: &[&str], limit: Duration) -> Result<Answer, Reason> {
        let answer = ask(self.command().args(args), limit)?;
        match answer.is_ok() {
            true => Ok(answer),
            false => Err(format!("{}: {}", self.program(), answer.last_line())),
        }
    }
}

impl Runner for Engine {
    fn name(&self) -> &str {
        &self.name
    }

    fn load(&self, archive: &Path, name: &str) -> Result<(), Reason> {
        let archive = archive.display().to_string();
        self.do_it(&["load", "-q", "-i", &archive], LIMIT)?;
        self.do_it(&["image", "inspect", "--format", "{{.Id}}", name], SHORT)?;
        Ok(())
    }

    fn forget(&self, name: &str) {
        // One that stays lies in a scratch folder, or is a second name that shows where it is from.
        let _ = self.do_it(&["rmi", name], SHORT);
    }

    fn create(&self, name: &str, launch: &Launch<'_>) -> Result<Box<dyn Container + '_>, Reason> {
        self.made.set(self.made.get() + 1);
        let id = format!(
            "boxwright-verify-{}-{}",
            std::process::id(),
            self.made.get()
        );
        let mut args: Vec<String> = ["create", "--no-healthcheck", "--pull", "never", "--name"]
            .map(str::to_owned)
            .into();
        args.extend([
            id.clone(),
            "--network".to_owned(),
            launch.network.to_owned(),
        ]);
        args.extend(self.create.iter().cloned());
        if launch.root == Root::ReadOnly {
            args.push("--read-only".to_owned());
            if self.kind == Kind::Podman {
                args.push("--read-only-tmpfs=false".to_owned());
            }
            args.extend(["--tmpfs".to_owned(), "/tmp".to_owned()]);
        }
        for (variable, value) in launch.env {
            args.extend(["--env".to_owned(), format!("{variable}={value}")]);
        }
        args.push(name.to_owned());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        // Dropped even if making it fails: then something may be there all the same.
        let made = Made { engine: self, id };
        self.do_it(&args, LIMIT)?;
        Ok(Box::new(made))
    }
}

/// A container of one of the two.
struct Made<'a> {
    engine: &'a Engine,
    id: String,
}

impl Container for Made<'_> {
    fn start(&self) -> Result<(), Reason> {
        self.engine.do_it(&["start", &self.id], LIMIT).map(drop)
    }

    fn state(&self) -> Result<State, Reason> {
        let format = "{{.State.Running}} {{.State.Pid}} {{.State.ExitCode}}";
        let asked = [
            "inspect",
            "--type",
            "container",
            "--format",
            format,
            &self.id,
        ];
        let answer = self.engine.do_it(&asked, SHORT)?;
        let words: Vec<&str> = answer.out.split_whitespace().collect();
        let state = match words[..] {
            ["true", pid, _] => pid.parse().ok().map(State::Running),
            ["false", _, code] => code.parse().ok().map(State::Ended),
            _ => None,
        };
        state.ok_or_else(|| format!("{} says {:?}", self.engine.program(), answer.out))
    }

    fn exec(&self, command: &[String], limit: Duration) -> Result<(), Reason> {
        let mut asked = self.engine.command();
        asked.args(["exec", &self.id]).args(command);
        let answer = ask(&mut asked, limit)?;
        match answer.code {
            Some(0) => Ok(()),
            Some(_) => Err(answer.last_line()),
            None => Err("it took longer than its timeout".to_owned()),
        }
    }

    fn user(&self) -> Result<u32, Reason> {
        let State::Running(pid) = self.state()? else {
            return Err("its process has ended".to_owned());
        };
        let unseen = || "its process cannot be seen from here".to_owned();
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        if self.engine.kind == Kind::Docker {
            // A daemon elsewhere counts the processes of another machine.
            let format = [
                "inspect",
                "--type",
                "container",
                "--format",
                "{{.Id}}",
                &self.id,
            ];
            let id = self.engine.do_it(&format, SHORT)?.out;
            let is_here = read("cgroup").is_some_and(|groups| groups.contains(id.trim()));
            if !is_here {
                return Err(unseen());
            }
        }
        let (status, map) = (read("status"), read("uid_map"));
        let outside = status.as_deref().and_then(effective_user);
        let inside = inside(outside.ok_or_else(unseen)?, &map.ok_or_else(unseen)?);
        inside.ok_or_else(unseen)
    }

    fn signal(&self, signal: &str) -> Result<(), Reason> {
        let asked = ["kill", "--signal", signal, &self.id];
        self.engine.do_it(&asked, SHORT).map(drop)
    }

    /// A busy engine says that a container has ended before it has written down all of its words.
    fn last_words(&self) -> String {
        for _ in 0..5 {
            let mut command = self.engine.command();
            command.args(["logs", "--tail", "5", &self.id]);
            match ask(&mut command, SHORT) {
                Ok(answer) if answer.out.is_empty() && answer.err.is_empty() => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Ok(answer) => return answer.out + &answer.err,
                Err(reason) => return reason,
            }
        }
        String::new()
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        let asked = ["rm", "--force", "--volumes", &self.id];
        let _ = ask(self.engine.command().args(asked), SHORT);
    }
}

/// The effective user ID in `/proc/PID/status`.
pub(crate) fn effective_user(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// What a user ID of this machine is in a namespace, by its `uid_map`.
pub(crate) fn inside(outside: u32, map: &str) -> Option<u32> {
    map.lines().find_map(|line| {
        let numbers: Vec<u32> = line
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        let [first_inside, first_outside, length] = numbers[..] else {
            return None;
        };
        let offset = outside.checked_sub(first_outside)?;
        (offset < length).then(|| first_inside + offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_are_those_inside() {
        let status = "Name:\tx\nUid:\t5\t1001\t7\t8\nGid:\t0\t0\t0\t0\n";
        assert_eq!(effective_user(status), Some(1001));
        assert_eq!(effective_user("Name:\tx\n"), None);
        let rootless = "         0       1000          1\n         1     100000      65536\n";
        for (outside, expected) in [
            (1000, Some(0)),
            (100_000, Some(1)),
            (101_000, Some(1001)),
            (0, None),
            (165_536, None),
        ] {
            assert_eq!(inside(outside, rootless), expected, "{outside}");
        }
        assert_eq!(inside(33, "0 0 4294967295\n"), Some(33));
    }
}
