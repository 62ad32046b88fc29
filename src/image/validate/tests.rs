//! A good image, and for every rule changes that break it and no other.

use std::io::Write;

use serde_json::json;

use super::*;
use crate::oci::Codec;

/// An image in memory whose documents are JSON, to be spoiled.
#[derive(Clone)]
struct Fixture {
    layers: Vec<(Vec<u8>, Codec)>,
    diff_ids: Vec<Value>,
    config: Value,
    manifest: Value,
    index: Value,
    entry: Value,
    /// Applied to the finished blobs: the config, the manifest and the first layer.
    spoil: fn(&mut BTreeMap<Digest, Vec<u8>>, [Digest; 3]),
}

const END: [u8; 1024] = [0; 1024];

/// One tar entry: name, flag, link, content.
fn entry(name: &str, flag: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = ::tar::Header::new_ustar();
    let bytes = header.as_mut_bytes();
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
    bytes[156] = flag;
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut bytes = [header.as_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn good_tar() -> Vec<u8> {
    [
        entry("./", b'5', "", b""),
        entry("etc/", b'5', "", b""),
        entry("etc/.wh.old", b'0', "", b""),
        entry("etc/passwd", b'0', "", b"root:x:0:0:::\n"),
        entry("etc/passwd-", b'1', "etc/passwd", b""),
        entry("usr/bin/sh", b'2', "/bin/busybox", b""),
        entry("var/.wh..wh..opq", b'0', "", b""),
        END.to_vec(),
    ]
    .concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Two gzip members, one zstd frame, one plain layer.
fn good() -> Fixture {
    let tar = good_tar();
    let (head, tail) = tar.split_at(700);
    let layers = vec![
        ([gzip(head), gzip(tail)].concat(), Codec::Gzip),
        (zstd::encode_all(&tar[..], 1).unwrap(), Codec::Zstd),
        (tar.clone(), Codec::None),
    ];
    let platform = json!({"os": "linux", "architecture": "amd64"});
    Fixture {
        diff_ids: vec![json!(Digest::of(&tar)); layers.len()],
        layers,
        config: json!({
            "created": "1970-01-01T00:00:00Z", "os": "linux", "architecture": "amd64",
            "config": {
                "Env": ["PATH=/bin"], "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"},
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1},
            },
            "history": [{"created_by": "a"}, {"empty_layer": true}, {}, {}, {"empty_layer": true}],
        }),
        manifest: json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}),
        index: json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}),
        entry: json!({"platform": platform, "annotations": {"org.opencontainers.image.ref.name": "v1"}}),
        spoil: |_, _| (),
    }
}

/// A document, its later fields over its earlier ones.
fn put(
    blobs: &mut BTreeMap<Digest, Vec<u8>>,
    bytes: Vec<u8>,
    media_type: &str,
    more: &Value,
) -> Value {
    let digest = Digest::of(&bytes);
    let mut descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
    blobs.insert(digest, bytes);
    merge(&mut descriptor, more);
    descriptor
}

fn merge(value: &mut Value, more: &Value) {
    for (key, member) in more.as_object().into_iter().flatten() {
        value[key] = member.clone();
    }
}

impl Fixture {
    fn violations(&self) -> Vec<Violation> {
        let mut blobs = BTreeMap::new();
        let mut layers = Vec::new();
        for (bytes, codec) in &self.layers {
            let media_type = MediaType::OciLayer(*codec);
            layers.push(put(
                &mut blobs,
                bytes.clone(),
                media_type.as_str(),
                &Value::Null,
            ));
        }
        let first_layer = Digest::of(&self.layers[0].0);
        let mut config = json!({"rootfs": {"type": "layers", "diff_ids": self.diff_ids}});
        merge(&mut config, &self.config);
        let config = serde_json::to_vec(&config).unwrap();
        let config_digest = Digest::of(&config);
        let config = put(
            &mut blobs,
            config,
            MediaType::OciConfig.as_str(),
            &Value::Null,
        );
        let mut manifest = json!({"config": config, "layers": layers});
        merge(&mut manifest, &self.manifest);
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let manifest_digest = Digest::of(&manifest);
        let entry = put(
            &mut blobs,
            manifest,
            MediaType::OciManifest.as_str(),
            &self.entry,
        );
        let mut index = json!({"manifests": [entry]});
        merge(&mut index, &self.index);
        let index = serde_json::to_vec(&index).unwrap();
        let root = Descriptor::of(MediaType::OciIndex, &index);
        blobs.insert(root.digest, index);
        (self.spoil)(&mut blobs, [config_digest, manifest_digest, first_layer]);
        validate(&root, &blobs)
    }
}

