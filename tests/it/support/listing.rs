//! What a directory or a layer holds, as text that can be compared, one entry a line:
//!
//! ```text
//! dir  0755 0:0 @0 app
//! file 0644 0:0 @0 app/main.js 15 sha256:5d4140…
//! hard 0644 0:0 @0 app/z -> app/main.js
//! link 0777 0:0 @0 app/current -> main.js
//! file 0755 0:0 @0 ping 9 sha256:2e7d2c… security.capability=01000002…
//! ```
//!
//! Names are escaped as in `tree_text`. Layers are read by the `tar` crate, not by the library
//! under test, in their own order; a directory is listed sorted by the bytes of its names.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// One entry of a directory or a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) kind: &'static str,
    pub(crate) path: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: Option<(u64, u64)>,
    pub(crate) mtime: Option<i64>,
    /// The target of a link.
    pub(crate) target: Option<Vec<u8>>,
    /// Size and digest of a file's content.
    pub(crate) content: Option<(u64, String)>,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

/// The entries, in the order of the layer or sorted by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) rows: Vec<Row>,
}

impl Listing {
    /// What lies below `root`, without `root` itself. Hard links are shown as such: the first
    /// path of an inode is the file, later ones link to it.
    pub(crate) fn of_directory(root: &Path) -> Listing {
        let (mut rows, mut inodes) = (Vec::new(), BTreeMap::new());
        // The names still to be seen, the next one last: no recursion, for trees of any depth.
        let mut names = children(root, Path::new(""));
        while let Some(path) = names.pop() {
            let row = row_of_file(root, &path, &mut inodes);
            if row.kind == "dir" {
                names.extend(children(root, &path));
            }
            rows.push(row);
        }
        Listing { rows }
    }

    /// What a layer holds: plain, gzip or zstd, known by its first bytes.
    pub(crate) fn of_layer(layer: impl Read) -> Listing {
        let mut archive = tar::Archive::new(decompressed(layer));
        let entries = archive.entries().expect("read a layer");
        let rows = entries
            .map(|e| row_of(e.expect("read a layer entry")))
            .collect();
        Listing { rows }
    }

    /// The same without modification times.
    pub(crate) fn without_times(mut self) -> Listing {
        self.rows.iter_mut().for_each(|row| row.mtime = None);
        self
    }

    /// The same without owners.
    pub(crate) fn without_owners(mut self) -> Listing {
        self.rows.iter_mut().for_each(|row| row.owner = None);
        self
    }

    /// The same sorted by the bytes of the paths.
    pub(crate) fn sorted(mut self) -> Listing {
        self.rows.sort_by(|a, b| a.path.cmp(&b.path));
        self
    }

    /// The paths alone, as text.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.rows.iter().map(|row| escaped(&row.path)).collect()
    }

    /// The row of `path`.
    #[track_caller]
    pub(crate) fn row(&self, path: &str) -> &Row {
        let found = self.rows.iter().find(|row| row.path == path.as_bytes());
        found.unwrap_or_else(|| panic!("{path:?} is not among\n{self}"))
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4} {:04o}", self.kind, self.mode)?;
        if let Some((uid, gid)) = self.owner {
            write!(f, " {uid}:{gid}")?;
        }
        if let Some(mtime) = self.mtime {
            write!(f, " @{mtime}")?;
        }
        write!(f, " {}", escaped(&self.path))?;
        if let Some(target) = &self.target {
            write!(f, " -> {}", escaped(target))?;
        }
        if let Some((size, digest)) = &self.content {
            write!(f, " {size} {}", digest.get(..13).unwrap_or(digest))?;
        }
        self.xattrs
            .iter()
            .try_for_each(|(key, value)| write!(f, " {key}={}", escaped(value)))
    }
}

/// The entries of a directory, as paths below `root`, the last one first.
fn children(root: &Path, below: &Path) -> Vec<PathBuf> {
    let directory = fs::read_dir(root.join(below)).expect("list a directory");
    let mut names: Vec<_> = directory
        .map(|entry| below.join(entry.expect("list a directory").file_name()))
        .collect();
    names.sort_by(|a, b| b.as_os_str().cmp(a.as_os_str()));
    names
}

fn row_of_file(root: &Path, path: &Path, inodes: &mut BTreeMap<(u64, u64), Vec<u8>>) -> Row {
    let full = root.join(path);
    let meta = fs::symlink_metadata(&full).expect("stat a file");
    let bytes = path.as_os_str().as_bytes().to_vec();
    let mut row = Row {
        kind: kind_of(&meta),
        mode: meta.mode() & 0o7777,
        owner: Some((meta.uid().into(), meta.gid().into())),
        mtime: Some(meta.mtime()),
        target: None,
        content: None,
        xattrs: xattrs_of(&full),
        path: bytes.clone(),
    };
    if meta.is_symlink() {
        let target = fs::read_link(&full).expect("read a link");
        row.target = Some(target.into_os_string().into_vec());
    } else if let Some(first) = inodes.get(&(meta.dev(), meta.ino())) {
        (row.kind, row.target) = ("hard", Some(first.clone()));
    } else if meta.is_file() {
        inodes.insert((meta.dev(), meta.ino()), bytes);
        row.content = Some(content_of(File::open(&full).expect("open a file")));
    }
    row
}

