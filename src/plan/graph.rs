//! The graph of stages: what a name means, what the target needs, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::oci::{Platform, Reference};
use crate::plan::bind::{Binder, Written, position, written};
use crate::plan::rules;
use crate::plan::stage::{PlannedContext, PlannedStage, StageId};
use crate::spec::{
    Action, Args, Base, BuildSpec, Compression, Diagnostic, Diagnostics, ImageSource, Mount, Name,
    Origin, SourceText, Span, Spanned, Stage, Step, nearest,
};

/// What decides a plan beside the spec.
#[derive(Debug, Clone)]
pub struct PlanInputs<'a> {
    /// The stage that becomes the image, if not the one that the spec says (`--target`).
    pub target: Option<&'a str>,
    /// Other directories for contexts (`--context NAME=DIR`); `context` is the main one.
    pub contexts: &'a BTreeMap<String, PathBuf>,
    /// What the image runs on.
    pub platform: &'a Platform,
}

/// Everything that is decided before a file is looked at.
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
    /// The images that stages start from or copy from, each once.
    pub images: Vec<ImageSource>,
    /// The full references that the image is given.
    pub names: Vec<Reference>,
    /// What the image runs on.
    pub platform: Platform,
    /// How layers are compressed, where the spec says so.
    pub compression: Option<Compression>,
    /// Arguments with their final values.
    pub args: Args,
}

impl Plan {
    /// The stage with this number.
    pub fn stage(&self, id: StageId) -> &PlannedStage {
        &self.stages[id.0]
    }

    /// The stage that becomes the image.
    pub fn target_stage(&self) -> &PlannedStage {
        self.stage(self.target)
    }
}

/// Plans a build.
///
/// # Errors
/// Everything that is wrong with the spec as a whole, all at once.
pub fn plan(spec: &BuildSpec, inputs: &PlanInputs<'_>) -> Result<Plan, Diagnostics> {
    let mut problems = Diagnostics::new();
    check_contexts(spec, inputs, &mut problems);
    let edges: Vec<Vec<Edge>> = spec
        .stages
        .iter()
        .map(|stage| edges(spec, stage, &mut problems))
        .collect();
    if let Some(circle) = find_circle(&edges) {
        problems.push(circle_diagnostic(spec, &edges, &circle));
        return Err(problems.sorted());
    }
    let Some(target) = find_target(spec, inputs.target, &edges, &mut problems) else {
        return Err(problems.sorted());
    };
    let order = needed(target, &edges);
    let mut binder = Binder {
        spec,
        inputs,
        order: &order,
        contexts: BTreeMap::new(),
        images: Vec::new(),
    };
    let mut stages = Vec::new();
    for &index in &order {
        rules::not_yet(spec, &spec.stages[index], &mut problems);
        stages.push(binder.stage(index, &edges[index]));
    }
    rules::final_stage(spec, &order, &edges_of_bases(spec, &order), &mut problems);
    let pruned = (0..spec.stages.len()).filter(|index| !order.contains(index));
    let plan = Plan {
        source: Arc::clone(&spec.source),
        target: StageId(stages.len() - 1),
        stages,
        pruned: pruned
            .map(|index| spec.stages[index].name.as_str().to_owned())
            .collect(),
        contexts: binder.contexts(),
        images: binder.images,
        names: names(spec, &mut problems),
        platform: inputs.platform.clone(),
        compression: spec
            .compression
            .as_ref()
            .map(|compression| compression.value),
        args: spec.args.clone(),
    };
    problems.finish(plan)
}

/// A stage's use of another stage, and where it says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    pub(crate) to: usize,
    pub(crate) span: Span,
}

/// All places where a step names a stage, a context or an image.
fn origins(step: &Step) -> Vec<&Spanned<Origin>> {
    match &step.action {
        Action::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| match &mount.value {
                Mount::Bind { from, .. } => from.as_ref(),
                _ => None,
            })
            .collect(),
        action => match written(action).0 {
            Written::From(origin) => vec![origin],
            Written::Main | Written::Nothing => Vec::new(),
        },
    }
}

