//! `boxwright check`: what has no business in an image, and why it may not start.

use std::path::Path;

use boxwright::explain::{Allowed, Code};

use crate::cli::args::CheckArgs;
use crate::cli::corridor;
use crate::cli::exit::Failure;
use crate::cli::image_argument;
use crate::cli::progress::Progress;
use crate::cli::report;
use crate::cli::settings::{Environment, Member, ProgressStyle};
use crate::cli::table::{Align, Table, json_text};
use crate::cli::terminal::Terminal;

/// Checks a spec or an image; findings go to standard output.
pub(crate) fn run(
    args: &CheckArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    if args.list {
        return terminal.print(&codes(terminal.width()));
    }
    let allowed = Allowed::from_iter(args.allow.iter().copied());
    let found = match image_argument::recognize(&args.subject)? {
        Some(image) => {
            let store = environment.store_root(args.store.store.as_deref())?;
            corridor::check_image(
                &image,
                &store,
                environment.registries(&args.network),
                &allowed,
            )?
        }
        None => {
            let member = Member::typed(Path::new(&args.subject))?;
            let request = environment.check_request(args, member)?;
            let progress = Progress::new(ProgressStyle::Quiet, terminal);
            corridor::check_spec(&request, allowed, &progress)?
        }
    };
    match args.json {
        true => terminal.print(&json_text(&found))?,
        false => terminal.print(&report::check(&found, terminal.width()))?,
    }
    match found.has_errors() {
        true => Err(Failure::SaidAlready),
        false => Ok(()),
    }
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
