//! What is known of registries from earlier calls: which document a reference was, for calls that
//! may not use the network, and which blobs a repository has, so that another one on the same
//! registry can have them without their bytes being sent.

use std::collections::BTreeMap;

use crate::oci::{Descriptor, Digest, Platform, Reference, json};
use crate::plan::key;
use crate::store::{KeyRecord, Record, Store, StoreError, Value};
use crate::transport::registry::client::RegistryClient;
use crate::transport::registry::endpoint::Endpoint;

/// Notes which document a reference was, and the blobs that its image consists of.
pub(crate) fn remember(
    store: &Store,
    reference: &Reference,
    platform: &Platform,
    top: &Descriptor,
    blobs: &[Digest],
) -> Result<(), StoreError> {
    let key = key::pulled(&reference.to_string(), &platform.to_string());
    let value = json::to_vec(top);
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

/// Notes the blobs that a repository has now.
pub(crate) fn remember_pushed(
    store: &Store,
    endpoint: &Endpoint,
    blobs: &[Digest],
) -> Result<(), StoreError> {
    let key = key::pushed(&endpoint.host, &endpoint.repository);
    let value = json::to_vec(&blobs);
    match store.record(&key)?.as_ref() == Some(&value) {
        true => Ok(()),
        false => store.put_record(&key, &value),
    }
}

/// Other repositories on the endpoint's registry that had blobs when we last saw them: those that
/// were pulled from, and those that were pushed to.
pub(crate) fn other_places(
    client: &RegistryClient,
    store: &Store,
    endpoint: &Endpoint,
) -> Result<BTreeMap<Digest, String>, StoreError> {
    let mut places = BTreeMap::new();
    let mut add = |repository: &str, blobs: Vec<Digest>| {
        for blob in blobs
            .into_iter()
            .filter(|_| repository != endpoint.repository)
        {
            places.entry(blob).or_insert_with(|| repository.to_owned());
        }
    };
    for record in store.records("pulled")? {
        let record = record?;
        if let Some(found) = pulled_from(client, &record.key)
            && found.host == endpoint.host
        {
            add(&found.repository, record.blobs);
        }
    }
    for record in store.records("pushed")? {
        let Record { key, value, .. } = record?;
        if text(&key, "registry") == Some(&endpoint.host)
            && let Some(repository) = text(&key, "repository")
        {
            add(
                repository,
                serde_json::from_slice(&value).unwrap_or_default(),
            );
        }
    }
    Ok(places)
}

/// The registry's own place of what was pulled; mirrors take no pushes.
fn pulled_from(client: &RegistryClient, key: &KeyRecord) -> Option<Endpoint> {
    let reference: Reference = text(key, "reference")?.parse().ok()?;
    client.itself(&reference).ok()
}

fn text<'a>(key: &'a KeyRecord, name: &str) -> Option<&'a str> {
    let mut fields = key.fields();
    let value = fields.find_map(|(field, value)| (field == name).then_some(value))?;
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}
