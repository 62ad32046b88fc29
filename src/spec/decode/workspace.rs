//! The workspace file: arguments for all, and the list of members.

use std::path::PathBuf;

use crate::spec::arguments::is_argument;
use crate::spec::decode::Decoder;
use crate::spec::decode::fields::{Fields, kind_of};
use crate::spec::decode::scalars::Brackets;
use crate::spec::decode::shapes::Shape;
use crate::spec::diagnostic::Diagnostics;
use crate::spec::error::ValueError;
use crate::spec::model::Format;
use crate::spec::source::{Span, Spanned};
use crate::spec::workspace::{Argument, Member, Workspace, without_slash};
use crate::spec::yaml::{Entry, Node, Value};

pub(crate) const WORKSPACE: Shape = Shape {
    what: "a workspace",
    keys: &["format", "args", "members"],
    habits: &[
        ("version", "write `format: 1`, the version of the language"),
        ("specs", "the specs that are built are called `members`"),
        ("images", "the specs that are built are called `members`"),
        ("packages", "the specs that are built are called `members`"),
        (
            "services",
            "the specs that are built are called `members`; a Compose file is built with --compose",
        ),
        ("variables", "values for all members are called `args`"),
        (
            "stages",
            "stages belong to a spec; name the spec under `members`",
        ),
        (
            "target",
            "`target` belongs to a member, or is chosen for all with --target",
        ),
        (
            "profile",
            "`profile` belongs to a member, or is chosen for all with --profile",
        ),
    ],
};

pub(crate) const MEMBER: Shape = Shape {
    what: "a member",
    keys: &[
        "name",
        "spec",
        "target",
        "profile",
        "args",
        "tags",
        "platforms",
    ],
    habits: &[
        ("path", "where the spec is is called `spec`"),
        ("file", "where the spec is is called `spec`"),
        ("folder", "where the spec is is called `spec`"),
        ("context", "where the spec is is called `spec`"),
        ("build", "where the spec is is called `spec`"),
        ("stage", "the stage to build is called `target`"),
        ("tag", "write a list: `tags: [stage]`"),
        (
            "image",
            "write a list of full names: `tags: [registry.example/acme/app:1]`",
        ),
        ("platform", "write a list: `platforms: [linux/amd64]`"),
        ("variables", "values of arguments are called `args`"),
        (
            "output",
            "where images go is said on the command line, with -o",
        ),
        (
            "depends_on",
            "members need no order: what they share is made once",
        ),
    ],
};

const FORMAT: &str = "write `format: 1`, the version of the language";
const MEMBERS: &str = "write:\nmembers:\n  - path/to/a/spec";
const ARGS: &str = "write `args: {NAME: value}`";

/// The workspace that `root` describes.
pub(crate) fn decode_workspace(
    mut decoder: Decoder<'_>,
    root: &Node,
) -> Result<Workspace, Diagnostics> {
    let workspace = decoder.workspace(root);
    let workspace = decoder.diagnostics.finish(workspace)?;
    Ok(workspace.expect("whatever makes a workspace unreadable has been reported"))
}

