//! The target of a plan: its layers in the store and its config, remembered or made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::build::bases::{self, Base};
use crate::build::contexts::Context;
use crate::build::error::BuildError;
use crate::build::event::Event;
use crate::build::memo::{self, Outcome, OutcomeLayer};
use crate::build::report::{LayerWork, Origin};
use crate::build::request::CacheUse;
use crate::build::stages::{Evaluated, StageLayer, Workshop, bytes};
use crate::layer::{self, Compression, Layer, LayerError, Records, WriteOptions};
use crate::oci::{Codec, Digest, ImageConfig};
use crate::spec;
use crate::store::KeyRecord;
use crate::tree::Content;

/// What becomes the image.
pub(crate) struct Target {
    /// The image at the bottom, if there is one.
    pub(crate) base: Option<Arc<Base>>,
    /// The layers on it, lowest first.
    pub(crate) layers: Vec<MadeLayer>,
    /// The config but for these layers.
    pub(crate) config: ImageConfig,
    /// What should be told.
    pub(crate) notes: Vec<String>,
}

/// A layer that is in the store, and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct MadeLayer {
    pub(crate) title: String,
    pub(crate) layer: Layer,
    pub(crate) origin: Origin,
    pub(crate) work: Option<LayerWork>,
}

/// The target of the workshop's plan. Layers that this build has made are found in `made` by the
/// digests of their changesets.
pub(crate) fn target(
    workshop: &mut Workshop<'_>,
    made: &mut BTreeMap<Digest, Layer>,
) -> Result<Target, BuildError> {
    let contexts = workshop.used_contexts()?;
    let told: Vec<String> = contexts
        .iter()
        .flat_map(|(_, context)| context.notes.clone())
        .collect();
    let key = key(workshop, &contexts)?;
    let mut target = match recall(workshop, &key)? {
        Some(target) => target,
        None => {
            let (target, outcome) = evaluate(workshop, made)?;
            if contexts.iter().all(|(_, context)| context.has_settled) {
                memo::remember(workshop.store, &key, &outcome)?;
            }
            target
        }
    };
    target.notes.extend(told);
    Ok(target)
}

fn key(
    workshop: &mut Workshop<'_>,
    contexts: &[(&str, Arc<Context>)],
) -> Result<KeyRecord, BuildError> {
    let images = workshop.used_images()?;
    let images: Vec<Digest> = images
        .iter()
        .flat_map(|base| [base.manifest, base.image_id])
        .collect();
    let contexts: Vec<(&str, &Context)> = contexts
        .iter()
        .map(|(name, context)| (*name, &**context))
        .collect();
    Ok(memo::key(
        workshop.plan,
        workshop.request.epoch,
        &contexts,
        &images,
        &workshop.request.commands,
        workshop.request.registries.http.network,
    ))
}

/// The target as an earlier build had it, if the store still has all its layers.
fn recall(workshop: &mut Workshop<'_>, key: &KeyRecord) -> Result<Option<Target>, BuildError> {
    // A cache for others has what evaluating finds, so that must be done for it.
    if workshop.request.cache == CacheUse::BasesOnly || workshop.request.shared.to.is_some() {
        return Ok(None);
    }
    let Some(outcome) = memo::recall(workshop.store, key)? else {
        return Ok(None);
    };
    let mut layers = Vec::new();
    for OutcomeLayer { title, changeset } in outcome.layers {
        let epoch = workshop.request.epoch;
        let found = layer::find(&changeset, workshop.store, compression(workshop), epoch);
        let found = found.map_err(|source| BuildError::Layer {
            stage: workshop.plan.target_stage().name().to_owned(),
            title: title.clone(),
            source: Box::new(source),
        })?;
        let Some(layer) = found else {
            return Ok(None);
        };
        layers.push(MadeLayer {
            title,
            layer,
            origin: Origin::Cached,
            work: None,
        });
    }
    Ok(Some(Target {
        base: workshop.bottom()?,
        layers,
        config: outcome.config,
        notes: outcome.notes,
    }))
}

/// Evaluates all stages and writes the layers that the store does not have.
fn evaluate(
    workshop: &mut Workshop<'_>,
    made: &mut BTreeMap<Digest, Layer>,
) -> Result<(Target, Outcome), BuildError> {
    let evaluated = workshop.target()?;
    unpack_bases(workshop, &evaluated)?;
    let mut layers = Vec::new();
    let mut outcome = Outcome {
        layers: Vec::new(),
        config: evaluated.config.clone(),
        notes: workshop.take_notes(),
    };
    for (place, stage_layer) in evaluated.layers.iter().enumerate() {
        let title = stage_layer.title.clone();
        let (made_layer, changeset) =
            provide(workshop, place, stage_layer, made).map_err(|source| BuildError::Layer {
                stage: stage_layer.stage.clone(),
                title: title.clone(),
                source: Box::new(source),
            })?;
        made.insert(changeset, made_layer.layer.clone());
        outcome.layers.push(OutcomeLayer { title, changeset });
        layers.push(made_layer);
    }
    let target = Target {
        base: evaluated.base.clone(),
        layers,
        config: evaluated.config.clone(),
        notes: outcome.notes.clone(),
    };
    Ok((target, outcome))
}

fn provide(
    workshop: &Workshop<'_>,
    place: usize,
    stage_layer: &StageLayer,
    made: &BTreeMap<Digest, Layer>,
) -> Result<(MadeLayer, Digest), LayerError> {
    let Workshop {
        request, observer, ..
    } = *workshop;
    let StageLayer {
        stage,
        title,
        changes,
    } = stage_layer;
    if !made.is_empty()
        && let Ok(digest) = changes.digest()
        && let Some(layer) = made.get(&digest)
    {
        let reused = MadeLayer {
            title: title.clone(),
            layer: layer.clone(),
            origin: Origin::Reused,
            work: None,
        };
        return Ok((reused, digest));
    }
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
    let helpers = workshop.contexts.crew.all_hands();
    let options = WriteOptions {
        compression: compression(workshop),
        epoch: request.epoch,
        earlier: None,
        threads: helpers.and_me(),
        progress: &progress,
    };
    let records = match request.cache {
        CacheUse::All => Records::Use,
        CacheUse::BasesOnly => Records::Ignore,
    };
    let spec = request.spec_file.to_string_lossy();
    let slot = [spec.as_ref(), stage, title];
    let provided = layer::provide(changes, workshop.store, &slot, records, &options)?;
    let made = MadeLayer {
        title: title.clone(),
        layer: provided.layer,
        origin: match provided.written {
            Some(_) => Origin::Built,
            None => Origin::Cached,
        },
        work: provided.written.map(|reuse| LayerWork {
            frames: reuse.frames,
            frames_reused: reuse.frames_reused,
            bytes_compressed: reuse.bytes_compressed,
            bytes_reused: reuse.bytes_reused,
        }),
    };
    Ok((made, provided.changeset))
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

/// Unpacks the layers of bases that layers of the target take files from.
fn unpack_bases(workshop: &Workshop<'_>, target: &Evaluated) -> Result<(), BuildError> {
    let changes = target.layers.iter().flat_map(|layer| layer.changes.iter());
    let packed: BTreeSet<Digest> = changes
        .filter_map(|(_, change)| match &change.entry()?.as_file()?.content {
            Content::Blob(range) => Some(range.blob),
            Content::Disk(_) | Content::Inline(_) => None,
        })
        .collect();
    let bases = workshop.bases();
    for diff in packed {
        if !workshop.store.contains_blob(&diff)? {
            bases::unpack(&bases, &diff, workshop.store)?;
        }
    }
    Ok(())
}
