//! What can go wrong with carrying caches.

use std::io;
use std::path::{Path, PathBuf};

use crate::sandbox::SandboxError;
use crate::transport::error::TransportError;

/// Why caches could not be written to a file or taken from one. The texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// There is no cache of this name.
    #[error("find the cache {name:?}: {}", listed(there))]
    NoSuchCache {
        /// As it was typed.
        name: String,
        /// Those that are there.
        there: Vec<String>,
    },
    /// The file was not written by an export, or only a part of it is there.
    #[error("read caches from {}: {problem}; nothing was changed", path.display())]
    NotCaches {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There is more than was allowed.
    #[error("carry caches in {}: they have more than {most} bytes; allow more with --max-size", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What was allowed.
        most: u64,
    },
    /// The file system said no.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file for them could not be written.
    #[error(transparent)]
    Output(#[from] TransportError),
    /// Their files could not be read or made.
    #[error(transparent)]
    Sandbox(Box<SandboxError>),
}

fn listed(there: &[String]) -> String {
    match there {
        [] => "no command has used a cache yet".to_owned(),
        there => format!("there are {}", there.join(", ")),
    }
}

impl CacheError {
    /// For `map_err`: the file system said no.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
        let path = path.to_owned();
        move |source| CacheError::Io {
            action,
            path,
            source,
        }
    }

    /// Whether all it says is that the process that makes files does not listen any more.
    pub(crate) fn is_about_our_process(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        matches!(self, CacheError::Io { source, .. } if [BrokenPipe, ConnectionReset].contains(&source.kind()))
    }

    /// Whether the file is to blame, and not the machine.
    pub fn is_about_input(&self) -> bool {
        matches!(
            self,
            CacheError::NoSuchCache { .. }
                | CacheError::NotCaches { .. }
                | CacheError::TooLarge { .. }
        )
    }
}

impl From<SandboxError> for CacheError {
    fn from(error: SandboxError) -> CacheError {
        CacheError::Sandbox(Box::new(error))
    }
}
