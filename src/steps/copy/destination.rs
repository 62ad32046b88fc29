//! Where the sources of a copy go.

use crate::spec::{ContextPath, Copy, Span, Spanned};
use crate::steps::error::StepError;
use crate::steps::scene::{Scene, at_root, complain};
use crate::steps::wildcard::Found;
use crate::tree::{Entry, Follow, LayerPath};

/// Where a step copies to.
pub(crate) struct Target {
    /// The real path: links of the stage's tree are followed.
    path: LayerPath,
    /// Whether sources go into it rather than to it.
    is_directory: bool,
    /// Whether sources bring their directories along.
    keeps_parents: bool,
    span: Span,
}

/// Where one source goes.
pub(crate) enum Place {
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

impl Target {
    /// The destination of a step: the working directory if it names none. It is a directory if the
    /// text says so, or if one stands there.
    pub(crate) fn of(step: &Copy, scene: &Scene<'_>) -> Result<Target, StepError> {
        let span = step.to.as_ref().map_or(step.sources[0].span, |to| to.span);
        let written = step.to.as_ref().map(|to| to.under(scene.workdir));
        let path = written.as_ref().unwrap_or(scene.workdir);
        let resolved = scene
            .tree
            .resolve(&LayerPath::root(), at_root(path), Follow::Last)
            .map_err(complain(span))?;
        let says_directory = step.to.as_ref().is_none_or(|to| to.names_directory());
        let standing = scene.tree.entry(&resolved.path);
        Ok(Target {
            is_directory: says_directory || standing.is_some_and(Entry::is_directory),
            path: resolved.path,
            keeps_parents: step.parents,
            span,
        })
    }

    /// Refuses to lay several sources on one path.
    pub(crate) fn check_count(&self, count: usize) -> Result<(), StepError> {
        if count < 2 || self.is_directory || self.keeps_parents {
            return Ok(());
        }
        let message = format!(
            "{count} sources cannot be copied to the one path {}",
            self.path
        );
        Err(StepError::new(self.span, message)
            .help(format!("a directory ends in a slash: `to: {}/`", self.path)))
    }

    /// The place of one source.
    pub(crate) fn place(
        &self,
        pattern: &Spanned<ContextPath>,
        matched: &Found,
    ) -> Result<Place, StepError> {
        if !self.keeps_parents {
            let path = self.path.clone();
            return Ok(match self.is_directory {
                true => Place::In(path),
                false => Place::At(path),
            });
        }
        let kept = kept_part(pattern, matched)?;
        Ok(Place::Below {
            path: self.path.join_path(&kept),
            kept: kept.ancestors().skip(1).count(),
        })
    }
}

/// With `parents`, the part of a source's path that is kept: all of it, or what comes after `/./`.
fn kept_part(pattern: &Spanned<ContextPath>, matched: &Found) -> Result<LayerPath, StepError> {
    let text = pattern.as_str();
    let pivot = text.find("/./").unwrap_or(0);
    let mut depth = 0_usize;
    for name in text[..pivot].split('/') {
        depth = match name {
            "" | "." => depth,
            ".." => depth.saturating_sub(1),
            "**" => {
                return Err(StepError::new(
                    pattern.span,
                    "`**` cannot stand before the `/./` from which directories are kept",
                )
                .help("write the directories before `/./` one by one, or use `*` for each"));
            }
            _ => depth + 1,
        };
    }
    let names: Vec<&[u8]> = matched.named.components().skip(depth).collect();
    Ok(LayerPath::parse(&names.join(&b'/')).unwrap_or_default())
}
