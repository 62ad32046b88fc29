//! The shelf: the place whose images are served, and its catalogue, which follows the place.
//!
//! A build may write into a place while it is served. Before every answer the place is looked at,
//! and if its index was replaced, it is read anew. If that fails, what was read before is served
//! on: an index that is half written is whole a moment later.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::oci::reference::is_repository;
use crate::oci::{Descriptor, Digest, Reference};
use crate::plan::key;
use crate::store::{Store, Value};
use crate::transport::archive::Archive;
use crate::transport::disk::{self, at};
use crate::transport::error::TransportError;
use crate::transport::layout::{self, LayoutDir, LayoutFiles};
use crate::transport::select;
use crate::transport::serve::catalogue::{
    Catalogue, Entry, ServedName, layout_entries, read_document,
};

/// A place with images.
#[derive(Debug)]
pub struct Shelf {
    source: Source,
    /// Locked while the place is looked at and read, so that it is read once.
    loaded: Mutex<Arc<Loaded>>,
    /// What was said last about the place, which is not said again.
    told: Mutex<Vec<String>>,
}

/// What kind of place.
#[derive(Debug)]
enum Source {
    Layout(PathBuf),
    Archive(PathBuf),
    Store(Store),
}

/// A place as it was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    stamp: Stamp,
    files: Files,
    pub(crate) catalogue: Catalogue,
}

#[derive(Debug)]
enum Files {
    Dir(LayoutDir),
    Archive(Archive),
    Store(Store, LayoutDir),
}

/// Device, inode, size and times of what is replaced when something changes.
type Stamp = Vec<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// Where a blob is.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) file: Arc<File>,
    pub(crate) at: u64,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// It is a link, which may lead anywhere: nothing of it may be sent before all of it was
    /// checked.
    pub(crate) is_link: bool,
}

/// The repository of an image without a name, in a place whose own name is none.
const NAMELESS: &str = "image";

impl Shelf {
    /// The images of a layout in a directory.
    ///
    /// # Errors
    /// It is no layout, or it cannot be read.
    pub fn layout(dir: &Path) -> Result<Shelf, TransportError> {
        Shelf::open(Source::Layout(dir.to_owned()))
    }

    /// The images of an OCI archive, which is read in place.
    ///
    /// # Errors
    /// It is no archive of a layout, it cannot be read, or it is compressed as a whole.
    pub fn archive(file: &Path) -> Result<Shelf, TransportError> {
        Shelf::open(Source::Archive(file.to_owned()))
    }

    /// The images of a store: the bases that builds have pulled into it. What is built is not
    /// recorded there, but goes to outputs. The store is shared with builds and kept from cleaning.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn store(store: Store) -> Result<Shelf, TransportError> {
        Shelf::open(Source::Store(store))
    }

    fn open(source: Source) -> Result<Shelf, TransportError> {
        let loaded = source.load()?;
        Ok(Shelf {
            source,
            loaded: Mutex::new(Arc::new(loaded)),
            told: Mutex::default(),
        })
    }

    /// Repository, tag and digest of every image that has a name now.
    pub fn images(&self) -> Vec<(String, String, Digest)> {
        let loaded = Arc::clone(&locked(&self.loaded));
        let images = loaded.catalogue.images();
        images
            .map(|(repository, tag, digest)| (repository.to_owned(), tag.to_owned(), *digest))
            .collect()
    }

    /// The place as it is now. `tell` is told what is wrong with it, once.
    pub(crate) fn current(&self, tell: &dyn Fn(&str)) -> Arc<Loaded> {
        let mut loaded = locked(&self.loaded);
        let mut notes = Vec::new();
        match self.source.stamp() {
            Ok(stamp) if stamp == loaded.stamp => {}
            Ok(_) => match self.source.load() {
                Ok(anew) => *loaded = Arc::new(anew),
                Err(error) => notes.push(format!("served as it was: failed to {error}")),
            },
            Err(error) => notes.push(format!("served as it was: failed to {error}")),
        }
        notes.extend(loaded.catalogue.notes.iter().cloned());
        let mut told = locked(&self.told);
        if *told != notes {
            let news = notes.iter().filter(|note| !told.contains(note));
            news.for_each(|note| tell(note));
            *told = notes;
        }
        Arc::clone(&loaded)
    }
}

impl Source {
    fn stamp(&self) -> Result<Stamp, TransportError> {
        // What is not there has a stamp, too; whoever reads it says best what is missing.
        let stamps = |paths: Vec<PathBuf>| {
            let stamped = paths.into_iter().map(|path| match fs::metadata(&path) {
                Ok(metadata) => Ok(stamp(&metadata)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Default::default()),
                Err(error) => Err(at("read", &path)(error)),
            });
            stamped.collect::<Result<Stamp, TransportError>>()
        };
        match self {
            Source::Layout(dir) => stamps(vec![dir.join("index.json")]),
            Source::Archive(file) => stamps(vec![file.clone()]),
            Source::Store(store) => {
                // A record that is written or replaced changes its folder.
                let folder = store.root().join("records/pulled");
                let parts = match fs::read_dir(&folder) {
                    Ok(parts) => parts.map(|part| Ok(part?.path())).collect(),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                    Err(error) => Err(error),
                };
                let mut parts: Vec<PathBuf> = parts.map_err(at("list", &folder))?;
                parts.sort();
                stamps(parts)
            }
        }
    }

