//! Several files as text, and the spec or the problems that they give.

use std::fs;

use super::*;
use crate::oci::Platform;
use crate::spec::action::Action;
use crate::spec::model::Allow;
use crate::spec::parse::parse;

/// Files of the repository, for tests that read specs from there.
#[derive(Debug)]
pub(crate) struct OnDisk(PathBuf);

impl OnDisk {
    /// The spec that is parsed lies in this folder of the repository.
    pub(crate) fn below(folder: &str) -> OnDisk {
        OnDisk(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
    }
}

impl SpecFiles for OnDisk {
    fn find(&self, folder: &Path, path: &Path) -> Result<FoundSpec, ValueError> {
        let path = folder.join(path);
        let bytes = fs::read(self.0.join(&path)).map_err(|error| {
            ValueError::new(format!("{}: {error}", path.display())).help("write it")
        })?;
        Ok(FoundSpec {
            identity: path.clone(),
            name: path.display().to_string(),
            path,
            bytes: bytes.into(),
        })
    }

    fn own_identity(&self) -> PathBuf {
        PathBuf::new()
    }
}

/// Files by their paths, as the folder of the first sees them.
#[derive(Debug)]
struct InMemory<'a>(Vec<(&'a str, String)>);

impl SpecFiles for InMemory<'_> {
    fn find(&self, folder: &Path, path: &Path) -> Result<FoundSpec, ValueError> {
        let mut found = PathBuf::new();
        for part in folder.join(path).components() {
            match (part, found.file_name()) {
                (std::path::Component::ParentDir, Some(_)) => drop(found.pop()),
                (std::path::Component::CurDir, _) => {}
                (part, _) => found.push(part),
            }
        }
        let file = self.0.iter().find(|(name, _)| Path::new(name) == found);
        let (name, text) = file.ok_or_else(|| {
            ValueError::new(format!("there is no {}", found.display())).help("write it")
        })?;
        Ok(FoundSpec {
            identity: found.clone(),
            name: (*name).to_owned(),
            path: found,
            bytes: text.as_bytes().into(),
        })
    }

    fn own_identity(&self) -> PathBuf {
        PathBuf::from("app.yaml")
    }
}

/// A file with a `format`, unless it has one.
fn whole(text: &str) -> String {
    match text.contains("format:") {
        true => text.to_owned(),
        false => format!("format: 1\n{text}"),
    }
}

fn linked(
    files: &[(&str, &str)],
    args: &[(&str, &str)],
    profile: Option<&str>,
) -> Result<BuildSpec, Diagnostics> {
    let files: Vec<(&str, String)> = files
        .iter()
        .map(|(name, text)| (*name, whole(text)))
        .collect();
    let (name, text) = files[0].clone();
    let args: Vec<(String, String)> = args
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let platform: Platform = "linux/amd64".parse().unwrap();
    parse(
        &Arc::new(SourceText::new(name, text)),
        &ParseInputs {
            arg_overrides: &args,
            profile,
            platform: &platform,
            files: &InMemory(files),
        },
    )
}

