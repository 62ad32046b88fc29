//! `write`: a file from text, or from a template.

use crate::spec::{ContextPath, Spanned, Write, WriteSource};
use crate::steps::edit::Edit;
use crate::steps::error::StepError;
use crate::steps::owner;
use crate::steps::scene::{Scene, at_root, complain, read_small};
use crate::steps::wildcard;
use crate::tree::{Changeset, Entry, Follow, LayerPath, ModeSubject};

pub(crate) fn write(step: &Write, scene: &Scene<'_>) -> Result<Changeset, StepError> {
    let span = step.to.span;
    if step.to.names_directory() {
        return Err(StepError::new(
            span,
            format!("{} is a directory, not a file", step.to.as_str()),
        )
        .help("give the file a name"));
    }
    let owner = owner::optional(step.owner.as_ref(), scene.accounts)?;
    let text = match &step.content {
        WriteSource::Text(text) => text.value.clone(),
        WriteSource::Template { path, .. } => template(path, scene)?,
    };
    let mode = step
        .mode
        .as_ref()
        .map_or(0o644, |mode| mode.apply(0o644, ModeSubject::Other));
    let (uid, gid) = owner.unwrap_or((0, 0));
    let written = step.to.under(scene.workdir);
    let resolved = scene
        .tree
        .resolve(&LayerPath::root(), at_root(&written), Follow::Last)
        .map_err(complain(span))?;
    let mut edit = Edit::new(scene.tree, owner);
    edit.put(
        resolved.path,
        Entry {
            uid,
            gid,
            ..Entry::file(text, mode)
        },
        span,
    )?;
    Ok(edit.finish())
}

fn template(path: &Spanned<ContextPath>, scene: &Scene<'_>) -> Result<String, StepError> {
    let (source, _) = scene.source(path.span)?;
    let error = |message: String| StepError::new(path.span, message);
    let found = wildcard::find(source, path.as_str().as_bytes());
    let [found] = &found[..] else {
        return Err(
            error(format!("the template {:?} does not exist", path.as_str()))
                .help("paths are relative to the context; .dockerignore may exclude it"),
        );
    };
    let real = source
        .resolve(&LayerPath::root(), found.real.as_bytes(), Follow::Last)
        .map_err(complain(path.span))?;
    let file = source.entry(&real.path).and_then(Entry::as_file);
    let file =
        file.ok_or_else(|| error(format!("the template {:?} is not a file", path.as_str())))?;
    let bytes = read_small(scene.read, &file.content).map_err(|cause| {
        error(format!(
            "the template {:?} cannot be read: {cause}",
            path.as_str()
        ))
    })?;
    let text = String::from_utf8(bytes).map_err(|_| {
        error(format!("the template {:?} is not UTF-8", path.as_str()))
            .help("`copy` takes files as they are")
    })?;
    scene.args.expand(&text).map_err(|problems| {
        let mut error = error(format!(
            "the template {:?} cannot be filled in",
            path.as_str()
        ));
        for problem in problems.iter().take(5) {
            let line = 1 + text.as_bytes()[..problem.range.start.min(text.len())]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            error = error.help(format!(
                "{}:{line}: {}",
                path.as_str(),
                problem.error.message
            ));
        }
        error
    })
}
