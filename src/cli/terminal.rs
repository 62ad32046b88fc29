//! The terminal: the only place that writes to standard output and standard error.
//!
//! Text carries styles; `anstream` takes them off where nobody sees colour (`NO_COLOR`,
//! `CLICOLOR`, `--color`, a pipe). Failing to write to standard error is nobody's concern;
//! standard output carries data, so failing there is a failure.

use std::io::{self, IsTerminal, Write};

use clap::builder::styling::{AnsiColor, Style};

use crate::cli::args::ColorArg;
use crate::cli::exit::Failure;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default().bold();
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default().bold();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const BOLD_RED: Style = AnsiColor::Red.on_default().bold();

/// What standard output and standard error are connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terminal {
    width: usize,
    is_live: bool,
}

/// Where the width is not known: a pipe, a file, a CI log.
const DEFAULT_WIDTH: usize = 80;
/// Wider lines are hard to read.
const MOST_WIDTH: usize = 120;

impl Terminal {
    /// Looks at the two streams. `is_dumb` says that the terminal cannot move its cursor.
    pub(crate) fn detect(is_dumb: bool) -> Terminal {
        let is_terminal = io::stderr().is_terminal();
        let width = console_width().filter(|_| is_terminal);
        Terminal {
            width: width.unwrap_or(DEFAULT_WIDTH).clamp(40, MOST_WIDTH),
            is_live: is_terminal && !is_dumb,
        }
    }

    /// How many characters fit on a line.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Whether standard error is a terminal whose lines can be drawn again.
    pub(crate) fn is_live(&self) -> bool {
        self.is_live
    }

    /// Writes data to standard output.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Writes bytes to standard output as they are.
    pub(crate) fn print_bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// The text as it may be written to standard error by others: with styles or without.
    pub(crate) fn styled(&self, text: &str) -> String {
        match anstream::AutoStream::choice(&io::stderr()) {
            anstream::ColorChoice::Never => anstream::adapter::strip_str(text).to_string(),
            _ => text.to_owned(),
        }
    }

    /// Tells people something on standard error.
    pub(crate) fn say(&self, text: &str) {
        let _ = anstream::stderr().lock().write_all(text.as_bytes());
    }
}

/// Decides about colour for the whole process; `auto` leaves it to the environment.
pub(crate) fn choose_color(color: ColorArg) {
    let choice = match color {
        ColorArg::Auto => anstream::ColorChoice::Auto,
        ColorArg::Always => anstream::ColorChoice::Always,
        ColorArg::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
}

fn console_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
    Some(usize::from(size.ws_col)).filter(|&width| width > 0)
}

/// The text without its styles.
#[cfg(test)]
pub(crate) fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}
