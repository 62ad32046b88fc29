//! The lock: what the references of a spec were when somebody last looked.
//!
//! `boxwright lock` writes it beside the spec, `boxwright build --locked` uses nothing else. It is
//! YAML as the spec is, sorted, with one digest in a line, so that a change of it can be reviewed;
//! the same lock is always the same text.
//!
//! ```yaml
//! format: 1
//! images:
//!   docker.io/library/alpine:3.20:
//!     digest: sha256:…            # what the registry has under the tag: the index, if it is one
//!     platforms:
//!       linux/amd64: sha256:…     # the manifests in that index
//! files:
//!   https://example.com/tool.tar.gz:
//!     digest: sha256:…
//!     size: 4096
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::oci::{Digest, Platform, Reference};
use crate::spec::decode::{Decoder, decode_lock};
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::source::{SourceText, Span, Spanned};
use crate::spec::value::HttpUrl;
use crate::spec::yaml;

/// What everything of the world outside was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The text that all spans count in; its name is the file's.
    pub source: Arc<SourceText>,
    /// Images of registries, by their full references, which have a tag or a digest.
    pub images: BTreeMap<Reference, LockedImage>,
    /// Files of the web.
    pub files: BTreeMap<HttpUrl, LockedFile>,
}

/// What a reference was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedImage {
    /// The document that the registry gave: an index, or the one manifest.
    pub digest: Spanned<Digest>,
    /// The manifests of an index by their platforms, which are in normal form. Empty if there is no
    /// index, or one that says no platforms.
    pub platforms: BTreeMap<Platform, Digest>,
}

/// What a URL gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedFile {
    /// The digest of the bytes.
    pub digest: Spanned<Digest>,
    /// Their number.
    pub size: u64,
}

impl Lock {
    /// A lock that says nothing yet, for a file of this name.
    pub fn empty(name: &str) -> Lock {
        Lock {
            source: Arc::new(SourceText::new(name, "")),
            images: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }

    /// Reads a lock.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of the text.
    pub fn parse(source: &Arc<SourceText>) -> Result<Lock, Diagnostics> {
        let with_remedy = |problem: Diagnostic| problem.help("write the lock anew: boxwright lock");
        read(source).map_err(|problems| problems.into_iter().map(with_remedy).collect())
    }
}

fn read(source: &Arc<SourceText>) -> Result<Lock, Diagnostics> {
    if let Some(span) = merge_mark(&source.text) {
        let message = "a merge has left its marks here";
        return Err(Diagnostic::new(source, span, message).into());
    }
    match yaml::parse(source)? {
        Some(root) => decode_lock(Decoder::new(source), &root),
        None => Err(Diagnostic::about(source, "the lock is empty").into()),
    }
}

/// The first line that git writes where two versions do not fit.
fn merge_mark(text: &str) -> Option<Span> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let mark = line.trim_end();
        if mark == "=======" || mark.starts_with("<<<<<<<") || mark.starts_with(">>>>>>>") {
            return Some(Span::new(start, start + mark.len()));
        }
        start += line.len();
    }
    None
}

impl LockedImage {
    /// The document to use for a platform; `None` if the index had none for it.
    pub fn for_platform(&self, platform: &Platform) -> Option<&Digest> {
        match self.platforms.is_empty() {
            true => Some(&self.digest.value),
            false => self.platforms.get(&platform.normalized()),
        }
    }
}

/// The file.
impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "# Written by `boxwright lock`. `boxwright build --locked` uses nothing else.\n",
        )?;
        f.write_str("format: 1\n")?;
        if !self.images.is_empty() {
            f.write_str("images:\n")?;
        }
        for (reference, LockedImage { digest, platforms }) in &self.images {
            writeln!(
                f,
                "  {}:\n    digest: {digest}",
                key(&reference.to_string())
            )?;
            if !platforms.is_empty() {
                f.write_str("    platforms:\n")?;
            }
            for (platform, manifest) in platforms {
                writeln!(f, "      {platform}: {manifest}")?;
            }
        }
        if !self.files.is_empty() {
            f.write_str("files:\n")?;
        }
        for (url, LockedFile { digest, size }) in &self.files {
            writeln!(
                f,
                "  {}:\n    digest: {digest}\n    size: {size}",
                key(url.as_str())
            )?;
        }
        Ok(())
    }
}

