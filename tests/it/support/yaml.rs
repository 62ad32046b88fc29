//! YAML as JSON values: mappings, sequences, strings, anchors; every scalar stays a string.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value};

/// A collection that is not complete: its anchor, and what it has so far.
enum Open {
    List(usize, Vec<Value>),
    Map(usize, Map<String, Value>, Option<String>),
}

/// The one document of a text.
pub(crate) fn read(text: &str) -> Value {
    let (mut open, mut anchors) = (Vec::new(), HashMap::new());
    let mut document = Value::Null;
    for event in Parser::new_from_str(text) {
        let (anchor, value) = match event.expect("well-formed YAML").0 {
            Event::Scalar(text, _, anchor, _) => (anchor, Value::String(text.into_owned())),
            Event::Alias(anchor) => (0, Value::clone(&anchors[&anchor])),
            Event::SequenceStart(anchor, _) => {
                open.push(Open::List(anchor, Vec::new()));
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open::Map(anchor, Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop().expect("balanced events") {
                Open::List(anchor, list) => (anchor, Value::Array(list)),
                Open::Map(anchor, map, _) => (anchor, Value::Object(map)),
            },
            _ => continue,
        };
        if anchor != 0 {
            anchors.insert(anchor, value.clone());
        }
        match open.last_mut() {
            None => document = value,
            Some(Open::List(_, list)) => list.push(value),
            Some(Open::Map(_, map, key)) => match key.take() {
                None => *key = Some(value.as_str().expect("a plain key").to_owned()),
                Some(name) => {
                    assert!(map.insert(name, value).is_none(), "a key stands twice");
                }
            },
        }
    }
    document
}

#[test]
fn anchors_stand_for_what_they_name() {
    let text = "a: &x {k: [1, two]}\nb: *x\nc: |\n  line\n";
    let expected = serde_json::json!({
        "a": {"k": ["1", "two"]}, "b": {"k": ["1", "two"]}, "c": "line\n"
    });
    assert_eq!(read(text), expected);
}
