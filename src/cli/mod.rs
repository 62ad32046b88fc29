//! The porch: the only place that prints, exits, and reads the environment, the working directory
//! and the clock.
//!
//! Comes in: the command line. Goes out: data on standard output, words on standard error, an
//! exit code. One file for each command; [`args`] holds what was typed, [`settings`] decides what
//! it means, [`exit`] what a failure says and which code it gives.

mod args;
mod bench;
mod build;
mod cache;
mod check;
mod completions;
mod corridor;
mod diagnostics;
mod doctor;
mod exit;
mod image_argument;
mod index;
mod inspect;
mod lock;
mod login;
mod man;
mod progress;
mod push;
mod registries;
mod report;
mod schema;
mod serve;
mod settings;
mod summary;
mod table;
mod terminal;
mod verify;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;

use boxwright::sandbox;
use clap::{CommandFactory, Parser};

use crate::cli::args::{Cli, Command};
use crate::cli::exit::Failure;
use crate::cli::settings::Environment;
use crate::cli::terminal::Terminal;

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    remember_panics();
    if std::env::args_os()
        .nth(1)
        .is_some_and(|name| name == sandbox::INIT_COMMAND)
    {
        // The sandbox's own processes: not for people, so not in the help.
        return ExitCode::from(sandbox::inside());
    }
    let environment = Environment::read();
    let terminal = Terminal::detect(environment.is_dumb_terminal());
    exit::conclude(without_panics(|| run(&environment, &terminal)), &terminal)
}

fn run(environment: &Environment, terminal: &Terminal) -> Result<(), Failure> {
    let cli = Cli::try_parse().map_err(|error| Failure::CommandLine(Box::new(error)))?;
    terminal::choose_color(cli.global.color);
    match &cli.command {
        None => terminal.print(&Cli::command().render_help().ansi().to_string()),
        Some(Command::Build(args)) => build::run(args, environment, terminal),
        Some(Command::Lock(args)) => lock::run(args, environment, terminal),
        Some(Command::Push(args)) => push::run(args, environment, terminal),
        Some(Command::Index(args)) => index::run(args, environment, terminal),
        Some(Command::Check(args)) => check::run(args, environment, terminal),
        Some(Command::Verify(args)) => verify::run(args, environment, terminal),
        Some(Command::Inspect(args)) => inspect::run(args, environment, terminal),
        Some(Command::Serve(args)) => serve::run(args, environment, terminal),
        Some(Command::Login(args)) => login::log_in_at(args, environment, terminal),
        Some(Command::Logout(args)) => login::log_out_at(args, environment, terminal),
        Some(Command::Bench(args)) => bench::run(args, environment, terminal),
        Some(Command::Cache(args)) => cache::run(args, environment, terminal),
        Some(Command::Doctor(args)) => doctor::run(args, environment, terminal),
        Some(Command::Schema(args)) => schema::run(args, terminal),
        Some(Command::Completions(args)) => completions::run(args, terminal),
        Some(Command::Man(args)) => man::run(args, terminal),
    }
}

/// What the first panic said, and where: later ones follow from it.
static FIRST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Keeps panics from being printed with a backtrace; [`without_panics`] tells of the first.
fn remember_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("a panic without words");
        if let Ok(mut first) = FIRST_PANIC.lock() {
            first.get_or_insert(format!("{place}: {text}"));
        }
    }));
}

/// A panic anywhere, in any thread that is waited for, becomes a failure that asks for a report.
fn without_panics(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let first = FIRST_PANIC.lock().ok().and_then(|mut first| first.take());
        Err(Failure::panicked(&first.unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_our_bug() {
        let failure = without_panics(|| panic!("oh")).unwrap_err();
        assert_eq!(failure.code(), 70);
    }
}
