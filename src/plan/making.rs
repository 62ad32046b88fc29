//! Planning: from a spec to a plan, or to all that is wrong with the spec as a whole.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::oci::{Platform, Reference};
use crate::plan::bind::{Binder, Bound};
use crate::plan::graph::{Circles, Graph};
use crate::plan::outside::unknown;
use crate::plan::rules;
use crate::plan::stage::{PlannedContext, PlannedFile, PlannedStage, StageId};
use crate::plan::target::find_target;
use crate::spec::{
    Args, BuildSpec, Compression, Diagnostic, Diagnostics, ExtendedSpec, Home, ImageSource, Lock,
    Name, SourceText, Stage,
};

/// What decides a plan beside the spec.
#[derive(Debug, Clone)]
pub struct PlanInputs<'a> {
    /// The stage that becomes the image, if not the one that the spec says (`--target`).
    pub target: Option<&'a str>,
    /// Other directories for contexts (`--context NAME=DIR`); `context` is the main one. They are
    /// relative to the caller's working directory, unlike those of the spec.
    pub contexts: &'a BTreeMap<String, PathBuf>,
    /// What the image runs on.
    pub platform: &'a Platform,
    /// What must know everything of the world outside, if nothing else is to be asked.
    pub lock: Option<&'a Lock>,
}

/// Everything that is decided before a file is looked at, for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The text that all spans count in.
    pub source: Arc<SourceText>,
    /// The stages that the target needs, dependencies first.
    pub stages: Vec<PlannedStage>,
    /// The stage that becomes the image.
    pub target: StageId,
    /// Names of the stages that the target does not need, in the order of the file.
    pub pruned: Vec<String>,
    /// The directories that steps copy from.
    pub contexts: Vec<PlannedContext>,
    /// The images that stages start from or copy from, each once, as written: their paths are
    /// relative to the spec's own folder. With a lock, references of registries have digests.
    pub images: Vec<ImageSource>,
    /// The files of the web that steps add.
    pub files: Vec<PlannedFile>,
    /// The full references that the image is given.
    pub names: Vec<Reference>,
    /// What the image runs on.
    pub platform: Platform,
    /// How layers are compressed, where the spec says so.
    pub compression: Option<Compression>,
    /// Arguments with their final values.
    pub args: Args,
    /// The profile that is in effect, if one is.
    pub profile: Option<Name>,
    /// The other specs that stages are of.
    pub extended: Vec<ExtendedSpec>,
}

impl Plan {
    /// The stage with this number.
    pub fn stage(&self, id: StageId) -> &PlannedStage {
        &self.stages[id.0]
    }

    /// The arguments that texts of a stage's files may use.
    pub fn args_of(&self, stage: &PlannedStage) -> &Args {
        match stage.stage.home {
            Home::Own => &self.args,
            Home::Extended(place) => &self.extended[place].args,
        }
    }

    /// The stage that becomes the image.
    pub fn target_stage(&self) -> &PlannedStage {
        self.stage(self.target)
    }
}

