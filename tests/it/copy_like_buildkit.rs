//! `copy` beside `COPY` of BuildKit, whose semantics ours are, on the same files: what stands in the
//! image afterwards is the same in kind, path, mode, owner, content and hard links.
//!
//! BuildKit is the one inside a docker daemon. Rows where we part from it on purpose say what it
//! does, and fail once it does so no more. Its `--parents` and `--exclude` are newer than the daemons
//! of stable distributions: their rules have rows in the room's own tests.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boxwright::spec::{Action, Args, NoFiles, ParseInputs, SourceText, parse};
use boxwright::steps::{Scene, SourceKind, apply};
use boxwright::tree::{Content, Entry, HardLinks, Inode, LayerPath, Node, Tree};

use crate::support::listing::{Listing, Row};
use crate::support::peers::{Dockerd, peer};
use crate::support::process::run;
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
    file 0644 twin/a.ts twin
    link out -> ../../etc/passwd
    link absolute -> /app/main.ts
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
    link out/absolute -> /out/one
    link jump -> out/sub
    dir 0700 out/sub
    file 0644 out/sub/deep deep
    owner out 5:6
    owner out/bin 5:6
    owner out/sub 9:9
    owner out/l 5:6
";

/// The rows: a rule, our step, the line of a Dockerfile, and where BuildKit does something else,
/// what that is.
const CASES: &str = r"
a file into the working directory
    copy: README.md
    COPY README.md ./

a file to a new name
    {copy: README.md, to: p}
    COPY README.md p

missing parents are made
    {copy: README.md, to: /a/b/c}
    COPY README.md /a/b/c

a slash means a directory
    {copy: README.md, to: /a/b/}
    COPY README.md /a/b/

an existing directory is one without a slash
    {copy: README.md, to: /tmp}
    COPY README.md /tmp

an existing file is replaced
    {copy: README.md, to: /etc/conf}
    COPY README.md /etc/conf

a link in the place of the file is replaced, not followed
    {copy: package.json, to: /full/}
    COPY package.json /full/

a link as the destination is followed
    {copy: README.md, to: /lib/}
    COPY README.md /lib/

a link as the destination is followed without a slash
    {copy: README.md, to: /lib}
    COPY README.md /lib

a link on the way is followed
    {copy: README.md, to: /lib/x/y}
    COPY README.md /lib/x/y

a dangling destination is made where it leads
    {copy: README.md, to: /dead}
    COPY README.md /dead

a destination in a circle
    {copy: README.md, to: /loop}
    COPY README.md /loop

the contents of a directory, which is made with 0755
    {copy: app, to: /new}
    COPY app /new

the same with slashes
    {copy: app/, to: /new/}
    COPY app/ /new/

an existing directory keeps its mode and owner
    {copy: app/lib, to: /full}
    COPY app/lib /full

an existing directory below takes those of the source
    {copy: app, to: /full}
    COPY app /full

an empty directory
    {copy: empty, to: /new}
    COPY empty /new

the whole context
    {copy: ., to: /new}
    COPY . /new

several sources
    {copy: [README.md, app/lib], to: /x/}
    COPY README.md app/lib /x/

several sources to one file
    {copy: [README.md, run.sh], to: /x}
    COPY README.md run.sh /x
    differs: copies one over the other, though its manual forbids it

a wildcard
    {copy: '*.json', to: /x/}
    COPY *.json /x/

a wildcard in the middle
    {copy: 'a*p/l*/?.[jt]s', to: /x/}
    COPY a*p/l*/?.[jt]s /x/

a wildcard with one match to a name
    {copy: READ*, to: /x}
    COPY READ* /x

a wildcard over directories takes their contents
    {copy: 'lib*', to: /x/}
    COPY lib* /x/

an escaped wildcard
    {copy: 'st\*r', to: /x/}
    COPY st\*r /x/

a wildcard without a match
    {copy: '*.none', to: /x/}
    COPY *.none /x/
    differs: copies nothing and says nothing

