//! What a store holds and what was removed, for people and for programs.

use std::time::SystemTime;

use boxwright::explain::{Count, Size};
use boxwright::sandbox::{self, Holding, HoldingKind};
use boxwright::store::{GcReport, Item, ItemKind, Store, Usage};
use serde_json::{Value, json};

use crate::cli::cache::{failed, refused, settings};
use crate::cli::exit::Failure;
use crate::cli::table::{Align, Table};

/// All that a store holds.
pub(crate) struct Kept {
    /// Blobs, records and indexes, the least recently used first.
    pub(crate) items: Vec<Item>,
    /// What commands keep.
    pub(crate) holdings: Vec<Holding>,
    usage: Usage,
}

/// What a cleaning has done.
pub(crate) struct Cleaned {
    pub(crate) report: GcReport,
    pub(crate) gone: Vec<Holding>,
    pub(crate) left: Vec<Holding>,
}

/// One line of a list.
struct Row<'a> {
    kind: &'a str,
    name: &'a str,
    size: u64,
    used: SystemTime,
}

impl Kept {
    pub(crate) fn of(store: &Store) -> Result<Kept, Failure> {
        let settings = settings(store.root())?;
        Ok(Kept {
            items: store.items().map_err(refused)?,
            holdings: sandbox::holdings(store.root(), &settings).map_err(|e| failed(&e))?,
            usage: store.usage().map_err(refused)?,
        })
    }

    /// What was used last comes first.
    fn rows(&self) -> Vec<Row<'_>> {
        let items = self.items.iter().rev().map(|item| Row {
            kind: match &item.kind {
                ItemKind::Blob => "blob",
                ItemKind::Record(name) => name,
                ItemKind::Index => "index",
            },
            name: &item.name,
            size: item.size,
            used: item.used,
        });
        let holdings = self.holdings.iter().map(|holding| Row {
            kind: word(holding.kind),
            name: &holding.name,
            size: holding.size,
            used: holding.used,
        });
        let mut rows: Vec<Row<'_>> = items.chain(holdings).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.used));
        rows
    }

    pub(crate) fn listed(&self, now: SystemTime, width: usize) -> String {
        let mut table = Table::new(&[Align::Left, Align::Right, Align::Right, Align::Left]);
        for row in self.rows() {
            let hours = now.duration_since(row.used).unwrap_or_default().as_secs() / 3600;
            let ago = match hours {
                0 => "now".to_owned(),
                1..48 => format!("{hours}h ago"),
                _ => format!("{}d ago", hours / 24),
            };
            table.row([
                row.kind.to_owned(),
                Size(row.size).to_string(),
                ago,
                row.name.to_owned(),
            ]);
        }
        lines(&table, width)
    }

    pub(crate) fn listed_value(&self) -> Value {
        let seconds = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs())
        };
        let rows = self.rows();
        let row = |row: &Row<'_>| json!({"kind": row.kind, "name": row.name, "size": row.size, "used": seconds(row.used)});
        rows.iter().map(row).collect()
    }

    pub(crate) fn used(&self) -> String {
        let mut table = Table::new(&[Align::Left, Align::Right, Align::Right]);
        let mut row = |name: &str, count: u64, bytes: u64| {
            table.row([
                format!("  {name}"),
                Count(count).to_string(),
                Size(bytes).to_string(),
            ]);
        };
        let usage = &self.usage;
        row("blobs", usage.blobs, usage.blob_bytes);
        row("records", usage.records, usage.record_bytes);
        let mut count = usage.blobs + usage.records;
        for kind in KINDS {
            let (number, bytes) = sum(&self.holdings, kind);
            row(words(kind), number, bytes);
            count += number;
        }
        row("total", count, all_bytes(usage, &self.holdings));
        let mut text = lines(&table, 80);
        if self.holdings.iter().any(|holding| !holding.is_measured) {
            text.push_str("  and more, in directories that this user may not look into\n");
        }
        text
    }

    pub(crate) fn used_value(&self) -> Value {
        usage_value(&self.usage, &self.holdings)
    }
}

impl Cleaned {
    pub(crate) fn text(&self) -> String {
        let mut what = format!("{} files", Count(self.report.removed));
        for kind in KINDS {
            let (number, _) = sum(&self.gone, kind);
            let word = if number == 1 { word(kind) } else { words(kind) };
            if number > 0 {
                what.push_str(&format!(", {} {word}", Count(number)));
            }
        }
        let left = Size(all_bytes(&self.report.left, &self.left));
        format!("removed {what}, {}; {left} left\n", Size(self.bytes()))
    }

    pub(crate) fn value(&self) -> Value {
        let number = |kind| sum(&self.gone, kind).0;
        json!({"removed": self.report.removed, "removed_trees": number(HoldingKind::Tree),
            "removed_caches": number(HoldingKind::Cache),
            "removed_scratch": number(HoldingKind::Scratch), "removed_bytes": self.bytes(),
            "left": usage_value(&self.report.left, &self.left)})
    }

    fn bytes(&self) -> u64 {
        self.report.removed_bytes + self.gone.iter().map(|gone| gone.size).sum::<u64>()
    }
}

/// In the order in which they are told.
const KINDS: [HoldingKind; 3] = [HoldingKind::Tree, HoldingKind::Cache, HoldingKind::Scratch];

fn word(kind: HoldingKind) -> &'static str {
    match kind {
        HoldingKind::Tree => "tree",
        HoldingKind::Cache => "cache",
        HoldingKind::Scratch => "scratch",
    }
}

fn words(kind: HoldingKind) -> &'static str {
    match kind {
        HoldingKind::Tree => "trees",
        HoldingKind::Cache => "caches",
        HoldingKind::Scratch => "scratch",
    }
}

/// Number and bytes of one kind.
fn sum(holdings: &[Holding], kind: HoldingKind) -> (u64, u64) {
    let of_kind = holdings.iter().filter(|holding| holding.kind == kind);
    of_kind.fold((0, 0), |(count, bytes), one| (count + 1, bytes + one.size))
}

fn all_bytes(usage: &Usage, holdings: &[Holding]) -> u64 {
    usage.bytes() + holdings.iter().map(|holding| holding.size).sum::<u64>()
}

fn usage_value(usage: &Usage, holdings: &[Holding]) -> Value {
    let of = |kind| sum(holdings, kind);
    let (trees, tree_bytes) = of(HoldingKind::Tree);
    let (caches, cache_bytes) = of(HoldingKind::Cache);
    let (scratch, scratch_bytes) = of(HoldingKind::Scratch);
    json!({"blobs": usage.blobs, "blob_bytes": usage.blob_bytes, "records": usage.records,
        "record_bytes": usage.record_bytes, "trees": trees, "tree_bytes": tree_bytes,
        "caches": caches, "cache_bytes": cache_bytes, "scratch": scratch,
        "scratch_bytes": scratch_bytes, "bytes": all_bytes(usage, holdings)})
}

fn lines(table: &Table, width: usize) -> String {
    let lines = table.lines(width);
    lines.iter().map(|line| format!("{line}\n")).collect()
}
