//! System calls that no crate offers as safe functions. The only `unsafe` of the house is here
//! and in the folder of the same name.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::FdFlags;
use rustix::thread::UnshareFlags;

pub(crate) mod seccomp;

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
    #[expect(
        unsafe_code,
        reason = "rustix marks the whole call for its other flags"
    )]
    // SAFETY: the call is dangerous for what it can take away from other threads: the table of
    // open files, semaphores. None of these flags is let through; new namespaces touch no memory.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }.map_err(io::Error::from)
}

/// Marks every open file but the three standard ones to be closed by the next program. Whoever
/// started Boxwright may have left some open without that mark, and a command has no business
/// with them.
///
/// # Errors
/// What the system says: `/proc` must be there.
pub(crate) fn keep_files_from_programs() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let number: Option<i32> = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|number| *number > 2) else {
            continue;
        };
        #[expect(
            unsafe_code,
            reason = "files of unknown origin have no owner to borrow from"
        )]
        // SAFETY: the number was listed as open just now by the only thread there is; what is
        // closed since, the listing's own directory, makes the call fail and nothing else. The
        // borrow ends with the statement.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        match rustix::io::fcntl_setfd(file, FdFlags::CLOEXEC) {
            Ok(()) | Err(rustix::io::Errno::BADF) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

/// Gives this thread a root and a working directory of its own.
///
/// # Errors
/// What the system says.
pub(crate) fn own_directories() -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "rustix marks the whole call for its other flags"
    )]
    // SAFETY: root and working directory are copied, nothing is taken from other threads; safe
    // code has no pointers into either.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.map_err(io::Error::from)
}

/// Lets every signal do again what it does by itself. Whoever started Boxwright may have had some
/// ignored, and programs inherit that.
pub(crate) fn default_signals() {
    /// The kernel's `struct sigaction` on 64-bit machines is no larger; zeros are the default.
    const DEFAULT: [u64; 4] = [0; 4];
    /// Bytes of the kernel's `sigset_t`.
    const SET: usize = 8;
    for number in 1..=64 {
        #[expect(
            unsafe_code,
            reason = "the C library's own functions leave out two of its signals"
        )]
        // SAFETY: the kernel only reads the structure, which is as long as it wants; no handler is
        // given, so nothing of ours will be called. A signal that may not be changed (SIGKILL,
        // SIGSTOP) makes the call fail and nothing else.
        let _ = unsafe {
            let (action, none) = (DEFAULT.as_ptr(), std::ptr::null_mut::<u64>());
            libc::syscall(libc::SYS_rt_sigaction, number, action, none, SET)
        };
    }
}
