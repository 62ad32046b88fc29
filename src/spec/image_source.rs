//! Image sources: how the place of an image is written, in the names that podman and skopeo use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::oci::Reference;
use crate::spec::error::ValueError;

/// A place that an image is read from (and, in `transport`, written to).
///
/// `oci:DIR[:REF]`, `oci-archive:FILE[:REF]`, `docker-archive:FILE[:REF]`, or a reference with or
/// without `docker://`. As in podman and skopeo the path ends at the first colon, because a `REF`
/// may have colons and slashes of its own. A colon that belongs to the path is written `\:`, a
/// backslash before a colon or another backslash `\\`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImageSource {
    /// An image of a registry.
    Registry(Reference),
    /// An OCI image layout: a directory with `oci-layout` and `index.json`.
    Layout {
        /// The directory, as written.
        dir: PathBuf,
        /// Which of its images: an `org.opencontainers.image.ref.name`.
        reference: Option<String>,
    },
    /// An OCI image layout in a tar archive.
    OciArchive {
        /// The file, as written.
        file: PathBuf,
        /// Which of its images.
        reference: Option<String>,
    },
    /// An archive as `docker save` writes it.
    DockerArchive {
        /// The file, as written.
        file: PathBuf,
        /// Which of its images: a `repository:tag`.
        reference: Option<String>,
    },
}

impl FromStr for ImageSource {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<ImageSource, ValueError> {
        let Some((transport, rest)) = text.split_once(':') else {
            return registry(text);
        };
        match transport {
            "oci" => {
                located(text, rest).map(|(dir, reference)| ImageSource::Layout { dir, reference })
            }
            "oci-archive" => located(text, rest)
                .map(|(file, reference)| ImageSource::OciArchive { file, reference }),
            "docker-archive" => located(text, rest)
                .map(|(file, reference)| ImageSource::DockerArchive { file, reference }),
            "docker" if rest.starts_with("//") => registry(&rest[2..]),
            "containers-storage" | "docker-daemon" | "dir" | "tarball" => Err(ValueError::new(
                format!("transport `{transport}:` is unknown"),
            )
            .help("use oci:DIR, oci-archive:FILE, docker-archive:FILE or an image reference")),
            _ => registry(text),
        }
    }
}

fn registry(text: &str) -> Result<ImageSource, ValueError> {
    Ok(ImageSource::Registry(text.parse::<Reference>()?))
}

/// `PATH[:REF]`.
fn located(text: &str, rest: &str) -> Result<(PathBuf, Option<String>), ValueError> {
    let (path, reference) = split_path(rest);
    if path.is_empty() || path.contains('\0') {
        return Err(ValueError::new(format!("{text:?} names no path"))
            .help("write oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE[:REF]"));
    }
    if reference
        .is_some_and(|r| r.is_empty() || r.contains(|c: char| c.is_whitespace() || c.is_control()))
    {
        return Err(ValueError::new(format!("{text:?} has no valid reference behind its path"))
            .help("write REF without spaces, or leave the last colon out; a colon in the path is written `\\:`"));
    }
    Ok((PathBuf::from(path), reference.map(str::to_owned)))
}

/// The path with its escapes undone, up to the first bare colon, and what is behind that.
fn split_path(text: &str) -> (String, Option<&str>) {
    let mut path = String::with_capacity(text.len());
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            ':' => return (path, Some(&text[at + 1..])),
            '\\' => match characters.next_if(|(_, next)| matches!(next, ':' | '\\')) {
                Some((_, escaped)) => path.push(escaped),
                None => path.push('\\'),
            },
            other => path.push(other),
        }
    }
    (path, None)
}

impl ImageSource {
    /// The same image, whose path, if it has one, is seen from elsewhere.
    #[must_use]
    pub fn moved(mut self, located: impl FnOnce(&Path) -> PathBuf) -> ImageSource {
        match &mut self {
            ImageSource::Registry(_) => {}
            ImageSource::Layout { dir: path, .. }
            | ImageSource::OciArchive { file: path, .. }
            | ImageSource::DockerArchive { file: path, .. } => *path = located(path),
        }
        self
    }

    /// The file or directory that it lies in, if it lies in one, as written.
    pub fn path(&self) -> Option<&Path> {
        match self {
            ImageSource::Registry(_) => None,
            ImageSource::Layout { dir, .. } => Some(dir),
            ImageSource::OciArchive { file, .. } | ImageSource::DockerArchive { file, .. } => {
                Some(file)
            }
        }
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, reference) = match self {
            ImageSource::Registry(reference) => return reference.fmt(f),
            ImageSource::Layout { dir, reference } => ("oci", dir, reference),
            ImageSource::OciArchive { file, reference } => ("oci-archive", file, reference),
            ImageSource::DockerArchive { file, reference } => ("docker-archive", file, reference),
        };
        let path = path
            .to_string_lossy()
            .replace('\\', "\\\\")
            .replace(':', "\\:");
        write!(f, "{transport}:{path}")?;
        reference
            .iter()
            .try_for_each(|reference| write!(f, ":{reference}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_path_ends_at_the_first_bare_colon() {
        for (text, path, reference) in [
            ("oci:dir", "dir", None),
            ("oci:../base:1.0", "../base", Some("1.0")),
            (
                "oci:/a/b:localhost:5000/app:1",
                "/a/b",
                Some("localhost:5000/app:1"),
            ),
            ("oci:a\\:b:c", "a:b", Some("c")),
            ("oci:a\\b", "a\\b", None),
            ("oci:a\\\\:b", "a\\", Some("b")),
        ] {
            let parsed: ImageSource = text.parse().unwrap();
            let expected = ImageSource::Layout {
                dir: path.into(),
                reference: reference.map(str::to_owned),
            };
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn transports_are_told_from_registries() {
        for (text, shown) in [
            ("docker.io/library/node:20", "docker.io/library/node:20"),
            ("docker://alpine", "docker.io/library/alpine"),
            ("node:20", "docker.io/library/node:20"),
            ("oci-archive:a.tar", "oci-archive:a.tar"),
            ("docker-archive:a.tar:x/y:1", "docker-archive:a.tar:x/y:1"),
        ] {
            assert_eq!(text.parse::<ImageSource>().unwrap().to_string(), shown);
        }
        for text in [
            "oci:",
            "oci-archive::x",
            "oci:a:",
            "oci:a:b c",
            "dir:x",
            "containers-storage:x",
            "A:b:c",
            "",
        ] {
            assert!(text.parse::<ImageSource>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn display_parses_to_the_same_source(path in "[a-z:\\\\/é]{1,12}", reference in proptest::option::of("[a-z:/.\\\\]{1,12}")) {
            let source = ImageSource::OciArchive { file: path.into(), reference };
            prop_assert_eq!(source.to_string().parse(), Ok(source));
        }
    }
}
