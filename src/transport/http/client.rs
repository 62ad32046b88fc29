//! The client: connections that are kept, redirects, and attempts.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::http::Method;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, DefaultConnector};
use ureq::{Agent, Proxy, SendBody};

use crate::transport::http::error::{HttpError, Unreachable, classified};
use crate::transport::http::patience::retry_after;
use crate::transport::http::request::{Payload, Redirects, Request, Response, Retry};
use crate::transport::http::secret::Secret;
use crate::transport::http::settings::{HttpSettings, Network};
use crate::transport::http::trust::{Trust, tls_config};
use crate::transport::http::url::{Scheme, Url};
use crate::transport::http::wire::{Meter, Traffic, Watch};

/// A client that may be used by several threads at once. Connections are kept and used again.
#[derive(Debug)]
pub struct HttpClient {
    settings: HttpSettings,
    agents: Mutex<BTreeMap<AgentKey, Agent>>,
    meter: Arc<Meter>,
}

/// What connections must share: TLS or none, trust, and proxy.
type AgentKey = (Scheme, Trust, Option<Secret>);

/// How often a request is sent elsewhere.
const MOST_REDIRECTS: usize = 8;

/// Statuses that may be others in a moment.
const PASSING: [u16; 6] = [408, 429, 500, 502, 503, 504];

/// Statuses that send a request elsewhere.
const REDIRECTING: [u16; 5] = [301, 302, 303, 307, 308];

impl HttpClient {
    /// A client. Nothing is read and nobody is asked before the first request.
    pub fn new(settings: HttpSettings) -> HttpClient {
        HttpClient {
            settings,
            agents: Mutex::default(),
            meter: Arc::default(),
        }
    }

    /// What it was made with.
    pub fn settings(&self) -> &HttpSettings {
        &self.settings
    }

    /// How many bytes went over its connections so far.
    pub fn traffic(&self) -> Traffic {
        self.meter.read()
    }

    /// Asks, follows redirects, and asks again when a failure may pass. A status that says no is an
    /// answer like any other.
    ///
    /// # Errors
    /// No answer, a redirect that cannot be followed, certificates that cannot be read, or
    /// `--offline`.
    pub fn send(&self, request: &Request<'_>) -> Result<Response, HttpError> {
        if self.settings.network == Network::Forbidden {
            return Err(HttpError::Offline(request.url.clone()));
        }
        let mut attempt = 1;
        loop {
            let result = self.attempt(request, attempt);
            let passing = match &result {
                Ok(answer) => answer.passing(),
                Err(error) => error.passing(),
            };
            let Some(Passing { asked }) = passing else {
                return result;
            };
            attempt += 1;
            let pause = self.settings.patience.pause_before(attempt, asked);
            match pause.filter(|_| request.retry == Retry::Yes) {
                Some(pause) => std::thread::sleep(pause),
                None => return result,
            }
        }
    }

