//! `boxwright index`: images of one platform each become one of several.

use boxwright::build::JoinRequest;

use crate::cli::args::IndexArgs;
use crate::cli::corridor;
use crate::cli::exit::Failure;
use crate::cli::image_argument;
use crate::cli::progress::Progress;
use crate::cli::settings::{Environment, ProgressStyle};
use crate::cli::summary;
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
    summary::print(args.report.print, &[report.digest], &report, terminal)
}
