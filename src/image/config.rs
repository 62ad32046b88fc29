//! The config of an image: what the base says, overridden by what the stage says.
//!
//! OCI image spec, `config.md`; `Healthcheck` and `Shell` are Docker's extensions. Inheritance is
//! a Dockerfile's:
//!
//! | setting | what the stage does to the base's |
//! |---|---|
//! | env, labels | merged by name; the base's order is kept, new names come after it |
//! | exposed ports, volumes | united |
//! | entrypoint | replaced, and an inherited cmd goes with it unless the stage sets one |
//! | cmd, user, workdir, stop signal | replaced |
//! | health check | replaced if the stage has a test, else the given times replace the base's |
//! | `OnBuild` | dropped, with a note: a spec has no triggers |
//!
//! Unknown fields of the base are kept. Dropped are those that speak of the base's own making and
//! would be untrue of the new image ([`UNTRUE_AT_THE_TOP`], [`UNTRUE_IN_CONFIG`]).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::Value;

use crate::image::error::ImageError;
use crate::image::history;
use crate::image::time::rfc3339;
use crate::oci::{DiffId, Healthcheck, History, ImageConfig, Platform, RootFs, RuntimeConfig};
use crate::spec::{AbsolutePath, Config, EnvVariable, HealthProbe, ProbeTest, Spanned};

/// Fields of a base's config document that name the base itself, its build or its builder.
const UNTRUE_AT_THE_TOP: [&str; 10] = [
    "checksum",
    "container",
    "container_config",
    "docker_version",
    "id",
    "moby.buildkit.buildinfo.v1",
    "moby.buildkit.cache.v0",
    "parent",
    "Size",
    "throwaway",
];

/// Fields of its `config` that name the container it was committed from, and `OnBuild`.
const UNTRUE_IN_CONFIG: [&str; 5] = ["Domainname", "Hostname", "Image", "MacAddress", ON_BUILD];

const ON_BUILD: &str = "OnBuild";

/// Everything that decides about a config.
#[derive(Debug, Clone, Copy)]
pub struct ConfigInputs<'a> {
    /// The config of the base image; `None` for `scratch`.
    pub base: Option<&'a ImageConfig>,
    /// What the stage sets.
    pub settings: &'a Config,
    /// The stage's own working directory, which `settings.workdir` overrides.
    pub workdir: Option<&'a AbsolutePath>,
    /// The text of the user, resolved by [`crate::image::resolve_user`]; `None` keeps the base's.
    pub user: Option<&'a str>,
    /// The layers that are put on the base, lowest first.
    pub layers: &'a [NewLayer<'a>],
    /// The time of everything, in seconds since 1970.
    pub epoch: u64,
    /// What the image runs on.
    pub platform: &'a Platform,
}

/// A layer that the stage puts on its base.
#[derive(Debug, Clone, Copy)]
pub struct NewLayer<'a> {
    /// The digest of its uncompressed bytes.
    pub diff_id: DiffId,
    /// What made it, in one line; history says `boxwright: ` before it.
    pub title: &'a str,
}

/// A config, and what should be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltConfig {
    /// The config.
    pub config: ImageConfig,
    /// Remarks for people, each one line.
    pub notes: Vec<String>,
}

/// Makes the config of an image.
///
/// # Errors
/// A time beyond the year 9999, or a health check that has nothing to run.
pub fn config(inputs: &ConfigInputs<'_>) -> Result<BuiltConfig, ImageError> {
    let created = rfc3339(inputs.epoch)?;
    let base = inputs.base;
    let inherited = base.map(|base| base.config.clone()).unwrap_or_default();
    let mut notes = Vec::new();
    if inherited.other.get(ON_BUILD).is_some_and(is_said) {
        notes.push(
            "the base image has ONBUILD triggers; they are not run and not passed on".to_owned(),
        );
    }
    let mut diff_ids = base.map_or_else(Vec::new, |base| base.rootfs.diff_ids.clone());
    let base_history = base.map_or(&[][..], |base| &base.history);
    let mut history = history::mended(base_history, diff_ids.len());
    for layer in inputs.layers {
        diff_ids.push(layer.diff_id);
        history.push(History {
            created: Some(created.clone()),
            created_by: Some(format!("boxwright: {}", layer.title)),
            ..History::default()
        });
    }
    let config = ImageConfig {
        created: Some(created),
        author: base.and_then(|base| base.author.clone()),
        platform: inputs.platform.clone(),
        config: runtime_config(inputs, inherited)?,
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids,
        },
        history,
        other: base.map_or_else(BTreeMap::new, |base| {
            without(&base.other, &UNTRUE_AT_THE_TOP)
        }),
    };
    Ok(BuiltConfig { config, notes })
}

