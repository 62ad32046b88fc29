//! `boxwright build`: a spec becomes an image.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use boxwright::build::{BuildReport, BuildRequest, Difference};
use boxwright::oci::Digest;
use boxwright::spec::ImageSource;

use crate::cli::args::BuildArgs;
use crate::cli::cache;
use crate::cli::corridor;
use crate::cli::exit::{Blame, Failure};
use crate::cli::progress::Progress;
use crate::cli::progress::line::printable;
use crate::cli::settings::{Environment, ProgressStyle, scratch_folder};
use crate::cli::summary;
use crate::cli::table::json_text;
use crate::cli::terminal::{BOLD_RED, Terminal};

/// Builds all specs, or with `--dry-run` shows the plan of one.
pub(crate) fn run(
    args: &BuildArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let requests = environment.build_requests(args)?;
    match &requests[..] {
        [request] => one(request, args, terminal),
        several => all(several, args, terminal),
    }
}

/// Builds several specs one after the other. Each is told as if it were alone, then what they have
/// in common.
fn all(requests: &[BuildRequest], args: &BuildArgs, terminal: &Terminal) -> Result<(), Failure> {
    let style = ProgressStyle::decide(args.report.progress, terminal);
    let tells = matches!(style, ProgressStyle::Live | ProgressStyle::Plain);
    each_has_its_place(requests)?;
    let mut reports = Vec::new();
    for request in requests {
        let progress = Progress::new(style, terminal);
        let result = corridor::build(request, &progress);
        cache::trim(&request.store_root);
        let took = progress.finish();
        let report = result?;
        if tells {
            terminal.say(&summary::render(&report, took, terminal.width()));
        }
        reports.push(report);
    }
    if tells {
        terminal.say(&summary::shared(&reports));
    }
    let digests: Vec<Digest> = reports.iter().map(|report| report.manifest).collect();
    summary::print(args.report.print, &digests, &reports, terminal)
}

/// No image may take the place of another.
fn each_has_its_place(requests: &[BuildRequest]) -> Result<(), Failure> {
    let mut taken = BTreeMap::new();
    for request in requests {
        for output in corridor::outputs_of(request)? {
            let is_shared = matches!(output, ImageSource::Layout { .. });
            let before = taken.insert(output.to_string(), &request.spec_file);
            if let Some(before) = before.filter(|_| !is_shared) {
                let (one, two) = (before.display(), request.spec_file.display());
                let headline = format!("the images of {one} and {two} would both be {output}");
                return Err(Failure::new(Blame::CommandLine, headline)
                    .hint("write -o oci:DIR for one layout of all, or build one after the other"));
            }
        }
    }
    Ok(())
}

fn one(request: &BuildRequest, args: &BuildArgs, terminal: &Terminal) -> Result<(), Failure> {
    if args.how.dry_run {
        let plan = corridor::plan(request)?;
        return match args.how.json {
            true => terminal.print(&json_text(&plan.json)),
            false => terminal.print(&plan.text),
        };
    }
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
