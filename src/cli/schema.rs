//! `boxwright schema`: the JSON Schema of the spec.

use crate::cli::exit::Failure;
use crate::cli::terminal::Terminal;

/// Prints the schema.
pub(crate) fn run(terminal: &Terminal) -> Result<(), Failure> {
    terminal.print_bytes(boxwright::spec::schema_text().as_bytes())
}
