//! Arguments about the commands of a spec.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use boxwright::sandbox::Letter;
use boxwright::spec::{ByteSize, Name, ValueError};

use crate::cli::args::{Age, Override};

/// What commands of the spec are given.
#[derive(Debug, Args)]
#[command(next_help_heading = "Commands of the spec")]
pub(crate) struct CommandArgs {
    /// Give a secret to the commands that mount it: id=ID,src=FILE or id=ID,env=NAME
    #[arg(long = "secret", value_name = "id=ID,src=FILE")]
    pub(crate) secrets: Vec<SecretArg>,
    /// Give an SSH agent to the commands that mount it; by default the one of $SSH_AUTH_SOCK
    #[arg(long = "ssh", value_name = "ID[=SOCKET]")]
    pub(crate) agents: Vec<Override>,
    /// Run commands in this tier only: a, b or c; see `boxwright doctor`
    #[arg(long, value_name = "TIER")]
    pub(crate) sandbox: Option<Letter>,
    /// The most memory a command may use, such as 2GiB
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteSize>,
    /// The most processes and threads a command may have at once
    #[arg(long, value_name = "N")]
    pub(crate) pids: Option<u32>,
    /// How long a command may take, such as 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<Age>,
}

/// `id=ID,src=FILE` or `id=ID,env=NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretArg {
    pub(crate) id: Name,
    pub(crate) source: SecretSource,
}

/// Where a secret is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretSource {
    File(PathBuf),
    Variable(String),
}

impl FromStr for SecretArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<SecretArg, ValueError> {
        let (mut id, mut source) = (None, None);
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("id", value)) => id = Some(value.parse()?),
                Some(("src" | "source", value)) => source = Some(SecretSource::File(value.into())),
                Some(("env", value)) => source = Some(SecretSource::Variable(value.to_owned())),
                Some(("type", "file" | "env")) => {}
                _ => {
                    return Err(ValueError::new(format!("{part:?} means nothing"))
                        .help("write id=ID,src=FILE or id=ID,env=NAME"));
                }
            }
        }
        match (id, source) {
            (Some(id), Some(source)) => Ok(SecretArg { id, source }),
            (None, _) => Err(ValueError::new("the ID is missing").help("write id=ID,src=FILE")),
            (_, None) => Err(ValueError::new("the source is missing")
                .help("write id=ID,src=FILE or id=ID,env=NAME")),
        }
    }
}
