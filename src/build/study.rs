//! The way to the study: images and specs that are looked at, not built.

use std::path::Path;

use crate::build::bases::{self, Base};
use crate::build::contexts::Contexts;
use crate::build::crew::Crew;
use crate::build::error::BuildError;
use crate::build::event::Observer;
use crate::build::request::BuildRequest;
use crate::build::run::plans;
use crate::build::stages::Workshop;
use crate::explain::{
    Allowed, CheckReport, ImageFacts, Inspection, LayerFacts, LayerOrigin, Subject, check, inspect,
};
use crate::plan::Plan;
use crate::spec::{Action, ImageSource};
use crate::store::Store;
use crate::transport::registry::{RegistryClient, RegistrySettings};

/// Checks the image that a spec describes, without writing a layer. What its final stage allows is
/// allowed besides `allowed`.
///
/// # Errors
/// As [`crate::build::build`].
pub fn check_spec(
    request: &BuildRequest,
    allowed: Allowed,
    observer: &dyn Observer,
) -> Result<CheckReport, BuildError> {
    let plans = plans(request)?;
    let plan = &plans[0];
    let stage = plan.target_stage();
    let allowed = allowed.with_spec(&plan.source, &stage.stage.allow)?;
    let store = Store::open(&request.store_root)?;
    let registries = RegistryClient::new(request.registries.clone());
    let crew = Crew::of(request.jobs);
    let contexts = Contexts::new(request, &crew, &store, observer, request.outputs.clone());
    let workshop = Workshop::new(request, plan, &store, observer, &contexts, &registries);
    let target = workshop.target()?;
    bases::unpack_all(&workshop.bases(), &store)?;
    let base_title = target.base.as_ref().map(|base| base.source.to_string());
    let of_base = target.base.iter().flat_map(|base| &base.layers);
    let of_base = of_base.map(|layer| LayerOrigin {
        title: base_title.as_deref().unwrap_or_default(),
        changes: &layer.changes,
    });
    let own = target.layers.iter().map(|layer| LayerOrigin {
        title: &layer.title,
        changes: &layer.changes,
    });
    let layers: Vec<LayerOrigin<'_>> = of_base.chain(own).collect();
    let subject = Subject {
        tree: &target.tree,
        config: &target.config,
        layers: &layers,
        build_stage: build_stage(plan),
    };
    let report = check(subject, &store, &allowed)?;
    Ok(report)
}

/// The stage that ran commands and that the image is built from.
fn build_stage(plan: &Plan) -> Option<&str> {
    let mut stage = plan.target_stage();
    loop {
        if stage
            .steps()
            .any(|step| matches!(step.step.action, Action::Run(_)))
        {
            return Some(stage.name());
        }
        match stage.base {
            crate::plan::StageBase::Stage(id) => stage = plan.stage(id),
            _ => return None,
        }
    }
}

/// Checks a finished image.
///
/// # Errors
/// An image that cannot be read.
pub fn check_image(
    source: &ImageSource,
    store_root: &Path,
    registries: RegistrySettings,
    allowed: &Allowed,
) -> Result<CheckReport, BuildError> {
    let store = Store::open(store_root)?;
    let base = bases::finished(source, &store, registries)?;
    bases::unpack_all(std::slice::from_ref(&base), &store)?;
    let titles = titles(&base);
    let layers: Vec<LayerOrigin<'_>> = base
        .layers
        .iter()
        .zip(&titles)
        .map(|(layer, title)| LayerOrigin {
            title,
            changes: &layer.changes,
        })
        .collect();
    let subject = Subject {
        tree: &base.tree,
        config: &base.config,
        layers: &layers,
        build_stage: None,
    };
    Ok(check(subject, &store, allowed)?)
}

/// Looks into a finished image; `largest` files are listed for each layer.
///
/// # Errors
/// An image that cannot be read.
pub fn inspect_image(
    source: &ImageSource,
    store_root: &Path,
    registries: RegistrySettings,
    largest: usize,
) -> Result<Inspection, BuildError> {
    let store = Store::open(store_root)?;
    let base = bases::finished(source, &store, registries)?;
    let layers = base.layers.iter().map(|layer| LayerFacts {
        descriptor: &layer.layer.descriptor,
        uncompressed: layer.uncompressed_size,
        changes: &layer.changes,
    });
    let facts = ImageFacts {
        names: base.names.clone(),
        manifest: base.manifest,
        image_id: base.image_id,
        config: &base.config,
        layers: layers.collect(),
    };
    Ok(inspect(&facts, largest)?)
}

/// What made each layer, as far as the image's history knows.
fn titles(base: &Base) -> Vec<String> {
    let made = base.config.history.iter().filter(|line| !line.empty_layer);
    let mut titles: Vec<String> = made
        .map(|line| line.created_by.clone().unwrap_or_default())
        .collect();
    titles.resize(base.layers.len(), String::new());
    titles
}
