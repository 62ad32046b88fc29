//! Why an image could not be looked into.

use std::io;

use crate::tree::{LayerPath, TreeError};

/// Why an image could not be looked into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// A layer does not fit on those below it.
    #[error("apply layer {number}")]
    Layer {
        /// Number of the layer, from 1.
        number: usize,
        /// What does not fit.
        #[source]
        source: TreeError,
    },
    /// The bytes of a file could not be read.
    #[error("read {path} of the image")]
    Content {
        /// The file.
        path: LayerPath,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}
