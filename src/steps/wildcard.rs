//! Wildcards of sources and of paths to remove: Go's `filepath.Match`, name by name.

use crate::tree::{Entry, Follow, LayerPath, Tree};

/// Whether a name has a wildcard in it. A backslash counts, for it must be taken off.
pub(crate) fn is_pattern(name: &[u8]) -> bool {
    name.iter().any(|byte| b"*?[\\".contains(byte))
}

/// Whether `pattern` matches the whole of `name`. A malformed pattern matches nothing.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // Where to go on if what follows the last star does not fit: one more byte for the star.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match pattern.split_first() {
            Some((b'*', rest)) => {
                retry = Some((rest, name));
                pattern = rest;
                continue;
            }
            Some(_) => {
                if let Some((after_pattern, after_name)) = one(pattern, name) {
                    (pattern, name) = (after_pattern, after_name);
                    continue;
                }
            }
            None if name.is_empty() => return true,
            None => {}
        }
        match retry {
            Some((rest, from)) if !from.is_empty() => {
                let from = &from[1..];
                retry = Some((rest, from));
                (pattern, name) = (rest, from);
            }
            _ => return false,
        }
    }
}

/// Matches one element of the pattern that is no star; what is left of both.
fn one<'p, 'n>(pattern: &'p [u8], name: &'n [u8]) -> Option<(&'p [u8], &'n [u8])> {
    let (first, length) = character(name)?;
    let after_name = &name[length..];
    match pattern {
        [b'?', rest @ ..] => Some((rest, after_name)),
        [b'[', rest @ ..] => class(rest, first).map(|rest| (rest, after_name)),
        [b'\\', escaped, rest @ ..] => (name[0] == *escaped).then_some((rest, &name[1..])),
        [b'\\'] | [] => None,
        [byte, rest @ ..] => (name[0] == *byte).then_some((rest, &name[1..])),
    }
}

/// What is left of the pattern after a class that the character is in.
fn class(mut pattern: &[u8], found: char) -> Option<&[u8]> {
    let is_negated = pattern.first() == Some(&b'^');
    pattern = &pattern[usize::from(is_negated)..];
    let mut is_in = false;
    let mut is_first = true;
    loop {
        if pattern.first() == Some(&b']') && !is_first {
            return (is_in != is_negated).then_some(&pattern[1..]);
        }
        is_first = false;
        let (low, rest) = class_character(pattern)?;
        let (high, rest) = match rest {
            [b'-', after @ ..] => class_character(after)?,
            _ => (low, rest),
        };
        is_in |= (low..=high).contains(&found);
        pattern = rest;
    }
}

fn class_character(pattern: &[u8]) -> Option<(char, &[u8])> {
    // Go wants these two escaped.
    if matches!(pattern, [b']' | b'-', ..]) {
        return None;
    }
    let pattern = pattern.strip_prefix(b"\\").unwrap_or(pattern);
    let (found, length) = character(pattern)?;
    Some((found, &pattern[length..]))
}

/// The first character; a byte that is not UTF-8 counts as one that nothing else equals.
fn character(bytes: &[u8]) -> Option<(char, usize)> {
    let chunk = bytes.utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(character) => Some((character, character.len_utf8())),
        None => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

/// A path of a tree that a pattern has found: as it is named, and where it really is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The names that were walked.
    pub(crate) named: LayerPath,
    /// Where they lead: links in the directories on the way are followed.
    pub(crate) real: LayerPath,
}

/// All paths of `tree` that the names of a pattern lead to, in order. `**` as a whole name stands
/// for any number of directories.
///
/// Links in the directories before the first wildcard are followed, and none from there on, as
/// with BuildKit: so there are never more paths than the tree has entries. One in the last place
/// is not followed either.
pub(crate) fn find(tree: &Tree, pattern: &[u8]) -> Vec<Found> {
    let mut found = vec![Found {
        named: LayerPath::root(),
        real: LayerPath::root(),
    }];
    let mut follow = Follow::Last;
    for name in names(pattern) {
        found = found
            .iter()
            .filter_map(|found| found.entered(tree, follow))
            .flat_map(|directory| directory.children(tree, name))
            .collect();
        found.sort_by(|one, two| one.named.cmp(&two.named));
        found.dedup();
        if is_pattern(name) {
            follow = Follow::Parents;
        }
    }
    found
}

/// The names of a pattern. `..` takes back the name before it, as it is written: whether that name
/// exists or is a link makes no difference, as with BuildKit.
fn names(pattern: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    for name in pattern.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            _ => names.push(name),
        }
    }
    names
}

