//! Recorded owners: who owns a file where all files belong to one user.

use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The attribute with the true owner, as `UID:GID`. overlay carries it along when it copies a file
/// up. Without it a file belongs to root.
pub(crate) const ATTRIBUTE: &str = "user.boxwright.owner";

/// What the attribute says of a new file that was given to root: the owner that its maker saw of
/// another file, perhaps, for with one id all files look like root's.
pub(crate) const AS_SEEN: (u32, u32) = (0, 0);

/// Notes that a file without a recorded owner was given to root.
pub(crate) fn record_as_seen(file: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fsetxattr(file, ATTRIBUTE, b"0:0", XattrFlags::empty())
}

/// Notes the owner of an open file or directory.
pub(crate) fn record(file: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<(), Errno> {
    if (uid, gid) == (0, 0) {
        return match rustix::fs::fremovexattr(file, ATTRIBUTE) {
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
            result => result,
        };
    }
    let text = format!("{uid}:{gid}");
    rustix::fs::fsetxattr(file, ATTRIBUTE, text.as_bytes(), XattrFlags::empty())
}

/// The owner that an attribute's value names. A command may have written anything there.
pub(crate) fn parse(value: &[u8]) -> Option<(u32, u32)> {
    let (uid, gid) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_numbers_are_an_owner() {
        assert_eq!(parse(b"33:4"), Some((33, 4)));
        for wrong in [
            &b""[..],
            b"33",
            b"33:",
            b":4",
            b"-1:0",
            b"33:4:5",
            b"4294967296:0",
            b"\xff:1",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
