//! Foreign tools that judge what we write: each found on the path, or the test says "skipped".
//!
//! All their state lies in temporary folders that a [`keeper::Keeper`] clears away, even when the
//! test process is killed. Nothing needs a service of the machine, and nothing leaves loopback.

use std::io::Write;
use std::path::PathBuf;

pub(crate) mod containerd;
pub(crate) mod dockerd;
pub(crate) mod keeper;
pub(crate) mod podman;
pub(crate) mod registry;
pub(crate) mod skopeo;
pub(crate) mod umoci;

pub(crate) use containerd::Containerd;
pub(crate) use dockerd::Dockerd;
pub(crate) use podman::Podman;
pub(crate) use registry::Registry;
pub(crate) use skopeo::Skopeo;
pub(crate) use umoci::Umoci;

/// Why a tool cannot take part on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Skip(String);

impl Skip {
    pub(crate) fn missing(tool: &str) -> Skip {
        Skip(format!("{tool} not found"))
    }

    pub(crate) fn because(reason: impl Into<String>) -> Skip {
        Skip(reason.into())
    }

    /// Says so on the real stderr, past the test harness, which hides what a passing test prints.
    pub(crate) fn report(&self) {
        let test = std::thread::current();
        let test = test.name().unwrap_or("a test");
        let line = format!("skipped: {} ({test})\n", self.0);
        // A closed stderr is no reason to fail.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// The tool that an expression gives, or a reported skip and the end of the test.
macro_rules! peer {
    ($found:expr) => {
        match $found {
            Ok(tool) => tool,
            Err(skip) => {
                skip.report();
                return;
            }
        }
    };
}
pub(crate) use peer;

/// The program `name` in one of the folders of `$PATH`, or where Debian keeps daemons.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// The program `name`, or the skip that says it is missing.
pub(crate) fn required(name: &str) -> Result<PathBuf, Skip> {
    on_path(name).ok_or_else(|| Skip::missing(name))
}

/// Whether this process may mount: what the daemons and root's podman need.
pub(crate) fn may_mount() -> bool {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    rustix::process::geteuid().is_root() && effective.is_some_and(|set| set & CAP_SYS_ADMIN != 0)
}

/// The skip for daemons that need a root that may mount.
pub(crate) fn require_root(tool: &str) -> Result<(), Skip> {
    match may_mount() {
        true => Ok(()),
        false => Err(Skip::because(format!(
            "{tool} needs root with CAP_SYS_ADMIN"
        ))),
    }
}
