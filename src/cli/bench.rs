//! `boxwright bench`: how well a spec caches, measured.
//!
//! What the build reads is copied to a scratch folder and changed there; every build is a process
//! of its own, with a store of its own, so that what is measured is what a user waits for.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxwright::build::Mirror;
use boxwright::explain::{BenchLine, BenchReport, LayerShare, Scenario, Spread};

use crate::cli::args::BenchArgs;
use crate::cli::bench::measure::Run;
use crate::cli::bench::tools::Tool;
use crate::cli::corridor;
use crate::cli::exit::{Blame, Failure};
use crate::cli::report;
use crate::cli::settings::{Environment, scratch_folder};
use crate::cli::table::json_text;
use crate::cli::terminal::Terminal;

mod measure;
mod tools;

/// Times younger than this are not trusted by the file index; a user's files are older than that.
const SETTLING: Duration = Duration::from_millis(2_100);

/// Measures and reports.
pub(crate) fn run(
    args: &BenchArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let scratch = scratch_folder(args.scratch.as_deref())?;
    let request = environment.bench_request(args, &scratch.path().join("plan"))?;
    if let Some(file) = &args.html {
        corridor::may_be_written(&[file], &request)?;
    }
    terminal.say("Copying what the build reads; your files stay as they are.\n");
    let mirror = corridor::mirror(&request, &scratch.path().join("files"))?;
    let program = std::env::current_exe();
    let program = program.map_err(|error| Failure::system("find this program", &error))?;
    let own = scratch.path().join("boxwright");
    let mut tools = vec![Tool::boxwright(program, &mirror, arguments(args), own)];
    let mut skipped = Vec::new();
    for peer in &args.against {
        match Tool::peer(*peer, &mirror, scratch.path().join(peer.to_string())) {
            Ok(tool) => tools.push(tool),
            Err(reason) => skipped.push(reason),
        }
    }
    std::thread::sleep(SETTLING);
    let mut bench = Bench {
        runs: args.runs.get(),
        edits: Edits::of(&mirror),
        root: scratch.path().join("files"),
        lines: Vec::new(),
        image_bytes: 0,
        terminal,
    };
    for tool in &tools {
        bench.tool(tool, &mut skipped)?;
    }
    let found = BenchReport {
        spec: request.spec_file.display().to_string(),
        files: mirror.files,
        bytes: mirror.bytes,
        image_bytes: bench.image_bytes,
        runs: bench.runs,
        lines: bench.lines,
        skipped,
    };
    if let Some(file) = &args.html {
        let page = boxwright::explain::bench::html(&found);
        fs::write(file, page)
            .map_err(|error| Failure::system(format!("write {}", file.display()), &error))?;
    }
    match args.json {
        true => terminal.print(&json_text(&found)),
        false => terminal.print(&report::bench(&found, terminal.width())),
    }
}

/// What of the command line is the build's own.
fn arguments(args: &BenchArgs) -> Vec<String> {
    let target = args.target.iter().map(|name| format!("--target={name}"));
    let profile = args.profile.iter().map(|name| format!("--profile={name}"));
    let given = args.args.iter().map(|one| match &one.value {
        Some(value) => format!("--arg={}={value}", one.name),
        None => format!("--arg={}", one.name),
    });
    let compression = args.compression.iter();
    let compression = compression.map(|one| format!("--compression={one}"));
    target
        .chain(profile)
        .chain(given)
        .chain(compression)
        .collect()
}

/// The files that are changed.
struct Edits {
    small: Option<PathBuf>,
    largest: Option<PathBuf>,
    dependencies: Option<PathBuf>,
}

/// Files that say what others are needed.
const DEPENDENCY_FILES: [&str; 8] = [
    "package-lock.json",
    "package.json",
    "requirements.txt",
    "pyproject.toml",
    "Cargo.lock",
    "go.sum",
    "Gemfile.lock",
    "pom.xml",
];

impl Edits {
    fn of(mirror: &Mirror) -> Edits {
        let choices = &mirror.choices;
        let small: Vec<&PathBuf> = choices
            .iter()
            .filter(|(_, size)| (1..=16 << 10).contains(size))
            .map(|(path, _)| path)
            .collect();
        let largest = choices.iter().max_by_key(|(_, size)| *size);
        // The one nearest to a root is the project's own.
        let depth = |path: &Path| path.components().count();
        let dependencies = DEPENDENCY_FILES.iter().find_map(|name| {
            let named = choices
                .iter()
                .map(|(path, _)| path)
                .filter(|path| path.file_name().is_some_and(|found| found == *name));
            named.min_by_key(|path| depth(path))
        });
        Edits {
            small: small.get(small.len() / 2).map(|path| (*path).clone()),
            largest: largest.map(|(path, _)| path.clone()),
            dependencies: dependencies.cloned(),
        }
    }

