//! The range of ids that `newuidmap` and `newgidmap` grant a user: `/etc/subuid`, `/etc/subgid`.

use std::fs;
use std::process::{Command, Stdio};

use crate::sandbox::error::Setup;

/// A range of ids of the machine that a user may use in namespaces of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u32,
    count: u32,
}

/// Ids up to nobody's: with fewer, package managers fail in the middle.
const ENOUGH: u32 = 65_535;

/// Gives the process its ids: 0 is the caller, 1 and up are the caller's range.
pub(crate) fn grant(process: u32) -> Result<(), Setup> {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let name = name_of(&read("/etc/passwd")?, uid.as_raw());
    map(
        "newuidmap",
        "/etc/subuid",
        process,
        uid.as_raw(),
        &name,
        uid.as_raw(),
    )?;
    map(
        "newgidmap",
        "/etc/subgid",
        process,
        gid.as_raw(),
        &name,
        uid.as_raw(),
    )
}

/// Runs one of the two programs for the owner of a line in `file`.
fn map(
    program: &str,
    file: &str,
    process: u32,
    own: u32,
    name: &Option<String>,
    uid: u32,
) -> Result<(), Setup> {
    let ranges = ranges(&read(file)?, name.as_deref(), uid);
    let total: u64 = ranges.iter().map(|range| u64::from(range.count)).sum();
    if total < u64::from(ENOUGH) {
        let cause = format!("it grants this user {total} ids, and {ENOUGH} are needed");
        return Err(Setup::because(format!("read {file}"), cause));
    }
    let mut command = Command::new(program);
    command.args([process, 0, own, 1].map(|number| number.to_string()));
    let mut next = 1_u32;
    for range in ranges {
        // Ids past the last of 32 bits do not exist.
        let count = range.count.min(u32::MAX - next);
        command.args([next, range.start, count].map(|number| number.to_string()));
        next += count;
    }
    let action = || format!("run {program}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(Setup::of(action()))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let words = String::from_utf8_lossy(&output.stderr);
            Err(Setup::because(action(), words.trim()))
        }
    }
}

fn read(path: &str) -> Result<String, Setup> {
    fs::read_to_string(path).map_err(Setup::of(format!("read {path}")))
}

/// The name of a user in the lines of `/etc/passwd`.
fn name_of(passwd: &str, uid: u32) -> Option<String> {
    let line = passwd
        .lines()
        .find(|line| line.split(':').nth(2) == Some(uid.to_string().as_str()))?;
    line.split(':').next().map(str::to_owned)
}

/// The ranges of a user in the lines of `/etc/subuid`, which names users or their numbers.
fn ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    let of_user = |line: &str| {
        let mut fields = line.trim().splitn(3, ':');
        let owner = fields.next()?;
        if Some(owner) != name && owner != number {
            return None;
        }
        let start = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        Some(Range { start, count })
    };
    text.lines().filter_map(of_user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "ann:100000:65536\n# bob\nbob:1:2\n1000:300000:7\nann:x:1\n";
        let range = |start, count| Range { start, count };
        assert_eq!(
            ranges(text, Some("ann"), 1000),
            [range(100_000, 65_536), range(300_000, 7)]
        );
        assert_eq!(ranges(text, None, 1), []);
    }

    #[test]
    fn a_user_is_known_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(name_of(passwd, 10), None);
    }
}