/// Applies a change to a good image and tells which rules it breaks.
fn broken(change: impl FnOnce(&mut Fixture)) -> Vec<Rule> {
    let mut fixture = good();
    change(&mut fixture);
    let mut rules: Vec<Rule> = fixture
        .violations()
        .into_iter()
        .map(|found| found.rule)
        .collect();
    rules.dedup();
    rules
}

#[test]
fn a_good_image_breaks_nothing() {
    let found: Vec<String> = good()
        .violations()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, [""; 0]);
}

type Change = fn(&mut Fixture);

/// Each change of a good image, and exactly the rules it breaks.
const CHANGES: &[(&str, Change, &[Rule])] = &[
    (
        "no config blob",
        |f| f.spoil = |blobs, [config, ..]| drop(blobs.remove(&config)),
        &[Rule::BlobThere],
    ),
    (
        "no layer blob",
        |f| f.spoil = |blobs, [.., layer]| drop(blobs.remove(&layer)),
        &[Rule::BlobThere],
    ),
    (
        "a longer config",
        |f| f.spoil = |blobs, [config, ..]| blobs.get_mut(&config).unwrap().push(b' '),
        &[Rule::BlobSize, Rule::BlobDigest],
    ),
    (
        "other bytes in a manifest",
        |f| {
            f.spoil = |blobs, [_, manifest, _]| {
                let bytes = blobs.get_mut(&manifest).unwrap();
                *bytes = String::from_utf8(bytes.clone())
                    .unwrap()
                    .replace("{\"config\"", "{ \"confi\"")
                    .into_bytes();
            }
        },
        &[Rule::BlobDigest, Rule::Manifest],
    ),
    (
        "a truncated layer",
        |f| f.spoil = |blobs, [.., layer]| blobs.get_mut(&layer).unwrap().truncate(60),
        &[Rule::BlobSize, Rule::BlobDigest, Rule::LayerCodec],
    ),
    (
        "a config that is no JSON",
        |f| f.spoil = |blobs, [config, ..]| *blobs.get_mut(&config).unwrap() = b"<html>".to_vec(),
        &[Rule::BlobSize, Rule::BlobDigest, Rule::Json],
    ),
    (
        "a descriptor without a size",
        |f| f.entry["size"] = json!(-1),
        &[Rule::Descriptor],
    ),
    (
        "a descriptor with another algorithm",
        |f| f.entry["digest"] = json!("md5:00"),
        &[Rule::Descriptor],
    ),
    (
        "a media type without a slash",
        |f| f.entry["mediaType"] = json!("manifest"),
        &[Rule::Descriptor],
    ),
    (
        "an annotation that is a number",
        |f| f.entry["annotations"] = json!({"a": 1}),
        &[Rule::Annotations],
    ),
    (
        "an annotation without a name",
        |f| f.manifest["annotations"] = json!({"": "x"}),
        &[Rule::Annotations],
    ),
    (
        "schema 1",
        |f| f.manifest["schemaVersion"] = json!(1),
        &[Rule::SchemaVersion],
    ),
    (
        "an index that says it is a manifest",
        |f| f.index["mediaType"] = json!(MediaType::OciManifest.as_str()),
        &[Rule::MediaType],
    ),
    (
        "a docker manifest that does not say so",
        |f| {
            f.entry["mediaType"] = json!(MediaType::DockerManifest.as_str());
            f.manifest["mediaType"] = Value::Null;
        },
        &[Rule::MediaType, Rule::OneFormat],
    ),
    (
        "a manifest without layers",
        |f| f.manifest["layers"] = json!("none"),
        &[Rule::Manifest, Rule::DiffIdCount, Rule::HistoryCount],
    ),
    (
        "a manifest without a config",
        |f| f.manifest["config"] = Value::Null,
        &[Rule::Manifest],
    ),
    (
        "an index without manifests",
        |f| f.index["manifests"] = Value::Null,
        &[Rule::Index],
    ),
    (
        "a platform without os",
        |f| f.entry["platform"] = json!({"architecture": "amd64"}),
        &[Rule::Platform],
    ),
    (
        "another platform",
        |f| f.entry["platform"]["architecture"] = json!("arm64"),
        &[Rule::Platform],
    ),
    (
        "a config without os",
        |f| f.config["os"] = Value::Null,
        &[Rule::Config],
    ),
    (
        "a variable without a value",
        |f| f.config["config"]["Env"] = json!(["PATH"]),
        &[Rule::Config],
    ),
    (
        "a port that is none",
        |f| f.config["config"]["ExposedPorts"] = json!({"http": {}}),
        &[Rule::Config],
    ),
    (
        "labels in a list",
        |f| f.config["config"]["Labels"] = json!(["a"]),
        &[Rule::Config],
    ),
    (
        "a user that is a number",
        |f| f.config["config"]["User"] = json!(0),
        &[Rule::Config],
    ),
    (
        "a health check without a kind",
        |f| f.config["config"]["Healthcheck"]["Test"] = json!(["true"]),
        &[Rule::Config],
    ),
    (
        "a duration as text",
        |f| f.config["config"]["Healthcheck"]["Interval"] = json!("30s"),
        &[Rule::Config],
    ),
    (
        "a time without a zone",
        |f| f.config["created"] = json!("1970-01-01T00:00:00"),
        &[Rule::Time],
    ),
    (
        "a time in history",
        |f| f.config["history"][0]["created"] = json!("now"),
        &[Rule::Time],
    ),
    (
        "another rootfs",
        |f| f.config["rootfs"] = json!({"type": "snapshots", "diff_ids": f.diff_ids}),
        &[Rule::RootFsType],
    ),
    (
        "a diff_id too few",
        |f| drop(f.diff_ids.pop()),
        &[Rule::DiffIdCount],
    ),
    (
        "a line of history too many",
        |f| f.config["history"][4] = json!({}),
        &[Rule::HistoryCount],
    ),
    (
        "gzip that is said to be none",
        |f| f.layers[0].1 = Codec::None,
        &[Rule::LayerCodec],
    ),
    (
        "gzip without its end",
        |f| {
            f.layers[0].0.pop();
        },
        &[Rule::LayerCodec],
    ),
    (
        "text behind gzip",
        |f| f.layers[0].0.extend(b"more"),
        &[Rule::LayerCodec],
    ),
    (
        "a wrong diff_id",
        |f| f.diff_ids[1] = json!(Digest::of(b"")),
        &[Rule::DiffId],
    ),
];

