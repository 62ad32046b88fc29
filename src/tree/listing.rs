//! Listings: the canonical bytes of a changeset.
//!
//! A listing is what a changeset's digest covers, and what the store keeps so that two builds can
//! be compared file by file. Every field is typed and length-framed, numbers are little-endian:
//! two different changesets never have the same bytes. `design.md`, section 4.
//!
//! With [`Detail::Located`] it also says where each file's bytes lie in an uncompressed layer, and
//! every time: the form in which a base layer's index is kept. Reading a listing trusts nothing:
//! lengths are checked against the bytes at hand before memory is taken.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::oci::{Digest, Hasher};
use crate::tree::changeset::{Change, Changeset, HardLinks};
use crate::tree::entry::{
    BlobRange, Bytes, Content, DiskFile, Entry, File, FileStat, Inline, Inode, Node, Xattrs,
};
use crate::tree::path::LayerPath;

/// How much a listing says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What the changeset is: names, modes, owners, attributes, digests of contents.
    Identity,
    /// The same without the digests of contents: what can be said of files that nobody has read.
    Shape,
    /// Also times, and where each content lies. Contents must be in blobs or in memory.
    Located,
    /// The same for another process of this machine: contents may lie in files of a context.
    Local,
}

/// Why a listing could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListingError {
    /// A file of a context has not been read yet, so nothing can say what the changeset is.
    #[error("list {0}: its content has no digest yet")]
    Unread(LayerPath),
    /// The content lies in a file on disk, which a located listing cannot refer to.
    #[error("list {0}: its content is not in the store")]
    NotStored(LayerPath),
    /// The bytes are no listing of this version, or they are damaged.
    #[error("read a listing: damaged at byte {0}")]
    Damaged(usize),
    /// The bytes could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

const MAGIC_IDENTITY: &[u8] = b"boxwright changeset 1\n";
const MAGIC_SHAPE: &[u8] = b"boxwright changeset shape 1\n";
const MAGIC_LOCATED: &[u8] = b"boxwright layer index 1\n";
const MAGIC_LOCAL: &[u8] = b"boxwright tree 1\n";

const PUT: u8 = 1;
const OPAQUE: u8 = 2;
const OPAQUE_ALONE: u8 = 3;
const WHITEOUT: u8 = 4;

const FILE: u8 = 1;
const HARD_LINK: u8 = 2;
const DIRECTORY: u8 = 3;
const SYMLINK: u8 = 4;
const CHAR_DEVICE: u8 = 5;
const BLOCK_DEVICE: u8 = 6;
const FIFO: u8 = 7;

const IN_MEMORY: u8 = 1;
const IN_BLOB: u8 = 2;
const ON_DISK: u8 = 3;

impl Changeset {
    /// The digest of what changes: equal changesets have equal digests, on any machine.
    ///
    /// # Errors
    /// [`ListingError::Unread`] while a content's digest is not known.
    pub fn digest(&self) -> Result<Digest, ListingError> {
        self.digest_of(Detail::Identity)
    }

    /// The digest of what changes but for the bytes of files, of which only the lengths count.
    ///
    /// # Errors
    /// None that depend on the changeset.
    pub fn shape(&self) -> Result<Digest, ListingError> {
        self.digest_of(Detail::Shape)
    }

    fn digest_of(&self, detail: Detail) -> Result<Digest, ListingError> {
        let mut hasher = HasherSink(Hasher::new());
        self.write_listing(
            detail,
            &mut io::BufWriter::with_capacity(1 << 16, &mut hasher),
        )?;
        Ok(hasher.0.finish())
    }

    /// Writes the canonical bytes.
    ///
    /// # Errors
    /// A content without digest, for [`Detail::Located`] one outside the store, or `out` failing.
    pub fn write_listing(&self, detail: Detail, out: &mut impl Write) -> Result<(), ListingError> {
        let mut writer = Writer {
            out,
            detail,
            links: HardLinks::new(),
        };
        writer.out.write_all(match detail {
            Detail::Identity => MAGIC_IDENTITY,
            Detail::Shape => MAGIC_SHAPE,
            Detail::Located => MAGIC_LOCATED,
            Detail::Local => MAGIC_LOCAL,
        })?;
        writer.u64(self.len() as u64)?;
        for (path, change) in self.iter() {
            writer.bytes(path.as_bytes())?;
            match change {
                Change::Put(entry) => {
                    writer.u8(PUT)?;
                    writer.entry(path, entry)?;
                }
                Change::Opaque(Some(entry)) => {
                    writer.u8(OPAQUE)?;
                    writer.entry(path, entry)?;
                }
                Change::Opaque(None) => writer.u8(OPAQUE_ALONE)?,
                Change::Whiteout => writer.u8(WHITEOUT)?,
            }
        }
        writer.out.flush()?;
        Ok(())
    }

