//! `add`: a file of the web, or what an archive from there holds, put into the tree. What the web
//! gave is in the source already.

use crate::spec::{Add, ContextPath, Copy, Spanned};
use crate::steps::copy;
use crate::steps::error::StepError;
use crate::steps::scene::Scene;
use crate::tree::{Changeset, LayerPath};

/// What the step changes: its one file is copied, and so goes where `copy` would put it; what an
/// archive holds goes into the directory that is named, as a copied directory would.
pub(crate) fn add(step: &Add, scene: &Scene<'_>) -> Result<Changeset, StepError> {
    let span = step.url.span;
    let name = match step.unpack {
        true => ".".to_owned(),
        false => literal(&file_name(&step.url.value.to_string())),
    };
    let pattern: ContextPath = name
        .parse()
        .map_err(|_| StepError::new(span, format!("{name:?} can be no file's name")))?;
    copy::copy(
        &Copy {
            sources: vec![Spanned::new(pattern, span)],
            from: None,
            to: step.to.clone(),
            owner: step.owner.clone(),
            mode: step.mode.clone(),
            exclude: Vec::new(),
            parents: false,
            follow: false,
        },
        scene,
    )
}

/// The path under which the source has the file of a URL.
pub fn download_path(url: &str) -> LayerPath {
    // What is no name falls back to one that always is.
    LayerPath::root()
        .join(file_name(url).as_bytes())
        .ok()
        .filter(|path| !path.is_root())
        .unwrap_or_else(|| LayerPath::parse(NAMELESS.as_bytes()).unwrap_or_default())
}

/// The name of a file whose URL has none.
const NAMELESS: &str = "download";

/// The last part of the URL's path, as a web browser would name the file.
fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let name = path.split_once('/').map_or("", |(_, path)| path);
    let name = name.rsplit('/').next().unwrap_or_default();
    let is_plain = !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains('\0');
    match is_plain {
        true => name.to_owned(),
        false => NAMELESS.to_owned(),
    }
}

/// The name as a pattern that matches nothing else.
fn literal(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for character in name.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_the_end_of_its_path() {
        for (url, name) in [
            ("https://example.org/a/tool-1.2.tar.gz", "tool-1.2.tar.gz"),
            ("https://example.org/tool?version=1#x/y", "tool"),
            ("https://example.org/a/", "download"),
            ("https://example.org", "download"),
            ("https://example.org/..", "download"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
            assert_eq!(download_path(url).as_bytes(), name.as_bytes());
        }
        assert_eq!(literal("a[1]*.js"), "a\\[1\\]\\*.js");
    }
}
