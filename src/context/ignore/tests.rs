//! Docker's matcher as the judge: its own verdicts, and the quirks that people meet.

use super::*;
use crate::context::pattern::wildcards_match;
use proptest::prelude::*;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text.as_bytes()).unwrap()
}

fn is_excluded(rules: &str, text: &str) -> bool {
    IgnoreRules::parse(rules.as_bytes(), ".dockerignore")
        .unwrap()
        .verdict(&path(text))
        .is_excluded
}

#[test]
fn all_verdicts_of_dockers_own_matcher() {
    let folder = std::env::var_os("BOXWRIGHT_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors"),
        PathBuf::from,
    );
    let Ok(vectors) = std::fs::read_to_string(folder.join("dockerignore.jsonl")) else {
        eprintln!("skipped: no dockerignore.jsonl in ../shared/vectors or $BOXWRIGHT_VECTORS");
        return;
    };
    let mut wrong = Vec::new();
    for (line, vector) in vectors.lines().enumerate() {
        let vector: Value = serde_json::from_str(vector).unwrap();
        let text = vector["ignore"].as_str().unwrap();
        let rules = IgnoreRules::parse(text.as_bytes(), ".dockerignore");
        if vector["error"] == true {
            if rules.is_ok() {
                wrong.push(format!("{}: {text:?} should be refused", line + 1));
            }
            continue;
        }
        let Ok(rules) = rules else {
            wrong.push(format!("{}: {text:?} is refused", line + 1));
            continue;
        };
        for (list, expected) in [("excluded", true), ("kept", false)] {
            for found in vector[list].as_array().into_iter().flatten() {
                let found = found.as_str().unwrap();
                if rules.verdict(&path(found)).is_excluded != expected {
                    wrong.push(format!("{}: {text:?} {found:?} should be {list}", line + 1));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn quirks() {
    let excluded: [(&str, &[&str]); 22] = [
        ("foo", &["foo", "foo/x"]),
        ("/foo", &["foo", "foo/x"]),
        ("foo/", &["foo", "foo/x"]),
        ("./foo", &["foo"]),
        ("**/foo", &["foo", "a/foo", "a/b/foo/c"]),
        ("**foo", &["a/barfoo", "xfoo/y"]),
        ("foo/**", &["foo/x"]),
        ("**/foo/**", &["foo/x", "a/foo/x"]),
        ("foo**", &["foobar/x"]),
        ("a**b", &["ab", "ax/b", "a/x/b"]),
        ("**/*.go", &["d/a.go", "a.go"]),
        ("*", &["a/b", ".hidden"]),
        ("*\n!**/*.py", &["d/x"]),
        ("*\n!foo/bar", &["foo"]),
        ("!README.md\n*.md", &["README.md"]),
        ("**\n!u/d/web\nu/d/web/foo", &["u/d/web/foo"]),
        ("\\d", &["5"]),
        ("[^a]b", &["xb"]),
        ("[[:alpha:]]", &["a"]),
        ("\\#x", &["#x"]),
        ("\\!foo", &["!foo"]),
        (" #x", &["#x"]),
    ];
    for (rules, paths) in excluded {
        for found in paths {
            assert!(is_excluded(rules, found), "{rules:?} leaves {found:?} out");
        }
    }
    let kept: [(&str, &[&str]); 16] = [
        ("foo", &["a/foo"]),
        ("**/foo", &["a/barfoo"]),
        ("foo/**", &["foo"]),
        ("**/foo/**", &["foo"]),
        ("a**b", &["axb"]),
        ("*.go", &["d/a.go"]),
        ("*\n!**/*.py", &["d/e/a.py"]),
        ("*\n!foo/bar", &["foo/bar/x"]),
        ("**\n!u/d/web\nu/d/web/foo", &["u/d/web/bar"]),
        ("\\d", &["d"]),
        ("a^*", &["a^x"]),
        ("{a,b}", &["a", "b"]),
        (".", &["a"]),
        ("/", &["a"]),
        ("../foo", &["foo"]),
        ("#foo", &["#foo", "foo"]),
    ];
    for (rules, paths) in kept {
        for found in paths {
            assert!(!is_excluded(rules, found), "{rules:?} keeps {found:?}");
        }
    }
}

/// Quirks that the vectors do not hold; each verdict is one of Docker's own matcher, asked with
/// the same bytes.
#[test]
fn deeper_quirks() {
    let cases: [(&[u8], &[u8], bool); 35] = [
        // The reader trims and cleans, and then the matcher does.
        (b"/ foo", b"foo", true),
        (b"/!foo", b"foo", false),
        (b"*\n/!foo", b"foo", false),
        (b"*\na/../!foo", b"foo", false),
        (b"! foo\n*", b"foo", true),
        (b"*\n/ !foo", b"foo", false),
        (b"\xc2\xa0foo\xc2\x85", b"foo", true),
        // `{`, `|` and `}` are never escaped, but only expressions notice.
        (b"a|b", b"a|b", true),
        (b"a|b", b"b", false),
        (b"*.js|*.ts", b"x.ts", true),
        (b"*.js|*.ts", b"x.json", true),
        (b"?a{2}", b"xaa", true),
        (b"?a{2}", b"xa{2}", false),
        (b"?a{2", b"xa{2", true),
        (b"?{a,b}", b"x{a,b}", true),
        // Escapes are Go's.
        (b"\\x41", b"A", true),
        (b"\\x{e9}", b"\xc3\xa9", true),
        (b"\\0101", b"\x081", true),
        (b"\\101", b"A", true),
        (b"\\Qa.b", b"a.b", false),
        (b"\\Qa.b", b"a\\.b", false),
        (b"\\Qa-b\\E?", b"a-bc", true),
        (b"?\\bx", b"-x", true),
        (b"?\\B\xc3\xa9", b"-\xc3\xa9", true),
        (b"[[:^digit:]]", b"a", true),
        (b"[[:]", b"[", true),
        (b"[[:]", b":", true),
        // Docker translates inside of brackets, too.
        (b"[*]", b"b]", false),
        (b"[.]", b"\\", false),
        (b"[a&&b]", b"&", true),
        // Bytes that are no text are U+FFFD to an expression, and themselves without one.
        (b"caf\xe9", b"caf\xe9", true),
        (b"caf\xe9", b"caf\xff", false),
        (b"caf?\xe9", b"cafe\xff", true),
        (b"\xe9**", b"\xe9x", true),
        // Go looks for open brackets only as far as "." goes on matching the pattern.
        (b"**/*.[ch-]", b"a/x.-", true),
    ];
    for (rules, name, expected) in cases {
        let verdict = IgnoreRules::parse(rules, ".dockerignore")
            .unwrap()
            .verdict(&LayerPath::parse(name).unwrap());
        let shown = (rules.escape_ascii(), name.escape_ascii());
        assert_eq!(verdict.is_excluded, expected, "{} {}", shown.0, shown.1);
    }
}

#[test]
fn what_docker_refuses_is_an_error_with_a_place() {
    let lines = [
        "!",
        "! ",
        "!/",
        "[",
        "a[b",
        "x\\",
        "foo\\ ",
        "[z-a]",
        "[a-",
        "[]a]",
        "?\\8",
        "?\\Z",
        "?\\C",
        "?\\y",
        "[[:what:]]",
        "*{2}",
        "x?{2}{3}",
        "?|{2}",
        "?x{1001}",
        "?x{3,2}",
        "\\pL",
    ];
    for line in lines {
        let error =
            IgnoreRules::parse(format!("ok\n\n{line}\n").as_bytes(), ".dockerignore").unwrap_err();
        assert_eq!(
            (error.file.as_str(), error.line),
            (".dockerignore", 3),
            "{line:?}"
        );
    }
    let long = vec![b'x'; LONGEST_LINE + 1];
    assert!(IgnoreRules::parse(&long, ".dockerignore").is_err());
}

#[test]
fn byte_order_marks_and_windows_lines() {
    assert!(is_excluded("\u{feff}foo\r\nbar \r\n", "foo"));
    assert!(is_excluded("\u{feff}foo\r\nbar \r\n", "bar"));
}

#[test]
fn names_that_are_not_text_are_judged() {
    let rules = IgnoreRules::parse(b"*.log\n[^a]?", ".dockerignore").unwrap();
    let of = |bytes: &[u8]| rules.verdict(&LayerPath::parse(bytes).unwrap()).is_excluded;
    assert!(of(b"\xff\xfe.log"));
    assert!(of(b"\xff\xfe"));
    assert!(!of(b"\xff\xfe\xfd"));
}

#[test]
fn excluded_directories_are_walked_only_where_a_later_rule_reaches() {
    let cases: [(&str, &str, bool); 17] = [
        ("*\n!a/b", "a", true),
        ("*\n!a/b", "a/b", false),
        ("*\n!a/b", "b", false),
        ("*\n!ab", "a", false),
        ("!a/b\n*", "a", false),
        ("*\n!*.md", "a", false),
        ("*\n!*/*.md", "a", true),
        ("*\n!*/*.md", "a/b", false),
        ("*\n!src/*/doc/?", "src", true),
        ("*\n!src/*/doc/?", "src/x/doc", true),
        ("*\n!src/*/doc/?", "src/x/test", false),
        ("*\n!src/*/doc/?", "lib/x", false),
        ("*\n!src/**/*.md", "lib", false),
        ("*\n!src/**/*.md", "src/deep/er", true),
        ("*\n!**/*.md", "a/b/c", true),
        ("*\n!a**", "abc", true),
        ("*\n!a**", "b", false),
    ];
    for (rules, directory, expected) in cases {
        let parsed = IgnoreRules::parse(rules.as_bytes(), ".dockerignore").unwrap();
        // As if the star had decided; some of these rules take the directory itself in.
        let verdict = Verdict {
            is_excluded: true,
            rule: rules.split('\n').position(|rule| rule == "*"),
        };
        let found = parsed.may_take_in_below(&path(directory), verdict);
        assert_eq!(found, expected, "{rules:?} {directory}");
    }
}

#[test]
fn the_deciding_rule_is_known() {
    let rules = IgnoreRules::parse(b"# comment\n*.md\n!README.md\n", ".dockerignore").unwrap();
    let decided = |text: &str| {
        rules
            .verdict(&path(text))
            .rule
            .and_then(|place| rules.rule(place))
    };
    assert_eq!(decided("a.md"), Some((2, "*.md")));
    assert_eq!(decided("README.md"), Some((3, "!README.md")));
    assert_eq!(decided("x"), None);
}

fn texts() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("a"),
        Just("b"),
        Just("*"),
        Just("**"),
        Just("?"),
        Just("/"),
        Just("a/b"),
        Just("[ab]"),
        Just(".c"),
        Just("\\a"),
        Just("|"),
        Just("{0}"),
        Just("^")
    ];
    let pattern = (any::<bool>(), proptest::collection::vec(word, 1..5));
    let line = pattern
        .prop_map(|(not, words)| format!("{}{}", if not { "!" } else { "" }, words.concat()));
    proptest::collection::vec(line, 1..5).prop_map(|lines| lines.join("\n"))
}

/// Every path of three levels over a small alphabet.
fn all_paths() -> Vec<LayerPath> {
    let names = ["a", "b", "ab", "x.c"];
    let deeper = |paths: &[String]| {
        paths
            .iter()
            .flat_map(|path| names.map(|name| format!("{path}/{name}")))
            .collect::<Vec<_>>()
    };
    let one: Vec<String> = names.map(str::to_owned).into();
    let two = deeper(&one);
    let three = deeper(&two);
    [one, two, three]
        .concat()
        .iter()
        .map(|text| path(text))
        .collect()
}

proptest! {
    #[test]
    fn a_pruned_walk_misses_nothing(text in texts()) {
        let Ok(rules) = IgnoreRules::parse(text.as_bytes(), "f") else { return Ok(()) };
        for path in all_paths() {
            if rules.verdict(&path).is_excluded {
                continue;
            }
            for ancestor in path.ancestors().filter(|ancestor| !ancestor.is_root()) {
                let verdict = rules.verdict(&ancestor);
                let walked = !verdict.is_excluded || rules.may_take_in_below(&ancestor, verdict);
                prop_assert!(walked, "{text:?} prunes {ancestor} above {path}");
            }
        }
    }

    #[test]
    fn wildcards_match_as_their_expression(pattern in "[ab*?\u{e9}]{0,6}", name in "[ab\u{e9}]{0,8}") {
        let regex = pattern.replace('*', ".*").replace('?', ".");
        let regex = regex::Regex::new(&format!("^{regex}$")).unwrap();
        prop_assert_eq!(wildcards_match(&pattern, &name), regex.is_match(&name));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ab*?!\\[\\]^\\\\/.\\-:#{}|(xQEpd0-9\u{e9} \n]{0,24}", name in "[ab/\u{e9}]{1,6}") {
        if let (Ok(rules), Ok(path)) = (IgnoreRules::parse(text.as_bytes(), "f"), LayerPath::parse(name.as_bytes())) {
            let _ = rules.verdict(&path);
        }
    }
}
