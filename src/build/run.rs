//! The way through the rooms, from a request to a report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::build::bases;
use crate::build::error::BuildError;
use crate::build::event::{Event, Observer, OutputState};
use crate::build::report::{BuildReport, LayerLine, Origin, OutputKind, OutputLine};
use crate::build::request::{BuildRequest, CacheUse};
use crate::build::stages::{Evaluated, StageLayer, Workshop, bytes};
use crate::context::read_digests;
use crate::image::{self, ConfigInputs, Image, ImageLayer, ImageSet, NewLayer, loader_notes};
use crate::layer::{self, Compression, Layer, LayerError, Records, WriteOptions};
use crate::oci::{Codec, Digest, Platform, Reference};
use crate::plan::{Plan, PlanInputs, final_user, plan};
use crate::spec::{self, BuildSpec, Diagnostics, ParseInputs};
use crate::store::Store;
use crate::transport::registry::RegistryClient;
use crate::transport::{self, Output, Written};
use crate::tree::{Changeset, Content};

/// Builds what the request asks for and writes its outputs.
///
/// # Errors
/// A wrong spec with every problem in its place, and whatever a room fails with. Outputs and store
/// are as they were then, but for what is whole.
pub fn build(request: &BuildRequest, observer: &dyn Observer) -> Result<BuildReport, BuildError> {
    let plans = plans(request)?;
    let store = Store::open(&request.store_root)?;
    let registries = RegistryClient::new(request.registries.clone());
    let mut made = BTreeMap::new();
    let mut images = Vec::new();
    let mut lines = Vec::new();
    let mut notes = BTreeSet::new();
    for plan in &plans {
        observer.event(Event::Planned {
            stages: plan.stages.len(),
            steps: plan.stages.iter().map(|stage| stage.steps().count()).sum(),
        });
        let mut workshop = Workshop::new(request, plan, &store, observer, &registries);
        let target = workshop.target()?;
        check_final_user(plan, &target)?;
        let layers = write_layers(&workshop, &target, &mut made)?;
        let (image, image_lines) = assemble(&workshop, &target, &layers)?;
        notes.extend(workshop.take_notes());
        notes.extend(loader_notes(&target.config, image.layers(), request.format));
        workshop.remember()?;
        images.push(image);
        lines.extend(image_lines);
    }
    notes
        .iter()
        .for_each(|text| observer.event(Event::Note { text }));
    let set = ImageSet::new(images)?;
    let names = names(request, &plans[0]);
    let outputs = write_outputs(request, &set, &names, &store, observer)?;
    let first = &set.images()[0];
    Ok(BuildReport {
        names: names.iter().map(ToString::to_string).collect(),
        platform: first.platform().clone(),
        format: request.format,
        manifest: set.root().digest,
        image_id: first.config().digest(),
        layers: lines,
        outputs,
        notes: notes.into_iter().collect(),
    })
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
            },
        )
    };
    let host = Platform::host();
    let first = request.platforms.first().unwrap_or(&host);
    let spec = parse(request, first)?;
    let platforms: Vec<Platform> = match (&request.platforms[..], &spec.platforms[..]) {
        ([], []) => vec![host],
        ([], platforms) => platforms
            .iter()
            .map(|platform| platform.value.clone())
            .collect(),
        (platforms, _) => platforms.to_vec(),
    };
    let plans = platforms
        .iter()
        .map(|platform| Ok(planned(platform, &parse(request, platform)?)?));
    plans.collect()
}

fn parse(request: &BuildRequest, platform: &Platform) -> Result<BuildSpec, Diagnostics> {
    spec::parse(
        &request.source,
        &ParseInputs {
            arg_overrides: &request.arg_overrides,
            platform,
        },
    )
}

/// The names of the image: those of the request, else those of the spec.
pub(crate) fn names(request: &BuildRequest, plan: &Plan) -> Vec<Reference> {
    match request.names.is_empty() {
        true => plan.names.clone(),
        false => request
            .names
            .iter()
            .map(|name| name.clone().with_default_tag())
            .collect(),
    }
}

/// A user that the base image brings is known only now.
fn check_final_user(plan: &Plan, target: &Evaluated) -> Result<(), BuildError> {
    match final_user(plan, &target.config.config.user) {
        Some(problem) => Err(Diagnostics::from(problem).into()),
        None => Ok(()),
    }
}

/// A layer that is in the store, and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct MadeLayer {
    layer: Layer,
    origin: Origin,
}

/// Reads what the layers need, and writes those that the store does not have.
fn write_layers(
    workshop: &Workshop<'_>,
    target: &Evaluated,
    made: &mut BTreeMap<Digest, Layer>,
) -> Result<Vec<MadeLayer>, BuildError> {
    read_contents(workshop, target)?;
    let mut layers = Vec::new();
    for (place, stage_layer) in target.layers.iter().enumerate() {
        let failed = |source: LayerError| BuildError::Layer {
            stage: stage_layer.stage.clone(),
            title: stage_layer.title.clone(),
            source: Box::new(source),
        };
        let digest = stage_layer
            .changes
            .digest()
            .map_err(|error| failed(error.into()))?;
        let (layer, origin) = match made.get(&digest) {
            Some(layer) => (layer.clone(), Origin::Reused),
            None => write_layer(workshop, place, stage_layer, &digest).map_err(failed)?,
        };
        made.insert(digest, layer.clone());
        layers.push(MadeLayer { layer, origin });
    }
    Ok(layers)
}

