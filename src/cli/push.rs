//! `boxwright push`: an image in a file or a registry goes to registries.

use boxwright::build::PushRequest;

use crate::cli::args::PushArgs;
use crate::cli::corridor;
use crate::cli::exit::Failure;
use crate::cli::image_argument;
use crate::cli::progress::Progress;
use crate::cli::settings::{Environment, ProgressStyle};
use crate::cli::summary;
use crate::cli::terminal::Terminal;

/// Pushes; what was sent is told on standard error.
pub(crate) fn run(
    args: &PushArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let request = request(args, environment)?;
    let style = ProgressStyle::decide(args.report.progress, terminal);
    let progress = Progress::new(style, terminal);
    let result = corridor::push(&request, &progress);
    let took = progress.finish();
    let report = result?;
    if matches!(style, ProgressStyle::Live | ProgressStyle::Plain) {
        terminal.say(&summary::pushes(&report, took, terminal.width()));
    }
    summary::print(args.report.print, &[report.digest], &report, terminal)
}

fn request(args: &PushArgs, environment: &Environment) -> Result<PushRequest, Failure> {
    let source = image_argument::image(&args.image)?;
    let mut registries = environment.registries(&args.network);
    registries.chunk = args.chunk_size.unwrap_or(registries.chunk);
    Ok(PushRequest {
        source,
        references: args.names.clone(),
        store_root: environment.store_root(args.store.store.as_deref())?,
        registries,
    })
}
