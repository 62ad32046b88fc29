//! The floor: the words of the OCI image and distribution specifications, and nothing else.
//!
//! Comes in: text and JSON documents. Goes out: typed values that are valid by construction.
//! This room never touches a disk or a network, and it holds the only encoder of JSON whose bytes
//! are hashed ([`json`]).
//!
//! The document types are our own rather than `oci-spec`'s: those pass labels, ports and
//! annotations through `HashMap` (another digest at every run), keep digests as `String`, and do
//! not know Docker's `Healthcheck`. `oci-spec` serves the tests as an independent reader.

pub mod blob;
pub mod digest;
pub mod document;
pub mod json;
pub mod media_type;
pub mod platform;
pub mod reference;

pub use blob::{BlobError, BlobReader, BlobSink, BlobSource, VerifyingReader};
pub use digest::{
    ChainId, DiffId, Digest, DigestError, HASHER_STATE, Hasher, HasherState, HashingReader,
    HashingWriter,
};
pub use document::{
    Descriptor, Healthcheck, History, ImageConfig, Index, Manifest, OciLayout, RootFs,
    RuntimeConfig,
};
pub use media_type::{Codec, DocumentFormat, MediaType};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
