//! Registries: bases come from here, images go there.
//!
//! Comes in: [`RegistrySettings`] in which every default is decided, and references. Goes out: a
//! base image whose layers are in the store ([`RegistryClient::pull`]), what a reference is now
//! ([`RegistryClient::resolve`]), or an image in a repository ([`RegistryClient::push`]).
//!
//! ```text
//! reference -> table -> endpoints (mirrors, then the registry itself)
//!           -> credentials -> challenge -> token -> manifest -> layers -> store
//! parcel    -> the registry itself -> … -> layers -> configs -> manifests -> index, tags
//! ```
//!
//! Nothing that a registry says is believed before its digest and size were checked. No secret
//! stands in an error or is sent to another origin than it was made for; the server that gives
//! tokens is trusted exactly as the registry is. Nothing hangs and nothing is read without a limit.
//!
//! OCI distribution spec 1.1; Docker's registry token authentication; `containers-registries.conf(5)`,
//! `containers-certs.d(5)`, `containers-auth.json(5)`; Docker's credential helper protocol.

pub(crate) mod artifact;
mod auth_file;
mod certs;
mod challenge;
mod client;
mod credentials;
mod endpoint;
mod error;
mod helper_program;
mod known;
mod login;
mod outgoing;
mod parallel;
mod pull;
mod push;
mod referrers;
mod remote;
mod resolve;
mod session;
mod settings;
mod table;
mod target;
mod token;
mod upload;

pub use client::{Access, Call, Place, RegistryClient};
pub use endpoint::{Endpoint, Purpose};
pub use error::RegistryError;
pub use login::{Stored, log_in, log_out};
pub use outgoing::Progress;
pub use pull::{Fetched, Watch};
pub use push::{Delivery, Destination, PushNews, PushWatch, Pushed, PushedBlob};
pub use resolve::Resolved;
pub use settings::{Mirror, RegistrySettings};
pub use table::{Location, RegistryTable, Safety};
