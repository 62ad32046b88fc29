//! The inner process: mounts, takes its root, and becomes the command.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, UnshareFlags};

use crate::sandbox::channel::{receive_file, send, send_file};
use crate::sandbox::error::Setup;
use crate::sandbox::job::{Job, RunUser};
use crate::sandbox::limits;
use crate::sandbox::mounts;
use crate::sandbox::new_root::{NewRoot, Place};
use crate::sandbox::order::{Failed, Inner, Word};
use crate::sandbox::overlay::MERGED;
use crate::sandbox::probe::Proc;
use crate::sandbox::service;
use crate::sandbox::supervisor;
use crate::sandbox::syscalls::{default_signals, seccomp, unshare};
use crate::sandbox::tier::Tier;

/// Where programs are looked for when neither the stage nor the step says: as Docker has it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What root may do in a command of a build, as Docker has it. The command is not trusted with the
/// machine, and the tiers are to be alike.
const OF_BUILDS: CapabilitySet = CapabilitySet::CHOWN
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

/// What root may do in a service, as podman has it.
const OF_SERVICES: CapabilitySet = OF_BUILDS
    .difference(CapabilitySet::MKNOD)
    .difference(CapabilitySet::NET_RAW)
    .difference(CapabilitySet::AUDIT_WRITE);

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
    // The umask is the builder's until now, and what is shown to the command must be readable.
    rustix::process::umask(Mode::from_raw_mode(0o022));
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
    if let Some(service) = &order.service {
        service::close_root(service)?;
        return become_service(job, input);
    }
    limits::of_process(&job.limits)?;
    if order.footing.tier == Tier::SingleMap {
        supervised(outer)?;
    }
    drop_rights(OF_BUILDS).map_err(Setup::of("give up rights"))?;
    // With one id there is no other to take: the command stays root, and the supervisor says yes to
    // whoever it wants to be.
    if order.footing.tier != Tier::SingleMap {
        become_user(&job.user)?;
    }
    execute(job, input)
}

/// Becomes a command in a service that runs. What comes back is the exit code of a failure that
/// the outer process has been told.
pub(crate) fn join_service(job: &Job, outer: &UnixStream) -> u8 {
    let Err(failed) = join_and_start(job, outer) else {
        return 0;
    };
    let _ = send(outer, &Word::Failed(failed));
    1
}

fn join_and_start(job: &Job, outer: &UnixStream) -> Result<(), Failed> {
    end_with_the_outer()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let input = File::open("/dev/null").map_err(Setup::of("open /dev/null"))?;
    let mounts = receive_file(outer).map_err(Setup::of("talk to the outer process"))?;
    let kind = Some(LinkNameSpaceType::Mount);
    rustix::thread::move_into_link_name_space(mounts.as_fd(), kind)
        .map_err(Setup::of("enter the service's mounts"))?;
    workdir(&job.workdir)?;
    become_service(job, input)
}

/// Becomes a process of a service, which is trusted less than a command of a build: nothing that
/// it starts gains rights.
fn become_service(job: &Job, input: File) -> Result<(), Failed> {
    limits::of_process(&job.limits)?;
    default_signals();
    drop_rights(OF_SERVICES).map_err(Setup::of("give up rights"))?;
    become_user(&job.user)?;
    rustix::thread::set_no_new_privs(true).map_err(Setup::of("gain no rights"))?;
    service::has_a_format(job, PATH).map_err(Failed::Start)?;
    execute(job, input)
}

fn execute(job: &Job, input: File) -> Result<(), Failed> {
    end_with_the_outer()?;
    let program = &job.argv[0];
    let error = command(job, input).exec();
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
        if let Some(service) = &order.service {
            service::furnish(&mut root, &order.scratch, job, service)?;
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
    let mut root = NewRoot::open(Path::new("/"))?;
    root.place(path, Place::Directory)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = root
        .resolve(path, flags)
        .map_err(Setup::of(format!("enter {path}")))?;
    rustix::process::fchdir(directory).map_err(Setup::of(format!("enter {path}")))
}

/// Takes the user's ids.
fn become_user(user: &RunUser) -> Result<(), Setup> {
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let become_it = || {
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    };
    become_it().map_err(Setup::of(format!("become user {}:{}", user.uid, user.gid)))
}

/// Takes all but these out of the rights that a program can ever get.
fn drop_rights(kept: CapabilitySet) -> rustix::io::Result<()> {
    // Rights that this kernel does not know cannot be held either.
    const LAST: u32 = 63;
    for number in 0..=LAST {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(one) {
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
    // Root's programs get what is inherited besides, whatever the bounds are.
    let mut held = rustix::thread::capabilities(None)?;
    held.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, held)
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
