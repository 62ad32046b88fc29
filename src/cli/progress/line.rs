//! Lines: what one finished thing says, in a log and above the lines of a terminal.

use std::fmt;
use std::time::Duration;

use boxwright::build::{Event, Origin, OutputState};
use boxwright::explain::{Count, Size};
use boxwright::oci::Digest;
use boxwright::transport::registry::Delivery;
use clap::builder::styling::Style;

use crate::cli::progress::shown;
use crate::cli::terminal::{BOLD, BOLD_RED, CYAN, DIM, GREEN, YELLOW};

/// A word for what happened and what it happened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    verb: &'static str,
    style: Style,
    text: String,
    /// The name of the build that it belongs to, as wide as all such names; empty for one build.
    prefix: String,
}

/// Nobody waits for anything shorter.
const WORTH_TELLING: Duration = Duration::from_millis(100);

impl Line {
    fn new(verb: &'static str, style: Style, text: String) -> Line {
        Line {
            verb,
            style,
            text,
            prefix: String::new(),
        }
    }

    /// The line of one of several builds that is over.
    pub(crate) fn of_member_done(result: Result<&Digest, ()>, took: Duration) -> Line {
        let took = shown(took);
        match result {
            Ok(digest) => Line::new("Finished", GREEN, format!("{}, in {took}", digest.short())),
            Err(()) => Line::new("Failed", BOLD_RED, format!("after {took}")),
        }
    }

    /// The same line behind the name of its build, of which so many characters are shown: the end,
    /// by which paths differ.
    #[must_use]
    pub(crate) fn prefixed(mut self, member: &str, width: usize) -> Line {
        if !member.is_empty() {
            let length = member.chars().count();
            let name: String = match length.checked_sub(width) {
                None | Some(0) => format!("{member:<width$}"),
                Some(more) => "…".chars().chain(member.chars().skip(more + 1)).collect(),
            };
            self.prefix = printable(&name);
        }
        self
    }

    /// The line of an event, if it finishes something.
    pub(crate) fn of(
        event: &Event<'_>,
        steps: Option<usize>,
        took: Option<Duration>,
    ) -> Option<Line> {
        let time = took
            .filter(|took| *took >= WORTH_TELLING)
            .map(|took| format!(", {}", shown(took)))
            .unwrap_or_default();
        let line = |verb, style, text| Some(Line::new(verb, style, text));
        match *event {
            Event::BuiltOnceMore => {
                let text = "from nothing and elsewhere; the image must be the same to the byte";
                line("Once more", CYAN, text.to_owned())
            }
            Event::ContextWalked { .. } => line("Walked", GREEN, context(event)),
            Event::BaseImported {
                reference,
                layers,
                bytes,
            } => {
                let layers = counted(layers as u64, "layer");
                let text = format!("{reference} ({layers}, {}{time})", Size(bytes));
                line("Imported", GREEN, text)
            }
            Event::StepFinished { origin, .. } => {
                line(verb(origin), style(origin), step(event, steps, &time))
            }
            Event::LayerFinished { origin, .. } => {
                line("Layer", style(origin), layer(event, &time))
            }
            Event::OutputWritten {
                name, bytes, state, ..
            } => {
                let verb = match state {
                    OutputState::Written => "Wrote",
                    OutputState::Unchanged => "Unchanged",
                };
                line(verb, GREEN, format!("{name} ({})", Size(bytes)))
            }
            Event::BlobPushed { .. } | Event::ImagePushed { .. } => pushed(event),
            Event::CacheShared {
                name,
                records,
                sent,
            } => {
                let text = format!("{name} ({records} results, {} sent)", Size(sent));
                line("Cached", GREEN, text)
            }
            Event::StepWaits { stage, step } => {
                let text = format!("[{stage} {step}] for another build that runs the same command");
                line("Waiting", CYAN, text)
            }
            Event::Sandbox { tier } => {
                line("Sandbox", BOLD, format!("commands run in tier {tier}"))
            }
            Event::StepOutput {
                stage, step, text, ..
            } => line("│", DIM, format!("[{stage} {step}] {}", text.trim_end())),
            Event::Note { text } => line("Note", BOLD, text.to_owned()),
            Event::Warning { text } => line("Warning", YELLOW, text.to_owned()),
            _ => None,
        }
    }
}

