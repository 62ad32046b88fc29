//! Logging in and out: credentials that are tried before they are kept, where Docker and podman
//! find them, too.

use std::path::{Path, PathBuf};

use ureq::http::Method;

use crate::transport::http::{Redirects, Request, Retry, Secret};
use crate::transport::registry::auth_file::{AuthFile, server_key};
use crate::transport::registry::challenge::challenges;
use crate::transport::registry::client::RegistryClient;
use crate::transport::registry::credentials::{Credentials, Proof};
use crate::transport::registry::endpoint::Purpose;
use crate::transport::registry::error::RegistryError;
use crate::transport::registry::{helper_program, token};

/// Where credentials were put or taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// In the file, as base64, which hides nothing.
    File(PathBuf),
    /// With the credential helper of this name.
    Program(String),
}

/// Tries the account at the registry and keeps it in `file`, or with the helper that `file` names.
///
/// # Errors
/// A registry that cannot be reached or does not take the account; a file or helper that fails.
pub fn log_in(
    client: &RegistryClient,
    registry: &str,
    user: &str,
    password: &Secret,
    file: &Path,
) -> Result<Stored, RegistryError> {
    let mut auth_file = AuthFile::read(file)?;
    verify(client, registry, user, password)?;
    if let Some(name) = auth_file.program_for(registry) {
        let limit = client.settings().helper_limit;
        helper_program::store(name, server_key(registry), user, password, limit)?;
        return Ok(Stored::Program(name.to_owned()));
    }
    auth_file.store(registry, user, password);
    auth_file.write(file)?;
    Ok(Stored::File(file.to_owned()))
}

/// Forgets the account at a registry; `None` if there was none.
///
/// # Errors
/// A file or helper that fails.
pub fn log_out(
    client: &RegistryClient,
    registry: &str,
    file: &Path,
) -> Result<Option<Stored>, RegistryError> {
    let mut auth_file = AuthFile::read(file)?;
    let program = auth_file.program_for(registry).map(str::to_owned);
    let by_program = match &program {
        Some(name) => {
            let limit = client.settings().helper_limit;
            helper_program::erase(name, server_key(registry), limit)?
        }
        None => false,
    };
    if auth_file.forget(registry) {
        auth_file.write(file)?;
        return Ok(Some(Stored::File(file.to_owned())));
    }
    Ok(program.filter(|_| by_program).map(Stored::Program))
}

/// Asks `/v2/` as the account: the distribution spec's way to try one.
fn verify(
    client: &RegistryClient,
    registry: &str,
    user: &str,
    password: &Secret,
) -> Result<(), RegistryError> {
    // Any repository will do: only its registry is asked.
    let reference = format!("{registry}/login").parse();
    let reference = reference.map_err(|_| RegistryError::Challenge {
        registry: registry.to_owned(),
        problem: "that is no registry; write HOST[:PORT]".to_owned(),
    })?;
    let endpoints = client.endpoints(&reference, Purpose::Push)?;
    let endpoint = endpoints
        .last()
        .expect("the registry itself is always an endpoint");
    let action = format!("log in at {registry}");
    let base = client.base(endpoint)?;
    let ask = |authorization| {
        let request = Request {
            method: Method::GET,
            authorization,
            redirects: Redirects::Keep,
            retry: Retry::Yes,
            ..Request::get(base.clone(), &endpoint.trust)
        };
        let answer = client.http.send(&request);
        answer.map_err(RegistryError::http(action.clone()))
    };
    let first = ask(None)?;
    if first.is_success() {
        return Ok(());
    }
    let credentials = Credentials {
        user: user.to_owned(),
        proof: Proof::Password(password.clone()),
        from: "this login".to_owned(),
    };
    let wanted = challenges(first.headers("www-authenticate"));
    let of_scheme = |scheme| wanted.iter().find(|challenge| challenge.scheme == scheme);
    let header = match of_scheme("bearer") {
        Some(bearer) => {
            let token = token::fetch(
                &client.http,
                endpoint,
                &base,
                bearer,
                &[],
                Some(&credentials),
            );
            Some(token?.header)
        }
        None => credentials.basic(),
    };
    let answer = ask(header)?;
    match answer.status() {
        200..=299 => Ok(()),
        401 => Err(RegistryError::Unauthorized {
            action,
            registry: registry.to_owned(),
            credentials: Some(credentials.from),
        }),
        _ => Err(RegistryError::refused(action, answer)),
    }
}
