//! The door between porch and corridor: what the commands ask the library for.
//!
//! Everything that the library can refuse becomes a [`Failure`] here, so that commands are a few
//! lines each.

use std::error::Error;
use std::path::Path;

use boxwright::build::{
    BuildError, BuildReport, BuildRequest, Crew, JoinReport, JoinRequest, LockScope, Locked,
    Mirror, Observer, PushReport, PushRequest, Verification,
};
use boxwright::explain::{Allowed, CheckReport, Inspection};
use boxwright::layer::LayerError;
use boxwright::oci::Reference;
use boxwright::plan::{Plan, PlannedLayer, PlannedStage, StageBase};
use boxwright::spec::compose::Pin;
use boxwright::spec::{BuildSpec, ImageSource, Lock};
use boxwright::transport::TransportError;
use boxwright::transport::http::HttpError;
use boxwright::transport::registry::{RegistryError, RegistrySettings};
use serde_json::{Value, json};

use crate::cli::cache::refused;
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
    observer: &dyn Observer,
) -> Result<BuildReport, Failure> {
    Ok(boxwright::build::build(request, observer)?)
}

/// Builds beside others.
pub(crate) fn build_beside(
    request: &BuildRequest,
    crew: &Crew,
    observer: &dyn Observer,
) -> Result<BuildReport, Failure> {
    Ok(boxwright::build::build_beside(request, crew, observer)?)
}

/// Pushes.
pub(crate) fn push(request: &PushRequest, observer: &dyn Observer) -> Result<PushReport, Failure> {
    Ok(boxwright::build::push(request, observer)?)
}

/// Joins images of several platforms.
pub(crate) fn join(request: &JoinRequest, observer: &dyn Observer) -> Result<JoinReport, Failure> {
    Ok(boxwright::build::join(request, observer)?)
}

/// Builds twice.
pub(crate) fn verify(
    request: &BuildRequest,
    scratch: &Path,
    observer: &dyn Observer,
) -> Result<Verification, Failure> {
    Ok(boxwright::build::verify(request, scratch, observer)?)
}

/// Refuses to write a file over something that a build reads.
pub(crate) fn may_be_written(files: &[&Path], request: &BuildRequest) -> Result<(), Failure> {
    Ok(boxwright::build::may_be_written(files, request)?)
}

/// Reads a spec.
pub(crate) fn spec(request: &BuildRequest) -> Result<BuildSpec, Failure> {
    Ok(boxwright::build::spec(request)?)
}

/// The names of the image that a build would make.
pub(crate) fn names(request: &BuildRequest) -> Result<Vec<Reference>, Failure> {
    Ok(boxwright::build::names_of(request)?)
}

/// The first name of the image that a build would make, if it has one.
pub(crate) fn name(request: &BuildRequest) -> Result<Option<String>, Failure> {
    let plans = boxwright::build::plans(request)?;
    let mut names = plans.iter().flat_map(|plan| &plan.names);
    Ok(names.next().map(ToString::to_string))
}

/// Copies what a build reads.
pub(crate) fn mirror(request: &BuildRequest, into: &Path) -> Result<Mirror, Failure> {
    Ok(boxwright::build::mirror(request, into)?)
}

/// Finds out what a spec takes from outside.
pub(crate) fn lock(
    request: &BuildRequest,
    earlier: &Lock,
    scope: &LockScope,
) -> Result<Locked, Failure> {
    Ok(boxwright::build::lock(request, earlier, scope)?)
}

/// Compares a lock with the spec and with registries.
pub(crate) fn check_lock(request: &BuildRequest, lock: &Lock) -> Result<(), Failure> {
    Ok(boxwright::build::check_lock(request, lock)?)
}

/// Writes a lock; says whether it was another before.
pub(crate) fn write_lock(lock: &Lock, path: &Path) -> Result<bool, Failure> {
    Ok(boxwright::build::write_lock(lock, path)?)
}

/// Writes which images services shall run; says whether it was another file before.
pub(crate) fn may_be_pins(path: &Path) -> Result<(), Failure> {
    Ok(boxwright::build::may_be_pins(path)?)
}

