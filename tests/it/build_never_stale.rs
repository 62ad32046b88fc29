//! Whatever is edited between two builds, the second gives what a build on an empty store gives.
//!
//! Random edits of context and spec, among them those that fool an index of files: the same size
//! in the same second, a modification time that is set back, a rename over another file.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boxwright::build::{BuildRequest, CacheUse, CommandSettings, Silent, build};
use boxwright::oci::DocumentFormat;
use boxwright::spec::SourceText;
use proptest::prelude::*;

use crate::support::listing::content_of;
use crate::support::sandbox::Sandbox;

/// One edit. Numbers choose among the files that are there.
#[derive(Debug, Clone)]
enum Edit {
    Content(usize, Vec<u8>),
    /// Another byte in place, the modification time set back: only the change time tells.
    SameSizeSameTime(usize, u8),
    Mode(usize, u32),
    Rename(usize, u8),
    RenameOver(usize, usize),
    Delete(usize),
    Add(u8, Vec<u8>),
    AddEmptyFolder(u8),
    Symlink(usize, u8),
    HardLink(usize, u8),
    TouchOnly(usize),
    Owner(u16),
    SpecMode(u8),
    Exclude(u8),
    Ignore(u8),
    Arg(u8),
    Text(u8),
    Label(u8),
    SwapSteps,
    Nothing,
}

fn edits() -> impl Strategy<Value = Edit> {
    let content = || {
        let short = proptest::collection::vec(any::<u8>(), 0..40);
        let long = (any::<u8>(), 1..5_usize).prop_map(|(b, n)| vec![b; n * 70_000]);
        prop_oneof![4 => short, 1 => long]
    };
    let any_file = || 0..64_usize;
    prop_oneof![
        3 => (any_file(), content()).prop_map(|(n, c)| Edit::Content(n, c)),
        4 => (any_file(), any::<u8>()).prop_map(|(n, b)| Edit::SameSizeSameTime(n, b)),
        2 => (any_file(), 0..0o10000_u32).prop_map(|(n, m)| Edit::Mode(n, m)),
        1 => (any_file(), 0..9_u8).prop_map(|(n, to)| Edit::Rename(n, to)),
        1 => (any_file(), any_file()).prop_map(|(n, to)| Edit::RenameOver(n, to)),
        1 => any_file().prop_map(Edit::Delete),
        2 => (0..9_u8, content()).prop_map(|(n, c)| Edit::Add(n, c)),
        1 => (0..9_u8).prop_map(Edit::AddEmptyFolder),
        1 => (any_file(), 0..9_u8).prop_map(|(n, to)| Edit::Symlink(n, to)),
        1 => (any_file(), 0..9_u8).prop_map(|(n, to)| Edit::HardLink(n, to)),
        1 => any_file().prop_map(Edit::TouchOnly),
        1 => (0..3_u16).prop_map(Edit::Owner),
        1 => (0..4_u8).prop_map(Edit::SpecMode),
        1 => (0..4_u8).prop_map(Edit::Exclude),
        1 => (0..4_u8).prop_map(Edit::Ignore),
        1 => (0..3_u8).prop_map(Edit::Arg),
        1 => (0..3_u8).prop_map(Edit::Text),
        1 => (0..3_u8).prop_map(Edit::Label),
        1 => Just(Edit::SwapSteps),
        1 => Just(Edit::Nothing),
    ]
}

/// The part of the spec that edits change.
#[derive(Debug, Default)]
struct Spec {
    owner: u16,
    mode: u8,
    exclude: u8,
    arg: u8,
    text: u8,
    label: u8,
    is_swapped: bool,
}

impl Spec {
    fn text(&self) -> String {
        let mode = ["0644", "u=rwX,go=rX", "a+x", "4711"][usize::from(self.mode)];
        let exclude = ["none", "**/a*", "sub", "*"][usize::from(self.exclude)];
        let mut steps = [
            format!("- {{copy: ., to: /app, exclude: [{exclude:?}]}}"),
            format!(
                "- {{copy: sub, to: /sub, owner: \"{}:0\", mode: {mode:?}}}",
                self.owner
            ),
        ];
        if self.is_swapped {
            steps.swap(0, 1);
        }
        format!(
            "format: 1\nimage: test/stale\nargs: {{WORD: none}}\ncontext: ctx\nstages:\n  app:\n    \
             from: scratch\n    allow: [root]\n    steps:\n      {}\n      {}\n      \
             - {{write: /text, text: \"{} ${{WORD}}\"}}\n    config: {{labels: {{n: \"{}\"}}}}\n",
            steps[0], steps[1], self.text, self.label
        )
    }
}

