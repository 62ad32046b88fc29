//! Ignore files on disk: which one rules a context, and what may be one.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::context::error::ContextError;
use crate::context::ignore::IgnoreRules;

/// The rules for a context: for the main one, the file beside the spec that is named after it
/// (`boxwright.yaml.dockerignore`) wins over `.dockerignore` in the context; they are never merged.
///
/// # Errors
/// An ignore file that cannot be read, or that is malformed.
pub fn rules_for(context: &Path, spec_file: Option<&Path>) -> Result<IgnoreRules, ContextError> {
    let beside = spec_file.map(|spec| {
        let mut name = spec.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    if let Some(path) = beside
        && let Some(text) = ignore_file(
            rustix::fs::CWD,
            path.as_os_str(),
            &path,
            ResolveFlags::empty(),
        )?
    {
        return Ok(IgnoreRules::parse(&text, &path.display().to_string())?);
    }
    // The context itself is reported missing by the walk.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open(context, flags, Mode::empty()) else {
        return Ok(IgnoreRules::none());
    };
    let path = context.join(".dockerignore");
    // It is part of the context: a link in it may lead to another file of the context only.
    match ignore_file(
        root.as_fd(),
        OsStr::new(".dockerignore"),
        &path,
        ResolveFlags::BENEATH,
    )? {
        Some(text) => Ok(IgnoreRules::parse(&text, &path.display().to_string())?),
        None => Ok(IgnoreRules::none()),
    }
}

/// The largest ignore file that is read.
const LARGEST_IGNORE_FILE: u64 = 1 << 20;

/// The text of an ignore file that people know as `path`; `None` if it is not there.
fn ignore_file(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
    resolve: ResolveFlags,
) -> Result<Option<Vec<u8>>, ContextError> {
    let no_file = |problem| ContextError::NoIgnoreFile {
        path: path.to_owned(),
        problem,
    };
    let failed = |source: io::Error| ContextError::IgnoreFile {
        path: path.to_owned(),
        source,
    };
    // A pipe must not make the build wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve) {
        // Old kernels and old sandboxes do not know the call; then no link is followed at all.
        Err(Errno::NOSYS | Errno::PERM) => {
            let flags = match resolve.is_empty() {
                true => flags,
                false => flags | OFlags::NOFOLLOW,
            };
            rustix::fs::openat(directory, name, flags, Mode::empty())
        }
        result => result,
    };
    let file = match opened {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::XDEV | Errno::LOOP) => {
            return Err(no_file(
                "it is a link that leads out of the context or nowhere",
            ));
        }
        Err(error) => return Err(failed(error.into())),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(no_file("it is not a regular file"));
    }
    let mut text = Vec::new();
    file.take(LARGEST_IGNORE_FILE + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    match text.len() as u64 > LARGEST_IGNORE_FILE {
        true => Err(no_file("it is larger than 1 MiB")),
        false => Ok(Some(text)),
    }
}
