//! Arguments about compose files.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use boxwright::spec::ValueError;
use boxwright::spec::compose::is_project_name;

/// Compose files, whose services are built.
#[derive(Debug, Args)]
#[command(next_help_heading = "Compose")]
pub(crate) struct ComposeArgs {
    /// Build the services of a compose file, or of the one in a folder; may be given several times
    ///
    /// Behind it SPEC names services; by default all with a `build:` are built. Each is built from
    /// the boxwright.yaml in its context, or from what `x-boxwright: SPEC` in its `build:` says,
    /// and named as compose looks for it. Later files go before earlier ones.
    #[arg(
        id = "compose",
        long = "compose",
        value_name = "FILE",
        value_hint = ValueHint::AnyPath,
        conflicts_with_all = ["file", "tags", "workspace"]
    )]
    pub(crate) files: Vec<PathBuf>,
    /// The project's name; by default $COMPOSE_PROJECT_NAME, `name:` of the file, or its folder's
    #[arg(long, value_name = "NAME", requires = "compose", value_parser = parse_project)]
    pub(crate) project_name: Option<String>,
    /// Write a compose file that names the images by digest, to be put over the others
    ///
    /// podman finds an image by its digest if it loaded it from an oci-archive or pulled it, docker
    /// if it pulled it: push before (-o docker://HOST/NAME). With `up --no-build` nothing but these
    /// images is started.
    #[arg(long, value_name = "FILE", requires = "compose", conflicts_with = "dry_run", value_hint = ValueHint::FilePath)]
    pub(crate) compose_lock: Option<PathBuf>,
}

fn parse_project(text: &str) -> Result<String, ValueError> {
    match is_project_name(text) {
        true => Ok(text.to_owned()),
        false => Err(ValueError::new(format!("{text:?} is no name of a project"))
            .help("use lower-case letters, digits, - and _, beginning with a letter or a digit")),
    }
}
