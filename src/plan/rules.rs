//! What a needed stage cannot do yet, and what a final stage must not be.
//!
//! The final stage is runtime-only (`design.md`, section 3): it names a user other than root, and
//! it is not what commands have left behind. What only the finished tree can tell is judged by
//! `explain`.

use std::collections::BTreeSet;

use crate::plan::graph::Graph;
use crate::plan::making::Plan;
use crate::plan::stage::{PlannedStage, StageBase};
use crate::spec::{
    Action, Allow, Base, BuildSpec, Diagnostic, Diagnostics, Identity, Owner, Stage,
};

/// The findings of `check` that the stage may have.
pub fn codes_allowed(stage: &Stage) -> BTreeSet<&str> {
    let codes = stage.allow.iter().filter_map(|allow| match &allow.value {
        Allow::Code(code) => Some(code.as_str()),
        Allow::Root | Allow::BuildStage => None,
    });
    codes.collect()
}

/// Whether an owner is root, by number or by the name that every system gives to it.
pub fn is_root(owner: &Owner) -> bool {
    match &owner.user {
        Identity::Id(id) => *id == 0,
        Identity::Name(name) => name.as_str() == "root",
    }
}

/// Judges the stage that becomes the image, with all that it is built from.
pub(crate) fn final_stage(
    spec: &BuildSpec,
    graph: &Graph<'_>,
    target: usize,
    problems: &mut Diagnostics,
) {
    let chain: Vec<&Stage> = std::iter::successors(Some(target), |place| graph.base(*place))
        .map(|place| &spec.stages[place])
        .collect();
    let allows = |allow: Allow| chain[0].allow.iter().any(|one| one.value == allow);
    if !allows(Allow::Root) {
        problems.extend(root_user(spec, &chain));
    }
    if !allows(Allow::BuildStage) {
        problems.extend(build_stage(spec, &chain));
    }
}

/// The problem of a final stage that holds what commands have left behind.
fn build_stage(spec: &BuildSpec, chain: &[&Stage]) -> Option<Diagnostic> {
    let stage = chain[0];
    let (builder, run) = chain.iter().find_map(|stage| {
        let mut steps = stage.steps.iter();
        let run = steps.find(|step| matches!(step.action, Action::Run(_)))?;
        Some((stage, run))
    })?;
    let name = stage.name.as_str();
    let message = match std::ptr::eq(*builder, stage) {
        true => format!("the final stage {name:?} runs commands"),
        false => format!(
            "the final stage {name:?} is built from {:?}, which runs commands",
            builder.name.as_str()
        ),
    };
    let diagnostic = Diagnostic::new(&spec.source, stage.from.span, message)
        .also(
            run.span,
            "compilers, caches and sources stay behind from here",
        )
        .help("start from a runtime base and `copy` from the build stage what the program needs")
        .help("or say that this is meant: allow: [build-stage]");
    Some(diagnostic)
}

/// The problem of an image that runs as root. The nearest user in the chain of stages decides; a
/// base image may bring one, which [`final_user`] judges when the config is known.
fn root_user(spec: &BuildSpec, chain: &[&Stage]) -> Option<Diagnostic> {
    let stage = chain[0];
    let Some(user) = chain.iter().find_map(|stage| stage.config.user.as_ref()) else {
        let is_from_image = |stage: &&Stage| matches!(stage.from.value, Base::Image(_));
        let message = format!(
            "the final stage {:?} names no user, so the image runs as root",
            stage.name.as_str()
        );
        let diagnostic = Diagnostic::new(&spec.source, stage.name.span, message);
        return (!chain.iter().any(is_from_image)).then(|| with_user_remedy(diagnostic));
    };
    let root = Diagnostic::new(&spec.source, user.span, "the image runs as root");
    // A user with another name and the number 0 is root all the same.
    let mut users = chain.iter().flat_map(|stage| &stage.users);
    let created = match &user.user {
        Identity::Name(name) => users.find(|user| user.name.value == *name),
        Identity::Id(_) => None,
    };
    match created {
        Some(created) if created.uid.value == 0 => Some(with_user_remedy(
            root.also(created.uid.span, "0 is the number of root"),
        )),
        Some(_) => None,
        None => is_root(user).then(|| with_user_remedy(root)),
    }
}

/// The problem of an image that runs as root, once its config is finished: `user` is the text in
/// it, from the stage or from its base, and empty if neither has one. `None` if that is another
/// user, or if the plan allows root.
///
/// Only what the text says is judged: that a name has the number 0 in the image's `/etc/passwd` is
/// found by `explain`.
pub fn final_user(plan: &Plan, user: &str) -> Option<Diagnostic> {
    let target = plan.target_stage();
    let user = user.split(':').next().unwrap_or_default();
    // Runtimes read numbers as Go does: with a sign and leading zeros, too.
    let is_root = matches!(user, "" | "root") || user.parse::<i64>() == Ok(0);
    let is_allowed = target
        .stage
        .allow
        .iter()
        .any(|one| one.value == Allow::Root);
    if !is_root || is_allowed {
        return None;
    }
    let base = |stage: &&PlannedStage| match stage.base {
        StageBase::Stage(id) => Some(plan.stage(id)),
        StageBase::Scratch | StageBase::Image(_) => None,
    };
    let named = std::iter::successors(Some(target), base)
        .find_map(|stage| stage.stage.config.user.as_ref());
    let name = target.name();
    let (span, message) = match (named, user) {
        (Some(named), _) => (named.span, "this user is root in the image".to_owned()),
        (None, "") => (
            target.stage.from.span,
            format!(
                "the base of the final stage {name:?} names no user, so the image runs as root"
            ),
        ),
        (None, user) => (
            target.stage.from.span,
            format!("the base of the final stage {name:?} runs as {user:?}, which is root"),
        ),
    };
    Some(with_user_remedy(Diagnostic::new(
        &plan.source,
        span,
        message,
    )))
}

fn with_user_remedy(diagnostic: Diagnostic) -> Diagnostic {
    diagnostic
        .help("add one, `users: [{name: app, uid: 1001}]`, and name it: `config: {user: app}`")
        .help("or say that this is meant: allow: [root]")
}
