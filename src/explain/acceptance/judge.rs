//! Figures and a budget become judgements. Pure: the same figures are always judged alike.

use std::time::Duration;

use crate::explain::acceptance::{
    Acceptance, BuildFigures, Demands, Figures, Health, Judgement, ReadOnly, RunFigures, Start,
    Stop, Subject, UserFigures, Verdict,
};
use crate::explain::size::{Count, Size};
use crate::spec::Budget;

/// Before the number of a budget.
pub(crate) const AT_MOST: &str = "≤ ";
/// So many differing paths are named one by one.
const MOST_DIFFERENCES: usize = 5;

/// Judges everything that was measured.
pub fn judge(figures: Figures, budget: &Budget, demands: Demands) -> Acceptance {
    let mut judgements = match &figures.build {
        Ok(build) => of_build(build, budget),
        Err(why) => without_image(why),
    };
    judgements.extend(match (&figures.build, &figures.run) {
        (Ok(_), Ok(run)) => of_run(run, budget),
        (Ok(_), Err(why)) => without_start(why, demands),
        (Err(_), _) => without_start("there is no image", Demands::default()),
    });
    Acceptance {
        passed: judgements
            .iter()
            .all(|judgement| judgement.verdict != Verdict::Failed),
        judgements,
        figures,
    }
}

/// A span of time with three digits that matter.
pub(crate) fn seconds(span: Duration) -> String {
    match span.as_millis() {
        0..1000 => format!("{} ms", span.as_millis()),
        1000..100_000 => format!("{:.1} s", span.as_secs_f64()),
        _ => format!("{:.0} s", span.as_secs_f64()),
    }
}

fn of_build(build: &BuildFigures, budget: &Budget) -> Vec<Judgement> {
    let size = budget.size.as_ref().map(|most| most.value.0);
    let unpacked = budget.unpacked.as_ref().map(|most| most.value.0);
    let context = budget.context.as_ref().map(|most| most.value.0);
    let layers = budget.layers.as_ref().map(|most| most.value.get().into());
    let cold = budget.cold_build.as_ref().map(|most| most.value);
    let warm = budget.warm_build.as_ref().map(|most| most.value);
    let (read, all) = (&build.context, build.context.all_bytes);
    vec![
        time(Subject::ColdBuild, build.cold, cold),
        time(Subject::WarmBuild, build.warm, warm),
        digest(build),
        amount(Subject::Size, build.size, size, bytes),
        amount(Subject::Unpacked, build.unpacked, unpacked, bytes),
        amount(Subject::Layers, build.layers.len() as u64, layers, count),
        amount(Subject::Context, read.bytes, context, bytes).note(format!(
            "{} files; before ignoring {} files, {}",
            Count(read.files),
            Count(read.all_files),
            Size(all),
        )),
        check(build),
    ]
}

fn digest(build: &BuildFigures) -> Judgement {
    let judgement = Judgement::new(Subject::Digest, build.manifest.short());
    let demanded = "the same from every build";
    if build.warm_manifest != build.manifest {
        let note = format!("the warm build gave {}", build.warm_manifest.short());
        return judgement.demand(demanded, Verdict::Failed).note(note);
    }
    let Some(other) = build
        .other_manifest
        .filter(|other| *other != build.manifest)
    else {
        return judgement.demand(demanded, Verdict::Passed);
    };
    let mut judgement = judgement
        .demand(demanded, Verdict::Failed)
        .note(format!("another build from nothing gave {}", other.short()));
    let shown = build.differences.iter().take(MOST_DIFFERENCES).cloned();
    judgement.notes.extend(shown);
    if let Some(more @ 1..) = build.differences.len().checked_sub(MOST_DIFFERENCES) {
        judgement
            .notes
            .push(format!("… and {} more", Count(more as u64)));
    }
    judgement
}

fn check(build: &BuildFigures) -> Judgement {
    let (errors, warnings) = (build.check.errors.len(), build.check.warnings);
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let measured = format!(
        "{errors} error{}, {warnings} warning{}",
        plural(errors),
        plural(warnings)
    );
    let verdict = match errors {
        0 => Verdict::Passed,
        _ => Verdict::Failed,
    };
    let mut judgement = Judgement::new(Subject::Check, measured).demand("no error", verdict);
    judgement.notes.extend(build.check.errors.iter().cloned());
    judgement
}

