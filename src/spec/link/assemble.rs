//! The needed stages of all files, in one spec.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::spec::decode::Decoded;
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::link::{Linker, Place, names_in};
use crate::spec::model::{Allow, Base, BuildSpec, ExtendedSpec, Home, Stage};
use crate::spec::profile::Profile;
use crate::spec::source::{SourceText, Spanned};
use crate::spec::value::Name;

impl Linker<'_> {
    /// The spec, if nothing is wrong.
    pub(crate) fn assemble(mut self) -> Result<BuildSpec, Diagnostics> {
        self.check_overrides();
        let source = Arc::clone(&self.source);
        for file in &mut self.files {
            if let Some(Decoded { spec, .. }) = &mut file.decoded {
                self.problems.extend(apply_profile(spec, &source));
            }
        }
        let mut stages = self.stages();
        let allowed: Vec<_> = stages.iter().map(|stage| self.allowed(stage)).collect();
        for (stage, allowed) in stages.iter_mut().zip(allowed) {
            stage.allow = allowed;
        }
        let Linker {
            own,
            files,
            problems,
            ..
        } = self;
        problems.finish(())?;
        let extended = files.into_iter().filter_map(|file| {
            let spec = file.decoded?.spec;
            Some(ExtendedSpec {
                path: file.path,
                source: file.source,
                names: spec
                    .stages
                    .into_iter()
                    .map(|stage| stage.name.value)
                    .collect(),
                args: spec.args,
                contexts: spec.contexts,
            })
        });
        Ok(BuildSpec {
            source,
            stages,
            extended: extended.collect(),
            ..own.spec
        })
    }

    /// An argument that the caller gives must be declared somewhere.
    fn check_overrides(&mut self) {
        let files = self.files.iter().filter_map(|file| file.decoded.as_ref());
        let declared: BTreeSet<&String> = files.flat_map(|file| &file.declared).collect();
        for (name, problem) in &self.own.undeclared {
            if !declared.contains(name) {
                let mut problem = problem.clone();
                problem.message.push_str(" nor in those that it extends");
                self.problems.push(problem);
            }
        }
    }

    /// The stages that are needed, the spec's own first, with what they start from.
    fn stages(&self) -> Vec<Stage> {
        let extended = (0..self.files.len()).map(Home::Extended);
        let mut all = Vec::new();
        for home in [Home::Own].into_iter().chain(extended) {
            let stages = self.decoded(home).map(|file| file.spec.stages.as_slice());
            for stage in stages.unwrap_or_default() {
                let place = (home, stage.name.value.clone());
                if !self.needed.contains(&place) {
                    continue;
                }
                let mut stage = Stage {
                    home,
                    ..stage.clone()
                };
                if let Some((home, name)) = self.bases.get(&place) {
                    stage.from.value = Base::Stage(*home, name.clone());
                }
                all.push(stage);
            }
        }
        all
    }

    /// The rules that a stage may break: those of the stage that it is, if it says nothing else.
    fn allowed(&self, stage: &Stage) -> Vec<Spanned<Allow>> {
        let first: Place = (stage.home, stage.name.value.clone());
        let is_all = |(home, name): &Place| {
            let extends = self.decoded(*home)?.extends.get(name)?;
            extends.is_all.then_some(())
        };
        let next = |place: &Place| is_all(place).and_then(|()| self.bases.get(place)).cloned();
        // Files do not extend each other in a circle, so this ends.
        let last = std::iter::successors(Some(first), next).last();
        let stage = last.and_then(|place| self.stage(&place));
        stage.map(|stage| stage.allow.clone()).unwrap_or_default()
    }
}

/// Lets the target of an extended file say what the file's profile says, as if it were built.
fn apply_profile(spec: &mut BuildSpec, source: &Arc<SourceText>) -> Option<Diagnostic> {
    let profile = spec.profile.take()?;
    if !says_more_than_args(&profile) {
        return None;
    }
    let target = match profile.target.as_ref().or(spec.target.as_ref()) {
        Some(target) => Some(target.value.clone()),
        None => only_unused(spec),
    };
    let of_target = |stage: &&mut Stage| Some(&stage.name.value) == target.as_ref();
    match spec.stages.iter_mut().find(of_target) {
        Some(stage) => {
            profile.apply(&mut stage.config);
            None
        }
        None => {
            let name = profile.name.as_str();
            let message = format!(
                "profile {name:?} says something of an image, and this file does not tell which stage that is"
            );
            let problem = Diagnostic::new(source, profile.name.span, message);
            Some(
                problem
                    .help("name the stage, beside `stages` or in the profile: `target: STAGE`")
                    .help("or let the profile say `args` only, and let stages use them"),
            )
        }
    }
}

fn says_more_than_args(profile: &Profile) -> bool {
    profile.user.is_some()
        || profile.entrypoint.is_some()
        || profile.cmd.is_some()
        || !profile.env.is_empty()
        || !profile.labels.is_empty()
}

/// The only stage that no other of its file uses.
fn only_unused(spec: &BuildSpec) -> Option<Name> {
    let used: BTreeSet<&Name> = spec.stages.iter().flat_map(names_in).collect();
    let names = spec.stages.iter().map(|stage| &stage.name.value);
    let mut unused = names.filter(|name| !used.contains(name));
    let first = unused.next()?;
    unused.next().is_none().then(|| first.clone())
}
