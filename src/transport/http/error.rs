//! What can go wrong on the way to a server.

use std::io;
use std::path::PathBuf;

use crate::transport::http::url::{Url, UrlError};

/// Why no answer came. The texts fit after "failed to" and show no secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The network may not be touched.
    #[error("reach {0}, which the store does not have: with --offline the network is not touched")]
    Offline(Url),
    /// The server could not be reached, or it broke off.
    #[error("reach {url}{}", times(*attempts))]
    Unreachable {
        /// What was asked for.
        url: Url,
        /// How often it was tried.
        attempts: u32,
        /// What kind of failure it was.
        kind: Unreachable,
        /// How it failed the last time.
        #[source]
        source: io::Error,
    },
    /// A redirect leads nowhere, round in circles, or from TLS into the clear.
    #[error("follow {url} to {problem}")]
    Redirect {
        /// What was asked for.
        url: Url,
        /// Where the server points, without the query, and what is wrong with that.
        problem: String,
    },
    /// A certificate or key could not be read.
    #[error("read the certificates in {}: {problem}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A proxy's URL makes no sense. It is not shown, for it may carry a password.
    #[error("use the proxy for {0}: its URL is malformed; write http://HOST:PORT")]
    Proxy(Url),
    /// An answer is longer than it may be.
    #[error("read the answer of {url}: it is longer than {most} bytes")]
    TooLong {
        /// What was asked for.
        url: Url,
        /// The most that is read.
        most: u64,
    },
    /// The server says no.
    #[error("fetch {url}: the server answers {status}{}", if *status == 404 { " (not found)" } else { "" })]
    Status {
        /// What was asked for.
        url: Url,
        /// The status.
        status: u16,
    },
    /// A text is no URL.
    #[error(transparent)]
    Url(#[from] UrlError),
}

/// How a server could not be reached: what else may be tried depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreachable {
    /// Nothing listens there, or no name leads there.
    NoConnection,
    /// It does not speak TLS.
    NoTls,
    /// Its certificate is not trusted, or ours is not.
    Certificate,
    /// It took too long.
    Slow,
    /// It broke off, or spoke no HTTP.
    Broken,
}

impl HttpError {
    /// The kind of a server that could not be reached.
    pub fn unreachable(&self) -> Option<Unreachable> {
        match self {
            HttpError::Unreachable { kind, .. } => Some(*kind),
            _ => None,
        }
    }
}

fn times(attempts: u32) -> String {
    match attempts {
        0 | 1 => String::new(),
        attempts => format!(" (tried {attempts} times)"),
    }
}

/// An error of the client library as ours.
pub(crate) fn classified(error: ureq::Error) -> (Unreachable, io::Error) {
    use ureq::Error as E;
    let text = |text: String| io::Error::other(text);
    match error {
        E::Timeout(what) => {
            let error = io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer in time ({what})"),
            );
            (Unreachable::Slow, error)
        }
        E::HostNotFound => (Unreachable::NoConnection, text("no such host".to_owned())),
        E::ConnectionFailed => (Unreachable::NoConnection, text("no connection".to_owned())),
        E::ConnectProxyFailed(why) => {
            let why = format!(
                "the proxy refuses: {}",
                why.chars().take(200).collect::<String>()
            );
            (Unreachable::NoConnection, text(why))
        }
        E::Tls(why) => (Unreachable::Certificate, text(why.to_owned())),
        E::Rustls(error) => of_tls(&error),
        E::Io(error) => of_io(error),
        other => (Unreachable::Broken, text(other.to_string())),
    }
}

fn of_io(error: io::Error) -> (Unreachable, io::Error) {
    if let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        return of_tls(tls);
    }
    let kind = match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Unreachable::Slow,
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => Unreachable::NoConnection,
        _ => Unreachable::Broken,
    };
    (kind, error)
}

fn of_tls(error: &rustls::Error) -> (Unreachable, io::Error) {
    let kind = match error {
        rustls::Error::InvalidMessage(_) => Unreachable::NoTls,
        _ => Unreachable::Certificate,
    };
    (kind, io::Error::other(error.to_string()))
}
