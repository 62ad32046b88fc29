//! `extends`: the stages of other files that a spec needs, put beside its own.
//!
//! Comes in: a spec as it is by itself, and [`SpecFiles`] that know the texts of others. Goes out:
//! one [`BuildSpec`] with every stage that its own need. A stage of another file keeps its
//! [`Home`]: names, arguments and paths mean what they mean in that file, whoever extends it. So
//! what is made of it is the same for all, and the same as if that file were built.
//!
//! - Of other files only the stages count that are needed; all of a file must be well-formed.
//! - `--arg` goes to every file that declares the argument, `--profile` to every file that has the
//!   profile. What a profile says of an image goes to the target of its own file.
//! - A stage that says nothing but `extends` is the other stage, and may break the same rules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::spec::decode::{Decoded, Decoder, Extends, decode};
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::error::ValueError;
use crate::spec::model::{Base, BuildSpec, Home, Origin, Stage};
use crate::spec::parse::{ParseInputs, document};
use crate::spec::source::{SourceText, Span};
use crate::spec::value::Name;

mod assemble;
mod circle;

/// So many files may one spec need.
pub(crate) const MOST_FILES: usize = 64;
/// So long may the way to one of them be.
const MOST_DEPTH: usize = 16;
/// So many bytes may all of them have.
const MOST_BYTES: usize = 32 << 20;

/// The texts of other specs. This room opens no file, so the caller does.
pub trait SpecFiles: fmt::Debug {
    /// Finds the spec that `path` means in a file of `folder`. Both this folder and the path that
    /// is found are relative to the folder of the spec that is parsed.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    fn find(&self, folder: &Path, path: &Path) -> Result<FoundSpec, ValueError>;

    /// The identity of the spec that is parsed, as [`FoundSpec::identity`].
    fn own_identity(&self) -> PathBuf;
}

/// A spec that was found.
#[derive(Debug, Clone)]
pub struct FoundSpec {
    /// Where it lies, relative to the folder of the spec that is parsed.
    pub path: PathBuf,
    /// The same for whatever way the file was found, and another for every other file.
    pub identity: PathBuf,
    /// The path as it should be shown.
    pub name: String,
    /// What is in it.
    pub bytes: Arc<[u8]>,
}

/// A world without other files.
#[derive(Debug, Clone, Copy)]
pub struct NoFiles;

impl SpecFiles for NoFiles {
    fn find(&self, _: &Path, path: &Path) -> Result<FoundSpec, ValueError> {
        let message = format!("{} cannot be read here", path.display());
        Err(ValueError::new(message).help("copy the stage into this file"))
    }

    fn own_identity(&self) -> PathBuf {
        PathBuf::new()
    }
}

/// The spec with all stages of other files that its own need.
///
/// # Errors
/// Files and stages that are not there, files that are wrong themselves, and files that extend each
/// other in a circle.
pub(crate) fn link(own: Decoded, inputs: &ParseInputs<'_>) -> Result<BuildSpec, Diagnostics> {
    if own.extends.is_empty() {
        return Ok(own.spec);
    }
    let mut linker = Linker::new(own, inputs);
    linker.visit_all();
    linker.assemble()
}

/// A stage of a file.
type Place = (Home, Name);

struct Linker<'a> {
    inputs: &'a ParseInputs<'a>,
    own: Decoded,
    files: Vec<File>,
    /// Where each stage stands in its file.
    places: BTreeMap<Place, usize>,
    /// All texts so far as one.
    source: Arc<SourceText>,
    /// What was found under a path, as a file says it; the files by their identities.
    found: BTreeMap<(Home, String), Result<Home, ValueError>>,
    identities: BTreeMap<PathBuf, Home>,
    /// Which file extends which, and where it says so first.
    uses: BTreeMap<(Home, Home), Span>,
    needed: BTreeSet<Place>,
    /// What stages that extend others start from.
    bases: BTreeMap<Place, Place>,
    next_start: usize,
    expansion: usize,
    problems: Diagnostics,
}

