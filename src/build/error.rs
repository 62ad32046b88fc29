//! Why a build ended early: one variant per room.

use std::path::Path;

use crate::context::ContextError;
use crate::explain::ExplainError;
use crate::image::ImageError;
use crate::layer::LayerError;
use crate::plan::PlannedStage;
use crate::sandbox::SandboxError;
use crate::spec::{Diagnostics, ImageSource};
use crate::store::{ContentError, StoreError};
use crate::transport::http::HttpError;
use crate::transport::{OutputError, TransportError};
use crate::tree::{ListingError, TreeError};

/// Why a build, a check or an inspection ended early. The texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The spec is wrong, and it is known where.
    #[error("{0}")]
    Spec(Diagnostics),
    /// A context could not be read.
    #[error(transparent)]
    Context(Box<ContextError>),
    /// A layer could not be written.
    #[error("make layer {title:?} of stage {stage:?}")]
    Layer {
        /// The stage.
        stage: String,
        /// What the layer does.
        title: String,
        /// Why.
        #[source]
        source: Box<LayerError>,
    },
    /// A layer of a base image could not be read.
    #[error("read layer {number} of {image}")]
    BaseLayer {
        /// The image.
        image: Box<ImageSource>,
        /// The layer, from 1.
        number: usize,
        /// Why.
        #[source]
        source: Box<LayerError>,
    },
    /// The layers of a base image do not fit each other.
    #[error("put the layers of {image} together")]
    BaseTree {
        /// The image.
        image: Box<ImageSource>,
        /// Why.
        #[source]
        source: TreeError,
    },
    /// The steps of a stage do not fit its tree. This is a mistake of ours.
    #[error("apply the steps of stage {stage:?}")]
    StageTree {
        /// The stage.
        stage: String,
        /// Why.
        #[source]
        source: TreeError,
    },
    /// A command failed, or could not be run.
    #[error("do step {step} of stage {stage:?}: {title}")]
    Command {
        /// The stage.
        stage: String,
        /// The step's number in it, from 1.
        step: usize,
        /// The step in one line.
        title: String,
        /// Why.
        #[source]
        source: Box<SandboxError>,
    },
    /// A file of the web could not be fetched.
    #[error("fetch {url}")]
    Download {
        /// Where it was looked for.
        url: String,
        /// Why.
        #[source]
        source: Box<HttpError>,
    },
    /// No sandbox could be made for commands.
    #[error(transparent)]
    Sandbox(Box<SandboxError>),
    /// A file that a command would see could not be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// What a command has changed could not be written down. This is a mistake of ours.
    #[error(transparent)]
    Listing(#[from] ListingError),
    /// The directory of a cache mount could not be used.
    #[error("use the cache {}", path.display())]
    Cache {
        /// The directory or its lock.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The image could not be put together.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A base could not be read or an output could not be written.
    #[error(transparent)]
    Transport(Box<TransportError>),
    /// The place for an image makes no sense.
    #[error("write the image: {0}")]
    Output(#[from] OutputError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lock could not be written.
    #[error("write {}", path.display())]
    Lock {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What a build reads could not be copied.
    #[error("copy to {}", path.display())]
    Mirror {
        /// What was being made.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The image could not be looked into.
    #[error(transparent)]
    Explain(#[from] ExplainError),
}

impl BuildError {
    pub(crate) fn stage_tree(stage: &PlannedStage) -> impl FnOnce(TreeError) -> BuildError {
        let stage = stage.name().to_owned();
        move |source| BuildError::StageTree { stage, source }
    }
}

impl BuildError {
    pub(crate) fn sandbox(error: SandboxError) -> BuildError {
        BuildError::Sandbox(Box::new(error))
    }

    pub(crate) fn cache(path: &Path) -> impl FnOnce(std::io::Error) -> BuildError {
        let path = path.to_owned();
        move |source| BuildError::Cache { path, source }
    }
}

impl From<Diagnostics> for BuildError {
    fn from(problems: Diagnostics) -> BuildError {
        BuildError::Spec(problems)
    }
}

impl From<TransportError> for BuildError {
    fn from(error: TransportError) -> BuildError {
        BuildError::Transport(Box::new(error))
    }
}

impl From<ContextError> for BuildError {
    fn from(error: ContextError) -> BuildError {
        BuildError::Context(Box::new(error))
    }
}