fn of_run(run: &RunFigures, budget: &Budget) -> Vec<Judgement> {
    let start = budget.start.as_ref().map(|most| most.value);
    let started = match &run.start {
        Start::Up { after } => {
            let judgement = time(Subject::Start, *after, start);
            // That it starts at all is demanded of every image.
            match judgement.verdict {
                Verdict::Told => judgement.demand("it starts", Verdict::Passed),
                _ => judgement,
            }
        }
        Start::Down { why } => Judgement::new(Subject::Start, "it does not start")
            .demand("it starts", Verdict::Failed)
            .note(why.clone()),
    };
    vec![
        started,
        health(run, budget.health.as_ref().map(|most| most.value)),
        user(run),
        stop(&run.stop),
        read_only(&run.read_only, budget.read_only),
    ]
}

fn health(run: &RunFigures, most: Option<Duration>) -> Judgement {
    let subject = Subject::Health;
    let failed = |measured: String, demanded: &str, why: &str| {
        let judgement = Judgement::new(subject, measured).demand(demanded, Verdict::Failed);
        match why {
            "" => judgement,
            why => judgement.note(why.to_owned()),
        }
    };
    match &run.health {
        _ if matches!(run.start, Start::Down { .. }) => skipped(subject, "it does not start"),
        Health::Answered { after } => {
            let judgement = time(subject, *after, most);
            match judgement.verdict {
                Verdict::Told => judgement.demand("it answers", Verdict::Passed),
                _ => judgement,
            }
        }
        Health::Silent { waited, why } => {
            let measured = format!("no answer in {}", seconds(*waited));
            failed(measured, "it answers", why)
        }
        Health::Unasked { watched } => {
            let judgement = Judgement::new(subject, format!("up for {}", seconds(*watched)));
            let note = "the image has no health check, so only its process was watched";
            match most {
                None => judgement.demand("it stays up", Verdict::Passed).note(note),
                Some(most) => judgement
                    .demand(&format!("{AT_MOST}{}", seconds(most)), Verdict::Failed)
                    .note("the budget has `health`, but the image has no health check"),
            }
        }
        Health::Ended { why } => failed("it ended by itself".to_owned(), "it stays up", why),
    }
}

fn user(run: &RunFigures) -> Judgement {
    let (configured, inside) = match &run.user {
        _ if matches!(run.start, Start::Down { .. }) => {
            return skipped(Subject::User, "it does not start");
        }
        Err(why) => return skipped(Subject::User, why),
        Ok(UserFigures { configured, inside }) => (configured, *inside),
    };
    let judgement = Judgement::new(Subject::User, format!("user {inside}"));
    let name = configured.split(':').next().unwrap_or_default();
    // A name says a number only inside the image; what matters of it is that it is not root's.
    let wanted: Option<u32> = name.parse().ok();
    let demanded = match (wanted, name) {
        (Some(0), _) | (None, "" | "root") => "not root".to_owned(),
        (Some(wanted), _) => format!("user {wanted}"),
        (None, name) => format!("{name}, not root"),
    };
    match inside {
        0 if run.root_is_allowed => judgement
            .demand(&demanded, Verdict::Told)
            .note("root, which --allow BW001 accepts"),
        0 => judgement.demand(&demanded, Verdict::Failed).note(
            "name another user in `config`; a spec that allows root is built, and accepted with \
             --allow BW001",
        ),
        inside if wanted.is_some_and(|wanted| wanted != inside) => {
            judgement.demand(&demanded, Verdict::Failed)
        }
        _ => judgement.demand(&demanded, Verdict::Passed),
    }
}

