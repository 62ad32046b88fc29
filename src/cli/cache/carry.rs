//! `boxwright cache export` and `import`: cache mounts in one file.

use boxwright::explain::{Count, Size};
use boxwright::sandbox::{self, Letter, SandboxSettings};
use boxwright::store::Store;
use boxwright::transport::{CacheError, CacheEvent, CarriedCache, Carrier};

use crate::cli::args::{CarryArgs, ExportArgs, ImportArgs};
use crate::cli::cache::settings;
use crate::cli::exit::{Blame, Failure};
use crate::cli::terminal::Terminal;

/// Writes caches to a file.
pub(crate) fn export(args: &ExportArgs, store: &Store, terminal: &Terminal) -> Result<(), Failure> {
    let names: Vec<String> = args
        .mounts
        .iter()
        .map(|name| name.as_str().to_owned())
        .collect();
    let told = |event: CacheEvent<'_>| tell(event, terminal);
    let carried = carrying(&args.how, store, |carrier| {
        carrier.export(&names, &args.how.file, &told)
    })?;
    terminal.print(&text(&carried))
}

/// Takes caches out of a file.
pub(crate) fn import(args: &ImportArgs, store: &Store, terminal: &Terminal) -> Result<(), Failure> {
    let told = |event: CacheEvent<'_>| tell(event, terminal);
    let carried = carrying(&args.how, store, |carrier| {
        carrier.import(&args.how.file, &told)
    })?;
    terminal.print(&text(&carried))
}

fn carrying(
    args: &CarryArgs,
    store: &Store,
    carry: impl FnOnce(&Carrier<'_>) -> Result<Vec<CarriedCache>, CacheError>,
) -> Result<Vec<CarriedCache>, Failure> {
    let letter: Option<Letter> = args.sandbox;
    let settings = SandboxSettings {
        letter,
        ..settings(store.root())?
    };
    let footing = sandbox::best(&settings);
    let footing = footing.map_err(|error| Failure::failed(Blame::System, &error))?;
    let carrier = Carrier {
        store,
        footing: &footing,
        settings: &settings,
        most: args.max_size.0,
    };
    carry(&carrier).map_err(|error| {
        let blame = match error.is_about_input() {
            true => Blame::Input,
            false => Blame::System,
        };
        Failure::failed(blame, &error)
    })
}

fn tell(event: CacheEvent<'_>, terminal: &Terminal) {
    match event {
        CacheEvent::Waiting(name) => {
            terminal.say(&format!(
                "waiting for the cache {name}: a command uses it\n"
            ));
        }
        CacheEvent::Note(note) => terminal.say(&format!("note: {note}\n")),
        _ => {}
    }
}

fn text(carried: &[CarriedCache]) -> String {
    if carried.is_empty() {
        return "no caches\n".to_owned();
    }
    let line = |cache: &CarriedCache| {
        let (entries, bytes) = (Count(cache.entries), Size(cache.bytes));
        let replaced = match cache.replaced {
            true => "; it replaced the one that was here",
            false => "",
        };
        format!("cache {}: {entries} files, {bytes}{replaced}\n", cache.name)
    };
    carried.iter().map(line).collect()
}
