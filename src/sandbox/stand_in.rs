//! What tier C has instead of mounts: things put in their place, and taken away again.
//!
//! What stood there is moved aside and comes back, so that afterwards the tree holds what the
//! command did and nothing of ours, as it would with mounts. There is no `/proc`.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::sandbox::copy_tree::copy_tree;
use crate::sandbox::error::Setup;
use crate::sandbox::job::{Job, Mount, MountKind, Network, Writes};
use crate::sandbox::new_root::{NewRoot, Place, path_of};
use crate::sandbox::overlay::MERGED;
use crate::sandbox::rootfs;

/// Devices with their numbers, as `Documentation/admin-guide/devices.txt` of the kernel has them.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// The things that stand in a tree while a command runs.
#[derive(Debug)]
pub(crate) struct StandIns {
    root: NewRoot,
    scratch: PathBuf,
    placed: Vec<Placed>,
}

#[derive(Debug)]
struct Placed {
    /// The directory that it stands in. The command may move it, or put a link in its place, so
    /// the path is not used again.
    parent: OwnedFd,
    name: OsString,
    /// Where that is which stood there.
    aside: PathBuf,
    /// Where it goes back to, if it outlives the run.
    home: Option<PathBuf>,
}

impl StandIns {
    /// Puts everything into its place in the tree at `scratch/merged`. What was put before a
    /// failure is taken away with the scratch directory; caches are put last.
    pub(crate) fn place(scratch: &Path, job: &Job) -> Result<StandIns, Setup> {
        if job.network == Network::None {
            let cause = "tier C has only the machine's; it needs a tier of namespaces";
            return Err(Setup::because("take the network away", cause));
        }
        let mut stand_ins = StandIns {
            root: NewRoot::open(&scratch.join(MERGED))?,
            scratch: scratch.to_owned(),
            placed: Vec::new(),
        };
        for name in ["/proc", "/sys"] {
            stand_ins.put(name, Place::Directory, directory, None)?;
        }
        stand_ins.put("/dev", Place::Directory, devices, None)?;
        for file in job.host_files.iter().filter(|file| file.exists()) {
            let target = file.to_string_lossy().into_owned();
            let copy = |place: &Path| fs::copy(file, place).map(drop);
            stand_ins.put(&target, Place::File, copy, None)?;
        }
        let is_kept = |mount: &&Mount| {
            let kept = Writes::Kept;
            matches!(&mount.kind, MountKind::Path { writes, .. } if *writes == kept)
        };
        for mount in job.mounts.iter().filter(|mount| !is_kept(mount)) {
            stand_ins.mount(mount, job)?;
        }
        for mount in job.mounts.iter().filter(is_kept) {
            stand_ins.mount(mount, job)?;
        }
        Ok(stand_ins)
    }

    fn mount(&mut self, mount: &Mount, job: &Job) -> Result<(), Setup> {
        let target = &mount.target;
        match &mount.kind {
            MountKind::Path { source, writes } => {
                let found =
                    fs::symlink_metadata(source).map_err(Setup::of(format!("mount {target}")))?;
                let (place, kept) = match found.is_dir() {
                    true => (Place::Directory, *writes == Writes::Kept),
                    false => (Place::File, false),
                };
                match kept {
                    // A cache is moved in and out again: nothing may stand at its home meanwhile.
                    true => {
                        let r#move = |place: &Path| fs::rename(source, place);
                        self.put(target, place, r#move, Some(source))
                    }
                    false => self.put(target, place, |place| copy_tree(source, place), None),
                }
            }
            MountKind::Secret { content, mode } => {
                let write = |place: &Path| {
                    let mut file = fs::File::create_new(place)?;
                    file.set_permissions(fs::Permissions::from_mode(u32::from(*mode)))?;
                    file.write_all(content.expose())?;
                    std::os::unix::fs::fchown(&file, Some(job.user.uid), Some(job.user.gid))
                };
                self.put(target, Place::File, write, None)
            }
            MountKind::Tmpfs { .. } => {
                let open = |place: &Path| {
                    directory(place)?;
                    fs::set_permissions(place, fs::Permissions::from_mode(0o1777))
                };
                self.put(target, Place::Directory, open, None)
            }
        }
    }

    /// Moves what is at `target` aside and has something made in its place.
    fn put(
        &mut self,
        target: &str,
        kind: Place,
        make: impl FnOnce(&Path) -> std::io::Result<()>,
        home: Option<&Path>,
    ) -> Result<(), Setup> {
        let action = || format!("put something at {target}");
        let found = self.root.place(target, kind)?;
        // The tree may have led anywhere inside itself: this is where.
        let place = fs::read_link(path_of(&found)).map_err(Setup::of(action()))?;
        let aside = self.scratch.join(format!("aside-{}", self.placed.len()));
        let (Some(folder), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(Setup::because(action(), "it is the root of the tree"));
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(folder, flags, Mode::empty()).map_err(Setup::of(action()))?;
        fs::rename(&place, &aside).map_err(Setup::of(action()))?;
        let made = make(&place).map_err(Setup::of(action()));
        self.placed.push(Placed {
            parent,
            name: name.to_owned(),
            aside,
            home: home.filter(|_| made.is_ok()).map(Path::to_owned),
        });
        made
    }

    /// Takes everything away, and what was there comes back.
    pub(crate) fn take_away(&mut self) {
        while let Some(placed) = self.placed.pop() {
            // The command may have removed it, or made it something else: then that goes.
            let gone = self.scratch.join("gone");
            let away = placed.home.as_ref().unwrap_or(&gone);
            let _ = rustix::fs::renameat(&placed.parent, &placed.name, CWD, away);
            let _ = rootfs::remove(&gone);
            let _ = rustix::fs::renameat(CWD, &placed.aside, &placed.parent, &placed.name);
        }
        let made = self.root.take_made();
        self.root.remove(&made);
    }
}

fn directory(place: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(place)
}

/// A `/dev` with the devices that the container lets us make, and links as everywhere.
fn devices(place: &Path) -> std::io::Result<()> {
    directory(place)?;
    for (name, major, minor) in DEVICES {
        let device = rustix::fs::makedev(major, minor);
        let path = place.join(name);
        let mode = Mode::from_raw_mode(0o666);
        match rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, mode, device) {
            Ok(()) => {}
            // Without the right to make devices a file has to do: it takes what is written.
            Err(rustix::io::Errno::PERM) => drop(fs::File::create_new(&path)?),
            Err(other) => return Err(other.into()),
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    }
    for name in ["shm", "pts"] {
        directory(&place.join(name))?;
    }
    fs::set_permissions(place.join("shm"), fs::Permissions::from_mode(0o1777))
}

impl Drop for StandIns {
    fn drop(&mut self) {
        // A cache must go home however the run ends.
        self.take_away();
    }
}
