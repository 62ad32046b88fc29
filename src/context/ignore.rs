//! `.dockerignore`: its text, and what it says of a path.
//!
//! Patterns are tried in order and the last that matches wins; a pattern also matches everything
//! below what it matches; one with `!` takes paths back in, even below an excluded directory.

use crate::context::error::IgnoreError;
use crate::context::pattern::{Pattern, Refused};
use crate::tree::LayerPath;

/// The rules of one ignore file.
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    takes_in: bool,
    line: usize,
    text: String,
}

/// What the rules say of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the path is left out.
    pub is_excluded: bool,
    /// The rule that decided, by its place in the file's rules; `None` if none matched.
    pub rule: Option<usize>,
}

/// The longest line that Docker reads.
const LONGEST_LINE: usize = 64 * 1024;

impl IgnoreRules {
    /// Rules that exclude nothing.
    pub fn none() -> IgnoreRules {
        IgnoreRules::default()
    }

    /// Reads the text of the file that people know as `file`. It need not be UTF-8.
    ///
    /// # Errors
    /// A line that Docker refuses: unclosed brackets, a lone `!`, a trailing backslash. Docker
    /// notices some of them only when a path gets that far; here the file is right or wrong.
    pub fn parse(text: &[u8], file: &str) -> Result<IgnoreRules, IgnoreError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut rules = Vec::new();
        for (place, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let at_line = |problem| IgnoreError::new(file, place + 1, problem);
            if line.len() >= LONGEST_LINE {
                return Err(at_line(Problem::LongLine));
            }
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            // Before trimming: ` #x` is a pattern.
            if !line.starts_with(b"#") {
                rules.extend(Rule::parse(line, place + 1).map_err(at_line)?);
            }
        }
        Ok(IgnoreRules { rules })
    }

    /// Leaves out these paths and all below them, whatever the other rules say.
    pub fn leave_out(&mut self, paths: &[Vec<u8>]) {
        for path in paths {
            let mut pattern = Vec::with_capacity(path.len());
            for &byte in path {
                if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\') {
                    pattern.push(b'\\');
                }
                pattern.push(byte);
            }
            // A pattern without wildcards can be no wrong one.
            if let Ok(pattern) = Pattern::compile(&pattern) {
                self.rules.push(Rule {
                    pattern,
                    takes_in: false,
                    line: 0,
                    text: String::from_utf8_lossy(path).into_owned(),
                });
            }
        }
    }

    /// Rules from single patterns, such as those of `exclude:`. Nothing is a comment here.
    ///
    /// # Errors
    /// As [`IgnoreRules::parse`]; the line is the number of the pattern.
    pub fn of_patterns<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<IgnoreRules, IgnoreError> {
        let mut rules = Vec::new();
        for (place, pattern) in patterns.into_iter().enumerate() {
            let rule = Rule::parse(pattern.as_bytes(), place + 1);
            rules.extend(rule.map_err(|problem| IgnoreError::new("exclude", place + 1, problem))?);
        }
        Ok(IgnoreRules { rules })
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The line and the text of the rule in this place.
    pub fn rule(&self, place: usize) -> Option<(usize, &str)> {
        self.rules
            .get(place)
            .map(|rule| (rule.line, rule.text.as_str()))
    }

    /// What the rules say of a path by itself.
    pub fn verdict(&self, path: &LayerPath) -> Verdict {
        let mut judge = self.judge();
        for ancestor in path.ancestors().filter(|ancestor| !ancestor.is_root()) {
            judge = judge.enter(&ancestor);
        }
        judge.verdict(path)
    }

    /// The judge of what is directly in the root.
    pub fn judge(&self) -> Judge<'_> {
        Judge {
            rules: self,
            matched: vec![false; self.rules.len()],
        }
    }

    /// Whether something strictly below `directory`, which `verdict` excludes, might be taken in
    /// again. It may say yes too often, never no.
    ///
    /// Only rules behind the one that decided count: those before it have been overruled, and it
    /// overrules them below the directory as well.
    pub fn may_take_in_below(&self, directory: &LayerPath, verdict: Verdict) -> bool {
        let behind = verdict.rule.map_or(0, |rule| rule + 1);
        let mut behind = self.rules.iter().skip(behind);
        behind.any(|rule| rule.takes_in && rule.pattern.may_match_below(directory.as_bytes()))
    }
}

/// Judges what is directly in one directory: it knows which patterns match the directory or one
/// above it, so that an entry costs one look at each pattern however deep it lies.
#[derive(Debug, Clone)]
pub struct Judge<'a> {
    rules: &'a IgnoreRules,
    matched: Vec<bool>,
}

