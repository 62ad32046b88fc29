//! A file system in memory, for as long as it is wanted.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) struct Mount(pub(crate) PathBuf);

impl Mount {
    /// Mounts one, or says that the test is skipped.
    pub(crate) fn new(kind: &str, options: &str, at: &Path) -> Option<Mount> {
        let mut mount = Command::new("mount");
        mount.args(["-t", kind, "-o", options, kind]).arg(at);
        let status = mount.stderr(Stdio::null()).status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Mount(at.to_owned()));
        }
        eprintln!("skipped: mounting a {kind} needs privilege");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
