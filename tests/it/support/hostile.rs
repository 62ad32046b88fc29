//! What an enemy would hand us: layers that reach out of their root, lie about sizes or eat
//! memory, and layouts whose pointers are wrong.
//!
//! Each layer and layout must be refused with an error or contained; none may write outside,
//! hang, exhaust memory or panic. Which of the two is right is for the test that uses them.

use std::io::Write;

use serde_json::json;

use super::file_set::FileSet;
use super::image_fixture::{Image, Layer, descriptor, set_index};
use super::raw_tar::{Header, RawTar, flag, seal};

type Sink<'a> = RawTar<&'a mut dyn Write>;

/// A case of hostility by its name.
#[derive(Debug, Clone)]
pub(crate) struct Case<T> {
    pub(crate) name: &'static str,
    pub(crate) input: T,
}

/// An image whose one layer is hostile.
pub(crate) fn image_of(layer: Layer) -> Image {
    Image {
        layers: vec![layer],
        config: json!({}),
    }
}

/// Layers whose entries reach outside or contradict each other. Whoever follows one of them
/// writes or reads a file named `escape` where none should be.
pub(crate) fn layers_that_reach_out() -> Vec<Case<Layer>> {
    let link = |name: &str, to: &str| Header::new(flag::SYMLINK, name).to(to);
    let hard = |name: &str, to: &str| Header::new(flag::HARD_LINK, name).to(to);
    vec![
        files("absolute name", &["/tmp/escape"]),
        files("dot-dot name", &["../../escape"]),
        files("dot-dot inside", &["a/b/../../../escape"]),
        files("dot-dot at the end", &["a/.."]),
        files("empty name", &[""]),
        files("the root as a file", &["."]),
        files("empty components", &["a//b", "./a/./c"]),
        files("a file below a file", &["a", "a/b"]),
        files("the same file twice", &["twice", "twice"]),
        files("whiteout of dot-dot", &[".wh..."]),
        files("whiteout of dot", &[".wh.."]),
        files("whiteout of nothing", &[".wh."]),
        files("whiteout as a parent", &["a/.wh.b/escape"]),
        files("whiteout and its file", &["a/.wh.b", "a/b"]),
        files("opaque after its files", &["a/b", "a/.wh..wh..opq"]),
        linked(
            "absolute link as parent",
            &[link("out", "/tmp")],
            "out/escape",
        ),
        linked(
            "relative link as parent",
            &[link("out", "../../..")],
            "out/tmp/escape",
        ),
        linked(
            "chain of links",
            &[link("a", "b"), link("b", "..")],
            "a/a/escape",
        ),
        linked(
            "loop of links",
            &[link("a", "b"), link("b", "a")],
            "a/escape",
        ),
        linked("a link to itself", &[link("a", "a")], "a"),
        linked("hard link out", &[hard("a", "../../../etc/passwd")], "a"),
        linked("hard link absolute", &[hard("a", "/etc/passwd")], "a"),
        linked("hard link to nothing", &[hard("a", "missing")], "b"),
        linked("hard link to itself", &[hard("a", "a")], "b"),
        linked(
            "hard link to a directory",
            &[Header::new(flag::DIRECTORY, "d/"), hard("a", "d")],
            "b",
        ),
        linked(
            "hard link through a link",
            &[link("out", "/etc"), hard("a", "out/passwd")],
            "a",
        ),
        linked("link with an empty target", &[link("a", "")], "b"),
        linked(
            "disk as a device",
            &[Header::new(flag::BLOCK_DEVICE, "sda")],
            "b",
        ),
        linked(
            "memory as a device",
            &[Header::new(flag::CHAR_DEVICE, "mem")],
            "b",
        ),
        linked(
            "a pipe that never ends",
            &[Header::new(flag::FIFO, "pipe")],
            "b",
        ),
        linked("unknown kind", &[Header::new(b'Z', "z")], "b"),
    ]
}

