//! The documents of an image: descriptor, manifest, index, config, layout.
//!
//! Readers are lenient where the world is (absent `mediaType`, `null` lists, fields of other
//! tools), writers are strict: a field that is empty is left out, and every map is ordered.
//! OCI image spec: `descriptor.md`, `manifest.md`, `image-index.md`, `config.md`, `image-layout.md`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::oci::digest::{DiffId, Digest};
use crate::oci::media_type::MediaType;
use crate::oci::platform::Platform;

/// Annotation that names an image inside a layout: a tag, or for most loaders a full reference.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation under which containerd and podman look for the full reference first.
pub const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";

/// The only pointer between blobs: media type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What the bytes are.
    #[serde(rename = "mediaType")]
    pub media_type: MediaType,
    /// Their digest.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// In an index: what the image runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
    /// Free-form notes; names of images in a layout's index.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields that we do not interpret (`urls`, `data`, `artifactType`), kept as they came.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A platform as it stands in an index, with the fields that only Windows images use kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorPlatform {
    /// Operating system and architecture.
    #[serde(flatten)]
    pub platform: Platform,
    /// `os.version`, `os.features` and the like.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl Descriptor {
    /// A descriptor without platform and annotations.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type,
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            other: BTreeMap::new(),
        }
    }

    /// The descriptor of a document that is at hand.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// The same descriptor, said to be for `platform`.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Descriptor {
        self.platform = Some(DescriptorPlatform {
            platform,
            other: BTreeMap::new(),
        });
        self
    }
}

/// One image: its config and its layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// Absent in some images of other tools; always written by us.
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The config blob.
    pub config: Descriptor,
    /// The layer blobs, lowest first.
    #[serde(deserialize_with = "or_default")]
    pub layers: Vec<Descriptor>,
    /// Free-form notes.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// `subject`, `artifactType` and what else we do not interpret.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Several images: one a platform, or the named images of a layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// Absent in some layouts of other tools; always written by us.
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The entries, in order.
    #[serde(deserialize_with = "or_default")]
    pub manifests: Vec<Descriptor>,
    /// Free-form notes.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// `subject`, `artifactType` and what else we do not interpret.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl Index {
    /// An index of `manifests` with nothing else in it.
    pub fn new(media_type: MediaType, manifests: Vec<Descriptor>) -> Index {
        Index {
            schema_version: 2,
            media_type: Some(media_type),
            manifests,
            annotations: BTreeMap::new(),
            other: BTreeMap::new(),
        }
    }
}

/// The `oci-layout` file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OciLayout {
    /// `1.0.0`; containerd accepts nothing else.
    #[serde(rename = "imageLayoutVersion")]
    pub version: String,
}

impl Default for OciLayout {
    fn default() -> OciLayout {
        OciLayout {
            version: "1.0.0".to_owned(),
        }
    }
}

/// The config blob: how to run an image, and what its layers unpack to.
///
/// Fields of a base image that we do not know are kept in `other`, so that building on it loses
/// nothing; the fields that would contradict the new image (`container_config`, `id`, `parent`)
/// are dropped by `image`, not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339 time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who is responsible for the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What the image runs on: `os`, `architecture`, `variant` stand at the top level.
    #[serde(flatten)]
    pub platform: Platform,
    /// Settings of the container's process.
    #[serde(default, deserialize_with = "or_default")]
    pub config: RuntimeConfig,
    /// The diff_ids of the layers, lowest first.
    pub rootfs: RootFs,
    /// How each layer came to be.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<History>,
    /// Everything else.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// `rootfs` of a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digests of the uncompressed layers, lowest first.
    #[serde(deserialize_with = "or_default")]
    pub diff_ids: Vec<DiffId>,
}

/// One line of an image's history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339 time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What made the layer, in the words of the tool that did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who is responsible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// True where the line stands for a change of settings that made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// The settings of the container's process, inherited from base to image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RuntimeConfig {
    /// `user[:group]`, names or numbers.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// Ports as `3001/tcp`.
    #[serde(
        deserialize_with = "set_of_keys",
        serialize_with = "keys_to_objects",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`, in order.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The arguments that a caller may replace.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Paths that hold data of a container.
    #[serde(
        deserialize_with = "set_of_keys",
        serialize_with = "keys_to_objects",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub volumes: BTreeSet<String>,
    /// Where the process starts.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Labels by name.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the process to end, such as `SIGTERM`.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// Docker's extension: how to tell that the service is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker's extension: the shell of string commands.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Everything else (`OnBuild`, `Hostname`, …).
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Docker's health check. Durations are nanoseconds; zero, like an absent field, means inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", program, …]` or `["CMD-SHELL", command]`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two probes.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// For one probe.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// Between two probes during the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// Failures in a row that make a container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Go writes an empty list or map as `null`.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Go's sets are maps to empty objects.
fn set_of_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let map = Option::<BTreeMap<String, Value>>::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn keys_to_objects<S: serde::Serializer>(
    keys: &BTreeSet<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        keys.iter()
            .map(|key| (key, Value::Object(serde_json::Map::new()))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::json;

    #[test]
    fn null_lists_and_unknown_fields_survive() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],
            "Volumes":{"/data":{}},"OnBuild":["x"],"Healthcheck":{"Test":["CMD","true"],"Interval":30000000000}},
            "rootfs":{"type":"layers","diff_ids":null},"docker_version":"20"}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.cmd, ["sh"]);
        assert_eq!(
            config.config.healthcheck.as_ref().unwrap().interval,
            30_000_000_000
        );
        let written = String::from_utf8(json::to_vec(&config)).unwrap();
        assert_eq!(
            written,
            r#"{"architecture":"amd64","config":{"Cmd":["sh"],"Healthcheck":{"Interval":30000000000,"Test":["CMD","true"]},"OnBuild":["x"],"Volumes":{"/data":{}}},"docker_version":"20","os":"linux","rootfs":{"diff_ids":[],"type":"layers"}}"#
        );
    }

    #[test]
    fn an_absent_config_is_an_empty_one() {
        for text in [
            r#"{"architecture":"a","os":"o","rootfs":{"type":"layers","diff_ids":[]}}"#,
            r#"{"architecture":"a","os":"o","config":null,"rootfs":{"type":"layers","diff_ids":[]}}"#,
        ] {
            let config: ImageConfig = serde_json::from_str(text).unwrap();
            assert_eq!(config.config, RuntimeConfig::default());
        }
    }

    #[test]
    fn descriptors_keep_platforms_whole() {
        let text = r#"{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","mediaType":"application/x","platform":{"architecture":"arm","os":"linux","os.version":"10","variant":"v7"},"size":0,"urls":["u"]}"#;
        let descriptor: Descriptor = serde_json::from_str(text).unwrap();
        assert_eq!(String::from_utf8(json::to_vec(&descriptor)).unwrap(), text);
        assert!(
            serde_json::from_str::<Descriptor>(&text.replace("\"size\":0", "\"size\":-1")).is_err()
        );
    }
}
