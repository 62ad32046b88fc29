//! `.dockerignore`: its text, and what it says of a path.
//!
//! Patterns are tried in order and the last that matches wins; a pattern also matches everything
//! below what it matches; one with `!` takes paths back in, even below an excluded directory.

use crate::context::error::IgnoreError;
use crate::context::pattern::Pattern;
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

    /// Reads the text of the file that people know as `file`.
    ///
    /// # Errors
    /// A line that Docker refuses: unclosed brackets, a lone `!`, a trailing backslash.
    pub fn parse(text: &[u8], file: &str) -> Result<IgnoreRules, IgnoreError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut rules = Vec::new();
        for (place, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let error = |problem: String, remedy| IgnoreError {
                file: file.to_owned(),
                line: place + 1,
                problem,
                remedy,
            };
            if line.len() >= LONGEST_LINE {
                return Err(error(
                    "the line is longer than 64 KiB".to_owned(),
                    "split it into several patterns",
                ));
            }
            let line = String::from_utf8_lossy(line);
            let line = line.strip_suffix('\r').unwrap_or(&line);
            // Before trimming: ` #x` is a pattern.
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            match Rule::parse(line.trim(), place + 1) {
                Ok(Some(rule)) => rules.push(rule),
                Ok(None) => {}
                Err((problem, remedy)) => return Err(error(problem, remedy)),
            }
        }
        Ok(IgnoreRules { rules })
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
            match Rule::parse(pattern.trim(), place + 1) {
                Ok(rule) => rules.extend(rule),
                Err((problem, remedy)) => {
                    return Err(IgnoreError {
                        file: "exclude".to_owned(),
                        line: place + 1,
                        problem,
                        remedy,
                    });
                }
            }
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

    /// Whether something strictly below an excluded `directory` might be taken in again. It may
    /// say yes too often, never no.
    pub fn may_take_in_below(&self, directory: &LayerPath) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.takes_in && rule.pattern.may_match_below(directory.as_bytes()))
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

impl Rule {
    /// A trimmed line that is no comment.
    fn parse(text: &str, line: usize) -> Result<Option<Rule>, (String, &'static str)> {
        let (takes_in, pattern) = match text.strip_prefix('!') {
            Some(pattern) => (true, pattern.trim()),
            None => (false, text),
        };
        let mut cleaned = if pattern.is_empty() {
            String::new()
        } else {
            clean(pattern)
        };
        if cleaned.len() > 1 && cleaned.starts_with('/') {
            cleaned.remove(0);
        }
        // Docker cleans once more with the `!` in front, which only a root can feel.
        if takes_in && matches!(cleaned.as_str(), "" | "/") {
            return Err((
                "\"!\" takes nothing back in".to_owned(),
                "write a pattern behind it, as in !README.md",
            ));
        }
        let refused = || {
            let remedy = "close every bracket, and write a backslash only before the character that it escapes";
            (format!("pattern {text:?} is malformed"), remedy)
        };
        let pattern = Pattern::compile(&cleaned).ok_or_else(refused)?;
        Ok(Some(Rule {
            pattern,
            takes_in,
            line,
            text: text.to_owned(),
        }))
    }
}

/// Go's `filepath.Clean`: the shortest path that means the same, by its text alone.
fn clean(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => {
                names.pop();
            }
            ".." if is_rooted => {}
            name => names.push(name),
        }
    }
    let joined = names.join("/");
    match (is_rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests;
