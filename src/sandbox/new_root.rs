//! The root that the command will have, seen from outside.
//!
//! The tree is not trusted: `/etc` may be a link to `/` of the machine. Every path is resolved by
//! the kernel as if the tree were the root already (`openat2`, `RESOLVE_IN_ROOT`), and what is
//! found is used by its open file, never by its path.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::sandbox::error::Setup;

/// Links followed before giving up, as the kernel does.
const MAX_LINKS: usize = 40;

/// A directory that is about to become the root.
#[derive(Debug)]
pub(crate) struct NewRoot {
    root: OwnedFd,
    made: Vec<String>,
}

/// What a place to mount on must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Directory,
    File,
}

impl NewRoot {
    pub(crate) fn open(path: &Path) -> Result<NewRoot, Setup> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(Setup::of(format!("open {}", path.display())))?;
        Ok(NewRoot {
            root,
            made: Vec::new(),
        })
    }

    /// What had to be made so far; from now on it counts as there.
    pub(crate) fn take_made(&mut self) -> Vec<String> {
        std::mem::take(&mut self.made)
    }

    /// The place at `path`, made with its parents if it is missing.
    pub(crate) fn place(&mut self, path: &str, place: Place) -> Result<OwnedFd, Setup> {
        let mut path = path.trim_matches('/').to_owned();
        for _ in 0..MAX_LINKS {
            match self.try_place(&path, place) {
                Ok(found) => return Ok(found),
                Err(Missing::Behind(target)) => path = target,
                Err(Missing::Never(errno)) => {
                    return Err(Setup::of(format!("make /{path} in the tree"))(errno));
                }
            }
        }
        Err(Setup::of(format!("make /{path} in the tree"))(Errno::LOOP))
    }

    fn try_place(&mut self, path: &str, place: Place) -> Result<OwnedFd, Missing> {
        match self.resolve(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            found => return Ok(found?),
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let mut so_far = String::new();
        for (at, part) in parts.iter().enumerate() {
            let parent = self.resolve(&so_far, OFlags::PATH | OFlags::DIRECTORY)?;
            let path = format!("{so_far}/{part}");
            if let Err(Errno::NOENT) = self.resolve(&path, OFlags::PATH) {
                if let Ok(target) = rustix::fs::readlinkat(&parent, *part, Vec::new()) {
                    // A link to nothing: what it points at is made.
                    let target = target.to_string_lossy();
                    let rest = parts[at + 1..].join("/");
                    return Err(Missing::Behind(match target.starts_with('/') {
                        true => format!("{target}/{rest}"),
                        false => format!("{so_far}/{target}/{rest}"),
                    }));
                }
                match at + 1 == parts.len() && place == Place::File {
                    true => {
                        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                        let mode = Mode::from_raw_mode(0o644);
                        rustix::fs::openat(&parent, *part, flags | OFlags::WRONLY, mode)?;
                    }
                    false => {
                        rustix::fs::mkdirat(&parent, *part, Mode::from_raw_mode(0o755))?;
                    }
                }
                self.made.push(path.clone());
            }
            so_far = path;
        }
        Ok(self.resolve(&so_far, OFlags::PATH)?)
    }

    /// Opens what `path` means inside.
    pub(crate) fn resolve(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = match path.trim_start_matches('/') {
            "" => ".",
            path => path,
        };
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(
            &self.root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            how,
        )
    }

    /// Takes away what was made to mount on, if nothing was put into it.
    pub(crate) fn remove(&self, made: &[String]) {
        for path in made.iter().rev() {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let Ok(parent) = self.resolve(parent, OFlags::PATH | OFlags::DIRECTORY) else {
                continue;
            };
            let Ok(found) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            // What the command filled in the meantime is its own.
            let _ = match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR),
                FileType::RegularFile if found.st_size == 0 => {
                    rustix::fs::unlinkat(&parent, name, AtFlags::empty())
                }
                _ => Ok(()),
            };
        }
    }
}

/// The path by which mount(2) reaches an open file, wherever it lies.
pub(crate) fn path_of(file: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
}

/// Why a place is not there.
enum Missing {
    /// It is behind a link to this path, which is missing.
    Behind(String),
    /// It cannot be made.
    Never(Errno),
}

impl From<Errno> for Missing {
    fn from(errno: Errno) -> Missing {
        Missing::Never(errno)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn hostile_links_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        let inside = folder.path().join("inside");
        fs::create_dir(&outside).unwrap();
        fs::create_dir(&inside).unwrap();
        symlink(&outside, inside.join("etc")).unwrap();
        symlink("../../../../outside", inside.join("run")).unwrap();
        symlink("loop", inside.join("loop")).unwrap();
        let mut root = NewRoot::open(&inside).unwrap();
        root.place("/etc/resolv.conf", Place::File).unwrap();
        root.place("/run/a/b", Place::Directory).unwrap();
        root.place("/loop/a", Place::Directory).unwrap_err();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        let made = root.made.clone();
        assert!(
            made.iter().any(|path| path.ends_with("/outside/a/b")),
            "{made:?}"
        );
        root.remove(&made);
        let left: Vec<_> = fs::read_dir(&inside)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left.len(), 3, "{left:?}");
    }

    #[test]
    fn what_is_there_is_taken_and_what_was_filled_stays() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("proc")).unwrap();
        let mut root = NewRoot::open(folder.path()).unwrap();
        root.place("/proc", Place::Directory).unwrap();
        root.place("/run/secrets/a", Place::File).unwrap();
        assert_eq!(root.made, ["/run", "/run/secrets", "/run/secrets/a"]);
        fs::write(folder.path().join("run/pid"), "1").unwrap();
        let made = root.made.clone();
        root.remove(&made);
        assert!(!folder.path().join("run/secrets").exists());
        assert!(folder.path().join("run/pid").exists());
        assert!(folder.path().join("proc").exists());
    }
}