impl Found {
    /// The directory that this path is, or leads to.
    fn entered(&self, tree: &Tree, follow: Follow) -> Option<Found> {
        let real = tree.resolve(&LayerPath::root(), self.real.as_bytes(), follow);
        let real = real.ok()?.path;
        let is_directory = tree.entry(&real).is_some_and(Entry::is_directory);
        is_directory.then(|| Found {
            named: self.named.clone(),
            real,
        })
    }

    /// What a name, or all that match it, stand for in this directory.
    fn children(&self, tree: &Tree, name: &[u8]) -> Vec<Found> {
        let child = |name: &[u8]| {
            Some(Found {
                named: self.named.join(name).ok()?,
                real: self.real.join(name).ok()?,
            })
        };
        if name == b"**" {
            return self.all_below(tree);
        }
        if !is_pattern(name) {
            let exists = |found: &Found| tree.entry(&found.real).is_some();
            return child(name).filter(exists).into_iter().collect();
        }
        tree.children(&self.real)
            .filter_map(|(path, _)| path.name())
            .filter(|found| matches(name, found))
            .filter_map(child)
            .collect()
    }

    /// The directory itself and all directories below it.
    fn all_below(&self, tree: &Tree) -> Vec<Found> {
        let named = |path: &LayerPath| {
            let below = path.strip_prefix(&self.real).unwrap_or_default();
            self.named.join_path(&below)
        };
        tree.below(&self.real)
            .filter(|(_, entry)| entry.is_directory())
            .map(|(path, _)| Found {
                named: named(path),
                real: path.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_match_as_in_go() {
        for (pattern, name, expected) in [
            ("*", "abc", true),
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*.ts", "x.d.ts", true),
            ("?", "é", true),
            ("?", "ab", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "éx", true),
            ("[]a]", "]", false),
            ("[\\]a]", "]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[", "[", false),
            ("a\\", "a\\", false),
            ("*a*b*c", "xaybzc", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn paths_are_found_in_order_and_over_links() {
        let mut tree = Tree::new();
        let path = |text: &str| LayerPath::parse(text.as_bytes()).unwrap();
        for (text, entry) in [
            ("d", Entry::directory(0o755)),
            ("d/b.ts", Entry::file("", 0o644)),
            ("d/a.ts", Entry::file("", 0o644)),
            ("d/e", Entry::directory(0o755)),
            ("d/e/a.ts", Entry::file("", 0o644)),
            ("l", Entry::symlink(b"d")),
        ] {
            tree.insert(path(text), entry);
        }
        let found = |pattern: &str| {
            find(&tree, pattern.as_bytes())
                .iter()
                .map(|found| format!("{} {}", found.named, found.real))
                .collect::<Vec<_>>()
        };
        assert_eq!(found("d/*.ts"), ["/d/a.ts /d/a.ts", "/d/b.ts /d/b.ts"]);
        assert_eq!(found("l/a.ts"), ["/l/a.ts /d/a.ts"]);
        assert_eq!(found("l"), ["/l /l"]);
        assert_eq!(found("l/*.ts"), ["/l/a.ts /d/a.ts", "/l/b.ts /d/b.ts"]);
        assert_eq!(
            found("l/**/a.ts"),
            ["/l/a.ts /d/a.ts", "/l/e/a.ts /d/e/a.ts"]
        );
        // As with BuildKit, behind a wildcard no link is followed.
        assert_eq!(found("?/a.ts"), ["/d/a.ts /d/a.ts"]);
        assert_eq!(found("**/**/e"), ["/d/e /d/e"]);
        assert_eq!(found("**/a.ts"), ["/d/a.ts /d/a.ts", "/d/e/a.ts /d/e/a.ts"]);
        assert_eq!(found("."), ["/ /"]);
        assert_eq!(found("d/e/../b.ts"), ["/d/b.ts /d/b.ts"]);
        assert_eq!(found("none/../d/b.ts"), ["/d/b.ts /d/b.ts"]);
        assert_eq!(found("l/e/../../d/b.ts"), ["/d/b.ts /d/b.ts"]);
        assert_eq!(found("d/nothing"), [] as [&str; 0]);
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_panic_or_hang(pattern in "[ab*?\\[\\]^\\\\\\-é]{0,16}", name in "[abé]{0,16}") {
            let _ = matches(pattern.as_bytes(), name.as_bytes());
        }
    }
}
