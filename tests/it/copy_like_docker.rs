//! `copy` against the builders whose users it should not surprise: BuildKit, which it follows, and
//! buildah, which follows Docker's older builder in places.
//!
//! Each row of [`CASES`] is built three times over the same trees, and the resulting trees are
//! compared: kind, path, mode, owner, content. Rows where we or buildah differ say why. BuildKit's
//! `--parents` and `--exclude` are newer than the daemons of stable distributions; their rules have
//! rows in the room's own tests.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boxwright::spec::{Action, Args, ParseInputs, SourceText, parse};
use boxwright::steps::{Scene, SourceKind, apply};
use boxwright::tree::{Content, Entry, HardLinks, Inode, LayerPath, Node, Tree};

use crate::support::listing::{Listing, Row};
use crate::support::peers::{Dockerd, Skip, peer, require_root, required};
use crate::support::process::{Ran, run};
use crate::support::sandbox::Sandbox;
use crate::support::tree_text;

/// The build context.
const CONTEXT: &str = r"
    dir 0750 app
    file 0644 app/main.ts main
    dir 0700 app/lib
    file 0600 app/lib/a.ts a
    file 0644 app/lib/b.js b
    link app/link -> main.ts
    file 0644 package.json {}
    file 0644 README.md read
    file 4755 run.sh run
    link alias -> app
    link file -> package.json
    link dangling -> nowhere
    dir 0750 empty
    dir 0711 lib1
    file 0644 lib1/x x
    dir 0711 lib2
    file 0644 lib2/y y
    file 0644 st*r star
    file 0644 clash/full new
    dir 0755 clash2/conf
    owner app/main.ts 7:8
";

/// What the stage has before the step.
const BASE: &str = r"
    dir 0700 work
    dir 1777 tmp
    dir 0755 usr/lib
    link lib -> usr/lib
    link dead -> gone/away
    link loop -> loop
    dir 0755 etc
    file 0640 etc/conf old
    file 0644 etc/passwd root:x:0:0::/:/bin/sh\napp:x:1001:1002::/:/bin/sh\n
    file 0644 etc/group root:x:0:\nstaff:x:50:\n
    dir 0711 full
    file 0600 full/README.md old
    link full/package.json -> /etc/conf
    dir 0711 full/lib
    file 0644 full/lib/old old
    owner full 5:6
    owner full/lib 7:8
    dir 0755 linked
    link linked/lib -> /tmp
";

/// Another stage to copy from.
const OTHER: &str = r"
    dir 0750 out
    file 0755 out/bin bin
    link out/l -> bin
    file 0644 out/one one
    hardlink out/two -> out/one
    dir 0700 out/sub
    owner out 5:6
    owner out/bin 5:6
    owner out/sub 9:9
    owner out/l 5:6
";

/// How another builder stands to what we do.
#[derive(Debug, Clone, Copy)]
enum Stance {
    /// The same tree, or all refuse.
    Same,
    /// Another tree, or one of us refuses; the reason.
    Differs(&'static str),
}
use Stance::{Differs, Same};

struct Case {
    rule: &'static str,
    ours: &'static str,
    theirs: &'static str,
    buildkit: Stance,
    buildah: Stance,
}

const fn same(rule: &'static str, ours: &'static str, theirs: &'static str) -> Case {
    Case {
        rule,
        ours,
        theirs,
        buildkit: Same,
        buildah: Same,
    }
}

impl Case {
    const fn buildkit(mut self, stance: Stance) -> Case {
        self.buildkit = stance;
        self
    }

