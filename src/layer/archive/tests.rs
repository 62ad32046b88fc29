//! Archives of all kinds, hostile ones among them.

use std::io::Cursor;
use std::io::Write;

use super::*;
use crate::tree::{Content, Entry, Inode, LayerPath};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

/// What the archive of these bytes holds.
fn unpacked(bytes: &[u8]) -> Result<Tree, ArchiveError> {
    let (_folder, store) = store();
    let digest = store.put_blob(bytes).unwrap();
    let first = unpack_archive(&store, &digest, Limits::default(), 0)?;
    let again = unpack_archive(&store, &digest, Limits::default(), 0)?;
    let listed = |tree: &Tree| {
        let mut listing = Vec::new();
        let detail = crate::tree::Detail::Located;
        tree.as_changes()
            .write_listing(detail, &mut listing)
            .unwrap();
        listing
    };
    assert_eq!(listed(&first), listed(&again), "the record says the same");
    Ok(first)
}

/// A tar with a directory, a program, a second name of it, and a link.
fn tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_uid(7);
    header.set_gid(8);
    header.set_mode(0o755);
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Directory);
    tar.append_data(&mut header, "tool/", &b""[..]).unwrap();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(5);
    tar.append_data(&mut header, "tool/run", &b"hello"[..])
        .unwrap();
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Link);
    tar.append_link(&mut header, "tool/same", "tool/run")
        .unwrap();
    header.set_entry_type(tar::EntryType::Symlink);
    tar.append_link(&mut header, "tool/out", "/etc").unwrap();
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn xz(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut out = liblzma::write::XzEncoder::new(Vec::new(), level);
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

type ZipEntry<'a> = (&'a str, Option<u32>, &'a [u8]);

fn zip(entries: &[ZipEntry<'_>]) -> Vec<u8> {
    use zip::write::SimpleFileOptions;
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, content) in entries {
        let options =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        let options = match mode {
            Some(mode) => options.unix_permissions(*mode),
            None => options,
        };
        match (name.ends_with('/'), mode) {
            (true, _) => zip.add_directory(*name, options).unwrap(),
            (false, Some(0o777)) => {
                let target = std::str::from_utf8(content).unwrap();
                zip.add_symlink(*name, target, options).unwrap();
            }
            (false, _) => {
                zip.start_file(*name, options).unwrap();
                zip.write_all(content).unwrap();
            }
        }
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn every_kind_of_tar_gives_the_same_tree() {
    let tar = tar();
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    let plain = unpacked(&tar).unwrap();
    for packed in [
        gzip(&tar),
        xz(&tar, 9),
        [xz(&tar[..1024], 0), xz(&tar[1024..], 0)].concat(),
        bzip2(&tar),
        zstd,
    ] {
        assert_eq!(unpacked(&packed).unwrap(), plain);
    }
    let run = plain.entry(&path("tool/run")).unwrap();
    assert_eq!((run.mode, run.uid, run.gid), (0o755, 7, 8));
    let inode = |text| plain.entry(&path(text)).unwrap().as_file().unwrap().inode;
    let first = Some(Inode {
        space: 0,
        number: 1,
    });
    assert_eq!((inode("tool/run"), inode("tool/same")), (first, first));
    assert_eq!(
        plain.entry(&path("tool/out")),
        Some(&Entry {
            uid: 7,
            gid: 8,
            ..Entry::symlink(b"/etc")
        })
    );
}

#[test]
fn a_zip_gives_modes_links_and_bytes() {
    let tree = unpacked(&zip(&[
        ("tool/", Some(0o750), b""),
        ("tool/run", Some(0o755), b"hello"),
        ("tool/plain", None, &[b'x'; 100_000]),
        ("tool/link", Some(0o777), b"../../etc"),
    ]))
    .unwrap();
    let names: Vec<String> = tree
        .iter()
        .map(|(path, entry)| format!("{path} {:o}", entry.mode))
        .collect();
    assert_eq!(
        names,
        [
            "/ 755",
            "/tool 750",
            "/tool/link 777",
            "/tool/plain 644",
            "/tool/run 755"
        ]
    );
    let content = &tree
        .entry(&path("tool/run"))
        .unwrap()
        .as_file()
        .unwrap()
        .content;
    let Content::Blob(range) = content else {
        panic!("{content:?}");
    };
    assert_eq!((range.size, range.digest), (5, Digest::of(b"hello")));
    assert!(unpacked(&zip(&[])).unwrap().is_empty());
}

/// A tar of one empty file whose name is not judged by anyone.
fn tar_with(name: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(0o644);
    header.set_size(0);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, &b""[..]).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn what_is_hostile_or_damaged_is_refused() {
    let tar = tar();
    let damaged_zip = {
        let mut zip = zip(&[("a", None, b"some text that is here")]);
        zip[35] ^= 0xff;
        zip
    };
    let cases: [(&str, Vec<u8>, &str); 11] = [
        ("text", b"#!/bin/sh\necho hello\n".to_vec(), "neither a tar"),
        ("nothing", Vec::new(), "neither a tar"),
        ("gzip of text", gzip(&[b'x'; 2000]), "neither a tar"),
        ("zeros", vec![0; 10240], "neither a tar"),
        ("climbing", tar_with("../../etc/cron.d/x"), ".."),
        ("climbing later", tar_with("a/../../x"), ".."),
        ("a whiteout", tar_with("etc/.wh.passwd"), ".wh."),
        ("an opaque directory", tar_with("etc/.wh..wh..opq"), ".wh."),
        ("a climbing zip", zip(&[("../x", None, b"y")]), ".."),
        ("a damaged zip", damaged_zip, ""),
        ("half a gzip", gzip(&tar)[..60].to_vec(), "cannot be read"),
    ];
    for (what, bytes, expected) in cases {
        let error = unpacked(&bytes).expect_err(what).to_string();
        assert!(error.contains(expected), "{what}: {error}");
    }
    for packed in [
        gzip(&tar),
        xz(&tar, 6),
        bzip2(&tar),
        zip(&[("a", None, b"text")]),
    ] {
        for end in (1..packed.len()).step_by(23) {
            if let Ok(tree) = unpacked(&packed[..end]) {
                // Bytes behind the end of the compressed data only.
                assert_eq!(tree, unpacked(&packed).unwrap(), "{end}");
            }
        }
    }
}

#[test]
fn what_expands_without_end_is_refused_and_not_kept() {
    let limits = Limits {
        uncompressed: 1 << 20,
        ..Limits::default()
    };
    let big = vec![0; 2 << 20];
    let mut bomb = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(big.len() as u64);
    header.set_mode(0o644);
    bomb.append_data(&mut header, "zeros", &big[..]).unwrap();
    let bomb = bomb.into_inner().unwrap();
    for packed in [
        gzip(&bomb),
        xz(&bomb, 6),
        bzip2(&bomb),
        zstd::encode_all(&bomb[..], 3).unwrap(),
        zip(&[("zeros", None, &big)]),
    ] {
        let (folder, store) = store();
        let digest = store.put_blob(&packed).unwrap();
        let error = unpack_archive(&store, &digest, limits, 0).expect_err("a bomb");
        assert!(error.to_string().contains("expands"), "{error}");
        let blobs = std::fs::read_dir(folder.path().join("blobs/sha256")).unwrap();
        assert_eq!(blobs.count(), 1);
    }
}

#[test]
fn an_xz_that_asks_for_much_memory_is_refused() {
    let mut packed = xz(&tar(), 0);
    // The header of the first block: its size in words, flags, filter, length, and the dictionary's
    // size, of which 40 means 4 GiB; a checksum ends it. The .xz format, sections 3.1 and 5.3.1.
    let size = (usize::from(packed[12]) + 1) * 4;
    let header = &mut packed[12..12 + size];
    assert_eq!((header[2], header[3]), (0x21, 1));
    header[4] = 40;
    let checksum = crc32fast::hash(&header[..size - 4]);
    header[size - 4..].copy_from_slice(&checksum.to_le_bytes());
    let error = unpacked(&packed).expect_err("too much memory").to_string();
    assert!(error.contains("memory"), "{error}");
}
