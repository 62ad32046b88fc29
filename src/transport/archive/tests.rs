//! Files found by name; links that lead out; what is no archive.

use std::fs;

use proptest::prelude::*;

use super::*;

fn entry(name: &str, flag: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let bytes = header.as_mut_bytes();
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
    bytes[156] = flag;
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = [header.as_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn opened(bytes: &[u8]) -> Result<Archive, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, bytes).unwrap();
    Archive::open(file.path()).map_err(|error| error.to_string())
}

fn text(archive: &Archive, name: &str) -> Result<Option<String>, String> {
    let bytes = archive.small(name).map_err(|error| error.to_string())?;
    Ok(bytes.map(|bytes| String::from_utf8(bytes).unwrap()))
}

fn sample() -> Vec<u8> {
    [
        entry("./a", b'0', "", b"content of a"),
        entry("d/", b'5', "", b""),
        entry("d/b", b'0', "", b"content of b"),
        entry("d/", b'5', "", b""),
        entry("d/link", b'2', "../a", b""),
        entry("d/hard", b'1', "./d/b", b""),
        entry("chain", b'2', "d/link", b""),
        entry("out", b'2', "../etc/passwd", b""),
        entry("absolute", b'2', "/etc/passwd", b""),
        entry("loop", b'2', "loop", b""),
        entry("lost", b'2', "nowhere", b""),
        entry("twice", b'0', "", b"1"),
        entry("twice", b'0', "", b"2"),
        entry("device", b'3', "", b""),
        entry("sparse", b'S', "", b""),
        entry("../escape", b'0', "", b"x"),
        entry("/absolute-name", b'0', "", b"x"),
        vec![0; 1024],
    ]
    .concat()
}

#[test]
fn files_are_read_by_name_whatever_is_around_the_tar() {
    let plain = sample();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut gzip, &plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for bytes in [plain, gzip, zstd] {
        let archive = opened(&bytes).unwrap();
        for (name, content) in [
            ("a", Some("content of a")),
            ("d/b", Some("content of b")),
            ("d/link", Some("content of a")),
            ("d/hard", Some("content of b")),
            ("chain", Some("content of a")),
            ("d", None),
            ("none", None),
            ("escape", None),
            ("absolute-name", None),
        ] {
            assert_eq!(
                text(&archive, name),
                Ok(content.map(str::to_owned)),
                "{name}"
            );
        }
        for (name, why) in [
            ("out", "leads out of the archive"),
            ("absolute", "leads out of the archive"),
            ("loop", "a link to a link"),
            ("lost", "which is not in the archive"),
            ("twice", "stands in the archive twice"),
            ("device", "is no file"),
            ("sparse", "is a sparse file"),
        ] {
            let error = text(&archive, name).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
    }
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    let truncated = sample()[..700].to_vec();
    let mut cut_gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut cut_gzip, &sample()).unwrap();
    let mut cut_gzip = cut_gzip.finish().unwrap();
    cut_gzip.truncate(cut_gzip.len() / 2);
    for (bytes, why) in [
        (b"just some text".to_vec(), "ends within the entry"),
        (vec![b'x'; 2000], "no number"),
        (truncated, "ends within the entry"),
        (cut_gzip, "read"),
        (b"\xfd7zXZ\0...".to_vec(), "compressed with xz"),
    ] {
        let error = opened(&bytes).unwrap_err();
        assert!(error.contains(why), "{error} instead of {why}");
    }
    let missing = Archive::open(Path::new("/nonexistent/file"))
        .unwrap_err()
        .to_string();
    assert_eq!(missing, "open /nonexistent/file");
    assert!(Archive::open(Path::new("/dev/zero")).is_err());
}

proptest! {
    #[test]
    fn no_path_leaves_the_archive(directory in "[a-c./]{0,12}", path in "[a-c./]{0,20}") {
        if let Some(inside) = inside(&directory, path.as_bytes()) {
            prop_assert!(!inside.starts_with('/'));
            prop_assert!(inside.split('/').all(|part| inside.is_empty() || !matches!(part, "" | "." | "..")));
        }
    }
}
