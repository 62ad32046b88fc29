//! `boxwright schema`: the JSON Schema of the spec, or of a workspace.

use boxwright::spec::{schema_text, workspace_schema_text};

use crate::cli::args::SchemaArgs;
use crate::cli::exit::Failure;
use crate::cli::terminal::Terminal;

/// Prints the schema.
pub(crate) fn run(args: &SchemaArgs, terminal: &Terminal) -> Result<(), Failure> {
    let text = match args.workspace {
        true => workspace_schema_text(),
        false => schema_text(),
    };
    terminal.print_bytes(text.as_bytes())
}
