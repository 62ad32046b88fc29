//! Findings, and how many of them become one.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::explain::check::code::{Code, Severity};
use crate::tree::LayerPath;

/// One thing that is wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its stable name.
    pub code: Code,
    /// How much it weighs.
    pub severity: Severity,
    /// What was found, in one line.
    pub message: String,
    /// Where in the image; a directory stands for what is in it. Bytes that are no text are
    /// escaped.
    #[serde(serialize_with = "as_text")]
    pub path: Option<LayerPath>,
    /// How many files it is about; 0 where it is about the config.
    pub files: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
    /// The layer that put it there.
    pub layer: Option<FoundIn>,
    /// What to do about it.
    pub remedy: &'static str,
}

/// The layer that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundIn {
    /// Number of the layer in the image, from 1 for the lowest.
    pub number: usize,
    /// What made it, in one short line.
    pub title: String,
}

impl Finding {
    /// A finding about the config.
    pub(crate) fn about_config(code: Code, message: String) -> Finding {
        Finding {
            code,
            severity: code.severity(),
            message,
            path: None,
            files: 0,
            bytes: 0,
            layer: None,
            remedy: code.remedy(),
        }
    }

    /// A finding about what stands at `path`.
    pub(crate) fn at(code: Code, path: &LayerPath, message: String) -> Finding {
        Finding {
            path: Some(path.clone()),
            ..Finding::about_config(code, message)
        }
    }

    /// The same, about this many files of this size together.
    #[must_use]
    pub(crate) fn sized(mut self, files: u64, bytes: u64) -> Finding {
        self.files = files;
        self.bytes = bytes;
        self
    }
}

/// Collects what rules find in a walk in the order of paths. What is found below a path that was
/// found already, by the same code, belongs to that finding.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    all: Vec<Finding>,
    /// The last finding of each code that has a path, by its index.
    latest: BTreeMap<Code, (usize, Below)>,
}

/// What a finding says of what is below its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Below {
    /// It counts everything there already.
    Counted,
    /// What is found there is to be added to it.
    Added,
}

impl Findings {
    pub(crate) fn push(&mut self, finding: Finding, below: Below) {
        if let Some(path) = &finding.path {
            if let Some(&(index, relation)) = self.latest.get(&finding.code)
                && let Some(above) = &self.all[index].path
                && path.starts_with(above)
            {
                if relation == Below::Added {
                    self.all[index].files += finding.files;
                    self.all[index].bytes += finding.bytes;
                }
                return;
            }
            self.latest.insert(finding.code, (self.all.len(), below));
        }
        self.all.push(finding);
    }

    /// All findings, the weightiest first, then by code and path.
    pub(crate) fn finish(mut self) -> Vec<Finding> {
        self.all.sort_by(|left, right| {
            let key = |finding: &Finding| (finding.severity, finding.code);
            (key(left), &left.path, &left.message).cmp(&(key(right), &right.path, &right.message))
        });
        self.all
    }
}

fn as_text<S: Serializer>(path: &Option<LayerPath>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serializer.collect_str(path),
        None => serializer.serialize_none(),
    }
}
