//! Go's regular expressions in the dialect of the `regex` crate.
//!
//! The two are cousins and differ in what an ignore file can reach: Go's classes (`\d`, `\w`, `\s`,
//! `\b`) know ASCII only, an inner `[` is a literal, `{` is one where no count follows, repetitions
//! do not stack, and there are octal escapes and `\Q…\E`. Everything is read by Go's rules here and
//! written so that the other side cannot read it in two ways.

use std::iter::Peekable;
use std::str::Chars;

use crate::context::pattern::Refused;

/// Reads one expression.
struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    rust: String,
    before: Before,
}

/// What a repetition at this place would repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing: a group or an alternative has just begun.
    Nothing,
    /// Something.
    Atom,
    /// A repetition, which Go does not let one repeat.
    Repetition,
}

/// An escape that stands for a set of characters: as an expression and as an item of a class.
const SETS: [(char, &str, &str); 6] = [
    ('d', "[0-9]", "0-9"),
    ('D', "[^0-9]", "[^0-9]"),
    ('w', "[0-9A-Za-z_]", "0-9A-Za-z_"),
    ('W', "[^0-9A-Za-z_]", "[^0-9A-Za-z_]"),
    ('s', r"[\t\n\x0C\r ]", r"\t\n\x0C\r\x20"),
    ('S', r"[^\t\n\x0C\r ]", r"[^\t\n\x0C\r\x20]"),
];

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// The most repetitions that Go allows.
const MOST_REPETITIONS: u32 = 1000;

/// The same expression for the `regex` crate.
pub(crate) fn from_go(go: &str) -> Result<String, Refused> {
    let mut reader = Reader {
        rest: go.chars().peekable(),
        rust: String::with_capacity(go.len() + 16),
        before: Before::Nothing,
    };
    while let Some(character) = reader.rest.next() {
        reader.token(character)?;
    }
    Ok(reader.rust)
}

impl Reader<'_> {
    fn token(&mut self, character: char) -> Result<(), Refused> {
        match character {
            '\\' => return self.escape(),
            '[' => self.class()?,
            '*' | '?' => return self.repetition(&character.to_string()),
            '{' => match self.count()? {
                Some(count) => return self.repetition(&count),
                None => self.literal(u32::from('{')),
            },
            '(' | '|' => {
                self.rust.push(character);
                self.before = Before::Nothing;
                return Ok(());
            }
            ')' | '^' | '$' | '.' => self.rust.push(character),
            other => self.literal(u32::from(other)),
        }
        self.before = Before::Atom;
        Ok(())
    }

    fn repetition(&mut self, text: &str) -> Result<(), Refused> {
        if self.before != Before::Atom {
            return Err(Refused::Malformed);
        }
        self.rust.push_str(text);
        self.before = Before::Repetition;
        Ok(())
    }

    fn literal(&mut self, code: u32) {
        match char::from_u32(code) {
            Some(character) => self
                .rust
                .push_str(&regex::escape(character.encode_utf8(&mut [0; 4]))),
            // Half of a surrogate pair, which no text holds.
            None => self.rust.push_str("[a&&b]"),
        }
    }

    /// `{2}`, `{2,}` or `{2,3}` after its brace; `None`, and nothing read, for any other text.
    fn count(&mut self) -> Result<Option<String>, Refused> {
        let mut ahead = self.rest.clone();
        let Some(least) = number(&mut ahead) else {
            return Ok(None);
        };
        let mut most = Some(least);
        if ahead.next_if_eq(&',').is_some() {
            most = number(&mut ahead);
            if most.is_none() && ahead.peek() != Some(&'}') {
                return Ok(None);
            }
        }
        if ahead.next() != Some('}') {
            return Ok(None);
        }
        let is_too_much = least > MOST_REPETITIONS
            || most.is_some_and(|most| most > MOST_REPETITIONS || most < least);
        if is_too_much {
            return Err(Refused::Malformed);
        }
        self.rest = ahead;
        let most = most.map(|most| most.to_string()).unwrap_or_default();
        Ok(Some(format!("{{{least},{most}}}")))
    }

    /// What follows a backslash outside of a class.
    fn escape(&mut self) -> Result<(), Refused> {
        let character = self.rest.next().ok_or(Refused::Malformed)?;
        let set = SETS.iter().find(|(name, ..)| *name == character);
        match (character, set) {
            (_, Some((_, text, _))) => self.rust.push_str(text),
            ('A' | 'z', _) => self.rust.extend(['\\', character]),
            ('b', _) => self.rust.push_str(r"(?-u:\b)"),
            ('B', _) => self.rust.push_str(r"(?-u:\B)"),
            ('p' | 'P', _) => return Err(Refused::UnicodeClass),
            ('Q', _) => {
                self.quoted();
                return Ok(());
            }
            (other, _) => {
                let code = single(other, &mut self.rest)?;
                self.literal(code);
            }
        }
        self.before = Before::Atom;
        Ok(())
    }

    /// `\Q…\E`, or to the end.
    fn quoted(&mut self) {
        // Even nothing in quotes ends a repetition.
        if self.before == Before::Repetition {
            self.before = Before::Atom;
        }
        while let Some(character) = self.rest.next() {
            if character == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            self.literal(u32::from(character));
            self.before = Before::Atom;
        }
    }

    /// A class, after its bracket.
    fn class(&mut self) -> Result<(), Refused> {
        let is_negated = self.rest.next_if_eq(&'^').is_some();
        let mut items = String::new();
        let mut is_first = true;
        while is_first || self.rest.next_if_eq(&']').is_none() {
            is_first = false;
            self.item(&mut items)?;
        }
        if items.is_empty() {
            items.push_str("a&&b");
        }
        self.rust.push_str(if is_negated { "[^" } else { "[" });
        self.rust.push_str(&items);
        self.rust.push(']');
        Ok(())
    }

    /// One character, range or set of a class.
    fn item(&mut self, items: &mut String) -> Result<(), Refused> {
        if let Some(name) = self.posix()? {
            items.push_str(&name);
            return Ok(());
        }
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('\\') {
            let escaped = ahead.next();
            if matches!(escaped, Some('p' | 'P')) {
                return Err(Refused::UnicodeClass);
            }
            if let Some((.., item)) = SETS.iter().find(|(name, ..)| Some(*name) == escaped) {
                items.push_str(item);
                self.rest = ahead;
                return Ok(());
            }
        }
        let low = self.class_character()?;
        let mut high = low;
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('-') && ahead.peek().is_some_and(|next| *next != ']') {
            self.rest = ahead;
            high = self.class_character()?;
        }
        if high < low {
            return Err(Refused::Malformed);
        }
        push_range(items, low, high);
        Ok(())
    }

    fn class_character(&mut self) -> Result<u32, Refused> {
        match self.rest.next().ok_or(Refused::Malformed)? {
            '\\' => {
                let escaped = self.rest.next().ok_or(Refused::Malformed)?;
                single(escaped, &mut self.rest)
            }
            other => Ok(u32::from(other)),
        }
    }

    /// `[:alpha:]` inside a class. Go refuses names that it does not know; `[:` with no `:]`
    /// anywhere behind it is two literals.
    fn posix(&mut self) -> Result<Option<String>, Refused> {
        let mut ahead = self.rest.clone();
        if (ahead.next(), ahead.next()) != (Some('['), Some(':')) {
            return Ok(None);
        }
        let text: String = ahead.collect();
        let Some(end) = text.find(":]") else {
            return Ok(None);
        };
        let name = &text[..end];
        if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(Refused::Malformed);
        }
        let read = "[:".len() + name.len() + ":]".len();
        self.rest.by_ref().take(read).for_each(drop);
        Ok(Some(format!("[:{name}:]")))
    }
}

