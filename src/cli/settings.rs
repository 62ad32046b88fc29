//! Settings: the command line and the environment become requests. Every default is decided here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use boxwright::build::{CommandSettings, SharedCacheSettings};
use boxwright::sandbox::{Limits, Secret};
use tempfile::TempDir;

use crate::cli::args::{CommandArgs, Override, ProgressArg, SecretSource, SharedCacheArgs};
use crate::cli::exit::{Blame, Failure};
use crate::cli::terminal::Terminal;

mod composed;
mod requests;
mod workspace;

pub(crate) use requests::{Asked, Member};

/// The variables that mean something to us, and those that `--arg NAME` may ask for.
#[derive(Clone, Copy)]
pub(crate) struct Environment {
    variable: fn(&str) -> Option<OsString>,
}

/// The last second of the year 9999: image configs say times in RFC 3339.
const LAST_SECOND: u64 = 253_402_300_799;
/// A key that is shorter could be found by trying.
const LEAST_KEY: usize = 16;

impl Environment {
    /// The process's own.
    pub(crate) fn read() -> Environment {
        Environment {
            variable: |name| std::env::var_os(name),
        }
    }

    /// One that a test makes up.
    #[cfg(test)]
    pub(crate) fn made_up(variable: fn(&str) -> Option<OsString>) -> Environment {
        Environment { variable }
    }

    /// A variable; one that is set to nothing counts as not set.
    pub(crate) fn value(&self, name: &str) -> Option<OsString> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// A variable that is text.
    fn text(&self, name: &str) -> Option<String> {
        self.value(name)?.into_string().ok()
    }

    /// Whether the terminal cannot move its cursor, or nobody watches it.
    pub(crate) fn is_dumb_terminal(&self) -> bool {
        self.value("CI").is_some() || self.value("TERM").is_some_and(|term| term == "dumb")
    }

