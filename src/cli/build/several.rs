//! Several images in one process, side by side: one crew, one display, one report.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use boxwright::build::{BuildReport, Crew};
use boxwright::oci::Digest;
use serde::Serialize;
use serde_json::json;

use crate::cli::args::BuildArgs;
use crate::cli::build::places::{each_has_its_place, make_folders};
use crate::cli::cache;
use crate::cli::corridor;
use crate::cli::exit::Failure;
use crate::cli::progress::Progress;
use crate::cli::settings::{Asked, ProgressStyle};
use crate::cli::summary::{self, MemberLine};
use crate::cli::table::json_text;
use crate::cli::terminal::{BOLD, BOLD_RED, Terminal};

/// What became of one image.
enum Outcome {
    Built(Box<BuildReport>, Duration),
    Failed(Failure),
    /// Another one failed before it was its turn.
    NotBegun,
}

/// A report, and whose it is.
#[derive(Serialize)]
struct OfMember<'a> {
    member: &'a str,
    #[serde(flatten)]
    report: &'a BuildReport,
}

/// Builds all, or shows their plans.
pub(super) fn build(
    asked: &Asked,
    args: &BuildArgs,
    terminal: &Terminal,
) -> Result<Vec<BuildReport>, Failure> {
    // What is wrong with any of the specs is told before the first is built.
    if let Err(wrong) = each_has_its_place(asked) {
        return Err(told(asked, wrong, terminal));
    }
    if args.how.dry_run {
        plans(asked, args, terminal)?;
        return Ok(Vec::new());
    }
    make_folders(&args.result.outputs)?;
    let style = ProgressStyle::decide(args.report.progress, terminal);
    let progress = Progress::of_members(style, terminal, &asked.names);
    let outcomes = side_by_side(asked, args.how.keep_going, &progress);
    if let Some(request) = asked.requests.first() {
        cache::trim(&request.store_root);
    }
    progress.finish();
    if matches!(style, ProgressStyle::Live | ProgressStyle::Plain) {
        terminal.say(&told_of(asked, &outcomes, terminal.width()));
    }
    let (mut reports, mut failed, mut not_begun) = (Vec::new(), Vec::new(), Vec::new());
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Outcome::Built(report, _) => reports.push(*report),
            Outcome::Failed(failure) => failed.push((number, failure)),
            Outcome::NotBegun => not_begun.push(asked.names[number].as_str()),
        }
    }
    if !failed.is_empty() {
        let failure = told(asked, failed, terminal);
        if !not_begun.is_empty() {
            let names = not_begun.join(", ");
            let hint = "with --keep-going what can be built is built";
            terminal.say(&format!("\nNot begun: {names}; {hint}\n"));
        }
        return Err(failure);
    }
    let digests: Vec<Digest> = reports.iter().map(|report| report.manifest).collect();
    let members = asked.names.iter().zip(&reports);
    let members: Vec<OfMember<'_>> = members
        .map(|(member, report)| OfMember { member, report })
        .collect();
    summary::print(args.report.print, &digests, &members, terminal)?;
    Ok(reports)
}

/// Builds in the order of the members, as many at once as there are threads. After a failure no other
/// is begun, unless all should be tried.
fn side_by_side(asked: &Asked, keep_going: bool, progress: &Progress) -> Vec<Outcome> {
    let Some(first) = asked.requests.first() else {
        return Vec::new();
    };
    let crew = Crew::of(first.jobs);
    let next = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let outcomes = asked.requests.iter().map(|_| Outcome::NotBegun);
    let outcomes = Mutex::new(outcomes.collect::<Vec<_>>());
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(request) = asked.requests.get(number) else {
                return;
            };
            let name = &asked.names[number];
            let began = Instant::now();
            let built = corridor::build_beside(request, &crew, &progress.of(name));
            let took = began.elapsed();
            let outcome = match built {
                Ok(report) => {
                    progress.member_is_done(name, Ok(&report.manifest), took);
                    Outcome::Built(Box::new(report), took)
                }
                Err(failure) => {
                    progress.member_is_done(name, Err(()), took);
                    is_over.fetch_or(!keep_going, Ordering::Relaxed);
                    Outcome::Failed(failure)
                }
            };
            outcomes.lock().unwrap_or_else(PoisonError::into_inner)[number] = outcome;
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..first.jobs.get().min(asked.requests.len()) {
            scope.spawn(work);
        }
        work();
    });
    outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Tells of all failures, each under the name of its image; the code of the first counts.
fn told(asked: &Asked, failed: Vec<(usize, Failure)>, terminal: &Terminal) -> Failure {
    let mut failed = failed.into_iter();
    let mut code = None;
    for (number, failure) in failed.by_ref() {
        let name = &asked.names[number];
        let text = failure.render(terminal.width());
        terminal.say(&format!("\n{BOLD_RED}{name}{BOLD_RED:#}\n{text}"));
        code.get_or_insert(failure.code());
    }
    code.map_or(Failure::SaidAlready, Failure::SaidWith)
}

fn told_of(asked: &Asked, outcomes: &[Outcome], width: usize) -> String {
    let lines = asked.names.iter().zip(outcomes);
    let lines: Vec<MemberLine<'_>> = lines
        .map(|(name, outcome)| match outcome {
            Outcome::Built(report, took) => MemberLine::Built {
                name,
                report,
                took: *took,
            },
            Outcome::Failed(_) => MemberLine::Failed(name),
            Outcome::NotBegun => MemberLine::NotBegun(name),
        })
        .collect();
    summary::members(&lines, width)
}

/// All plans: one after the other, or as a list.
fn plans(asked: &Asked, args: &BuildArgs, terminal: &Terminal) -> Result<(), Failure> {
    let mut texts = Vec::new();
    let mut list = Vec::new();
    for (name, request) in asked.names.iter().zip(&asked.requests) {
        let plan = corridor::plan(request)?;
        texts.push(format!("{BOLD}{name}{BOLD:#}\n{}", plan.text));
        list.push(json!({"member": name, "plan": plan.json}));
    }
    match args.how.json {
        true => terminal.print(&json_text(&list)),
        false => terminal.print(&texts.join("\n")),
    }
}
