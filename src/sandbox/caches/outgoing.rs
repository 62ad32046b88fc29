//! A cache is read: the outer process's part.
//!
//! Commands made what is in it, so names are only used in the open directory that holds them, and
//! no link is followed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::sandbox::caches::entry::{CacheEntry, CacheKind, DEEPEST};
use crate::sandbox::channel::send;
use crate::sandbox::error::Setup;
use crate::sandbox::order::Report;
use crate::sandbox::owner;
use crate::sandbox::rootfs::Ownership;
use crate::sandbox::tier::Tier;
use crate::sandbox::trees::ownership;
use crate::tree::LayerPath;

/// The kernel's own limit for the names of a file's attributes, and for one value.
const LONGEST: usize = 64 << 10;

/// Tells the builder of every file. Gives what a person should know.
pub(crate) fn pack_here(
    folder: &Path,
    tier: Tier,
    builder: &UnixStream,
) -> Result<Vec<String>, Setup> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(folder, flags, Mode::empty());
    let opened = opened.map_err(Setup::of(format!("open {}", folder.display())))?;
    let stat = rustix::fs::fstat(&opened).map_err(Setup::of("look at the cache"))?;
    let mut outgoing = Outgoing {
        folder,
        ownership: ownership(tier),
        builder,
        names: HashMap::new(),
        left_out: 0,
        buffer: vec![0; LONGEST],
    };
    outgoing.directory(&opened, &LayerPath::root(), &stat, 0)?;
    Ok(match outgoing.left_out {
        0 => Vec::new(),
        count => vec![format!(
            "{count} sockets, pipes and devices in it were left out"
        )],
    })
}

struct Outgoing<'a> {
    folder: &'a Path,
    ownership: Ownership,
    builder: &'a UnixStream,
    /// The first name of each file that has more to come, and how many.
    names: HashMap<(u64, u64), (LayerPath, usize)>,
    left_out: u64,
    buffer: Vec<u8>,
}

