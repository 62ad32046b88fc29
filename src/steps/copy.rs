//! `copy`: files of a context, a stage or an image, with the semantics of a Dockerfile's `COPY`.

use std::collections::HashSet;

use crate::context::IgnoreRules;
use crate::spec::{Copy, Span};
use crate::steps::edit::Edit;
use crate::steps::error::StepError;
use crate::steps::owner;
use crate::steps::scene::{Scene, SourceKind, complain};
use crate::steps::wildcard::Found;
use crate::tree::{
    Changeset, Entry, File, Follow, Inode, LayerPath, ModeChange, ModeSubject, Node, Tree,
};

mod destination;
mod sources;

use destination::{Place, Target};

/// So many links to directories are followed into each other, as in one path on Linux.
const MOST_NESTED_LINKS: usize = 40;

/// So many entries may come from following links: each link can double what the next one makes.
const MOST_FOLLOWED: usize = 1 << 20;

/// What the step changes.
pub(crate) fn copy(step: &Copy, scene: &Scene<'_>) -> Result<Changeset, StepError> {
    copy_at_most(step, scene, MOST_FOLLOWED)
}

fn copy_at_most(
    step: &Copy,
    scene: &Scene<'_>,
    most_followed: usize,
) -> Result<Changeset, StepError> {
    let (source, kind) = scene.source(step.sources[0].span)?;
    let owner = owner::optional(step.owner.as_ref(), scene.accounts)?;
    let target = Target::of(step, scene)?;
    let sources = sources::find(step, source, kind)?;
    target.check_count(sources.len())?;
    let mut copier = Copier {
        source,
        excluded: excluded(step)?,
        space: scene.space,
        follows: step.follow,
        dress: Dress {
            owner,
            kind,
            mode: step.mode.as_ref().map(|mode| &mode.value),
        },
        edit: Edit::new(scene.tree, owner),
        taken: (sources.len() > 1 || step.follow).then(HashSet::new),
        links: Vec::new(),
        may_follow: most_followed,
    };
    for source in &sources {
        let place = target.place(source.pattern, &source.found)?;
        copier.one(&source.found, &place, source.pattern.span)?;
    }
    Ok(copier.edit.finish())
}

fn excluded(step: &Copy) -> Result<IgnoreRules, StepError> {
    let patterns = step.exclude.iter().map(|pattern| pattern.value.as_str());
    IgnoreRules::of_patterns(patterns).map_err(|error| {
        // The rules count patterns as lines, from 1.
        let pattern = step.exclude.get(error.line.saturating_sub(1));
        let span = pattern.map_or(step.sources[0].span, |pattern| pattern.span);
        StepError::new(span, error.problem).help(error.remedy)
    })
}

/// Owner and mode of what is copied.
struct Dress<'a> {
    owner: Option<(u32, u32)>,
    kind: SourceKind,
    mode: Option<&'a ModeChange>,
}

impl Dress<'_> {
    /// Owner, then mode, then attributes; the order never takes a bit away, for nothing here is a
    /// file system that drops setuid and capabilities when an owner changes.
    fn put_on(&self, entry: &Entry) -> Entry {
        let mut entry = entry.clone();
        match (self.owner, self.kind) {
            (Some((uid, gid)), _) => (entry.uid, entry.gid) = (uid, gid),
            (None, SourceKind::Context) => (entry.uid, entry.gid) = (0, 0),
            (None, SourceKind::Tree) => {}
        }
        entry.mtime = 0;
        if let Some(change) = self.mode
            && !matches!(entry.node, Node::Symlink(_))
        {
            let subject = if entry.is_directory() {
                ModeSubject::Directory
            } else {
                ModeSubject::Other
            };
            entry.mode = change.apply(entry.mode, subject);
        }
        entry
    }
}

struct Copier<'a> {
    source: &'a Tree,
    excluded: IgnoreRules,
    space: u64,
    follows: bool,
    dress: Dress<'a>,
    edit: Edit<'a>,
    /// The files copied so far, where one may be copied twice.
    taken: Option<HashSet<LayerPath>>,
    /// The links to directories that are being followed, the outermost first.
    links: Vec<LayerPath>,
    /// How many more entries may come from following links.
    may_follow: usize,
}

