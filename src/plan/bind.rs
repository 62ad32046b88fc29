//! Binding: every name of a needed stage gets the number of what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::oci::Reference;
use crate::plan::graph::Graph;
use crate::plan::making::{MAIN_CONTEXT, PlanInputs};
use crate::plan::origin::{Written, from_or_main, written};
use crate::plan::outside::known_file;
use crate::plan::stage::{
    ContextId, FileId, GivenBy, ImageId, KnownBy, PlannedContext, PlannedFile, PlannedLayer,
    PlannedStage, PlannedStep, Source, StageBase, StageId, fixed_part,
};
use crate::plan::title::{printable, title};
use crate::spec::{
    AbsolutePath, Action, Add, Base, BuildSpec, ContextPath, Home, ImageSource, Mount, Name,
    Origin, Spanned, Stage,
};
use crate::tree::LayerPath;

/// Gives every context and image its number as it is met.
pub(crate) struct Binder<'a> {
    spec: &'a BuildSpec,
    inputs: &'a PlanInputs<'a>,
    graph: &'a Graph<'a>,
    /// The number of each needed stage, by its place in the spec.
    ids: BTreeMap<usize, StageId>,
    /// The working directory that each stage so far leaves to a stage built from it.
    workdirs: Vec<Option<AbsolutePath>>,
    /// The contexts of each file: the main one and those with names.
    context_ids: BTreeMap<(Home, Option<&'a Name>), ContextId>,
    /// The paths wanted of each context.
    wanted: BTreeMap<ContextId, BTreeSet<LayerPath>>,
    images: Vec<ImageSource>,
    files: Vec<PlannedFile>,
    image_ids: BTreeMap<ImageSource, ImageId>,
}

/// What steps take files from, each by its number.
pub(crate) struct Bound {
    pub(crate) contexts: Vec<PlannedContext>,
    pub(crate) images: Vec<ImageSource>,
    pub(crate) files: Vec<PlannedFile>,
}

/// All contexts of a spec's files, those of the spec itself first, and of each file the main one.
fn contexts(spec: &BuildSpec) -> impl Iterator<Item = (Home, Option<&Name>)> {
    let extended = (0..spec.extended.len()).map(Home::Extended);
    let homes = [Home::Own].into_iter().chain(extended);
    homes.flat_map(|home| {
        let named = spec.contexts_of(home).named.keys().map(Some);
        let all = [None].into_iter().chain(named);
        all.map(move |name| (home, name))
    })
}