impl Outgoing<'_> {
    fn directory(
        &mut self,
        opened: &OwnedFd,
        path: &LayerPath,
        stat: &Stat,
        depth: usize,
    ) -> Result<(), Setup> {
        if depth > DEEPEST {
            return Err(self.failed("follow so many directories down to", path)(
                Errno::NAMETOOLONG,
            ));
        }
        self.tell(path, CacheKind::Directory, stat, Some(opened.as_fd()))?;
        let mut names = Vec::new();
        let listed = rustix::fs::Dir::read_from(opened).map_err(self.failed("list", path))?;
        for entry in listed {
            let entry = entry.map_err(self.failed("list", path))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        for name in names {
            let below = path.join(&name).map_err(|error| {
                let action = format!(
                    "read {}",
                    format_args!("{}/{}", self.shown(path), name.escape_ascii())
                );
                Setup::because(action, error.to_string())
            })?;
            self.entry(opened, OsStr::from_bytes(&name), &below, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        directory: &OwnedFd,
        name: &OsStr,
        path: &LayerPath,
        depth: usize,
    ) -> Result<(), Setup> {
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.failed("look at", path))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |flags| rustix::fs::openat(directory, name, flags, Mode::empty());
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::Directory => {
                let opened = open(flags | OFlags::DIRECTORY).map_err(self.failed("open", path))?;
                self.directory(&opened, path, &stat, depth + 1)
            }
            FileType::RegularFile => {
                let opened = File::from(open(flags).map_err(self.failed("open", path))?);
                if self.link(path, &stat, opened.as_fd())? {
                    return Ok(());
                }
                let size = stat.st_size.cast_unsigned();
                self.tell(path, CacheKind::File(size), &stat, Some(opened.as_fd()))?;
                self.content(opened, path, size)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new());
                let target = target.map_err(self.failed("read the link", path))?;
                let kind = CacheKind::Symlink(target.into_bytes());
                self.tell(path, kind, &stat, None)
            }
            _ => {
                self.left_out += 1;
                Ok(())
            }
        }
    }

    /// Tells of a further name of a file that was told; says whether it was one.
    fn link(
        &mut self,
        path: &LayerPath,
        stat: &Stat,
        opened: BorrowedFd<'_>,
    ) -> Result<bool, Setup> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let inode = (stat.st_dev, stat.st_ino);
        let Some((first, left)) = self.names.get_mut(&inode) else {
            let names = usize::try_from(stat.st_nlink).unwrap_or(usize::MAX);
            let more = names.saturating_sub(1);
            self.names.insert(inode, (path.clone(), more));
            return Ok(false);
        };
        let kind = CacheKind::HardLink(first.clone());
        *left -= 1;
        if *left == 0 {
            self.names.remove(&inode);
        }
        self.tell(path, kind, stat, Some(opened))?;
        Ok(true)
    }

    fn tell(
        &mut self,
        path: &LayerPath,
        kind: CacheKind,
        stat: &Stat,
        opened: Option<BorrowedFd<'_>>,
    ) -> Result<(), Setup> {
        let (mut xattrs, recorded) = match opened {
            Some(opened) => self
                .attributes(opened)
                .map_err(self.failed("read the attributes of", path))?,
            None => (Vec::new(), None),
        };
        if matches!(kind, CacheKind::HardLink(_)) {
            // The first name has brought them.
            xattrs.clear();
        }
        let (uid, gid) = self.owner(path, stat, recorded)?;
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let entry = CacheEntry {
            path: path.clone(),
            kind,
            mode: (stat.st_mode & 0o7777) as u16,
            uid,
            gid,
            modified: (stat.st_mtime, nanos),
            xattrs,
        };
        send(self.builder, &Report::Entry(Box::new(entry)))
            .map_err(Setup::of("tell what is in the cache"))
    }

    /// The owner that commands see. A cache may have been written in tier B and be read in another.
    fn owner(
        &self,
        path: &LayerPath,
        stat: &Stat,
        recorded: Option<(u32, u32)>,
    ) -> Result<(u32, u32), Setup> {
        match (self.ownership, (stat.st_uid, stat.st_gid)) {
            (Ownership::Recorded, (uid, _)) if uid != 0 => {
                let action = format!("read {}", self.shown(path));
                let cause = "it belongs to an id that this tier does not have; use the tier and the user that made it (--sandbox a)";
                Err(Setup::because(action, cause))
            }
            (Ownership::Recorded, _) | (Ownership::Real, (0, 0)) => Ok(recorded.unwrap_or((0, 0))),
            (Ownership::Real, owner) => Ok(owner),
        }
    }

    /// `user.*` attributes but the owner's, and the owner that is recorded.
    #[expect(clippy::type_complexity, reason = "names with values, and an owner")]
    fn attributes(
        &mut self,
        opened: BorrowedFd<'_>,
    ) -> Result<(Vec<(Vec<u8>, Vec<u8>)>, Option<(u32, u32)>), Errno> {
        let length = match rustix::fs::flistxattr(opened, &mut self.buffer[..]) {
            Err(Errno::NOTSUP) => 0,
            length => length?,
        };
        let names = self.buffer[..length].to_vec();
        let (mut xattrs, mut recorded) = (Vec::new(), None);
        for name in names.split(|byte| *byte == 0) {
            // A record of a tar ends its key at the first `=`.
            if !name.starts_with(b"user.") || name.contains(&b'=') {
                continue;
            }
            let text = OsStr::from_bytes(name);
            let length = match rustix::fs::fgetxattr(opened, text, &mut self.buffer[..]) {
                Err(Errno::NODATA) => continue,
                length => length?,
            };
            let value = &self.buffer[..length];
            match name == owner::ATTRIBUTE.as_bytes() {
                true => recorded = owner::parse(value),
                false => xattrs.push((name.to_vec(), value.to_vec())),
            }
        }
        xattrs.sort_unstable();
        Ok((xattrs, recorded))
    }

    /// Hands exactly `size` bytes over: what was told must come. What cannot be read comes as
    /// zeros, and the failure behind them.
    fn content(&mut self, mut file: File, path: &LayerPath, size: u64) -> Result<(), Setup> {
        let (mut left, mut failure) = (size, None);
        while left > 0 {
            let most = (self.buffer.len() as u64).min(left) as usize;
            let part = &mut self.buffer[..most];
            let count = match failure {
                None => match file.read(part) {
                    Ok(0) => {
                        failure = Some(Errno::STALE.into());
                        0
                    }
                    Ok(count) => count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        failure = Some(error);
                        0
                    }
                },
                Some(_) => {
                    part.fill(0);
                    most
                }
            };
            let written = self.builder.write_all(&self.buffer[..count]);
            written.map_err(Setup::of("tell what is in the cache"))?;
            left -= count as u64;
        }
        match failure {
            None => Ok(()),
            Some(error) => Err(self.failed("read", path)(error)),
        }
    }

    fn shown(&self, path: &LayerPath) -> String {
        self.folder.join(path.as_os_str()).display().to_string()
    }

    fn failed<E: Into<std::io::Error>>(
        &self,
        action: &str,
        path: &LayerPath,
    ) -> impl FnOnce(E) -> Setup + use<E> {
        Setup::of(format!("{action} {}", self.shown(path)))
    }
}
