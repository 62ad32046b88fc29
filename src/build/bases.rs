//! Base images: imported, indexed and merged, each once in a build.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::build::error::BuildError;
use crate::image::ImageLayer;
use crate::layer::{self, LayerBlob, Limits};
use crate::oci::{Codec, Digest, ImageConfig, Platform};
use crate::sandbox::Listed;
use crate::spec::ImageSource;
use crate::store::{ContentError, Store};
use crate::transport::import_base;
use crate::transport::registry::{RegistryClient, RegistrySettings, Watch};
use crate::tree::{Changeset, Content, Tree};

/// An image whose layers are in the store and whose tree is known.
#[derive(Debug)]
pub(crate) struct Base {
    /// As the spec or the caller names it.
    pub(crate) source: ImageSource,
    /// Digest of its manifest.
    pub(crate) manifest: Digest,
    /// Digest of its config.
    pub(crate) image_id: Digest,
    /// The names that it has where it was found.
    pub(crate) names: Vec<String>,
    /// Its config, as it came.
    pub(crate) config: ImageConfig,
    /// Its layers, lowest first.
    pub(crate) layers: Vec<BaseLayer>,
    /// What they hold together.
    pub(crate) tree: Tree,
    /// The digest of the tree, once somebody has asked for it.
    digest: OnceLock<Digest>,
}

impl Base {
    /// The tree with its digest. Nothing has to be read for it: the contents lie in layers.
    pub(crate) fn listed(&self) -> Result<Listed<'_>, BuildError> {
        let digest = match self.digest.get() {
            Some(digest) => digest,
            None => {
                let found = self.tree.as_changes().digest()?;
                self.digest.get_or_init(|| found)
            }
        };
        let tree = &self.tree;
        Ok(Listed { tree, digest })
    }
}

/// One layer of a base image.
#[derive(Debug)]
pub(crate) struct BaseLayer {
    /// As the manifest has it.
    pub(crate) layer: ImageLayer,
    /// The same, as the layer room wants it.
    pub(crate) blob: LayerBlob,
    /// What it changes.
    pub(crate) changes: Changeset,
    /// Size of the tar stream.
    pub(crate) uncompressed_size: u64,
}

/// Imports an image, and reads what its layers hold unless the store knows it.
pub(crate) fn import(
    source: &ImageSource,
    folder: &Path,
    platform: &Platform,
    store: &Store,
    registries: &RegistryClient,
    watch: Watch<'_>,
) -> Result<Base, BuildError> {
    let imported = match source {
        ImageSource::Registry(reference) => registries.pull(reference, platform, store, watch)?,
        file => import_base(file, folder, platform, store)?,
    };
    let mut tree = Tree::new();
    let mut layers = Vec::new();
    for (place, layer) in imported.layers.into_iter().enumerate() {
        let blob = LayerBlob {
            digest: layer.descriptor.digest,
            size: layer.descriptor.size,
            codec: layer
                .descriptor
                .media_type
                .layer_codec()
                .unwrap_or(Codec::None),
            diff_id: layer.diff_id,
        };
        let indexed = layer::index(store, &blob, Limits::default(), place as u64 + 1);
        let indexed = indexed.map_err(|error| BuildError::BaseLayer {
            image: Box::new(source.clone()),
            number: place + 1,
            source: Box::new(error),
        })?;
        tree.apply(&indexed.changes)
            .map_err(|error| BuildError::BaseTree {
                image: Box::new(source.clone()),
                source: error,
            })?;
        let (changes, uncompressed_size) = (indexed.changes, indexed.uncompressed_size);
        layers.push(BaseLayer {
            layer,
            blob,
            changes,
            uncompressed_size,
        });
    }
    Ok(Base {
        source: source.clone(),
        manifest: imported.digest,
        image_id: imported.image_id,
        names: imported.names,
        config: imported.config,
        layers,
        tree,
        digest: OnceLock::new(),
    })
}

/// Imports a finished image for this machine, of which the caller names a file or a reference.
pub(crate) fn finished(
    source: &ImageSource,
    store: &Store,
    registries: RegistrySettings,
) -> Result<Arc<Base>, BuildError> {
    let (folder, host) = (Path::new(""), Platform::host());
    let registries = RegistryClient::new(registries);
    import(source, folder, &host, store, &registries, &|_| ()).map(Arc::new)
}

/// Makes sure that all uncompressed layers of the bases are in the store.
pub(crate) fn unpack_all(all: &[Arc<Base>], store: &Store) -> Result<(), BuildError> {
    for layer in all.iter().flat_map(|base| &base.layers) {
        unpack(all, &layer.blob.diff_id.0, store)?;
    }
    Ok(())
}

/// Makes sure that the uncompressed layer of this digest, which one of the bases has, is in the
/// store.
pub(crate) fn unpack(bases: &[Arc<Base>], diff: &Digest, store: &Store) -> Result<(), BuildError> {
    for base in bases {
        for (place, layer) in base
            .layers
            .iter()
            .enumerate()
            .filter(|(_, layer)| layer.blob.diff_id.0 == *diff)
        {
            layer::unpack(store, &layer.blob, Limits::default()).map_err(|source| {
                BuildError::BaseLayer {
                    image: Box::new(base.source.clone()),
                    number: place + 1,
                    source: Box::new(source),
                }
            })?;
        }
    }
    Ok(())
}

/// The longest file that is read whole: account files and templates.
pub(crate) const SMALL: u64 = 16 << 20;

/// Reads a small content, unpacking the layer that holds it if need be. The error is one line.
pub(crate) fn read_small(
    bases: &[Arc<Base>],
    content: &Content,
    store: &Store,
) -> Result<Vec<u8>, String> {
    match store.read_content(content, SMALL) {
        Err(ContentError::NotUnpacked(diff)) => {
            unpack(bases, &diff, store).map_err(|error| error.to_string())?;
            store
                .read_content(content, SMALL)
                .map_err(|error| error.to_string())
        }
        result => result.map_err(|error| error.to_string()),
    }
}
