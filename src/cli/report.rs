//! Reports of `check`, `inspect` and `bench` for people.

use std::fmt::Write as _;

use boxwright::explain::{
    BenchReport, CheckReport, Count, Finding, Hiding, Inspection, LayerInspection, Severity, Size,
};
use boxwright::oci::RuntimeConfig;
use clap::builder::styling::Style;

use crate::cli::progress::line::{counted, printable};
use crate::cli::table::{Align, Table, shortened, wrapped};
use crate::cli::terminal::{BOLD, BOLD_RED, CYAN, DIM, YELLOW};

/// So many findings of one code are shown one by one.
const MOST_OF_A_CODE: usize = 10;

/// A benchmark: a table, and what was left out.
pub(crate) fn bench(report: &BenchReport, width: usize) -> String {
    let mut text = format!(
        "{BOLD}{}{BOLD:#}: {}, {} in, {} of layers out, {} each\n\n",
        printable(&report.spec),
        counted(report.files, "file"),
        Size(report.bytes),
        Size(report.image_bytes),
        counted(report.runs as u64, "run"),
    );
    let left = Align::Left;
    let right = Align::Right;
    let mut table = Table::new(&[left, left, right, right, right, right, right, right, left]);
    let heads = [
        "tool",
        "scenario",
        "wall",
        "min – max",
        "cpu",
        "of cold",
        "memory",
        "taken over",
        "frames",
    ];
    table.row(heads.map(str::to_owned));
    for line in &report.lines {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let frames: usize = line.layers.iter().map(|layer| layer.frames).sum();
        let reused: usize = line.layers.iter().map(|layer| layer.frames_reused).sum();
        let frames = match frames {
            0 => String::new(),
            frames => format!("{reused} of {frames}"),
        };
        let memory = line.peak_memory.map(|bytes| Size(bytes).to_string());
        table.row([
            line.tool.clone(),
            line.scenario.to_string(),
            seconds(line.wall.median),
            format!("{} – {}", seconds(line.wall.min), seconds(line.wall.max)),
            seconds(line.cpu.median),
            report.ratio_to_cold(line).map(percent).unwrap_or_default(),
            memory.unwrap_or_default(),
            line.reused().map(percent).unwrap_or_default(),
            frames,
        ]);
    }
    for (index, line) in table.lines(width.max(110)).iter().enumerate() {
        let _ = match index {
            0 => writeln!(text, "{DIM}{line}{DIM:#}"),
            _ => writeln!(text, "{line}"),
        };
    }
    for reason in &report.skipped {
        let _ = writeln!(text, "{YELLOW}left out{YELLOW:#} {}", printable(reason));
    }
    text
}

/// Three digits are enough, for the next run differs in the third.
fn seconds(span: std::time::Duration) -> String {
    match span.as_secs_f64() {
        seconds if seconds < 10.0 => format!("{seconds:.3}s"),
        seconds => format!("{seconds:.1}s"),
    }
}

/// Findings, the weightiest first; those of one code stand together with their remedy.
pub(crate) fn check(report: &CheckReport, width: usize) -> String {
    let mut text = String::new();
    for findings in report.findings.chunk_by(|one, next| one.code == next.code) {
        push_findings(&mut text, findings, width);
    }
    let counts = [Severity::Error, Severity::Warning, Severity::Info]
        .map(|severity| (report.count(severity), severity));
    let told: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, severity)| match (severity, *count) {
            (Severity::Info, count) => format!("{count} info"),
            (severity, 1) => format!("1 {severity}"),
            (severity, count) => format!("{count} {severity}s"),
        })
        .collect();
    let summary = match told.is_empty() {
        true => "nothing found".to_owned(),
        false => told.join(", "),
    };
    let allowed = match report.allowed {
        0 => String::new(),
        count => format!(" ({count} allowed)"),
    };
    let _ = writeln!(text, "{BOLD}{summary}{BOLD:#}{allowed}");
    text
}

fn push_findings(text: &mut String, findings: &[Finding], width: usize) {
    let Some(first) = findings.first() else {
        return;
    };
    let style = severity_style(first.severity);
    let (severity, code, title) = (first.severity, first.code, first.code.title());
    let _ = writeln!(text, "{style}{severity}{style:#}[{code}]: {title}");
    let shown = &findings[..findings.len().min(MOST_OF_A_CODE)];
    for together in shown.chunk_by(|one, next| one.layer == next.layer) {
        for finding in together {
            let _ = writeln!(
                text,
                "  {}",
                shortened(&described(finding), width.saturating_sub(2))
            );
        }
        if let Some(layer) = together.first().and_then(|finding| finding.layer.as_ref()) {
            let from = format!("layer {}: {}", layer.number, printable(&layer.title));
            let from = shortened(&from, width.saturating_sub(4));
            let _ = writeln!(text, "    {DIM}{from}{DIM:#}");
        }
    }
    if let Some(more @ 1..) = findings.len().checked_sub(MOST_OF_A_CODE) {
        let _ = writeln!(
            text,
            "  … and {} more; --json lists all",
            Count(more as u64)
        );
    }
    let remedy = wrapped(first.remedy, width.saturating_sub(8)).join("\n        ");
    let _ = writeln!(text, "  {CYAN}help:{CYAN:#} {remedy}\n");
}

/// `/path: message (3 files, 1.2 MB)`
fn described(finding: &Finding) -> String {
    let path = finding
        .path
        .as_ref()
        .map(|path| format!("{path}: "))
        .unwrap_or_default();
    let size = match (finding.files, finding.bytes) {
        (0, _) => String::new(),
        (1, bytes) => format!(" ({})", Size(bytes)),
        (files, bytes) => format!(" ({} files, {})", Count(files), Size(bytes)),
    };
    format!("{path}{}{size}", printable(&finding.message))
}

