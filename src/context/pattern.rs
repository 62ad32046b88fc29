//! One pattern of an ignore file, as Docker's matcher (moby/patternmatcher) judges it.
//!
//! Docker turns a pattern into a regular expression of Go's, and much leaks through: `\d` is a
//! digit, `^` is an anchor in the middle, a class may match a slash, and `{`, `|` and `}` are never
//! escaped, because the table of what to escape has too few bits for them. Images depend on it, so
//! it is done here in the same two steps: first Docker's translation, character by character, then
//! Go's dialect into that of the `regex` crate (`dialect`). Plain patterns, which are nearly all,
//! need neither, and most paths are told apart by how a pattern begins and ends.

use std::borrow::Cow;

use regex::bytes::{Regex, RegexBuilder};

use crate::context::dialect::from_go;

/// A pattern without its `!`, cleaned.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    /// As it stands in the file; not always text.
    bytes: Box<[u8]>,
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
    Regex(Box<Expression>),
}

/// A pattern that needs an expression.
#[derive(Debug, Clone)]
struct Expression {
    regex: Regex,
    /// What every path that matches begins with.
    begins: Box<str>,
    /// What every path that matches ends with.
    ends: Box<str>,
    /// The leading names with no wildcards but `*` and `?`, and whether anything follows them.
    names: Option<(Box<[Box<str>]>, Further)>,
}

/// Whether a pattern goes on, in a way that spans directories, after its leading names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Further {
    Anything,
    Nothing,
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Docker refuses it, too.
    Malformed,
    /// It would take too much memory.
    TooLarge,
    /// `\p`: Go's tables of Unicode and ours are of different years.
    UnicodeClass,
}

/// The most memory that one pattern may take.
const MOST_MEMORY: usize = 1 << 20;

impl Pattern {
    /// Compiles a cleaned pattern.
    pub(crate) fn compile(bytes: &[u8]) -> Result<Pattern, Refused> {
        check_syntax(bytes).ok_or(Refused::Malformed)?;
        let text = runes(bytes);
        // Go's scanner drops a byte order mark at the beginning.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let form = match translate(text) {
            Translated::Plain(form) => form,
            Translated::Regex(go) => Form::Regex(Box::new(Expression::compile(text, &go)?)),
        };
        Ok(Pattern {
            bytes: bytes.into(),
            form,
        })
    }

    /// Whether the pattern matches this very path; parents are the caller's.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        match &self.form {
            Form::Exact => *path == *self.bytes,
            Form::Prefix => path.starts_with(self.begins()),
            Form::Suffix => {
                let suffix = &self.bytes[2..];
                path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path)
            }
            Form::Regex(expression) => {
                path.starts_with(expression.begins.as_bytes())
                    && path.ends_with(expression.ends.as_bytes())
                    && expression.regex.is_match(runes(path).as_bytes())
            }
        }
    }

    /// Whether the pattern could match something strictly below `directory`. It may say yes too
    /// often, never no.
    pub(crate) fn may_match_below(&self, directory: &[u8]) -> bool {
        let below = [directory, b"/"].concat();
        match &self.form {
            Form::Exact => self.bytes.starts_with(&below),
            Form::Prefix => {
                let begins = self.begins();
                begins.starts_with(&below) || below.starts_with(begins)
            }
            Form::Suffix => true,
            Form::Regex(expression) => {
                let begins = expression.begins.as_bytes();
                (begins.starts_with(&below) || below.starts_with(begins))
                    && expression.names_allow(directory)
            }
        }
    }

    /// The text before the final `**`.
    fn begins(&self) -> &[u8] {
        &self.bytes[..self.bytes.len() - 2]
    }
}

impl Expression {
    fn compile(text: &str, go: &str) -> Result<Expression, Refused> {
        let regex = RegexBuilder::new(&from_go(go)?)
            .size_limit(MOST_MEMORY)
            .build()
            .map_err(|_| Refused::TooLarge)?;
        Ok(Expression {
            regex,
            begins: fixed_beginning(text).into(),
            ends: fixed_end(text).into(),
            names: leading_names(text),
        })
    }