    /// One attempt, with all redirects.
    fn attempt(&self, request: &Request<'_>, number: u32) -> Result<Response, HttpError> {
        let mut url = request.url.clone();
        let follows = request.redirects == Redirects::Follow
            && matches!(request.method, Method::GET | Method::HEAD);
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.exchange(request, &url, number)?;
            let location = answer.header("location").map(str::to_owned);
            match location.filter(|_| follows && REDIRECTING.contains(&answer.status)) {
                Some(location) => url = redirected(&url, &location)?,
                None => return Ok(answer),
            }
        }
        Err(HttpError::Redirect {
            url: request.url.clone(),
            problem: format!(
                "{url}: there are more than {MOST_REDIRECTS} redirects behind each other"
            ),
        })
    }

    /// One request and its answer.
    fn exchange(
        &self,
        request: &Request<'_>,
        url: &Url,
        number: u32,
    ) -> Result<Response, HttpError> {
        let failed = |(kind, source): (Unreachable, io::Error)| HttpError::Unreachable {
            url: url.clone(),
            attempts: number,
            kind,
            source,
        };
        let is_home = url.same_origin(&request.url);
        let agent = self.agent(url, request.trust, is_home)?;
        let mut builder = ureq::http::Request::builder()
            .method(request.method.clone())
            .uri(url.as_requested());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(authorization) = request.authorization.as_ref().filter(|_| is_home) {
            builder = builder.header("authorization", authorization.reveal());
        }
        if let Payload::Stream { size, .. } = request.payload {
            builder = builder.header("content-length", size);
        }
        let invalid = |_| failed((Unreachable::Broken, io::ErrorKind::InvalidInput.into()));
        let answer = match request.payload {
            Payload::Empty if takes_body(&request.method) => {
                agent.run(builder.body(&b""[..]).map_err(invalid)?)
            }
            Payload::Empty => agent.run(builder.body(()).map_err(invalid)?),
            Payload::Bytes(bytes) => agent.run(builder.body(bytes).map_err(invalid)?),
            Payload::Stream { open, .. } => {
                let mut stream = open().map_err(|error| failed((Unreachable::Broken, error)))?;
                let body = SendBody::from_reader(&mut stream);
                agent.run(builder.body(body).map_err(invalid)?)
            }
        };
        let (parts, body) = answer
            .map_err(|error| failed(classified(error)))?
            .into_parts();
        let patience = &self.settings.patience;
        let size = body.content_length().unwrap_or(0);
        Ok(Response {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.into_reader(),
            url: url.clone(),
            deadline: patience.deadline(size),
        })
    }

    /// The connections that share a trust and a proxy. On another origin than the request was made
    /// for we do not say who we are.
    fn agent(&self, url: &Url, trust: &Trust, is_home: bool) -> Result<Agent, HttpError> {
        let mut trust = trust.clone();
        if !is_home {
            trust.identity = None;
        }
        if url.scheme() == Scheme::Http {
            // Nothing of it matters there.
            trust = Trust::default();
        }
        let proxy = self.settings.proxies.of(url).cloned();
        let key = (url.scheme(), trust, proxy);
        // A thread that panicked left whole agents behind: the map is changed by one call.
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let agent = self.new_agent(url, &key.1, key.2.as_ref())?;
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    fn new_agent(
        &self,
        url: &Url,
        trust: &Trust,
        proxy: Option<&Secret>,
    ) -> Result<Agent, HttpError> {
        let proxy = match proxy.map(|proxy| Proxy::new(proxy.reveal())) {
            None => None,
            Some(Ok(proxy)) => Some(proxy),
            Some(Err(_)) => return Err(HttpError::Proxy(url.clone())),
        };
        let patience = &self.settings.patience;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .user_agent(concat!("boxwright/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections_per_host(16)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.answer));
        if url.scheme() == Scheme::Https {
            config = config.tls_config(tls_config(&self.settings, trust)?);
        }
        let connector = DefaultConnector::new().chain(Watch {
            answer: patience.answer,
            idle: patience.idle,
            meter: Arc::clone(&self.meter),
        });
        Ok(Agent::with_parts(
            config.build(),
            connector,
            DefaultResolver::default(),
        ))
    }
}

fn takes_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// A failure that may be none in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passing {
    /// How long the server asks to wait.
    pub(crate) asked: Option<Duration>,
}

impl Response {
    /// Whether the same request may be answered otherwise later.
    pub(crate) fn passing(&self) -> Option<Passing> {
        PASSING.contains(&self.status).then(|| Passing {
            asked: self
                .header("retry-after")
                .and_then(|value| retry_after(value, self.header("date"))),
        })
    }
}

impl HttpError {
    /// Whether the same request may be answered later.
    pub(crate) fn passing(&self) -> Option<Passing> {
        match self.unreachable() {
            Some(Unreachable::NoConnection | Unreachable::Slow | Unreachable::Broken) => {
                Some(Passing { asked: None })
            }
            Some(Unreachable::NoTls | Unreachable::Certificate) | None => None,
        }
    }
}

/// Where a redirect leads. From TLS it never leads into the clear.
fn redirected(from: &Url, location: &str) -> Result<Url, HttpError> {
    let wrong = |problem: String| {
        let place = location.split('?').next().unwrap_or_default();
        let place: String = place.chars().take(200).collect();
        HttpError::Redirect {
            url: from.clone(),
            problem: format!("{place:?}: {problem}"),
        }
    };
    let to = from
        .join(location)
        .map_err(|error| wrong(error.to_string()))?;
    match (from.scheme(), to.scheme()) {
        (Scheme::Https, Scheme::Http) => Err(wrong(
            "it leads from TLS into the clear, where anyone may change what is sent".to_owned(),
        )),
        _ => Ok(to),
    }
}
