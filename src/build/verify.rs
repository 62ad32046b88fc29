//! Verification: a build done twice, the second time under other circumstances.
//!
//! Everything but commands is the same by construction. Commands may look at the clock, the name
//! of the machine, the number of processors or the order of a directory; if that shows in their
//! files, the image cannot be built again by anybody else, and this names the files.

use std::path::Path;

use rustix::fs::Mode;

use crate::build::error::BuildError;
use crate::build::event::{Event, Observer};
use crate::build::report::{BuildReport, LayerLine, Origin};
use crate::build::request::BuildRequest;
use crate::build::run::build;
use crate::build::shared_cache::SharedCacheSettings;
use crate::image::sniffed;
use crate::layer::{self, LayerBlob, Limits};
use crate::oci::{Codec, Digest};
use crate::sandbox::Circumstances;
use crate::spec::ImageSource;
use crate::store::Store;
use crate::tree::{Change, Changeset, Entry};

/// What came of building twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The first build, whose outputs stay.
    pub report: BuildReport,
    /// The manifest of the second.
    pub again: Digest,
    /// What differs, in the order of layers and paths; empty if nothing does.
    pub differences: Vec<Difference>,
}

/// One path that is not the same twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What makes the layer.
    pub layer: String,
    /// The path.
    pub path: String,
    /// What about it differs.
    pub what: &'static str,
}

/// Builds `request`, and again in an empty store below `scratch`, with one thread, another umask,
/// another name of the machine, one processor and directories filled the other way round. The umask
/// is one of the process, so nothing else should make files meanwhile.
///
/// # Errors
/// Those of either build.
pub fn verify(
    request: &BuildRequest,
    scratch: &Path,
    observer: &dyn Observer,
) -> Result<Verification, BuildError> {
    let report = build(request, observer)?;
    let mut again = request.clone();
    again.store_root = scratch.join("store");
    again.shared = SharedCacheSettings::default();
    again.jobs = std::num::NonZeroUsize::MIN;
    again.commands.hostname = "elsewhere".to_owned();
    again.commands.circumstances = Circumstances::Perturbed;
    again.outputs = vec![ImageSource::Layout {
        dir: scratch.join("layout"),
        reference: None,
    }];
    observer.event(Event::BuiltOnceMore);
    let second = {
        let _umask = OtherUmask::set();
        build(&again, observer)?
    };
    let differences = match report.manifest == second.manifest {
        true => Vec::new(),
        false => differences(request, &report, &again, &second)?,
    };
    Ok(Verification {
        report,
        again: second.manifest,
        differences,
    })
}

/// A umask under which nobody but the owner may do anything, until it is dropped.
struct OtherUmask(Mode);

impl OtherUmask {
    fn set() -> OtherUmask {
        OtherUmask(rustix::process::umask(Mode::RWXG | Mode::RWXO))
    }
}

impl Drop for OtherUmask {
    fn drop(&mut self) {
        rustix::process::umask(self.0);
    }
}

fn differences(
    request: &BuildRequest,
    first: &BuildReport,
    again: &BuildRequest,
    second: &BuildReport,
) -> Result<Vec<Difference>, BuildError> {
    let (one, two) = (
        Store::open(&request.store_root)?,
        Store::open(&again.store_root)?,
    );
    let mut found = Vec::new();
    for (first, second) in first.layers.iter().zip(&second.layers) {
        if first.diff_id != second.diff_id && first.origin != Origin::Base {
            let (before, after) = (changes(&one, first)?, changes(&two, second)?);
            compare(&first.title, &before, &after, &mut found);
        }
    }
    if first.layers.len() != second.layers.len() || found.is_empty() {
        found.push(Difference {
            layer: "the image".to_owned(),
            path: "/".to_owned(),
            what: "its layers or its config differ",
        });
    }
    Ok(found)
}

fn changes(store: &Store, line: &LayerLine) -> Result<Changeset, BuildError> {
    let blob = LayerBlob {
        digest: line.digest,
        size: line.size,
        codec: codec(store, &line.digest)?,
        diff_id: line.diff_id,
    };
    let indexed = layer::index(store, &blob, Limits::default(), 0);
    let indexed = indexed.map_err(|source| BuildError::Layer {
        stage: String::new(),
        title: line.title.clone(),
        source: Box::new(source),
    })?;
    Ok(indexed.changes)
}

/// How a blob is compressed, by its first bytes.
fn codec(store: &Store, digest: &Digest) -> Result<Codec, BuildError> {
    let mut magic = [0; 4];
    if let Some(file) = store.open_blob(digest)? {
        // A shorter blob is none that is compressed.
        let _ = std::os::unix::fs::FileExt::read_at(&file, &mut magic, 0);
    }
    Ok(sniffed(&magic))
}

fn compare(layer: &str, before: &Changeset, after: &Changeset, found: &mut Vec<Difference>) {
    let mut note = |path: String, what| {
        found.push(Difference {
            layer: layer.to_owned(),
            path,
            what,
        });
    };
    for (path, change) in before.iter() {
        match after.change(path) {
            None => note(path.to_string(), "only the first build has it"),
            Some(other) => {
                if let Some(what) = what_differs(change, other) {
                    note(path.to_string(), what);
                }
            }
        }
    }
    for (path, _) in after.iter() {
        if before.change(path).is_none() {
            note(path.to_string(), "only the second build has it");
        }
    }
}

fn what_differs(before: &Change, after: &Change) -> Option<&'static str> {
    let (Some(before), Some(after)) = (before.entry(), after.entry()) else {
        return (before.entry().is_some() != after.entry().is_some())
            .then_some("removed in one of them");
    };
    let content = |entry: &Entry| entry.as_file().map(|file| file.content.digest().copied());
    let kind = |entry: &Entry| std::mem::discriminant(&entry.node);
    if kind(before) != kind(after) {
        Some("its kind")
    } else if content(before) != content(after) {
        Some("its content")
    } else if before.mode != after.mode {
        Some("its mode")
    } else if (before.uid, before.gid) != (after.uid, after.gid) {
        Some("its owner")
    } else if before.xattrs != after.xattrs {
        Some("its attributes")
    } else if before.as_file().is_none() && before.node != after.node {
        Some("its target")
    } else {
        None
    }
}
