//! Arguments about caches that are shared by way of a registry.

use std::path::PathBuf;
use std::str::FromStr;

use boxwright::build::CacheMode;
use boxwright::oci::Reference;
use boxwright::spec::ValueError;
use clap::{Args, ValueHint};

/// Results of other machines, and ours for them.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Cache in a registry")]
pub(crate) struct SharedCacheArgs {
    /// Look for results in this cache, too; may be given several times
    #[arg(long, value_name = "HOST/NAME[:TAG]", value_parser = parse_cache)]
    pub(crate) cache_from: Vec<Reference>,
    /// Put what this build has used and made into this cache
    ///
    /// mode=max, the default, has the layers of the image, what commands of all stages have changed,
    /// and the frames of layers; mode=min only the layers. What the registry has is not sent again.
    #[arg(long, value_name = "HOST/NAME[:TAG][,mode=MODE]")]
    pub(crate) cache_to: Option<CacheTo>,
    /// A file with the key that caches are sealed with, on every machine the same
    ///
    /// That a command did what a record says can be proved by running it only. With a key a cache is
    /// believed if it was sealed with it, and not used otherwise; without one only its layers are used,
    /// whose contents prove them. By default $BOXWRIGHT_CACHE_KEY.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) cache_key: Option<PathBuf>,
    /// Believe all that is in the caches, on the word of whoever may write them
    #[arg(long, requires = "cache_from")]
    pub(crate) cache_trust: bool,
}

/// Where a cache goes and what is in it.
#[derive(Debug, Clone)]
pub(crate) struct CacheTo {
    pub(crate) reference: Reference,
    pub(crate) mode: CacheMode,
}

impl FromStr for CacheTo {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<CacheTo, ValueError> {
        let (reference, mode) = match text.split_once(',') {
            None => (text, CacheMode::Max),
            Some((reference, "mode=max")) => (reference, CacheMode::Max),
            Some((reference, "mode=min")) => (reference, CacheMode::Min),
            Some((_, other)) => {
                let message = format!("{other:?} is no mode");
                return Err(ValueError::new(message).help("write mode=min or mode=max"));
            }
        };
        let reference = parse_cache(reference)?;
        Ok(CacheTo { reference, mode })
    }
}

fn parse_cache(text: &str) -> Result<Reference, ValueError> {
    let text = text.strip_prefix("docker://").unwrap_or(text);
    Ok(text.parse()?)
}
