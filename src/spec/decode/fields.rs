//! Maps with known keys: type, unknown keys, missing keys.

use crate::spec::arguments::nearest;
use crate::spec::decode::Decoder;
use crate::spec::decode::shapes::{STEP, Shape};
use crate::spec::source::{Span, Spanned};
use crate::spec::yaml::{Entry, Node, Value};

/// A map whose keys have been checked.
#[derive(Debug)]
pub(crate) struct Fields<'n> {
    pub(crate) shape: &'static Shape,
    pub(crate) span: Span,
    entries: &'n [Entry],
    /// What was said about unknown keys: a key named there is not reported as missing.
    advice: Vec<String>,
}

impl<'n> Fields<'n> {
    /// The value of `key`; one that says nothing counts as absent.
    pub(crate) fn value(&self, key: &str) -> Option<&'n Node> {
        self.entry(key)
            .map(|entry| &entry.value)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    /// How many keys the map has.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
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
            let diagnostic = self.error(self.first_line(node.span), message).help(help);
            self.report(diagnostic);
            return None;
        };
        let mut advice = Vec::new();
        for Entry { key, .. } in entries {
            let word = key.value.as_str();
            let in_step = shape.what.ends_with(" step") && STEP.contains(&word);
            if !shape.keys.contains(&word) && !in_step {
                advice.push(self.unknown_key(key, shape));
            }
        }
        Some(Fields {
            shape,
            span: node.span,
            entries,
            advice,
        })
    }

    /// Reports a key that the shape lacks and returns the advice that was given.
    fn unknown_key(&mut self, key: &Spanned<String>, shape: &Shape) -> String {
        let word = key.value.as_str();
        let lower = word.to_ascii_lowercase().replace('-', "_");
        let habit = |word: &str| shape.habits.iter().find(|(habit, _)| *habit == word);
        let keys = || shape.keys.iter().chain(in_step(shape)).copied();
        let advice = if word == "<<" {
            "maps are not merged; repeat the keys, such as `from`, or start stages `from` a common one".to_owned()
        } else if let Some((_, advice)) = habit(word).or_else(|| habit(&lower)) {
            (*advice).to_owned()
        } else if let Some(near) = nearest(&lower, keys()) {
            format!("did you mean `{near}`?")
        } else {
            format!("its keys are {}", keys().collect::<Vec<_>>().join(", "))
        };
        let diagnostic = self
            .error(key.span, format!("{} has no key `{word}`", shape.what))
            .help(advice.clone());
        self.report(diagnostic);
        advice
    }

    /// The value of a key that must be there.
    pub(crate) fn required<'n>(
        &mut self,
        fields: &Fields<'n>,
        key: &str,
        help: &str,
    ) -> Option<&'n Node> {
        let value = fields.value(key);
        let misspelt = || {
            let named = format!("`{key}");
            fields.key(key).is_none() && fields.advice.iter().any(|advice| advice.contains(&named))
        };
        if value.is_none() && !misspelt() {
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
