//! A copy of what a build reads: for a benchmark that changes files, and must not change the
//! user's own.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use crate::build::contexts::Contexts;
use crate::build::crew::Crew;
use crate::build::error::BuildError;
use crate::build::event::Silent;
use crate::build::request::BuildRequest;
use crate::build::run::plans;
use crate::build::stages::Workshop;
use crate::plan::Plan;
use crate::store::Store;
use crate::transport::registry::RegistryClient;
use crate::tree::{Content, Entry, Inode, Node, Tree};

/// Where the copy is, and which of its files are worth a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The spec's file in the copy. Relative paths in it lead to the copies of the contexts.
    pub spec_file: PathBuf,
    /// Files that the build reads.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that the build reads, with their sizes, in the order of contexts and paths.
    pub choices: Vec<(PathBuf, u64)>,
    /// The target as a Dockerfile with its context, if it can be told as one; else why not.
    pub dockerfile: Result<Dockerfile, String>,
}

/// A build in the words of other tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text.
    pub text: String,
    /// The directory that it copies from, in the copy.
    pub context: PathBuf,
    /// Each copy: from where in the context, to where in the image.
    pub copies: Vec<(String, String)>,
}

/// Copies what building `request` reads into the directory `into`.
///
/// # Errors
/// Everything that is wrong with the spec or its contexts, and files that cannot be copied.
pub fn mirror(request: &BuildRequest, into: &Path) -> Result<Mirror, BuildError> {
    let plans = plans(request)?;
    let plan = &plans[0];
    let store = Store::open(&request.store_root)?;
    let crew = Crew::of(request.jobs);
    let contexts = Contexts::new(request, &crew, &store, &Silent, request.outputs.clone());
    let registries = RegistryClient::new(request.registries.clone());
    let workshop = Workshop::new(request, plan, &store, &Silent, &contexts, &registries);
    let spec_file = inside(into, &request.spec_file)?;
    let mut mirror = Mirror {
        spec_file: spec_file.clone(),
        files: 0,
        bytes: 0,
        choices: Vec::new(),
        dockerfile: dockerfile(request, plan, into),
    };
    make_parent(&spec_file)?;
    fs::write(&spec_file, &request.source.text).map_err(copying(&spec_file))?;
    for (name, context) in workshop.used_contexts()? {
        let planned = plan.contexts.iter().find(|planned| planned.name == name);
        let from = planned.map(|planned| planned.located(request.folder()));
        let to = inside(into, &from.unwrap_or_default())?;
        let snapshot = contexts.snapshot(&context)?;
        copy_tree(&snapshot.tree, &to, &mut mirror)?;
    }
    for image in &plan.images {
        if let Some(path) = image.path() {
            link_image(&request.folder().join(path), into)?;
        }
    }
    Ok(mirror)
}

/// Where a path of the machine lies in the copy.
fn inside(into: &Path, path: &Path) -> Result<PathBuf, BuildError> {
    let real = path.canonicalize().map_err(copying(path))?;
    let below = real
        .components()
        .filter(|part| !matches!(part, Component::RootDir));
    Ok(into.join(below.collect::<PathBuf>()))
}

/// Images are only read: a link to them is enough.
fn link_image(path: &Path, into: &Path) -> Result<(), BuildError> {
    let link = inside(into, path)?;
    make_parent(&link)?;
    let real = path.canonicalize().map_err(copying(path))?;
    symlink(real, &link).map_err(copying(&link))
}

fn copy_tree(tree: &Tree, to: &Path, mirror: &mut Mirror) -> Result<(), BuildError> {
    fs::create_dir_all(to).map_err(copying(to))?;
    let mut names: BTreeMap<Inode, PathBuf> = BTreeMap::new();
    for (path, entry) in tree.iter().skip(1) {
        let target = to.join(path.as_os_str());
        let earlier = entry
            .as_file()
            .and_then(|file| file.inode)
            .and_then(|inode| names.get(&inode));
        match earlier {
            Some(earlier) => fs::hard_link(earlier, &target).map_err(copying(&target))?,
            None => copy_entry(entry, &target)?,
        }
        if let Some(file) = entry.as_file() {
            mirror.files += 1;
            mirror.bytes += file.content.size();
            mirror.choices.push((target.clone(), file.content.size()));
            if let Some(inode) = file.inode {
                names.entry(inode).or_insert(target);
            }
        }
    }
    // Modes last, as a directory may not be writable.
    for (path, entry) in tree
        .iter()
        .skip(1)
        .filter(|(_, entry)| entry.is_directory())
    {
        let target = to.join(path.as_os_str());
        let mode = Permissions::from_mode(u32::from(entry.mode));
        fs::set_permissions(&target, mode).map_err(copying(&target))?;
    }
    Ok(())
}

fn copy_entry(entry: &Entry, target: &Path) -> Result<(), BuildError> {
    let copied = match &entry.node {
        Node::Directory => fs::create_dir(target),
        Node::Symlink(link) => symlink(std::ffi::OsStr::from_bytes(link), target),
        Node::File(file) => match &file.content {
            Content::Disk(disk) => copy_file(&disk.full_path(), target, entry.mode),
            Content::Inline(_) | Content::Blob(_) => Ok(()),
        },
        // A benchmark loses nothing without them.
        Node::Fifo | Node::CharDevice(..) | Node::BlockDevice(..) => Ok(()),
    };
    copied.map_err(copying(target))
}

fn copy_file(from: &Path, to: &Path, mode: u16) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create_new(to)?);
    io::copy(&mut from, &mut to)?;
    to.set_permissions(Permissions::from_mode(u32::from(mode)))
}

fn make_parent(path: &Path) -> Result<(), BuildError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(copying(parent))
}

fn copying(path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::Mirror { path, source }
}

/// The target in the words of a Dockerfile. Only copies from the main context onto nothing can be
/// told so that every tool does the same work.
fn dockerfile(request: &BuildRequest, plan: &Plan, into: &Path) -> Result<Dockerfile, String> {
    use crate::plan::{ContextId, Source, StageBase};
    use crate::spec::Action;
    let stage = plan.target_stage();
    if plan.stages.len() > 1 || stage.base != StageBase::Scratch {
        return Err("only a single stage from scratch can be told to them".to_owned());
    }
    let mut text = "FROM scratch\n".to_owned();
    let mut copies = Vec::new();
    let mut place = None;
    for step in stage.steps() {
        let (Action::Copy(copy), Some(Source::Context(ContextId(context)))) =
            (&step.step.action, step.source)
        else {
            return Err(format!("step {} is no copy from a context", step.number));
        };
        let is_plain = copy.exclude.is_empty() && !copy.parents && !copy.follow;
        let [source] = &copy.sources[..] else {
            return Err(format!("step {} copies several sources", step.number));
        };
        if !is_plain || copy.owner.is_some() || copy.mode.is_some() {
            return Err(format!("step {} has options of its own", step.number));
        }
        if place
            .replace(context)
            .is_some_and(|earlier| earlier != context)
        {
            return Err("its steps copy from several contexts".to_owned());
        }
        let to = copy.to.as_ref().map_or("/", |to| to.value.as_str());
        text.push_str(&format!("COPY {} {to}\n", source.value.as_str()));
        copies.push((source.value.as_str().to_owned(), to.to_owned()));
    }
    let context = place.ok_or("it copies nothing")?;
    let directory = plan.contexts[context].located(request.folder());
    let context = inside(into, &directory).map_err(|error| error.to_string())?;
    Ok(Dockerfile {
        text,
        context,
        copies,
    })
}
