//! The house keeps its own rules: this reads the sources and fails on what the rules forbid.
//!
//! Each rule is a function from one source file to the lines that break it, and each has its own
//! text that must break it. The reading is lexical: comments and literals are taken out, braces
//! are counted, words are compared. What a macro would produce is not seen.

use std::fs;

use crate::support::source::{
    Broken, Source, block_length, code_of, root, sources_below, words_in,
};

/// The rooms from the floor up: a room may import only rooms that stand before it.
const ROOMS: [&str; 15] = [
    "oci",
    "tree",
    "store",
    "spec",
    "plan",
    "context",
    "steps",
    "sandbox",
    "layer",
    "image",
    "transport",
    "explain",
    "error",
    "events",
    "build",
];

/// The one module that may speak to the system without the compiler's guard, and its folder.
const UNSAFE_MODULE: &str = "src/sandbox/syscalls.rs";
const UNSAFE_FOLDER: &str = "src/sandbox/syscalls/";

const FILE_LIMIT: usize = 600;
const FUNCTION_LIMIT: usize = 70;
const MAIN_LIMIT: usize = 20;

type Rule = fn(&Source) -> Vec<Broken>;

/// The rules for `src/`, each with a path and a text that breaks it.
const RULES: [(Rule, &str, &[&str]); 9] = [
    (
        import_law,
        "src/store/blobs.rs",
        &[
            "use crate::spec::BuildSpec;",
            "use crate::{oci, spec};",
            "use crate::oci::{self};\nuse super::super::spec::BuildSpec;",
            "fn f() { crate::build::run() }",
            "use crate::cli::Args;",
            "use crate::Error;",
            "use crate::*;",
            "use boxwright::spec::BuildSpec;",
            "extern crate self as house;",
            "#[path = \"../cli/mod.rs\"]\nmod cli;",
        ],
    ),
    (
        header,
        "src/oci/a.rs",
        &["use std::fmt;\n", "// not a header\n", ""],
    ),
    (file_length, "src/oci/a.rs", &[]),
    (function_length, "src/oci/a.rs", &[]),
    (unsafe_code, "src/oci/a.rs", &["fn f() { unsafe { g() } }"]),
    (
        unfinished,
        "src/oci/a.rs",
        &["// TO\u{44}O: later", "/* FIX\u{4d}E */"],
    ),
    (
        outer_world,
        "src/oci/a.rs",
        &[
            "std::env::var(\"HOME\")",
            "std::env::current_dir()",
            "SystemTime::now()",
        ],
    ),
    (
        words,
        "src/oci/a.rs",
        &[
            "struct BlobManager;",
            "pub fn get_blob() {}",
            "fn get_it() {}",
        ],
    ),
    (
        rooms_only_declare,
        "src/oci/mod.rs",
        &["pub struct A;", "fn f() {}", "impl A {}"],
    ),
];

#[test]
fn the_sources_keep_the_rules() {
    let sources = sources_below("src");
    assert!(sources.len() > 5, "the sources were not found");
    let broken: Vec<_> = sources
        .iter()
        .flat_map(|source| RULES.iter().flat_map(|rule| rule.0(source)))
        .collect();
    let broken: Vec<_> = broken.iter().map(ToString::to_string).collect();
    assert!(
        broken.is_empty(),
        "{} broken rules:\n{}",
        broken.len(),
        broken.join("\n")
    );
}

