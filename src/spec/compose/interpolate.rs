//! `${VARIABLE}` in texts of compose files, by compose's rules.
//!
//! `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}`, `${NAME?message}`,
//! `${NAME:+other}`, `${NAME+other}`; with the colon a variable that is set to nothing counts as
//! not set. What stands behind the sign may have variables itself. `$$` is a dollar.

use std::ops::Range;

use crate::spec::error::ValueError;

/// So deep may variables stand in each other's defaults.
const MOST_DEPTH: usize = 32;
/// The longest text that may come out, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// A text with its variables replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Interpolated {
    pub(crate) text: String,
    /// Variables that are not set, for which nothing was put in.
    pub(crate) unset: Vec<String>,
}

/// Why a text cannot be interpolated, and which bytes of it are to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InterpolateError {
    pub(crate) range: Range<usize>,
    pub(crate) error: ValueError,
}

/// What variables stand for.
pub(crate) type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// `text` with its variables replaced.
pub(crate) fn interpolate(
    text: &str,
    lookup: &Lookup<'_>,
) -> Result<Interpolated, InterpolateError> {
    let mut result = Interpolated::default();
    put(text, 0..text.len(), lookup, MOST_DEPTH, &mut result)?;
    Ok(result)
}

/// Appends the interpolation of a part of `text`.
fn put(
    text: &str,
    part: Range<usize>,
    lookup: &Lookup<'_>,
    depth: usize,
    result: &mut Interpolated,
) -> Result<(), InterpolateError> {
    let fail = |range, error| Err(InterpolateError { range, error });
    if depth == 0 {
        return fail(
            part,
            ValueError::new("variables stand too deep in each other's defaults")
                .help("put the value into .env"),
        );
    }
    let mut at = part.start;
    while at < part.end {
        let rest = &text[at..part.end];
        let Some(dollar) = rest.find('$') else {
            result.text.push_str(rest);
            break;
        };
        result.text.push_str(&rest[..dollar]);
        let start = at + dollar;
        let behind = &text[start + 1..part.end];
        at = if behind.starts_with('$') {
            result.text.push('$');
            start + 2
        } else if behind.starts_with('{') {
            braced(text, start..part.end, lookup, depth, result)?
        } else {
            let name = name_in(behind);
            if name.is_empty() {
                return fail(
                    start..start + 1 + behind.chars().next().map_or(0, char::len_utf8),
                    ValueError::new("`$` names no variable here")
                        .help("write `$$` for a dollar, `${NAME}` for a variable"),
                );
            }
            value(name, lookup, result);
            start + 1 + name.len()
        };
        if result.text.len() > MOST_BYTES {
            return fail(
                part,
                ValueError::new("the text grows beyond 1 MiB when its variables are replaced")
                    .help("use shorter values"),
            );
        }
    }
    Ok(())
}

/// Appends what `${…}` at the front of `part` stands for; gives where it ends.
fn braced(
    text: &str,
    part: Range<usize>,
    lookup: &Lookup<'_>,
    depth: usize,
    result: &mut Interpolated,
) -> Result<usize, InterpolateError> {
    let fail = |range, error| Err(InterpolateError { range, error });
    let Some(close) = closing(&text[part.clone()]) else {
        let error = ValueError::new("`${` is not closed");
        return fail(
            part,
            error.help("write `}` behind the name, or `$${` for a literal `${`"),
        );
    };
    let whole = part.start..part.start + close + 1;
    let inner = part.start + 2..part.start + close;
    let name = name_in(&text[inner.clone()]);
    let behind = &text[inner.start + name.len()..inner.end];
    let (counts_empty, sign) = match behind.strip_prefix(':') {
        Some(sign) => (true, sign),
        None => (false, behind),
    };
    let word = inner.end - sign.len() + 1..inner.end;
    let found = lookup(name);
    let is_there = found
        .as_ref()
        .is_some_and(|found| !(counts_empty && found.is_empty()));
    match (name.is_empty(), sign.chars().next()) {
        (false, None) if !counts_empty => value(name, lookup, result),
        (false, Some('-')) => match found.filter(|_| is_there) {
            Some(found) => result.text.push_str(&found),
            None => put(text, word, lookup, depth - 1, result)?,
        },
        (false, Some('+')) if is_there => put(text, word, lookup, depth - 1, result)?,
        (false, Some('+')) => {}
        (false, Some('?')) if is_there => result.text.push_str(&found.unwrap_or_default()),
        (false, Some('?')) => {
            let mut message = Interpolated::default();
            put(text, word, lookup, depth - 1, &mut message)?;
            let state = match found {
                Some(_) => "empty",
                None => "not set",
            };
            let why = match message.text.is_empty() {
                true => String::new(),
                false => format!(": {}", message.text),
            };
            let error = ValueError::new(format!("the variable {name} is {state}{why}"));
            return fail(
                whole,
                error.help(format!(
                    "set {name} in the environment, or in .env beside the compose file"
                )),
            );
        }
        _ => {
            let error = ValueError::new(format!("`{}` names no variable", &text[whole.clone()]));
            return fail(
                whole,
                error.help("write `${NAME}`, `${NAME:-default}`, `${NAME:?message}` or `${NAME:+other}`; `$$` is a dollar"),
            );
        }
    }
    Ok(whole.end)
}

