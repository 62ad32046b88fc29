//! The report as one page: no script, no font, no picture from anywhere else.

use std::fmt::Write as _;
use std::time::Duration;

use crate::explain::bench::{BenchLine, BenchReport, Scenario};
use crate::explain::size::{Count, Size};

const STYLE: &str = include_str!("report.css");

/// Width of the longest bar.
const FULL: f64 = 520.0;
/// Height of a line with its gap.
const STEP: f64 = 30.0;
/// Where bars begin.
const LEFT: f64 = 210.0;

/// The whole page.
pub fn html(report: &BenchReport) -> String {
    let mut page = String::new();
    let spec = escaped(&report.spec);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Caching of {spec}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>How well does <code>{spec}</code> cache?</h1>\n\
         <p class=\"facts\">{} files, {} in; {} of layers out. Each scenario was run {}; bars show \
         the median, whiskers the shortest and the longest run.</p>\n",
        Count(report.files),
        Size(report.bytes),
        Size(report.image_bytes),
        times(report.runs),
    );
    cards(&mut page, report);
    for scenario in Scenario::ALL {
        chart(&mut page, report, scenario);
    }
    layers(&mut page, report);
    table(&mut page, report);
    if !report.skipped.is_empty() {
        page.push_str("<h2>Left out</h2>\n<ul>\n");
        for reason in &report.skipped {
            let _ = writeln!(page, "<li>{}</li>", escaped(reason));
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn times(runs: usize) -> String {
    match runs {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        runs => format!("{runs} times"),
    }
}

/// The numbers that matter, large.
fn cards(page: &mut String, report: &BenchReport) {
    page.push_str("<div class=\"cards\">\n");
    let own = report.lines.iter().filter(|line| line.tool == OWN);
    for line in own {
        let (value, unit) = split(line.wall.median);
        let ratio = match (line.scenario, report.ratio_to_cold(line)) {
            (Scenario::Cold, _) | (_, None) => "the whole build".to_owned(),
            (_, Some(ratio)) => format!("{} of cold", percent(ratio)),
        };
        let _ = writeln!(
            page,
            "<div class=\"card\"><p>{}</p><p class=\"value\">{value}<span> {unit}</span></p>\
             <p class=\"note\">{ratio}</p></div>",
            escaped(&line.scenario.to_string()),
        );
    }
    page.push_str("</div>\n");
}

/// The tool that the page is about.
const OWN: &str = "boxwright";

/// One bar for each tool.
fn chart(page: &mut String, report: &BenchReport, scenario: Scenario) {
    let lines: Vec<&BenchLine> = report
        .tools()
        .into_iter()
        .filter_map(|tool| report.line(tool, scenario))
        .collect();
    if lines.len() < 2 {
        return;
    }
    let longest = lines.iter().map(|line| line.wall.max.as_secs_f64());
    let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
    let scale = FULL / longest;
    let own = report.line(OWN, scenario);
    let height = STEP * lines.len() as f64 + 6.0;
    let _ = write!(
        page,
        "<h2>{}</h2>\n<svg viewBox=\"0 0 900 {height}\" role=\"img\" aria-label=\"{0}\">\n",
        escaped(&scenario.to_string()),
    );
    for (place, line) in lines.iter().enumerate() {
        bar(page, line, STEP * place as f64, scale, own);
    }
    page.push_str("</svg>\n");
}

fn bar(page: &mut String, line: &BenchLine, top: f64, scale: f64, own: Option<&BenchLine>) {
    let at = |span: Duration| LEFT + span.as_secs_f64() * scale;
    let width = (at(line.wall.median) - LEFT).max(2.0);
    let class = if line.tool == OWN { "own" } else { "peer" };
    let middle = top + 10.0;
    let (value, unit) = split(line.wall.median);
    let times = own
        .filter(|own| own.tool != line.tool && own.wall.median > Duration::ZERO)
        .map(|own| line.wall.median.as_secs_f64() / own.wall.median.as_secs_f64())
        .map_or_else(String::new, |times| format!("  {times:.1}×"));
    let _ = writeln!(
        page,
        "<text x=\"{}\" y=\"{}\" class=\"name\">{}</text>\
         <rect class=\"{class}\" x=\"{LEFT}\" y=\"{top}\" width=\"{width:.1}\" height=\"20\" rx=\"3\"/>\
         <path class=\"whisker\" d=\"M{:.1} {middle}H{:.1}\"/>\
         <text x=\"{:.1}\" y=\"{}\" class=\"number\">{value} {unit}<tspan class=\"times\">{times}</tspan></text>",
        LEFT - 12.0,
        top + 15.0,
        escaped(&line.tool),
        at(line.wall.min),
        at(line.wall.max),
        at(line.wall.max).max(LEFT + width) + 10.0,
        top + 15.0,
    );
}

/// Each layer in each scenario, with the part of it that was made again.
fn layers(page: &mut String, report: &BenchReport) {
    let lines: Vec<&BenchLine> = report
        .lines
        .iter()
        .filter(|line| !line.layers.is_empty())
        .collect();
    let Some(first) = lines.first() else {
        return;
    };
    page.push_str(
        "<h2>What was made again</h2>\n<p class=\"facts\">Each row is a build, each block \
                   a layer, as wide as its bytes. Filled: compressed in this build. Empty: taken \
                   over.</p>\n",
    );
    let total: u64 = first.layers.iter().map(|layer| layer.bytes).sum();
    let height = STEP * lines.len() as f64 + 6.0;
    let _ = writeln!(
        page,
        "<svg viewBox=\"0 0 900 {height}\" role=\"img\" aria-label=\"layers\">"
    );
    for (place, line) in lines.iter().enumerate() {
        let top = STEP * place as f64;
        let _ = write!(
            page,
            "<text x=\"{}\" y=\"{}\" class=\"name\">{}</text>",
            LEFT - 12.0,
            top + 15.0,
            escaped(&line.scenario.to_string()),
        );
        let mut left = LEFT;
        for layer in &line.layers {
            let share = |bytes: u64| FULL * bytes as f64 / total.max(1) as f64;
            let (width, made) = (share(layer.bytes).max(3.0), share(layer.compressed));
            let made = if layer.compressed > 0 {
                made.max(2.0)
            } else {
                0.0
            };
            let _ = write!(
                page,
                "<g><title>{}: {} of {} compressed, {} of {} frames taken over</title>\
                 <rect class=\"kept\" x=\"{left:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"20\" rx=\"3\"/>\
                 <rect class=\"own\" x=\"{left:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"20\" rx=\"3\"/></g>",
                escaped(&layer.title),
                Size(layer.compressed),
                Size(layer.bytes),
                layer.frames_reused,
                layer.frames,
                (width - 2.0).max(1.0),
                made.min(width - 1.0).max(0.0),
            );
            left += width;
        }
        let reused = line.reused().map(percent).unwrap_or_default();
        let _ = writeln!(
            page,
            "<text x=\"{:.1}\" y=\"{}\" class=\"number\">{reused} taken over</text>",
            LEFT + FULL + 14.0,
            top + 15.0,
        );
    }
    page.push_str("</svg>\n");
}

fn table(page: &mut String, report: &BenchReport) {
    page.push_str(
        "<h2>All numbers</h2>\n<table>\n<thead><tr><th>tool</th><th>scenario</th><th>wall</th>\
         <th>min – max</th><th>cpu</th><th>of cold</th><th>memory</th><th>taken over</th></tr></thead>\n<tbody>\n",
    );
    for line in &report.lines {
        let ratio = report.ratio_to_cold(line).map(percent).unwrap_or_default();
        let memory = line.peak_memory.map(|bytes| Size(bytes).to_string());
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{} – {}</td><td>{}</td><td>{ratio}</td>\
             <td>{}</td><td>{}</td></tr>",
            escaped(&line.tool),
            escaped(&line.scenario.to_string()),
            seconds(line.wall.median),
            seconds(line.wall.min),
            seconds(line.wall.max),
            seconds(line.cpu.median),
            memory.unwrap_or_default(),
            line.reused().map(percent).unwrap_or_default(),
        );
    }
    page.push_str("</tbody>\n</table>\n");
}

fn split(span: Duration) -> (String, &'static str) {
    match span.as_millis() {
        0..1000 => (span.as_millis().to_string(), "ms"),
        _ => (format!("{:.2}", span.as_secs_f64()), "s"),
    }
}

fn seconds(span: Duration) -> String {
    let (value, unit) = split(span);
    format!("{value} {unit}")
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        share if share > 0.0 && share < 1.0 => "&lt; 1 %".to_owned(),
        share if share > 99.0 && share < 100.0 => "&gt; 99 %".to_owned(),
        share => format!("{share:.0} %"),
    }
}

