//! Mounts of a command: one map each, whose first word says the kind.

use crate::spec::action::{Mount, SecretTarget, Sharing};
use crate::spec::arguments::is_variable;
use crate::spec::decode::Decoder;
use crate::spec::decode::fields::Fields;
use crate::spec::decode::scalars::variable_name;
use crate::spec::decode::shapes::{self, MOUNT_HABITS, MOUNTS};
use crate::spec::source::Spanned;
use crate::spec::value::Name;
use crate::spec::yaml::{Entry, Node, Value};

const CACHE: &str = "write `{cache: NAME, target: PATH}`";
const SECRET: &str =
    "write `{secret: ID}`, `{secret: ID, target: PATH}` or `{secret: ID, env: NAME}`";
const BIND: &str = "write `{bind: SOURCE, target: PATH}`";
const TMPFS: &str = "write `{tmpfs: PATH}`";
const SSH: &str = "write `{ssh: default}`";

impl Decoder<'_> {
    /// The mounts of a `run` step.
    pub(crate) fn mounts(&mut self, fields: &Fields<'_>) -> Vec<Spanned<Mount>> {
        let items = self.maps(fields, "mounts", "{cache: npm, target: /root/.npm}");
        let mount = |item: &Node| Some(Spanned::new(self.mount(item)?, item.span));
        items.iter().filter_map(mount).collect()
    }

    fn mount(&mut self, node: &Node) -> Option<Mount> {
        let Value::Map(entries) = &node.value else {
            let diagnostic = self
                .error(self.first_line(node.span), "a mount is a map")
                .help(CACHE);
            self.report(diagnostic);
            return None;
        };
        match self.kind(entries, node)? {
            "cache" => {
                let fields = self.fields(node, &shapes::CACHE, CACHE)?;
                self.cache(&fields)
            }
            "secret" => {
                let fields = self.fields(node, &shapes::SECRET, SECRET)?;
                self.secret(&fields)
            }
            "bind" => {
                let fields = self.fields(node, &shapes::BIND, BIND)?;
                self.bind(&fields)
            }
            "tmpfs" => {
                let fields = self.fields(node, &shapes::TMPFS, TMPFS)?;
                let target = self.needed(&fields, "tmpfs", TMPFS);
                let size = self.optional(&fields, "size");
                target.map(|target| Mount::Tmpfs { target, size })
            }
            _ => {
                let fields = self.fields(node, &shapes::SSH, SSH)?;
                self.needed(&fields, "ssh", SSH).map(|id| Mount::Ssh { id })
            }
        }
    }

    /// The one key among [`MOUNTS`].
    fn kind(&mut self, entries: &[Entry], node: &Node) -> Option<&'static str> {
        let known = |entry: &&Entry| MOUNTS.contains(&entry.key.value.as_str());
        let mut found = entries.iter().filter(known);
        match (found.next(), found.next()) {
            (Some(one), None) => MOUNTS.iter().find(|kind| **kind == one.key.value).copied(),
            (Some(first), Some(second)) => {
                let message = format!(
                    "a mount is one thing, not `{}` and `{}`",
                    first.key.value, second.key.value
                );
                let diagnostic = self
                    .error(second.key.span, message)
                    .help("begin another mount for it")
                    .also(first.key.span, "the first");
                self.report(diagnostic);
                None
            }
            (None, _) => {
                let habit = |entry: &Entry| {
                    let advice = MOUNT_HABITS
                        .iter()
                        .find(|(habit, _)| *habit == entry.key.value);
                    advice.map(|(_, advice)| (entry.key.span, *advice))
                };
                let habit = entries.iter().find_map(habit);
                let place = habit.map_or(self.first_line(node.span), |(place, _)| place);
                let diagnostic = self.error(place, "this mount does not say what it is");
                let diagnostic = match habit {
                    Some((_, advice)) => diagnostic.help(advice),
                    None => diagnostic
                        .help(format!("a mount has one of the keys {}", MOUNTS.join(", "))),
                };
                self.report(diagnostic);
                None
            }
        }
    }

    fn cache(&mut self, fields: &Fields<'_>) -> Option<Mount> {
        let name = self.needed(fields, "cache", CACHE);
        let target = self.needed(fields, "target", CACHE);
        let kinds = [
            ("shared", Sharing::Shared),
            ("locked", Sharing::Locked),
            ("private", Sharing::Private),
        ];
        let sharing = self.word(fields, "sharing", &kinds).unwrap_or_default();
        Some(Mount::Cache {
            name: name?,
            target: target?,
            sharing,
        })
    }

    fn secret(&mut self, fields: &Fields<'_>) -> Option<Mount> {
        let id = self.needed(fields, "secret", SECRET);
        let target = self.secret_target(fields, id.as_ref());
        let required = self.flag(fields, "required").unwrap_or(true);
        Some(Mount::Secret {
            id: id?,
            target: target?,
            required,
        })
    }

    fn secret_target(
        &mut self,
        fields: &Fields<'_>,
        id: Option<&Spanned<Name>>,
    ) -> Option<SecretTarget> {
        match (fields.value("target"), fields.value("env")) {
            (Some(target), None) => self.parsed(target, "target").map(SecretTarget::File),
            (None, Some(variable)) => {
                let named = self.converted(variable, "env", |text| match is_variable(text) {
                    true => Ok(text.to_owned()),
                    false => Err(variable_name(text)),
                });
                named.map(SecretTarget::Variable)
            }
            (Some(target), Some(variable)) => {
                let diagnostic = self
                    .error(
                        variable.span,
                        "a secret is a file (`target`) or a variable (`env`), not both",
                    )
                    .help("mount it twice if both are needed")
                    .also(target.span, "the file");
                self.report(diagnostic);
                None
            }
            (None, None) => {
                let id = id?;
                let path = format!("/run/secrets/{}", id.value).parse().ok()?;
                Some(SecretTarget::File(Spanned::new(path, id.span)))
            }
        }
    }

    fn bind(&mut self, fields: &Fields<'_>) -> Option<Mount> {
        let source = self.needed(fields, "bind", BIND);
        let from = self.optional(fields, "from");
        let target = self.needed(fields, "target", BIND);
        let writable = self.flag(fields, "writable").unwrap_or_default();
        Some(Mount::Bind {
            source: source?,
            from,
            target: target?,
            writable,
        })
    }
}
