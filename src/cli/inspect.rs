//! `boxwright inspect`: what an image holds and what makes it large.

use crate::cli::args::InspectArgs;
use crate::cli::corridor;
use crate::cli::exit::Failure;
use crate::cli::image_argument;
use crate::cli::report;
use crate::cli::settings::Environment;
use crate::cli::table::json_text;
use crate::cli::terminal::Terminal;

/// Prints the facts.
pub(crate) fn run(
    args: &InspectArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let image = image_argument::image(&args.image)?;
    let store = environment.store_root(args.store.store.as_deref())?;
    let inspection = corridor::inspect(
        &image,
        &store,
        environment.registries(&args.network),
        args.largest,
    )?;
    match args.json {
        true => terminal.print(&json_text(&inspection)),
        false => terminal.print(&report::inspection(&inspection, terminal.width())),
    }
}
