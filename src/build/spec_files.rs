//! The specs that a spec extends, read from disk: each once in a build, and never more of it than a
//! spec may have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;

use crate::build::error::BuildError;
use crate::build::request::BuildRequest;
use crate::spec::{self, FoundSpec, SourceText, SpecFiles, ValueError};

/// The name of a spec in its folder.
pub const SPEC_NAME: &str = "boxwright.yaml";

/// The most that is read of a spec: a device must not fill the memory.
const MOST_TEXT: u64 = 16 << 20;

/// The files around the spec of a request.
#[derive(Debug)]
pub(crate) struct FilesOfMachine<'a> {
    spec_file: &'a Path,
    folder: &'a Path,
    /// What was read, by the files' identities: all platforms see the same.
    read: Mutex<BTreeMap<PathBuf, Arc<[u8]>>>,
}

impl<'a> FilesOfMachine<'a> {
    pub(crate) fn of(request: &'a BuildRequest) -> FilesOfMachine<'a> {
        FilesOfMachine::around(&request.spec_file)
    }

    fn around(spec_file: &'a Path) -> FilesOfMachine<'a> {
        FilesOfMachine {
            spec_file,
            folder: spec_file.parent().unwrap_or(Path::new("")),
            read: Mutex::default(),
        }
    }
}

/// The names of the arguments that a spec and those that it extends declare.
///
/// # Errors
/// A text that is no YAML. What else is wrong with the specs is for their build to tell.
pub fn declared_args(
    spec_file: &Path,
    source: &Arc<SourceText>,
) -> Result<BTreeSet<String>, BuildError> {
    let files = FilesOfMachine::around(spec_file);
    Ok(spec::declared_args(source, &files)?)
}

impl SpecFiles for FilesOfMachine<'_> {
    fn find(&self, folder: &Path, path: &Path) -> Result<FoundSpec, ValueError> {
        let mut path = tidy(&folder.join(path), self.folder);
        if self.folder.join(&path).is_dir() {
            path.push(SPEC_NAME);
        }
        let place = self.folder.join(&path);
        let shown = tidy(&place, Path::new(""));
        let identity = identity(&place);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match read.get(&identity) {
            Some(bytes) => Arc::clone(bytes),
            None => {
                let bytes = read_spec(&place).map_err(|error| unreadable(&shown, &error))?;
                let bytes: Arc<[u8]> = bytes.into();
                read.insert(identity.clone(), Arc::clone(&bytes));
                bytes
            }
        };
        Ok(FoundSpec {
            path,
            identity,
            name: shown.display().to_string(),
            bytes,
        })
    }

    fn own_identity(&self) -> PathBuf {
        identity(self.spec_file)
    }
}

/// The file, whatever way leads to its folder. Its own name counts: what a link in another folder
/// says is relative to that folder.
fn identity(file: &Path) -> PathBuf {
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    folder.join(file.file_name().unwrap_or_default())
}

/// `path`, which is relative to `folder`, without the names that `..` takes back; as it is where a
/// link makes these mean something else.
fn tidy(path: &Path, folder: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match (part, tidy.components().next_back()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                tidy.pop();
            }
            (part, _) => tidy.push(part),
        }
    }
    let real = |path: &Path| {
        let path = folder.join(path);
        let path = match path == Path::new("") {
            true => Path::new("."),
            false => &path,
        };
        fs::canonicalize(path).ok()
    };
    match real(path) {
        Some(found) if real(&tidy) != Some(found.clone()) => path.to_owned(),
        _ => tidy,
    }
}

fn read_spec(file: &Path) -> io::Result<Vec<u8>> {
    // A pipe must not make the build wait.
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).unwrap_or_default();
    let opened: File = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(file)?;
    if !opened.metadata()?.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is no regular file",
        ));
    }
    let mut bytes = Vec::new();
    opened.take(MOST_TEXT + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MOST_TEXT {
        true => {
            let message = format!("it has more than {MOST_TEXT} bytes");
            Err(io::Error::new(ErrorKind::FileTooLarge, message))
        }
        false => Ok(bytes),
    }
}

fn unreadable(shown: &Path, error: &io::Error) -> ValueError {
    let name = shown.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            ValueError::new(format!("there is no spec {name}"))
                .help("name a spec or its folder, relative to the folder of this file")
        }
        _ => ValueError::new(format!("the spec {name} cannot be read: {error}"))
            .help("name a text file that whoever builds may read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_taken_back_is_not_shown_unless_a_link_gives_it_a_meaning() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("svc/a")).unwrap();
        fs::create_dir_all(at("far/deep")).unwrap();
        symlink(at("far/deep"), at("svc/link")).unwrap();
        for (path, expected) in [
            ("svc/a/../../far", "far"),
            ("./svc/./a", "svc/a"),
            ("svc/a/../none.yaml", "svc/none.yaml"),
            ("../x/y/..", "../x"),
            ("svc/link/../deep", "svc/link/../deep"),
        ] {
            let tidied = tidy(Path::new(path), folder.path());
            assert_eq!(tidied, Path::new(expected), "{path}");
            assert_eq!(tidied.as_os_str(), expected);
        }
    }

    #[test]
    fn only_regular_files_are_read_and_none_without_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        for path in [pipe.as_path(), Path::new("/dev/zero"), folder.path()] {
            let error = read_spec(path).unwrap_err().to_string();
            assert!(error.contains("no regular file"), "{error}");
        }
        let large = folder.path().join("large");
        File::create(&large)
            .unwrap()
            .set_len(MOST_TEXT + 1)
            .unwrap();
        assert_eq!(
            read_spec(&large).unwrap_err().kind(),
            ErrorKind::FileTooLarge
        );
    }
}
