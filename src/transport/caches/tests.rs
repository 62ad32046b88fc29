//! The archive, written by us and by others.

use super::archive::Failure;
use super::*;
use crate::layer::Compression;
use crate::layer::codec::FrameEncoder;
use crate::layer::header::{END, Kept, padding, write_kept};
use crate::oci::Codec;

const MOST: u64 = 1 << 30;

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

fn entry(at: &str, kind: CacheKind) -> CacheEntry {
    CacheEntry {
        path: path(at),
        kind,
        mode: 0o750,
        uid: 33,
        gid: 3_000_000,
        modified: (1_700_000_000, 1),
        xattrs: vec![(b"user.a".to_vec(), b"1\n2".to_vec())],
    }
}

/// One of everything, with the content of the files.
fn files() -> Vec<(CacheEntry, Vec<u8>)> {
    let long = format!("d/{}", "n".repeat(250));
    let mut files = vec![
        (entry("", CacheKind::Directory), Vec::new()),
        (entry("d", CacheKind::Directory), Vec::new()),
        (entry("d/f", CacheKind::File(3_000_000)), vec![7; 3_000_000]),
        (entry(&long, CacheKind::File(0)), Vec::new()),
        (entry("e", CacheKind::HardLink(path("d/f"))), Vec::new()),
        (
            entry("l", CacheKind::Symlink(b"../../x".to_vec())),
            Vec::new(),
        ),
    ];
    // Attributes belong to files and directories.
    for at in [4, 5] {
        files[at].0.xattrs.clear();
    }
    for (at, time) in [
        (0, (0, 0)),
        (1, (-2, 500_000_000)),
        (3, (-1, 0)),
        (5, (1 << 40, 0)),
    ] {
        files[at].0.modified = time;
    }
    files
}

/// A source that gives a byte at a time, or all at once.
struct Drops<'a>(&'a [u8], usize);

impl Read for Drops<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(buffer.len()).min(self.0.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

fn written(step: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = ArchiveWriter::new(&mut bytes, MOST).unwrap();
    for name in ["npm", "pip"] {
        for (entry, content) in files() {
            archive
                .entry(name, &entry, &mut Drops(&content, step))
                .unwrap();
        }
    }
    archive.finish().unwrap();
    bytes
}

/// Everything in an archive that is right to its end.
fn read(bytes: &[u8], most: u64) -> Result<Vec<(CacheEntry, Vec<u8>)>, Failure> {
    let source = io::Cursor::new(bytes.to_vec());
    let mut archive = ArchiveReader::new(source, most)?;
    let (mut found, mut carried) = (Vec::new(), Vec::new());
    take_all(&mut archive, &mut carried, &mut |entry, content| {
        let mut bytes = Vec::new();
        content.take(entry.content_size()).read_to_end(&mut bytes)?;
        found.push((entry.clone(), bytes));
        Ok(())
    })?;
    let count: u64 = carried.iter().map(|cache| cache.entries).sum();
    assert_eq!(count, found.len() as u64);
    Ok(found)
}

#[test]
fn what_is_written_is_read() {
    let bytes = written(usize::MAX);
    let found = read(&bytes, MOST).unwrap();
    let full =
        |name: &str, path: &LayerPath| LayerPath::parse(name.as_bytes()).unwrap().join_path(path);
    let expected = ["npm", "pip"].iter().flat_map(|name| {
        files().into_iter().map(|(mut entry, content)| {
            entry.path = full(name, &entry.path);
            if let CacheKind::HardLink(first) = &mut entry.kind {
                *first = full(name, first);
            }
            (entry, content)
        })
    });
    assert_eq!(found, expected.collect::<Vec<_>>());
    assert_eq!(written(1 << 15), bytes, "the sizes of reads show");
}

#[test]
fn what_is_torn_or_damaged_is_refused() {
    let bytes = written(usize::MAX);
    for length in (0..bytes.len())
        .step_by(7)
        .chain(bytes.len() - 20..bytes.len())
    {
        assert!(
            read(&bytes[..length], MOST).is_err(),
            "{length} bytes were taken"
        );
    }
    for at in (0..bytes.len()).step_by(11) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        if let Ok(found) = read(&damaged, MOST) {
            // Bits of a frame's header that mean nothing to a reader.
            assert_eq!(found, read(&bytes, MOST).unwrap(), "byte {at}");
        }
    }
}

/// A tar of these entries between our head and an end that fits.
struct Forged {
    tar: Vec<u8>,
    entries: u64,
    bytes: u64,
}

impl Forged {
    fn new() -> Forged {
        let mut forged = Forged {
            tar: Vec::new(),
            entries: 0,
            bytes: 0,
        };
        forged.raw(b"boxwright-caches", b'0', b"", b"{\"format\":1}");
        forged
    }

    fn raw(&mut self, name: &[u8], kind: u8, link: &[u8], content: &[u8]) {
        let size = content.len() as u64;
        let kept = Kept {
            name,
            kind,
            link,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size,
            modified: (0, 0),
            xattrs: &[],
        };
        write_kept(&mut self.tar, &kept);
        self.tar.extend_from_slice(content);
        self.tar.extend_from_slice(&END[..padding(size)]);
    }

