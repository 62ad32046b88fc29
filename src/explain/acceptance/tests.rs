//! Tables of judging, and what the reports look like.

use std::time::Duration;

use super::*;
use crate::spec::{Budget, ParseInputs, SourceText, parse};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The budget as a spec has it.
fn budget(keys: &str) -> Budget {
    let text = format!("format: 1\nbudget: {{{keys}}}\nstages: {{app: {{from: scratch}}}}\n");
    let source = SourceText::from_bytes("t.yaml".to_owned(), text.into_bytes()).unwrap();
    let platform = "linux/amd64".parse().unwrap();
    let inputs = ParseInputs {
        profile: None,
        arg_overrides: &[],
        platform: &platform,
    };
    parse(&std::sync::Arc::new(source), &inputs).unwrap().budget
}

fn build() -> BuildFigures {
    let manifest = Digest::of(b"manifest");
    BuildFigures {
        manifest,
        warm_manifest: manifest,
        other_manifest: Some(manifest),
        differences: Vec::new(),
        cold: ms(61_000),
        warm: ms(80),
        size: 48_300_000,
        unpacked: 120_000_000,
        layers: blobs(),
        context: ContextFigures {
            files: 120,
            bytes: 2_000_000,
            all_files: 24_000,
            all_bytes: 310_000_000,
        },
        check: CheckFigures {
            errors: Vec::new(),
            warnings: 1,
        },
    }
}

/// Five layers of 48.3 MB together.
fn blobs() -> Vec<Blob> {
    let sizes = [40_000_000, 8_000_000, 200_000, 99_000, 1_000];
    let blob = |size: u64| Blob {
        digest: Digest::of(&size.to_le_bytes()),
        size,
    };
    sizes.into_iter().map(blob).collect()
}

fn run() -> RunFigures {
    RunFigures {
        start: Start::Up { after: ms(480) },
        health: Health::Answered { after: ms(1300) },
        user: Ok(UserFigures {
            configured: "1001".to_owned(),
            inside: 1001,
        }),
        root_is_allowed: false,
        stop: Stop::Ended {
            signal: "SIGTERM".to_owned(),
            after: ms(200),
            code: 143,
            is_clean: true,
        },
        read_only: ReadOnly::Works,
    }
}

fn figures(build: BuildFigures, run: RunFigures) -> Figures {
    Figures {
        spec: "app/boxwright.yaml".to_owned(),
        image: "docker.io/acme/app:1".to_owned(),
        platform: "linux/amd64".to_owned(),
        runner: Some("podman 5.2.1".to_owned()),
        build: Ok(build),
        run: Ok(run),
    }
}

/// The verdicts in the order of the subjects, a letter each.
fn verdicts(acceptance: &Acceptance) -> String {
    let subjects: Vec<Subject> = acceptance
        .judgements
        .iter()
        .map(|one| one.subject)
        .collect();
    assert_eq!(subjects, Subject::ALL);
    let letter = |one: &Judgement| match one.verdict {
        Verdict::Passed => 'p',
        Verdict::Told => 't',
        Verdict::Skipped => 's',
        Verdict::Failed => 'F',
    };
    acceptance.judgements.iter().map(letter).collect()
}

const ALL_KEYS: &str = "size: 100MB, unpacked: 120MB, layers: 5, context: 2MB, cold_build: 2m, warm_build: 1s, \
                        start: 1s, health: 2s, read_only: true";

#[test]
fn budgets_are_kept_or_not() {
    for (keys, expected) in [
        ("", "ttptttt" /* numbers are only told */),
        (ALL_KEYS, "ppppppp"),
        ("size: 48300000", "ttppttt"),
        ("size: 48299999", "ttpFttt"),
        ("unpacked: 120000000", "ttptptt"),
        ("unpacked: 119999999", "ttptFtt"),
        ("layers: 4", "ttpttFt"),
        ("context: 1999999", "ttptttF"),
        ("cold_build: 1m", "Ftptttt"),
        ("warm_build: 79ms", "tFptttt"),
    ] {
        let found = judge(figures(build(), run()), &budget(keys), Demands::default());
        assert_eq!(&verdicts(&found)[..7], expected, "{keys}");
        assert_eq!(found.passed, !expected.contains('F'), "{keys}");
    }
    for (keys, expected) in [
        ("", "ppppt"),
        ("start: 480ms, health: 1300ms, read_only: true", "ppppp"),
        ("start: 479ms", "Fpppt"),
        ("health: 1s", "pFppt"),
    ] {
        let found = judge(figures(build(), run()), &budget(keys), Demands::default());
        assert_eq!(&verdicts(&found)[8..], expected, "{keys}");
    }
}

