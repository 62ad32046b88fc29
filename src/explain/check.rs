//! Check: what has no business in an image, and why it may not start.
//!
//! Comes in: the merged tree of an image, its config, who put what where, and a reader for the
//! beginnings of files. Goes out: [`Finding`]s, each with a code that keeps its meaning for ever.
//! Rules only look: nothing is executed, and files are judged by name, mode and first bytes.
//!
//! | code | weight | finds |
//! |---|---|---|
//! | BW001 | error | the container runs as root |
//! | BW002 | error | the final stage is built from a stage that runs commands (specs only) |
//! | BW003 | error | private keys: PEM, OpenSSH, PGP, PuTTY, age, PKCS #12 |
//! | BW004 | error | credentials: npm, pip, netrc, docker, git, clouds, Kubernetes, … |
//! | BW005 | warning | `.env` files |
//! | BW006 | warning | caches of package managers |
//! | BW007 | warning | `.git`, `.hg`, `.svn` |
//! | BW008 | info | compilers, headers, sources |
//! | BW009 | warning | files that everybody may write (not sticky directories, not links) |
//! | BW010 | warning | setuid and setgid programs, file capabilities |
//! | BW011 | error | the entry point does not exist |
//! | BW012 | error | the entry point is not executable by the user |
//! | BW013 | error | its interpreter or loader does not exist, or it is no program |
//! | BW014 | warning | the working directory does not exist |
//! | BW015 | error | the user's or group's name does not exist |
//! | BW016 | info | the user's number has no name |
//! | BW017 | info | the user is a name, which Kubernetes cannot judge |
//! | BW018 | warning | the health check's program does not exist or cannot run |
//! | BW019 | info | a port below 1024 without root |
//! | BW020 | info | nothing to run |
//! | BW021 | error | the entry point is for another processor |
//! | BW022 | info | keys in directories of tests, which packages publish with themselves |

mod code;
mod entry_point;
mod finding;
mod leftovers;
mod modes;
mod program;
mod secrets;
mod user;

#[cfg(test)]
mod tests;

use std::io;

use serde::Serialize;

use crate::explain::check::finding::Findings;
use crate::explain::check::user::Identity;
use crate::explain::error::ExplainError;
use crate::oci::ImageConfig;
use crate::store::Store;
use crate::tree::{Changeset, Content, Entry, Follow, LayerPath, Tree};

pub use crate::explain::check::code::{Allowed, Code, Severity, UnknownCode};
pub use crate::explain::check::finding::{Finding, FoundIn};

/// What is checked.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The merged view of all layers.
    pub tree: &'a Tree,
    /// The config, with what it inherited.
    pub config: &'a ImageConfig,
    /// The layers, lowest first.
    pub layers: &'a [LayerOrigin<'a>],
    /// The stage that the image is built from, if that stage runs commands; only a spec can tell.
    pub build_stage: Option<&'a str>,
}

/// A layer and what made it.
#[derive(Debug, Clone, Copy)]
pub struct LayerOrigin<'a> {
    /// The step, the base's name, or the history line, in one short line.
    pub title: &'a str,
    /// What the layer changes.
    pub changes: &'a Changeset,
}

/// Reads the beginnings of files.
pub trait Contents {
    /// The first `limit` bytes of a file, or all of it if it is shorter.
    ///
    /// # Errors
    /// The content cannot be read.
    fn head(&self, content: &Content, limit: usize) -> io::Result<Vec<u8>>;
}

