//! Arguments: `${NAME}` in texts, and what the names stand for.
//!
//! `$${` is a literal `${`; a `$` before anything else is just a dollar, so that the variables of
//! a shell keep their plain form. `${env.NAME}` is not an argument but the value that an
//! environment variable has so far; it may stand in values of `env` only.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::oci::Platform;
use crate::spec::config::{EnvPart, EnvTemplate};
use crate::spec::error::ValueError;
use crate::spec::model::Args;

/// The arguments that follow the platform, as BuildKit names them.
pub(crate) const PREDEFINED: [&str; 4] =
    ["TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT"];

/// The longest text that expansion may give, in bytes.
const MOST_EXPANDED: usize = 1 << 20;

/// So many errors in one text are enough to mend it.
pub(crate) const MOST_ERRORS: usize = 20;

/// Why a text cannot be expanded, and which part of it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct ExpandError {
    /// The bytes of the text that are meant.
    pub range: Range<usize>,
    /// What is wrong with them.
    #[source]
    pub error: ValueError,
}

impl Args {
    /// `text` with every `${NAME}` replaced.
    ///
    /// # Errors
    /// One for each name that is not declared and each `${` that is not closed, or one if the
    /// result would be longer than 1 MiB.
    pub fn expand(&self, text: &str) -> Result<String, Vec<ExpandError>> {
        let (pieces, mut errors) = pieces(text);
        let mut expanded = String::with_capacity(text.len());
        for piece in pieces {
            match piece {
                Piece::Literal(literal) => expanded.push_str(literal),
                Piece::Arg(name, range) => match self.value(name) {
                    Some(value) => expanded.push_str(value),
                    None => errors.push(undefined(name, range, self)),
                },
                Piece::Env(name, range) => errors.push(misplaced(name, range)),
            }
            if expanded.len() > MOST_EXPANDED {
                errors.push(too_long(text));
            }
            if errors.len() >= MOST_ERRORS || expanded.len() > MOST_EXPANDED {
                break;
            }
        }
        if errors.is_empty() {
            Ok(expanded)
        } else {
            Err(errors)
        }
    }

