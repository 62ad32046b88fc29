//! Files of this machine: opened with care, replaced as a whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::transport::error::TransportError;

/// How the names of our temporary files begin. Whoever holds the lock of a directory may remove
/// those that a killed process left in it.
pub(crate) const TEMPORARY: &str = ".boxwright-tmp-";

/// Adds the path to an error.
pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TransportError {
    let path = path.to_owned();
    move |source| TransportError::Io {
        action,
        path,
        source,
    }
}

/// Opens a regular file; `None` if nothing is there. A pipe is not waited for, a device not read.
pub(crate) fn open_regular(path: &Path) -> io::Result<Option<File>> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    match opened {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file",
        )),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a whole file of at most `most` bytes; `None` if nothing is there.
pub(crate) fn read_small(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open_regular(path)? else {
        return Ok(None);
    };
    read_at_most(file, most).map(Some)
}

/// Reads to the end, unless there are more than `most` bytes.
pub(crate) fn read_at_most(reader: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it has more than the {most} bytes that such a document may have"),
        )),
        false => Ok(bytes),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// A new file in `directory`, under a name of its own until [`persist`] gives it the final one.
pub(crate) fn temporary_in(directory: &Path) -> Result<NamedTempFile, TransportError> {
    // The umask applies, as for any file that a program creates.
    tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)
        .map_err(at("create a file in", directory))
}

/// Gives a whole file its final name, safe from a crash of the machine.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<(), TransportError> {
    file.as_file().sync_all().map_err(at("write", path))?;
    file.persist(path)
        .map_err(|error| at("write", path)(error.error))?;
    Ok(())
}

/// Writes the names in a directory to the disk.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), TransportError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(at("write", directory))
}

/// Removes what killed processes left. Only for who holds the lock of the directory.
pub(crate) fn remove_temporary(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if is_temporary(&entry.file_name()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a name is one of our temporary files'.
pub(crate) fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// The file that an output replaces, symlinks followed, and the directory it is in.
///
/// # Errors
/// The directory is missing, or something else than a regular file has the name: a device or pipe
/// must not be replaced by a file.
pub(crate) fn target_file(path: &Path) -> Result<(PathBuf, PathBuf), TransportError> {
    let path = match fs::metadata(path) {
        Ok(found) if found.is_file() => fs::canonicalize(path).map_err(at("find", path))?,
        Ok(_) => {
            let problem = "it is there and no regular file; give the output a file name of its own";
            return Err(TransportError::NotAnImage {
                path: path.to_owned(),
                problem: problem.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(at("find", path)(error)),
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((path, directory))
}