/// The stages that `stage` uses. A name that nothing has is a problem.
fn edges(spec: &BuildSpec, stage: &Stage, problems: &mut Diagnostics) -> Vec<Edge> {
    let mut edges = Vec::new();
    if let Base::Name(name) = &stage.from.value {
        match position(spec, name) {
            Some(to) => edges.push(Edge {
                to,
                span: stage.from.span,
            }),
            None => problems.push(unknown(spec, name, stage.from.span, Wanted::Base)),
        }
    }
    for origin in stage.steps.iter().flat_map(origins) {
        let Origin::Name(name) = &origin.value else {
            continue;
        };
        match position(spec, name) {
            Some(to) => edges.push(Edge {
                to,
                span: origin.span,
            }),
            None if spec.contexts.directory(name).is_some() => {}
            None => problems.push(unknown(spec, name, origin.span, Wanted::Source)),
        }
    }
    edges
}

/// What a name that nothing has could have meant.
enum Wanted {
    Base,
    Source,
}

fn unknown(spec: &BuildSpec, name: &Name, span: Span, wanted: Wanted) -> Diagnostic {
    let stages = spec.stages.iter().map(|stage| stage.name.as_str());
    let contexts = spec.contexts.named.keys().map(Name::as_str);
    let (what, known): (_, Vec<&str>) = match wanted {
        Wanted::Base => ("stage", stages.collect()),
        Wanted::Source => ("stage or context", stages.chain(contexts).collect()),
    };
    let diagnostic = Diagnostic::new(
        &spec.source,
        span,
        format!("there is no {what} {:?}", name.as_str()),
    );
    let diagnostic = match nearest(name.as_str(), known.iter().copied()) {
        Some(similar) => diagnostic.help(format!("did you mean {similar:?}?")),
        None => diagnostic.help(format!("there are: {}", known.join(", "))),
    };
    diagnostic.help(format!(
        "an image is written with its tag or registry: docker.io/library/{}:TAG",
        name.as_str()
    ))
}

fn check_contexts(spec: &BuildSpec, inputs: &PlanInputs<'_>, problems: &mut Diagnostics) {
    for name in inputs.contexts.keys().filter(|name| *name != "context") {
        let is_known = spec
            .contexts
            .named
            .keys()
            .any(|known| known.as_str() == name);
        if !is_known {
            let known: Vec<&str> = spec
                .contexts
                .named
                .keys()
                .map(Name::as_str)
                .chain(["context"])
                .collect();
            let message = format!("--context names {name:?}, which is no context of this spec");
            problems.push(
                Diagnostic::about(&spec.source, message)
                    .help(format!("there are: {}", known.join(", "))),
            );
        }
    }
}

/// A circle of stages, if there is one: each uses the next, and the last the first.
fn find_circle(edges: &[Vec<Edge>]) -> Option<Vec<usize>> {
    // 0: not seen, 1: on the way here, 2: free of circles.
    let mut state = vec![0; edges.len()];
    for start in 0..edges.len() {
        let mut way: Vec<(usize, usize)> = Vec::new();
        if state[start] == 0 {
            state[start] = 1;
            way.push((start, 0));
        }
        while let Some((at, next)) = way.last_mut() {
            let Some(edge) = edges[*at].get(*next) else {
                state[*at] = 2;
                way.pop();
                continue;
            };
            *next += 1;
            match state[edge.to] {
                0 => {
                    state[edge.to] = 1;
                    way.push((edge.to, 0));
                }
                1 => {
                    let begin = way.iter().position(|(at, _)| *at == edge.to);
                    return Some(
                        way[begin.unwrap_or(0)..]
                            .iter()
                            .map(|(at, _)| *at)
                            .collect(),
                    );
                }
                _ => {}
            }
        }
    }
    None
}

