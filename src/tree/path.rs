//! Paths inside an image: relative, normal, never `..`, and bytes rather than text.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// The longest path that we accept, in bytes; Linux's `PATH_MAX` is 4,096 with the final NUL.
pub const MAX_PATH: usize = 4095;

/// A path below the root of an image, such as `usr/bin/env`; the root itself is empty.
///
/// Its components are joined by single slashes; none is empty, `.` or `..`, and none holds a NUL.
/// Names need not be UTF-8. Paths are ordered component by component, so a directory comes right
/// before everything in it (`a`, `a/b`, `a-b`; bytewise `a-b` would stand between).
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct LayerPath(Arc<[u8]>);

/// Why bytes are no [`LayerPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A component is `..`.
    #[error("path {0:?} climbs with \"..\"")]
    Climbs(String),
    /// A byte is NUL.
    #[error("path {0:?} holds a NUL byte")]
    Nul(String),
    /// The path, or one name in it, is longer than Linux allows.
    #[error("path {0:?}… is longer than Linux allows (4095 bytes, 255 in one name)")]
    TooLong(String),
}

impl LayerPath {
    /// The root.
    pub fn root() -> LayerPath {
        LayerPath::default()
    }

    /// Reads a path as it stands in a spec or an archive: leading, trailing and doubled slashes
    /// and `.` components mean nothing.
    ///
    /// # Errors
    /// A `..` component is refused, not resolved: what it means depends on symlinks. A NUL byte,
    /// a name over 255 bytes and a path over [`MAX_PATH`] are refused, too.
    pub fn parse(bytes: &[u8]) -> Result<LayerPath, PathError> {
        let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let mut normal = Vec::with_capacity(bytes.len());
        for name in bytes.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => return Err(PathError::Climbs(shown())),
                _ if name.len() > 255 => return Err(PathError::TooLong(shown())),
                _ if name.contains(&0) => return Err(PathError::Nul(shown())),
                _ => {}
            }
            if !normal.is_empty() {
                normal.push(b'/');
            }
            normal.extend_from_slice(name);
        }
        if normal.len() > MAX_PATH {
            return Err(PathError::TooLong(shown()));
        }
        Ok(LayerPath(normal.into()))
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for system calls, relative to the root.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last name; `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        match memchr::memrchr(b'/', &self.0) {
            _ if self.is_root() => None,
            Some(slash) => Some(&self.0[slash + 1..]),
            None => Some(&self.0),
        }
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<LayerPath> {
        match memchr::memrchr(b'/', &self.0) {
            _ if self.is_root() => None,
            Some(slash) => Some(LayerPath(self.0[..slash].into())),
            None => Some(LayerPath::root()),
        }
    }

    /// All directories above this path, the root first; the path itself is not among them.
    pub fn ancestors(&self) -> impl Iterator<Item = LayerPath> + '_ {
        let below_root = memchr::memchr_iter(b'/', &self.0);
        let root = (!self.is_root()).then(LayerPath::root);
        root.into_iter()
            .chain(below_root.map(|slash| LayerPath(self.0[..slash].into())))
    }

    /// The names from the top down; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
    }

    /// The path of `name` in this directory.
    ///
    /// # Errors
    /// The rules of [`LayerPath::parse`]; `name` may itself be a relative path.
    pub fn join(&self, name: &[u8]) -> Result<LayerPath, PathError> {
        let is_plain = !matches!(name, b"" | b"." | b"..")
            && name.len() <= 255
            && self.0.len() + 1 + name.len() <= MAX_PATH
            && memchr::memchr2(b'/', 0, name).is_none();
        if is_plain {
            let slash: &[u8] = if self.is_root() { b"" } else { b"/" };
            return Ok(LayerPath([&self.0, slash, name].concat().into()));
        }
        LayerPath::parse(&[&self.0, b"/".as_slice(), name].concat())
    }

    /// The path of `below` under this directory. Both are normal already, so only the length
    /// could be refused; it is checked where paths become layers.
    #[must_use]
    pub fn join_path(&self, below: &LayerPath) -> LayerPath {
        if self.is_root() {
            return below.clone();
        }
        if below.is_root() {
            return self.clone();
        }
        let mut joined = Vec::with_capacity(self.0.len() + 1 + below.0.len());
        joined.extend_from_slice(&self.0);
        joined.push(b'/');
        joined.extend_from_slice(&below.0);
        LayerPath(joined.into())
    }

    /// What is left of this path below `directory`: the root if both are the same, `None` if this
    /// path is not below it.
    pub fn strip_prefix(&self, directory: &LayerPath) -> Option<LayerPath> {
        if directory.is_root() {
            return Some(self.clone());
        }
        match self.0.strip_prefix(directory.as_bytes())? {
            [] => Some(LayerPath::root()),
            [b'/', below @ ..] => Some(LayerPath(below.into())),
            _ => None,
        }
    }

    /// This path with `to` in the place of `from`; `None` if it is not `from` or below it.
    pub fn moved(&self, from: &LayerPath, to: &LayerPath) -> Option<LayerPath> {
        let below = match self.0.strip_prefix(from.as_bytes())? {
            [b'/', below @ ..] => below,
            below if below.is_empty() || from.is_root() => below,
            _ => return None,
        };
        let slash: &[u8] = match to.is_root() || below.is_empty() {
            true => b"",
            false => b"/",
        };
        Some(LayerPath([&to.0, slash, below].concat().into()))
    }

    /// Whether this path is `directory` with one name more.
    pub fn is_directly_in(&self, directory: &LayerPath) -> bool {
        match memchr::memrchr(b'/', &self.0) {
            Some(slash) => self.0[..slash] == *directory.0,
            None => directory.is_root() && !self.is_root(),
        }
    }

    /// Whether this path is `directory` or below it.
    pub fn starts_with(&self, directory: &LayerPath) -> bool {
        directory.is_root()
            || matches!(
                self.0.strip_prefix(directory.as_bytes()),
                Some([] | [b'/', ..])
            )
    }
}

/// Slashes sort before every other byte, which makes the order one of components.
impl Ord for LayerPath {
    fn cmp(&self, other: &LayerPath) -> Ordering {
        compare(&self.0, &other.0)
    }
}

fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match first_difference(left, right) {
        Some(at) => rank(left[at]).cmp(&rank(right[at])),
        None => left.len().cmp(&right.len()),
    }
}

/// Where two paths first differ, as far as both go. Neighbours in a tree share long fronts, and
/// trees compare paths more than they do anything else, so eight bytes are looked at in one go.
fn first_difference(mut left: &[u8], mut right: &[u8]) -> Option<usize> {
    let mut same = 0;
    while let (Some((one, after_one)), Some((other, after_other))) =
        (left.split_first_chunk(), right.split_first_chunk())
    {
        let differing = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if differing != 0 {
            return Some(same + differing.trailing_zeros() as usize / 8);
        }
        (left, right, same) = (after_one, after_other, same + size_of::<u64>());
    }
    let mut rest = left.iter().zip(right);
    rest.position(|(left, right)| left != right)
        .map(|at| same + at)
}

impl PartialOrd for LayerPath {
    fn partial_cmp(&self, other: &LayerPath) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As people read it: absolute, with what is not UTF-8 or not printable escaped.
impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/")?;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    c if c.is_control() => write!(f, "{}", c.escape_default())?,
                    c => write!(f, "{c}")?,
                }
            }
            chunk
                .invalid()
                .iter()
                .try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> LayerPath {
        LayerPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn parse_normalises() {
        for (text, normal) in [
            ("", ""),
            ("/", ""),
            (".", ""),
            ("./a//b/", "a/b"),
            ("/a/./b", "a/b"),
            ("...", "..."),
        ] {
            assert_eq!(path(text).as_bytes(), normal.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn parse_refuses_what_could_escape() {
        for text in ["..", "a/../b", "/..", "a/.."] {
            assert!(
                matches!(LayerPath::parse(text.as_bytes()), Err(PathError::Climbs(_))),
                "{text}"
            );
        }
        assert!(matches!(LayerPath::parse(b"a\0b"), Err(PathError::Nul(_))));
        assert!(matches!(
            LayerPath::parse(&[b'a'; 256]),
            Err(PathError::TooLong(_))
        ));
        assert!(matches!(
            LayerPath::parse(&b"ab/".repeat(2000)),
            Err(PathError::TooLong(_))
        ));
    }

    #[test]
    fn a_directory_comes_right_before_its_contents() {
        let mut paths = [
            path("a-b"),
            path("a/b"),
            path("a"),
            path("a/b/c"),
            path("a/b-c"),
            path(""),
        ];
        paths.sort();
        let shown: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["/", "/a", "/a/b", "/a/b/c", "/a/b-c", "/a-b"]);
    }

    #[test]
    fn parts() {
        let deep = path("a/b/c");
        assert_eq!(deep.name(), Some(&b"c"[..]));
        assert_eq!(deep.parent(), Some(path("a/b")));
        assert_eq!(
            deep.ancestors().collect::<Vec<_>>(),
            [path(""), path("a"), path("a/b")]
        );
        assert_eq!(deep.strip_prefix(&path("a")), Some(path("b/c")));
        assert_eq!(deep.strip_prefix(&deep), Some(LayerPath::root()));
        assert_eq!(path("ab").strip_prefix(&path("a")), None);
        assert_eq!(LayerPath::root().name(), None);
        assert_eq!(LayerPath::root().ancestors().count(), 0);
        assert_eq!(path("a").parent(), Some(LayerPath::root()));
        assert!(deep.is_directly_in(&path("a/b")) && path("a").is_directly_in(&path("")));
        assert!(!deep.is_directly_in(&path("a")) && !path("").is_directly_in(&path("")));
        assert!(deep.starts_with(&LayerPath::root()) && !path("ab").starts_with(&path("a")));
    }

    #[test]
    fn display_escapes_what_a_terminal_must_not_see() {
        let nasty = LayerPath::parse(b"a\x1b[31m/\xff\\n").unwrap();
        assert_eq!(nasty.to_string(), "/a\\u{1b}[31m/\\xff\\\\n");
    }

    proptest! {
        #[test]
        fn order_is_that_of_component_lists(a in "(abcdef/)?[ab/.-]{0,8}", b in "(abcdef/)?[ab/.-]{0,8}") {
            if let (Ok(a), Ok(b)) = (LayerPath::parse(a.as_bytes()), LayerPath::parse(b.as_bytes())) {
                let list = |path: &LayerPath| path.components().map(<[u8]>::to_vec).collect::<Vec<_>>();
                prop_assert_eq!(a.cmp(&b), list(&a).cmp(&list(&b)));
                prop_assert_eq!(a.join_path(&b), a.join(b.as_bytes()).unwrap());
                prop_assert_eq!(a.moved(&b, &a), a.strip_prefix(&b).map(|below| a.join_path(&below)));
                prop_assert_eq!(a.join_path(&b).moved(&a, &b), Some(b.join_path(&b)));
                prop_assert_eq!(a.join_path(&b).strip_prefix(&a), Some(b));
            }
        }
    }
}
