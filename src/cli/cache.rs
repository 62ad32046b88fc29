//! `boxwright cache`: look after the store.

use std::path::Path;
use std::time::SystemTime;

use boxwright::sandbox::{
    self, Circumstances, Holding, HoldingKind, SandboxError, SandboxSettings, StopSwitch,
};
use boxwright::store::{GcPolicy, Store, StoreError};

use crate::cli::args::{CacheArgs, CacheCommand, JsonArgs};
use crate::cli::exit::{Blame, Failure};
use crate::cli::settings::Environment;
use crate::cli::table::json_text;
use crate::cli::terminal::Terminal;

mod carry;
mod listing;

use listing::{Cleaned, Kept};

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
            let kept = Kept::of(&open()?)?;
            let text = kept.listed(SystemTime::now(), terminal.width());
            (format, text, kept.listed_value())
        }
        CacheCommand::Du(format) => {
            let kept = Kept::of(&open()?)?;
            let text = format!("{}\n{}", root.display(), kept.used());
            (format, text, kept.used_value())
        }
        CacheCommand::Gc(gc) => {
            let policy = GcPolicy {
                max_bytes: gc.max_size.map(|size| size.0),
                max_age: gc.max_age.map(|age| age.0),
            };
            let (store, now) = (alone()?, SystemTime::now());
            let kept = Kept::of(&store)?;
            let is_unwanted = |one: &Holding| gc.trees && one.kind == HoldingKind::Tree;
            let (trees, rest) = kept.holdings.into_iter().partition(is_unwanted);
            let mut chosen = sandbox::choose(rest, &kept.items, policy, now);
            chosen.gone.extend::<Vec<_>>(trees);
            discard(&chosen.gone, store.root())?;
            let report = store.gc(chosen.store, now).map_err(refused)?;
            let cleaned = Cleaned {
                report,
                gone: chosen.gone,
                left: chosen.left,
            };
            (&gc.format, cleaned.text(), cleaned.value())
        }
        CacheCommand::Clear(format) => {
            let store = alone()?;
            let gone = Kept::of(&store)?.holdings;
            discard(&gone, store.root())?;
            let report = store.clear().map_err(refused)?;
            let cleaned = Cleaned {
                report,
                gone,
                left: Vec::new(),
            };
            (format, cleaned.text(), cleaned.value())
        }
        CacheCommand::Export(args) => return carry::export(args, &open()?, terminal),
        CacheCommand::Import(args) => return carry::import(args, &open()?, terminal),
    };
    match format {
        JsonArgs { json: true } => terminal.print(&json_text(&value)),
        JsonArgs { json: false } => terminal.print(&text),
    }
}

/// Takes away all that commands keep in the store at `root`, which nobody else uses.
pub(crate) fn swept(root: &Path) -> Result<(), Failure> {
    let settings = settings(root)?;
    let found = sandbox::holdings(root, &settings).map_err(|error| failed(&error))?;
    discard(&found, root)
}

/// So many unpacked trees stay in a store. One is the size of an image, and of use only to a command
/// that runs again in the very same tree.
const TREES_KEPT: usize = 12;

/// Takes away the trees that a store has no use for, if nobody else uses it now. What goes wrong is
/// left to `cache gc`.
pub(crate) fn trim(root: &Path) {
    let surplus = sandbox::surplus_trees(root, TREES_KEPT).unwrap_or_default();
    if surplus.is_empty() {
        return;
    }
    if let Ok(store) = Store::open_exclusive(root) {
        // Others may have used some since, or taken them away.
        let surplus = sandbox::surplus_trees(store.root(), TREES_KEPT).unwrap_or_default();
        let _ = discard(&surplus, store.root());
    }
}

fn discard(gone: &[sandbox::Holding], root: &Path) -> Result<(), Failure> {
    sandbox::discard(gone, &settings(root)?).map_err(|error| failed(&error))
}

/// How processes that may touch what commands left are made, for the store at `root`.
fn settings(root: &Path) -> Result<SandboxSettings, Failure> {
    let root = std::path::absolute(root)
        .map_err(|error| Failure::system("find the store's folder", &error))?;
    let program = std::env::current_exe()
        .map_err(|error| Failure::system("find this program, to start it again", &error))?;
    Ok(SandboxSettings {
        program,
        scratch: root.join("scratch"),
        letter: None,
        stop: StopSwitch::default(),
        circumstances: Circumstances::Usual,
    })
}

fn failed(error: &SandboxError) -> Failure {
    Failure::failed(Blame::System, error)
}

/// What the store refuses is the machine's affair; the text says what to do.
pub(crate) fn refused(error: StoreError) -> Failure {
    let failure = Failure::failed(Blame::System, &error);
    match error.is_disk_full() {
        true => failure.hint("make room: boxwright cache gc --max-size 5GB"),
        false => failure,
    }
}
