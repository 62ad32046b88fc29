//! Compose files as trees: merge keys resolved, several files merged into one.
//!
//! A value knows which file it comes from, so that an error found after merging still points at
//! the line that caused it. The rules of merging are compose's: later files win, maps are merged,
//! lists go on, arguments are merged by name whichever way they are written, `x-…` keys are
//! replaced, `!reset` takes away and `!override` replaces.

use std::sync::Arc;

use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::source::{SourceText, Span};
use crate::spec::yaml::{self, Mark, Node, Tags, Value};

/// A place in one of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which of the files.
    pub(crate) file: usize,
    pub(crate) span: Span,
}

/// A value of the merged files.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) place: Place,
    pub(crate) value: ItemValue,
    mark: Mark,
}

#[derive(Debug, Clone)]
pub(crate) enum ItemValue {
    Null,
    Text(String),
    List(Vec<Item>),
    Map(Vec<Field>),
}

/// One `key: value`.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Item,
}

/// Where in a compose file two values meet; it decides how they are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Top,
    Services,
    Service,
    Build,
    /// `args` and their like: a map, or a list of `NAME=VALUE`.
    Pairs,
    Other,
}

impl At {
    fn below(self, key: &str) -> At {
        match (self, key) {
            (At::Top, "services") => At::Services,
            (At::Services, _) => At::Service,
            (At::Service, "build") => At::Build,
            (At::Build, "args" | "additional_contexts" | "labels") => At::Pairs,
            _ => At::Other,
        }
    }
}

impl Item {
    /// A map without fields.
    pub(crate) fn map(place: Place) -> Item {
        Item {
            place,
            value: ItemValue::Map(Vec::new()),
            mark: Mark::None,
        }
    }

    /// The value of a key; one that says nothing counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&Item> {
        let value = self.fields()?.iter().find(|field| field.key == key);
        let value = &value?.value;
        (!matches!(value.value, ItemValue::Null)).then_some(value)
    }

    /// The fields, if this is a map.
    pub(crate) fn fields(&self) -> Option<&[Field]> {
        match &self.value {
            ItemValue::Map(fields) => Some(fields),
            _ => None,
        }
    }

    /// The name of a pair: of `NAME=VALUE`, or of a map with one key.
    fn pair_name(&self) -> Option<&str> {
        match &self.value {
            ItemValue::Text(text) => Some(text.split_once('=').map_or(text, |(name, _)| name)),
            ItemValue::Map(fields) => Some(fields.first()?.key.as_str()),
            ItemValue::Null | ItemValue::List(_) => None,
        }
    }

    /// What it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            ItemValue::Null => "nothing",
            ItemValue::Text(_) => "a text",
            ItemValue::List(_) => "a list",
            ItemValue::Map(_) => "a map",
        }
    }

    /// The same without what `!reset` takes away.
    pub(crate) fn settled(mut self) -> Item {
        match &mut self.value {
            ItemValue::Map(fields) => {
                fields.retain(|field| field.value.mark != Mark::Reset);
                let settled = std::mem::take(fields).into_iter().map(|field| Field {
                    value: field.value.settled(),
                    ..field
                });
                *fields = settled.collect();
            }
            ItemValue::List(items) => {
                items.retain(|item| item.mark != Mark::Reset);
                *items = std::mem::take(items)
                    .into_iter()
                    .map(Item::settled)
                    .collect();
            }
            ItemValue::Null | ItemValue::Text(_) => {}
        }
        self
    }
}

/// The tree of one file; `None` if it is empty.
pub(crate) fn read(source: &Arc<SourceText>, file: usize) -> Result<Option<Item>, Diagnostics> {
    let Some(root) = yaml::parse_with(source, Tags::Noted)? else {
        return Ok(None);
    };
    let mut diagnostics = Diagnostics::new();
    let item = converted(root, file, source, &mut diagnostics);
    diagnostics.finish(Some(item))
}

