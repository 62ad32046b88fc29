//! Entries: what stands at one path of a tree, and where a file's bytes lie.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::oci::Digest;
use crate::tree::path::LayerPath;

/// What stands at one path: kind, owner, mode, times and extended attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Directory, file, link or device.
    pub node: Node,
    /// Permission bits with setuid, setgid and sticky: the lower twelve bits of `st_mode`.
    /// Always `0o777` for symlinks, whose mode means nothing on Linux.
    pub mode: u16,
    /// Owner, always a number.
    pub uid: u32,
    /// Group, always a number.
    pub gid: u32,
    /// Modification time of base image entries, in seconds. Layers that we write carry one time
    /// for all entries, so this is not part of a changeset's digest.
    pub mtime: i64,
    /// Extended attributes that belong to the image (`user.*`, `security.capability`).
    pub xattrs: Xattrs,
}

/// The kind of an entry with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File(File),
    /// A directory.
    Directory,
    /// A symbolic link with its target, which may be any bytes.
    Symlink(Box<[u8]>),
    /// A character device with major and minor number.
    CharDevice(u32, u32),
    /// A block device with major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its bytes.
    pub content: Content,
    /// Present where the file may have further names: entries of one tree with equal inodes are
    /// hard links of each other.
    pub inode: Option<Inode>,
}

/// The identity of a file with several names. Numbers are arbitrary: only equality counts, and
/// only within one tree or changeset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode {
    /// What gave the number out: a device, a layer, a step.
    pub space: u64,
    /// The number.
    pub number: u64,
}

/// Bytes that need not be text: names and values of attributes.
pub type Bytes = Box<[u8]>;

/// Extended attributes by name, in order; most entries have none.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Xattrs(Option<Arc<BTreeMap<Bytes, Bytes>>>);

/// Where a file's bytes lie. Content is never moved before a layer is written.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory: small files that we generate, or that every build looks at (`/etc/passwd`).
    Inline(Arc<Inline>),
    /// In a file of a context.
    Disk(Arc<DiskFile>),
    /// In an uncompressed layer of the store.
    Blob(BlobRange),
}

/// Bytes in memory, with their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inline {
    bytes: Box<[u8]>,
    digest: Digest,
}

/// A file of a context as it was when the context was walked. Its digest is found when it is
/// first wanted, once for all stages and images that share the snapshot.
#[derive(Debug)]
pub struct DiskFile {
    /// The context's directory.
    pub root: Arc<Path>,
    /// The path below it.
    pub path: LayerPath,
    /// What the walk saw; reading checks that it still holds.
    pub stat: FileStat,
    digest: OnceLock<Digest>,
}

/// What tells one version of a file on disk from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStat {
    /// Device.
    pub device: u64,
    /// Inode number on the device.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Modification time in nanoseconds since the epoch.
    pub mtime: i128,
    /// Status change time in nanoseconds since the epoch; no user can set it.
    pub ctime: i128,
}

/// A range of an uncompressed layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRange {
    /// Digest of the uncompressed layer: a diff_id, seen as a blob.
    pub blob: Digest,
    /// Where the content begins.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
}

impl Entry {
    /// A directory of root's with this mode.
    pub fn directory(mode: u16) -> Entry {
        Entry::new(Node::Directory, mode)
    }

    /// A symbolic link of root's.
    pub fn symlink(target: &[u8]) -> Entry {
        Entry::new(Node::Symlink(target.into()), 0o777)
    }

    /// A file of root's with these bytes.
    pub fn file(bytes: impl Into<Vec<u8>>, mode: u16) -> Entry {
        let content = Content::Inline(Arc::new(Inline::new(bytes.into())));
        Entry::new(
            Node::File(File {
                content,
                inode: None,
            }),
            mode,
        )
    }

    /// An entry of root's without attributes, of the time 0.
    pub fn new(node: Node, mode: u16) -> Entry {
        Entry {
            node,
            mode,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: Xattrs::default(),
        }
    }

    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.node, Node::Directory)
    }

    /// The file, if this is one.
    pub fn as_file(&self) -> Option<&File> {
        match &self.node {
            Node::File(file) => Some(file),
            _ => None,
        }
    }
}

