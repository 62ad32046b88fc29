//! Workspaces: which specs one command builds together, and what each is given.
//!
//! ```yaml
//! format: 1
//! args: {NODE: "20"}              # for every member whose spec declares the argument
//! members:
//!   - platform/auth               # a spec or its folder, relative to this file; also its name
//!   - {name: backend-stage, spec: backend, target: stage, profile: stage, tags: [stage]}
//! ```
//!
//! A workspace says nothing that a command line could not say of each spec by itself, so it decides
//! about no bytes. Texts in it are taken as they are written: `${…}` means nothing here.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::oci::{Platform, Reference};
use crate::spec::arguments::nearest;
use crate::spec::decode::{Decoder, decode_workspace};
use crate::spec::diagnostic::{Diagnostic, Diagnostics};
use crate::spec::error::ValueError;
use crate::spec::schema::{DirectoryText, Text, TextMap};
use crate::spec::source::{SourceText, Spanned};
use crate::spec::value::{Name, Tag};
use crate::spec::yaml;

/// A workspace as it was written.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Workspace {
    /// The text that all spans count in.
    #[schemars(skip)]
    pub source: Arc<SourceText>,
    /// The version of the language.
    pub format: crate::spec::model::Format,
    /// Values for all members whose specs declare the argument.
    #[schemars(with = "Option<TextMap>")]
    pub args: Vec<Argument>,
    /// The images, in the order in which they are begun and told.
    #[schemars(with = "Vec<AnyMember>")]
    pub members: Vec<Member>,
}

/// A value for an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The argument.
    pub name: Spanned<String>,
    /// Its value.
    pub value: String,
}

/// One image of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Member {
    /// What the command line and reports call it; by default `spec` as it is written.
    #[schemars(with = "Option<Text>")]
    pub name: Spanned<String>,
    /// The spec or its folder, relative to the folder of this file.
    #[schemars(with = "DirectoryText")]
    pub spec: Spanned<PathBuf>,
    /// The stage to build.
    pub target: Option<Spanned<Name>>,
    /// The profile of the spec to build.
    pub profile: Option<Spanned<Name>>,
    /// Values of arguments, which go before those for all members.
    #[schemars(with = "Option<TextMap>")]
    pub args: Vec<Argument>,
    /// What the image is called: full names, or tags for the `image` of the spec.
    #[schemars(with = "Option<Vec<Text>>")]
    pub tags: Vec<Spanned<MemberTag>>,
    /// What to build for, instead of what the spec says.
    #[schemars(with = "Option<Vec<Platform>>")]
    pub platforms: Vec<Spanned<Platform>>,
}

/// A name of an image: a tag alone belongs to the repository that the spec names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberTag {
    /// `1.4.0`.
    Tag(Tag),
    /// `registry.example/acme/app:1.4.0`.
    Name(Reference),
}

impl FromStr for MemberTag {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<MemberTag, ValueError> {
        if !text.contains(['/', ':', '@']) {
            return text.parse().map(MemberTag::Tag);
        }
        let name: Reference = text.parse()?;
        match name.digest() {
            Some(_) => Err(
                ValueError::new("an image cannot be given a digest as its name")
                    .help("write NAME:TAG"),
            ),
            None => Ok(MemberTag::Name(name.with_default_tag())),
        }
    }
}

impl Workspace {
    /// Reads a workspace.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of the text.
    pub fn parse(source: &Arc<SourceText>) -> Result<Workspace, Diagnostics> {
        match yaml::parse(source)? {
            Some(root) => decode_workspace(Decoder::literal(source), &root),
            None => Err(Diagnostic::about(source, "the workspace is empty")
                .help("begin with:\nformat: 1\nmembers:\n  - path/to/a/spec")
                .into()),
        }
    }

    /// The member of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn member(&self, name: &str) -> Result<&Member, Diagnostics> {
        // A shell completes folders with a slash.
        let wanted = without_slash(name);
        let known = || self.members.iter().map(|member| member.name.as_str());
        if let Some(member) = self.members.iter().find(|one| one.name.value == wanted) {
            return Ok(member);
        }
        let message = format!("this workspace has no member {name:?}");
        let diagnostic = Diagnostic::about(&self.source, message);
        Err(match nearest(wanted, known()) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => {
                let listed: Vec<&str> = known().take(MOST_LISTED).collect();
                let more = match self.members.len().saturating_sub(MOST_LISTED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                diagnostic.help(format!("its members are {}{more}", listed.join(", ")))
            }
        }
        .into())
    }
}

/// So many members are listed; nobody reads on.
const MOST_LISTED: usize = 20;

/// A path as people mean it who end it with a slash.
pub(crate) fn without_slash(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => path,
        trimmed => trimmed,
    }
}

/// A member, or only its spec.
#[derive(Debug)]
struct AnyMember;

impl JsonSchema for AnyMember {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AnyMember".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let spec = generator.subschema_for::<DirectoryText>();
        let member = generator.subschema_for::<Member>();
        json_schema!({ "anyOf": [spec, member] })
    }
}

#[cfg(test)]
mod tests;
