//! Layers that need not be written: found by their key, or made mostly of frames of the last one.

use std::sync::Arc;

use crate::context::read_digests;
use crate::layer::codec::Compression;
use crate::layer::error::LayerError;
use crate::layer::index::{LayerBlob, index};
use crate::layer::reader::Limits;
use crate::layer::table::FrameTable;
use crate::layer::writer::{ENCODER, Layer, Reuse, WriteOptions, write};
use crate::oci::{Codec, DiffId, Digest};
use crate::plan::key;
use crate::store::{KeyRecord, Store, Value};
use crate::tree::{Changeset, Content, DiskFile};

/// Whether records of earlier builds may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Records {
    /// They may.
    Use,
    /// Everything is made anew (`--no-cache`); what is made is recorded all the same.
    Ignore,
}

/// A layer and how it came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// The layer.
    pub layer: Layer,
    /// The digest of the changeset that it holds.
    pub changeset: Digest,
    /// What was compressed for it; `None` if the store had it whole.
    pub written: Option<Reuse>,
}

/// The layer of the changeset with this digest, if the store has it.
///
/// # Errors
/// The store failing.
pub fn find(
    changeset: &Digest,
    store: &Store,
    compression: Compression,
    epoch: u64,
) -> Result<Option<Layer>, LayerError> {
    let key = layer_key(changeset, compression, epoch);
    let found = store.record(&key)?;
    match found.and_then(|value| decode(&value, compression)) {
        Some(layer) if store.contains_blob(&layer.digest)? => Ok(Some(layer)),
        _ => Ok(None),
    }
}

/// Whether the layer that a record names, which is in the store, holds the changeset that its key
/// names: what a record of someone else must prove.
///
/// # Errors
/// A blob that is missing or damaged, or does not uncompress to what the record says.
pub fn holds_what_it_says(
    key: &KeyRecord,
    value: &[u8],
    store: &Store,
) -> Result<bool, LayerError> {
    let field = |wanted: &str| key.fields().find(|(name, _)| *name == wanted);
    let Some((_, Value::Digest(changeset))) = field("changeset") else {
        return Ok(false);
    };
    let Some((_, Value::Text(compression))) = field("compression") else {
        return Ok(false);
    };
    let codec = [
        Compression::NONE,
        Compression::GZIP,
        Compression::default_of(Codec::Zstd),
    ]
    .into_iter()
    .find(|known| compression.split(':').next() == Some(known.codec().to_string().as_str()));
    let Some(layer) = codec.and_then(|codec| decode(value, codec)) else {
        return Ok(false);
    };
    let blob = LayerBlob {
        digest: layer.digest,
        size: layer.size,
        codec: layer.codec,
        diff_id: layer.diff_id,
    };
    let indexed = index(store, &blob, Limits::default(), 0)?;
    let is_whole = indexed.uncompressed_size == layer.uncompressed_size;
    Ok(is_whole && indexed.changes.digest()? == *changeset)
}

/// The layer of `changes`: from the store if it is there, otherwise written now.
///
/// Files that nobody has read yet are read once, while the layer is written; but if a layer of the
/// same names and lengths was written before, it is likely this one, and they are read to find out.
///
/// `slot` names the place of the layer in its image, such as the spec, the stage and the step. It
/// decides nothing but which earlier layer is looked at for frames: the bytes are the same with
/// any slot.
///
/// # Errors
/// Those of [`write()`], and files that cannot be read.
pub fn provide(
    changes: &Changeset,
    store: &Store,
    slot: &[&str],
    records: Records,
    options: &WriteOptions<'_>,
) -> Result<Provided, LayerError> {
    let names = changes.shape()?;
    let shape = key::layer_shape(&names, ENCODER);
    if records == Records::Ignore {
        return made(changes, store, slot, records, options, &shape);
    }
    if let Some(known) = known(changes, store, options, &shape)? {
        return Ok(known);
    }
    // What is in the layer may only be known when it is written.
    let _claim = store.claim_soon(&key::work("layer", &names));
    match known(changes, store, options, &shape)? {
        Some(known) => Ok(known),
        None => made(changes, store, slot, records, options, &shape),
    }
}

/// The layer, if the store has it.
fn known(
    changes: &Changeset,
    store: &Store,
    options: &WriteOptions<'_>,
    shape: &KeyRecord,
) -> Result<Option<Provided>, LayerError> {
    let unread = unread(changes);
    if !unread.is_empty() && store.record(shape)?.is_some() {
        read_digests(store, &unread, options.threads)?;
    }
    let Ok(changeset) = changes.digest() else {
        return Ok(None);
    };
    let found = find(&changeset, store, options.compression, options.epoch)?;
    Ok(found.map(|layer| {
        // Whoever takes this layer over wants to know these, too.
        store.touch(shape);
        store.touch(&key::frame_table(&layer.digest));
        Provided {
            layer,
            changeset,
            written: None,
        }
    }))
}

