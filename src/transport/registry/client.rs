//! The client of registries: finds endpoints, gets itself authorised, and asks.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ureq::http::Method;

use crate::oci::Reference;
use crate::transport::http::{
    HttpClient, HttpError, Network, Payload, Redirects, Request, Response, Retry, Scheme, Secret,
    Unreachable, Url,
};
use crate::transport::registry::challenge::{Challenge, challenges};
use crate::transport::registry::credentials::{self, Credentials, Proof};
use crate::transport::registry::endpoint::{self, Endpoint, Purpose, host_of};
use crate::transport::registry::error::RegistryError;
use crate::transport::registry::settings::RegistrySettings;
use crate::transport::registry::table::{RegistryTable, Safety};
use crate::transport::registry::token::{self, Authorization};

/// A client that several threads may use. It keeps connections, tokens, and what it found out
/// about registries; one is made for a build.
#[derive(Debug)]
pub struct RegistryClient {
    settings: RegistrySettings,
    pub(crate) http: HttpClient,
    table: OnceLock<RegistryTable>,
    /// How registries that may do without TLS are reached, by host.
    bases: Mutex<BTreeMap<String, Url>>,
    /// By registry, repository where credentials may depend on it, and scopes.
    authorizations: Mutex<BTreeMap<Scope, Authorization>>,
    /// By registry and repository. Helpers are slow; they are asked once.
    credentials: Mutex<BTreeMap<(String, String), Found>>,
}

/// What is asked of a repository.
#[derive(Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// What of.
    pub place: Place<'a>,
    /// What the token must allow.
    pub access: &'a [Access],
    /// Headers besides the usual ones.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent along.
    pub payload: Payload<'a>,
    /// Whether redirects are followed.
    pub redirects: Redirects,
    /// Whether it is made again when that may help.
    pub retry: Retry,
}

/// What a call is about.
#[derive(Debug, Clone)]
pub enum Place<'a> {
    /// Something of the repository: `manifests/latest`, `blobs/uploads/`.
    Repository(&'a str),
    /// A URL that the registry gave: the place of an upload. Credentials go there only if it is on
    /// the registry's own origin.
    Absolute(Url),
}

/// What a token must allow: `repository:NAME:ACTIONS`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// The repository.
    pub repository: String,
    /// `pull`, or `pull,push`.
    pub actions: &'static str,
}

/// The credentials for a repository, where there are any.
type Found = Option<Arc<Credentials>>;

type Scope = (String, String, Vec<String>);

impl<'a> Call<'a> {
    /// A call that sends nothing, follows redirects, and is made again when that may help.
    pub fn new(method: Method, place: Place<'a>, access: &'a [Access]) -> Call<'a> {
        Call {
            method,
            place,
            access,
            headers: Vec::new(),
            payload: Payload::Empty,
            redirects: Redirects::Follow,
            retry: Retry::Yes,
        }
    }
}

impl RegistryClient {
    /// A client. Nothing is read and nobody is asked before the first call.
    pub fn new(settings: RegistrySettings) -> RegistryClient {
        RegistryClient {
            http: HttpClient::new(settings.http.clone()),
            settings,
            table: OnceLock::new(),
            bases: Mutex::default(),
            authorizations: Mutex::default(),
            credentials: Mutex::default(),
        }
    }

    /// What it was made with.
    pub fn settings(&self) -> &RegistrySettings {
        &self.settings
    }

    /// Whether it may use the network.
    pub fn is_offline(&self) -> bool {
        self.settings.http.network == Network::Forbidden
    }

    /// The registry of a reference itself, not a mirror: where pushes go, and where nothing lags
    /// behind.
    ///
    /// # Errors
    /// As [`RegistryClient::endpoints`].
    pub(crate) fn itself(&self, reference: &Reference) -> Result<Endpoint, RegistryError> {
        let mut endpoints = self.endpoints(reference, Purpose::Push)?;
        Ok(endpoints
            .pop()
            .expect("the registry itself is always an endpoint"))
    }

