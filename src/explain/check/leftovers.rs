//! BW006, BW007, BW008: what a build leaves behind and nobody needs at run time.

use crate::explain::check::code::Code;
use crate::explain::check::finding::{Below, Finding, Findings};
use crate::explain::check::{View, measure};
use crate::tree::{Entry, LayerPath, Node};

/// Where package managers keep caches: the names a path ends with, and whose they are. A leading
/// slash ties the names to the root; all others may stand in any home directory.
const CACHES: [(&str, &str); 33] = [
    ("/var/lib/apt/lists", "apt's package lists"),
    ("/var/cache/apt", "apt's cache"),
    ("/var/cache/apk", "apk's cache"),
    ("/var/cache/dnf", "dnf's cache"),
    ("/var/cache/libdnf5", "dnf's cache"),
    ("/var/cache/yum", "yum's cache"),
    ("/var/cache/zypp", "zypper's cache"),
    ("/var/cache/pacman/pkg", "pacman's cache"),
    ("/usr/local/share/.cache", "yarn's cache"),
    (".npm/_cacache", "npm's cache"),
    (".npm/_logs", "npm's logs"),
    (".cache/yarn", "yarn's cache"),
    (".yarn/berry/cache", "yarn's cache"),
    (".cache/pnpm", "pnpm's cache"),
    (".local/share/pnpm/store", "pnpm's store"),
    (".pnpm-store", "pnpm's store"),
    (".cache/node-gyp", "node-gyp's headers"),
    (".bun/install/cache", "bun's cache"),
    (".cache/pip", "pip's cache"),
    (".cache/uv", "uv's cache"),
    (".cache/pypoetry", "poetry's cache"),
    (".cache/go-build", "Go's build cache"),
    ("go/pkg/mod", "Go's module cache"),
    (".cargo/registry", "cargo's registry"),
    (".cargo/git", "cargo's git checkouts"),
    ("/usr/local/cargo/registry", "cargo's registry"),
    (".m2/repository", "Maven's repository"),
    (".gradle/caches", "Gradle's caches"),
    (".ivy2/cache", "ivy's cache"),
    (".nuget/packages", "NuGet's packages"),
    (".composer/cache", "composer's cache"),
    (".cache/composer", "composer's cache"),
    (".bundle/cache", "bundler's cache"),
];

/// Directories of sources and tools for building.
const TOOL_DIRECTORIES: [(&str, &str); 8] = [
    ("/usr/include", "C headers"),
    ("/usr/local/include", "C headers"),
    ("/usr/src", "sources"),
    ("/usr/lib/gcc", "the GNU compilers"),
    ("/usr/libexec/gcc", "the GNU compilers"),
    ("/usr/local/go", "the Go toolchain"),
    ("/usr/local/rustup", "the Rust toolchain"),
    (".rustup/toolchains", "the Rust toolchain"),
];

/// Where programs lie; compilers elsewhere are somebody's data.
const PROGRAM_DIRECTORIES: [&str; 4] = ["usr/bin", "usr/local/bin", "bin", "opt/bin"];

/// Compilers and their like, without version and target (`x86_64-linux-gnu-gcc-12` is `gcc`).
const COMPILERS: [&str; 20] = [
    "gcc", "g++", "cc", "c++", "cpp", "clang", "clang++", "rustc", "cargo", "go", "javac", "ghc",
    "ld", "as", "make", "cmake", "ninja", "zig", "gfortran", "swiftc",
];

/// Applies the rules to one entry.
pub(crate) fn judge(view: &View<'_>, path: &LayerPath, entry: &Entry, findings: &mut Findings) {
    let tree = view.subject.tree;
    if !entry.is_directory() {
        if let Some(tool) = compiler(path, entry) {
            let size = entry.as_file().map_or(0, |file| file.content.size());
            let message = format!("{tool} is a build tool");
            findings.push(
                Finding::at(Code::BuildTools, path, message).sized(1, size),
                Below::Counted,
            );
        }
        return;
    }
    if let Some(whose) = named_in(&CACHES, path) {
        // apt and others keep their directories and a lock file even when they are emptied.
        let counts = |path: &LayerPath| path.name() != Some(b"lock");
        let (files, bytes) = measure(tree, path, counts);
        if bytes > 0 {
            findings.push(
                Finding::at(Code::PackageCache, path, whose.to_owned()).sized(files, bytes),
                Below::Counted,
            );
        }
    }
    if let Some(history) = history(view, path) {
        let (files, bytes) = measure(tree, path, |_| true);
        let message = format!("{history}, with every version of every file");
        findings.push(
            Finding::at(Code::VersionControl, path, message).sized(files, bytes),
            Below::Counted,
        );
    }
    if let Some(what) = named_in(&TOOL_DIRECTORIES, path) {
        let (files, bytes) = measure(tree, path, |_| true);
        if bytes > 0 {
            // Compilers below are counted here: this finding covers them.
            findings.push(
                Finding::at(Code::BuildTools, path, what.to_owned()).sized(files, bytes),
                Below::Counted,
            );
        }
    }
}

/// What `table` says about a path that ends with one of its names.
fn named_in(table: &[(&'static str, &'static str)], path: &LayerPath) -> Option<&'static str> {
    let path = path.as_bytes();
    let matches = |names: &str| match names.strip_prefix('/') {
        Some(names) => path == names.as_bytes(),
        None => ends_with_names(path, names.as_bytes()),
    };
    let found = table.iter().find(|(names, _)| matches(names));
    found.map(|(_, meaning)| *meaning)
}

/// Whether `path` ends with whole `names`.
pub(crate) fn ends_with_names(path: &[u8], names: &[u8]) -> bool {
    path.strip_suffix(names)
        .is_some_and(|before| before.is_empty() || before.ends_with(b"/"))
}

/// Only what has the parts of a repository is one: `.git` may be anybody's name.
fn history(view: &View<'_>, path: &LayerPath) -> Option<&'static str> {
    let (inner, meaning) = match path.name()? {
        b".git" => ("HEAD", "a git repository"),
        b".hg" => ("store", "a Mercurial repository"),
        b".svn" => ("wc.db", "a Subversion checkout"),
        _ => return None,
    };
    let inner = path.join(inner.as_bytes()).ok()?;
    view.subject.tree.entry(&inner).map(|_| meaning)
}

/// The name of the compiler that lies here. Links to one are not counted twice.
fn compiler(path: &LayerPath, entry: &Entry) -> Option<&'static str> {
    if !matches!(entry.node, Node::File(_)) || entry.mode & 0o111 == 0 {
        return None;
    }
    let parent = path.parent()?;
    if !PROGRAM_DIRECTORIES
        .iter()
        .any(|directory| parent.as_bytes() == directory.as_bytes())
    {
        return None;
    }
    let name = std::str::from_utf8(path.name()?).ok()?;
    let is_version = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
    let without_version = match name.rsplit_once('-') {
        Some((before, version)) if is_version(version) => before,
        _ => name,
    };
    let bare = match without_version.rsplit_once('-') {
        Some((target, tool)) if target.contains("-linux-") => tool,
        _ => without_version,
    };
    COMPILERS.into_iter().find(|compiler| *compiler == bare)
}
