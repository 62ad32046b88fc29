//! Symbolic links, resolved inside a tree as a chroot would: nothing leads out of the root.

use crate::tree::entry::Node;
use crate::tree::merged::{Tree, TreeError};
use crate::tree::path::LayerPath;

/// Whether a symbolic link in the last place of a path is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Only links in the directories that lead to it.
    Parents,
    /// Also the last one.
    Last,
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The real path. From the first name that does not exist on, it is as it was written.
    pub path: LayerPath,
    /// Whether something stands there.
    pub exists: bool,
}

/// Linux follows this many links in one path.
const MAX_LINKS: usize = 40;

impl Tree {
    /// Follows `text` from `directory` on; an absolute path starts at the root. `..` means the
    /// real parent, and the parent of the root is the root. Names that do not exist are kept, so
    /// that what is to be created can be resolved, too.
    ///
    /// # Errors
    /// Links in circles, a file in the place of a directory, and names that cannot be.
    pub fn resolve(
        &self,
        directory: &LayerPath,
        text: &[u8],
        follow: Follow,
    ) -> Result<Resolved, TreeError> {
        let mut real = if text.starts_with(b"/") {
            LayerPath::root()
        } else {
            directory.clone()
        };
        // The names still to walk, the next one last.
        let mut names = Vec::new();
        push_names(&mut names, text);
        let mut links = 0;
        while let Some(name) = names.pop() {
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    real = real.parent().unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let next = real
                .join(&name)
                .map_err(|_| TreeError::BadTarget(real.clone()))?;
            let is_last = names.iter().all(|name| name == b".");
            match self.entry(&next).map(|entry| &entry.node) {
                Some(Node::Symlink(target)) if !is_last || follow == Follow::Last => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(TreeError::Loop(next));
                    }
                    if target.starts_with(b"/") {
                        real = LayerPath::root();
                    }
                    push_names(&mut names, target);
                }
                Some(Node::Directory | Node::Symlink(_)) | None => real = next,
                Some(_) if is_last => real = next,
                Some(_) => return Err(TreeError::NotADirectory(next)),
            }
        }
        let exists = self.entry(&real).is_some();
        Ok(Resolved { path: real, exists })
    }
}

fn push_names(names: &mut Vec<Vec<u8>>, text: &[u8]) {
    let words = text
        .rsplit(|&byte| byte == b'/')
        .filter(|name| !name.is_empty());
    names.extend(words.map(<[u8]>::to_vec));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::Entry;
    use proptest::prelude::*;

    fn path(text: &str) -> LayerPath {
        LayerPath::parse(text.as_bytes()).unwrap()
    }

    fn sample() -> Tree {
        let mut tree = Tree::new();
        for (text, entry) in [
            ("usr", Entry::directory(0o755)),
            ("usr/bin", Entry::directory(0o755)),
            ("usr/bin/sh", Entry::file("x", 0o755)),
            ("bin", Entry::symlink(b"usr/bin")),
            ("abs", Entry::symlink(b"/usr/../usr/./bin")),
            ("out", Entry::symlink(b"../../../usr")),
            ("self", Entry::symlink(b"self")),
            ("a", Entry::symlink(b"b")),
            ("b", Entry::symlink(b"a")),
            ("dangling", Entry::symlink(b"no/where")),
        ] {
            tree.insert(path(text), entry);
        }
        tree
    }

    #[test]
    fn links_lead_where_a_chroot_would() {
        let tree = sample();
        for (text, real, exists) in [
            ("/bin/sh", "usr/bin/sh", true),
            ("abs/sh", "usr/bin/sh", true),
            ("out/bin", "usr/bin", true),
            ("bin/../bin", "usr/bin", true),
            ("../../usr", "usr", true),
            ("bin/new/file", "usr/bin/new/file", false),
            ("dangling", "no/where", false),
            ("dangling/x", "no/where/x", false),
            ("", "", true),
        ] {
            let resolved = tree
                .resolve(&LayerPath::root(), text.as_bytes(), Follow::Last)
                .unwrap();
            assert_eq!(
                (resolved.path, resolved.exists),
                (path(real), exists),
                "{text}"
            );
        }
        let unfollowed = tree
            .resolve(&LayerPath::root(), b"bin", Follow::Parents)
            .unwrap();
        assert_eq!(unfollowed.path, path("bin"));
        let relative = tree.resolve(&path("usr"), b"bin", Follow::Last).unwrap();
        assert_eq!(relative.path, path("usr/bin"));
    }

    #[test]
    fn circles_and_files_on_the_way_are_errors() {
        let tree = sample();
        let resolve = |text: &str| tree.resolve(&LayerPath::root(), text.as_bytes(), Follow::Last);
        assert!(matches!(resolve("self"), Err(TreeError::Loop(_))));
        assert!(matches!(resolve("a/x"), Err(TreeError::Loop(_))));
        assert_eq!(
            resolve("bin/sh/x"),
            Err(TreeError::NotADirectory(path("usr/bin/sh")))
        );
    }

    proptest! {
        #[test]
        fn nothing_panics_or_hangs(text in "[./absehutl]{0,30}") {
            let _ = sample().resolve(&LayerPath::root(), text.as_bytes(), Follow::Last);
        }
    }
}
