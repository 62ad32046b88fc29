//! Live progress: what is being done now, drawn again and again below what is done.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use boxwright::build::Event;
use boxwright::explain::Size;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::cli::progress::Work;
use crate::cli::progress::line::{Line, printable};
use crate::cli::terminal::Terminal;

/// The lines at the bottom of the terminal.
pub(crate) struct Live {
    terminal: Terminal,
    lines: MultiProgress,
    total: ProgressBar,
    running: HashMap<Work, ProgressBar>,
}

/// So often the spinners turn.
const TICK: Duration = Duration::from_millis(120);
const SPINNER: &str = "{spinner:.cyan} {wide_msg} {elapsed:>4}";
const BYTES: &str = "{spinner:.cyan} {wide_msg} {done:>8} of {all} {elapsed:>4}";
const TOTAL: &str = "  {pos} of {len} steps {elapsed:>4}";

impl Live {
    /// Draws nothing yet.
    pub(crate) fn new(terminal: &Terminal) -> Live {
        let lines = MultiProgress::new();
        let total = lines.add(ProgressBar::new(0).with_style(template(TOTAL)));
        Live {
            terminal: *terminal,
            lines,
            total,
            running: HashMap::new(),
        }
    }

    /// Draws what `event` changes; `line` is what it leaves in the terminal for good.
    pub(crate) fn update(&mut self, event: &Event<'_>, line: Option<Line>) {
        match *event {
            Event::Planned { steps, .. } => {
                self.total.set_length(steps as u64);
                self.total.enable_steady_tick(TICK);
            }
            Event::StepStarted { stage, step, title } => {
                let work = Work::Step(stage.to_owned(), step);
                self.begin(
                    work,
                    ProgressBar::new_spinner(),
                    SPINNER,
                    &format!("[{stage} {step}] {title}"),
                );
            }
            Event::StepFinished { stage, step, .. } => {
                self.end(&Work::Step(stage.to_owned(), step));
                self.total.inc(1);
            }
            Event::LayerStarted {
                layer,
                title,
                bytes,
                ..
            } => {
                let bar = ProgressBar::new(bytes);
                self.begin(Work::Layer(layer), bar, BYTES, &format!("layer {title}"));
            }
            Event::LayerProgress { layer, done } => {
                if let Some(bar) = self.running.get(&Work::Layer(layer)) {
                    bar.set_position(done);
                }
            }
            Event::LayerFinished { layer, .. } => self.end(&Work::Layer(layer)),
            Event::BaseFetched {
                reference,
                done,
                total,
            } => {
                let work = Work::Base(reference.to_owned());
                match self.running.get(&work) {
                    Some(bar) => bar.set_position(done),
                    None => {
                        let bar = ProgressBar::new(total);
                        self.begin(work, bar, BYTES, &format!("pull {reference}"));
                    }
                }
            }
            Event::BaseImported { reference, .. } => {
                self.end(&Work::Base(reference.to_owned()));
            }
            Event::PushProgress { name, done, total } => self.push(name, done, total),
            Event::ImagePushed { name, .. } => self.pushed(name),
            _ => {}
        }
        if let Some(line) = line {
            let _ = self.lines.println(self.terminal.styled(&line.to_string()));
        }
    }

    fn push(&mut self, repository: &str, done: u64, total: u64) {
        let work = Work::Push(repository.to_owned());
        match self.running.get(&work) {
            Some(bar) => bar.set_position(done),
            None => {
                let bar = ProgressBar::new(total);
                self.begin(work, bar, BYTES, &format!("push {repository}"));
            }
        }
    }

    /// The name is that of a repository with a tag or a digest.
    fn pushed(&mut self, name: &str) {
        let is_done = |work: &&Work| match work {
            Work::Push(repository) => name.starts_with(repository.as_str()),
            _ => false,
        };
        if let Some(work) = self.running.keys().find(is_done).cloned() {
            self.end(&work);
        }
    }

    /// Takes everything away.
    pub(crate) fn clear(self) {
        self.running
            .values()
            .for_each(ProgressBar::finish_and_clear);
        self.total.finish_and_clear();
        let _ = self.lines.clear();
    }

    fn begin(&mut self, work: Work, bar: ProgressBar, style: &'static str, message: &str) {
        let bar = bar
            .with_style(template(style))
            .with_message(printable(message));
        let bar = self.lines.insert_before(&self.total, bar);
        bar.enable_steady_tick(TICK);
        self.running.insert(work, bar);
    }

    fn end(&mut self, work: &Work) {
        if let Some(bar) = self.running.remove(work) {
            bar.finish_and_clear();
            self.lines.remove(&bar);
        }
    }
}

fn template(text: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(text)
        .expect("the templates of this file are well formed; a test parses them")
        .with_key("done", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{}", Size(state.pos()));
        })
        .with_key("all", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{}", Size(state.len().unwrap_or(0)));
        })
        .tick_chars("-\\|/ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_well_formed() {
        for text in [SPINNER, BYTES, TOTAL] {
            template(text);
        }
    }

    #[test]
    fn events_in_any_order_are_drawn() {
        let mut live = Live::new(&Terminal::detect(true));
        for event in [
            Event::LayerProgress { layer: 7, done: 1 },
            Event::StepStarted {
                stage: "a",
                step: 1,
                title: "t",
            },
            Event::Planned {
                stages: 1,
                steps: 1,
            },
            Event::LayerStarted {
                layer: 0,
                stage: "a",
                title: "t",
                entries: 1,
                bytes: 10,
            },
            Event::LayerProgress { layer: 0, done: 5 },
            Event::BaseFetched {
                reference: "x",
                done: 1,
                total: 2,
            },
            Event::BaseImported {
                reference: "x",
                layers: 1,
                bytes: 2,
            },
            Event::PushProgress {
                name: "r.x/a",
                done: 1,
                total: 2,
            },
            Event::ImagePushed {
                name: "r.x/a:1",
                digest: boxwright::oci::Digest::of(b""),
                sent: 1,
                received: 1,
                state: boxwright::build::OutputState::Written,
            },
        ] {
            live.update(&event, None);
        }
        assert_eq!(live.running.len(), 2);
        live.clear();
    }
}
