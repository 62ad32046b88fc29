//! Every rule of `copy` as a row: a source, a destination, a step, and what changes.

use super::*;
use crate::spec::{
    AbsolutePath, Action, Args, ContextPath, NoFiles, ParseInputs, SourceText, parse,
};
use crate::steps::scene::apply;
use crate::tree::{Accounts, Change, Content, Xattrs};
use proptest::prelude::*;
use std::sync::Arc;

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

/// A tree from lines: `d PATH [MODE]`, `f PATH [MODE [UID:GID]]`, `l PATH TARGET`, `h PATH NUMBER`.
fn tree(lines: &str) -> Tree {
    let mut changes = Changeset::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        let mode = |default| {
            words
                .get(2)
                .map_or(default, |text| u16::from_str_radix(text, 8).unwrap())
        };
        let mut entry = match words[0] {
            "d" => Entry::directory(mode(0o755)),
            "f" => Entry::file(words[1], mode(0o644)),
            "l" => Entry::symlink(words[2].as_bytes()),
            "h" => Entry::file("linked", 0o644),
            other => panic!("{other}"),
        };
        if let ("h", Node::File(file)) = (words[0], &mut entry.node) {
            file.inode = Some(Inode {
                space: 9,
                number: words[2].parse().unwrap(),
            });
        }
        if let Some((uid, gid)) = words.get(3).and_then(|owner| owner.split_once(':')) {
            (entry.uid, entry.gid) = (uid.parse().unwrap(), gid.parse().unwrap());
        }
        changes.put(path(words[1]), entry);
    }
    let mut tree = Tree::new();
    tree.apply(&changes).unwrap();
    tree
}

fn step(yaml: &str) -> Action {
    let text = format!(
        "format: 1\ncontexts: {{other: other}}\nstages:\n  s:\n    from: scratch\n    steps:\n      - {yaml}\n"
    );
    let source = Arc::new(SourceText::new("test", text));
    let platform = "linux/amd64".parse().unwrap();
    let spec = parse(
        &source,
        &ParseInputs {
            arg_overrides: &[],
            profile: None,
            platform: &platform,
            files: &NoFiles,
        },
    )
    .unwrap_or_else(|problems| panic!("{yaml}: {problems}"));
    spec.stages[0].steps[0].action.clone()
}

fn run(source: &Tree, kind: SourceKind, base: &Tree, yaml: &str) -> Result<Changeset, StepError> {
    on_stage(source, kind, base, |scene| apply(&step(yaml), scene))
}

