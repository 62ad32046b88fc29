//! The way through the rooms, from a request to a report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::build::contexts::Contexts;
use crate::build::crew::Crew;
use crate::build::error::BuildError;
use crate::build::event::{Event, Observer};
use crate::build::outputs::{self, Outputs};
use crate::build::report::{BuildReport, LayerLine, Origin};
use crate::build::request::{BuildRequest, CacheUse};
use crate::build::shared_cache;
use crate::build::spec_files::FilesOfMachine;
use crate::build::stages::Workshop;
use crate::build::target::{MadeLayer, Target, target};
use crate::image::{self, ConfigInputs, Image, ImageLayer, ImageSet, NewLayer, loader_notes};
use crate::oci::{ImageConfig, Platform, Reference};
use crate::plan::{Plan, PlanInputs, final_user, plan};
use crate::spec::{self, BuildSpec, Diagnostics, ParseInputs};
use crate::store::Store;
use crate::transport::registry::RegistryClient;

/// Builds what the request asks for and writes its outputs.
///
/// # Errors
/// A wrong spec with every problem in its place, and whatever a room fails with. Outputs and store
/// are as they were then, but for what is whole.
pub fn build(request: &BuildRequest, observer: &dyn Observer) -> Result<BuildReport, BuildError> {
    build_beside(request, &Crew::of(request.jobs), observer)
}

/// The same beside other builds, with which it shares a crew: its threads, of which there are as
/// many as the crew has and not as the request says, its base images, and whatever one of them
/// makes that another one needs.
///
/// # Errors
/// As [`build`].
pub fn build_beside(
    request: &BuildRequest,
    crew: &Crew,
    observer: &dyn Observer,
) -> Result<BuildReport, BuildError> {
    let plans = plans(request)?;
    let _seat = crew.seat();
    let store = Store::open(&request.store_root)?;
    let registries = RegistryClient::new(request.registries.clone());
    let inputs = inputs(request, &plans[0]);
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    outputs::check(&request.outputs, &inputs, &registries)?;
    let store = match request.shared.to {
        Some(_) => store.with_notes(),
        None => store,
    };
    let (store, caches) = match request.cache {
        CacheUse::All => shared_cache::with_caches(store, &request.shared, &request.registries),
        CacheUse::BasesOnly => (store, None),
    };
    let names = plans[0].names.clone();
    let wanted = request.outputs_or_default(&names);
    let contexts = Contexts::new(request, crew, &store, observer, wanted.clone());
    let mut made = BTreeMap::new();
    let (mut images, mut lines, mut notes) = (Vec::new(), Vec::new(), BTreeSet::new());
    for plan in &plans {
        observer.event(planned(plan));
        let mut workshop = Workshop::new(request, plan, &store, observer, &contexts, &registries);
        let target = target(&mut workshop, &mut made)?;
        check_final_user(plan, &target.config)?;
        let (image, image_lines) = assemble(&workshop, &target)?;
        notes.extend(loader_notes(&target.config, image.layers(), request.format));
        notes.extend(target.notes);
        images.push(image);
        lines.extend(image_lines);
    }
    contexts.remember()?;
    notes.extend(caches.iter().flat_map(|caches| caches.notes()));
    notes
        .iter()
        .for_each(|text| observer.event(Event::Note { text }));
    let set = ImageSet::new(images)?;
    let outputs = Outputs {
        wanted,
        images: &set,
        names: &names,
        blobs: &store,
        store: &store,
        registries: &registries,
        observer,
    };
    let outputs = outputs.write()?;
    if let Some(to) = &request.shared.to {
        shared_cache::share(to, &request.shared, &registries, &store, observer)?;
    }
    let first = &set.images()[0];
    Ok(BuildReport {
        names: names.iter().map(ToString::to_string).collect(),
        platform: first.platform().clone(),
        profile: plans[0].profile.as_ref().map(ToString::to_string),
        format: request.format,
        manifest: set.root().digest,
        image_id: first.config().digest(),
        layers: lines,
        outputs,
        notes: notes.into_iter().collect(),
    })
}

fn planned(plan: &Plan) -> Event<'static> {
    Event::Planned {
        stages: plan.stages.len(),
        steps: plan.stages.iter().map(|stage| stage.steps().count()).sum(),
    }
}

/// What no output may take the place of: the spec, those that it extends, and the store.
fn inputs(request: &BuildRequest, plan: &Plan) -> Vec<PathBuf> {
    let extended = plan.extended.iter();
    let extended = extended.map(|file| request.folder().join(&file.path));
    let own = [request.spec_file.clone(), request.store_root.clone()];
    let others = request.inputs.iter().cloned();
    own.into_iter().chain(extended).chain(others).collect()
}

/// Whether files may be written that are no outputs, such as reports.
///
/// # Errors
/// One would take the place of something that the build reads, or the spec is wrong.
pub fn may_be_written(files: &[&Path], request: &BuildRequest) -> Result<(), BuildError> {
    let plans = plans(request)?;
    let inputs = inputs(request, &plans[0]);
    for file in files {
        if let Some(input) = outputs::taken_by(file, inputs.iter().map(PathBuf::as_path)) {
            return Err(outputs::in_place_of(&file.display().to_string(), input));
        }
    }
    Ok(())
}

