//! The JSON Schema of the language, generated from the model, so that editors complete and check.
//!
//! The schema knows shapes: keys, kinds and the grammar of single values. It cannot know what an
//! argument stands for, so a text with `${…}` passes every pattern. Structs derive their schema,
//! and their doc comments are its descriptions; what is written here are scalars and those maps
//! whose first key says what they are. Draft 2020-12.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Map, Value, json};

use crate::oci::{Digest, Platform, Reference};
use crate::spec::action::{Add, Command, Copy, Link, Mkdir, Remove, Run, Step, Write};
use crate::spec::config::ProbeTest;
use crate::spec::model::{Allow, Args, Base, BuildSpec, Format, Origin};
use crate::spec::path::{AbsolutePath, ContextPath, ImagePath};
use crate::spec::units::ByteSize;
use crate::spec::value::{AccountName, Compression, HttpUrl, Identity, Name, Owner, Signal, Tag};
use crate::spec::workspace::Workspace;
use crate::tree::ModeChange;

/// The schema of a spec.
pub fn schema() -> Value {
    schema_of::<BuildSpec>("Boxwright spec")
}

/// The schema of a workspace.
pub fn workspace_schema() -> Value {
    schema_of::<Workspace>("Boxwright workspace")
}

fn schema_of<T: JsonSchema>(title: &str) -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<T>();
    // Contexts are two keys of the spec itself; all keys are known once they are put together.
    if schema.remove("unevaluatedProperties").is_some() {
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    schema.insert("title".to_owned(), json!(title));
    sorted(schema.to_value())
}

/// Keys in order, whether or not some crate of the build makes JSON maps keep insertion order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut pairs: Vec<(String, Value)> = object.into_iter().collect();
            pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            pairs
                .into_iter()
                .map(|(key, value)| (key, sorted(value)))
                .collect()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        scalar => scalar,
    }
}

/// The schema as `boxwright schema` prints it and as `specs/boxwright.schema.json` holds it.
pub fn schema_text() -> String {
    format!("{:#}\n", schema())
}

/// The schema as `boxwright schema --workspace` prints it and as
/// `specs/boxwright.workspace.schema.json` holds it.
pub fn workspace_schema_text() -> String {
    format!("{:#}\n", workspace_schema())
}

/// A text, where a number or a truth value is a text as written: labels, variables, arguments of
/// commands.
#[derive(Debug)]
pub(crate) struct Text;

/// A map of texts.
#[derive(Debug)]
pub(crate) struct TextMap;

/// One value, or a list of them.
#[derive(Debug)]
pub(crate) struct OneOrMany<T>(PhantomData<T>);

/// `true` or `false`.
#[derive(Debug)]
pub(crate) struct FlagText;

/// A user or group ID.
#[derive(Debug)]
pub(crate) struct IdText;

/// A number from 1 on.
#[derive(Debug)]
pub(crate) struct CountText;

/// A duration.
#[derive(Debug)]
pub(crate) struct DurationText;

/// A port or a range of ports.
#[derive(Debug)]
pub(crate) struct PortText;

/// A directory, relative to the spec.
#[derive(Debug)]
pub(crate) struct DirectoryText;

/// A pattern that also lets texts with arguments pass.
fn or_argument(pattern: &str) -> String {
    format!("^(?:{pattern})$|\\$\\{{")
}

/// Schemas of scalars: type, name in the schema, kinds, pattern.
macro_rules! scalar_schemas {
    ($($type:ty, $name:literal, $kinds:tt, $pattern:literal, $description:literal;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "description": $description,
                    "type": $kinds,
                    "pattern": or_argument($pattern),
                })
            }
        }
    )*};
}

