//! Exit: the one place that decides headlines, causes, hints and exit codes.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | all went well |
//! | 1 | the input is wrong: a spec, an image, or an error found by `check` |
//! | 2 | the command line is wrong, or a variable of the environment |
//! | 3 | a disk or another program failed |
//! | 70 | our bug (`EX_SOFTWARE`) |
//! | 130 | interrupted; the system's own doing, for nothing is caught that needs no cleaning up; only |
//! |     | `serve`, which has no other end, takes it for one and gives 0 |
//! | 141 | the reader of standard output went away; nothing is said then, as `yes \| head` does |

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use boxwright::spec::Diagnostics;

use crate::cli::diagnostics;
use crate::cli::terminal::{BOLD_RED, CYAN, Terminal};

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The spec is wrong, and we know where.
    Spec(Diagnostics),
    /// Everything else that is worth a text.
    Told(Box<Told>),
    /// The output says it already: `check` found errors.
    SaidAlready,
    /// The same for another exit code: several images failed, and each was told of.
    SaidWith(u8),
    /// Nobody reads standard output any more.
    BrokenPipe,
    /// clap's verdict on the command line, or help that was asked for.
    CommandLine(Box<clap::Error>),
}

/// Who must act on a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    Input,
    CommandLine,
    System,
    Bug,
}

/// A failure in words.
#[derive(Debug)]
pub(crate) struct Told {
    blame: Blame,
    headline: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    /// A failure that reads "error: `headline`".
    pub(crate) fn new(blame: Blame, headline: impl Into<String>) -> Failure {
        Failure::Told(Box::new(Told {
            blame,
            headline: headline.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }))
    }

    /// Something about the machine that failed: "cannot `doing`", and why.
    pub(crate) fn system(doing: impl std::fmt::Display, error: &(dyn Error + 'static)) -> Failure {
        Failure::new(Blame::System, format!("cannot {doing}")).because(error)
    }

    /// An error of the library, whose text fits after "failed to", and what caused it.
    pub(crate) fn failed(blame: Blame, error: &(dyn Error + 'static)) -> Failure {
        let failure = Failure::new(blame, format!("failed to {error}"));
        match error.source() {
            Some(cause) => failure.because(cause),
            None => failure,
        }
    }

    /// Adds an error and what caused it. A cause that its effect has quoted is not repeated.
    #[must_use]
    pub(crate) fn because(mut self, error: &(dyn Error + 'static)) -> Failure {
        if let Failure::Told(told) = &mut self {
            let mut next = Some(error);
            while let Some(error) = next {
                let text = error.to_string();
                let effect = told.causes.last().unwrap_or(&told.headline);
                let quoted = effect.contains(&text);
                if !quoted {
                    told.causes.push(text);
                }
                next = error.source();
            }
        }
        self
    }

    /// Says what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        if let Failure::Told(told) = &mut self {
            told.hints.push(hint.into());
        }
        self
    }

    /// What a panic becomes.
    pub(crate) fn panicked(message: &str) -> Failure {
        let version = env!("CARGO_PKG_VERSION");
        Failure::new(Blame::Bug, "Boxwright made a mistake; your input is not to blame")
            .hint("a build that is started again continues from the store")
            .hint(format!(
                "please report it, with these lines and the spec: {}/issues\nboxwright {version}, {message}",
                env!("CARGO_PKG_REPOSITORY")
            ))
    }

    /// The process's exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Spec(_) | Failure::SaidAlready => 1,
            Failure::SaidWith(code) => *code,
            Failure::Told(told) => match told.blame {
                Blame::Input => 1,
                Blame::CommandLine => 2,
                Blame::System => 3,
                Blame::Bug => 70,
            },
            Failure::BrokenPipe => 141,
            Failure::CommandLine(error) if error.use_stderr() => 2,
            Failure::CommandLine(_) => 0,
        }
    }

    /// What to write to standard error, with styles; empty if there is nothing to say.
    pub(crate) fn render(&self, width: usize) -> String {
        match self {
            Failure::Spec(found) => diagnostics::render(found, width),
            Failure::Told(told) => told.render(),
            Failure::CommandLine(error) if error.use_stderr() => error.render().ansi().to_string(),
            Failure::CommandLine(_)
            | Failure::SaidAlready
            | Failure::SaidWith(_)
            | Failure::BrokenPipe => String::new(),
        }
    }
}

impl Told {
    fn render(&self) -> String {
        let mut text = format!("{BOLD_RED}error:{BOLD_RED:#} {}\n", self.headline);
        for cause in &self.causes {
            let _ = writeln!(
                text,
                "  caused by: {}",
                cause.replace('\n', "\n             ")
            );
        }
        for hint in &self.hints {
            let hint = hint.replace('\n', "\n      ");
            let _ = writeln!(text, "{CYAN}hint:{CYAN:#} {hint}");
        }
        text
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Failure {
        Failure::Spec(diagnostics)
    }
}

/// Writing to standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::system("write to standard output", &error),
        }
    }
}

/// Says what has to be said and gives the exit code.
pub(crate) fn conclude(result: Result<(), Failure>, terminal: &Terminal) -> ExitCode {
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    if let Failure::CommandLine(error) = &failure
        && !error.use_stderr()
    {
        // Help and version are what was asked for, so they are data.
        return match terminal.print(&error.render().ansi().to_string()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => ExitCode::from(failure.code()),
        };
    }
    terminal.say(&failure.render(terminal.width()));
    ExitCode::from(failure.code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::terminal::plain;

    #[test]
    fn causes_are_listed_once_and_hints_follow() {
        #[derive(Debug, thiserror::Error)]
        #[error("open store")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("read index: {0}")]
        struct Inner(#[source] io::Error);
        let error = Outer(Inner(io::Error::other("disk on fire")));
        let failure = Failure::failed(Blame::System, &error).hint("buy a new disk\nor an old one");
        assert_eq!(failure.code(), 3);
        insta::assert_snapshot!(plain(&failure.render(80)));
    }

    #[test]
    fn a_bug_asks_for_a_report() {
        let failure = Failure::panicked("src/x.rs:1: index out of bounds");
        assert_eq!(failure.code(), 70);
        insta::assert_snapshot!(plain(&failure.render(80)));
    }

    #[test]
    fn a_closed_pipe_says_nothing() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.code(), failure.render(80)), (141, String::new()));
    }
}