fn stop(stop: &Stop) -> Judgement {
    let subject = Subject::Stop;
    match stop {
        Stop::Unasked => skipped(subject, "it was not running any more"),
        Stop::Ended {
            signal,
            after,
            code,
            is_clean,
        } => {
            let measured = format!("code {code} after {}", seconds(*after));
            let verdict = match is_clean {
                true => Verdict::Passed,
                false => Verdict::Failed,
            };
            Judgement::new(subject, measured).demand(&format!("{signal} ends it cleanly"), verdict)
        }
        Stop::Ignored { signal, waited } => {
            let measured = format!("still up after {}", seconds(*waited));
            Judgement::new(subject, measured)
                .demand(&format!("{signal} ends it cleanly"), Verdict::Failed)
                .note(
                    "the first process of a container ignores what it has no handler for: handle \
                     the signal, start it by an init such as tini, or set `stop_signal`",
                )
        }
    }
}

fn read_only(found: &ReadOnly, is_demanded: bool) -> Judgement {
    let subject = Subject::ReadOnly;
    let judgement = match found {
        ReadOnly::Untried => return skipped(subject, "it does not work on a writable one either"),
        ReadOnly::Works => Judgement::new(subject, "works"),
        ReadOnly::Fails { why } => Judgement::new(subject, "does not work").note(why.clone()),
    };
    let demanded = "no writable root";
    match (is_demanded, found) {
        (false, _) => judgement,
        (true, ReadOnly::Works) => judgement.demand(demanded, Verdict::Passed),
        (true, _) => judgement.demand(demanded, Verdict::Failed),
    }
}

fn without_image(why: &str) -> Vec<Judgement> {
    let failed = Judgement::new(Subject::ColdBuild, "no image")
        .demand("it is built", Verdict::Failed)
        .note(why.to_owned());
    let others = Subject::ALL.into_iter().skip(1);
    let others = others.filter(|subject| !subject.needs_a_start());
    std::iter::once(failed)
        .chain(others.map(|subject| skipped(subject, "there is no image")))
        .collect()
}

fn without_start(why: &str, demands: Demands) -> Vec<Judgement> {
    let subjects = Subject::ALL.into_iter();
    let subjects = subjects.filter(|subject| subject.needs_a_start());
    subjects
        .map(|subject| match demands.start && subject == Subject::Start {
            true => Judgement::new(subject, "nothing was started")
                .demand("it starts", Verdict::Failed)
                .note(why.to_owned()),
            false => skipped(subject, why),
        })
        .collect()
}

fn skipped(subject: Subject, why: &str) -> Judgement {
    Judgement {
        verdict: Verdict::Skipped,
        ..Judgement::new(subject, "").note(why.to_owned())
    }
}

fn bytes(number: u64) -> String {
    Size(number).to_string()
}

fn count(number: u64) -> String {
    Count(number).to_string()
}

fn time(subject: Subject, measured: Duration, most: Option<Duration>) -> Judgement {
    let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let shown = |nanos| seconds(Duration::from_nanos(nanos));
    amount(subject, nanos(measured), most.map(nanos), shown)
}

/// A number that may be as large as its budget and no larger.
fn amount(
    subject: Subject,
    measured: u64,
    most: Option<u64>,
    shown: impl Fn(u64) -> String,
) -> Judgement {
    let judgement = Judgement::new(subject, shown(measured));
    let Some(most) = most else {
        return judgement;
    };
    let verdict = match measured <= most {
        true => Verdict::Passed,
        false => Verdict::Failed,
    };
    let mut judgement = judgement.demand(&format!("{AT_MOST}{}", shown(most)), verdict);
    let percent = u128::from(measured) * 100 / u128::from(most.max(1));
    judgement.percent = Some(u64::try_from(percent).unwrap_or(u64::MAX));
    judgement
}

impl Judgement {
    /// What was measured, and judged by nobody yet.
    fn new(subject: Subject, measured: impl Into<String>) -> Judgement {
        Judgement {
            subject,
            verdict: Verdict::Told,
            measured: measured.into(),
            demanded: String::new(),
            notes: Vec::new(),
            percent: None,
        }
    }

    fn demand(mut self, demanded: &str, verdict: Verdict) -> Judgement {
        demanded.clone_into(&mut self.demanded);
        self.verdict = verdict;
        self
    }

    fn note(mut self, note: impl Into<String>) -> Judgement {
        self.notes.push(note.into());
        self
    }
}
