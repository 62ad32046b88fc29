//! Run-time settings.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::config::{Config, HealthProbe, ProbeTest, UserAs};
use crate::spec::decode::Decoder;
use crate::spec::decode::fields::{Fields, kind_of};
use crate::spec::decode::scalars::Brackets;
use crate::spec::decode::shapes::HEALTHCHECK;
use crate::spec::error::ValueError;
use crate::spec::source::Spanned;
use crate::spec::value::Port;
use crate::spec::yaml::{Entry, Node, Value};

/// Every port once with each protocol.
const MOST_PORTS: usize = 2 * 65_535;

impl Decoder<'_> {
    /// The settings of a stage.
    pub(crate) fn config(&mut self, fields: &Fields<'_>) -> Config {
        let ways = [("numeric", UserAs::Numeric), ("name", UserAs::Name)];
        Config {
            user: self.optional(fields, "user"),
            user_as: self.word(fields, "user_as", &ways).unwrap_or_default(),
            workdir: self.optional(fields, "workdir"),
            env: self.env(fields),
            entrypoint: self.argv(fields, "entrypoint"),
            cmd: self.argv(fields, "cmd"),
            expose: self.ports(fields),
            stop_signal: self.optional(fields, "stop_signal"),
            labels: self.labels(fields),
            volumes: self.list(fields, "volumes", Brackets::Needed),
            healthcheck: self.healthcheck(fields),
        }
    }

    /// A program with its arguments. A text would need a shell, and the shell would get the
    /// signals: the error shows the list.
    pub(crate) fn argv(&mut self, fields: &Fields<'_>, key: &str) -> Option<Spanned<Vec<String>>> {
        let node = fields.value(key)?;
        let items = match &node.value {
            Value::List(items) => items,
            Value::Scalar(scalar) => {
                let diagnostic = self
                    .error(node.span, format!("`{key}` is a list, not a text"))
                    .help(format!("write `{key}: {}`", as_list(&scalar.text)));
                self.report(diagnostic);
                return None;
            }
            _ => {
                self.items(node, key, Brackets::Needed);
                return None;
            }
        };
        let texts: Vec<_> = items
            .iter()
            .filter_map(|item| self.text(item, key))
            .collect();
        let argv = texts.into_iter().map(|text| text.value).collect();
        Some(Spanned::new(argv, node.span))
    }

    fn ports(&mut self, fields: &Fields<'_>) -> Vec<Spanned<Port>> {
        let node = fields.value("expose");
        let items = node.and_then(|node| self.items(node, "expose", Brackets::Needed));
        let mut ports: Vec<Spanned<Port>> = Vec::new();
        let (mut seen, mut expanded) = (BTreeSet::new(), 0);
        for item in items.unwrap_or_default() {
            let Some(range) = self.converted(item, "expose", Port::parse_range) else {
                continue;
            };
            expanded += range.value.len();
            if expanded > MOST_PORTS {
                self.refuse(
                    item.span,
                    ValueError::new("`expose` lists more ports than there are")
                        .help("keep the ports that the program listens on"),
                );
                break;
            }
            let new = range.value.into_iter().filter(|port| seen.insert(*port));
            ports.extend(new.map(|port| Spanned::new(port, range.span)));
        }
        ports
    }

    /// Labels by their names.
    pub(crate) fn labels(&mut self, fields: &Fields<'_>) -> BTreeMap<String, Spanned<String>> {
        let help = "write `labels: {KEY: VALUE}`, one line each, without `=`";
        let node = fields.value("labels");
        let entries = node.and_then(|node| self.entries(node, "labels", help));
        let mut labels = BTreeMap::new();
        for Entry { key, value } in entries.unwrap_or_default() {
            if key.is_empty() || key.contains("${") {
                self.refuse(
                    key.span,
                    ValueError::new(format!("{:?} cannot be the key of a label", key.value))
                        .help("keys are not empty, and arguments are expanded in values only"),
                );
                continue;
            }
            if let Some(value) = self.text(value, key) {
                labels.insert(key.value.clone(), value);
            }
        }
        labels
    }

    fn healthcheck(&mut self, fields: &Fields<'_>) -> Option<Spanned<HealthProbe>> {
        let node = fields.value("healthcheck")?;
        let help = "write `healthcheck: {test: [PROGRAM, ARGUMENT], interval: 30s}`";
        let fields = self.fields(node, &HEALTHCHECK, help)?;
        let test = fields.value("test").and_then(|node| self.probe(node));
        let retries = fields.value("retries").and_then(|node| {
            self.converted(node, "retries", |text| match text.parse::<u32>() {
                Ok(retries) if (1..=i32::MAX.cast_unsigned()).contains(&retries) => Ok(retries),
                _ => Err(ValueError::new(format!("`retries` cannot be {text:?}"))
                    .help("write a number from 1 on, or leave the key out for the default")),
            })
        });
        let probe = HealthProbe {
            test,
            interval: self.duration(&fields, "interval"),
            timeout: self.duration(&fields, "timeout"),
            start_period: self.duration(&fields, "start_period"),
            start_interval: self.duration(&fields, "start_interval"),
            retries,
        };
        Some(Spanned::new(probe, node.span))
    }

    fn probe(&mut self, node: &Node) -> Option<Spanned<ProbeTest>> {
        let test = match &node.value {
            Value::List(items) => self.probe_list(node, items)?,
            Value::Scalar(_) => {
                let text = self.text(node, "test")?.value;
                match text.trim() {
                    "" => {
                        self.refuse(node.span, empty_probe());
                        return None;
                    }
                    "none" => ProbeTest::None,
                    _ => ProbeTest::Shell(text),
                }
            }
            _ => {
                let message = format!("`test` is a text or a list, not {}", kind_of(node));
                let diagnostic = self
                    .error(self.first_line(node.span), message)
                    .help("write `test: COMMAND`, `test: [PROGRAM, ARGUMENT]` or `test: none`");
                self.report(diagnostic);
                return None;
            }
        };
        Some(Spanned::new(test, node.span))
    }

    /// A program with its arguments, without the first word that Docker's own lists have.
    fn probe_list(&mut self, node: &Node, items: &[Node]) -> Option<ProbeTest> {
        let texts: Vec<_> = items
            .iter()
            .filter_map(|item| self.text(item, "test"))
            .collect();
        if texts.len() < items.len() {
            return None;
        }
        let remedy = match texts.first().map(|text| text.value.as_str()) {
            None | Some("") => {
                self.refuse(node.span, empty_probe());
                return None;
            }
            Some("CMD") => "leave `CMD` out: a list is a program and its arguments",
            Some("CMD-SHELL") => "write the command as a text: `test: COMMAND`",
            Some("NONE") => "write `test: none`",
            Some(_) => {
                let argv = texts.into_iter().map(|text| text.value).collect();
                return Some(ProbeTest::Exec(argv));
            }
        };
        let message = format!("`{}` is a word of Docker's own format", texts[0].value);
        let diagnostic = self.error(texts[0].span, message).help(remedy);
        self.report(diagnostic);
        None
    }
}

fn empty_probe() -> ValueError {
    ValueError::new("`test` is empty").help("write `test: none` to take the base's check away")
}

/// A command line as the list it probably means, ready to be pasted.
fn as_list(text: &str) -> String {
    let needs_shell = text.contains(['|', '&', ';', '<', '>', '$', '`', '"', '\'', '*', '\n']);
    if needs_shell {
        return format!("[/bin/sh, -c, {text:?}]");
    }
    let plain = |word: &str| {
        !word.starts_with(['-', '!', '@', '%', '#', '?', '[', '{'])
            && !word.contains([',', ':', ']', '}'])
    };
    let quoted = |word: &str| {
        if plain(word) || is_flag(word) {
            word.to_owned()
        } else {
            format!("{word:?}")
        }
    };
    let words: Vec<String> = text.split_whitespace().map(quoted).collect();
    format!("[{}]", words.join(", "))
}

/// `-x` and `--long` need no quotes in a YAML list.
fn is_flag(word: &str) -> bool {
    let name = word.trim_start_matches('-');
    word.starts_with('-')
        && !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'=')
}