/// The character that `\` and `first` begin to name.
fn single(first: char, rest: &mut Peekable<Chars<'_>>) -> Result<u32, Refused> {
    let code = match first {
        'a' => 0x07,
        'f' => 0x0C,
        'n' => 0x0A,
        'r' => 0x0D,
        't' => 0x09,
        'v' => 0x0B,
        'x' => return hexadecimal(rest).ok_or(Refused::Malformed),
        // One digit other than 0 would be a back-reference, which Go does not have.
        '1'..='7' if !rest.peek().is_some_and(|next| next.is_digit(8)) => {
            return Err(Refused::Malformed);
        }
        '0'..='7' => {
            let mut code = u32::from(first) - u32::from('0');
            for _ in 0..2 {
                let Some(digit) = rest.next_if(|next| next.is_digit(8)) else {
                    break;
                };
                code = code * 8 + (u32::from(digit) - u32::from('0'));
            }
            code
        }
        other if other.is_ascii() && !other.is_ascii_alphanumeric() => u32::from(other),
        _ => return Err(Refused::Malformed),
    };
    Ok(code)
}

/// `41` or `{41}`, after `\x`.
fn hexadecimal(rest: &mut Peekable<Chars<'_>>) -> Option<u32> {
    if rest.next_if_eq(&'{').is_none() {
        return Some(rest.next()?.to_digit(16)? * 16 + rest.next()?.to_digit(16)?);
    }
    let mut code = rest.next()?.to_digit(16)?;
    loop {
        match rest.next()? {
            '}' => return Some(code),
            digit => code = code * 16 + digit.to_digit(16)?,
        }
        if code > u32::from(char::MAX) {
            return None;
        }
    }
}

/// A decimal number without needless zeros; one that is far too large is [`u32::MAX`].
fn number(rest: &mut Peekable<Chars<'_>>) -> Option<u32> {
    let first = rest.next_if(char::is_ascii_digit)?;
    if first == '0' && rest.peek().is_some_and(char::is_ascii_digit) {
        return None;
    }
    let mut value = first.to_digit(10)?;
    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
        value = value.saturating_mul(10).saturating_add(digit.to_digit(10)?);
    }
    Some(value)
}

/// A range of a class, without the surrogates, which are no characters.
fn push_range(items: &mut String, low: u32, high: u32) {
    let low = if (0xD800..0xE000).contains(&low) {
        0xE000
    } else {
        low
    };
    let high = if (0xD800..0xE000).contains(&high) {
        0xD7FF
    } else {
        high
    };
    if low <= high {
        items.push_str(&format!("\\x{{{low:X}}}-\\x{{{high:X}}}"));
    }
}
