//! Reports: what came out of a build.
//!
//! A report holds facts only and no times, so two builds of the same inputs on a store in the
//! same state report the same. `--print json` prints it as it is; fields may be added to the
//! JSON, none is renamed.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::build::event::OutputState;
use crate::build::push::PushLine;
use crate::oci::{DiffId, Digest, DocumentFormat, Platform};

/// What came out of a build for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuildReport {
    /// The full references the image is known by, `registry/repository:tag`; may be empty.
    pub names: Vec<String>,
    /// What the image runs on.
    pub platform: Platform,
    /// The profile that was in effect, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The family of media types its documents are written in.
    #[serde(serialize_with = "as_text")]
    pub format: DocumentFormat,
    /// Digest of the manifest: what a registry calls the image.
    pub manifest: Digest,
    /// Digest of the config: what podman and docker show as the image ID.
    pub image_id: Digest,
    /// The layers, lowest first.
    pub layers: Vec<LayerLine>,
    /// What was written, in the order it was asked for.
    pub outputs: Vec<OutputLine>,
    /// Everything that was noted or warned of on the way, each once.
    pub notes: Vec<String>,
}

/// One layer of an image that was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerLine {
    /// What made it, in one short line; for layers of a base the base's name.
    pub title: String,
    /// Digest of the blob.
    pub digest: Digest,
    /// Digest of the tar stream in it.
    pub diff_id: DiffId,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Size of the tar stream in bytes.
    pub uncompressed: u64,
    /// Where it comes from.
    pub origin: Origin,
    /// What making it took, if this build made it.
    pub work: Option<LayerWork>,
}

/// What making a layer took. All sizes are uncompressed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LayerWork {
    /// Number of its frames.
    pub frames: usize,
    /// Those that an earlier layer had.
    pub frames_reused: usize,
    /// Bytes that were compressed.
    pub bytes_compressed: u64,
    /// Bytes in frames that were not.
    pub bytes_reused: u64,
}

/// Where a layer or a changeset comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It is the base image's.
    Base,
    /// The store had it from an earlier build.
    Cached,
    /// The same bytes were made elsewhere in this build, or in another at this moment.
    Reused,
    /// This build made it.
    Built,
}

/// One output of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutputLine {
    /// The output as it was asked for, such as `oci-archive:app.tar`.
    pub name: String,
    /// What it is.
    pub kind: OutputKind,
    /// The file or directory; for a registry its repository. In JSON, bytes that are no text are
    /// replaced.
    #[serde(serialize_with = "as_lossy_text")]
    pub path: PathBuf,
    /// Which image of the output it is: a layout's `ref.name`, if it has one; the full name in a
    /// registry.
    pub reference: Option<String>,
    /// Its size in bytes: the whole file, or the blobs that a layout did not have yet; what was
    /// sent to a registry.
    pub bytes: u64,
    /// Whether it had to be written.
    pub state: OutputState,
    /// For a registry: what was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<PushLine>,
}

/// The kinds of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputKind {
    /// An OCI layout: a directory.
    Oci,
    /// An OCI layout in one file that docker loads, too.
    OciArchive,
    /// An archive as `docker save` writes it.
    DockerArchive,
    /// A repository of a registry.
    Registry,
}

impl BuildReport {
    /// Sizes of all blobs of layers together, as a registry would store them: each blob once.
    pub fn size(&self) -> u64 {
        let mut seen = std::collections::BTreeMap::new();
        for layer in &self.layers {
            seen.insert(layer.digest, layer.size);
        }
        seen.values().sum()
    }
}

fn as_text<S: Serializer>(format: &DocumentFormat, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(format)
}

/// serde's own way would fail for a path that is not UTF-8, after the build is done.
pub(crate) fn as_lossy_text<S: Serializer>(
    path: impl AsRef<Path>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.as_ref().display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_that_comes_twice_counts_once() {
        let layer = |bytes: &[u8]| LayerLine {
            title: "t".to_owned(),
            digest: Digest::of(bytes),
            diff_id: DiffId(Digest::of(bytes)),
            size: 10,
            uncompressed: 20,
            origin: Origin::Built,
            work: None,
        };
        let report = BuildReport {
            names: Vec::new(),
            platform: "linux/amd64".parse().unwrap(),
            profile: None,
            format: DocumentFormat::Docker,
            manifest: Digest::of(b"m"),
            image_id: Digest::of(b"c"),
            layers: vec![layer(b"a"), layer(b"b"), layer(b"a")],
            outputs: Vec::new(),
            notes: Vec::new(),
        };
        assert_eq!(report.size(), 20);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["format"], "docker");
        assert_eq!(json["layers"][0]["origin"], "built");
    }
}