/// Layers that are no right tar.
pub(crate) fn layers_that_are_malformed() -> Vec<Case<Layer>> {
    let file = || Header::new(flag::FILE, "file");
    let mut wrong_sum = file().block();
    wrong_sum[148] ^= 1;
    let mut no_number = file().block();
    no_number[124..136].copy_from_slice(b"99999999999\0");
    seal(&mut no_number);
    let mut negative = file().block();
    negative[124..136].fill(0xff);
    seal(&mut negative);
    let claims = |size| file().size(size).block().to_vec();
    let pax = |body: &[u8]| {
        let mut tar = RawTar::new(Vec::new());
        tar.file(Header::new(flag::PAX, "pax"), body)
            .expect("write to memory");
        tar.file(file(), b"content").expect("write to memory");
        tar.finish().expect("write to memory")
    };
    let long_name = Header::new(flag::GNU_LONG_NAME, "././@LongLink").size(1 << 40);
    let global = [
        Header::new(flag::PAX_GLOBAL, "g").size(0).block(),
        file().block(),
    ]
    .concat();
    vec![
        raw("empty", Vec::new()),
        raw("half a block", vec![b'a'; 100]),
        raw("text", vec![b'a'; 10_240]),
        raw("wrong checksum", wrong_sum.to_vec()),
        raw("size that is no number", no_number.to_vec()),
        raw("negative size", negative.to_vec()),
        raw("size beyond the end", claims(4096)),
        raw("size of 2^63", claims(1 << 63)),
        raw("size of 2^64 - 1", claims(u64::MAX)),
        raw("long name of a tebibyte", long_name.block().to_vec()),
        raw("empty global header", global),
        raw("PAX path with NUL", pax(b"16 path=ev\0il/x\n")),
        raw("PAX path out", pax(b"22 path=../../escape\x20\n")),
        raw("PAX path empty", pax(b"8 path=\n")),
        raw("PAX length zero", pax(b"0 path=a\n")),
        raw("PAX length too long", pax(b"999 path=a\n")),
        raw(
            "PAX length huge",
            pax(b"99999999999999999999999999 path=a\n"),
        ),
        raw("PAX without a key", pax(b"7 =abc\n")),
        raw("PAX size negative", pax(b"11 size=-1\n")),
        raw("PAX size huge", pax(b"29 size=18446744073709551616\n")),
        raw("PAX owner huge", pax(b"19 uid=99999999999\n")),
        raw("PAX time not a number", pax(b"13 mtime=NaN\n")),
        raw("PAX before nothing", pax(b"10 path=a\n")[..1024].to_vec()),
    ]
}

/// Compressed layers that are damaged: a right gzip spoiled.
pub(crate) fn layers_with_bad_compression() -> Vec<Case<Layer>> {
    let good = Layer::gzip(|tar| {
        let content = b"content ".repeat(10_000);
        tar.file(Header::new(flag::FILE, "file"), &content)
            .expect("write to memory");
        tar.raw(&[0; 1024]).expect("write to memory");
    });
    let spoil = |name, change: &dyn Fn(&mut Vec<u8>)| {
        let mut layer = good.clone();
        change(&mut layer.bytes);
        Case { name, input: layer }
    };
    vec![
        spoil("truncated gzip", &|bytes| bytes.truncate(bytes.len() / 2)),
        spoil("gzip without its checksum", &|bytes| {
            bytes.truncate(bytes.len() - 8)
        }),
        spoil("gzip with a wrong checksum", &|bytes| {
            let at = bytes.len() - 8;
            bytes[at] ^= 1;
        }),
        spoil("text behind the gzip", &|bytes| bytes.extend(b"and more")),
        spoil("only the magic", &|bytes| bytes.truncate(2)),
        spoil("no compression at all", &|bytes| {
            *bytes = b"plain text".to_vec()
        }),
        spoil("zstd under a gzip name", &|bytes| {
            *bytes = zstd::encode_all(&[0; 1024][..], 1).expect("write to memory");
        }),
    ]
}

