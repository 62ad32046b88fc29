//! Media types: the format tag of a blob, in OCI's and in Docker's spelling.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a layer's tar stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Not compressed.
    None,
    /// gzip: every loader reads it.
    Gzip,
    /// zstd: docker reads it from version 23 on.
    Zstd,
}

/// Which family of media types an image's documents use (`--format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DocumentFormat {
    /// OCI image spec.
    #[default]
    Oci,
    /// Docker image manifest, schema 2: podman honours a health check only in these.
    Docker,
}

/// The media types that we write or understand; others are kept as they came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaType {
    /// `application/vnd.oci.image.manifest.v1+json`
    OciManifest,
    /// `application/vnd.oci.image.index.v1+json`
    OciIndex,
    /// `application/vnd.oci.image.config.v1+json`
    OciConfig,
    /// `application/vnd.oci.image.layer.v1.tar`, with `+gzip` or `+zstd`
    OciLayer(Codec),
    /// `application/vnd.oci.image.layer.nondistributable.v1.tar` and its compressed forms: layers
    /// that registries do not serve; we refuse images that need one.
    OciForeignLayer(String),
    /// `application/vnd.docker.distribution.manifest.v2+json`
    DockerManifest,
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    DockerIndex,
    /// `application/vnd.docker.container.image.v1+json`
    DockerConfig,
    /// `application/vnd.docker.image.rootfs.diff.tar`, with `.gzip` (`.zstd` is written by some)
    DockerLayer(Codec),
    /// `application/vnd.docker.image.rootfs.foreign.diff.tar.gzip`
    DockerForeignLayer(String),
    /// Anything else.
    Other(String),
}

impl MediaType {
    /// The text as it stands in documents.
    pub fn as_str(&self) -> &str {
        match self {
            MediaType::OciManifest => "application/vnd.oci.image.manifest.v1+json",
            MediaType::OciIndex => "application/vnd.oci.image.index.v1+json",
            MediaType::OciConfig => "application/vnd.oci.image.config.v1+json",
            MediaType::OciLayer(Codec::None) => "application/vnd.oci.image.layer.v1.tar",
            MediaType::OciLayer(Codec::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            MediaType::OciLayer(Codec::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            MediaType::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
            MediaType::DockerIndex => "application/vnd.docker.distribution.manifest.list.v2+json",
            MediaType::DockerConfig => "application/vnd.docker.container.image.v1+json",
            MediaType::DockerLayer(Codec::None) => "application/vnd.docker.image.rootfs.diff.tar",
            MediaType::DockerLayer(Codec::Gzip) => {
                "application/vnd.docker.image.rootfs.diff.tar.gzip"
            }
            MediaType::DockerLayer(Codec::Zstd) => {
                "application/vnd.docker.image.rootfs.diff.tar.zstd"
            }
            MediaType::OciForeignLayer(text)
            | MediaType::DockerForeignLayer(text)
            | MediaType::Other(text) => text,
        }
    }

    /// Whether this names a manifest of one image.
    pub fn is_manifest(&self) -> bool {
        matches!(self, MediaType::OciManifest | MediaType::DockerManifest)
    }

    /// Whether this names an index of manifests.
    pub fn is_index(&self) -> bool {
        matches!(self, MediaType::OciIndex | MediaType::DockerIndex)
    }

    /// The codec of a layer that can be read, `None` for anything that is no such layer.
    pub fn layer_codec(&self) -> Option<Codec> {
        match self {
            MediaType::OciLayer(codec) | MediaType::DockerLayer(codec) => Some(*codec),
            _ => None,
        }
    }
}

impl DocumentFormat {
    /// The media type of a manifest.
    pub fn manifest(self) -> MediaType {
        match self {
            DocumentFormat::Oci => MediaType::OciManifest,
            DocumentFormat::Docker => MediaType::DockerManifest,
        }
    }

    /// The media type of an index.
    pub fn index(self) -> MediaType {
        match self {
            DocumentFormat::Oci => MediaType::OciIndex,
            DocumentFormat::Docker => MediaType::DockerIndex,
        }
    }

    /// The media type of a config.
    pub fn config(self) -> MediaType {
        match self {
            DocumentFormat::Oci => MediaType::OciConfig,
            DocumentFormat::Docker => MediaType::DockerConfig,
        }
    }

    /// The media type of a layer.
    pub fn layer(self, codec: Codec) -> MediaType {
        match self {
            DocumentFormat::Oci => MediaType::OciLayer(codec),
            DocumentFormat::Docker => MediaType::DockerLayer(codec),
        }
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> MediaType {
        use MediaType::*;
        let known = [
            OciManifest,
            OciIndex,
            OciConfig,
            OciLayer(Codec::None),
            OciLayer(Codec::Gzip),
            OciLayer(Codec::Zstd),
            DockerManifest,
            DockerIndex,
            DockerConfig,
            DockerLayer(Codec::None),
            DockerLayer(Codec::Gzip),
            DockerLayer(Codec::Zstd),
        ];
        if let Some(media_type) = known.into_iter().find(|known| known.as_str() == text) {
            media_type
        } else if text.starts_with("application/vnd.oci.image.layer.nondistributable.") {
            OciForeignLayer(text.to_owned())
        } else if text.starts_with("application/vnd.docker.image.rootfs.foreign.") {
            DockerForeignLayer(text.to_owned())
        } else {
            Other(text.to_owned())
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MediaType, D::Error> {
        Ok(MediaType::from(
            <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.as_ref(),
        ))
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Zstd => "zstd",
        })
    }
}

impl fmt::Display for DocumentFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DocumentFormat::Oci => "oci",
            DocumentFormat::Docker => "docker",
        })
    }
}

impl FromStr for DocumentFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<DocumentFormat, String> {
        match text {
            "oci" => Ok(DocumentFormat::Oci),
            "docker" => Ok(DocumentFormat::Docker),
            _ => Err(format!("{text:?} is no image format; choose oci or docker")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for text in [
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/json",
        ] {
            assert_eq!(MediaType::from(text).as_str(), text);
        }
    }

    #[test]
    fn only_distributable_layers_have_a_codec() {
        let codec = |text: &str| MediaType::from(text).layer_codec();
        assert_eq!(
            codec("application/vnd.oci.image.layer.v1.tar+gzip"),
            Some(Codec::Gzip)
        );
        assert_eq!(
            codec("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            None
        );
        assert_eq!(codec("application/vnd.oci.image.config.v1+json"), None);
    }
}
