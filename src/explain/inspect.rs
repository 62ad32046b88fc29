//! Inspect: what an image holds, layer by layer, and which bytes it ships in vain.
//!
//! Comes in: an image's names, digests, config and the changesets of its layers. Goes out: an
//! [`Inspection`]. Hard links count once. A byte is *shipped twice* if a layer puts a file and a
//! higher one replaces, changes or removes it: every pull transfers it and no container sees it.
//! OCI image spec, `layer.md`, "Whiteouts" and "Modifications".

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use crate::explain::error::ExplainError;
use crate::oci::{Descriptor, DiffId, Digest, ImageConfig, Platform, RuntimeConfig};
use crate::tree::{Change, Changeset, Entry, File, Follow, HardLinks, LayerPath, Tree, TreeError};

/// What is inspected.
#[derive(Debug, Clone)]
pub struct ImageFacts<'a> {
    /// The names that the image has where it was found.
    pub names: Vec<String>,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Digest of the config.
    pub image_id: Digest,
    /// The config.
    pub config: &'a ImageConfig,
    /// The layers, lowest first; as many as the config has diff_ids.
    pub layers: Vec<LayerFacts<'a>>,
}

/// One layer of an image that is inspected.
#[derive(Debug, Clone, Copy)]
pub struct LayerFacts<'a> {
    /// The pointer to its blob.
    pub descriptor: &'a Descriptor,
    /// Size of the tar stream in bytes.
    pub uncompressed: u64,
    /// What it changes.
    pub changes: &'a Changeset,
}

/// What an image holds. All sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The names that the image has where it was found.
    pub names: Vec<String>,
    /// Digest of the manifest: what a registry calls the image.
    pub manifest: Digest,
    /// Digest of the config: what podman and docker show as the image ID.
    pub image_id: Digest,
    /// What it runs on.
    pub platform: Platform,
    /// When it says it was made.
    pub created: Option<String>,
    /// Settings of the container's process, in the words of the image spec.
    pub config: RuntimeConfig,
    /// The layers, lowest first.
    pub layers: Vec<LayerInspection>,
    /// Sizes of the blobs of layers together, each blob once.
    pub size: u64,
    /// Sizes of their tar streams together, each blob once.
    pub uncompressed: u64,
    /// Number of regular files that a container sees.
    pub files: u64,
    /// Sizes of these files together.
    pub visible: u64,
    /// Sizes of all files that no container sees, together.
    pub shipped_twice: u64,
    /// The largest of them.
    pub hidden: Vec<ShippedTwice>,
    /// Sizes of further copies of files that a container sees, together.
    pub duplicated: u64,
    /// The costliest of them.
    pub duplicates: Vec<Duplicate>,
}

/// What one layer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerInspection {
    /// Digest of the blob.
    pub digest: Digest,
    /// Digest of the tar stream in it.
    pub diff_id: Option<DiffId>,
    /// The blob's media type.
    pub media_type: String,
    /// Size of the blob.
    pub size: u64,
    /// Size of the tar stream.
    pub uncompressed: u64,
    /// The history's line for this layer.
    pub created_by: Option<String>,
    /// Number of changes.
    pub entries: usize,
    /// Number of regular files, each hard link once.
    pub files: u64,
    /// Number of whiteouts, opaque ones among them.
    pub whiteouts: u64,
    /// Sizes of its files that higher layers hide, together.
    pub shipped_twice: u64,
    /// The largest files.
    pub largest: Vec<LargeFile>,
}

/// A file and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LargeFile {
    /// Where it is.
    #[serde(serialize_with = "as_text")]
    pub path: LayerPath,
    /// Its size.
    pub bytes: u64,
}

/// A file that a higher layer hides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShippedTwice {
    /// Where it is.
    #[serde(serialize_with = "as_text")]
    pub path: LayerPath,
    /// Its size.
    pub bytes: u64,
    /// Number of the layer that puts it, from 1.
    pub layer: usize,
    /// Number of the layer that hides it, from 1.
    pub hidden_by: usize,
    /// How it is hidden.
    pub how: Hiding,
}

/// How a file is hidden by a higher layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hiding {
    /// Other bytes, or no file, stand in its place.
    Replaced,
    /// The same bytes stand in its place: a change of owner or mode, or of nothing at all.
    Repeated,
    /// It is removed.
    Removed,
}

/// Equal files at several paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// Digest of their bytes.
    pub digest: Digest,
    /// Size of one.
    pub bytes: u64,
    /// How many there are.
    pub copies: usize,
    /// Some of the paths, in order.
    #[serde(serialize_with = "as_texts")]
    pub paths: Vec<LayerPath>,
}

