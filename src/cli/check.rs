//! `boxwright check`: what has no business in an image, and why it may not start.

use std::path::{Path, PathBuf};

use boxwright::explain::{Allowed, CheckReport, Code};
use serde::Serialize;

use crate::cli::args::CheckArgs;
use crate::cli::corridor;
use crate::cli::exit::Failure;
use crate::cli::image_argument;
use crate::cli::progress::Progress;
use crate::cli::progress::line::printable;
use crate::cli::report;
use crate::cli::settings::{Environment, Member, ProgressStyle};
use crate::cli::table::{Align, Table, json_text};
use crate::cli::terminal::{BOLD, Terminal};

/// Checks specs and images; findings go to standard output.
pub(crate) fn run(
    args: &CheckArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    if args.list {
        return terminal.print(&codes(terminal.width()));
    }
    let allowed = Allowed::from_iter(args.allow.iter().copied());
    let found = found(args, &allowed, environment, terminal)?;
    match (args.json, &found[..]) {
        (true, [(_, only)]) if args.workspace.is_none() => terminal.print(&json_text(only))?,
        (true, several) => {
            let named = several.iter();
            let named: Vec<Checked<'_>> = named
                .map(|(subject, report)| Checked { subject, report })
                .collect();
            terminal.print(&json_text(&named))?;
        }
        (false, several) => {
            for (subject, report) in several {
                if several.len() > 1 {
                    terminal.print(&format!("{BOLD}{}{BOLD:#}\n", printable(subject)))?;
                }
                terminal.print(&report::check(report, terminal.width()))?;
            }
        }
    }
    match found.iter().any(|(_, report)| report.has_errors()) {
        true => Err(Failure::SaidAlready),
        false => Ok(()),
    }
}

/// A report and what it is about.
#[derive(Serialize)]
struct Checked<'a> {
    subject: &'a str,
    #[serde(flatten)]
    report: &'a CheckReport,
}

/// What is found in each image and in the target of each spec.
fn found(
    args: &CheckArgs,
    allowed: &Allowed,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<Vec<(String, CheckReport)>, Failure> {
    let check_member = |member: Member| {
        let name = member.name.clone();
        let request = environment.check_request(args, member)?;
        let progress = Progress::new(ProgressStyle::Quiet, terminal);
        let found = corridor::check_spec(&request, allowed.clone(), &progress)?;
        Ok((name, found))
    };
    if args.workspace.is_some() || args.subjects.is_empty() {
        let words: Vec<PathBuf> = args.subjects.iter().map(PathBuf::from).collect();
        let members = environment.members(args.workspace.as_deref(), &words, &args.args)?;
        return members.into_iter().map(check_member).collect();
    }
    let check = |subject: &String| match image_argument::recognize(subject)? {
        Some(image) => {
            let store = environment.store_root(args.store.store.as_deref())?;
            let registries = environment.registries(&args.network);
            let found = corridor::check_image(&image, &store, registries, allowed)?;
            Ok((subject.clone(), found))
        }
        None => check_member(Member::typed(Path::new(subject))?),
    };
    args.subjects.iter().map(check).collect()
}

/// All codes with their meanings, and their remedies below.
fn codes(width: usize) -> String {
    let mut table = Table::new(&[Align::Left, Align::Left, Align::Left]);
    for code in Code::ALL {
        let severity = code.severity().to_string();
        table.row([code.to_string(), severity, code.title().to_owned()]);
    }
    table.lines(width).join("\n") + "\n"
}
