//! Changesets become layers: cold, warm, edited, damaged.

use super::*;
use crate::layer::codec::decoder;
use crate::layer::index::{LayerBlob, index};
use crate::layer::reader::Limits;
use crate::tree::{Change, Entry, File, Inode, LayerPath, Node, Xattrs};
use proptest::prelude::*;
use std::io::Read;

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

fn scratch() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn options<'a>(
    compression: Compression,
    threads: usize,
    earlier: Option<&'a FrameTable>,
) -> WriteOptions<'a> {
    let threads = NonZeroUsize::new(threads).unwrap();
    WriteOptions {
        compression,
        epoch: 0,
        earlier,
        threads,
        progress: &|_| {},
    }
}

fn write_gzip(
    changes: &Changeset,
    store: &Store,
    earlier: Option<&FrameTable>,
) -> (Layer, FrameTable, Reuse) {
    write(changes, store, &options(Compression::GZIP, 2, earlier)).unwrap()
}

fn unpacked(store: &Store, layer: &Layer) -> Vec<u8> {
    let blob = store.open_blob(&layer.digest).unwrap().unwrap();
    assert_eq!(blob.metadata().unwrap().len(), layer.size);
    let mut tar = Vec::new();
    decoder(layer.codec, blob)
        .unwrap()
        .read_to_end(&mut tar)
        .unwrap();
    assert_eq!(layer.diff_id.0, Digest::of(&tar));
    assert_eq!(layer.uncompressed_size, tar.len() as u64);
    tar
}

/// Bytes without a pattern, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let step = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(step).collect()
}

/// Many files of many sizes, one of them large.
fn sample() -> Changeset {
    let mut changes = Changeset::new();
    for number in 0..400u64 {
        let directory = format!("d{}", number % 20);
        changes.put(path(&directory), Entry::directory(0o755));
        let size = [10, 700, 3_000, 40_000][number as usize % 4];
        let text = path(&format!("{directory}/f{number}"));
        changes.put(text, Entry::file(noise(number, size), 0o644));
    }
    changes.put(path("d5/large"), Entry::file(noise(999, 7 << 20), 0o755));
    changes.put(path("l"), Entry::symlink(b"d5/large"));
    changes.remove(path("old"));
    changes
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let changes = sample();
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let layers: Vec<Layer> = [1, 2, 7]
            .map(|threads| {
                let (_folder, store) = scratch();
                write(
                    &changes,
                    &store,
                    &options(Compression::default_of(codec), threads, None),
                )
                .unwrap()
                .0
            })
            .into();
        assert_eq!(layers[0], layers[1]);
        assert_eq!(layers[0], layers[2]);
    }
}

#[test]
fn all_codecs_have_one_diff_id() {
    let (_folder, store) = scratch();
    let of = |codec| {
        write(
            &sample(),
            &store,
            &options(Compression::default_of(codec), 2, None),
        )
        .unwrap()
        .0
    };
    let plain = of(Codec::None);
    assert_eq!(plain.digest, plain.diff_id.0);
    for codec in [Codec::Gzip, Codec::Zstd] {
        let layer = of(codec);
        assert_eq!(layer.diff_id, plain.diff_id);
        unpacked(&store, &layer);
    }
}

#[test]
fn what_is_written_is_read_back() {
    let (_folder, store) = scratch();
    let mut changes = sample();
    let hard = |mode| {
        let mut entry = Entry {
            mode,
            ..Entry::file("twice", 0o644)
        };
        if let Node::File(File { inode, .. }) = &mut entry.node {
            *inode = Some(Inode {
                space: 1,
                number: 1,
            });
        }
        entry
    };
    let capability = (
        "security.capability".as_bytes().into(),
        [1, 0, 0, 2, 0].as_slice().into(),
    );
    changes.put(path("a"), hard(0o4755));
    changes.put(path("b"), hard(0o4755));
    changes.put(
        path("c"),
        Entry {
            xattrs: Xattrs::from_iter([capability]),
            uid: 3_000_000,
            ..Entry::file("x", 0o755)
        },
    );
    changes.put(path("empty"), Entry::file("", 0o600));
    changes.put(path("fifo"), Entry::new(Node::Fifo, 0o600));
    changes.put(path("null"), Entry::new(Node::CharDevice(1, 3), 0o666));
    changes.hide_contents(path("opaque"));
    changes.put(path("opaque"), Entry::directory(0o1777));
    let (layer, ..) = write_gzip(&changes, &store, None);
    let blob = LayerBlob {
        digest: layer.digest,
        size: layer.size,
        codec: layer.codec,
        diff_id: layer.diff_id,
    };
    let read = index(&store, &blob, Limits::default(), 1).unwrap();
    assert_eq!(read.changes.digest().unwrap(), changes.digest().unwrap());
    assert_eq!(read.uncompressed_size, layer.uncompressed_size);
}

#[test]
fn an_unchanged_changeset_compresses_nothing() {
    let (_folder, store) = scratch();
    let changes = sample();
    let (first, table, _) = write_gzip(&changes, &store, None);
    let (second, again, reuse) = write_gzip(&changes, &store, Some(&table));
    assert_eq!((first, &table), (second, &again));
    assert_eq!(
        (reuse.bytes_compressed, reuse.frames),
        (0, reuse.frames_reused)
    );
}