/// The layer, written now.
fn made(
    changes: &Changeset,
    store: &Store,
    slot: &[&str],
    records: Records,
    options: &WriteOptions<'_>,
    shape: &KeyRecord,
) -> Result<Provided, LayerError> {
    let compression = options.compression.to_string();
    let library = options.compression.library();
    let slot = key::layer_slot(slot, ENCODER, &compression, library, options.epoch);
    let earlier = match records {
        Records::Use => earlier_table(store, &slot)?,
        Records::Ignore => None,
    };
    let options = WriteOptions {
        earlier: earlier.as_ref(),
        ..*options
    };
    let (layer, table, reuse) = write(changes, store, &options)?;
    // Writing has read whatever was unread.
    let changeset = changes.digest()?;
    let key = layer_key(&changeset, options.compression, options.epoch);
    let blobs = [layer.digest];
    let frames = key::frame_table(&layer.digest);
    store.put_record_with_blobs(&frames, &table.encode(), &blobs)?;
    store.put_record_with_blobs(&slot, layer.digest.raw(), &blobs)?;
    store.put_record_with_blobs(&key, &encode(&layer), &blobs)?;
    store.put_record_with_blobs(shape, &[], &blobs)?;
    Ok(Provided {
        layer,
        changeset,
        written: Some(reuse),
    })
}

/// The files of a changeset that nobody has read yet.
pub fn unread(changes: &Changeset) -> Vec<Arc<DiskFile>> {
    let files = changes
        .iter()
        .filter_map(|(_, change)| change.entry()?.as_file());
    let unread = files.filter_map(|file| match &file.content {
        Content::Disk(file) if file.digest().is_none() => Some(Arc::clone(file)),
        _ => None,
    });
    unread.collect()
}

fn layer_key(changeset: &Digest, compression: Compression, epoch: u64) -> KeyRecord {
    let library = compression.library();
    key::layer(changeset, ENCODER, &compression.to_string(), library, epoch)
}

fn earlier_table(store: &Store, slot: &KeyRecord) -> Result<Option<FrameTable>, LayerError> {
    let Some(blob) = store
        .record(slot)?
        .and_then(|value| Some(Digest::from_raw(value.try_into().ok()?)))
    else {
        return Ok(None);
    };
    let table = store.record(&key::frame_table(&blob))?;
    Ok(table
        .and_then(|bytes| FrameTable::decode(&bytes))
        .filter(|table| table.blob == blob))
}

fn encode(layer: &Layer) -> Vec<u8> {
    let mut value = Vec::with_capacity(80);
    value.extend_from_slice(layer.digest.raw());
    value.extend_from_slice(&layer.size.to_le_bytes());
    value.extend_from_slice(layer.diff_id.0.raw());
    value.extend_from_slice(&layer.uncompressed_size.to_le_bytes());
    value
}

fn decode(value: &[u8], compression: Compression) -> Option<Layer> {
    let (digest, value) = value.split_first_chunk::<32>()?;
    let (size, value) = value.split_first_chunk::<8>()?;
    let (diff_id, value) = value.split_first_chunk::<32>()?;
    let uncompressed_size = u64::from_le_bytes(value.try_into().ok()?);
    Some(Layer {
        digest: Digest::from_raw(*digest),
        size: u64::from_le_bytes(*size),
        diff_id: DiffId(Digest::from_raw(*diff_id)),
        uncompressed_size,
        codec: compression.codec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Entry, LayerPath};
    use std::num::NonZeroUsize;

    fn options(epoch: u64) -> WriteOptions<'static> {
        let threads = NonZeroUsize::MIN;
        WriteOptions {
            compression: Compression::GZIP,
            epoch,
            earlier: None,
            threads,
            progress: &|_| {},
        }
    }

    fn one_file(text: &str) -> Changeset {
        let mut changes = Changeset::new();
        changes.put(LayerPath::parse(b"f").unwrap(), Entry::file(text, 0o644));
        changes
    }

    #[test]
    fn the_second_time_nothing_is_written() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(scratch.path()).unwrap();
        let provided = |text: &str, records, epoch| {
            let changes = one_file(text);
            provide(&changes, &store, &["s"], records, &options(epoch)).unwrap()
        };
        let first = provided("x", Records::Use, 0);
        assert!(first.written.is_some());
        assert_eq!(
            provided("x", Records::Use, 0),
            Provided {
                written: None,
                ..first.clone()
            }
        );
        assert_eq!(provided("x", Records::Ignore, 0), first);
        assert_ne!(provided("y", Records::Use, 0).layer, first.layer);
        assert_ne!(provided("x", Records::Use, 1).layer, first.layer);
    }

    #[test]
    fn a_record_without_its_blob_is_no_hit() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(scratch.path()).unwrap();
        let provided = || {
            let changes = one_file("x");
            provide(&changes, &store, &["s"], Records::Use, &options(0)).unwrap()
        };
        let first = provided();
        std::fs::remove_file(store.blob_path(&first.layer.digest)).unwrap();
        assert_eq!(provided(), first);
    }
}
