//! The judge: every rule of the image spec that an image breaks, not only the first.
//!
//! It follows all pointers from one descriptor down and reads every blob to its end. Documents are
//! judged as JSON rather than through [`crate::oci`]'s types, which are lenient, and layers
//! through a tar walk of its own: so a mistake of what writes images cannot agree with itself.
//! Nothing is unpacked, and memory is bounded by the documents and by the names in one layer.

mod codec;
mod config;
mod layer;
mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde_json::Value;

use crate::image::validate::config::ConfigFacts;
use crate::image::validate::rule::Violations;
use crate::oci::{
    BlobSource, Descriptor, DiffId, Digest, DocumentFormat, HashingReader, MediaType, Platform,
};

pub(crate) use codec::sniffed;
pub use rule::{Rule, Violation};

/// Larger documents are refused by registries and readers.
const MOST_DOCUMENT: u64 = 8 << 20;

/// An index may point at an index, but not for ever.
const MOST_DEPTH: usize = 4;

/// The rules that the image or index at `root` breaks; an empty list if it is right.
pub fn validate(root: &Descriptor, blobs: &dyn BlobSource) -> Vec<Violation> {
    let mut judge = Judge {
        blobs,
        found: Violations::default(),
        seen: BTreeSet::new(),
        layers: BTreeMap::new(),
    };
    let place = format!("root {}", root.digest);
    if root.media_type.is_manifest() || root.media_type.is_index() {
        judge.entry(root, &place, 0);
    } else {
        let problem = format!("{} is no manifest and no index", root.media_type);
        judge.found.add(Rule::Descriptor, &place, problem);
    }
    judge.found.finish()
}

struct Judge<'a> {
    blobs: &'a dyn BlobSource,
    found: Violations,
    /// Manifests and indexes that were judged.
    seen: BTreeSet<Digest>,
    /// What the layers that were read unpack to; `None` if they could not be read.
    layers: BTreeMap<Digest, Option<DiffId>>,
}

