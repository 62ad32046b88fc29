//! Titles: what a step does, in one short line.
//!
//! A title stands in the image's history, so it is part of the image's digest: it holds nothing of
//! the machine (no path outside the image and its contexts) and depends on the spec alone.

use crate::plan::origin::{Written, written};
use crate::spec::{AbsolutePath, Action, Command, ImagePath, ImageSource, Origin};

/// Characters after which no further path of a list is shown.
const LIST: usize = 60;
/// The most characters that a title has.
const MOST: usize = 160;

/// A step in one line. Paths are shown as seen from `workdir`, or as written if only the base
/// image knows it.
pub(crate) fn title(action: &Action, workdir: Option<&AbsolutePath>) -> String {
    let place = |path: &ImagePath| shown(path, workdir);
    let places = |paths: &[crate::spec::Spanned<ImagePath>]| {
        list(paths.iter().map(|path| place(&path.value)))
    };
    let text = match action {
        Action::Copy(copy) => {
            let sources = list(copy.sources.iter().map(|source| source.as_str().to_owned()));
            let to = copy.to.as_ref().map_or_else(
                || workdir.map_or(".", AbsolutePath::as_str).to_owned(),
                |to| place(&to.value),
            );
            format!("copy {sources}{} -> {to}", from(action))
        }
        Action::Add(add) => format!("add {}", add.url.as_str()),
        Action::Write(write) => format!("write {}{}", place(&write.to.value), from(action)),
        Action::Mkdir(mkdir) => format!("mkdir {}", places(&mkdir.paths)),
        Action::Link(link) => format!("link {} -> {}", place(&link.path.value), link.target.value),
        Action::Remove(remove) => format!("remove {}", places(&remove.paths)),
        Action::Run(run) => match &run.command.value {
            Command::Shell(command) => format!("run {command}"),
            Command::Argv(words) => format!("run {}", words.join(" ")),
        },
    };
    one_line(&text)
}

/// `text` without line breaks and other controls, and not too long for a line.
pub(crate) fn one_line(text: &str) -> String {
    let line = printable(text.trim());
    match line.char_indices().nth(MOST) {
        Some(_) => line.chars().take(MOST - 1).chain(['…']).collect(),
        None => line,
    }
}

/// `text` with controls escaped, so that it can neither break a line nor drive a terminal.
pub(crate) fn printable(text: &str) -> String {
    let escape = |character: char| match character.is_control() {
        true => character.escape_default().collect(),
        false => String::from(character),
    };
    text.chars().map(escape).collect()
}

fn shown(path: &ImagePath, workdir: Option<&AbsolutePath>) -> String {
    let (false, Some(workdir)) = (path.is_absolute(), workdir) else {
        return path.as_str().to_owned();
    };
    let seen = path.under(workdir);
    // A slash at the end says that a directory is meant, which is worth seeing.
    match path.as_str().ends_with('/') && seen.as_str() != "/" {
        true => format!("{seen}/"),
        false => seen.as_str().to_owned(),
    }
}

/// Where files come from, if not from the main context. An image that lies on this machine is
/// named by its reference only: where it lies decides nothing.
fn from(action: &Action) -> String {
    let Written::From(origin) = written(action).0 else {
        return String::new();
    };
    match &origin.value {
        Origin::Name(name) => format!(" from {name}"),
        Origin::Image(ImageSource::Registry(reference)) => format!(" from {reference}"),
        Origin::Image(
            ImageSource::Layout { reference, .. }
            | ImageSource::OciArchive { reference, .. }
            | ImageSource::DockerArchive { reference, .. },
        ) => match reference {
            Some(reference) => format!(" from image {reference}"),
            None => " from an image".to_owned(),
        },
    }
}

/// The first texts, and how many more there are.
fn list(texts: impl ExactSizeIterator<Item = String>) -> String {
    let mut left = texts.len();
    let mut line = String::new();
    for text in texts {
        if !line.is_empty() && line.chars().count() + text.chars().count() > LIST {
            return format!("{line} and {left} more");
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&text);
        left -= 1;
    }
    line
}
