//! Many images at a glance: a row each, and what they store together.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::explain::acceptance::judge::AT_MOST;
use crate::explain::acceptance::{Acceptance, Blob, Subject, Verdict};
use crate::explain::size::{Count, Size};

/// Several images, a row each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// In the order in which they were verified.
    pub rows: Vec<Row>,
    /// How many blobs of layers there are, each counted once.
    pub blobs: usize,
    /// Their bytes.
    pub stored: u64,
    /// The bytes of all images, each by itself.
    pub each: u64,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its spec, without the name that all specs have.
    pub name: String,
    /// Whether nothing failed.
    pub passed: bool,
    /// In the order of [`Overview::SUBJECTS`].
    cells: [Cell; Overview::SUBJECTS.len()],
}

/// One subject of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cell {
    /// What was measured, in words.
    measured: String,
    /// The most that was wanted, where that is a number.
    most: Option<String>,
}

impl Overview {
    /// What a row tells.
    pub const SUBJECTS: [Subject; 8] = [
        Subject::Size,
        Subject::Unpacked,
        Subject::ColdBuild,
        Subject::WarmBuild,
        Subject::Start,
        Subject::Health,
        Subject::User,
        Subject::Stop,
    ];

    /// The overview of these.
    pub fn of(all: &[Acceptance]) -> Overview {
        let built = all.iter().filter_map(|one| one.figures.build.as_ref().ok());
        let layers: Vec<&Blob> = built.flat_map(|build| &build.layers).collect();
        let once: BTreeMap<_, u64> = layers.iter().map(|one| (one.digest, one.size)).collect();
        Overview {
            rows: all.iter().map(Row::of).collect(),
            blobs: once.len(),
            stored: once.values().sum(),
            each: layers.iter().map(|blob| blob.size).sum(),
        }
    }

    /// What they store together, in words.
    pub fn sum(&self) -> String {
        format!(
            "{} images, {} in {} blobs of layers; each by itself {}",
            self.rows.len(),
            Size(self.stored),
            Count(self.blobs as u64),
            Size(self.each),
        )
    }

    /// A table in Markdown, and the sum below it.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| image |");
        for subject in Overview::SUBJECTS {
            let _ = write!(text, " {subject} |");
        }
        let columns = Overview::SUBJECTS.len() + 1;
        let _ = writeln!(text, " |\n|---|{}", "---|".repeat(columns));
        for row in &self.rows {
            let verdict = if row.passed {
                "accepted"
            } else {
                "NOT ACCEPTED"
            };
            let cells = row.cells.iter().map(|cell| match &cell.most {
                Some(most) => escaped(&format!("{} / {most}", cell.measured)),
                None => escaped(&cell.measured),
            });
            let cells: Vec<String> = cells.collect();
            let _ = writeln!(
                text,
                "| {} | {} | {verdict} |",
                escaped(&row.name),
                cells.join(" | ")
            );
        }
        let _ = writeln!(text, "\n{}.", self.sum());
        text
    }
}

impl Row {
    fn of(one: &Acceptance) -> Row {
        let spec = &one.figures.spec;
        Row {
            name: spec
                .strip_suffix("/boxwright.yaml")
                .unwrap_or(spec)
                .to_owned(),
            passed: one.passed,
            cells: Overview::SUBJECTS.map(|subject| cell(one, subject)),
        }
    }

    /// What was measured of a subject, in words; nothing of one that the overview does not tell.
    pub fn measured(&self, subject: Subject) -> &str {
        let mut cells = Overview::SUBJECTS.iter().zip(&self.cells);
        let found = cells.find(|(other, _)| **other == subject);
        found.map_or("", |(_, cell)| &cell.measured)
    }
}

fn cell(one: &Acceptance, subject: Subject) -> Cell {
    let found = one.judgements.iter().find(|one| one.subject == subject);
    let measured = found.map_or("", |judgement| match judgement.verdict {
        Verdict::Skipped => "skipped",
        _ => &judgement.measured,
    });
    let most = found.and_then(|judgement| judgement.demanded.strip_prefix(AT_MOST));
    Cell {
        measured: measured.to_owned(),
        most: most.map(str::to_owned),
    }
}

/// A text that cannot end its cell, nor be taken for markup.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '|' | '<' | '*' | '_' | '`' | '[' | '\\' => safe.extend(['\\', letter]),
            _ if letter.is_control() => safe.push(' '),
            _ => safe.push(letter),
        }
    }
    safe
}