fn spec(files: &[(&str, &str)]) -> BuildSpec {
    linked(files, &[], None).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(files: &[(&str, &str)]) -> String {
    linked(files, &[], None).unwrap_err().to_string()
}

/// Each stage with its file and what it starts from.
fn told(spec: &BuildSpec) -> Vec<String> {
    let told = |stage: &Stage| format!("{:?} {} < {:?}", stage.home, stage.name, stage.from.value);
    spec.stages.iter().map(told).collect()
}

/// The text of the first step, which writes a file.
fn text_of<'s>(spec: &'s BuildSpec, home: Home, name: &str) -> &'s str {
    let mut stages = spec.stages.iter();
    let stage = stages.find(|stage| stage.home == home && stage.name.as_str() == name);
    match &stage.unwrap().steps[0].action {
        Action::Write(write) => match &write.content {
            crate::spec::WriteSource::Text(text) => &text.value,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

const APP: &str = "stages: {app: {extends: 'base.yaml#node'}}";

#[test]
fn what_is_needed_comes_along_and_nothing_else() {
    let base = "
stages:
  node: {from: scratch, steps: [{copy: /x, from: tools}, {copy: /y, from: shared}]}
  tools: {extends: 'deep/common.yaml#tools'}
  other: {extends: 'not-there.yaml#x'}
contexts: {shared: s}
";
    let common = "stages: {tools: {from: roots}, roots: {from: scratch}, more: {from: scratch}}";
    let spec = spec(&[
        ("app.yaml", APP),
        ("base.yaml", base),
        ("deep/common.yaml", common),
    ]);
    let stage = |place, name: &str| format!("Extended({place}), Name(\"{name}\")");
    let expected = [
        format!("Own app < Stage({})", stage(0, "node")),
        "Extended(0) node < Scratch".to_owned(),
        format!("Extended(0) tools < Stage({})", stage(1, "tools")),
        "Extended(1) tools < Name(Name(\"roots\"))".to_owned(),
        "Extended(1) roots < Scratch".to_owned(),
    ];
    assert_eq!(told(&spec), expected);
    let [base, common] = &spec.extended[..] else {
        panic!("two files")
    };
    assert_eq!(common.path, Path::new("deep/common.yaml"));
    assert_eq!((base.names.len(), common.names.len()), (3, 3));
    assert_eq!(
        spec.located(Home::Extended(1), Path::new("../x")),
        Path::new("deep/../x")
    );
    assert!(
        base.contexts
            .directory(&"shared".parse().unwrap())
            .is_some()
    );
    assert_eq!(spec.own_stages().count(), 1);
}

#[test]
fn spans_say_the_file() {
    let base = "stages: {node: {from: scratch, workdir: /one}}";
    let spec = spec(&[("app.yaml", APP), ("base.yaml", base)]);
    let span = spec.stages[1].workdir.as_ref().unwrap().span;
    assert_eq!(spec.source.at(span), "/one");
    let problem =
        Diagnostic::new(&spec.source, span, "wrong").also(spec.stages[0].from.span, "by this");
    let app = "app.yaml:2:25: by this";
    assert_eq!(
        problem.to_string(),
        format!("base.yaml:2:41: wrong\n  {app}")
    );
    assert_eq!(problem.file().name, "base.yaml");
}

#[test]
fn arguments_are_those_of_the_file() {
    let base = "
args: {WORD: base, BOTH: base, OWN: '${WORD}!'}
stages: {node: {from: scratch, steps: [{write: /x, text: '${WORD} ${BOTH} ${OWN}'}]}}
";
    let app = "
args: {WORD: app, BASE: base, BOTH: app}
stages: {app: {extends: '${BASE}.yaml#node', steps: [{write: /x, text: '${WORD} ${BOTH}'}]}}
";
    let files = [("app.yaml", app), ("base.yaml", base)];
    for (args, in_base, in_app) in [
        (&[][..], "base base base!", "app app"),
        (&[("BOTH", "new")], "base new base!", "app new"),
        (&[("OWN", "mine")], "base base mine", "app app"),
    ] {
        let spec = linked(&files, args, None).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(text_of(&spec, Home::Extended(0), "node"), in_base);
        assert_eq!(text_of(&spec, Home::Own, "app"), in_app);
        assert!(spec.args.value("OWN").is_none());
    }
    let nobody = linked(&files, &[("NONE", "x"), ("OWN", "x")], None).unwrap_err();
    assert_eq!(
        nobody.to_string(),
        "app.yaml: argument `NONE` is not declared in this spec nor in those that it extends\n  \
         help: its arguments are BASE, BOTH, WORD"
    );
}

#[test]
fn a_profile_counts_where_it_is() {
    let app = "
profiles: {prod: {env: {A: app}}, dev: {}}
stages: {app: {extends: 'base.yaml#node'}, lib: {extends: 'base.yaml#lib'}}
target: app
";
    let base = "
args: {WORD: plain}
profiles: {prod: {args: {WORD: prod}, env: {B: '${WORD}'}}}
stages:
  node: {from: lib, steps: [{write: /x, text: '${WORD}'}]}
  lib: {from: scratch}
";
    let files = [("app.yaml", app), ("base.yaml", base)];
    for (profile, text, variables) in [
        (None, "plain", 0),
        (Some("dev"), "plain", 0),
        (Some("prod"), "prod", 1),
    ] {
        let spec = linked(&files, &[], profile).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(text_of(&spec, Home::Extended(0), "node"), text);
        let env = |name: &str| {
            let mut stages = spec.stages.iter();
            let stage = stages.find(|stage| stage.name.as_str() == name && stage.home != Home::Own);
            stage.unwrap().config.env.len()
        };
        // The target of the file has what the file's profile says, and no other stage.
        assert_eq!((env("node"), env("lib")), (variables, 0), "{profile:?}");
    }
    let unknown = linked(&files, &[], Some("test")).unwrap_err().to_string();
    assert!(
        unknown.contains("app.yaml: this spec has no profile"),
        "{unknown}"
    );
}

#[test]
fn a_profile_of_a_file_without_one_target_must_not_be_lost() {
    let app = "profiles: {prod: {}}\nstages: {app: {extends: 'base.yaml#node'}}";
    let base = |profile: &str, target: &str| {
        format!(
            "profiles: {{prod: {profile}}}\n{target}\nstages: {{node: {{from: scratch}}, lib: {{from: scratch}}}}"
        )
    };
    for (profile, target, is_fine) in [
        ("{env: {A: b}}", "", false),
        ("{env: {A: b}, target: node}", "", true),
        ("{user: '7'}", "target: lib", true),
        ("{user: '7'}", "target: gone", false),
        ("{args: {X: y}}", "args: {X: x}", true),
    ] {
        let base = base(profile, target);
        let files = [("app.yaml", app), ("base.yaml", &*base)];
        let result = linked(&files, &[], Some("prod"));
        assert_eq!(result.is_ok(), is_fine, "{base}");
        if let Err(problems) = result {
            let text = problems.to_string();
            assert!(
                text.contains("base.yaml:2:12: profile \"prod\" says something"),
                "{text}"
            );
            assert!(text.contains("target: STAGE"), "{text}");
        }
    }
}

#[test]
fn a_stage_that_says_nothing_else_may_break_the_same_rules() {
    let base = "
stages:
  node: {extends: 'deep.yaml#node'}
  more: {from: node, allow: [build-stage]}
";
    let deep = "stages: {node: {from: scratch, allow: [root]}}";
    let app = "
stages:
  same: {extends: 'base.yaml#node'}
  own: {extends: 'base.yaml#node', workdir: /x}
  more: {extends: 'base.yaml#more'}
";
    let spec = spec(&[("app.yaml", app), ("base.yaml", base), ("deep.yaml", deep)]);
    let allowed = |name: &str| {
        let stage = spec.stage(&name.parse().unwrap()).unwrap();
        let allowed = stage.allow.iter().map(|allow| allow.value.clone());
        allowed.collect::<Vec<_>>()
    };
    assert_eq!(allowed("same"), [Allow::Root]);
    assert_eq!(allowed("own"), []);
    assert_eq!(allowed("more"), [Allow::BuildStage]);
}

#[test]
fn circles_show_the_way_round() {
    let node = "stages: {node: {extends: 'c.yaml#node'}, app: {from: scratch}}";
    for (files, expected) in [
        (
            vec![(
                "app.yaml",
                "stages: {app: {extends: 'app.yaml#node'}, node: {from: scratch}}",
            )],
            "app.yaml:2:25: app.yaml extends itself\n  help: write `from: node` for a stage of the same file",
        ),
        (
            vec![
                ("app.yaml", APP),
                (
                    "base.yaml",
                    "stages: {node: {extends: './base.yaml#x'}, x: {from: scratch}}",
                ),
            ],
            "base.yaml:2:26: base.yaml extends itself\n  help: write `from: x` for a stage of the same file",
        ),
        (
            vec![
                ("app.yaml", APP),
                ("base.yaml", "stages: {node: {extends: 'app.yaml#app'}}"),
            ],
            "base.yaml:2:26: specs extend each other in a circle: app.yaml -> base.yaml -> app.yaml\n  \
             app.yaml:2:25: app.yaml extends base.yaml here",
        ),
        (
            vec![
                ("app.yaml", APP),
                ("base.yaml", node),
                (
                    "c.yaml",
                    "stages: {node: {from: scratch, steps: [{copy: /x, from: z}]}, z: {extends: 'base.yaml#app'}}",
                ),
            ],
            "c.yaml:2:76: specs extend each other in a circle: base.yaml -> c.yaml -> base.yaml\n  \
             base.yaml:2:26: base.yaml extends c.yaml here\n  help: a spec can only extend",
        ),
    ] {
        let problems = problems(&files);
        assert!(problems.starts_with(expected), "{problems}");
    }
}

#[test]
fn what_is_wrong_is_told_where_it_stands() {
    let fine = "stages: {node: {from: scratch}}";
    for (app, base, expected) in [
        (APP, None, "app.yaml:2:25: there is no base.yaml"),
        (
            "stages: {app: {extends: 'base.yaml#nod'}}",
            Some(fine),
            "app.yaml:2:25: base.yaml has no stage \"nod\"\n  help: did you mean \"node\"?",
        ),
        (
            "stages: {app: {extends: 'base.yaml#else'}}",
            Some(fine),
            "app.yaml:2:25: base.yaml has no stage \"else\"\n  help: there are: node",
        ),
        (
            APP,
            Some("stages:\n  node: {from: scratch}\n  x: {form: scratch}"),
            "base.yaml:4:7: a stage has no key `form`\n  help: did you mean `from`?",
        ),
        (APP, Some("stages: [1"), "base.yaml:2:1"),
        (
            APP,
            Some("# nothing; format:"),
            "base.yaml: the spec is empty",
        ),
        (
            APP,
            Some("FROM scratch # format:"),
            "base.yaml:1:1: this is a Dockerfile",
        ),
        (
            APP,
            Some("format: 2"),
            "base.yaml:1:9: format \"2\" is unknown",
        ),
    ] {
        let mut files = vec![("app.yaml", app)];
        files.extend(base.map(|base| ("base.yaml", base)));
        let problems = problems(&files);
        assert!(problems.starts_with(expected), "{problems}");
    }
}

#[test]
fn neither_deep_nor_wide_without_end() {
    let chain = |length: usize| {
        let text = |next: usize| format!("stages: {{node: {{extends: 'f{next}.yaml#node'}}}}");
        let mut files: Vec<(String, String)> = (0..length)
            .map(|at| (format!("f{at}.yaml"), text(at + 1)))
            .collect();
        files.push((
            format!("f{length}.yaml"),
            "stages: {node: {from: scratch}}".to_owned(),
        ));
        files
    };
    let wide = |number: usize| {
        let mut all = "stages:\n".to_owned();
        for at in 0..number {
            all.push_str(&format!("  s{at}: {{extends: 'f{at}.yaml#node'}}\n"));
        }
        let mut files = vec![("app.yaml".to_owned(), all)];
        files.extend((0..number).map(|at| {
            (
                format!("f{at}.yaml"),
                "stages: {node: {from: scratch}}".to_owned(),
            )
        }));
        files
    };
    let result = |files: &[(String, String)]| {
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        linked(&files, &[], None).map_err(|problems| problems.to_string())
    };
    assert!(result(&chain(MOST_DEPTH)).is_ok());
    let error = result(&chain(MOST_DEPTH + 1)).unwrap_err();
    assert!(
        error.starts_with("f16.yaml:2:26: specs extend each other over more than 16 files"),
        "{error}"
    );
    assert!(result(&wide(MOST_FILES)).is_ok());
    let error = result(&wide(MOST_FILES + 1)).unwrap_err();
    assert!(
        error.starts_with("app.yaml:67:18: this is one file too many"),
        "{error}"
    );
}

#[test]
fn all_files_together_expand_within_bounds() {
    let text = "${X}".repeat(900);
    let base = |next: &str| {
        format!(
            "args: {{X: '{}'}}\nstages: {{node: {{{next}, steps: [{}]}}}}",
            "x".repeat(1000),
            format!("{{write: /x, text: '{text}'}},").repeat(40)
        )
    };
    let files: Vec<(String, String)> = (0..3)
        .map(|at| match at {
            2 => ("f2.yaml".to_owned(), base("from: scratch")),
            at => (
                format!("f{at}.yaml"),
                base(&format!("extends: 'f{}.yaml#node'", at + 1)),
            ),
        })
        .collect();
    let two: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let problems = problems(&two);
    assert!(problems.contains("64 MiB"), "{}", &problems[..200]);
    assert!(problems.starts_with("f1.yaml:"), "{}", &problems[..200]);
}
