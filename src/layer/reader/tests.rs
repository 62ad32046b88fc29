//! Archives of other tools, well and badly made.

use super::*;
use proptest::prelude::*;

fn entries(bytes: &[u8]) -> Result<Vec<(TarEntry, Vec<u8>)>, LayerError> {
    let mut reader = TarReader::new(bytes, Limits::default());
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        reader
            .content()
            .read_to_end(&mut content)
            .map_err(|error| reader.broken(&error))?;
        found.push((entry, content));
    }
    Ok(found)
}

fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

fn file(header: &mut tar::Header, size: u64) {
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o4755);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(9);
}

#[test]
fn gnu_and_ustar_archives_of_the_tar_crate_are_understood() {
    let long = "d/".repeat(120) + "name";
    let bytes = archive(|builder| {
        let mut header = tar::Header::new_gnu();
        file(&mut header, 3);
        builder
            .append_data(&mut header, &long, &b"abc"[..])
            .unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "l", "to").unwrap();
        let mut header = tar::Header::new_gnu();
        file(&mut header, 0);
        header.set_uid(5_000_000_000 % (1 << 32));
        builder
            .append_data(&mut header, "big-uid", &b""[..])
            .unwrap();
    });
    let found = entries(&bytes).unwrap();
    let (first, content) = &found[0];
    assert_eq!(first.name, long.as_bytes());
    assert_eq!(content, b"abc");
    assert_eq!(
        (first.mode, first.uid, first.gid, first.mtime),
        (0o4755, 7, 8, 9)
    );
    assert_eq!(bytes[first.content_offset as usize..][..3], *b"abc");
    assert_eq!(found[1].0.kind, TarKind::Symlink(b"to".to_vec()));
    assert_eq!(found[2].0.uid, (5_000_000_000u64 % (1 << 32)) as u32);
}

#[test]
fn pax_records_override_fields() {
    let bytes = archive(|builder| {
        let records: [(&str, &[u8]); 6] = [
            ("path", b"na\xffme"),
            ("uid", b"3000000"),
            ("mtime", b"-1.5"),
            ("SCHILY.xattr.user.a", b"1\n2"),
            ("comment", b"ignored"),
            ("hdrcharset", b"BINARY"),
        ];
        builder.append_pax_extensions(records).unwrap();
        let mut header = tar::Header::new_ustar();
        file(&mut header, 0);
        builder.append_data(&mut header, "short", &b""[..]).unwrap();
    });
    let (entry, _) = entries(&bytes).unwrap().remove(0);
    assert_eq!(
        (entry.name.as_slice(), entry.uid, entry.mtime),
        (&b"na\xffme"[..], 3_000_000, -2)
    );
    assert_eq!(
        entry.xattrs,
        [("user.a".as_bytes().into(), "1\n2".as_bytes().into())]
    );
    assert_eq!(entry.header_offset, 0);
}

#[test]
fn hostile_archives_are_errors_with_a_place() {
    let plain = archive(|builder| {
        let mut header = tar::Header::new_ustar();
        file(&mut header, 600);
        builder
            .append_data(&mut header, "f", &[1; 600][..])
            .unwrap();
    });
    let damaged = |at: usize, byte: u8| {
        let mut bytes = plain.clone();
        bytes[at] = byte;
        bytes
    };
    let huge_header = archive(|builder| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_size(8 << 30);
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
    });
    let sparse = archive(|builder| {
        let mut header = tar::Header::new_gnu();
        file(&mut header, 0);
        header.set_entry_type(tar::EntryType::GNUSparse);
        builder.append_data(&mut header, "s", &b""[..]).unwrap();
    });
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("bad checksum", damaged(0, b'g'), "checksum"),
        (
            "cut in the header",
            plain[..300].to_vec(),
            "middle of a header",
        ),
        ("cut in the content", plain[..700].to_vec(), "truncated"),
        ("cut in the padding", plain[..1120].to_vec(), "truncated"),
        ("gigabytes of PAX", huge_header, "larger than we accept"),
        ("sparse", sparse, "sparse"),
    ];
    for (case, bytes, expected) in cases {
        let error = entries(&bytes).expect_err(case).to_string();
        assert!(error.contains(expected), "{case}: {error}");
    }
}

#[test]
fn the_number_of_entries_is_bounded() {
    let bytes = archive(|builder| {
        for number in 0..20 {
            let mut header = tar::Header::new_ustar();
            file(&mut header, 0);
            builder
                .append_data(&mut header, format!("f{number}"), &b""[..])
                .unwrap();
        }
    });
    let mut reader = TarReader::new(
        &bytes[..],
        Limits {
            entries: 10,
            ..Limits::default()
        },
    );
    let error = std::iter::repeat_with(|| reader.next_entry())
        .find_map(Result::err)
        .unwrap();
    assert!(error.to_string().contains("more entries"), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = entries(&bytes);
    }

    #[test]
    fn no_damage_makes_it_panic(at in 0usize..1536, byte: u8, fix: bool) {
        let mut bytes = archive(|builder| {
            builder.append_pax_extensions([("path", &b"name"[..]), ("size", b"5")]).unwrap();
            let mut header = tar::Header::new_ustar();
            file(&mut header, 5);
            builder.append_data(&mut header, "f", &b"hello"[..]).unwrap();
        });
        bytes[at] = byte;
        if fix {
            for start in [0, 1024] {
                let sum: u32 = (0..512).map(|i| if (148..156).contains(&i) { 32 } else { u32::from(bytes[start + i]) }).sum();
                bytes[start + 148..start + 155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            }
        }
        let _ = entries(&bytes);
    }
}
