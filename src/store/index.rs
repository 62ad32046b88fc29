//! The file index: what was known of the files of a context when it was last read.
//!
//! It is git's index without the tree: path, identity and times of a file, and the digest and
//! attributes that its content had. A file whose identity, size and times are unchanged need not be
//! read again. As in git, that is trusted only where a change could not have gone unseen: an entry
//! is not kept while its times are younger than the granularity of file systems before the moment
//! it was read (`racy-git.txt`), for a second change within one tick would leave no trace.

use std::collections::HashMap;
use std::io::Write;
use std::time::SystemTime;

use crate::oci::Digest;
use crate::store::blobs::Store;
use crate::store::error::StoreError;
use crate::tree::{FileStat, LayerPath, Xattrs};

/// What a file held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Digest of its bytes; `None` where only its attributes have been looked at.
    pub digest: Option<Digest>,
    /// Its attributes, as far as they belong to an image.
    pub xattrs: Xattrs,
}

/// The index of one context, as an earlier build left it.
#[derive(Debug, Default)]
pub struct FileIndex {
    bytes: Vec<u8>,
    /// Where each path's entry is.
    places: HashMap<u64, usize>,
    count: usize,
}

/// Tells files that can be told from their later versions from those that are too young for it.
#[derive(Debug, Clone, Copy)]
pub struct Settled(i128);

/// Collects what a build has found out.
#[derive(Debug)]
pub struct IndexBuilder {
    settled: Settled,
    bytes: Vec<u8>,
    count: u64,
}

const MAGIC: &[u8] = b"boxwright file index 1\n";

/// Two seconds, the coarsest granularity of times that file systems in use have (FAT), and well
/// above the few milliseconds of Linux's own.
const GRANULARITY: i128 = 2_000_000_000;

/// Device, inode, size: 8 bytes each; two times of 16; the digest with a flag.
const FIXED: usize = 3 * 8 + 2 * 16 + 1 + 32;

impl FileIndex {
    /// The index kept under `context`; empty if there is none or it is damaged.
    ///
    /// # Errors
    /// The file system failing otherwise than by not having the file.
    pub fn load(store: &Store, context: &Digest) -> Result<FileIndex, StoreError> {
        let path = store.root().join("index").join(context.hex());
        match std::fs::read(&path) {
            Ok(bytes) => Ok(FileIndex::open(bytes).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(FileIndex::default()),
            Err(error) => Err(StoreError::io("read", &path)(error)),
        }
    }

    fn open(bytes: Vec<u8>) -> Option<FileIndex> {
        let (body, checksum) = bytes.split_last_chunk::<8>()?;
        if crc(body).to_le_bytes() != *checksum {
            return None;
        }
        let mut at = MAGIC.len();
        let count = u64::from_le_bytes(body.strip_prefix(MAGIC)?.first_chunk::<8>().copied()?);
        at += 8;
        let mut places =
            HashMap::with_capacity(usize::try_from(count).ok()?.min(body.len() / FIXED));
        for _ in 0..count {
            let entry = Entry::read(body, at)?;
            places.insert(hash(entry.path), at);
            at = entry.end;
        }
        let count = places.len();
        (at == body.len()).then_some(FileIndex {
            bytes,
            places,
            count,
        })
    }

    /// Number of files that are known.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What the file at `path` held, if it still is the file that was read.
    pub fn lookup(&self, path: &LayerPath, stat: &FileStat) -> Option<Known> {
        let at = *self.places.get(&hash(path.as_bytes()))?;
        let entry = Entry::read(&self.bytes, at)?;
        (entry.path == path.as_bytes() && entry.stat == *stat).then(|| entry.known())
    }
}

impl Settled {
    /// `now` is a time before files were read, by the clock that stamps them.
    pub fn before(now: SystemTime) -> Settled {
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        // A clock before 1970 trusts no file at all.
        Settled(now.map_or(0, |age| age.as_nanos().cast_signed()))
    }