    const fn buildah(mut self, stance: Stance) -> Case {
        self.buildah = stance;
        self
    }
}

const CASES: &[Case] = &[
    same(
        "a file into the working directory",
        "copy: README.md",
        "COPY README.md ./",
    ),
    same(
        "a file to a new name",
        "{copy: README.md, to: p}",
        "COPY README.md p",
    ),
    same(
        "missing parents are made",
        "{copy: README.md, to: /a/b/c}",
        "COPY README.md /a/b/c",
    ),
    same(
        "a slash means a directory",
        "{copy: README.md, to: /a/b/}",
        "COPY README.md /a/b/",
    ),
    same(
        "an existing directory is one without a slash",
        "{copy: README.md, to: /tmp}",
        "COPY README.md /tmp",
    ),
    same(
        "an existing file is replaced",
        "{copy: README.md, to: /etc/conf}",
        "COPY README.md /etc/conf",
    ),
    same(
        "a link in the place of the file is replaced, not followed",
        "{copy: package.json, to: /full/}",
        "COPY package.json /full/",
    ),
    same(
        "a link as the destination is followed",
        "{copy: README.md, to: /lib/}",
        "COPY README.md /lib/",
    ),
    same(
        "a link as the destination is followed without a slash",
        "{copy: README.md, to: /lib}",
        "COPY README.md /lib",
    ),
    same(
        "a link on the way is followed",
        "{copy: README.md, to: /lib/x/y}",
        "COPY README.md /lib/x/y",
    ),
    same(
        "a dangling destination is made where it leads",
        "{copy: README.md, to: /dead}",
        "COPY README.md /dead",
    )
    .buildah(Differs("makes the target of the link a directory")),
    same(
        "a destination in a circle",
        "{copy: README.md, to: /loop}",
        "COPY README.md /loop",
    ),
    same(
        "the contents of a directory, which is made with 0755",
        "{copy: app, to: /new}",
        "COPY app /new",
    ),
    same(
        "the same with slashes",
        "{copy: app/, to: /new/}",
        "COPY app/ /new/",
    ),
    same(
        "an existing directory keeps its mode and owner",
        "{copy: app/lib, to: /full}",
        "COPY app/lib /full",
    ),
    same(
        "an existing directory below takes those of the source",
        "{copy: app, to: /full}",
        "COPY app /full",
    ),
    same(
        "an empty directory",
        "{copy: empty, to: /new}",
        "COPY empty /new",
    ),
    same("the whole context", "{copy: ., to: /new}", "COPY . /new")
        .buildah(Differs("loses the setuid bit")),
    same(
        "several sources",
        "{copy: [README.md, app/lib], to: /x/}",
        "COPY README.md app/lib /x/",
    ),
    same(
        "several sources to one file",
        "{copy: [README.md, run.sh], to: /x}",
        "COPY README.md run.sh /x",
    )
    .buildkit(Differs(
        "copies one over the other, though its manual forbids it",
    ))
    .buildah(Differs("takes the destination for a directory")),
    same("a wildcard", "{copy: '*.json', to: /x/}", "COPY *.json /x/"),
    same(
        "a wildcard in the middle",
        "{copy: 'a*p/l*/?.[jt]s', to: /x/}",
        "COPY a*p/l*/?.[jt]s /x/",
    ),
    same(
        "a wildcard with one match to a name",
        "{copy: READ*, to: /x}",
        "COPY READ* /x",
    ),
    same(
        "a wildcard over directories takes their contents",
        "{copy: 'lib*', to: /x/}",
        "COPY lib* /x/",
    ),
    same(
        "an escaped wildcard",
        r"{copy: 'st\*r', to: /x/}",
        r"COPY st\*r /x/",
    ),
    same(
        "a wildcard without a match",
        "{copy: '*.none', to: /x/}",
        "COPY *.none /x/",
    )
    .buildkit(Differs("copies nothing and says nothing")),
    same("a missing source", "{copy: none, to: /x/}", "COPY none /x/"),
    same(
        "a link to a file is followed",
        "{copy: file, to: /x/}",
        "COPY file /x/",
    ),
    same(
        "a link to a directory is followed",
        "{copy: alias, to: /x/}",
        "COPY alias /x/",
    ),
    same(
        "a link on the way to a source is followed",
        "{copy: alias/lib/a.ts, to: /x}",
        "COPY alias/lib/a.ts /x",
    ),
    same(
        "a link that a wildcard finds is followed",
        "{copy: 'fil*', to: /x/}",
        "COPY fil* /x/",
    ),
    same(
        "a dangling link as a source",
        "{copy: dangling, to: /x/}",
        "COPY dangling /x/",
    ),
    same(
        "a file on the way to the destination",
        "{copy: README.md, to: /etc/conf/x}",
        "COPY README.md /etc/conf/x",
    ),
    same(
        "a slash after a file",
        "{copy: README.md, to: /etc/conf/}",
        "COPY README.md /etc/conf/",
    ),
    same(
        "a directory onto a file",
        "{copy: app, to: /etc/conf}",
        "COPY app /etc/conf",
    ),
    same(
        "a file onto a directory below",
        "{copy: clash, to: /}",
        "COPY clash /",
    )
    .buildah(Differs("replaces the directory and all in it")),
    same(
        "a directory onto a file below",
        "{copy: clash2, to: /etc}",
        "COPY clash2 /etc",
    )
    .buildah(Differs("replaces the file")),
    same(
        "a directory onto a link below",
        "{copy: app, to: /linked}",
        "COPY app /linked",
    )
    .buildah(Differs("replaces the link")),
    same(
        "a numeric owner is the group, too",
        "{copy: app, to: /a/b, owner: '5'}",
        "COPY --chown=5 app /a/b",
    ),
    same(
        "a named owner brings its group",
        "{copy: app, to: /a/b, owner: app}",
        "COPY --chown=app app /a/b",
    ),
    same(
        "a named owner and group",
        "{copy: README.md, to: /x, owner: 'app:staff'}",
        "COPY --chown=app:staff README.md /x",
    ),
    same(
        "an unknown owner",
        "{copy: README.md, to: /x, owner: none}",
        "COPY --chown=none README.md /x",
    )
    .buildkit(Differs("takes an unknown name for root")),
    same(
        "an owner for what exists",
        "{copy: app, to: /full, owner: '5:7'}",
        "COPY --chown=5:7 app /full",
    ),
    same(
        "setuid survives a new owner",
        "{copy: run.sh, to: /x, owner: app}",
        "COPY --chown=app run.sh /x",
    )
    .buildah(Differs("loses the bit")),
    same(
        "an octal mode, for directories too",
        "{copy: app, to: /new, mode: '0750'}",
        "COPY --chmod=0750 app /new",
    ),
    same(
        "a mode leaves existing directories and made parents alone",
        "{copy: app/lib, to: /full/x, mode: '0700'}",
        "COPY --chmod=0700 app/lib /full/x",
    ),
    same(
        "from a stage: owners, modes and hard links stay",
        "{copy: /out, from: other, to: /x}",
        "COPY --from=other /out /x",
    ),
    same(
        "from a stage: a file",
        "{copy: /out/bin, from: other, to: /a/}",
        "COPY --from=other /out/bin /a/",
    ),
    same(
        "from a stage with an owner",
        "{copy: /out, from: other, to: /x, owner: '1:2'}",
        "COPY --from=other --chown=1:2 /out /x",
    ),
];

#[test]
fn copies_like_buildkit() {
    let docker = peer!(Dockerd::shared());
    let client = peer!(docker.buildkit_client());
    let trees = Trees::write();
    let mut stages = String::new();
    for (number, case) in CASES.iter().enumerate() {
        stages += &format!("FROM base AS case{number}\n{}\n", case.theirs);
    }
    fs::write(trees.dockerfile(), dockerfile(&stages)).expect("write a file");
    let build = |number: usize, archive: &Path| {
        let target = format!("case{number}");
        let flags = [
            "--target",
            &target,
            "-o",
            &as_tar(archive),
            "-f",
            &trees.dockerfile(),
        ];
        docker.build(&client, &flags, &trees.context())
    };
    trees.judge(build, |case| case.buildkit);
}

#[test]
fn copies_like_buildah() {
    let buildah = peer!(Buildah::start());
    let trees = Trees::write();
    let build = |number: usize, archive: &Path| {
        // It builds every stage of a file, wanted or not.
        let case = format!("FROM base\n{}\n", CASES[number].theirs);
        fs::write(trees.dockerfile(), dockerfile(&case)).expect("write a file");
        let flags = ["-o", &as_tar(archive), "-f", &trees.dockerfile()];
        buildah.build(&flags, &trees.context())
    };
    trees.judge(build, |case| case.buildah);
}

/// Where both are told to write the tree of an image.
fn as_tar(archive: &Path) -> String {
    format!("type=tar,dest={}", archive.display())
}

/// A Dockerfile over the trees, with further stages.
fn dockerfile(stages: &str) -> String {
    format!(
        "FROM scratch AS base\nADD .base.tar /\nWORKDIR /work\n\
         FROM scratch AS other\nADD .other.tar /\n{stages}"
    )
}

/// What stands for the tree of a builder that refused.
const REFUSED: &str = "refused";

/// The trees on disk, for the others, and as we see them.
struct Trees {
    sandbox: Sandbox,
    context: Tree,
    base: Tree,
    other: Tree,
}

impl Trees {
    fn write() -> Trees {
        let sandbox = Sandbox::new();
        for (name, text) in [("context", CONTEXT), ("base", BASE), ("other", OTHER)] {
            let folder = sandbox.path(name);
            fs::create_dir_all(&folder).expect("create a folder");
            tree_text::write(&folder, text);
        }
        for name in ["base", "other"] {
            let archive = sandbox.path(format!("context/.{name}.tar"));
            let mut tar = sandbox.command("tar");
            tar.args(["--sort=name", "--numeric-owner", "-cf"]);
            run(tar.arg(archive).arg("-C").arg(sandbox.path(name)).arg(".")).ok();
        }
        Trees {
            context: tree_of(&sandbox.path("context")),
            base: tree_of(&sandbox.path("base")),
            other: tree_of(&sandbox.path("other")),
            sandbox,
        }
    }