fn on_stage<T>(source: &Tree, kind: SourceKind, base: &Tree, act: impl Fn(&Scene<'_>) -> T) -> T {
    let workdir: AbsolutePath = "/work".parse().unwrap();
    let accounts = Accounts::parse(b"app:x:1001:1002::/:/bin/sh\n", b"staff:x:50:\n");
    act(&Scene {
        tree: base,
        workdir: &workdir,
        accounts: &accounts,
        source: Some((source, kind)),
        space: 3,
        args: &Args::default(),
        read: &|content| match content {
            Content::Inline(inline) => Ok(inline.bytes().to_vec()),
            _ => Err("not in memory".to_owned()),
        },
    })
}

fn shown(changes: &Changeset) -> Vec<String> {
    let mut links = crate::tree::HardLinks::new();
    changes
        .iter()
        .map(|(path, change)| {
            let Change::Put(entry) = change else {
                return format!("{path} {change:?}");
            };
            let what = match (&entry.node, links.earlier_name(path, entry)) {
                (_, Some(first)) => format!("= {first}"),
                (Node::Directory, _) => "dir".to_owned(),
                (Node::Symlink(target), _) => format!("-> {}", String::from_utf8_lossy(target)),
                (Node::File(file), _) => match &file.content {
                    Content::Inline(inline) => String::from_utf8_lossy(inline.bytes()).into_owned(),
                    _ => "?".to_owned(),
                },
                _ => "other".to_owned(),
            };
            let owner = if (entry.uid, entry.gid) == (0, 0) {
                String::new()
            } else {
                format!(" {}:{}", entry.uid, entry.gid)
            };
            let mode = if matches!(entry.node, Node::Symlink(_)) {
                String::new()
            } else {
                format!(" {:o}", entry.mode)
            };
            format!("{path}{mode}{owner} {what}")
        })
        .collect()
}

const SOURCE: &str = "
    d app 750
    f app/main.ts
    f app/lib/a.ts 600
    f app/lib/b.js
    l app/link main.ts
    f package.json
    f README.md
    f run.sh 4755 7:8
    l alias app
    l file package.json
    l dangling nowhere
    l out ../../etc/passwd
    d tops 700
    d tops/share 711
    f tops/share/new
    l linked/way ../app/lib
";

const BASE: &str = "
    d work 700
    d tmp 1777
    d usr/lib
    d usr/share/doc
    d usr/lib/share/share
    l lib usr/lib
    l dead gone/away
    l marks/README.md elsewhere
    f etc/conf 640
";

#[test]
fn rules() {
    let rows: &[(&str, &str, &[&str])] = &[
        (
            "a file into the working directory",
            "copy: package.json",
            &["/work 700 dir", "/work/package.json 644 package.json"],
        ),
        (
            "a file to a new name",
            "{copy: package.json, to: p.json}",
            &["/work 700 dir", "/work/p.json 644 package.json"],
        ),
        (
            "a file to an absolute path",
            "{copy: README.md, to: /a/b}",
            &["/a 755 dir", "/a/b 644 README.md"],
        ),
        (
            "a slash means a directory",
            "{copy: README.md, to: /a/b/}",
            &["/a 755 dir", "/a/b 755 dir", "/a/b/README.md 644 README.md"],
        ),
        (
            "an existing directory is one without a slash",
            "{copy: README.md, to: /tmp}",
            &["/tmp 1777 dir", "/tmp/README.md 644 README.md"],
        ),
        (
            "an existing file is replaced",
            "{copy: README.md, to: /etc/conf}",
            &["/etc 755 dir", "/etc/conf 644 README.md"],
        ),
        (
            "the contents of a directory, which is made with 0755",
            "{copy: app, to: /new}",
            &[
                "/new 755 dir",
                "/new/lib 755 dir",
                "/new/lib/a.ts 600 app/lib/a.ts",
                "/new/lib/b.js 644 app/lib/b.js",
                "/new/link -> main.ts",
                "/new/main.ts 644 app/main.ts",
            ],
        ),
        (
            "an existing directory keeps its mode",
            "{copy: app/lib/, to: /tmp}",
            &[
                "/tmp 1777 dir",
                "/tmp/a.ts 600 app/lib/a.ts",
                "/tmp/b.js 644 app/lib/b.js",
            ],
        ),
        (
            "the root is never put",
            "{copy: app/lib, to: /}",
            &["/a.ts 600 app/lib/a.ts", "/b.js 644 app/lib/b.js"],
        ),
        (
            "several sources",
            "{copy: [package.json, app/lib], to: ./}",
            &[
                "/work 700 dir",
                "/work/a.ts 600 app/lib/a.ts",
                "/work/b.js 644 app/lib/b.js",
                "/work/package.json 644 package.json",
            ],
        ),
        (
            "a wildcard",
            "{copy: app/lib/*.ts, to: /x/}",
            &["/x 755 dir", "/x/a.ts 600 app/lib/a.ts"],
        ),
        (
            "a wildcard in the middle",
            "{copy: '*/lib/b*', to: /x/}",
            &["/x 755 dir", "/x/b.js 644 app/lib/b.js"],
        ),
        (
            "a wildcard with one match to a name",
            "{copy: READ*, to: /x}",
            &["/x 644 README.md"],
        ),
        (
            "a link as a source is followed",
            "{copy: file, to: /x/}",
            &["/x 755 dir", "/x/file 644 package.json"],
        ),
        (
            "a link on the way is followed",
            "{copy: alias/lib/a.ts, to: /x}",
            &["/x 600 app/lib/a.ts"],
        ),
        (
            "a link as the destination is followed",
            "{copy: README.md, to: /lib/}",
            &[
                "/usr 755 dir",
                "/usr/lib 755 dir",
                "/usr/lib/README.md 644 README.md",
            ],
        ),
        (
            "a dangling destination is made where it leads",
            "{copy: README.md, to: /dead}",
            &["/gone 755 dir", "/gone/away 644 README.md"],
        ),
        (
            "a numeric owner",
            "{copy: README.md, to: /x/y, owner: '5'}",
            &["/x 755 5:5 dir", "/x/y 644 5:5 README.md"],
        ),
        (
            "a named owner",
            "{copy: README.md, to: /x, owner: 'app:staff'}",
            &["/x 644 1001:50 README.md"],
        ),
        (
            "setuid survives a new owner",
            "{copy: run.sh, to: /x, owner: app}",
            &["/x 4755 1001:1002 run.sh"],
        ),
        (
            "files of a context are root's",
            "{copy: run.sh, to: /x}",
            &["/x 4755 run.sh"],
        ),
        (
            "a mode with X, not for existing directories",
            "{copy: app, to: /tmp, mode: 'u=rwX,go=rX'}",
            &[
                "/tmp 1777 dir",
                "/tmp/lib 755 dir",
                "/tmp/lib/a.ts 644 app/lib/a.ts",
                "/tmp/lib/b.js 644 app/lib/b.js",
                "/tmp/link -> main.ts",
                "/tmp/main.ts 644 app/main.ts",
            ],
        ),
        (
            "an octal mode",
            "{copy: README.md, to: /x, mode: '0400'}",
            &["/x 400 README.md"],
        ),
        (
            "exclude",
            "{copy: app, to: /x, exclude: ['**/*.ts', link]}",
            &[
                "/x 755 dir",
                "/x/lib 755 dir",
                "/x/lib/b.js 644 app/lib/b.js",
            ],
        ),
        (
            "exclude, and back in",
            "{copy: app, to: /x, exclude: ['*', '!lib/a.ts']}",
            &[
                "/x 755 dir",
                "/x/lib 755 dir",
                "/x/lib/a.ts 600 app/lib/a.ts",
            ],
        ),
        (
            "parents",
            "{copy: app/lib/a.ts, to: /x/, parents: true}",
            &[
                "/x 755 dir",
                "/x/app 750 dir",
                "/x/app/lib 755 dir",
                "/x/app/lib/a.ts 600 app/lib/a.ts",
            ],
        ),
        (
            "parents with a pivot",
            "{copy: app/./lib/*.ts, to: /x/, parents: true}",
            &[
                "/x 755 dir",
                "/x/lib 755 dir",
                "/x/lib/a.ts 600 app/lib/a.ts",
            ],
        ),
        (
            "parents of a directory",
            "{copy: app/lib, to: /x, parents: true}",
            &[
                "/x 755 dir",
                "/x/app 750 dir",
                "/x/app/lib 755 dir",
                "/x/app/lib/a.ts 600 app/lib/a.ts",
                "/x/app/lib/b.js 644 app/lib/b.js",
            ],
        ),
        (
            "a file in place of a link replaces the link",
            "{copy: README.md, to: /marks/}",
            &["/marks 755 dir", "/marks/README.md 644 README.md"],
        ),
        (
            "a directory that is merged takes the source's mode, the destination does not",
            "{copy: tops, to: /usr}",
            &[
                "/usr 755 dir",
                "/usr/share 711 dir",
                "/usr/share/new 644 tops/share/new",
            ],
        ),
        (
            "a path that goes up and down again",
            "{copy: app/lib/../main.ts, to: /x}",
            &["/x 644 app/main.ts"],
        ),
        (
            "the whole source, as `.` or `/`",
            "{copy: /, to: /x/, exclude: ['*', '!README.md']}",
            &["/x 755 dir", "/x/README.md 644 README.md"],
        ),
        (
            "a single file that is excluded",
            "{copy: [README.md, package.json], to: /x/, exclude: '*.md'}",
            &["/x 755 dir", "/x/package.json 644 package.json"],
        ),
        (
            "parents with wildcards before the pivot",
            "{copy: '*/./lib/b.js', to: /x/, parents: true}",
            &[
                "/x 755 dir",
                "/x/lib 755 dir",
                "/x/lib/b.js 644 app/lib/b.js",
            ],
        ),
        (
            "parents over a link are directories of its name",
            "{copy: alias/lib/b.js, to: /x/, parents: true}",
            &[
                "/x 755 dir",
                "/x/alias 750 dir",
                "/x/alias/lib 755 dir",
                "/x/alias/lib/b.js 644 app/lib/b.js",
            ],
        ),
        (
            "follow, and exclude what is behind the link",
            "{copy: linked, to: /x, follow: true, exclude: [way/a.ts]}",
            &[
                "/x 755 dir",
                "/x/way 755 dir",
                "/x/way/b.js 644 app/lib/b.js",
            ],
        ),
        (
            "follow",
            "{copy: app, to: /x, follow: true, exclude: [lib]}",
            &[
                "/x 755 dir",
                "/x/link 644 app/main.ts",
                "/x/main.ts 644 app/main.ts",
            ],
        ),
    ];
    let (source, base) = (tree(SOURCE), tree(BASE));
    for (rule, yaml, expected) in rows {
        let changes = run(&source, SourceKind::Context, &base, yaml)
            .unwrap_or_else(|error| panic!("{rule}: {error:?}"));
        assert_eq!(shown(&changes), *expected, "{rule}");
        base.clone().apply(&changes).unwrap();
    }
}

#[test]
fn what_cannot_be_is_an_error_with_a_remedy() {
    let (source, base) = (tree(SOURCE), tree(BASE));
    for (yaml, message, help) in [
        (
            "copy: pakage.json",
            "\"pakage.json\" does not exist",
            "did you mean \"package.json\"?",
        ),
        (
            "copy: app/lib/c*",
            "nothing matches \"app/lib/c*\"",
            ".dockerignore",
        ),
        (
            "{copy: [README.md, package.json], to: /x}",
            "2 sources cannot be copied to the one path /x",
            "`to: /x/`",
        ),
        (
            "{copy: dangling, to: /x}",
            "symbolic link to /nowhere, which does not exist",
            "exclude",
        ),
        ("{copy: out, to: /x}", "which does not exist", "exclude"),
        (
            "{copy: README.md, to: /etc/conf/x}",
            "/etc/conf is not a directory",
            "remove",
        ),
        (
            "{copy: README.md, to: /etc/conf/}",
            "/etc/conf is not a directory",
            "remove",
        ),
        (
            "{copy: app, to: /etc/conf}",
            "/etc/conf is not a directory",
            "remove",
        ),
        (
            "{copy: README.md, to: /x, owner: ap}",
            "the image has no user \"ap\"",
            "did you mean \"app\"?",
        ),
        (
            "{copy: README.md, to: /x, owner: 'app:x'}",
            "the image has no group \"x\"",
            "groups:",
        ),
        (
            "{copy: '**/./lib', to: /x/, parents: true}",
            "`**` cannot stand before",
            "one by one",
        ),
        (
            "{copy: app, to: /x, exclude: ['[']}",
            "malformed",
            "bracket",
        ),
    ] {
        let error = run(&source, SourceKind::Context, &base, yaml).expect_err(yaml);
        assert!(error.message.contains(message), "{yaml}: {}", error.message);
        assert!(
            error.help.iter().any(|line| line.contains(help)),
            "{yaml}: {:?}",
            error.help
        );
    }
}

#[test]
fn a_file_and_a_directory_never_replace_each_other_in_silence() {
    let source = tree("f a/x\nd b/y");
    let base = tree("d x\nf y");
    for yaml in ["{copy: a, to: /}", "{copy: b, to: /}"] {
        let error = run(&source, SourceKind::Context, &base, yaml).unwrap_err();
        assert!(
            error.message.contains("cannot replace"),
            "{}",
            error.message
        );
    }
    let onto_link = tree("l y elsewhere");
    assert!(run(&source, SourceKind::Context, &onto_link, "{copy: b, to: /}").is_err());
}

#[test]
fn from_a_stage_owners_and_links_stay() {
    let source = tree(
        "d out 755 5:6\nf out/bin 755 5:6\nl out/l bin\nh out/one 1\nh out/two 1\nh out/three 2",
    );
    let changes = run(
        &source,
        SourceKind::Tree,
        &Tree::new(),
        "{copy: /out, from: other, to: /x}",
    )
    .unwrap();
    assert_eq!(
        shown(&changes),
        [
            "/x 755 dir",
            "/x/bin 755 5:6 out/bin",
            "/x/l -> bin",
            "/x/one 644 linked",
            "/x/three 644 linked",
            "/x/two 644 = /x/one"
        ]
    );
}

/// A tree read from the store numbers every file; copies must not become links because of it.
#[test]
fn a_file_that_is_copied_twice_is_two_files() {
    let source = tree("h d/one 1\nh d/two 1\nh d/three 2\nl again d/three");
    let changes = run(
        &source,
        SourceKind::Tree,
        &Tree::new(),
        "{copy: [d, d/three, again], from: other, to: /x/}",
    )
    .unwrap();
    assert_eq!(
        shown(&changes),
        [
            "/x 755 dir",
            "/x/again 644 linked",
            "/x/one 644 linked",
            "/x/three 644 linked",
            "/x/two 644 = /x/one"
        ]
    );
}

#[test]
fn attributes_pipes_and_devices_survive() {
    let capability = ("security.capability".as_bytes().into(), [1, 0, 0, 2].into());
    let mut source = tree("d d");
    let file = Entry {
        xattrs: Xattrs::from_iter([capability]),
        ..Entry::file("x", 0o4755)
    };
    source.insert(path("d/capable"), file);
    source.insert(path("d/null"), Entry::new(Node::CharDevice(1, 3), 0o666));
    source.insert(path("d/pipe"), Entry::new(Node::Fifo, 0o600));
    let yaml = "{copy: d, from: other, to: /x, owner: '5:6', mode: 'g+w'}";
    let changes = run(&source, SourceKind::Tree, &Tree::new(), yaml).unwrap();
    let copied = |name: &str| changes.entry(&path(name)).unwrap();
    let capable = copied("x/capable");
    assert_eq!((capable.uid, capable.gid, capable.mode), (5, 6, 0o4775));
    assert_eq!(
        capable.xattrs.value(b"security.capability"),
        Some(&[1, 0, 0, 2][..])
    );
    assert_eq!(copied("x/null").node, Node::CharDevice(1, 3));
    assert_eq!(
        (&copied("x/pipe").node, copied("x/pipe").mode),
        (&Node::Fifo, 0o620)
    );
}

#[test]
fn links_are_not_followed_for_ever() {
    // Each of these directories holds the next one twice: 2^30 files, if nobody counted.
    let doubling: String = (0..30)
        .map(|n| format!("l d{n}/a ../d{}\nl d{n}/b ../d{}\n", n + 1, n + 1))
        .collect();
    let source = tree(&format!(
        "f d/f\nl d/up ..\nl self self\nl p/to ../q\nl q/fro ../p\n{doubling}f d30/f"
    ));
    for (yaml, message) in [
        ("{copy: d, to: /x, follow: true}", "leads back into"),
        ("{copy: p, to: /x, follow: true}", "leads back into"),
        ("{copy: self, to: /x}", "too many levels"),
        ("{copy: d0, to: /x, follow: true}", "too many entries"),
    ] {
        let Action::Copy(step) = step(yaml) else {
            panic!("{yaml}")
        };
        let error = on_stage(&source, SourceKind::Context, &Tree::new(), |scene| {
            copy_at_most(&step, scene, 1000).expect_err(yaml)
        });
        assert!(error.message.contains(message), "{yaml}: {}", error.message);
    }
}

#[test]
fn other_steps() {
    let base = tree(BASE);
    let mut source = tree("f t.json\nd dir");
    source.insert(path("large"), Entry::file(vec![b' '; (4 << 20) + 1], 0o644));
    let changes =
        |yaml: &str| run(&source, SourceKind::Context, &base, yaml).map(|changes| shown(&changes));
    let rows: &[(&str, &[&str])] = &[
        (
            "{write: /app/x.json, text: hello, owner: app, mode: '0600'}",
            &["/app 755 1001:1002 dir", "/app/x.json 600 1001:1002 hello"],
        ),
        (
            "{write: x, template: t.json}",
            &["/work 700 dir", "/work/x 644 t.json"],
        ),
        (
            "{mkdir: [/a/b, /tmp]}",
            &["/a 755 dir", "/a/b 755 dir", "/tmp 1777 dir"],
        ),
        (
            "{mkdir: /tmp, mode: '0700', owner: '5:6'}",
            &["/tmp 700 5:6 dir"],
        ),
        (
            "{mkdir: /lib/x}",
            &["/usr 755 dir", "/usr/lib 755 dir", "/usr/lib/x 755 dir"],
        ),
        (
            "{link: /bin/sh, target: ../lib/sh}",
            &["/bin 755 dir", "/bin/sh -> ../lib/sh"],
        ),
        (
            "{link: /etc/other, target: /etc/conf, hard: true}",
            &[
                "/etc 755 dir",
                "/etc/conf 640 etc/conf",
                "/etc/other 640 = /etc/conf",
            ],
        ),
        (
            "{remove: /usr/share/*}",
            &[
                "/usr 755 dir",
                "/usr/share 755 dir",
                "/usr/share/doc Whiteout",
            ],
        ),
        ("{remove: /lib}", &["/lib Whiteout"]),
        (
            "{remove: /lib/share}",
            &[
                "/usr 755 dir",
                "/usr/lib 755 dir",
                "/usr/lib/share Whiteout",
            ],
        ),
        // Below a whiteout there is no other: loaders would make the directory anew for it.
        ("{remove: [/usr, /usr/share]}", &["/usr Whiteout"]),
        ("{remove: [/usr/share, /usr]}", &["/usr Whiteout"]),
        (
            "{remove: '/**/share'}",
            &[
                "/usr 755 dir",
                "/usr/lib 755 dir",
                "/usr/lib/share Whiteout",
                "/usr/share Whiteout",
            ],
        ),
        ("{remove: /nothing, optional: true}", &[]),
    ];
    for (yaml, expected) in rows {
        assert_eq!(
            changes(yaml).unwrap_or_else(|error| panic!("{yaml}: {error:?}")),
            *expected,
            "{yaml}"
        );
    }
    for (yaml, message) in [
        ("{write: /tmp/, text: x}", "is a directory"),
        (
            "{write: /tmp, text: x}",
            "cannot replace the directory /tmp",
        ),
        ("{write: /x, template: none}", "does not exist"),
        ("{write: /x, template: dir}", "is not a file"),
        ("{mkdir: /etc/conf}", "is not a directory"),
        ("{mkdir: /, mode: '0700'}", "the root keeps"),
        ("{write: /x, template: large}", "at most 4194304 are read"),
        ("{link: /tmp, target: x}", "exists already"),
        ("{link: /, target: x}", "exists already"),
        ("{link: /x, target: /none, hard: true}", "does not exist"),
        ("{remove: /nothing}", "nothing to remove"),
        ("{remove: /}", "root cannot be removed"),
    ] {
        let error = run(&source, SourceKind::Context, &base, yaml).expect_err(yaml);
        assert!(error.message.contains(message), "{yaml}: {}", error.message);
        assert!(
            !error.help.is_empty() || error.message.starts_with("the template"),
            "{yaml}"
        );
    }
}

#[test]
fn a_template_says_which_line_is_wrong() {
    let mut source = Tree::new();
    source.insert(path("t"), Entry::file("one\n${NOTHING}\n", 0o644));
    let error = run(
        &source,
        SourceKind::Context,
        &Tree::new(),
        "{write: /x, template: t}",
    )
    .unwrap_err();
    assert!(error.help[0].starts_with("t:2: "), "{error:?}");
}

/// Small trees over a small alphabet, links among them.
fn trees() -> impl Strategy<Value = Tree> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    let names = proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let target = prop_oneof![
        Just("a"),
        Just("../b"),
        Just("/c/a"),
        Just("../../.."),
        Just("/")
    ];
    let line = (names, 0..3, target).prop_map(|(path, kind, target)| match kind {
        0 => format!("d {path}"),
        1 => format!("f {path}"),
        _ => format!("l {path} {target}"),
    });
    proptest::collection::vec(line, 0..8).prop_map(|lines| {
        let mut built = Tree::new();
        for line in lines {
            let mut next = built.clone();
            let words: Vec<&str> = line.split(' ').collect();
            let mut changes = Changeset::new();
            let entry = match words[0] {
                "d" => Entry::directory(0o755),
                "f" => Entry::file(words[1], 0o644),
                _ => Entry::symlink(words[2].as_bytes()),
            };
            changes.put(path(words[1]), entry);
            if next.apply(&changes).is_ok() {
                built = next;
            }
        }
        built
    })
}

