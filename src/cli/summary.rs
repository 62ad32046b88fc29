//! The summary of a build: the image, its layers, where it went and what to do with it.

use std::fmt::Write as _;
use std::time::Duration;

use boxwright::build::{
    BuildReport, JoinReport, Origin, OutputKind, OutputLine, PushLine, PushReport,
};
use boxwright::explain::{Count, Size};
use boxwright::oci::Digest;
use boxwright::transport::registry::{Delivery, PushedBlob};
use serde::Serialize;

use crate::cli::args::PrintArg;
use crate::cli::exit::Failure;
use crate::cli::progress::line::counted;
use crate::cli::progress::shown;
use crate::cli::table::{Align, Table, json_text};
use crate::cli::terminal::{BOLD, DIM, Terminal};

mod members;

pub(crate) use members::{MemberLine, members};

/// The summary, with styles, at most `width` characters wide where names allow.
pub(crate) fn render(report: &BuildReport, took: Duration, width: usize) -> String {
    let mut text = String::from("\n");
    let name = report
        .names
        .first()
        .map_or("an image without a name", String::as_str);
    let platform = &report.platform;
    let profile = report.profile.iter();
    let profile: String = profile.map(|name| format!(", profile {name}")).collect();
    let _ = writeln!(
        text,
        "{BOLD}{name}{BOLD:#} for {platform}{profile}, in {}",
        shown(took)
    );
    for name in report.names.iter().skip(1) {
        let _ = writeln!(text, "{BOLD}{name}{BOLD:#}");
    }
    let _ = writeln!(text, "  manifest  {}", report.manifest);
    let _ = writeln!(text, "  image ID  {}", report.image_id);
    text.push('\n');
    push_layers(&mut text, report, width);
    for line in report
        .outputs
        .iter()
        .filter_map(|output| output.push.as_ref())
    {
        text.push('\n');
        push_repository(&mut text, line, width);
    }
    push_next(&mut text, report);
    text
}

/// The summary of a push: each repository, and how each blob came there.
pub(crate) fn pushes(report: &PushReport, took: Duration, width: usize) -> String {
    let mut text = String::new();
    for line in &report.pushes {
        text.push('\n');
        push_repository(&mut text, line, width);
    }
    text.push('\n');
    if report.foreign_layers > 0 {
        let layers = counted(report.foreign_layers as u64, "layer");
        let _ = writeln!(text, "  left out: {layers} that nobody may pass on");
    }
    let _ = writeln!(text, "  manifest  {}, in {}", report.digest, shown(took));
    text
}

/// Writes to standard output what was asked for: the digests, a line each, or the whole report.
pub(crate) fn print(
    what: Option<PrintArg>,
    digests: &[Digest],
    report: &impl Serialize,
    terminal: &Terminal,
) -> Result<(), Failure> {
    match what {
        None => Ok(()),
        Some(PrintArg::Digest) => {
            let lines = digests.iter().map(|digest| format!("{digest}\n"));
            terminal.print(&lines.collect::<String>())
        }
        Some(PrintArg::Json) => terminal.print(&json_text(report)),
    }
}

/// The summary of an index: the images in it, and where it went.
pub(crate) fn joined(report: &JoinReport, took: Duration, width: usize) -> String {
    let mut text = String::from("\n");
    let mut table = Table::new(&[Align::Left, Align::Left]);
    for image in &report.images {
        table.row([image.platform.to_string(), image.digest.to_string()]);
    }
    for line in table.lines(width.saturating_sub(2)) {
        let _ = writeln!(text, "  {line}");
    }
    for output in &report.outputs {
        let _ = writeln!(text, "  {BOLD}{}{BOLD:#}", output.name);
    }
    let _ = writeln!(text, "  index     {}, in {}", report.digest, shown(took));
    text
}

fn push_repository(text: &mut String, line: &PushLine, width: usize) {
    for name in line.names() {
        let _ = writeln!(text, "{BOLD}{name}{BOLD:#}");
    }
    let left = Align::Left;
    let mut table = Table::new(&[left, Align::Right, left]);
    for blob in &line.blobs {
        table.row([
            blob.digest.short(),
            Size(blob.size).to_string(),
            delivery(blob),
        ]);
    }
    for line in table.lines(width.saturating_sub(2)) {
        let _ = writeln!(text, "  {line}");
    }
    let of = |wanted| {
        let blobs = line.blobs.iter().filter(|blob| blob.delivery == wanted);
        Count(blobs.count() as u64)
    };
    let _ = writeln!(
        text,
        "  {} sent, {} mounted, {} there already; {}; {} on the wire out, {} in",
        of(Delivery::Sent),
        of(Delivery::Mounted),
        of(Delivery::Present),
        counted(line.documents as u64, "document"),
        Size(line.bytes_sent),
        Size(line.bytes_received),
    );
}