/// The line of something that is in a registry now.
fn pushed(event: &Event<'_>) -> Option<Line> {
    let (verb, style, text) = match *event {
        Event::BlobPushed {
            name,
            digest,
            size,
            delivery,
            sent,
        } => {
            let (verb, style) = arrival(delivery);
            let rest = repeated(delivery, size, sent);
            let text = format!("{} in {name} ({}{rest})", digest.short(), Size(size));
            (verb, style, text)
        }
        Event::ImagePushed {
            name, sent, state, ..
        } => {
            let verb = match state {
                OutputState::Written => "Pushed",
                OutputState::Unchanged => "Unchanged",
            };
            (verb, GREEN, format!("{name} ({} sent)", Size(sent)))
        }
        _ => return None,
    };
    Some(Line::new(verb, style, text))
}

/// How a blob came there; what was sent is green, what was saved is cyan.
fn arrival(delivery: Delivery) -> (&'static str, Style) {
    match delivery {
        Delivery::Sent => ("Sent", GREEN),
        Delivery::Mounted => ("Mounted", CYAN),
        Delivery::Present => ("There", CYAN),
    }
}

/// What is worth telling of a blob that was not sent just once.
fn repeated(delivery: Delivery, size: u64, sent: u64) -> String {
    match delivery {
        Delivery::Sent if sent < size => format!(", {} of it now", Size(sent)),
        Delivery::Sent if sent > size => format!(", {} with repeats", Size(sent)),
        _ => String::new(),
    }
}

fn context(event: &Event<'_>) -> String {
    let Event::ContextWalked {
        name,
        files,
        bytes,
        excluded,
        ..
    } = *event
    else {
        return String::new();
    };
    let files = counted(files, "file");
    let excluded = match excluded {
        0 => String::new(),
        some => format!(", {} excluded", Count(some)),
    };
    format!("{name} ({files}, {}{excluded})", Size(bytes))
}

fn step(event: &Event<'_>, steps: Option<usize>, time: &str) -> String {
    let Event::StepFinished {
        stage,
        step,
        title,
        entries,
        bytes,
        ..
    } = *event
    else {
        return String::new();
    };
    let of = steps.map(|steps| format!("/{steps}")).unwrap_or_default();
    let (changes, size) = (counted(entries, "change"), Size(bytes));
    format!("[{stage} {step}{of}] {title} ({changes}, {size}{time})")
}

fn layer(event: &Event<'_>, time: &str) -> String {
    let Event::LayerFinished {
        title,
        digest,
        size,
        uncompressed,
        origin,
        ..
    } = *event
    else {
        return String::new();
    };
    let from = match origin {
        Origin::Base => ", from the base",
        Origin::Cached => ", cached",
        Origin::Reused => ", as another layer",
        Origin::Built => "",
    };
    let (digest, size, unpacked) = (digest.short(), Size(size), Size(uncompressed));
    format!("{digest} {title} ({size}, {unpacked} unpacked{from}{time})")
}

fn verb(origin: Origin) -> &'static str {
    match origin {
        Origin::Base => "Base",
        Origin::Cached => "Cached",
        Origin::Reused => "Reused",
        Origin::Built => "Built",
    }
}

/// What was done is green, what was saved is cyan.
fn style(origin: Origin) -> Style {
    match origin {
        Origin::Built => GREEN,
        Origin::Base | Origin::Cached | Origin::Reused => CYAN,
    }
}

/// `1 file`, `2 files`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", Count(number))
}

