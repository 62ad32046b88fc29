//! Settings of registries, in which every default is decided.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::transport::http::HttpSettings;

/// Where registries are described, who we are there, and how they are reached. The files are read
/// when a registry is first asked, and not before: a build without registries never sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// How the network is reached.
    pub http: HttpSettings,
    /// Tables of registries (ours or containers' `registries.conf`), a later one having the last
    /// word on a prefix. Those that are missing say nothing.
    pub tables: Vec<PathBuf>,
    /// Folders with one folder for each registry, which hold authorities and client certificates:
    /// `certs.d`. The first that knows a registry decides.
    pub certs: Vec<PathBuf>,
    /// Files with credentials, the first that knows a registry deciding.
    pub auth_files: Vec<PathBuf>,
    /// Registries, `HOST[:PORT]`, that may have any certificate or none.
    pub insecure: Vec<String>,
    /// Mirrors that are asked before those of the tables.
    pub mirrors: Vec<Mirror>,
    /// How long a credential helper may take.
    pub helper_limit: Duration,
    /// How many layers are fetched or sent at once.
    pub parallel: NonZeroUsize,
    /// The most bytes of a blob that are sent with one request. What a cut connection has to send
    /// again is less than that.
    pub chunk: NonZeroU64,
}

impl Default for RegistrySettings {
    fn default() -> RegistrySettings {
        RegistrySettings {
            http: HttpSettings::default(),
            tables: Vec::new(),
            certs: Vec::new(),
            auth_files: Vec::new(),
            insecure: Vec::new(),
            mirrors: Vec::new(),
            helper_limit: Duration::from_secs(30),
            parallel: NonZeroUsize::new(4).unwrap_or(NonZeroUsize::MIN),
            chunk: NonZeroU64::new(32 << 20).unwrap_or(NonZeroU64::MIN),
        }
    }
}

/// A mirror for one call: `[REGISTRY=]HOST[:PORT][/PATH]`. Without a registry it mirrors Docker
/// Hub, as the option of that name of dockerd does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// What it mirrors.
    pub registry: String,
    /// Where it is.
    pub location: String,
}

impl FromStr for Mirror {
    type Err = String;

    fn from_str(text: &str) -> Result<Mirror, String> {
        let (registry, location) = text.split_once('=').unwrap_or(("docker.io", text));
        let location = location.trim_end_matches('/');
        let location = location
            .strip_prefix("https://")
            .or_else(|| location.strip_prefix("http://"))
            .unwrap_or(location);
        let is_place = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-_:/[]*".contains(&byte))
        };
        match is_place(registry) && is_place(location) {
            true => Ok(Mirror {
                registry: registry.to_owned(),
                location: location.to_owned(),
            }),
            false => Err("write [REGISTRY=]HOST[:PORT][/PATH]".to_owned()),
        }
    }
}
