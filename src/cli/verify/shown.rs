//! Judgements for people: a table, with the reasons below what failed.

use std::fmt::Write as _;

use boxwright::explain::{Acceptance, Judged, Judgement, Overview, Verdict};
use clap::builder::styling::Style;

use crate::cli::progress::line::{counted, printable};
use crate::cli::table::{Align, Table, wrapped};
use crate::cli::terminal::{BOLD, BOLD_RED, DIM, GREEN, YELLOW};

/// One spec: head, table, and the sum.
pub(crate) fn table(found: &Acceptance, width: usize) -> String {
    let figures = &found.figures;
    let mut text = format!(
        "\n{BOLD}{}{BOLD:#}: {} for {}\n\n",
        printable(&figures.spec),
        printable(&figures.image),
        figures.platform,
    );
    let left = Align::Left;
    let mut table = Table::new(&[left, left, Align::Right, left, left]);
    table.row(["", "", "budget", "measured", "wanted"].map(str::to_owned));
    for judgement in &found.judgements {
        let percent = judgement.percent;
        table.row([
            judgement.verdict.to_string(),
            judgement.subject.to_string(),
            percent.map_or_else(String::new, |percent| format!("{percent} %")),
            printable(&judgement.measured),
            printable(&judgement.demanded),
        ]);
    }
    let lines = table.lines(width.saturating_sub(2));
    let (head, rows) = lines.split_first().expect("the head was put in");
    let _ = writeln!(text, "  {DIM}{head}{DIM:#}");
    let mut judgements = found.judgements.iter().peekable();
    for line in rows {
        let Some(judgement) = judgements.next() else {
            break;
        };
        let style = style(judgement.verdict);
        let word = judgement.verdict.to_string();
        let rest = line.strip_prefix(&*word).unwrap_or(line);
        let _ = writeln!(text, "  {style}{word}{style:#}{rest}");
        // What is the same for several in a row is said once, below the last.
        if judgements
            .peek()
            .is_none_or(|next| next.notes != judgement.notes)
        {
            push_notes(&mut text, judgement, width);
        }
    }
    let (style, verdict) = match found.passed {
        true => (GREEN, "accepted".to_owned()),
        false => {
            let failed = found.count(Verdict::Failed) as u64;
            (
                BOLD_RED,
                format!("not accepted: {} failed", counted(failed, "judgement")),
            )
        }
    };
    let skipped = match found.count(Verdict::Skipped) {
        0 => String::new(),
        skipped => format!(", {YELLOW}{skipped} skipped{YELLOW:#}"),
    };
    let _ = writeln!(text, "\n  {style}{verdict}{style:#}{skipped}");
    text
}

/// Several specs at a glance: a line each, and what they store together.
pub(crate) fn overview(overview: &Overview, width: usize) -> String {
    let right = Align::Right;
    let mut table = Table::new(&[Align::Left, right, right, right, right, right, Align::Left]);
    let heads = GLANCE.map(|subject| subject.to_string());
    let [size, unpacked, cold, warm, health] = heads;
    table.row([
        String::new(),
        size,
        unpacked,
        cold,
        warm,
        health,
        String::new(),
    ]);
    for row in &overview.rows {
        let verdict = match row.passed {
            true => Verdict::Passed,
            false => Verdict::Failed,
        };
        let cells = GLANCE.map(|subject| printable(row.measured(subject)));
        let [size, unpacked, cold, warm, health] = cells;
        let name = printable(&row.name);
        table.row([
            verdict.to_string(),
            size,
            unpacked,
            cold,
            warm,
            health,
            name,
        ]);
    }
    let lines = table.lines(width.saturating_sub(2));
    let (head, rows) = lines.split_first().expect("the head was put in");
    let mut text = format!("\n  {DIM}{head}{DIM:#}\n");
    for (line, row) in rows.iter().zip(&overview.rows) {
        let style = if row.passed { GREEN } else { BOLD_RED };
        let (verdict, rest) = line.split_at(Verdict::Passed.to_string().len());
        let _ = writeln!(text, "  {style}{verdict}{style:#}{rest}");
    }
    let _ = writeln!(text, "\n  {}", overview.sum());
    text
}

/// What is shown at a glance.
const GLANCE: [Judged; 5] = [
    Judged::Size,
    Judged::Unpacked,
    Judged::ColdBuild,
    Judged::WarmBuild,
    Judged::Health,
];

fn push_notes(text: &mut String, judgement: &Judgement, width: usize) {
    let style = match judgement.verdict {
        Verdict::Failed => Style::new(),
        _ => DIM,
    };
    let notes = judgement.notes.iter().map(|note| printable(note));
    for line in notes.flat_map(|note| wrapped(&note, width.saturating_sub(NOTES))) {
        let _ = writeln!(text, "{:NOTES$}{style}{line}{style:#}", "");
    }
}

/// Where notes begin: below the subjects.
const NOTES: usize = 11;

fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Passed => GREEN,
        Verdict::Told => DIM,
        Verdict::Skipped => YELLOW,
        Verdict::Failed => BOLD_RED,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use boxwright::explain::{
        Blob, BuildFigures, CheckFigures, ContextFigures, Demands, Figures, Health, ReadOnly,
        RunFigures, Start, Stop, UserFigures, judge,
    };
    use boxwright::oci::Digest;
    use boxwright::spec::Budget;

    use super::*;
    use crate::cli::terminal::plain;

    #[test]
    fn a_table_of_what_failed_and_what_was_skipped() {
        let figures = |run| Figures {
            spec: "app/boxwright.yaml".to_owned(),
            image: "docker.io/acme/app:1".to_owned(),
            platform: "linux/amd64".to_owned(),
            runner: None,
            build: Ok(BuildFigures {
                manifest: Digest::of(b"one"),
                warm_manifest: Digest::of(b"one"),
                other_manifest: Some(Digest::of(b"two")),
                differences: vec!["/built in run: date > /built: its content".to_owned()],
                cold: Duration::from_secs(40),
                warm: Duration::from_millis(70),
                size: 48_300_000,
                unpacked: 120_000_000,
                layers: Vec::from_iter((0..5).map(|number| Blob {
                    digest: Digest::of(&[number]),
                    size: 9_660_000,
                })),
                context: ContextFigures {
                    files: 120,
                    bytes: 2_000_000,
                    all_files: 24_000,
                    all_bytes: 310_000_000,
                },
                check: CheckFigures {
                    errors: vec!["BW003: /key: a private key".to_owned()],
                    warnings: 2,
                },
            }),
            run,
        };
        let mut found = judge(
            figures(Ok(RunFigures {
                start: Start::Up {
                    after: Duration::from_millis(300),
                },
                health: Health::Silent {
                    waited: Duration::from_secs(61),
                    why: "wget: can't connect to remote host (127.0.0.1): Connection refused, and \
                          a line that is longer than any terminal is wide"
                        .to_owned(),
                },
                user: Ok(UserFigures {
                    configured: "1001".to_owned(),
                    inside: 1001,
                }),
                root_is_allowed: false,
                stop: Stop::Unasked,
                read_only: ReadOnly::Untried,
            })),
            &Budget::default(),
            Demands::default(),
        );
        let text = plain(&table(&found, 80));
        assert!(text.lines().all(|line| line.chars().count() <= 80));
        insta::assert_snapshot!(text);
        found.passed = true;
        found.judgements.clear();
        assert!(plain(&table(&found, 80)).ends_with("\n  accepted\n"));
    }
}
