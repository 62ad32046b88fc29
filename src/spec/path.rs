//! The three kinds of paths that a spec has.
//!
//! An [`AbsolutePath`] and an [`ImagePath`] lie in the image; a [`ContextPath`] lies in whatever a
//! step copies from. None of them can climb out with `..`.

use std::fmt;
use std::str::FromStr;

use crate::spec::error::ValueError;

/// A normal absolute path in the image, such as `/app/dist`; the root is `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbsolutePath(String);

/// A path in the image as written: absolute, or relative to the working directory. A slash at the
/// end is kept, because it tells `copy` that a directory is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImagePath(String);

/// A path in a context, stage or image as written, wildcards and a `/./` pivot included. A slash
/// at the front means nothing, and `..` never leads out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextPath(String);

impl AbsolutePath {
    /// The text, with a slash at the front and none at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ImagePath {
    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it begins at the root.
    pub fn is_absolute(&self) -> bool {
        self.0.starts_with('/')
    }

    /// Whether the text says that a directory is meant: `app/`, `.`, `app/.`.
    pub fn names_directory(&self) -> bool {
        matches!(self.0.rsplit('/').next(), Some("" | "."))
    }

    /// The path as seen from `workdir`, without a slash at the end.
    #[must_use]
    pub fn under(&self, workdir: &AbsolutePath) -> AbsolutePath {
        if self.is_absolute() {
            AbsolutePath(normal(&self.0))
        } else {
            AbsolutePath(normal(&format!("{}/{}", workdir.0, self.0)))
        }
    }
}

impl ContextPath {
    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for AbsolutePath {
    fn default() -> AbsolutePath {
        AbsolutePath("/".to_owned())
    }
}

impl FromStr for AbsolutePath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<AbsolutePath, ValueError> {
        check_image_path(text)?;
        if !text.starts_with('/') {
            return Err(ValueError::new(format!("path {text:?} is not absolute"))
                .help(format!("write /{}", text.trim_start_matches("./"))));
        }
        Ok(AbsolutePath(normal(text)))
    }
}

impl FromStr for ImagePath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<ImagePath, ValueError> {
        check_image_path(text)?;
        Ok(ImagePath(text.to_owned()))
    }
}

impl FromStr for ContextPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<ContextPath, ValueError> {
        check_bytes(text)?;
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(ValueError::new("a URL cannot be copied").help(format!(
                "fetch it with {{add: {text}, checksum: sha256:…, to: …}}"
            )));
        }
        let mut depth = 0usize;
        for name in text.split('/') {
            depth = match name {
                "" | "." => depth,
                ".." => depth.checked_sub(1).ok_or_else(|| {
                    ValueError::new(format!("{text:?} leads out of the context with \"..\""))
                        .help("declare the other directory under contexts and copy `from:` it")
                })?,
                _ => depth + 1,
            };
        }
        Ok(ContextPath(text.to_owned()))
    }
}

fn check_image_path(text: &str) -> Result<(), ValueError> {
    check_bytes(text)?;
    if text.split('/').any(|name| name == "..") {
        return Err(ValueError::new(format!("path {text:?} climbs with \"..\""))
            .help("write the path that you mean without `..`"));
    }
    Ok(())
}

/// What no path of Linux can be.
fn check_bytes(text: &str) -> Result<(), ValueError> {
    if text.is_empty() {
        return Err(ValueError::new("the path is empty").help("write `.` for the directory itself"));
    }
    if text.contains('\0') {
        return Err(ValueError::new("the path holds a NUL character").help("remove it"));
    }
    if text.len() > 4095 || text.split('/').any(|name| name.len() > 255) {
        return Err(ValueError::new("the path is longer than Linux allows")
            .help("use at most 4095 bytes, 255 in one name"));
    }
    Ok(())
}

/// Absolute, with the components that mean nothing taken out.
fn normal(text: &str) -> String {
    let names = text.split('/').filter(|name| !matches!(*name, "" | "."));
    let joined: String = names.flat_map(|name| ["/", name]).collect();
    if joined.is_empty() {
        "/".to_owned()
    } else {
        joined
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ContextPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_are_normal() {
        for (text, normal) in [("/", "/"), ("/a//b/./", "/a/b"), ("//", "/")] {
            assert_eq!(text.parse::<AbsolutePath>().unwrap().as_str(), normal);
        }
        for text in ["", "a", "./a", "/a/../b", "/a\0"] {
            assert!(text.parse::<AbsolutePath>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn image_paths_are_seen_from_the_working_directory() {
        let workdir: AbsolutePath = "/app".parse().unwrap();
        for (text, under, directory) in [
            (".", "/app", true),
            ("dist/", "/app/dist", true),
            ("dist", "/app/dist", false),
            ("/etc/./x", "/etc/x", false),
            ("/", "/", true),
        ] {
            let path: ImagePath = text.parse().unwrap();
            assert_eq!(path.under(&workdir).as_str(), under);
            assert_eq!(path.names_directory(), directory, "{text}");
        }
        assert!("../x".parse::<ImagePath>().is_err());
    }

    #[test]
    fn context_paths_stay_inside() {
        for text in [".", "a/../b", "/a", "./a/./b/", "*.json", "a/..", "..."] {
            assert_eq!(text.parse::<ContextPath>().unwrap().as_str(), text);
        }
        for text in ["", "..", "../a", "a/../../b", "/..", "https://x/y"] {
            assert!(text.parse::<ContextPath>().is_err(), "{text:?}");
        }
    }
}
