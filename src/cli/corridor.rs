//! The door between porch and corridor: what the commands ask the library for.
//!
//! Everything that the library can refuse becomes a [`Failure`] here, so that commands are a few
//! lines each.

use std::path::Path;

use boxwright::build::{BuildReport, BuildRequest, Observer};
use boxwright::explain::{Allowed, CheckReport, Inspection};
use boxwright::oci::Platform;
use boxwright::plan::{Plan, PlanInputs, PlannedLayer, PlannedStage, StageBase};
use boxwright::spec::{BuildSpec, ImageSource, Name, ParseInputs};
use serde_json::{Value, json};

use crate::cli::exit::{Blame, Failure};

/// What `--dry-run` shows.
pub(crate) struct PlanShown {
    /// For people.
    pub(crate) text: String,
    /// For programs.
    pub(crate) json: Value,
}

/// Builds.
pub(crate) fn build(
    request: &BuildRequest,
    _observer: &dyn Observer,
) -> Result<BuildReport, Failure> {
    plan(request)?;
    Err(not_yet("build images"))
}

/// Decides what a build would do.
pub(crate) fn plan(request: &BuildRequest) -> Result<PlanShown, Failure> {
    let spec = parse(request)?;
    let contexts = request.context_overrides.iter();
    let host = Platform::host();
    let inputs = PlanInputs {
        target: request.target.as_ref().map(Name::as_str),
        contexts: &contexts
            .map(|(name, directory)| (name.as_str().to_owned(), directory.clone()))
            .collect(),
        platform: request.platforms.first().unwrap_or(&host),
    };
    let plan = boxwright::plan::plan(&spec, &inputs)?;
    Ok(PlanShown {
        text: plan.to_string(),
        json: plan_json(&plan),
    })
}

fn plan_json(plan: &Plan) -> Value {
    let base = |base: &StageBase| match base {
        StageBase::Scratch => json!({"scratch": true}),
        StageBase::Stage(id) => json!({"stage": plan.stage(*id).name()}),
        StageBase::Image(id) => json!({"image": plan.images[id.0].to_string()}),
    };
    let layer = |layer: &PlannedLayer| {
        let steps: Vec<&str> = layer.steps.iter().map(|step| step.title.as_str()).collect();
        json!({"title": layer.title, "steps": steps})
    };
    let stage = |stage: &PlannedStage| {
        let layers: Vec<Value> = stage.layers.iter().map(layer).collect();
        json!({"name": stage.name(), "from": base(&stage.base), "layers": layers})
    };
    json!({
        "names": plan.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "platform": plan.platform.to_string(),
        "target": plan.target_stage().name(),
        "stages": plan.stages.iter().map(stage).collect::<Vec<_>>(),
        "pruned": plan.pruned,
    })
}

/// Checks the image that a spec describes. What its stage allows is allowed besides `allowed`.
pub(crate) fn check_spec(
    request: &BuildRequest,
    allowed: Allowed,
    _observer: &dyn Observer,
) -> Result<CheckReport, Failure> {
    let spec = parse(request)?;
    let stages = spec.stages.iter();
    for stage in stages.filter(|stage| request.target.as_ref().is_none_or(|t| *t == *stage.name)) {
        allowed.clone().with_spec(&spec.source, &stage.allow)?;
    }
    Err(not_yet("check specs"))
}

/// Checks an image.
pub(crate) fn check_image(_: &ImageSource, _: &Path, _: &Allowed) -> Result<CheckReport, Failure> {
    Err(not_yet("read images"))
}

/// Looks into an image.
pub(crate) fn inspect(_: &ImageSource, _: &Path, _: usize) -> Result<Inspection, Failure> {
    Err(not_yet("read images"))
}

fn parse(request: &BuildRequest) -> Result<BuildSpec, Failure> {
    let host = Platform::host();
    let inputs = ParseInputs {
        arg_overrides: &request.arg_overrides,
        platform: request.platforms.first().unwrap_or(&host),
    };
    Ok(boxwright::spec::parse(&request.source, &inputs)?)
}

fn not_yet(what: &str) -> Failure {
    Failure::new(Blame::Input, format!("this version cannot {what} yet"))
}