/// The name that a text begins with.
fn name_in(text: &str) -> &str {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !text.starts_with(is_first) {
        return "";
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

fn value(name: &str, lookup: &Lookup<'_>, result: &mut Interpolated) {
    match lookup(name) {
        Some(value) => result.text.push_str(&value),
        None if result.unset.iter().any(|known| known == name) => {}
        None => result.unset.push(name.to_owned()),
    }
}

/// Where the brace closes that `${` at the front of a text opens.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    let mut before = 0_u8;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if before == b'$' => open += 1,
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        before = byte;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Option<String> {
        let value = match name {
            "SET" => "set",
            "EMPTY" => "",
            "DOLLAR" => "${SET}",
            "_u1" => "under",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn read(text: &str) -> Result<Interpolated, InterpolateError> {
        interpolate(text, &lookup)
    }

    #[test]
    fn every_form_by_the_rules_of_compose() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$SET/x", "set/x"),
            ("${SET}${SET}", "setset"),
            ("a-$_u1-b", "a-under-b"),
            ("$$SET", "$SET"),
            ("$${SET}", "${SET}"),
            ("$$$SET", "$set"),
            ("${SET:-d}", "set"),
            ("${EMPTY:-d}", "d"),
            ("${NONE:-d}", "d"),
            ("${SET-d}", "set"),
            ("${EMPTY-d}", ""),
            ("${NONE-d}", "d"),
            ("${NONE:-}", ""),
            ("${NONE-}", ""),
            ("${SET:+o}", "o"),
            ("${EMPTY:+o}", ""),
            ("${NONE:+o}", ""),
            ("${SET+o}", "o"),
            ("${EMPTY+o}", "o"),
            ("${NONE+o}", ""),
            ("${SET:?m}", "set"),
            ("${EMPTY?m}", ""),
            ("${NONE:-a-b:c?d}", "a-b:c?d"),
            ("${NONE:-${SET}}", "set"),
            ("${NONE:-${OTHER:-${SET}-x}}/y", "set-x/y"),
            ("${NONE:-$SET$$}", "set$"),
            ("${SET:+${NONE:-n}}", "n"),
            ("${NONE:-http://h:1/{x}", "http://h:1/{x"),
            // A value is not read again.
            ("$DOLLAR ${DOLLAR:-x}", "${SET} ${SET}"),
            ("é${SET}é", "éseté"),
        ] {
            assert_eq!(
                read(text).map(|read| read.text).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_set_is_told_once_and_only_where_it_is_used() {
        let text = "$NONE ${NONE} ${OTHER} ${SET:-$UNUSED} ${NONE:-d}";
        assert_eq!(read(text).unwrap().unset, ["NONE", "OTHER"]);
    }

    #[test]
    fn errors_point_at_the_part_and_say_the_remedy() {
        for (text, part, message) in [
            (
                "a ${NONE:?say $SET}",
                "${NONE:?say $SET}",
                "the variable NONE is not set: say set",
            ),
            ("${EMPTY:?}", "${EMPTY:?}", "the variable EMPTY is empty"),
            ("${NONE?m}", "${NONE?m}", "the variable NONE is not set: m"),
            ("x${SET", "${SET", "`${` is not closed"),
            ("${}", "${}", "`${}` names no variable"),
            ("${1}", "${1}", "`${1}` names no variable"),
            ("${SET:}", "${SET:}", "`${SET:}` names no variable"),
            ("${SET/a/b}", "${SET/a/b}", "names no variable"),
            ("cost: $5", "$5", "`$` names no variable here"),
            ("end$", "$", "`$` names no variable here"),
            ("$é", "$é", "`$` names no variable here"),
            ("${NONE:-${1}}", "${1}", "names no variable"),
        ] {
            let error = read(text).expect_err(text);
            assert_eq!(&text[error.range.clone()], part);
            assert!(error.error.message.contains(message), "{}", error.error);
            assert!(error.error.help.is_some(), "{text}");
        }
        let deep = format!("{}x{}", "${A:-".repeat(40), "}".repeat(40));
        assert!(read(&deep).unwrap_err().error.message.contains("too deep"));
        let large = |_: &str| Some("x".repeat(1 << 16));
        let bomb = "$X".repeat(1000);
        let error = interpolate(&bomb, &large).unwrap_err();
        assert!(error.error.message.contains("1 MiB"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[${}NSET:?+é-]{0,24}") {
            let _ = read(&text);
        }

        #[test]
        fn dollars_that_are_doubled_are_text(text in "\\PC{0,24}") {
            let doubled = text.replace('$', "$$");
            prop_assert_eq!(read(&doubled).unwrap().text, text);
        }
    }
}