impl Judge<'_> {
    /// A manifest or an index, and all below it.
    fn entry(&mut self, descriptor: &Descriptor, place: &str, depth: usize) {
        if !self.seen.insert(descriptor.digest) {
            return;
        }
        if depth > MOST_DEPTH {
            self.found
                .add(Rule::Index, place, "is an index in an index in an index …");
            return;
        }
        let Some(document) = self.document(descriptor) else {
            return;
        };
        let place = format!("{} {}", kind(&descriptor.media_type), descriptor.digest);
        self.head(&document, &descriptor.media_type, &place);
        match descriptor.media_type.is_index() {
            true => self.index(&document, &place, depth),
            false => self.manifest(&document, descriptor, &place),
        }
    }

    /// What manifests and indexes have in common.
    fn head(&mut self, document: &Value, media_type: &MediaType, place: &str) {
        let version = &document["schemaVersion"];
        self.found
            .must(*version == 2, Rule::SchemaVersion, place, || {
                format!("schemaVersion is {version}, not 2")
            });
        let is_docker = matches!(
            media_type,
            MediaType::DockerManifest | MediaType::DockerIndex
        );
        match &document["mediaType"] {
            // The OCI spec only asks for it; Docker's readers refuse a document without it.
            Value::Null => self.found.must(!is_docker, Rule::MediaType, place, || {
                "has no mediaType, which Docker's format demands".to_owned()
            }),
            said => self
                .found
                .must(said == media_type.as_str(), Rule::MediaType, place, || {
                    format!("says it is {said}, the pointer to it says {media_type}")
                }),
        }
        self.annotations(&document["annotations"], place);
    }

    fn index(&mut self, document: &Value, place: &str, depth: usize) {
        let Some(entries) = document["manifests"].as_array() else {
            self.found
                .add(Rule::Index, place, "has no list of manifests");
            return;
        };
        for (position, value) in entries.iter().enumerate() {
            let place = format!("{place}, manifests[{position}]");
            let Some(descriptor) = self.descriptor(value, &place) else {
                continue;
            };
            let platform = &value["platform"];
            if !platform.is_null() {
                let said = |field: &str| {
                    platform[field]
                        .as_str()
                        .is_some_and(|text| !text.is_empty())
                };
                self.found.must(
                    said("os") && said("architecture"),
                    Rule::Platform,
                    &place,
                    || format!("the platform {platform} lacks os or architecture"),
                );
            }
            // Readers must pass over entries whose type they do not know.
            if descriptor.media_type.is_manifest() || descriptor.media_type.is_index() {
                self.entry(&descriptor, &place, depth + 1);
            } else {
                self.blob(&descriptor, &place);
            }
        }
    }

    fn manifest(&mut self, document: &Value, descriptor: &Descriptor, place: &str) {
        let config = match &document["config"] {
            Value::Null => {
                self.found.add(Rule::Manifest, place, "has no config");
                None
            }
            config => self.descriptor(config, &format!("{place}, config")),
        };
        let mut layers = Vec::new();
        match document["layers"].as_array() {
            None => self
                .found
                .add(Rule::Manifest, place, "has no list of layers"),
            Some(list) => {
                for (position, value) in list.iter().enumerate() {
                    layers.extend(self.descriptor(value, &format!("{place}, layers[{position}]")));
                }
                if layers.len() != list.len() {
                    // Which diff_id belongs to which layer is no longer known.
                    return;
                }
            }
        }
        self.one_format(descriptor, config.as_ref(), &layers, place);
        let facts = config.and_then(|config| {
            let document = self.document(&config)?;
            let place = format!("config {}", config.digest);
            Some(config::judge(
                &document,
                &place,
                layers.len(),
                &mut self.found,
            ))
        });
        if let Some(facts) = &facts {
            self.same_platform(descriptor, facts, place);
        }
        let diff_ids = facts.map(|facts| facts.diff_ids).unwrap_or_default();
        for (position, layer) in layers.iter().enumerate() {
            let diff_id = diff_ids.get(position).copied().flatten();
            self.layer(
                layer,
                diff_id,
                &format!("layer {position} {}", layer.digest),
            );
        }
    }

    fn one_format(
        &mut self,
        manifest: &Descriptor,
        config: Option<&Descriptor>,
        layers: &[Descriptor],
        place: &str,
    ) {
        let format = match manifest.media_type {
            MediaType::DockerManifest => DocumentFormat::Docker,
            _ => DocumentFormat::Oci,
        };
        let is_other = |media_type: &MediaType| match format {
            DocumentFormat::Oci => matches!(
                media_type,
                MediaType::DockerConfig
                    | MediaType::DockerLayer(_)
                    | MediaType::DockerForeignLayer(_)
            ),
            DocumentFormat::Docker => !matches!(
                media_type,
                MediaType::DockerConfig
                    | MediaType::DockerLayer(_)
                    | MediaType::DockerForeignLayer(_)
            ),
        };
        for descriptor in config.into_iter().chain(layers) {
            self.found.must(
                !is_other(&descriptor.media_type),
                Rule::OneFormat,
                place,
                || {
                    format!(
                        "points at {} from a manifest of {format} format",
                        descriptor.media_type
                    )
                },
            );
        }
    }

    fn same_platform(&mut self, descriptor: &Descriptor, facts: &ConfigFacts, place: &str) {
        let (Some(said), Some(is)) = (&descriptor.platform, &facts.platform) else {
            return;
        };
        let said = &said.platform;
        let same = said.os == is.os && said.architecture == is.architecture
            // A variant may be said in the index alone.
            && (is.variant.is_none() || said.variant.is_none() || said.normalized() == is.normalized());
        self.found.must(same, Rule::Platform, place, || {
            format!("the index says {said}, the config {is}")
        });
    }

    fn layer(&mut self, layer: &Descriptor, diff_id: Option<DiffId>, place: &str) {
        let Some(codec) = layer.media_type.layer_codec() else {
            // Layers of other types may not be there, and nobody says what they unpack to.
            return;
        };
        let found = match self.layers.get(&layer.digest) {
            Some(found) => *found,
            None => {
                let found = self
                    .open(layer, place)
                    .and_then(|blob| layer::judge(blob, layer, codec, place, &mut self.found));
                self.layers.insert(layer.digest, found);
                found
            }
        };
        if let (Some(found), Some(said)) = (found, diff_id) {
            self.found.must(found == said, Rule::DiffId, place, || {
                format!("unpacks to {found}, the config says {said}")
            });
        }
    }

    /// A blob that nothing is known of.
    fn blob(&mut self, descriptor: &Descriptor, place: &str) {
        if let Some(blob) = self.open(descriptor, place) {
            let mut blob = HashingReader::new(blob.take(descriptor.size.saturating_add(1)));
            let read = std::io::copy(&mut blob, &mut std::io::sink());
            judge_bytes(blob, read.err(), descriptor, place, &mut self.found);
        }
    }

    fn open(&mut self, descriptor: &Descriptor, place: &str) -> Option<crate::oci::BlobReader> {
        match self.blobs.open(&descriptor.digest) {
            Ok(Some(blob)) => Some(blob),
            Ok(None) => {
                let problem = format!("blob {} is missing", descriptor.digest);
                self.found.add(Rule::BlobThere, place, problem);
                None
            }
            Err(error) => {
                let problem = format!("blob {} cannot be read: {error}", descriptor.digest);
                self.found.add(Rule::BlobThere, place, problem);
                None
            }
        }
    }

    /// A document, if it can be understood at all.
    fn document(&mut self, descriptor: &Descriptor) -> Option<Value> {
        let place = format!("{} {}", kind(&descriptor.media_type), descriptor.digest);
        if descriptor.size > MOST_DOCUMENT {
            self.found.add(
                Rule::Json,
                &place,
                format!("has {} bytes; no reader takes so many", descriptor.size),
            );
            return None;
        }
        let blob = self.open(descriptor, &place)?;
        let mut blob = HashingReader::new(blob.take(MOST_DOCUMENT + 1));
        let mut bytes = Vec::new();
        let read = blob.read_to_end(&mut bytes);
        judge_bytes(blob, read.err(), descriptor, &place, &mut self.found);
        match serde_json::from_slice(&bytes) {
            Ok(document @ Value::Object(_)) => Some(document),
            Ok(_) => {
                self.found.add(Rule::Json, &place, "is no JSON object");
                None
            }
            Err(error) => {
                self.found
                    .add(Rule::Json, &place, format!("is no JSON: {error}"));
                None
            }
        }
    }

    /// A descriptor whose parts are all in their forms.
    fn descriptor(&mut self, value: &Value, place: &str) -> Option<Descriptor> {
        self.annotations(&value["annotations"], place);
        let media_type = value["mediaType"]
            .as_str()
            .filter(|text| is_media_type(text));
        self.found
            .must(media_type.is_some(), Rule::Descriptor, place, || {
                format!("mediaType is {}", value["mediaType"])
            });
        let digest = value["digest"]
            .as_str()
            .and_then(|text| text.parse::<Digest>().ok());
        self.found
            .must(digest.is_some(), Rule::Descriptor, place, || {
                format!("digest is {}, not sha256 and 64 digits", value["digest"])
            });
        let size = value["size"]
            .as_u64()
            .filter(|size| i64::try_from(*size).is_ok());
        self.found
            .must(size.is_some(), Rule::Descriptor, place, || {
                format!("size is {}, not a number of bytes", value["size"])
            });
        let mut descriptor = Descriptor::new(MediaType::from(media_type?), digest?, size?);
        let platform = serde_json::from_value::<Platform>(value["platform"].clone()).ok();
        if let Some(platform) = platform {
            descriptor = descriptor.with_platform(platform);
        }
        Some(descriptor)
    }

    fn annotations(&mut self, value: &Value, place: &str) {
        match value {
            Value::Null => {}
            Value::Object(members) => {
                for (name, value) in members {
                    self.found.must(
                        !name.is_empty() && value.is_string(),
                        Rule::Annotations,
                        place,
                        || format!("annotation {name:?} is {value}"),
                    );
                }
            }
            other => self
                .found
                .add(Rule::Annotations, place, format!("annotations are {other}")),
        }
    }
}