/// Whether a field says anything: Go writes what is not set as `null`, empty or false.
fn is_said(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

fn without(fields: &BTreeMap<String, Value>, untrue: &[&str]) -> BTreeMap<String, Value> {
    let kept = fields
        .iter()
        .filter(|(key, _)| !untrue.contains(&key.as_str()));
    kept.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn runtime_config(
    inputs: &ConfigInputs<'_>,
    base: RuntimeConfig,
) -> Result<RuntimeConfig, ImageError> {
    let settings = inputs.settings;
    let mut config = RuntimeConfig {
        env: environment(base.env, &settings.env),
        healthcheck: healthcheck(base.healthcheck, settings.healthcheck.as_ref())?,
        other: without(&base.other, &UNTRUE_IN_CONFIG),
        ..base
    };
    if let Some(entrypoint) = &settings.entrypoint {
        config.entrypoint = entrypoint.value.clone();
        config.cmd = Vec::new();
    }
    if let Some(cmd) = &settings.cmd {
        config.cmd = cmd.value.clone();
    }
    if let Some(user) = inputs.user {
        config.user = user.to_owned();
    }
    let workdir = settings.workdir.as_ref().map(|workdir| &workdir.value);
    if let Some(workdir) = workdir.or(inputs.workdir) {
        config.working_dir = workdir.as_str().to_owned();
    }
    if let Some(signal) = &settings.stop_signal {
        config.stop_signal = signal.value.as_str().to_owned();
    }
    let ports = settings.expose.iter().map(|port| port.value.to_string());
    config.exposed_ports.extend(ports);
    let volumes = settings.volumes.iter();
    config
        .volumes
        .extend(volumes.map(|path| path.value.as_str().to_owned()));
    let labels = settings.labels.iter();
    config
        .labels
        .extend(labels.map(|(name, value)| (name.clone(), value.value.clone())));
    Ok(config)
}

/// The variables of a base with those of a stage or step. Base variables keep their places, new
/// ones follow in the order of the spec.
pub fn environment(mut env: Vec<String>, new: &[EnvVariable]) -> Vec<String> {
    let mut values: HashMap<String, String> = HashMap::new();
    for line in &env {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        values.insert(name.to_owned(), value.to_owned());
    }
    for variable in new {
        let name = &variable.name.value;
        let value = variable
            .value
            .value
            .resolve(|name| values.get(name).map(String::as_str));
        let line = format!("{name}={value}");
        let is_same =
            |line: &String| line.split_once('=').map_or(line.as_str(), |(n, _)| n) == name;
        match env.iter().position(is_same) {
            Some(place) => {
                env[place] = line;
                // A base may name a variable twice; now only the new line may count.
                let mut position = 0;
                env.retain(|line| {
                    position += 1;
                    position - 1 <= place || !is_same(line)
                });
            }
            None => env.push(line),
        }
        values.insert(name.clone(), value);
    }
    env
}

fn healthcheck(
    base: Option<Healthcheck>,
    probe: Option<&Spanned<HealthProbe>>,
) -> Result<Option<Healthcheck>, ImageError> {
    let Some(Spanned { value: probe, span }) = probe else {
        return Ok(base);
    };
    let mut check = match (&probe.test, base) {
        (Some(test), _) => Healthcheck {
            test: test_words(&test.value),
            ..Healthcheck::default()
        },
        (None, Some(base)) if !base.test.is_empty() => base,
        (None, _) => return Err(ImageError::HealthcheckWithoutTest(*span)),
    };
    for (field, given) in [
        (&mut check.interval, &probe.interval),
        (&mut check.timeout, &probe.timeout),
        (&mut check.start_period, &probe.start_period),
        (&mut check.start_interval, &probe.start_interval),
    ] {
        if let Some(given) = given {
            *field = nanoseconds(given.value);
        }
    }
    if let Some(retries) = &probe.retries {
        check.retries = u64::from(retries.value);
    }
    Ok(Some(check))
}

fn test_words(test: &ProbeTest) -> Vec<String> {
    match test {
        ProbeTest::None => vec!["NONE".to_owned()],
        ProbeTest::Exec(words) => std::iter::once("CMD".to_owned())
            .chain(words.iter().cloned())
            .collect(),
        ProbeTest::Shell(command) => vec!["CMD-SHELL".to_owned(), command.clone()],
    }
}

/// Docker counts in signed 64-bit nanoseconds; the spec's durations fit, by their own rule.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).map_or(i64::MAX as u64, |nanos| nanos.min(i64::MAX as u64))
}

#[cfg(test)]
mod tests;
