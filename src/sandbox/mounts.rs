//! What the command sees beside its tree: `/proc`, `/sys`, `/dev`, files of the machine, and what
//! the job mounts.
//!
//! The OCI runtime spec's defaults for Linux (`config-linux.md`), but for what the tier cannot
//! have: without the right to mount a `/proc` of its own the command sees the builder's.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::mount::MountFlags;

use crate::sandbox::error::Setup;
use crate::sandbox::job::{Job, Mount, MountKind, Network, RunUser, Secret, Writes};
use crate::sandbox::new_root::{NewRoot, Place, path_of};
use crate::sandbox::overlay;
use crate::sandbox::probe::{Footing, Proc};
use crate::sandbox::tier::Tier;

/// The devices that every command may expect.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links in `/dev`, with what they point at.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// What of `/proc` real root may read and not write: they steer the machine.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// What of `/proc` real root must not see: the machine's memory and keys.
const HIDDEN: [&str; 5] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
];

const QUIET: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// Mounts what every command has.
pub(crate) fn system(
    root: &mut NewRoot,
    footing: &Footing,
    job: Option<&Job>,
) -> Result<(), Setup> {
    proc(root, footing)?;
    sys(root, footing, job.map_or(Network::Host, |job| job.network))?;
    dev(root)?;
    if footing.tier == Tier::Root {
        for path in READ_ONLY {
            if let Ok(place) = root.resolve(path, OFlags::PATH) {
                bind(
                    &path_of(&place),
                    root,
                    path,
                    Place::Directory,
                    Writes::Refused,
                )?;
            }
        }
        for path in HIDDEN {
            if root.resolve(path, OFlags::PATH).is_ok() {
                bind(
                    Path::new("/dev/null"),
                    root,
                    path,
                    Place::File,
                    Writes::Refused,
                )?;
            }
        }
    }
    Ok(())
}

/// Mounts what the job asks for.
pub(crate) fn job(
    root: &mut NewRoot,
    footing: &Footing,
    scratch: &Path,
    job: &Job,
) -> Result<(), Setup> {
    host_files(root, scratch, job)?;
    for (number, mount) in job.mounts.iter().enumerate() {
        one(root, footing, scratch, mount, number, &job.user)?;
    }
    Ok(())
}

fn proc(root: &mut NewRoot, footing: &Footing) -> Result<(), Setup> {
    let place = root.place("/proc", Place::Directory)?;
    match footing.proc {
        Proc::Own => rustix::mount::mount("proc", path_of(&place), "proc", QUIET, None),
        Proc::Shared => rustix::mount::mount_bind_recursive("/proc", path_of(&place)),
    }
    .map_err(Setup::of("mount /proc"))
}

/// A `/sys` of its own needs a network of its own, or root; else the command sees the machine's,
/// which the user's rights protect.
fn sys(root: &mut NewRoot, footing: &Footing, network: Network) -> Result<(), Setup> {
    let place = root.place("/sys", Place::Directory)?;
    let flags = QUIET | MountFlags::RDONLY;
    if footing.tier == Tier::Root || network == Network::None {
        let own = rustix::mount::mount("sysfs", path_of(&place), "sysfs", flags, None);
        if own.is_ok() {
            return Ok(());
        }
    }
    rustix::mount::mount_bind_recursive("/sys", path_of(&place)).map_err(Setup::of("mount /sys"))
}

fn dev(root: &mut NewRoot) -> Result<(), Setup> {
    let tmpfs = |place: &OwnedFd, options| {
        let flags = MountFlags::NOSUID;
        rustix::mount::mount("tmpfs", path_of(place), "tmpfs", flags, Some(options))
    };
    let place = root.place("/dev", Place::Directory)?;
    tmpfs(&place, c"mode=0755,size=65536k").map_err(Setup::of("mount /dev"))?;
    let dev = root
        .resolve("/dev", OFlags::PATH | OFlags::DIRECTORY)
        .map_err(Setup::of("open /dev"))?;
    for name in DEVICES {
        let source = format!("/dev/{name}");
        if !Path::new(&source).exists() {
            continue;
        }
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dev, name, flags, Mode::from_raw_mode(0o666));
        let file = file.map_err(Setup::of(format!("make {source}")))?;
        rustix::mount::mount_bind(&source, path_of(&file))
            .map_err(Setup::of(format!("mount {source}")))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &dev, name)
            .map_err(Setup::of(format!("make /dev/{name}")))?;
    }
    let directory = |name: &str| {
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&dev, name, flags, Mode::empty())
    };
    let shm = directory("shm").map_err(Setup::of("make /dev/shm"))?;
    tmpfs(&shm, c"mode=1777,size=65536k").map_err(Setup::of("mount /dev/shm"))?;
    let pts = directory("pts").map_err(Setup::of("make /dev/pts"))?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let options = c"newinstance,ptmxmode=0666,mode=0620";
    rustix::mount::mount("devpts", path_of(&pts), "devpts", flags, Some(options))
        .map_err(Setup::of("mount /dev/pts"))
}

