//! Pull: a reference becomes a base image whose layers are in the store.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::oci::{BlobSink, Descriptor, Platform, Reference};
use crate::plan::key;
use crate::store::Store;
use crate::transport::error::{TransportError, with_causes};
use crate::transport::import::BaseImage;
use crate::transport::layout::{self, FoundImage};
use crate::transport::registry::client::RegistryClient;
use crate::transport::registry::endpoint::Purpose;
use crate::transport::registry::error::RegistryError;
use crate::transport::registry::known;
use crate::transport::registry::parallel;
use crate::transport::registry::remote::Remote;

/// How far the layers of an image have come that were not here, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// So far. Bytes that had to be fetched again count once.
    pub done: u64,
    /// In all.
    pub total: u64,
}

/// Who is told how far layers have come, by several threads.
pub type Watch<'a> = &'a (dyn Fn(Fetched) + Sync);

/// How many bytes of a layer are told of at once.
const TELLING: u64 = 256 << 10;

impl RegistryClient {
    /// Brings the image for `platform` into the store. Its tag is asked for every time, its blobs
    /// only if they are not here. Mirrors are asked first, the registry itself last.
    ///
    /// Without network it is the image that the reference was the last time. `watch` is told how far
    /// layers have come that are not here.
    ///
    /// # Errors
    /// No place that has it, none for the platform, documents or layers that are not what their
    /// digests say, layers that nobody may pass on, a store that fails.
    pub fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        store: &Store,
        watch: Watch<'_>,
    ) -> Result<BaseImage, TransportError> {
        let reference = reference.clone().with_default_tag();
        let mut endpoints = self.endpoints(&reference, Purpose::Pull)?;
        if self.is_offline() {
            // All that counts is the store, and every place would say the same.
            endpoints.retain(|endpoint| !endpoint.is_mirror);
        }
        let mut failed = Vec::new();
        for endpoint in &endpoints {
            let remote = Remote::new(self, endpoint, store, &reference);
            let error = match self.pull_from(&remote, &reference, platform, watch) {
                Ok(base) => return Ok(base),
                Err(error) => error,
            };
            if !endpoint.is_mirror {
                return Err(match failed.is_empty() {
                    true => error,
                    false => RegistryError::Nowhere {
                        reference: reference.to_string(),
                        failed,
                        source: Box::new(error),
                    }
                    .into(),
                });
            }
            failed.push(format!("{}: {}", endpoint.host, with_causes(&error)));
        }
        unreachable!("the last endpoint is the registry itself, and there is always one")
    }

    fn pull_from(
        &self,
        remote: &Remote<'_>,
        reference: &Reference,
        platform: &Platform,
        watch: Watch<'_>,
    ) -> Result<BaseImage, TransportError> {
        let top = match self.is_offline() && reference.digest().is_none() {
            false => remote.resolve(reference)?,
            true => known::recall(remote.store, reference, platform)
                .map_err(in_store)?
                .ok_or_else(|| RegistryError::Offline(reference.to_string()))?,
        };
        let (found, documents) = layout::descend(remote, top.clone(), platform)?;
        fetch_layers(remote, &found.layers, self.settings().parallel.get(), watch)?;
        let layers = found.layers.iter().map(|layer| layer.digest);
        let blobs: Vec<_> = documents.into_iter().chain(layers).collect();
        known::remember(remote.store, reference, platform, &top, &blobs).map_err(in_store)?;
        Ok(BaseImage::from(FoundImage {
            names: vec![reference.to_string()],
            ..found
        }))
    }
}

/// Fetches the layers that are not here, several at once. The first that fails ends the others
/// when they are done with the layer at hand.
pub(crate) fn fetch_layers(
    remote: &Remote<'_>,
    layers: &[Descriptor],
    parallel: usize,
    watch: Watch<'_>,
) -> Result<(), TransportError> {
    let mut seen = BTreeSet::new();
    let mut missing = Vec::new();
    for layer in layers.iter().filter(|layer| seen.insert(layer.digest)) {
        let has = remote.store.has(&layer.digest, layer.size);
        if !has.map_err(|source| failed(remote, layer, source))? {
            missing.push(layer);
        }
    }
    let counter = Counter {
        done: AtomicU64::new(0),
        total: missing
            .iter()
            .map(|layer| layer.size)
            .fold(0, u64::saturating_add),
        watch,
    };
    if !missing.is_empty() {
        counter.add(0);
    }
    let fetch = |layer: &&Descriptor| fetch_layer(remote, layer, &counter);
    parallel::each(&missing, parallel, fetch).map(drop)
}

/// Adds up the bytes of all threads.
struct Counter<'a> {
    done: AtomicU64,
    total: u64,
    watch: Watch<'a>,
}

impl Counter<'_> {
    fn add(&self, count: u64) {
        let done = self.done.fetch_add(count, Ordering::Relaxed) + count;
        (self.watch)(Fetched {
            done,
            total: self.total,
        });
    }
}

/// Counts what is read of one layer.
struct Counted<'a, R> {
    inner: R,
    counter: &'a Counter<'a>,
    untold: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.untold += count as u64;
        if self.untold >= TELLING || (count == 0 && self.untold > 0) {
            self.counter.add(std::mem::take(&mut self.untold));
        }
        Ok(count)
    }
}

fn fetch_layer(
    remote: &Remote<'_>,
    layer: &Descriptor,
    counter: &Counter<'_>,
) -> Result<(), TransportError> {
    let Descriptor { digest, size, .. } = *layer;
    // Another build may be at it.
    let _claim = remote.store.claim_soon(&key::work("fetch", &digest));
    let has = remote.store.has(&digest, size);
    if has.map_err(|source| failed(remote, layer, source))? {
        counter.add(size);
        return Ok(());
    }
    let first = remote.blob(&digest, 0)?;
    let action = || format!("read layer {digest} of {}", remote.endpoint.host);
    if first.status() != 200 {
        return Err(RegistryError::refused(action(), first).into());
    }
    if let Some(found) = first.content_length().filter(|found| *found != size) {
        let what = format!("layer {digest} of {}", remote.endpoint.host);
        let problem = format!("the manifest says {size} bytes, the registry would send {found}");
        return Err(RegistryError::Document { what, problem }.into());
    }
    let ask = |offset| remote.blob(&digest, offset).map_err(io::Error::other);
    // One byte more than there should be, so that whoever checks sees that there is more.
    let http = &remote.client.http;
    let download = http.resuming(first, Some(size), size.saturating_add(1), Box::new(ask));
    let mut download = Counted {
        inner: download,
        counter,
        untold: 0,
    };
    remote
        .store
        .put(&digest, size, &mut download)
        .map_err(|source| failed(remote, layer, source))
}

fn failed(remote: &Remote<'_>, layer: &Descriptor, source: io::Error) -> TransportError {
    TransportError::Blob {
        path: remote.name.clone(),
        digest: layer.digest,
        source,
    }
}

fn in_store(error: crate::store::StoreError) -> TransportError {
    TransportError::Io {
        action: "keep what was pulled in",
        path: "the store".into(),
        source: io::Error::other(error),
    }
}