    /// Where a reference is asked for, in order. For a push that is one place.
    ///
    /// # Errors
    /// A blocked registry, and tables or certificates that make no sense.
    pub fn endpoints(
        &self,
        reference: &Reference,
        purpose: Purpose,
    ) -> Result<Vec<Endpoint>, RegistryError> {
        endpoint::endpoints(&self.settings, self.table()?, reference, purpose)
    }

    /// Asks a registry, authorised as it wants. A status that says no is an answer like any other,
    /// but for 401: then credentials were refused or are missing.
    ///
    /// # Errors
    /// No answer, and whatever keeps us from being authorised.
    pub fn call<'a>(
        &self,
        endpoint: &'a Endpoint,
        call: &Call<'a>,
    ) -> Result<Response, RegistryError> {
        if self.is_offline() {
            return Err(offline(endpoint, call));
        }
        let base = self.base(endpoint)?;
        let url = match &call.place {
            Place::Repository(rest) => base.join(&format!("/v2/{}/{rest}", endpoint.repository))?,
            Place::Absolute(url) => url.clone(),
        };
        let action = format!("ask {} for {url}", endpoint.host);
        let is_home = url.same_origin(&base);
        let scopes = scopes(call.access);
        let known = self.known(endpoint, &scopes).filter(|_| is_home);
        let answer = self.ask(endpoint, call, &url, known.clone(), &action)?;
        if answer.status() != 401 || !answer.url().same_origin(&base) {
            return Ok(answer);
        }
        let wanted = challenges(answer.headers("www-authenticate"));
        let header = self.authorize(endpoint, &base, &wanted, &scopes, known.as_ref(), &action)?;
        let answer = self.ask(endpoint, call, &url, Some(header), &action)?;
        if answer.status() != 401 {
            return Ok(answer);
        }
        let credentials = self.credentials(endpoint)?;
        Err(RegistryError::Unauthorized {
            action,
            registry: endpoint.host.clone(),
            credentials: credentials.map(|found| found.from.clone()),
        })
    }

    fn ask<'a>(
        &self,
        endpoint: &'a Endpoint,
        call: &Call<'a>,
        url: &Url,
        authorization: Option<Secret>,
        action: &str,
    ) -> Result<Response, RegistryError> {
        let request = Request {
            method: call.method.clone(),
            url: url.clone(),
            headers: call.headers.clone(),
            authorization,
            payload: call.payload,
            trust: &endpoint.trust,
            redirects: call.redirects,
            retry: call.retry,
        };
        self.http
            .send(&request)
            .map_err(RegistryError::http(action))
    }

    /// How a registry is reached. One that may do without TLS is asked with it first, so that a
    /// password is not sent in the clear without need.
    pub(crate) fn base(&self, endpoint: &Endpoint) -> Result<Url, RegistryError> {
        let secure = Url::of(Scheme::Https, host_of(&endpoint.host), "/v2/")?;
        if endpoint.safety == Safety::Verified {
            return Ok(secure);
        }
        let mut bases = locked(&self.bases);
        if let Some(base) = bases.get(&endpoint.host) {
            return Ok(base.clone());
        }
        let probe = |url: &Url, retry| {
            let mut request = Request::get(url.clone(), &endpoint.trust);
            (request.retry, request.redirects) = (retry, Redirects::Keep);
            self.http.send(&request)
        };
        let plain = secure.clone().with_scheme(Scheme::Http);
        let base = match probe(&secure, Retry::No).map_err(|error| (error.unreachable(), error)) {
            Ok(_) => secure,
            Err((Some(Unreachable::NoTls | Unreachable::Broken | Unreachable::Slow), _)) => plain,
            // Nobody listens. Whoever starts a registry beside a build gets a little time.
            Err((Some(Unreachable::NoConnection), _)) => {
                let action = format!("ask {}", endpoint.host);
                probe(&plain, Retry::Yes).map_err(RegistryError::http(action))?;
                plain
            }
            Err((_, error)) => {
                return Err(RegistryError::http(format!("ask {}", endpoint.host))(error));
            }
        };
        bases.insert(endpoint.host.clone(), base.clone());
        Ok(base)
    }

    /// The authorisation that was good the last time.
    fn known(&self, endpoint: &Endpoint, scopes: &[String]) -> Option<Secret> {
        let known = locked(&self.authorizations);
        let found = known.get(&key(endpoint, scopes))?;
        found.is_good().then(|| found.header.clone())
    }

    /// Gets what a challenge asks for. `refused` is what the registry did not take.
    fn authorize(
        &self,
        endpoint: &Endpoint,
        base: &Url,
        wanted: &[Challenge],
        scopes: &[String],
        refused: Option<&Secret>,
        action: &str,
    ) -> Result<Secret, RegistryError> {
        // Held while a token is fetched: other threads want the same one.
        let mut known = locked(&self.authorizations);
        let key = key(endpoint, scopes);
        if let Some(found) = known.get(&key)
            && found.is_good()
            && Some(&found.header) != refused
        {
            return Ok(found.header.clone());
        }
        known.remove(&key);
        let credentials = self.credentials(endpoint)?;
        let of_scheme = |scheme| wanted.iter().find(|challenge| challenge.scheme == scheme);
        let authorization = match (
            of_scheme("bearer"),
            of_scheme("basic"),
            credentials.as_deref(),
        ) {
            (
                _,
                _,
                Some(Credentials {
                    proof: Proof::RegistryToken(token),
                    ..
                }),
            ) => Authorization {
                header: Secret::new(format!("Bearer {}", token.reveal())),
                expires: None,
            },
            (Some(bearer), _, found) => {
                token::fetch(&self.http, endpoint, base, bearer, scopes, found)?
            }
            (None, Some(_), found) => match found.and_then(Credentials::basic) {
                Some(header) => Authorization {
                    header,
                    expires: None,
                },
                None => {
                    return Err(RegistryError::Unauthorized {
                        action: action.to_owned(),
                        registry: endpoint.host.clone(),
                        credentials: found.map(|found| found.from.clone()),
                    });
                }
            },
            (None, None, _) => {
                return Err(RegistryError::Challenge {
                    registry: endpoint.host.clone(),
                    problem: "it asks for neither basic nor bearer authorisation".to_owned(),
                });
            }
        };
        let header = authorization.header.clone();
        known.insert(key, authorization);
        Ok(header)
    }

    fn credentials(&self, endpoint: &Endpoint) -> Result<Found, RegistryError> {
        let key = (endpoint.host.clone(), endpoint.repository.clone());
        let mut known = locked(&self.credentials);
        if let Some(found) = known.get(&key) {
            return Ok(found.clone());
        }
        let found = credentials::find(&self.settings, &endpoint.host, &endpoint.repository)?;
        let found = found.map(Arc::new);
        known.insert(key, found.clone());
        Ok(found)
    }

    fn table(&self) -> Result<&RegistryTable, RegistryError> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        let mut table = RegistryTable::default();
        for path in &self.settings.tables {
            match fs::read_to_string(path) {
                Ok(text) => table.read(path, &text)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(RegistryError::Table {
                        path: path.clone(),
                        problem: error.to_string(),
                    });
                }
            }
        }
        Ok(self.table.get_or_init(|| table))
    }
}

/// What was wanted of a registry when nobody may be asked.
fn offline(endpoint: &Endpoint, call: &Call<'_>) -> RegistryError {
    let url = match &call.place {
        Place::Repository(rest) => {
            let path = format!("/v2/{}/{rest}", endpoint.repository);
            Url::of(Scheme::Https, host_of(&endpoint.host), &path)
        }
        Place::Absolute(url) => Ok(url.clone()),
    };
    match url {
        Ok(url) => RegistryError::http(format!("ask {}", endpoint.host))(HttpError::Offline(url)),
        Err(error) => error.into(),
    }
}

/// The scopes of a token, as token servers write them, in order.
fn scopes(access: &[Access]) -> Vec<String> {
    let mut scopes: Vec<String> = access
        .iter()
        .map(|access| format!("repository:{}:{}", access.repository, access.actions))
        .collect();
    scopes.sort();
    scopes.dedup();
    scopes
}

fn key(endpoint: &Endpoint, scopes: &[String]) -> Scope {
    (
        endpoint.host.clone(),
        endpoint.repository.clone(),
        scopes.to_vec(),
    )
}

/// What a thread that panicked left behind is whole: every change is one call.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