/// The machine's names and resolvers, and with no network only the command's own name.
fn host_files(root: &mut NewRoot, scratch: &Path, job: &Job) -> Result<(), Setup> {
    let name = &job.hostname;
    if job.network == Network::None {
        let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{name}\n");
        return made_file(root, scratch, "/etc/hosts", &hosts);
    }
    for file in &job.host_files {
        let Some(target) = file.to_str().filter(|_| file.exists()) else {
            continue;
        };
        bind(file, root, target, Place::File, Writes::Refused)?;
    }
    Ok(())
}

/// Shows a file with this text.
pub(crate) fn made_file(
    root: &mut NewRoot,
    scratch: &Path,
    target: &str,
    text: &str,
) -> Result<(), Setup> {
    let source = scratch.join(target.replace('/', "-"));
    fs::write(&source, text).map_err(Setup::of(format!("write {}", source.display())))?;
    bind(&source, root, target, Place::File, Writes::Refused)
}

fn one(
    root: &mut NewRoot,
    footing: &Footing,
    scratch: &Path,
    mount: &Mount,
    number: usize,
    user: &RunUser,
) -> Result<(), Setup> {
    let target = mount.target.as_str();
    match &mount.kind {
        MountKind::Path { source, writes } => {
            let metadata = fs::metadata(source).map_err(Setup::of(format!("mount {target}")))?;
            let place = match metadata.is_dir() {
                true => Place::Directory,
                false => Place::File,
            };
            let source = match writes {
                Writes::Discarded if metadata.is_dir() => {
                    overlay::mount_copy(scratch, footing, source, &format!("bind-{number}"))?
                }
                Writes::Discarded => copy_of(source, scratch, number)?,
                Writes::Refused | Writes::Kept => source.clone(),
            };
            bind(&source, root, target, place, *writes)
        }
        MountKind::Secret { content, mode } => {
            let source = secret(scratch, content, *mode, user, footing, number)?;
            bind(&source, root, target, Place::File, Writes::Refused)
        }
        MountKind::Tmpfs { size } => {
            let options = match size {
                Some(size) => format!("mode=1777,size={size}"),
                None => "mode=1777".to_owned(),
            };
            let options = std::ffi::CString::new(options).unwrap_or_default();
            let place = root.place(target, Place::Directory)?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            rustix::mount::mount("tmpfs", path_of(&place), "tmpfs", flags, Some(&*options))
                .map_err(Setup::of(format!("mount {target}")))
        }
    }
}

/// A copy of a bound file that may be written to.
fn copy_of(source: &Path, scratch: &Path, number: usize) -> Result<PathBuf, Setup> {
    let copy = scratch.join(format!("state/bind-{number}"));
    fs::copy(source, &copy).map_err(Setup::of(format!("copy {}", source.display())))?;
    Ok(copy)
}

/// Puts a secret into memory. Only this namespace sees it there.
fn secret(
    scratch: &Path,
    content: &Secret,
    mode: u16,
    user: &RunUser,
    footing: &Footing,
    number: usize,
) -> Result<PathBuf, Setup> {
    let folder = scratch.join("secrets");
    if !folder.exists() {
        fs::create_dir(&folder).map_err(Setup::of("make room for secrets"))?;
        let options = Some(c"mode=0700,size=64m");
        rustix::mount::mount("tmpfs", &folder, "tmpfs", QUIET, options)
            .map_err(Setup::of("mount memory for secrets"))?;
    }
    let path = folder.join(number.to_string());
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create_new(&path)?;
        file.write_all(content.expose())?;
        file.set_permissions(fs::Permissions::from_mode(u32::from(mode)))?;
        match footing.tier {
            // The one id is the user, whoever the command takes itself for.
            Tier::SingleMap => Ok(()),
            _ => std::os::unix::fs::fchown(&file, Some(user.uid), Some(user.gid)),
        }
    };
    write().map_err(Setup::of("keep a secret in memory"))?;
    Ok(path)
}

/// Shows `source` at `target`.
fn bind(
    source: &Path,
    root: &mut NewRoot,
    target: &str,
    place: Place,
    writes: Writes,
) -> Result<(), Setup> {
    let action = || format!("mount {target}");
    let found = root.place(target, place)?;
    rustix::mount::mount_bind_recursive(source, path_of(&found)).map_err(Setup::of(action()))?;
    if writes != Writes::Refused {
        return Ok(());
    }
    // The open file is what lies below; the path now leads to what was mounted.
    let mounted = root
        .resolve(target, OFlags::PATH)
        .map_err(Setup::of(action()))?;
    refuse_writes(&mounted).map_err(Setup::of(action()))
}

/// Makes a mount read-only for those who see it here.
pub(crate) fn refuse_writes(mounted: &OwnedFd) -> rustix::io::Result<()> {
    let flags = kept_flags(mounted) | MountFlags::BIND | MountFlags::RDONLY;
    rustix::mount::mount_remount(path_of(mounted), flags, c"")
}

/// What a mount forbids already; in a user namespace it must be said again.
fn kept_flags(mounted: &OwnedFd) -> MountFlags {
    let Ok(found) = rustix::fs::fstatvfs(mounted) else {
        return MountFlags::empty();
    };
    [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ]
    .into_iter()
    .filter(|(seen, _)| found.f_flag.contains(*seen))
    .fold(MountFlags::empty(), |all, (_, flag)| all | flag)
}
