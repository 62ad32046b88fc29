//! Where things of the machine lie: what the spec names is relative to the spec's own folder, what
//! the caller names to the caller's working directory.

use std::path::{Path, PathBuf};

use crate::plan::stage::{GivenBy, PlannedContext};
use crate::spec::ImageSource;

impl PlannedContext {
    /// The directory for the file system, given the folder that holds the spec.
    pub fn located(&self, spec_folder: &Path) -> PathBuf {
        match self.given_by {
            GivenBy::Spec => spec_folder.join(&self.directory),
            GivenBy::Caller => self.directory.clone(),
        }
    }
}

/// An image that a spec names, for the file system, given the folder that holds the spec.
#[must_use]
pub fn located(image: &ImageSource, spec_folder: &Path) -> ImageSource {
    let mut located = image.clone();
    match &mut located {
        ImageSource::Registry(_) => {}
        ImageSource::Layout { dir: path, .. }
        | ImageSource::OciArchive { file: path, .. }
        | ImageSource::DockerArchive { file: path, .. } => *path = spec_folder.join(&*path),
    }
    located
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_spec_names_lies_beside_it() {
        for (image, folder, expected) in [
            ("oci:base:1", "specs/app", "oci:specs/app/base:1"),
            (
                "oci-archive:../b.tar",
                "specs",
                "oci-archive:specs/../b.tar",
            ),
            (
                "docker-archive:/b.tar:x",
                "specs",
                "docker-archive:/b.tar:x",
            ),
            ("oci:base", "", "oci:base"),
            ("docker.io/a/b:1", "specs", "docker.io/a/b:1"),
        ] {
            let image: ImageSource = image.parse().unwrap();
            assert_eq!(located(&image, Path::new(folder)).to_string(), expected);
        }
    }

    #[test]
    fn what_the_caller_names_lies_where_the_caller_is() {
        for (given_by, directory, expected) in [
            (GivenBy::Spec, "ctx", "specs/ctx"),
            (GivenBy::Spec, "/ctx", "/ctx"),
            (GivenBy::Caller, "ctx", "ctx"),
        ] {
            let context = PlannedContext {
                name: "shared".to_owned(),
                directory: directory.into(),
                given_by,
                is_main: false,
                wanted: Vec::new(),
            };
            assert_eq!(context.located(Path::new("specs")), Path::new(expected));
        }
    }
}
