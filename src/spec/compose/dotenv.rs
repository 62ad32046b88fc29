//! `.env` files, by compose's rules.
//!
//! Comes in: a text and the environment, which goes before it. Goes out: the variables. A line is
//! `NAME=value`, with `export ` before it if one likes, or just `NAME`, which takes the value of
//! the environment. ` #` begins a comment, but not in quotes. Double quotes know `\n` and its like,
//! single quotes nothing but `\'`; both may hold line ends. But in single quotes, variables are
//! replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::spec::compose::interpolate::{Lookup, interpolate};
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::source::{SourceText, Span};

/// The variables of a `.env` file. Where the environment has one of them, its value counts.
///
/// # Errors
/// The first thing that is wrong.
pub fn dotenv(
    source: &Arc<SourceText>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Diagnostics> {
    let mut parser = Parser {
        source,
        environment,
        at: source.text.len() - source.text.trim_start_matches('\u{feff}').len(),
        variables: BTreeMap::new(),
    };
    while parser.skip_to_statement() {
        parser.statement()?;
    }
    Ok(parser.variables)
}

struct Parser<'a> {
    source: &'a Arc<SourceText>,
    environment: &'a Lookup<'a>,
    at: usize,
    variables: BTreeMap<String, String>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.source.text[self.at..]
    }

    fn error(&self, span: Span, message: &str, help: &str) -> Diagnostics {
        Diagnostic::new(self.source, span, message)
            .help(help)
            .into()
    }

    /// Passes over white space and comments; says whether anything comes.
    fn skip_to_statement(&mut self) -> bool {
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start().len();
            match self.rest().starts_with('#') {
                true => self.at += line(self.rest()).len(),
                false => return !self.rest().is_empty(),
            }
        }
    }

    fn statement(&mut self) -> Result<(), Diagnostics> {
        if let Some(behind) = self.rest().strip_prefix("export")
            && behind.starts_with([' ', '\t'])
        {
            let spaces = behind.len() - behind.trim_start_matches([' ', '\t']).len();
            self.at += "export".len() + spaces;
        }
        let start = self.at;
        let rest = self.rest();
        let end = rest.find(['=', ':', '\n', '\r']).unwrap_or(rest.len());
        let name = rest[..end].trim_end();
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']');
        if name.is_empty() || !name.chars().all(is_part) {
            let shown = line(rest).trim_end().len().max(1).min(rest.len());
            return Err(self.error(
                Span::new(start, start + shown),
                "this line has no name of a variable",
                "write NAME=value; a comment begins with `#`",
            ));
        }
        self.at += end;
        let value = match self.rest().starts_with(['=', ':']) {
            // The name alone: what the environment has.
            false => (self.environment)(name),
            true => {
                self.at += 1;
                let rest = self.rest();
                self.at += rest.len() - rest.trim_start_matches([' ', '\t']).len();
                let value = self.value()?;
                Some((self.environment)(name).unwrap_or(value))
            }
        };
        if let Some(value) = value {
            self.variables.insert(name.to_owned(), value);
        }
        Ok(())
    }

    fn value(&mut self) -> Result<String, Diagnostics> {
        let rest = self.rest();
        let start = self.at;
        if let Some(quote @ ('"' | '\'')) = rest.chars().next() {
            let (inner, length) = match quoted(&rest[1..], quote) {
                Some(found) => found,
                None => {
                    let end = start + line(rest).trim_end().len();
                    return Err(self.error(
                        Span::new(start, end),
                        "this quote is not closed",
                        "write the same quote behind the value; `\\` before a quote makes it a part of the value",
                    ));
                }
            };
            self.at += length + 1;
            let behind = line(self.rest());
            let more = behind.trim();
            if !more.is_empty() && !more.starts_with('#') {
                return Err(self.error(
                    Span::new(self.at, self.at + behind.trim_end().len()),
                    "something stands behind the closing quote",
                    "quote the whole value; a comment begins with `#`",
                ));
            }
            return match quote {
                '"' => self.replaced(&escapes(&inner), Span::new(start, self.at)),
                _ => Ok(inner),
            };
        }
        let whole = line(rest);
        self.at += whole.len();
        let value = match whole.find(" #") {
            _ if whole.starts_with('#') => "",
            Some(comment) => &whole[..comment],
            None => whole,
        };
        let value = value.trim_end();
        self.replaced(value, Span::new(start, start + value.len()))
    }

    /// A value with variables replaced: those of the environment, then those of the lines above.
    fn replaced(&self, text: &str, span: Span) -> Result<String, Diagnostics> {
        let lookup =
            |name: &str| (self.environment)(name).or_else(|| self.variables.get(name).cloned());
        match interpolate(text, &lookup) {
            Ok(read) => Ok(read.text),
            Err(error) => {
                let help = error.error.help.unwrap_or_default();
                Err(self.error(span, &error.error.message, &help))
            }
        }
    }
}