    /// The same for a value of `env`: `${env.NAME}` keeps its place in the template.
    ///
    /// # Errors
    /// Those of [`Args::expand`].
    pub fn expand_env(&self, text: &str) -> Result<EnvTemplate, Vec<ExpandError>> {
        let (pieces, mut errors) = pieces(text);
        let (mut parts, mut literal) = (Vec::new(), String::new());
        for piece in pieces {
            match piece {
                Piece::Literal(text) => literal.push_str(text),
                Piece::Arg(name, range) => match self.value(name) {
                    Some(value) => literal.push_str(value),
                    None => errors.push(undefined(name, range, self)),
                },
                Piece::Env(name, _) => {
                    if !literal.is_empty() {
                        parts.push(EnvPart::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(EnvPart::Inherited(name.to_owned()));
                }
            }
            if literal.len() > MOST_EXPANDED {
                errors.push(too_long(text));
            }
            if errors.len() >= MOST_ERRORS || literal.len() > MOST_EXPANDED {
                break;
            }
        }
        if !literal.is_empty() {
            parts.push(EnvPart::Literal(literal));
        }
        if errors.is_empty() {
            Ok(EnvTemplate { parts })
        } else {
            Err(errors)
        }
    }
}

/// The values for a platform: `TARGETOS` and its like.
pub(crate) fn predefined(platform: &Platform) -> BTreeMap<String, String> {
    let variant = platform.variant.clone().unwrap_or_default();
    let values = [
        platform.to_string(),
        platform.os.clone(),
        platform.architecture.clone(),
        variant,
    ];
    PREDEFINED
        .map(str::to_owned)
        .into_iter()
        .zip(values)
        .collect()
}

/// A piece of a text with arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    Literal(&'t str),
    Arg(&'t str, Range<usize>),
    Env(&'t str, Range<usize>),
}

/// Cuts a text at its `${…}`.
pub(crate) fn pieces(text: &str) -> (Vec<Piece<'_>>, Vec<ExpandError>) {
    let (mut pieces, mut errors) = (Vec::new(), Vec::new());
    let (mut literal, mut at) = (0, 0);
    while let Some(found) = memchr::memchr(b'$', &text.as_bytes()[at..]) {
        let dollar = at + found;
        let rest = &text[dollar..];
        if rest.starts_with("$${") {
            // The second dollar and the brace are the literal.
            pieces.push(Piece::Literal(&text[literal..dollar]));
            (literal, at) = (dollar + 1, dollar + 3);
        } else if rest.starts_with("${") {
            pieces.push(Piece::Literal(&text[literal..dollar]));
            let end = rest
                .find('}')
                .map_or(text.len(), |brace| dollar + brace + 1);
            match named(&text[dollar..end], dollar..end) {
                Ok(piece) => pieces.push(piece),
                Err(error) => errors.push(error),
            }
            (literal, at) = (end, end);
        } else {
            at = dollar + 1;
        }
    }
    pieces.push(Piece::Literal(&text[literal..]));
    pieces.retain(|piece| !matches!(piece, Piece::Literal("")));
    (pieces, errors)
}

/// Reads `${NAME}` or `${env.NAME}`.
fn named(text: &str, range: Range<usize>) -> Result<Piece<'_>, ExpandError> {
    let fail = |error| {
        Err(ExpandError {
            range: range.clone(),
            error,
        })
    };
    let Some(name) = text
        .strip_prefix("${")
        .and_then(|text| text.strip_suffix('}'))
    else {
        return fail(
            ValueError::new("`${` is not closed")
                .help("write `}` behind the name, or `$${` for a literal `${`"),
        );
    };
    if let Some(variable) = name.strip_prefix("env.").filter(|name| is_variable(name)) {
        return Ok(Piece::Env(variable, range));
    }
    if name.starts_with("env.") {
        return fail(
            ValueError::new(format!("`{text}` names no environment variable"))
                .help("write `${env.PATH}` for the value that PATH has so far"),
        );
    }
    if is_argument(name) {
        return Ok(Piece::Arg(name, range));
    }
    let end = name
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(name.len());
    if end > 0 && is_argument(&name[..end]) {
        let name = &name[..end];
        return fail(ValueError::new(format!("`{text}` is a shell's way to give `{name}` a default"))
            .help(format!("declare `{name}` with its default under `args`, or write `${text}` to leave it to the shell")));
    }
    fail(
        ValueError::new(format!("`{text}` names no argument")).help(format!(
            "a name has letters, digits and _; write `${text}` for the literal text"
        )),
    )
}

/// Whether `name` can be an argument.
pub(crate) fn is_argument(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether `name` can be an environment variable.
pub(crate) fn is_variable(name: &str) -> bool {
    let forbidden =
        |c: char| c == '=' || c == '$' || c == '{' || c.is_whitespace() || c.is_control();
    !name.is_empty() && !name.contains(forbidden)
}

fn undefined(name: &str, range: Range<usize>, args: &Args) -> ExpandError {
    let error = ValueError::new(format!("argument `{name}` is not declared"));
    let literal = format!("write `$${{{name}}}` for the literal text `${{{name}}}`");
    let error = match nearest(name, args.iter().map(|(name, _)| name)) {
        Some(near) => error.help(format!("did you mean `${{{near}}}`? Or {literal}")),
        None => error.help(format!("declare `{name}` under `args`, or {literal}")),
    };
    ExpandError { range, error }
}

fn misplaced(name: &str, range: Range<usize>) -> ExpandError {
    let error = ValueError::new(format!(
        "`${{env.{name}}}` can stand in values of `env` only"
    ))
    .help("elsewhere use an argument, `${NAME}`, declared under `args`");
    ExpandError { range, error }
}

fn too_long(text: &str) -> ExpandError {
    ExpandError {
        range: 0..text.len(),
        error: ValueError::new("the text grows beyond 1 MiB when its arguments are expanded")
            .help("put large contents into a file of the context"),
    }
}

/// The word most like `word`, if any is like it at all.
pub fn nearest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let most = match word.len() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    let lower = word.to_ascii_lowercase();
    words
        .map(|candidate| {
            (
                strsim::osa_distance(&lower, &candidate.to_ascii_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= most && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn args() -> Args {
        let values = [("NODE", "20"), ("EMPTY", ""), ("DOLLAR", "${NODE}")];
        Args::new(
            values
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        )
    }

    #[test]
    fn names_are_replaced_and_dollars_stay() {
        for (text, expanded) in [
            ("node:${NODE}-alpine", "node:20-alpine"),
            ("${NODE}${NODE}", "2020"),
            ("[${EMPTY}]", "[]"),
            ("$NODE $ $$ $", "$NODE $ $$ $"),
            ("$${NODE}", "${NODE}"),
            ("$$${NODE}", "$${NODE}"),
            ("$${", "${"),
            ("${DOLLAR}", "${NODE}"),
            ("é${NODE}é", "é20é"),
        ] {
            assert_eq!(args().expand(text).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn errors_point_at_the_part_and_say_the_remedy() {
        for (text, part, remedy) in [
            ("a ${NODEE}", "${NODEE}", "did you mean `${NODE}`"),
            ("${HOME}/x", "${HOME}", "write `$${HOME}`"),
            ("x${NODE", "${NODE", "write `}`"),
            ("${}", "${}", "names no argument"),
            ("${NODE:-18}", "${NODE:-18}", "under `args`"),
            ("${env.PATH}", "${env.PATH}", "values of `env` only"),
        ] {
            let errors = args().expand(text).unwrap_err();
            assert_eq!(&text[errors[0].range.clone()], part);
            assert!(errors[0].to_string().contains(remedy), "{}", errors[0]);
        }
        assert_eq!(args().expand("${A1} ${B2}").unwrap_err().len(), 2);
        let bomb = "${X}".repeat(1000);
        let large = Args::new([("X".to_owned(), "x".repeat(1 << 16))].into());
        assert!(
            large.expand(&bomb).unwrap_err()[0]
                .to_string()
                .contains("1 MiB")
        );
    }

    proptest! {
        #[test]
        fn an_escaped_text_expands_to_itself(text in "[${}NODE.a\\n]{0,24}|\\PC{0,16}") {
            prop_assert_eq!(args().expand(&text.replace("${", "$${")), Ok(text));
        }

        #[test]
        fn any_text_expands_or_is_refused(text in "[${}NODEenv.:-]{0,24}") {
            let _ = args().expand(&text);
        }
    }
}
