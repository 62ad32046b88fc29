//! The overlay: the tree below, what the command writes above.
//!
//! In a scratch directory:
//!
//! ```text
//! lower0        a link to the materialized tree, or to the uppermost part of it
//! lower1        a link to what lies below that, and so on
//! state/upper   what the command changes; in tier C the whole tree
//! state/work    the file system's own
//! merged        the two as one: the command's root
//! ```
//!
//! Options hold paths, and paths may hold what separates options: so the mount is made inside the
//! directory, with these fixed names.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::sandbox::error::Setup;
use crate::sandbox::probe::{Footing, Upper};
use crate::sandbox::tier::Tier;

/// The root of the command in a scratch directory.
pub(crate) const MERGED: &str = "merged";
/// What it changed.
pub(crate) const UPPER: &str = "state/upper";
/// What it changes, and what the file system needs for it.
const STATE: &str = "state";
const WORK: &str = "state/work";
const LOWER: &str = "lower";

/// Options for namespaces with a user namespace: marks go to attributes that the user may set.
/// Without them the mount works, and removing a directory and making it again does not.
const USER_OPTIONS: [&str; 2] = ["userxattr,volatile", "userxattr"];
/// Options for root: every change is a whole file, whatever the machine's default is.
const ROOT_OPTIONS: [&str; 3] = [
    "index=off,redirect_dir=off,metacopy=off,volatile",
    "index=off,redirect_dir=off,metacopy=off",
    "index=off",
];

/// Mounts `lowers`, the uppermost first, with an empty upper directory at `scratch/merged`.
pub(crate) fn mount(scratch: &Path, lowers: &[PathBuf], footing: &Footing) -> Result<(), Setup> {
    make_directory(&scratch.join(STATE))?;
    if footing.upper == Upper::Memory {
        rustix::mount::mount(
            "tmpfs",
            scratch.join(STATE),
            "tmpfs",
            MountFlags::empty(),
            Some(c"mode=0755"),
        )
        .map_err(Setup::of("mount memory for what the command changes"))?;
    }
    for name in [UPPER, WORK, MERGED] {
        make_directory(&scratch.join(name))?;
    }
    let mut names = Vec::new();
    for (place, lower) in lowers.iter().enumerate() {
        let name = format!("{LOWER}{place}");
        let link = scratch.join(&name);
        symlink(lower, &link).map_err(Setup::of(format!("make {}", link.display())))?;
        names.push(name);
    }
    if let Some(uppermost) = lowers.first() {
        like(uppermost, &scratch.join(UPPER))?;
    }
    mount_here(scratch, footing.tier, &names.join(":"), UPPER, WORK, MERGED)
}

/// Mounts the writable copy of a bind: `scratch/state/NAME` takes what is written to `source`.
pub(crate) fn mount_copy(
    scratch: &Path,
    footing: &Footing,
    source: &Path,
    name: &str,
) -> Result<std::path::PathBuf, Setup> {
    let part = |part: &str| format!("{STATE}/{name}-{part}");
    for part in ["upper", "work", "merged"].map(part) {
        make_directory(&scratch.join(part))?;
    }
    let link = scratch.join(part("lower"));
    symlink(source, &link).map_err(Setup::of(format!("make {}", link.display())))?;
    like(source, &scratch.join(part("upper")))?;
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(part);
    mount_here(scratch, footing.tier, &lower, &upper, &work, &merged)?;
    Ok(scratch.join(merged))
}

/// Takes the overlay away, so that what lies above can be read and removed.
pub(crate) fn unmount(scratch: &Path) {
    // It goes with the namespace at the latest.
    let _ = rustix::mount::unmount(scratch.join(MERGED), UnmountFlags::DETACH);
}

fn mount_here(
    scratch: &Path,
    tier: Tier,
    lower: &str,
    upper: &str,
    work: &str,
    merged: &str,
) -> Result<(), Setup> {
    let options: &[&str] = match tier.has_user_namespace() {
        true => &USER_OPTIONS,
        false => &ROOT_OPTIONS,
    };
    rustix::process::chdir(scratch).map_err(Setup::of("enter the scratch directory"))?;
    let attempt = |options: &&str| {
        let text = format!("lowerdir={lower},upperdir={upper},workdir={work},{options}");
        let text = CString::new(text).map_err(|_| rustix::io::Errno::INVAL)?;
        // Device nodes that the command makes are for the image, not for the machine.
        let flags = MountFlags::NODEV;
        rustix::mount::mount("overlay", merged, "overlay", flags, Some(text.as_c_str()))
    };
    let mut outcome = Err(rustix::io::Errno::INVAL);
    for options in options {
        outcome = attempt(options);
        if outcome.is_ok() {
            break;
        }
    }
    rustix::process::chdir("/").map_err(Setup::of("leave the scratch directory"))?;
    outcome.map_err(Setup::of("mount the overlay"))
}

/// Gives the upper directory mode, owner and recorded owner of the tree's root: the overlay shows
/// the upper one's.
fn like(lower: &Path, upper: &Path) -> Result<(), Setup> {
    let action = || format!("make {} like the tree's root", upper.display());
    let metadata = fs::metadata(lower).map_err(Setup::of(format!("read {}", lower.display())))?;
    // In a user namespace with one id everything is that id's already.
    let _ = std::os::unix::fs::chown(upper, Some(metadata.uid()), Some(metadata.gid()));
    let mode = Permissions::from_mode(metadata.mode() & 0o7777);
    fs::set_permissions(upper, mode).map_err(Setup::of(action()))?;
    let mut owner = [0; 64];
    let attribute = "user.boxwright.owner";
    if let Ok(length) = rustix::fs::getxattr(lower, attribute, &mut owner[..]) {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(upper, attribute, &owner[..length], flags)
            .map_err(Setup::of(action()))?;
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), Setup> {
    fs::create_dir(path).map_err(Setup::of(format!("make {}", path.display())))
}