    /// Whether the names of `directory` are ones that the pattern's leading names match, and the
    /// pattern goes deeper.
    fn names_allow(&self, directory: &[u8]) -> bool {
        let Some((names, further)) = &self.names else {
            return true;
        };
        let mut patterns = names.iter();
        for name in directory.split(|&byte| byte == b'/') {
            match patterns.next() {
                Some(pattern) if wildcards_match(pattern, &runes(name)) => {}
                Some(_) => return false,
                None => return *further == Further::Anything,
            }
        }
        patterns.next().is_some() || *further == Further::Anything
    }
}

/// Characters with which an expression may mean something other than they say.
const SPECIAL: [char; 10] = ['*', '?', '[', ']', '\\', '^', '{', '}', '|', '\u{fffd}'];

/// What any path begins with that an expression made of `text` matches.
fn fixed_beginning(text: &str) -> &str {
    // An alternative need not begin as the pattern does.
    if text.contains('|') {
        return "";
    }
    let end = text.find(SPECIAL).unwrap_or(text.len());
    let fixed = &text[..end];
    // A count may make the character before it optional.
    match text[end..].starts_with('{') {
        true => fixed
            .char_indices()
            .next_back()
            .map_or("", |(last, _)| &fixed[..last]),
        false => fixed,
    }
}

/// What any path ends with that an expression made of `text` matches.
fn fixed_end(text: &str) -> &str {
    if text.contains(['|', '\\']) {
        return "";
    }
    let start = text.rfind(SPECIAL).map_or(0, |last| {
        last + text[last..].chars().next().map_or(0, char::len_utf8)
    });
    let fixed = &text[start..];
    // The slash of `**/` belongs to the stars.
    match text[..start].ends_with("**") {
        true => fixed.strip_prefix('/').unwrap_or(fixed),
        false => fixed,
    }
}

/// The names up to the first with `**`; `None` where only the expression itself knows.
fn leading_names(text: &str) -> Option<(Box<[Box<str>]>, Further)> {
    if text.contains(|character| SPECIAL.contains(&character) && !matches!(character, '*' | '?')) {
        return None;
    }
    let names = text.split('/').take_while(|name| !name.contains("**"));
    let names: Box<[Box<str>]> = names.map(Box::from).collect();
    let further = match text.contains("**") {
        true => Further::Anything,
        false => Further::Nothing,
    };
    Some((names, further))
}

/// Whether a pattern of literals, `*` and `?` matches a name.
pub(crate) fn wildcards_match(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut position) = (0, 0);
    // Where the last star was, and up to where it has eaten.
    let mut star: Option<(usize, usize)> = None;
    while position < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, position));
                at += 1;
            }
            Some(character) if *character == '?' || *character == name[position] => {
                at += 1;
                position += 1;
            }
            _ => match &mut star {
                Some((after, eaten)) => {
                    *eaten += 1;
                    (at, position) = (*after, *eaten);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|character| *character == '*')
}

/// Go reads bytes rune by rune, and one that is not UTF-8 as U+FFFD.
fn runes(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(text)
}

/// What Docker makes of a pattern.
enum Translated {
    /// It compares bytes.
    Plain(Form),
    /// It asks this expression of Go's.
    Regex(String),
}

/// Docker's own translation (`Pattern.compile`), with all its habits.
fn translate(pattern: &str) -> Translated {
    let mut regex = "^".to_owned();
    // `None` is what needs an expression.
    let mut form = Some(Form::Exact);
    let mut rest = pattern.chars().peekable();
    let mut is_first = true;
    while let Some(character) = rest.next() {
        match character {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                form = match (rest.peek(), form) {
                    (None, Some(Form::Exact)) => Some(Form::Prefix),
                    (None, _) => {
                        regex.push_str(".*");
                        None
                    }
                    (Some(_), _) => {
                        regex.push_str("(.*/)?");
                        None
                    }
                };
                if is_first {
                    form = Some(Form::Suffix);
                }
            }
            '*' | '?' | '[' | ']' => {
                regex.push_str(match character {
                    '*' => "[^/]*",
                    '?' => "[^/]",
                    '[' => "[",
                    _ => "]",
                });
                form = None;
            }
            '.' | '+' | '(' | ')' | '$' => regex.extend(['\\', character]),
            '\\' => {
                regex.push('\\');
                if let Some(escaped) = rest.next() {
                    regex.push(escaped);
                    form = None;
                }
            }
            other => regex.push(other),
        }
        is_first = false;
    }
    regex.push('$');
    match form {
        Some(form) => Translated::Plain(form),
        None => Translated::Regex(regex),
    }
}

