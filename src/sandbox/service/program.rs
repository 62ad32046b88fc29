//! What may be a program: the C library is more forgiving than the kernel.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::sandbox::error::Setup;
use crate::sandbox::job::Job;

/// Refuses a script that names no interpreter. execvp(3) would hand it to a shell, so it would be
/// started here, where no runtime starts it. `usual` is the `PATH` of a job without one.
pub(crate) fn has_a_format(job: &Job, usual: &str) -> Result<(), Setup> {
    let program = job.argv.first().map_or("", String::as_str);
    let mut named = job.env.iter().rev();
    let path = named.find(|(name, _)| name == "PATH");
    let path = path.map_or(usual, |(_, value)| value.as_str());
    for candidate in candidates(program, path) {
        // What is missing is looked for further on; what cannot be read may be run all the same.
        let head = match head(&candidate) {
            Ok(head) => head,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => continue,
            Err(_) => return Ok(()),
        };
        if head.starts_with(b"#!") || head == *b"\x7fELF" {
            return Ok(());
        }
        let action = format!("run {}", candidate.display());
        return Err(Setup::of(action)(Errno::NOEXEC));
    }
    Ok(())
}

/// How a file begins that may be run. One that is not regular must not be waited for.
fn head(path: &Path) -> Result<[u8; 4], Errno> {
    rustix::fs::access(path, Access::EXEC_OK)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let found = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    let mut head = [0; 4];
    rustix::io::read(&file, &mut head)?;
    Ok(head)
}

/// Where a program may be, in the order in which it is looked for.
fn candidates(program: &str, path: &str) -> Vec<PathBuf> {
    if program.contains('/') {
        return vec![PathBuf::from(program)];
    }
    let folders = path.split(':');
    folders
        .map(|folder| Path::new(folder).join(program))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::sandbox::{Limits, Network, RunUser};

    #[test]
    fn a_script_without_an_interpreter_is_no_program() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display().to_string();
        for (name, text) in [
            ("script", &b"#!/bin/sh\n"[..]),
            ("elf", b"\x7fELF\x02"),
            ("bare", b"exit 0\n"),
            ("empty", b""),
        ] {
            let file = folder.path().join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir(folder.path().join("folder")).unwrap();
        fs::write(folder.path().join("data"), "text").unwrap();
        let errno = |program: &str| {
            let job = Job {
                argv: vec![program.to_owned()],
                env: vec![("PATH".to_owned(), format!("/no/such:{place}"))],
                private_env: Vec::new(),
                user: RunUser::default(),
                home: String::new(),
                workdir: String::new(),
                hostname: String::new(),
                network: Network::None,
                mounts: Vec::new(),
                limits: Limits::default(),
                lowers: Vec::new(),
                host_files: Vec::new(),
            };
            has_a_format(&job, "").map_err(|setup| setup.errno.unwrap())
        };
        let noexec = Err(Errno::NOEXEC.raw_os_error());
        for (program, expected) in [
            ("script", Ok(())),
            ("elf", Ok(())),
            ("bare", noexec),
            ("empty", noexec),
            // The kernel has words for these.
            ("missing", Ok(())),
            ("folder", Ok(())),
            ("data", Ok(())),
        ] {
            assert_eq!(errno(program), expected, "{program}");
            assert_eq!(errno(&format!("{place}/{program}")), expected, "{program}");
        }
    }
}