fn converted(
    node: Node,
    file: usize,
    source: &Arc<SourceText>,
    diagnostics: &mut Diagnostics,
) -> Item {
    let place = |span| Place { file, span };
    let value = match node.value {
        Value::Null => ItemValue::Null,
        Value::Scalar(scalar) => ItemValue::Text(scalar.text),
        Value::List(nodes) => {
            let items = nodes
                .into_iter()
                .map(|node| converted(node, file, source, diagnostics));
            ItemValue::List(items.collect())
        }
        Value::Map(entries) => {
            let mut fields: Vec<Field> = Vec::new();
            let mut merged = Vec::new();
            for entry in entries {
                let value = converted(entry.value, file, source, diagnostics);
                if entry.key.value == "<<" {
                    merged.push(value);
                    continue;
                }
                fields.push(Field {
                    key: entry.key.value,
                    place: place(entry.key.span),
                    value,
                });
            }
            for value in merged {
                take_in(&mut fields, value, source, diagnostics);
            }
            ItemValue::Map(fields)
        }
    };
    Item {
        place: place(node.span),
        value,
        mark: node.mark,
    }
}

/// What `<<` says: the map's own keys count, then those of the first map that has them.
fn take_in(
    fields: &mut Vec<Field>,
    value: Item,
    source: &Arc<SourceText>,
    diagnostics: &mut Diagnostics,
) {
    match value.value {
        ItemValue::Map(more) => {
            for field in more {
                if !fields.iter().any(|known| known.key == field.key) {
                    fields.push(field);
                }
            }
        }
        ItemValue::List(items) if items.iter().all(|item| item.fields().is_some()) => {
            for item in items {
                take_in(fields, item, source, diagnostics);
            }
        }
        ItemValue::Null => {}
        ItemValue::Text(_) | ItemValue::List(_) => diagnostics.push(
            Diagnostic::new(source, value.place.span, "`<<` takes in maps")
                .help("write an alias of a map, `<<: *common`, or a list of them, `<<: [*a, *b]`"),
        ),
    }
}

/// What a later value makes of an earlier one.
pub(crate) fn merge(earlier: Item, later: Item, at: At) -> Item {
    let (earlier, later) = match at {
        At::Build => (as_build(earlier), as_build(later)),
        At::Pairs => (as_pairs(earlier), as_pairs(later)),
        _ => (earlier, later),
    };
    let replaces = later.mark != Mark::None || earlier.mark == Mark::Reset;
    match (earlier.value, later.value) {
        (_, value) if replaces => Item { value, ..later },
        (ItemValue::Map(mut fields), ItemValue::Map(more)) => {
            for field in more {
                merge_field(&mut fields, field, at);
            }
            Item {
                value: ItemValue::Map(fields),
                place: later.place,
                mark: earlier.mark,
            }
        }
        (ItemValue::List(mut items), ItemValue::List(more)) => {
            let taken_away = more.iter().filter(|item| item.mark == Mark::Reset);
            let taken_away: Vec<&str> = taken_away.filter_map(Item::pair_name).collect();
            items.retain(|item| {
                !item
                    .pair_name()
                    .is_some_and(|name| taken_away.contains(&name))
            });
            items.extend(more);
            Item {
                value: ItemValue::List(items),
                place: later.place,
                mark: earlier.mark,
            }
        }
        (value, ItemValue::Null) => Item {
            value,
            place: earlier.place,
            mark: earlier.mark,
        },
        (_, value) => Item { value, ..later },
    }
}

fn merge_field(fields: &mut Vec<Field>, later: Field, at: At) {
    let Some(known) = fields.iter().position(|known| known.key == later.key) else {
        fields.push(later);
        return;
    };
    let earlier = fields.remove(known);
    let value = match later.key.starts_with("x-") {
        true => later.value,
        false => merge(earlier.value, later.value, at.below(&later.key)),
    };
    let merged = Field { value, ..later };
    fields.insert(known, merged);
}

/// `build: DIR` is short for `build: {context: DIR}`.
pub(crate) fn as_build(item: Item) -> Item {
    let ItemValue::Text(_) = item.value else {
        return item;
    };
    Item {
        place: item.place,
        mark: item.mark,
        value: ItemValue::Map(vec![Field {
            key: "context".to_owned(),
            place: item.place,
            value: Item {
                mark: Mark::None,
                ..item
            },
        }]),
    }
}

/// Pairs as a list of texts and of maps with one key each.
fn as_pairs(item: Item) -> Item {
    let ItemValue::Map(fields) = item.value else {
        return item;
    };
    let pairs = fields.into_iter().map(|field| Item {
        place: field.place,
        mark: field.value.mark,
        value: ItemValue::Map(vec![field]),
    });
    Item {
        value: ItemValue::List(pairs.collect()),
        ..item
    }
}