#[test]
fn builds_must_give_the_same_and_have_no_error() {
    let judged = |build| {
        judge(
            figures(build, run()),
            &Budget::default(),
            Demands::default(),
        )
    };
    let other = Digest::of(b"other");
    let found = judged(BuildFigures {
        warm_manifest: other,
        ..build()
    });
    assert_eq!(verdicts(&found), "ttFttttpppppt");
    let found = judged(BuildFigures {
        other_manifest: Some(other),
        differences: (0..7)
            .map(|n| format!("/f{n} in run: its content"))
            .collect(),
        ..build()
    });
    assert_eq!(verdicts(&found), "ttFttttpppppt");
    let notes = &found.judgements[2].notes;
    assert_eq!(notes.len(), 7);
    assert_eq!(
        (&*notes[1], &*notes[6]),
        ("/f0 in run: its content", "… and 2 more")
    );
    let found = judged(BuildFigures {
        check: CheckFigures {
            errors: vec!["BW003: /key: a private key".to_owned()],
            warnings: 0,
        },
        ..build()
    });
    assert_eq!(verdicts(&found), "ttpttttFppppt");
}

#[test]
fn a_start_is_judged_by_what_it_shows() {
    let user = |configured: &str, inside| {
        Ok(UserFigures {
            configured: configured.to_owned(),
            inside,
        })
    };
    let ended = |code, is_clean| Stop::Ended {
        signal: "SIGTERM".to_owned(),
        after: ms(3),
        code,
        is_clean,
    };
    let why = || "no".to_owned();
    let unasked = Health::Unasked { watched: ms(2000) };
    let silent = Health::Silent {
        waited: ms(9),
        why: why(),
    };
    let read_only = ReadOnly::Fails { why: why() };
    let table: Vec<(&str, RunFigures, &str)> = vec![
        (
            "",
            RunFigures {
                start: Start::Down { why: why() },
                stop: Stop::Unasked,
                read_only: ReadOnly::Untried,
                ..run()
            },
            "Fssss",
        ),
        (
            "",
            RunFigures {
                health: silent,
                ..run()
            },
            "pFppt",
        ),
        (
            "",
            RunFigures {
                health: Health::Ended { why: why() },
                stop: Stop::Unasked,
                ..run()
            },
            "pFpst",
        ),
        (
            "",
            RunFigures {
                health: unasked.clone(),
                ..run()
            },
            "ppppt",
        ),
        // A promise that nobody can ask about is not kept.
        (
            "health: 5s",
            RunFigures {
                health: unasked,
                ..run()
            },
            "pFppt",
        ),
        (
            "",
            RunFigures {
                user: user("", 0),
                ..run()
            },
            "ppFpt",
        ),
        (
            "",
            RunFigures {
                user: user("0", 0),
                ..run()
            },
            "ppFpt",
        ),
        (
            "",
            RunFigures {
                user: user("0", 0),
                root_is_allowed: true,
                ..run()
            },
            "pptpt",
        ),
        (
            "",
            RunFigures {
                user: user("1001:5", 1002),
                ..run()
            },
            "ppFpt",
        ),
        (
            "",
            RunFigures {
                user: user("web", 1002),
                ..run()
            },
            "ppppt",
        ),
        (
            "",
            RunFigures {
                user: user("web", 0),
                ..run()
            },
            "ppFpt",
        ),
        (
            "",
            RunFigures {
                user: Err(why()),
                ..run()
            },
            "ppspt",
        ),
        (
            "",
            RunFigures {
                stop: ended(0, true),
                ..run()
            },
            "ppppt",
        ),
        (
            "",
            RunFigures {
                stop: ended(1, false),
                ..run()
            },
            "pppFt",
        ),
        (
            "",
            RunFigures {
                stop: Stop::Ignored {
                    signal: why(),
                    waited: ms(1),
                },
                ..run()
            },
            "pppFt",
        ),
        (
            "",
            RunFigures {
                read_only: read_only.clone(),
                ..run()
            },
            "ppppt",
        ),
        (
            "read_only: true",
            RunFigures { read_only, ..run() },
            "ppppF",
        ),
    ];
    for (keys, run, expected) in table {
        let told = format!("{run:?}");
        let found = judge(figures(build(), run), &budget(keys), Demands::default());
        assert_eq!(&verdicts(&found)[8..], expected, "{told}");
    }
}

