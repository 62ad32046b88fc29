//! Whole texts: what is parsed, and what is told.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::spec::action::{Action, Command, Mount, SecretTarget, WriteSource};
use crate::spec::config::ProbeTest;
use crate::spec::link::NoFiles;
use crate::spec::model::{Base, Stage};

const DESIGN: &str = include_str!("../../../testdata/specs/valid/design.yaml");
const EVERYTHING: &str = include_str!("../../../testdata/specs/valid/everything.yaml");

fn read(text: &str, overrides: &[(&str, &str)], platform: &str) -> Result<BuildSpec, Diagnostics> {
    read_for(None, text, overrides, platform)
}

fn read_for(
    profile: Option<&str>,
    text: &str,
    overrides: &[(&str, &str)],
    platform: &str,
) -> Result<BuildSpec, Diagnostics> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let arg_overrides: Vec<_> = overrides.iter().map(own).collect();
    let inputs = ParseInputs {
        arg_overrides: &arg_overrides,
        profile,
        platform: &platform.parse().unwrap(),
        files: &NoFiles,
    };
    parse(&Arc::new(SourceText::new("t.yaml", text)), &inputs)
}

fn valid(text: &str) -> BuildSpec {
    read(text, &[], "linux/amd64").unwrap_or_else(|error| panic!("{error}"))
}

fn stage<'s>(spec: &'s BuildSpec, name: &str) -> &'s Stage {
    spec.stage(&name.parse().unwrap()).unwrap()
}

