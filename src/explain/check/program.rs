//! Programs: how a runtime finds the file that a container runs, and whether the kernel will.
//!
//! A name without a slash is looked for in the directories of PATH, another one from the working
//! directory on. OCI runtime spec, `config.md`, "process"; `execve(2)` for the rest.

use crate::explain::check::View;
use crate::explain::check::user::{EXECUTE, Identity, READ};
use crate::explain::error::ExplainError;
use crate::oci::Platform;
use crate::tree::{Entry, LayerPath};

/// What runtimes use where the config has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What became of looking for a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Search {
    /// The user can execute the file at this path.
    Found(LayerPath),
    /// A file is there and the user cannot execute it, for this reason.
    Forbidden(LayerPath, String),
    /// Nothing is there.
    Missing,
}

/// Why the kernel would not run a file that is there and executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It cannot be loaded, for this reason.
    CannotLoad(String),
    /// It is for another processor, whose name follows.
    WrongArchitecture(String),
}

/// Looks for `program` as a runtime does.
pub(crate) fn search(view: &View<'_>, identity: &Identity, program: &str) -> Search {
    let config = &view.subject.config.config;
    let workdir = match view.find(&LayerPath::root(), config.working_dir.as_bytes()) {
        Some((path, _)) => path,
        None => LayerPath::root(),
    };
    if program.contains('/') {
        return look(view, identity, &workdir, program.as_bytes());
    }
    let paths = config
        .env
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("PATH="));
    let mut result = Search::Missing;
    for directory in paths.unwrap_or(DEFAULT_PATH).split(':') {
        let candidate = format!("{directory}/{program}");
        match look(
            view,
            identity,
            &workdir,
            candidate.trim_start_matches("./").as_bytes(),
        ) {
            Search::Missing => {}
            found @ Search::Found(_) => return found,
            forbidden @ Search::Forbidden(..) => {
                if result == Search::Missing {
                    result = forbidden;
                }
            }
        }
    }
    result
}

fn look(view: &View<'_>, identity: &Identity, workdir: &LayerPath, text: &[u8]) -> Search {
    let Some((path, entry)) = view.find(workdir, text) else {
        return Search::Missing;
    };
    let who = identity.shown();
    let forbidden = |reason: String| Search::Forbidden(path.clone(), reason);
    if entry.is_directory() {
        return forbidden("it is a directory".to_owned());
    }
    if entry.as_file().is_none() {
        return forbidden("it is no regular file".to_owned());
    }
    let closed = |above: &LayerPath| {
        let directory = view.subject.tree.entry(above)?;
        (!identity.may(directory, EXECUTE)).then(|| described(above, directory))
    };
    if let Some(directory) = path.ancestors().find_map(|above| closed(&above)) {
        return forbidden(format!("{who} may not enter {directory}"));
    }
    if !identity.may(entry, EXECUTE) {
        return forbidden(format!("{who} may not execute {}", described(&path, entry)));
    }
    Search::Found(path.clone())
}

fn described(path: &LayerPath, entry: &Entry) -> String {
    let Entry { mode, uid, gid, .. } = entry;
    format!("{path} (mode {mode:04o}, owner {uid}:{gid})")
}

/// Asks what the kernel will make of the program at `path`.
pub(crate) fn load(
    view: &View<'_>,
    identity: &Identity,
    path: &LayerPath,
) -> Result<Option<Fault>, ExplainError> {
    let head = view.head(path, HEAD)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let readable = view
            .subject
            .tree
            .entry(path)
            .is_some_and(|entry| identity.may(entry, READ));
        if !readable {
            let reason = format!("{} may not read the script", identity.shown());
            return Ok(Some(Fault::CannotLoad(reason)));
        }
        return Ok(script_fault(view, identity, line));
    }
    if head.starts_with(b"\x7fELF") {
        return Ok(elf_fault(view, &head));
    }
    let reason = if head.is_empty() {
        "it is empty"
    } else {
        "it begins neither with #! nor as an ELF program"
    };
    Ok(Some(Fault::CannotLoad(reason.to_owned())))
}

/// The kernel reads a page of a program before it decides; loaders are named within it.
const HEAD: usize = 4096;

