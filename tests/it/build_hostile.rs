//! Hostile bases before the program: refused with a message that names the place, or contained;
//! never a panic, never a file outside, within bounds of time and memory.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use boxwright::transport::validate_archive;
use flate2::Compression;
use flate2::write::GzEncoder;
use regex::Regex;

use crate::support::hostile::{self, Case};
use crate::support::image_fixture::{Image, Layer};
use crate::support::image_reader::ReadImage;
use crate::support::listing::Listing;
use crate::support::process::{Ran, run};
use crate::support::raw_tar::{Header, flag};
use crate::support::sandbox::Sandbox;

/// A stage on the base that writes where hostile links lead, and one that takes all its files.
const SPEC: &str = "\
format: 1
image: test/hostile
args: {BASE: none}
stages:
  app:
    from: ${BASE}
    allow: [root]
    steps:
      - {write: /out/escape, text: written}
      - {copy: /, from: \"${BASE}\", to: /all}
";

/// The same without reading what the base's files hold.
const SPEC_ON_TOP: &str = "\
format: 1
image: test/hostile
args: {BASE: none}
stages:
  app:
    from: ${BASE}
    allow: [root]
    steps:
      - {write: /new, text: written}
";

const MEMORY_KIB: u64 = 300 << 10;
const TIME: Duration = Duration::from_secs(60);

/// Builds on the base in `work/`; checks all that holds for every base.
#[track_caller]
fn built(sandbox: &Sandbox, name: &str, base: &str, spec: &str) -> Ran {
    sandbox.file("boxwright.yaml", spec);
    let before = Listing::of_directory(&sandbox.work());
    let argument = format!("BASE={base}");
    let ran = sandbox.boxwright(["build", "--arg", &argument, "-o", "oci-archive:../out.tar"]);
    assert!([0, 1].contains(&ran.code), "{name}: {ran:?}");
    assert!(ran.peak_kib < MEMORY_KIB, "{name}: {} KiB", ran.peak_kib);
    assert!(ran.cpu < TIME, "{name}: {:?}", ran.cpu);
    let after = Listing::of_directory(&sandbox.work());
    assert_eq!(after.to_string(), before.to_string(), "{name} wrote beside");
    let mut beside: Vec<_> = fs::read_dir(sandbox.root())
        .expect("list the sandbox")
        .map(|entry| entry.expect("list the sandbox").file_name())
        .collect();
    beside.sort();
    beside.retain(|name| name != "out.tar");
    assert_eq!(beside, ["home", "tmp", "work"], "{name}");
    let temporary = fs::read_dir(sandbox.root().join("tmp"))
        .expect("list the folder")
        .count();
    assert_eq!(temporary, 0, "{name} left temporary files");
    assert!(!Path::new("/tmp/escape").exists(), "{name} escaped");
    assert!(!ran.stderr.contains('\x1b'), "{name} reached the terminal");
    if ran.code == 0 {
        // Layers of a base are passed on as they came, and the judge sees what is wrong in them;
        // all else is ours.
        let mut found = validate_archive(&sandbox.root().join("out.tar")).expect("an archive");
        found.retain(|violation| !violation.place.starts_with("layer 0 "));
        assert!(found.is_empty(), "{name}: {found:#?}");
        assert!(!ran.stderr.contains("error:"), "{ran:?}");
    } else {
        assert!(ran.stderr.contains("error: "), "{ran:?}");
        assert!(!sandbox.root().join("out.tar").exists(), "{name}");
    }
    ran
}

/// What a case came to, in the lines of a golden. A case that is contained shows what its new
/// layers hold.
fn verdict(text: &mut String, sandbox: &Sandbox, name: &str, ran: &Ran) {
    let _ = writeln!(text, "## {name}: exit {}", ran.code);
    match ran.code {
        0 => {
            // The base's own layer may be no right tar; ours are.
            let image = ReadImage::at(&sandbox.root().join("out.tar"));
            let new = image.layers.iter().skip(1);
            let new = new.map(|layer| Listing::of_layer(&layer[..]).to_string());
            text.extend(new);
        }
        _ => {
            let said = sandbox.redact(&ran.stderr);
            let error = said.find("error:").expect("an error");
            // Digests of what is made by hand depend on the library that compressed it.
            let digest = Regex::new("sha256:[0-9a-f]{64}").expect("a fixed pattern");
            text.push_str(&digest.replace_all(&said[error..], "sha256:[DIGEST]"));
        }
    }
    text.push('\n');
}

/// All cases as one text; each is a base of one layer in a layout.
fn verdicts(cases: Vec<Case<Layer>>) -> String {
    let mut text = String::new();
    for Case { name, input } in cases {
        let sandbox = Sandbox::new();
        hostile::image_of(input).write_layout(&sandbox.path("base"), "v1");
        let ran = built(&sandbox, name, "oci:base:v1", SPEC);
        if ran.code == 1 {
            let names_it = ran.stderr.contains("layer 1 of oci:base:v1")
                || ran.stderr.contains("the layers of oci:base:v1")
                || ran.stderr.contains("caused by: put /")
                || ran.stderr.contains("boxwright.yaml:");
            assert!(names_it, "{name}: {ran:?}");
        }
        verdict(&mut text, &sandbox, name, &ran);
    }
    text
}

#[test]
fn layers_that_reach_out_are_contained_or_refused() {
    insta::assert_snapshot!(
        "layers_that_reach_out",
        verdicts(hostile::layers_that_reach_out())
    );
}

#[test]
fn malformed_layers_are_refused() {
    insta::assert_snapshot!(
        "layers_malformed",
        verdicts(hostile::layers_that_are_malformed())
    );
}

#[test]
fn badly_compressed_layers_are_refused() {
    let cases = hostile::layers_with_bad_compression();
    let count = cases.len();
    let text = verdicts(cases);
    assert_eq!(text.matches(": exit 1").count(), count, "{text}");
    insta::assert_snapshot!("layers_badly_compressed", text);
}

fn good() -> Image {
    hostile::image_of(Layer::gzip(|tar| {
        tar.file(Header::new(flag::FILE, "file"), b"content")
            .expect("write to memory");
        tar.raw(&[0; 1024]).expect("write to memory");
    }))
}

#[test]
fn spoiled_layouts_are_refused_as_directory_and_as_archive() {
    let mut text = String::new();
    for case in hostile::layouts(&good()) {
        let sandbox = Sandbox::new();
        case.input.write_to_directory(&sandbox.path("base"));
        case.input.write_as_tar(&sandbox.path("base.tar"));
        let ran = built(&sandbox, case.name, "oci:base:v1", SPEC);
        assert_eq!(ran.code, 1, "{}: {ran:?}", case.name);
        verdict(&mut text, &sandbox, case.name, &ran);
        let archive = built(&sandbox, case.name, "oci-archive:base.tar:v1", SPEC);
        assert_eq!(archive.code, 1, "{}: {archive:?}", case.name);
    }
    insta::assert_snapshot!("layouts", text);
}

#[test]
fn hostile_archives_are_refused() {
    let mut text = String::new();
    for (name, bytes) in [
        ("archive of links", hostile::archive_of_links(&good())),
        (
            "archive of duplicates",
            hostile::archive_of_duplicates(&good()),
        ),
    ] {
        let sandbox = Sandbox::new();
        sandbox.file("base.tar", bytes);
        for kind in ["oci-archive", "docker-archive"] {
            let name = format!("{name} as {kind}");
            let ran = built(&sandbox, &name, &format!("{kind}:base.tar"), SPEC);
            assert_eq!(ran.code, 1, "{name}: {ran:?}");
            verdict(&mut text, &sandbox, &name, &ran);
        }
    }
    insta::assert_snapshot!("archives", text);
}

/// Builds on a base of one large layer, without its contents.
#[track_caller]
fn on_top_of(name: &str, layer: Layer) -> (Sandbox, Ran) {
    let sandbox = Sandbox::new();
    hostile::image_of(layer).write_layout(&sandbox.path("base"), "v1");
    let ran = built(&sandbox, name, "oci:base:v1", SPEC_ON_TOP);
    (sandbox, ran)
}

/// A layer that is a thousand times its size when it is unpacked: members of one gzip, all alike.
fn steep_bomb() -> Layer {
    const MEMBER: usize = 64 << 20;
    const COUNT: usize = 18;
    let packed = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("write to memory");
        encoder.finish().expect("write to memory")
    };
    let size = (MEMBER * COUNT) as u64;
    let mut bytes = packed(&Header::new(flag::FILE, "zeros").size(size).block());
    let member = packed(&vec![0; MEMBER]);
    (0..COUNT).for_each(|_| bytes.extend(&member));
    bytes.extend(packed(&[0; 1024]));
    Layer::of_bytes(bytes, "tar+gzip")
}

