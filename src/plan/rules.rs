//! What a needed stage cannot do yet, and what a final stage must not be.
//!
//! The final stage is runtime-only (`design.md`, section 3): it names a user other than root, and
//! it is not what commands have left behind. What only the finished tree can tell is judged by
//! `explain`.

use std::collections::BTreeSet;

use crate::spec::{
    Action, Allow, Base, BuildSpec, Diagnostic, Diagnostics, Identity, ImageSource, Origin, Owner,
    Stage,
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

/// What this version cannot do yet, in a stage that is needed.
pub(crate) fn not_yet(spec: &BuildSpec, stage: &Stage, problems: &mut Diagnostics) {
    let error = |span, message: &str| Diagnostic::new(&spec.source, span, message);
    for step in &stage.steps {
        match &step.action {
            Action::Run(run) => problems.push(
                error(run.command.span, "this version cannot run commands yet")
                    .help("build with your own tools first, and copy what they made: `copy: dist`"),
            ),
            Action::Add(add) => problems.push(
                error(add.url.span, "this version cannot fetch URLs yet")
                    .help("fetch it into the context first, check its sha256, and `copy` it"),
            ),
            _ => {}
        }
    }
    let pull = |span, reference: &str| {
        error(span, "this version cannot pull from registries yet")
            .help(format!("fetch it once with a tool that can: skopeo copy docker://{reference} oci:base:latest"))
            .help("then name the folder here: oci:base:latest (an oci-archive: or docker-archive: file will do, too)")
    };
    if let Base::Image(ImageSource::Registry(reference)) = &stage.from.value {
        problems.push(pull(stage.from.span, &reference.to_string()));
    }
    for step in &stage.steps {
        if let Action::Copy(copy) = &step.action
            && let Some(from) = &copy.from
            && let Origin::Image(ImageSource::Registry(reference)) = &from.value
        {
            problems.push(pull(from.span, &reference.to_string()));
        }
    }
}

/// Judges the last stage of `order`; `bases` has for each the place of the stage it starts from.
pub(crate) fn final_stage(
    spec: &BuildSpec,
    order: &[usize],
    bases: &[Option<usize>],
    problems: &mut Diagnostics,
) {
    let Some(last) = order.len().checked_sub(1) else {
        return;
    };
    let chain: Vec<&Stage> = std::iter::successors(Some(last), |place| bases[*place])
        .map(|place| &spec.stages[order[place]])
        .collect();
    let stage = chain[0];
    let allows = |allow: Allow| stage.allow.iter().any(|allowed| allowed.value == allow);
    if !allows(Allow::Root) {
        user(spec, &chain, problems);
    }
    if allows(Allow::BuildStage) {
        return;
    }
    let ran = chain.iter().find_map(|stage| {
        let run = stage
            .steps
            .iter()
            .find(|step| matches!(step.action, Action::Run(_)))?;
        Some((stage, run))
    });
    if let Some((builder, run)) = ran {
        let name = stage.name.as_str();
        let message = match std::ptr::eq(*builder, stage) {
            true => format!("the final stage {name:?} runs commands"),
            false => format!(
                "the final stage {name:?} is built from {:?}, which runs commands",
                builder.name.as_str()
            ),
        };
        problems.push(
            Diagnostic::new(&spec.source, stage.from.span, message)
                .also(run.span, "compilers, caches and sources stay behind from here")
                .help("start from a runtime base and `copy` from the build stage what the program needs")
                .help("or say that this is meant: allow: [build-stage]"),
        );
    }
}

/// The nearest user in the chain of stages decides; a base image may bring one, which is judged
/// when its config is known.
fn user(spec: &BuildSpec, chain: &[&Stage], problems: &mut Diagnostics) {
    let stage = chain[0];
    let remedy = |diagnostic: Diagnostic| {
        diagnostic
            .help("add one, `users: [{name: app, uid: 1001}]`, and name it: `config: {user: app}`")
            .help("or say that this is meant: allow: [root]")
    };
    match chain.iter().find_map(|stage| stage.config.user.as_ref()) {
        Some(user) if is_root(user) => {
            problems.push(remedy(Diagnostic::new(
                &spec.source,
                user.span,
                "the image runs as root",
            )));
        }
        Some(_) => {}
        None => {
            let starts_from_image = chain
                .iter()
                .any(|stage| matches!(stage.from.value, Base::Image(_)));
            if !starts_from_image {
                let message = format!(
                    "the final stage {:?} names no user, so the image runs as root",
                    stage.name.as_str()
                );
                problems.push(remedy(Diagnostic::new(
                    &spec.source,
                    stage.name.span,
                    message,
                )));
            }
        }
    }
}
