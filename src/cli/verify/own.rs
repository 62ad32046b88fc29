//! Boxwright's own sandbox: the image is taken out of the archive that was written, and its process
//! started, asked and stopped without any other program.
//!
//! What that is like, and what podman has besides, stands in [`boxwright::sandbox::service`].

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxwright::build::{UnpackedImage, unpack_image};
use boxwright::oci::RuntimeConfig;
use boxwright::sandbox::service::{self, Exec, RootMode, Service, ServiceJob, run_user};
use boxwright::sandbox::{
    Circumstances, Footing, Job, Limits, Mount, MountKind, Network, SandboxError, SandboxSettings,
    StopSwitch,
};
use boxwright::spec::ImageSource;

use crate::cli::args::VerifyArgs;
use crate::cli::cache;
use crate::cli::verify::engine::{effective_user, inside};
use crate::cli::verify::runner::{Container, Launch, Reason, Root, Runner, State};
use crate::cli::verify::signals;

/// The name of the machine that services see.
const HOSTNAME: &str = "boxwright";
/// Lines that a failure shows.
const LAST_LINES: usize = 5;

/// The runner.
#[derive(Debug)]
pub(crate) struct Own {
    name: String,
    footing: Footing,
    settings: SandboxSettings,
    network: Network,
    limits: Limits,
    /// The archive is unpacked into a store of its own: nothing that the builds know is used.
    store: PathBuf,
    image: RefCell<Option<UnpackedImage>>,
}

/// The runner, if services can be started here as they are meant.
pub(crate) fn sandbox(args: &VerifyArgs, folder: &Path) -> Result<Own, Reason> {
    let network = match &*args.container_network {
        "none" => Network::None,
        "host" => Network::Host,
        other => {
            return Err(format!(
                "the sandbox has no network {other:?}, only none and host"
            ));
        }
    };
    let failed = |error: std::io::Error| format!("the sandbox cannot be prepared: {error}");
    let folder = std::path::absolute(folder).map_err(failed)?;
    let store = folder.join("store");
    let settings = SandboxSettings {
        program: std::env::current_exe().map_err(failed)?,
        scratch: folder.join("scratch"),
        letter: args.commands.sandbox,
        stop: StopSwitch::default(),
        circumstances: Circumstances::Usual,
    };
    let footing = service::footing(&settings).map_err(|error| match error {
        SandboxError::NoTier(_) | SandboxError::TierRefused { .. } => {
            "no sandbox works here, see `boxwright doctor`".to_owned()
        }
        other => format!("the sandbox does not work: {}", chain(&other)),
    })?;
    let (given, usual) = (&args.commands, Limits::default());
    let limits = Limits {
        memory: given.memory.map(|size| size.0).or(usual.memory),
        pids: given.pids.unwrap_or(usual.pids),
        ..usual
    };
    let footing =
        footing.map_err(|unfit| format!("the sandbox is not fit for services: {unfit}"))?;
    Ok(Own {
        name: format!("Boxwright's own sandbox (tier {})", footing.tier.letter()),
        footing,
        settings,
        network,
        limits,
        store,
        image: RefCell::new(None),
    })
}

impl Runner for Own {
    fn name(&self) -> &str {
        &self.name
    }

    fn load(&self, archive: &Path, _name: &str) -> Result<(), Reason> {
        let source = ImageSource::OciArchive {
            file: archive.to_owned(),
            reference: None,
        };
        let unpacked = unpack_image(&source, &self.store, &self.footing, &self.settings);
        *self.image.borrow_mut() = Some(unpacked.map_err(|error| chain(&error))?);
        Ok(())
    }

    fn forget(&self, _name: &str) {
        *self.image.borrow_mut() = None;
        // What stays lies in a scratch folder.
        if self.store.exists() && cache::swept(&self.store).is_ok() {
            let _ = fs::remove_dir_all(&self.store);
        }
    }

