//! `copy`: files of a context, a stage or an image, with the semantics of a Dockerfile's `COPY`.

use crate::context::IgnoreRules;
use crate::spec::{ContextPath, Copy, ImagePath, Span, Spanned};
use crate::steps::edit::Edit;
use crate::steps::error::StepError;
use crate::steps::owner;
use crate::steps::scene::{Scene, SourceKind, at_root, complain};
use crate::steps::wildcard::{self, Found};
use crate::tree::{
    Changeset, Entry, File, Follow, Inode, LayerPath, ModeChange, ModeSubject, Node, Tree,
};

/// What the step changes.
pub(crate) fn copy(step: &Copy, scene: &Scene<'_>) -> Result<Changeset, StepError> {
    let first = step.sources[0].span;
    let (source, kind) = scene.source(first)?;
    let excluded =
        IgnoreRules::of_patterns(step.exclude.iter().map(|pattern| pattern.value.as_str()));
    let excluded = excluded.map_err(|error| {
        let span = step
            .exclude
            .get(error.line - 1)
            .map_or(first, |pattern| pattern.span);
        StepError::new(span, error.problem).help(error.remedy)
    })?;
    let owner = owner::optional(step.owner.as_ref(), scene.accounts)?;
    let target = target(step, scene)?;
    let mut copier = Copier {
        source,
        excluded,
        space: scene.space,
        follows: step.follow,
        dress: Dress {
            owner,
            kind,
            mode: step.mode.as_ref().map(|mode| &mode.value),
        },
        edit: Edit::new(scene.tree, owner),
    };
    let mut found = Vec::new();
    for pattern in &step.sources {
        let matches = wildcard::find(source, pattern.as_str().as_bytes());
        if matches.is_empty() {
            return Err(missing(source, kind, pattern));
        }
        found.extend(matches.into_iter().map(|matched| (pattern, matched)));
    }
    let target_is_directory = target.is_directory || step.parents;
    if found.len() > 1 && !target_is_directory {
        let span = step.to.as_ref().map_or(first, |to| to.span);
        let message = format!(
            "{} sources cannot be copied to the one path {}",
            found.len(),
            target.path
        );
        return Err(StepError::new(span, message).help(format!(
            "a directory ends in a slash: `to: {}/`",
            target.path
        )));
    }
    for (pattern, matched) in &found {
        let at = match step.parents {
            true => {
                let part = kept_part(pattern, matched);
                Place::Below {
                    path: target.path.join_path(&part),
                    kept: part.ancestors().skip(1).count(),
                }
            }
            false if target_is_directory => Place::In(target.path.clone()),
            false => Place::At(target.path.clone()),
        };
        copier.one(matched, &at, pattern.span)?;
    }
    Ok(copier.edit.finish())
}

/// Where a step copies to.
struct Target {
    path: LayerPath,
    is_directory: bool,
}

fn target(step: &Copy, scene: &Scene<'_>) -> Result<Target, StepError> {
    let span = step.to.as_ref().map_or(step.sources[0].span, |to| to.span);
    let written = step.to.as_ref().map(|to| to.under(scene.workdir));
    let path = written.as_ref().unwrap_or(scene.workdir);
    let resolved = scene
        .tree
        .resolve(&LayerPath::root(), at_root(path), Follow::Last)
        .map_err(complain(span))?;
    let says_directory = step
        .to
        .as_ref()
        .is_none_or(|to: &Spanned<ImagePath>| to.names_directory());
    let stands = scene
        .tree
        .entry(&resolved.path)
        .is_some_and(Entry::is_directory);
    Ok(Target {
        is_directory: says_directory || stands,
        path: resolved.path,
    })
}

/// With `parents`, the part of a source's path that is kept: all of it, or what comes after `/./`.
fn kept_part(pattern: &ContextPath, matched: &Found) -> LayerPath {
    let text = pattern.as_str();
    let pivot = text.find("/./").map_or(0, |pivot| {
        let names = text[..pivot]
            .split('/')
            .filter(|name| !matches!(*name, "" | "."));
        names.count()
    });
    let names: Vec<&[u8]> = matched.named.components().skip(pivot).collect();
    LayerPath::parse(&names.join(&b'/')).unwrap_or_default()
}

fn missing(source: &Tree, kind: SourceKind, pattern: &Spanned<ContextPath>) -> StepError {
    let text = pattern.as_str();
    let error = StepError::new(
        pattern.span,
        match wildcard::is_pattern(text.as_bytes()) {
            true => format!("nothing matches {text:?}"),
            false => format!("{text:?} does not exist"),
        },
    );
    // The nearest name where the path ends, as far as it exists.
    let (directory, name) = text
        .trim_end_matches('/')
        .rsplit_once('/')
        .unwrap_or(("", text));
    let directory = wildcard::find(source, directory.as_bytes());
    let siblings: Vec<String> = directory
        .iter()
        .flat_map(|directory| source.children(&directory.real))
        .filter_map(|(path, _)| Some(String::from_utf8_lossy(path.name()?).into_owned()))
        .collect();
    let error = error.did_you_mean(name, siblings.iter().map(String::as_str));
    match kind {
        SourceKind::Context => {
            error.help("paths are relative to the context; .dockerignore may exclude it")
        }
        SourceKind::Tree => error.help("paths are those of the stage or image it is copied from"),
    }
}