/// Judges what was read of a blob; the reader must have been asked for one byte too many.
fn judge_bytes<R: Read>(
    read: HashingReader<R>,
    error: Option<std::io::Error>,
    descriptor: &Descriptor,
    place: &str,
    found: &mut Violations,
) {
    if let Some(error) = error {
        found.add(
            Rule::BlobThere,
            place,
            format!("blob cannot be read: {error}"),
        );
        return;
    }
    let (_, digest, size) = read.finish();
    found.must(size == descriptor.size, Rule::BlobSize, place, || {
        match size > descriptor.size {
            true => format!(
                "has more than the {} bytes that its descriptor says",
                descriptor.size
            ),
            false => format!("has {size} bytes, its descriptor says {}", descriptor.size),
        }
    });
    found.must(
        digest == descriptor.digest,
        Rule::BlobDigest,
        place,
        || match size > descriptor.size {
            true => "is another blob than its descriptor says".to_owned(),
            false => format!("has digest {digest}"),
        },
    );
}

fn kind(media_type: &MediaType) -> &'static str {
    match media_type {
        MediaType::OciIndex | MediaType::DockerIndex => "index",
        MediaType::OciManifest | MediaType::DockerManifest => "manifest",
        _ => "config",
    }
}

/// `type/subtype`, in the characters of RFC 6838, section 4.2.
fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        name.len() <= 127
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.bytes().all(allowed)
    };
    text.split_once('/')
        .is_some_and(|(kind, subtype)| is_name(kind) && is_name(subtype))
}

#[cfg(test)]
mod tests;
