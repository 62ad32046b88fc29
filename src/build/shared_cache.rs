//! Results of other machines, by way of a registry: `--cache-from` and `--cache-to`.
//!
//! A cache is an artifact. Its first blob is a bundle of records, the others are what the records
//! refer to: layers, and what commands have changed. A build asks for a record when its own store
//! has none, and only the blobs of records that are found travel. Sending leaves out what the
//! registry has.
//!
//! **Belief.** Every blob is held against its digest, and every record against its whole key. What
//! a layer record says is checked besides: the layer must hold the changeset of its key. That a
//! command did what a record says can be known to nobody who does not run it. So results of
//! commands, and tables of frames, are taken only from a cache that was sealed with a key that is
//! ours (`--cache-key`), or on the word of whoever may write it (`--cache-trust`).
//!
//! A cache that is absent, unreachable or wrong costs time and nothing else: what is wrong with it
//! is told in a note.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::build::error::BuildError;
use crate::build::event::{Event, Observer};
use crate::layer;
use crate::oci::document::Manifest;
use crate::oci::{Descriptor, Digest, MediaType, Reference};
use crate::store::{Bundle, KeyRecord, Record, Store, Upstream};
use crate::transport::http::Secret;
use crate::transport::registry::{Destination, RegistryClient, RegistrySettings};
use crate::transport::{Parcel, with_causes};

/// The type of a cache's artifact.
const ARTIFACT: &str = "application/vnd.boxwright.cache.v1";
/// The type of the bundle.
const RECORDS: &str = "application/vnd.boxwright.cache.records.v1";
/// The type of everything else.
const BLOB: &str = "application/octet-stream";
/// Under which name the manifest has the bundle's seal.
const SEAL: &str = "dev.boxwright.cache.seal";
/// The largest bundle that is read, in bytes: a hundred thousand records.
const MOST_RECORDS: u64 = 64 << 20;

/// Where results of other machines come from, and where ours go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SharedCacheSettings {
    /// Caches to look into, in this order.
    pub from: Vec<Reference>,
    /// Where to put what this build has used and made.
    pub to: Option<Reference>,
    /// What goes there.
    pub mode: CacheMode,
    /// What caches are sealed with: whoever has it may write what we believe.
    pub key: Option<Secret>,
    /// Whether to take what nothing proves, from any of the caches.
    pub trust: bool,
}

/// What goes into a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// The layers of the image.
    Min,
    /// Also what commands of all stages have changed, and the frames of layers.
    #[default]
    Max,
}

impl CacheMode {
    /// The kinds of records that go into a cache.
    fn kinds(self) -> &'static [&'static str] {
        match self {
            CacheMode::Min => &["layer", "layer-shape"],
            CacheMode::Max => &["layer", "layer-shape", "run", "frames", "layer-slot"],
        }
    }
}

/// Kinds of which a lie is found out, or harms nobody.
const PROVABLE: [&str; 2] = ["layer", "layer-shape"];

/// The caches that a build looks into.
#[derive(Debug)]
pub(crate) struct SharedCache {
    client: RegistryClient,
    caches: Vec<Cache>,
    told: Mutex<Told>,
}

/// One cache, of which the bundle is here.
#[derive(Debug)]
struct Cache {
    reference: Reference,
    bundle: Bundle,
    blobs: BTreeMap<Digest, Descriptor>,
    is_believed: bool,
}

/// What came of it, by the places of the caches.
#[derive(Debug, Default)]
struct Told {
    brought: BTreeMap<usize, (u64, u64)>,
    unproved: BTreeMap<usize, u64>,
    problems: BTreeSet<String>,
}

impl SharedCache {
    /// Fetches the bundles of all caches. One that is not there is noted and passed over.
    pub(crate) fn open(
        settings: &SharedCacheSettings,
        client: RegistryClient,
        store: &Store,
    ) -> SharedCache {
        let mut caches = Vec::new();
        let mut told = Told::default();
        for reference in &settings.from {
            match Cache::fetch(reference, settings, &client, store) {
                Ok(cache) => caches.push(cache),
                Err(problem) => {
                    let text = format!("the cache {reference} is not used: {problem}");
                    told.problems.insert(text);
                }
            }
        }
        SharedCache {
            client,
            caches,
            told: Mutex::new(told),
        }
    }

