//! seccomp(2) with a listener: a filter that has some calls of a process answered by another.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use libc::{seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};

/// Puts this process, and all it will start, under a filter. What the filter refers to a listener
/// arrives at the file that comes back.
///
/// # Errors
/// What the system says: the right to administrate the own user namespace is needed.
pub(crate) fn install(program: &[sock_filter]) -> io::Result<OwnedFd> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = sock_fprog {
        len: length,
        // The kernel copies the program and does not write to it.
        filter: program.as_ptr().cast_mut(),
    };
    let (mode, flags) = (
        libc::SECCOMP_SET_MODE_FILTER,
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
    );
    #[expect(unsafe_code, reason = "no crate has a safe seccomp(2) with a listener")]
    // SAFETY: the third argument points to a `sock_fprog` whose length and pointer are those of a
    // slice; both outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    let number = i32::try_from(result).map_err(io::Error::other)?;
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    #[expect(unsafe_code, reason = "a number of the kernel's becomes an owned file")]
    // SAFETY: the kernel has just made this file for us; nobody else knows its number.
    let listener = unsafe { OwnedFd::from_raw_fd(number) };
    Ok(listener)
}

/// Waits for the next call that was referred to the listener.
///
/// # Errors
/// `ENOENT` where the caller died meanwhile, `EINTR`, and the end of all under the filter.
pub(crate) fn next(listener: impl AsFd) -> io::Result<seccomp_notif> {
    #[expect(unsafe_code, reason = "libc's structures have no constructors")]
    // SAFETY: the structure is plain numbers, for which zero is a value; the kernel wants zeros.
    let mut call: seccomp_notif = unsafe { mem::zeroed() };
    let number = listener.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "ioctl(2) takes any pointer")]
    // SAFETY: the request says the size of the structure, and the pointer is to one of that size.
    let result = unsafe { libc::ioctl(number, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) };
    match result {
        0 => Ok(call),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the caller still waits: its number may belong to another process by now.
pub(crate) fn is_waiting(listener: impl AsFd, call: &seccomp_notif) -> bool {
    let number = listener.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "ioctl(2) takes any pointer")]
    // SAFETY: the request reads one number of 64 bits, to which the pointer is.
    let result = unsafe {
        libc::ioctl(
            number,
            libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
            &raw const call.id,
        )
    };
    result == 0
}

/// Answers a call: 0, or the number of an error. A caller that died needs no answer.
pub(crate) fn answer(listener: impl AsFd, call: &seccomp_notif, errno: i32) {
    let mut answer = seccomp_notif_resp {
        id: call.id,
        val: 0,
        error: -errno,
        flags: 0,
    };
    let number = listener.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "ioctl(2) takes any pointer")]
    // SAFETY: the request says the size of the structure, and the pointer is to one of that size.
    let _ = unsafe { libc::ioctl(number, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
}
