//! What a reference was the last time, for calls that may not use the network.

use crate::oci::{Descriptor, Digest, Platform, Reference};
use crate::plan::key;
use crate::store::{Store, StoreError};

/// Notes which document a reference was, and the blobs that its image consists of.
pub(crate) fn remember(
    store: &Store,
    reference: &Reference,
    platform: &Platform,
    top: &Descriptor,
    blobs: &[Digest],
) -> Result<(), StoreError> {
    let key = key::pulled(&reference.to_string(), &platform.to_string());
    let value = crate::oci::json::to_vec(top);
    // Most pulls find what was there before: nothing is written then.
    match store.record(&key)?.as_ref() == Some(&value) {
        true => Ok(()),
        false => store.put_record_with_blobs(&key, &value, blobs),
    }
}

/// The document that a reference was the last time.
pub(crate) fn recall(
    store: &Store,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<Descriptor>, StoreError> {
    let key = key::pulled(&reference.to_string(), &platform.to_string());
    let value = store.record(&key)?;
    Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
}
