//! Stages, evaluated: every step becomes a changeset, and nothing is read but what steps look at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::build::bases::{self, Base};
use crate::build::commands::Place;
use crate::build::contexts::{Context, Contexts};
use crate::build::error::BuildError;
use crate::build::event::{Event, Observer};
use crate::build::graph::{self, Done};
use crate::build::report::Origin;
use crate::build::request::BuildRequest;
use crate::context::Snapshot;
use crate::image::{self, ConfigInputs, ImageError, resolve_user};
use crate::oci::ImageConfig;
use crate::plan::{
    ContextId, FileId, ImageId, Plan, PlannedLayer, PlannedStage, PlannedStep, Source, StageBase,
};
use crate::sandbox::{Footing, StopSwitch};
use crate::spec::{AbsolutePath, Action, Diagnostic, Diagnostics, ImageSource, SourceText};
use crate::steps::{Scene, SourceKind, add_accounts, apply, make_workdir};
use crate::store::Store;
use crate::transport::registry::{Fetched, RegistryClient};
use crate::tree::{Accounts, Change, Changeset, Entry, Tree};

/// Evaluates the stages of one plan.
pub(crate) struct Workshop<'a> {
    pub(crate) request: &'a BuildRequest,
    pub(crate) plan: &'a Plan,
    pub(crate) store: &'a Store,
    pub(crate) observer: &'a dyn Observer,
    pub(crate) registries: &'a RegistryClient,
    pub(crate) contexts: &'a Contexts<'a>,
    images: Mutex<BTreeMap<usize, Arc<Base>>>,
    pub(crate) footing: OnceLock<Footing>,
    /// Ends the commands of all stages when one has failed.
    pub(crate) stop: StopSwitch,
    notes: Mutex<Vec<String>>,
}

/// A stage with everything below it.
#[derive(Debug, Clone)]
pub(crate) struct Evaluated {
    pub(crate) tree: Arc<Tree>,
    /// The image at the bottom, if there is one.
    pub(crate) base: Option<Arc<Base>>,
    /// The layers on it, lowest first, those of the stages below among them.
    pub(crate) layers: Vec<Arc<StageLayer>>,
    /// The config so far: everything but these layers.
    pub(crate) config: ImageConfig,
}

/// What a stage starts from.
struct Below {
    tree: Arc<Tree>,
    base: Option<Arc<Base>>,
    layers: Vec<Arc<StageLayer>>,
    /// `None` for `scratch`.
    config: Option<ImageConfig>,
}

/// What becomes one layer.
#[derive(Debug)]
pub(crate) struct StageLayer {
    pub(crate) stage: String,
    pub(crate) title: String,
    pub(crate) changes: Changeset,
}

/// What a stage's steps find around them, apart from the tree.
pub(crate) struct Setting<'a> {
    /// The stage's place in the plan.
    place: usize,
    pub(crate) stage: &'a PlannedStage,
    pub(crate) done: &'a Done,
    pub(crate) workdir: AbsolutePath,
    /// The users and groups of the tree as it is now.
    pub(crate) accounts: Accounts,
    /// The config of what the stage starts from.
    pub(crate) config: Option<&'a ImageConfig>,
    /// The image at the bottom, if there is one.
    pub(crate) base: Option<&'a Base>,
}

impl Setting<'_> {
    /// A number that no other step of the plan has: hard links never reach across steps.
    pub(crate) fn space(&self, step: &PlannedStep) -> u64 {
        1 << 63 | (self.place as u64) << 32 | step.number as u64
    }
}

/// Steps that change one of these change who is who.
const ACCOUNT_FILES: [&[u8]; 2] = [b"etc/passwd", b"etc/group"];