fn delivery(blob: &PushedBlob) -> String {
    match (blob.delivery, &blob.mounted_from) {
        (Delivery::Present, _) => "there already".to_owned(),
        (Delivery::Mounted, Some(from)) => format!("mounted from {from}"),
        (Delivery::Mounted, None) => "mounted".to_owned(),
        (Delivery::Sent, _) if blob.sent == blob.size => "sent".to_owned(),
        (Delivery::Sent, _) if blob.sent < blob.size => {
            format!("sent, {} of it now", Size(blob.sent))
        }
        (Delivery::Sent, _) => format!("sent, {} with repeats", Size(blob.sent)),
    }
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
        OutputKind::Registry => {
            let pull = output.reference.iter();
            pull.map(|name| format!("podman pull {name}")).collect()
        }
        OutputKind::Oci => {
            let reference = output
                .reference
                .iter()
                .map(|reference| format!(":{reference}"));
            let source = format!("oci:{path}{}", reference.collect::<String>());
            let target = name.unwrap_or("REGISTRY/NAME:TAG");
            vec![format!("boxwright push {source} {target}")]
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
            push: None,
        }
    }

    fn push_line() -> PushLine {
        let blob = |name: &str, delivery, sent| PushedBlob {
            digest: Digest::of(name.as_bytes()),
            size: 1_234_567,
            delivery,
            mounted_from: (delivery == Delivery::Mounted).then(|| "library/node".to_owned()),
            sent,
        };
        PushLine {
            repository: "r.x/acme/app".to_owned(),
            tags: vec!["1".to_owned(), "latest".to_owned()],
            digest: Digest::of(b"manifest"),
            blobs: vec![
                blob("a", Delivery::Present, 0),
                blob("b", Delivery::Mounted, 0),
                blob("c", Delivery::Sent, 1_234_567),
                blob("d", Delivery::Sent, 1_000),
                blob("e", Delivery::Sent, 2_000_000),
            ],
            documents: 2,
            bytes_sent: 3_300_000,
            bytes_received: 4_000,
            state: OutputState::Written,
        }
    }

    #[test]
    fn a_summary_of_a_push() {
        let report = PushReport {
            digest: Digest::of(b"manifest"),
            foreign_layers: 1,
            pushes: vec![push_line()],
        };
        insta::assert_snapshot!(plain(&pushes(&report, Duration::from_millis(1500), 80)));
    }

    fn report() -> BuildReport {
        BuildReport {
            names: vec![
                "docker.io/acme/auth-service:1.4.0".to_owned(),
                "docker.io/acme/auth-service:latest".to_owned(),
            ],
            platform: "linux/amd64".parse().unwrap(),
            profile: Some("prod".to_owned()),
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
    fn a_summary_of_several() {
        let second = BuildReport {
            layers: vec![
                layer("docker.io/library/node:20-alpine", 45_100_000, Origin::Base),
                layer("copy . → /app", 2_000, Origin::Built),
            ],
            outputs: vec![output(OutputKind::OciArchive, "gateway.tar", None)],
            ..report()
        };
        let lines = [
            MemberLine::Built {
                name: "platform/auth-service",
                report: &report(),
                took: Duration::from_millis(12_340),
            },
            MemberLine::Failed("platform/billing"),
            MemberLine::Built {
                name: "gateway",
                report: &second,
                took: Duration::from_secs(75),
            },
            MemberLine::NotBegun("notify"),
        ];
        let text = plain(&members(&lines, 80));
        assert!(text.lines().all(|line| line.chars().count() <= 80));
        insta::assert_snapshot!(text);
        let none = plain(&members(&lines[1..2], 80));
        assert!(!none.contains("0 images"), "{none}");
    }

    #[test]
    fn a_summary_of_nothing() {
        let report = BuildReport {
            names: Vec::new(),
            profile: None,
            layers: Vec::new(),
            outputs: vec![output(OutputKind::DockerArchive, "it's.tar", None)],
            ..report()
        };
        insta::assert_snapshot!(plain(&render(&report, Duration::ZERO, 80)));
    }
}
