//! Changes of modes as `chmod(1)` writes them: `0755`, `u=rwX,go=rX`.
//!
//! Comes in: text. Goes out: a function from mode to mode. Symbolic changes do what GNU's and
//! POSIX's `chmod` do under umask 0, so that a mode never depends on who builds. An octal mode is
//! absolute, for directories too, as in a Dockerfile's `--chmod`.

use std::fmt;
use std::str::FromStr;

/// A change of the lower twelve bits of a mode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModeChange {
    /// An octal mode: the old one does not matter.
    Absolute(u16),
    /// Symbolic clauses, applied from left to right. At least one.
    Symbolic(Vec<Clause>),
}

/// What a mode belongs to: `X`, setuid and setgid mean something else for directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeSubject {
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// `who operator permissions`, such as `go=rX`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clause {
    /// The bits of those who were named; none for a missing `who`.
    who: u16,
    operator: Operator,
    permissions: Permissions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Permissions {
    /// These bits, for everyone; `conditional` is `X`.
    Bits { bits: u16, conditional: bool },
    /// Those that user, group or others have.
    CopyOf(u16),
}

/// Why a text is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModeError {
    /// Digits, but not up to four octal ones.
    #[error("{0:?} is no octal mode; write three or four digits from 0 to 7, such as 0755")]
    Octal(String),
    /// A clause that cannot be read.
    #[error(
        "{clause:?} in mode {text:?} is unknown; write who, operator and permissions, such as u=rwX,go=rX"
    )]
    Clause {
        /// The whole text.
        text: String,
        /// The clause.
        clause: String,
    },
}

const USER: u16 = 0o4700;
const GROUP: u16 = 0o2070;
const OTHERS: u16 = 0o1007;
const ALL: u16 = 0o7777;
const READ: u16 = 0o444;
const WRITE: u16 = 0o222;
const EXECUTE: u16 = 0o111;
const SET_ID: u16 = 0o6000;
const STICKY: u16 = 0o1000;

impl ModeChange {
    /// The mode that `mode` becomes; bits above the lower twelve are dropped.
    #[must_use]
    pub fn apply(&self, mode: u16, subject: ModeSubject) -> u16 {
        match self {
            ModeChange::Absolute(mode) => *mode,
            ModeChange::Symbolic(clauses) => clauses
                .iter()
                .fold(mode & ALL, |mode, clause| clause.apply(mode, subject)),
        }
    }
}

impl Clause {
    fn apply(&self, mode: u16, subject: ModeSubject) -> u16 {
        let value = match self.permissions {
            Permissions::Bits { bits, conditional } => {
                let runs = mode & EXECUTE != 0 || subject == ModeSubject::Directory;
                bits | if conditional && runs { EXECUTE } else { 0 }
            }
            Permissions::CopyOf(whose) => [READ, WRITE, EXECUTE]
                .into_iter()
                .filter(|&kind| mode & whose & kind != 0)
                .fold(0, |bits, kind| bits | kind),
        };
        let kept = self.kept_on(subject);
        let affected = if self.who == 0 { ALL } else { self.who };
        let value = value & affected & !kept;
        match self.operator {
            Operator::Add => mode | value,
            Operator::Remove => mode & !value,
            Operator::Set => mode & (!affected | kept) | value,
        }
    }

    /// A directory keeps its setuid and setgid bits unless the clause names them.
    fn kept_on(&self, subject: ModeSubject) -> u16 {
        let affected = if self.who == 0 { ALL } else { self.who };
        let named = match self.permissions {
            Permissions::Bits { bits, .. } => bits & affected,
            Permissions::CopyOf(_) => 0,
        };
        match subject {
            ModeSubject::Directory => SET_ID & !named,
            ModeSubject::Other => 0,
        }
    }
}

impl FromStr for ModeChange {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<ModeChange, ModeError> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return absolute(text);
        }
        let mut clauses = Vec::new();
        for clause in text.split(',') {
            let unknown = || ModeError::Clause {
                text: text.to_owned(),
                clause: clause.to_owned(),
            };
            parse_clause(clause, &mut clauses).ok_or_else(unknown)?;
        }
        Ok(ModeChange::Symbolic(clauses))
    }
}

/// `755`, `0755`, and YAML's `0o755`.
fn absolute(text: &str) -> Result<ModeChange, ModeError> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal = |byte: u8| (b'0'..=b'7').contains(&byte);
    let valid = (3..=4).contains(&digits.len()) || matches!(digits, "0" | "00");
    u16::from_str_radix(digits, 8)
        .ok()
        .filter(|_| valid && digits.bytes().all(octal))
        .map(ModeChange::Absolute)
        .ok_or_else(|| ModeError::Octal(text.to_owned()))
}

/// One `who` may have several operators: `u=rw+X`.
fn parse_clause(text: &str, clauses: &mut Vec<Clause>) -> Option<()> {
    let operators_at = text.find(['+', '-', '='])?;
    let (who, mut rest) = text.split_at(operators_at);
    let who = who.chars().try_fold(0, |bits, c| Some(bits | whose(c)?))?;
    while let Some(sign) = rest.chars().next() {
        let operator = match sign {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            _ => Operator::Set,
        };
        let body = &rest[1..];
        let (permissions, behind) = body.split_at(body.find(['+', '-', '=']).unwrap_or(body.len()));
        clauses.push(Clause {
            who,
            operator,
            permissions: parse_permissions(permissions)?,
        });
        rest = behind;
    }
    Some(())
}

fn whose(letter: char) -> Option<u16> {
    match letter {
        'u' => Some(USER),
        'g' => Some(GROUP),
        'o' => Some(OTHERS),
        'a' => Some(ALL),
        _ => None,
    }
}