    /// Whether a later version of this file would differ in its times.
    pub fn holds(self, stat: &FileStat) -> bool {
        stat.mtime.max(stat.ctime) + GRANULARITY <= self.0
    }
}

impl IndexBuilder {
    /// An empty index. `now` is a time before the walk began, by the clock that stamps the files.
    pub fn new(now: SystemTime) -> IndexBuilder {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[0; 8]);
        IndexBuilder {
            settled: Settled::before(now),
            bytes,
            count: 0,
        }
    }

    /// Adds what the file at `path` holds, unless it is too young to be told from a later version.
    /// Returns whether it was added.
    pub fn add(&mut self, path: &LayerPath, stat: &FileStat, known: &Known) -> bool {
        if !self.settled.holds(stat) {
            return false;
        }
        let bytes = &mut self.bytes;
        put(bytes, path.as_bytes());
        for number in [stat.device, stat.inode, stat.size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for time in [stat.mtime, stat.ctime] {
            bytes.extend_from_slice(&time.to_le_bytes());
        }
        bytes.push(u8::from(known.digest.is_some()));
        bytes.extend_from_slice(
            known
                .digest
                .as_ref()
                .map_or(&[0; 32][..], |digest| digest.raw()),
        );
        bytes.extend_from_slice(&(known.xattrs.iter().count() as u32).to_le_bytes());
        for (name, value) in known.xattrs.iter() {
            put(bytes, name);
            put(bytes, value);
        }
        self.count += 1;
        true
    }

    /// Number of files that were added.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Keeps the index under `context`, in the place of an earlier one.
    ///
    /// # Errors
    /// The file system failing; the earlier index stays then.
    pub fn save(mut self, store: &Store, context: &Digest) -> Result<(), StoreError> {
        self.bytes[MAGIC.len()..MAGIC.len() + 8].copy_from_slice(&self.count.to_le_bytes());
        let checksum = crc(&self.bytes);
        self.bytes.extend_from_slice(&checksum.to_le_bytes());
        let path = store.root().join("index").join(context.hex());
        store.write_checked(&path, |file| file.write_all(&self.bytes))
    }
}

/// One file of an index, in place.
struct Entry<'a> {
    path: &'a [u8],
    stat: FileStat,
    digest: Option<Digest>,
    attributes: &'a [u8],
    attribute_count: u32,
    end: usize,
}

