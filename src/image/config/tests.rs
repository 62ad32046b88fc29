//! Inheritance, setting by setting.

use serde_json::json;

use super::*;
use crate::image::history::mended;
use crate::oci::Digest;
use crate::oci::json::to_vec;
use crate::spec::{EnvPart, EnvTemplate, Port, Signal, Span};

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Span::new(5, 7))
}

fn base() -> ImageConfig {
    serde_json::from_value(json!({
        "created": "2020-01-01T00:00:00Z",
        "author": "someone",
        "architecture": "amd64",
        "os": "linux",
        "os.version": "10",
        "docker_version": "20.10",
        "container": "abc",
        "container_config": {"Cmd": ["x"]},
        "id": "abc",
        "config": {
            "User": "1000",
            "Env": ["PATH=/usr/bin", "HOME=/root", "FLAG"],
            "Entrypoint": ["/entry"],
            "Cmd": ["serve"],
            "Labels": {"a": "1", "b": "1"},
            "ExposedPorts": {"80/tcp": {}},
            "Volumes": {"/data": {}},
            "WorkingDir": "/srv",
            "StopSignal": "SIGINT",
            "Shell": ["/bin/bash", "-c"],
            "Healthcheck": {"Test": ["CMD", "old"], "Interval": 5_000_000_000_u64, "Retries": 9},
            "OnBuild": ["RUN x"],
            "Image": "sha256:00",
            "Hostname": "h",
            "ArgsEscaped": true,
        },
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"base")]},
        "history": [{"created_by": "ADD"}, {"created_by": "CMD", "empty_layer": true}],
    }))
    .unwrap()
}

fn made(base: Option<&ImageConfig>, settings: &Config) -> Result<BuiltConfig, ImageError> {
    let platform: Platform = "linux/amd64".parse().unwrap();
    let layer = NewLayer {
        diff_id: DiffId(Digest::of(b"own")),
        title: "copy dist → /app",
    };
    config(&ConfigInputs {
        base,
        settings,
        workdir: None,
        user: None,
        layers: &[layer],
        epoch: 0,
        platform: &platform,
    })
}

fn text(config: &impl serde::Serialize) -> String {
    let value: Value = serde_json::from_slice(&to_vec(config)).unwrap();
    serde_json::to_string_pretty(&value).unwrap()
}

