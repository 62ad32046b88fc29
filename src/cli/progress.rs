//! Progress: events become lines that are drawn again, plain lines, or JSON. All of it goes to
//! standard error; the clock is read here, because events carry no times.

pub(crate) mod line;
mod live;

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use boxwright::build::{Event, Observer};
use boxwright::oci::Digest;

use crate::cli::progress::line::Line;
use crate::cli::progress::live::Live;
use crate::cli::settings::ProgressStyle;
use crate::cli::terminal::Terminal;

/// Shows the events of one build, or of several that go on side by side.
pub(crate) struct Progress {
    style: ProgressStyle,
    /// How wide the names of members are that stand before lines; 0 where there is one build only.
    names: usize,
    terminal: Terminal,
    started: Instant,
    state: Mutex<State>,
}

/// Names of members take no more than this of a line.
const MOST_NAME: usize = 24;

/// Shows the events of one of several builds.
pub(crate) struct MemberProgress<'a> {
    progress: &'a Progress,
    member: &'a str,
}

/// What must be remembered between events.
struct State {
    /// When work began that is not finished.
    running: HashMap<Doing, Instant>,
    /// Numbers of steps of stages, by the member and the stage.
    steps: HashMap<(String, String), usize>,
    live: Option<Live>,
}

/// Work of a member that has a beginning and an end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Doing {
    /// Empty where there is one build only.
    member: String,
    work: Work,
}

/// What is worked on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Work {
    Step(String, usize),
    Layer(usize),
    Base(String),
    Push(String),
}

/// An event with the time since the build began, as `--progress json` prints it.
#[derive(Serialize)]
struct Stamped<'a> {
    ms: u128,
    #[serde(skip_serializing_if = "str::is_empty")]
    member: &'a str,
    #[serde(flatten)]
    event: Event<'a>,
}

impl Progress {
    /// Shows nothing yet.
    pub(crate) fn new(style: ProgressStyle, terminal: &Terminal) -> Progress {
        let state = State {
            running: HashMap::new(),
            steps: HashMap::new(),
            live: (style == ProgressStyle::Live).then(|| Live::new(terminal)),
        };
        Progress {
            style,
            names: 0,
            terminal: *terminal,
            started: Instant::now(),
            state: Mutex::new(state),
        }
    }

    /// The same for several builds with these names.
    pub(crate) fn of_members(
        style: ProgressStyle,
        terminal: &Terminal,
        names: &[String],
    ) -> Progress {
        let longest = names.iter().map(|name| name.chars().count()).max();
        Progress {
            names: longest.unwrap_or(0).clamp(1, MOST_NAME),
            ..Progress::new(style, terminal)
        }
    }

    /// Shows the events of one of several builds.
    pub(crate) fn of<'a>(&'a self, member: &'a str) -> MemberProgress<'a> {
        MemberProgress {
            progress: self,
            member,
        }
    }

    /// Tells that one of several builds is over, and how.
    pub(crate) fn member_is_done(&self, member: &str, result: Result<&Digest, ()>, took: Duration) {
        if !matches!(self.style, ProgressStyle::Live | ProgressStyle::Plain) {
            return;
        }
        let line = Line::of_member_done(result, took).prefixed(member, self.names);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut state.live {
            Some(live) => live.member_is_done(member, &line),
            None => self.terminal.say(&format!("{line}\n")),
        }
    }

    fn take(&self, member: &str, event: Event<'_>) {
        let now = Instant::now();
        // A panic in another thread must not silence the rest.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let took = state.note(member, &event, now);
        match self.style {
            ProgressStyle::Json => print_json(member, &event, now - self.started),
            ProgressStyle::Quiet if !matches!(event, Event::Warning { .. }) => {}
            ProgressStyle::Live | ProgressStyle::Plain | ProgressStyle::Quiet => {
                let steps = state.steps_of(member, &event);
                let line = Line::of(&event, steps, took);
                let line = line.map(|line| line.prefixed(member, self.names));
                match (&mut state.live, line) {
                    (Some(live), line) => live.update(member, &event, line),
                    (None, Some(line)) => self.terminal.say(&format!("{line}\n")),
                    (None, None) => {}
                }
            }
        }
    }

    /// Takes away the lines that were drawn again, and tells how long it all took.
    pub(crate) fn finish(self) -> Duration {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = state.live {
            live.clear();
        }
        self.started.elapsed()
    }
}

impl Observer for Progress {
    fn event(&self, event: Event<'_>) {
        self.take("", event);
    }
}

impl Observer for MemberProgress<'_> {
    fn event(&self, event: Event<'_>) {
        self.progress.take(self.member, event);
    }
}