#[test]
fn what_was_not_measured_is_skipped_unless_it_is_required() {
    let without = |demands| {
        let figures = Figures {
            run: Err("there is no runner".to_owned()),
            ..figures(build(), run())
        };
        judge(figures, &budget(ALL_KEYS), demands)
    };
    let found = without(Demands::default());
    assert_eq!((&*verdicts(&found), found.passed), ("ppppppppsssss", true));
    let found = without(Demands { start: true });
    assert_eq!((&*verdicts(&found), found.passed), ("ppppppppFssss", false));
    let nothing = Figures {
        build: Err("no base".to_owned()),
        run: Err(String::new()),
        ..figures(build(), run())
    };
    let found = judge(nothing, &budget(ALL_KEYS), Demands { start: true });
    assert_eq!(verdicts(&found), "Fssssssssssss");
}

/// A spec of which one thing of each verdict can be said, with a name that means no good.
fn hostile() -> Acceptance {
    let figures = Figures {
        spec: "<script>alert(1)</script>&\"'.yaml".to_owned(),
        ..figures(
            BuildFigures {
                check: CheckFigures {
                    errors: vec!["BW003: /<b>\u{1b}]]>: a key".to_owned()],
                    warnings: 0,
                },
                ..build()
            },
            RunFigures {
                user: Err("it <cannot> be seen".to_owned()),
                ..run()
            },
        )
    };
    judge(
        figures,
        &budget("size: 200MB, start: 100ms"),
        Demands::default(),
    )
}

#[test]
fn junit_is_what_every_ci_reads() {
    let fine = judge(
        figures(build(), run()),
        &budget(ALL_KEYS),
        Demands::default(),
    );
    let text = junit(&[fine, hostile()]);
    insta::assert_snapshot!(text);
    assert!(!text.contains("<script") && !text.contains("<b>") && !text.contains('\u{1b}'));
}

#[test]
fn the_page_holds_only_text_and_nothing_from_outside() {
    let page = html(&[hostile()]);
    assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("<cannot"));
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for tag in [
        "section", "table", "main", "body", "html", "small", "tr", "td", "i",
    ] {
        let (opened, closed) = (format!("<{tag}"), format!("</{tag}>"));
        let opened = page
            .match_indices(&opened)
            .filter(|(at, _)| matches!(page.as_bytes()[at + opened.len()], b' ' | b'>'));
        assert_eq!(opened.count(), page.matches(&closed).count(), "{tag}");
    }
    for text in [
        "1 of 1 not accepted",
        "61.0 s",
        "48.3 MB",
        "480 %",
        "≤ 100 ms",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn json_has_judgements_and_what_they_rest_on() {
    let json = serde_json::to_value(hostile()).unwrap();
    assert_eq!(json["passed"], false);
    assert_eq!(json["judgements"][3]["subject"], "size");
    assert_eq!(json["judgements"][3]["verdict"], "passed");
    assert_eq!(json["judgements"][3]["percent"], 24);
    assert_eq!(json["figures"]["build"]["cold"], 61.0);
    assert_eq!(json["figures"]["run"]["start"]["state"], "up");
    assert_eq!(json["figures"]["run"]["start"]["after"], 0.48);
    assert_eq!(
        json["figures"]["run"]["user"]["missing"],
        "it <cannot> be seen"
    );
}

#[test]
fn an_overview_counts_each_blob_once() {
    let good = judge(
        figures(build(), run()),
        &budget(ALL_KEYS),
        Demands::default(),
    );
    let mut other = build();
    other.layers[0].digest = Digest::of(b"another base");
    let more = judge(
        figures(other, run()),
        &budget("size: 1MB"),
        Demands::default(),
    );
    let none = judge(
        Figures {
            build: Err("a step failed".to_owned()),
            ..hostile().figures
        },
        &Budget::default(),
        Demands::default(),
    );
    let overview = Overview::of(&[good, more, none]);
    assert_eq!(
        (overview.blobs, overview.stored, overview.each),
        (6, 88_300_000, 96_600_000)
    );
    insta::assert_snapshot!(overview.markdown());
}
