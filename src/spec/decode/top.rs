//! The top of a spec: format, image, arguments, contexts, and the map of stages.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::oci::{Platform, Reference};
use crate::spec::arguments::{PREDEFINED, Piece, is_argument, nearest, pieces, predefined};
use crate::spec::decode::Decoder;
use crate::spec::decode::fields::{Fields, kind_of};
use crate::spec::decode::profile::Profiles;
use crate::spec::decode::scalars::Brackets;
use crate::spec::decode::shapes::SPEC;
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::error::ValueError;
use crate::spec::model::{Args, BuildSpec, Contexts, Format, Stage};
use crate::spec::parse::ParseInputs;
use crate::spec::source::{Span, Spanned};
use crate::spec::value::Name;
use crate::spec::yaml::{Entry, Node, Value};

/// So deep may arguments use each other.
const MOST_ARG_DEPTH: usize = 64;

const FORMAT: &str = "write `format: 1`, the version of the language";

/// The spec that `root` describes.
pub(crate) fn decode(
    mut decoder: Decoder<'_>,
    root: &Node,
    inputs: &ParseInputs<'_>,
) -> Result<BuildSpec, Diagnostics> {
    let spec = decoder.spec(root, inputs);
    let spec = decoder.diagnostics.finish(spec)?;
    Ok(spec.expect("whatever makes a spec unreadable has been reported"))
}

