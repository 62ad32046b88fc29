//! Arguments about registries: how they are reached, and accounts there.

use std::path::PathBuf;

use boxwright::transport::registry::Mirror;
use clap::{Args, ValueHint};

/// How registries are reached.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Registries")]
pub(crate) struct NetworkArgs {
    /// Touch no network: images from registries are what they were the last time
    ///
    /// What the store does not have is an error. Commands that have to run have no network.
    #[arg(long)]
    pub(crate) offline: bool,
    /// A registry that may have any certificate or no TLS; may be given several times
    ///
    /// This machine itself (127.0.0.1, localhost) may do without TLS anyway.
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    pub(crate) insecure: Vec<String>,
    /// Ask this mirror first, for Docker Hub unless a registry is named; may be given several times
    #[arg(long = "registry-mirror", value_name = "[REGISTRY=]HOST[/PATH]")]
    pub(crate) mirrors: Vec<Mirror>,
}

/// Log in at a registry
///
/// The account is tried first, then kept where docker and podman look for it, too: in
/// $REGISTRY_AUTH_FILE, else in Docker's config.json, or with the credential helper that the file
/// names.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  boxwright login registry.example.com
  echo $TOKEN | boxwright login --username ci --password-stdin registry.example.com")]
pub(crate) struct LoginArgs {
    /// The registry
    #[arg(value_name = "HOST[:PORT]", default_value = "docker.io")]
    pub(crate) registry: String,
    /// The account; asked for on a terminal
    #[arg(short, long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Where the account is kept
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) authfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// Forget the account at a registry
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The registry
    #[arg(value_name = "HOST[:PORT]", default_value = "docker.io")]
    pub(crate) registry: String,
    /// Where the account is kept
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) authfile: Option<PathBuf>,
}
