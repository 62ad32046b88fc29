//! Tar headers, written by us: USTAR where it suffices, PAX where it does not.
//!
//! POSIX.1-2001 `pax`, sections "ustar Interchange Format" and "pax Header Block". Nothing of the
//! machine is in a header: owners are numbers, names of owners are empty, and there is one time
//! for all entries.

use crate::layer::error::LayerError;
use crate::tree::{Entry, LayerPath, Node};

/// The unit of a tar stream: headers and contents are filled up to a multiple of this.
pub(crate) const BLOCK: usize = 512;

/// The end of a tar stream: two blocks of zeros.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The prefix that makes a name a whiteout. OCI image spec, `layer.md`, "Whiteouts".
pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The name that makes a directory opaque.
pub(crate) const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

const OCTAL_7: u64 = 0o777_7777;
const OCTAL_11: u64 = 0o777_7777_7777;

/// How many zeros fill `size` bytes up to whole blocks.
pub(crate) fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// Appends the header of an entry. The content and its padding are the caller's, and only if there
/// is no `hard_link` target.
pub(crate) fn write_entry(
    out: &mut Vec<u8>,
    path: &LayerPath,
    entry: &Entry,
    hard_link: Option<&LayerPath>,
    mtime: u64,
) -> Result<(), LayerError> {
    let name = match path.name() {
        None => b"./".to_vec(),
        Some(name) if name.starts_with(WHITEOUT_PREFIX) => {
            return Err(LayerError::WhiteoutName(path.clone()));
        }
        Some(_) if entry.is_directory() => [path.as_bytes(), b"/"].concat(),
        Some(_) => path.as_bytes().to_vec(),
    };
    let mut fields = Fields {
        name: &name,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime,
        ..Fields::EMPTY
    };
    match (&entry.node, hard_link) {
        (_, Some(target)) => {
            fields.kind = b'1';
            fields.link = target.as_bytes();
        }
        (Node::File(file), None) => fields.size = file.content.size(),
        (Node::Directory, None) => fields.kind = b'5',
        (Node::Symlink(target), None) => {
            fields.kind = b'2';
            fields.link = target;
        }
        (Node::CharDevice(major, minor), None) => {
            fields.kind = b'3';
            fields.device = (*major, *minor);
        }
        (Node::BlockDevice(major, minor), None) => {
            fields.kind = b'4';
            fields.device = (*major, *minor);
        }
        (Node::Fifo, None) => fields.kind = b'6',
    }
    let mut records = Vec::new();
    // Attributes belong to the inode; its first name has brought them.
    if hard_link.is_none() {
        for (name, value) in entry.xattrs.iter() {
            push_record(&mut records, &[b"SCHILY.xattr.", name].concat(), value);
        }
    }
    fields.write(out, records);
    Ok(())
}

/// Appends the whiteout of `path`.
pub(crate) fn write_whiteout(out: &mut Vec<u8>, path: &LayerPath, mtime: u64) {
    let name = path.name().unwrap_or_default();
    write_marker(
        out,
        path.parent().unwrap_or_default(),
        &[WHITEOUT_PREFIX, name].concat(),
        mtime,
    );
}

/// Appends the marker that makes the directory `path` opaque.
pub(crate) fn write_opaque(out: &mut Vec<u8>, path: &LayerPath, mtime: u64) {
    write_marker(out, path.clone(), OPAQUE_NAME, mtime);
}

fn write_marker(out: &mut Vec<u8>, directory: LayerPath, name: &[u8], mtime: u64) {
    let name = match directory.is_root() {
        true => name.to_vec(),
        false => [directory.as_bytes(), b"/", name].concat(),
    };
    Fields {
        name: &name,
        mtime,
        ..Fields::EMPTY
    }
    .write(out, Vec::new());
}

/// What a header says of a file that keeps its own time.
pub(crate) struct Kept<'a> {
    pub(crate) name: &'a [u8],
    /// The type flag.
    pub(crate) kind: u8,
    pub(crate) link: &'a [u8],
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Seconds and nanoseconds.
    pub(crate) modified: (i64, u32),
    pub(crate) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// Appends such a header.
