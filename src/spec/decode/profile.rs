//! Profiles: the chosen one is read, the others are checked and forgotten.

use std::collections::BTreeMap;

use crate::spec::arguments::{PREDEFINED, nearest};
use crate::spec::decode::fields::Fields;
use crate::spec::decode::shapes::PROFILE;
use crate::spec::decode::{Decoder, Role};
use crate::spec::diagnostic::{Diagnostic, MOST};
use crate::spec::model::Args;
use crate::spec::profile::Profile;
use crate::spec::source::Spanned;
use crate::spec::value::Name;
use crate::spec::yaml::{Entry, Value};

/// So many profiles are listed; nobody reads on.
const MOST_LISTED: usize = 20;

/// The profiles of a spec, as maps whose keys have been checked.
pub(crate) struct Profiles<'n> {
    written: Vec<Written<'n>>,
    /// Whether the one that is asked for is not there, so that nobody knows what was meant.
    pub(crate) is_unknown: bool,
}

struct Written<'n> {
    /// `None` if it was refused; the rest is checked all the same.
    name: Option<Spanned<Name>>,
    fields: Fields<'n>,
    /// The values of its arguments.
    args: &'n [Entry],
    is_chosen: bool,
}

impl<'n> Profiles<'n> {
    /// Lets the arguments of the chosen profile count instead of their defaults.
    pub(crate) fn redeclare(&self, declared: &mut BTreeMap<&'n str, &'n Entry>) {
        let chosen = self.written.iter().filter(|profile| profile.is_chosen);
        for entry in chosen.flat_map(|profile| profile.args) {
            declared
                .entry(entry.key.value.as_str())
                .and_modify(|default| *default = entry);
        }
    }
}

impl Decoder<'_> {
    /// The profiles, of which `wanted` is the name of the one to choose.
    pub(crate) fn profiles<'n>(
        &mut self,
        fields: &Fields<'n>,
        wanted: Option<&str>,
    ) -> Profiles<'n> {
        let help = "write `profiles: {prod: {env: {NAME: value}}}`";
        let entries = fields
            .value("profiles")
            .and_then(|node| self.entries(node, "profiles", help));
        let mut written = Vec::new();
        for Entry { key, value } in entries.unwrap_or_default() {
            let name = self.name(key, "a profile");
            let help = format!("write `{}: {{env: {{NAME: value}}}}`", key.value);
            let Some(fields) = self.fields(value, &PROFILE, &help) else {
                continue;
            };
            let help = "write `args: {NAME: value}`";
            let args = fields
                .value("args")
                .and_then(|node| self.entries(node, "args", help));
            written.push(Written {
                name,
                fields,
                args: args.unwrap_or_default(),
                is_chosen: wanted == Some(key.value.as_str()),
            });
        }
        let keys = entries.unwrap_or_default().iter();
        let known: Vec<&str> = keys.map(|entry| entry.key.value.as_str()).collect();
        let must_be_there = self.role == Role::Built;
        let unknown = wanted.filter(|wanted| must_be_there && !known.contains(wanted));
        if let Some(wanted) = unknown {
            let diagnostic = self.unknown_profile(wanted, &known);
            self.report(diagnostic);
        }
        Profiles {
            written,
            is_unknown: unknown.is_some(),
        }
    }

    fn unknown_profile(&self, wanted: &str, known: &[&str]) -> Diagnostic {
        let message = format!("this spec has no profile {wanted:?}");
        let about = Diagnostic::about(self.source, message);
        if known.is_empty() {
            return about.help(format!(
                "write it: `profiles: {{{wanted}: {{env: {{NAME: value}}}}}}`"
            ));
        }
        let about = match nearest(wanted, known.iter().copied()) {
            Some(near) => about.help(format!("did you mean `{near}`?")),
            None => about,
        };
        let listed = known[..known.len().min(MOST_LISTED)].join(", ");
        about.help(match known.len().saturating_sub(MOST_LISTED) {
            0 => format!("its profiles are {listed}"),
            more => format!("its profiles are {listed} and {more} more"),
        })
    }

    /// Only what is declared has a value to be replaced, in whichever profile.
    pub(crate) fn known_args(
        &mut self,
        profiles: &Profiles<'_>,
        declared: &BTreeMap<&str, &Entry>,
    ) {
        let keys = profiles.written.iter().flat_map(|profile| profile.args);
        for Entry { key, .. } in keys {
            // Looking for similar names takes its time, so it is not done for what nobody will see.
            if !declared.contains_key(key.as_str()) && self.diagnostics.len() < MOST {
                let diagnostic = self.undeclared(key, Some(key.span), declared);
                self.report(diagnostic);
            }
        }
    }

    /// The chosen profile, once all arguments have their values.
    pub(crate) fn chosen(&mut self, profiles: &Profiles<'_>) -> Option<Profile> {
        let (chosen, others): (Vec<_>, Vec<_>) = profiles
            .written
            .iter()
            .partition(|profile| profile.is_chosen);
        let chosen = chosen.first().and_then(|written| {
            let names = written.args.iter().map(|entry| entry.key.as_str());
            let values =
                names.filter_map(|name| Some((name.to_owned(), self.args.value(name)?.to_owned())));
            let args = Args::new(values.collect());
            self.profile(written, args)
        });
        // Nobody knows what arguments stand for in another profile, so texts that use them are
        // only asked whether there are such arguments.
        let names = self.args.iter().map(|(name, _)| name.to_owned());
        let declared = names.filter(|name| !PREDEFINED.contains(&name.as_str()));
        let of_others = self.poisoned.iter().cloned().chain(declared).collect();
        let poisoned = std::mem::replace(&mut self.poisoned, of_others);
        for other in others {
            for Entry { key, value } in other.args {
                if !matches!(value.value, Value::Null) {
                    self.text(value, key);
                }
            }
            self.profile(other, Args::default());
        }
        self.poisoned = poisoned;
        chosen
    }

    fn profile(&mut self, written: &Written<'_>, args: Args) -> Option<Profile> {
        let fields = &written.fields;
        let target = self.optional(fields, "target");
        let user = self.optional(fields, "user");
        let env = self.env(fields);
        let entrypoint = self.argv(fields, "entrypoint");
        let cmd = self.argv(fields, "cmd");
        let labels = self.labels(fields);
        Some(Profile {
            name: written.name.clone()?,
            args,
            target,
            user,
            env,
            entrypoint,
            cmd,
            labels,
        })
    }
}