#[test]
fn a_stage_that_sets_nothing_inherits_everything() {
    let built = made(Some(&base()), &Config::default()).unwrap();
    insta::assert_snapshot!(text(&built.config), @r#"
    {
      "architecture": "amd64",
      "author": "someone",
      "config": {
        "ArgsEscaped": true,
        "Cmd": [
          "serve"
        ],
        "Entrypoint": [
          "/entry"
        ],
        "Env": [
          "PATH=/usr/bin",
          "HOME=/root",
          "FLAG"
        ],
        "ExposedPorts": {
          "80/tcp": {}
        },
        "Healthcheck": {
          "Interval": 5000000000,
          "Retries": 9,
          "Test": [
            "CMD",
            "old"
          ]
        },
        "Labels": {
          "a": "1",
          "b": "1"
        },
        "Shell": [
          "/bin/bash",
          "-c"
        ],
        "StopSignal": "SIGINT",
        "User": "1000",
        "Volumes": {
          "/data": {}
        },
        "WorkingDir": "/srv"
      },
      "created": "1970-01-01T00:00:00Z",
      "history": [
        {
          "created_by": "ADD"
        },
        {
          "created_by": "CMD",
          "empty_layer": true
        },
        {
          "created": "1970-01-01T00:00:00Z",
          "created_by": "boxwright: copy dist → /app"
        }
      ],
      "os": "linux",
      "os.version": "10",
      "rootfs": {
        "diff_ids": [
          "sha256:cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2",
          "sha256:5b3975651c3cab92d044c096dc30a1c2d9525497457472de48c51ecb363d1f4a"
        ],
        "type": "layers"
      }
    }
    "#);
    assert_eq!(
        built.notes,
        ["the base image has ONBUILD triggers; they are not run and not passed on"]
    );
}

#[test]
fn what_a_stage_sets_wins() {
    let base = base();
    let settings = Config {
        workdir: Some(spanned("/app".parse().unwrap())),
        expose: vec![spanned(Port::parse_range("3001/udp").unwrap()[0])],
        stop_signal: Some(spanned("SIGTERM".parse::<Signal>().unwrap())),
        labels: [
            ("b".to_owned(), spanned("2".to_owned())),
            ("c".to_owned(), spanned("3".to_owned())),
        ]
        .into(),
        volumes: vec![spanned("/more".parse().unwrap())],
        ..Config::default()
    };
    let config = made(Some(&base), &settings).unwrap().config.config;
    assert_eq!(config.working_dir, "/app");
    assert_eq!(config.stop_signal, "SIGTERM");
    assert_eq!(
        Vec::from_iter(&config.exposed_ports),
        ["3001/udp", "80/tcp"]
    );
    assert_eq!(Vec::from_iter(&config.volumes), ["/data", "/more"]);
    assert_eq!(Vec::from_iter(config.labels.values()), ["1", "2", "3"]);
}

/// Docker's rule: an entry point takes an inherited command away, a command of the stage stays.
#[test]
fn entrypoint_and_cmd() {
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for (entrypoint, cmd, expected_entrypoint, expected_cmd) in [
        (None, None, "/entry", "serve"),
        (Some("/new"), None, "/new", ""),
        (None, Some("other"), "/entry", "other"),
        (Some("/new"), Some("other"), "/new", "other"),
        (Some(""), None, "", ""),
        (None, Some(""), "/entry", ""),
    ] {
        let settings = Config {
            entrypoint: entrypoint.map(|text| spanned(words(text))),
            cmd: cmd.map(|text| spanned(words(text))),
            ..Config::default()
        };
        let config = made(Some(&base()), &settings).unwrap().config.config;
        assert_eq!(config.entrypoint, words(expected_entrypoint));
        assert_eq!(config.cmd, words(expected_cmd));
    }
}

#[test]
fn variables_keep_their_places_and_see_those_before_them() {
    let variable = |name: &str, parts: Vec<EnvPart>| EnvVariable {
        name: spanned(name.to_owned()),
        value: spanned(EnvTemplate { parts }),
    };
    let literal = |text: &str| EnvPart::Literal(text.to_owned());
    let inherited = |name: &str| EnvPart::Inherited(name.to_owned());
    let base = ["PATH=/usr/bin", "A=1", "A=2", "FLAG", "EQ=a=b"].map(str::to_owned);
    let merged = environment(
        base.to_vec(),
        &[
            variable("PATH", vec![literal("/app/bin:"), inherited("PATH")]),
            variable(
                "NEW",
                vec![
                    inherited("PATH"),
                    literal(" "),
                    inherited("A"),
                    inherited("NONE"),
                ],
            ),
            variable("A", vec![literal("3")]),
            variable("FLAG", vec![inherited("EQ")]),
            variable("NEW", vec![inherited("NEW"), literal("!")]),
        ],
    );
    assert_eq!(
        merged,
        [
            "PATH=/app/bin:/usr/bin",
            "A=3",
            "FLAG=a=b",
            "EQ=a=b",
            "NEW=/app/bin:/usr/bin 2!"
        ]
    );
}

#[test]
fn health_checks_are_replaced_or_refined() {
    let seconds = |number| Some(spanned(Duration::from_secs(number)));
    let check = |base: Option<&ImageConfig>, probe: HealthProbe| {
        let settings = Config {
            healthcheck: Some(spanned(probe)),
            ..Config::default()
        };
        made(base, &settings).map(|built| built.config.config.healthcheck.unwrap())
    };
    let replaced = HealthProbe {
        test: Some(spanned(ProbeTest::Exec(vec![
            "curl".to_owned(),
            "-f".to_owned(),
        ]))),
        interval: seconds(30),
        timeout: seconds(10),
        start_period: seconds(5),
        retries: Some(spanned(3)),
        ..HealthProbe::default()
    };
    let check_replaced = check(Some(&base()), replaced).unwrap();
    assert_eq!(check_replaced.test, ["CMD", "curl", "-f"]);
    assert_eq!(
        (check_replaced.interval, check_replaced.retries),
        (30_000_000_000, 3)
    );
    let refined = HealthProbe {
        timeout: seconds(1),
        ..HealthProbe::default()
    };
    let check_refined = check(Some(&base()), refined.clone()).unwrap();
    assert_eq!(check_refined.test, ["CMD", "old"]);
    assert_eq!(
        (check_refined.timeout, check_refined.retries),
        (1_000_000_000, 9)
    );
    let none = HealthProbe {
        test: Some(spanned(ProbeTest::None)),
        ..HealthProbe::default()
    };
    assert_eq!(check(Some(&base()), none).unwrap().test, ["NONE"]);
    let shell = ProbeTest::Shell("a | b".to_owned());
    let shell = HealthProbe {
        test: Some(spanned(shell)),
        ..HealthProbe::default()
    };
    assert_eq!(check(None, shell).unwrap().test, ["CMD-SHELL", "a | b"]);
    assert_eq!(
        check(None, refined),
        Err(ImageError::HealthcheckWithoutTest(Span::new(5, 7)))
    );
}

#[test]
fn an_image_from_scratch_says_only_what_the_spec_says() {
    let config = made(None, &Config::default()).unwrap().config;
    assert_eq!(config.config, RuntimeConfig::default());
    assert_eq!(config.history.len(), 1);
    assert!(config.other.is_empty());
}

#[test]
fn lines_of_history_are_as_many_as_layers_whatever_the_base_says() {
    let mut odd = base();
    for history in [Vec::new(), vec![History::default(); 5]] {
        odd.history = history;
        let config = made(Some(&odd), &Config::default()).unwrap().config;
        let standing = config
            .history
            .iter()
            .filter(|line| !line.empty_layer)
            .count();
        assert_eq!(standing, config.rootfs.diff_ids.len());
        assert_eq!(mended(&config.history, standing), config.history);
    }
}

#[test]
fn the_user_and_the_stage_workdir_are_taken_as_resolved() {
    let platform: Platform = "linux/amd64".parse().unwrap();
    let workdir = "/stage".parse().unwrap();
    let settings = Config::default();
    let base = base();
    let config = config(&ConfigInputs {
        base: Some(&base),
        settings: &settings,
        workdir: Some(&workdir),
        user: Some("1001"),
        layers: &[],
        epoch: 1_700_000_000,
        platform: &platform,
    })
    .unwrap()
    .config;
    assert_eq!(
        (
            config.config.user.as_str(),
            config.config.working_dir.as_str()
        ),
        ("1001", "/stage")
    );
    assert_eq!(config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
}
