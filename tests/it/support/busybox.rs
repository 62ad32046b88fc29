//! A small real base image: the distribution's static busybox, two layers, made by hand.
//!
//! It holds what bases are known to hold and builders to stumble over: merged `/bin`, applet
//! symlinks, accounts, a sticky `/tmp`, a hard link, and a second layer that removes a file.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::json;

use super::image_fixture::{Image, Layer};
use super::peers::{Skip, on_path};
use super::raw_tar::{Header, RawTar, flag};

/// The applets that the base has as symlinks in `/usr/bin`.
const APPLETS: &str = "[ ash awk basename cat chmod chown cmp cp cut md5sum date dd dirname du echo env \
    false find grep head hostname httpd id kill ln ls mkdir mktemp mv nc ps pwd readlink rm \
    rmdir sed sh sleep sort stat tail tar test tee touch tr true uname uniq wc wget which whoami xargs";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    daemon:x:1:1:daemon:/usr/sbin:/sbin/nologin\n\
    www-data:x:33:33:www-data:/var/www:/sbin/nologin\n\
    nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n";

const GROUP: &str = "root:x:0:\ndaemon:x:1:\nwww-data:x:33:\nnogroup:x:65534:\n";

/// The base image, or why there is none here.
pub(crate) fn base() -> Result<&'static Image, Skip> {
    static BASE: OnceLock<Option<Image>> = OnceLock::new();
    BASE.get_or_init(|| static_busybox().map(|busybox| image(&busybox)))
        .as_ref()
        .ok_or_else(|| Skip::missing("a static busybox"))
}

/// Writes the base's files to a folder, for whoever wants a tree on disk and not an image: busybox,
/// its applets and accounts, all of the caller's.
pub(crate) fn write_tree(folder: &Path) -> Result<(), Skip> {
    let busybox = program()?;
    for name in [
        "bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var",
    ] {
        fs::create_dir(folder.join(name)).expect("make a folder of the tree");
    }
    let mode = |name: &str, mode| {
        fs::set_permissions(folder.join(name), Permissions::from_mode(mode)).expect("set a mode");
    };
    mode("tmp", 0o1777);
    fs::write(folder.join("bin/busybox"), busybox).expect("write busybox");
    mode("bin/busybox", 0o755);
    for applet in APPLETS.split_whitespace() {
        symlink("busybox", folder.join("bin").join(applet)).expect("link an applet");
    }
    fs::write(folder.join("etc/passwd"), PASSWD).expect("write the users");
    fs::write(folder.join("etc/group"), GROUP).expect("write the groups");
    Ok(())
}

/// The bytes of a busybox that runs alone, or why there is none here.
pub(crate) fn program() -> Result<Vec<u8>, Skip> {
    static_busybox().ok_or_else(|| Skip::missing("a static busybox"))
}

/// The bytes of the first busybox on the path that asks for no dynamic linker.
fn static_busybox() -> Option<Vec<u8>> {
    let named = on_path("busybox").into_iter();
    let candidates = named.chain([PathBuf::from("/bin/busybox"), "/usr/bin/busybox".into()]);
    candidates
        .filter_map(|path| fs::read(path).ok())
        .find(|bytes| bytes.starts_with(b"\x7fELF") && !asks_for_a_linker(bytes))
}

/// Whether a 64-bit little-endian ELF file has a `PT_INTERP` program header.
fn asks_for_a_linker(elf: &[u8]) -> bool {
    let number = |at: usize, length: usize| {
        let bytes = elf.get(at..at + length).unwrap_or_default();
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    const PT_INTERP: usize = 3;
    (0..count).any(|n| number(table + n * size, 4) == PT_INTERP)
}

fn image(busybox: &[u8]) -> Image {
    let write = "write to memory";
    let system = Layer::gzip(|tar| {
        directories(tar);
        for (name, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib")] {
            tar.entry(Header::new(flag::SYMLINK, name).to(target))
                .expect(write);
        }
        tar.file(
            Header::new(flag::FILE, "usr/bin/busybox").mode(0o755),
            busybox,
        )
        .expect(write);
        for applet in APPLETS.split_whitespace() {
            let link = Header::new(flag::SYMLINK, format!("usr/bin/{applet}"));
            tar.entry(link.to("busybox")).expect(write);
        }
        let hard = Header::new(flag::HARD_LINK, "usr/sbin/busybox").mode(0o755);
        tar.entry(hard.to("usr/bin/busybox")).expect(write);
        for (name, mode, content) in [
            ("etc/group", 0o644, GROUP),
            ("etc/obsolete", 0o644, "gone in the second layer\n"),
            ("etc/passwd", 0o644, PASSWD),
            ("etc/shadow", 0o640, "root:*:19000:0:99999:7:::\n"),
        ] {
            let header = Header::new(flag::FILE, name).mode(mode);
            tar.file(header, content.as_bytes()).expect(write);
        }
        tar.raw(&[0; 1024]).expect(write);
    });
    let update = Layer::gzip(|tar| {
        tar.entry(Header::new(flag::DIRECTORY, "etc/"))
            .expect(write);
        tar.file(Header::new(flag::FILE, "etc/.wh.obsolete"), b"")
            .expect(write);
        tar.file(
            Header::new(flag::FILE, "etc/os-release"),
            b"ID=boxwright-test\n",
        )
        .expect(write);
        tar.entry(Header::new(flag::HARD_LINK, "etc/issue").to("etc/os-release"))
            .expect(write);
        tar.raw(&[0; 1024]).expect(write);
    });
    Image {
        layers: vec![system, update],
        config: json!({
            "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["sh"],
            "Labels": {"org.opencontainers.image.title": "busybox, made by hand"},
        }),
    }
}

fn directories<W: std::io::Write>(tar: &mut RawTar<W>) {
    for (name, mode) in [
        ("dev/", 0o755),
        ("etc/", 0o755),
        ("proc/", 0o555),
        ("root/", 0o700),
        ("run/", 0o755),
        ("sys/", 0o555),
        ("tmp/", 0o1777),
        ("usr/", 0o755),
        ("usr/bin/", 0o755),
        ("usr/lib/", 0o755),
        ("usr/sbin/", 0o755),
        ("var/", 0o755),
        ("var/www/", 0o755),
    ] {
        tar.entry(Header::new(flag::DIRECTORY, name).mode(mode))
            .expect("write to memory");
    }
}
