//! Maps with known keys: type, unknown keys, missing keys.

use crate::spec::arguments::nearest;
use crate::spec::decode::Decoder;
use crate::spec::decode::shapes::{STEP, Shape};
use crate::spec::source::{Span, Spanned};
use crate::spec::yaml::{Entry, Node, Value};

/// A map whose keys have been checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'n> {
    pub(crate) shape: &'static Shape,
    pub(crate) span: Span,
    entries: &'n [Entry],
}

impl<'n> Fields<'n> {
    /// The value of `key`; one that says nothing counts as absent.
    pub(crate) fn value(&self, key: &str) -> Option<&'n Node> {
        self.entry(key)
            .map(|entry| &entry.value)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    /// The key itself, for errors about it.
    pub(crate) fn key(&self, key: &str) -> Option<&'n Spanned<String>> {
        self.entry(key).map(|entry| &entry.key)
    }

    fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key.value == key)
    }
}

impl Decoder<'_> {
    /// `node` as a map of this shape; keys that the shape lacks are reported.
    pub(crate) fn fields<'n>(
        &mut self,
        node: &'n Node,
        shape: &'static Shape,
        help: &str,
    ) -> Option<Fields<'n>> {
        let Value::Map(entries) = &node.value else {
            let message = format!("{} is a map, not {}", shape.what, kind_of(node));
            let diagnostic = self.error(node.span, message).help(help);
            self.report(diagnostic);
            return None;
        };
        for Entry { key, .. } in entries {
            let word = key.value.as_str();
            let in_step = shape.what.ends_with(" step") && STEP.contains(&word);
            if !shape.keys.contains(&word) && !in_step {
                self.unknown_key(key, shape);
            }
        }
        Some(Fields {
            shape,
            span: node.span,
            entries,
        })
    }

    fn unknown_key(&mut self, key: &Spanned<String>, shape: &Shape) {
        let word = key.value.as_str();
        let lower = word.to_ascii_lowercase().replace('-', "_");
        let habit = |word: &str| shape.habits.iter().find(|(habit, _)| *habit == word);
        let keys = || shape.keys.iter().chain(in_step(shape)).copied();
        let mut diagnostic = self.error(key.span, format!("{} has no key `{word}`", shape.what));
        if word == "<<" {
            diagnostic = diagnostic.help(
                "maps are not merged; use an argument, or a common stage that others start `from`",
            );
        } else if let Some((_, advice)) = habit(word).or_else(|| habit(&lower)) {
            diagnostic = diagnostic.help(*advice);
        } else if let Some(near) = nearest(&lower, keys()) {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
        } else {
            let keys: Vec<&str> = keys().collect();
            diagnostic = diagnostic.help(format!("its keys are {}", keys.join(", ")));
        }
        self.report(diagnostic);
    }

    /// The value of a key that must be there.
    pub(crate) fn required<'n>(
        &mut self,
        fields: &Fields<'n>,
        key: &str,
        help: &str,
    ) -> Option<&'n Node> {
        let value = fields.value(key);
        if value.is_none() {
            let diagnostic = match fields.key(key) {
                Some(key) => self.error(key.span, format!("`{}` has no value", key.value)),
                None => self.error(
                    self.first_line(fields.span),
                    format!("{} needs the key `{key}`", fields.shape.what),
                ),
            };
            self.report(diagnostic.help(help));
        }
        value
    }

    /// A map of names that the author chooses.
    pub(crate) fn entries<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        help: &str,
    ) -> Option<&'n [Entry]> {
        let Value::Map(entries) = &node.value else {
            let message = format!("`{what}` is a map, not {}", kind_of(node));
            let diagnostic = self.error(node.span, message).help(help);
            self.report(diagnostic);
            return None;
        };
        Some(entries)
    }

    /// The part of a span that stands in its first line: enough to underline for a long block.
    pub(crate) fn first_line(&self, span: Span) -> Span {
        let text = self.source.at(span);
        let end = text.find('\n').unwrap_or(text.len());
        Span::new(span.start, span.start + text[..end].trim_end().len())
    }
}

fn in_step(shape: &Shape) -> &'static [&'static str] {
    if shape.what.ends_with(" step") {
        STEP
    } else {
        &[]
    }
}

/// What a node is, for people.
pub(crate) fn kind_of(node: &Node) -> &'static str {
    match &node.value {
        Value::Null => "nothing",
        Value::Scalar(_) => "a text",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}
