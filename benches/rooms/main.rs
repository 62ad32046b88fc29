//! What each room costs, beside the least that the same work can cost.
//!
//!     cargo bench                 everything
//!     cargo bench -- layer        only what has `layer` in its name
//!
//! Every contest runs the plain way, the floor, and ours by turns over the same seeded files, so
//! that a busy machine slows both; the ratio is worth more than the times. Times are medians.
//! Whole processes against other tools are `benches/compare`'s.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use boxwright::build::{BuildRequest, CacheUse, CommandSettings, Silent, build};
use boxwright::context::{IgnoreRules, Snapshot, Survey, Wanted, read_digests};
use boxwright::layer::{Compression, Records, WriteOptions, provide, unread};
use boxwright::oci::{Codec, DocumentFormat};
use boxwright::spec::SourceText;
use boxwright::store::{FileIndex, Store};
use boxwright::tree::Changeset;

use crate::race::{Contest, Race};
use crate::seeded::Seeded;

mod floors;
mod race;
mod seeded;

/// Patterns as real ignore files have them.
const IGNORE: &str = "**/*.map\n**/*.log\n.git\n**/test\n**/*.md\n!README.md\ndist/*\n**/.cache\n";

fn main() {
    let seeded = Seeded::make();
    println!("{seeded}\n");
    let race = Race::from_arguments(seeded.bytes);
    walks(&race, &seeded);
    layers(&race, &seeded);
    builds(&race, &seeded);
}

fn walks(race: &Race, seeded: &Seeded) {
    let root = seeded.root();
    let none = IgnoreRules::none();
    let rules = IgnoreRules::parse(IGNORE.as_bytes(), "ignore").expect("the patterns are right");
    let threads = threads();
    race.run(Contest {
        name: "walk",
        against: "readdir and lstat, one thread",
        floor: &mut || floors::walk(root),
        ours: &mut || drop(survey(root, &none, threads)),
    });
    race.run(Contest {
        name: "walk, 8 ignore rules",
        against: "the walk without rules",
        floor: &mut || drop(survey(root, &none, threads)),
        ours: &mut || drop(survey(root, &rules, threads)),
    });
    let surveyed = survey(root, &none, threads);
    let store = seeded.new_store();
    race.run(Contest {
        name: "digests of all files",
        against: "read and SHA-256, one thread",
        floor: &mut || floors::hash(&seeded.files),
        ours: &mut || {
            let changes = snapshot(&surveyed, threads);
            read_digests(&store, &unread(&changes), threads).expect("read the files");
        },
    });
}

fn layers(race: &Race, seeded: &Seeded) {
    let surveyed = survey(seeded.root(), &IgnoreRules::none(), threads());
    let one = NonZeroUsize::MIN;
    let plain = Compression::default_of(Codec::None);
    let gzip = Compression::default();
    race.run(Contest {
        name: "layer, not compressed, one thread",
        against: "the tar crate into SHA-256",
        floor: &mut || floors::tar(seeded.root()),
        ours: &mut || layer(&snapshot(&surveyed, one), &seeded.new_store(), plain, one),
    });
    race.run(Contest {
        name: "layer, gzip, one thread",
        against: "libdeflate alone, the same level",
        floor: &mut || floors::deflate(&seeded.files, gzip.level()),
        ours: &mut || layer(&snapshot(&surveyed, one), &seeded.new_store(), gzip, one),
    });
    race.run(Contest {
        name: "layer, gzip, all threads",
        against: "libdeflate alone, one thread",
        floor: &mut || floors::deflate(&seeded.files, gzip.level()),
        ours: &mut || {
            let changes = snapshot(&surveyed, threads());
            layer(&changes, &seeded.new_store(), gzip, threads());
        },
    });
    let store = seeded.new_store();
    layer(&snapshot(&surveyed, one), &store, gzip, one);
    race.run(Contest {
        name: "layer after one file changed",
        against: "read and SHA-256, one thread",
        floor: &mut || floors::hash(&seeded.files),
        ours: &mut || {
            seeded.edit();
            let surveyed = survey(seeded.root(), &IgnoreRules::none(), threads());
            layer(&snapshot(&surveyed, threads()), &store, gzip, threads());
        },
    });
}

fn builds(race: &Race, seeded: &Seeded) {
    let gzip = Compression::default();
    race.run(Contest {
        name: "build, cold",
        against: "libdeflate alone, one thread",
        floor: &mut || floors::deflate(&seeded.files, gzip.level()),
        ours: &mut || whole_build(seeded, seeded.new_store().root()),
    });
    let store = seeded.new_store().root().to_owned();
    seeded.settle();
    whole_build(seeded, &store);
    race.run(Contest {
        name: "build, nothing changed",
        against: "readdir and lstat, one thread",
        floor: &mut || floors::walk(seeded.root()),
        ours: &mut || whole_build(seeded, &store),
    });
}

fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn survey(root: &Path, rules: &IgnoreRules, threads: NonZeroUsize) -> Survey {
    Survey::take(root, rules, &Wanted::All, threads).expect("walk the files")
}

/// All files of the survey as a changeset; no file has been read.
fn snapshot(survey: &Survey, threads: NonZeroUsize) -> Changeset {
    let snapshot = Snapshot::of(survey, FileIndex::default(), threads).expect("take a snapshot");
    snapshot.tree.as_changes()
}

fn layer(changes: &Changeset, store: &Store, compression: Compression, threads: NonZeroUsize) {
    let options = WriteOptions {
        compression,
        epoch: 0,
        earlier: None,
        threads,
        progress: &|_| {},
    };
    let slot = ["bench"];
    provide(changes, store, &slot, Records::Use, &options).expect("write the layer");
}

fn whole_build(seeded: &Seeded, store: &Path) {
    let text = "format: 1\nimage: bench/rooms\ncontext: files\nstages:\n  image:\n    \
                from: scratch\n    allow: [root]\n    steps: [{copy: ., to: /app/}]\n";
    let source = SourceText::from_bytes("boxwright.yaml".to_owned(), text.into());
    let output = format!("oci:{}", seeded.below("layout").display());
    let request = BuildRequest {
        shared: Default::default(),
        registries: Default::default(),
        lock: None,
        spec_file: seeded.below("boxwright.yaml"),
        source: Arc::new(source.expect("the spec is UTF-8")),
        target: None,
        profile: None,
        arg_overrides: Vec::new(),
        context_overrides: Vec::new(),
        platforms: Vec::new(),
        outputs: vec![output.parse().expect("the name of an output")],
        left_out: Vec::new(),
        inputs: Vec::new(),
        names: Vec::new(),
        format: DocumentFormat::Oci,
        compression: None,
        store_root: store.to_owned(),
        cache: CacheUse::All,
        jobs: threads(),
        commands: CommandSettings::default(),
        epoch: 0,
    };
    build(&request, &Silent).expect("build");
}
