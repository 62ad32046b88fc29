//! Steps: one map each, whose first word says what is done.

use crate::spec::action::{
    Action, Add, Command, Copy, Link, Mkdir, Network, Remove, Run, Step, Write, WriteSource,
};
use crate::spec::decode::Decoder;
use crate::spec::decode::fields::{Fields, kind_of};
use crate::spec::decode::scalars::Brackets;
use crate::spec::decode::shapes::{self, ACTIONS, Shape};
use crate::spec::error::ValueError;
use crate::spec::source::{Span, Spanned};
use crate::spec::yaml::{Entry, Node, Value};

impl Decoder<'_> {
    /// The steps of a stage.
    pub(crate) fn steps(&mut self, fields: &Fields<'_>) -> Vec<Step> {
        let items = self.maps(fields, "steps", "copy: .");
        items.iter().filter_map(|item| self.step(item)).collect()
    }

    fn step(&mut self, node: &Node) -> Option<Step> {
        let Value::Map(entries) = &node.value else {
            self.no_map(node);
            return None;
        };
        let keyword = self.keyword(entries, node.span)?;
        let (shape, help) = shape_of(keyword);
        let fields = self.fields(node, shape, help)?;
        let layer = self.optional(&fields, "layer");
        let action = match keyword {
            "copy" => self.copy(&fields, help).map(Action::Copy),
            "add" => self.add(&fields, help).map(Action::Add),
            "write" => self.write(&fields, help).map(Action::Write),
            "mkdir" => self.mkdir(&fields, help).map(Action::Mkdir),
            "link" => self.link(&fields, help).map(Action::Link),
            "remove" => self.remove(&fields, help).map(Action::Remove),
            _ => self.run(&fields, help).map(Action::Run),
        };
        Some(Step {
            span: node.span,
            layer,
            action: action?,
        })
    }

    /// A step that is a text was written by someone who thinks of a Dockerfile or a script.
    fn no_map(&mut self, node: &Node) {
        let mut diagnostic = self.error(
            self.first_line(node.span),
            format!("a step is a map, not {}", kind_of(node)),
        );
        if let Value::Scalar(scalar) = &node.value {
            let text = scalar.text.lines().next().unwrap_or_default();
            let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
            diagnostic = diagnostic.help(match word.to_ascii_lowercase().as_str() {
                "copy" => match rest.rsplit_once(' ') {
                    Some((source, to)) => format!("write `{{copy: {source}, to: {to}}}`"),
                    None => "write `{copy: SOURCE, to: DESTINATION}`".to_owned(),
                },
                "run" => format!("write `run: {rest}`"),
                "add" => "write `{add: URL, checksum: sha256:…, to: DESTINATION}`".to_owned(),
                _ => format!("write `run: {text}` if this is a command"),
            });
        }
        self.report(diagnostic);
    }

    /// What the step does: the one key among [`ACTIONS`].
    fn keyword(&mut self, entries: &[Entry], span: Span) -> Option<&'static str> {
        let action = |entry: &&Entry| ACTIONS.contains(&entry.key.value.as_str());
        let mut found = entries.iter().filter(action);
        let Some(first) = found.next() else {
            let upper = entries.iter().find_map(|entry| instruction(&entry.key));
            let place = upper.map_or(self.first_line(span), |(place, _)| place);
            let mut diagnostic = self.error(place, "this step does not say what it does");
            diagnostic = match upper {
                Some((_, advice)) => diagnostic.help(advice),
                None => {
                    diagnostic.help(format!("a step has one of the keys {}", ACTIONS.join(", ")))
                }
            };
            self.report(diagnostic);
            return None;
        };
        if let Some(second) = found.next() {
            let message = format!(
                "a step does one thing, not `{}` and `{}`",
                first.key.value, second.key.value
            );
            let diagnostic = self
                .error(second.key.span, message)
                .help(
                    "begin another step with `- `; `layer: NAME` on both puts them into one layer",
                )
                .also(first.key.span, "the first");
            self.report(diagnostic);
            return None;
        }
        ACTIONS
            .iter()
            .find(|action| **action == first.key.value)
            .copied()
    }

    fn copy(&mut self, fields: &Fields<'_>, help: &str) -> Option<Copy> {
        let sources = self.some_of(fields, "copy", help);
        let (from, to) = (self.optional(fields, "from"), self.optional(fields, "to"));
        let (owner, mode) = (
            self.optional(fields, "owner"),
            self.optional(fields, "mode"),
        );
        let exclude = self.texts(fields, "exclude", Brackets::Optional);
        let parents = self.flag(fields, "parents").unwrap_or_default();
        let follow = self.flag(fields, "follow").unwrap_or_default();
        let sources = sources?;
        Some(Copy {
            sources,
            from,
            to,
            owner,
            mode,
            exclude,
            parents,
            follow,
        })
    }

    fn add(&mut self, fields: &Fields<'_>, help: &str) -> Option<Add> {
        let url = self.needed(fields, "add", help);
        let checksum = self.optional(fields, "checksum");
        let to = self.optional(fields, "to");
        let unpack = self.flag(fields, "unpack").unwrap_or_default();
        let (owner, mode) = (
            self.optional(fields, "owner"),
            self.optional(fields, "mode"),
        );
        Some(Add {
            url: url?,
            checksum,
            to,
            unpack,
            owner,
            mode,
        })
    }

    fn write(&mut self, fields: &Fields<'_>, help: &str) -> Option<Write> {
        let to = self.needed(fields, "write", help);
        let content = self.content(fields);
        let (owner, mode) = (
            self.optional(fields, "owner"),
            self.optional(fields, "mode"),
        );
        Some(Write {
            to: to?,
            content: content?,
            owner,
            mode,
        })
    }

    /// `text` or `template`, but not both.
    fn content(&mut self, fields: &Fields<'_>) -> Option<WriteSource> {
        let from = self.optional(fields, "from");
        match (fields.value("text"), fields.value("template")) {
            (Some(text), None) => {
                if let Some(key) = fields.key("from") {
                    let diagnostic = self
                        .error(
                            key.span,
                            "`from` says where a `template` lies; a `text` has none",
                        )
                        .help("remove `from`");
                    self.report(diagnostic);
                }
                self.text(text, "text").map(WriteSource::Text)
            }
            (None, Some(template)) => {
                let path = self.parsed(template, "template")?;
                Some(WriteSource::Template { path, from })
            }
            (Some(text), Some(template)) => {
                let diagnostic = self
                    .error(
                        template.span,
                        "a file has a `text` or a `template`, not both",
                    )
                    .help("remove one of the two")
                    .also(self.first_line(text.span), "the text");
                self.report(diagnostic);
                None
            }
            (None, None) => {
                let diagnostic = self
                    .error(self.first_line(fields.span), "a write step needs `text` or `template`")
                    .help("write `text: …`, \"\" for an empty file, or `template: FILE` in the context");
                self.report(diagnostic);
                None
            }
        }
    }

    fn mkdir(&mut self, fields: &Fields<'_>, help: &str) -> Option<Mkdir> {
        let paths = self.some_of(fields, "mkdir", help);
        let (owner, mode) = (
            self.optional(fields, "owner"),
            self.optional(fields, "mode"),
        );
        let paths = paths?;
        Some(Mkdir { paths, owner, mode })
    }

    fn link(&mut self, fields: &Fields<'_>, help: &str) -> Option<Link> {
        let path = self.needed(fields, "link", help);
        let target = self.required(fields, "target", help);
        let target = target.and_then(|node| {
            self.converted(node, "target", |text| match text {
                "" => Err(ValueError::new("a link to nothing cannot be made").help(help)),
                text if text.contains('\0') => {
                    Err(ValueError::new("the target holds a NUL character").help("remove it"))
                }
                text => Ok(text.to_owned()),
            })
        });
        let hard = self.flag(fields, "hard").unwrap_or_default();
        Some(Link {
            path: path?,
            target: target?,
            hard,
        })
    }

    fn remove(&mut self, fields: &Fields<'_>, help: &str) -> Option<Remove> {
        let paths = self.some_of(fields, "remove", help);
        let optional = self.flag(fields, "optional").unwrap_or_default();
        let paths = paths?;
        Some(Remove { paths, optional })
    }

    fn run(&mut self, fields: &Fields<'_>, help: &str) -> Option<Run> {
        let command = self.required(fields, "run", help);
        let command = command.and_then(|node| self.command(node));
        let env = self.env(fields);
        let mounts = self.mounts(fields);
        let networks = [("host", Network::Host), ("none", Network::None)];
        let network = self.word(fields, "network", &networks).unwrap_or_default();
        let (user, workdir) = (
            self.optional(fields, "user"),
            self.optional(fields, "workdir"),
        );
        let command = command?;
        Some(Run {
            command,
            env,
            mounts,
            network,
            user,
            workdir,
        })
    }

    fn command(&mut self, node: &Node) -> Option<Spanned<Command>> {
        let empty = || {
            ValueError::new("a command cannot be empty")
                .help("write `run: COMMAND`, or remove the step")
        };
        let command = match &node.value {
            Value::List(items) => {
                let argv: Vec<_> = items
                    .iter()
                    .filter_map(|item| self.text(item, "run"))
                    .collect();
                let argv: Vec<String> = argv.into_iter().map(|text| text.value).collect();
                let said_nothing = argv.first().is_none_or(String::is_empty);
                if argv.len() == items.len() && said_nothing {
                    self.refuse(node.span, empty());
                }
                (argv.len() == items.len() && !said_nothing).then_some(Command::Argv(argv))?
            }
            _ => {
                let text = self.text(node, "run")?.value;
                if text.trim().is_empty() {
                    self.refuse(node.span, empty());
                    return None;
                }
                Command::Shell(text)
            }
        };
        Some(Spanned::new(command, node.span))
    }

    /// A list of texts, none of which may be empty.
    pub(crate) fn texts(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        brackets: Brackets,
    ) -> Vec<Spanned<String>> {
        let node = fields.value(key);
        let items = node
            .and_then(|node| self.items(node, key, brackets))
            .unwrap_or_default();
        let text = |item: &Node| {
            self.converted(item, key, |text| match text {
                "" => Err(
                    ValueError::new(format!("an empty text means nothing in `{key}`"))
                        .help("remove it"),
                ),
                text => Ok(text.to_owned()),
            })
        };
        items.iter().filter_map(text).collect()
    }
}