proptest! {
    #[test]
    fn nothing_is_put_outside_of_the_destination(source in trees(), base in trees(), from in "[abc./]{1,5}", to in "[abc/]{0,5}", follow: bool) {
        let Ok(from) = from.parse::<ContextPath>() else { return Ok(()) };
        let to = format!("/dest/{to}");
        let yaml = format!("{{copy: '{}', to: '{to}', follow: {follow}}}", from.as_str());
        if let Ok(changes) = run(&source, SourceKind::Tree, &base, &yaml) {
            for (path, change) in changes.iter() {
                let is_way = change.entry().is_some_and(Entry::is_directory);
                prop_assert!(is_way || path.starts_with(&LayerPath::parse(b"dest").unwrap()), "{path}");
            }
            let mut after = base.clone();
            prop_assert!(after.apply(&changes).is_ok());
        }
    }

    #[test]
    fn a_copied_tree_is_the_source(source in trees()) {
        let changes = run(&source, SourceKind::Tree, &Tree::new(), "{copy: ., to: /}").unwrap();
        let mut copied = Tree::new();
        copied.apply(&changes).unwrap();
        let listed = |tree: &Tree| tree.iter().map(|(path, entry)| format!("{path} {entry:?}")).collect::<Vec<_>>();
        prop_assert_eq!(listed(&copied), listed(&source));
    }
}