impl<'a> Entry<'a> {
    fn read(bytes: &'a [u8], at: usize) -> Option<Entry<'a>> {
        let rest = bytes.get(at..)?;
        let (path, rest) = take(rest)?;
        let (fixed, rest) = rest.split_at_checked(FIXED)?;
        let number = |at: usize| Some(u64::from_le_bytes(fixed.get(at..at + 8)?.try_into().ok()?));
        let time = |at: usize| {
            Some(i128::from_le_bytes(
                fixed.get(at..at + 16)?.try_into().ok()?,
            ))
        };
        let stat = FileStat {
            device: number(0)?,
            inode: number(8)?,
            size: number(16)?,
            mtime: time(24)?,
            ctime: time(40)?,
        };
        let digest = Digest::from_raw(fixed[57..].try_into().ok()?);
        let (count, mut rest) = rest.split_first_chunk::<4>()?;
        let attribute_count = u32::from_le_bytes(*count);
        let attributes = rest;
        for _ in 0..2 * u64::from(attribute_count) {
            rest = take(rest)?.1;
        }
        let end = bytes.len() - rest.len();
        let digest = (fixed[56] == 1).then_some(digest);
        Some(Entry {
            path,
            stat,
            digest,
            attributes,
            attribute_count,
            end,
        })
    }

    fn known(&self) -> Known {
        let mut rest = self.attributes;
        let mut next = || {
            let (taken, after) = take(rest)?;
            rest = after;
            Some(Box::from(taken))
        };
        let attributes = (0..self.attribute_count).map_while(|_| next().zip(next()));
        Known {
            digest: self.digest,
            xattrs: attributes.collect(),
        }
    }
}

fn put(bytes: &mut Vec<u8>, framed: &[u8]) {
    bytes.extend_from_slice(&(framed.len() as u32).to_le_bytes());
    bytes.extend_from_slice(framed);
}

fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Guards against damage, not against malice: whoever can write here can write anything.
fn crc(bytes: &[u8]) -> u64 {
    u64::from(crc32fast::hash(bytes)) | (bytes.len() as u64) << 32
}

/// Paths are found by a hash and compared in full, so a collision only costs a reading.
fn hash(path: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    hasher.write(path);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i128 = 1_000_000_000_000;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000)
    }

    fn path(text: &str) -> LayerPath {
        LayerPath::parse(text.as_bytes()).unwrap()
    }

    fn stat(inode: u64, time: i128) -> FileStat {
        FileStat {
            device: 1,
            inode,
            size: 5,
            mtime: time,
            ctime: time,
        }
    }

    fn known(text: &str) -> Known {
        let xattrs = [("user.a".as_bytes().into(), text.as_bytes().into())];
        Known {
            digest: Some(Digest::of(text.as_bytes())),
            xattrs: xattrs.into_iter().collect(),
        }
    }

    fn saved(store: &Store, entries: &[(&str, FileStat)]) -> FileIndex {
        let context = Digest::of(b"context");
        let mut builder = IndexBuilder::new(now());
        for (text, stat) in entries {
            builder.add(&path(text), stat, &known(text));
        }
        builder.save(store, &context).unwrap();
        FileIndex::load(store, &context).unwrap()
    }

    #[test]
    fn only_the_file_that_was_read_is_known() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(scratch.path()).unwrap();
        let old = stat(7, 1);
        let index = saved(&store, &[("a/b", old), ("c", stat(8, 1))]);
        assert_eq!(index.len(), 2);
        assert_eq!(index.lookup(&path("a/b"), &old), Some(known("a/b")));
        for other in [
            FileStat { device: 2, ..old },
            FileStat { inode: 9, ..old },
            FileStat { size: 6, ..old },
            FileStat { mtime: 2, ..old },
            FileStat { ctime: 2, ..old },
        ] {
            assert_eq!(index.lookup(&path("a/b"), &other), None);
        }
        assert_eq!(index.lookup(&path("b"), &old), None);
    }

    #[test]
    fn what_is_too_young_is_not_trusted() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(scratch.path()).unwrap();
        let young = stat(1, NOW - 1_000_000);
        let future = FileStat {
            mtime: 0,
            ctime: NOW + 1,
            ..young
        };
        let old = stat(1, NOW - GRANULARITY);
        let index = saved(
            &store,
            &[("young", young), ("future", future), ("old", old)],
        );
        assert_eq!(index.lookup(&path("young"), &young), None);
        assert_eq!(index.lookup(&path("future"), &future), None);
        assert_eq!(index.lookup(&path("old"), &old), Some(known("old")));
    }

    #[test]
    fn a_damaged_index_is_an_empty_one() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(scratch.path()).unwrap();
        saved(&store, &[("a", stat(1, 1)), ("b", stat(2, 1))]);
        let context = Digest::of(b"context");
        let file = store.root().join("index").join(context.hex());
        let whole = std::fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x11;
            std::fs::write(&file, &bytes).unwrap();
            assert!(
                FileIndex::load(&store, &context).unwrap().is_empty(),
                "{at}"
            );
            std::fs::write(&file, &whole[..at]).unwrap();
            assert!(
                FileIndex::load(&store, &context).unwrap().is_empty(),
                "{at}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&body);
            let checksum = crc(&bytes).to_le_bytes();
            bytes.extend_from_slice(&checksum);
            let _ = FileIndex::open(bytes);
        }
    }
}