a missing source
    {copy: none, to: /x/}
    COPY none /x/

a link to a file is followed
    {copy: file, to: /x/}
    COPY file /x/

a link to a directory is followed
    {copy: alias, to: /x/}
    COPY alias /x/

a link on the way to a source is followed
    {copy: alias/lib/a.ts, to: /x}
    COPY alias/lib/a.ts /x

a link that a wildcard finds is followed
    {copy: 'fil*', to: /x/}
    COPY fil* /x/

a dangling link as a source
    {copy: dangling, to: /x/}
    COPY dangling /x/

a file on the way to the destination
    {copy: README.md, to: /etc/conf/x}
    COPY README.md /etc/conf/x

a slash after a file
    {copy: README.md, to: /etc/conf/}
    COPY README.md /etc/conf/

a directory onto a file
    {copy: app, to: /etc/conf}
    COPY app /etc/conf

a file onto a directory below
    {copy: clash, to: /}
    COPY clash /

a directory onto a file below
    {copy: clash2, to: /etc}
    COPY clash2 /etc

a directory onto a link below
    {copy: app, to: /linked}
    COPY app /linked

a numeric owner is the group, too
    {copy: app, to: /a/b, owner: '5'}
    COPY --chown=5 app /a/b

a named owner brings its group
    {copy: app, to: /a/b, owner: app}
    COPY --chown=app app /a/b

a named owner and group
    {copy: README.md, to: /x, owner: 'app:staff'}
    COPY --chown=app:staff README.md /x

an unknown owner
    {copy: README.md, to: /x, owner: none}
    COPY --chown=none README.md /x
    differs: takes an unknown name for root

an owner for what exists
    {copy: app, to: /full, owner: '5:7'}
    COPY --chown=5:7 app /full

setuid survives a new owner
    {copy: run.sh, to: /x, owner: app}
    COPY --chown=app run.sh /x

an octal mode, for directories too
    {copy: app, to: /new, mode: '0750'}
    COPY --chmod=0750 app /new

a mode leaves existing directories and made parents alone
    {copy: app/lib, to: /full/x, mode: '0700'}
    COPY --chmod=0700 app/lib /full/x

from a stage: owners, modes and hard links stay
    {copy: /out, from: other, to: /x}
    COPY --from=other /out /x

from a stage: a file
    {copy: /out/bin, from: other, to: /a/}
    COPY --from=other /out/bin /a/

from a stage with an owner
    {copy: /out, from: other, to: /x, owner: '1:2'}
    COPY --from=other --chown=1:2 /out /x

several sources to an existing directory without a slash
    {copy: [README.md, run.sh], to: /tmp}
    COPY README.md run.sh /tmp

a source that goes up and down again
    {copy: app/../README.md, to: /x}
    COPY app/../README.md /x

a source that goes up from what is not there
    {copy: none/../README.md, to: /x}
    COPY none/../README.md /x

a source that goes up through a link goes up as it is written
    {copy: /jump/deep/../../out/one, from: other, to: /x}
    COPY --from=other /jump/deep/../../out/one /x

a link that leads out of the context
    {copy: out, to: /x}
    COPY out /x

an absolute link stays in the context
    {copy: absolute, to: /x}
    COPY absolute /x

a wildcard for any number of directories
    {copy: '/**/deep', from: other, to: /x/}
    COPY --from=other /**/deep /x/
    differs: takes it for one directory

two sources of one name: the later one stays
    {copy: [app/lib/a.ts, twin/a.ts], to: /x/}
    COPY app/lib/a.ts twin/a.ts /x/

two directories merge, the later one's files stay
    {copy: [app/lib, twin], to: /x/}
    COPY app/lib twin /x/

two names of one file as two sources
    {copy: [/out/one, /out/two], from: other, to: /x/}
    COPY --from=other /out/one /out/two /x/
    differs: makes two files of one

a directory and a file in it
    {copy: [/out, /out/one], from: other, to: /x/}
    COPY --from=other /out /out/one /x/

