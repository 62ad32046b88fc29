//! The doorway: everything is decided in `cli`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