/// Text that may stand between tags and in attributes.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::bench::{LayerShare, Spread};

    #[test]
    fn names_are_only_text_and_nothing_comes_from_outside() {
        let spread =
            Spread::of(vec![Duration::from_millis(120), Duration::from_millis(140)]).unwrap();
        let line = |tool: &str, scenario| BenchLine {
            tool: tool.to_owned(),
            scenario,
            changed: None,
            wall: spread,
            cpu: spread,
            peak_memory: Some(1 << 24),
            layers: vec![LayerShare {
                title: "copy <b>\"x\"</b>".to_owned(),
                bytes: 1000,
                compressed: 10,
                frames: 5,
                frames_reused: 4,
            }],
        };
        let page = html(&BenchReport {
            spec: "<script>alert(1)</script>&.yaml".to_owned(),
            files: 3,
            bytes: 1000,
            image_bytes: 500,
            runs: 3,
            lines: vec![
                line(OWN, Scenario::Cold),
                line(OWN, Scenario::Unchanged),
                line("buildah", Scenario::Cold),
            ],
            skipped: vec!["docker: it is not <installed>".to_owned()],
        });
        assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("<installed"));
        for outside in ["http:", "https:", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for tag in [
            "svg", "table", "main", "body", "html", "ul", "h1", "g", "text",
        ] {
            let (opened, closed) = (format!("<{tag}"), format!("</{tag}>"));
            let opened = page
                .match_indices(&opened)
                .filter(|(at, _)| matches!(page.as_bytes()[at + opened.len()], b' ' | b'>'));
            assert_eq!(opened.count(), page.matches(&closed).count(), "{tag}");
        }
        assert!(page.contains("120") && page.contains("130 ms"));
    }
}