    fn add(mut self, name: &str, kind: u8, link: &str) -> Forged {
        let content: &[u8] = if kind == b'0' { b"content" } else { b"" };
        self.raw(name.as_bytes(), kind, link.as_bytes(), content);
        self.entries += 1;
        self.bytes += content.len() as u64;
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let foot = format!("{{\"bytes\":{},\"entries\":{}}}", self.bytes, self.entries);
        self.raw(b"boxwright-end", b'0', b"", foot.as_bytes());
        self.tar.extend_from_slice(&END);
        packed(&self.tar)
    }
}

fn packed(tar: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = FrameEncoder::new(Compression::default_of(Codec::Zstd)).unwrap();
    encoder.encode(tar, &mut out).unwrap();
    out
}

#[test]
fn only_what_an_export_writes_is_taken() {
    let cache = || Forged::new().add("caches/a/", b'5', "");
    read(&cache().add("caches/a/f", b'0', "").finish(), MOST).unwrap();
    read(&Forged::new().finish(), MOST).unwrap();
    for (what, forged) in [
        ("climbing", cache().add("caches/a/../../x", b'0', "")),
        ("climbing at once", cache().add("../x", b'0', "")),
        ("absolute", cache().add("/etc/passwd", b'0', "")),
        ("beside", cache().add("blobs/x", b'0', "")),
        (
            "no cache's directory",
            Forged::new()
                .add("caches/a/f", b'0', "")
                .add("caches/b", b'0', ""),
        ),
        ("a file as a cache", Forged::new().add("caches/a", b'0', "")),
        (
            "a hidden cache",
            Forged::new().add("caches/.locks/", b'5', ""),
        ),
        ("all caches", Forged::new().add("caches/", b'5', "")),
        ("a device", cache().add("caches/a/d", b'3', "")),
        ("a disk", cache().add("caches/a/d", b'4', "")),
        ("a pipe", cache().add("caches/a/p", b'6', "")),
        (
            "a name of a file outside",
            cache().add("caches/a/l", b'1', "/etc/passwd"),
        ),
        (
            "a name that climbs",
            cache().add("caches/a/l", b'1', "caches/a/../b"),
        ),
        (
            "a name of another's file",
            cache()
                .add("caches/b/", b'5', "")
                .add("caches/b/l", b'1', "caches/a/f"),
        ),
        (
            "a name of a later file",
            cache().add("caches/a/l", b'1', "caches/a/z"),
        ),
        (
            "twice",
            cache()
                .add("caches/a/f", b'0', "")
                .add("caches/a/f", b'0', ""),
        ),
        (
            "out of order",
            cache()
                .add("caches/a/g", b'0', "")
                .add("caches/a/f", b'0', ""),
        ),
        ("a cache twice", cache().add("caches/a/", b'5', "")),
        ("a link with a NUL", cache().add("caches/a/l", b'2', "")),
    ] {
        assert!(
            matches!(read(&forged.finish(), MOST), Err(Failure::Foreign(_))),
            "{what}"
        );
    }
    let mut other = cache();
    other.entries += 1;
    assert!(read(&other.finish(), MOST).is_err(), "an entry is missing");
    let mut newer = Forged::new();
    newer.tar.clear();
    newer.raw(b"boxwright-caches", b'0', b"", b"{\"format\":2}");
    let Err(Failure::Foreign(told)) = read(&newer.finish(), MOST) else {
        panic!("a newer archive was read");
    };
    assert!(told.contains("newer"), "{told}");
    for foreign in [
        &b""[..],
        b"(\xb5",
        b"text",
        &[0; 2000],
        &packed(b""),
        &packed(&[0; 2000]),
    ] {
        assert!(matches!(read(foreign, MOST), Err(Failure::Foreign(_))));
    }
}

#[test]
fn there_is_a_limit_to_what_is_taken_and_written() {
    let bytes = written(usize::MAX);
    // Two files of 3,000,000 bytes, and twelve names.
    let needed = 2 * 3_002_368 + 12 * 4096 + 12 * 8192;
    read(&bytes, needed).unwrap();
    assert!(matches!(
        read(&bytes, 6_000_000),
        Err(Failure::TooLarge(6_000_000))
    ));
    let mut archive = ArchiveWriter::new(io::sink(), 10_000).unwrap();
    let large = entry("f", CacheKind::File(u64::MAX));
    assert!(matches!(
        archive.entry("a", &large, &mut io::repeat(0)),
        Err(Failure::TooLarge(_))
    ));
    // Endless headers that belong to no file.
    let mut bomb = Forged::new();
    for _ in 0..40 {
        bomb.raw(b"x", b'g', b"", &vec![0; 1 << 20]);
    }
    assert!(read(&bomb.finish(), 1 << 20).is_err());
}

#[test]
fn an_independent_reader_agrees() {
    let bytes = written(usize::MAX);
    let mut plain = Vec::new();
    let mut decoder = crate::layer::decoder(Codec::Zstd, io::Cursor::new(bytes)).unwrap();
    decoder.read_to_end(&mut plain).unwrap();
    let mut archive = tar::Archive::new(&plain[..]);
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names.first().map(String::as_str), Some("boxwright-caches"));
    assert_eq!(names.last().map(String::as_str), Some("boxwright-end"));
    assert_eq!(names.len(), 14);
    assert!(names.contains(&"caches/npm/d/f".to_owned()));
}