fn kind_of(meta: &fs::Metadata) -> &'static str {
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "link",
        () if kind.is_fifo() => "fifo",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "blk",
        () if kind.is_socket() => "sock",
        () => "file",
    }
}

fn xattrs_of(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(cause) => panic!(
            "failed to list the attributes of {}: {cause}",
            path.display()
        ),
    };
    let names = names[..length]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]);
            value.truncate(length.expect("read an attribute"));
            (escaped(name), value)
        })
        .collect()
}

/// Bytes behind a gzip, zstd or no compression.
pub(crate) fn decompressed<'a>(bytes: impl Read + 'a) -> Box<dyn Read + 'a> {
    let mut bytes = BufReader::new(bytes);
    match bytes.fill_buf().expect("read a blob") {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::Decoder::with_buffer(bytes).expect("open a zstd blob"))
        }
        _ => Box::new(bytes),
    }
}

fn row_of(mut entry: tar::Entry<'_, impl Read>) -> Row {
    let pax = pax_of(&mut entry);
    let number = |key: &str| {
        pax.get(key)
            .and_then(|v| std::str::from_utf8(v).ok()?.parse().ok())
    };
    let header = entry.header();
    let kind = match header.entry_type() {
        tar::EntryType::Directory => "dir",
        tar::EntryType::Symlink => "link",
        tar::EntryType::Link => "hard",
        tar::EntryType::Fifo => "fifo",
        tar::EntryType::Char => "char",
        tar::EntryType::Block => "blk",
        _ => "file",
    };
    let mtime = pax
        .get("mtime")
        .and_then(|v| std::str::from_utf8(v).ok()?.parse::<f64>().ok());
    let mut row = Row {
        kind,
        path: entry.path_bytes().into_owned(),
        mode: header.mode().expect("a mode"),
        owner: Some((
            number("uid").unwrap_or_else(|| header.uid().expect("an owner")),
            number("gid").unwrap_or_else(|| header.gid().expect("a group")),
        )),
        mtime: Some(mtime.map_or_else(|| header.mtime().expect("a time") as i64, |m| m as i64)),
        target: entry.link_name_bytes().map(|target| target.into_owned()),
        content: None,
        xattrs: BTreeMap::new(),
    };
    for (key, value) in pax {
        if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
            row.xattrs.insert(name.to_owned(), value);
        }
    }
    if row.kind == "dir" {
        row.path = row
            .path
            .strip_suffix(b"/")
            .map_or(row.path.clone(), <[u8]>::to_vec);
    }
    row.content = (row.kind == "file").then(|| content_of(entry));
    row
}

fn pax_of(entry: &mut tar::Entry<'_, impl Read>) -> BTreeMap<String, Vec<u8>> {
    let Some(extensions) = entry.pax_extensions().expect("read a PAX header") else {
        return BTreeMap::new();
    };
    extensions
        .map(|e| e.expect("read a PAX record"))
        .map(|e| (escaped(e.key_bytes()), e.value_bytes().to_vec()))
        .collect()
}

/// Size and `sha256:…` of everything `content` gives.
pub(crate) fn content_of(mut content: impl Read) -> (u64, String) {
    let (mut hasher, mut size) = (Sha256::new(), 0);
    let mut block = vec![0; 1 << 16];
    loop {
        match content.read(&mut block).expect("read content") {
            0 => return (size, format!("sha256:{}", hex(&hasher.finalize()))),
            length => {
                hasher.update(&block[..length]);
                size += length as u64;
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes as printable ASCII, the others as `\xNN`; a space stays a space.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b' '..=b'~' => text.push(byte.into()),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

#[test]
fn a_tree_written_as_text_is_listed_as_written() {
    let dir = tempfile::tempdir().expect("a folder");
    super::tree_text::write(
        dir.path(),
        r"
        dir 0750 app
        file 0644 app/main.js hello\n
        sparse 0600 app/hole 3
        link app/current -> main.js
        hardlink app/z\xff\x20z -> app/main.js
        fifo 0644 app/pipe
        time app 1700000000
        ",
    );
    let listing = Listing::of_directory(dir.path());
    assert_eq!(listing.row("app").mtime, Some(1_700_000_000));
    insta::assert_snapshot!(listing.without_times().without_owners(), @r"
    dir  0750 app
    link 0777 app/current -> main.js
    file 0600 app/hole 3 sha256:709e80
    file 0644 app/main.js 6 sha256:5891b5
    fifo 0644 app/pipe
    hard 0644 app/z\xff z -> app/main.js
    ");
}

#[test]
fn attributes_are_written_and_listed() {
    use super::peers::{Skip, peer};
    let dir = tempfile::tempdir().expect("a folder");
    super::tree_text::write(dir.path(), "file 0644 a");
    let flags = rustix::fs::XattrFlags::empty();
    let probe = rustix::fs::lsetxattr(dir.path().join("a"), "user.probe", b"", flags);
    peer!(probe.map_err(|_| Skip::because("no user attributes on this file system")));
    super::tree_text::write(dir.path(), r"xattr a user.note a\x00\nb");
    let listing = Listing::of_directory(dir.path());
    let listing = listing.without_times().without_owners().to_string();
    assert_eq!(
        listing,
        "file 0644 a 0 sha256:e3b0c4 user.note=a\\x00\\nb user.probe=\n"
    );
}
