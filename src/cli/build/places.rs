//! Places of several images: none may take that of another.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use boxwright::build::BuildRequest;
use boxwright::oci::Reference;
use boxwright::spec::ImageSource;

use crate::cli::args::OutputArg;
use crate::cli::corridor;
use crate::cli::exit::{Blame, Failure};
use crate::cli::settings::Asked;

/// Makes the folders that were named as places for archives.
pub(super) fn make_folders(outputs: &[OutputArg]) -> Result<(), Failure> {
    for output in outputs {
        if let OutputArg::OciArchives(folder) | OutputArg::DockerArchives(folder) = output {
            fs::create_dir_all(folder)
                .map_err(|error| Failure::system(format!("make {}", folder.display()), &error))?;
        }
    }
    Ok(())
}

/// No image may hold what the last run wrote for another.
pub(super) fn leave_out_outputs(asked: &mut Asked) {
    let mut all = Vec::new();
    for request in &asked.requests {
        // What is wrong with a spec is told when it is planned.
        let names = corridor::names(request).unwrap_or_default();
        let outputs = request.outputs_or_default(&names);
        all.extend(
            outputs
                .iter()
                .filter_map(ImageSource::path)
                .map(Path::to_owned),
        );
    }
    for request in &mut asked.requests {
        request.left_out.extend(all.iter().cloned());
    }
}

/// Checks that each image has a place of its own, and each spec a plan. All specs that are wrong are
/// given, each with its number.
pub(super) fn each_has_its_place(asked: &Asked) -> Result<(), Vec<(usize, Failure)>> {
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (number, request) in asked.requests.iter().enumerate() {
        let places = match places(request) {
            Ok(places) => places,
            Err(failure) => {
                wrong.push((number, failure));
                continue;
            }
        };
        for (place, shown) in places {
            // One image in one place twice is its own affair.
            if let Some(before) = taken.insert(place, number).filter(|one| *one != number) {
                let (one, two) = (&asked.names[before], &asked.names[number]);
                let headline = format!("the images of {one} and {two} would both be {shown}");
                let failure = Failure::new(Blame::CommandLine, headline).hint(
                    "give them names or tags of their own, in the specs or in a workspace; \
                     in one layout of all, -o oci:DIR, only whole names must differ",
                );
                wrong.push((number, failure));
                break;
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong),
    }
}

/// What an image takes up, in one way of writing, and as it should be told.
fn places(request: &BuildRequest) -> Result<Vec<(String, String)>, Failure> {
    let names = corridor::names(request)?;
    let mut places = Vec::new();
    for output in request.outputs_or_default(&names) {
        match &output {
            ImageSource::Layout { dir, reference } => {
                let called = match (reference, &names[..]) {
                    (Some(reference), _) => vec![reference.clone()],
                    (None, []) => vec![String::new()],
                    (None, names) => names.iter().map(Reference::to_string).collect(),
                };
                let dir = plain(dir);
                places.extend(called.iter().map(|name| {
                    let shown = match name.is_empty() {
                        true => format!("the image without a name in {output}"),
                        false => format!("{name} in {output}"),
                    };
                    (format!("{}\0{name}", dir.display()), shown)
                }));
            }
            ImageSource::OciArchive { file, .. } | ImageSource::DockerArchive { file, .. } => {
                places.push((plain(file).display().to_string(), output.to_string()));
            }
            ImageSource::Registry(reference) => {
                let tags: Vec<&str> = match reference.tag() {
                    Some(tag) => vec![tag],
                    None => names.iter().filter_map(Reference::tag).collect(),
                };
                let repository = reference.repository();
                places.extend(tags.iter().map(|tag| {
                    let name = format!("docker://{repository}:{tag}");
                    (name.clone(), name)
                }));
            }
        }
    }
    Ok(places)
}

/// A path without what means nothing in it.
fn plain(path: &Path) -> PathBuf {
    let parts = path.components();
    parts.filter(|part| *part != Component::CurDir).collect()
}