    /// What a person should know of the caches.
    pub(crate) fn notes(&self) -> Vec<String> {
        let told = self.told();
        let mut notes: Vec<String> = told.problems.iter().cloned().collect();
        for (place, cache) in self.caches.iter().enumerate() {
            let reference = &cache.reference;
            if let Some((records, bytes)) = told.brought.get(&place) {
                notes.push(format!(
                    "{records} results came from the cache {reference}, with {bytes} bytes"
                ));
            }
            if let Some(count) = told.unproved.get(&place) {
                notes.push(format!(
                    "{count} results of the cache {reference} were passed over, because nothing proves them; \
                     seal it with --cache-key, or take its writers' word with --cache-trust"
                ));
            }
        }
        notes
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings a record of one cache. The error is one line.
    fn bring_from(&self, cache: &Cache, record: &Record, store: &Store) -> Result<u64, String> {
        let kind = record.key.kind();
        let mut bytes = 0;
        // What names a shape is told of a layer that may be another one.
        if kind != "layer-shape" {
            let mut missing = Vec::new();
            for blob in &record.blobs {
                if !store
                    .contains_blob(blob)
                    .map_err(|error| error.to_string())?
                {
                    let known = cache
                        .blobs
                        .get(blob)
                        .ok_or("it does not have all of its blobs")?;
                    missing.push(known.clone());
                    bytes += known.size;
                }
            }
            let brought = self
                .client
                .artifact_blobs(&cache.reference, &missing, store);
            brought.map_err(|error| with_causes(&error))?;
        }
        if kind == "layer" && !cache.is_believed {
            let is_so = layer::holds_what_it_says(&record.key, &record.value, store);
            if !is_so.map_err(|error| with_causes(&error))? {
                return Err("a layer in it is not what its record says".to_owned());
            }
        }
        let put = store.put_record_with_blobs(&record.key, &record.value, &record.blobs);
        put.map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

impl Upstream for SharedCache {
    fn bring(&self, key: &KeyRecord, store: &Store) -> bool {
        for (place, cache) in self.caches.iter().enumerate() {
            let Some(record) = cache.bundle.record(key) else {
                continue;
            };
            if !cache.is_believed && !PROVABLE.contains(&key.kind()) {
                *self.told().unproved.entry(place).or_default() += 1;
                continue;
            }
            match self.bring_from(cache, &record, store) {
                Ok(bytes) => {
                    let mut told = self.told();
                    let brought = told.brought.entry(place).or_default();
                    *brought = (brought.0 + 1, brought.1 + bytes);
                    return true;
                }
                Err(problem) => {
                    let text = format!(
                        "a result of the cache {} is not used: {problem}",
                        cache.reference
                    );
                    self.told().problems.insert(text);
                }
            }
        }
        false
    }
}

impl Cache {
    /// Fetches the bundle of a cache. The error is one line.
    fn fetch(
        reference: &Reference,
        settings: &SharedCacheSettings,
        client: &RegistryClient,
        store: &Store,
    ) -> Result<Cache, String> {
        let Manifest {
            layers,
            annotations,
            ..
        } = client
            .artifact(reference, ARTIFACT, store)
            .map_err(|error| with_causes(&error))?;
        let records = layers
            .iter()
            .find(|layer| layer.media_type.as_str() == RECORDS);
        let records = records.ok_or("it has no records")?;
        if records.size > MOST_RECORDS {
            return Err(format!("its records have {} bytes", records.size));
        }
        client
            .artifact_blobs(reference, std::slice::from_ref(records), store)
            .map_err(|error| with_causes(&error))?;
        let bytes = store.small_blob(&records.digest, MOST_RECORDS);
        let bytes = bytes.ok().flatten().ok_or("its records cannot be read")?;
        let bundle = Bundle::decode(&bytes).ok_or("its records are of another version")?;
        let seal = annotations.get(SEAL);
        let is_ours = match &settings.key {
            Some(key) => seal.is_some_and(|seal| is_sealed(key, &bytes, seal)),
            None => false,
        };
        if settings.key.is_some() && !is_ours && !settings.trust {
            return Err("it is not sealed with our key".to_owned());
        }
        Ok(Cache {
            reference: reference.clone(),
            bundle,
            blobs: layers
                .into_iter()
                .map(|layer| (layer.digest, layer))
                .collect(),
            is_believed: is_ours || settings.trust,
        })
    }
}

/// Puts what the store was asked for since it was opened into a cache.
pub(crate) fn share(
    to: &Reference,
    settings: &SharedCacheSettings,
    client: &RegistryClient,
    store: &Store,
    observer: &dyn Observer,
) -> Result<(), BuildError> {
    let mut bundle = Bundle::default();
    for key in store.touched() {
        if settings.mode.kinds().contains(&key.kind()) {
            bundle.add(&key, store)?;
        }
    }
    let records = bundle.encode();
    let digest = store.put_blob(&records)?;
    let mut layers = vec![Descriptor::of(MediaType::from(RECORDS), &records)];
    let mut seen = BTreeSet::from([digest]);
    for record in bundle.records() {
        for blob in record.blobs {
            if seen.insert(blob)
                && let Some(file) = store.open_blob(&blob)?
            {
                let size = file.metadata().map_or(0, |found| found.len());
                layers.push(Descriptor {
                    digest: blob,
                    size,
                    ..Descriptor::of(MediaType::from(BLOB), b"")
                });
            }
        }
    }
    let seal = settings
        .key
        .as_ref()
        .map(|key| (SEAL.to_owned(), sealed(key, &records)));
    let parcel = Parcel::of_artifact(ARTIFACT, layers, seal.into_iter().collect(), store);
    let named = to.clone().with_default_tag();
    let to = Destination {
        tags: named.tag().map(str::to_owned).into_iter().collect(),
        repository: named,
    };
    let pushed = client.push(&parcel, &to, store, &|_| {})?;
    observer.event(Event::CacheShared {
        name: &format!("{}:{}", to.repository.repository(), to.tags.join(",")),
        records: bundle.len(),
        sent: pushed.traffic.sent,
    });
    Ok(())
}

/// The store of a build, which asks the caches of its settings.
pub(crate) fn with_caches(
    store: Store,
    settings: &SharedCacheSettings,
    registries: &RegistrySettings,
) -> (Store, Option<Arc<SharedCache>>) {
    if settings.from.is_empty() {
        return (store, None);
    }
    let client = RegistryClient::new(registries.clone());
    let shared = Arc::new(SharedCache::open(settings, client, &store));
    (store.with_upstream(shared.clone()), Some(shared))
}

/// The bundle's seal: an HMAC of its bytes, in hexadecimal digits. RFC 2104.
fn sealed(key: &Secret, records: &[u8]) -> String {
    let tag = ring::hmac::sign(&hmac_key(key), records);
    tag.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn is_sealed(key: &Secret, records: &[u8], seal: &str) -> bool {
    let digits = seal.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes.is_some_and(|seal| ring::hmac::verify(&hmac_key(key), records, &seal).is_ok())
}

fn hmac_key(key: &Secret) -> ring::hmac::Key {
    ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.reveal().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_fits_its_key_and_its_bytes_only() {
        let [ours, other] = ["ours", "other"].map(Secret::new);
        let seal = sealed(&ours, b"records");
        assert_eq!(seal.len(), 64);
        assert!(is_sealed(&ours, b"records", &seal));
        for (key, bytes, seal) in [
            (&other, &b"records"[..], seal.as_str()),
            (&ours, b"recordz", &seal),
            (&ours, b"records", &seal[..62]),
            (&ours, b"records", ""),
            (&ours, b"records", "zz"),
            (&ours, b"records", "\u{e9}\u{e9}"),
        ] {
            assert!(!is_sealed(key, bytes, seal), "{seal}");
        }
    }
}
