//! The schema and the decoder agree.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::spec::decode::shapes;
use crate::spec::link::tests::OnDisk;
use crate::spec::parse::{ParseInputs, parse};
use crate::spec::source::SourceText;
use crate::spec::yaml::{self, Node, Style, Value as Yaml};

/// What JSON a YAML reader of an editor would see.
fn json_of(node: &Node) -> Value {
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::List(items) => items.iter().map(json_of).collect(),
        Yaml::Map(entries) => {
            let pair = |entry: &yaml::Entry| (entry.key.value.clone(), json_of(&entry.value));
            Value::Object(entries.iter().map(pair).collect())
        }
        Yaml::Scalar(scalar) if scalar.style == Style::Quoted => json!(scalar.text),
        Yaml::Scalar(scalar) => match scalar.text.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            text if text.starts_with('+') => json!(text),
            text => match (
                text.trim_start_matches('0').parse::<i64>(),
                text.parse::<f64>(),
            ) {
                (Ok(integer), Ok(_)) => json!(integer),
                (_, Ok(float)) if text.starts_with(|c: char| c.is_ascii_digit()) => json!(float),
                _ => json!(text),
            },
        },
    }
}

fn specs(kind: &str) -> Vec<(PathBuf, Arc<SourceText>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/specs")
        .join(kind);
    let paths = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let yaml = paths.filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    let text = |path: PathBuf| {
        let text = String::from_utf8(std::fs::read(&path).unwrap()).ok()?;
        Some((
            path.clone(),
            Arc::new(SourceText::new(path.display().to_string(), text)),
        ))
    };
    yaml.filter_map(text).collect()
}

#[test]
fn the_schema_in_the_repository_is_this_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs/boxwright.schema.json");
    if std::env::var_os("BOXWRIGHT_BLESS").is_some() {
        std::fs::write(&path, schema_text()).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == schema_text(),
        "specs/boxwright.schema.json is old: boxwright schema > specs/boxwright.schema.json"
    );
}

#[test]
fn valid_specs_are_valid_for_both() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let platform = "linux/amd64".parse().unwrap();
    let inputs = ParseInputs {
        arg_overrides: &[],
        profile: None,
        platform: &platform,
        files: &OnDisk::below("testdata/specs/valid"),
    };
    for (path, source) in specs("valid") {
        parse(&source, &inputs).unwrap_or_else(|error| panic!("{error}"));
        let document = json_of(&yaml::parse(&source).unwrap().unwrap());
        let wrong: Vec<String> = validator
            .iter_errors(&document)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}", path.display());
    }
}

/// Files of `invalid` whose shape alone is wrong; the others need the meaning of a value.
const WRONG_SHAPES: &[&str] = &[
    "list-at-top",
    "text-at-top",
    "no-format",
    "format-2",
    "format-map",
    "no-stages",
    "stages-null",
    "stages-list",
    "unknown-top",
    "compose-file",
    "steps-at-top",
    "tags-text",
    "platform-bad",
    "compression-bad",
    "budget-bad",
    "budget-text",
    "contexts-list",
    "context-name-bad",
    "arg-list",
    "arg-value-list",
    "arg-name-bad",
    "profiles-list",
    "profile-habits",
    "profile-bad",
    "stage-unknown-key",
    "stage-no-from",
    "stage-text",
    "stage-null",
    "stage-name-bad",
    "workdir-relative",
    "allow-bad",
    "allow-text",
    "user-bad",
    "group-bad",
    "steps-map",
    "steps-text",
    "step-text",
    "step-nothing",
    "step-two-actions",
    "copy-habits",
    "copy-unknown",
    "exclude-bad",
    "flag-bad",
    "add-habits",
    "add-bad",
    "write-both",
    "write-neither",
    "mkdir-bad",
    "link-bad",
    "remove-bad",
    "run-bad",
    "run-habits",
    "env-list",
    "mount-habits",
    "mount-bad",
    "mounts-map",
    "config-habits",
    "config-list",
    "entrypoint-text",
    "cmd-shell",
    "cmd-map",
    "expose-text",
    "expose-bad",
    "signal-bad",
    "user-as-bad",
    "labels-list",
    "labels-bad",
    "volumes-bad",
    "healthcheck-bad",
    "healthcheck-none",
    "many",
    "windows-lines",
    "merge-key",
];

#[test]
fn specs_of_a_wrong_shape_are_wrong_for_both() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let (mut seen, mut accepted) = (0, Vec::new());
    for (path, source) in specs("invalid") {
        if WRONG_SHAPES.contains(&path.file_stem().unwrap().to_str().unwrap()) {
            let document = json_of(&yaml::parse(&source).unwrap().unwrap());
            accepted.extend(validator.is_valid(&document).then_some(path));
            seen += 1;
        }
    }
    assert_eq!(accepted, Vec::<PathBuf>::new());
    assert_eq!(seen, WRONG_SHAPES.len(), "a file of the list is gone");
}

/// The keys of every map with properties, wherever it stands in the schema.
fn maps(schema: &Value, found: &mut Vec<Vec<String>>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                assert_eq!(
                    object.get("additionalProperties"),
                    Some(&json!(false)),
                    "{object:?}"
                );
                let mut keys: Vec<String> = properties.keys().cloned().collect();
                keys.sort();
                found.push(keys);
            }
            object.values().for_each(|value| maps(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| maps(item, found)),
        _ => {}
    }
}

#[test]
fn the_decoder_and_the_schema_know_the_same_keys() {
    let mut in_schema = Vec::new();
    maps(&schema(), &mut in_schema);
    let of_shape = |shape: &&shapes::Shape| -> Vec<String> {
        let step: &[&str] = if shape.what.ends_with(" step") {
            shapes::STEP
        } else {
            &[]
        };
        let mut keys: Vec<String> = shape
            .keys
            .iter()
            .chain(step)
            .map(|key| (*key).to_owned())
            .collect();
        keys.sort();
        keys
    };
    let mut in_decoder: Vec<_> = shapes::ALL.iter().map(of_shape).collect();
    in_schema.sort();
    in_decoder.sort();
    assert_eq!(in_schema, in_decoder);
}
