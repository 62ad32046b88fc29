//! One pattern of an ignore file, as Docker's matcher (moby/patternmatcher) judges it.
//!
//! Docker turns a pattern into a regular expression of Go's, and much leaks through: `\d` is a
//! digit, `^` is an anchor in the middle, a class may match a slash. Images depend on it, so it is
//! done here in the same two steps: first Docker's translation, character by character, then Go's
//! dialect into that of the `regex` crate. Plain patterns, which are nearly all, need neither.

use std::borrow::Cow;

use regex::Regex;

/// A pattern without its `!`, cleaned.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    /// The path itself.
    Exact,
    /// `text**`: what begins so.
    Prefix,
    /// `**text`: what ends so, or, after `**/`, is it.
    Suffix,
    /// Anything else.
    Regex(Box<Regex>),
}

impl Pattern {
    /// Compiles a cleaned pattern; `None` if Docker refuses it.
    pub(crate) fn compile(text: &str) -> Option<Pattern> {
        check_syntax(text)?;
        let (form, regex) = translate(text);
        let form = match form {
            Form::Exact | Form::Prefix | Form::Suffix => form,
            Form::Regex(_) => unreachable!("translate tells the form apart from the expression"),
        };
        let form = match regex {
            None => form,
            Some(regex) => {
                let regex = regex::RegexBuilder::new(&from_go(&regex)?)
                    .size_limit(1 << 20)
                    .build()
                    .ok()?;
                Form::Regex(Box::new(regex))
            }
        };
        Some(Pattern {
            text: text.to_owned(),
            form,
        })
    }

    /// Whether the pattern matches this very path; parents are the caller's.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        match &self.form {
            Form::Exact => path == self.text.as_bytes(),
            Form::Prefix => path.starts_with(&self.text.as_bytes()[..self.text.len() - 2]),
            Form::Suffix => {
                let suffix = &self.text.as_bytes()[2..];
                path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path)
            }
            Form::Regex(regex) => regex.is_match(&runes(path)),
        }
    }

    /// Whether the pattern could match something strictly below `directory`. It may say yes too
    /// often, never no.
    pub(crate) fn may_match_below(&self, directory: &[u8]) -> bool {
        let end = self
            .text
            .find(['*', '?', '[', '\\', '^'])
            .unwrap_or(self.text.len());
        let fixed = &self.text.as_bytes()[..end];
        let below = [directory, b"/"].concat();
        fixed.starts_with(&below) || below.starts_with(fixed)
    }
}

/// Go reads a path rune by rune, and a byte that is not UTF-8 as U+FFFD.
fn runes(path: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(path) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(path.len() + 8);
    for chunk in path.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(text)
}

/// Docker's own translation (`Pattern.compile`): the form, and the expression where one is needed.
fn translate(pattern: &str) -> (Form, Option<String>) {
    let mut regex = "^".to_owned();
    let mut form = Form::Exact;
    let mut needs_regex = false;
    let mut rest = pattern.chars().peekable();
    let mut is_first = true;
    while let Some(character) = rest.next() {
        match character {
            '*' if rest.peek() == Some(&'*') => {
                rest.next();
                rest.next_if_eq(&'/');
                if rest.peek().is_some() {
                    regex.push_str("(.*/)?");
                    needs_regex = true;
                } else if matches!(form, Form::Exact) && !needs_regex {
                    form = Form::Prefix;
                } else {
                    regex.push_str(".*");
                    needs_regex = true;
                }
                if is_first {
                    form = Form::Suffix;
                    needs_regex = false;
                }
            }
            '*' => {
                regex.push_str("[^/]*");
                needs_regex = true;
            }
            '?' => {
                regex.push_str("[^/]");
                needs_regex = true;
            }
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => {
                regex.push('\\');
                regex.push(character);
            }
            '\\' => {
                regex.push('\\');
                if let Some(escaped) = rest.next() {
                    regex.push(escaped);
                    needs_regex = true;
                }
            }
            '[' | ']' => {
                regex.push(character);
                needs_regex = true;
            }
            other => regex.push(other),
        }
        is_first = false;
    }
    regex.push('$');
    (form, needs_regex.then_some(regex))
}

/// The same expression in the dialect of the `regex` crate; `None` where Go refuses it.
fn from_go(go: &str) -> Option<String> {
    let mut rust = String::with_capacity(go.len() + 16);
    let mut rest = go.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\\' => rust.push_str(&escape(rest.next()?, Place::Outside)?),
            '[' => class(&mut rest, &mut rust)?,
            // Everything that Docker wrote itself, and literals; a lone `]` is one in both.
            other => rust.push(other),
        }
    }
    Some(rust)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    InClass,
}