/// OCI layouts, each wrong in one pointer or document; `good` is an image to spoil.
pub(crate) fn layouts(good: &Image) -> Vec<Case<FileSet>> {
    let spoil = |name, change: &dyn Fn(&mut FileSet)| {
        let mut set = good.oci_layout("v1");
        change(&mut set);
        Case { name, input: set }
    };
    let index = |name, json: &[u8]| spoil(name, &|set| put(set, "index.json", json));
    let entry = |name, key: &str, value: serde_json::Value| {
        spoil(name, &|set| {
            let mut index: serde_json::Value =
                serde_json::from_slice(&set.files["index.json"]).expect("JSON");
            index["manifests"][0][key] = value.clone();
            put(set, "index.json", index.to_string().as_bytes());
        })
    };
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    vec![
        spoil("a flipped bit in a blob", &|set| {
            blobs(set).for_each(|blob| blob[0] ^= 1);
        }),
        spoil("blobs cut short", &|set| {
            blobs(set).for_each(|blob| blob.truncate(3))
        }),
        spoil("blobs with more behind", &|set| {
            blobs(set).for_each(|blob| blob.push(0))
        }),
        spoil("no blobs", &|set| {
            set.files.retain(|path, _| !path.starts_with("blobs/"))
        }),
        spoil("no index", &|set| drop(set.files.remove("index.json"))),
        spoil("no oci-layout", &|set| drop(set.files.remove("oci-layout"))),
        spoil("a later layout version", &|set| {
            put(set, "oci-layout", br#"{"imageLayoutVersion":"9.0.0"}"#);
        }),
        index("index is no JSON", b"<html>"),
        index("index is a list", b"[]"),
        index("index is deep", &deep),
        index("index without manifests", br#"{"schemaVersion":2}"#),
        index("index is empty", br#"{"schemaVersion":2,"manifests":[]}"#),
        entry(
            "digest that leaves the layout",
            "digest",
            json!("sha256:../../../../etc/passwd"),
        ),
        entry(
            "digest of another algorithm",
            "digest",
            json!("md5:d41d8cd98f00b204e9800998ecf8427e"),
        ),
        entry("digest that is a number", "digest", json!(7)),
        entry("size too small", "size", json!(1)),
        entry("size negative", "size", json!(-1)),
        entry("size of an exabyte", "size", json!(1_u64 << 60)),
        entry(
            "media type of something else",
            "mediaType",
            json!("text/html"),
        ),
        spoil("a diff_id that is not the layer's", &|set| {
            let mut image = good.clone();
            image.layers[0].diff_id = format!("sha256:{}", "0".repeat(64));
            *set = image.oci_layout("v1");
        }),
        spoil("fewer diff_ids than layers", &|set| {
            let extra = descriptor(
                set,
                "application/vnd.oci.image.config.v1+json",
                b"{}".to_vec(),
            );
            rewrite_manifest(set, &|manifest| manifest["config"] = extra.clone());
        }),
        spoil("the same reference twice", &|set| {
            let index: serde_json::Value =
                serde_json::from_slice(&set.files["index.json"]).expect("JSON");
            let entry = index["manifests"][0].clone();
            let mut other = descriptor(
                set,
                "application/vnd.oci.image.manifest.v1+json",
                b"{}".to_vec(),
            );
            other["annotations"] = entry["annotations"].clone();
            set_index(set, &[entry, other]);
        }),
    ]
}

/// An archive whose blobs are links to a file of the host.
pub(crate) fn archive_of_links(good: &Image) -> Vec<u8> {
    let mut tar = RawTar::new(Vec::new());
    for (path, content) in good.oci_layout("v1").files {
        let written = if path.starts_with("blobs/") {
            tar.entry(Header::new(flag::SYMLINK, path).to("/etc/passwd"))
        } else {
            tar.file(Header::new(flag::FILE, path), &content)
        };
        written.expect("write to memory");
    }
    tar.finish().expect("write to memory")
}

/// An archive that says everything twice, the second time otherwise.
pub(crate) fn archive_of_duplicates(good: &Image) -> Vec<u8> {
    let mut first = good.oci_layout("v1").tar();
    first.truncate(first.len() - 1024);
    let mut second = good.oci_layout("v1");
    second
        .files
        .values_mut()
        .for_each(|content| *content = b"{}".to_vec());
    [first, second.tar()].concat()
}

/// A layer of one file of `size` zero bytes: about a thousandth of that when compressed.
pub(crate) fn gzip_bomb(size: u64) -> Layer {
    Layer::gzip(|tar| {
        tar.entry(Header::new(flag::FILE, "zeros").size(size))
            .expect("write to memory");
        pour(tar, 0, size.next_multiple_of(512) + 1024);
    })
}

/// A layer of `count` empty files, one directory for each thousand.
pub(crate) fn many_entries(count: u32) -> Layer {
    Layer::gzip(|tar| {
        for n in 0..count {
            let name = format!("many/{:04}/{:03}", n / 1000, n % 1000);
            tar.entry(Header::new(flag::FILE, name))
                .expect("write to memory");
        }
        tar.raw(&[0; 1024]).expect("write to memory");
    })
}

/// A layer with one PAX header whose value has `size` bytes.
pub(crate) fn giant_pax_header(size: u64) -> Layer {
    Layer::gzip(|tar| {
        let start = format!(
            "{} comment=",
            size + 9 + (size + 11).to_string().len() as u64
        );
        let whole = start.len() as u64 + size;
        tar.entry(Header::new(flag::PAX, "pax").size(whole))
            .expect("write to memory");
        tar.raw(start.as_bytes()).expect("write to memory");
        pour(tar, b'a', size - 1);
        tar.raw(b"\n").expect("write to memory");
        pour(tar, 0, whole.next_multiple_of(512) - whole);
        tar.file(Header::new(flag::FILE, "file"), b"content")
            .expect("write to memory");
        tar.raw(&[0; 1024]).expect("write to memory");
    })
}

fn pour(tar: &mut Sink<'_>, byte: u8, mut length: u64) {
    let block = vec![byte; 1 << 20];
    while length > 0 {
        let now = length.min(block.len() as u64) as usize;
        tar.raw(&block[..now]).expect("write to memory");
        length -= now as u64;
    }
}

fn files(name: &'static str, paths: &[&str]) -> Case<Layer> {
    linked_all(name, &[], paths)
}

fn linked(name: &'static str, first: &[Header], then: &str) -> Case<Layer> {
    linked_all(name, first, &[then])
}

fn linked_all(name: &'static str, first: &[Header], paths: &[&str]) -> Case<Layer> {
    let input = Layer::gzip(|tar| {
        for header in first {
            tar.entry(header.clone()).expect("write to memory");
        }
        for (n, path) in paths.iter().enumerate() {
            let content = format!("content {n}\n");
            let header = Header::new(flag::FILE, path);
            tar.file(header, content.as_bytes())
                .expect("write to memory");
        }
        tar.raw(&[0; 1024]).expect("write to memory");
    });
    Case { name, input }
}

fn raw(name: &'static str, bytes: Vec<u8>) -> Case<Layer> {
    Case {
        name,
        input: Layer::gzip(|tar| tar.raw(&bytes).expect("write to memory")),
    }
}

fn put(set: &mut FileSet, path: &str, content: &[u8]) {
    set.files.insert(path.to_owned(), content.to_vec());
}

fn blobs(set: &mut FileSet) -> impl Iterator<Item = &mut Vec<u8>> {
    set.files
        .iter_mut()
        .filter(|(path, _)| path.starts_with("blobs/"))
        .map(|(_, blob)| blob)
}

/// Changes the manifest and everything that points at it, so that only the change is wrong.
fn rewrite_manifest(set: &mut FileSet, change: &dyn Fn(&mut serde_json::Value)) {
    let index: serde_json::Value = serde_json::from_slice(&set.files["index.json"]).expect("JSON");
    let entry = &index["manifests"][0];
    let digest = entry["digest"]
        .as_str()
        .expect("a digest")
        .trim_start_matches("sha256:");
    let old = set
        .files
        .remove(&format!("blobs/sha256/{digest}"))
        .expect("a manifest");
    let mut manifest = serde_json::from_slice(&old).expect("JSON");
    change(&mut manifest);
    let media_type = entry["mediaType"].as_str().expect("a media type");
    let mut new = descriptor(set, media_type, manifest.to_string().into_bytes());
    new["annotations"] = entry["annotations"].clone();
    set_index(set, &[new]);
}

#[test]
fn cases_have_names_of_their_own() {
    let mut names: Vec<_> = layers_that_reach_out()
        .iter()
        .map(|case| case.name)
        .collect();
    names.extend(layers_that_are_malformed().iter().map(|case| case.name));
    names.extend(layers_with_bad_compression().iter().map(|case| case.name));
    let good = image_of(Layer::zstd(|_| ()));
    names.extend(layouts(&good).iter().map(|case| case.name));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn bombs_are_small_until_they_are_opened() {
    use super::listing::Listing;
    let bomb = gzip_bomb(64 << 20);
    assert!(bomb.bytes.len() < 1 << 20, "{}", bomb.bytes.len());
    let giant = giant_pax_header(4 << 20);
    assert!(giant.bytes.len() < 1 << 17, "{}", giant.bytes.len());
    assert_eq!(Listing::of_layer(&giant.bytes[..]).paths(), ["file"]);
    let many = Listing::of_layer(&many_entries(2_000).bytes[..]).sorted();
    assert_eq!(many.rows.len(), 2_000);
    let size = Listing::of_layer(&bomb.bytes[..])
        .row("zeros")
        .content
        .clone();
    assert_eq!(size.map(|(size, _)| size), Some(64 << 20));
}

#[test]
fn only_spoiled_layouts_are_refused_by_the_image_reader() {
    use super::image_reader::ReadImage;
    let good = image_of(Layer::plain(|tar| {
        tar.file(Header::new(flag::FILE, "file"), b"content")
            .expect("write to memory");
    }));
    ReadImage::of(&good.oci_layout("v1")).expect("a good image is taken");
    for case in layouts(&good) {
        let wrong = ReadImage::of(&case.input).map(|image| image.digest);
        assert!(wrong.is_err(), "{} was taken: {wrong:?}", case.name);
    }
    for archive in [archive_of_links(&good), archive_of_duplicates(&good)] {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&file, archive).expect("write");
        let read = FileSet::read(file.path()).and_then(|set| ReadImage::of(&set));
        assert!(read.is_err(), "an archive was taken");
    }
}