scalar_schemas! {
    Name, "Name", "string", "[A-Za-z][A-Za-z0-9._-]{0,127}", "A name: letters, digits and . _ -, beginning with a letter.";
    AccountName, "AccountName", "string", "[A-Za-z_][A-Za-z0-9._-]{0,31}\\$?", "The name of a user or group.";
    Identity, "Identity", ["string", "integer"], "[0-9]+|[A-Za-z_][A-Za-z0-9._-]{0,31}\\$?", "A user or group, by name or number.";
    Owner, "Owner", ["string", "integer"], "[^:\\s]+(:[^:\\s]+)?", "`user[:group]`, each a name or a number.";
    Tag, "Tag", ["string", "number"], "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", "A tag of an image.";
    HttpUrl, "Url", "string", "https?://.+", "An http or https URL.";
    Signal, "Signal", ["string", "integer"], "SIG[A-Z0-9]+([+-][0-9]+)?|[0-9]+", "A signal, such as SIGTERM.";
    Compression, "Compression", "string", "none|gzip(:([1-9]|1[0-2]))?|zstd(:([1-9]|1[0-9]|2[0-2]))?", "none, gzip, gzip:LEVEL, zstd or zstd:LEVEL.";
    ByteSize, "Size", ["string", "integer"], "[0-9]+ *([kKMG]?B|[KMGT]iB)?", "Bytes, or a number with a unit: 200MB, 64MiB.";
    AbsolutePath, "AbsolutePath", "string", "/.*", "An absolute path in the image.";
    ImagePath, "ImagePath", "string", ".+", "A path in the image: absolute, or relative to the working directory.";
    ContextPath, "ContextPath", "string", ".+", "A path in the context, stage or image that is copied from.";
    Base, "Base", "string", ".+", "scratch, a stage, an image reference, oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE[:REF].";
    Origin, "Origin", "string", ".+", "A stage, a named context, or an image as after `from` of a stage.";
    Allow, "Allow", "string", "root|build-stage|BW[0-9]{3}", "root, build-stage, or the code of a finding such as BW006.";
    Reference, "Repository", "string", "[^\\s@]+", "The repository of an image, without tag or digest.";
    Platform, "Platform", "string", "[^/\\s]+/[^/\\s]+(/[^/\\s]+)?", "os/architecture, such as linux/amd64.";
    Digest, "Digest", "string", "sha256:[0-9a-f]{64}", "sha256: and 64 hex digits.";
    ModeChange, "Mode", ["string", "integer"], "(0o)?[0-7]{1,4}|[ugoa]*[-+=].*", "Octal digits such as 0755, or a change such as u=rwX,go=rX.";
    IdText, "Id", ["integer", "string"], "[0-9]+", "A user or group ID.";
    CountText, "Count", ["integer", "string"], "[0-9]+", "A number from 1 on.";
    DurationText, "Duration", "string", "([0-9]+(h|m|s|ms))+", "A duration, such as 30s or 1m30s.";
    PortText, "Port", ["integer", "string"], "[0-9]+(-[0-9]+)?(/(tcp|udp))?", "A port or a range, with /tcp or /udp.";
    FlagText, "Flag", ["boolean", "string"], "\\$\\{.*", "true or false.";
    DirectoryText, "Directory", "string", ".+", "A directory, relative to the folder of this file.";
    Text, "Text", ["string", "number", "boolean"], "[\\s\\S]*", "A text; numbers count as they are written.";
}

impl JsonSchema for TextMap {
    fn schema_name() -> Cow<'static, str> {
        "TextMap".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = generator.subschema_for::<Text>();
        json_schema!({ "type": "object", "additionalProperties": text })
    }
}

impl JsonSchema for Args {
    fn schema_name() -> Cow<'static, str> {
        "Args".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = generator.subschema_for::<Option<Text>>();
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
            "additionalProperties": text,
        })
    }
}

impl JsonSchema for Format {
    fn schema_name() -> Cow<'static, str> {
        "Format".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": 1 })
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// A text, or a program with its arguments.
fn text_or_argv(generator: &mut SchemaGenerator, text: &str, list: &str) -> Schema {
    let item = generator.subschema_for::<Text>();
    json_schema!({
        "anyOf": [
            { "type": "string", "description": text },
            { "type": "array", "items": item, "minItems": 1, "description": list },
        ],
    })
}

impl JsonSchema for Command {
    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        text_or_argv(generator, "For /bin/sh -c.", "A program and its arguments.")
    }
}

impl JsonSchema for ProbeTest {
    fn schema_name() -> Cow<'static, str> {
        "Test".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        text_or_argv(
            generator,
            "A command for the image's shell, or none.",
            "A program and its arguments.",
        )
    }
}

/// Each kind of step is a map of its own, and `layer` belongs to all of them.
impl JsonSchema for Step {
    fn schema_name() -> Cow<'static, str> {
        "Step".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut kinds = vec![
            Copy::json_schema(generator),
            Add::json_schema(generator),
            write_step(generator),
            Mkdir::json_schema(generator),
            Link::json_schema(generator),
            Remove::json_schema(generator),
            Run::json_schema(generator),
        ];
        let layer = generator.subschema_for::<Option<Name>>();
        for kind in &mut kinds {
            if let Some(properties) = properties(kind.ensure_object()) {
                properties.insert("layer".to_owned(), json!(layer));
            }
        }
        json_schema!({ "description": "One step of a stage.", "oneOf": kinds })
    }
}

/// A file has a `text` or a `template`.
fn write_step(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Write::json_schema(generator);
    let content = [
        ("text", generator.subschema_for::<Text>()),
        ("template", generator.subschema_for::<ContextPath>()),
        ("from", generator.subschema_for::<Option<Origin>>()),
    ];
    if let Some(properties) = properties(schema.ensure_object()) {
        for (key, schema) in content {
            properties.insert(key.to_owned(), json!(schema));
        }
    }
    let one = json!([{ "required": ["text"] }, { "required": ["template"] }]);
    schema.insert("oneOf".to_owned(), one);
    schema
}

/// A secret is a file (`target`) or a variable (`env`).
pub(crate) fn secret_variable(schema: &mut Schema) {
    let kinds = schema.get_mut("anyOf").and_then(Value::as_array_mut);
    for kind in kinds.into_iter().flatten().filter_map(Value::as_object_mut) {
        let Some(properties) = properties(kind) else {
            continue;
        };
        if properties.contains_key("secret") {
            let variable = json!({ "type": "string", "description": "The environment variable." });
            properties.insert("env".to_owned(), variable);
            kind.insert("not".to_owned(), json!({ "required": ["target", "env"] }));
        }
    }
}

fn properties(schema: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    schema.get_mut("properties").and_then(Value::as_object_mut)
}

#[cfg(test)]
mod tests;
