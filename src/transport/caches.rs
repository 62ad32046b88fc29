//! Caches of commands ↔ one file, so that a machine that forgets everything keeps them.
//!
//! The file is a tar compressed by zstd, so that every machine can look into it:
//!
//! ```text
//! boxwright-caches           {"format":1}
//! caches/NAME/…              the files of each cache, sorted by path
//! boxwright-end              {"bytes":…,"entries":…}: without it the file is torn
//! ```
//!
//! The same caches give the same bytes. Times are the files' own: a cache whose times are not kept
//! makes tools do their work again, or not when they should. `crate::sandbox` says what else is
//! kept. Nothing of the machine is in it.
//!
//! **Export** writes to a temporary name beside the file; a cache that a command is using is waited
//! for. **Import** believes nothing: it takes only what an export writes, in its order, within the
//! bytes that it was allowed, and lets caches take their place when the last byte was found right.
//! A cache of the same name is replaced as a whole, never merged: of two states of a cache that a
//! tool keeps an index of, the union is neither.

mod archive;
mod error;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

pub use error::CacheError;

use crate::sandbox::{
    self, CacheEntry, CacheKind, Caches, Footing, HeldCache, Hold, SandboxSettings,
};
use crate::store::Store;
use crate::transport::caches::archive::{ArchiveReader, ArchiveWriter, Found};
use crate::transport::disk::{open_regular, persist, target_file, temporary_for};
use crate::tree::LayerPath;

/// Carries the caches of a store. Where their files belong to ids of a namespace, a process in it
/// reads and makes them.
#[derive(Debug)]
pub struct Carrier<'a> {
    /// The store; that it is open keeps `gc` away.
    pub store: &'a Store,
    /// How such a process is made.
    pub footing: &'a Footing,
    /// Where.
    pub settings: &'a SandboxSettings,
    /// How many bytes all files may have in all. Each counts as blocks of 4 KiB, one of them for
    /// its name.
    pub most: u64,
}

/// What is told while caches are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheEvent<'a> {
    /// Someone holds this cache, and is waited for.
    Waiting(&'a str),
    /// Something that a person should know.
    Note(&'a str),
}

/// One cache that was carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedCache {
    /// Its name.
    pub name: String,
    /// How many files and directories it has.
    pub entries: u64,
    /// Bytes of their contents.
    pub bytes: u64,
    /// Whether there was one of that name, which is gone.
    pub replaced: bool,
}

