//! The inner process: mounts, takes its root, and becomes the command.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::{CapabilitySet, UnshareFlags};

use crate::sandbox::channel::{send, send_file};
use crate::sandbox::error::Setup;
use crate::sandbox::job::Job;
use crate::sandbox::limits;
use crate::sandbox::mounts;
use crate::sandbox::new_root::{NewRoot, Place};
use crate::sandbox::order::{Failed, Inner, Word};
use crate::sandbox::overlay::MERGED;
use crate::sandbox::probe::Proc;
use crate::sandbox::supervisor;
use crate::sandbox::syscalls::{seccomp, unshare};
use crate::sandbox::tier::Tier;

/// Where programs are looked for when neither the stage nor the step says: as Docker has it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What root in a container may do, as Docker and podman have it. The command is not trusted with
/// the machine, and the tiers are to be alike.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Becomes the command. What comes back is the exit code of a trial, or of a failure that the
/// outer process has been told.
pub(crate) fn become_command(order: &Inner, outer: &UnixStream) -> u8 {
    let Err(failed) = prepare_and_start(order, outer) else {
        return 0;
    };
    // Without the outer process nobody is there to hear it.
    let _ = send(outer, &Word::Failed(failed));
    1
}

fn prepare_and_start(order: &Inner, outer: &UnixStream) -> Result<(), Failed> {
    end_with_the_outer()?;
    let input = File::open("/dev/null").map_err(Setup::of("open /dev/null"))?;
    let made = match order.footing.tier {
        Tier::Chroot => enter_by_chroot(order)?,
        _ => enter_by_mounts(order)?,
    };
    send(outer, &Word::Made(made)).map_err(Setup::of("talk to the outer process"))?;
    let Some(job) = &order.job else {
        return Ok(());
    };
    workdir(&job.workdir)?;
    limits::of_process(&job.limits)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if order.footing.tier == Tier::SingleMap {
        supervised(outer)?;
    }
    become_user(order.footing.tier, job)?;
    end_with_the_outer()?;
    let mut command = command(job, input);
    let error = command.exec();
    let program = &job.argv[0];
    Err(Failed::Start(Setup::of(format!("run {program:?}"))(error)))
}

/// Changing ids takes this away, so it is said twice.
fn end_with_the_outer() -> Result<(), Setup> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(Setup::of("be ended with the outer process"))
}

/// Makes all mounts and turns the merged tree into the root. What had to be made comes back.
fn enter_by_mounts(order: &Inner) -> Result<Vec<String>, Setup> {
    unshare(UnshareFlags::NEWNS).map_err(Setup::of("make a namespace for mounts"))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(Setup::of("make the mounts private"))?;
    let merged = order.scratch.join(MERGED);
    let mut root = NewRoot::open(&merged)?;
    mounts::system(&mut root, &order.footing, order.job.as_deref())?;
    if let Some(job) = &order.job {
        mounts::job(&mut root, &order.footing, &order.scratch, job)?;
        match rustix::system::sethostname(job.hostname.as_bytes()) {
            // Where podman's filter forbids it, the command sees the container's name.
            Err(rustix::io::Errno::PERM) if order.footing.proc == Proc::Shared => {}
            done => done.map_err(Setup::of("set the host name"))?,
        }
    }
    pivot(&merged).map_err(Setup::of("change the root"))?;
    Ok(root.take_made())
}

/// pivot_root(2): the old root lands on top of the new one, and is taken off.
fn pivot(merged: &Path) -> rustix::io::Result<()> {
    rustix::process::chdir(merged)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

/// Without the right to mount, the tree's copy is all there is.
fn enter_by_chroot(order: &Inner) -> Result<Vec<String>, Setup> {
    let merged = order.scratch.join(MERGED);
    rustix::process::chdir(&merged).map_err(Setup::of("enter the tree"))?;
    rustix::process::chroot(".").map_err(Setup::of("change the root"))?;
    rustix::process::chdir("/").map_err(Setup::of("enter the tree"))?;
    Ok(Vec::new())
}

/// Puts this process under the filter of tier B and hands the listener to the supervisor.
fn supervised(outer: &UnixStream) -> Result<(), Setup> {
    let action = || "have owners recorded";
    let listener = seccomp::install(&supervisor::program()).map_err(Setup::of(action()))?;
    send(outer, &Word::Listener).map_err(Setup::of(action()))?;
    send_file(outer, listener).map_err(Setup::of(action()))
}

/// Makes the working directory as Docker does, and enters it.
fn workdir(path: &str) -> Result<(), Setup> {
    // The umask is the builder's until now.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let mut root = NewRoot::open(Path::new("/"))?;
    root.place(path, Place::Directory)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = root
        .resolve(path, flags)
        .map_err(Setup::of(format!("enter {path}")))?;
    rustix::process::fchdir(directory).map_err(Setup::of(format!("enter {path}")))
}

/// Takes the user's ids and gives up rights. With one id there is no other to take: the command
/// stays root, and the supervisor says yes to whoever it wants to be.
fn become_user(tier: Tier, job: &Job) -> Result<(), Setup> {
    drop_rights().map_err(Setup::of("give up rights"))?;
    if tier == Tier::SingleMap {
        return Ok(());
    }
    let user = &job.user;
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let become_it = || {
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    };
    become_it().map_err(Setup::of(format!("become user {}:{}", user.uid, user.gid)))
}

/// Takes what no container has out of the rights that a program can ever get.
fn drop_rights() -> rustix::io::Result<()> {
    // Rights that this kernel does not know cannot be held either.
    const LAST: u32 = 63;
    for number in 0..=LAST {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if CAPABILITIES.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => break,
            // Without the right to give up rights, what is held is little already.
            Err(rustix::io::Errno::PERM) => break,
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

/// The command with its environment and nothing of the builder's.
fn command(job: &Job, input: File) -> Command {
    let mut command = Command::new(&job.argv[0]);
    command.args(&job.argv[1..]).stdin(Stdio::from(input));
    command.env_clear().env("PATH", PATH).env("HOME", &job.home);
    for (name, value) in &job.private_env {
        use std::os::unix::ffi::OsStrExt;
        command.env(name, std::ffi::OsStr::from_bytes(value.expose()));
    }
    command.envs(job.env.iter().map(|(name, value)| (name, value)));
    command
}