impl<'a> Workshop<'a> {
    pub(crate) fn new(
        request: &'a BuildRequest,
        plan: &'a Plan,
        store: &'a Store,
        observer: &'a dyn Observer,
        contexts: &'a Contexts<'a>,
        registries: &'a RegistryClient,
    ) -> Workshop<'a> {
        Workshop {
            request,
            plan,
            store,
            observer,
            registries,
            contexts,
            images: Mutex::default(),
            footing: OnceLock::new(),
            stop: StopSwitch::default(),
            notes: Mutex::default(),
        }
    }

    /// Evaluates all stages of the plan; the target comes out.
    pub(crate) fn target(&self) -> Result<Arc<Evaluated>, BuildError> {
        graph::evaluate(self)
    }

    /// All base images that were needed.
    pub(crate) fn bases(&self) -> Vec<Arc<Base>> {
        self.images().values().cloned().collect()
    }

    /// What should be told, each once.
    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(self.notes.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps what should be told.
    pub(crate) fn note(&self, notes: Vec<String>) {
        let mut all = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(notes);
    }

    fn images(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<Base>>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The contexts that steps copy from, walked, with their names.
    pub(crate) fn used_contexts(&self) -> Result<Vec<(&'a str, Arc<Context>)>, BuildError> {
        let steps = self.plan.stages.iter().flat_map(PlannedStage::steps);
        let sources = steps.flat_map(|step| step.source.iter().chain(&step.binds));
        let used: BTreeSet<usize> = sources
            .filter_map(|source| match source {
                Source::Context(ContextId(place)) => Some(*place),
                Source::Stage(_) | Source::Image(_) | Source::File(_) => None,
            })
            .collect();
        let contexts = used.into_iter().map(|place| {
            let planned = &self.plan.contexts[place];
            Ok((planned.name.as_str(), self.contexts.context(planned)?))
        });
        contexts.collect()
    }

    /// The images that the plan uses, each by its place.
    pub(crate) fn used_images(&self) -> Result<Vec<Arc<Base>>, BuildError> {
        let places = 0..self.plan.images.len();
        places.map(|place| self.image(ImageId(place))).collect()
    }

    /// The image at the bottom of the target, if there is one.
    pub(crate) fn bottom(&self) -> Result<Option<Arc<Base>>, BuildError> {
        let mut stage = self.plan.target_stage();
        loop {
            match stage.base {
                StageBase::Scratch => return Ok(None),
                StageBase::Image(id) => return self.image(id).map(Some),
                StageBase::Stage(id) => stage = self.plan.stage(id),
            }
        }
    }

    /// Evaluates one stage, which has this place in the plan.
    pub(crate) fn stage(
        &self,
        place: usize,
        stage: &PlannedStage,
        done: &Done,
    ) -> Result<Evaluated, BuildError> {
        self.observer.event(Event::StageStarted {
            stage: stage.name(),
            steps: stage.steps().count(),
        });
        let mut below = self.below(stage, done)?;
        let mut tree = Arc::unwrap_or_clone(below.tree);
        if let Some(layer) = self.setup(stage, &mut tree)? {
            below.layers.push(Arc::new(layer));
        }
        let mut setting = Setting {
            place,
            stage,
            done,
            workdir: self.workdir(stage, below.config.as_ref())?,
            accounts: self.accounts(&tree, stage)?,
            config: below.config.as_ref(),
            base: below.base.as_deref(),
        };
        for layer in &stage.layers {
            let changes = self.layer(layer, &mut setting, &mut tree)?;
            if !changes.is_empty() {
                let (stage, title) = (stage.name().to_owned(), layer.title.clone());
                below.layers.push(Arc::new(StageLayer {
                    stage,
                    title,
                    changes,
                }));
            }
        }
        let config = self.config(stage, below.config.as_ref(), &setting.accounts)?;
        Ok(Evaluated {
            tree: Arc::new(tree),
            base: below.base,
            layers: below.layers,
            config,
        })
    }

    /// What the stage starts from.
    fn below(&self, stage: &PlannedStage, done: &Done) -> Result<Below, BuildError> {
        Ok(match stage.base {
            StageBase::Scratch => Below {
                tree: Arc::new(Tree::new()),
                base: None,
                layers: Vec::new(),
                config: None,
            },
            StageBase::Stage(id) => {
                let Evaluated {
                    tree,
                    base,
                    layers,
                    config,
                } = Evaluated::clone(done.stage(id));
                Below {
                    tree,
                    base,
                    layers,
                    config: Some(config),
                }
            }
            StageBase::Image(id) => {
                let base = self.image(id)?;
                let (tree, config) = (Arc::new(base.tree.clone()), Some(base.config.clone()));
                Below {
                    tree,
                    config,
                    base: Some(base),
                    layers: Vec::new(),
                }
            }
        })
    }

    /// Users, groups and working directories, before the first step.
    fn setup(
        &self,
        stage: &PlannedStage,
        tree: &mut Tree,
    ) -> Result<Option<StageLayer>, BuildError> {
        let Some(title) = stage.setup_title() else {
            return Ok(None);
        };
        let (bases, store) = (self.bases(), self.store);
        let read = |content: &_| bases::read_small(&bases, content, store);
        let complain = self.complain();
        let mut all = add_accounts(&stage.stage, tree, &read).map_err(&complain)?;
        tree.apply(&all).map_err(BuildError::stage_tree(stage))?;
        let span = stage.stage.name.span;
        for workdir in stage.workdirs() {
            let changes = make_workdir(tree, workdir, span).map_err(&complain)?;
            tree.apply(&changes)
                .map_err(BuildError::stage_tree(stage))?;
            all.merge(changes);
        }
        Ok((!all.is_empty()).then(|| StageLayer {
            stage: stage.name().to_owned(),
            title,
            changes: all,
        }))
    }

    /// Where the steps are done.
    fn workdir(
        &self,
        stage: &PlannedStage,
        base: Option<&ImageConfig>,
    ) -> Result<AbsolutePath, BuildError> {
        let of_base = base.map(|base| base.config.working_dir.as_str());
        stage.workdir(of_base).map_err(|error| {
            let message = format!(
                "the base has no usable working directory: {}",
                error.message
            );
            let diagnostic = Diagnostic::new(&self.plan.source, stage.stage.from.span, message);
            Diagnostics::from(diagnostic.help("name one: `workdir: /app`")).into()
        })
    }

    fn layer(
        &self,
        layer: &PlannedLayer,
        setting: &mut Setting<'_>,
        tree: &mut Tree,
    ) -> Result<Changeset, BuildError> {
        let stage = setting.stage;
        let below = (layer.steps.len() > 1).then(|| tree.clone());
        let mut all = Changeset::new();
        for step in &layer.steps {
            self.observer.event(Event::StepStarted {
                stage: stage.name(),
                step: step.number,
                title: &step.title,
            });
            let (changes, origin) = match &step.step.action {
                Action::Run(run) => {
                    let binds = self.binds(step, setting.done)?;
                    let place = Place {
                        setting,
                        step,
                        tree,
                        binds,
                    };
                    self.command(run, &place)?
                }
                action => (self.step(step, action, setting, tree)?, Origin::Built),
            };
            self.observer.event(Event::StepFinished {
                stage: stage.name(),
                step: step.number,
                title: &step.title,
                origin,
                entries: changes.len() as u64,
                bytes: bytes(&changes),
            });
            tree.apply(&changes)
                .map_err(BuildError::stage_tree(stage))?;
            if ACCOUNT_FILES.iter().any(|file| changes.names(file)) {
                setting.accounts = self.accounts(tree, stage)?;
            }
            if all.is_empty() {
                all = changes
            } else {
                all.merge(changes)
            }
        }
        if let Some(below) = below {
            // What one step of a layer makes and the next takes away was never there.
            all.retain(|path, change| *change != Change::Whiteout || below.entry(path).is_some());
        }
        Ok(all)
    }

    /// What a step that only needs trees changes.
    fn step(
        &self,
        step: &PlannedStep,
        action: &Action,
        setting: &Setting<'_>,
        tree: &Tree,
    ) -> Result<Changeset, BuildError> {
        let source = step.source.map(|source| self.source(source, setting.done));
        let source = source.transpose()?;
        let (bases, store) = (self.bases(), self.store);
        let scene = Scene {
            tree,
            workdir: &setting.workdir,
            accounts: &setting.accounts,
            source: source.as_ref().map(|(tree, kind)| (tree.tree(), *kind)),
            space: setting.space(step),
            args: &self.plan.args,
            read: &|content| bases::read_small(&bases, content, store),
        };
        apply(action, &scene).map_err(self.complain())
    }

    /// The trees that the bind mounts of a step take files from, in their order.
    fn binds(&self, step: &PlannedStep, done: &Done) -> Result<Vec<Tree>, BuildError> {
        let sources = step.binds.iter();
        let trees = sources.map(|source| Ok(self.source(*source, done)?.0.tree().clone()));
        trees.collect()
    }

    /// The tree that a step takes files from.
    fn source(&self, source: Source, done: &Done) -> Result<(SourceTree, SourceKind), BuildError> {
        Ok(match source {
            Source::Context(id) => (SourceTree::Context(self.context(id)?), SourceKind::Context),
            Source::Stage(id) => (
                SourceTree::Stage(Arc::clone(&done.stage(id).tree)),
                SourceKind::Tree,
            ),
            Source::Image(id) => (SourceTree::Image(self.image(id)?), SourceKind::Tree),
            Source::File(FileId(place)) => {
                let (tree, kind) = self.download(&self.plan.files[place])?;
                (SourceTree::Stage(tree), kind)
            }
        })
    }

    fn context(&self, ContextId(place): ContextId) -> Result<Arc<Snapshot>, BuildError> {
        let context = self.contexts.context(&self.plan.contexts[place])?;
        self.contexts.snapshot(&context)
    }

    fn image(&self, ImageId(place): ImageId) -> Result<Arc<Base>, BuildError> {
        // Held while the image is read: whoever wants it, too, has to wait for it anyway.
        let mut images = self.images();
        if let Some(base) = images.get(&place) {
            return Ok(Arc::clone(base));
        }
        let source = &self.plan.images[place];
        // A short name is told as what it was taken for.
        let name = match source {
            ImageSource::Registry(short) => short.clone().with_default_tag().to_string(),
            file => file.to_string(),
        };
        let watch = |Fetched { done, total }| {
            self.observer.event(Event::BaseFetched {
                reference: &name,
                done,
                total,
            });
        };
        let folder = self.request.folder();
        let import = || {
            let platform = &self.plan.platform;
            let (store, registries) = (self.store, self.registries);
            let base = bases::import(source, folder, platform, store, registries, &watch)?;
            self.observer.event(Event::BaseImported {
                reference: &name,
                layers: base.layers.len(),
                bytes: base.layers.iter().map(|layer| layer.blob.size).sum(),
            });
            Ok(base)
        };
        let id = (
            self.store.root().to_owned(),
            source.clone(),
            match source {
                ImageSource::Registry(_) => PathBuf::new(),
                _ => folder.to_owned(),
            },
            self.plan.platform.clone(),
        );
        let base = self.contexts.crew.base(id, self.store, import)?;
        images.insert(place, Arc::clone(&base));
        Ok(base)
    }

    fn accounts(&self, tree: &Tree, stage: &PlannedStage) -> Result<Accounts, BuildError> {
        let bases = self.bases();
        tree.accounts(|content| bases::read_small(&bases, content, self.store))
            .map_err(|cause: String| {
                let message = format!("the account files of the image cannot be read: {cause}");
                Diagnostics::from(Diagnostic::new(
                    &self.plan.source,
                    stage.stage.name.span,
                    message,
                ))
                .into()
            })
    }

    /// The config after this stage, but for its layers.
    fn config(
        &self,
        stage: &PlannedStage,
        below: Option<&ImageConfig>,
        accounts: &Accounts,
    ) -> Result<ImageConfig, BuildError> {
        let settings = &stage.stage.config;
        let user = settings
            .user
            .as_ref()
            .map(|user| resolve_user(user, settings.user_as, accounts))
            .transpose();
        let user = user.map_err(|error| user_diagnostic(&self.plan.source, error.into()))?;
        let built = image::config(&ConfigInputs {
            base: below,
            settings,
            workdir: stage.stage.workdir.as_ref().map(|workdir| &workdir.value),
            user: user.as_ref().map(|user| user.text.as_str()),
            layers: &[],
            epoch: self.request.epoch,
            platform: &self.plan.platform,
        });
        let built = built.map_err(|error| user_diagnostic(&self.plan.source, error))?;
        self.note(built.notes);
        Ok(built.config)
    }

    pub(crate) fn complain(&self) -> impl Fn(crate::steps::StepError) -> BuildError + use<'a> {
        let source: &'a Arc<SourceText> = &self.plan.source;
        move |error| Diagnostics::from(error.into_diagnostic(source)).into()
    }
}

