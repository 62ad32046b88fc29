//! Workspaces: a file of specs, and the names of some of them, become members.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boxwright::build::{SPEC_NAME, declared_args};
use boxwright::spec::{self, Diagnostic, Diagnostics, Workspace, nearest};

use crate::cli::exit::{Blame, Failure};
use crate::cli::settings::Environment;
use crate::cli::settings::requests::{Member, read_source, read_spec};

use crate::cli::args::Override;

/// The name of a workspace in its folder.
const WORKSPACE_NAME: &str = "boxwright.workspace.yaml";

/// What is typed beside a workspace.
pub(crate) struct Chosen<'a> {
    /// The workspace or its folder.
    pub(crate) file: &'a Path,
    /// The members that are wanted; none means all.
    pub(crate) names: Vec<String>,
    /// Values for all members whose specs declare the argument.
    pub(crate) args: &'a [Override],
}

/// A member that is wanted, with its spec found.
struct Found<'w> {
    written: &'w spec::Member,
    spec_file: PathBuf,
    declared: BTreeSet<String>,
}

impl Environment {
    /// The members of a workspace that are wanted, in the order of the file.
    pub(crate) fn workspace(&self, chosen: &Chosen<'_>) -> Result<Vec<Member>, Failure> {
        let file = workspace_file(chosen.file);
        if !file.exists() {
            let headline = format!("there is no workspace {}", file.display());
            return Err(Failure::new(Blame::Input, headline).hint(
                "write it, with a line for each spec:\nformat: 1\nmembers:\n  - path/to/a/spec",
            ));
        }
        let source = read_source(&file, "the workspace")?;
        let workspace = Workspace::parse(&source)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let found = wanted(&workspace, &chosen.names, folder)?;
        declared_somewhere(&workspace, &found, folder)?;
        let typed = self.overrides("--arg", chosen.args)?;
        for (name, _) in &typed {
            known_argument(name, &found)?;
        }
        Ok(found
            .into_iter()
            .map(|found| member(&workspace, found, &typed))
            .collect())
    }
}

/// The workspace that a path names: itself, or the one in that folder.
fn workspace_file(typed: &Path) -> PathBuf {
    match (typed.is_dir(), typed == Path::new(".")) {
        (false, _) => typed.to_owned(),
        (true, true) => PathBuf::from(WORKSPACE_NAME),
        (true, false) => typed.join(WORKSPACE_NAME),
    }
}

/// The members with these names, or all, with their specs. All that is wrong is told at once.
fn wanted<'w>(
    workspace: &'w Workspace,
    names: &[String],
    folder: &Path,
) -> Result<Vec<Found<'w>>, Failure> {
    let mut problems = Diagnostics::new();
    let mut chosen = BTreeSet::new();
    for name in names {
        match workspace.member(name) {
            Ok(member) => drop(chosen.insert(member.name.as_str())),
            Err(unknown) => problems.extend(unknown),
        }
    }
    let is_wanted = |one: &&spec::Member| names.is_empty() || chosen.contains(one.name.as_str());
    let mut found = Vec::new();
    for written in workspace.members.iter().filter(is_wanted) {
        match located(workspace, written, folder) {
            Ok(spec_file) => {
                let declared = declared_args(&spec_file, &read_spec(&spec_file)?)?;
                problems.extend(undeclared(workspace, written, &declared));
                found.push(Found {
                    written,
                    spec_file,
                    declared,
                });
            }
            Err(found) => problems.extend(found),
        }
    }
    Ok(problems.finish(found)?)
}

/// The file of a member's spec.
fn located(
    workspace: &Workspace,
    member: &spec::Member,
    folder: &Path,
) -> Result<PathBuf, Diagnostics> {
    let path = folder.join(&member.spec.value);
    let file = match path.is_dir() {
        true => path.join(SPEC_NAME),
        false => path,
    };
    if file.exists() {
        return Ok(file);
    }
    let message = format!("there is no spec {}", file.display());
    let diagnostic = Diagnostic::new(&workspace.source, member.spec.span, message);
    Err(diagnostic
        .help("name a spec or its folder, relative to the folder of this file")
        .into())
}

