//! Tokens: what a token server gives for credentials, kept until shortly before they expire.
//!
//! Distribution, "Token Authentication Specification"; with an identity token, its OAuth 2 form.

use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::Method;

use crate::transport::http::{
    HttpClient, Payload, Redirects, Request, Response, Retry, Scheme, Secret, Trust, Url,
    query_encoded,
};
use crate::transport::registry::challenge::Challenge;
use crate::transport::registry::credentials::{Credentials, Proof};
use crate::transport::registry::endpoint::Endpoint;
use crate::transport::registry::error::RegistryError;
use crate::transport::registry::table::Safety;

/// A value of `Authorization`, and until when it is good.
#[derive(Debug, Clone)]
pub(crate) struct Authorization {
    pub(crate) header: Secret,
    /// `None`: until the registry says no.
    pub(crate) expires: Option<Instant>,
}

impl Authorization {
    pub(crate) fn is_good(&self) -> bool {
        self.expires.is_none_or(|expires| Instant::now() < expires)
    }
}

/// What a token server answers. `access_token` is the OAuth 2 name of the same thing.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// The longest answer that is read: 1 MiB.
const MOST_ANSWER: u64 = 1 << 20;
/// How long a token is good if its server does not say. It is the specification's number.
const DEFAULT_LIFE: u64 = 60;
/// Longer lives are not believed: a day.
const LONGEST_LIFE: u64 = 24 * 3600;

/// Asks the server that a challenge names for a token.
pub(crate) fn fetch(
    http: &HttpClient,
    endpoint: &Endpoint,
    base: &Url,
    challenge: &Challenge,
    scopes: &[String],
    credentials: Option<&Credentials>,
) -> Result<Authorization, RegistryError> {
    let realm = realm(endpoint, base, challenge)?;
    let service = challenge.parameters.get("service").map(String::as_str);
    let trust = &endpoint.trust;
    let answer = match credentials {
        Some(Credentials {
            proof: Proof::IdentityToken(token),
            ..
        }) => exchange(http, &realm, trust, service, scopes, token),
        other => {
            let mut url = realm.clone();
            if let Some(service) = service {
                url = url.with_query("service", service);
            }
            for scope in scopes {
                url = url.with_query("scope", scope);
            }
            let mut request = Request::get(url, trust);
            request.authorization = other.and_then(Credentials::basic);
            http.send(&request)
        }
    };
    let action = format!("ask {realm} for a token for {}", endpoint.host);
    let answer = answer.map_err(RegistryError::http(&action))?;
    if matches!(answer.status(), 401 | 403) {
        return Err(RegistryError::Unauthorized {
            action,
            registry: endpoint.host.clone(),
            credentials: credentials.map(|found| found.from.clone()),
        });
    }
    if !answer.is_success() {
        return Err(RegistryError::refused(action, answer));
    }
    token(endpoint, answer, action)
}

fn token(
    endpoint: &Endpoint,
    answer: Response,
    action: String,
) -> Result<Authorization, RegistryError> {
    let asked = Instant::now();
    let body = answer
        .small(MOST_ANSWER)
        .map_err(RegistryError::http(action))?;
    let problem = |problem: &str| RegistryError::Challenge {
        registry: endpoint.host.clone(),
        problem: problem.to_owned(),
    };
    // The parser's own words would quote the token.
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|_| problem("what its token server answers is no token document"))?;
    let token = answer.token.or(answer.access_token).unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_graphic();
    if token.is_empty() || !token.bytes().all(is_plain) {
        return Err(problem("its token server gives no token"));
    }
    let life = answer.expires_in.unwrap_or(DEFAULT_LIFE).min(LONGEST_LIFE);
    // A tenth earlier, so that it does not expire on the way.
    let life = Duration::from_secs(life).mul_f64(0.9);
    Ok(Authorization {
        header: Secret::new(format!("Bearer {token}")),
        expires: Some(asked + life),
    })
}

/// The OAuth 2 form: an identity token for an access token.
fn exchange(
    http: &HttpClient,
    realm: &Url,
    trust: &Trust,
    service: Option<&str>,
    scopes: &[String],
    token: &Secret,
) -> Result<Response, crate::transport::http::HttpError> {
    let form = [
        ("grant_type", "refresh_token"),
        ("service", service.unwrap_or_default()),
        ("client_id", "boxwright"),
        ("scope", &scopes.join(" ")),
        ("refresh_token", token.reveal()),
    ]
    .map(|(name, value)| format!("{name}={}", query_encoded(value)))
    .join("&");
    http.send(&Request {
        method: Method::POST,
        url: realm.clone(),
        headers: vec![(
            "content-type",
            "application/x-www-form-urlencoded".to_owned(),
        )],
        authorization: None,
        payload: Payload::Bytes(form.as_bytes()),
        trust,
        redirects: Redirects::Keep,
        retry: Retry::Yes,
    })
}

/// Where tokens are given. Only a registry that was named as insecure may send our password into
/// the clear.
fn realm(endpoint: &Endpoint, base: &Url, challenge: &Challenge) -> Result<Url, RegistryError> {
    let problem = |problem: String| RegistryError::Challenge {
        registry: endpoint.host.clone(),
        problem,
    };
    let realm = challenge.parameters.get("realm");
    let realm =
        realm.ok_or_else(|| problem("it does not say where tokens are given".to_owned()))?;
    let realm: Url = base
        .join(realm)
        .map_err(|error| problem(error.to_string()))?;
    let in_the_clear = realm.scheme() == Scheme::Http && !realm.is_loopback();
    match in_the_clear && endpoint.safety != Safety::Insecure {
        true => Err(problem(format!("its token server {realm} has no TLS"))),
        false => Ok(realm),
    }
}