/// The interpreter of a script's first line, and with `env` the program it is to find.
fn script_fault(view: &View<'_>, identity: &Identity, line: &[u8]) -> Option<Fault> {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let interpreter = words.next().unwrap_or_default();
    if let Some(name) = interpreter.strip_suffix('\r') {
        let reason = format!(
            "its first line ends as on Windows, so {name:?} is looked for with a carriage return"
        );
        return Some(Fault::CannotLoad(reason));
    }
    let missing =
        |what: &str| Fault::CannotLoad(format!("its interpreter {what} is not in the image"));
    if interpreter.is_empty() {
        return Some(Fault::CannotLoad(
            "its #! line names no interpreter".to_owned(),
        ));
    }
    if !matches!(search_file(view, identity, interpreter), Search::Found(_)) {
        return Some(missing(interpreter));
    }
    if !interpreter.ends_with("/env") {
        return None;
    }
    let program = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    let program = program.trim_end_matches('\r');
    let found = matches!(search(view, identity, program), Search::Found(_));
    (!found).then(|| missing(program))
}

/// An interpreter's path is used as it is, never looked for in PATH.
fn search_file(view: &View<'_>, identity: &Identity, path: &str) -> Search {
    if path.contains('/') {
        search(view, identity, path)
    } else {
        Search::Missing
    }
}

fn elf_fault(view: &View<'_>, head: &[u8]) -> Option<Fault> {
    let elf = Elf::parse(head)?;
    let platform = &view.subject.config.platform;
    if let Some(found) = elf.foreign_to(platform) {
        return Some(Fault::WrongArchitecture(found.to_owned()));
    }
    let loader = elf.loader()?;
    view.find(&LayerPath::root(), loader.as_bytes())
        .is_none()
        .then(|| {
            Fault::CannotLoad(format!(
                "it is linked dynamically and its loader {loader} is not in the image"
            ))
        })
}

/// The head of an ELF file, as far as it is at hand.
struct Elf<'a> {
    head: &'a [u8],
    is_64_bit: bool,
    is_big_endian: bool,
}

/// `e_machine` of the architectures that images name.
const MACHINES: [(u64, &str); 8] = [
    (3, "386"),
    (8, "mips64le"),
    (21, "ppc64le"),
    (22, "s390x"),
    (40, "arm"),
    (62, "amd64"),
    (183, "arm64"),
    (243, "riscv64"),
];
const PT_INTERP: u64 = 3;

impl<'a> Elf<'a> {
    fn parse(head: &'a [u8]) -> Option<Elf<'a>> {
        Some(Elf {
            head,
            is_64_bit: *head.get(4)? == 2,
            is_big_endian: *head.get(5)? == 2,
        })
    }

    /// The unsigned number of `width` bytes at `offset`.
    fn number(&self, offset: usize, width: usize) -> Option<u64> {
        let bytes = self.head.get(offset..offset.checked_add(width)?)?;
        let join = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.is_big_endian {
            bytes.iter().fold(0, join)
        } else {
            bytes.iter().rev().fold(0, join)
        })
    }

    /// The architecture, if it is known and not one that `platform` runs.
    fn foreign_to(&self, platform: &Platform) -> Option<&'static str> {
        let machine = self.number(18, 2)?;
        let (_, found) = MACHINES.iter().find(|(number, _)| *number == machine)?;
        let wanted = platform.architecture.as_str();
        let is_judged = MACHINES.iter().any(|(_, name)| *name == wanted);
        let runs =
            *found == wanted || matches!((wanted, *found), ("amd64", "386") | ("arm64", "arm"));
        (is_judged && !runs).then_some(*found)
    }

    /// The path of the dynamic loader (`PT_INTERP`); `None` for a static program.
    fn loader(&self) -> Option<String> {
        let (table, size, count) = if self.is_64_bit {
            (
                self.number(32, 8)?,
                self.number(54, 2)?,
                self.number(56, 2)?,
            )
        } else {
            (
                self.number(28, 4)?,
                self.number(42, 2)?,
                self.number(44, 2)?,
            )
        };
        let segment = |index: u64| usize::try_from(table.checked_add(index * size)?).ok();
        let at = (0..count)
            .filter_map(segment)
            .find(|&at| self.number(at, 4) == Some(PT_INTERP))?;
        let (offset, length) = if self.is_64_bit {
            (
                self.number(at.checked_add(8)?, 8)?,
                self.number(at.checked_add(32)?, 8)?,
            )
        } else {
            (
                self.number(at.checked_add(4)?, 4)?,
                self.number(at.checked_add(16)?, 4)?,
            )
        };
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        let text = self.head.get(start..end)?.split(|&byte| byte == 0).next()?;
        std::str::from_utf8(text)
            .ok()
            .filter(|path| path.starts_with('/'))
            .map(str::to_owned)
    }
}
