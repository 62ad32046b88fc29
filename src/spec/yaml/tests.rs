//! YAML texts become nodes, or errors in their place.

use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Result<Option<Node>, Diagnostics> {
    parse(&Arc::new(SourceText::new("t", text)))
}

fn refused(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

/// The tree as one line, spans as the text they cover.
fn shown(source: &SourceText, node: &Node) -> String {
    let place = source.at(node.span);
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Scalar(scalar) => format!("{:?}@{place:?}", scalar.text),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| shown(source, item)).collect();
            format!("[{}]@{place:?}", items.join(", "))
        }
        Value::Map(entries) => {
            let entry =
                |entry: &Entry| format!("{}: {}", entry.key.value, shown(source, &entry.value));
            format!(
                "{{{}}}@{place:?}",
                entries.iter().map(entry).collect::<Vec<_>>().join(", ")
            )
        }
    }
}

#[test]
fn spans_cover_exactly_what_was_written() {
    for (text, tree) in [
        ("a: 1.10\n", r#"{a: "1.10"@"1.10"}@"a: 1.10""#),
        (
            "é: [ü, \"ö\"]\n",
            "{é: [\"ü\"@\"ü\", \"ö\"@\"\\\"ö\\\"\"]@\"[ü, \\\"ö\\\"]\"}@\"é: [ü, \\\"ö\\\"]\"",
        ),
        (
            "a:\n  - b\n\nc:\n",
            "{a: [\"b\"@\"b\"]@\"- b\", c: null}@\"a:\\n  - b\\n\\nc\"",
        ),
        ("\u{feff}a: b", "{a: \"b\"@\"b\"}@\"a: b\""),
    ] {
        let source = Arc::new(SourceText::new("t", text));
        let node = parse(&source).unwrap().unwrap();
        assert_eq!(shown(&source, &node), tree);
    }
}

#[test]
fn line_ends_do_not_matter() {
    let text = "a: |\n  x\n  y\nb: \"1\n  2\"\n";
    let values = |text: &str| -> Vec<String> {
        let Some(Node {
            value: Value::Map(entries),
            ..
        }) = read(text).unwrap()
        else {
            panic!()
        };
        entries
            .into_iter()
            .map(|entry| match entry.value.value {
                Value::Scalar(scalar) => scalar.text,
                other => panic!("{other:?}"),
            })
            .collect()
    };
    assert_eq!(values(text), ["x\ny\n", "1 2"]);
    assert_eq!(values(&text.replace('\n', "\r\n")), values(text));
}

#[test]
fn aliases_repeat_values_but_not_without_bound() {
    let Some(Node {
        value: Value::Map(entries),
        ..
    }) = read("a: &x [1, 2]\nb: *x\n").unwrap()
    else {
        panic!()
    };
    assert!(matches!(&entries[1].value.value, Value::List(items) if items.len() == 2));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    assert!(refused(&bomb).contains("use fewer aliases"));
    let long = format!(
        "a: &a \"{}\"\nb: [{}]",
        "x".repeat(1 << 20),
        vec!["*a"; 20].join(", ")
    );
    assert!(refused(&long).contains("16 MiB"));
    assert!(refused("a: &x [*x]").contains("inside of what it repeats"));
}

#[test]
fn what_no_spec_needs_is_refused() {
    for (text, why) in [
        ("a: 1\n---\nb: 1\n", "second document"),
        ("a: 1\na: 2\n", "given twice"),
        ("? [a]\n: 1\n", "a key must be a text"),
        ("a: !keep x\n", "tag `!keep`"),
        ("a:\n\tb: 1\n", "tab"),
        ("a: *.json\n", "quote"),
        ("a: b: c\n", "quote a text that contains `: `"),
        ("a: [1\n", "close every"),
        ("a: \"x\n", "close every"),
        ("a: @x\n", "quote"),
    ] {
        let error = refused(text);
        assert!(error.contains(why), "{text:?}: {error}");
    }
    assert!(refused(&"[".repeat(1000)).contains("nest too deep"));
    assert!(refused(&"- ".repeat(1000)).contains("nest too deep"));
    assert!(refused(&" ".repeat(MOST_BYTES + 1)).contains("4 MiB"));
}

#[test]
fn nothing_is_an_empty_document() {
    for text in ["", "\n", "# only words\n"] {
        assert!(read(text).unwrap().is_none(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[\\[\\]{}:,\\-?&*!|>'\"%@ \ta-c\né\r#~$.]{0,40}") {
        let _ = read(&text);
    }

    #[test]
    fn any_characters_are_read_or_refused(text in any::<String>()) {
        let _ = read(&text);
    }
}