    /// The store's directory: `--store`, `BOXWRIGHT_STORE`, or `boxwright` in the cache folder.
    pub(crate) fn store_root(&self, typed: Option<&Path>) -> Result<PathBuf, Failure> {
        if let Some(typed) = typed {
            return Ok(typed.to_owned());
        }
        if let Some(store) = self.value("BOXWRIGHT_STORE") {
            return Ok(store.into());
        }
        // The XDG specification wants relative paths to be ignored.
        let absolute = |name: &str| {
            self.value(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        cache.map(|cache| cache.join("boxwright")).ok_or_else(|| {
            let headline = "there is no place for the store: BOXWRIGHT_STORE, XDG_CACHE_HOME and HOME are not set";
            Failure::new(Blame::CommandLine, headline).hint("name one with --store DIR")
        })
    }

    /// `SOURCE_DATE_EPOCH`, by default 0.
    pub(crate) fn epoch(&self) -> Result<u64, Failure> {
        let Some(text) = self.value("SOURCE_DATE_EPOCH") else {
            return Ok(0);
        };
        let seconds = text.to_str().and_then(|text| text.parse().ok());
        seconds
            .filter(|seconds| *seconds <= LAST_SECOND)
            .ok_or_else(|| {
                let headline = format!(
                    "SOURCE_DATE_EPOCH is {text:?}, which is no number of seconds since 1970"
                );
                Failure::new(Blame::CommandLine, headline)
                    .hint("for the time of a commit: SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)")
            })
    }

    /// Arguments with their values; those without one take it from the environment.
    fn overrides(&self, flag: &str, typed: &[Override]) -> Result<Vec<(String, String)>, Failure> {
        let value = |name: &str| {
            let value = (self.variable)(name).ok_or_else(|| {
                let headline = format!(
                    "{flag} {name} takes its value from the environment, where {name} is not set"
                );
                Failure::new(Blame::CommandLine, headline)
                    .hint(format!("write {flag} {name}=VALUE"))
            })?;
            value.into_string().map_err(|_| {
                let headline = format!("the value of {name} in the environment is not UTF-8");
                Failure::new(Blame::CommandLine, headline)
            })
        };
        typed
            .iter()
            .map(|Override { name, value: typed }| match typed {
                Some(typed) => Ok((name.clone(), typed.clone())),
                None => Ok((name.clone(), value(name)?)),
            })
            .collect()
    }

    /// Caches that are shared with other machines.
    fn shared_cache(&self, args: &SharedCacheArgs) -> Result<SharedCacheSettings, Failure> {
        let key = match (&args.cache_key, self.text("BOXWRIGHT_CACHE_KEY")) {
            (Some(path), _) => {
                let text = read_at_most(path, MOST_TEXT).map_err(|error| {
                    let headline = format!("cannot read the cache's key {}", path.display());
                    Failure::new(Blame::CommandLine, headline).because(&error)
                })?;
                Some(String::from_utf8_lossy(&text).trim().to_owned())
            }
            (None, variable) => variable,
        };
        if key.as_ref().is_some_and(|key| key.len() < LEAST_KEY) {
            let headline = format!("the cache's key has fewer than {LEAST_KEY} characters");
            return Err(Failure::new(Blame::CommandLine, headline)
                .hint("make one: openssl rand -hex 32 > cache.key"));
        }
        Ok(SharedCacheSettings {
            from: args.cache_from.clone(),
            to: args.cache_to.as_ref().map(|to| to.reference.clone()),
            mode: args
                .cache_to
                .as_ref()
                .map_or_else(Default::default, |to| to.mode),
            key: key.map(boxwright::transport::http::Secret::new),
            trust: args.cache_trust,
        })
    }

    /// What commands are given.
    fn commands(&self, given: &CommandArgs) -> Result<CommandSettings, Failure> {
        let mut secrets = BTreeMap::new();
        for secret in &given.secrets {
            let bytes = match &secret.source {
                SecretSource::File(path) => read_at_most(path, MOST_TEXT).map_err(|error| {
                    let doing = format!("read the secret {}", path.display());
                    Failure::new(Blame::CommandLine, format!("cannot {doing}")).because(&error)
                })?,
                SecretSource::Variable(name) => self.secret_variable(name)?,
            };
            secrets.insert(secret.id.as_str().to_owned(), Secret::new(bytes));
        }
        let mut agents = BTreeMap::new();
        for agent in &given.agents {
            let socket = agent.value.clone().or_else(|| self.text("SSH_AUTH_SOCK"));
            let socket = socket.ok_or_else(|| {
                Failure::new(
                    Blame::CommandLine,
                    "there is no SSH agent: SSH_AUTH_SOCK is not set",
                )
            })?;
            agents.insert(agent.name.clone(), PathBuf::from(socket));
        }
        let proxies = PROXIES.iter();
        let proxies = proxies.filter_map(|name| Some(((*name).to_owned(), self.text(name)?)));
        let certificates = self.text("SSL_CERT_FILE").map(PathBuf::from);
        let system = CERTIFICATES.iter().map(PathBuf::from);
        let limits = Limits::default();
        Ok(CommandSettings {
            program: std::env::current_exe().ok(),
            letter: given.sandbox,
            limits: Limits {
                memory: given.memory.map(|size| size.0).or(limits.memory),
                pids: given.pids.unwrap_or(limits.pids),
                timeout: given.timeout.map(|age| age.0).or(limits.timeout),
                ..limits
            },
            secrets,
            agents,
            private_env: proxies.collect(),
            certificates: certificates
                .into_iter()
                .chain(system)
                .find(|path| path.is_file()),
            ..CommandSettings::default()
        })
    }

    fn secret_variable(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let value = self.text(name);
        value.map(String::into_bytes).ok_or_else(|| {
            let message = format!("the variable {name} of a secret is not set");
            Failure::new(Blame::CommandLine, message)
        })
    }
}

/// Variables that say how the network is reached.
const PROXIES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

/// Where distributions keep the machine's certificate authorities.
const CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How progress is shown, once `auto` is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgressStyle {
    /// Lines that are drawn again while things happen.
    Live,
    /// One line for each thing that is done.
    Plain,
    /// One JSON object for each event.
    Json,
    /// Only warnings.
    Quiet,
}

impl ProgressStyle {
    /// `auto` is live where lines can be drawn again.
    pub(crate) fn decide(typed: ProgressArg, terminal: &Terminal) -> ProgressStyle {
        match typed {
            ProgressArg::Auto if terminal.is_live() => ProgressStyle::Live,
            ProgressArg::Auto | ProgressArg::Plain => ProgressStyle::Plain,
            ProgressArg::Json => ProgressStyle::Json,
            ProgressArg::Quiet => ProgressStyle::Quiet,
        }
    }
}

/// The most that a spec, a lock, a key or a secret may have: a device must not fill the memory.
pub(crate) const MOST_TEXT: u64 = 16 << 20;

/// A file's bytes.
pub(crate) fn read_at_most(file: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file)?;
    opened.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            format!("it has more than {most} bytes"),
        )),
        false => Ok(bytes),
    }
}