#[test]
fn nothing_in_the_tests_is_unfinished() {
    let sources = sources_below("tests");
    let broken: Vec<_> = sources
        .iter()
        .flat_map(unfinished)
        .map(|b| b.to_string())
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_test_module_is_declared() {
    let main = fs::read_to_string(root().join("tests/it/main.rs")).expect("read main.rs");
    let names: Vec<_> = fs::read_dir(root().join("tests/it"))
        .expect("list the tests")
        .map(|entry| {
            entry
                .expect("list the tests")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    assert_eq!(forgotten(&main, &names), [""; 0]);
}

#[test]
fn a_forgotten_test_module_is_seen() {
    let names = ["main.rs", "a.rs", "b.rs", "support", "snapshots"].map(str::to_owned);
    assert_eq!(
        forgotten("mod a; // why\n// mod b;\nmod support;", &names),
        ["b"]
    );
}

/// The test modules that `main` does not declare.
fn forgotten(main: &str, names: &[String]) -> Vec<String> {
    let main = code_of(main);
    let not_modules =
        |name: &str| name.starts_with('.') || ["main.rs", "snapshots"].contains(&name);
    let modules = names.iter().filter(|name| !not_modules(name));
    let modules = modules.map(|name| name.trim_end_matches(".rs"));
    let declared = |name: &str| {
        main.lines()
            .any(|line| line.trim() == format!("mod {name};"))
    };
    modules
        .filter(|name| !declared(name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_rule_can_fail() {
    for (rule, path, texts) in RULES {
        for text in texts {
            let broken = rule(&Source::new(path, text));
            assert!(!broken.is_empty(), "{path}: nobody minds {text:?}");
        }
    }
    let long_file = format!("//! Long.\n{}", "const A: u8 = 0;\n".repeat(FILE_LIMIT));
    assert_eq!(
        file_length(&Source::new("src/oci/a.rs", &long_file)).len(),
        1
    );
    let long_function = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(FUNCTION_LIMIT));
    assert_eq!(
        function_length(&Source::new("src/oci/a.rs", &long_function)).len(),
        1
    );
    let long_main = Source::new("src/main.rs", &"\n".repeat(MAIN_LIMIT + 1));
    assert_eq!(file_length(&long_main).len(), 1);
    let library = Source::new("src/lib.rs", "pub mod cli;");
    assert_eq!(import_law(&library).len(), 1);
    let escape = Source::new("src/oci/json/tests.rs", "use super::super::super::spec;");
    assert_eq!(import_law(&escape).len(), 1);
}

#[test]
fn good_sources_are_left_alone() {
    let in_tests = format!("mod tests {{\n{}}}\n", "    fn f() {}\n".repeat(FILE_LIMIT));
    let long_test = format!(
        "mod tests {{ fn f() {{\n{}}} }}\n",
        "g();\n".repeat(FUNCTION_LIMIT)
    );
    for (path, text) in [
        (
            "src/store/blobs.rs",
            "use crate::oci::Digest;\nuse crate::store::lock::Lock;\nuse super::lock;",
        ),
        ("src/spec/yaml/read.rs", "use super::super::model::A;"),
        ("src/spec/a.rs", "mod tests { use super::super::model::A; }"),
        (
            "src/store/blobs.rs",
            "// crate::spec, unsafe and get_it in words\nconst A: &str = \"crate::spec\";",
        ),
        (
            "src/store/blobs.rs",
            "const A: &str = r#\"\" crate::spec \"#; const B: char = '\"'; fn f<'a>() {}",
        ),
        (
            "src/build.rs",
            "use crate::explain::Report;\nuse crate::error::Error;",
        ),
        (
            "src/cli/mod.rs",
            "use crate::cli::args::Args;\nuse boxwright::build;\nuse std::env;",
        ),
        ("src/main.rs", "mod cli;"),
        ("src/oci/mod.rs", "mod digest;\npub use digest::Digest;"),
        (
            "src/oci/json/tests.rs",
            "use super::super::digest; fn f() { std::env::temp_dir() }",
        ),
        (UNSAFE_MODULE, "fn f() { unsafe { g() } }"),
        ("src/sandbox/syscalls/a.rs", "fn f() { unsafe { g() } }"),
        ("src/oci/a.rs", &in_tests),
        ("src/oci/a.rs", &long_test),
    ] {
        let source = Source::new(path, &format!("//! A header.\n{text}\n"));
        let broken: Vec<_> = RULES.iter().flat_map(|rule| rule.0(&source)).collect();
        assert!(broken.is_empty(), "{text:?}: {broken:?}");
    }
}

/// A room imports only rooms before it, by their full path; nothing in the library knows `cli`.
fn import_law(source: &Source) -> Vec<Broken> {
    let Some(module) = source.path.strip_prefix("src/") else {
        return Vec::new();
    };
    let parts: Vec<_> = module.trim_end_matches(".rs").split('/').collect();
    let room = parts[0];
    let mut broken = Vec::new();
    for (at, path) in paths_from(source, "crate::") {
        let first = path
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .unwrap_or("");
        let allowed = match room {
            "main" | "cli" => first == "cli",
            "lib" => ROOMS.contains(&first),
            _ => is_before(first, room),
        };
        if !allowed {
            broken.push(source.broken(at, format!("`{room}` must not reach `crate::{first}`")));
        }
    }
    for (at, chain) in chains_of_super(source) {
        let below = parts.len() - 1 - usize::from(parts.last() == Some(&"mod"));
        // A block of tests is one module deeper; a `tests.rs` has that in its path already.
        let in_test_block = source.tests.start > 0 && source.tests.contains(&at);
        if chain > below + usize::from(in_test_block) {
            broken.push(source.broken(at, "`super` must not leave the room".to_owned()));
        }
    }
    if !matches!(room, "main" | "cli") {
        for word in ["boxwright::", "extern crate", "#[path", "mod cli;"] {
            let found = source.code.match_indices(word);
            let rule = |at| source.broken(at, format!("the library must not say `{word}`"));
            broken.extend(found.map(|(at, _)| rule(at)));
        }
    }
    broken
}

/// Whether `first` is `room` itself or stands before it.
fn is_before(first: &str, room: &str) -> bool {
    let place = |name: &str| ROOMS.iter().position(|known| *known == name);
    place(first).is_some_and(|first| place(room).is_some_and(|room| first <= room))
}

/// What follows each `start` that begins a path.
fn paths_from<'a>(source: &'a Source, start: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let begins = |at: usize| {
        let before = source.code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    };
    let found = source
        .code
        .match_indices(start)
        .filter(move |(at, _)| begins(*at));
    found.map(|(at, word)| (at, &source.code[at + word.len()..]))
}

/// How many `super::` stand in a row, wherever they begin.
fn chains_of_super(source: &Source) -> Vec<(usize, usize)> {
    paths_from(source, "super::")
        .map(|(at, rest)| {
            let (mut length, mut rest) = (1, rest);
            while let Some(after) = rest.strip_prefix("super::") {
                (length, rest) = (length + 1, after);
            }
            (at, length)
        })
        .collect()
}

/// Every file says first what it is for.
fn header(source: &Source) -> Vec<Broken> {
    match source.text.starts_with("//! ") {
        true => Vec::new(),
        false => vec![source.broken(0, "the file does not open with a `//!` header".to_owned())],
    }
}

fn file_length(source: &Source) -> Vec<Broken> {
    let tests = source.text[source.tests.clone()].lines().count();
    let lines = source.text.lines().count() - tests;
    let limit = if source.path == "src/main.rs" {
        MAIN_LIMIT
    } else {
        FILE_LIMIT
    };
    match lines > limit {
        true => vec![source.broken(0, format!("{lines} lines, at most {limit}"))],
        false => Vec::new(),
    }
}

fn function_length(source: &Source) -> Vec<Broken> {
    let mut broken = Vec::new();
    for at in words_in(&source.code, "fn").filter(|at| !source.tests.contains(at)) {
        let rest = &source.code[at..];
        // A function without a body ends in a semicolon: a trait's, or a type such as `fn(u8)`.
        let Some(open) = rest
            .find(['{', ';'])
            .filter(|open| rest[*open..].starts_with('{'))
        else {
            continue;
        };
        let lines = rest[..open + block_length(&rest[open..])].lines().count();
        if lines > FUNCTION_LIMIT {
            let rule = format!("a function of {lines} lines, at most {FUNCTION_LIMIT}");
            broken.push(source.broken(at, rule));
        }
    }
    broken
}

fn unsafe_code(source: &Source) -> Vec<Broken> {
    if source.path == UNSAFE_MODULE || source.path.starts_with(UNSAFE_FOLDER) {
        return Vec::new();
    }
    let rule = || format!("`unsafe` outside {UNSAFE_MODULE}");
    words_in(&source.code, "unsafe")
        .map(|at| source.broken(at, rule()))
        .collect()
}

/// Marks of unfinished work, in comments too.
fn unfinished(source: &Source) -> Vec<Broken> {
    // Written so that this file does not find itself.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
    ];
    let found = marks
        .into_iter()
        .flat_map(|mark| source.text.match_indices(mark));
    found
        .map(|(at, mark)| source.broken(at, format!("{mark}: finish it or say why not")))
        .collect()
}

/// The library never reads the environment, the working directory or the clock.
fn outer_world(source: &Source) -> Vec<Broken> {
    if source.path.starts_with("src/cli/") || source.path == "src/main.rs" {
        return Vec::new();
    }
    let words = [
        "std::env",
        "env::var",
        "current_dir()",
        "SystemTime::now",
        "Utc::now",
    ];
    let found = words
        .into_iter()
        .flat_map(|word| source.code.match_indices(word));
    // What was known when this was compiled, such as `std::env::consts::ARCH`, is no outer world.
    let constant = |at: usize| source.code[at..].starts_with("std::env::consts");
    let found = found.filter(|(at, _)| !source.tests.contains(at) && !constant(*at));
    found
        .map(|(at, word)| source.broken(at, format!("the library must not use `{word}`")))
        .collect()
}

/// Names that say nothing.
fn words(source: &Source) -> Vec<Broken> {
    let mut broken = Vec::new();
    let stem = source
        .path
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .trim_end_matches(".rs");
    if ["util", "utils", "helper", "helpers", "common", "misc"].contains(&stem) {
        broken.push(source.broken(0, format!("a file called `{stem}` is a drawer")));
    }
    for keyword in ["struct", "enum", "trait", "fn"] {
        for at in words_in(&source.code, keyword) {
            let rest = source.code[at + keyword.len()..].trim_start();
            let name = rest
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap_or("");
            let empty = ["Manager", "Helper", "Handler"]
                .iter()
                .any(|end| name.ends_with(end));
            if empty || (keyword == "fn" && name.starts_with("get_")) {
                broken.push(source.broken(at, format!("`{name}` says nothing")));
            }
        }
    }
    broken
}

/// A room's `mod.rs` declares and re-exports, and carries the room's header.
fn rooms_only_declare(source: &Source) -> Vec<Broken> {
    if !source.path.ends_with("/mod.rs") || source.path.starts_with("src/cli/") {
        return Vec::new();
    }
    let keywords = ["fn", "struct", "enum", "trait", "impl"];
    let found = keywords
        .into_iter()
        .flat_map(|word| words_in(&source.code, word));
    let found = found.filter(|at| !source.tests.contains(at));
    found
        .map(|at| source.broken(at, "mod.rs only declares and re-exports".to_owned()))
        .collect()
}