/// So many paths of equal files are told.
const PATHS_TOLD: usize = 5;

/// Looks into an image; every list of files tells the `most` largest.
///
/// # Errors
/// A layer that does not fit on those below it.
pub fn inspect(image: &ImageFacts<'_>, most: usize) -> Result<Inspection, ExplainError> {
    let mut stack = Stack::default();
    let mut layers = Vec::new();
    for (index, layer) in image.layers.iter().enumerate() {
        let number = index + 1;
        let fits = stack.add(number, layer.changes);
        fits.map_err(|source| ExplainError::Layer { number, source })?;
        layers.push(look_at_layer(image, index, layer, most));
    }
    for hidden in &stack.hidden {
        layers[hidden.layer - 1].shipped_twice += hidden.bytes;
    }
    let blobs: BTreeMap<Digest, &LayerFacts<'_>> = image
        .layers
        .iter()
        .map(|layer| (layer.descriptor.digest, layer))
        .collect();
    let visible = stack.visible_files();
    let (duplicated, duplicates) = find_duplicates(&visible, most);
    Ok(Inspection {
        names: image.names.clone(),
        manifest: image.manifest,
        image_id: image.image_id,
        platform: image.config.platform.clone(),
        created: image.config.created.clone(),
        config: image.config.config.clone(),
        layers,
        size: blobs.values().map(|layer| layer.descriptor.size).sum(),
        uncompressed: blobs.values().map(|layer| layer.uncompressed).sum(),
        files: visible.len() as u64,
        visible: visible.iter().map(|(_, file)| file.content.size()).sum(),
        shipped_twice: stack.hidden.iter().map(|hidden| hidden.bytes).sum(),
        hidden: largest(stack.hidden, most, |hidden| {
            (hidden.bytes, hidden.path.clone())
        }),
        duplicated,
        duplicates,
    })
}

fn look_at_layer(
    image: &ImageFacts<'_>,
    index: usize,
    layer: &LayerFacts<'_>,
    most: usize,
) -> LayerInspection {
    let files = distinct_files(
        layer
            .changes
            .iter()
            .filter_map(|(path, change)| change.entry().map(|entry| (path, entry))),
    );
    let is_whiteout = |change: &Change| matches!(change, Change::Whiteout | Change::Opaque(_));
    let mut history = image.config.history.iter().filter(|line| !line.empty_layer);
    LayerInspection {
        digest: layer.descriptor.digest,
        diff_id: image.config.rootfs.diff_ids.get(index).copied(),
        media_type: layer.descriptor.media_type.as_str().to_owned(),
        size: layer.descriptor.size,
        uncompressed: layer.uncompressed,
        created_by: history.nth(index).and_then(|line| line.created_by.clone()),
        entries: layer.changes.len(),
        files: files.len() as u64,
        whiteouts: layer
            .changes
            .iter()
            .filter(|(_, change)| is_whiteout(change))
            .count() as u64,
        shipped_twice: 0,
        largest: largest(files, most, |(path, file)| {
            (file.content.size(), (*path).clone())
        })
        .into_iter()
        .map(|(path, file)| LargeFile {
            path: path.clone(),
            bytes: file.content.size(),
        })
        .collect(),
    }
}

/// The files among `entries`, a file with several names once, at its first.
fn distinct_files<'a>(
    entries: impl Iterator<Item = (&'a LayerPath, &'a Entry)>,
) -> Vec<(&'a LayerPath, &'a File)> {
    let mut links = HardLinks::new();
    entries
        .filter_map(|(path, entry)| {
            let file = entry.as_file()?;
            links
                .earlier_name(path, entry)
                .is_none()
                .then_some((path, file))
        })
        .collect()
}

/// The `most` items with the greatest size, equal ones in the order of paths.
fn largest<T>(mut items: Vec<T>, most: usize, key: impl Fn(&T) -> (u64, LayerPath)) -> Vec<T> {
    items.sort_by_cached_key(|item| {
        let (bytes, path) = key(item);
        (Reverse(bytes), path)
    });
    items.truncate(most);
    items
}

/// Layers put upon each other, with the layer that each visible file comes from.
#[derive(Default)]
struct Stack {
    tree: Tree,
    origins: BTreeMap<LayerPath, usize>,
    hidden: Vec<ShippedTwice>,
}