    /// Reads a listing with [`Detail::Located`]. The inodes of its files are numbered in `space`,
    /// which must differ for the layers of one tree: files of two layers are never hard links.
    ///
    /// # Errors
    /// [`ListingError::Damaged`] for anything that [`Changeset::write_listing`] did not write.
    pub fn read_listing(bytes: &[u8], space: u64) -> Result<Changeset, ListingError> {
        Changeset::read_as(MAGIC_LOCATED, bytes, space)
    }

    /// Reads a listing with [`Detail::Local`], which another process of this build has written.
    ///
    /// # Errors
    /// As [`Changeset::read_listing`].
    pub fn read_local(bytes: &[u8], space: u64) -> Result<Changeset, ListingError> {
        Changeset::read_as(MAGIC_LOCAL, bytes, space)
    }

    fn read_as(magic: &[u8], bytes: &[u8], space: u64) -> Result<Changeset, ListingError> {
        let mut reader = Reader {
            bytes,
            at: 0,
            named: HashMap::new(),
            space,
            files: 0,
        };
        reader.magic(magic)?;
        let count = reader.u64()?;
        let mut changes = Vec::new();
        let mut previous: Option<LayerPath> = None;
        for _ in 0..count {
            let path = reader.path()?;
            if previous.as_ref().is_some_and(|previous| *previous >= path) {
                return Err(reader.damaged());
            }
            let change = match reader.u8()? {
                PUT => Change::Put(reader.entry(&path)?),
                OPAQUE => Change::Opaque(Some(reader.entry(&path)?)),
                OPAQUE_ALONE => Change::Opaque(None),
                WHITEOUT => Change::Whiteout,
                _ => return Err(reader.damaged()),
            };
            previous = Some(path.clone());
            changes.push((path, change));
        }
        if reader.at != bytes.len() {
            return Err(reader.damaged());
        }
        Ok(changes.into_iter().collect())
    }
}

struct HasherSink(Hasher);

impl Write for HasherSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer<'a, W> {
    out: &'a mut W,
    detail: Detail,
    links: HardLinks<'a>,
}

impl<'a, W: Write> Writer<'a, W> {
    fn u8(&mut self, number: u8) -> io::Result<()> {
        self.out.write_all(&[number])
    }

    fn u32(&mut self, number: u32) -> io::Result<()> {
        self.out.write_all(&number.to_le_bytes())
    }

