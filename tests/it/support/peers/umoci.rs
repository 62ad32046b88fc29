//! umoci: unpacks an image of a layout directory into a root file system.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Skip, required};
use crate::support::process::run;

/// umoci; it keeps no state of its own.
#[derive(Debug)]
pub(crate) struct Umoci;

impl Umoci {
    pub(crate) fn start() -> Result<Umoci, Skip> {
        required("umoci").map(|_| Umoci)
    }

    /// Unpacks `layout:reference` into the new folder `bundle`; gives the root file system.
    #[track_caller]
    pub(crate) fn unpack(&self, layout: &Path, reference: &str, bundle: &Path) -> PathBuf {
        let mut command = Command::new("umoci");
        command.arg("unpack");
        if !rustix::process::geteuid().is_root() {
            command.arg("--rootless");
        }
        command
            .arg("--image")
            .arg(format!("{}:{reference}", layout.display()))
            .arg(bundle);
        run(&mut command).ok();
        bundle.join("rootfs")
    }
}
