//! YAML (and so JSON) → a tree of nodes that know their places.
//!
//! Comes in: a text. Goes out: one document as [`Node`]s, with scalars as they were written: that
//! `1.10` is a number is nobody's business here, so no tag ever becomes `1.1`. Refused are more
//! than one document, tags (but in somebody else's format, see [`Tags`]), keys that are not
//! scalars, duplicate keys, and whatever would grow without bound: depth, size, and aliases of
//! aliases. Events come from `saphyr-parser`; the tree is built without recursion.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};

use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::source::{SourceText, Span, Spanned};

/// The longest text that is read, in bytes.
pub(crate) const MOST_BYTES: usize = 4 << 20;
/// So deep may lists and maps nest.
const MOST_DEPTH: usize = 64;
/// So many nodes may there be, those that come from aliases included.
const MOST_NODES: usize = 100_000;
/// So many bytes may all scalars hold, those that come from aliases included.
const MOST_SCALAR_BYTES: usize = 16 << 20;

impl Node {
    /// Moves all places by so many bytes: the text lies behind others. As deep as lists and maps
    /// may nest, so not too deep for the stack.
    pub(crate) fn shift(&mut self, by: usize) {
        let moved = |span: Span| Span::new(span.start + by, span.end + by);
        self.span = moved(self.span);
        match &mut self.value {
            Value::Null | Value::Scalar(_) => {}
            Value::List(items) => items.iter_mut().for_each(|item| item.shift(by)),
            Value::Map(entries) => entries.iter_mut().for_each(|Entry { key, value }| {
                key.span = moved(key.span);
                value.shift(by);
            }),
        }
    }
}

/// A value of the document and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
    pub(crate) mark: Mark,
}

/// What is done about tags that YAML does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tags {
    /// A spec has none.
    Refused,
    /// The format is somebody else's: those of compose are noted, others passed over.
    Noted,
}

/// A tag by which a compose file says what becomes of an earlier file's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mark {
    #[default]
    None,
    /// `!reset`: the value is taken away.
    Reset,
    /// `!override`: the value is replaced, and not merged.
    Override,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// Any other scalar.
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) style: Style,
}

/// Whether a scalar may be a number or a truth value, or is text for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted,
}

/// One `key: value` of a map.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Spanned<String>,
    pub(crate) value: Node,
}

/// The document of `source`; `None` if it is empty.
///
/// # Errors
/// All that is wrong with the text as YAML. Duplicate keys are reported together, anything else
/// ends the reading.
pub(crate) fn parse(source: &Arc<SourceText>) -> Result<Option<Node>, Diagnostics> {
    parse_with(source, Tags::Refused)
}

/// The same, where tags may be those of another format.
///
/// # Errors
/// Those of [`parse`].
pub(crate) fn parse_with(
    source: &Arc<SourceText>,
    tags: Tags,
) -> Result<Option<Node>, Diagnostics> {
    if source.text.len() > MOST_BYTES {
        return Err(too_large(source));
    }
    let mut builder = Builder::new(source, tags);
    let text = &source.text[builder.bom..];
    let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, at) = event.map_err(|error| builder.scan_error(&error))?;
        let span = Span::new(builder.offset(at.start), builder.offset(at.end));
        builder.take(event, span)?;
    }
    builder.diagnostics.finish(builder.root)
}

/// A file that no one wrote by hand.
pub(crate) fn too_large(source: &Arc<SourceText>) -> Diagnostics {
    Diagnostic::about(source, "the file is larger than 4 MiB")
        .help("a spec is written by hand; large contents belong into files of the context")
        .into()
}

/// Builds the tree from events.
struct Builder<'a> {
    source: &'a Arc<SourceText>,
    tags: Tags,
    /// Bytes of a byte order mark at the front, which the parser does not see.
    bom: usize,
    /// Byte offsets of the characters, where they are not the same as their numbers.
    offsets: Option<Vec<u32>>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Weight)>,
    root: Option<Node>,
    documents: usize,
    spent: Weight,
    diagnostics: Diagnostics,
}

/// A list or map whose end has not come yet.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<Spanned<String>>,
    seen: HashMap<String, Span>,
    /// What was spent when it began.
    before: Weight,
}

#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
}

type Step = Result<(), Diagnostics>;