impl<'a> Judge<'a> {
    /// What the rules say of a path in this directory.
    pub fn verdict(&self, path: &LayerPath) -> Verdict {
        let mut verdict = Verdict {
            is_excluded: false,
            rule: None,
        };
        for (place, rule) in self.rules.rules.iter().enumerate() {
            // A rule that would change nothing need not be tried.
            if rule.takes_in == verdict.is_excluded
                && (self.matched[place] || rule.pattern.matches(path.as_bytes()))
            {
                verdict = Verdict {
                    is_excluded: !rule.takes_in,
                    rule: Some(place),
                };
            }
        }
        verdict
    }

    /// The judge of what is in `directory`, which lies in this one.
    #[must_use]
    pub fn enter(&self, directory: &LayerPath) -> Judge<'a> {
        let matches = |(place, rule): (usize, &Rule)| {
            self.matched[place] || rule.pattern.matches(directory.as_bytes())
        };
        Judge {
            rules: self.rules,
            matched: self.rules.rules.iter().enumerate().map(matches).collect(),
        }
    }
}

/// What is wrong with a line.
enum Problem {
    LongLine,
    NothingTakenIn,
    Pattern(String, Refused),
}

impl IgnoreError {
    fn new(file: &str, line: usize, problem: Problem) -> IgnoreError {
        let (problem, remedy) = match problem {
            Problem::LongLine => (
                "the line is longer than 64 KiB".to_owned(),
                "split it into several patterns",
            ),
            Problem::NothingTakenIn => (
                "\"!\" takes nothing back in".to_owned(),
                "write a pattern behind it, as in !README.md",
            ),
            Problem::Pattern(text, Refused::Malformed) => (
                format!("pattern {text:?} is malformed"),
                "close every bracket, and write a backslash only before the character that it escapes",
            ),
            Problem::Pattern(text, Refused::TooLarge) => (
                format!("pattern {text:?} takes too much memory"),
                "lower the counts in braces, or split it into several patterns",
            ),
            Problem::Pattern(text, Refused::UnicodeClass) => (
                format!("pattern {text:?} holds \\p, which asks for a class of Unicode characters"),
                "write slashes between names, and name the characters in brackets",
            ),
        };
        IgnoreError {
            file: file.to_owned(),
            line,
            problem,
            remedy,
        }
    }
}

impl Rule {
    /// A line that is no comment; `None` if nothing is on it.
    fn parse(line: &[u8], number: usize) -> Result<Option<Rule>, Problem> {
        // Docker reads the file first and makes rules of its patterns then. Each of the two trims
        // and cleans, so `/!foo` takes in and `/ foo` is `foo`.
        let read = read_line(line);
        let cleaned = clean(trim(&read));
        let (takes_in, pattern) = match cleaned.as_slice() {
            b"" => return Ok(None),
            b"!" => return Err(Problem::NothingTakenIn),
            [b'!', pattern @ ..] => (true, pattern),
            pattern => (false, pattern),
        };
        let text = String::from_utf8_lossy(trim(line)).into_owned();
        match Pattern::compile(pattern) {
            Ok(pattern) => Ok(Some(Rule {
                pattern,
                takes_in,
                line: number,
                text,
            })),
            Err(refused) => Err(Problem::Pattern(text, refused)),
        }
    }
}

/// What Docker's reader makes of a line.
fn read_line(line: &[u8]) -> Vec<u8> {
    let line = trim(line);
    let (mark, pattern): (&[u8], _) = match line.strip_prefix(b"!") {
        Some(pattern) => (b"!", trim(pattern)),
        None => (b"", line),
    };
    let cleaned = clean(pattern);
    let pattern = match cleaned.as_slice() {
        [b'/', rest @ ..] if !rest.is_empty() => rest,
        whole => whole,
    };
    [mark, pattern].concat()
}

/// Takes white space off both ends. A byte that is not UTF-8 is none.
fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.utf8_chunks().next().map_or(0, |first| {
        first.valid().len() - first.valid().trim_start().len()
    });
    let bytes = &bytes[start..];
    let end = bytes.utf8_chunks().last().map_or(0, |last| {
        let is_text_to_the_end = last.invalid().is_empty();
        match is_text_to_the_end {
            true => last.valid().len() - last.valid().trim_end().len(),
            false => 0,
        }
    });
    &bytes[..bytes.len() - end]
}

/// Go's `filepath.Clean`: the shortest path that means the same, by its bytes alone. What is empty
/// stays so here, for neither of Docker's two cleans it.
fn clean(path: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return Vec::new();
    }
    let is_rooted = path.starts_with(b"/");
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if names.last().is_some_and(|last| *last != b"..") => {
                names.pop();
            }
            b".." if is_rooted => {}
            name => names.push(name),
        }
    }
    let joined = names.join(&b'/');
    match (is_rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests;
