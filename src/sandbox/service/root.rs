//! The root of a service: its name, its volumes, and whether it can be written to.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::sandbox::error::Setup;
use crate::sandbox::job::Job;
use crate::sandbox::mounts::{made_file, refuse_writes};
use crate::sandbox::new_root::{NewRoot, Place, path_of};
use crate::sandbox::order::ServiceRoot;
use crate::sandbox::service::RootMode;

/// Puts in place what a service has and a command of a build has not. With a read-only root each
/// volume is a mount of its own, so that closing the root leaves it open.
pub(crate) fn furnish(
    root: &mut NewRoot,
    scratch: &Path,
    job: &Job,
    service: &ServiceRoot,
) -> Result<(), Setup> {
    let name = format!("{}\n", job.hostname);
    made_file(root, scratch, "/etc/hostname", &name)?;
    for volume in &service.volumes {
        if volume.trim_matches('/').is_empty() {
            return Err(Setup::because(
                format!("make the volume {volume:?}"),
                "it is the whole root",
            ));
        }
        let place = root.place(volume, Place::Directory)?;
        if service.mode == RootMode::ReadOnly {
            rustix::mount::mount_bind(path_of(&place), path_of(&place))
                .map_err(Setup::of(format!("make the volume {volume}")))?;
        }
    }
    Ok(())
}

/// Refuses writes to the root from now on, if they shall be. The working directory must be there.
pub(crate) fn close_root(service: &ServiceRoot) -> Result<(), Setup> {
    if service.mode == RootMode::Writable {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).map_err(Setup::of("open the root"))?;
    refuse_writes(&root).map_err(Setup::of("make the root read-only"))
}
