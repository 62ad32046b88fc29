//! The door between porch and corridor: what the commands ask the library for.
//!
//! Everything that the library can refuse becomes a [`Failure`] here, so that commands are a few
//! lines each.

use std::path::Path;

use boxwright::build::{BuildReport, BuildRequest, Observer};
use boxwright::explain::{Allowed, CheckReport, Inspection};
use boxwright::oci::Platform;
use boxwright::spec::{BuildSpec, ImageSource, ParseInputs};

use crate::cli::exit::{Blame, Failure};

/// What `--dry-run` shows.
pub(crate) struct PlanShown {
    /// For people.
    pub(crate) text: String,
    /// For programs.
    pub(crate) json: serde_json::Value,
}

/// Builds.
pub(crate) fn build(
    request: &BuildRequest,
    _observer: &dyn Observer,
) -> Result<BuildReport, Failure> {
    parse(request)?;
    Err(not_yet("build images"))
}

/// Decides what a build would do.
pub(crate) fn plan(request: &BuildRequest) -> Result<PlanShown, Failure> {
    parse(request)?;
    Err(not_yet("plan builds"))
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
