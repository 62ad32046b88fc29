//! Benchmarks of caching: what was measured, and what it says.
//!
//! Comes in: times and memory of whole processes, measured by the porch, with what the builds said
//! of their layers. Goes out: a [`BenchReport`], which serializes to JSON that keeps its field
//! names, and as one page of HTML. Nothing is measured here: this room knows no clock.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

mod html;

pub(crate) use html::escaped;
pub use html::html;

/// What has happened to the files between two builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// There is no store: everything is done.
    Cold,
    /// Nothing.
    Unchanged,
    /// A line was added to one small file.
    SmallFile,
    /// One byte in the middle of the largest file is another.
    LargestFile,
    /// A line was added to the file that says what others are needed.
    Dependencies,
}

/// One tool in one scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BenchLine {
    /// The tool.
    pub tool: String,
    /// What had happened.
    pub scenario: Scenario,
    /// The file that was changed, below its context's directory.
    pub changed: Option<String>,
    /// Seconds on the clock.
    pub wall: Spread,
    /// Seconds of all processors.
    pub cpu: Spread,
    /// The most memory that any run took, in bytes, where it could be told.
    pub peak_memory: Option<u64>,
    /// What the layers of the last run were made of; only Boxwright says.
    pub layers: Vec<LayerShare>,
}

/// What one layer of a run was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerShare {
    /// What makes it.
    pub title: String,
    /// Its uncompressed bytes.
    pub bytes: u64,
    /// Those of them that were compressed in this run.
    pub compressed: u64,
    /// Its frames, and those that an earlier layer had; 0 where the layer was there whole.
    pub frames: usize,
    /// See `frames`.
    pub frames_reused: usize,
}

/// The middle and the ends of what several runs took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// The median.
    #[serde(serialize_with = "as_seconds")]
    pub median: Duration,
    /// The shortest.
    #[serde(serialize_with = "as_seconds")]
    pub min: Duration,
    /// The longest.
    #[serde(serialize_with = "as_seconds")]
    pub max: Duration,
}

/// All that a benchmark has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BenchReport {
    /// The spec, as it was named.
    pub spec: String,
    /// Files that the build reads.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the image's layers as they are stored.
    pub image_bytes: u64,
    /// How often each scenario was run.
    pub runs: usize,
    /// What was measured, by tool and then by scenario.
    pub lines: Vec<BenchLine>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

impl Scenario {
    /// All of them, in the order in which they are run.
    pub const ALL: [Scenario; 5] = [
        Scenario::Cold,
        Scenario::Unchanged,
        Scenario::SmallFile,
        Scenario::LargestFile,
        Scenario::Dependencies,
    ];
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Scenario::Cold => "cold",
            Scenario::Unchanged => "nothing changed",
            Scenario::SmallFile => "a small file changed",
            Scenario::LargestFile => "a byte of the largest file",
            Scenario::Dependencies => "the dependency file changed",
        })
    }
}

impl Spread {
    /// The spread of these; `None` if there are none.
    pub fn of(mut runs: Vec<Duration>) -> Option<Spread> {
        runs.sort();
        let (min, max) = (*runs.first()?, *runs.last()?);
        let middle = runs.len() / 2;
        let median = match runs.len() % 2 {
            1 => runs[middle],
            _ => (runs[middle - 1] + runs[middle]) / 2,
        };
        Some(Spread { median, min, max })
    }
}

impl BenchLine {
    /// The share of all layers' bytes that this run did not have to compress, from 0 to 1; `None`
    /// if the tool does not say.
    pub fn reused(&self) -> Option<f64> {
        let bytes: u64 = self.layers.iter().map(|layer| layer.bytes).sum();
        let compressed: u64 = self.layers.iter().map(|layer| layer.compressed).sum();
        (bytes > 0).then(|| 1.0 - compressed as f64 / bytes as f64)
    }
}

impl BenchReport {
    /// The line of a tool in a scenario.
    pub fn line(&self, tool: &str, scenario: Scenario) -> Option<&BenchLine> {
        let mut lines = self.lines.iter();
        lines.find(|line| line.tool == tool && line.scenario == scenario)
    }

    /// How many times as long as the tool's own cold build a line took.
    pub fn ratio_to_cold(&self, line: &BenchLine) -> Option<f64> {
        let cold = self.line(&line.tool, Scenario::Cold)?;
        let cold = cold.wall.median.as_secs_f64();
        (cold > 0.0).then(|| line.wall.median.as_secs_f64() / cold)
    }

    /// The tools in the order of their lines.
    pub fn tools(&self) -> Vec<&str> {
        let mut tools: Vec<&str> = Vec::new();
        for line in &self.lines {
            if !tools.contains(&line.tool.as_str()) {
                tools.push(&line.tool);
            }
        }
        tools
    }
}

fn as_seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = |runs: &[u64]| {
            let runs = runs.iter().map(|&ms| Duration::from_millis(ms)).collect();
            Spread::of(runs).map(|spread| spread.median.as_millis())
        };
        for (runs, median) in [
            (&[3, 1, 2][..], Some(2)),
            (&[4, 2], Some(3)),
            (&[7], Some(7)),
            (&[], None),
        ] {
            assert_eq!(spread(runs), median, "{runs:?}");
        }
    }

    #[test]
    fn what_is_reused_counts_by_bytes() {
        let layer = |bytes, compressed| LayerShare {
            title: "copy".to_owned(),
            bytes,
            compressed,
            frames: 4,
            frames_reused: 3,
        };
        let none = Spread::of(vec![Duration::ZERO]).unwrap();
        let line = |layers| BenchLine {
            tool: "boxwright".to_owned(),
            scenario: Scenario::SmallFile,
            changed: None,
            wall: none,
            cpu: none,
            peak_memory: None,
            layers,
        };
        assert_eq!(
            line(vec![layer(300, 0), layer(100, 100)]).reused(),
            Some(0.75)
        );
        assert_eq!(line(Vec::new()).reused(), None);
    }
}