/// The shape of a step and the shortest step of its kind.
fn shape_of(keyword: &str) -> (&'static Shape, &'static str) {
    match keyword {
        "copy" => (
            &shapes::COPY,
            "write `copy: SOURCE` or `copy: [SOURCE, SOURCE]`",
        ),
        "add" => (
            &shapes::ADD,
            "write `{add: URL, checksum: sha256:…, to: PATH}`",
        ),
        "write" => (&shapes::WRITE, "write `{write: PATH, text: …}`"),
        "mkdir" => (
            &shapes::MKDIR,
            "write `mkdir: PATH` or `mkdir: [PATH, PATH]`",
        ),
        "link" => (&shapes::LINK, "write `{link: NEW_NAME, target: EXISTING}`"),
        "remove" => (
            &shapes::REMOVE,
            "write `remove: PATH` or `remove: [PATH, PATH]`",
        ),
        _ => (
            &shapes::RUN,
            "write `run: COMMAND` or `run: [PROGRAM, ARGUMENT]`",
        ),
    }
}

/// A Dockerfile's instruction, or another word for a step, as a key.
fn instruction(key: &Spanned<String>) -> Option<(Span, &'static str)> {
    let advice = match key.value.to_ascii_lowercase().as_str() {
        "copy" => "write `copy` in lower case",
        "add" => "write `add` in lower case; files of the context are copied with `copy`",
        "run" => "write `run` in lower case",
        "sh" | "shell" | "exec" | "command" | "script" => "a command is written `run: COMMAND`",
        "workdir" | "cd" => "`workdir` belongs to the stage, beside `steps`",
        "user" => {
            "`user` belongs under `config`; users to be created are listed under `users` of the stage"
        }
        "users" => "`users` belongs to the stage, beside `steps`",
        "env" => "`env` belongs under `config` of the stage",
        "entrypoint" | "cmd" | "expose" | "label" | "labels" | "volume" | "healthcheck"
        | "stopsignal" => "settings of the image belong under `config` of the stage",
        "arg" => "arguments belong to the spec: `args: {NAME: default}`",
        "from" => "`from` alone does nothing: `{copy: SOURCE, from: STAGE}`",
        "file" => "a file is made with `{write: PATH, text: …}`",
        "symlink" | "ln" => "a link is made with `{link: NEW_NAME, target: EXISTING}`",
        "rm" | "delete" => "paths are removed with `remove: PATH`",
        "dir" | "directory" => "a directory is made with `mkdir: PATH`",
        "download" | "fetch" | "url" => "a file is fetched with `{add: URL, checksum: sha256:…}`",
        "cp" => "files are copied with `copy: SOURCE`",
        _ => return None,
    };
    Some((key.span, advice))
}