    fn create(&self, _name: &str, launch: &Launch<'_>) -> Result<Box<dyn Container + '_>, Reason> {
        let image = self.image.borrow();
        let image = image.as_ref().ok_or("no image is loaded")?;
        Ok(Box::new(Made {
            runner: self,
            job: job(image, launch, self.network, &self.limits)?,
            service: RefCell::new(None),
        }))
    }
}

/// What of the image is started, and how.
fn job(
    image: &UnpackedImage,
    launch: &Launch<'_>,
    network: Network,
    limits: &Limits,
) -> Result<ServiceJob, Reason> {
    let config = &image.config;
    let argv: Vec<String> = config
        .entrypoint
        .iter()
        .chain(&config.cmd)
        .cloned()
        .collect();
    if argv.is_empty() {
        return Err("the image says neither entrypoint nor cmd".to_owned());
    }
    let (user, home) =
        run_user(&config.user, &image.accounts).map_err(|error| error.to_string())?;
    let mut mounts = Vec::new();
    if launch.root == Root::ReadOnly {
        mounts.push(Mount {
            target: "/tmp".to_owned(),
            kind: MountKind::Tmpfs { size: None },
        });
    }
    Ok(ServiceJob {
        job: Job {
            argv,
            env: environment(config, launch.env),
            private_env: Vec::new(),
            user,
            home,
            workdir: match &*config.working_dir {
                "" => "/".to_owned(),
                workdir => workdir.to_owned(),
            },
            hostname: HOSTNAME.to_owned(),
            network,
            mounts,
            limits: limits.clone(),
            lowers: image.lowers.clone(),
            host_files: ["/etc/resolv.conf", "/etc/hosts"].map(PathBuf::from).into(),
        },
        mode: match launch.root {
            Root::Writable => RootMode::Writable,
            Root::ReadOnly => RootMode::ReadOnly,
        },
        volumes: config.volumes.iter().cloned().collect(),
    })
}

/// The variables of the container: its name, the image's, and those that are typed.
fn environment(config: &RuntimeConfig, typed: &[(String, String)]) -> Vec<(String, String)> {
    let split = |line: &String| match line.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (line.clone(), String::new()),
    };
    let mut env = vec![("HOSTNAME".to_owned(), HOSTNAME.to_owned())];
    env.extend(config.env.iter().map(split));
    env.extend(typed.iter().cloned());
    env
}

/// A container of the sandbox.
struct Made<'a> {
    runner: &'a Own,
    job: ServiceJob,
    /// None before it is started.
    service: RefCell<Option<Service>>,
}

impl Made<'_> {
    fn running<T>(&self, ask: impl FnOnce(&Service) -> T) -> Result<T, Reason> {
        let service = self.service.borrow();
        Ok(ask(service.as_ref().ok_or("it was not started")?))
    }
}

impl Container for Made<'_> {
    fn start(&self) -> Result<(), Reason> {
        let started = Service::start(&self.job, &self.runner.footing, &self.runner.settings);
        let started = started.map_err(|error| match error {
            SandboxError::Start { setup, .. } => setup.to_string(),
            other => chain(&other),
        });
        *self.service.borrow_mut() = Some(started?);
        Ok(())
    }

    fn state(&self) -> Result<State, Reason> {
        self.running(|service| match service.state() {
            service::State::Running(process) => State::Running(process),
            service::State::Ended(code) => State::Ended(code),
        })
    }

    fn exec(&self, command: &[String], limit: Duration) -> Result<(), Reason> {
        match self.running(|service| service.exec(command, limit))? {
            Exec::Ended(0, _) => Ok(()),
            Exec::Ended(code, words) => {
                Err(last_line(&words)
                    .unwrap_or_else(|| format!("exit code {code}, without a word")))
            }
            Exec::TimedOut(_) => Err("it took longer than its timeout".to_owned()),
            Exec::NotStarted(why) => Err(why),
            Exec::TooLate => Err("its process has ended".to_owned()),
        }
    }

    fn user(&self) -> Result<u32, Reason> {
        let State::Running(process) = self.state()? else {
            return Err("its process has ended".to_owned());
        };
        let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).ok();
        let (status, map) = (read("status"), read("uid_map"));
        let outside = status.as_deref().and_then(effective_user);
        let found = outside.zip(map).and_then(|(id, map)| inside(id, &map));
        found.ok_or_else(|| "its process cannot be seen from here".to_owned())
    }

    fn signal(&self, signal: &str) -> Result<(), Reason> {
        let unknown = || format!("there is no signal {signal}");
        let number = signals::number(signal).ok_or_else(unknown)?;
        self.running(|service| service.signal(number))?
            .map_err(|_| unknown())
    }

    fn last_words(&self) -> String {
        let lines = self.running(Service::last_words).unwrap_or_default();
        let first = lines.len().saturating_sub(LAST_LINES);
        lines[first..].join("\n")
    }
}

/// The last line that says something.
fn last_line(words: &str) -> Option<String> {
    let lines = words.lines().rev().map(str::trim);
    lines.map(str::to_owned).find(|line| !line.is_empty())
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_goes_before_what_the_image_says() {
        let config = RuntimeConfig {
            env: vec!["A=1=2".to_owned(), "B".to_owned()],
            ..RuntimeConfig::default()
        };
        let typed = [("A".to_owned(), "3".to_owned())];
        let env = environment(&config, &typed);
        let env: Vec<String> = env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(env, ["HOSTNAME=boxwright", "A=1=2", "B=", "A=3"]);
    }

    #[test]
    fn the_last_line_is_one_that_says_something() {
        assert_eq!(last_line("one\ntwo \n\n").as_deref(), Some("two"));
        assert_eq!(last_line("\n"), None);
    }
}