impl Stack {
    /// Puts a layer on top, and notes which files of lower layers it hides.
    fn add(&mut self, number: usize, changes: &Changeset) -> Result<(), TreeError> {
        let mut doomed = BTreeSet::new();
        let mut real = Vec::new();
        for (path, change) in changes.iter() {
            let path = self.real_path(path)?;
            match change {
                Change::Put(entry) if entry.is_directory() => {
                    // Only a file is replaced by a directory; a directory keeps what is in it.
                    self.doom(&mut doomed, &path, Reach::ThePath);
                }
                Change::Put(_) | Change::Whiteout => self.doom(&mut doomed, &path, Reach::AndBelow),
                Change::Opaque(_) => self.doom(&mut doomed, &path, Reach::AndBelow),
            }
            if change.entry().and_then(Entry::as_file).is_some() {
                real.push(path);
            }
        }
        let before: Vec<(LayerPath, Entry)> = doomed
            .into_iter()
            .filter_map(|path| self.tree.entry(&path).cloned().map(|entry| (path, entry)))
            .collect();
        self.tree.apply(changes)?;
        self.note_hidden(number, &before);
        for path in real {
            self.origins.insert(path, number);
        }
        Ok(())
    }

    /// Files that lower layers put at `path`, and below if `reach` says so.
    fn doom(&self, doomed: &mut BTreeSet<LayerPath>, path: &LayerPath, reach: Reach) {
        let files = self
            .tree
            .below(path)
            .filter(|(_, entry)| entry.as_file().is_some());
        match reach {
            Reach::AndBelow => doomed.extend(files.map(|(path, _)| path.clone())),
            Reach::ThePath => {
                let is_file = self
                    .tree
                    .entry(path)
                    .is_some_and(|entry| entry.as_file().is_some());
                doomed.extend(is_file.then(|| path.clone()));
            }
        }
    }

    fn note_hidden(&mut self, number: usize, before: &[(LayerPath, Entry)]) {
        let files = distinct_files(before.iter().map(|(path, entry)| (path, entry)));
        for (path, file) in files {
            let bytes = file.content.size();
            let now = self.tree.entry(path);
            let how = match now {
                None => Hiding::Removed,
                Some(entry)
                    if entry
                        .as_file()
                        .is_some_and(|now| now.content == file.content) =>
                {
                    Hiding::Repeated
                }
                Some(_) => Hiding::Replaced,
            };
            if let (Some(&layer), 1..) = (self.origins.get(path), bytes) {
                self.hidden.push(ShippedTwice {
                    path: path.clone(),
                    bytes,
                    layer,
                    hidden_by: number,
                    how,
                });
            }
        }
        for (path, _) in before {
            self.origins.remove(path);
        }
    }

    /// Where an entry goes that a layer names by `path`, as [`Tree::apply`] has it.
    fn real_path(&self, path: &LayerPath) -> Result<LayerPath, TreeError> {
        let resolved = self
            .tree
            .resolve(&LayerPath::root(), path.as_bytes(), Follow::Parents)?;
        Ok(resolved.path)
    }

    fn visible_files(&self) -> Vec<(&LayerPath, &File)> {
        distinct_files(self.tree.iter())
    }
}

/// How far a change reaches.
#[derive(Clone, Copy)]
enum Reach {
    ThePath,
    AndBelow,
}

/// Bytes of further copies, and the costliest of the groups of equal files.
fn find_duplicates(visible: &[(&LayerPath, &File)], most: usize) -> (u64, Vec<Duplicate>) {
    let mut by_digest: BTreeMap<(Digest, u64), Vec<&LayerPath>> = BTreeMap::new();
    for (path, file) in visible {
        if let (Some(digest), size @ 1..) = (file.content.digest(), file.content.size()) {
            by_digest.entry((*digest, size)).or_default().push(path);
        }
    }
    by_digest.retain(|_, paths| paths.len() > 1);
    let cost = |bytes: u64, copies: usize| bytes * (copies as u64 - 1);
    let total = by_digest
        .iter()
        .map(|((_, bytes), paths)| cost(*bytes, paths.len()))
        .sum();
    let groups = by_digest
        .into_iter()
        .map(|((digest, bytes), paths)| Duplicate {
            digest,
            bytes,
            copies: paths.len(),
            paths: paths.into_iter().take(PATHS_TOLD).cloned().collect(),
        })
        .collect();
    let key = |group: &Duplicate| (cost(group.bytes, group.copies), group.paths[0].clone());
    (total, largest(groups, most, key))
}

fn as_text<S: Serializer>(path: &LayerPath, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(path)
}

