//! Images made by hand: layers and a config as an OCI layout, an OCI archive or a docker archive.
//!
//! OCI image spec `image-layout.md`, `manifest.md`, `config.md`; Docker image spec v1.2 "Combined
//! Image JSON + Filesystem Changeset Format".

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::file_set::FileSet;
use super::listing::{content_of, decompressed};
use super::raw_tar::RawTar;

/// The architecture of this machine, in Go's words.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// One layer: its stored bytes, and the digest of the tar inside.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: String,
    pub(crate) diff_id: String,
}

impl Layer {
    /// A gzip layer of whatever `fill` writes; it is never whole in memory uncompressed.
    pub(crate) fn gzip(fill: impl FnOnce(&mut RawTar<&mut dyn Write>)) -> Layer {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
        fill(&mut RawTar::new(&mut encoder));
        Layer::of_bytes(encoder.finish().expect("write to memory"), "tar+gzip")
    }

    /// An uncompressed layer.
    pub(crate) fn plain(fill: impl FnOnce(&mut RawTar<&mut dyn Write>)) -> Layer {
        let mut bytes = Vec::new();
        fill(&mut RawTar::new(&mut bytes));
        Layer::of_bytes(bytes, "tar")
    }

    /// A zstd layer.
    pub(crate) fn zstd(fill: impl FnOnce(&mut RawTar<&mut dyn Write>)) -> Layer {
        let plain = Layer::plain(fill);
        let bytes = zstd::encode_all(&plain.bytes[..], 3).expect("write to memory");
        Layer::of_bytes(bytes, "tar+zstd")
    }

    /// A layer of these stored bytes; `suffix` is the end of its OCI media type.
    pub(crate) fn of_bytes(bytes: Vec<u8>, suffix: &str) -> Layer {
        Layer {
            diff_id: content_of(decompressed(&bytes[..])).1,
            media_type: format!("application/vnd.oci.image.layer.v1.{suffix}"),
            bytes,
        }
    }
}

/// Layers, and the `config` member of the image config.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) layers: Vec<Layer>,
    pub(crate) config: Value,
}

impl Image {
    /// The files of an OCI layout that holds this image alone, named `reference`.
    pub(crate) fn oci_layout(&self, reference: &str) -> FileSet {
        let mut set = FileSet::default();
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|layer| descriptor(&mut set, &layer.media_type, layer.bytes.clone()))
            .collect();
        let config = serde_json::to_vec(&self.config_document()).expect("encode");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor(&mut set, "application/vnd.oci.image.config.v1+json", config),
            "layers": layers,
        });
        let manifest = serde_json::to_vec(&manifest).expect("encode");
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let mut entry = descriptor(&mut set, media_type, manifest);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": reference});
        set_index(&mut set, &[entry]);
        let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
        set.files.insert("oci-layout".to_owned(), version.to_vec());
        set
    }

    /// The files of a docker archive, as `docker save` wrote it before it learned OCI.
    pub(crate) fn docker_archive(&self, repo_tag: &str) -> FileSet {
        let mut set = FileSet::default();
        let mut layers = Vec::new();
        for layer in &self.layers {
            let path = format!("{}/layer.tar", layer.diff_id.trim_start_matches("sha256:"));
            let mut plain = Vec::new();
            std::io::copy(&mut decompressed(&layer.bytes[..]), &mut plain).expect("decompress");
            set.files.insert(path.clone(), plain);
            layers.push(path);
        }
        let config = serde_json::to_vec(&self.config_document()).expect("encode");
        let digest = content_of(&config[..]).1;
        let name = format!("{}.json", digest.trim_start_matches("sha256:"));
        let manifest = json!([{"Config": name, "RepoTags": [repo_tag], "Layers": layers}]);
        set.files.insert(name, config);
        let manifest = serde_json::to_vec(&manifest).expect("encode");
        set.files.insert("manifest.json".to_owned(), manifest);
        set
    }

    /// Writes an OCI layout directory.
    pub(crate) fn write_layout(&self, directory: &Path, reference: &str) {
        self.oci_layout(reference).write_to_directory(directory);
    }

    /// The image config: this image's `config` with platform, history and diff_ids around it.
    fn config_document(&self) -> Value {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| &layer.diff_id).collect();
        let history: Vec<_> = (0..diff_ids.len())
            .map(|n| json!({"created": "1970-01-01T00:00:00Z", "created_by": format!("layer {n}")}))
            .collect();
        json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": architecture(),
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        })
    }
}

/// Stores a blob and gives the descriptor that points at it.
pub(crate) fn descriptor(set: &mut FileSet, media_type: &str, bytes: Vec<u8>) -> Value {
    let (size, digest) = content_of(&bytes[..]);
    let path = format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
    set.files.insert(path, bytes);
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

/// Replaces `index.json` by one with these descriptors.
pub(crate) fn set_index(set: &mut FileSet, descriptors: &[Value]) {
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": descriptors,
    });
    let index = serde_json::to_vec(&index).expect("encode");
    set.files.insert("index.json".to_owned(), index);
}
