//! A tar writer that refuses nothing: headers byte by byte, so that a test can say what no honest
//! writer would.
//!
//! POSIX.1-2017 `pax` "ustar Interchange Format" and "pax Header Block".

use std::io::{self, Write};

/// The kinds of entries that the tests use, by their type flag.
pub(crate) mod flag {
    pub(crate) const FILE: u8 = b'0';
    pub(crate) const HARD_LINK: u8 = b'1';
    pub(crate) const SYMLINK: u8 = b'2';
    pub(crate) const CHAR_DEVICE: u8 = b'3';
    pub(crate) const BLOCK_DEVICE: u8 = b'4';
    pub(crate) const DIRECTORY: u8 = b'5';
    pub(crate) const FIFO: u8 = b'6';
    pub(crate) const PAX: u8 = b'x';
    pub(crate) const PAX_GLOBAL: u8 = b'g';
    pub(crate) const GNU_LONG_NAME: u8 = b'L';
}

/// What one header block says; nothing in it is checked.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) flag: u8,
    /// Cut at 100 bytes; longer names need a PAX record before the entry.
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: u64,
    pub(crate) size: u64,
}

impl Header {
    pub(crate) fn new(flag: u8, name: impl AsRef<[u8]>) -> Header {
        let mode = match flag {
            flag::DIRECTORY => 0o755,
            flag::SYMLINK => 0o777,
            _ => 0o644,
        };
        Header {
            flag,
            name: name.as_ref().to_vec(),
            link: Vec::new(),
            mode,
            owner: (0, 0),
            mtime: 0,
            size: 0,
        }
    }

    /// The same pointing at `target`.
    pub(crate) fn to(mut self, target: impl AsRef<[u8]>) -> Header {
        self.link = target.as_ref().to_vec();
        self
    }

    /// The same with these permission bits.
    pub(crate) fn mode(mut self, mode: u32) -> Header {
        self.mode = mode;
        self
    }

    /// The same claiming this size, whatever follows.
    pub(crate) fn size(mut self, size: u64) -> Header {
        self.size = size;
        self
    }

    /// The 512 bytes, with a right checksum.
    pub(crate) fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        text(&mut block[0..100], &self.name);
        text(
            &mut block[100..108],
            format!("{:07o}", self.mode).as_bytes(),
        );
        text(
            &mut block[108..116],
            format!("{:07o}", self.owner.0).as_bytes(),
        );
        text(
            &mut block[116..124],
            format!("{:07o}", self.owner.1).as_bytes(),
        );
        if self.size < 1 << 33 {
            text(
                &mut block[124..136],
                format!("{:011o}", self.size).as_bytes(),
            );
        } else {
            // The GNU and star way for large numbers: base 256, marked by the top bit.
            block[124] = 0x80;
            block[128..136].copy_from_slice(&self.size.to_be_bytes());
        }
        text(
            &mut block[136..148],
            format!("{:011o}", self.mtime).as_bytes(),
        );
        block[156] = self.flag;
        text(&mut block[157..257], &self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        seal(&mut block);
        block
    }
}

/// Puts the right checksum into a header block.
pub(crate) fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn text(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// A tar stream in the making.
#[derive(Debug)]
pub(crate) struct RawTar<W: Write> {
    out: W,
}

impl<W: Write> RawTar<W> {
    pub(crate) fn new(out: W) -> RawTar<W> {
        RawTar { out }
    }

    /// A file with its content; the header's size is set to fit.
    pub(crate) fn file(&mut self, header: Header, content: &[u8]) -> io::Result<()> {
        let size = content.len() as u64;
        self.raw(&header.size(size).block())?;
        self.raw(content)?;
        self.raw(&vec![
            0;
            content.len().next_multiple_of(512) - content.len()
        ])
    }

    /// An entry without content.
    pub(crate) fn entry(&mut self, header: Header) -> io::Result<()> {
        self.raw(&header.block())
    }

    /// A PAX header with these records, for the entry that follows.
    pub(crate) fn pax(&mut self, records: &[(&str, &[u8])]) -> io::Result<()> {
        let body: Vec<u8> = records
            .iter()
            .flat_map(|(key, value)| record(key, value))
            .collect();
        self.file(Header::new(flag::PAX, "PaxHeaders/entry"), &body)
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// The two zero blocks that end a tar; gives the stream back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.raw(&[0; 1024])?;
        Ok(self.out)
    }
}

/// One PAX record; its length counts its own digits.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

#[test]
fn an_independent_reader_agrees() {
    let mut tar = RawTar::new(Vec::new());
    tar.entry(Header::new(flag::DIRECTORY, "app/").mode(0o1777))
        .expect("write");
    let long = "n".repeat(300);
    let records: [(&str, &[u8]); 2] = [
        ("path", long.as_bytes()),
        ("SCHILY.xattr.user.note", b"hello"),
    ];
    tar.pax(&records).expect("write");
    tar.file(Header::new(flag::FILE, "cut"), b"content")
        .expect("write");
    tar.entry(Header::new(flag::HARD_LINK, "again").to("cut"))
        .expect("write");
    let bytes = tar.finish().expect("write");
    let text = super::listing::Listing::of_layer(&bytes[..]).to_string();
    insta::assert_snapshot!(text.replace(&long, "[300 x n]"), @r"
    dir  1777 0:0 @0 app
    file 0644 0:0 @0 [300 x n] 7 sha256:ed7002 user.note=hello
    hard 0644 0:0 @0 again -> cut
    ");
}
