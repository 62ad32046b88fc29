//! Credentials: who we are at a registry.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::transport::http::Secret;
use crate::transport::registry::auth_file::{AuthFile, Keeper};
use crate::transport::registry::error::RegistryError;
use crate::transport::registry::helper_program;
use crate::transport::registry::settings::RegistrySettings;

/// An account, and how it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) proof: Proof,
    /// Where they are from, for messages.
    pub(crate) from: String,
}

/// What proves an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A password, for basic authorisation and for token servers.
    Password(Secret),
    /// A token that a token server takes in exchange for others (OAuth 2 refresh token).
    IdentityToken(Secret),
    /// A token for the registry itself.
    RegistryToken(Secret),
}

impl Credentials {
    /// The header of basic authorisation. RFC 7617.
    pub(crate) fn basic(&self) -> Option<Secret> {
        match &self.proof {
            Proof::Password(password) => {
                let pair = format!("{}:{}", self.user, password.reveal());
                Some(Secret::new(format!("Basic {}", STANDARD.encode(pair))))
            }
            Proof::IdentityToken(_) | Proof::RegistryToken(_) => None,
        }
    }
}

/// Who we are at a registry, by the first file that knows it.
pub(crate) fn find(
    settings: &RegistrySettings,
    host: &str,
    repository: &str,
) -> Result<Option<Credentials>, RegistryError> {
    for path in &settings.auth_files {
        let from = path.display().to_string();
        let keeper = AuthFile::read(path)?.keeper(host, repository, &from);
        let keeper = keeper.map_err(|problem| RegistryError::AuthFile {
            path: path.clone(),
            problem,
        })?;
        let found = match keeper {
            None => None,
            Some(Keeper::File(found)) => Some(found),
            Some(Keeper::Program { name, key }) => {
                helper_program::ask(&name, &key, settings.helper_limit)?
            }
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
