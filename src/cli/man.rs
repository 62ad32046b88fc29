//! `boxwright man`: manual pages, made from the same text as the help.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::args::{Cli, ManArgs};
use crate::cli::exit::Failure;
use crate::cli::terminal::Terminal;

/// Prints the page of `boxwright`, or writes all pages into a directory.
pub(crate) fn run(args: &ManArgs, terminal: &Terminal) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    match &args.dir {
        None => terminal.print_bytes(&page(&command, "boxwright")?),
        Some(directory) => {
            let doing = || format!("write manual pages into {}", directory.display());
            fs::create_dir_all(directory).map_err(|error| Failure::system(doing(), &error))?;
            write_pages(&command, "boxwright", directory)
        }
    }
}

/// The page of `command` and of every command below it.
fn write_pages(command: &Command, name: &str, directory: &Path) -> Result<(), Failure> {
    let file = directory.join(format!("{name}.1"));
    let doing = || format!("write {}", file.display());
    fs::write(&file, page(command, name)?).map_err(|error| Failure::system(doing(), &error))?;
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        write_pages(below, &format!("{name}-{}", below.get_name()), directory)?;
    }
    Ok(())
}

fn page(command: &Command, name: &str) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let source = concat!("boxwright ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .source(source);
    man.render(&mut page)?;
    Ok(page)
}
