//! `boxwright index`: images of one platform each become one of several.

use boxwright::build::{JoinReport, JoinRequest};

use crate::cli::args::{IndexArgs, PrintArg};
use crate::cli::corridor;
use crate::cli::exit::Failure;
use crate::cli::image_argument;
use crate::cli::progress::Progress;
use crate::cli::settings::{Environment, ProgressStyle};
use crate::cli::summary;
use crate::cli::table::json_text;
use crate::cli::terminal::Terminal;

/// Joins; what was done is told on standard error.
pub(crate) fn run(
    args: &IndexArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let sources = args.images.iter().map(|text| image_argument::image(text));
    let request = JoinRequest {
        sources: sources.collect::<Result<_, _>>()?,
        outputs: args.outputs.clone(),
        names: args
            .tags
            .iter()
            .map(|name| name.clone().with_default_tag())
            .collect(),
        store_root: environment.store_root(args.store.store.as_deref())?,
        registries: environment.registries(&args.network),
    };
    let style = ProgressStyle::decide(args.report.progress, terminal);
    let progress = Progress::new(style, terminal);
    let result = corridor::join(&request, &progress);
    let took = progress.finish();
    let report = result?;
    if matches!(style, ProgressStyle::Live | ProgressStyle::Plain) {
        terminal.say(&summary::joined(&report, took, terminal.width()));
    }
    print(args.report.print, &report, terminal)
}

fn print(what: Option<PrintArg>, report: &JoinReport, terminal: &Terminal) -> Result<(), Failure> {
    match what {
        None => Ok(()),
        Some(PrintArg::Digest) => terminal.print(&format!("{}\n", report.digest)),
        Some(PrintArg::Json) => terminal.print(&json_text(report)),
    }
}