/// The text with what would move the cursor taken out: titles and notes hold names of files.
pub(crate) fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control(), "\u{fffd}")
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line {
            verb,
            style,
            text,
            prefix,
        } = self;
        if !prefix.is_empty() {
            write!(f, "{DIM}{prefix}{DIM:#} ")?;
        }
        write!(f, "{style}{verb:>10}{style:#} {}", printable(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::terminal::plain;
    use std::path::Path;

    fn step(title: &str, origin: Origin) -> Event<'_> {
        Event::StepFinished {
            stage: "runtime",
            step: 2,
            title,
            origin,
            entries: 1204,
            bytes: 12_345_678,
        }
    }

    fn layer(origin: Origin) -> Event<'static> {
        Event::LayerFinished {
            layer: 0,
            title: "copy dist → /app",
            digest: Digest::of(b"layer"),
            size: 1_234_567,
            uncompressed: 4_000_000,
            origin,
        }
    }

    fn blob(delivery: Delivery, sent: u64) -> Event<'static> {
        Event::BlobPushed {
            name: "r.x/acme/app",
            digest: Digest::of(b"layer"),
            size: 1_234_567,
            delivery,
            sent,
        }
    }

    #[test]
    fn every_finished_thing_has_its_line() {
        let events = [
            Event::Planned {
                stages: 2,
                steps: 5,
            },
            Event::BuiltOnceMore,
            Event::ContextWalked {
                name: "context",
                directory: Path::new("."),
                files: 1204,
                bytes: 12_345_678,
                excluded: 3,
            },
            Event::ContextWalked {
                name: "shared",
                directory: Path::new("shared"),
                files: 1,
                bytes: 7,
                excluded: 0,
            },
            Event::BaseImported {
                reference: "oci:base",
                layers: 1,
                bytes: 45_100_000,
            },
            Event::StageStarted {
                stage: "runtime",
                steps: 3,
            },
            Event::StepStarted {
                stage: "runtime",
                step: 2,
                title: "x",
            },
            step("copy dist → /app", Origin::Built),
            step("copy dist → /app", Origin::Cached),
            step("copy a\u{1b}[2Jb\nc → /app", Origin::Reused),
            layer(Origin::Base),
            layer(Origin::Cached),
            layer(Origin::Reused),
            layer(Origin::Built),
            Event::OutputWritten {
                name: "oci-archive:app.tar",
                path: Path::new("app.tar"),
                bytes: 48_300_000,
                state: OutputState::Written,
            },
            Event::OutputWritten {
                name: "oci:layout",
                path: Path::new("layout"),
                bytes: 0,
                state: OutputState::Unchanged,
            },
            Event::PushProgress {
                name: "r.x/acme/app",
                done: 1,
                total: 2,
            },
            blob(Delivery::Sent, 1_234_567),
            blob(Delivery::Sent, 1_000),
            blob(Delivery::Sent, 2_000_000),
            blob(Delivery::Mounted, 0),
            blob(Delivery::Present, 0),
            Event::ImagePushed {
                name: "r.x/acme/app:1",
                digest: Digest::of(b"manifest"),
                sent: 1_240_000,
                received: 4_000,
                state: OutputState::Written,
            },
            Event::StepWaits {
                stage: "deps",
                step: 2,
            },
            Event::Note {
                text: "run/app.sock is a socket and is not copied",
            },
            Event::Warning {
                text: "podman honours the health check only with --format docker",
            },
        ];
        let took = Some(Duration::from_millis(340));
        let lines = events
            .iter()
            .filter_map(|event| Line::of(event, Some(3), took));
        let text: Vec<String> = lines.map(|line| plain(&line.to_string())).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn lines_of_several_builds_begin_with_their_names() {
        let line = |member: &str| {
            let note = Event::Note { text: "n" };
            let line = Line::of(&note, None, None).unwrap();
            plain(&line.prefixed(member, 8).to_string())
        };
        assert_eq!(line(""), "      Note n");
        assert_eq!(line("auth"), "auth           Note n");
        assert_eq!(line("platform"), "platform       Note n");
        assert_eq!(line("platform/auth"), "…rm/auth       Note n");
    }
}