impl Decoder<'_> {
    fn spec(&mut self, root: &Node, inputs: &ParseInputs<'_>) -> Option<BuildSpec> {
        self.known_format(root)?;
        let fields = self.fields(
            root,
            &SPEC,
            "begin with:\nformat: 1\nstages:\n  app:\n    from: scratch",
        )?;
        self.required(&fields, "format", FORMAT);
        let profiles = self.profiles(&fields, inputs.profile);
        self.arguments(&fields, &profiles, inputs);
        let spec = BuildSpec {
            source: self.source.clone(),
            format: Format::V1,
            image: self.image(&fields),
            tags: self.list(&fields, "tags", Brackets::Needed),
            platforms: self.list::<Platform>(&fields, "platforms", Brackets::Needed),
            target: self.optional(&fields, "target"),
            profile: self.chosen(&profiles),
            contexts: self.contexts(&fields),
            compression: self.optional(&fields, "compression"),
            budget: self.budget(&fields),
            stages: self.stages(&fields),
            args: self.args.clone(),
        };
        self.no_name_twice(&spec);
        Some(spec)
    }

    /// Stops at a format of another version, where any key may mean anything.
    pub(crate) fn known_format(&mut self, root: &Node) -> Option<()> {
        let Value::Map(entries) = &root.value else {
            return Some(());
        };
        let Some(Entry { value: node, .. }) =
            entries.iter().find(|entry| entry.key.value == "format")
        else {
            return Some(());
        };
        let message = match &node.value {
            Value::Null => return Some(()),
            Value::Scalar(scalar) if scalar.text == "1" => return Some(()),
            Value::Scalar(scalar) => format!("format {:?} is unknown to this version", scalar.text),
            _ => format!("`format` is a number, not {}", kind_of(node)),
        };
        let diagnostic = self.error(node.span, message).help(FORMAT);
        self.report(diagnostic);
        None
    }

    fn image(&mut self, fields: &Fields<'_>) -> Option<Spanned<Reference>> {
        let reference: Spanned<Reference> = self.optional(fields, "image")?;
        let repository = reference.repository();
        let extra = match (reference.tag(), reference.digest()) {
            (Some(tag), None) => format!("write `image: {repository}` and `tags: [{tag}]`"),
            (_, Some(_)) => {
                format!("write `image: {repository}`; the digest is what a build finds out")
            }
            (None, None) => return Some(reference),
        };
        let diagnostic = self
            .error(
                reference.span,
                "`image` is a repository, without tag or digest",
            )
            .help(extra);
        self.report(diagnostic);
        None
    }

    fn contexts(&mut self, fields: &Fields<'_>) -> Contexts {
        let directory =
            |text: &str| match text {
                "" => Err(ValueError::new("the path is empty")
                    .help("write `.` for the folder of this file")),
                text if text.contains('\0') => {
                    Err(ValueError::new("the path holds a NUL character").help("remove it"))
                }
                text => Ok(PathBuf::from(text)),
            };
        let main = fields
            .value("context")
            .and_then(|node| self.converted(node, "context", directory));
        let help = "write `contexts: {NAME: DIRECTORY}`";
        let entries = fields
            .value("contexts")
            .and_then(|node| self.entries(node, "contexts", help));
        let mut named = BTreeMap::new();
        for Entry { key, value } in entries.unwrap_or_default() {
            let name = self.name(key, "a context");
            let path = self.converted(value, key, directory);
            if let (Some(name), Some(path)) = (name, path) {
                named.insert(name.value, path);
            }
        }
        Contexts { main, named }
    }

    /// A key that names a stage or a context.
    pub(crate) fn name(&mut self, key: &Spanned<String>, what: &str) -> Option<Spanned<Name>> {
        match key.parse() {
            Ok(name) => Some(Spanned::new(name, key.span)),
            Err(ValueError { message, help }) => {
                let message = match message.strip_suffix(" is no name") {
                    Some(word) => format!("{word} cannot be the name of {what}"),
                    None => message,
                };
                self.refuse(key.span, ValueError { message, help });
                None
            }
        }
    }

    fn stages(&mut self, fields: &Fields<'_>) -> Vec<Stage> {
        let help = "write:\nstages:\n  app:\n    from: scratch\n    steps:\n      - copy: .";
        let Some(entries) = self
            .required(fields, "stages", help)
            .and_then(|node| self.entries(node, "stages", help))
        else {
            return Vec::new();
        };
        if let (true, Some(key)) = (entries.is_empty(), fields.key("stages")) {
            let diagnostic = self
                .error(key.span, "a spec needs at least one stage")
                .help(help);
            self.report(diagnostic);
        }
        let mut stages = Vec::with_capacity(entries.len());
        for Entry { key, value } in entries {
            let name = self.name(key, "a stage");
            stages.extend(self.stage(key, name, value));
        }
        stages
    }

    /// A bare word after `from` must mean one thing.
    fn no_name_twice(&mut self, spec: &BuildSpec) {
        for stage in &spec.stages {
            if let Some(context) = spec.contexts.directory(&stage.name) {
                let message = format!("`{}` is both a stage and a context", stage.name);
                let diagnostic = self
                    .error(stage.name.span, message)
                    .help("rename one of the two")
                    .also(context.span, "the context");
                self.report(diagnostic);
            }
        }
    }

    /// Finds the value of every argument: override, profile, default, or platform.
    fn arguments<'n>(
        &mut self,
        fields: &Fields<'n>,
        profiles: &Profiles<'n>,
        inputs: &ParseInputs<'_>,
    ) {
        let mut values = predefined(inputs.platform);
        let mut declared = self.declared(fields);
        self.known_args(profiles, &declared);
        profiles.redeclare(&mut declared);
        for (name, value) in inputs.arg_overrides {
            if declared.contains_key(name.as_str()) {
                values.insert(name.clone(), value.clone());
            } else {
                let diagnostic = self.undeclared(name, None, &declared);
                self.report(diagnostic);
            }
        }
        self.args = Args::new(values);
        let names: Vec<String> = declared.keys().map(|name| (*name).to_owned()).collect();
        if profiles.is_unknown {
            self.poisoned.extend(names.iter().cloned());
        }
        for name in names {
            self.argument(&name, &declared, &mut Vec::new());
        }
    }

    fn declared<'n>(&mut self, fields: &Fields<'n>) -> BTreeMap<&'n str, &'n Entry> {
        let help = "write `args: {NAME: default}`";
        let entries = fields
            .value("args")
            .and_then(|node| self.entries(node, "args", help));
        let mut declared = BTreeMap::new();
        for entry in entries.unwrap_or_default() {
            let name = entry.key.value.as_str();
            if PREDEFINED.contains(&name) {
                self.refuse(
                    entry.key.span,
                    ValueError::new(format!("`{name}` is predefined: it follows the platform"))
                        .help("use it without declaring it"),
                );
            } else if is_argument(name) {
                declared.insert(name, entry);
            } else {
                self.refuse(
                    entry.key.span,
                    ValueError::new(format!("{name:?} cannot be the name of an argument"))
                        .help("use letters, digits and _, not beginning with a digit"),
                );
            }
        }
        declared
    }

    /// A value for an argument that is not there: of a profile, or else of the caller.
    pub(crate) fn undeclared(
        &self,
        name: &str,
        place: Option<Span>,
        declared: &BTreeMap<&str, &Entry>,
    ) -> Diagnostic {
        let message = format!("argument `{name}` is not declared in this spec");
        let about = match place {
            Some(span) => self.error(span, message),
            None => Diagnostic::about(self.source, message),
        };
        let known: Vec<&str> = declared.keys().copied().collect();
        if PREDEFINED.contains(&name) {
            return about.help(format!(
                "`{name}` follows the platform; choose that with `platforms`"
            ));
        }
        match nearest(name, known.iter().copied()) {
            Some(near) => about.help(format!("did you mean `{near}`?")),
            None if known.is_empty() => {
                about.help(format!("declare it: `args: {{{name}: default}}`"))
            }
            None => about.help(format!("its arguments are {}", known.join(", "))),
        }
    }

    /// Makes sure that `name` has its value, after those that its default uses.
    fn argument(&mut self, name: &str, declared: &BTreeMap<&str, &Entry>, above: &mut Vec<String>) {
        let Some(Entry { key, value }) = declared.get(name) else {
            return;
        };
        if self.args.value(name).is_some() || self.poisoned.contains(name) {
            return;
        }
        if above.iter().any(|outer| outer == name) || above.len() >= MOST_ARG_DEPTH {
            self.endless(name, key.span, above);
            return;
        }
        above.push(name.to_owned());
        let found = self.default_of(key, value, declared, above);
        above.pop();
        match found {
            Some(value) if !self.poisoned.contains(name) => self.args.insert(name, value),
            _ => {
                self.poisoned.insert(name.to_owned());
            }
        }
    }

    fn default_of(
        &mut self,
        key: &Spanned<String>,
        value: &Node,
        declared: &BTreeMap<&str, &Entry>,
        above: &mut Vec<String>,
    ) -> Option<String> {
        match &value.value {
            Value::Null => {
                self.refuse(
                    key.span,
                    ValueError::new(format!("argument `{}` has no value", key.value)).help(
                        format!(
                            "give one with `--arg {0}=…`, or write a default: `{0}: \"\"`",
                            key.value
                        ),
                    ),
                );
                None
            }
            Value::Scalar(scalar) => {
                for piece in pieces(&scalar.text).0 {
                    if let Piece::Arg(used, _) = piece {
                        self.argument(used, declared, above);
                    }
                }
                self.expanded(&scalar.text, value.span)
            }
            Value::List(_) | Value::Map(_) => {
                self.text(value, key);
                None
            }
        }
    }

    /// Arguments that use each other in a circle have no value, none of them.
    fn endless(&mut self, name: &str, span: Span, above: &[String]) {
        let from = above.iter().position(|outer| outer == name);
        let circle = &above[from.unwrap_or_default()..];
        let diagnostic = match from {
            Some(_) => self.error(
                span,
                format!(
                    "argument `{name}` uses itself: {} -> {name}",
                    circle.join(" -> ")
                ),
            ),
            None => self.error(
                span,
                format!("arguments use each other over more than {MOST_ARG_DEPTH} steps"),
            ),
        };
        self.report(diagnostic.help("give one of them a value without `${…}`"));
        self.poisoned.extend(circle.iter().cloned());
        self.poisoned.insert(name.to_owned());
    }
}