    fn context(&self) -> PathBuf {
        self.sandbox.path("context")
    }

    /// Outside of the context, so that no step can copy it.
    fn dockerfile(&self) -> String {
        self.sandbox.path("Dockerfile").display().to_string()
    }

    /// Compares every case with what `build` makes of it in the archive that it is given, and
    /// fails with all rows that are not as the table says.
    #[track_caller]
    fn judge(&self, build: impl Fn(usize, &Path) -> Ran, stance: impl Fn(&Case) -> Stance) {
        let mut wrong = Vec::new();
        for (number, case) in CASES.iter().enumerate() {
            let archive = self.sandbox.path("out.tar");
            let ran = build(number, &archive);
            let theirs = match ran.code {
                0 => listing_of_archive(&archive),
                _ => REFUSED.to_owned(),
            };
            let ours = self.ours(case);
            let ours_text = ours.as_deref().unwrap_or(REFUSED);
            match (stance(case), ours_text == theirs) {
                (Same, true) | (Differs(_), false) => {}
                (Same, false) => wrong.push(format!(
                    "{}: {}\n{}they said: {}",
                    case.rule,
                    ours.as_ref().err().map_or("", |said| said),
                    difference(ours_text, &theirs),
                    ran.stderr.lines().last().unwrap_or_default()
                )),
                (Differs(why), true) => wrong.push(format!("{}: no longer {why}", case.rule)),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }

    /// The tree after our step, or what we say against it.
    fn ours(&self, case: &Case) -> Result<String, String> {
        let action = action(case.ours);
        let from_stage = matches!(&action, Action::Copy(copy) if copy.from.is_some());
        let source = match from_stage {
            true => (&self.other, SourceKind::Tree),
            false => (&self.context, SourceKind::Context),
        };
        let workdir = "/work".parse().expect("a path");
        let accounts = self.base.accounts(read).expect("accounts");
        let scene = Scene {
            tree: &self.base,
            workdir: &workdir,
            accounts: &accounts,
            source: Some(source),
            space: 1,
            args: &Args::default(),
            read: &read,
        };
        let changes = apply(&action, &scene).map_err(|error| error.message)?;
        let mut tree = self.base.clone();
        tree.apply(&changes).expect("the changes fit their tree");
        Ok(listing_of_tree(&tree))
    }
}

fn action(yaml: &str) -> Action {
    let text = format!(
        "format: 1\ncontexts: {{other: other}}\nstages:\n  s:\n    from: scratch\n    steps:\n      - {yaml}\n"
    );
    let source = Arc::new(SourceText::new("test", text));
    let platform = "linux/amd64".parse().expect("a platform");
    let inputs = ParseInputs {
        arg_overrides: &[],
        platform: &platform,
    };
    let spec = parse(&source, &inputs).unwrap_or_else(|wrong| panic!("{yaml}: {wrong}"));
    spec.stages[0].steps[0].action.clone()
}

fn read(content: &Content) -> Result<Vec<u8>, String> {
    match content {
        Content::Inline(inline) => Ok(inline.bytes().to_vec()),
        _ => Err("not in memory".to_owned()),
    }
}

/// A directory as the library's tree, read without the library's walk: owners are wanted here.
fn tree_of(root: &Path) -> Tree {
    let mut tree = Tree::new();
    for row in Listing::of_directory(root).rows {
        let path = LayerPath::parse(&row.path).expect("a path");
        let disk = root.join(path.as_os_str());
        let mode = u16::try_from(row.mode).expect("twelve bits");
        let mut entry = match row.kind {
            "dir" => Entry::directory(mode),
            "link" => Entry::symlink(&row.target.expect("a target")),
            _ => Entry::file(fs::read(&disk).expect("read a file"), mode),
        };
        let meta = fs::symlink_metadata(&disk).expect("stat a file");
        (entry.uid, entry.gid) = (meta.uid(), meta.gid());
        if let (Node::File(file), true) = (&mut entry.node, meta.nlink() > 1) {
            file.inode = Some(Inode {
                space: meta.dev(),
                number: meta.ino(),
            });
        }
        tree.insert(path, entry);
    }
    tree
}

fn listing_of_tree(tree: &Tree) -> String {
    let mut links = HardLinks::new();
    let entries = tree.iter().filter(|(path, _)| !path.is_root());
    let rows = entries.map(|(path, entry)| {
        let first = links.earlier_name(path, entry);
        let (kind, target, content) = match (&entry.node, first) {
            (_, Some(first)) => ("hard", Some(first.as_bytes().to_vec()), None),
            (Node::Directory, _) => ("dir", None, None),
            (Node::Symlink(target), _) => ("link", Some(target.to_vec()), None),
            (Node::File(file), _) => {
                let digest = file.content.digest().expect("a digest").to_string();
                ("file", None, Some((file.content.size(), digest)))
            }
            (other, _) => panic!("{path}: {other:?}"),
        };
        Row {
            kind,
            path: path.as_bytes().to_vec(),
            mode: entry.mode.into(),
            owner: Some((entry.uid.into(), entry.gid.into())),
            mtime: None,
            target,
            content,
            xattrs: Default::default(),
        }
    });
    let rows = rows.collect();
    Listing { rows }.sorted().to_string()
}

fn listing_of_archive(archive: &Path) -> String {
    let file = fs::File::open(archive).expect("open what was built");
    let mut listing = Listing::of_layer(file).without_times().sorted();
    // The root itself, which some list and some do not.
    listing
        .rows
        .retain(|row| !matches!(&row.path[..], b"" | b"." | b"./"));
    listing.to_string()
}

/// The lines that only one of two listings has.
fn difference(ours: &str, theirs: &str) -> String {
    if [ours, theirs].contains(&REFUSED) {
        let first = |text: &str| if text == REFUSED { "refused" } else { "done" }.to_owned();
        return format!("  we:   {}\n  they: {}\n", first(ours), first(theirs));
    }
    let only = |one: &str, other: &str, mark: &str| -> String {
        let lines = one
            .lines()
            .filter(|line| !other.lines().any(|o| o == *line));
        lines.map(|line| format!("  {mark} {line}\n")).collect()
    };
    only(ours, theirs, "we:  ") + &only(theirs, ours, "they:")
}

/// buildah with its own storage and without containers: no `RUN` is ever asked of it.
struct Buildah {
    sandbox: Sandbox,
}

impl Buildah {
    fn start() -> Result<Buildah, Skip> {
        required("buildah")?;
        require_root("buildah")?;
        Ok(Buildah {
            sandbox: Sandbox::new(),
        })
    }

    fn build(&self, flags: &[&str], context: &Path) -> Ran {
        let mut command = self.sandbox.command("buildah");
        let root = self.sandbox.root();
        command.args(["--log-level", "error", "--storage-driver", "vfs"]);
        command.arg("--root").arg(root.join("root"));
        command.arg("--runroot").arg(root.join("run"));
        command.args(["build", "--isolation", "chroot", "--layers"]);
        run(command.args(flags).arg(context))
    }
}
