//! A tree of nodes → the model, with every error collected.
//!
//! Comes in: [`crate::spec::yaml`]'s nodes and the values of all arguments. Goes out: the types of
//! [`crate::spec::model`]. A function here returns `None` after it has reported why; its caller
//! goes on with the rest, so that one run shows all that is wrong.
//!
//! Which keys a map may have stands in [`shapes`], one table for the decoder, its suggestions and
//! the test that compares it with the schema.

mod budget;
mod config;
mod fields;
mod lock;
mod mount;
mod profile;
mod scalars;
pub(crate) mod shapes;
mod stage;
mod step;
mod top;
pub(crate) mod workspace;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::spec::arguments::{ExpandError, MOST_ERRORS, Piece, pieces};
use crate::spec::config::EnvTemplate;
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::error::ValueError;
use crate::spec::model::Args;
use crate::spec::source::{SourceText, Span};

pub(crate) use lock::decode_lock;
pub(crate) use top::decode;
pub(crate) use workspace::decode_workspace;

/// What decoding needs to know and what it has found so far.
pub(crate) struct Decoder<'a> {
    source: &'a Arc<SourceText>,
    args: Args,
    /// Arguments that are wrong themselves; texts that use them are not complained about again.
    poisoned: BTreeSet<String>,
    /// Bytes that expansion may still make, over the whole spec.
    expansion: usize,
    /// Whether texts mean what is written: there are no arguments.
    is_literal: bool,
    diagnostics: Diagnostics,
}

/// All expanded texts together may hold so many bytes.
const MOST_EXPANDED: usize = 64 << 20;

impl<'a> Decoder<'a> {
    pub(crate) fn new(source: &'a Arc<SourceText>) -> Decoder<'a> {
        Decoder {
            source,
            args: Args::default(),
            poisoned: BTreeSet::new(),
            expansion: MOST_EXPANDED,
            is_literal: false,
            diagnostics: Diagnostics::new(),
        }
    }

    /// For files in which `${…}` means nothing.
    pub(crate) fn literal(source: &'a Arc<SourceText>) -> Decoder<'a> {
        Decoder {
            is_literal: true,
            ..Decoder::new(source)
        }
    }

    /// A diagnostic about `span`, to be finished and reported by the caller.
    fn error(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(self.source, span, message)
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Reports what is wrong with the value at `span`.
    fn refuse(&mut self, span: Span, error: impl Into<ValueError>) {
        let ValueError { message, help } = error.into();
        let mut diagnostic = self.error(span, message);
        diagnostic.help.extend(help);
        self.report(diagnostic);
    }

    /// The text of a scalar with its arguments replaced.
    fn expanded(&mut self, text: &str, span: Span) -> Option<String> {
        if self.is_literal {
            return Some(text.to_owned());
        }
        self.expand_by(text, span, Args::expand)
    }

    /// The same for values of `env`, which may also use inherited variables.
    fn expanded_env(&mut self, text: &str, span: Span) -> Option<EnvTemplate> {
        self.expand_by(text, span, Args::expand_env)
    }

    fn expand_by<T>(
        &mut self,
        text: &str,
        span: Span,
        expand: impl Fn(&Args, &str) -> Result<T, Vec<ExpandError>>,
    ) -> Option<T> {
        let (parts, _) = pieces(text);
        let is_poisoned = |piece: &Piece<'_>| matches!(piece, Piece::Arg(name, _) if self.poisoned.contains(*name));
        if parts.iter().any(is_poisoned) {
            // What else the text uses may be wrong all the same.
            let others = parts.iter().filter_map(|piece| match piece {
                Piece::Arg(name, _) if self.args.value(name).is_some() => None,
                Piece::Arg(_, range) | Piece::Env(_, range) if !is_poisoned(piece) => Some(range),
                _ => None,
            });
            let wrong = others.filter_map(|range| {
                let ExpandError { error, .. } =
                    expand(&self.args, &text[range.clone()]).err()?.pop()?;
                let range = range.clone();
                Some(ExpandError { range, error })
            });
            let errors = wrong.take(MOST_ERRORS).collect();
            self.refuse_parts(text, span, errors);
            return None;
        }
        let grows = |piece: &Piece<'_>| match piece {
            Piece::Arg(name, _) => self.args.value(name).map_or(0, str::len),
            Piece::Env(..) | Piece::Literal(_) => 0,
        };
        let growth: usize = parts.iter().map(grows).sum();
        let Some(left) = self.expansion.checked_sub(growth) else {
            self.refuse(
                span,
                ValueError::new("the spec grows beyond 64 MiB when its arguments are expanded")
                    .help("put large contents into a file of the context"),
            );
            return None;
        };
        self.expansion = left;
        match expand(&self.args, text) {
            Ok(expanded) => Some(expanded),
            Err(errors) => {
                self.refuse_parts(text, span, errors);
                None
            }
        }
    }

    /// Reports what is wrong with parts of a text.
    fn refuse_parts(&mut self, text: &str, span: Span, errors: Vec<ExpandError>) {
        for ExpandError { range, error } in errors {
            let place = self.part_of(span, &text[range]);
            self.refuse(place, error);
        }
    }

    /// The place of a part of a scalar, if it is written there just so; else the whole scalar.
    fn part_of(&self, span: Span, part: &str) -> Span {
        match self.source.at(span).find(part) {
            Some(at) => Span::new(span.start + at, span.start + at + part.len()),
            None => span,
        }
    }
}