fn parse_permissions(text: &str) -> Option<Permissions> {
    if let "u" | "g" | "o" = text {
        return text.chars().next().and_then(whose).map(Permissions::CopyOf);
    }
    let (mut bits, mut conditional) = (0, false);
    for letter in text.chars() {
        match letter {
            'r' => bits |= READ,
            'w' => bits |= WRITE,
            'x' => bits |= EXECUTE,
            'X' => conditional = true,
            's' => bits |= SET_ID,
            't' => bits |= STICKY,
            _ => return None,
        }
    }
    Some(Permissions::Bits { bits, conditional })
}

/// One spelling per change: four octal digits, or clauses with one operator each.
impl fmt::Display for ModeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModeChange::Absolute(mode) => write!(f, "{mode:04o}"),
            ModeChange::Symbolic(clauses) => {
                for (index, clause) in clauses.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{clause}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.who {
            ALL => f.write_str("a")?,
            who => write_letters(f, &[(USER, 'u'), (GROUP, 'g'), (OTHERS, 'o')], who)?,
        }
        f.write_str(match self.operator {
            Operator::Add => "+",
            Operator::Remove => "-",
            Operator::Set => "=",
        })?;
        match self.permissions {
            Permissions::CopyOf(whose) => {
                write_letters(f, &[(USER, 'u'), (GROUP, 'g'), (OTHERS, 'o')], whose)
            }
            Permissions::Bits { bits, conditional } => {
                write_letters(f, &[(READ, 'r'), (WRITE, 'w'), (EXECUTE, 'x')], bits)?;
                f.write_str(if conditional { "X" } else { "" })?;
                write_letters(f, &[(SET_ID, 's'), (STICKY, 't')], bits)
            }
        }
    }
}

fn write_letters(f: &mut fmt::Formatter<'_>, letters: &[(u16, char)], bits: u16) -> fmt::Result {
    letters
        .iter()
        .filter(|(mask, _)| bits & mask == *mask)
        .try_for_each(|(_, letter)| write!(f, "{letter}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change(text: &str) -> ModeChange {
        text.parse().unwrap()
    }

    #[test]
    fn changes_do_what_chmod_does() {
        use ModeSubject::{Directory, Other};
        for (text, before, subject, after) in [
            ("0755", 0o600, Other, 0o755),
            ("755", 0o4600, Other, 0o755),
            ("0o644", 0o777, Other, 0o644),
            ("4755", 0o644, Other, 0o4755),
            ("0", 0o777, Other, 0),
            ("755", 0o2700, Directory, 0o755),
            ("u=rwX,go=rX", 0o600, Other, 0o644),
            ("u=rwX,go=rX", 0o700, Other, 0o755),
            ("u=rwX,go=rX", 0o001, Other, 0o755),
            ("u=rwX,go=rX", 0o700, Directory, 0o755),
            ("+x", 0o644, Other, 0o755),
            ("a+x", 0o644, Other, 0o755),
            ("go-rwx", 0o777, Other, 0o700),
            ("go=", 0o777, Other, 0o700),
            ("=r", 0o4777, Other, 0o444),
            ("g=u", 0o640, Other, 0o660),
            ("o=g-w", 0o670, Other, 0o675),
            ("u+s", 0o755, Other, 0o4755),
            ("ug+s", 0o755, Other, 0o6755),
            ("+t", 0o777, Directory, 0o1777),
            ("u+t", 0o777, Directory, 0o777),
            ("u=rwx", 0o4755, Other, 0o755),
            ("u=rwx", 0o4755, Directory, 0o4755),
            ("u-s", 0o6755, Directory, 0o2755),
            ("a=rx", 0o6777, Directory, 0o6555),
            ("a=rx", 0o7777, Other, 0o555),
        ] {
            let shown = change(text).apply(before, subject);
            assert_eq!(
                shown, after,
                "{text} on {before:o}: {shown:o}, not {after:o}"
            );
        }
    }

    #[test]
    fn what_chmod_would_refuse_is_refused() {
        for text in [
            "", "9", "888", "75", "07555", "0x1ff", "0o", "rwx", "u", "u=rwz", "z+x", "u=rw,", ",",
            "u=rg", "+x y", "-1", "u+é",
        ] {
            assert!(text.parse::<ModeChange>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn display_has_one_spelling() {
        for (text, shown) in [
            ("7", None),
            ("755", Some("0755")),
            ("u=rw+X,a-t", Some("u=rw,u+X,a-t")),
            ("ugo=u", Some("a=u")),
        ] {
            assert_eq!(
                text.parse::<ModeChange>()
                    .ok()
                    .map(|mode| mode.to_string())
                    .as_deref(),
                shown
            );
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,12}") {
            let _ = text.parse::<ModeChange>();
        }

        #[test]
        fn display_parses_to_the_same_change(text in "[ugoa]{0,3}([+=-]([rwxXst]{0,4}|[ugo])){1,2}(,[ugoa]{0,2}[+=-][rwxXst]{0,3})?|[0-7]{3,4}") {
            let parsed = change(&text);
            prop_assert_eq!(change(&parsed.to_string()), parsed);
        }

        #[test]
        fn setting_twice_is_setting_once(text in "[ugoa]{0,3}=[rwxst]{0,4}", mode in 0u16..0o10000, directory: bool) {
            let subject = if directory { ModeSubject::Directory } else { ModeSubject::Other };
            let once = change(&text).apply(mode, subject);
            prop_assert_eq!(change(&text).apply(once, subject), once);
            prop_assert!(once <= ALL);
        }
    }
}
