//! Where things stand in the text: sources, spans and values that know their place.
//!
//! Every value of a [`crate::spec::BuildSpec`] that a later room may complain about is
//! [`Spanned`], so that an error found while planning or copying still points at the line that
//! caused it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};

/// A text as it was read, with the name under which people know it.
///
/// A spec may have stages in other files. Their texts lie behind its own as if they were one, so
/// that a [`Span`] alone says the file and the place in it, and whoever has the spec's text can
/// point into all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceText {
    /// The path as it should be shown.
    pub name: String,
    /// The whole text, exactly as read: spans count its bytes.
    pub text: String,
    /// What spans count before the first byte: 0 but for texts of other files.
    start: usize,
    /// The texts of the other files, in the order of their starts.
    others: Vec<Arc<SourceText>>,
}

/// A place in a text for people: both numbers begin at 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineColumn {
    /// Line number.
    pub line: usize,
    /// Column number, in characters.
    pub column: usize,
}

/// A range of bytes of a [`SourceText`] or of one behind it, the end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
}

/// A value and where it was written.
///
/// Two spanned values are equal if their values are: a spec means the same wherever its lines
/// stand.
#[derive(Clone, Copy, Default)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written. After expansion of arguments this is still the scalar in the file.
    pub span: Span,
}

impl SourceText {
    /// A text named `name`.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> SourceText {
        SourceText {
            name: name.into(),
            text: text.into(),
            start: 0,
            others: Vec::new(),
        }
    }

    /// The same text, with spans that count from `start`.
    #[must_use]
    pub(crate) fn starting_at(self, start: usize) -> SourceText {
        SourceText { start, ..self }
    }

    /// The same text with those of other files, which are in the order of their starts.
    #[must_use]
    pub(crate) fn with_others(self, others: Vec<Arc<SourceText>>) -> SourceText {
        SourceText { others, ..self }
    }

    /// Where spans of a text behind this one may start. A byte lies between them, so that the end
    /// of one is not the start of the other.
    pub(crate) fn next_start(&self) -> usize {
        self.start + self.text.len() + 1
    }

    /// The file that a span lies in.
    pub fn file(&self, span: Span) -> &SourceText {
        let others = self.others.iter().rev();
        let mut before = others.filter(|other| other.start <= span.start);
        before.next().map_or(self, |other| other)
    }

    /// The bytes of [`SourceText::text`] that a span of this file covers, where they are.
    pub fn local(&self, span: Span) -> Span {
        let within = |offset: usize| self.floor(offset.saturating_sub(self.start));
        Span::new(within(span.start), within(span.end))
    }

    /// Line and column of an offset in its file; one beyond the text counts as its end.
    pub fn line_column(&self, offset: usize) -> LineColumn {
        let place = Span::new(offset, offset);
        let file = self.file(place);
        let before = &file.text[..file.local(place).start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        LineColumn {
            line: before.bytes().filter(|&byte| byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The text at `span`; what lies beyond the text is cut off.
    pub fn at(&self, span: Span) -> &str {
        let file = self.file(span);
        let Span { start, end } = file.local(span);
        &file.text[start.min(end)..end]
    }

    /// The nearest character boundary at or before `offset`.
    fn floor(&self, offset: usize) -> usize {
        (0..=offset.min(self.text.len()))
            .rev()
            .find(|&at| self.text.is_char_boundary(at))
            .unwrap_or(0)
    }
}

impl Span {
    /// The span from `start` to before `end`.
    pub const fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    /// The smallest span that holds both.
    #[must_use]
    pub fn to(self, other: Span) -> Span {
        Span::new(self.start.min(other.start), self.end.max(other.end))
    }
}

impl fmt::Display for LineColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl<T> Spanned<T> {
    /// `value`, written at `span`.
    pub const fn new(value: T, span: Span) -> Spanned<T> {
        Spanned { value, span }
    }

    /// Another value at the same place.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned::new(convert(self.value), self.span)
    }

    /// The value by reference, at the same place.
    pub const fn as_ref(&self) -> Spanned<&T> {
        Spanned::new(&self.value, self.span)
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Spanned<T>) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// In the schema a spanned value is just the value.
impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = SourceText::new("f", "ab\né x\r\nz");
        for (offset, shown) in [
            (0, "1:1"),
            (2, "1:3"),
            (3, "2:1"),
            (5, "2:2"),
            (4, "2:1"), // inside the two bytes of é
            (9, "3:1"),
            (99, "3:2"),
        ] {
            assert_eq!(source.line_column(offset).to_string(), shown, "{offset}");
        }
    }

    #[test]
    fn text_at_a_span_never_panics() {
        let source = SourceText::new("f", "aé");
        assert_eq!(source.at(Span::new(1, 3)), "é");
        assert_eq!(source.at(Span::new(2, 99)), "é");
        assert_eq!(source.at(Span::new(7, 2)), "");
    }

    #[test]
    fn equal_values_are_equal_wherever_they_stand() {
        assert_eq!(
            Spanned::new(1, Span::new(0, 1)),
            Spanned::new(1, Span::new(5, 6))
        );
        assert_eq!(Span::new(3, 4).to(Span::new(1, 2)), Span::new(1, 4));
    }
}
