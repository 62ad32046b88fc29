//! The reader: texts of the tree with their variables replaced, and what was found wrong.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::spec::compose::interpolate::interpolate;
use crate::spec::compose::tree::{Item, ItemValue, Place};
use crate::spec::compose::{ComposeInputs, ComposedImage};
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::error::ValueError;
use crate::spec::source::Span;

/// Reads a tree and remembers what is wrong with it.
pub(crate) struct Reader<'a> {
    pub(crate) inputs: &'a ComposeInputs<'a>,
    /// The project's name, which texts may use.
    project: Option<String>,
    notes: Vec<String>,
    diagnostics: Diagnostics,
}

/// A text of the tree, its variables replaced.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) text: String,
    pub(crate) place: Place,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(inputs: &'a ComposeInputs<'a>) -> Reader<'a> {
        Reader {
            inputs,
            project: None,
            notes: Vec::new(),
            diagnostics: Diagnostics::new(),
        }
    }

    pub(crate) fn know_project(&mut self, project: Option<String>) {
        self.project = project;
    }

    /// Notes and images, unless something is wrong.
    pub(crate) fn finish(
        self,
        images: Vec<ComposedImage>,
    ) -> Result<(Vec<String>, Vec<ComposedImage>), Diagnostics> {
        self.diagnostics.finish((self.notes, images))
    }

    /// A diagnostic about `place`, to be finished and reported by the caller.
    pub(crate) fn error(&self, place: Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(&self.inputs.files[place.file], place.span, message)
    }

    /// Whether nothing was found wrong so far.
    pub(crate) fn is_content(&self) -> bool {
        self.diagnostics.is_empty()
    }

    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Reports a problem with its remedy.
    pub(crate) fn refuse(&mut self, place: Place, message: impl Into<String>, help: &str) {
        let diagnostic = self.error(place, message).help(help);
        self.report(diagnostic);
    }

    /// Notes something about `place`, once.
    pub(crate) fn note(&mut self, place: Place, text: &str) {
        let source = &self.inputs.files[place.file];
        let line = source.line_column(place.span.start).line;
        let note = format!("{}:{line}: {text}", source.name);
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// What a variable stands for.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        match (name, &self.project) {
            ("COMPOSE_PROJECT_NAME", Some(project)) => Some(project.clone()),
            _ => (self.inputs.variables)(name),
        }
    }

    /// A text, or `None` after saying why not.
    pub(crate) fn text(&mut self, item: &Item, what: &str) -> Option<Read> {
        let ItemValue::Text(text) = &item.value else {
            let message = format!("{what} is a text, not {}", item.kind());
            self.refuse(self.first_line(item.place), message, "write one value");
            return None;
        };
        self.interpolated(text, item.place)
    }

    pub(crate) fn interpolated(&mut self, text: &str, place: Place) -> Option<Read> {
        match interpolate(text, &|name| self.variable(name)) {
            Ok(read) => {
                for name in &read.unset {
                    let note =
                        format!("the variable {name} is not set; nothing is put in its place");
                    self.note(place, &note);
                }
                Some(Read {
                    text: read.text,
                    place,
                })
            }
            Err(error) => {
                let place = self.part_of(place, &text[error.range]);
                let mut diagnostic = self.error(place, error.error.message);
                diagnostic.help.extend(error.error.help);
                self.report(diagnostic);
                None
            }
        }
    }

    /// The text of a key, if it is there.
    pub(crate) fn text_of(&mut self, map: &Item, key: &str, what: &str) -> Option<Read> {
        let read = self.text(map.get(key)?, what)?;
        (!read.text.is_empty()).then_some(read)
    }

    /// A value that knows its own grammar.
    pub(crate) fn parsed<T>(&mut self, read: &Read) -> Option<T>
    where
        T: FromStr,
        T::Err: Into<ValueError>,
    {
        match read.text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let error: ValueError = error.into();
                let mut diagnostic = self.error(read.place, error.message);
                diagnostic.help.extend(error.help);
                self.report(diagnostic);
                None
            }
        }
    }

    /// The texts of a list.
    pub(crate) fn texts(&mut self, item: &Item, what: &str) -> Vec<Read> {
        let ItemValue::List(items) = &item.value else {
            let message = format!("{what} is a list, not {}", item.kind());
            self.refuse(self.first_line(item.place), message, "write `[one, two]`");
            return Vec::new();
        };
        let items = items.iter();
        items.filter_map(|item| self.text(item, what)).collect()
    }

    /// The pairs of a map or of a list of `NAME=VALUE`. One without a value has none; of several
    /// with one name the last counts.
    pub(crate) fn pairs(&mut self, item: &Item, what: &str) -> Vec<(Read, Option<Read>)> {
        let mut pairs: Vec<(Read, Option<Read>)> = Vec::new();
        for (name, value) in self.all_pairs(item, what) {
            match pairs.iter_mut().find(|(known, _)| known.text == name.text) {
                Some(known) => *known = (name, value),
                None => pairs.push((name, value)),
            }
        }
        pairs
    }

    fn all_pairs(&mut self, item: &Item, what: &str) -> Vec<(Read, Option<Read>)> {
        match &item.value {
            ItemValue::Map(fields) => {
                let mut pairs = Vec::new();
                for field in fields {
                    let name = Read {
                        text: field.key.clone(),
                        place: field.place,
                    };
                    match &field.value.value {
                        ItemValue::Null => pairs.push((name, None)),
                        _ => {
                            let value = self.text(&field.value, &format!("{what} `{}`", field.key));
                            pairs.extend(value.map(|value| (name, Some(value))));
                        }
                    }
                }
                pairs
            }
            ItemValue::List(items) => {
                let mut pairs = Vec::new();
                for item in items {
                    if let ItemValue::Map(_) = &item.value {
                        pairs.extend(self.all_pairs(item, what));
                        continue;
                    }
                    let Some(Read { text, place }) = self.text(item, what) else {
                        continue;
                    };
                    let read = |text: &str| Read {
                        text: text.to_owned(),
                        place,
                    };
                    pairs.push(match text.split_once('=') {
                        Some((name, value)) => (read(name), Some(read(value))),
                        None => (read(&text), None),
                    });
                }
                pairs
            }
            ItemValue::Null => Vec::new(),
            ItemValue::Text(_) => {
                let message = format!("{what} is a map, not a text");
                self.refuse(
                    item.place,
                    message,
                    "write `{NAME: value}` or `[NAME=value]`",
                );
                Vec::new()
            }
        }
    }

    /// Whether a key says `true`.
    pub(crate) fn is_true(&mut self, item: &Item, what: &str) -> bool {
        let Some(read) = self.text(item, what) else {
            return false;
        };
        match read.text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => true,
            "false" | "no" | "off" | "n" | "" => false,
            _ => {
                let message = format!("{what} is true or false, not {:?}", read.text);
                self.refuse(read.place, message, "write `true` or `false`");
                false
            }
        }
    }

    /// A path, relative to the folder of the first compose file.
    pub(crate) fn path(&self, text: &str) -> PathBuf {
        let text = match text.strip_prefix("~/").zip(self.variable("HOME")) {
            Some((below, home)) => Path::new(&home).join(below),
            None => PathBuf::from(text),
        };
        let below = text.components().filter(|part| *part != Component::CurDir);
        let path = self.inputs.folder.join(below.collect::<PathBuf>());
        match path.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => path,
        }
    }

    /// The part of a place that stands in its first line: enough to underline for a long block.
    pub(crate) fn first_line(&self, place: Place) -> Place {
        let text = self.inputs.files[place.file].at(place.span);
        let line = text.lines().next().unwrap_or_default().trim_end();
        Place {
            span: Span::new(place.span.start, place.span.start + line.len()),
            ..place
        }
    }

    /// The place of a part of a text, if it is written there just so; else the whole text.
    fn part_of(&self, place: Place, part: &str) -> Place {
        let found = self.inputs.files[place.file].at(place.span).find(part);
        let span = found.map(|at| {
            let start = place.span.start + at;
            Span::new(start, start + part.len())
        });
        Place {
            span: span.unwrap_or(place.span),
            ..place
        }
    }
}