/// Plans a build.
///
/// # Errors
/// Everything that is wrong with the spec as a whole, all at once. Where stages go in a circle or
/// the target is unknown, nobody can tell what is needed, and rules for needed stages are silent.
pub fn plan(spec: &BuildSpec, inputs: &PlanInputs<'_>) -> Result<Plan, Diagnostics> {
    let mut problems = Diagnostics::new();
    check_contexts(spec, inputs, &mut problems);
    let names = names(spec, &mut problems);
    let mut graph = Graph::read(spec, &mut problems);
    let circles = graph.report_circles(&mut problems);
    let target = find_target(spec, inputs.target, &graph, &mut problems);
    let (Circles::None, Some(target)) = (circles, target) else {
        return Err(problems.sorted());
    };
    let spec = &*in_effect(spec, target);
    let order = graph.needed(target);
    let mut binder = Binder::new(spec, inputs, &graph, &order);
    let stages: Vec<PlannedStage> = order.iter().map(|&index| binder.stage(index)).collect();
    rules::final_stage(spec, &graph, target, &mut problems);
    // Without a lock a file that nothing knows is wrong wherever it stands; a lock is only asked
    // about what the target needs.
    let judged: Vec<&Stage> = match inputs.lock {
        None => spec.stages.iter().collect(),
        Some(_) => order.iter().map(|&index| &spec.stages[index]).collect(),
    };
    problems.extend(unknown(spec, judged, inputs.lock, Some(inputs.platform)));
    let Bound {
        contexts,
        images,
        files,
    } = binder.finish();
    let plan = Plan {
        source: Arc::clone(&spec.source),
        target: StageId(stages.len() - 1),
        stages,
        pruned: pruned(spec, &order),
        contexts,
        images,
        files,
        names,
        platform: inputs.platform.clone(),
        compression: spec
            .compression
            .as_ref()
            .map(|compression| compression.value),
        args: spec.args.clone(),
        profile: spec.profile.as_ref().map(|one| one.name.value.clone()),
        extended: spec.extended.clone(),
    };
    problems.finish(plan)
}

/// The spec whose target, at this place, says itself what the profile says.
fn in_effect(spec: &BuildSpec, target: usize) -> Cow<'_, BuildSpec> {
    let mut spec = Cow::Borrowed(spec);
    if let Some(profile) = spec.profile.clone() {
        profile.apply(&mut spec.to_mut().stages[target].config);
    }
    spec
}

fn pruned(spec: &BuildSpec, order: &[usize]) -> Vec<String> {
    let mut is_needed = vec![false; spec.stages.len()];
    order.iter().for_each(|&index| is_needed[index] = true);
    // The spec's own stages come first.
    spec.own_stages()
        .zip(is_needed)
        .filter(|(_, is_needed)| !is_needed)
        .map(|(stage, _)| stage.name.as_str().to_owned())
        .collect()
}

/// The name of the main context for `--context`, for plans and for events.
pub(crate) const MAIN_CONTEXT: &str = "context";

fn check_contexts(spec: &BuildSpec, inputs: &PlanInputs<'_>, problems: &mut Diagnostics) {
    let extended = spec.extended.iter().map(|file| &file.contexts);
    let all = [&spec.contexts].into_iter().chain(extended);
    for (name, directory) in all.flat_map(|contexts| &contexts.named) {
        if name.as_str() != MAIN_CONTEXT {
            continue;
        }
        let message = format!("a named context cannot be called {:?}", name.as_str());
        problems.push(
            Diagnostic::new(&spec.source, directory.span, message)
                .label("this is what the main context is called")
                .help("give it another name, or write it as the main one: `context: DIRECTORY`"),
        );
    }
    let named = &spec.contexts.named;
    for name in inputs.contexts.keys() {
        if name == MAIN_CONTEXT || named.keys().any(|known| known.as_str() == name) {
            continue;
        }
        let known: Vec<&str> = named.keys().map(Name::as_str).collect();
        let message = format!("--context names {name:?}, which is no context of this spec");
        let known = [known, vec![MAIN_CONTEXT]].concat();
        problems.push(
            Diagnostic::about(&spec.source, message)
                .help(format!("there are: {}", known.join(", "))),
        );
    }
}

fn names(spec: &BuildSpec, problems: &mut Diagnostics) -> Vec<Reference> {
    let Some(image) = &spec.image else {
        if let Some(tag) = spec.tags.first() {
            let message = "there are tags, but no image that they belong to";
            problems.push(
                Diagnostic::new(&spec.source, tag.span, message)
                    .help("add the repository: image: acme/app"),
            );
        }
        return Vec::new();
    };
    match spec.tags.is_empty() {
        true => vec![image.value.clone().with_default_tag()],
        false => spec
            .tags
            .iter()
            .filter_map(|tag| image.with_tag(tag.as_str()).ok())
            .collect(),
    }
}

#[cfg(test)]
mod tests;