/// An extended file.
struct File {
    path: PathBuf,
    source: Arc<SourceText>,
    /// How many files lie between it and the spec itself, it included.
    depth: usize,
    /// `None` after a problem.
    decoded: Option<Decoded>,
}

impl File {
    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

impl<'a> Linker<'a> {
    fn new(own: Decoded, inputs: &'a ParseInputs<'a>) -> Linker<'a> {
        let mut linker = Linker {
            inputs,
            source: Arc::clone(&own.spec.source),
            next_start: own.spec.source.next_start(),
            expansion: own.expansion,
            own,
            places: BTreeMap::new(),
            files: Vec::new(),
            found: BTreeMap::new(),
            identities: [(inputs.files.own_identity(), Home::Own)].into(),
            uses: BTreeMap::new(),
            needed: BTreeSet::new(),
            bases: BTreeMap::new(),
            problems: Diagnostics::new(),
        };
        linker.know(Home::Own);
        linker
    }

    /// Notes where the stages of a file stand.
    fn know(&mut self, home: Home) {
        let names = self.decoded(home).into_iter();
        let names = names.flat_map(|file| file.spec.stages.iter().zip(0..));
        let places: Vec<(Place, usize)> = names
            .map(|(stage, at)| ((home, stage.name.value.clone()), at))
            .collect();
        self.places.extend(places);
    }

    fn stage(&self, place: &Place) -> Option<&Stage> {
        let at = *self.places.get(place)?;
        self.decoded(place.0)?.spec.stages.get(at)
    }

    /// Finds everything that the spec's own stages need.
    fn visit_all(&mut self) {
        let own = self.own.spec.stages.iter();
        let mut queue: VecDeque<Place> = own
            .map(|stage| (Home::Own, stage.name.value.clone()))
            .collect();
        while let Some(place) = queue.pop_front() {
            if self.needed.insert(place.clone()) {
                queue.extend(self.uses_of(&place));
            }
        }
    }

    /// The stages that a stage uses. Names that nothing has are left to whoever reads the graph.
    fn uses_of(&mut self, place: &Place) -> Vec<Place> {
        let (home, name) = place;
        let Some(decoded) = self.decoded(*home) else {
            return Vec::new();
        };
        let extends = decoded.extends.get(name).cloned();
        let names = self.stage(place).into_iter().flat_map(names_in);
        let used = names.map(|name| (*home, name.clone()));
        let mut used: Vec<Place> = used.filter(|used| self.places.contains_key(used)).collect();
        if let Some(base) = extends.and_then(|extends| self.extended(*home, &extends)) {
            self.bases.insert(place.clone(), base.clone());
            used.push(base);
        }
        used
    }

    fn decoded(&self, home: Home) -> Option<&Decoded> {
        match home {
            Home::Own => Some(&self.own),
            Home::Extended(place) => self.files[place].decoded.as_ref(),
        }
    }

    /// The stage that a file extends; `None` after a problem.
    fn extended(&mut self, home: Home, extends: &Extends) -> Option<Place> {
        let to = self.file(home, extends)?;
        let spec = &self.decoded(to)?.spec;
        let place = (to, extends.stage.clone());
        if self.places.contains_key(&place) {
            return Some(place);
        }
        let names: Vec<&str> = spec.own_stages().map(|stage| stage.name.as_str()).collect();
        let help = crate::spec::arguments::similar(extends.stage.as_str(), &names);
        let message = format!(
            "{} has no stage {:?}",
            self.name(to),
            extends.stage.as_str()
        );
        let problem = ValueError::new(message).help(help);
        self.report(extends.span, problem);
        None
    }

    /// The file that a file extends; `None` after a problem.
    fn file(&mut self, home: Home, extends: &Extends) -> Option<Home> {
        let key = (home, extends.file.clone());
        let found = match self.found.get(&key) {
            Some(found) => found.clone(),
            None => {
                let found = self.load(home, extends);
                self.found.insert(key, found.clone());
                found
            }
        };
        match found {
            Ok(to) => self.without_circle(home, to, extends).then_some(to),
            Err(error) => {
                self.report(extends.span, error);
                None
            }
        }
    }