/// Decides what a build would do: one plan for each platform.
///
/// # Errors
/// Everything that is wrong with the spec.
pub fn plans(request: &BuildRequest) -> Result<Vec<Plan>, BuildError> {
    let contexts = request
        .context_overrides
        .iter()
        .map(|(name, directory)| (name.as_str().to_owned(), directory.clone()));
    let contexts = contexts.collect();
    let target = request.target.as_ref().map(spec::Name::as_str);
    let planned = |platform: &Platform, spec: &BuildSpec| {
        plan(
            spec,
            &PlanInputs {
                target,
                contexts: &contexts,
                platform,
                lock: request.lock.as_ref(),
            },
        )
    };
    let specs = specs(request)?;
    let plans = specs.iter().map(|(platform, spec)| {
        let mut plan = planned(platform, spec)?;
        if !request.names.is_empty() {
            let names = request.names.iter().cloned();
            plan.names = names.map(Reference::with_default_tag).collect();
        }
        Ok(plan)
    });
    plans.collect()
}

/// The spec as it is for each platform, at least one.
pub(crate) fn specs(request: &BuildRequest) -> Result<Vec<(Platform, BuildSpec)>, Diagnostics> {
    let host = Platform::host();
    let first = request.platforms.first().unwrap_or(&host);
    let files = FilesOfMachine::of(request);
    let spec = parse(request, first, &files)?;
    let platforms: Vec<Platform> = match (&request.platforms[..], &spec.platforms[..]) {
        ([], []) => vec![host],
        ([], platforms) => platforms
            .iter()
            .map(|platform| platform.value.clone())
            .collect(),
        (platforms, _) => platforms.to_vec(),
    };
    let specs = platforms.into_iter().map(|platform| {
        let spec = parse(request, &platform, &files)?;
        Ok((platform, spec))
    });
    specs.collect()
}

/// What the spec of a request says, for the first platform that is built for.
///
/// # Errors
/// Everything that is wrong with the spec itself; its graph of stages is not looked at.
pub fn spec(request: &BuildRequest) -> Result<BuildSpec, BuildError> {
    let host = Platform::host();
    let platform = request.platforms.first().unwrap_or(&host);
    Ok(parse(request, platform, &FilesOfMachine::of(request))?)
}

fn parse(
    request: &BuildRequest,
    platform: &Platform,
    files: &FilesOfMachine<'_>,
) -> Result<BuildSpec, Diagnostics> {
    spec::parse(
        &request.source,
        &ParseInputs {
            arg_overrides: &request.arg_overrides,
            profile: request.profile.as_ref().map(spec::Name::as_str),
            platform,
            files,
        },
    )
}

/// The names of the image of a request: those that it says, or else those of the spec.
///
/// # Errors
/// Everything that is wrong with the spec.
pub fn names_of(request: &BuildRequest) -> Result<Vec<Reference>, BuildError> {
    let plans = plans(request)?;
    Ok(plans[0].names.clone())
}

/// A user that the base image brings is known only now.
fn check_final_user(plan: &Plan, config: &ImageConfig) -> Result<(), BuildError> {
    match final_user(plan, &config.config.user) {
        Some(problem) => Err(Diagnostics::from(problem).into()),
        None => Ok(()),
    }
}

/// Puts the image together and says where each layer comes from.
fn assemble(
    workshop: &Workshop<'_>,
    target: &Target,
) -> Result<(Image, Vec<LayerLine>), BuildError> {
    let mut layers: Vec<ImageLayer> = Vec::new();
    let mut lines = Vec::new();
    if let Some(base) = &target.base {
        for base_layer in &base.layers {
            layers.push(base_layer.layer.clone());
            lines.push(LayerLine {
                title: base.source.to_string(),
                digest: base_layer.blob.digest,
                diff_id: base_layer.blob.diff_id,
                size: base_layer.blob.size,
                uncompressed: base_layer.uncompressed_size,
                origin: Origin::Base,
                work: None,
            });
        }
    }
    for MadeLayer {
        title,
        layer,
        origin,
        work,
    } in &target.layers
    {
        layers.push(ImageLayer::from(layer));
        let line = LayerLine {
            title: title.clone(),
            digest: layer.digest,
            diff_id: layer.diff_id,
            size: layer.size,
            uncompressed: layer.uncompressed_size,
            origin: *origin,
            work: *work,
        };
        workshop.observer.event(Event::LayerFinished {
            layer: lines.len(),
            title: &line.title,
            digest: line.digest,
            size: line.size,
            uncompressed: line.uncompressed,
            origin: line.origin,
        });
        lines.push(line);
    }
    let new = target.layers.iter().map(|made| NewLayer {
        diff_id: made.layer.diff_id,
        title: &made.title,
    });
    let new: Vec<NewLayer<'_>> = new.collect();
    let config = image::config(&ConfigInputs {
        base: Some(&target.config),
        settings: &spec::Config::default(),
        workdir: None,
        user: None,
        layers: &new,
        epoch: workshop.request.epoch,
        platform: &workshop.plan.platform,
    })?;
    let image = image::assemble(
        &config.config,
        &layers,
        workshop.request.format,
        &BTreeMap::new(),
    )?;
    Ok((image, lines))
}