fn write_layer(
    workshop: &Workshop<'_>,
    place: usize,
    stage_layer: &StageLayer,
    digest: &Digest,
) -> Result<(Layer, Origin), LayerError> {
    let Workshop {
        request, observer, ..
    } = *workshop;
    let StageLayer {
        stage,
        title,
        changes,
    } = stage_layer;
    observer.event(Event::LayerStarted {
        layer: place,
        stage,
        title,
        entries: changes.len() as u64,
        bytes: bytes(changes),
    });
    let done = AtomicU64::new(0);
    let progress = |bytes| {
        let done = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        observer.event(Event::LayerProgress { layer: place, done });
    };
    let options = WriteOptions {
        compression: compression(workshop),
        epoch: request.epoch,
        earlier: None,
        threads: request.jobs,
        progress: &progress,
    };
    let records = match request.cache {
        CacheUse::All => Records::Use,
        CacheUse::BasesOnly => Records::Ignore,
    };
    let spec = request.spec_file.to_string_lossy();
    let slot = [spec.as_ref(), stage, title];
    let provided = layer::provide(changes, digest, workshop.store, &slot, records, &options)?;
    let origin = match provided.written {
        Some(_) => Origin::Built,
        None => Origin::Cached,
    };
    Ok((provided.layer, origin))
}

fn compression(workshop: &Workshop<'_>) -> Compression {
    let wanted = workshop.request.compression.or(workshop.plan.compression);
    let (codec, level) = match wanted {
        None => return Compression::default(),
        Some(spec::Compression::None) => (Codec::None, None),
        Some(spec::Compression::Gzip(level)) => (Codec::Gzip, level),
        Some(spec::Compression::Zstd(level)) => (Codec::Zstd, level),
    };
    let default = Compression::default_of(codec);
    level
        .and_then(|level| Compression::new(codec, level).ok())
        .unwrap_or(default)
}

/// Finds the digests of all files that the layers take, and unpacks the layers of bases that they
/// take files from.
fn read_contents(workshop: &Workshop<'_>, target: &Evaluated) -> Result<(), BuildError> {
    let mut unread = Vec::new();
    let mut packed = BTreeSet::new();
    let contents = |changes: &Changeset, see: &mut dyn FnMut(&Content)| {
        let files = changes
            .iter()
            .filter_map(|(_, change)| change.entry()?.as_file());
        files.for_each(|file| see(&file.content));
    };
    for layer in &target.layers {
        contents(&layer.changes, &mut |content| match content {
            Content::Disk(file) if file.digest().is_none() => unread.push(Arc::clone(file)),
            Content::Blob(range) => {
                packed.insert(range.blob);
            }
            Content::Disk(_) | Content::Inline(_) => {}
        });
    }
    read_digests(workshop.store, &unread, workshop.request.jobs)?;
    let bases = workshop.bases();
    for diff in packed {
        if !workshop.store.contains_blob(&diff)? {
            bases::unpack(&bases, &diff, workshop.store)?;
        }
    }
    Ok(())
}

/// Puts the image together and says where each layer comes from.
fn assemble(
    workshop: &Workshop<'_>,
    target: &Evaluated,
    made: &[MadeLayer],
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
            });
        }
    }
    for (MadeLayer { layer, origin }, stage_layer) in made.iter().zip(&target.layers) {
        layers.push(ImageLayer::from(layer));
        let line = LayerLine {
            title: stage_layer.title.clone(),
            digest: layer.digest,
            diff_id: layer.diff_id,
            size: layer.size,
            uncompressed: layer.uncompressed_size,
            origin: *origin,
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
    let new = made.iter().zip(&target.layers);
    let new: Vec<NewLayer<'_>> = new
        .map(|(made, layer)| NewLayer {
            diff_id: made.layer.diff_id,
            title: &layer.title,
        })
        .collect();
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

fn write_outputs(
    request: &BuildRequest,
    images: &ImageSet,
    names: &[Reference],
    store: &Store,
    observer: &dyn Observer,
) -> Result<Vec<OutputLine>, BuildError> {
    let wanted = match request.outputs.is_empty() {
        true => vec![request.default_output(names)],
        false => request.outputs.clone(),
    };
    let mut lines = Vec::new();
    for wanted in wanted {
        let name = wanted.to_string();
        let output: Output = name.parse()?;
        let kind = match &output {
            Output::Layout { .. } => OutputKind::Oci,
            Output::OciArchive { .. } => OutputKind::OciArchive,
            Output::DockerArchive { .. } => OutputKind::DockerArchive,
        };
        let receipt = transport::write(&output, std::path::Path::new(""), images, names, store)?;
        let state = match receipt.written {
            Written::New => OutputState::Written,
            Written::Unchanged => OutputState::Unchanged,
        };
        observer.event(Event::OutputWritten {
            name: &name,
            path: &receipt.path,
            bytes: receipt.bytes,
            state,
        });
        lines.push(OutputLine {
            name,
            kind,
            path: receipt.path,
            reference: receipt.reference,
            bytes: receipt.bytes,
            state,
        });
    }
    Ok(lines)
}
