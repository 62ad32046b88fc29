//! `boxwright doctor`: which sandboxes work here, and what the others lack.

use std::fmt::Write as _;

use boxwright::sandbox::{
    Circumstances, Probe, Proc, SandboxSettings, StopSwitch, Tier, Upper, Verdict, probe,
};
use boxwright::store::Store;
use serde_json::{Value, json};

use crate::cli::args::DoctorArgs;
use crate::cli::exit::Failure;
use crate::cli::settings::Environment;
use crate::cli::table::{json_text, wrapped};
use crate::cli::terminal::Terminal;

/// Tries every tier and says what came of it. That commands cannot run is no failure of this.
pub(crate) fn run(
    args: &DoctorArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let store = environment.store_root(args.store.store.as_deref())?;
    let store = std::path::absolute(&store)
        .map_err(|error| Failure::system("find the store's folder", &error))?;
    // What is tried is tried in it, and a folder with something in it becomes no store any more. One
    // that cannot be used shows in what each tier lacks.
    let _ = Store::open(&store);
    let program = std::env::current_exe()
        .map_err(|error| Failure::system("find this program, to start it again", &error))?;
    let found = probe(&SandboxSettings {
        program,
        scratch: store.join("scratch"),
        letter: None,
        stop: StopSwitch::default(),
        circumstances: Circumstances::Usual,
    });
    match args.format.json {
        true => terminal.print(&json_text(&value(&found))),
        false => terminal.print(&text(&found, terminal.width())),
    }
}

fn text(found: &Probe, width: usize) -> String {
    let mut text = "Sandboxes for `run`, the best first:\n".to_owned();
    for verdict in found.verdicts() {
        let word = match verdict.outcome {
            Ok(_) => "works",
            Err(_) => "does not work",
        };
        let _ = write!(text, "\n{} {word}\n", verdict.tier);
        for line in remarks(verdict) {
            for line in wrapped(&line, width.saturating_sub(4)) {
                let _ = writeln!(text, "    {line}");
            }
        }
        // Settings are for copying, so they keep their lines.
        for remedy in verdict.lack().iter().flat_map(|lack| lack.remedies) {
            let _ = writeln!(text, "    {}: {}", remedy.place, remedy.setting);
        }
    }
    let best = found
        .verdicts()
        .iter()
        .find(|verdict| verdict.outcome.is_ok());
    let _ = match best {
        Some(best) => writeln!(text, "\nA build takes tier {}.", best.tier),
        None => writeln!(text, "\nSteps with `run` fail here; all others work."),
    };
    text
}

/// What it lacks, or what is not as good as it could be.
fn remarks(verdict: &Verdict) -> Vec<String> {
    let footing = match &verdict.outcome {
        Ok(footing) => footing,
        Err(_) => {
            let lack = verdict.lack().into_iter();
            let lines = lack.flat_map(|lack| {
                [
                    format!("lacks {}", lack.right),
                    format!("tried to {}", lack.found),
                ]
            });
            return lines.collect();
        }
    };
    let mut remarks = Vec::new();
    if footing.tier == Tier::Chroot {
        remarks
            .push("no isolation: a command sees this container's network, and there is no /proc");
    } else if footing.proc == Proc::Shared {
        remarks.push("a command sees the processes of this container");
    }
    if footing.upper == Upper::Memory {
        remarks.push("what a command writes is held in memory; put the store on a volume");
    }
    remarks.into_iter().map(str::to_owned).collect()
}

fn value(found: &Probe) -> Value {
    let tier = |verdict: &Verdict| {
        let lack = verdict.lack();
        let remedies = lack.iter().flat_map(|lack| lack.remedies);
        json!({
            "tier": verdict.tier.letter().to_string(),
            "title": verdict.tier.title(),
            "works": verdict.outcome.is_ok(),
            "lacks": lack.as_ref().map(|lack| lack.right),
            "found": lack.as_ref().map(|lack| &lack.found),
            "remedies": remedies
                .map(|remedy| json!({"place": remedy.place, "setting": remedy.setting}))
                .collect::<Vec<_>>(),
        })
    };
    json!({"tiers": found.verdicts().iter().map(tier).collect::<Vec<_>>()})
}