fn severity_style(severity: Severity) -> Style {
    match severity {
        Severity::Error => BOLD_RED,
        Severity::Warning => YELLOW,
        Severity::Info => CYAN,
    }
}

/// Names, config, layers, and what is shipped in vain.
pub(crate) fn inspection(image: &Inspection, width: usize) -> String {
    let mut text = String::new();
    let name = image
        .names
        .first()
        .map_or("an image without a name", String::as_str);
    let _ = writeln!(text, "{BOLD}{name}{BOLD:#} for {}", image.platform);
    for name in image.names.iter().skip(1) {
        let _ = writeln!(text, "{BOLD}{name}{BOLD:#}");
    }
    let mut facts = Table::new(&[Align::Left, Align::Left]);
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            facts.row([name.to_owned(), printable(&value)]);
        }
    };
    fact("manifest", image.manifest.to_string());
    fact("image ID", image.image_id.to_string());
    fact("created", image.created.clone().unwrap_or_default());
    fact(
        "size",
        format!(
            "{} in {} layers, {} unpacked",
            Size(image.size),
            image.layers.len(),
            Size(image.uncompressed)
        ),
    );
    fact(
        "files",
        format!("{}, {}", Count(image.files), Size(image.visible)),
    );
    config_facts(&image.config, &mut fact);
    // Nothing is cut here: people copy digests.
    push_lines(&mut text, &facts, usize::MAX);
    for (index, layer) in image.layers.iter().enumerate() {
        push_layer(&mut text, index + 1, layer, width);
    }
    push_waste(&mut text, image, width);
    text
}

fn config_facts(config: &RuntimeConfig, fact: &mut impl FnMut(&str, String)) {
    let list = |words: &[String]| match words.is_empty() {
        true => String::new(),
        false => format!("{words:?}"),
    };
    fact(
        "user",
        if config.user.is_empty() {
            "root".to_owned()
        } else {
            config.user.clone()
        },
    );
    fact("workdir", config.working_dir.clone());
    fact("entrypoint", list(&config.entrypoint));
    fact("cmd", list(&config.cmd));
    for line in &config.env {
        fact("env", line.clone());
    }
    for port in &config.exposed_ports {
        fact("port", port.clone());
    }
    for volume in &config.volumes {
        fact("volume", volume.clone());
    }
    if let Some(check) = &config.healthcheck {
        fact("health check", list(&check.test));
    }
    fact("stop signal", config.stop_signal.clone());
    for (name, value) in &config.labels {
        fact("label", format!("{name}={value}"));
    }
}

fn push_layer(text: &mut String, number: usize, layer: &LayerInspection, width: usize) {
    let size = format!(
        "{}, {} unpacked",
        Size(layer.size),
        Size(layer.uncompressed)
    );
    let _ = writeln!(
        text,
        "\n{BOLD}layer {number}{BOLD:#}  {}  {size}",
        layer.digest.short()
    );
    if let Some(made_by) = &layer.created_by {
        let _ = writeln!(
            text,
            "  {DIM}{}{DIM:#}",
            shortened(&printable(made_by), width.saturating_sub(2))
        );
    }
    let mut counts = format!(
        "{}, {}",
        counted(layer.entries as u64, "change"),
        counted(layer.files, "file")
    );
    if layer.whiteouts > 0 {
        let _ = write!(counts, ", {}", counted(layer.whiteouts, "removal"));
    }
    if layer.shipped_twice > 0 {
        let _ = write!(
            counts,
            ", {} hidden by higher layers",
            Size(layer.shipped_twice)
        );
    }
    let _ = writeln!(text, "  {counts}");
    let mut files = Table::new(&[Align::Right, Align::Left]);
    for file in &layer.largest {
        files.row([Size(file.bytes).to_string(), file.path.to_string()]);
    }
    push_lines(text, &files, width);
}

fn push_waste(text: &mut String, image: &Inspection, width: usize) {
    if image.shipped_twice > 0 {
        let bytes = Size(image.shipped_twice);
        let _ = writeln!(
            text,
            "\n{BOLD}shipped twice{BOLD:#}  {bytes} that no container sees"
        );
        let mut table = Table::new(&[Align::Right, Align::Left, Align::Left]);
        for file in &image.hidden {
            let how = match file.how {
                Hiding::Replaced => "replaced",
                Hiding::Repeated => "repeated",
                Hiding::Removed => "removed",
            };
            let how = format!("of layer {} {how} by {}", file.layer, file.hidden_by);
            table.row([Size(file.bytes).to_string(), how, file.path.to_string()]);
        }
        push_lines(text, &table, width);
    }
    if image.duplicated > 0 {
        let bytes = Size(image.duplicated);
        let _ = writeln!(
            text,
            "\n{BOLD}equal files{BOLD:#}  {bytes} in further copies"
        );
        let mut table = Table::new(&[Align::Right, Align::Left]);
        for group in &image.duplicates {
            let paths: Vec<String> = group.paths.iter().map(ToString::to_string).collect();
            table.row([
                format!("{} × {}", group.copies, Size(group.bytes)),
                paths.join(" "),
            ]);
        }
        push_lines(text, &table, width);
    }
}

fn push_lines(text: &mut String, table: &Table, width: usize) {
    for line in table.lines(width.saturating_sub(2)) {
        let _ = writeln!(text, "  {line}");
    }
}

#[cfg(test)]
mod tests;
