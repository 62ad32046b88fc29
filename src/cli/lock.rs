//! `boxwright lock`: what a spec takes from outside, noted beside it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boxwright::build::{BuildRequest, LockChange, LockScope};
use boxwright::oci::Digest;
use boxwright::spec::{Lock, SourceText};

use crate::cli::args::LockArgs;
use crate::cli::corridor;
use crate::cli::exit::{Blame, Failure};
use crate::cli::progress::line::printable;
use crate::cli::settings::{Environment, MOST_TEXT, read_at_most};
use crate::cli::terminal::{DIM, Terminal};

/// Writes the lock of each spec, or with `--check` compares them.
pub(crate) fn run(
    args: &LockArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    for request in environment.lock_requests(args)? {
        // Members of one spec have one lock, which holds what each of them needs.
        let adds = args.add || !seen.insert(request.spec_file.clone());
        one(&request, args, adds, terminal)?;
    }
    Ok(())
}

fn one(
    request: &BuildRequest,
    args: &LockArgs,
    adds: bool,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let path = lock_file(&request.spec_file);
    let name = path.display().to_string();
    let scope = match (adds, args.update.is_empty()) {
        (true, true) => LockScope::Additions,
        (false, true) => LockScope::Everything,
        (_, false) => LockScope::Only(args.update.clone()),
    };
    if args.check {
        let lock = existing(&path)?;
        corridor::check_lock(request, &lock)?;
        terminal.say(&format!("{name} is up to date: {}\n", contents(&lock)));
        return Ok(());
    }
    let earlier = match scope {
        LockScope::Only(_) => existing(&path)?,
        // What is damaged and not needed is no obstacle to what mends it.
        LockScope::Everything => read(&path)
            .ok()
            .flatten()
            .unwrap_or_else(|| Lock::empty(&name)),
        LockScope::Additions => read(&path)?.unwrap_or_else(|| Lock::empty(&name)),
    };
    let locked = corridor::lock(request, &earlier, &scope)?;
    let is_new = corridor::write_lock(&locked.lock, &path)?;
    let mut text = told(&locked.changes);
    let state = match is_new {
        true => format!("wrote {name}"),
        false => format!("{name} is up to date"),
    };
    let _ = writeln!(text, "{state}: {}", contents(&locked.lock));
    terminal.say(&text);
    Ok(())
}

/// The lock of a spec: `boxwright.lock` beside `boxwright.yaml`.
pub(crate) fn lock_file(spec_file: &Path) -> PathBuf {
    let lock = spec_file.with_extension(EXTENSION);
    // A spec of that name must not be written over.
    match lock == spec_file {
        true => spec_file.with_added_extension(EXTENSION),
        false => lock,
    }
}

const EXTENSION: &str = "lock";

/// The lock, which must be there.
pub(crate) fn existing(path: &Path) -> Result<Lock, Failure> {
    read(path)?.ok_or_else(|| {
        let headline = format!("there is no {}", path.display());
        Failure::new(Blame::Input, headline).hint("write it: boxwright lock")
    })
}

fn read(path: &Path) -> Result<Option<Lock>, Failure> {
    let name = path.display().to_string();
    // It comes with the sources, and what is in their place may be no file.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(Failure::new(Blame::Input, format!("{name} is no file")));
    }
    let bytes = match read_at_most(path, MOST_TEXT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|error| Failure::system(format!("read {name}"), &error))?,
    };
    let source = Arc::new(SourceText::from_bytes(name, bytes)?);
    Ok(Some(Lock::parse(&source)?))
}

/// One line for each thing that is other than before.
fn told(changes: &[LockChange]) -> String {
    let mut text = String::new();
    for LockChange {
        name,
        before,
        after,
    } in changes
    {
        let short = |digest: &Digest| digest.short();
        let how = match (before, after) {
            (Some(before), Some(after)) => format!("{} → {}", short(before), short(after)),
            (None, Some(after)) => format!("{} (new)", short(after)),
            (Some(before), None) => format!("{} (not used any more)", short(before)),
            (None, None) => continue,
        };
        let _ = writeln!(text, "{}\n  {DIM}{how}{DIM:#}", printable(name));
    }
    text
}

fn contents(lock: &Lock) -> String {
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    };
    let images = count(lock.images.len(), "image");
    format!("{images}, {}", count(lock.files.len(), "file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_lies_beside_its_spec_and_never_is_it() {
        for (spec, expected) in [
            ("boxwright.yaml", "boxwright.lock"),
            ("a/b.box.yaml", "a/b.box.lock"),
            ("Dockerfile", "Dockerfile.lock"),
            ("odd.lock", "odd.lock.lock"),
        ] {
            assert_eq!(lock_file(Path::new(spec)), Path::new(expected), "{spec}");
        }
    }
}
