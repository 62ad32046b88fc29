//! Outputs: where an image goes, in the names that podman and skopeo use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::spec::ImageSource;
use crate::transport::error::OutputError;

/// A place that an image is written to. The grammar is [`ImageSource`]'s: the path ends at the
/// first colon, and a colon of its own is written `\:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// `oci:DIR[:REF]`: an OCI image layout, which may hold other images.
    Layout {
        /// The directory, as written.
        dir: PathBuf,
        /// The name of the image in it.
        reference: Option<String>,
    },
    /// `oci-archive:FILE[:REF]`: one tar that podman, docker, ctr and skopeo load.
    OciArchive {
        /// The file, as written.
        file: PathBuf,
        /// The name of the image in it.
        reference: Option<String>,
    },
    /// `docker-archive:FILE[:REF]`: a tar for those who read only what `docker save` wrote.
    DockerArchive {
        /// The file, as written.
        file: PathBuf,
        /// The `repository:tag` of the image in it.
        reference: Option<String>,
    },
}

impl Output {
    /// The directory or file, as written.
    pub fn path(&self) -> &Path {
        match self {
            Output::Layout { dir, .. } => dir,
            Output::OciArchive { file, .. } | Output::DockerArchive { file, .. } => file,
        }
    }

    /// The name of the image in it, as written.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Output::Layout { reference, .. }
            | Output::OciArchive { reference, .. }
            | Output::DockerArchive { reference, .. } => reference.as_deref(),
        }
    }
}

impl FromStr for Output {
    type Err = OutputError;

    fn from_str(text: &str) -> Result<Output, OutputError> {
        const FORMS: &str =
            "write oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE[:REF]";
        let error = |message| Err(OutputError { message });
        match text.parse() {
            _ if text.starts_with("docker://") => error(format!(
                "{text} is no file; images are pushed there, not written"
            )),
            Ok(ImageSource::Layout { dir, reference }) => Ok(Output::Layout { dir, reference }),
            Ok(ImageSource::OciArchive { file, reference }) => {
                Ok(Output::OciArchive { file, reference })
            }
            Ok(ImageSource::DockerArchive { file, reference }) => {
                check_docker_reference(reference.as_deref())?;
                Ok(Output::DockerArchive { file, reference })
            }
            Err(wrong) if text.starts_with("oci") || text.starts_with("docker-archive:") => {
                error(wrong.to_string())
            }
            Ok(ImageSource::Registry(_)) | Err(_) => {
                error(format!("{text:?} is no output; {FORMS}"))
            }
        }
    }
}

/// Docker archives know images by nothing but `repository:tag`.
fn check_docker_reference(reference: Option<&str>) -> Result<(), OutputError> {
    match reference.map(str::parse::<crate::oci::Reference>) {
        None => Ok(()),
        Some(Ok(reference)) if reference.digest().is_none() => Ok(()),
        Some(Ok(_)) => Err(OutputError {
            message: "a docker-archive names images by tag, not by digest".to_owned(),
        }),
        Some(Err(wrong)) => Err(OutputError {
            message: wrong.to_string(),
        }),
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reference = self.reference().map(str::to_owned);
        let source = match self {
            Output::Layout { dir, .. } => ImageSource::Layout {
                dir: dir.clone(),
                reference,
            },
            Output::OciArchive { file, .. } => ImageSource::OciArchive {
                file: file.clone(),
                reference,
            },
            Output::DockerArchive { file, .. } => ImageSource::DockerArchive {
                file: file.clone(),
                reference,
            },
        };
        source.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_written_as_they_are_read() {
        for text in [
            "oci:out",
            "oci:out:1.0",
            "oci:a\\:b:docker.io/acme/app:1",
            "oci-archive:app.tar",
            "oci-archive:app.tar:v1",
            "docker-archive:app.tar:acme/app:1",
        ] {
            assert_eq!(text.parse::<Output>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused_with_a_remedy() {
        for (text, why) in [
            ("app.tar", "is no output; write oci:DIR[:REF]"),
            ("", "is no output; write oci:DIR[:REF]"),
            ("docker://registry.example/app:1", "images are pushed there"),
            ("oci:", "names no path"),
            ("oci-archive::x", "names no path"),
            ("dir:x", "is no output"),
            ("docker-archive:a.tar:UPPER CASE", "no valid reference"),
            ("docker-archive:a.tar:A/B", "is no repository"),
        ] {
            let error = text.parse::<Output>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
