//! Measuring builds: cold, warm, and once more under other circumstances.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use boxwright::build::{BuildReport, BuildRequest, Event, Observer, Verification};
use boxwright::explain::{
    Allowed, Blob, BuildFigures, CheckFigures, CheckReport, ContextFigures, Severity,
};
use boxwright::oci::RuntimeConfig;
use boxwright::spec::ImageSource;

use crate::cli::cache;
use crate::cli::corridor;
use crate::cli::exit::Failure;
use crate::cli::progress::Progress;
use crate::cli::settings::ProgressStyle;
use crate::cli::terminal::Terminal;

/// An image that was built and measured.
pub(crate) struct Built {
    pub(crate) figures: BuildFigures,
    pub(crate) archive: PathBuf,
    /// The name that the archive gives it.
    pub(crate) name: String,
    pub(crate) config: RuntimeConfig,
}

/// Whether to build once more, from nothing and under other circumstances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rebuild {
    Wanted,
    LeftOut,
}

/// Builds two or three times and looks into the image.
///
/// # Errors
/// There is no image; why, in words for the report.
pub(crate) fn build(
    request: &BuildRequest,
    rebuild: Rebuild,
    allowed: Allowed,
    terminal: &Terminal,
) -> Result<Built, String> {
    let said = |failure: Failure| {
        let text = failure.render(terminal.width());
        terminal.say(&text);
        gist(&anstream::adapter::strip_str(&text).to_string())
    };
    let observer = Contexts::new(terminal);
    terminal.say(&format!("{}\n", request.spec_file.display()));
    let timed = |what: &str| {
        terminal.say(&format!("  building it {what} …\n"));
        let began = Instant::now();
        let report = corridor::build(request, &observer).map_err(said)?;
        Ok::<(BuildReport, Duration), String>((report, began.elapsed()))
    };
    let (first, cold) = timed("from nothing")?;
    let (second, warm) = timed("again")?;
    let quiet = Progress::new(ProgressStyle::Quiet, terminal);
    let other = match rebuild {
        Rebuild::LeftOut => None,
        Rebuild::Wanted => {
            terminal.say("  building it elsewhere …\n");
            let place = request.store_root.parent().unwrap_or(Path::new(""));
            let other = corridor::verify(request, &place.join("other"), &quiet);
            Some(other.map_err(said)?)
        }
    };
    let check = corridor::check_spec(request, allowed, &quiet).map_err(said)?;
    let ImageSource::OciArchive { file, .. } = &request.outputs[0] else {
        return Err("it was not written to an archive".to_owned());
    };
    let image = ImageSource::OciArchive {
        file: file.clone(),
        reference: None,
    };
    let looked = corridor::inspect(&image, &request.store_root, request.registries.clone(), 0);
    let looked = looked.map_err(said)?;
    Ok(Built {
        figures: BuildFigures {
            manifest: first.manifest,
            warm_manifest: second.manifest,
            other_manifest: other.as_ref().map(|other| other.again),
            differences: other.as_ref().map(differences).unwrap_or_default(),
            cold,
            warm,
            size: looked.size,
            unpacked: looked.uncompressed,
            layers: first
                .layers
                .iter()
                .map(|layer| Blob {
                    digest: layer.digest,
                    size: layer.size,
                })
                .collect(),
            context: observer.figures(),
            check: found(&check),
        },
        archive: file.clone(),
        name: first.names.first().cloned().unwrap_or_default(),
        config: looked.config,
    })
}

/// Removes what the builds left; trees of commands may belong to ids of a namespace, which a plain
/// removal cannot take away.
pub(crate) fn clear(place: &Path) -> Result<(), Failure> {
    for store in [place.join("store"), place.join("other/store")] {
        if store.exists() {
            cache::swept(&store)?;
        }
    }
    fs::remove_dir_all(place).map_err(|error| {
        let doing = format!("remove the scratch folder {}", place.display());
        Failure::system(doing, &error)
    })
}

/// What went wrong and where, without the drawing around it: that was shown already.
fn gist(failure: &str) -> String {
    let lines = failure.lines().map(str::trim);
    let telling = ["error", "caused by", "-->"];
    let lines = lines.filter(|line| telling.iter().any(|word| line.starts_with(word)));
    lines.take(MOST_LINES).collect::<Vec<_>>().join("; ")
}

/// More of a failure is for the terminal.
const MOST_LINES: usize = 4;

fn differences(verification: &Verification) -> Vec<String> {
    let lines = verification.differences.iter();
    lines
        .map(|one| format!("{} in {}: {}", one.path, one.layer, one.what))
        .collect()
}

fn found(report: &CheckReport) -> CheckFigures {
    let errors = report.findings.iter();
    let errors = errors.filter(|finding| finding.severity == Severity::Error);
    CheckFigures {
        errors: errors
            .map(|finding| match &finding.path {
                Some(path) => format!("{}: {path}: {}", finding.code, finding.message),
                None => format!("{}: {}", finding.code, finding.message),
            })
            .collect(),
        warnings: report.count(Severity::Warning),
    }
}

/// Listens for what contexts hold; warnings are shown as ever.
struct Contexts {
    shown: Progress,
    /// The files of each directory that were taken, and their bytes.
    walked: Mutex<BTreeMap<PathBuf, (u64, u64)>>,
}

impl Contexts {
    fn new(terminal: &Terminal) -> Contexts {
        Contexts {
            shown: Progress::new(ProgressStyle::Quiet, terminal),
            walked: Mutex::default(),
        }
    }

    /// A directory that several stages walk counts once, with what the widest of the walks found.
    fn figures(&self) -> ContextFigures {
        let walked = self.walked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = ContextFigures::default();
        for (directory, (files, bytes)) in walked.iter() {
            let (all_files, all_bytes) = everything(directory);
            sum.files += files;
            sum.bytes += bytes;
            sum.all_files += all_files;
            sum.all_bytes += all_bytes;
        }
        sum
    }
}

impl Observer for Contexts {
    fn event(&self, event: Event<'_>) {
        if let Event::ContextWalked {
            directory,
            files,
            bytes,
            ..
        } = event
        {
            let mut walked = self.walked.lock().unwrap_or_else(PoisonError::into_inner);
            let before = walked.entry(directory.to_owned()).or_default();
            *before = (*before).max((files, bytes));
        }
        self.shown.event(event);
    }
}

/// Regular files below a directory with their bytes; links are not followed, and what cannot be
/// read is not counted.
fn everything(directory: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => left.push(entry.path()),
                Ok(found) if found.is_file() => {
                    files += 1;
                    bytes += found.len();
                }
                _ => {}
            }
        }
    }
    (files, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gist_of_a_failure_is_short() {
        let drawn = "error: no user \"x\"\n  --> a.yaml:1:2\n   |\n 1 | user: x\n   = help: y\n\nerror: 1 problem";
        assert_eq!(
            gist(drawn),
            "error: no user \"x\"; --> a.yaml:1:2; error: 1 problem"
        );
        let told = "error: failed to a\n  caused by: b\n  caused by: c\nhint: d\n";
        assert_eq!(gist(told), "error: failed to a; caused by: b; caused by: c");
    }

    #[test]
    fn everything_is_counted_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        fs::write(folder.path().join("a"), "12").unwrap();
        fs::write(folder.path().join("below/b"), "345").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("round")).unwrap();
        assert_eq!(everything(folder.path()), (2, 5));
        assert_eq!(everything(&folder.path().join("missing")), (0, 0));
    }
}
