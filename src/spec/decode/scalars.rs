//! Scalars and lists of scalars.

use std::str::FromStr;
use std::time::Duration;

use crate::spec::arguments::is_variable;
use crate::spec::config::{EnvTemplate, EnvVariable};
use crate::spec::decode::Decoder;
use crate::spec::decode::fields::{Fields, kind_of};
use crate::spec::error::ValueError;
use crate::spec::source::Spanned;
use crate::spec::units::parse_duration;
use crate::spec::yaml::{Entry, Node, Style, Value};

/// Whether a single value may stand where a list is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brackets {
    Needed,
    Optional,
}

impl Decoder<'_> {
    /// A text with its arguments replaced. Numbers and truth values are texts as written.
    pub(crate) fn text(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        let Value::Scalar(scalar) = &node.value else {
            let message = format!("`{what}` is a text, not {}", kind_of(node));
            let help = match node.value {
                Value::Null => "write \"\" for an empty text",
                Value::Map(_) if self.source.at(node.span).starts_with('{') => {
                    "quote a text that begins with `{`"
                }
                _ => "write a single text",
            };
            let diagnostic = self.error(self.first_line(node.span), message).help(help);
            self.report(diagnostic);
            return None;
        };
        let text = self.expanded(&scalar.text, node.span)?;
        Some(Spanned::new(text, node.span))
    }

    /// A text that `convert` makes a value of.
    pub(crate) fn converted<T>(
        &mut self,
        node: &Node,
        what: &str,
        convert: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Option<Spanned<T>> {
        let text = self.text(node, what)?;
        match convert(&text.value) {
            Ok(value) => Some(Spanned::new(value, node.span)),
            Err(error) => {
                self.refuse(node.span, error);
                None
            }
        }
    }

    /// A text that is a value of a type with a grammar.
    pub(crate) fn parsed<T>(&mut self, node: &Node, what: &str) -> Option<Spanned<T>>
    where
        T: FromStr,
        T::Err: Into<ValueError>,
    {
        self.converted(node, what, |text| text.parse().map_err(Into::into))
    }

    /// The value of `key`, if it is there.
    pub(crate) fn optional<T>(&mut self, fields: &Fields<'_>, key: &str) -> Option<Spanned<T>>
    where
        T: FromStr,
        T::Err: Into<ValueError>,
    {
        self.parsed(fields.value(key)?, key)
    }

    /// The value of a key that must be there.
    pub(crate) fn needed<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        help: &str,
    ) -> Option<Spanned<T>>
    where
        T: FromStr,
        T::Err: Into<ValueError>,
    {
        let node = self.required(fields, key, help)?;
        self.parsed(node, key)
    }

    /// A truth value; absent means false. `"true"` in quotes is a text.
    pub(crate) fn flag(&mut self, fields: &Fields<'_>, key: &str) -> Option<bool> {
        let node = fields.value(key)?;
        let quoted = matches!(&node.value, Value::Scalar(scalar)
            if scalar.style == Style::Quoted && !scalar.text.contains("${"));
        let flag = self.converted(node, key, |text| match text {
            "true" if !quoted => Ok(true),
            "false" if !quoted => Ok(false),
            "true" | "false" => Err(ValueError::new(format!(
                "`{key}` is true or false, not a text"
            ))
            .help(format!("write `{key}: {text}` without quotes"))),
            _ => Err(
                ValueError::new(format!("`{key}` is true or false, not {text:?}"))
                    .help(format!("write `{key}: true`, or leave the key out")),
            ),
        });
        flag.map(|flag| flag.value)
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let node = fields.value(key)?;
        let chosen = self.converted(node, key, |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                ValueError::new(format!("`{key}` cannot be {text:?}"))
                    .help(format!("write one of {}", known.join(", ")))
            })
        });
        chosen.map(|chosen| chosen.value)
    }

    /// A duration longer than nothing.
    pub(crate) fn duration(&mut self, fields: &Fields<'_>, key: &str) -> Option<Spanned<Duration>> {
        self.converted(fields.value(key)?, key, |text| {
            match parse_duration(text)? {
                Duration::ZERO => Err(ValueError::new(format!(
                    "`{key}` is zero, which means the default"
                ))
                .help("leave the key out, or write at least 1ms")),
                duration => Ok(duration),
            }
        })
    }

    /// The items of a list.
    pub(crate) fn items<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        brackets: Brackets,
    ) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            Value::Scalar(_) if brackets == Brackets::Optional => Some(std::slice::from_ref(node)),
            _ => {
                let message = format!("`{what}` is a list, not {}", kind_of(node));
                let help = match node.value {
                    Value::Scalar(_) => format!("write `{what}: [{}]`", self.source.at(node.span)),
                    _ => {
                        "write the items between [ and ], or each in a line behind `- `".to_owned()
                    }
                };
                let diagnostic = self.error(self.first_line(node.span), message).help(help);
                self.report(diagnostic);
                None
            }
        }
    }

    /// The items of a list of maps; absent means none.
    pub(crate) fn maps<'n>(&mut self, fields: &Fields<'n>, key: &str, example: &str) -> &'n [Node] {
        let Some(node) = fields.value(key) else {
            return &[];
        };
        if let Value::List(items) = &node.value {
            return items;
        }
        let message = format!("`{key}` is a list, not {}", kind_of(node));
        let help = format!("begin each item with `- `, such as `- {example}`");
        let diagnostic = self.error(self.first_line(node.span), message).help(help);
        self.report(diagnostic);
        &[]
    }

    /// The items of the list at `key`, each a value of its own; absent means none.
    pub(crate) fn list<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        brackets: Brackets,
    ) -> Vec<Spanned<T>>
    where
        T: FromStr,
        T::Err: Into<ValueError>,
    {
        let Some(items) = fields
            .value(key)
            .and_then(|node| self.items(node, key, brackets))
        else {
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| self.parsed(item, key))
            .collect()
    }

    /// The same with at least one item.
    pub(crate) fn some_of<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        help: &str,
    ) -> Option<Vec<Spanned<T>>>
    where
        T: FromStr,
        T::Err: Into<ValueError>,
    {
        let node = self.required(fields, key, help)?;
        let items = self.items(node, key, Brackets::Optional)?;
        if items.is_empty() {
            let diagnostic = self
                .error(node.span, format!("`{key}` names nothing"))
                .help(help);
            self.report(diagnostic);
            return None;
        }
        let values: Vec<_> = items
            .iter()
            .filter_map(|item| self.parsed(item, key))
            .collect();
        (values.len() == items.len()).then_some(values)
    }

    /// Environment variables in the order of the file.
    pub(crate) fn env(&mut self, fields: &Fields<'_>) -> Vec<EnvVariable> {
        let help = "write `env: {NAME: value}`, one line each, without `=`";
        let Some(entries) = fields
            .value("env")
            .and_then(|node| self.entries(node, "env", help))
        else {
            return Vec::new();
        };
        entries
            .iter()
            .filter_map(|entry| self.variable(entry))
            .collect()
    }

    fn variable(&mut self, Entry { key, value }: &Entry) -> Option<EnvVariable> {
        if !is_variable(key) {
            self.refuse(key.span, variable_name(key));
            return None;
        }
        let Value::Scalar(scalar) = &value.value else {
            // The usual message; only a text can go on.
            self.text(value, key);
            return None;
        };
        let template: EnvTemplate = self.expanded_env(&scalar.text, value.span)?;
        Some(EnvVariable {
            name: key.clone(),
            value: Spanned::new(template, value.span),
        })
    }
}

/// What is wrong with the name of a variable.
pub(crate) fn variable_name(name: &str) -> ValueError {
    let error = ValueError::new(format!("{name:?} is no name of an environment variable"));
    match name.split_once('=') {
        Some((name, value)) if is_variable(name) => error.help(format!("write `{name}: {value}`")),
        _ => error.help("use letters, digits and _"),
    }
}
