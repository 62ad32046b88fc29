//! Limits: what keeps a runaway command from taking the machine along.
//!
//! A cgroup of its own counts all processes together, where the system lets us make one. Where it
//! does not, a process is limited by itself, and a watch counts them all.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Resource, Rlimit};

use crate::sandbox::error::Setup;
use crate::sandbox::job::Limits;
use crate::sandbox::order::End;

/// Where control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Limits of the one process, which its children inherit: for where no cgroup is.
pub(crate) fn of_process(limits: &Limits) -> Result<(), Setup> {
    let lower = |resource, limit: u64| {
        let most = rustix::process::getrlimit(resource).maximum;
        let limit = most.map_or(limit, |most| limit.min(most));
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        rustix::process::setrlimit(resource, limit)
    };
    // No command of a build needs a dump of its memory in the tree.
    lower(Resource::Core, 0).map_err(Setup::of("limit dumps of memory"))?;
    if let Some(memory) = limits.memory {
        lower(Resource::Data, memory).map_err(Setup::of("limit memory"))?;
    }
    Ok(())
}

/// The control groups of one command; they go when this goes.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// One with version 2, up to two with version 1.
    paths: Vec<PathBuf>,
}

impl Groups {
    /// Makes them as far as the system lets us; without any, the watch has to do.
    pub(crate) fn make(limits: &Limits, name: &str) -> Groups {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let pids = limits.pids.to_string();
        let memory = limits.memory.map(|bytes| bytes.to_string());
        let mut wanted = Vec::new();
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
                continue;
            };
            let place = |mount: &str| {
                let path = Path::new(CGROUPS)
                    .join(mount)
                    .join(path.trim_start_matches('/'));
                path.join(name)
            };
            match controllers {
                "" => wanted.push((
                    place(""),
                    "pids.max",
                    Some(&pids),
                    "memory.max",
                    memory.as_ref(),
                )),
                "pids" => wanted.push((place("pids"), "pids.max", Some(&pids), "", None)),
                "memory" => {
                    let file = "memory.limit_in_bytes";
                    wanted.push((place("memory"), "", None, file, memory.as_ref()));
                }
                _ => {}
            }
        }
        let mut groups = Groups::default();
        for (path, pids_file, pids, memory_file, memory) in wanted {
            if (pids.is_none() && memory.is_none()) || fs::create_dir(&path).is_err() {
                continue;
            }
            groups.paths.push(path.clone());
            let write = |file: &str, value: Option<&String>| match value {
                Some(value) => fs::write(path.join(file), value).is_ok(),
                None => true,
            };
            if !(write(pids_file, pids) && write(memory_file, memory)) {
                groups.paths.pop();
                let _ = fs::remove_dir(&path);
            }
        }
        groups
    }

    /// Puts a process into them, with all that it will start.
    pub(crate) fn take(&self, process: u32) {
        for path in &self.paths {
            // A process that cannot be moved is watched all the same.
            let _ = fs::write(path.join("cgroup.procs"), process.to_string());
        }
    }

    /// Which limit was run into, as far as the groups say.
    pub(crate) fn verdict(&self) -> Option<End> {
        let counted = |file: &str, key: &str| {
            self.paths.iter().any(|path| {
                let text = fs::read_to_string(path.join(file)).unwrap_or_default();
                let mut lines = text.lines().filter_map(|line| line.split_once(' '));
                lines.any(|(name, count)| name == key && count.trim() != "0")
            })
        };
        if counted("memory.events", "oom_kill") || counted("memory.oom_control", "oom_kill") {
            return Some(End::OutOfMemory);
        }
        counted("pids.events", "max").then_some(End::TooManyProcesses)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for path in &self.paths {
            // Its processes are gone; one that is not yet leaves an empty group behind.
            let _ = fs::remove_dir(path);
        }
    }
}

/// What the processes of a command use, all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Used {
    processes: u64,
    pages: u64,
}

impl Used {
    /// Counts the processes that the command's own `/proc` shows: `init`'s root has it.
    pub(crate) fn by_all(init: Pid) -> Used {
        let proc = PathBuf::from(format!("/proc/{}/root/proc", init.as_raw_nonzero()));
        let mut used = Used::default();
        for (_, folder) in processes(&proc) {
            used.add(&folder);
        }
        used
    }

    /// Counts the processes that descend from `ancestor`, among all that the machine shows.
    pub(crate) fn by_descendants(ancestor: Pid) -> Used {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for (process, folder) in processes(Path::new("/proc")) {
            let status = fs::read_to_string(folder.join("stat")).unwrap_or_default();
            // The name stands in parentheses and may hold anything; state and parent follow.
            let rest = status.rsplit_once(") ").map_or("", |(_, rest)| rest);
            if let Some(parent) = rest.split(' ').nth(1).and_then(|text| text.parse().ok()) {
                children.entry(parent).or_default().push(process);
            }
        }
        let mut used = Used::default();
        let mut next = vec![ancestor.as_raw_nonzero().get()];
        while let Some(process) = next.pop() {
            for child in children.remove(&process).unwrap_or_default() {
                used.add(&PathBuf::from(format!("/proc/{child}")));
                next.push(child);
            }
        }
        used
    }

    /// Counts one, with the pages it holds.
    fn add(&mut self, folder: &Path) {
        self.processes += 1;
        let numbers = fs::read_to_string(folder.join("statm")).unwrap_or_default();
        let resident = numbers.split(' ').nth(1);
        let resident = resident.and_then(|pages| pages.parse::<u64>().ok());
        self.pages += resident.unwrap_or(0);
    }

    /// Which limit is passed.
    pub(crate) fn beyond(self, limits: &Limits) -> Option<End> {
        let bytes = self.pages.saturating_mul(rustix::param::page_size() as u64);
        if self.processes >= u64::from(limits.pids) {
            return Some(End::TooManyProcesses);
        }
        let memory = limits.memory.filter(|limit| bytes > *limit);
        memory.map(|_| End::OutOfMemory)
    }
}

/// All processes of a `/proc`, each with its folder.
fn processes(proc: &Path) -> impl Iterator<Item = (i32, PathBuf)> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, entry.path()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_counted_with_their_memory() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 5 & sleep 5; wait"])
            .spawn()
            .unwrap();
        let begun = std::time::Instant::now();
        let mut used = Used::default();
        while used.processes < 2 && begun.elapsed().as_secs() < 5 {
            used = Used::by_descendants(Pid::from_child(&child));
        }
        assert!(used.processes == 2 && used.pages > 0, "{used:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_limit_is_passed_by_processes_or_by_memory() {
        let limits = Limits {
            memory: Some(1 << 20),
            pids: 10,
            ..Limits::default()
        };
        let used = |processes, pages| Used { processes, pages };
        assert_eq!(used(9, 16).beyond(&limits), None);
        assert_eq!(used(10, 16).beyond(&limits), Some(End::TooManyProcesses));
        assert_eq!(used(1, 1 << 10).beyond(&limits), Some(End::OutOfMemory));
    }
}
