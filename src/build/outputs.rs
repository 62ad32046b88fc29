//! Outputs of a build: files are written, registries are pushed to.

use std::path::Path;

use crate::build::error::BuildError;
use crate::build::event::{Event, Observer, OutputState};
use crate::build::push::{self, Sender};
use crate::build::report::{OutputKind, OutputLine};
use crate::image::ImageSet;
use crate::oci::{BlobSource, Reference};
use crate::spec::ImageSource;
use crate::store::Store;
use crate::transport::registry::{RegistryClient, RegistryError};
use crate::transport::{self, Output, OutputError, Parcel, TransportError, Written};

/// What is written, and what it takes.
pub(crate) struct Outputs<'a> {
    pub(crate) wanted: Vec<ImageSource>,
    pub(crate) images: &'a ImageSet,
    pub(crate) names: &'a [Reference],
    /// Where the layers are.
    pub(crate) blobs: &'a dyn BlobSource,
    /// Keeps what was found whole, and how far uploads have come.
    pub(crate) store: &'a Store,
    pub(crate) registries: &'a RegistryClient,
    pub(crate) observer: &'a dyn Observer,
}

/// What cannot be done is said before the build, not after it.
pub(crate) fn check(
    outputs: &[ImageSource],
    inputs: &[&Path],
    registries: &RegistryClient,
) -> Result<(), BuildError> {
    for output in outputs {
        let place = output.path();
        if let Some(input) = place.and_then(|place| taken_by(place, inputs.iter().copied())) {
            return Err(in_place_of(&output.to_string(), input));
        }
    }
    let to_registry = outputs.iter().find_map(|output| match output {
        ImageSource::Registry(reference) => Some(reference),
        _ => None,
    });
    match to_registry.filter(|_| registries.is_offline()) {
        None => Ok(()),
        Some(reference) => {
            let error = RegistryError::OfflinePush(reference.repository());
            Err(TransportError::from(error).into())
        }
    }
}

/// The one of `inputs` that stands where a file is to be written. What is not there yet takes
/// nobody's place.
pub(crate) fn taken_by<'i>(
    file: &Path,
    mut inputs: impl Iterator<Item = &'i Path>,
) -> Option<&'i Path> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let place = real(file)?;
    inputs.find(|input| real(input).as_ref() == Some(&place))
}

pub(crate) fn in_place_of(output: &str, input: &Path) -> BuildError {
    BuildError::Output(OutputError {
        message: format!("{output} would take the place of {}", input.display()),
    })
}

impl Outputs<'_> {
    /// Writes all outputs in the order in which they were asked for.
    pub(crate) fn write(&self) -> Result<Vec<OutputLine>, BuildError> {
        let write = |wanted: &ImageSource| match wanted {
            ImageSource::Registry(reference) => self.push(reference),
            file => self.write_file(file),
        };
        self.wanted.iter().map(write).collect()
    }

    fn write_file(&self, wanted: &ImageSource) -> Result<OutputLine, BuildError> {
        let name = wanted.to_string();
        let output: Output = name.parse()?;
        let kind = match &output {
            Output::Layout { .. } => OutputKind::Oci,
            Output::OciArchive { .. } => OutputKind::OciArchive,
            Output::DockerArchive { .. } => OutputKind::DockerArchive,
        };
        let receipt = transport::write(
            &output,
            Path::new(""),
            self.images,
            self.names,
            self.blobs,
            Some(self.store),
        )?;
        let state = match receipt.written {
            Written::New => OutputState::Written,
            Written::Unchanged => OutputState::Unchanged,
        };
        self.observer.event(Event::OutputWritten {
            name: &name,
            path: &receipt.path,
            bytes: receipt.bytes,
            state,
        });
        Ok(OutputLine {
            name,
            kind,
            path: receipt.path,
            reference: receipt.reference,
            bytes: receipt.bytes,
            state,
            push: None,
        })
    }

    /// Pushes under the tag of the reference, else under those of the image's names.
    fn push(&self, reference: &Reference) -> Result<OutputLine, BuildError> {
        let parcel = Parcel::of_images(self.images, self.blobs);
        let mut tags: Vec<String> = Vec::new();
        for tag in self.names.iter().filter_map(Reference::tag) {
            if !tags.iter().any(|known| known == tag) {
                tags.push(tag.to_owned());
            }
        }
        let digest = parcel.root().digest;
        let to = push::destinations(std::slice::from_ref(reference), &tags, &digest)?;
        let sender = Sender {
            parcel: &parcel,
            store: self.store,
            registries: self.registries,
            observer: self.observer,
        };
        let lines = to.iter().map(|to| sender.send(to));
        let line = lines
            .collect::<Result<Vec<_>, _>>()?
            .pop()
            .expect("one reference is one destination");
        let first_name = line.names().next();
        Ok(OutputLine {
            name: format!("docker://{reference}"),
            kind: OutputKind::Registry,
            path: line.repository.clone().into(),
            reference: first_name,
            bytes: line.bytes_sent,
            state: line.state,
            push: Some(line),
        })
    }
}
