//! `boxwright completions`: what a shell needs to complete our command line.

use clap::CommandFactory;

use crate::cli::args::{Cli, CompletionsArgs};
use crate::cli::exit::Failure;
use crate::cli::terminal::Terminal;

/// Prints the completions of one shell.
pub(crate) fn run(args: &CompletionsArgs, terminal: &Terminal) -> Result<(), Failure> {
    // Generated into memory: clap's generator panics where its output cannot be written.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "boxwright", &mut script);
    terminal.print_bytes(&script)
}