impl Copier<'_> {
    fn one(&mut self, matched: &Found, place: &Place, span: Span) -> Result<(), StepError> {
        // A link that is named as a source is followed, inside the source.
        self.stay_inside(&matched.real, span)?;
        let real = self
            .source
            .resolve(&LayerPath::root(), matched.real.as_bytes(), Follow::Last);
        let real = real.map_err(complain(span))?.path;
        let Some(entry) = self.source.entry(&real) else {
            return Err(dangling(&matched.named, &real, span)
                .help("copy what it should point at, or exclude the link"));
        };
        if let Place::Below { path, kept } = place {
            self.parents(matched, path, *kept, span)?;
        }
        match (entry.is_directory(), place) {
            (true, Place::Below { path, .. }) => {
                if !path.is_root() && !self.edit.entry(path).is_some_and(Entry::is_directory) {
                    let dressed = self.dress.put_on(entry);
                    self.edit.put(path.clone(), dressed, span)?;
                }
                self.contents(&real, path, &LayerPath::root(), span)
            }
            (true, Place::In(path) | Place::At(path)) => {
                self.edit.directory(path, span)?;
                self.contents(&real, path, &LayerPath::root(), span)
            }
            (false, Place::In(directory)) => {
                let name = own_name(&matched.named);
                self.file(&real, directory.join_path(&name), span)
            }
            (false, Place::At(path) | Place::Below { path, .. }) => {
                self.file(&real, path.clone(), span)
            }
        }
    }

    /// A single file; patterns of `exclude` are asked about its name.
    fn file(&mut self, from: &LayerPath, to: LayerPath, span: Span) -> Result<(), StepError> {
        match self.source.entry(from) {
            Some(entry) if !self.is_excluded(&own_name(from)) => self.place(from, to, entry, span),
            _ => Ok(()),
        }
    }

    /// Everything in the directory `from` goes into `to`. Patterns of `exclude` see it as `below`:
    /// the way from the copied source to here, which is longer where a link was followed.
    fn contents(
        &mut self,
        from: &LayerPath,
        to: &LayerPath,
        below: &LayerPath,
        span: Span,
    ) -> Result<(), StepError> {
        let source = self.source;
        // Directories that are excluded, until something in them is not.
        let mut ways: Vec<(&LayerPath, LayerPath, &Entry)> = Vec::new();
        for (path, entry) in source.below(from).skip(1) {
            self.count(path, span)?;
            let Some(destination) = path.moved(from, to) else {
                continue;
            };
            ways.retain(|(way, ..)| path.starts_with(way));
            let seen = || path.moved(from, below).unwrap_or_default();
            if !self.excluded.is_empty() && self.is_excluded(&seen()) {
                if entry.is_directory() {
                    ways.push((path, destination, entry));
                }
                continue;
            }
            for (way, destination, entry) in ways.drain(..) {
                self.place(way, destination, entry, span)?;
            }
            match &entry.node {
                Node::Symlink(_) if self.follows => {
                    self.followed(path, destination, &seen(), span)?;
                }
                _ => self.place(path, destination, entry, span)?,
            }
        }
        Ok(())
    }

    /// What a link points at, in its place.
    fn followed(
        &mut self,
        link: &LayerPath,
        to: LayerPath,
        below: &LayerPath,
        span: Span,
    ) -> Result<(), StepError> {
        const REMEDY: &str = "exclude the link, or leave `follow` out to copy it as it is";
        self.stay_inside(link, span)?;
        let real = self
            .source
            .resolve(&LayerPath::root(), link.as_bytes(), Follow::Last)
            .map_err(complain(span))?
            .path;
        let Some(entry) = self.source.entry(&real) else {
            return Err(dangling(link, &real, span).help(REMEDY));
        };
        if !entry.is_directory() {
            return self.place(&real, to, entry, span);
        }
        // A directory that holds a link by which we came here would be copied into itself.
        self.links.push(link.clone());
        if self.links.iter().any(|link| link.starts_with(&real)) {
            let message = format!("{link} leads back into a directory that holds it");
            return Err(StepError::new(span, message).help(REMEDY));
        }
        if self.links.len() > MOST_NESTED_LINKS {
            let message = format!("{link} is behind {MOST_NESTED_LINKS} other links");
            return Err(StepError::new(span, message).help(REMEDY));
        }
        self.place(&real, to.clone(), entry, span)?;
        self.contents(&real, &to, below, span)?;
        self.links.pop();
        Ok(())
    }

    /// In a context a link that is followed must not lead out: what it would find on the machine
    /// is not what it finds below the context. In an image there is nothing outside of the root.
    fn stay_inside(&self, link: &LayerPath, span: Span) -> Result<(), StepError> {
        let mut path = link.clone();
        for _ in 0..MOST_NESTED_LINKS {
            let Some(Node::Symlink(target)) = self.source.entry(&path).map(|entry| &entry.node)
            else {
                break;
            };
            let climbs = target
                .split(|&byte| byte == b'/')
                .filter(|name| *name == b"..")
                .count();
            let is_out = target.starts_with(b"/") || climbs > path.ancestors().skip(1).count();
            if is_out && self.dress.kind == SourceKind::Context {
                let shown = String::from_utf8_lossy(target);
                let message = format!("{link} leads out of the context, to {shown:?}");
                return Err(StepError::new(span, message)
                    .help("copy what it should point at, or exclude the link"));
            }
            let directory = path.parent().unwrap_or_default();
            let next = self.source.resolve(&directory, target, Follow::Parents);
            path = next.map_err(complain(span))?.path;
        }
        Ok(())
    }

    /// Counts what following links brings, for links to directories with links can make without
    /// bound.
    fn count(&mut self, path: &LayerPath, span: Span) -> Result<(), StepError> {
        if self.links.is_empty() {
            return Ok(());
        }
        if let Some(fewer) = self.may_follow.checked_sub(1) {
            self.may_follow = fewer;
            return Ok(());
        }
        let message = format!("at {path}, following links has made too many entries");
        Err(StepError::new(span, message).help("leave `follow` out to copy links as they are"))
    }

    /// The `kept` directories above `path`, as they are in the source.
    fn parents(
        &mut self,
        matched: &Found,
        path: &LayerPath,
        kept: usize,
        span: Span,
    ) -> Result<(), StepError> {
        let last = |path: &LayerPath| {
            let above: Vec<LayerPath> = path.ancestors().collect();
            above[above.len().saturating_sub(kept)..].to_vec()
        };
        for (destination, named) in last(path).into_iter().zip(last(&matched.named)) {
            let real = self
                .source
                .resolve(&LayerPath::root(), named.as_bytes(), Follow::Last)
                .map_err(complain(span))?;
            let stands = self
                .edit
                .entry(&destination)
                .is_some_and(Entry::is_directory);
            if let Some(entry) = self.source.entry(&real.path).filter(|_| !stands) {
                let dressed = self.dress.put_on(entry);
                self.edit.put(destination, dressed, span)?;
            }
        }
        Ok(())
    }

    /// Puts the entry that stands at `from` in the source.
    fn place(
        &mut self,
        from: &LayerPath,
        to: LayerPath,
        entry: &Entry,
        span: Span,
    ) -> Result<(), StepError> {
        let mut entry = self.dress.put_on(entry);
        if let Node::File(File { inode, .. }) = &mut entry.node {
            // A file that is copied twice becomes two files. Trees that were read from the store
            // number every file, others only those with several names: whether copies are hard
            // links must not hang on that, only on the source having several names for them.
            let is_first = self
                .taken
                .as_mut()
                .is_none_or(|taken| taken.insert(from.clone()));
            *inode = inode.filter(|_| is_first).map(|inode| Inode {
                space: self.space,
                number: mix(inode),
            });
        }
        self.edit.put(to, entry, span)
    }

    fn is_excluded(&self, path: &LayerPath) -> bool {
        self.excluded.verdict(path).is_excluded
    }
}

fn own_name(path: &LayerPath) -> LayerPath {
    LayerPath::parse(path.name().unwrap_or_default()).unwrap_or_default()
}

fn dangling(link: &LayerPath, real: &LayerPath, span: Span) -> StepError {
    let message = format!("{link} is a symbolic link to {real}, which does not exist");
    StepError::new(span, message)
}

/// One number for a file of the source. Two sources of one number (device and inode, or layer and
/// file) are kept apart by spreading the first over all bits.
fn mix(inode: Inode) -> u64 {
    inode
        .space
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(32)
        ^ inode.number
}

#[cfg(test)]
mod tests;
