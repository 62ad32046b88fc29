//! The summary of several images: a line each, and what they share.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use boxwright::build::BuildReport;
use boxwright::explain::{Count, Size};
use boxwright::oci::Digest;

use crate::cli::progress::line::{counted, printable};
use crate::cli::progress::shown;
use crate::cli::table::{Align, Table};
use crate::cli::terminal::{BOLD, DIM};

/// What became of one of several images.
pub(crate) enum MemberLine<'a> {
    Built {
        name: &'a str,
        report: &'a BuildReport,
        took: Duration,
    },
    Failed(&'a str),
    NotBegun(&'a str),
}

/// A table with a line for each image, and what those that were built have in common.
pub(crate) fn members(lines: &[MemberLine<'_>], width: usize) -> String {
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[left, right, right, right, left, left]);
    let head = ["image", "size", "layers", "time", "digest", "where"];
    table.row(head.map(str::to_owned));
    for line in lines {
        table.row(match line {
            MemberLine::Built { name, report, took } => [
                printable(name),
                Size(report.size()).to_string(),
                Count(report.layers.len() as u64).to_string(),
                shown(*took),
                report.manifest.short(),
                places(report),
            ],
            MemberLine::Failed(name) => without(name, "failed"),
            MemberLine::NotBegun(name) => without(name, "not begun"),
        });
    }
    let mut text = String::from("\n");
    for (number, line) in table.lines(width).iter().enumerate() {
        let _ = match number {
            0 => writeln!(text, "{DIM}{line}{DIM:#}"),
            _ => writeln!(text, "{line}"),
        };
    }
    let reports = lines.iter().filter_map(|line| match line {
        MemberLine::Built { report, .. } => Some(*report),
        MemberLine::Failed(_) | MemberLine::NotBegun(_) => None,
    });
    let reports: Vec<&BuildReport> = reports.collect();
    if !reports.is_empty() {
        text.push_str(&shared(&reports));
    }
    text
}

/// An image that is not there.
fn without(name: &str, why: &str) -> [String; 6] {
    let nothing = String::new;
    [
        printable(name),
        nothing(),
        nothing(),
        nothing(),
        why.to_owned(),
        nothing(),
    ]
}

/// Where an image went.
fn places(report: &BuildReport) -> String {
    let places: Vec<String> = report
        .outputs
        .iter()
        .map(|output| printable(&output.name))
        .collect();
    places.join(", ")
}

/// What several images have in common: their layers, each blob counted once.
fn shared(reports: &[&BuildReport]) -> String {
    let layers = reports.iter().flat_map(|report| &report.layers);
    let blobs: BTreeMap<Digest, u64> = layers.map(|layer| (layer.digest, layer.size)).collect();
    let sum: u64 = reports.iter().map(|report| report.size()).sum();
    format!(
        "\n{BOLD}{}{BOLD:#}, {} in {} of layers; each by itself {}\n",
        counted(reports.len() as u64, "image"),
        Size(blobs.values().sum()),
        counted(blobs.len() as u64, "blob"),
        Size(sum),
    )
}
