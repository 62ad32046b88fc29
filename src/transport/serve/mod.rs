//! Serving: the images of a layout, an archive or a store to whoever pulls, and to nobody who
//! pushes.
//!
//! Comes in: a [`Shelf`], which is a place with images, and connections. Goes out: what the *pull*
//! half of the OCI distribution spec 1.1 promises: manifests, blobs and parts of them, tags,
//! referrers; writes are refused. Nothing is ever written, no name of a request becomes a path, and
//! no client can hold up the others or fill the memory.
//!
//! ```text
//! server -> seats -> connection -> head -> ask -> respond -> answer
//!                                     shelf, catalogue --^
//! ```
//!
//! **Whose HTTP.** `httparse` reads the heads: it is in the program anyway, through the client. The
//! rest of what a read-only registry needs of HTTP/1.1 is here, in two hundred lines, because all of
//! it is about bounds: `tiny_http` (last released in 2022) reads from its clients without time
//! limits and starts a thread for each; `hyper` has the limits, and brings a runtime and some
//! twenty crates for a server that talks to a handful of clients.
//!
//! **What is checked.** Documents are read whole and checked before they are sent. The length of a
//! blob is compared with what its manifest says, and its digest is computed on the way out; see
//! `connection`.

mod answer;
mod ask;
mod catalogue;
mod connection;
mod head;
mod range;
mod respond;
mod seats;
mod server;
mod shelf;

pub use server::{ServeSettings, Server, Tell};
pub use shelf::Shelf;
