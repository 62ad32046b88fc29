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

use crate::cli::progress::line::Line;
use crate::cli::progress::live::Live;
use crate::cli::settings::ProgressStyle;
use crate::cli::terminal::Terminal;

/// Shows the events of one build.
pub(crate) struct Progress {
    style: ProgressStyle,
    terminal: Terminal,
    started: Instant,
    state: Mutex<State>,
}

/// What must be remembered between events.
struct State {
    /// When work began that is not finished.
    running: HashMap<Work, Instant>,
    /// Numbers of steps of stages.
    steps: HashMap<String, usize>,
    live: Option<Live>,
}

/// Work that has a beginning and an end.
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
            terminal: *terminal,
            started: Instant::now(),
            state: Mutex::new(state),
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
        let now = Instant::now();
        // A panic in another thread must not silence the rest.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let took = state.note(&event, now);
        match self.style {
            ProgressStyle::Json => print_json(&event, now - self.started),
            ProgressStyle::Quiet if !matches!(event, Event::Warning { .. }) => {}
            ProgressStyle::Live | ProgressStyle::Plain | ProgressStyle::Quiet => {
                let steps = state.steps_of(&event);
                let line = Line::of(&event, steps, took);
                match (&mut state.live, line) {
                    (Some(live), line) => live.update(&event, line),
                    (None, Some(line)) => self.terminal.say(&format!("{line}\n")),
                    (None, None) => {}
                }
            }
        }
    }
}

impl State {
    /// Remembers beginnings; at an end tells how long it took.
    fn note(&mut self, event: &Event<'_>, now: Instant) -> Option<Duration> {
        match *event {
            Event::StageStarted { stage, steps } => {
                self.steps.insert(stage.to_owned(), steps);
                None
            }
            Event::StepStarted { stage, step, .. } => {
                self.running.insert(Work::Step(stage.to_owned(), step), now);
                None
            }
            Event::LayerStarted { layer, .. } => {
                self.running.insert(Work::Layer(layer), now);
                None
            }
            Event::BaseFetched { reference, .. } => {
                let work = Work::Base(reference.to_owned());
                self.running.entry(work).or_insert(now);
                None
            }
            Event::BaseImported { reference, .. } => {
                let began = self.running.remove(&Work::Base(reference.to_owned()));
                began.map(|began| now - began)
            }
            Event::StepFinished { stage, step, .. } => {
                let began = self.running.remove(&Work::Step(stage.to_owned(), step));
                began.map(|began| now - began)
            }
            Event::LayerFinished { layer, .. } => {
                let began = self.running.remove(&Work::Layer(layer));
                began.map(|began| now - began)
            }
            _ => None,
        }
    }

    /// How many steps the event's stage has.
    fn steps_of(&self, event: &Event<'_>) -> Option<usize> {
        match event {
            Event::StepStarted { stage, .. } | Event::StepFinished { stage, .. } => {
                self.steps.get(*stage).copied()
            }
            _ => None,
        }
    }
}

fn print_json(event: &Event<'_>, since: Duration) {
    let stamped = Stamped {
        ms: since.as_millis(),
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
            &Event::StageStarted {
                stage: "a",
                steps: 4,
            },
            begin,
        );
        assert_eq!(state.note(&started("a"), after(0)), None);
        assert_eq!(state.note(&started("b"), after(100)), None);
        assert_eq!(
            state.note(&finished("a"), after(300)),
            Some(Duration::from_millis(300))
        );
        assert_eq!(
            state.note(&finished("b"), after(300)),
            Some(Duration::from_millis(200))
        );
        assert_eq!(state.note(&finished("b"), after(400)), None);
        assert_eq!(state.steps_of(&finished("a")), Some(4));
        assert_eq!(state.steps_of(&finished("b")), None);
    }

    #[test]
    fn json_events_carry_their_time() {
        let stamped = Stamped {
            ms: 12,
            event: Event::Note { text: "n" },
        };
        let json = serde_json::to_string(&stamped).unwrap();
        assert_eq!(json, r#"{"ms":12,"event":"note","text":"n"}"#);
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
