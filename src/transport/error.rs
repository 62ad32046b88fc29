//! What can go wrong between an image and the world.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::oci::{DiffId, Digest, Platform};
use crate::transport::registry::RegistryError;

/// Why an image could not be read or written. The texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The source is a registry where only files are read.
    #[error("read {0} from a file: it is in a registry")]
    RegistrySource(String),
    /// A registry gave or took nothing.
    #[error(transparent)]
    Registry(Box<RegistryError>),
    /// A server cannot listen.
    #[error("listen on {address}")]
    Listen {
        /// Where it should have.
        address: SocketAddr,
        /// Why it cannot.
        #[source]
        source: io::Error,
    },
    /// A file or directory could not be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// What was done, such as `read`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The place is no layout or archive, or not of the kind that was asked for.
    #[error("use {}: {problem}", path.display())]
    NotAnImage {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A document cannot be understood.
    #[error("read {document} of {}", path.display())]
    Document {
        /// The layout or archive.
        path: PathBuf,
        /// The document: its name or digest.
        document: String,
        /// Where it stops making sense.
        #[source]
        source: serde_json::Error,
    },
    /// A document or the image as a whole contradicts itself.
    #[error("read the image in {}: {problem}", path.display())]
    Contradiction {
        /// The layout or archive.
        path: PathBuf,
        /// What does not fit together.
        problem: String,
    },
    /// No image of this name is there.
    #[error("find {wanted:?} in {}: it holds {}", path.display(), listed(available))]
    NoSuchImage {
        /// The layout or archive.
        path: PathBuf,
        /// What was asked for.
        wanted: String,
        /// The names that are there.
        available: Vec<String>,
    },
    /// Several images are there, and nothing says which.
    #[error("choose an image of {}: it holds {}; write the one behind the path, `:NAME`", path.display(), listed(available))]
    Ambiguous {
        /// The layout or archive.
        path: PathBuf,
        /// The names that are there.
        available: Vec<String>,
    },
    /// The image is not for the platform.
    #[error("find an image for {wanted} in {}: it is for {}", path.display(), listed(available))]
    NoPlatform {
        /// The layout or archive.
        path: PathBuf,
        /// What was asked for.
        wanted: Platform,
        /// The platforms that are there.
        available: Vec<String>,
    },
    /// A blob or file inside is missing.
    #[error("find {what} in {}: it is incomplete", path.display())]
    Missing {
        /// The layout or archive.
        path: PathBuf,
        /// The blob or file.
        what: String,
    },
    /// A blob could not be read, or it is not what its descriptor says.
    #[error("read blob {digest} of {}", path.display())]
    Blob {
        /// The layout or archive.
        path: PathBuf,
        /// The blob.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// A layer does not unpack to what the config says.
    #[error("read layer {layer:?} of {}: it unpacks to {found}, the image's config says {expected}", path.display())]
    WrongDiffId {
        /// The archive.
        path: PathBuf,
        /// The layer's file in it.
        layer: String,
        /// As in the config.
        expected: DiffId,
        /// As it is.
        found: DiffId,
    },
    /// A layer cannot be stored and served.
    #[error("use the base image in {}: its layer {digest} is of type {media_type}{}", path.display(), foreign_help(media_type))]
    Layer {
        /// The layout or archive.
        path: PathBuf,
        /// The layer.
        digest: Digest,
        /// Its type.
        media_type: String,
    },
    /// An image for several platforms does not fit into the output.
    #[error(
        "write an image for several platforms as docker-archive, which holds one; use oci-archive:FILE"
    )]
    SeveralPlatforms,
    /// A zstd layer does not fit into the output.
    #[error(
        "write a zstd layer into a docker-archive, which docker before 23 cannot read; use `compression: gzip` or oci-archive:FILE"
    )]
    ZstdInDockerArchive,
    /// A blob of the image that is to be written is not in the store or damaged there.
    #[error("write blob {digest}, which the store should have")]
    Store {
        /// The blob.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
}

impl From<RegistryError> for TransportError {
    fn from(error: RegistryError) -> TransportError {
        TransportError::Registry(Box::new(error))
    }
}

/// Why a text is no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OutputError {
    /// What is wrong and what to write instead.
    pub(crate) message: String,
}

fn listed(names: &[String]) -> String {
    const MOST: usize = 20;
    match names {
        [] => "nothing".to_owned(),
        names if names.len() > MOST => {
            format!(
                "{} and {} more",
                names[..MOST].join(", "),
                names.len() - MOST
            )
        }
        names => names.join(", "),
    }
}

fn foreign_help(media_type: &str) -> &'static str {
    match media_type.contains("nondistributable") || media_type.contains("foreign") {
        true => ", which its maker allows nobody to pass on; choose another base",
        false => ", which is no layer that can be read",
    }
}

/// An error and what caused it, in one line.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