#[test]
fn every_change_breaks_exactly_its_rules() {
    for (name, change, expected) in CHANGES {
        let mut fixture = good();
        change(&mut fixture);
        let found = fixture.violations();
        let mut rules: Vec<Rule> = found.iter().map(|found| found.rule).collect();
        rules.dedup();
        assert_eq!(rules, *expected, "{name}: {found:#?}");
    }
}

/// Layers made of these entries, and exactly the rules they break.
fn layer_cases() -> Vec<(&'static str, Vec<u8>, &'static [Rule])> {
    let file = |name: &str| entry(name, b'0', "", b"");
    let closed = |entries: &[Vec<u8>]| [entries.concat(), END.to_vec()].concat();
    let mut damaged = closed(&[file("a")]);
    damaged[0] = b'b';
    vec![
        (
            "an absolute name",
            closed(&[file("/a")]),
            &[Rule::EntryName],
        ),
        (
            "a climbing name",
            closed(&[file("a/../../b")]),
            &[Rule::EntryName],
        ),
        ("no name", closed(&[file("")]), &[Rule::EntryName]),
        (
            "a name twice",
            closed(&[file("a"), file("./a")]),
            &[Rule::EntryTwice],
        ),
        (
            "an unknown kind",
            closed(&[entry("a", b'Z', "", b"")]),
            &[Rule::EntryKind],
        ),
        (
            "a sparse file",
            closed(&[entry("a", b'S', "", b"")]),
            &[Rule::EntryKind],
        ),
        (
            "a link to nothing",
            closed(&[entry("a", b'2', "", b"")]),
            &[Rule::EntryKind],
        ),
        (
            "the root as a file",
            closed(&[file(".")]),
            &[Rule::EntryKind],
        ),
        (
            "a file below a file",
            closed(&[file("a"), file("a/b")]),
            &[Rule::EntryOrder],
        ),
        (
            "a file below a link",
            closed(&[entry("a", b'2', "/etc", b""), file("a/b/c")]),
            &[Rule::EntryOrder],
        ),
        (
            "a directory late",
            closed(&[file("a/b/c"), entry("a", b'5', "", b"")]),
            &[Rule::EntryOrder],
        ),
        (
            "a hard link out",
            closed(&[entry("a", b'1', "../b", b"")]),
            &[Rule::HardLink],
        ),
        (
            "a hard link to itself",
            closed(&[entry("a", b'1', "./a", b"")]),
            &[Rule::HardLink],
        ),
        (
            "a whiteout of nothing",
            closed(&[file("a/.wh.")]),
            &[Rule::Whiteout],
        ),
        (
            "a whiteout of dot-dot",
            closed(&[file(".wh...")]),
            &[Rule::Whiteout],
        ),
        (
            "a whiteout with content",
            closed(&[entry(".wh.a", b'0', "", b"x")]),
            &[Rule::Whiteout],
        ),
        (
            "a file below a whiteout",
            closed(&[file("a/.wh.b/c")]),
            &[Rule::Whiteout],
        ),
        ("no end", file("a"), &[Rule::Tar]),
        (
            "more behind the end",
            [closed(&[file("a")]), b"x".to_vec()].concat(),
            &[Rule::Tar],
        ),
        ("a wrong checksum", damaged, &[Rule::Tar]),
        ("half an entry", file("a")[..100].to_vec(), &[Rule::Tar]),
        (
            "zeros behind the end",
            [closed(&[file("a")]), vec![0; 9000]].concat(),
            &[],
        ),
        ("nothing", END.to_vec(), &[]),
        (
            "AUFS's own marks",
            closed(&[entry(".wh..wh.plnk/", b'5', "", b"")]),
            &[],
        ),
    ]
}

