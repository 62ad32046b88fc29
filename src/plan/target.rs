//! The target: the one stage that becomes the image.

use crate::plan::graph::Graph;
use crate::spec::{BuildSpec, Diagnostic, Diagnostics, MOST_LISTED, similar};

/// The place of the target in the spec: the stage that the caller names, else the one that the
/// profile or the spec names, else the only one that no other uses. `None` after a problem.
pub(crate) fn find_target(
    spec: &BuildSpec,
    wanted: Option<&str>,
    graph: &Graph<'_>,
    problems: &mut Diagnostics,
) -> Option<usize> {
    if let Some(name) = wanted {
        let message = format!("--target names {name:?}, which is no stage of this spec");
        return named(spec, name, problems, || {
            Diagnostic::about(&spec.source, message)
        });
    }
    let of_profile = spec.profile.as_ref().and_then(|one| one.target.as_ref());
    if let Some(target) = of_profile.or(spec.target.as_ref()) {
        let message = format!("there is no stage {:?}", target.as_str());
        return named(spec, target.as_str(), problems, || {
            Diagnostic::new(&spec.source, target.span, message)
        });
    }
    let candidates = graph.unused();
    match candidates[..] {
        [only] => Some(only),
        // A misspelt use leaves a stage unused, and in a circle none is: these are the mistakes,
        // and they are reported already.
        _ if !graph.is_sound() => None,
        [] => {
            let message = "there is no stage to build";
            let diagnostic = Diagnostic::about(&spec.source, message);
            problems.push(diagnostic.help("add one under stages:"));
            None
        }
        _ => {
            problems.push(ambiguous(spec, &candidates));
            None
        }
    }
}

fn named(
    spec: &BuildSpec,
    name: &str,
    problems: &mut Diagnostics,
    missing: impl FnOnce() -> Diagnostic,
) -> Option<usize> {
    // The spec's own stages come first, so places in both lists are the same.
    let names: Vec<&str> = spec.own_stages().map(|stage| stage.name.as_str()).collect();
    let place = names.iter().position(|known| *known == name);
    if place.is_none() {
        problems.push(missing().help(similar(name, &names)));
    }
    place
}

fn ambiguous(spec: &BuildSpec, candidates: &[usize]) -> Diagnostic {
    let stages: Vec<_> = candidates
        .iter()
        .map(|place| &spec.stages[*place])
        .collect();
    let shown = &stages[..stages.len().min(MOST_LISTED)];
    let names: Vec<&str> = shown.iter().map(|stage| stage.name.as_str()).collect();
    let more = match stages.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "{} stages could be the image: {}{more}",
        stages.len(),
        names.join(", ")
    );
    // People write the stages in the order in which they think: the image is mostly the last.
    let last = stages[stages.len() - 1].name.as_str();
    let first = Diagnostic::new(&spec.source, shown[0].name.span, message)
        .label("no stage uses this one")
        .help(format!(
            "say which one you mean: `target: {last}` in the spec, or --target {last}"
        ));
    shown[1..].iter().fold(first, |diagnostic, stage| {
        diagnostic.also(stage.name.span, "nor this one")
    })
}
