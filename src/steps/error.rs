//! What can be wrong with a step once its trees are known.

use std::sync::Arc;

use crate::spec::{Diagnostic, SourceText, Span, nearest};

/// A problem of one step, with its place in the spec and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// The word of the spec that is to blame.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Vec<String>,
}

impl StepError {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> StepError {
        StepError {
            span,
            message: message.into(),
            help: Vec::new(),
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> StepError {
        self.help.push(help.into());
        self
    }

    /// Adds the most similar of some words, if one is similar.
    pub(crate) fn did_you_mean<'a>(
        self,
        word: &str,
        words: impl Iterator<Item = &'a str>,
    ) -> StepError {
        match nearest(word, words) {
            Some(similar) => self.help(format!("did you mean {similar:?}?")),
            None => self,
        }
    }

    /// The same as a diagnostic about the spec.
    pub fn into_diagnostic(self, source: &Arc<SourceText>) -> Diagnostic {
        let diagnostic = Diagnostic::new(source, self.span, self.message);
        self.help.into_iter().fold(diagnostic, Diagnostic::help)
    }
}
