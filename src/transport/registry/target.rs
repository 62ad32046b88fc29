//! Targets: one repository that is pushed to, and how it is asked.

use ureq::http::Method;

use crate::oci::Digest;
use crate::store::Store;
use crate::transport::http::{Payload, Redirects, Response, Retry, Scheme, Url};
use crate::transport::registry::client::{Access, Call, Place, RegistryClient};
use crate::transport::registry::endpoint::Endpoint;
use crate::transport::registry::error::RegistryError;

/// How often the same bytes are sent elsewhere.
const MOST_REDIRECTS: usize = 4;

/// A repository that is pushed to.
pub(crate) struct Target<'a> {
    pub(crate) client: &'a RegistryClient,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) store: &'a Store,
    pub(crate) access: [Access; 1],
}

/// One thing that is asked of a target.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) place: Place<'a>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) payload: Payload<'a>,
    pub(crate) retry: Retry,
}

impl<'a> Ask<'a> {
    /// Sends nothing along, and is made again when that may help.
    pub(crate) fn new(method: Method, place: Place<'a>) -> Ask<'a> {
        Ask {
            method,
            place,
            headers: Vec::new(),
            payload: Payload::Empty,
            retry: Retry::Yes,
        }
    }
}

impl<'a> Target<'a> {
    pub(crate) fn new(
        client: &'a RegistryClient,
        endpoint: &'a Endpoint,
        store: &'a Store,
    ) -> Target<'a> {
        Target {
            client,
            endpoint,
            store,
            access: [Access {
                repository: endpoint.repository.clone(),
                actions: "pull,push",
            }],
        }
    }

    /// `HOST/REPOSITORY`, for messages.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.endpoint.host, self.endpoint.repository)
    }

    pub(crate) fn ask<'b>(&'b self, ask: Ask<'b>) -> Result<Response, RegistryError> {
        self.ask_with(ask, &self.access)
    }

    /// As [`Target::ask`], with a token that allows more. Where the answer says to send the same
    /// elsewhere, that is done.
    pub(crate) fn ask_with<'b>(
        &'b self,
        ask: Ask<'b>,
        access: &'b [Access],
    ) -> Result<Response, RegistryError> {
        let mut call = Call {
            method: ask.method,
            place: ask.place,
            access,
            headers: ask.headers,
            payload: ask.payload,
            redirects: Redirects::Follow,
            retry: ask.retry,
        };
        for _ in 0..MOST_REDIRECTS {
            let answer = self.client.call(self.endpoint, &call)?;
            let is_read = matches!(call.method, Method::GET | Method::HEAD);
            if is_read || !matches!(answer.status(), 307 | 308) {
                return Ok(answer);
            }
            let action = format!("send to {}", self.name());
            match self.location(&answer, &action)? {
                Some(place) => call.place = Place::Absolute(place),
                None => return Ok(answer),
            }
        }
        Err(RegistryError::Misbehaves {
            action: format!("send to {}", self.name()),
            problem: format!("it redirects more than {MOST_REDIRECTS} times"),
        })
    }

    /// Whether the repository has a blob of this size.
    pub(crate) fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, RegistryError> {
        let place = format!("blobs/{digest}");
        let answer = self.ask(Ask::new(Method::HEAD, Place::Repository(&place)))?;
        let is_of_size = answer.content_length().is_none_or(|found| found == size);
        match answer.status() {
            200..=299 => Ok(is_of_size),
            429 | 500.. => {
                let action = format!("look for blob {digest} in {}", self.name());
                Err(RegistryError::refused(action, answer))
            }
            // Whatever else it says: sending a blob that is there is no harm.
            _ => Ok(false),
        }
    }

    /// Where an answer says that something goes on. It may be relative, and on another host; it is
    /// never in the clear where the registry is not, for proxies forget the scheme.
    pub(crate) fn location(
        &self,
        answer: &Response,
        action: &str,
    ) -> Result<Option<Url>, RegistryError> {
        let Some(location) = answer.header("location") else {
            return Ok(None);
        };
        let wrong = |problem: String| RegistryError::Misbehaves {
            action: action.to_owned(),
            problem,
        };
        let asked = answer.url();
        let place = asked
            .join(location)
            .map_err(|error| wrong(error.to_string()))?;
        match (asked.scheme(), place.scheme()) {
            (Scheme::Https, Scheme::Http) if place.authority() == asked.authority() => {
                Ok(Some(place.with_scheme(Scheme::Https)))
            }
            (Scheme::Https, Scheme::Http) => Err(wrong(format!(
                "it sends the upload to {place}, from TLS into the clear"
            ))),
            _ => Ok(Some(place)),
        }
    }

    /// An answer's word for what it took must be ours.
    pub(crate) fn check_digest(
        &self,
        answer: &Response,
        expected: &Digest,
        what: impl FnOnce() -> String,
    ) -> Result<(), RegistryError> {
        let said = answer.header("docker-content-digest").map(str::trim);
        match said.map(str::parse::<Digest>) {
            None => Ok(()),
            Some(Ok(found)) if found == *expected => Ok(()),
            // Another algorithm than ours proves nothing, and harms nothing.
            Some(Err(_)) if said.is_some_and(|said| !said.starts_with("sha256:")) => Ok(()),
            Some(found) => Err(RegistryError::Misbehaves {
                action: what(),
                problem: match found {
                    Ok(found) => format!("it says that it took {found}, and {expected} was sent"),
                    Err(_) => "it says that it took something without a digest".to_owned(),
                },
            }),
        }
    }
}
