//! Run-time settings: what an image says to whoever runs it.
//!
//! What a stage does not set is inherited from its base, as a Dockerfile does. OCI image spec,
//! `config.md`; the health check is Docker's extension.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;

use crate::spec::path::AbsolutePath;
use crate::spec::schema::{CountText, DurationText, PortText, Text, TextMap};
use crate::spec::source::Spanned;
use crate::spec::value::{Owner, Port, Signal};

/// The settings of one stage.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Config {
    /// Who runs the container, and with which group.
    pub user: Option<Spanned<Owner>>,
    /// Whether the user is written as a number or as its name.
    #[schemars(with = "Option<UserAs>")]
    pub user_as: UserAs,
    /// The working directory.
    pub workdir: Option<Spanned<AbsolutePath>>,
    /// Environment variables, in order: a later one may use an earlier one.
    #[schemars(with = "Option<TextMap>")]
    pub env: Vec<EnvVariable>,
    /// The program and its first arguments; an empty list takes the base's away.
    #[schemars(with = "Option<Vec<Text>>")]
    pub entrypoint: Option<Spanned<Vec<String>>>,
    /// Further arguments, which a user may replace; an empty list takes the base's away.
    #[schemars(with = "Option<Vec<Text>>")]
    pub cmd: Option<Spanned<Vec<String>>>,
    /// Ports that the program listens on, ranges expanded, without repetition.
    #[schemars(with = "Option<Vec<PortText>>")]
    pub expose: Vec<Spanned<Port>>,
    /// The signal that asks the program to stop.
    pub stop_signal: Option<Spanned<Signal>>,
    /// Labels by name.
    #[schemars(with = "Option<TextMap>")]
    pub labels: BTreeMap<String, Spanned<String>>,
    /// Directories that a runtime gives storage of their own.
    #[schemars(with = "Option<Vec<AbsolutePath>>")]
    pub volumes: Vec<Spanned<AbsolutePath>>,
    /// How a runtime finds out whether the program is well.
    pub healthcheck: Option<Spanned<HealthProbe>>,
}

/// How `config.user` is written into the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum UserAs {
    /// As `uid`, or `uid:gid` where the spec names a group: runtimes can tell that it is not root
    /// without reading the image.
    #[default]
    Numeric,
    /// As written in the spec.
    Name,
}

/// An environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvVariable {
    /// The name.
    pub name: Spanned<String>,
    /// The value, which may use inherited ones.
    pub value: Spanned<EnvTemplate>,
}

/// The value of a variable, with places for values known only when the base is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvTemplate {
    /// The parts in order; no two literals stand side by side.
    pub parts: Vec<EnvPart>,
}

/// A part of an [`EnvTemplate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvPart {
    /// Text.
    Literal(String),
    /// `${env.NAME}`: the value that `NAME` has so far, from the base or from a line above.
    Inherited(String),
}

/// How a runtime finds out whether the program is well. What is absent is inherited, or the
/// runtime's own default.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HealthProbe {
    /// What is run.
    pub test: Option<Spanned<ProbeTest>>,
    /// Between two probes.
    #[schemars(with = "Option<DurationText>")]
    pub interval: Option<Spanned<Duration>>,
    /// For one probe.
    #[schemars(with = "Option<DurationText>")]
    pub timeout: Option<Spanned<Duration>>,
    /// In which failures do not count.
    #[schemars(with = "Option<DurationText>")]
    pub start_period: Option<Spanned<Duration>>,
    /// Between two probes during the start period.
    #[schemars(with = "Option<DurationText>")]
    pub start_interval: Option<Spanned<Duration>>,
    /// Failures in a row that make a container unhealthy.
    #[schemars(with = "Option<CountText>")]
    pub retries: Option<Spanned<u32>>,
}

/// What a health check runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeTest {
    /// `none`: nothing, not even the base's.
    None,
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A command for the image's shell.
    Shell(String),
}

impl EnvTemplate {
    /// A template without inherited parts.
    pub fn literal(text: impl Into<String>) -> EnvTemplate {
        EnvTemplate {
            parts: vec![EnvPart::Literal(text.into())],
        }
    }

    /// The value, with `inherited` asked for each name; a name without a value gives nothing, as
    /// in a shell and a Dockerfile.
    pub fn resolve<'a>(&self, mut inherited: impl FnMut(&str) -> Option<&'a str>) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                EnvPart::Literal(text) => text.as_str(),
                EnvPart::Inherited(name) => inherited(name).unwrap_or_default(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_values_take_their_places() {
        let path = EnvTemplate {
            parts: vec![
                EnvPart::Literal("/venv/bin:".to_owned()),
                EnvPart::Inherited("PATH".to_owned()),
            ],
        };
        assert_eq!(
            path.resolve(|name| (name == "PATH").then_some("/bin")),
            "/venv/bin:/bin"
        );
        assert_eq!(path.resolve(|_| None), "/venv/bin:");
        assert_eq!(EnvTemplate::literal("x").resolve(|_| None), "x");
    }
}