from a stage: all of it
    {copy: /, from: other, to: /}
    COPY --from=other / /

from a stage: its own links are followed
    {copy: /out/absolute, from: other, to: /x}
    COPY --from=other /out/absolute /x

a mode for a link's file
    {copy: file, to: /x, mode: '0600'}
    COPY --chmod=0600 file /x

made parents are the owner's
    {copy: README.md, to: /a/b/c, owner: '5:6'}
    COPY --chown=5:6 README.md /a/b/c
";

struct Case {
    rule: &'static str,
    ours: &'static str,
    theirs: &'static str,
    /// What BuildKit does, where it does not do the same.
    differs: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let rows = CASES.split("\n\n").map(|row| {
        let mut lines = row.trim().lines().map(str::trim);
        let mut line = || lines.next();
        Case {
            rule: line().expect("a rule"),
            ours: line().expect("our step"),
            theirs: line().expect("their line"),
            differs: line().map(|line| line.strip_prefix("differs: ").expect("a difference")),
        }
    });
    rows.collect()
}

/// How many builds run at once: one alone mostly waits for the daemon.
const AT_ONCE: usize = 4;

#[test]
fn copies_like_buildkit() {
    let docker = peer!(Dockerd::shared());
    let client = peer!(docker.buildkit_client());
    let (trees, cases) = (Trees::write(), cases());
    fs::write(trees.dockerfile(), dockerfile(&cases)).expect("write a file");
    let wrong = |(number, case): (usize, &Case)| {
        let archive = trees.sandbox.path(format!("{number}.tar"));
        let target = format!("case{number}");
        let out = format!("type=tar,dest={}", archive.display());
        let flags = ["--target", &target, "-o", &out, "-f", &trees.dockerfile()];
        let ran = docker.build(&client, &flags, &trees.context());
        let theirs = match ran.code {
            0 => Ok(listing_of_archive(&archive)),
            _ => Err(ran.stderr.lines().last().unwrap_or_default().to_owned()),
        };
        judge(case, trees.ours(case), theirs)
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let share = |first: usize| cases.iter().enumerate().skip(first).step_by(AT_ONCE);
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|first| scope.spawn(move || share(first).filter_map(wrong).collect::<Vec<_>>()))
            .collect();
        let done = workers.into_iter().map(|worker| worker.join());
        done.flat_map(|found| found.expect("a worker")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with a row, given the tree or the refusal of both.
fn judge(
    case: &Case,
    ours: Result<String, String>,
    theirs: Result<String, String>,
) -> Option<String> {
    let is_same = match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => ours == theirs,
        (ours, theirs) => ours.is_err() && theirs.is_err(),
    };
    let said = match (case.differs, is_same) {
        (None, true) | (Some(_), false) => return None,
        (Some(differs), true) => format!("it no longer {differs}\n"),
        (None, false) => match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => difference(&ours, &theirs),
            (Err(ours), _) => format!("  we refuse: {ours}\n"),
            (_, Err(theirs)) => format!("  they refuse: {theirs}\n"),
        },
    };
    Some(format!("{}:\n{said}", case.rule))
}

/// A Dockerfile with the trees, and a stage for each case.
fn dockerfile(cases: &[Case]) -> String {
    let stages = cases.iter().enumerate();
    let stages =
        stages.map(|(number, case)| format!("FROM base AS case{number}\n{}\n", case.theirs));
    format!(
        "FROM scratch AS base\nADD .base.tar /\nWORKDIR /work\n\
         FROM scratch AS other\nADD .other.tar /\n{}",
        stages.collect::<String>()
    )
}

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
        profile: None,
        platform: &platform,
        files: &NoFiles,
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
    let only = |one: &str, other: &str, mark: &str| -> String {
        let lines = one
            .lines()
            .filter(|line| !other.lines().any(|o| o == *line));
        lines.map(|line| format!("  {mark} {line}\n")).collect()
    };
    only(ours, theirs, "we:  ") + &only(theirs, ours, "they:")
}
