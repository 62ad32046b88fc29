//! Docker's matcher as the judge: its own verdicts, and the quirks that people meet.

use super::*;
use proptest::prelude::*;
use serde_json::Value;

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
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(vectors) = std::fs::read_to_string(here.join("../shared/vectors/dockerignore.jsonl"))
    else {
        eprintln!("skipped: ../shared/vectors/dockerignore.jsonl is not here");
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

#[test]
fn what_docker_refuses_is_an_error_with_a_place() {
    for line in ["!", "! ", "[", "a[b", "x\\", "[z-a]", "[a-", "[]a]"] {
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
        Just(".c")
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
                let walked = !rules.verdict(&ancestor).is_excluded || rules.may_take_in_below(&ancestor);
                prop_assert!(walked, "{text:?} prunes {ancestor} above {path}");
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ab*?!\\[\\]^\\\\/.\\-:#\u{e9} \n]{0,24}", name in "[ab/\u{e9}]{1,6}") {
        if let (Ok(rules), Ok(path)) = (IgnoreRules::parse(text.as_bytes(), "f"), LayerPath::parse(name.as_bytes())) {
            let _ = rules.verdict(&path);
        }
    }
}
