//! A context of names that break naive code. It is written by a program, because neither git nor
//! every file system could hold it; each name is there for a reason, given beside it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The spec that copies the whole tree into an image.
pub(crate) const SPEC: &str = "\
format: 1
image: test/nasty
stages:
  names:
    from: scratch
    allow: [root]
    steps:
      - {copy: ., to: /nasty, exclude: [boxwright.yaml]}
";

/// The names that a directory entry can have and a careless program cannot handle.
pub(crate) fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b"not-utf8-\xff\xfe"[..],
        b"overlong-\xc0\xaf", // an overlong slash: no UTF-8, and no separator
        b"new\nline",
        b"tab\tand\rreturn",
        b"bell\x07and-escape\x1b[31m", // must not reach a terminal as it is
        b"two  spaces ",
        b" leading-space",
        b"-rf",
        b"--help",
        b"back\\slash",
        b"quote'\"`$(id)",
        b"star*",
        b"what?",
        b"[range]",
        b"!not",
        b"#comment",
        b"trailing-dot.",
        b"...",
        b"..two-dots",
        b"~",
        b"a:b",
        b"a=b",          // a key and value in a PAX record
        b"12 path=evil", // looks like a PAX record
        b"%2e%2e",
        b"con.txt",
        "caf\u{e9}".as_bytes(),       // NFC …
        "cafe\u{301}".as_bytes(),     // … and its NFD twin: two files
        "\u{202e}gnp.exe".as_bytes(), // right-to-left override
        "\u{feff}bom".as_bytes(),
        "\u{1f4e6}".as_bytes(),
        "\u{130}stanbul".as_bytes(), // lower-cases to two characters
        b"Case",
        b"case",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    // The last length that fits the name field of a tar header, the first that does not, and the
    // longest that a file system takes.
    names.extend([99, 100, 101, 255].map(|length| vec![b'n'; length]));
    names
}

/// Names that mean a removal when a layer carries them: a context that has one must be refused or
/// kept from becoming a whiteout, never silently turned into one.
pub(crate) fn whiteout_names() -> [&'static [u8]; 3] {
    [b".wh.passwd", b".wh..wh..opq", b".wh."]
}

/// Writes the tree below `root`: every name as a file and as a directory, paths beyond every
/// limit of the old tar format, and the spec.
pub(crate) fn write(root: &Path) {
    for name in names() {
        let name = OsStr::from_bytes(&name);
        let folder = root.join("folders").join(name);
        fs::create_dir_all(&folder).expect("create a nasty folder");
        fs::write(folder.join("inside"), "inside").expect("write a file");
        fs::create_dir_all(root.join("files")).expect("create a folder");
        fs::write(root.join("files").join(name), name.as_bytes()).expect("write a nasty file");
    }
    for path in long_paths() {
        let path = root.join("long").join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("create long folders");
        fs::write(&path, "long").expect("write a long path");
    }
    fs::write(root.join("boxwright.yaml"), SPEC).expect("write the spec");
}

/// Paths around the limits: 100 bytes in the name field, 155 + 100 with the prefix field (which
/// must be cut at a slash), 255 in old readers, and a depth that overflows a careless recursion.
fn long_paths() -> Vec<PathBuf> {
    let around = [98, 99, 100, 101, 154, 155, 156, 254, 255, 256, 257, 1000];
    let mut paths: Vec<_> = around.into_iter().map(path_of_length).collect();
    paths.push(format!("{}/{}", "a".repeat(156), "b".repeat(20)).into());
    paths.push(format!("{}/{}", "a".repeat(20), "b".repeat(101)).into());
    // 500 levels: too many for a reader that recurses with a large frame, and few enough that the
    // standard library, which holds a descriptor for each level, can remove them again.
    paths.push(["d"; 500].join("/").into());
    paths
}

fn path_of_length(length: usize) -> PathBuf {
    let mut path = "segment-of-a-path/".repeat(length / 18);
    path.push_str(&"x".repeat(length - path.len()));
    if path.ends_with('/') {
        path.pop();
        path.push('x');
    }
    path.into()
}

#[test]
fn the_nasty_tree_can_be_written_and_listed() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path());
    let listing = super::listing::Listing::of_directory(dir.path());
    let files = listing.rows.iter().filter(|row| row.kind == "file").count();
    assert_eq!(files, 2 * names().len() + long_paths().len() + 1);
    let longest = listing.rows.iter().map(|row| row.path.len()).max();
    assert!(longest >= Some(1000), "{longest:?}");
    for name in whiteout_names() {
        assert!(name.starts_with(b".wh."));
    }
}
