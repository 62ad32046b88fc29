//! Workspaces: what they say, what is wrong with them, and their schema.

use super::*;
use crate::spec::decode::shapes::Shape;
use crate::spec::decode::workspace::{MEMBER, WORKSPACE};
use crate::spec::schema::{workspace_schema, workspace_schema_text};

fn parse(text: &str) -> Result<Workspace, Diagnostics> {
    Workspace::parse(&Arc::new(SourceText::new("boxwright.workspace.yaml", text)))
}

const WHOLE: &str = "\
format: 1
args: {NODE: '20', RAW: '${NODE}'}
members:
  - platform/auth
  - ../assistant/
  - {name: backend-stage, spec: backend, target: stage, profile: stage,
     tags: [stage, 1.4, registry.example/acme/backend], args: {X: y},
     platforms: [linux/amd64, linux/arm64]}
";

#[test]
fn a_workspace_says_what_each_member_is_given() {
    let workspace = parse(WHOLE).unwrap_or_else(|error| panic!("{error}"));
    let given = |args: &[Argument]| -> Vec<String> {
        let pair = |one: &Argument| format!("{}={}", one.name.value, one.value);
        args.iter().map(pair).collect()
    };
    assert_eq!(given(&workspace.args), ["NODE=20", "RAW=${NODE}"]);
    let names: Vec<&str> = workspace
        .members
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["platform/auth", "../assistant", "backend-stage"]);
    let last = &workspace.members[2];
    assert_eq!(last.spec.value, PathBuf::from("backend"));
    assert_eq!(last.target.as_ref().unwrap().as_str(), "stage");
    assert_eq!(last.profile.as_ref().unwrap().as_str(), "stage");
    assert_eq!(given(&last.args), ["X=y"]);
    let tags: Vec<MemberTag> = last.tags.iter().map(|tag| tag.value.clone()).collect();
    let name = "registry.example/acme/backend:latest".parse().unwrap();
    assert_eq!(
        tags,
        [
            MemberTag::Tag("stage".parse().unwrap()),
            MemberTag::Tag("1.4".parse().unwrap()),
            MemberTag::Name(name),
        ]
    );
    assert_eq!(last.platforms.len(), 2);
    assert_eq!(
        workspace.member("platform/auth/").unwrap().name.value,
        "platform/auth"
    );
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_a_remedy() {
    let problems: Vec<String> = [
        "",
        "[]\n",
        "format: 2\nmembers: [a]\n",
        "members: [a]\n",
        "format: 1\n",
        "format: 1\nmembers: []\n",
        "format: 1\nmembers: a\n",
        "format: 1\nspecs: [a]\n",
        "format: 1\nmembers: [a, {spec: b, nmae: c}, {name: d}, [e], '', -x, {spec: f, name: ''}]\n",
        "format: 1\nmembers:\n  - a\n  - {spec: b, name: a}\n  - a/\n",
        "format: 1\nargs: {1A: x, B: [y], C: }\nmembers: [a]\n",
        "format: 1\nargs: [A]\nmembers: [{spec: a, args: A=b, tags: x, platforms: [arm]}]\n",
        "format: 1\nmembers: [{spec: a, tags: [A/b, x y, 'a/b@sha256:0', '${TAG}'], target: 1x, path: b}]\n",
        "format: 1\nmembers: [\n",
    ]
    .iter()
    .map(|text| {
        let found = parse(text).map(drop).expect_err(text);
        for one in &found {
            assert!(!one.help.is_empty() || text.ends_with("[\n"), "{one}");
        }
        found.to_string()
    })
    .collect();
    insta::assert_snapshot!(problems.join("\n\n"));
}

#[test]
fn an_unknown_member_is_told_with_those_that_there_are() {
    let workspace = parse(WHOLE).unwrap();
    let told = |name: &str| workspace.member(name).unwrap_err().to_string();
    assert!(told("platform/aut").contains("did you mean `platform/auth`?"));
    let listed = "its members are platform/auth, ../assistant, backend-stage";
    assert!(
        told("nothing-alike").contains(listed),
        "{}",
        told("nothing-alike")
    );
}

#[test]
fn the_schema_in_the_repository_is_this_one() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/specs/boxwright.workspace.schema.json"
    );
    if std::env::var_os("BOXWRIGHT_BLESS").is_some() {
        std::fs::write(path, workspace_schema_text()).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == workspace_schema_text(),
        "boxwright schema --workspace > specs/boxwright.workspace.schema.json"
    );
}

#[test]
fn the_schema_takes_what_the_decoder_takes() {
    let schema = workspace_schema();
    let keys = |schema: &serde_json::Value| -> Vec<String> {
        let properties = schema["properties"].as_object().unwrap();
        properties.keys().cloned().collect()
    };
    let of_shape = |shape: &Shape| {
        let mut keys: Vec<String> = shape.keys.iter().map(|key| (*key).to_owned()).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&schema), of_shape(&WORKSPACE));
    assert_eq!(keys(&schema["$defs"]["Member"]), of_shape(&MEMBER));
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let member = serde_json::json!({
        "name": "b", "spec": "b", "target": "t", "profile": "p", "tags": ["x", 1.4],
        "args": {"A": 1}, "platforms": ["linux/amd64"],
    });
    let whole = serde_json::json!({"format": 1, "args": {"A": "b"}, "members": ["a", member]});
    let wrong: Vec<String> = validator
        .iter_errors(&whole)
        .map(|error| error.to_string())
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    for wrong in [
        serde_json::json!({"format": 1}),
        serde_json::json!({"format": 1, "members": [{"name": "a"}]}),
        serde_json::json!({"format": 1, "members": ["a"], "specs": []}),
        serde_json::json!({"format": 2, "members": ["a"]}),
    ] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn arguments_of_a_spec_are_found_however_they_are_written() {
    use crate::spec::NoFiles;
    use crate::spec::parse::declared_args;
    for (text, expected) in [
        (
            "format: 1\nargs: {B: x, A: }\nstages: {}\n",
            &["A", "B"][..],
        ),
        ("args: [A]\n", &[]),
        ("format: 1\n", &[]),
        ("", &[]),
    ] {
        let found = declared_args(&Arc::new(SourceText::new("s", text)), &NoFiles).unwrap();
        assert_eq!(
            found.iter().map(String::as_str).collect::<Vec<_>>(),
            expected
        );
    }
    assert!(declared_args(&Arc::new(SourceText::new("s", "a: [")), &NoFiles).is_err());
}
