//! Arguments of `index`.

use boxwright::oci::Reference;
use boxwright::spec::ImageSource;
use clap::{Args, ValueHint};

use crate::cli::args::{NetworkArgs, ReportArgs, StoreArgs, parse_name, parse_place};

/// Join images that were built for one platform each into one of several
///
/// Each image stays as it is, to the byte; an index over them is new. Images of registries stay
/// there: what the output's registry has is not fetched and not sent.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  boxwright index amd64.tar arm64.tar -o oci-archive:app.tar
  boxwright index -o docker://registry.example.com/team/app:1.4.0 \\
      docker://registry.example.com/team/app:1.4.0-amd64 docker://registry.example.com/team/app:1.4.0-arm64")]
pub(crate) struct IndexArgs {
    /// oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF], docker://NAME, or just the path
    #[arg(value_name = "IMAGE", required = true, num_args = 2.., value_hint = ValueHint::AnyPath)]
    pub(crate) images: Vec<String>,
    /// Where the joined image goes, as for `build`; may be given several times
    #[arg(short, long = "output", value_name = "OUTPUT", required = true, value_parser = parse_place)]
    pub(crate) outputs: Vec<ImageSource>,
    /// Name the joined image; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]", value_parser = parse_name)]
    pub(crate) tags: Vec<Reference>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
}