impl State {
    /// Remembers beginnings; at an end tells how long it took.
    fn note(&mut self, member: &str, event: &Event<'_>, now: Instant) -> Option<Duration> {
        let doing = |work| Doing {
            member: member.to_owned(),
            work,
        };
        match *event {
            Event::StageStarted { stage, steps } => {
                let of = (member.to_owned(), stage.to_owned());
                self.steps.insert(of, steps);
                None
            }
            Event::StepStarted { stage, step, .. } => {
                let work = doing(Work::Step(stage.to_owned(), step));
                self.running.insert(work, now);
                None
            }
            Event::LayerStarted { layer, .. } => {
                self.running.insert(doing(Work::Layer(layer)), now);
                None
            }
            Event::BaseFetched { reference, .. } => {
                let work = doing(Work::Base(reference.to_owned()));
                self.running.entry(work).or_insert(now);
                None
            }
            Event::BaseImported { reference, .. } => {
                let began = self
                    .running
                    .remove(&doing(Work::Base(reference.to_owned())));
                began.map(|began| now - began)
            }
            Event::StepFinished { stage, step, .. } => {
                let began = self
                    .running
                    .remove(&doing(Work::Step(stage.to_owned(), step)));
                began.map(|began| now - began)
            }
            Event::LayerFinished { layer, .. } => {
                let began = self.running.remove(&doing(Work::Layer(layer)));
                began.map(|began| now - began)
            }
            _ => None,
        }
    }

    /// How many steps the event's stage has.
    fn steps_of(&self, member: &str, event: &Event<'_>) -> Option<usize> {
        match event {
            Event::StepStarted { stage, .. } | Event::StepFinished { stage, .. } => {
                let of = (member.to_owned(), (*stage).to_owned());
                self.steps.get(&of).copied()
            }
            _ => None,
        }
    }
}

fn print_json(member: &str, event: &Event<'_>, since: Duration) {
    let stamped = Stamped {
        ms: since.as_millis(),
        member,
        event: *event,
    };
    if let Ok(mut line) = serde_json::to_vec(&stamped) {
        line.push(b'\n');
        let _ = std::io::stderr().lock().write_all(&line);
    }
}

/// A time span as people say it: `0.3s`, `12.3s`, `2m05s`.
pub(crate) fn shown(span: Duration) -> String {
    // Whole tenths first, so that 59.96 seconds are a minute and not `60.0s`.
    let tenths = (span.as_millis() + 50) / 100;
    let seconds = tenths / 10;
    match seconds {
        0..60 => format!("{seconds}.{}s", tenths % 10),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use boxwright::build::Origin;

    #[test]
    fn durations_are_found_from_pairs_of_events() {
        let mut state = State {
            running: HashMap::new(),
            steps: HashMap::new(),
            live: None,
        };
        let begin = Instant::now();
        let after = |millis| begin + Duration::from_millis(millis);
        let started = |stage| Event::StepStarted {
            stage,
            step: 1,
            title: "t",
        };
        let finished = |stage| Event::StepFinished {
            stage,
            step: 1,
            title: "t",
            origin: Origin::Built,
            entries: 0,
            bytes: 0,
        };
        state.note(
            "",
            &Event::StageStarted {
                stage: "a",
                steps: 4,
            },
            begin,
        );
        assert_eq!(state.note("", &started("a"), after(0)), None);
        assert_eq!(state.note("", &started("b"), after(100)), None);
        assert_eq!(
            state.note("", &finished("a"), after(300)),
            Some(Duration::from_millis(300))
        );
        assert_eq!(
            state.note("", &finished("b"), after(300)),
            Some(Duration::from_millis(200))
        );
        assert_eq!(state.note("", &finished("b"), after(400)), None);
        assert_eq!(state.steps_of("", &finished("a")), Some(4));
        assert_eq!(state.steps_of("", &finished("b")), None);
    }

    #[test]
    fn json_events_carry_their_time_and_their_member() {
        let stamped = Stamped {
            ms: 12,
            member: "",
            event: Event::Note { text: "n" },
        };
        let json = serde_json::to_string(&stamped).unwrap();
        assert_eq!(json, r#"{"ms":12,"event":"note","text":"n"}"#);
        let of_one = Stamped {
            member: "auth",
            ..stamped
        };
        let json = serde_json::to_string(&of_one).unwrap();
        assert_eq!(
            json,
            r#"{"ms":12,"member":"auth","event":"note","text":"n"}"#
        );
    }

    #[test]
    fn spans() {
        for (millis, text) in [
            (0, "0.0s"),
            (349, "0.3s"),
            (59_949, "59.9s"),
            (59_950, "1m00s"),
            (125_000, "2m05s"),
            (3_725_000, "1h02m"),
        ] {
            assert_eq!(shown(Duration::from_millis(millis)), text);
        }
    }
}
