//! Profiles: what is otherwise in one environment, such as development or production.
//!
//! A profile is chosen by its name (`--profile prod`), and the build is that of a spec which says
//! what the profile says; without one the spec counts as it is. What the other profiles say is
//! checked and forgotten by the decoder: no model, plan or image ever holds it.
//!
//! | key | in effect |
//! |---|---|
//! | `args` | the value of a declared argument, instead of its default; `--arg` goes before both |
//! | `target` | the stage that becomes the image, instead of the spec's; `--target` goes before both |
//! | `env`, `labels` | written below those of the target's `config`: of one name the profile's counts |
//! | `user`, `entrypoint`, `cmd` | written instead of those of the target's `config` |
//!
//! The settings of no other stage change. Commands of the target see its `env`, as they see that of
//! its `config`. Steps, files and tags that should differ use an argument that the profiles set.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use crate::spec::config::{Config, EnvVariable};
use crate::spec::model::Args;
use crate::spec::schema::{Text, TextMap};
use crate::spec::source::Spanned;
use crate::spec::value::{Name, Owner};

/// Values for one environment, in effect if `--profile` names it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Profile {
    /// The key of the profile.
    #[schemars(skip)]
    pub name: Spanned<Name>,
    /// Other values of arguments that the spec declares; `--arg` goes before them. One without a
    /// value must be given by `--arg`.
    #[schemars(with = "Option<Args>")]
    pub args: Args,
    /// The stage that becomes the image, instead of the spec's; `--target` goes before it.
    pub target: Option<Spanned<Name>>,
    /// Who runs the container, instead of what the `config` of the target says.
    pub user: Option<Spanned<Owner>>,
    /// Environment variables, as if written below those in the `config` of the target.
    #[schemars(with = "Option<TextMap>")]
    pub env: Vec<EnvVariable>,
    /// The program and its first arguments, instead of those in the `config` of the target, whose
    /// `cmd` stays; an empty list takes the base's away.
    #[schemars(with = "Option<Vec<Text>>")]
    pub entrypoint: Option<Spanned<Vec<String>>>,
    /// Further arguments, instead of those in the `config` of the target; an empty list takes the
    /// base's away.
    #[schemars(with = "Option<Vec<Text>>")]
    pub cmd: Option<Spanned<Vec<String>>>,
    /// Labels by name, over those in the `config` of the target.
    #[schemars(with = "Option<TextMap>")]
    pub labels: BTreeMap<String, Spanned<String>>,
}

impl Profile {
    /// Lets the target's config say what the profile says.
    pub fn apply(&self, config: &mut Config) {
        fn replace<T: Clone>(old: &mut Option<T>, new: Option<&T>) {
            if let Some(new) = new {
                *old = Some(new.clone());
            }
        }
        replace(&mut config.user, self.user.as_ref());
        replace(&mut config.entrypoint, self.entrypoint.as_ref());
        replace(&mut config.cmd, self.cmd.as_ref());
        config.env.extend(self.env.iter().cloned());
        let labels = self.labels.iter();
        config
            .labels
            .extend(labels.map(|(name, value)| (name.clone(), value.clone())));
    }
}
