//! Tiers: what a machine lets a builder do, from the most to the least.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A way to run commands. People see its [`Letter`]; the difference between the two of letter A
/// is who makes the owners real.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Tier {
    /// A: root, with the right to mount. Namespaces without a user namespace.
    Root,
    /// A: a user namespace with a range of ids, which `newuidmap` and `newgidmap` grant.
    RangeMap,
    /// B: a user namespace with one id. A supervisor grants changes of owners and records them.
    SingleMap,
    /// C: root without the right to mount. A copy of the tree and `chroot`, nothing else.
    Chroot,
}

/// The name of a tier in output and on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Letter {
    /// Namespaces and real owners.
    A,
    /// Namespaces and recorded owners.
    B,
    /// A copy of the tree and `chroot`.
    C,
}

impl Tier {
    /// All tiers, the best first.
    pub const ALL: [Tier; 4] = [Tier::Root, Tier::RangeMap, Tier::SingleMap, Tier::Chroot];

    /// The letter that people see.
    pub fn letter(self) -> Letter {
        match self {
            Tier::Root | Tier::RangeMap => Letter::A,
            Tier::SingleMap => Letter::B,
            Tier::Chroot => Letter::C,
        }
    }

    /// What it is, in a few words.
    pub fn title(self) -> &'static str {
        match self {
            Tier::Root => "namespaces, as root",
            Tier::RangeMap => "namespaces, with a range of ids",
            Tier::SingleMap => "namespaces, with one id; owners are recorded",
            Tier::Chroot => "chroot, as root; no namespaces",
        }
    }

    /// Whether the command sees ids of its own, so that its root is the builder's user.
    pub fn has_user_namespace(self) -> bool {
        matches!(self, Tier::RangeMap | Tier::SingleMap)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.letter(), self.title())
    }
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Letter::A => "A",
            Letter::B => "B",
            Letter::C => "C",
        })
    }
}

impl FromStr for Letter {
    type Err = String;

    fn from_str(text: &str) -> Result<Letter, String> {
        match text {
            "a" | "A" => Ok(Letter::A),
            "b" | "B" => Ok(Letter::B),
            "c" | "C" => Ok(Letter::C),
            _ => Err("a tier is a, b or c".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_as_they_are_written() {
        for tier in Tier::ALL {
            let letter = tier.letter();
            assert_eq!(letter.to_string().parse(), Ok(letter));
            assert_eq!(letter.to_string().to_lowercase().parse(), Ok(letter));
        }
        assert!("d".parse::<Letter>().is_err());
    }
}
