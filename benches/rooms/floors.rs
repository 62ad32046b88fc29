//! The plain ways: what the same work costs with nothing around it.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use libdeflater::{CompressionLvl, Compressor};
use sha2::{Digest, Sha256};

/// Lists every directory and looks at every entry.
pub(crate) fn walk(root: &Path) {
    for entry in fs::read_dir(root).expect("list a directory") {
        let entry = entry.expect("list a directory");
        let found = entry.metadata().expect("look at an entry");
        if found.is_dir() {
            walk(&entry.path());
        }
        black_box(found);
    }
}

/// Reads and hashes every file.
pub(crate) fn hash(files: &[PathBuf]) {
    let mut buffer = vec![0; 1 << 17];
    for path in files {
        let mut file = File::open(path).expect("open a file");
        let mut hasher = Sha256::new();
        loop {
            match file.read(&mut buffer).expect("read a file") {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
        black_box(hasher.finalize());
    }
}

/// Reads all files and compresses them, a mebibyte at a time, as our frames are.
pub(crate) fn deflate(files: &[PathBuf], level: u8) {
    const FRAME: usize = 1 << 20;
    let level = CompressionLvl::new(level.into()).expect("a level of libdeflate");
    let mut compressor = Compressor::new(level);
    let mut packed = vec![0; compressor.gzip_compress_bound(2 * FRAME)];
    let mut frame = Vec::with_capacity(2 * FRAME);
    let mut compress = |frame: &mut Vec<u8>| {
        for part in frame.chunks(2 * FRAME) {
            let size = compressor.gzip_compress(part, &mut packed);
            black_box(size.expect("the buffer is large enough"));
        }
        frame.clear();
    };
    for path in files {
        let mut file = File::open(path).expect("open a file");
        file.read_to_end(&mut frame).expect("read a file");
        if frame.len() >= FRAME {
            compress(&mut frame);
        }
    }
    compress(&mut frame);
}

/// Makes a tar of the directory with the `tar` crate, and hashes it.
pub(crate) fn tar(root: &Path) {
    let mut builder = tar::Builder::new(Hashing(Sha256::new()));
    builder.append_dir_all("app", root).expect("make a tar");
    let hashing = builder.into_inner().expect("make a tar");
    black_box(hashing.0.finalize());
}

struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
