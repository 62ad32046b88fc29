//! `boxwright build`: a spec becomes an image, several become several side by side.

use std::fmt::Write as _;

use boxwright::build::{BuildReport, BuildRequest, Difference};

use crate::cli::args::BuildArgs;
use crate::cli::cache;
use crate::cli::corridor;
use crate::cli::exit::Failure;
use crate::cli::progress::Progress;
use crate::cli::progress::line::printable;
use crate::cli::settings::{Environment, ProgressStyle, scratch_folder};
use crate::cli::summary;
use crate::cli::table::json_text;
use crate::cli::terminal::{BOLD_RED, Terminal};

mod places;
mod several;

/// Builds all that is asked for, or with `--dry-run` shows the plans.
pub(crate) fn run(
    args: &BuildArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let asked = environment.build_requests(args)?;
    match &asked.requests[..] {
        [request] if !asked.is_group => one(request, args, terminal),
        _ => several::build(&asked, args, terminal),
    }
}

fn one(request: &BuildRequest, args: &BuildArgs, terminal: &Terminal) -> Result<(), Failure> {
    if args.how.dry_run {
        let plan = corridor::plan(request)?;
        return match args.how.json {
            true => terminal.print(&json_text(&plan.json)),
            false => terminal.print(&plan.text),
        };
    }
    places::make_folders(&args.result.outputs)?;
    let style = ProgressStyle::decide(args.report.progress, terminal);
    let progress = Progress::new(style, terminal);
    let result = match args.how.verify {
        true => verified(request, &progress),
        false => corridor::build(request, &progress).map(|report| (report, None)),
    };
    cache::trim(&request.store_root);
    let took = progress.finish();
    let (report, differences) = result?;
    if matches!(style, ProgressStyle::Live | ProgressStyle::Plain) {
        terminal.say(&summary::render(&report, took, terminal.width()));
    }
    summary::print(args.report.print, &[report.manifest], &report, terminal)?;
    match differences {
        None => Ok(()),
        Some(differences) => {
            terminal.say(&differences);
            Err(Failure::SaidAlready)
        }
    }
}

/// Builds twice; what differs comes as text.
fn verified(
    request: &BuildRequest,
    progress: &Progress,
) -> Result<(BuildReport, Option<String>), Failure> {
    let scratch = scratch_folder(None)?;
    let verification = corridor::verify(request, scratch.path(), progress)?;
    let store = scratch.path().join("store");
    // Trees of commands may belong to ids of a namespace, which a plain removal cannot take away.
    cache::swept(&store)?;
    if verification.differences.is_empty() {
        return Ok((verification.report, None));
    }
    let mut text = format!(
        "{BOLD_RED}error{BOLD_RED:#}: the second build gave another image, {}\n",
        verification.again
    );
    for Difference { layer, path, what } in &verification.differences {
        let _ = writeln!(
            text,
            "  {} in {}: {what}",
            printable(path),
            printable(layer)
        );
    }
    Ok((verification.report, Some(text)))
}