#[test]
fn one_changed_file_costs_one_frame() {
    let (_folder, store) = scratch();
    let mut changes = sample();
    let (_, table, cold) = write_gzip(&changes, &store, None);
    for (place, new) in [
        ("d0/f0", "first"),
        ("d19/f99", "middle"),
        ("l", "last"),
        ("d3/new", "new"),
    ] {
        changes.put(path(place), Entry::file(new, 0o644));
        let (warm, _, reuse) = write_gzip(&changes, &store, Some(&table));
        let frames = reuse.frames - reuse.frames_reused;
        assert!(
            frames <= 4 && cold.frames > 8,
            "{place}: {frames} of {}",
            cold.frames
        );
        let (_other, fresh) = scratch();
        assert_eq!(warm, write_gzip(&changes, &fresh, None).0, "{place}");
    }
}

#[test]
fn one_byte_in_a_large_file_costs_one_chunk() {
    let (_folder, store) = scratch();
    let mut bytes = noise(5, 20 << 20);
    let changes = |bytes: &[u8]| {
        let mut changes = Changeset::new();
        changes.put(path("large"), Entry::file(bytes, 0o644));
        changes
    };
    let (_, table, cold) = write_gzip(&changes(&bytes), &store, None);
    bytes[10 << 20] ^= 1;
    bytes.insert(15 << 20, 7);
    let (warm, _, reuse) = write_gzip(&changes(&bytes), &store, Some(&table));
    assert!(
        cold.frames >= 10 && reuse.frames - reuse.frames_reused <= 4,
        "{reuse:?}"
    );
    let (_other, fresh) = scratch();
    assert_eq!(warm, write_gzip(&changes(&bytes), &fresh, None).0);
}

#[test]
fn a_damaged_earlier_blob_does_no_harm() {
    let (folder, store) = scratch();
    let mut changes = sample();
    let (first, table, _) = write_gzip(&changes, &store, None);
    changes.put(path("d0"), Entry::directory(0o700));
    let blob = walk(folder.path())
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with(&first.digest.hex()))
        .unwrap();
    let mut bytes = std::fs::read(&blob).unwrap();
    let end = bytes.len();
    bytes[end / 2..].fill(0x55);
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, bytes).unwrap();
    let (warm, ..) = write_gzip(&changes, &store, Some(&table));
    let (_other, fresh) = scratch();
    assert_eq!(warm, write_gzip(&changes, &fresh, None).0);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[derive(Debug, Clone)]
enum Edit {
    Insert(u8, usize),
    Delete(usize),
    Chmod(usize),
    Grow(usize),
    Rename(usize, u8),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let place = 0usize..400;
    let edit = prop_oneof![
        (any::<u8>(), 0usize..60_000).prop_map(|(name, size)| Edit::Insert(name, size)),
        place.clone().prop_map(Edit::Delete),
        place.clone().prop_map(Edit::Chmod),
        place.clone().prop_map(Edit::Grow),
        (place, any::<u8>()).prop_map(|(from, to)| Edit::Rename(from, to)),
    ];
    proptest::collection::vec(edit, 1..6)
}

fn edited(changes: &Changeset, edits: &[Edit]) -> Changeset {
    let mut edited = changes.clone();
    let nth = |changes: &Changeset, place: usize| {
        let files: Vec<_> = changes
            .iter()
            .filter(|(_, change)| {
                change
                    .entry()
                    .is_some_and(|entry| entry.as_file().is_some())
            })
            .collect();
        let (path, change): (&LayerPath, &Change) = files[place % files.len()];
        (path.clone(), change.entry().unwrap().clone())
    };
    for edit in edits {
        match edit {
            Edit::Insert(name, size) => edited.put(
                path(&format!("d7/new{name}")),
                Entry::file(noise(1, *size), 0o644),
            ),
            Edit::Delete(place) => {
                let (gone, _) = nth(&edited, *place);
                edited.retain(|path, _| *path != gone);
            }
            Edit::Chmod(place) => {
                let (path, entry) = nth(&edited, *place);
                edited.put(
                    path,
                    Entry {
                        mode: 0o640,
                        ..entry
                    },
                );
            }
            Edit::Grow(place) => {
                let (path, entry) = nth(&edited, *place);
                let size = entry.as_file().unwrap().content.size() as usize;
                edited.put(path, Entry::file(noise(2, size + 777), entry.mode));
            }
            Edit::Rename(place, name) => {
                let (gone, entry) = nth(&edited, *place);
                edited.retain(|path, _| *path != gone);
                edited.put(path(&format!("moved{name}")), entry);
            }
        }
    }
    edited
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn the_same_bytes_from_cold_and_from_frames(edits in edits()) {
        let (_folder, store) = scratch();
        let before = sample();
        let (_, table, _) = write_gzip(&before, &store, None);
        let after = edited(&before, &edits);
        let (warm, warm_table, _) = write_gzip(&after, &store, Some(&table));
        let (_other, fresh) = scratch();
        let (cold, cold_table, _) = write_gzip(&after, &fresh, None);
        prop_assert_eq!(warm, cold);
        prop_assert_eq!(warm_table, cold_table);
    }
}
