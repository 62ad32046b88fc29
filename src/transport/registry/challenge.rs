//! Challenges: what a registry asks of us before it answers. RFC 9110, section 11.6.1.

use std::collections::BTreeMap;

/// One challenge of a `WWW-Authenticate` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `basic`, `bearer`.
    pub(crate) scheme: String,
    /// By their names in lower case.
    pub(crate) parameters: BTreeMap<String, String>,
}

/// All challenges of the headers, in order. What cannot be understood ends its header.
pub(crate) fn challenges<'a>(headers: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    let mut found = Vec::new();
    for header in headers {
        let mut rest = header.trim_start();
        while let Some((challenge, after)) = challenge(rest) {
            found.push(challenge);
            rest = after;
        }
    }
    found
}

/// A scheme and its parameters, and what is behind them.
fn challenge(text: &str) -> Option<(Challenge, &str)> {
    let (scheme, mut rest) = word(text)?;
    let mut parameters = BTreeMap::new();
    rest = rest.trim_start();
    while let Some((name, value, after)) = parameter(rest) {
        parameters.insert(name.to_ascii_lowercase(), value);
        rest = after.trim_start();
        // A comma is followed by a further parameter or by the next challenge.
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start_matches([' ', '\t', ',']),
            None => break,
        }
    }
    let scheme = scheme.to_ascii_lowercase();
    Some((
        Challenge { scheme, parameters },
        rest.trim_start_matches([' ', '\t', ',']),
    ))
}

/// `name=value`, the value a word or quoted.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = word(text)?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', ' ', '\t']).unwrap_or(rest.len());
        return Some((name, rest[..end].to_owned(), &rest[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((name, value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn word(text: &str) -> Option<(&str, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(headers: &[&str]) -> Vec<String> {
        let found = challenges(headers.iter().copied());
        let show = |one: &Challenge| {
            let parameters = one
                .parameters
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            format!(
                "{} {}",
                one.scheme,
                parameters.collect::<Vec<_>>().join(" ")
            )
        };
        found.iter().map(show).collect()
    }

    #[test]
    fn challenges_are_read_as_servers_write_them() {
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            shown(&[docker]),
            [
                "bearer realm=https://auth.docker.io/token scope=repository:a/b:pull,push service=registry.docker.io"
            ]
        );
        for (headers, expected) in [
            (vec!["Basic realm=\"x\""], vec!["basic realm=x"]),
            (vec!["basic"], vec!["basic "]),
            (
                vec![
                    "Negotiate, Basic realm = \"a, b\" , charset=UTF-8",
                    "BEARER Realm=y",
                ],
                vec![
                    "negotiate ",
                    "basic charset=UTF-8 realm=a, b",
                    "bearer realm=y",
                ],
            ),
            (vec![r#"Basic realm="a\"b""#], vec![r#"basic realm=a"b"#]),
            (vec![""], vec![]),
            (vec!["="], vec![]),
            (vec!["Bearer realm=\"open"], vec!["bearer ", "realm "]),
        ] {
            assert_eq!(shown(&headers), expected, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_comes_to_an_end(text in ".{0,80}") {
            let _ = challenges([text.as_str()].into_iter());
        }
    }
}
