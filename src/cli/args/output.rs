//! Where images go: `--output`.

use std::path::PathBuf;
use std::str::FromStr;

use boxwright::oci::Reference;
use boxwright::spec::{ImageSource, ValueError};

/// An output as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutputArg {
    /// A place for one image, or a layout.
    Place(ImageSource),
    /// `oci-archive:DIR/`: a folder in which each image has an archive of its own.
    OciArchives(PathBuf),
    /// `docker-archive:DIR/`: the same.
    DockerArchives(PathBuf),
    /// `docker://HOST/PREFIX/`: a place in a registry below which each image has its repository.
    Repositories(Prefix),
}

/// Where repositories begin, with the slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix(String);

const KINDS: &str = "write oci:DIR, oci-archive:FILE, docker-archive:FILE or docker://HOST/NAME";

impl FromStr for OutputArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<OutputArg, ValueError> {
        let no_kind = || ValueError::new("the kind of output is missing").help(KINDS);
        if !text.contains(':') {
            return Err(no_kind());
        }
        if let Some(prefix) = text.strip_prefix("docker://")
            && prefix.ends_with('/')
        {
            return Prefix::new(prefix).map(OutputArg::Repositories);
        }
        let is_folder = text.ends_with('/');
        match text.parse()? {
            // A registry is not what someone means who has mistyped a file.
            ImageSource::Registry(_) if !text.starts_with("docker://") => Err(no_kind()),
            ImageSource::Registry(reference) if reference.digest().is_some() => {
                let message = "what is built has the digest that it has";
                Err(ValueError::new(message).help("write docker://HOST/NAME:TAG"))
            }
            ImageSource::OciArchive {
                file,
                reference: None,
            } if is_folder => Ok(OutputArg::OciArchives(file)),
            ImageSource::DockerArchive {
                file,
                reference: None,
            } if is_folder => Ok(OutputArg::DockerArchives(file)),
            place => Ok(OutputArg::Place(place)),
        }
    }
}

/// A place for one image.
pub(crate) fn parse_place(text: &str) -> Result<ImageSource, ValueError> {
    match text.parse()? {
        OutputArg::Place(place) => Ok(place),
        _ => {
            Err(ValueError::new("this is a place for many images").help("name the one image there"))
        }
    }
}

impl Prefix {
    fn new(text: &str) -> Result<Prefix, ValueError> {
        // Whatever may stand before one name may stand before any.
        let sample: Result<Reference, _> = format!("{text}name").parse();
        match sample {
            Ok(sample) if sample.tag().is_none() && sample.digest().is_none() => {
                Ok(Prefix(text.to_owned()))
            }
            _ => Err(
                ValueError::new(format!("{text:?} is no beginning of a repository"))
                    .help("write docker://HOST/ or docker://HOST/PREFIX/"),
            ),
        }
    }

    /// The repository of an image below it, named after the one that the image has by itself, of
    /// which the registry is left out.
    pub(crate) fn repository_of(&self, name: &Reference) -> Result<Reference, ValueError> {
        let own = name.path();
        let own = match name.domain() {
            "docker.io" => own.strip_prefix("library/").unwrap_or(own),
            _ => own,
        };
        Ok(format!("{}{own}", self.0).parse()?)
    }
}

impl std::fmt::Display for OutputArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OutputArg::Place(ImageSource::Registry(reference)) => write!(f, "docker://{reference}"),
            OutputArg::Place(place) => place.fmt(f),
            OutputArg::OciArchives(folder) => write!(f, "oci-archive:{}", folder.display()),
            OutputArg::DockerArchives(folder) => write!(f, "docker-archive:{}", folder.display()),
            OutputArg::Repositories(Prefix(prefix)) => write!(f, "docker://{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_end_is_a_place_for_many() {
        for text in [
            "oci:out",
            "oci:out/",
            "oci-archive:a.tar",
            "oci-archive:out/",
            "docker-archive:out/",
            "docker://registry.example/app:1",
            "docker://registry.example/",
            "docker://registry.example:5000/acme/team/",
        ] {
            let parsed: OutputArg = text.parse().unwrap();
            assert_eq!(parsed.to_string(), text);
            let is_place = matches!(parsed, OutputArg::Place(_));
            assert_eq!(is_place, !text.ends_with('/') || text.starts_with("oci:"));
        }
        for text in ["docker:///", "docker://A B/", "docker://x@y/", "out/"] {
            assert!(text.parse::<OutputArg>().is_err(), "{text}");
        }
    }

    #[test]
    fn repositories_keep_their_paths() {
        for (prefix, name, expected) in [
            ("r.example/", "acme/auth:1", "r.example/acme/auth"),
            ("r.example/team/", "auth", "r.example/team/auth"),
            (
                "r.example/team/",
                "r.other/a/auth:2",
                "r.example/team/a/auth",
            ),
            ("acme/", "auth", "docker.io/acme/auth"),
        ] {
            let prefix = Prefix::new(prefix).unwrap();
            let found = prefix.repository_of(&name.parse().unwrap()).unwrap();
            assert_eq!(found.to_string(), expected);
        }
    }
}
