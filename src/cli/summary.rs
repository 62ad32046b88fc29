//! The summary of a build: the image, its layers, where it went and what to do with it.

use std::fmt::Write as _;
use std::time::Duration;

use boxwright::build::{BuildReport, Origin, OutputKind, OutputLine};
use boxwright::explain::Size;

use crate::cli::progress::shown;
use crate::cli::table::{Align, Table};
use crate::cli::terminal::{BOLD, DIM};

/// The summary, with styles, at most `width` characters wide where names allow.
pub(crate) fn render(report: &BuildReport, took: Duration, width: usize) -> String {
    let mut text = String::from("\n");
    let name = report
        .names
        .first()
        .map_or("an image without a name", String::as_str);
    let platform = &report.platform;
    let _ = writeln!(
        text,
        "{BOLD}{name}{BOLD:#} for {platform}, in {}",
        shown(took)
    );
    for name in report.names.iter().skip(1) {
        let _ = writeln!(text, "{BOLD}{name}{BOLD:#}");
    }
    let _ = writeln!(text, "  manifest  {}", report.manifest);
    let _ = writeln!(text, "  image ID  {}", report.image_id);
    text.push('\n');
    push_layers(&mut text, report, width);
    push_next(&mut text, report);
    text
}

fn push_layers(text: &mut String, report: &BuildReport, width: usize) {
    if report.layers.is_empty() {
        text.push_str("  no layers: the image is empty\n");
        return;
    }
    let mut table = Table::new(&[
        Align::Left,
        Align::Right,
        Align::Right,
        Align::Left,
        Align::Left,
    ]);
    let word = |word: &str| word.to_owned();
    table.row([
        word("layer"),
        word("size"),
        word("unpacked"),
        word("from"),
        word("made by"),
    ]);
    for layer in &report.layers {
        table.row([
            layer.digest.short(),
            Size(layer.size).to_string(),
            Size(layer.uncompressed).to_string(),
            word(origin(layer.origin)),
            layer.title.replace(|c: char| c.is_control(), "\u{fffd}"),
        ]);
    }
    let unpacked = report.layers.iter().map(|layer| layer.uncompressed).sum();
    table.row([
        word("total"),
        Size(report.size()).to_string(),
        Size(unpacked).to_string(),
        String::new(),
        new_bytes(report),
    ]);
    for (index, line) in table.lines(width.saturating_sub(2)).iter().enumerate() {
        let _ = match index {
            0 => writeln!(text, "  {DIM}{line}{DIM:#}"),
            _ => writeln!(text, "  {line}"),
        };
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Base => "base",
        Origin::Cached => "cache",
        Origin::Reused => "reused",
        Origin::Built => "built",
    }
}

/// What a team that has the last image must transfer.
fn new_bytes(report: &BuildReport) -> String {
    let built = report
        .layers
        .iter()
        .filter(|layer| layer.origin == Origin::Built);
    match built.map(|layer| layer.size).sum() {
        0 => "nothing new".to_owned(),
        bytes => format!("{} new", Size(bytes)),
    }
}

fn push_next(text: &mut String, report: &BuildReport) {
    let mut commands = Vec::new();
    for output in &report.outputs {
        commands.extend(next(output, report.names.first().map(String::as_str)));
    }
    commands.dedup();
    if commands.is_empty() {
        return;
    }
    text.push_str("\nNext:\n");
    for command in commands {
        let _ = writeln!(text, "  {command}");
    }
}

/// Commands that are true for this output.
fn next(output: &OutputLine, name: Option<&str>) -> Vec<String> {
    let path = quoted(&output.path.display().to_string());
    let run = name.map(|name| format!("podman run --rm {name}"));
    match output.kind {
        OutputKind::OciArchive | OutputKind::DockerArchive => {
            let load = [
                format!("podman load -i {path}"),
                format!("docker load -i {path}"),
            ];
            load.into_iter().chain(run).collect()
        }
        OutputKind::Oci => {
            let reference = output
                .reference
                .iter()
                .map(|reference| format!(":{reference}"));
            let source = format!("oci:{path}{}", reference.collect::<String>());
            let target = name.unwrap_or("REGISTRY/NAME:TAG");
            vec![format!("skopeo copy {source} docker://{target}")]
        }
    }
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let is_plain = |c: char| {
        c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '+' | ',' | '@' | '%' | '=')
    };
    if !path.is_empty() && path.chars().all(is_plain) {
        return path.to_owned();
    }
    format!("'{}'", path.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::terminal::plain;
    use boxwright::build::{LayerLine, OutputState};
    use boxwright::oci::{DiffId, Digest, DocumentFormat};

    fn layer(title: &str, size: u64, origin: Origin) -> LayerLine {
        LayerLine {
            title: title.to_owned(),
            digest: Digest::of(title.as_bytes()),
            diff_id: DiffId(Digest::of(title.as_bytes())),
            size,
            uncompressed: size * 3,
            origin,
            work: None,
        }
    }

    fn output(kind: OutputKind, path: &str, reference: Option<&str>) -> OutputLine {
        OutputLine {
            name: path.to_owned(),
            kind,
            path: path.into(),
            reference: reference.map(str::to_owned),
            bytes: 48_300_000,
            state: OutputState::Written,
        }
    }

    fn report() -> BuildReport {
        BuildReport {
            names: vec![
                "docker.io/acme/auth-service:1.4.0".to_owned(),
                "docker.io/acme/auth-service:latest".to_owned(),
            ],
            platform: "linux/amd64".parse().unwrap(),
            format: DocumentFormat::Oci,
            manifest: Digest::of(b"manifest"),
            image_id: Digest::of(b"config"),
            layers: vec![
                layer("docker.io/library/node:20-alpine", 45_100_000, Origin::Base),
                layer("users nodejs", 512, Origin::Cached),
                layer(
                    "copy /app/dist → /app/dist from the stage that is called build, all of it",
                    1_234_567,
                    Origin::Built,
                ),
                layer("write /app/build.json", 180, Origin::Reused),
            ],
            outputs: vec![
                output(OutputKind::OciArchive, "auth-service.tar", None),
                output(OutputKind::Oci, "my layout", Some("1.4.0")),
            ],
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_summary_of_everything() {
        let text = plain(&render(&report(), Duration::from_millis(2340), 80));
        let ascii_width = |line: &str| line.chars().count();
        let digests = |line: &&str| !line.contains("sha256:") && !line.contains("skopeo");
        assert!(
            text.lines()
                .filter(digests)
                .all(|line| ascii_width(line) <= 80)
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_summary_of_nothing() {
        let report = BuildReport {
            names: Vec::new(),
            layers: Vec::new(),
            outputs: vec![output(OutputKind::DockerArchive, "it's.tar", None)],
            ..report()
        };
        insta::assert_snapshot!(plain(&render(&report, Duration::ZERO, 80)));
    }
}
