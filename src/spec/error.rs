//! Why a single value is not what it should be.

use crate::oci::{DigestError, PlatformError, ReferenceError};
use crate::tree::ModeError;

/// Why a text is no value of its type, and what to write instead. It knows no place: whoever
/// read the text from a file adds that ([`crate::spec::Diagnostic`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}{}", if help.is_some() { "; " } else { "" }, help.as_deref().unwrap_or_default())]
pub struct ValueError {
    /// What is wrong, with the value in it.
    pub message: String,
    /// The remedy.
    pub help: Option<String>,
}

impl ValueError {
    /// An error without a remedy.
    pub fn new(message: impl Into<String>) -> ValueError {
        ValueError {
            message: message.into(),
            help: None,
        }
    }

    /// Says what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> ValueError {
        self.help = Some(help.into());
        self
    }
}

impl From<PlatformError> for ValueError {
    fn from(error: PlatformError) -> ValueError {
        ValueError::new(format!("{:?} is no platform", error.0))
            .help("write os/architecture, such as linux/amd64 or linux/arm64")
    }
}

impl From<ModeError> for ValueError {
    fn from(error: ModeError) -> ValueError {
        let message = match error {
            ModeError::Octal(text) => format!("{text:?} is no octal mode"),
            ModeError::Clause { text, clause } if text == clause => {
                format!("{text:?} is no mode")
            }
            ModeError::Clause { text, clause } => {
                format!("{clause:?} in {text:?} is no change of a mode")
            }
        };
        ValueError::new(message).help("write octal digits, such as 0755, or u=rwX,go=rX")
    }
}

impl From<DigestError> for ValueError {
    fn from(error: DigestError) -> ValueError {
        let message = match error {
            DigestError::NoAlgorithm(text) => format!("digest {text:?} has no algorithm"),
            DigestError::Algorithm(name) => format!("digest algorithm {name:?} is not supported"),
            DigestError::Encoded(hex) => {
                format!("a sha256 digest has 64 lower-case hex digits, not {hex:?}")
            }
        };
        ValueError::new(message).help("write `sha256:` and 64 hex digits, as sha256sum prints them")
    }
}

impl From<ReferenceError> for ValueError {
    fn from(error: ReferenceError) -> ValueError {
        match error {
            ReferenceError::Repository(text) => {
                ValueError::new(format!("{text:?} is no repository of an image"))
                    .help("use lower-case letters, digits and . _ - between slashes, as in docker.io/library/node")
            }
            ReferenceError::Domain(text) => {
                ValueError::new(format!("{text:?} is no registry host"))
                    .help("write a host name with an optional port, such as registry.example.com:5000")
            }
            ReferenceError::Tag(text) => ValueError::new(format!("{text:?} is no tag"))
                .help("use up to 128 letters, digits and . _ -, not beginning with . or -"),
            ReferenceError::Digest(error) => error.into(),
        }
    }
}
