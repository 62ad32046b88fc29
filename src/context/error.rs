//! What can go wrong between a directory and a snapshot.

use std::io;
use std::path::PathBuf;

use crate::tree::PathError;

/// Why a context could not be read. The texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The directory itself is not there.
    #[error("read the context {}: {}", path.display(), .source)]
    Root {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory or an entry in it could not be read.
    #[error("read {}: {}; give yourself the right to read it, or exclude it in .dockerignore", path.display(), .source)]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something that no image should take from a directory.
    #[error("copy {}: it is a {kind}; exclude it in .dockerignore", path.display())]
    Special {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A name that no image can hold.
    #[error("read {}: {source}; exclude a directory above it in .dockerignore, or give it a shorter name", path.display())]
    Name {
        /// The path.
        path: PathBuf,
        /// Why.
        source: PathError,
    },
    /// The ignore file is wrong.
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
    /// The ignore file is no file of patterns.
    #[error("read the ignore file {}: {problem}; put a text file of patterns there", path.display())]
    NoIgnoreFile {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        problem: &'static str,
    },
    /// The ignore file could not be read.
    #[error("read the ignore file {}: {source}", path.display())]
    IgnoreFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What is wrong in an ignore file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {problem}; {remedy}")]
pub struct IgnoreError {
    /// The file as people know it.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}
