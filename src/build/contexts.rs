//! Contexts: each directory walked once in a build, and made into a tree if somebody asks for it.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::build::crew::Crew;
use crate::build::error::BuildError;
use crate::build::event::{Event, Observer};
use crate::build::request::BuildRequest;
use crate::context::{Snapshot, Survey, Wanted, rules_for};
use crate::oci::Digest;
use crate::plan::PlannedContext;
use crate::spec::ImageSource;
use crate::store::{FileIndex, Store};
use crate::tree::LayerPath;

/// The contexts of one build, those of all its platforms.
pub(crate) struct Contexts<'a> {
    request: &'a BuildRequest,
    pub(crate) crew: &'a Crew,
    store: &'a Store,
    observer: &'a dyn Observer,
    /// Where the image goes.
    outputs: Vec<ImageSource>,
    taken: Mutex<BTreeMap<Identity, Arc<Context>>>,
}

/// What makes two contexts one: the directory, the spec whose main one it is, beside which its
/// ignore file may lie, and what of it is wanted.
type Identity = (PathBuf, Option<PathBuf>, Vec<LayerPath>);

/// One context, walked.
#[derive(Debug)]
pub(crate) struct Context {
    /// Under which the index of its files is kept. It decides nothing but what need not be read.
    index: Digest,
    /// Covers everything that the walk saw.
    pub(crate) fingerprint: Digest,
    /// Whether a later version of any file would have another fingerprint.
    pub(crate) has_settled: bool,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Surveyed(Box<Survey>),
    Frozen(Arc<Snapshot>),
    /// Making the snapshot failed; whoever asked has the error.
    Failed,
}

impl<'a> Contexts<'a> {
    pub(crate) fn new(
        request: &'a BuildRequest,
        crew: &'a Crew,
        store: &'a Store,
        observer: &'a dyn Observer,
        outputs: Vec<ImageSource>,
    ) -> Contexts<'a> {
        Contexts {
            request,
            crew,
            store,
            observer,
            outputs,
            taken: Mutex::default(),
        }
    }

    /// The context, walked now unless it was before.
    pub(crate) fn context(&self, planned: &PlannedContext) -> Result<Arc<Context>, BuildError> {
        let directory = planned.located(self.request.folder());
        let spec_file = planned
            .is_main
            .then(|| planned.spec_file(&self.request.spec_file));
        let key = (directory, spec_file, planned.wanted.clone());
        let mut taken = self
            .taken
            .lock()
            .expect("no thread panics while it holds the contexts");
        if let Some(context) = taken.get(&key) {
            return Ok(Arc::clone(context));
        }
        let context = Arc::new(self.survey(planned, &key)?);
        taken.insert(key, Arc::clone(&context));
        Ok(context)
    }

    fn survey(&self, planned: &PlannedContext, key: &Identity) -> Result<Context, BuildError> {
        let (directory, spec_file, _) = key;
        let mut rules = rules_for(directory, spec_file.as_deref())?;
        rules.leave_out(&self.own_files(directory));
        let wanted = match planned.wanted.iter().any(LayerPath::is_root) {
            true => Wanted::All,
            false => Wanted::Below(planned.wanted.clone()),
        };
        let helpers = self.crew.all_hands();
        let mut survey = Survey::take(directory, &rules, &wanted, helpers.and_me())?;
        drop(helpers);
        let counts = survey.counts;
        self.observer.event(Event::ContextWalked {
            name: &planned.name,
            directory,
            files: counts.files,
            bytes: counts.bytes,
            excluded: counts.excluded,
        });
        Ok(Context {
            index: index_key(directory),
            fingerprint: survey.fingerprint(),
            has_settled: survey.has_settled(self.store.opened()),
            notes: std::mem::take(&mut survey.notes),
            state: Mutex::new(State::Surveyed(Box::new(survey))),
        })
    }

    /// What this build itself writes into a context: its store and its outputs. An image must not
    /// hold what the last build left.
    fn own_files(&self, directory: &Path) -> Vec<Vec<u8>> {
        let Ok(root) = std::fs::canonicalize(directory) else {
            return Vec::new();
        };
        let outputs = self.outputs.iter().filter_map(ImageSource::path);
        let others = self.request.left_out.iter().map(PathBuf::as_path);
        let own = outputs
            .chain(others)
            .chain([self.request.store_root.as_path()]);
        let below = own.filter_map(|path| {
            let parent = std::fs::canonicalize(match path.parent() {
                Some(parent) if parent != Path::new("") => parent,
                _ => Path::new("."),
            });
            let real = parent.ok()?.join(path.file_name()?);
            let below = real.strip_prefix(&root).ok()?;
            Some(below.as_os_str().as_bytes().to_vec())
        });
        below.filter(|path| !path.is_empty()).collect()
    }

    /// The files of a context.
    pub(crate) fn snapshot(&self, context: &Context) -> Result<Arc<Snapshot>, BuildError> {
        let mut state = context
            .state
            .lock()
            .expect("no thread panics while it holds a context");
        if let State::Frozen(snapshot) = &*state {
            return Ok(Arc::clone(snapshot));
        }
        let State::Surveyed(survey) = std::mem::replace(&mut *state, State::Failed) else {
            unreachable!("a build ends with the first error");
        };
        let index = FileIndex::load(self.store, &context.index)?;
        let helpers = self.crew.all_hands();
        let snapshot = Arc::new(Snapshot::of(&survey, index, helpers.and_me())?);
        drop(helpers);
        *state = State::Frozen(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// Keeps what was learnt of the contexts' files.
    pub(crate) fn remember(&self) -> Result<(), BuildError> {
        let taken = self
            .taken
            .lock()
            .expect("no thread panics while it holds the contexts");
        for context in taken.values() {
            let state = context
                .state
                .lock()
                .expect("no thread panics while it holds a context");
            if let State::Frozen(snapshot) = &*state {
                snapshot.remember(self.store, &context.index, self.store.opened())?;
            }
        }
        Ok(())
    }
}

fn index_key(directory: &Path) -> Digest {
    let real = std::fs::canonicalize(directory);
    let path = real.as_deref().unwrap_or(directory);
    Digest::of(path.as_os_str().as_bytes())
}
