//! Source files as the rules of the house see them: the text, its code without comments and
//! literals, and where the unit tests are.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;

/// One line that breaks a rule.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) rule: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// A source file, and its code alone.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with comments and the insides of literals blanked; the lines stay in place.
    pub(crate) code: String,
    /// The byte range of `mod tests { … }` in it: all of a `tests.rs`, empty at the end if there is
    /// none.
    pub(crate) tests: Range<usize>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let code = code_of(text);
        let block = |at: usize| {
            let open = at + code[at..].find(['{', ';'])?;
            let whole = at..open + block_length(&code[open..]);
            code[open..].starts_with('{').then_some(whole)
        };
        let tests = match path.ends_with("/tests.rs") {
            true => 0..code.len(),
            false => words_in(&code, "mod tests")
                .find_map(block)
                .unwrap_or(code.len()..code.len()),
        };
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            tests,
        }
    }

    pub(crate) fn broken(&self, at: usize, rule: String) -> Broken {
        let line = self.text.as_bytes()[..at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        Broken {
            path: self.path.clone(),
            line,
            rule,
        }
    }
}

/// The positions of `word` where no letter, digit or underscore touches it.
pub(crate) fn words_in<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let (before, after) = (&code[..*at], &code[at + word.len()..]);
            !joins(before.chars().next_back()) && !joins(after.chars().next())
        })
}

/// The length of the block that opens at the start of `code`.
pub(crate) fn block_length(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The text with every byte of comments and literals, except line ends, made a space.
pub(crate) fn code_of(text: &str) -> String {
    let mut code = text.as_bytes().to_vec();
    let mut at = 0;
    while at < code.len() {
        let length = foreign_length(&text.as_bytes()[at..]);
        code[at..at + length]
            .iter_mut()
            .filter(|byte| **byte != b'\n')
            .for_each(|b| *b = b' ');
        // A raw string's `r` must not be taken for the end of a word before it.
        at += length.max(1);
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// The length of the comment or literal that begins here; 0 for plain code.
fn foreign_length(text: &[u8]) -> usize {
    let until = |end: &[u8], from: usize| {
        let found = text[from..]
            .windows(end.len())
            .position(|window| window == end);
        found.map_or(text.len(), |at| from + at + end.len())
    };
    match text {
        [b'/', b'/', ..] => text.iter().position(|b| *b == b'\n').unwrap_or(text.len()),
        [b'/', b'*', ..] => until(b"*/", 2),
        [b'r', b'"' | b'#', ..] => {
            let hashes = text[1..].iter().take_while(|b| **b == b'#').count();
            match text.get(1 + hashes) {
                Some(b'"') => until(&[b"\"", &b"#".repeat(hashes)[..]].concat(), 2 + hashes),
                _ => 0,
            }
        }
        [b'"', ..] => quoted_length(text),
        [b'\'', b'\\', ..] => until(b"'", 3),
        // A character, and not a lifetime, is closed again: at once, or after a few bytes.
        [b'\'', first, rest @ ..] => {
            let width = match first {
                0..0x80 => 1,
                0..0xe0 => 2,
                0..0xf0 => 3,
                _ => 4,
            };
            if rest.get(width - 1) == Some(&b'\'') {
                width + 2
            } else {
                0
            }
        }
        _ => 0,
    }
}

fn quoted_length(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder of the package, sorted.
pub(crate) fn sources_below(folder: &str) -> Vec<Source> {
    let (mut sources, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("list a source folder") {
            let path = entry.expect("list a source folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("read a source");
                let name = path.strip_prefix(root()).expect("below the package");
                sources.push(Source::new(name.to_str().expect("UTF-8"), &text));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}
