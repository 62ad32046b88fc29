//! The walk before other writers' tars, damaged ones, and random bytes.

use proptest::prelude::*;

use super::*;

fn header(name: &str, flag: u8, size: u64) -> [u8; BLOCK] {
    let mut header = ::tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[156] = flag;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    *header.as_bytes()
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn pax(body: &[u8]) -> Vec<u8> {
    [&header("pax", b'x', body.len() as u64)[..], &padded(body)].concat()
}

fn walk(bytes: &[u8]) -> Result<(Vec<TarEntry>, Option<TarEnd>), TarError> {
    let mut reader = bytes;
    let mut walk = TarWalk::new(&mut reader);
    let mut entries = Vec::new();
    while let Some(entry) = walk.next_entry()? {
        entries.push(entry);
    }
    Ok((entries, walk.end()))
}

const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

#[test]
fn it_reads_what_other_writers_write() {
    let mut builder = ::tar::Builder::new(Vec::new());
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(180));
    let mut file = ::tar::Header::new_gnu();
    file.set_size(5);
    builder.append_data(&mut file, "a", &b"hello"[..]).unwrap();
    builder
        .append_data(&mut file, &long, &b"world"[..])
        .unwrap();
    let mut link = ::tar::Header::new_gnu();
    link.set_entry_type(::tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "l", &long).unwrap();
    builder
        .append_pax_extensions([("path", "é".as_bytes()), ("size", b"3")])
        .unwrap();
    builder
        .append_data(&mut file, "b", &b"abc--"[..])
        .unwrap_or(());
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - END.len());
    bytes.extend(END);
    let (entries, end) = walk(&bytes).unwrap();
    let names: Vec<_> = entries
        .iter()
        .map(|entry| String::from_utf8_lossy(&entry.name))
        .collect();
    assert_eq!(names, ["a", &long, "l", "é"]);
    assert_eq!(entries[2].link, long.as_bytes());
    assert_eq!(&bytes[entries[1].content_at as usize..][..5], b"world");
    assert_eq!(entries[3].size, 3);
    assert_eq!(end, Some(TarEnd::Marked));
}

#[test]
fn content_can_be_read_in_part() {
    let bytes = [
        &header("a", b'0', 600)[..],
        &padded(&[7; 600]),
        &header("b", b'0', 0),
        &END,
    ]
    .concat();
    let mut reader = &bytes[..];
    let mut walk = TarWalk::new(&mut reader);
    walk.next_entry().unwrap().unwrap();
    let mut part = [0; 100];
    walk.read_exact(&mut part).unwrap();
    assert_eq!(part, [7; 100]);
    assert_eq!(walk.next_entry().unwrap().unwrap().name, b"b");
    assert_eq!(walk.read(&mut part).unwrap(), 0);
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let file = |size| header("f", b'0', size).to_vec();
    let mut negative = header("f", b'0', 0);
    negative[124..136].fill(0xff);
    let mut unsealed = header("f", b'0', 0);
    unsealed[0] = b'g';
    for (bytes, why) in [
        (vec![b'a'; 100], "ends within"),
        (vec![b'a'; 10_240], "no number"),
        (unsealed.to_vec(), "wrong checksum"),
        (negative.to_vec(), "wrong checksum"),
        (file(4096), "ends within"),
        (
            [header("d", b'5', 3).to_vec(), padded(b"abc")].concat(),
            "no file but has content",
        ),
        (
            [&END[..BLOCK], &file(0)].concat(),
            "behind a block of zeros",
        ),
        ([pax(b"999 path=a\n"), file(0)].concat(), "damaged PAX"),
        ([pax(b"0 path=a\n"), file(0)].concat(), "damaged PAX"),
        ([pax(b"7 =abc\n"), file(0)].concat(), "damaged PAX"),
        ([pax(b"11 size=-1\n"), file(0)].concat(), "no number"),
        (
            [pax(b"29 size=18446744073709551615\n"), file(0)].concat(),
            "impossible size",
        ),
        ([pax(b"12 path=a\0b\n"), file(0)].concat(), "NUL"),
        ([pax(b"8 path=\n"), file(0)].concat(), "no name"),
        (pax(b"10 path=a\n"), "ends within"),
        (
            [
                header("g", b'g', 10).to_vec(),
                padded(b"10 path=a\n"),
                file(0),
            ]
            .concat(),
            "one name or size",
        ),
        (header("x", b'x', 2 << 20).to_vec(), "more than a mebibyte"),
        (header("L", b'L', 1 << 32).to_vec(), "more than a mebibyte"),
    ] {
        let error = walk(&bytes).expect_err(why).to_string();
        assert!(error.contains(why), "{error} instead of {why}");
    }
}

#[test]
fn sparse_files_are_told() {
    let old = header("s", b'S', 0);
    assert_eq!(walk(&old).unwrap().0[0].kind, TarKind::Sparse);
    let new = [&pax(b"22 GNU.sparse.major=1\n")[..], &header("s", b'0', 0)].concat();
    let (entries, end) = walk(&new).unwrap();
    assert_eq!(entries[0].kind, TarKind::Sparse);
    assert_eq!(end, Some(TarEnd::Unmarked));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..4096), seal in any::<bool>()) {
        if seal && bytes.len() >= BLOCK {
            bytes[148..156].fill(b' ');
            let sum: u32 = bytes[..BLOCK].iter().map(|&byte| u32::from(byte)).sum();
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let _ = walk(&bytes);
    }

    #[test]
    fn names_and_contents_come_back(files in proptest::collection::vec(("[a-zé/]{1,300}", 0usize..2000), 0..8)) {
        let mut builder = ::tar::Builder::new(Vec::new());
        let mut expected = Vec::new();
        for (name, size) in files {
            let name = name.trim_matches('/').to_owned();
            let mut header = ::tar::Header::new_gnu();
            header.set_size(size as u64);
            if builder.append_data(&mut header, &name, &vec![b'x'; size][..]).is_ok() {
                expected.push(size as u64);
            }
        }
        let (entries, end) = walk(&builder.into_inner().unwrap()).unwrap();
        prop_assert_eq!(entries.iter().map(|entry| entry.size).collect::<Vec<_>>(), expected);
        prop_assert_eq!(end, Some(TarEnd::Marked));
    }
}