impl<'a> Builder<'a> {
    fn new(source: &'a Arc<SourceText>, tags: Tags) -> Builder<'a> {
        let bom = if source.text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        let text = &source.text[bom..];
        let offsets = (!text.is_ascii()).then(|| {
            text.char_indices()
                .map(|(at, _)| u32::try_from(at).expect("the text is at most 4 MiB"))
                .collect()
        });
        Builder {
            source,
            tags,
            bom,
            offsets,
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            documents: 0,
            spent: Weight::default(),
            diagnostics: Diagnostics::new(),
        }
    }

    /// The byte offset of a marker, which counts characters.
    fn offset(&self, marker: Marker) -> usize {
        let end = self.source.text.len();
        let offset = match &self.offsets {
            None => marker.index(),
            Some(offsets) => offsets
                .get(marker.index())
                .map_or(end, |&offset| offset as usize),
        };
        (offset + self.bom).min(end)
    }

    fn error(&self, span: Span, message: &str, help: &str) -> Diagnostics {
        Diagnostic::new(self.source, span, message)
            .help(help)
            .into()
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Step {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.error(
                        span,
                        "a second document begins here",
                        "a spec is one document: give each its own file, or remove the line `---`",
                    ));
                }
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::Scalar(text, style, anchor, tag) => {
                let mark = self.mark(tag.as_deref(), span)?;
                let style = shown_style(style, tag.as_deref());
                let before = self.spent;
                self.spend(
                    Weight {
                        nodes: 1,
                        bytes: text.len(),
                    },
                    span,
                )?;
                let value = scalar(&text, style);
                self.add(Node { span, value, mark }, anchor, before)
            }
            Event::SequenceStart(anchor, tag) => {
                self.start(Value::List(Vec::new()), anchor, tag.as_deref(), span)
            }
            Event::MappingStart(anchor, tag) => {
                self.start(Value::Map(Vec::new()), anchor, tag.as_deref(), span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
        }
    }

    /// What a tag says beside a type.
    fn mark(&self, tag: Option<&Tag>, span: Span) -> Result<Mark, Diagnostics> {
        match tag {
            None => Ok(Mark::None),
            Some(tag) if tag.is_yaml_core_schema() => Ok(Mark::None),
            Some(tag) if self.tags == Tags::Refused => Err(self.unknown_tag(tag, span)),
            Some(tag) => Ok(match tag.suffix.as_str() {
                "reset" => Mark::Reset,
                "override" => Mark::Override,
                _ => Mark::None,
            }),
        }
    }

    fn unknown_tag(&self, tag: &Tag, span: Span) -> Diagnostics {
        self.error(
            span,
            &format!("tag `{tag}` means nothing here"),
            "quote a text that begins with `!`: \"!keep.txt\"",
        )
    }

    fn start(&mut self, value: Value, anchor: usize, tag: Option<&Tag>, span: Span) -> Step {
        let mark = self.mark(tag, span)?;
        if self.open.len() >= MOST_DEPTH {
            let message = format!("lists and maps nest too deep, more than {MOST_DEPTH} levels");
            return Err(self.error(span, &message, "no spec needs more than about eight levels"));
        }
        if let Some(Open {
            node: Node {
                value: Value::Map(_),
                ..
            },
            key: None,
            ..
        }) = self.open.last()
        {
            return Err(self.error(
                span,
                "a key must be a text, not a list or a map",
                "quote the key if it begins with `[` or `{`",
            ));
        }
        let before = self.spent;
        self.spend(Weight { nodes: 1, bytes: 0 }, span)?;
        self.open.push(Open {
            node: Node { span, value, mark },
            anchor,
            key: None,
            seen: HashMap::new(),
            before,
        });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Step {
        let Some(Open {
            mut node,
            anchor,
            before,
            ..
        }) = self.open.pop()
        else {
            return Ok(());
        };
        let last = match &node.value {
            Value::List(items) => items.last().map(|item| item.span),
            Value::Map(entries) => entries
                .last()
                .map(|entry| entry.key.span.to(entry.value.span)),
            Value::Null | Value::Scalar(_) => None,
        };
        // The end of a block is found on some later line; its last child says where it really is.
        let flow = self.source.text[node.span.start..].starts_with(['[', '{']);
        node.span.end = match last {
            Some(last) if !flow => last.end.max(node.span.start),
            _ => span.end,
        };
        self.add(node, anchor, before)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Step {
        let Some((node, weight)) = self.anchors.get(&anchor).cloned() else {
            return Err(self.error(
                span,
                "this alias stands inside of what it repeats",
                "write the value out",
            ));
        };
        let before = self.spent;
        self.spend(weight, span)?;
        self.add(Node { span, ..node }, 0, before)
    }

    fn spend(&mut self, weight: Weight, span: Span) -> Step {
        self.spent.nodes += weight.nodes;
        self.spent.bytes += weight.bytes;
        if self.spent.nodes > MOST_NODES || self.spent.bytes > MOST_SCALAR_BYTES {
            return Err(self.error(
                span,
                &format!("the spec grows beyond {MOST_NODES} values or 16 MiB of text here"),
                "use fewer aliases",
            ));
        }
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node, anchor: usize, before: Weight) -> Step {
        if anchor != 0 {
            let weight = Weight {
                nodes: self.spent.nodes - before.nodes,
                bytes: self.spent.bytes - before.bytes,
            };
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.value, open.key.take()) {
            (Value::Map(entries), Some(key)) => {
                // Where nothing is written, the key is the nearest thing to point at.
                let written = node.span.start < node.span.end;
                let span = if written { node.span } else { key.span };
                let value = Node { span, ..node };
                entries.push(Entry { key, value });
                Ok(())
            }
            (Value::Map(_), None) => self.key(node),
            (Value::List(items), _) => {
                items.push(node);
                Ok(())
            }
            (Value::Null | Value::Scalar(_), _) => Ok(()),
        }
    }

    fn key(&mut self, node: Node) -> Step {
        let text = match node.value {
            Value::Scalar(scalar) => scalar.text,
            Value::Null => self.source.at(node.span).to_owned(),
            Value::List(_) | Value::Map(_) => {
                return Err(self.error(
                    node.span,
                    "a key must be a text, not a list or a map",
                    "write the key out",
                ));
            }
        };
        let Some(open) = self.open.last_mut() else {
            return Ok(());
        };
        if let Some(&first) = open.seen.get(&text) {
            self.diagnostics.push(
                Diagnostic::new(
                    self.source,
                    node.span,
                    format!("key `{text}` is given twice"),
                )
                .help("keep one of the two")
                .also(first, "first given here"),
            );
        } else {
            open.seen.insert(text.clone(), node.span);
        }
        open.key = Some(Spanned::new(text, node.span));
        Ok(())
    }

    /// What the parser says, in words of people who write specs, with the usual remedy.
    fn scan_error(&self, error: &ScanError) -> Diagnostics {
        let at = self.offset(*error.marker());
        let text = &self.source.text;
        let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[at..]
            .find('\n')
            .map_or(text.len(), |newline| at + newline);
        let line = &text[line_start..line_end];
        let indent = &line[..line.len() - line.trim_start().len()];
        let next = text[at..].chars().next().map_or(0, char::len_utf8);
        let place = Span::new(at, (at + next).min(line_end.max(at)));
        if let Some(tab) = indent.find('\t') {
            let tab = Span::new(line_start + tab, line_start + tab + 1);
            return self.error(
                tab,
                "a tab indents this line",
                "YAML indents with spaces only",
            );
        }
        let (message, help) = explain(error.info(), line);
        let mut diagnostic = Diagnostic::new(self.source, place, message);
        diagnostic.help.extend(help.map(str::to_owned));
        diagnostic.into()
    }
}

/// Tags say types; the types of values are known, so only `!!str` and its like say anything.
fn shown_style(style: ScalarStyle, tag: Option<&Tag>) -> Style {
    match tag.filter(|tag| tag.is_yaml_core_schema()) {
        Some(tag) if tag.suffix == "str" => Style::Quoted,
        Some(_) => Style::Plain,
        None if style == ScalarStyle::Plain => Style::Plain,
        None => Style::Quoted,
    }
}

fn scalar(text: &str, style: Style) -> Value {
    match (style, text) {
        (Style::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        _ => Value::Scalar(Scalar {
            text: text.to_owned(),
            style,
        }),
    }
}

/// A clear message for the parser's, and the most likely remedy for a line like this.
fn explain(info: &str, line: &str) -> (String, Option<&'static str>) {
    const QUOTE_STAR: &str = "quote a text that begins with `*`: \"*.json\"";
    const QUOTE_COLON: &str = "quote a text that contains `: `, or write it as a block behind `|`";
    const QUOTE_ARG: &str = "quote a text with `${…}` inside [ ] or { }: \"${NAME}\"";
    const CLOSE: &str = "close every [ { and quote that is opened";
    const INDENT: &str = "lines of one map or list begin in the same column";
    let in_flow = line.contains("${") && line.contains(['[', '{']);
    match info {
        _ if info.contains("recursion limit") => (
            "lists and maps nest too deep".to_owned(),
            Some("no spec needs more than about eight levels"),
        ),
        _ if info.contains("unknown anchor") => (
            "no anchor of this name was written above".to_owned(),
            Some(QUOTE_STAR),
        ),
        _ if info.contains("anchor") || info.contains("alias") => {
            (format!("not valid YAML: {info}"), Some(QUOTE_STAR))
        }
        _ if info.contains("mapping values") => {
            ("a second `: ` in one line".to_owned(), Some(QUOTE_COLON))
        }
        _ if in_flow => (format!("not valid YAML: {info}"), Some(QUOTE_ARG)),
        _ if info.contains("unexpected character") || info.contains("unexpected token") => (
            format!("not valid YAML: {info}"),
            Some("quote a text that begins with one of @ ` % | > & ! or a quote"),
        ),
        _ if info.contains("flow")
            || info.contains("illegal placement")
            || info.contains("quoted")
            || info.contains("bracket")
            || info.contains("eof") =>
        {
            (format!("not valid YAML: {info}"), Some(CLOSE))
        }
        _ => (format!("not valid YAML: {info}"), Some(INDENT)),
    }
}

#[cfg(test)]
mod tests;
