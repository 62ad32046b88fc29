//! Settings of the HTTP client, in which every default is decided.

use std::path::PathBuf;

use crate::transport::http::patience::Patience;
use crate::transport::http::proxy::Proxies;

/// How the network is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpSettings {
    /// Whether it may be reached at all.
    pub network: Network,
    /// A bundle of authorities in PEM to use instead of the system's: `SSL_CERT_FILE`.
    pub ca_file: Option<PathBuf>,
    /// Folders of authorities in PEM to use instead of the system's: `SSL_CERT_DIR`.
    pub ca_dirs: Vec<PathBuf>,
    /// Proxies.
    pub proxies: Proxies,
    /// How long to wait and how often to try.
    pub patience: Patience,
}

/// Whether the network may be touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Yes.
    #[default]
    Allowed,
    /// No: every request fails before a name is resolved. `--offline`.
    Forbidden,
}