pub(crate) fn write_kept(out: &mut Vec<u8>, kept: &Kept<'_>) {
    let mut records = Vec::new();
    let whole = u64::try_from(kept.modified.0).ok();
    let whole = whole.filter(|_| kept.modified.1 == 0);
    if whole.is_none() {
        push_record(&mut records, b"mtime", pax_time(kept.modified).as_bytes());
    }
    for (name, value) in kept.xattrs {
        push_record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    let fields = Fields {
        name: kept.name,
        mode: kept.mode,
        uid: kept.uid,
        gid: kept.gid,
        size: kept.size,
        mtime: whole.unwrap_or(0),
        kind: kept.kind,
        link: kept.link,
        ..Fields::EMPTY
    };
    fields.write(out, records);
}

/// A time in decimal, below zero before 1970.
fn pax_time((seconds, nanos): (i64, u32)) -> String {
    match (seconds, nanos) {
        (seconds, 0) => seconds.to_string(),
        (..0, nanos) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
        (seconds, nanos) => format!("{seconds}.{nanos:09}"),
    }
}

/// What a header says.
struct Fields<'a> {
    name: &'a [u8],
    mode: u16,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: u64,
    kind: u8,
    link: &'a [u8],
    device: (u32, u32),
}

impl Fields<'_> {
    const EMPTY: Fields<'static> = Fields {
        name: b"",
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: 0,
        kind: b'0',
        link: b"",
        device: (0, 0),
    };

    /// Writes the PAX header, if anything needs one or `records` has something, and the header.
    fn write(&self, out: &mut Vec<u8>, mut records: Vec<u8>) {
        let fits_name = split_name(self.name).is_some();
        let mut extra = Vec::new();
        let needs_binary = |bytes: &[u8], fits: bool| !fits && std::str::from_utf8(bytes).is_err();
        if needs_binary(self.name, fits_name) || needs_binary(self.link, self.link.len() <= 100) {
            // POSIX: values are UTF-8 unless this says otherwise.
            push_record(&mut extra, b"hdrcharset", b"BINARY");
        }
        if !fits_name {
            push_record(&mut extra, b"path", self.name);
        }
        if self.link.len() > 100 {
            push_record(&mut extra, b"linkpath", self.link);
        }
        for (key, value, limit) in [
            ("size", self.size, OCTAL_11),
            ("uid", u64::from(self.uid), OCTAL_7),
            ("gid", u64::from(self.gid), OCTAL_7),
            ("mtime", self.mtime, OCTAL_11),
        ] {
            if value > limit {
                push_record(&mut extra, key.as_bytes(), value.to_string().as_bytes());
            }
        }
        extra.append(&mut records);
        if !extra.is_empty() {
            let size = extra.len() as u64;
            let pax = Fields {
                name: b"PaxHeader",
                mode: 0o644,
                size,
                mtime: self.mtime,
                kind: b'x',
                ..Fields::EMPTY
            };
            out.extend_from_slice(&pax.block());
            out.extend_from_slice(&extra);
            out.resize(out.len() + padding(size), 0);
        }
        out.extend_from_slice(&self.block());
    }

    fn block(&self) -> [u8; BLOCK] {
        let mut block = [0u8; BLOCK];
        let (prefix, name) = split_name(self.name).unwrap_or_else(|| (b"", &self.name[..100]));
        put(&mut block, 0, name);
        octal(&mut block[100..108], u64::from(self.mode), u64::MAX);
        octal(&mut block[108..116], u64::from(self.uid), OCTAL_7);
        octal(&mut block[116..124], u64::from(self.gid), OCTAL_7);
        octal(&mut block[124..136], self.size, OCTAL_11);
        octal(&mut block[136..148], self.mtime, OCTAL_11);
        block[148..156].fill(b' ');
        block[156] = self.kind;
        put(&mut block, 157, &self.link[..self.link.len().min(100)]);
        put(&mut block, 257, b"ustar\x0000");
        if matches!(self.kind, b'3' | b'4') {
            octal(&mut block[329..337], u64::from(self.device.0), OCTAL_7);
            octal(&mut block[337..345], u64::from(self.device.1), OCTAL_7);
        }
        put(&mut block, 345, prefix);
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        octal(&mut block[148..155], sum, u64::MAX);
        block[155] = b' ';
        block
    }
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Zero-filled octal with a final NUL. What does not fit stands in a PAX record and is zero here.
fn octal(field: &mut [u8], value: u64, limit: u64) {
    let mut value = if value > limit { 0 } else { value };
    let digits = field.len() - 1;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// USTAR's two fields for a name: a prefix of up to 155 bytes and up to 100 more after a slash.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((b"", name));
    }
    // The rest must not be empty, so a directory's final slash is no place to cut.
    let cuttable = &name[..name.len().saturating_sub(1)];
    memchr::memchr_iter(b'/', cuttable)
        .find(|&slash| slash > 0 && slash <= 155 && name.len() - slash - 1 <= 100)
        .map(|slash| (&name[..slash], &name[slash + 1..]))
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn push_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = 1 + key.len() + 1 + value.len() + 1;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;
    use crate::tree::{BlobRange, Content, File, Xattrs};

    fn path(bytes: &[u8]) -> LayerPath {
        LayerPath::parse(bytes).unwrap()
    }

    type Record = (String, Vec<u8>);

    /// What an independent reader finds in one header.
    fn read(bytes: &[u8]) -> (Vec<u8>, u64, u64, u64, Vec<Record>) {
        let mut archive = tar::Archive::new(bytes);
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        let records = entry
            .pax_extensions()
            .unwrap()
            .map_or_else(Vec::new, |records| {
                records
                    .map(|record| record.unwrap())
                    .map(|r| (r.key().unwrap().to_owned(), r.value_bytes().to_vec()))
                    .collect()
            });
        let header = entry.header();
        (
            entry.path_bytes().into_owned(),
            entry.size(),
            header.uid().unwrap(),
            header.mtime().unwrap(),
            records,
        )
    }

    fn written(path: &LayerPath, entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        write_entry(&mut out, path, entry, None, 7).unwrap();
        assert_eq!(out.len() % BLOCK, 0);
        out
    }

    #[test]
    fn names_of_every_length_survive() {
        for length in [1, 99, 100, 101, 155, 156, 200, 254, 255] {
            for depth in [1usize, 2, 15] {
                for byte in [b'a', 0xff] {
                    let name = vec![vec![byte; length]; depth].join(&b'/');
                    let path = path(&name);
                    let (read, ..) = read(&written(&path, &Entry::file("", 0o644)));
                    assert_eq!(read, name, "{length} x {depth}");
                    let mut directory = name.clone();
                    directory.push(b'/');
                    let bytes = written(&path, &Entry::directory(0o755));
                    let mut archive = tar::Archive::new(&bytes[..]);
                    let entry = archive.entries().unwrap().next().unwrap().unwrap();
                    assert_eq!(
                        entry.path_bytes().into_owned(),
                        directory,
                        "{length} x {depth}"
                    );
                }
            }
        }
    }

    #[test]
    fn numbers_that_do_not_fit_stand_in_pax() {
        let content = |size| {
            let digest = Digest::of(b"");
            Node::File(File {
                content: Content::Blob(BlobRange {
                    blob: digest,
                    offset: 0,
                    size,
                    digest,
                }),
                inode: None,
            })
        };
        let size = 9 << 30;
        let entry = Entry {
            uid: 3_000_000,
            ..Entry::new(content(size), 0o644)
        };
        let bytes = written(&path(b"big"), &entry);
        let (name, read_size, uid, mtime, records) = read(&bytes);
        assert_eq!(
            (name.as_slice(), read_size, uid, mtime),
            (&b"big"[..], size, 3_000_000, 7)
        );
        assert_eq!(
            records[0],
            ("size".to_owned(), size.to_string().into_bytes())
        );
    }

    #[test]
    fn attributes_are_schily_records() {
        // The `tar` crate ends a record at a newline in its value; our own reader does not.
        let value: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
        let xattrs = Xattrs::from_iter([(
            "security.capability".as_bytes().into(),
            value.clone().into(),
        )]);
        let (.., records) = read(&written(
            &path(b"f"),
            &Entry {
                xattrs,
                ..Entry::file("", 0o755)
            },
        ));
        assert_eq!(
            records,
            [("SCHILY.xattr.security.capability".to_owned(), value)]
        );
    }

    #[test]
    fn record_lengths_count_themselves() {
        for value in 0..2000 {
            let mut records = Vec::new();
            push_record(&mut records, b"k", &vec![b'x'; value]);
            let text = String::from_utf8(records).unwrap();
            let length: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(length, text.len());
        }
    }

    #[test]
    fn a_file_cannot_have_the_name_of_a_whiteout() {
        let error = write_entry(
            &mut Vec::new(),
            &path(b"a/.wh.b"),
            &Entry::file("", 0o644),
            None,
            0,
        );
        assert!(matches!(error, Err(LayerError::WhiteoutName(_))));
    }

    #[test]
    fn markers_stand_beside_and_inside() {
        let name_of = |write: fn(&mut Vec<u8>, &LayerPath, u64), at: &[u8]| {
            let mut out = Vec::new();
            write(&mut out, &path(at), 0);
            String::from_utf8(read(&out).0).unwrap()
        };
        assert_eq!(name_of(write_whiteout, b"a/b"), "a/.wh.b");
        assert_eq!(name_of(write_whiteout, b"a"), ".wh.a");
        assert_eq!(name_of(write_opaque, b"a/b"), "a/b/.wh..wh..opq");
    }
}