fn as_texts<S: Serializer>(paths: &[LayerPath], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(LayerPath::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Codec, MediaType};

    fn path(text: &str) -> LayerPath {
        LayerPath::parse(text.as_bytes()).unwrap()
    }

    fn file(bytes: usize, fill: u8) -> Entry {
        Entry::file(vec![fill; bytes], 0o644)
    }

    /// Puts these layers into an image and inspects it.
    fn inspected(layers: &[Changeset]) -> Inspection {
        let config: ImageConfig = serde_json::from_str(
            r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},
                "history":[{"created_by":"a"},{"created_by":"env","empty_layer":true},{"created_by":"b"}]}"#,
        )
        .unwrap();
        let blob = |index: usize| Digest::of(&[index as u8]);
        let descriptors: Vec<Descriptor> = (0..layers.len())
            .map(|index| Descriptor::new(MediaType::OciLayer(Codec::Gzip), blob(index), 100))
            .collect();
        let image = ImageFacts {
            names: Vec::new(),
            manifest: Digest::of(b"m"),
            image_id: Digest::of(b"c"),
            config: &config,
            layers: layers
                .iter()
                .zip(&descriptors)
                .map(|(changes, descriptor)| LayerFacts {
                    descriptor,
                    uncompressed: 200,
                    changes,
                })
                .collect(),
        };
        inspect(&image, 3).unwrap()
    }

    fn layer(entries: &[(&str, Entry)]) -> Changeset {
        let mut changes = Changeset::new();
        for (text, entry) in entries {
            changes.put(path(text), entry.clone());
        }
        changes
    }

    #[test]
    fn what_higher_layers_hide_is_shipped_twice() {
        let lower = layer(&[
            ("usr/lib/big", file(500, 1)),
            ("usr/lib/same", file(40, 2)),
            ("etc/gone", file(30, 3)),
            ("opt/a/x", file(20, 4)),
            ("opt/stays", file(10, 5)),
            ("lib", Entry::symlink(b"usr/lib")),
        ]);
        let mut upper = layer(&[("lib/big", file(501, 6)), ("lib/same", file(40, 2))]);
        upper.remove(path("etc/gone"));
        upper.hide_contents(path("opt/a"));
        let seen = inspected(&[lower, upper]);
        let hidden: Vec<_> = seen
            .hidden
            .iter()
            .map(|one| {
                (
                    one.path.to_string(),
                    one.bytes,
                    one.layer,
                    one.hidden_by,
                    one.how,
                )
            })
            .collect();
        assert_eq!(
            hidden,
            [
                ("/usr/lib/big".to_owned(), 500, 1, 2, Hiding::Replaced),
                ("/usr/lib/same".to_owned(), 40, 1, 2, Hiding::Repeated),
                ("/etc/gone".to_owned(), 30, 1, 2, Hiding::Removed),
            ]
        );
        assert_eq!(seen.shipped_twice, 590);
        assert_eq!(seen.layers[0].shipped_twice, 590);
        assert_eq!((seen.files, seen.visible), (3, 551));
        assert_eq!((seen.layers[1].whiteouts, seen.layers[1].files), (2, 2));
        assert_eq!(seen.layers[1].created_by.as_deref(), Some("b"));
    }

    #[test]
    fn equal_files_are_told_once_with_their_cost() {
        let seen = inspected(&[
            layer(&[
                ("a", file(10, 1)),
                ("b", file(10, 1)),
                ("empty1", file(0, 0)),
            ]),
            layer(&[
                ("c", file(10, 1)),
                ("d", file(99, 2)),
                ("empty2", file(0, 0)),
            ]),
        ]);
        assert_eq!(seen.duplicated, 20);
        assert_eq!(seen.duplicates.len(), 1);
        assert_eq!(seen.duplicates[0].copies, 3);
        let paths: Vec<String> = seen.layers[1]
            .largest
            .iter()
            .map(|f| f.path.to_string())
            .collect();
        assert_eq!(paths, ["/d", "/c", "/empty2"]);
    }

    #[test]
    fn a_layer_that_comes_twice_counts_once_in_the_size() {
        let changes = layer(&[("a", file(10, 1))]);
        let seen = inspected(&[changes.clone(), changes]);
        assert_eq!((seen.size, seen.uncompressed), (200, 400));
        assert_eq!(seen.hidden[0].how, Hiding::Repeated);
    }

    #[test]
    fn a_directory_over_a_directory_hides_nothing() {
        let seen = inspected(&[
            layer(&[("a", Entry::directory(0o755)), ("a/f", file(10, 1))]),
            layer(&[("a", Entry::directory(0o700))]),
        ]);
        assert_eq!((seen.shipped_twice, seen.files), (0, 1));
    }
}
