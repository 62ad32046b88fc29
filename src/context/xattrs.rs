//! Extended attributes of files on disk, as far as they belong to an image.

use std::ffi::{CString, OsStr};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::tree::{Bytes, Xattrs};

/// The longest list of names and the longest value that Linux gives out.
const LONGEST: usize = 64 * 1024;

/// The attributes of `name` in an open directory. Those of a symbolic link itself are of no use to
/// an image; the caller does not ask for them.
///
/// The system has no call for this that starts at a directory descriptor before Linux 6.13, so the
/// path leads through `/proc`, and only where that is not mounted through `on_disk`: nobody can put
/// a link in the way, and long paths stay short.
pub(crate) fn read(
    directory: &OwnedFd,
    name: &[u8],
    on_disk: impl Fn() -> PathBuf,
) -> Result<Xattrs, Errno> {
    let mut through = Vec::with_capacity(64);
    // Writing into a vector does not fail.
    let _ = write!(through, "/proc/self/fd/{}/", directory.as_raw_fd());
    through.extend_from_slice(name);
    let path = Path::new(OsStr::from_bytes(&through));
    match names(path) {
        Ok(names) if names.is_empty() => Ok(Xattrs::default()),
        Ok(names) => values(path, &names),
        Err(Errno::NOENT) => {
            let path = on_disk();
            values(&path, &names(&path)?)
        }
        Err(error) => Err(error),
    }
}

/// The names, each with a NUL behind it.
fn names(path: &Path) -> Result<Vec<u8>, Errno> {
    let mut few = [0u8; 1024];
    match rustix::fs::llistxattr(path, &mut few[..]) {
        Ok(length) => Ok(few[..length].to_vec()),
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(Errno::RANGE) => {
            let mut many = vec![0u8; LONGEST];
            let length = rustix::fs::llistxattr(path, &mut many[..])?;
            many.truncate(length);
            Ok(many)
        }
        Err(error) => Err(error),
    }
}

fn values(path: &Path, names: &[u8]) -> Result<Xattrs, Errno> {
    let mut attributes: Vec<(Bytes, Bytes)> = Vec::new();
    let names = names.split(|&byte| byte == 0);
    for name in names.filter(|name| belongs_to_image(name)) {
        let mut value = vec![0u8; LONGEST];
        let text = CString::new(name).map_err(|_| Errno::INVAL)?;
        match rustix::fs::lgetxattr(path, &text, &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA) => continue,
            // Whoever may not read a file's attributes may not read the file, and will be told so
            // if its content is wanted.
            Err(Errno::ACCESS) => continue,
            Err(error) => return Err(error),
        }
        if name == b"security.capability" {
            value = portable_capability(value);
        }
        attributes.push((name.into(), value.into()));
    }
    Ok(attributes.into_iter().collect())
}

/// Not the labels and notes of this machine.
fn belongs_to_image(name: &[u8]) -> bool {
    const OF_TOOLS: [&[u8]; 3] = [b"user.overlay.", b"user.containers.", b"user.boxwright."];
    name == b"security.capability"
        || (name.starts_with(b"user.") && !OF_TOOLS.iter().any(|prefix| name.starts_with(prefix)))
}

/// A capability that was set in a user namespace names the namespace's root (version 3); in an
/// image it must not (version 2). `linux/capability.h`.
fn portable_capability(mut value: Vec<u8>) -> Vec<u8> {
    const VERSION_3: u8 = 3;
    if value.len() == 24 && value[3] == VERSION_3 {
        value.truncate(20);
        value[3] = 2;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, XattrFlags};

    #[test]
    fn any_number_of_attributes_is_read() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("f");
        std::fs::write(&path, "x").unwrap();
        let set = |name: &str| rustix::fs::lsetxattr(&path, name, b"v", XattrFlags::empty());
        let mut count = 0;
        // A file system may have room for few; the list should outgrow the small buffer.
        for number in 0..24 {
            let name = format!("user.{}{number}", "n".repeat(80));
            count += usize::from(set(&name).is_ok());
        }
        let directory = rustix::fs::open(scratch.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        let read = read(&directory, b"f", || path.clone()).unwrap();
        assert_eq!(read.iter().count(), count);
    }

    #[test]
    fn capabilities_lose_their_namespace() {
        let version_3: Vec<u8> = [1, 0, 0, 3]
            .into_iter()
            .chain(0..16)
            .chain([0xe9, 3, 0, 0])
            .collect();
        let portable = portable_capability(version_3);
        assert_eq!((portable.len(), portable[3]), (20, 2));
        let version_2: Vec<u8> = [1, 0, 0, 2].into_iter().chain(0..16).collect();
        assert_eq!(portable_capability(version_2.clone()), version_2);
    }
}
