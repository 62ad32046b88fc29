//! `boxwright cache`: look after the store.

use std::path::Path;
use std::time::SystemTime;

use boxwright::explain::{Count, Size};
use boxwright::sandbox::{self, Circumstances, SandboxSettings, StopSwitch, Sweep};
use boxwright::store::{GcPolicy, GcReport, Item, ItemKind, Store, StoreError, Usage};
use serde_json::{Value, json};

use crate::cli::args::{CacheArgs, CacheCommand, JsonArgs};
use crate::cli::exit::{Blame, Failure};
use crate::cli::settings::Environment;
use crate::cli::table::{Align, Table, json_text};
use crate::cli::terminal::Terminal;

/// Does what the subcommand says.
pub(crate) fn run(
    args: &CacheArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let root = environment.store_root(args.store.store.as_deref())?;
    let open = || Store::open(&root).map_err(refused);
    let alone = || Store::open_exclusive(&root).map_err(refused);
    let (format, text, value) = match &args.command {
        CacheCommand::Ls(format) => {
            let items = open()?.items().map_err(refused)?;
            (
                format,
                list(&items, SystemTime::now(), terminal.width()),
                listed(&items),
            )
        }
        CacheCommand::Du(format) => {
            let usage = open()?.usage().map_err(refused)?;
            let text = format!("{}\n{}", root.display(), used(&usage));
            (format, text, usage_value(&usage))
        }
        CacheCommand::Gc(gc) => {
            let policy = GcPolicy {
                max_bytes: gc.max_size.map(|size| size.0),
                max_age: gc.max_age.map(|age| age.0),
            };
            let store = alone()?;
            let report = store.gc(policy, SystemTime::now()).map_err(refused)?;
            swept(&root, Sweep::Derived)?;
            (&gc.format, removed(&report), removed_value(&report))
        }
        CacheCommand::Clear(format) => {
            let store = alone()?;
            let report = store.clear().map_err(refused)?;
            swept(&root, Sweep::All)?;
            (format, removed(&report), removed_value(&report))
        }
    };
    match format {
        JsonArgs { json: true } => terminal.print(&json_text(&value)),
        JsonArgs { json: false } => terminal.print(&text),
    }
}

/// Takes away what commands have left: trees that were unpacked for them, and their caches.
pub(crate) fn swept(root: &Path, sweep: Sweep) -> Result<(), Failure> {
    let settings = SandboxSettings {
        program: std::env::current_exe().unwrap_or_default(),
        scratch: root.join("scratch"),
        letter: None,
        stop: StopSwitch::default(),
        circumstances: Circumstances::Usual,
    };
    let swept = sandbox::sweep(root, sweep, &settings);
    swept
        .map(drop)
        .map_err(|error| Failure::failed(Blame::System, &error))
}

/// What the store refuses is the machine's affair; the text says what to do.
pub(crate) fn refused(error: StoreError) -> Failure {
    let failure = Failure::failed(Blame::System, &error);
    match error.is_disk_full() {
        true => failure.hint("make room: boxwright cache gc --max-size 5GB"),
        false => failure,
    }
}

fn list(items: &[Item], now: SystemTime, width: usize) -> String {
    let mut table = Table::new(&[Align::Left, Align::Right, Align::Right, Align::Left]);
    for item in items.iter().rev() {
        let hours = now.duration_since(item.used).unwrap_or_default().as_secs() / 3600;
        let ago = match hours {
            0 => "now".to_owned(),
            1..48 => format!("{hours}h ago"),
            _ => format!("{}d ago", hours / 24),
        };
        table.row([
            kind(&item.kind).to_owned(),
            Size(item.size).to_string(),
            ago,
            item.name.clone(),
        ]);
    }
    table
        .lines(width)
        .iter()
        .map(|line| format!("{line}\n"))
        .collect()
}

fn kind(kind: &ItemKind) -> &str {
    match kind {
        ItemKind::Blob => "blob",
        ItemKind::Record(name) => name,
        ItemKind::Index => "index",
    }
}

fn listed(items: &[Item]) -> Value {
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    };
    let item = |item: &Item| json!({"kind": kind(&item.kind), "name": item.name, "size": item.size, "used": seconds(item.used)});
    items.iter().rev().map(item).collect()
}

fn used(usage: &Usage) -> String {
    let mut table = Table::new(&[Align::Left, Align::Right, Align::Right]);
    let mut row = |name: &str, count: u64, bytes: u64| {
        table.row([
            name.to_owned(),
            Count(count).to_string(),
            Size(bytes).to_string(),
        ]);
    };
    row("  blobs", usage.blobs, usage.blob_bytes);
    row("  records", usage.records, usage.record_bytes);
    row("  total", usage.blobs + usage.records, usage.bytes());
    table
        .lines(80)
        .iter()
        .map(|line| format!("{line}\n"))
        .collect()
}

fn usage_value(usage: &Usage) -> Value {
    json!({"blobs": usage.blobs, "blob_bytes": usage.blob_bytes, "records": usage.records,
        "record_bytes": usage.record_bytes, "bytes": usage.bytes()})
}

fn removed(report: &GcReport) -> String {
    let (files, bytes) = (Count(report.removed), Size(report.removed_bytes));
    format!(
        "removed {files} files, {bytes}; {} left\n",
        Size(report.left.bytes())
    )
}

fn removed_value(report: &GcReport) -> Value {
    json!({"removed": report.removed, "removed_bytes": report.removed_bytes, "left": usage_value(&report.left)})
}