/// Values of a member for arguments that its spec does not have.
fn undeclared(
    workspace: &Workspace,
    member: &spec::Member,
    declared: &BTreeSet<String>,
) -> Vec<Diagnostic> {
    let unknown = member
        .args
        .iter()
        .filter(|one| !declared.contains(one.name.as_str()));
    let told = unknown.map(|one| {
        let spec = member.spec.value.display();
        let message = format!("the spec {spec} declares no argument `{}`", one.name.value);
        let diagnostic = Diagnostic::new(&workspace.source, one.name.span, message);
        diagnostic.help(similar(&one.name.value, declared.iter()))
    });
    told.collect()
}

/// What to write instead of the name of an argument that is not there.
fn similar<'d>(name: &str, declared: impl Iterator<Item = &'d String>) -> String {
    let known: BTreeSet<&str> = declared.map(String::as_str).collect();
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("declare it there: `args: {{{name}: default}}`"),
        None => {
            let known: Vec<&str> = known.into_iter().collect();
            format!("there are {}", known.join(", "))
        }
    }
}

/// Arguments for all members belong to at least one, if not of those that are wanted.
fn declared_somewhere(
    workspace: &Workspace,
    found: &[Found<'_>],
    folder: &Path,
) -> Result<(), Failure> {
    let is_known = |name: &str| found.iter().any(|one| one.declared.contains(name));
    let mut open: Vec<&spec::Argument> = workspace.args.iter().collect();
    open.retain(|one| !is_known(&one.name.value));
    for member in &workspace.members {
        if open.is_empty() {
            return Ok(());
        }
        // What is wrong with the spec of a member that is not wanted is told when it is.
        let of_member = located(workspace, member, folder).ok();
        let of_member =
            of_member.and_then(|file| declared_args(&file, &read_spec(&file).ok()?).ok());
        match of_member {
            Some(declared) => open.retain(|one| !declared.contains(one.name.as_str())),
            None => return Ok(()),
        }
    }
    let told = open.into_iter().map(|one| {
        let message = format!("no member declares the argument `{}`", one.name.value);
        let diagnostic = Diagnostic::new(&workspace.source, one.name.span, message);
        diagnostic.help(similar(
            &one.name.value,
            found.iter().flat_map(|one| &one.declared),
        ))
    });
    Ok(Diagnostics::from_iter(told).finish(())?)
}

fn known_argument(name: &str, found: &[Found<'_>]) -> Result<(), Failure> {
    let mut declared = found.iter().flat_map(|one| &one.declared);
    if declared.any(|known| known == name) {
        return Ok(());
    }
    let headline = format!("--arg {name}: none of the members declares this argument");
    let declared = found.iter().flat_map(|one| &one.declared);
    Err(Failure::new(Blame::CommandLine, headline).hint(similar(name, declared)))
}

fn member(workspace: &Workspace, found: Found<'_>, typed: &[(String, String)]) -> Member {
    let Found {
        written,
        spec_file,
        declared,
    } = found;
    let given = |args: &[spec::Argument]| -> Vec<(String, String)> {
        let pair = |one: &spec::Argument| (one.name.value.clone(), one.value.clone());
        args.iter().map(pair).collect()
    };
    // The last value of a name counts: what is typed goes before the member, and that before all.
    let all = given(&workspace.args).into_iter();
    let mut args: BTreeMap<String, String> =
        all.filter(|(name, _)| declared.contains(name)).collect();
    args.extend(given(&written.args));
    let typed = typed.iter().filter(|(name, _)| declared.contains(name));
    args.extend(typed.cloned());
    let value =
        |name: &Option<spec::Spanned<spec::Name>>| name.as_ref().map(|name| name.value.clone());
    Member {
        name: written.name.value.clone(),
        target: value(&written.target),
        profile: value(&written.profile),
        args: args.into_iter().collect(),
        takes_typed_args: false,
        platforms: written
            .platforms
            .iter()
            .map(|one| one.value.clone())
            .collect(),
        tags: written
            .tags
            .iter()
            .map(|tag| (Arc::clone(&workspace.source), tag.clone()))
            .collect(),
        inputs: vec![PathBuf::from(&workspace.source.name)],
        ..Member::of_spec(spec_file)
    }
}