    /// Finds a file, and reads it unless it was before.
    fn load(&mut self, home: Home, extends: &Extends) -> Result<Home, ValueError> {
        let (folder, depth) = match home {
            Home::Own => (Path::new(""), 1),
            Home::Extended(place) => (self.files[place].folder(), self.files[place].depth + 1),
        };
        let found = self.inputs.files.find(folder, Path::new(&extends.file))?;
        if let Some(known) = self.identities.get(&found.identity) {
            return Ok(*known);
        }
        let flatter = "let specs extend the file that has the stage, not one that extends it";
        if depth > MOST_DEPTH {
            let message = format!("specs extend each other over more than {MOST_DEPTH} files");
            return Err(ValueError::new(message).help(flatter));
        }
        if self.files.len() >= MOST_FILES {
            let message = format!("this is one file too many: a spec may need {MOST_FILES}");
            return Err(
                ValueError::new(message).help("put stages that belong together into one file")
            );
        }
        if self.next_start + found.bytes.len() > MOST_BYTES {
            let message = "all the files that the spec needs are larger than 32 MiB together";
            let help = "large contents belong into files of a context";
            return Err(ValueError::new(message).help(help));
        }
        let to = Home::Extended(self.files.len());
        self.identities.insert(found.identity, to);
        let (source, decoded) = self.read(&found.name, &found.bytes);
        self.files.push(File {
            path: found.path,
            source,
            depth,
            decoded,
        });
        self.know(to);
        let others = self.files.iter().map(|file| Arc::clone(&file.source));
        let own = SourceText::clone(&self.own.spec.source);
        self.source = Arc::new(own.with_others(others.collect()));
        Ok(to)
    }

    /// Reads a file. Its own problems are told as those of a spec that is built.
    fn read(&mut self, name: &str, bytes: &[u8]) -> (Arc<SourceText>, Option<Decoded>) {
        let start = self.next_start;
        let empty = || SourceText::new(name, "").starting_at(start);
        let source = match SourceText::from_bytes(name, bytes.to_vec()) {
            Ok(source) => Arc::new(source),
            Err(problems) => {
                self.problems.extend(problems);
                return (Arc::new(empty()), None);
            }
        };
        let root = document(&source);
        let source = Arc::new(SourceText::clone(&source).starting_at(start));
        self.next_start = source.next_start();
        let decoded = root.and_then(|mut root| {
            root.shift(start);
            decode(
                Decoder::of_extended(&source, self.expansion),
                &root,
                self.inputs,
            )
        });
        match decoded {
            Ok(decoded) => {
                self.expansion = decoded.expansion;
                (source, Some(decoded))
            }
            Err(problems) => {
                self.problems.extend(problems);
                (source, None)
            }
        }
    }

    /// The path of a file as people know it.
    fn name(&self, home: Home) -> &str {
        match home {
            Home::Own => &self.own.spec.source.name,
            Home::Extended(place) => &self.files[place].source.name,
        }
    }

    fn report(&mut self, span: Span, error: ValueError) {
        let mut problem = Diagnostic::new(&self.source, span, error.message);
        problem.help.extend(error.help);
        self.problems.push(problem);
    }
}

/// The names of stages and contexts that a stage uses.
fn names_in(stage: &Stage) -> impl Iterator<Item = &Name> {
    let base = match &stage.from.value {
        Base::Name(name) => Some(name),
        Base::Scratch | Base::Image(_) | Base::Stage(..) => None,
    };
    let origins = stage.steps.iter().flat_map(|step| step.origins());
    let origins = origins.filter_map(|origin| match &origin.value {
        Origin::Name(name) => Some(name),
        Origin::Image(_) => None,
    });
    base.into_iter().chain(origins)
}

#[cfg(test)]
pub(crate) mod tests;