/// What a sandbox takes on the disk, in MiB.
fn on_disk(sandbox: &Sandbox) -> u64 {
    let mut du = sandbox.command("du");
    let ran = run(du.args(["-sm", "."]).current_dir(sandbox.root())).ok();
    let number = ran.stdout.split_whitespace().next();
    number.and_then(|n| n.parse().ok()).expect("a size")
}

#[test]
fn a_gzip_bomb_is_refused() {
    let (sandbox, ran) = on_top_of("steep gzip bomb", steep_bomb());
    let ran = ran.fails_with(1);
    assert!(ran.stderr.contains("layer 1 of oci:base:v1"), "{ran:?}");
    assert!(on_disk(&sandbox) < 20, "{} MiB", on_disk(&sandbox));
}

/// A hundred times its size is what honest layers reach, too: it costs time, but no room.
#[test]
fn a_lesser_bomb_costs_neither_memory_nor_disk() {
    let (sandbox, ran) = on_top_of("gzip bomb", hostile::gzip_bomb(1100 << 20));
    ran.ok();
    assert!(on_disk(&sandbox) < 50, "{} MiB", on_disk(&sandbox));
}

#[test]
fn a_giant_header_is_refused() {
    let (_, ran) = on_top_of("giant header", hostile::giant_pax_header(256 << 20));
    let ran = ran.fails_with(1);
    assert!(ran.stderr.contains("layer 1 of oci:base:v1"), "{ran:?}");
}

#[test]
fn a_base_of_many_entries_is_taken() {
    on_top_of("many entries", hostile::many_entries(150_000))
        .1
        .ok();
}

#[test]
fn a_million_entries_are_refused() {
    let (_, ran) = on_top_of("a million entries", hostile::many_entries(1_000_000));
    let ran = ran.fails_with(1);
    assert!(ran.stderr.contains("more entries"), "{ran:?}");
}
