//! The door of the room: text and inputs in, spec or diagnostics out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::oci::Platform;
use crate::spec::decode::{Decoder, decode};
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::link::{MOST_FILES, SpecFiles, link};
use crate::spec::model::BuildSpec;
use crate::spec::source::{SourceText, Span};
use crate::spec::yaml::{self, Entry, Node, Value};

/// What a spec depends on besides its text.
#[derive(Debug, Clone, Copy)]
pub struct ParseInputs<'a> {
    /// Values of arguments, by name, taken literally; of several for one name the last counts.
    pub arg_overrides: &'a [(String, String)],
    /// The name of the profile that is in effect, if one is.
    pub profile: Option<&'a str>,
    /// The platform to build for: `${TARGETPLATFORM}` and its like. A spec for several platforms
    /// is parsed once for each.
    pub platform: &'a Platform,
    /// The specs whose stages it may extend.
    pub files: &'a dyn SpecFiles,
}

/// Reads a spec in YAML or JSON, with the stages of other files that it needs.
///
/// # Errors
/// All that is wrong with it, in the order of the text, or else with the files that it extends.
pub fn parse(source: &Arc<SourceText>, inputs: &ParseInputs<'_>) -> Result<BuildSpec, Diagnostics> {
    let root = document(source)?;
    link(decode(Decoder::new(source), &root, inputs)?, inputs)
}

/// The one document of a spec. Spans count from the beginning of its text.
pub(crate) fn document(source: &Arc<SourceText>) -> Result<Node, Diagnostics> {
    if let Some(span) = dockerfile(source) {
        return Err(Diagnostic::new(source, span, "this is a Dockerfile, not a spec")
            .help("write its stages into a boxwright.yaml:\nformat: 1\nstages:\n  app:\n    from: docker.io/library/alpine:3.20\n    steps:\n      - copy: .")
            .into());
    }
    yaml::parse(source)?.ok_or_else(|| {
        Diagnostic::about(source, "the spec is empty")
            .help("begin with:\nformat: 1\nstages:\n  app:\n    from: scratch")
            .into()
    })
}

/// The names of the arguments that a spec declares, and those of the specs that it extends as far
/// as their names are written without arguments.
///
/// # Errors
/// A text that is no YAML. What else is wrong with the specs is for [`parse`] to tell.
pub fn declared_args(
    source: &Arc<SourceText>,
    files: &dyn SpecFiles,
) -> Result<BTreeSet<String>, Diagnostics> {
    let mut declared = BTreeSet::new();
    let mut seen = BTreeSet::from([files.own_identity()]);
    let mut ahead = declared_in(source, &mut declared)?
        .into_iter()
        .map(|path| (PathBuf::new(), path))
        .collect::<Vec<_>>();
    while let Some((folder, path)) = ahead.pop() {
        let Ok(found) = files.find(&folder, &path) else {
            continue;
        };
        if seen.len() >= MOST_FILES || !seen.insert(found.identity) {
            continue;
        }
        let text = SourceText::from_bytes(found.name, found.bytes.to_vec());
        let further = text.and_then(|text| declared_in(&Arc::new(text), &mut declared));
        let folder = found.path.parent().unwrap_or(Path::new("")).to_owned();
        let further = further.unwrap_or_default().into_iter();
        ahead.extend(further.map(|path| (folder.clone(), path)));
    }
    Ok(declared)
}

/// Adds the arguments of one file; the files that its stages extend come out.
fn declared_in(
    source: &Arc<SourceText>,
    declared: &mut BTreeSet<String>,
) -> Result<Vec<PathBuf>, Diagnostics> {
    fn value<'n>(entries: &'n [Entry], key: &str) -> Option<&'n Value> {
        let found = entries.iter().find(|entry| entry.key.value == key);
        found.map(|entry| &entry.value.value)
    }
    fn entries(value: Option<&Value>) -> &[Entry] {
        match value {
            Some(Value::Map(entries)) => entries,
            _ => &[],
        }
    }
    let root = yaml::parse(source)?;
    let top = entries(root.as_ref().map(|root| &root.value));
    let args = entries(value(top, "args")).iter();
    declared.extend(args.map(|entry| entry.key.value.clone()));
    let stages = entries(value(top, "stages")).iter();
    let extended =
        stages.filter_map(
            |stage| match value(entries(Some(&stage.value.value)), "extends")? {
                Value::Scalar(scalar) => scalar.text.split_once('#'),
                _ => None,
            },
        );
    Ok(extended.map(|(file, _)| PathBuf::from(file)).collect())
}

/// The first instruction, if the text begins as Dockerfiles do.
fn dockerfile(source: &SourceText) -> Option<Span> {
    let mut start = 0;
    for line in source.text.split_inclusive('\n') {
        let text = line.trim();
        if !text.is_empty() && !text.starts_with('#') {
            let instruction = ["FROM ", "ARG "].iter().any(|word| text.starts_with(word));
            return instruction.then(|| Span::new(start, start + line.trim_end().len()));
        }
        start += line.len();
    }
    None
}

impl SourceText {
    /// The text of a file.
    ///
    /// # Errors
    /// A file that is not UTF-8 or larger than 4 MiB.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Result<SourceText, Diagnostics> {
        let name = name.into();
        if bytes.len() > yaml::MOST_BYTES {
            let source = Arc::new(SourceText::new(name, ""));
            return Err(yaml::too_large(&source));
        }
        String::from_utf8(bytes)
            .map(|text| SourceText::new(name.clone(), text))
            .map_err(|error| not_utf8(name, &error))
    }
}

fn not_utf8(name: String, error: &std::string::FromUtf8Error) -> Diagnostics {
    let valid = error.utf8_error().valid_up_to();
    let bytes = error.as_bytes();
    let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    let text = String::from_utf8_lossy(bytes).into_owned();
    let source = Arc::new(SourceText::new(name, text));
    // Up to the first bad byte the lossy text is the same, and there it has U+FFFD.
    let span = Span::new(valid, valid + char::REPLACEMENT_CHARACTER.len_utf8());
    let help = if utf16 {
        "this looks like UTF-16; save the file as UTF-8"
    } else {
        "save the file as UTF-8"
    };
    Diagnostic::new(&source, span, "the file is not UTF-8 here")
        .help(help)
        .into()
}

#[cfg(test)]
mod tests;