/// A folder that is gone with what is in it when it is dropped, in `folder` or among the system's
/// temporary files.
pub(crate) fn scratch_folder(folder: Option<&Path>) -> Result<TempDir, Failure> {
    let made = match folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    made.map_err(|error| Failure::system("make a scratch folder", &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::terminal::plain;

    /// An environment of the variables that the match arms name.
    fn environment(variable: fn(&str) -> Option<OsString>) -> Environment {
        Environment { variable }
    }

    #[test]
    fn the_store_is_found_in_order() {
        let all = environment(|name| {
            Some(match name {
                "BOXWRIGHT_STORE" => "/b".into(),
                "XDG_CACHE_HOME" => "/x".into(),
                _ => "/h".into(),
            })
        });
        let relative = environment(|name| match name {
            "XDG_CACHE_HOME" => Some("x".into()),
            "HOME" => Some("/h".into()),
            _ => Some("".into()),
        });
        let cache = environment(|name| (name == "XDG_CACHE_HOME").then(|| "/x".into()));
        let none = environment(|_| None);
        let root = |environment: Environment| environment.store_root(None).unwrap();
        assert_eq!(
            all.store_root(Some(Path::new("s"))).unwrap(),
            Path::new("s")
        );
        assert_eq!(root(all), Path::new("/b"));
        assert_eq!(root(cache), Path::new("/x/boxwright"));
        assert_eq!(root(relative), Path::new("/h/.cache/boxwright"));
        assert_eq!(none.store_root(None).unwrap_err().code(), 2);
    }

    #[test]
    fn the_epoch_is_a_number_of_seconds() {
        assert_eq!(environment(|_| None).epoch().unwrap(), 0);
        assert_eq!(
            environment(|_| Some("1700000000".into())).epoch().unwrap(),
            1_700_000_000
        );
        for wrong in [
            environment(|_| Some("yesterday".into())),
            environment(|_| Some("-1".into())),
            environment(|_| Some("253402300800".into())),
        ] {
            assert_eq!(wrong.epoch().unwrap_err().code(), 2);
        }
        let failure = environment(|_| Some("yesterday".into()))
            .epoch()
            .unwrap_err();
        insta::assert_snapshot!(plain(&failure.render(80)));
    }

    #[test]
    fn arguments_without_a_value_come_from_the_environment() {
        let environment = environment(|name| (name == "NODE").then(|| "22".into()));
        let typed: Vec<Override> = ["NODE", "A=b=c", "E="]
            .iter()
            .map(|t| t.parse().unwrap())
            .collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            environment.overrides("--arg", &typed).unwrap(),
            [pair("NODE", "22"), pair("A", "b=c"), pair("E", "")]
        );
        let failure = environment
            .overrides("--arg", &["X".parse().unwrap()])
            .unwrap_err();
        insta::assert_snapshot!(plain(&failure.render(80)));
    }
}
