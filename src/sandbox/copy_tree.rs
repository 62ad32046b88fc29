//! A tree copied with all that belongs to it: tier C has no overlay, so a command gets a tree of
//! its own.
//!
//! Both trees are ours: nobody changes them meanwhile, and links are copied, never followed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// Copies what is at `source` to `target`, which must not exist.
pub(crate) fn copy_tree(source: &Path, target: &Path) -> io::Result<()> {
    let mut copy = Copy {
        hard_links: HashMap::new(),
    };
    let found = fs::symlink_metadata(source)?;
    copy.node(source, target, &found)
}

struct Copy {
    /// Where the first name of a file with several went.
    hard_links: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn node(&mut self, source: &Path, target: &Path, found: &fs::Metadata) -> io::Result<()> {
        let kind = found.file_type();
        if !kind.is_dir() && found.nlink() > 1 {
            let inode = (found.dev(), found.ino());
            if let Some(first) = self.hard_links.get(&inode) {
                return fs::hard_link(first, target);
            }
            self.hard_links.insert(inode, target.to_owned());
        }
        if kind.is_dir() {
            fs::create_dir(target)?;
            for entry in fs::read_dir(source)? {
                let entry = entry?;
                let (from, to) = (entry.path(), target.join(entry.file_name()));
                self.node(&from, &to, &entry.metadata()?)?;
            }
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(source)?, target)?;
        } else if kind.is_file() {
            fs::copy(source, target)?;
        } else if kind.is_socket() {
            // Nobody listens on a copy.
            return Ok(());
        } else {
            let node = FileType::from_raw_mode(found.mode());
            let mode = Mode::from_raw_mode(found.mode() & 0o7777);
            rustix::fs::mknodat(CWD, target, node, mode, found.rdev())?;
        }
        attributes(source, target, found)
    }
}

/// Owner before mode, for changing the owner takes setuid away; capabilities after the owner for
/// the same reason; times last.
fn attributes(source: &Path, target: &Path, found: &fs::Metadata) -> io::Result<()> {
    std::os::unix::fs::lchown(target, Some(found.uid()), Some(found.gid()))?;
    if !found.file_type().is_symlink() {
        fs::set_permissions(target, found.permissions())?;
    }
    xattrs(source, target)?;
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(found.atime(), found.atime_nsec()),
        last_modification: time(found.mtime(), found.mtime_nsec()),
    };
    rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn xattrs(source: &Path, target: &Path) -> io::Result<()> {
    /// The kernel's own limits for the names of a file and for one value.
    const MOST: usize = 64 << 10;
    let mut names = vec![0; MOST];
    let length = match rustix::fs::llistxattr(source, &mut names[..]) {
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        length => length?,
    };
    let mut value = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() {
            continue;
        }
        value.resize(MOST, 0);
        let name = std::ffi::OsStr::from_bytes(name);
        let length = rustix::fs::lgetxattr(source, name, &mut value[..])?;
        match rustix::fs::lsetxattr(target, name, &value[..length], XattrFlags::empty()) {
            // Labels of the machine's own, which a new file gets by itself.
            Err(rustix::io::Errno::PERM | rustix::io::Errno::NOTSUP) => {}
            done => done?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_copy_is_like_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir_all(source.join("dir")).unwrap();
        fs::write(source.join("dir/file"), "text").unwrap();
        fs::hard_link(source.join("dir/file"), source.join("again")).unwrap();
        symlink("/etc", source.join("link")).unwrap();
        let mode = |name: &str, mode| {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(source.join(name), mode).unwrap();
        };
        mode("dir/file", 0o4750);
        mode("dir", 0o1711);
        let attribute =
            rustix::fs::setxattr(source.join("again"), "user.a", b"1", XattrFlags::empty());
        copy_tree(&source, &target).unwrap();
        let found = |name: &str| fs::symlink_metadata(target.join(name)).unwrap();
        assert_eq!(found("dir/file").mode(), 0o104_750);
        assert_eq!(found("dir").mode(), 0o41711);
        assert_eq!(found("dir/file").ino(), found("again").ino());
        assert_eq!(
            fs::read_link(target.join("link")).unwrap(),
            Path::new("/etc")
        );
        let before = fs::metadata(source.join("dir")).unwrap();
        assert_eq!(found("dir").mtime_nsec(), before.mtime_nsec());
        if attribute.is_ok() {
            let mut value = [0; 8];
            let length = rustix::fs::getxattr(target.join("dir/file"), "user.a", &mut value[..]);
            assert_eq!(&value[..length.unwrap()], b"1");
        }
    }
}