#[test]
fn the_example_of_the_design_means_what_it_says() {
    let spec = valid(DESIGN);
    assert_eq!(
        spec.image.as_ref().unwrap().to_string(),
        "docker.io/acme/auth-service"
    );
    assert_eq!(
        spec.stages
            .iter()
            .map(|s| s.name.as_str())
            .collect::<Vec<_>>(),
        ["deps", "build", "runtime"]
    );
    assert_eq!(
        stage(&spec, "deps").from.to_string(),
        "docker.io/library/node:20-alpine"
    );
    assert!(
        matches!(&stage(&spec, "build").from.value, Base::Name(name) if name.as_str() == "deps")
    );
    assert_eq!(spec.contexts.main_directory().to_str(), Some("."));
    let runtime = stage(&spec, "runtime");
    let Action::Write(write) = &runtime.steps[2].action else {
        panic!()
    };
    let WriteSource::Text(text) = &write.content else {
        panic!()
    };
    assert_eq!(text.value, r#"{"node":"20"}"#);
    assert_eq!(runtime.config.expose[0].to_string(), "3001/tcp");
    let probe = runtime.config.healthcheck.as_ref().unwrap();
    assert_eq!(
        probe.interval.map(|interval| interval.value),
        Some(Duration::from_secs(30))
    );
    assert!(
        matches!(&probe.test.as_ref().unwrap().value, ProbeTest::Exec(argv) if argv.len() == 3)
    );
}

#[test]
fn every_key_arrives() {
    let spec = valid(EVERYTHING);
    let tags: Vec<&str> = spec.tags.iter().map(|tag| tag.as_str()).collect();
    assert_eq!(tags, ["1.10", "stable", "v2"]);
    assert_eq!(
        stage(&spec, "registry").from.to_string(),
        "docker.io/library/debian:bookworm-stable"
    );
    let tools = stage(&spec, "tools");
    let Action::Run(run) = &tools.steps[3].action else {
        panic!()
    };
    assert!(
        matches!(&run.command.value, Command::Shell(text) if text.contains("$HOME ${HOME} stable"))
    );
    assert_eq!(
        run.env[1].value.resolve(|_| Some("/bin")),
        "/opt/tool/bin:/bin"
    );
    assert!(
        matches!(&run.mounts[4].value, Mount::Secret { target: SecretTarget::File(path), required: true, .. }
        if path.as_str() == "/run/secrets/plain")
    );
    let last = stage(&spec, "final");
    let env: Vec<String> = last
        .config
        .env
        .iter()
        .map(|v| v.value.resolve(|_| Some("X")))
        .collect();
    assert_eq!(
        env,
        ["/app/bin:X", "production", "4", "false", "${env.PATH}"]
    );
    assert_eq!(last.config.expose.len(), 5);
    assert_eq!(
        last.config.labels["org.opencontainers.image.version"].value,
        "1.10"
    );
    assert!(last.config.entrypoint.as_ref().unwrap().is_empty());
    assert_eq!(last.allow.len(), 3);
}

#[test]
fn a_profile_is_the_chosen_one_and_nothing_of_the_others() {
    let chosen = |profile, overrides: &[(&str, &str)]| {
        read_for(profile, EVERYTHING, overrides, "linux/amd64")
    };
    assert_eq!(valid(EVERYTHING).profile, None);
    let spec = chosen(Some("dev"), &[("DEBUG", "2")]).unwrap();
    let dev = spec.profile.clone().unwrap();
    let args: Vec<_> = dev.args.iter().collect();
    assert_eq!(args, [("CHANNEL", "testing"), ("DEBUG", "2")]);
    // Arguments of the spec that use one of the profile's follow it, and so does the whole spec.
    assert_eq!(
        spec.args.value("FULL"),
        Some("docker.io/library/debian:bookworm-testing")
    );
    assert_eq!(spec.tags[1].as_str(), "testing");
    assert_eq!(dev.target.as_ref().unwrap().as_str(), "registry");
    assert_eq!(dev.user.as_ref().unwrap().to_string(), "3:0");
    assert_eq!(dev.labels["env"].value, "testing");
    // The config says what the profile says; what the profile does not say stays.
    let mut config = stage(&spec, "final").config.clone();
    let old = config.clone();
    dev.apply(&mut config);
    assert_eq!(config.cmd.unwrap().value, ["serve", "--reload", "1"]);
    assert_eq!(config.env[..5], old.env[..]);
    let new = config.env[5..].iter();
    let new: Vec<String> = new.map(|v| v.value.resolve(|_| Some("X"))).collect();
    assert_eq!(new, ["dev", "/dev/bin:X", "3"]);
    assert_eq!(config.labels.len(), 3);
    assert_eq!((config.workdir, config.expose), (old.workdir, old.expose));
    // What must be given in one environment need not be in another.
    assert!(chosen(Some("prod"), &[("LEVEL", "9")]).is_ok());
    let missing = chosen(Some("prod"), &[]).unwrap_err().to_string();
    assert!(missing.contains("`LEVEL` has no value"), "{missing}");
}

#[test]
fn arguments_come_from_overrides_defaults_and_the_platform() {
    let text = "format: 1\nargs: {A: a, B: \"${A}b\", REV: }\nstages:\n  s:\n    from: scratch\n    steps:\n      - {write: /x, text: \"${B} ${REV} ${TARGETARCH}${TARGETVARIANT} ${TARGETPLATFORM}\"}\n";
    let written = |overrides: &[(&str, &str)]| {
        let spec = read(text, overrides, "linux/arm/v7")?;
        let Action::Write(write) = &spec.stages[0].steps[0].action else {
            panic!()
        };
        let WriteSource::Text(text) = &write.content else {
            panic!()
        };
        Ok(text.value.clone())
    };
    let shown = written(&[("REV", "${A}")]);
    assert_eq!(
        shown.as_deref(),
        Ok("ab ${A} armv7 linux/arm/v7"),
        "overrides are literal"
    );
    assert_eq!(
        written(&[("REV", ""), ("A", "1"), ("A", "2")]).as_deref(),
        Ok("2b  armv7 linux/arm/v7")
    );
    for (overrides, why) in [
        (&[("REVV", "x"), ("REV", "")][..], "did you mean `REV`?"),
        (
            &[("OTHER", "x"), ("REV", "")],
            "its arguments are A, B, REV",
        ),
        (&[("TARGETOS", "x"), ("REV", "")], "follows the platform"),
        (&[], "--arg REV=…"),
    ] {
        let error: Diagnostics = written(overrides).unwrap_err();
        assert_eq!(error.len(), 1, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn json_and_yaml_say_the_same() {
    let yaml = "format: 1\nstages:\n  s:\n    from: scratch\n    steps:\n    - copy: [a, b]\n      to: /x/\n      mode: 0644\n";
    let json = r#"{"format": 1, "stages": {"s": {"from": "scratch",
        "steps": [{"copy": ["a", "b"], "to": "/x/", "mode": "644"}]}}}"#;
    let (yaml, json) = (valid(yaml), valid(json));
    let steps = |spec: &BuildSpec| spec.stages[0].steps[0].action.clone();
    assert_eq!(steps(&yaml), steps(&json));
    let crlf = valid(&DESIGN.replace('\n', "\r\n"));
    assert_eq!(crlf.stages[2].config, valid(DESIGN).stages[2].config);
}

#[test]
fn spans_of_expanded_texts_point_at_the_file() {
    let spec = valid(DESIGN);
    let from = stage(&spec, "deps").from.span;
    assert_eq!(
        spec.source.at(from),
        "docker.io/library/node:${NODE}-alpine"
    );
}

#[test]
fn bytes_become_text_or_a_diagnostic() {
    assert_eq!(
        SourceText::from_bytes("f", b"a".to_vec()).unwrap().text,
        "a"
    );
    let error = SourceText::from_bytes("f", b"ab\xffc".to_vec()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("f:1:3: the file is not UTF-8"),
        "{error}"
    );
    assert!(SourceText::from_bytes("f", vec![b' '; (4 << 20) + 1]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Cutting, doubling and replacing pieces of a real spec reaches deeper than random text.
    #[test]
    fn a_damaged_spec_is_read_or_refused(at in 0usize..4000, length in 0usize..40, insert in "[\\[\\]{}:,&*$|'\"\\n -]{0,4}|[a-z]{1,6}|\\$\\{[A-Z]{1,7}\\}") {
        let text = EVERYTHING;
        let floor = |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let (start, end) = (floor(at), floor(at + length));
        let damaged = format!("{}{insert}{}", &text[..start], &text[end..]);
        if let Err(diagnostics) = read(&damaged, &[], "linux/amd64") {
            prop_assert!(!diagnostics.is_empty());
            for diagnostic in &diagnostics {
                prop_assert!(!diagnostic.help.is_empty(), "{}", diagnostic);
                if let Some(span) = diagnostic.span {
                    prop_assert!(span.start <= span.end && span.end <= damaged.len(), "{}", diagnostic);
                }
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = read(&text, &[], "linux/amd64");
    }

    #[test]
    fn any_text_can_be_written_into_a_file(text in "\\PC{0,40}|[${}a-zA-Z.\\n\"\\\\]{0,24}") {
        let json = serde_json::to_string(&text.replace("${", "$${")).unwrap();
        let spec = format!("{{\"format\":1,\"stages\":{{\"s\":{{\"from\":\"scratch\",\"steps\":[{{\"write\":\"/x\",\"text\":{json}}}]}}}}}}");
        let spec = read(&spec, &[], "linux/amd64").map_err(|error| TestCaseError::fail(error.to_string()))?;
        let Action::Write(write) = &spec.stages[0].steps[0].action else { panic!() };
        prop_assert!(matches!(&write.content, WriteSource::Text(written) if written.value == text));
    }
}
