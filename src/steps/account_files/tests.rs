//! Account files before and after.

use super::*;
use crate::spec::{NoFiles, ParseInputs, SourceText, parse};
use crate::tree::Content;
use std::sync::Arc;

fn add(yaml: &str, files: &[(&str, &str, u16)]) -> Result<Vec<(String, u16, String)>, StepError> {
    let text = format!("format: 1\nstages:\n  s:\n    from: scratch\n    {yaml}\n");
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
    .unwrap();
    let mut tree = Tree::new();
    for (path, text, mode) in files {
        tree.insert(
            LayerPath::parse(path.as_bytes()).unwrap(),
            Entry::file(*text, *mode),
        );
    }
    let bytes = |content: &Content| match content {
        Content::Inline(inline) => Ok(inline.bytes().to_vec()),
        _ => Err("not in memory".to_owned()),
    };
    let changes = add_accounts(&spec.stages[0], &tree, &bytes)?;
    let put = changes.iter().filter_map(|(path, change)| {
        let entry = change.entry()?;
        let text = bytes(&entry.as_file()?.content).unwrap();
        Some((
            path.to_string(),
            entry.mode,
            String::from_utf8(text).unwrap(),
        ))
    });
    Ok(put.collect())
}

#[test]
fn files_are_made_where_there_are_none() {
    let put = add(
        "users: [{name: app, uid: 1001, home: /app, shell: /bin/sh}]",
        &[],
    )
    .unwrap();
    let expected = [
        ("/etc/group", 0o644, "app:x:1001:\n"),
        ("/etc/passwd", 0o644, "app:x:1001:1001::/app:/bin/sh\n"),
        ("/etc/shadow", 0o640, "app:!:::::::\n"),
    ];
    assert_eq!(
        put,
        expected.map(|(path, mode, text)| (path.to_owned(), mode, text.to_owned()))
    );
}

#[test]
fn what_is_there_stays_byte_for_byte() {
    let files = [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n# odd", 0o600),
        ("etc/group", "root:x:0:\nweb:x:50:root", 0o644),
    ];
    let yaml = "users: [{name: app, uid: 7, gid: 50, groups: [web, root]}]\n    groups: [{name: more, gid: 60}]";
    let put = add(yaml, &files).unwrap();
    assert_eq!(put[0].2, "root:x:0:app\nweb:x:50:root,app\nmore:x:60:\n");
    assert_eq!(
        (put[1].1, put[1].2.as_str()),
        (
            0o600,
            "root:x:0:0:root:/root:/bin/sh\n# odd\napp:x:7:50::/:/sbin/nologin\n"
        )
    );
}

#[test]
fn what_is_there_already_is_not_added_again() {
    let files = [
        ("etc/passwd", "app:x:7:7::/:/bin/sh\n", 0o644),
        ("etc/group", "app:x:7:\n", 0o644),
    ];
    assert_eq!(add("users: [{name: app, uid: 7}]", &files).unwrap(), []);
    assert_eq!(
        add(
            "users: [{name: app, uid: 7, home: /, shell: /bin/sh}]",
            &files
        )
        .unwrap(),
        []
    );
    assert_eq!(add("groups: [{name: app, gid: 7}]", &files).unwrap(), []);
    assert_eq!(add("workdir: /x", &files).unwrap(), []);
}

#[test]
fn one_name_or_number_never_has_two_meanings() {
    let files = [
        ("etc/passwd", "app:x:7:7::/:/bin/sh\n", 0o644),
        ("etc/group", "app:x:7:\nweb:x:9:\n", 0o644),
    ];
    for (yaml, expected) in [
        (
            "users: [{name: app, uid: 8}]",
            "a user \"app\" already, with numbers 7:7",
        ),
        (
            "users: [{name: other, uid: 7}]",
            "number 7 is that of the user \"app\"",
        ),
        (
            "users: [{name: web, uid: 8}]",
            "a group \"web\" with number 9",
        ),
        (
            "groups: [{name: app, gid: 8}]",
            "a group \"app\" already, with number 7",
        ),
        (
            "groups: [{name: other, gid: 9}]",
            "number 9 is that of the group \"web\"",
        ),
        (
            "users: [{name: app, uid: 7, home: /srv}]",
            "a user \"app\" already, with home \"/\"",
        ),
        (
            "users: [{name: new, uid: 8, shell: '/bin/sh:x'}]",
            "cannot stand in /etc/passwd",
        ),
        (
            "users: [{name: new, uid: 8, home: \"/x:/bin/sh\\nroot2:x:0:0::/\"}]",
            "cannot stand in /etc/passwd",
        ),
        (
            "users: [{name: app, uid: 7, groups: [none]}]",
            "no group \"none\"",
        ),
    ] {
        let error = add(yaml, &files).expect_err(yaml);
        assert!(
            error.message.contains(expected) && !error.help.is_empty(),
            "{yaml}: {error:?}"
        );
    }
}
