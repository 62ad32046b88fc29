//! JUnit's XML, which every CI shows: a suite for each spec, a case for each judgement.

use std::fmt::Write as _;

use crate::explain::acceptance::{Acceptance, Figures, Judgement, Start, Subject, Verdict};
use crate::explain::bench::escaped;

/// All specs as one document.
pub fn junit(all: &[Acceptance]) -> String {
    let count = |verdict| -> usize { all.iter().map(|one| one.count(verdict)).sum() };
    let tests: usize = all.iter().map(|one| one.judgements.len()).sum();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"boxwright verify\" \
         tests=\"{tests}\" failures=\"{}\" skipped=\"{}\">\n",
        count(Verdict::Failed),
        count(Verdict::Skipped),
    );
    for one in all {
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">",
            escaped(&one.figures.spec),
            one.judgements.len(),
            one.count(Verdict::Failed),
            one.count(Verdict::Skipped),
        );
        for judgement in &one.judgements {
            case(&mut text, &one.figures, judgement);
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn case(text: &mut String, figures: &Figures, judgement: &Judgement) {
    let time = seconds(figures, judgement.subject)
        .map_or_else(String::new, |time| format!(" time=\"{time:.3}\""));
    let _ = write!(
        text,
        "    <testcase classname=\"{}\" name=\"{}\"{time}",
        escaped(&figures.spec),
        judgement.subject,
    );
    let notes: Vec<String> = judgement.notes.iter().map(|note| escaped(note)).collect();
    let (measured, notes) = (escaped(&judgement.measured), notes.join("\n"));
    let _ = match judgement.verdict {
        Verdict::Failed => writeln!(
            text,
            ">\n      <failure message=\"{measured}, wanted: {}\">{notes}</failure>\n    </testcase>",
            escaped(&judgement.demanded),
        ),
        Verdict::Skipped => {
            writeln!(
                text,
                ">\n      <skipped message=\"{notes}\"/>\n    </testcase>"
            )
        }
        Verdict::Passed | Verdict::Told => writeln!(
            text,
            ">\n      <system-out>{measured}</system-out>\n    </testcase>"
        ),
    };
}

/// How long the thing itself took, where that is what it is about.
fn seconds(figures: &Figures, subject: Subject) -> Option<f64> {
    let (build, run) = (figures.build.as_ref().ok(), figures.run.as_ref().ok());
    let span = match subject {
        Subject::ColdBuild => build?.cold,
        Subject::WarmBuild => build?.warm,
        Subject::Start => match run?.start {
            Start::Up { after } => after,
            Start::Down { .. } => return None,
        },
        _ => return None,
    };
    Some(span.as_secs_f64())
}