/// A key of YAML, in quotes unless it is text for certain without them.
fn key(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+=~%&?".contains(&byte);
    let begins = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    match begins && text.bytes().all(is_plain) && !text.ends_with(':') {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Lock, Diagnostics> {
        Lock::parse(&Arc::new(SourceText::new("boxwright.lock", text)))
    }

    fn digest(of: &str) -> Spanned<Digest> {
        Spanned::new(Digest::of(of.as_bytes()), Span::default())
    }

    fn image(of: &str, platforms: &[&str]) -> LockedImage {
        let platforms = platforms.iter();
        LockedImage {
            digest: digest(of),
            platforms: platforms
                .map(|name| (name.parse().unwrap(), Digest::of(name.as_bytes())))
                .collect(),
        }
    }

    #[test]
    fn a_lock_is_sorted_text_that_reads_back() {
        let mut lock = Lock::empty("boxwright.lock");
        for reference in ["b.example/x:1", "alpine:3.20", "[::1]:5000/a:1"] {
            let image = image(reference, &["linux/arm64", "linux/amd64"]);
            lock.images.insert(reference.parse().unwrap(), image);
        }
        let pinned: Reference = format!("a/b@{}", Digest::of(b"x")).parse().unwrap();
        lock.images.insert(pinned, image("x", &[]));
        for url in ["https://b.example/a?b=c", "https://a.example/\"#x"] {
            let (digest, size) = (digest(url), 7);
            lock.files
                .insert(url.parse().unwrap(), LockedFile { digest, size });
        }
        insta::assert_snapshot!(lock);
        let read = parse(&lock.to_string()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((read.images, read.files), (lock.images, lock.files));
        assert_eq!(parse("format: 1\n").unwrap().images.len(), 0);
    }

    #[test]
    fn what_is_damaged_is_told_with_its_line() {
        let one = digest("a");
        let problems: Vec<String> = [
            String::new(),
            "images: {}\n".to_owned(),
            "format: 2\n".to_owned(),
            format!("format: 1\nimages:\n<<<<<<< ours\n  a:1: {{digest: {one}}}\n"),
            "format: 1\nimages:\n  a:1:\n    digest: sha256:12\n".to_owned(),
            "format: 1\nimages:\n  a:1: {}\n  A b: {}\n".to_owned(),
            format!("format: 1\nimages:\n  a:1: {{digest: {one}}}\n  docker.io/library/a:1: {{digest: {one}}}\n"),
            format!("format: 1\nimages:\n  a@{}:\n    digest: {one}\n", digest("b")),
            format!("format: 1\nimages:\n  a:1:\n    digest: {one}\n    platforms: {{amd64: {one}}}\n"),
            format!("format: 1\nfiles:\n  ftp://a/b: {{digest: {one}, size: 1}}\n  http://a/b: {{digest: {one}, size: -1, x: y}}\n"),
            "format: 1\nimages: [\n".to_owned(),
        ]
        .iter()
        .map(|text| parse(text).map(drop).expect_err(text).to_string())
        .collect();
        insta::assert_snapshot!(problems.join("\n\n"));
    }

    #[test]
    fn a_platform_has_its_own_document() {
        let several = image("index", &["linux/arm64", "linux/amd64"]);
        let of = |image: &LockedImage, platform: &str| {
            image.for_platform(&platform.parse().unwrap()).copied()
        };
        let arm = Digest::of(b"linux/arm64");
        assert_eq!(of(&several, "linux/arm64/v8"), Some(arm));
        assert_eq!(of(&several, "linux/riscv64"), None);
        assert_eq!(
            of(&image("only", &[]), "linux/riscv64"),
            Some(Digest::of(b"only"))
        );
    }

    proptest! {
        #[test]
        fn every_url_is_a_key_that_reads_back(path in "[!-~é]{0,12}") {
            let url: HttpUrl = format!("https://a/{path}").parse().unwrap();
            let mut lock = Lock::empty("l");
            lock.files.insert(url, LockedFile { digest: digest("x"), size: 0 });
            prop_assert_eq!(parse(&lock.to_string()).unwrap().files, lock.files);
        }
    }
}
