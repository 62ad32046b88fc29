//! What can go wrong between layers and an image.

use crate::oci::{DiffId, Platform};
use crate::spec::{AccountName, Span};

/// Why an image could not be put together. The texts fit after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The time of the image is beyond what its documents can say.
    #[error("write the time {0}: SOURCE_DATE_EPOCH counts seconds and ends with the year 9999")]
    Epoch(u64),
    /// A health check says how often, but neither it nor the base says what to run.
    #[error("write the health check: it has no test, and the base has none to inherit")]
    HealthcheckWithoutTest(Span),
    /// A layer's codec has no media type in the image's format.
    #[error(
        "write a zstd layer into an image of Docker's format, which knows only gzip; use `compression: gzip` or `--format oci`"
    )]
    ZstdInDocker,
    /// A layer of the base is no layer that can be stored and served.
    #[error("take over a layer of type {0}")]
    LayerType(String),
    /// The config names other layers than those at hand. This is a mistake of the caller.
    #[error("put the image together: its config lists {config:?}, its layers are {layers:?}")]
    DiffIds {
        /// As in the config.
        config: Vec<DiffId>,
        /// As handed in.
        layers: Vec<DiffId>,
    },
    /// Two images of one index are for the same platform.
    #[error("put two images for {0} into one index")]
    PlatformTwice(Platform),
    /// An image that was made elsewhere makes no sense.
    #[error("read an image: {0}")]
    Unreadable(String),
    /// An index without images.
    #[error("write an image index without any image")]
    NoImages,
    /// The images of one index are in different formats.
    #[error("put images of OCI's and of Docker's format into one index")]
    MixedFormats,
    /// `config.user` cannot be resolved.
    #[error(transparent)]
    User(#[from] UserError),
}

/// Why a user of the spec is no user of the image. It carries the place in the spec, for a
/// diagnostic, and the name that was probably meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// No line of `/etc/passwd` has this name.
    #[error("find user {name} in the image's /etc/passwd{}", did_you_mean(nearest))]
    UnknownUser {
        /// The name.
        name: AccountName,
        /// Where the spec has it.
        span: Span,
        /// The most similar name that the image has.
        nearest: Option<String>,
    },
    /// No line of `/etc/group` has this name.
    #[error("find group {name} in the image's /etc/group{}", did_you_mean(nearest))]
    UnknownGroup {
        /// The name.
        name: AccountName,
        /// Where the spec has it.
        span: Span,
        /// The most similar name that the image has.
        nearest: Option<String>,
    },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!("; did you mean `{name}`?"),
        None => "; create it under `users`, or write a number".to_owned(),
    }
}