/// Writes them.
pub(crate) fn write_pins(pins: &[Pin], path: &Path) -> Result<bool, Failure> {
    Ok(boxwright::build::write_pins(pins, path)?)
}

/// Decides what a build would do.
pub(crate) fn plan(request: &BuildRequest) -> Result<PlanShown, Failure> {
    let plans = boxwright::build::plans(request)?;
    let texts: Vec<String> = plans.iter().map(ToString::to_string).collect();
    Ok(PlanShown {
        text: texts.join("\n"),
        json: match &plans[..] {
            [only] => plan_json(only),
            several => several.iter().map(plan_json).collect(),
        },
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
        "profile": plan.profile.as_ref().map(ToString::to_string),
        "stages": plan.stages.iter().map(stage).collect::<Vec<_>>(),
        "pruned": plan.pruned,
    })
}

/// Checks the image that a spec describes. What its stage allows is allowed besides `allowed`.
pub(crate) fn check_spec(
    request: &BuildRequest,
    allowed: Allowed,
    observer: &dyn Observer,
) -> Result<CheckReport, Failure> {
    Ok(boxwright::build::check_spec(request, allowed, observer)?)
}

/// Checks an image.
pub(crate) fn check_image(
    image: &ImageSource,
    store: &Path,
    registries: RegistrySettings,
    allowed: &Allowed,
) -> Result<CheckReport, Failure> {
    Ok(boxwright::build::check_image(
        image, store, registries, allowed,
    )?)
}

/// Looks into an image.
pub(crate) fn inspect(
    image: &ImageSource,
    store: &Path,
    registries: RegistrySettings,
    largest: usize,
) -> Result<Inspection, Failure> {
    Ok(boxwright::build::inspect_image(
        image, store, registries, largest,
    )?)
}

/// A spec, context or base that is wrong is the caller's to mend; a disk that fails is not.
impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Failure {
        let is_disk_full = disk_is_full(&error);
        match error {
            BuildError::Spec(problems) => problems.into(),
            BuildError::Store(error) => refused(error),
            // Wherever the room ran out: below the store, or below an output.
            error if is_disk_full => Failure::failed(Blame::System, &error)
                .hint("make room, for instance in the store: boxwright cache gc --max-size 5GB"),
            BuildError::Transport(ref cause) if is_of_the_store(cause) => {
                Failure::failed(Blame::System, &error)
            }
            BuildError::Transport(ref cause) if let Some(blame) = of_a_registry(cause) => {
                Failure::failed(blame, &error)
            }
            error if is_offline(&error) => Failure::failed(Blame::Input, &error)
                .hint("do it once without --offline: what it fetches stays in the store"),
            BuildError::Lock { .. } => Failure::failed(Blame::System, &error),
            // What the machine does not allow is not the spec's fault.
            BuildError::Sandbox(_) => Failure::failed(Blame::System, &error),
            BuildError::Layer { ref source, .. }
                if matches!(**source, LayerError::Store(_) | LayerError::Write(_)) =>
            {
                Failure::failed(Blame::System, &error)
            }
            _ => Failure::failed(Blame::Input, &error),
        }
    }
}

fn is_of_the_store(error: &TransportError) -> bool {
    matches!(error, TransportError::Store { .. })
}

/// Who must act on what a registry answered: one that cannot be reached is the network's concern,
/// one that has no such image is the caller's.
fn of_a_registry(error: &TransportError) -> Option<Blame> {
    if let TransportError::Registry(error) = error
        && matches!(**error, RegistryError::Refused { status: 500.., .. })
    {
        return Some(Blame::System);
    }
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(HttpError::Unreachable { .. }) = error.downcast_ref() {
            return Some(Blame::System);
        }
        next = error.source();
    }
    None
}

/// Whether something is not here that only the network has.
fn is_offline(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let boxed = error.downcast_ref::<Box<HttpError>>().map(|error| &**error);
        if let Some(HttpError::Offline(_)) = error.downcast_ref().or(boxed) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether there was no room for something, however deep in the causes.
fn disk_is_full(error: &(dyn Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && matches!(error.kind(), StorageFull | QuotaExceeded)
        {
            return true;
        }
        next = error.source();
    }
    false
}
