//! Diagnostics: what is wrong with a spec, where, and what to write instead.
//!
//! This room, `plan` and `steps` make them; the porch draws them with carets. A diagnostic keeps
//! everything that drawing needs, and its plain `Display` is one line that editors can jump to.

use std::fmt;
use std::sync::Arc;

use crate::spec::source::{SourceText, Span};

/// One thing that is wrong, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The text that the spans count in; [`Diagnostic::file`] is the one that is meant.
    pub source: Arc<SourceText>,
    /// The place to underline; `None` if the whole text is meant.
    pub span: Option<Span>,
    /// What is wrong, in one short line without a full stop.
    pub message: String,
    /// What to write under the carets.
    pub label: Option<String>,
    /// Remedies, the most likely first; each a full line.
    pub help: Vec<String>,
    /// Further places that belong to the story, each with its own label.
    pub also: Vec<(Span, String)>,
}

/// All that is wrong with a spec, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics(Vec<Diagnostic>);

/// So many diagnostics are kept; a file with more is some other kind of file.
pub const MOST: usize = 100;

impl Diagnostic {
    /// `message`, about the text at `span`.
    pub fn new(source: &Arc<SourceText>, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            span: Some(span),
            ..Diagnostic::about(source, message)
        }
    }

    /// `message`, about the text as a whole.
    pub fn about(source: &Arc<SourceText>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            source: Arc::clone(source),
            span: None,
            message: message.into(),
            label: None,
            help: Vec::new(),
            also: Vec::new(),
        }
    }

    /// The file that it is about.
    pub fn file(&self) -> &SourceText {
        match self.span {
            Some(span) => self.source.file(span),
            None => &self.source,
        }
    }

    /// Says `label` under the carets.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = Some(label.into());
        self
    }

    /// Adds a remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help.push(help.into());
        self
    }

    /// Points at a further place.
    #[must_use]
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.also.push((span, label.into()));
        self
    }
}

impl Diagnostics {
    /// Nothing is wrong so far.
    pub fn new() -> Diagnostics {
        Diagnostics::default()
    }

    /// Adds one; a diagnostic that was given already is not repeated, and after [`MOST`] nobody
    /// reads on.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.0.len() < MOST && !self.0.contains(&diagnostic) {
            self.0.push(diagnostic);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many things are wrong.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The diagnostics in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// `value` if nothing is wrong, else all diagnostics, sorted by place.
    ///
    /// # Errors
    /// The diagnostics themselves.
    pub fn finish<T>(self, value: T) -> Result<T, Diagnostics> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self.sorted())
        }
    }

    /// The same in the order of the text; those about the whole text come first.
    #[must_use]
    pub fn sorted(mut self) -> Diagnostics {
        self.0
            .sort_by(|a, b| (&a.source.name, a.span).cmp(&(&b.source.name, b.span)));
        self
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Diagnostics {
        Diagnostics(vec![diagnostic])
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: I) {
        diagnostics.into_iter().for_each(|one| self.push(one));
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(diagnostics: I) -> Diagnostics {
        let mut all = Diagnostics::new();
        all.extend(diagnostics);
        all.sorted()
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// One line, `file:line:column: message`, then one indented line per remedy.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file().name)?;
        if let Some(span) = self.span {
            write!(f, ":{}", self.source.line_column(span.start))?;
        }
        write!(f, ": {}", self.message)?;
        for (span, label) in &self.also {
            let file = self.source.file(*span);
            let place = self.source.line_column(span.start);
            match std::ptr::eq(file, self.file()) {
                true => write!(f, "\n  {place}: {label}")?,
                false => write!(f, "\n  {}:{place}: {label}", file.name)?,
            }
        }
        self.help
            .iter()
            .try_for_each(|help| write!(f, "\n  help: {}", help.replace('\n', "\n        ")))
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_reported_once_and_in_the_order_of_the_text() {
        let source = Arc::new(SourceText::new("b.yaml", "one\ntwo\n"));
        let late = Diagnostic::new(&source, Span::new(4, 7), "two is wrong").help("write 2");
        let early = Diagnostic::new(&source, Span::new(0, 3), "one is wrong")
            .also(Span::new(4, 7), "because of this");
        let mut all = Diagnostics::new();
        all.extend([late.clone(), early, late]);
        let error = all.finish(()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "b.yaml:1:1: one is wrong\n  2:1: because of this\n\
             b.yaml:2:1: two is wrong\n  help: write 2"
        );
    }

    #[test]
    fn nothing_wrong_gives_the_value() {
        assert_eq!(Diagnostics::new().finish(7), Ok(7));
    }
}