#[test]
fn every_layer_breaks_exactly_its_rules() {
    for (name, tar, expected) in layer_cases() {
        for codec in [Codec::None, Codec::Gzip] {
            let rules = broken(|fixture| {
                fixture.diff_ids[0] = json!(Digest::of(&tar));
                let bytes = if codec == Codec::Gzip {
                    gzip(&tar)
                } else {
                    tar.clone()
                };
                fixture.layers[0] = (bytes, codec);
            });
            assert_eq!(rules, expected, "{name}, {codec}");
        }
    }
}

#[test]
fn there_is_a_case_for_every_rule() {
    let layers = layer_cases();
    let cases = CHANGES.iter().flat_map(|(.., rules)| rules.iter());
    let covered: BTreeSet<&Rule> = cases
        .chain(layers.iter().flat_map(|(.., rules)| rules.iter()))
        .collect();
    let missing: Vec<Rule> = Rule::all().filter(|rule| !covered.contains(rule)).collect();
    assert_eq!(missing, []);
}

#[test]
fn an_index_of_itself_ends() {
    // An index cannot hold its own digest, but a chain may be long.
    let mut blobs = BTreeMap::new();
    let mut inner = json!({"schemaVersion": 2, "manifests": []});
    let mut root = None;
    for _ in 0..20 {
        let bytes = serde_json::to_vec(&inner).unwrap();
        root = Some(Descriptor::of(MediaType::OciIndex, &bytes));
        let entry = put(
            &mut blobs,
            bytes,
            MediaType::OciIndex.as_str(),
            &Value::Null,
        );
        inner = json!({"schemaVersion": 2, "manifests": [entry]});
    }
    let rules: Vec<Rule> = validate(&root.unwrap(), &blobs)
        .iter()
        .map(|found| found.rule)
        .collect();
    assert_eq!(rules, [Rule::Index]);
}

#[test]
fn violations_read_well() {
    let mut fixture = good();
    fixture.manifest["schemaVersion"] = json!(1);
    let found = fixture.violations();
    let text = found[0].to_string();
    assert!(text.starts_with("IS007: manifest sha256:"), "{text}");
    assert!(
        text.ends_with(": schemaVersion is 1, not 2 (manifest.md, \"schemaVersion\")"),
        "{text}"
    );
}
