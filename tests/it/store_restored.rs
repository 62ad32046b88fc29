//! Stores that a CI has saved and restored by means that lose owners, attributes and what only
//! others may read: what is built with them is what is built without.

use std::fs;
use std::path::Path;

use crate::support::busybox;
use crate::support::peers::{Skip, may_mount, peer};
use crate::support::plain_user::{as_plain_user, give_away};
use crate::support::process::{Ran, run};
use crate::support::sandbox::Sandbox;

/// Who builds, and in which tier.
const BUILDERS: [(bool, &str); 4] = [(true, "a"), (true, "c"), (false, "a"), (false, "b")];

/// The second command is another for each `${N}`, and its tree has all that is easily lost.
const SPEC: &str = "\
format: 1
image: acme/restored
args: {N: '1'}
stages:
  app:
    from: oci:base:v1
    allow: [root, build-stage]
    steps:
      - run: |
          mkdir /d && echo hi > /d/f && echo hidden > /d/g
          chown -R 33:34 /d && chmod 4755 /d/f && chmod 600 /d/g && chmod 700 /d
      - run: cp -a /d /e${N} && stat -c '%n %a' /d/f /d/g > /list
";

fn prepared(is_root: bool) -> Result<Sandbox, Skip> {
    if !may_mount() {
        return Err(Skip::because("root is needed to become other users"));
    }
    let sandbox = Sandbox::new();
    busybox::base()?.write_layout(&sandbox.path("base"), "v1");
    sandbox.file("boxwright.yaml", SPEC);
    if !is_root {
        give_away(sandbox.root());
    }
    Ok(sandbox)
}

/// Any program, run by root or by the plain user.
fn ran(sandbox: &Sandbox, is_root: bool, line: &[&str]) -> Ran {
    let mut command = match is_root {
        true => sandbox.command(line[0]),
        false => {
            let plain = as_plain_user(line[0]);
            let mut command = sandbox.command(plain.get_program());
            command.args(plain.get_args());
            command
        }
    };
    run(command.args(&line[1..]))
}

fn boxwright(sandbox: &Sandbox, is_root: bool, args: &[&str]) -> Ran {
    let program = [env!("CARGO_BIN_EXE_boxwright")];
    let line: Vec<&str> = program.iter().chain(args).copied().collect();
    ran(sandbox, is_root, &line)
}

/// The digest of the image for `N=n`, with a store.
fn built(sandbox: &Sandbox, (is_root, tier): (bool, &str), store: &str, n: &str) -> String {
    let argument = format!("N={n}");
    let args = [
        "build",
        "--sandbox",
        tier,
        "--store",
        store,
        "--arg",
        &argument,
    ];
    let told = [
        "-o",
        "oci:out:v1",
        "--print",
        "digest",
        "--progress",
        "plain",
    ];
    let args: Vec<&str> = args.iter().chain(&told).copied().collect();
    boxwright(sandbox, is_root, &args).ok().stdout
}

/// Carries a store as a CI's cache does; says whether all of it could be read.
fn carried(sandbox: &Sandbox, is_root: bool, from: &str, to: &str) -> bool {
    let saved = ran(
        sandbox,
        is_root,
        &["tar", "-C", from, "-cf", "store.tar", "."],
    );
    ran(sandbox, is_root, &["mkdir", to]).ok();
    let options = ["--no-same-owner", "-xf", "store.tar", "-C", to];
    let restore: Vec<&str> = ["tar"].iter().chain(&options).copied().collect();
    ran(sandbox, is_root, &restore).ok();
    saved.code == 0
}

fn count(path: &Path) -> usize {
    fs::read_dir(path).expect("list a folder").count()
}

#[test]
fn a_tree_that_was_carried_is_made_again() {
    for (is_root, tier) in BUILDERS {
        let sandbox = peer!(prepared(is_root));
        let builder = (is_root, tier);
        let first = built(&sandbox, builder, "one", "1");
        carried(&sandbox, is_root, "one", "two");
        let with = built(&sandbox, builder, "two", "2");
        let without = built(&sandbox, builder, "three", "2");
        assert_eq!(with, without, "tier {tier}, root: {is_root}");
        // Two of the three trees came back; the one that was needed is true again.
        let trees = sandbox.path("two/trees");
        assert_eq!(count(&trees), 2, "tier {tier}, root: {is_root}");
        // And what was built before is found.
        assert_eq!(built(&sandbox, builder, "two", "1"), first);
    }
}

/// Cleaners of caches take out what is old, wherever it lies.
#[test]
fn a_tree_that_has_lost_something_is_made_again() {
    let sandbox = peer!(prepared(true));
    let root = (true, "a");
    let expected = built(&sandbox, root, "fresh", "2");
    for lost in ["root/d/g", "listing"] {
        let store = format!("store-{}", lost.len());
        built(&sandbox, root, &store, "1");
        let trees = fs::read_dir(sandbox.path(&store).join("trees")).expect("trees");
        let places = trees.map(|tree| tree.expect("a tree").path().join(lost));
        let removed = places.filter(|place| fs::remove_file(place).is_ok());
        assert!(removed.count() > 0, "{lost}");
        assert_eq!(built(&sandbox, root, &store, "2"), expected, "{lost}");
    }
}

#[test]
fn without_its_trees_everybody_can_carry_a_store() {
    for (is_root, tier) in BUILDERS {
        let sandbox = peer!(prepared(is_root));
        let builder = (is_root, tier);
        let first = built(&sandbox, builder, "one", "1");
        assert_eq!(count(&sandbox.path("one/trees")), 2);
        let gc = ["cache", "--store", "one", "gc", "--trees", "--json"];
        let cleaned = boxwright(&sandbox, is_root, &gc).ok().stdout;
        assert!(cleaned.contains("\"removed_trees\": 2"), "{cleaned}");
        assert!(cleaned.contains("\"removed\": 0"), "{cleaned}");
        assert_eq!(count(&sandbox.path("one/trees")), 0);
        assert!(carried(&sandbox, is_root, "one", "two"), "tier {tier}");
        assert_eq!(built(&sandbox, builder, "two", "1"), first);
        assert_eq!(count(&sandbox.path("two/trees")), 0, "nothing ran");
    }
}