    fn u64(&mut self, number: u64) -> io::Result<()> {
        self.out.write_all(&number.to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.u64(bytes.len() as u64)?;
        self.out.write_all(bytes)
    }

    fn entry(&mut self, path: &'a LayerPath, entry: &'a Entry) -> Result<(), ListingError> {
        if let Some(earlier) = self.links.earlier_name(path, entry) {
            self.u8(HARD_LINK)?;
            return Ok(self.bytes(earlier.as_bytes())?);
        }
        match &entry.node {
            Node::File(file) => {
                self.u8(FILE)?;
                self.content(path, &file.content)?;
            }
            Node::Directory => self.u8(DIRECTORY)?,
            Node::Symlink(target) => {
                self.u8(SYMLINK)?;
                self.bytes(target)?;
            }
            Node::CharDevice(major, minor) => self.device(CHAR_DEVICE, *major, *minor)?,
            Node::BlockDevice(major, minor) => self.device(BLOCK_DEVICE, *major, *minor)?,
            Node::Fifo => self.u8(FIFO)?,
        }
        self.metadata(entry)
    }

    fn device(&mut self, kind: u8, major: u32, minor: u32) -> io::Result<()> {
        self.u8(kind)?;
        self.u32(major)?;
        self.u32(minor)
    }

    fn metadata(&mut self, entry: &Entry) -> Result<(), ListingError> {
        self.u32(u32::from(entry.mode))?;
        self.u32(entry.uid)?;
        self.u32(entry.gid)?;
        self.u64(entry.xattrs.iter().count() as u64)?;
        for (name, value) in entry.xattrs.iter() {
            self.bytes(name)?;
            self.bytes(value)?;
        }
        if matches!(self.detail, Detail::Located | Detail::Local) {
            self.out.write_all(&entry.mtime.to_le_bytes())?;
        }
        Ok(())
    }

    fn content(&mut self, path: &LayerPath, content: &Content) -> Result<(), ListingError> {
        self.u64(content.size())?;
        if self.detail == Detail::Shape {
            return Ok(());
        }
        let digest = content
            .digest()
            .ok_or_else(|| ListingError::Unread(path.clone()))?;
        self.out.write_all(digest.raw())?;
        match (self.detail, content) {
            (Detail::Identity | Detail::Shape, _) => {}
            (Detail::Located, Content::Disk(_)) => {
                return Err(ListingError::NotStored(path.clone()));
            }
            (Detail::Local, Content::Disk(file)) => {
                self.u8(ON_DISK)?;
                self.bytes(file.root.as_os_str().as_bytes())?;
                self.bytes(file.path.as_bytes())?;
                let stat = &file.stat;
                self.u64(stat.device)?;
                self.u64(stat.inode)?;
                self.out.write_all(&stat.mtime.to_le_bytes())?;
                self.out.write_all(&stat.ctime.to_le_bytes())?;
            }
            (Detail::Located | Detail::Local, Content::Inline(inline)) => {
                self.u8(IN_MEMORY)?;
                self.bytes(inline.bytes())?;
            }
            (Detail::Located | Detail::Local, Content::Blob(range)) => {
                self.u8(IN_BLOB)?;
                self.out.write_all(range.blob.raw())?;
                self.u64(range.offset)?;
            }
        }
        Ok(())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Files by path, for the hard links that name them.
    named: HashMap<LayerPath, Entry>,
    space: u64,
    files: u64,
}

impl<'a> Reader<'a> {
    fn damaged(&self) -> ListingError {
        ListingError::Damaged(self.at)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], ListingError> {
        let end = self
            .at
            .checked_add(count)
            .filter(|&end| end <= self.bytes.len());
        let taken = &self.bytes[self.at..end.ok_or_else(|| self.damaged())?];
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ListingError> {
        Ok(self
            .take(N)?
            .try_into()
            .expect("take returns as many bytes as asked for"))
    }

    fn magic(&mut self, magic: &[u8]) -> Result<(), ListingError> {
        if self.take(magic.len())? == magic {
            Ok(())
        } else {
            Err(ListingError::Damaged(0))
        }
    }

    fn u8(&mut self) -> Result<u8, ListingError> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, ListingError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, ListingError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn framed(&mut self) -> Result<&'a [u8], ListingError> {
        let length = usize::try_from(self.u64()?).map_err(|_| self.damaged())?;
        self.take(length)
    }

    fn path(&mut self) -> Result<LayerPath, ListingError> {
        let bytes = self.framed()?;
        match LayerPath::parse(bytes) {
            Ok(path) if path.as_bytes() == bytes => Ok(path),
            _ => Err(self.damaged()),
        }
    }

    fn entry(&mut self, path: &LayerPath) -> Result<Entry, ListingError> {
        let node = match self.u8()? {
            HARD_LINK => {
                let first = self.path()?;
                return self
                    .named
                    .get(&first)
                    .cloned()
                    .ok_or_else(|| self.damaged());
            }
            FILE => {
                let content = self.content()?;
                self.files += 1;
                let inode = Some(Inode {
                    space: self.space,
                    number: self.files,
                });
                Node::File(File { content, inode })
            }
            DIRECTORY => Node::Directory,
            SYMLINK => Node::Symlink(self.framed()?.into()),
            CHAR_DEVICE => Node::CharDevice(self.u32()?, self.u32()?),
            BLOCK_DEVICE => Node::BlockDevice(self.u32()?, self.u32()?),
            FIFO => Node::Fifo,
            _ => return Err(self.damaged()),
        };
        let entry = self.metadata(node)?;
        if entry.as_file().is_some() {
            self.named.insert(path.clone(), entry.clone());
        }
        Ok(entry)
    }

    fn metadata(&mut self, node: Node) -> Result<Entry, ListingError> {
        let mode = u16::try_from(self.u32()?)
            .ok()
            .filter(|mode| *mode <= 0o7777);
        let mode = mode.ok_or_else(|| self.damaged())?;
        let (uid, gid) = (self.u32()?, self.u32()?);
        let count = self.u64()?;
        let mut attributes: Vec<(Bytes, Bytes)> = Vec::new();
        for _ in 0..count {
            attributes.push((self.framed()?.into(), self.framed()?.into()));
        }
        let mtime = i64::from_le_bytes(self.array()?);
        let xattrs = Xattrs::from_iter(attributes);
        Ok(Entry {
            node,
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        })
    }

    fn content(&mut self) -> Result<Content, ListingError> {
        let size = self.u64()?;
        let digest = Digest::from_raw(self.array()?);
        match self.u8()? {
            IN_MEMORY => {
                let inline = Inline::new(self.framed()?.to_vec());
                let content = Content::Inline(Arc::new(inline));
                let intact = content.size() == size && content.digest() == Some(&digest);
                if intact {
                    Ok(content)
                } else {
                    Err(self.damaged())
                }
            }
            ON_DISK => {
                let root = OsStr::from_bytes(self.framed()?);
                let root: Arc<Path> = Path::new(root).into();
                let path = self.path()?;
                let stat = FileStat {
                    device: self.u64()?,
                    inode: self.u64()?,
                    size,
                    mtime: i128::from_le_bytes(self.array()?),
                    ctime: i128::from_le_bytes(self.array()?),
                };
                let file = DiskFile::new(root, path, stat);
                file.set_digest(digest);
                Ok(Content::Disk(Arc::new(file)))
            }
            IN_BLOB => {
                let blob = Digest::from_raw(self.array()?);
                let offset = self.u64()?;
                Ok(Content::Blob(BlobRange {
                    blob,
                    offset,
                    size,
                    digest,
                }))
            }
            _ => Err(self.damaged()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> LayerPath {
        LayerPath::parse(text.as_bytes()).unwrap()
    }

    fn linked(bytes: &str, number: u64) -> Entry {
        let mut entry = Entry::file(bytes, 0o644);
        if let Node::File(file) = &mut entry.node {
            file.inode = Some(Inode { space: 7, number });
        }
        entry
    }

    fn sample() -> Changeset {
        let xattr = ("user.a".as_bytes().into(), "1".as_bytes().into());
        let mut changes = Changeset::new();
        changes.put(
            path("d"),
            Entry {
                mtime: 5,
                ..Entry::directory(0o1777)
            },
        );
        changes.put(
            path("d/f"),
            Entry {
                xattrs: Xattrs::from_iter([xattr]),
                ..linked("x", 1)
            },
        );
        changes.put(path("d/g"), linked("y", 2));
        changes.put(path("d/h"), linked("y", 2));
        changes.put(path("l"), Entry::symlink(b"d/f\xff"));
        changes.put(
            path("n"),
            Entry {
                uid: 7,
                ..Entry::new(Node::CharDevice(1, 3), 0o666)
            },
        );
        changes.put(path("p"), Entry::new(Node::Fifo, 0o600));
        changes.hide_contents(path("o"));
        changes.remove(path("r"));
        changes
    }

    fn located(changes: &Changeset) -> Vec<u8> {
        let mut bytes = Vec::new();
        changes.write_listing(Detail::Located, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn located_listings_round_trip() {
        let changes = sample();
        let read = Changeset::read_listing(&located(&changes), 3).unwrap();
        assert_eq!(located(&read), located(&changes));
        assert_eq!(read.digest().unwrap(), changes.digest().unwrap());
        let inode = |text| read.entry(&path(text)).unwrap().as_file().unwrap().inode;
        assert_eq!(inode("d/g"), inode("d/h"));
        assert_ne!(inode("d/f"), inode("d/g"));
    }

    #[test]
    fn every_property_is_in_the_digest_but_the_time() {
        let digest = |entry: Entry| {
            let mut changes = Changeset::new();
            changes.put(path("f"), entry);
            changes.digest().unwrap()
        };
        let plain = || Entry::file("x", 0o644);
        let xattr = ("user.a".as_bytes().into(), "1".as_bytes().into());
        let variants = [
            Entry::file("y", 0o644),
            Entry {
                mode: 0o600,
                ..plain()
            },
            Entry { uid: 1, ..plain() },
            Entry { gid: 1, ..plain() },
            Entry {
                xattrs: Xattrs::from_iter([xattr]),
                ..plain()
            },
            Entry::symlink(b"x"),
            Entry::directory(0o644),
        ];
        for variant in variants {
            assert_ne!(digest(variant.clone()), digest(plain()), "{variant:?}");
        }
        assert_eq!(
            digest(Entry {
                mtime: 9,
                ..plain()
            }),
            digest(plain())
        );
    }

    #[test]
    fn separate_files_and_hard_links_differ() {
        let two = |second: u64| {
            let mut changes = Changeset::new();
            changes.put(path("a"), linked("x", 1));
            changes.put(path("b"), linked("x", second));
            changes.digest().unwrap()
        };
        assert_ne!(two(1), two(2));
    }

    proptest! {
        #[test]
        fn damaged_listings_are_refused_or_read_without_panic(at in 0usize..400, byte: u8, cut in 0usize..500) {
            let mut bytes = located(&sample());
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut.max(at + 1));
            let _ = Changeset::read_listing(&bytes, 0);
        }
    }
}
