//! Arguments of `push`.

use std::num::NonZeroU64;

use boxwright::oci::Reference;
use boxwright::spec::{ByteSize, ValueError};
use clap::{Args, ValueHint};

use crate::cli::args::{NetworkArgs, ReportArgs, StoreArgs};

/// Push an image to registries
///
/// What a registry has is not sent again: blobs that are there, those that another repository there
/// can lend, and those parts that an interrupted push has sent. All platforms of the image go, and
/// from a layout what belongs to it: signatures, bills of materials.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  boxwright push auth.tar registry.example.com/team/auth:1.4.0
  boxwright push oci:layout:1.4.0 quay.io/team/auth:{1.4.0,latest}
  boxwright push auth.tar localhost:5000/auth --print digest
  boxwright push docker://registry.example.com/team/auth:1.4.0 quay.io/team/auth:1.4.0")]
pub(crate) struct PushArgs {
    /// oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF], docker://NAME, or just the path
    #[arg(value_name = "IMAGE", value_hint = ValueHint::AnyPath)]
    pub(crate) image: String,
    /// Where to: HOST/NAME[:TAG], several times for several tags or registries
    #[arg(value_name = "NAME", required = true, value_parser = parse_target)]
    pub(crate) names: Vec<Reference>,
    /// The most that one request carries, such as 64MiB; by default 32 MiB
    ///
    /// For registries behind a proxy that takes no more. An interrupted push goes on after the last
    /// whole piece; registries that throw away what was cut get that blob again.
    #[arg(long, value_name = "SIZE", value_parser = parse_chunk)]
    pub(crate) chunk_size: Option<NonZeroU64>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

fn parse_target(text: &str) -> Result<Reference, ValueError> {
    let text = text.strip_prefix("docker://").unwrap_or(text);
    Ok(text.parse()?)
}

/// Fewer bytes than this are no chunk: a blob would take thousands of requests.
const LEAST_CHUNK: u64 = 64 << 10;

fn parse_chunk(text: &str) -> Result<NonZeroU64, ValueError> {
    let ByteSize(bytes) = text.parse()?;
    let bytes = NonZeroU64::new(bytes).filter(|bytes| bytes.get() >= LEAST_CHUNK);
    bytes.ok_or_else(|| ValueError::new("that is too little").help("write 64KiB or more"))
}
