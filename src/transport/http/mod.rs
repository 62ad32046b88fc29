//! The one way to the network: a small blocking HTTP/1.1 client.
//!
//! Comes in: [`HttpSettings`] in which every default is decided (authorities, proxies, patience),
//! and [`Request`]s. Goes out: a [`Response`] whose body is read as it comes, or a
//! [`Download`] that goes on by range where a connection was cut.
//!
//! It never reads the environment and knows no wall clock: time is only measured, to wait and to
//! give up. A server that hangs, drips, never ends or sends endless headers costs a bounded time
//! and bounded memory. What authorises a request goes to the origin that it was made for and to no
//! other, and stands in no message. RFC 9110, RFC 9112.

mod client;
mod download;
mod error;
mod patience;
mod proxy;
mod request;
mod secret;
mod settings;
mod trust;
mod url;
mod wire;

pub use client::HttpClient;
pub(crate) use client::Passing;
pub use download::Download;
pub use error::{HttpError, Unreachable};
pub use patience::Patience;
pub use proxy::Proxies;
pub use request::{Body, Method, Opener, Payload, Redirects, Request, Response, Retry};
pub use secret::Secret;
pub use settings::{HttpSettings, Network};
pub use trust::{Identity, Trust, Verify};
pub use url::{Scheme, Url, UrlError, query_encoded};
pub use wire::Traffic;