/// What is told, to whom.
pub type CacheObserver<'a> = &'a dyn Fn(CacheEvent<'_>);

impl Carrier<'_> {
    /// Writes the caches of these names, or all, to a file.
    ///
    /// # Errors
    /// A name that is no cache's; files that cannot be read; a full disk. The file is then as it
    /// was.
    pub fn export(
        &self,
        names: &[String],
        file: &Path,
        observer: CacheObserver<'_>,
    ) -> Result<Vec<CarriedCache>, CacheError> {
        let caches = self.caches()?;
        let there = caches.names().map_err(CacheError::io("list", file))?;
        let mut names: Vec<String> = match names {
            [] => there.clone(),
            names => names.to_vec(),
        };
        names.sort_unstable();
        names.dedup();
        if let Some(missing) = names.iter().find(|name| !there.contains(name)) {
            return Err(CacheError::NoSuchCache {
                name: missing.clone(),
                there,
            });
        }
        let (target, directory) = target_file(file)?;
        let temporary = temporary_for(&target, &directory)?;
        let written = |error| CacheError::io("write", file)(error);
        let mut archive = ArchiveWriter::new(temporary.as_file(), self.most).map_err(written)?;
        let mut carried = Vec::new();
        for name in &names {
            carried.push(self.export_one(&caches, name, file, &mut archive, observer)?);
        }
        archive.finish().map_err(written)?;
        persist(temporary, &target)?;
        Ok(carried)
    }

    fn export_one(
        &self,
        caches: &Caches,
        name: &str,
        file: &Path,
        archive: &mut ArchiveWriter<&File>,
        observer: CacheObserver<'_>,
    ) -> Result<CarriedCache, CacheError> {
        let _held = self.hold(caches, name, observer)?;
        let mut carried = CarriedCache {
            name: name.to_owned(),
            entries: 0,
            bytes: 0,
            replaced: false,
        };
        let mut failure = None;
        let read = sandbox::read_cache(
            &caches.path(name),
            self.footing,
            self.settings,
            &mut |entry, content| {
                carried.entries += 1;
                carried.bytes += entry.content_size();
                let added = archive.entry(name, entry, content);
                added.map_err(|error| remember(&mut failure, error))
            },
        );
        if let Some(error) = failure {
            return Err(error.into_written(file));
        }
        for note in read? {
            observer(CacheEvent::Note(&format!("cache {name}: {note}")));
        }
        Ok(carried)
    }

    /// Takes the caches out of a file. All of it is read before any takes its place.
    ///
    /// # Errors
    /// A file that is torn, or that no export wrote, or too large; a full disk. Every cache is then
    /// as it was.
    pub fn import(
        &self,
        file: &Path,
        observer: CacheObserver<'_>,
    ) -> Result<Vec<CarriedCache>, CacheError> {
        let opened = open_regular(file).map_err(CacheError::io("read", file))?;
        let missing = || CacheError::io("read", file)(io::ErrorKind::NotFound.into());
        let opened = BufReader::with_capacity(1 << 17, opened.ok_or_else(missing)?);
        let caches = self.caches()?;
        // Before a process is started for it.
        let mut archive = ArchiveReader::new(opened, self.most).map_err(|e| e.into_read(file))?;
        let (mut carried, mut held, mut failure) = (Vec::new(), Vec::new(), None);
        let made = sandbox::write_caches(self.footing, self.settings, &mut |feeder| {
            let read = take_all(&mut archive, &mut carried, &mut |entry, content| {
                feeder.entry(entry, content)
            });
            let held_all = read.map_err(|error| error.into_read(file)).and_then(|()| {
                for cache in &mut carried {
                    held.push(self.hold(&caches, &cache.name, observer)?);
                    cache.replaced = caches.path(&cache.name).is_dir();
                }
                Ok(())
            });
            held_all.map_err(|error| remember(&mut failure, error))?;
            for cache in &carried {
                feeder.place(&caches, &cache.name)?;
            }
            Ok(())
        });
        // What stopped the process that makes the files says more than that nobody listens to us.
        match (made, failure) {
            (Ok(notes), None) => {
                notes
                    .iter()
                    .for_each(|note| observer(CacheEvent::Note(note)));
                held.iter().for_each(HeldCache::mark_used);
                Ok(carried)
            }
            (_, Some(error)) if !error.is_about_our_process() => Err(error),
            (Err(error), _) => Err(error.into()),
            (Ok(_), Some(error)) => Err(error),
        }
    }

    fn caches(&self) -> Result<Caches, CacheError> {
        Caches::of(self.store.root()).map_err(CacheError::io("find", self.store.root()))
    }

    fn hold(
        &self,
        caches: &Caches,
        name: &str,
        observer: CacheObserver<'_>,
    ) -> Result<HeldCache, CacheError> {
        let waiting = || observer(CacheEvent::Waiting(name));
        let held = caches.hold(name, Hold::Alone, &waiting);
        held.map_err(CacheError::io("lock", &caches.path(name)))
    }
}

/// Keeps an error for whoever started what ends with it.
fn remember<E>(failure: &mut Option<E>, error: E) -> io::Error {
    failure.get_or_insert(error);
    io::Error::other("stopped")
}

/// Gives every file of an archive that is right to its end, and counts.
fn take_all(
    archive: &mut ArchiveReader,
    carried: &mut Vec<CarriedCache>,
    give: &mut dyn FnMut(&CacheEntry, &mut dyn Read) -> io::Result<()>,
) -> Result<(), archive::Failure> {
    loop {
        match archive.next()? {
            Found::Cache(name) => carried.push(CarriedCache {
                name,
                entries: 0,
                bytes: 0,
                replaced: false,
            }),
            Found::Entry(_) => {}
            Found::End => return Ok(()),
        }
        let entry = archive.entry();
        if let Some(carried) = carried.last_mut() {
            carried.entries += 1;
            carried.bytes += entry.content_size();
        }
        archive.give(give)?;
    }
}

/// Whether a further name and its file are in one cache.
fn is_within(entry: &CacheEntry) -> bool {
    let CacheKind::HardLink(first) = &entry.kind else {
        return true;
    };
    let cache = |path: &LayerPath| path.components().next().map(<[u8]>::to_vec);
    cache(first) == cache(&entry.path) && first < &entry.path
}

#[cfg(test)]
mod tests;