fn line(text: &str) -> &str {
    text.split('\n').next().unwrap_or(text)
}

/// The text up to a closing quote, and its length with the quote. `\` keeps a quote from closing
/// and stays before anything else.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut inner = String::new();
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        match (is_escaped, character) {
            (false, '\\') => {
                is_escaped = true;
                continue;
            }
            (false, character) if character == quote => return Some((inner, at + 1)),
            (true, character) if character != quote => inner.push('\\'),
            _ => {}
        }
        inner.push(character);
        is_escaped = false;
    }
    None
}

/// What `\n` and its like stand for in double quotes.
fn escapes(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('t') => plain.push('\t'),
            Some('a') => plain.push('\u{7}'),
            Some('b') => plain.push('\u{8}'),
            Some('f') => plain.push('\u{c}'),
            Some('v') => plain.push('\u{b}'),
            Some('\\') => plain.push('\\'),
            Some('"') => plain.push('"'),
            // A dollar that is no variable's.
            Some('$') => plain.push_str("$$"),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<BTreeMap<String, String>, Diagnostics> {
        let environment = |name: &str| match name {
            "HOST" => Some("host".to_owned()),
            "BLANK" => Some(String::new()),
            _ => None,
        };
        dotenv(&Arc::new(SourceText::new(".env", text)), &environment)
    }

    #[test]
    fn values_by_the_rules_of_compose() {
        for (text, expected) in [
            ("A=b", "b"),
            ("A = b ", "b"),
            ("A=", ""),
            ("A: b", "b"),
            ("export A=b", "b"),
            ("export\tA=b", "b"),
            ("A=b # comment", "b"),
            ("A=b#c", "b#c"),
            ("A=#c", ""),
            ("A=\"b # c\" # d", "b # c"),
            ("A='b # c'", "b # c"),
            ("A=\"a\\nb\\tc\\\\d\\\"e\\x\"", "a\nb\tc\\d\"e\\x"),
            ("A='a\\nb\\'c'", "a\\nb'c"),
            ("A=\"two\nlines\"", "two\nlines"),
            ("A='two\nlines'", "two\nlines"),
            ("A=b c  d", "b c  d"),
            ("A=$HOST/x", "host/x"),
            ("A=\"${NONE:-$HOST}\"", "host"),
            ("A='$HOST'", "$HOST"),
            ("A=$$HOST", "$HOST"),
            ("A=\"\\$HOST\"", "$HOST"),
            ("B=1\nA=${B}2", "12"),
            ("\u{feff}A=b\r\n", "b"),
            ("# c\n\n  A=b\n#d", "b"),
            ("A=1\nA=2", "2"),
            ("A='it''s' # x\nA=b", "b"),
        ] {
            match read(text) {
                Ok(read) => assert_eq!(read["A"], expected, "{text}"),
                Err(error) => assert!(text.contains("''"), "{error}"),
            }
        }
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let read = read("HOST=file\nBLANK=file\nOWN=file\nBLANK\nNONE\nHOST\nexport\n");
        assert!(read.is_ok_and(|read| read["HOST"] == "host"
            && read["BLANK"].is_empty()
            && read["OWN"] == "file"
            && !read.contains_key("NONE")
            && !read.contains_key("export")));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let shown = [
            "A=1\nB C=2",
            "A=\"x\nB=1",
            "\n=x",
            "A='b'c",
            "A=${X:?why}",
            "A=$5",
        ]
        .map(|text| read(text).expect_err(text).to_string())
        .join("\n");
        insta::assert_snapshot!(shown);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[A-C=\"'\\\\$#{} \\n\\rén-]{0,24}") {
            let _ = read(&text);
        }
    }
}