fn circle_diagnostic(spec: &BuildSpec, edges: &[Vec<Edge>], circle: &[usize]) -> Diagnostic {
    let name = |index: usize| spec.stages[index].name.as_str();
    let next = |place: usize| circle[(place + 1) % circle.len()];
    let span = |place: usize| {
        edges[circle[place]]
            .iter()
            .find(|edge| edge.to == next(place))
            .map(|edge| edge.span)
    };
    let path: Vec<&str> = circle
        .iter()
        .chain(circle.first())
        .map(|index| name(*index))
        .collect();
    let message = match circle {
        [own] => format!("stage {:?} uses itself", name(*own)),
        _ => format!("stages use each other in a circle: {}", path.join(" -> ")),
    };
    let first = span(0).unwrap_or(spec.stages[circle[0]].name.span);
    let mut diagnostic = Diagnostic::new(&spec.source, first, message)
        .help("a stage can only use what is built before it; take one of these uses out");
    for (place, user) in circle.iter().enumerate().skip(1) {
        if let Some(span) = span(place) {
            let label = format!("{:?} uses {:?} here", name(*user), name(next(place)));
            diagnostic = diagnostic.also(span, label);
        }
    }
    diagnostic
}

/// The stage that becomes the image: as the caller says, as the spec says, or the only one that no
/// other uses.
fn find_target(
    spec: &BuildSpec,
    wanted: Option<&str>,
    edges: &[Vec<Edge>],
    problems: &mut Diagnostics,
) -> Option<usize> {
    let named = match (wanted, &spec.target) {
        (Some(name), _) => {
            let message = format!("--target names {name:?}, which is no stage of this spec");
            Some((name, Diagnostic::about(&spec.source, message)))
        }
        (None, Some(target)) => {
            let name = target.as_str();
            let message = format!("there is no stage {name:?}");
            Some((name, Diagnostic::new(&spec.source, target.span, message)))
        }
        (None, None) => None,
    };
    let Some((name, missing)) = named else {
        return only_unused(spec, edges, problems);
    };
    let mut names = spec.stages.iter().map(|stage| stage.name.as_str());
    let found = names.clone().position(|known| known == name);
    if found.is_none() {
        problems.push(match nearest(name, names.clone()) {
            Some(similar) => missing.help(format!("did you mean {similar:?}?")),
            None => missing.help(format!(
                "there are: {}",
                names.by_ref().collect::<Vec<_>>().join(", ")
            )),
        });
    }
    found
}

/// The one stage that no other uses.
fn only_unused(spec: &BuildSpec, edges: &[Vec<Edge>], problems: &mut Diagnostics) -> Option<usize> {
    let used: BTreeSet<usize> = edges.iter().flatten().map(|edge| edge.to).collect();
    let unused = (0..spec.stages.len()).filter(|index| !used.contains(index));
    let candidates: Vec<usize> = unused.collect();
    let (first, others) = match &candidates[..] {
        [only] => return Some(*only),
        [] => {
            let problem = Diagnostic::about(&spec.source, "there is no stage to build");
            problems.push(problem.help("add one under stages:"));
            return None;
        }
        [first, others @ ..] => (first, others),
    };
    let name = |index: &usize| spec.stages[*index].name.as_str();
    let names: Vec<&str> = candidates.iter().map(name).collect();
    let message = format!(
        "{} stages could be the image: {}",
        names.len(),
        names.join(", ")
    );
    let mut problem = Diagnostic::new(&spec.source, spec.stages[*first].name.span, message)
        .label("no stage uses this one")
        .help(format!(
            "say which one you mean: target: {}",
            names[names.len() - 1]
        ));
    for index in others {
        problem = problem.also(spec.stages[*index].name.span, "nor this one");
    }
    problems.push(problem);
    None
}

/// The stages that `target` needs, itself last, each after all that it uses.
fn needed(target: usize, edges: &[Vec<Edge>]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut way = vec![(target, 0)];
    while let Some((at, next)) = way.last_mut() {
        match edges[*at].get(*next) {
            Some(edge) => {
                *next += 1;
                if !order.contains(&edge.to) {
                    way.push((edge.to, 0));
                }
            }
            None => {
                if !order.contains(at) {
                    order.push(*at);
                }
                way.pop();
            }
        }
    }
    order
}

/// For each needed stage the place of the stage it starts from, for the rules of the final one.
fn edges_of_bases(spec: &BuildSpec, order: &[usize]) -> Vec<Option<usize>> {
    order
        .iter()
        .map(|&index| match &spec.stages[index].from.value {
            Base::Name(name) => {
                position(spec, name).and_then(|base| order.iter().position(|other| *other == base))
            }
            Base::Scratch | Base::Image(_) => None,
        })
        .collect()
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