impl Content {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Content::Inline(inline) => inline.bytes.len() as u64,
            Content::Disk(file) => file.stat.size,
            Content::Blob(range) => range.size,
        }
    }

    /// The digest, if it is known already; only files of a context may not have been read yet.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Content::Inline(inline) => Some(&inline.digest),
            Content::Disk(file) => file.digest.get(),
            Content::Blob(range) => Some(&range.digest),
        }
    }
}

/// Contents are equal if their bytes are known to be: by their digests, or because they are one
/// version of one file.
impl PartialEq for Content {
    fn eq(&self, other: &Content) -> bool {
        match (self.digest(), other.digest()) {
            (Some(left), Some(right)) => left == right && self.size() == other.size(),
            _ => match (self, other) {
                (Content::Disk(left), Content::Disk(right)) => left.stat == right.stat,
                _ => false,
            },
        }
    }
}

impl Eq for Content {}

impl Inline {
    /// Takes the bytes and finds their digest.
    pub fn new(bytes: Vec<u8>) -> Inline {
        let digest = Digest::of(&bytes);
        Inline {
            bytes: bytes.into_boxed_slice(),
            digest,
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl DiskFile {
    /// A file that the walk saw and that has not been read.
    pub fn new(root: Arc<Path>, path: LayerPath, stat: FileStat) -> DiskFile {
        DiskFile {
            root,
            path,
            stat,
            digest: OnceLock::new(),
        }
    }

    /// The digest, if it is known.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.get()
    }

    /// Remembers the digest. The first one stays: two readers of one version agree.
    pub fn set_digest(&self, digest: Digest) {
        let _ = self.digest.set(digest);
    }

    /// The path on disk.
    pub fn full_path(&self) -> PathBuf {
        self.root.join(self.path.as_os_str())
    }
}

impl Xattrs {
    /// The attribute `name`.
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.as_ref()?.get(name).map(AsRef::as_ref)
    }

    /// All attributes in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0
            .iter()
            .flat_map(|map| map.iter().map(|(name, value)| (&**name, &**value)))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl FromIterator<(Bytes, Bytes)> for Xattrs {
    fn from_iter<I: IntoIterator<Item = (Bytes, Bytes)>>(attributes: I) -> Xattrs {
        let map: BTreeMap<_, _> = attributes.into_iter().collect();
        Xattrs((!map.is_empty()).then(|| Arc::new(map)))
    }
}

impl fmt::Debug for Xattrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (text(name), text(value))))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_equal_by_bytes_wherever_they_lie() {
        let inline = Entry::file("abc", 0o644).as_file().unwrap().content.clone();
        let range = |bytes: &[u8]| {
            Content::Blob(BlobRange {
                blob: Digest::of(b"layer"),
                offset: 512,
                size: bytes.len() as u64,
                digest: Digest::of(bytes),
            })
        };
        assert_eq!(inline, range(b"abc"));
        assert_ne!(inline, range(b"abd"));
    }

    #[test]
    fn an_unread_file_equals_only_itself_under_any_name() {
        let file = |name: &str, inode| {
            let stat = FileStat {
                device: 1,
                inode,
                size: 3,
                mtime: 4,
                ctime: 5,
            };
            let path = LayerPath::parse(name.as_bytes()).unwrap();
            Content::Disk(Arc::new(DiskFile::new(Path::new("/c").into(), path, stat)))
        };
        assert_eq!(file("f", 2), file("g", 2));
        assert_ne!(file("f", 2), file("f", 3));
    }

    #[test]
    fn xattrs_are_sorted_and_absent_when_empty() {
        let boxed = |text: &str| Box::<[u8]>::from(text.as_bytes());
        let xattrs =
            Xattrs::from_iter([(boxed("user.b"), boxed("2")), (boxed("user.a"), boxed("1"))]);
        let names: Vec<_> = xattrs.iter().map(|(name, _)| name.to_vec()).collect();
        assert_eq!(names, [b"user.a".to_vec(), b"user.b".to_vec()]);
        assert!(Xattrs::from_iter([]).is_empty());
    }
}
