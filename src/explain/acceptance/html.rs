//! The judgements as one page: no script, no font, no picture from anywhere else.

use std::fmt::Write as _;

use crate::explain::acceptance::judge::seconds;
use crate::explain::acceptance::{Acceptance, Figures, Health, Judgement, Start, Verdict};
use crate::explain::bench::escaped;
use crate::explain::size::Size;

const STYLE: &str = concat!(
    include_str!("../bench/report.css"),
    include_str!("report.css")
);

/// The whole page.
pub fn html(all: &[Acceptance]) -> String {
    let failed = all.iter().filter(|one| !one.passed).count();
    let (class, verdict) = match failed {
        0 => ("passed", "accepted".to_owned()),
        _ => ("failed", format!("{failed} of {} not accepted", all.len())),
    };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Acceptance: {verdict}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>Acceptance: <span class=\"{class}\">{verdict}</span></h1>\n\
         <p class=\"facts\">Each image was built from nothing, built again, built once more \
         elsewhere, looked into and started.</p>\n"
    );
    for one in all {
        section(&mut page, one);
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn section(page: &mut String, one: &Acceptance) {
    let figures = &one.figures;
    let runner = figures.runner.as_deref();
    let runner = runner.map_or_else(|| "nothing".to_owned(), escaped);
    let _ = write!(
        page,
        "<section>\n<h2><code>{}</code></h2>\n<p class=\"facts\">{} for {}, started with {runner}</p>\n",
        escaped(&figures.spec),
        escaped(&figures.image),
        escaped(&figures.platform),
    );
    cards(page, figures);
    page.push_str(
        "<table class=\"verdicts\">\n<thead><tr><th>subject</th><th>verdict</th><th>measured</th>\
         <th>wanted</th><th>of the budget</th></tr></thead>\n<tbody>\n",
    );
    for judgement in &one.judgements {
        row(page, judgement);
    }
    page.push_str("</tbody>\n</table>\n</section>\n");
}

/// The numbers that matter, large.
fn cards(page: &mut String, figures: &Figures) {
    let mut cards = Vec::new();
    if let Ok(build) = &figures.build {
        cards.push(("cold build", seconds(build.cold)));
        cards.push(("warm build", seconds(build.warm)));
        cards.push(("size", Size(build.size).to_string()));
        cards.push(("layers", build.layers.len().to_string()));
    }
    if let Ok(run) = &figures.run {
        if let Start::Up { after } = run.start {
            cards.push(("start", seconds(after)));
        }
        if let Health::Answered { after } = run.health {
            cards.push(("first answer", seconds(after)));
        }
    }
    page.push_str("<div class=\"cards\">\n");
    for (name, value) in cards {
        let (value, unit) = value.split_once(' ').unwrap_or((&value, ""));
        let _ = writeln!(
            page,
            "<div class=\"card\"><p>{name}</p><p class=\"value\">{value}<span> {unit}</span></p></div>"
        );
    }
    page.push_str("</div>\n");
}

fn row(page: &mut String, judgement: &Judgement) {
    let class = match judgement.verdict {
        Verdict::Passed => "passed",
        Verdict::Told => "told",
        Verdict::Skipped => "skipped",
        Verdict::Failed => "failed",
    };
    let notes: String = judgement
        .notes
        .iter()
        .map(|note| format!("<small>{}</small>", escaped(note)))
        .collect();
    let bar = judgement.percent.map_or_else(String::new, |percent| {
        let width = percent.clamp(1, 100);
        format!(
            "<span class=\"bar {class}\" title=\"{percent} %\"><i style=\"width:{width}%\"></i></span>"
        )
    });
    let _ = writeln!(
        page,
        "<tr><td>{}</td><td class=\"verdict {class}\">{}</td><td>{}{notes}</td><td>{}</td><td>{bar}</td></tr>",
        judgement.subject,
        judgement.verdict,
        escaped(&judgement.measured),
        escaped(&judgement.demanded),
    );
}