/// Contents of contexts, and of layers that were unpacked.
impl Contents for Store {
    fn head(&self, content: &Content, limit: usize) -> io::Result<Vec<u8>> {
        let file = self.open_content(content).map_err(io::Error::other)?;
        // A limit that does not fit is no limit.
        let most = u64::try_from(limit).unwrap_or(u64::MAX);
        let length = usize::try_from(file.size().min(most)).unwrap_or(limit);
        let mut head = vec![0; length];
        file.read_exact_at(&mut head, 0).map_err(io::Error::other)?;
        Ok(head)
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The findings, the weightiest first, then by code and path.
    pub findings: Vec<Finding>,
    /// Findings that were passed over because their codes are allowed.
    pub allowed: usize,
}

impl CheckReport {
    /// How many findings weigh so much.
    pub fn count(&self, severity: Severity) -> usize {
        let of = |finding: &&Finding| finding.severity == severity;
        self.findings.iter().filter(of).count()
    }

    /// Whether anything found is an error.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }
}

/// Applies every rule.
///
/// # Errors
/// A content that cannot be read. What a hostile image holds is a finding or nothing, never an
/// error.
pub fn check(
    subject: Subject<'_>,
    contents: &dyn Contents,
    allowed: &Allowed,
) -> Result<CheckReport, ExplainError> {
    let view = View { subject, contents };
    let identity = Identity::of(&view)?;
    let mut findings = Findings::default();
    user::judge(&view, &identity, &mut findings);
    entry_point::judge(&view, &identity, &mut findings)?;
    for (path, entry) in subject.tree.iter() {
        leftovers::judge(&view, path, entry, &mut findings);
        modes::judge(path, entry, &mut findings);
        secrets::judge(&view, path, entry, &mut findings)?;
    }
    let mut report = CheckReport {
        findings: findings.finish(),
        allowed: 0,
    };
    let all = report.findings.len();
    report
        .findings
        .retain(|found| !allowed.contains(found.code));
    report.allowed = all - report.findings.len();
    for finding in &mut report.findings {
        finding.layer = finding.path.as_ref().and_then(|path| view.found_in(path));
    }
    Ok(report)
}

/// What rules look at.
struct View<'a> {
    subject: Subject<'a>,
    contents: &'a dyn Contents,
}

impl View<'_> {
    /// The first bytes of the file at `path`; nothing if no file is there.
    fn head(&self, path: &LayerPath, limit: usize) -> Result<Vec<u8>, ExplainError> {
        let file = self.subject.tree.entry(path).and_then(Entry::as_file);
        match file.map(|file| &file.content) {
            None => Ok(Vec::new()),
            Some(Content::Inline(inline)) => {
                Ok(inline.bytes()[..inline.bytes().len().min(limit)].to_vec())
            }
            Some(content) => {
                self.contents
                    .head(content, limit)
                    .map_err(|source| ExplainError::Content {
                        path: path.clone(),
                        source,
                    })
            }
        }
    }

    /// Where `text` leads from `directory` on, if something stands there.
    fn find(&self, directory: &LayerPath, text: &[u8]) -> Option<(LayerPath, &Entry)> {
        let found = self
            .subject
            .tree
            .resolve(directory, text, Follow::Last)
            .ok()?;
        let entry = self.subject.tree.entry(&found.path)?;
        Some((found.path, entry))
    }

    /// The uppermost layer that says something about `path`, or else about something below it.
    fn found_in(&self, path: &LayerPath) -> Option<FoundIn> {
        let layers = || self.subject.layers.iter().enumerate().rev();
        let (index, layer) = layers()
            .find(|(_, layer)| layer.changes.entry(path).is_some())
            .or_else(|| layers().find(|(_, layer)| layer.changes.below(path).next().is_some()))?;
        Some(FoundIn {
            number: index + 1,
            title: layer.title.to_owned(),
        })
    }
}

/// Number and sizes of the files for which `counts` says so, at and below `path`.
fn measure(tree: &Tree, path: &LayerPath, counts: impl Fn(&LayerPath) -> bool) -> (u64, u64) {
    tree.below(path)
        .filter(|(path, _)| counts(path))
        .filter_map(|(_, entry)| entry.as_file())
        .fold((0, 0), |(files, bytes), file| {
            (files + 1, bytes + file.content.size())
        })
}