    fn load(&self) -> Result<Loaded, TransportError> {
        // Looked at before it is read: what changes meanwhile is seen the next time.
        let stamp = self.stamp()?;
        let (files, entries) = match self {
            Source::Layout(dir) => {
                let files = LayoutDir::new(dir);
                let index = layout::index(&files)?;
                let entries = layout_entries(index.manifests, &called(dir.file_name()));
                (Files::Dir(files), entries)
            }
            Source::Archive(file) => {
                let files = Archive::open(file)?;
                if files.is_compressed() {
                    let problem = "it is compressed as a whole, so no part of it can be sent without reading all before it; unpack it first";
                    return Err(TransportError::NotAnImage {
                        path: file.clone(),
                        problem: problem.to_owned(),
                    });
                }
                let index = layout::index(&files)?;
                let mut entries = layout_entries(index.manifests, &called(file.file_stem()));
                if let [only] = &mut entries[..] {
                    only.names.extend(repo_tags(&files)?);
                }
                (Files::Archive(files), entries)
            }
            Source::Store(store) => {
                let files = LayoutDir::new(store.root());
                (Files::Store(store.clone(), files), pulled(store)?)
            }
        };
        let catalogue = Catalogue::of(entries, files.of_layout());
        Ok(Loaded {
            stamp,
            files,
            catalogue,
        })
    }
}

impl Files {
    fn of_layout(&self) -> &dyn LayoutFiles {
        match self {
            Files::Dir(files) | Files::Store(_, files) => files,
            Files::Archive(files) => files,
        }
    }
}

impl Loaded {
    /// The bytes of a document, checked; `None` if it is gone.
    pub(crate) fn document(&self, descriptor: &Descriptor) -> io::Result<Option<Vec<u8>>> {
        read_document(descriptor, self.files.of_layout())
    }

    /// Where a blob is; `None` if it is not here.
    pub(crate) fn blob(&self, digest: &Digest) -> io::Result<Option<Place>> {
        let (file, path) = match &self.files {
            Files::Archive(files) => {
                let part = files.part(digest).map_err(io::Error::other)?;
                return Ok(part.map(|(file, at, size)| Place {
                    file,
                    at,
                    size,
                    is_link: false,
                }));
            }
            Files::Dir(files) => {
                let path = files.blob_path(digest);
                (disk::open_regular(&path)?, path)
            }
            Files::Store(store, files) => {
                let file = store.open_blob(digest).map_err(io::Error::other)?;
                (file, files.blob_path(digest))
            }
        };
        let Some(file) = file else {
            return Ok(None);
        };
        let size = file.metadata()?.len();
        let is_link = !fs::symlink_metadata(path)?.is_file();
        Ok(Some(Place {
            file: Arc::new(file),
            at: 0,
            size,
            is_link,
        }))
    }
}

/// The names in Docker's part of an archive that is both: loaders want a single entry in the index,
/// so the other names of the image stand only there.
fn repo_tags(files: &Archive) -> Result<Vec<ServedName>, TransportError> {
    #[derive(serde::Deserialize)]
    struct Item {
        #[serde(rename = "RepoTags")]
        repo_tags: Option<Vec<String>>,
    }
    let bytes = files.small("manifest.json")?.unwrap_or_default();
    // Without Docker's part, or with one that makes no sense, it is an OCI archive all the same.
    let items: Vec<Item> = serde_json::from_slice(&bytes).unwrap_or_default();
    let names = items.into_iter().filter_map(|item| item.repo_tags);
    let names = names.flatten().filter_map(|name| select::full_name(&name));
    Ok(names.filter_map(|name| ServedName::of(&name)).collect())
}

/// What references were the last time that builds pulled them.
fn pulled(store: &Store) -> Result<Vec<Entry>, TransportError> {
    let failed = |error| at("read the records of", store.root())(io::Error::other(error));
    let mut found = Vec::new();
    for record in store.records(key::PULLED).map_err(failed)? {
        let record = record.map_err(failed)?;
        let mut fields = record.key.fields();
        let reference = fields.find_map(|(name, value)| match value {
            Value::Text(text) if name == "reference" => text.parse::<Reference>().ok(),
            _ => None,
        });
        let descriptor = serde_json::from_slice::<Descriptor>(&record.value).ok();
        if let (Some(reference), Some(descriptor)) = (reference, descriptor) {
            found.push((record.used, reference, descriptor));
        }
    }
    // Several platforms may have been pulled at different times: the newest is what the name means.
    found.sort_by(|one, other| {
        (other.0, &one.1, one.2.digest).cmp(&(one.0, &other.1, other.2.digest))
    });
    let mut named = BTreeSet::new();
    let entry = |(_, reference, descriptor): (_, Reference, Descriptor)| {
        let is_first = named.insert(reference.to_string());
        let name = ServedName::of(&reference).filter(|_| is_first);
        Entry {
            descriptor,
            names: name.into_iter().collect(),
        }
    };
    Ok(found.into_iter().map(entry).collect())
}

/// The repository that is called after a place.
fn called(name: Option<&OsStr>) -> String {
    let name = name.and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    name.filter(|name| is_repository(name))
        .unwrap_or_else(|| NAMELESS.to_owned())
}

fn stamp(metadata: &Metadata) -> (u64, u64, u64, (i64, i64), (i64, i64)) {
    (
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        (metadata.mtime(), metadata.mtime_nsec()),
        (metadata.ctime(), metadata.ctime_nsec()),
    )
}

/// What a thread that panicked has left is whole: everything is replaced in one step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
