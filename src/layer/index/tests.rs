//! Layers of someone else: what they hold, and what is refused.

use super::*;
use crate::layer::codec::{Compression, FrameEncoder};
use crate::store::Store;

/// A layer of someone else's, made with the `tar` crate.
struct Foreign(tar::Builder<Vec<u8>>);

impl Foreign {
    fn new() -> Foreign {
        Foreign(tar::Builder::new(Vec::new()))
    }

    /// Writes the name into the header as it is: the crate's own methods refuse hostile ones.
    fn raw(mut self, kind: tar::EntryType, name: &str, link: &str, content: &[u8]) -> Foreign {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &str) -> Foreign {
        self.raw(tar::EntryType::Regular, name, "", content.as_bytes())
    }

    fn directory(self, name: &str) -> Foreign {
        self.raw(tar::EntryType::Directory, name, "", b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Foreign {
        self.raw(tar::EntryType::Link, name, target, b"")
    }

    fn index(self) -> Result<IndexedLayer, LayerError> {
        let tar = self.0.into_inner().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(scratch.path()).unwrap();
        let layer = put(&store, &tar, Codec::Gzip);
        let first = index(&store, &layer, Limits::default(), 1)?;
        let again = index(&store, &layer, Limits::default(), 1).unwrap();
        let listing = |layer: &IndexedLayer| {
            let mut bytes = Vec::new();
            layer
                .changes
                .write_listing(Detail::Located, &mut bytes)
                .unwrap();
            bytes
        };
        assert_eq!(
            listing(&first),
            listing(&again),
            "from the store as from the blob"
        );
        Ok(first)
    }
}

fn put(store: &Store, tar: &[u8], codec: Codec) -> LayerBlob {
    let mut blob = Vec::new();
    FrameEncoder::new(Compression::default_of(codec))
        .unwrap()
        .encode(tar, &mut blob)
        .unwrap();
    let digest = Digest::of(&blob);
    store
        .import_blob(&digest, Some(blob.len() as u64), &blob[..])
        .unwrap();
    LayerBlob {
        digest,
        size: blob.len() as u64,
        codec,
        diff_id: DiffId(Digest::of(tar)),
    }
}

fn shown(layer: &IndexedLayer) -> Vec<String> {
    let mark = |change: &Change| match change {
        Change::Put(entry) if entry.is_directory() => "dir",
        Change::Put(_) => "file",
        Change::Opaque(Some(_)) => "opaque dir",
        Change::Opaque(None) => "opaque",
        Change::Whiteout => "whiteout",
    };
    layer
        .changes
        .iter()
        .map(|(path, change)| format!("{path} {}", mark(change)))
        .collect()
}

#[test]
fn whiteouts_apply_to_lower_layers_wherever_they_stand() {
    let layer = Foreign::new()
        .file("a/.wh.gone", "")
        .file("kept", "new")
        .file(".wh.kept", "")
        .directory("d")
        .file("d/new", "x")
        .file(".wh.d", "")
        .file("e/x", "x")
        .file(".wh.e", "")
        .file("o/x", "x")
        .file("o/.wh..wh..opq", "")
        .file(".wh..wh.plnk", "")
        .index()
        .unwrap();
    assert_eq!(
        shown(&layer),
        [
            "/a/gone whiteout",
            "/d opaque dir",
            "/d/new file",
            "/e opaque",
            "/e/x file",
            "/kept file",
            "/o opaque",
            "/o/x file"
        ]
    );
}

#[test]
fn the_last_of_several_entries_counts() {
    let layer = Foreign::new()
        .directory("a")
        .file("a/x", "1")
        .file("a/x", "2")
        .file("./a//x", "3")
        .index()
        .unwrap();
    let content = |text: &str| {
        layer
            .changes
            .entry(&LayerPath::parse(text.as_bytes()).unwrap())
            .unwrap()
            .as_file()
            .unwrap()
            .content
            .clone()
    };
    assert_eq!(content("a/x").digest(), Some(&Digest::of(b"3")));
    let replaced = Foreign::new()
        .directory("a")
        .file("a/x", "1")
        .file("a", "now a file")
        .index()
        .unwrap();
    assert_eq!(shown(&replaced), ["/a file"]);
}

#[test]
fn contents_are_found_where_the_index_says() {
    let tar = Foreign::new()
        .file("etc/passwd", "root:x:0:0::/:/bin/sh\n")
        .file("f", "hello")
        .hard_link("g", "f")
        .0
        .into_inner()
        .unwrap();
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(scratch.path()).unwrap();
        let layer = put(&store, &tar, codec);
        let indexed = index(&store, &layer, Limits::default(), 1).unwrap();
        unpack(&store, &layer, Limits::default()).unwrap();
        let file = |text: &str| {
            indexed
                .changes
                .entry(&LayerPath::parse(text.as_bytes()).unwrap())
                .unwrap()
                .as_file()
                .unwrap()
                .clone()
        };
        let mut bytes = [0; 5];
        store
            .open_content(&file("f").content)
            .unwrap()
            .read_exact_at(&mut bytes, 0)
            .unwrap();
        assert_eq!(&bytes, b"hello");
        assert_eq!(file("f").inode, file("g").inode);
        assert!(matches!(file("etc/passwd").content, Content::Inline(_)));
    }
}

#[test]
fn hostile_names_are_refused_or_stay_inside() {
    let absolute = Foreign::new().file("/etc/shadow", "x").index().unwrap();
    assert_eq!(shown(&absolute), ["/etc/shadow file"]);
    let cases = [
        (Foreign::new().file("../escape", "x"), "climbs with"),
        (Foreign::new().file("a/../../escape", "x"), "climbs with"),
        (
            Foreign::new().hard_link("a", "../../etc/shadow"),
            "climbs with",
        ),
        (
            Foreign::new().hard_link("a", "/etc/shadow"),
            "not in the layer before it",
        ),
        (Foreign::new().file(".wh...", "x"), "whiteout of nothing"),
        (Foreign::new().file(".wh.", "x"), "whiteout of nothing"),
        (
            Foreign::new().raw(tar::EntryType::Symlink, "./", "x", b""),
            "root can only be",
        ),
    ];
    for (layer, expected) in cases {
        let error = layer.index().unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_wrong_diff_id_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path()).unwrap();
    let tar = Foreign::new().file("f", "x").0.into_inner().unwrap();
    let layer = LayerBlob {
        diff_id: DiffId(Digest::of(b"other")),
        ..put(&store, &tar, Codec::Gzip)
    };
    assert!(matches!(
        index(&store, &layer, Limits::default(), 1),
        Err(LayerError::WrongDiffId { .. })
    ));
    assert!(unpack(&store, &layer, Limits::default()).is_err());
    assert!(!store.contains_blob(&layer.diff_id.0).unwrap());
}

#[test]
fn a_bomb_is_stopped_long_before_it_is_unpacked() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path()).unwrap();
    let tar = Foreign::new()
        .raw(tar::EntryType::Regular, "zeros", "", &vec![0; 8 << 20])
        .0
        .into_inner()
        .unwrap();
    let layer = put(&store, &tar, Codec::Gzip);
    let limits = Limits {
        uncompressed: 1 << 20,
        ..Limits::default()
    };
    let error = index(&store, &layer, limits, 1).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap();
    assert!(
        cause.to_string().contains("expands to many times"),
        "{error}"
    );
}

#[test]
fn a_truncated_blob_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(scratch.path()).unwrap();
    let tar = Foreign::new()
        .file("f", &"text ".repeat(10_000))
        .0
        .into_inner()
        .unwrap();
    let mut blob = Vec::new();
    FrameEncoder::new(Compression::GZIP)
        .unwrap()
        .encode(&tar, &mut blob)
        .unwrap();
    blob.truncate(blob.len() / 2);
    let digest = Digest::of(&blob);
    store.import_blob(&digest, None, &blob[..]).unwrap();
    let layer = LayerBlob {
        digest,
        size: blob.len() as u64,
        codec: Codec::Gzip,
        diff_id: DiffId(Digest::of(&tar)),
    };
    assert!(index(&store, &layer, Limits::default(), 1).is_err());
}
