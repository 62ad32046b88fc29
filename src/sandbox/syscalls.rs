//! System calls that no crate offers as safe functions. The only `unsafe` of the house is here
//! and in the folder of the same name.

use std::io;

use rustix::thread::UnshareFlags;

/// Leaves the namespaces that `namespaces` names and enters new ones.
///
/// # Errors
/// What the system says; [`io::ErrorKind::InvalidInput`] for anything that is no namespace.
pub(crate) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    let known = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWNET;
    if !known.contains(namespaces) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the call is dangerous for what it can take away from other threads: the table of
    // open files, semaphores. None of these flags is let through; new namespaces touch no memory.
    #[expect(
        unsafe_code,
        reason = "rustix marks the whole call for its other flags"
    )]
    unsafe { rustix::thread::unshare_unsafe(namespaces) }.map_err(io::Error::from)
}
