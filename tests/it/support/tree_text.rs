//! File trees written as text, one entry a line:
//!
//! ```text
//! dir 0755 app
//! file 0644 app/main.js console.log(1)\n
//! sparse 0600 app/disk 9000000000
//! link app/current -> main.js
//! hardlink app/again -> app/main.js
//! fifo 0644 app/pipe
//! xattr app/main.js user.note hello
//! owner app/main.js 1000:1000
//! time app 1700000000
//! ```
//!
//! Parents are created as needed. Names and contents know the escapes `\n`, `\t`, `\\` and `\xNN`;
//! a space in a name is `\x20`. A file's content is the rest of its line, without a line end of
//! its own. Entries are made in the order of the lines, so a `time` of a directory comes last.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps, XattrFlags};

/// Writes the tree that `text` describes below `root`; panics with the line that fails.
#[track_caller]
pub(crate) fn write(root: &Path, text: &str) {
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        entry(root, line)
            .unwrap_or_else(|cause| panic!("tree line {}: {line:?}: {cause}", number + 1));
    }
}

fn entry(root: &Path, line: &str) -> std::io::Result<()> {
    let (kind, rest) = word(line);
    match kind {
        "dir" | "file" | "sparse" | "fifo" => {
            let (mode, rest) = word(rest);
            let (path, content) = word(rest);
            let mode = u32::from_str_radix(mode, 8).expect("an octal mode");
            inode(kind, mode, &place(root, path)?, content)
        }
        "link" => {
            let (path, target) = rest.split_once(" -> ").expect("link PATH -> TARGET");
            symlink(name(target), place(root, path)?)
        }
        "hardlink" => {
            let (path, target) = rest.split_once(" -> ").expect("hardlink PATH -> TARGET");
            fs::hard_link(root.join(name(target)), place(root, path)?)
        }
        "xattr" => {
            let (path, rest) = word(rest);
            let (key, value) = word(rest);
            let (path, value) = (root.join(name(path)), unescape(value));
            rustix::fs::lsetxattr(path, key, &value, XattrFlags::empty()).map_err(Into::into)
        }
        "owner" => {
            let (path, owner) = word(rest);
            let (uid, gid) = owner.split_once(':').expect("owner PATH UID:GID");
            let number = |id: &str| Some(id.parse().expect("a numeric id"));
            lchown(root.join(name(path)), number(uid), number(gid))
        }
        "time" => {
            let (path, seconds) = word(rest);
            set_time(&root.join(name(path)), seconds.parse().expect("seconds"))
        }
        other => panic!("unknown kind of entry {other:?}"),
    }
}

fn inode(kind: &str, mode: u32, path: &Path, content: &str) -> std::io::Result<()> {
    match kind {
        "dir" => fs::create_dir_all(path)?,
        "file" => fs::write(path, unescape(content))?,
        "sparse" => File::create(path)?.set_len(content.parse().expect("a size"))?,
        _ => rustix::fs::mkfifoat(CWD, path, Mode::empty())?,
    }
    // Set afterwards, because the umask of the caller must not matter.
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Sets the modification time, of a symbolic link itself and not of what it points at.
pub(crate) fn set_time(path: &Path, seconds: i64) -> std::io::Result<()> {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(Into::into)
}

/// The path of a new entry, its parents created.
fn place(root: &Path, path: &str) -> std::io::Result<PathBuf> {
    let path = root.join(name(path));
    fs::create_dir_all(path.parent().expect("entries lie below the root"))?;
    Ok(path)
}

fn word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

fn name(text: &str) -> OsString {
    OsString::from_vec(unescape(text))
}

/// The bytes of a text with `\n`, `\t`, `\\` and `\xNN`.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, after) = match (first, tail) {
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [b't', after @ ..]) => (b'\t', after),
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("two hex digits");
                (
                    u8::from_str_radix(digits, 16).expect("two hex digits"),
                    after,
                )
            }
            (b'\\', _) => panic!("unknown escape in {text:?}"),
            (plain, after) => (*plain, after),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}
