//! What the names of a stage mean: every context, stage and image gets its number.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::graph::{Edge, PlanInputs};
use crate::plan::stage::{
    ContextId, ImageId, PlannedContext, PlannedLayer, PlannedStage, PlannedStep, Source, StageBase,
    StageId, fixed_part, title,
};
use crate::spec::{
    Action, Base, BuildSpec, ContextPath, ImageSource, Name, Origin, Spanned, Step, WriteSource,
};
use crate::tree::LayerPath;

/// The place of the stage of this name in the spec.
pub(crate) fn position(spec: &BuildSpec, name: &Name) -> Option<usize> {
    spec.stages
        .iter()
        .position(|stage| stage.name.value == *name)
}

/// Where a step takes files from, as written.
pub(crate) enum Written<'a> {
    Main,
    From(&'a Spanned<Origin>),
    Nothing,
}

/// The source of a step's files, and the paths in it.
pub(crate) fn written(action: &Action) -> (Written<'_>, Vec<&ContextPath>) {
    match action {
        Action::Copy(copy) => {
            let paths = copy.sources.iter().map(|source| &source.value).collect();
            (
                copy.from.as_ref().map_or(Written::Main, Written::From),
                paths,
            )
        }
        Action::Write(write) => match &write.content {
            WriteSource::Text(_) => (Written::Nothing, Vec::new()),
            WriteSource::Template { path, from } => (
                from.as_ref().map_or(Written::Main, Written::From),
                vec![&path.value],
            ),
        },
        _ => (Written::Nothing, Vec::new()),
    }
}

/// Gives every context and image its number as it is met.
pub(crate) struct Binder<'a> {
    pub(crate) spec: &'a BuildSpec,
    pub(crate) inputs: &'a PlanInputs<'a>,
    pub(crate) order: &'a [usize],
    /// The paths wanted of each context, by name; the main one is `None`.
    pub(crate) contexts: BTreeMap<Option<Name>, BTreeSet<LayerPath>>,
    pub(crate) images: Vec<ImageSource>,
}

impl Binder<'_> {
    pub(crate) fn stage(&mut self, index: usize, edges: &[Edge]) -> PlannedStage {
        let stage = &self.spec.stages[index];
        let base = match &stage.from.value {
            Base::Scratch => StageBase::Scratch,
            Base::Name(name) => self
                .stage_id(name)
                .map_or(StageBase::Scratch, StageBase::Stage),
            Base::Image(image) => StageBase::Image(self.image(image)),
        };
        let depends_on: BTreeSet<StageId> = edges
            .iter()
            .filter_map(|edge| self.order.iter().position(|other| *other == edge.to))
            .map(StageId)
            .collect();
        let layers = self.layers(&stage.steps);
        PlannedStage {
            stage: stage.clone(),
            base,
            depends_on: depends_on.into_iter().collect(),
            layers,
        }
    }

    /// Neighbouring steps of one name become one layer, any other step has its own.
    fn layers(&mut self, steps: &[Step]) -> Vec<PlannedLayer> {
        let mut layers: Vec<PlannedLayer> = Vec::new();
        let mut open: Option<&Name> = None;
        for (place, step) in steps.iter().enumerate() {
            let name = step.layer.as_ref().map(|layer| &layer.value);
            let planned = PlannedStep {
                number: place + 1,
                title: title(&step.action),
                source: self.source(&step.action),
                step: step.clone(),
            };
            match layers.last_mut() {
                Some(layer) if name.is_some() && name == open => layer.steps.push(planned),
                _ => {
                    let title =
                        name.map_or_else(|| planned.title.clone(), |name| name.as_str().to_owned());
                    layers.push(PlannedLayer {
                        title,
                        steps: vec![planned],
                    });
                }
            }
            open = name;
        }
        layers
    }

    fn source(&mut self, action: &Action) -> Option<Source> {
        let (written, paths) = written(action);
        let origin = match written {
            Written::Nothing => return None,
            Written::Main => None,
            Written::From(origin) => Some(&origin.value),
        };
        let context = match origin {
            Some(Origin::Image(image)) => return Some(Source::Image(self.image(image))),
            Some(Origin::Name(name)) => match self.stage_id(name) {
                Some(stage) => return Some(Source::Stage(stage)),
                None => Some(name.clone()),
            },
            None => None,
        };
        let id = self.context_id(context.as_ref());
        self.contexts
            .entry(context)
            .or_default()
            .extend(paths.into_iter().map(fixed_part));
        Some(Source::Context(id))
    }

    fn stage_id(&self, name: &Name) -> Option<StageId> {
        let index = position(self.spec, name)?;
        self.order
            .iter()
            .position(|other| *other == index)
            .map(StageId)
    }

    fn image(&mut self, image: &ImageSource) -> ImageId {
        let place = self.images.iter().position(|known| known == image);
        ImageId(place.unwrap_or_else(|| {
            self.images.push(image.clone());
            self.images.len() - 1
        }))
    }

    fn context_id(&self, name: Option<&Name>) -> ContextId {
        let place = name.and_then(|name| {
            self.spec
                .contexts
                .named
                .keys()
                .position(|known| known == name)
        });
        ContextId(place.map_or(0, |place| place + 1))
    }

    /// All contexts of the spec, wanted or not, so that numbers fit: the main one, then the named
    /// ones. A context that nothing is wanted of is never looked at.
    pub(crate) fn contexts(&self) -> Vec<PlannedContext> {
        let names = [None]
            .into_iter()
            .chain(self.spec.contexts.named.keys().map(Some));
        names
            .map(|name| {
                let written = name.map_or_else(
                    || self.spec.contexts.main_directory().to_owned(),
                    |name| self.spec.contexts.named[name].value.clone(),
                );
                let shown = name.map_or("context", Name::as_str);
                let wanted = self
                    .contexts
                    .get(&name.cloned())
                    .cloned()
                    .unwrap_or_default();
                PlannedContext {
                    name: shown.to_owned(),
                    directory: self.inputs.contexts.get(shown).cloned().unwrap_or(written),
                    is_main: name.is_none(),
                    wanted: outermost(wanted),
                }
            })
            .collect()
    }
}

/// Paths that lie below another are wanted with it.
fn outermost(paths: BTreeSet<LayerPath>) -> Vec<LayerPath> {
    let mut kept: Vec<LayerPath> = Vec::new();
    for path in paths {
        if !kept.last().is_some_and(|last| path.starts_with(last)) {
            kept.push(path);
        }
    }
    kept
}