impl<'a> Binder<'a> {
    /// A binder for the stages at the places of `order`, which are to be bound in this order.
    pub(crate) fn new(
        spec: &'a BuildSpec,
        inputs: &'a PlanInputs<'a>,
        graph: &'a Graph<'a>,
        order: &[usize],
    ) -> Binder<'a> {
        Binder {
            spec,
            inputs,
            graph,
            ids: order.iter().copied().zip((0..).map(StageId)).collect(),
            workdirs: Vec::new(),
            context_ids: contexts(spec).zip((0..).map(ContextId)).collect(),
            wanted: BTreeMap::new(),
            images: Vec::new(),
            files: Vec::new(),
            image_ids: BTreeMap::new(),
        }
    }

    /// The stage at a place of the spec; what it uses has been bound before.
    pub(crate) fn stage(&mut self, index: usize) -> PlannedStage {
        let stage = &self.spec.stages[index];
        let base = match &stage.from.value {
            Base::Image(image) => StageBase::Image(self.image(stage.home, image)),
            // A name that means nothing is a problem already, and there will be no plan.
            Base::Scratch | Base::Name(_) | Base::Stage(..) => self.base(index),
        };
        let base_workdir = match base {
            StageBase::Scratch => Some(AbsolutePath::default()),
            StageBase::Stage(id) => self.workdirs[id.0].clone(),
            StageBase::Image(_) => None,
        };
        let edges = self.graph.edges(index).iter();
        let depends_on: BTreeSet<StageId> = edges
            .filter_map(|edge| self.ids.get(&edge.to).copied())
            .collect();
        let mut planned = PlannedStage {
            title: self.titled(stage.name.as_str(), stage.home),
            stage: stage.clone(),
            base,
            base_workdir,
            depends_on: depends_on.into_iter().collect(),
            layers: Vec::new(),
        };
        self.workdirs.push(planned.final_workdir().cloned());
        planned.layers = self.layers(stage, planned.known_workdir());
        planned
    }

    /// All contexts of the spec, wanted or not, so that numbers fit; the images; and the files. A
    /// context that nothing is wanted of is never looked at.
    pub(crate) fn finish(mut self) -> Bound {
        let all = contexts(self.spec).zip((0..).map(ContextId));
        let all = all.map(|((home, name), id)| {
            let wanted = outermost(self.wanted.remove(&id).unwrap_or_default());
            self.context(home, name, wanted)
        });
        Bound {
            contexts: all.collect(),
            images: self.images,
            files: self.files,
        }
    }

    /// A context of a file. The caller speaks of those of the spec itself.
    fn context(&self, home: Home, name: Option<&Name>, wanted: Vec<LayerPath>) -> PlannedContext {
        let contexts = self.spec.contexts_of(home);
        let written = match name.and_then(|name| contexts.directory(name)) {
            Some(directory) => &directory.value,
            None => contexts.main_directory(),
        };
        let word = name.map_or(MAIN_CONTEXT, Name::as_str);
        let other = self.inputs.contexts.get(word);
        let (directory, given_by) = match other.filter(|_| home == Home::Own) {
            Some(other) => (other.clone(), GivenBy::Caller),
            None => (self.spec.located(home, written), GivenBy::Spec),
        };
        PlannedContext {
            name: self.titled(word, home),
            directory,
            of: self.path(home).map(Path::to_owned),
            given_by,
            is_main: name.is_none(),
            wanted,
        }
    }

    fn path(&self, home: Home) -> Option<&'a Path> {
        match home {
            Home::Own => None,
            Home::Extended(place) => Some(&self.spec.extended[place].path),
        }
    }

    /// A name with the file that it means something in, unless that is the spec itself.
    fn titled(&self, name: &str, home: Home) -> String {
        match self.path(home) {
            Some(path) => format!("{name} ({})", printable(&path.to_string_lossy())),
            None => name.to_owned(),
        }
    }

    /// Neighbouring steps of one `layer:` are one layer.
    fn layers(&mut self, stage: &'a Stage, workdir: Option<&AbsolutePath>) -> Vec<PlannedLayer> {
        let mut layers: Vec<PlannedLayer> = Vec::new();
        let mut open: Option<&Name> = None;
        for (step, number) in stage.steps.iter().zip(1..) {
            let name = step.layer.as_ref().map(|layer| &layer.value);
            let planned = PlannedStep {
                number,
                title: title(&step.action, workdir),
                source: self.source(stage.home, &step.action),
                binds: self.binds(stage.home, &step.action),
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

    /// What each bind mount of a command takes files from, in their order.
    fn binds(&mut self, home: Home, action: &'a Action) -> Vec<Source> {
        let Action::Run(run) = action else {
            return Vec::new();
        };
        let binds = run.mounts.iter().filter_map(|mount| match &mount.value {
            Mount::Bind { source, from, .. } => {
                Some((from_or_main(from.as_ref()), vec![&source.value]))
            }
            _ => None,
        });
        binds
            .filter_map(|(written, paths)| self.bound(home, written, paths))
            .collect()
    }

    fn source(&mut self, home: Home, action: &'a Action) -> Option<Source> {
        if let Action::Add(add) = action {
            return self.file(add).map(Source::File);
        }
        let (written, paths) = written(action);
        self.bound(home, written, paths)
    }

    fn bound(
        &mut self,
        home: Home,
        written: Written<'a>,
        paths: Vec<&ContextPath>,
    ) -> Option<Source> {
        let name = match written {
            Written::Nothing => return None,
            Written::Main => None,
            Written::From(Spanned {
                value: Origin::Image(image),
                ..
            }) => return Some(Source::Image(self.image(home, image))),
            Written::From(Spanned {
                value: Origin::Name(name),
                ..
            }) => match self.stage_id(home, name) {
                Some(stage) => return Some(Source::Stage(stage)),
                None => Some(name),
            },
        };
        // A name that means nothing is a problem already.
        let context = *self.context_ids.get(&(home, name))?;
        let wanted = self.wanted.entry(context).or_default();
        wanted.extend(paths.into_iter().map(fixed_part));
        Some(Source::Context(context))
    }

    fn base(&self, index: usize) -> StageBase {
        let base = self.graph.base(index);
        let id = base.and_then(|base| self.ids.get(&base).copied());
        id.map_or(StageBase::Scratch, StageBase::Stage)
    }

    fn stage_id(&self, home: Home, name: &Name) -> Option<StageId> {
        self.ids.get(&self.graph.place(home, name)?).copied()
    }

    /// An image of a file. What a lock says of it is as good as a digest in the reference.
    fn image(&mut self, home: Home, image: &ImageSource) -> ImageId {
        let image = image.clone().moved(|path| self.spec.located(home, path));
        let pinned = |reference: &Reference| {
            let lock = self.inputs.lock?;
            let full = reference.clone().with_default_tag();
            let digest = lock.images.get(&full)?.for_platform(self.inputs.platform)?;
            Some(ImageSource::Registry(full.with_digest(*digest)))
        };
        if let Some(known) = self.image_ids.get(&image) {
            return *known;
        }
        let pinned = match &image {
            ImageSource::Registry(reference) => pinned(reference),
            _ => None,
        };
        let id = ImageId(self.images.len());
        self.images.push(pinned.unwrap_or_else(|| image.clone()));
        self.image_ids.insert(image, id);
        id
    }

    /// A file of the web; one that nothing knows is a problem already.
    fn file(&mut self, add: &Add) -> Option<FileId> {
        let digest = known_file(self.spec, add, self.inputs.lock).ok()?;
        let (span, known_by) = match &add.checksum {
            Some(checksum) => (checksum.span, KnownBy::Spec),
            None => (add.url.span, KnownBy::Lock),
        };
        self.files.push(PlannedFile {
            url: add.url.clone(),
            digest: Spanned::new(digest, span),
            known_by,
            unpack: add.unpack,
        });
        Some(FileId(self.files.len() - 1))
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