/// What `\` and a character mean in Go, whose classes know ASCII only.
fn escape(character: char, place: Place) -> Option<String> {
    let text = match (character, place) {
        ('d', Place::InClass) => "0-9",
        ('w', Place::InClass) => "0-9A-Za-z_",
        ('s', Place::InClass) => r"\t\n\x0C\r ",
        ('d', _) => "[0-9]",
        ('D', _) => "[^0-9]",
        ('w', _) => "[0-9A-Za-z_]",
        ('W', _) => "[^0-9A-Za-z_]",
        ('s', _) => r"[\t\n\x0C\r ]",
        ('S', _) => r"[^\t\n\x0C\r ]",
        ('b', Place::Outside) => r"(?-u:\b)",
        ('B', Place::Outside) => r"(?-u:\B)",
        ('A', Place::Outside) => r"\A",
        ('z', Place::Outside) => r"\z",
        ('a', _) => r"\x07",
        ('f', _) => r"\x0C",
        ('n', _) => r"\n",
        ('r', _) => r"\r",
        ('t', _) => r"\t",
        ('v', _) => r"\x0B",
        (other, _) if other.is_ascii() && !other.is_ascii_alphanumeric() => {
            return Some(literal(other));
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn literal(character: char) -> String {
    regex::escape(character.encode_utf8(&mut [0; 4]))
}

/// A class: in Go an inner `[` is a literal, and so are `&&`, `--` and `~~`.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, rust: &mut String) -> Option<()> {
    rust.push('[');
    if rest.next_if_eq(&'^').is_some() {
        rust.push('^');
    }
    let mut is_first = true;
    loop {
        let character = rest.next()?;
        if character == ']' && !is_first {
            rust.push(']');
            return Some(());
        }
        is_first = false;
        if character == '[' && rest.peek() == Some(&':') {
            posix(rest, rust)?;
            continue;
        }
        let low = match character {
            '\\' => match rest.next()? {
                set @ ('d' | 'w' | 's' | 'D' | 'W' | 'S') => {
                    rust.push_str(&escape(set, Place::InClass)?);
                    continue;
                }
                escaped => single(escaped)?,
            },
            other => other,
        };
        rust.push_str(&in_class(low));
        let mut ahead = rest.clone();
        if ahead.next() == Some('-') && ahead.peek().is_some_and(|next| *next != ']') {
            rest.next();
            let high = match rest.next()? {
                '\\' => single(rest.next()?)?,
                other => other,
            };
            if high < low {
                return None;
            }
            rust.push('-');
            rust.push_str(&in_class(high));
        }
    }
}

/// A single escaped character in a class.
fn single(character: char) -> Option<char> {
    match character {
        'a' => Some('\x07'),
        'f' => Some('\x0C'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\x0B'),
        other if other.is_ascii() && !other.is_ascii_alphanumeric() => Some(other),
        _ => None,
    }
}

fn in_class(character: char) -> String {
    match character {
        '[' | ']' | '&' | '~' | '-' | '^' | '\\' => format!("\\{character}"),
        other => other.to_string(),
    }
}

/// `[:alpha:]`, after its first bracket; any other text there is a literal bracket.
fn posix(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, rust: &mut String) -> Option<()> {
    const NAMES: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
        "space", "upper", "word", "xdigit",
    ];
    let text: String = rest.clone().collect();
    let Some(end) = text.find(":]").filter(|end| *end > 0) else {
        rust.push_str("\\[");
        return Some(());
    };
    let name = text[1..end].trim_start_matches('^');
    // Go refuses a name that it does not know.
    NAMES.contains(&name).then_some(())?;
    rust.push('[');
    rust.push_str(&text[..end]);
    rust.push_str(":]");
    rest.by_ref()
        .take(text[..end + 2].chars().count())
        .for_each(drop);
    Some(())
}

/// Go's `filepath.Match` refuses a pattern whose brackets or escapes are not closed, and Docker
/// asks it first.
fn check_syntax(pattern: &str) -> Option<()> {
    let mut rest = pattern;
    while !rest.is_empty() {
        rest = rest.trim_start_matches('*');
        let (chunk, after) = rest.split_at(chunk_end(rest));
        check_chunk(chunk)?;
        rest = after;
    }
    Some(())
}

/// Where the next `*` outside of brackets stands.
fn chunk_end(pattern: &str) -> usize {
    let mut in_range = false;
    let mut bytes = pattern.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'[' => in_range = true,
            b']' => in_range = false,
            b'*' if !in_range => return at,
            _ => {}
        }
    }
    pattern.len()
}

fn check_chunk(chunk: &str) -> Option<()> {
    let mut rest = chunk.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => {
                rest.next()?;
            }
            '[' => rest = check_range(rest)?,
            _ => {}
        }
    }
    Some(())
}

fn check_range(mut rest: std::str::Chars<'_>) -> Option<std::str::Chars<'_>> {
    if rest.as_str().starts_with('^') {
        rest.next();
    }
    let mut count = 0;
    loop {
        if count > 0 && rest.as_str().starts_with(']') {
            rest.next();
            return Some(rest);
        }
        check_escape(&mut rest)?;
        if rest.as_str().starts_with('-') {
            rest.next();
            check_escape(&mut rest)?;
        }
        count += 1;
    }
}

/// One character of a range, which must not be its last.
fn check_escape(rest: &mut std::str::Chars<'_>) -> Option<()> {
    match rest.next()? {
        '-' | ']' => return None,
        '\\' => {
            rest.next()?;
        }
        _ => {}
    }
    (!rest.as_str().is_empty()).then_some(())
}