impl Decoder<'_> {
    fn workspace(&mut self, root: &Node) -> Option<Workspace> {
        self.known_format(root)?;
        let help = "begin with:\nformat: 1\nmembers:\n  - path/to/a/spec";
        let fields = self.fields(root, &WORKSPACE, help)?;
        self.required(&fields, "format", FORMAT);
        Some(Workspace {
            source: self.source.clone(),
            format: Format::V1,
            args: self.arguments_given(&fields),
            members: self.members(&fields),
        })
    }

    /// Values for arguments of specs, which say for themselves whether there are such.
    fn arguments_given(&mut self, fields: &Fields<'_>) -> Vec<Argument> {
        let entries = fields
            .value("args")
            .and_then(|node| self.entries(node, "args", ARGS));
        let mut given = Vec::new();
        for Entry { key, value } in entries.unwrap_or_default() {
            if !is_argument(key) {
                let message = format!("{:?} cannot be the name of an argument", key.value);
                let help = "use letters, digits and _, not beginning with a digit";
                self.refuse(key.span, ValueError::new(message).help(help));
            } else if let Some(value) = self.text(value, key) {
                given.push(Argument {
                    name: key.clone(),
                    value: value.value,
                });
            }
        }
        given
    }

    fn members(&mut self, fields: &Fields<'_>) -> Vec<Member> {
        let Some(items) = self
            .required(fields, "members", MEMBERS)
            .and_then(|node| self.items(node, "members", Brackets::Needed))
        else {
            return Vec::new();
        };
        if let (true, Some(key)) = (items.is_empty(), fields.key("members")) {
            let diagnostic = self.error(key.span, "a workspace needs at least one member");
            self.report(diagnostic.help(MEMBERS));
        }
        let mut members: Vec<Member> = Vec::with_capacity(items.len());
        for item in items {
            let Some(member) = self.member(item) else {
                continue;
            };
            match members.iter().find(|other| other.name == member.name) {
                Some(first) => self.twice(&member.name, first.name.span),
                None => members.push(member),
            }
        }
        members
    }

    fn twice(&mut self, name: &Spanned<String>, first: Span) {
        let message = format!("two members are called {:?}", name.value);
        let diagnostic = self.error(name.span, message);
        let help = format!("give one of them another name: `{{name: …, spec: {name}}}`");
        self.report(diagnostic.help(help).also(first, "the first"));
    }

    fn member(&mut self, node: &Node) -> Option<Member> {
        let help = "write the path of a spec, or `{name: NAME, spec: PATH}`";
        if let Value::Scalar(_) = &node.value {
            let spec = self.spec_path(node)?;
            return Some(Member {
                name: self.member_name(node, &spec.value.to_string_lossy())?,
                spec,
                target: None,
                profile: None,
                args: Vec::new(),
                tags: Vec::new(),
                platforms: Vec::new(),
            });
        }
        if !matches!(node.value, Value::Map(_)) {
            let message = format!("a member is a path or a map, not {}", kind_of(node));
            let diagnostic = self.error(self.first_line(node.span), message);
            self.report(diagnostic.help(help));
            return None;
        }
        let fields = self.fields(node, &MEMBER, help)?;
        let path = self.required(&fields, "spec", "write `spec: path/to/a/spec`");
        let spec = path.and_then(|path| self.spec_path(path));
        let target = self.optional(&fields, "target");
        let profile = self.optional(&fields, "profile");
        let args = self.arguments_given(&fields);
        let tags = self.list(&fields, "tags", Brackets::Needed);
        let platforms = self.list(&fields, "platforms", Brackets::Needed);
        let name = match (fields.value("name"), path, &spec) {
            (Some(node), ..) => {
                let text = self.text(node, "name")?;
                self.member_name(node, &text.value)
            }
            (None, Some(node), Some(spec)) => self.member_name(node, &spec.value.to_string_lossy()),
            _ => None,
        };
        Some(Member {
            name: name?,
            spec: spec?,
            target,
            profile,
            args,
            tags,
            platforms,
        })
    }

    fn spec_path(&mut self, node: &Node) -> Option<Spanned<PathBuf>> {
        self.converted(node, "spec", |text| match text {
            "" => Err(ValueError::new("the path is empty")
                .help("write `.` for the spec beside this file")),
            text if text.contains('\0') => {
                Err(ValueError::new("the path holds a NUL character").help("remove it"))
            }
            text => Ok(PathBuf::from(text)),
        })
    }

    /// A name is typed on command lines and stands before lines of logs.
    fn member_name(&mut self, node: &Node, text: &str) -> Option<Spanned<String>> {
        let name = without_slash(text);
        let problem = match name {
            "" => "the name is empty".to_owned(),
            name if name.starts_with('-') => format!("{name:?} looks like an option"),
            name if name.contains(char::is_control) => {
                format!("{name:?} holds what cannot be typed")
            }
            name => return Some(Spanned::new(name.to_owned(), node.span)),
        };
        let help = "give it another: `{name: NAME, spec: PATH}`";
        self.refuse(node.span, ValueError::new(problem).help(help));
        None
    }
}