    fn file(&self, scenario: Scenario) -> Option<&Path> {
        match scenario {
            Scenario::Cold | Scenario::Unchanged => None,
            Scenario::SmallFile => self.small.as_deref(),
            Scenario::LargestFile => self.largest.as_deref(),
            Scenario::Dependencies => self.dependencies.as_deref(),
        }
    }
}

struct Bench<'a> {
    runs: usize,
    edits: Edits,
    /// Where the copy of the files is.
    root: PathBuf,
    lines: Vec<BenchLine>,
    image_bytes: u64,
    terminal: &'a Terminal,
}

impl Bench<'_> {
    fn tool(&mut self, tool: &Tool, skipped: &mut Vec<String>) -> Result<(), Failure> {
        for scenario in Scenario::ALL {
            if scenario != Scenario::Cold && !tool.has_cache() {
                let name = &tool.name;
                skipped.push(format!(
                    "{name}: it keeps no cache, so every build is a cold one"
                ));
                return Ok(());
            }
            let changes = !matches!(scenario, Scenario::Cold | Scenario::Unchanged);
            if changes && self.edits.file(scenario).is_none() {
                skipped.push(format!(
                    "{}: {scenario}: the build reads no such file",
                    tool.name
                ));
                continue;
            }
            self.terminal.say(&format!("{}: {scenario} …\n", tool.name));
            match self.scenario(tool, scenario) {
                Err(failure) if tool.is_peer() => {
                    // That another tool fails here says nothing about this one.
                    self.terminal.say(&failure.render(self.terminal.width()));
                    skipped.push(format!("{}: {scenario}: it failed", tool.name));
                    return Ok(());
                }
                result => result?,
            }
        }
        Ok(())
    }

    fn scenario(&mut self, tool: &Tool, scenario: Scenario) -> Result<(), Failure> {
        if scenario == Scenario::Unchanged {
            // The first build after others may still have something to write down.
            tool.build()?;
        }
        let mut runs = Vec::new();
        for round in 0..self.runs {
            if scenario == Scenario::Cold {
                tool.forget()?;
            }
            self.change(scenario, round)?;
            runs.push(tool.build()?);
        }
        let changed = self.edits.file(scenario);
        let changed = changed.map(|file| tools::below(file, &self.root).display().to_string());
        let line = self.line(tool, scenario, changed, &runs)?;
        self.lines.push(line);
        Ok(())
    }

    /// Changes the file of the scenario, each time to something new.
    fn change(&self, scenario: Scenario, round: usize) -> Result<(), Failure> {
        let Some(path) = self.edits.file(scenario) else {
            return Ok(());
        };
        let changed = OpenOptions::new().read(true).write(true).open(path);
        let changed = changed.and_then(|mut file| {
            let size = file.metadata()?.len();
            if scenario != Scenario::LargestFile {
                file.seek(SeekFrom::End(0))?;
                return writeln!(file, " ");
            }
            let mut byte = [0];
            file.read_exact_at(&mut byte, size / 2)?;
            let other = byte[0].wrapping_add(1 + round as u8);
            file.write_all_at(&[other], size / 2)
        });
        changed.map_err(|error| Failure::system(format!("change {}", path.display()), &error))
    }

    fn line(
        &mut self,
        tool: &Tool,
        scenario: Scenario,
        changed: Option<String>,
        runs: &[Run],
    ) -> Result<BenchLine, Failure> {
        let spread = |what: fn(&Run) -> Duration| {
            Spread::of(runs.iter().map(what).collect())
                .ok_or_else(|| Failure::new(Blame::Bug, "nothing was measured"))
        };
        let last = runs.last().map(|run| run.printed.as_slice());
        let layers = self.layers(last.unwrap_or_default());
        Ok(BenchLine {
            tool: tool.name.clone(),
            scenario,
            changed,
            wall: spread(|run| run.wall)?,
            cpu: spread(|run| run.cpu)?,
            peak_memory: runs.iter().filter_map(|run| run.peak).max(),
            layers,
        })
    }

    /// What a build of ours printed of its layers; nothing for other tools.
    fn layers(&mut self, printed: &[u8]) -> Vec<LayerShare> {
        let Ok(report) = serde_json::from_slice::<serde_json::Value>(printed) else {
            return Vec::new();
        };
        let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
        let layers = report["layers"].as_array().map(Vec::as_slice);
        let layers = layers.unwrap_or_default();
        self.image_bytes = layers.iter().map(|layer| number(&layer["size"])).sum();
        layers
            .iter()
            .map(|layer| LayerShare {
                title: layer["title"].as_str().unwrap_or_default().to_owned(),
                bytes: number(&layer["uncompressed"]),
                compressed: number(&layer["work"]["bytes_compressed"]),
                frames: number(&layer["work"]["frames"]) as usize,
                frames_reused: number(&layer["work"]["frames_reused"]) as usize,
            })
            .collect()
    }
}
