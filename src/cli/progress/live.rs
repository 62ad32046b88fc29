//! Live progress: what is being done now, drawn again and again below what is done.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use boxwright::build::Event;
use boxwright::explain::Size;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::cli::progress::line::{Line, printable};
use crate::cli::progress::{Doing, Work};
use crate::cli::terminal::Terminal;

/// The lines at the bottom of the terminal.
pub(crate) struct Live {
    terminal: Terminal,
    lines: MultiProgress,
    total: ProgressBar,
    running: HashMap<Doing, ProgressBar>,
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
    pub(crate) fn update(&mut self, member: &str, event: &Event<'_>, line: Option<Line>) {
        let doing = |work| Doing {
            member: member.to_owned(),
            work,
        };
        match *event {
            Event::Planned { steps, .. } => {
                self.total.inc_length(steps as u64);
                self.total.enable_steady_tick(TICK);
            }
            Event::StepStarted { stage, step, title } => {
                let work = doing(Work::Step(stage.to_owned(), step));
                self.begin(
                    work,
                    ProgressBar::new_spinner(),
                    SPINNER,
                    &format!("[{stage} {step}] {title}"),
                );
            }
            Event::StepFinished { stage, step, .. } => {
                self.end(&doing(Work::Step(stage.to_owned(), step)));
                self.total.inc(1);
            }
            Event::LayerStarted {
                layer,
                title,
                bytes,
                ..
            } => {
                let bar = ProgressBar::new(bytes);
                let work = doing(Work::Layer(layer));
                self.begin(work, bar, BYTES, &format!("layer {title}"));
            }
            Event::LayerProgress { layer, done } => {
                if let Some(bar) = self.running.get(&doing(Work::Layer(layer))) {
                    bar.set_position(done);
                }
            }
            Event::LayerFinished { layer, .. } => self.end(&doing(Work::Layer(layer))),
            Event::BaseFetched {
                reference,
                done,
                total,
            } => {
                let work = doing(Work::Base(reference.to_owned()));
                match self.running.get(&work) {
                    Some(bar) => bar.set_position(done),
                    None => {
                        let bar = ProgressBar::new(total);
                        self.begin(work, bar, BYTES, &format!("pull {reference}"));
                    }
                }
            }
            Event::BaseImported { reference, .. } => {
                self.end(&doing(Work::Base(reference.to_owned())));
            }
            Event::PushProgress { name, done, total } => {
                self.push(doing(Work::Push(name.to_owned())), name, done, total);
            }
            Event::ImagePushed { name, .. } => self.pushed(member, name),
            _ => {}
        }
        if let Some(line) = line {
            let _ = self.lines.println(self.terminal.styled(&line.to_string()));
        }
    }

    /// Draws nothing any more of a member that is done, and leaves `line` in the terminal.
    pub(crate) fn member_is_done(&mut self, member: &str, line: &Line) {
        let of_member = self.running.keys().filter(|doing| doing.member == member);
        let left: Vec<Doing> = of_member.cloned().collect();
        left.iter().for_each(|doing| self.end(doing));
        let _ = self.lines.println(self.terminal.styled(&line.to_string()));
    }

    fn push(&mut self, work: Doing, repository: &str, done: u64, total: u64) {
        match self.running.get(&work) {
            Some(bar) => bar.set_position(done),
            None => {
                let bar = ProgressBar::new(total);
                self.begin(work, bar, BYTES, &format!("push {repository}"));
            }
        }
    }

    /// The name is that of a repository with a tag or a digest.
    fn pushed(&mut self, member: &str, name: &str) {
        let is_done = |doing: &&Doing| match &doing.work {
            Work::Push(repository) => {
                doing.member == member && name.starts_with(repository.as_str())
            }
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

    fn begin(&mut self, work: Doing, bar: ProgressBar, style: &'static str, message: &str) {
        let message = match work.member.as_str() {
            "" => printable(message),
            member => printable(&format!("{member} {message}")),
        };
        let bar = bar.with_style(template(style)).with_message(message);
        let bar = self.lines.insert_before(&self.total, bar);
        bar.enable_steady_tick(TICK);
        self.running.insert(work, bar);
    }

    fn end(&mut self, work: &Doing) {
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
            live.update("", &event, None);
        }
        assert_eq!(live.running.len(), 2);
        let started = Event::StepStarted {
            stage: "a",
            step: 1,
            title: "t",
        };
        live.update("one", &started, None);
        live.update("two", &started, None);
        assert_eq!(live.running.len(), 4);
        let line = Line::of_member_done(Err(()), Duration::ZERO);
        live.member_is_done("one", &line);
        assert_eq!(live.running.len(), 3);
        live.clear();
    }
}
