//! The way to a start: an image taken apart again, as whoever gets it does.

use std::path::{Path, PathBuf};

use crate::build::bases::{self, SMALL};
use crate::build::error::BuildError;
use crate::oci::RuntimeConfig;
use crate::sandbox::{self, Footing, SandboxSettings};
use crate::spec::ImageSource;
use crate::store::Store;
use crate::transport::registry::RegistrySettings;
use crate::tree::Accounts;

/// An image on disk, ready to be started.
#[derive(Debug)]
pub struct UnpackedImage {
    /// Its tree, as directories that an overlay shows as one, the uppermost first. They are only
    /// read from now on.
    pub lowers: Vec<PathBuf>,
    /// What it says about running it.
    pub config: RuntimeConfig,
    /// Its users and groups.
    pub accounts: Accounts,
}

/// Unpacks an image into the store at `store_root`, which is best a fresh one: then all that is
/// unpacked was read from the image and nothing is remembered from building it.
///
/// # Errors
/// An image that cannot be read; a tree that the sandbox cannot make.
pub fn unpack_image(
    source: &ImageSource,
    store_root: &Path,
    footing: &Footing,
    settings: &SandboxSettings,
) -> Result<UnpackedImage, BuildError> {
    let store = Store::open(store_root)?;
    let base = bases::finished(source, &store, RegistrySettings::default())?;
    bases::unpack_all(std::slice::from_ref(&base), &store)?;
    let read = |content: &_| store.read_content(content, SMALL);
    let accounts = base.tree.accounts(read).map_err(BuildError::Content)?;
    let lower = sandbox::materialize(base.listed()?, footing, settings, &store);
    Ok(UnpackedImage {
        lowers: vec![lower.map_err(BuildError::sandbox)?],
        config: base.config.config.clone(),
        accounts,
    })
}
