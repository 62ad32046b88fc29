//! Every file of `testdata/specs/invalid` gives the diagnostics in its `.err` file, and every file
//! of `testdata/specs/valid` gives none.
//!
//! A diagnostic in a golden shows what the porch will underline: `at` is the text that its span
//! covers, first line only. A spec that begins with `# --profile NAME` is read with that profile.
//! `BOXWRIGHT_BLESS=1 cargo test --test it spec_errors` writes the goldens.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boxwright::oci::Platform;
use boxwright::spec::{
    BuildSpec, Diagnostics, FoundSpec, ParseInputs, SourceText, SpecFiles, ValueError, parse,
};

#[test]
fn valid_specs_are_accepted() {
    for path in specs("valid") {
        if let Err(diagnostics) = read(&path) {
            panic!("{diagnostics}");
        }
    }
}

#[test]
fn invalid_specs_say_what_is_wrong_and_what_to_write() {
    let bless = std::env::var_os("BOXWRIGHT_BLESS").is_some();
    let mut wrong = Vec::new();
    let paths = specs("invalid");
    assert!(paths.len() >= 40, "the corpus has shrunk");
    for path in paths {
        let diagnostics = read(&path).expect_err(&path.display().to_string());
        let shown = golden(&diagnostics);
        let golden = path.with_extension("err");
        if bless {
            fs::write(&golden, &shown).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != shown {
            wrong.push(format!("{}:\n{shown}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_golden_is_forgotten() {
    for entry in fs::read_dir(folder("invalid")).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.with_extension("yaml").exists(), "{}", path.display());
    }
}

#[test]
fn every_error_has_a_remedy() {
    for path in specs("invalid") {
        for diagnostic in read(&path).unwrap_err() {
            assert!(!diagnostic.help.is_empty(), "{diagnostic}");
            assert!(!diagnostic.message.ends_with('.'), "{diagnostic}");
        }
    }
}

fn read(path: &Path) -> Result<BuildSpec, Diagnostics> {
    let name = path.file_name().unwrap().to_string_lossy();
    let source = Arc::new(SourceText::from_bytes(name, fs::read(path).unwrap())?);
    let platform: Platform = "linux/amd64".parse().unwrap();
    let first = source.text.lines().next().unwrap_or_default();
    let inputs = ParseInputs {
        arg_overrides: &[],
        profile: first.strip_prefix("# --profile "),
        platform: &platform,
        files: &Beside(path.parent().unwrap()),
    };
    parse(&source, &inputs)
}

/// Specs that those of a folder extend.
#[derive(Debug)]
struct Beside<'a>(&'a Path);

impl SpecFiles for Beside<'_> {
    fn find(&self, folder: &Path, path: &Path) -> Result<FoundSpec, ValueError> {
        let path = folder.join(path);
        let place = self.0.join(&path);
        let name = path.display().to_string();
        let missing = || ValueError::new(format!("there is no spec {name}")).help("write it");
        Ok(FoundSpec {
            bytes: fs::read(&place).map_err(|_| missing())?.into(),
            identity: place.canonicalize().map_err(|_| missing())?,
            name: name.clone(),
            path,
        })
    }

    fn own_identity(&self) -> PathBuf {
        let built = self.0.join("extends-circle.yaml");
        built.canonicalize().unwrap_or_default()
    }
}

/// The diagnostics as a golden shows them.
fn golden(diagnostics: &Diagnostics) -> String {
    let mut shown = String::new();
    for diagnostic in diagnostics {
        writeln!(shown, "{diagnostic}").unwrap();
        let at = diagnostic.span.map(|span| diagnostic.source.at(span));
        if let Some(line) = at.and_then(|at| at.lines().next()) {
            writeln!(shown, "  at: {line}").unwrap();
        }
    }
    shown
}

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/specs")
        .join(kind)
}

fn specs(kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(kind)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    paths.sort();
    paths
}
