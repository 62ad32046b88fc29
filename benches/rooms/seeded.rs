//! The files that are worked on: always the same, in the shape of installed packages.

use std::cell::Cell;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use boxwright::store::Store;
use tempfile::TempDir;

/// A folder of generated files, gone at the end.
pub(crate) struct Seeded {
    folder: TempDir,
    root: PathBuf,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) bytes: u64,
    stores: Cell<u32>,
}

/// As in a `node_modules` that was measured: half of the files below 900 bytes, a tenth above 12 kB.
const FILES: u64 = 4000;
const FILES_PER_FOLDER: u64 = 10;
/// Every so many files one holds what nothing compresses.
const NOISE_EVERY: u64 = 40;

impl Seeded {
    /// Writes the files below cargo's own folder for such things.
    pub(crate) fn make() -> Seeded {
        let place = env!("CARGO_TARGET_TMPDIR");
        let folder = TempDir::with_prefix_in("rooms-", place).expect("make a folder");
        let mut seeded = Seeded {
            root: folder.path().join("files"),
            folder,
            files: Vec::new(),
            bytes: 0,
            stores: Cell::new(0),
        };
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for number in 0..FILES {
            let package = number / FILES_PER_FOLDER;
            let folder = seeded.root().join(format!("package-{package}/lib"));
            fs::create_dir_all(&folder).expect("make a folder");
            let path = folder.join(format!("module-{number}.js"));
            let content = numbers.content(number);
            fs::write(&path, &content).expect("write a file");
            seeded.bytes += content.len() as u64;
            seeded.files.push(path);
        }
        seeded
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn below(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An empty store.
    pub(crate) fn new_store(&self) -> Store {
        let number = self.stores.replace(self.stores.get() + 1);
        if number > 0 {
            // The one before last is not looked at any more.
            let _ = fs::remove_dir_all(self.below(&format!("store-{}", number - 1)));
        }
        Store::open(&self.below(&format!("store-{number}"))).expect("open a store")
    }

    /// Adds a line to a file in the middle.
    pub(crate) fn edit(&self) {
        let path = &self.files[self.files.len() / 2];
        let file = fs::OpenOptions::new().append(true).open(path);
        let mut file = file.expect("open a file");
        file.write_all(b"// one more line\n").expect("edit a file");
    }

    /// Waits until the times of the files are trusted.
    pub(crate) fn settle(&self) {
        std::thread::sleep(std::time::Duration::from_millis(2100));
    }
}

impl fmt::Display for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = self.bytes as f64 / 1e6;
        write!(f, "{} files, {megabytes:.1} MB", self.files.len())
    }
}

/// Numbers that look random and are not (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn content(&mut self, number: u64) -> Vec<u8> {
        // Each power of two as likely as the next, and a few large ones.
        let power = 5 + self.below(9) + if self.below(20) == 0 { 5 } else { 0 };
        let length = ((1 << power) + self.below(1 << power)) as usize;
        let mut content = Vec::with_capacity(length + 16);
        while content.len() < length {
            if number.is_multiple_of(NOISE_EVERY) {
                content.extend_from_slice(&self.next().to_le_bytes());
                continue;
            }
            let word = WORDS[self.below(WORDS.len() as u64) as usize];
            content.extend_from_slice(word.as_bytes());
            match self.below(6) {
                0 => content.extend_from_slice(self.below(10_000).to_string().as_bytes()),
                1 => content.extend_from_slice(b";\n  "),
                _ => content.push(b' '),
            }
        }
        content.truncate(length);
        content
    }
}

const WORDS: [&str; 32] = [
    "const",
    "function",
    "return",
    "exports.",
    "module",
    "require(",
    ")",
    "=>",
    "{",
    "}",
    "if (",
    "else",
    "this.",
    "options",
    "callback",
    "length",
    "===",
    "undefined",
    "value",
    "index",
    "[",
    "]",
    "await",
    "async",
    "Promise",
    "new",
    "Error(",
    "node",
    "parent",
    "children",
    "import",
    "default",
];
