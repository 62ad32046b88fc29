//! BW009, BW010: files that everybody may write, and programs that give rights away.

use crate::explain::check::code::Code;
use crate::explain::check::finding::{Below, Finding, Findings};
use crate::tree::{Entry, LayerPath, Node};

const OTHERS_MAY_WRITE: u16 = 0o002;
const STICKY: u16 = 0o1000;
const SETUID: u16 = 0o4000;
const SETGID: u16 = 0o2000;
const EXECUTABLE: u16 = 0o111;

/// Applies the rules to one entry.
pub(crate) fn judge(path: &LayerPath, entry: &Entry, findings: &mut Findings) {
    let (size, mode) = match &entry.node {
        Node::File(file) => (file.content.size(), entry.mode),
        Node::Directory => (0, entry.mode),
        Node::Symlink(_) | Node::CharDevice(..) | Node::BlockDevice(..) | Node::Fifo => return,
    };
    let files = u64::from(!entry.is_directory());
    let open_directory = entry.is_directory() && mode & STICKY == 0;
    if mode & OTHERS_MAY_WRITE != 0 && (open_directory || !entry.is_directory()) {
        let what = if open_directory { "directory" } else { "file" };
        let message = format!("a {what} with mode {mode:04o}");
        findings.push(
            Finding::at(Code::WorldWritable, path, message).sized(files, size),
            Below::Added,
        );
    }
    if entry.is_directory() || mode & EXECUTABLE == 0 {
        return;
    }
    if let Some(message) = given_rights(entry) {
        findings.push(
            Finding::at(Code::Privileged, path, message).sized(1, size),
            Below::Counted,
        );
    }
}

fn given_rights(entry: &Entry) -> Option<String> {
    let (mode, uid, gid) = (entry.mode, entry.uid, entry.gid);
    match (mode & SETUID != 0, mode & SETGID != 0) {
        (true, true) => Some(format!("runs as uid {uid} and gid {gid}, whoever calls it")),
        (true, false) => Some(format!("runs as uid {uid}, whoever calls it")),
        (false, true) => Some(format!("runs as gid {gid}, whoever calls it")),
        (false, false) => entry
            .xattrs
            .value(b"security.capability")
            .map(|_| "has file capabilities, whoever calls it".to_owned()),
    }
}