/// The files that can be edited, in a fixed order.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in [root.to_owned(), root.join("sub")] {
        for entry in fs::read_dir(folder).expect("list the context") {
            let path = entry.expect("list the context").path();
            let is_file = fs::symlink_metadata(&path).expect("stat").is_file();
            if is_file && !path.ends_with(".dockerignore") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn fresh_name(root: &Path, n: u8) -> PathBuf {
    let name = [
        "a",
        "b",
        "ab",
        "sub/a",
        "sub/z",
        "sub/caf\u{e9}",
        "zz",
        "sub/.hidden",
        "a-b",
    ][usize::from(n)];
    root.join(name)
}

fn edit(edit: &Edit, root: &Path, spec: &mut Spec) {
    let files = files(root);
    let file = |n: usize| &files[n % files.len()];
    // What is a folder or a link already stays: the next edit will do.
    match edit {
        Edit::Content(n, content) => fs::write(file(*n), content).expect("edit"),
        Edit::SameSizeSameTime(n, byte) => {
            let mut content = fs::read(file(*n)).expect("read");
            let time = fs::metadata(file(*n))
                .expect("stat")
                .modified()
                .expect("a time");
            content.iter_mut().for_each(|b| *b = b.wrapping_add(*byte));
            let handle = fs::OpenOptions::new()
                .write(true)
                .open(file(*n))
                .expect("open");
            std::io::Write::write_all(&mut &handle, &content).expect("edit");
            handle.set_modified(time).expect("set the time back");
        }
        Edit::Mode(n, mode) => {
            fs::set_permissions(file(*n), fs::Permissions::from_mode(*mode | 0o400))
                .expect("chmod");
        }
        Edit::Rename(n, to) => {
            let _ = fs::rename(file(*n), fresh_name(root, *to));
        }
        Edit::RenameOver(n, to) => fs::rename(file(*n), file(*to)).expect("rename"),
        Edit::Delete(n) if files.len() > 2 => fs::remove_file(file(*n)).expect("delete"),
        Edit::Add(n, content) => {
            let _ = fs::write(fresh_name(root, *n), content);
        }
        Edit::AddEmptyFolder(n) => {
            let _ = fs::create_dir(fresh_name(root, *n));
        }
        Edit::Symlink(n, to) => {
            let target = file(*n).file_name().expect("a name");
            let _ = symlink(target, fresh_name(root, *to));
        }
        Edit::HardLink(n, to) => {
            let _ = fs::hard_link(file(*n), fresh_name(root, *to));
        }
        Edit::TouchOnly(n) => {
            let handle = fs::OpenOptions::new()
                .append(true)
                .open(file(*n))
                .expect("open");
            handle
                .set_modified(std::time::SystemTime::now())
                .expect("touch");
        }
        Edit::Owner(owner) => spec.owner = *owner,
        Edit::SpecMode(mode) => spec.mode = *mode,
        Edit::Exclude(exclude) => spec.exclude = *exclude,
        Edit::Ignore(n) => {
            let text = ["", "a*\n", "sub/*\n!sub/a\n", "**/z*\n"][usize::from(*n)];
            fs::write(root.join(".dockerignore"), text).expect("edit the ignore file");
        }
        Edit::Arg(arg) => spec.arg = *arg,
        Edit::Text(text) => spec.text = *text,
        Edit::Label(label) => spec.label = *label,
        Edit::SwapSteps => spec.is_swapped ^= true,
        Edit::Delete(_) | Edit::Nothing => {}
    }
}

/// The digests of image and archive, or the error: a wrong edit must be wrong both times.
fn built(
    sandbox: &Sandbox,
    spec: &Spec,
    store: &str,
    cache: CacheUse,
) -> Result<(String, String), String> {
    let archive = sandbox.path("app.tar");
    let _ = fs::remove_file(&archive);
    let text = spec.text().into_bytes();
    let request = BuildRequest {
        shared: Default::default(),
        registries: Default::default(),
        lock: None,
        spec_file: sandbox.path("boxwright.yaml"),
        source: Arc::new(SourceText::from_bytes("boxwright.yaml".to_owned(), text).expect("UTF-8")),
        target: None,
        profile: None,
        arg_overrides: vec![("WORD".to_owned(), spec.arg.to_string())],
        context_overrides: Vec::new(),
        platforms: Vec::new(),
        outputs: vec![
            format!("oci-archive:{}", archive.display())
                .parse()
                .expect("an output"),
        ],
        left_out: Vec::new(),
        inputs: Vec::new(),
        names: Vec::new(),
        format: DocumentFormat::Oci,
        compression: None,
        store_root: sandbox.root().join(store),
        cache,
        jobs: NonZeroUsize::new(2).expect("not zero"),
        commands: CommandSettings::default(),
        epoch: 0,
    };
    let report = build(&request, &Silent).map_err(|error| error.to_string())?;
    let archive = fs::File::open(&archive).expect("an archive");
    Ok((report.manifest.to_string(), content_of(archive).1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn an_edit_never_meets_an_old_answer(
        all in proptest::collection::vec(edits(), 5..9),
        is_settled in proptest::bool::weighted(0.4),
    ) {
        let sandbox = Sandbox::new();
        let root = sandbox.path("ctx");
        fs::create_dir_all(root.join("sub")).expect("a context");
        for (n, name) in ["one", "two", "abc", "sub/three", "sub/zero"].iter().enumerate() {
            fs::write(root.join(name), vec![b'a' + n as u8; 1 << (4 * n)]).expect("a file");
        }
        if is_settled {
            // Only files that have been left alone for two seconds enter the index.
            std::thread::sleep(std::time::Duration::from_millis(2100));
        }
        let mut spec = Spec::default();
        built(&sandbox, &spec, "store", CacheUse::All).expect("the first build");
        for (number, one) in all.iter().enumerate() {
            edit(one, &root, &mut spec);
            let warm = built(&sandbox, &spec, "store", CacheUse::All);
            let fresh = built(&sandbox, &spec, &format!("store-{number}"), CacheUse::BasesOnly);
            prop_assert_eq!(warm, fresh, "after edit {} of {:?}", number, all);
        }
    }
}
