//! Namespaces: what the outer process enters before anything else.

use std::fs;
use std::os::unix::net::UnixStream;

use rustix::mount::MountPropagationFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;

use crate::sandbox::channel::{receive, send};
use crate::sandbox::error::Setup;
use crate::sandbox::job::Network;
use crate::sandbox::order::{Mapped, Report};
use crate::sandbox::syscalls::unshare;
use crate::sandbox::tier::Tier;

/// Enters the namespaces of the tier, but for processes: that one is for children only, and no
/// thread can be started after it ([`enter_processes`]).
pub(crate) fn enter(tier: Tier, network: Network, builder: &UnixStream) -> Result<(), Setup> {
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    match tier {
        Tier::Chroot => return Ok(()),
        Tier::Root => unshare(flags).map_err(Setup::of("make namespaces"))?,
        Tier::SingleMap => {
            let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
            unshare(flags | UnshareFlags::NEWUSER).map_err(Setup::of("make a user namespace"))?;
            // Without this the system lets no plain user set a map of groups.
            write_map("setgroups", "deny")?;
            write_map("uid_map", &format!("0 {uid} 1"))?;
            write_map("gid_map", &format!("0 {gid} 1"))?;
        }
        Tier::RangeMap => {
            unshare(flags | UnshareFlags::NEWUSER).map_err(Setup::of("make a user namespace"))?;
            let talk = "have the ids mapped";
            send(builder, &Report::MapIds).map_err(Setup::of(talk))?;
            let mapped: Option<Mapped> = receive(builder).map_err(Setup::of(talk))?;
            mapped.ok_or_else(|| Setup::because(talk, "the builder went away"))??;
        }
    }
    // What is mounted here must never be seen outside.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(Setup::of("make the mounts private"))?;
    match network {
        Network::None => raise_loopback().map_err(Setup::of("raise the loopback device")),
        Network::Host => Ok(()),
    }
}

/// The next child will be process 1 of a namespace of its own, and all others end with it.
pub(crate) fn enter_processes() -> Result<(), Setup> {
    unshare(UnshareFlags::NEWPID).map_err(Setup::of("make a namespace for processes"))
}

fn write_map(name: &str, text: &str) -> Result<(), Setup> {
    let path = format!("/proc/self/{name}");
    fs::write(&path, text).map_err(Setup::of(format!("write {path}")))
}

/// Asks the kernel to bring the first device of the network namespace up: rtnetlink(7), a
/// `RTM_NEWLINK` with a header and nothing else.
fn raise_loopback() -> rustix::io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;
    const IFF_UP: u32 = 1;
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    message.extend([0; 8]);
    // struct ifinfomsg: family and type unknown, device 1, flag and mask.
    message.extend([0; 4]);
    message.extend(1_u32.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is 0, the protocol that is meant without one.
        None,
    )?;
    rustix::net::send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 256];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // struct nlmsgerr follows the header of 16 bytes: 0, or the negative number of an error.
    let code = answer.get(16..20).filter(|_| length >= 20);
    match code.map(|bytes| i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) {
        Some(0) => Ok(()),
        Some(code) => Err(rustix::io::Errno::from_raw_os_error(code.wrapping_neg())),
        None => Err(rustix::io::Errno::PROTO),
    }
}