/// Where one source goes.
enum Place {
    /// Under its own name in a directory; the contents of a directory right into it.
    In(LayerPath),
    /// To this very path.
    At(LayerPath),
    /// To this path, with the directories of the source on the way.
    Below {
        path: LayerPath,
        /// How many directories right above it come from the source.
        kept: usize,
    },
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
}

impl Copier<'_> {
    fn one(&mut self, matched: &Found, place: &Place, span: Span) -> Result<(), StepError> {
        // A link that is named as a source is followed, inside the source.
        let real = self
            .source
            .resolve(&LayerPath::root(), matched.real.as_bytes(), Follow::Last);
        let real = real.map_err(complain(span))?;
        let Some(entry) = self.source.entry(&real.path) else {
            let message = format!(
                "{} is a symbolic link to {}, which does not exist",
                matched.named, real.path
            );
            return Err(StepError::new(span, message)
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
                self.contents(&real.path, path, span, 0)
            }
            (true, Place::In(path) | Place::At(path)) => {
                self.edit.directory(path, span)?;
                self.contents(&real.path, path, span, 0)
            }
            (false, Place::In(directory)) => {
                let name =
                    LayerPath::parse(matched.named.name().unwrap_or_default()).unwrap_or_default();
                self.file(&real.path, &directory.join_path(&name), span)
            }
            (false, Place::At(path) | Place::Below { path, .. }) => {
                self.file(&real.path, path, span)
            }
        }
    }

    /// A single file; patterns of `exclude` are asked about its name.
    fn file(&mut self, from: &LayerPath, to: &LayerPath, span: Span) -> Result<(), StepError> {
        let name = LayerPath::parse(from.name().unwrap_or_default()).unwrap_or_default();
        match self.source.entry(from) {
            Some(entry) if !self.is_excluded(&name) => self.place(to.clone(), entry, span),
            _ => Ok(()),
        }
    }

    /// Everything in the directory `from` goes into `to`.
    fn contents(
        &mut self,
        from: &LayerPath,
        to: &LayerPath,
        span: Span,
        links: usize,
    ) -> Result<(), StepError> {
        let source = self.source;
        // Directories that are excluded, until something in them is not.
        let mut ways: Vec<(LayerPath, LayerPath, &Entry)> = Vec::new();
        for (path, entry) in source.below(from).skip(1) {
            let relative = path.strip_prefix(from).unwrap_or_default();
            let destination = to.join_path(&relative);
            ways.retain(|(way, ..)| path.starts_with(way));
            if self.is_excluded(&relative) {
                if entry.is_directory() {
                    ways.push((path.clone(), destination, entry));
                }
                continue;
            }
            for (_, destination, entry) in ways.drain(..) {
                self.place(destination, entry, span)?;
            }
            match &entry.node {
                Node::Symlink(_) if self.follows => {
                    self.followed(path, destination, span, links)?
                }
                _ => self.place(destination, entry, span)?,
            }
        }
        Ok(())
    }

    /// What a link points at, in its place.
    fn followed(
        &mut self,
        link: &LayerPath,
        to: LayerPath,
        span: Span,
        links: usize,
    ) -> Result<(), StepError> {
        let real = self
            .source
            .resolve(&LayerPath::root(), link.as_bytes(), Follow::Last)
            .map_err(complain(span))?;
        let Some(entry) = self.source.entry(&real.path) else {
            return Err(StepError::new(
                span,
                format!(
                    "{link} is a symbolic link to {}, which does not exist",
                    real.path
                ),
            )
            .help("exclude the link, or leave `follow` out to copy it as it is"));
        };
        if !entry.is_directory() {
            return self.place(to, entry, span);
        }
        // A link to a directory that holds the link would never end.
        if links >= 40 || link.starts_with(&real.path) {
            return Err(StepError::new(
                span,
                format!("{link} leads back into a directory that holds it"),
            )
            .help("exclude the link, or leave `follow` out to copy it as it is"));
        }
        self.place(to.clone(), entry, span)?;
        self.contents(&real.path, &to, span, links + 1)
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

    fn place(&mut self, path: LayerPath, entry: &Entry, span: Span) -> Result<(), StepError> {
        let mut entry = self.dress.put_on(entry);
        if let Node::File(File {
            inode: Some(inode), ..
        }) = &mut entry.node
        {
            // Two sources of one step may give out the same numbers; the space of either is kept
            // apart in the upper half.
            *inode = Inode {
                space: self.space,
                number: mix(inode),
            };
        }
        self.edit.put(path, entry, span)
    }

    fn is_excluded(&self, path: &LayerPath) -> bool {
        !self.excluded.is_empty() && self.excluded.verdict(path).is_excluded
    }
}

/// One number for a file of the source: device and inode, or layer and file.
fn mix(inode: &Inode) -> u64 {
    inode
        .space
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(32)
        ^ inode.number
}

#[cfg(test)]
mod tests;
