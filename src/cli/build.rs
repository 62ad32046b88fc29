//! `boxwright build`: a spec becomes an image.

use boxwright::build::BuildReport;

use crate::cli::args::{BuildArgs, PrintArg};
use crate::cli::corridor;
use crate::cli::exit::Failure;
use crate::cli::progress::Progress;
use crate::cli::settings::{Environment, ProgressStyle};
use crate::cli::summary;
use crate::cli::table::json_text;
use crate::cli::terminal::Terminal;

/// Builds, or with `--dry-run` shows the plan.
pub(crate) fn run(
    args: &BuildArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let request = environment.build_request(args)?;
    if args.how.dry_run {
        let plan = corridor::plan(&request)?;
        return match args.how.json {
            true => terminal.print(&json_text(&plan.json)),
            false => terminal.print(&plan.text),
        };
    }
    let style = ProgressStyle::decide(args.report.progress, terminal);
    let progress = Progress::new(style, terminal);
    let result = corridor::build(&request, &progress);
    let took = progress.finish();
    let report = result?;
    if matches!(style, ProgressStyle::Live | ProgressStyle::Plain) {
        terminal.say(&summary::render(&report, took, terminal.width()));
    }
    print(args.report.print, &report, terminal)
}

fn print(what: Option<PrintArg>, report: &BuildReport, terminal: &Terminal) -> Result<(), Failure> {
    match what {
        None => Ok(()),
        Some(PrintArg::Digest) => terminal.print(&format!("{}\n", report.manifest)),
        Some(PrintArg::Json) => terminal.print(&json_text(report)),
    }
}