/// A tree that a step takes files from, kept alive while it does.
enum SourceTree {
    Context(Arc<Snapshot>),
    Stage(Arc<Tree>),
    Image(Arc<Base>),
}

impl SourceTree {
    fn tree(&self) -> &Tree {
        match self {
            SourceTree::Context(snapshot) => &snapshot.tree,
            SourceTree::Stage(tree) => tree,
            SourceTree::Image(base) => &base.tree,
        }
    }
}

/// Sizes of the files of a changeset together.
pub(crate) fn bytes(changes: &Changeset) -> u64 {
    let files = changes
        .iter()
        .filter_map(|(_, change)| change.entry().and_then(Entry::as_file));
    files.map(|file| file.content.size()).sum()
}

/// An error that has a place in the spec is told there.
fn user_diagnostic(source: &Arc<SourceText>, error: ImageError) -> BuildError {
    use crate::image::UserError::{UnknownGroup, UnknownUser};
    let (span, what, name, nearest) = match &error {
        ImageError::User(UnknownUser {
            name,
            span,
            nearest,
        }) => (*span, "user", name, nearest),
        ImageError::User(UnknownGroup {
            name,
            span,
            nearest,
        }) => (*span, "group", name, nearest),
        ImageError::HealthcheckWithoutTest(span) => {
            let diagnostic = Diagnostic::new(source, *span, "the health check has nothing to run")
                .help("say what: `test: [curl, -f, http://localhost:8080/health]`");
            return Diagnostics::from(diagnostic).into();
        }
        _ => return error.into(),
    };
    let name = name.as_str();
    let diagnostic = Diagnostic::new(source, span, format!("the image has no {what} {name:?}"));
    let diagnostic = match nearest {
        Some(similar) => diagnostic.help(format!("did you mean {similar:?}?")),
        None => diagnostic,
    };
    let number = if what == "user" { "uid" } else { "gid" };
    Diagnostics::from(diagnostic.help(format!(
        "create it in this stage: `{what}s: [{{name: {name}, {number}: 1001}}]`, or write a number"
    )))
    .into()
}