/// A character of a pattern or a name; `None` is a byte that is not UTF-8.
type Rune = Option<char>;

/// Docker asks Go's `filepath.Match(pattern, ".")` whether brackets and escapes are closed. The
/// answer reaches only as far as the chunks between stars go on matching; images are built from
/// files with worse behind that, so the question is asked in the same way here.
fn check_syntax(pattern: &[u8]) -> Option<()> {
    let runes: Vec<Rune> = pattern
        .utf8_chunks()
        .flat_map(|chunk| {
            let invalid = chunk.invalid().iter().map(|_| None);
            chunk.valid().chars().map(Some).chain(invalid)
        })
        .collect();
    let mut pattern = runes.as_slice();
    let mut name: &[Rune] = &[Some('.')];
    while !pattern.is_empty() {
        let stars = pattern
            .iter()
            .take_while(|rune| **rune == Some('*'))
            .count();
        let (chunk, rest) = pattern[stars..].split_at(chunk_end(&pattern[stars..]));
        pattern = rest;
        if stars > 0 && chunk.is_empty() {
            return Some(());
        }
        let is_last = pattern.is_empty();
        let fits = |left: &[Rune]| left.is_empty() || !is_last;
        match match_chunk(chunk, name)? {
            Some(left) if fits(left) => name = left,
            _ if stars > 0 && !name.is_empty() => match match_chunk(chunk, &[])? {
                Some(left) => name = left,
                None => return Some(()),
            },
            _ => return Some(()),
        }
    }
    Some(())
}

/// Where the next `*` outside of brackets stands.
fn chunk_end(pattern: &[Rune]) -> usize {
    let mut in_range = false;
    let mut runes = pattern.iter().enumerate();
    while let Some((at, rune)) = runes.next() {
        match rune {
            Some('\\') => {
                runes.next();
            }
            Some('[') => in_range = true,
            Some(']') => in_range = false,
            Some('*') if !in_range => return at,
            _ => {}
        }
    }
    pattern.len()
}

/// What is left of the name if the chunk matches its beginning; `None` in place of all if the
/// chunk is malformed, which is looked for even behind the first mismatch.
fn match_chunk<'a>(mut chunk: &[Rune], mut name: &'a [Rune]) -> Option<Option<&'a [Rune]>> {
    let mut is_failed = false;
    while let Some((&first, after)) = chunk.split_first() {
        let next = match name.split_first() {
            Some((&next, left)) if !is_failed => {
                name = left;
                next
            }
            _ => {
                is_failed = true;
                None
            }
        };
        let (is_match, after) = match first {
            Some('[') => match_range(after, next)?,
            Some('?') => (next != Some('/'), after),
            Some('\\') => {
                let (escaped, after) = after.split_first()?;
                (*escaped == next, after)
            }
            other => (other == next, after),
        };
        is_failed |= !is_match;
        chunk = after;
    }
    Some((!is_failed).then_some(name))
}

/// A range after its bracket: whether it holds the character, and what stands behind it.
fn match_range(mut rest: &[Rune], character: Rune) -> Option<(bool, &[Rune])> {
    let mut is_negated = false;
    if let [Some('^'), after @ ..] = rest {
        is_negated = true;
        rest = after;
    }
    let mut holds = false;
    let mut is_first = true;
    loop {
        if let ([Some(']'), after @ ..], false) = (rest, is_first) {
            return Some((holds != is_negated, after));
        }
        let (low, mut high);
        (low, rest) = range_character(rest)?;
        high = low;
        if let [Some('-'), after @ ..] = rest {
            (high, rest) = range_character(after)?;
        }
        holds |= character.is_some_and(|character| low <= character && character <= high);
        is_first = false;
    }
}

/// One character of a range, which must not be the last of the chunk.
fn range_character(rest: &[Rune]) -> Option<(char, &[Rune])> {
    let (character, after) = match rest.split_first()? {
        (Some('-' | ']'), _) => return None,
        (Some('\\'), after) => after.split_first()?,
        both => both,
    };
    (!after.is_empty()).then_some(((*character)?, after))
}
