//! Files of this machine: opened with care, replaced as a whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::oci::Digest;
use crate::transport::error::TransportError;

/// How the names of our temporary files begin.
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
    named_temporary(TEMPORARY, directory)
}

fn named_temporary(prefix: &str, directory: &Path) -> Result<NamedTempFile, TransportError> {
    // The umask applies, as for any file that a program creates.
    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)
        .map_err(at("create a file in", directory))
}

/// Gives a whole file its final name. Whoever looks finds the old file or the new one, whatever
/// becomes of this process. Nobody waits for the disk, which can take longer than the build: a
/// machine that loses its power in the seconds after may lose an output, as it may any file that a
/// compiler has just written, and the next build makes it again.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<(), TransportError> {
    file.persist(path)
        .map(drop)
        .map_err(|error| at("write", path)(error.error))
}

/// A new file that will replace `target` in `directory`. What killed processes left of earlier
/// attempts at the same target is removed.
///
/// The file is locked for as long as its writer lives, which tells it from one that was left.
pub(crate) fn temporary_for(
    target: &Path,
    directory: &Path,
) -> Result<NamedTempFile, TransportError> {
    clear_for(target, directory).map_err(at("clear", directory))?;
    let prefix = prefix_for(target);
    loop {
        let file = named_temporary(&prefix, directory)?;
        file.as_file().lock().map_err(at("lock", file.path()))?;
        // Before it was locked, another writer may have taken it for one that was left.
        let links = file
            .as_file()
            .metadata()
            .map_err(at("read", file.path()))?
            .nlink();
        if links > 0 {
            return Ok(file);
        }
    }
}

fn prefix_for(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default().as_encoded_bytes();
    format!("{TEMPORARY}{}-", Digest::of(name).short())
}

/// Removes what killed processes left of attempts at `target` in `directory`.
pub(crate) fn clear_for(target: &Path, directory: &Path) -> io::Result<()> {
    remove_stale(directory, &prefix_for(target))
}

/// Removes the temporary files whose writers are gone. Those of a layout are not locked one by
/// one, so only who holds the lock of its directory may clear that.
pub(crate) fn remove_stale(directory: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(prefix.as_bytes())
        {
            continue;
        }
        let file = match open_regular(&entry.path()) {
            Ok(Some(file)) => file,
            // It was finished in this moment, or it is none of ours.
            Ok(None) | Err(_) => continue,
        };
        if file.try_lock().is_ok() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("app.tar");
        let living = temporary_for(&target, folder.path()).unwrap();
        let (_, stale) = temporary_for(&target, folder.path())
            .unwrap()
            .keep()
            .unwrap();
        fs::write(folder.path().join("mine"), "").unwrap();
        let next = temporary_for(&target, folder.path()).unwrap();
        assert!(living.path().exists() && next.path().exists());
        assert!(!stale.exists());
        persist(living, &target).unwrap();
        persist(next, &target).unwrap();
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["app.tar", "mine"]);
    }

    #[test]
    fn only_regular_files_are_opened_and_not_too_much_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "12345").unwrap();
        assert_eq!(read_small(&file, 5).unwrap().unwrap(), b"12345");
        assert!(read_small(&file, 4).is_err());
        assert!(
            read_small(&folder.path().join("none"), 4)
                .unwrap()
                .is_none()
        );
        assert!(open_regular(&file.join("below a file")).unwrap().is_none());
        for place in [folder.path(), "/dev/zero".as_ref()] {
            assert!(open_regular(place).is_err());
        }
    }
}
