//! The help of every command is read by people, so every change of it is looked at.

use super::*;
use crate::cli::terminal::plain;
use clap::CommandFactory;

/// Every command with its full name.
fn commands() -> Vec<(String, clap::Command)> {
    fn collect(name: &str, command: &clap::Command, all: &mut Vec<(String, clap::Command)>) {
        all.push((name.to_owned(), command.clone()));
        for below in command.get_subcommands() {
            collect(&format!("{name} {}", below.get_name()), below, all);
        }
    }
    let mut root = Cli::command().term_width(80);
    root.build();
    let mut all = Vec::new();
    collect("boxwright", &root, &mut all);
    all
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn help_of_every_command() {
    for (name, command) in commands() {
        let help = command
            .clone()
            .term_width(80)
            .render_long_help()
            .ansi()
            .to_string();
        let help = plain(&help);
        let too_long = help.lines().find(|line| line.chars().count() > 80);
        assert_eq!(too_long, None, "{name}");
        insta::assert_snapshot!(name.replace(' ', "_"), help);
    }
}

#[test]
fn short_help() {
    let help = Cli::command()
        .term_width(80)
        .render_help()
        .ansi()
        .to_string();
    insta::assert_snapshot!(plain(&help));
}

fn parsed(line: &str) -> Result<Cli, String> {
    let words = line.split(' ').filter(|word| !word.is_empty());
    let result = Cli::try_parse_from(std::iter::once("boxwright").chain(words));
    result.map_err(|error| plain(&error.render().ansi().to_string()))
}

#[test]
fn wrong_command_lines_say_what_to_write() {
    let told: Vec<String> = [
        "bild",
        "build -o app.tar",
        "build -o oci:",
        "build -o registry.example:5000/acme/app",
        "build -o docker://acme/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "push app.tar",
        "push app.tar Acme/App",
        "push app.tar acme/app --chunk-size 1kB",
        "build -t Acme/App",
        "build -t acme/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "build --arg =x",
        "build --context shared",
        "build --format podman",
        "build --compression lz4",
        "build --platform amd64",
        "build --progress loud",
        "build --json",
        "build -f a.yaml b.yaml",
        "build --jobs 0",
        "check --allow BW999",
        "cache gc",
        "cache gc --max-age 14",
        "inspect",
    ]
    .iter()
    .map(|line| format!("$ boxwright {line}\n{}", parsed(line).unwrap_err()))
    .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_is_typed_arrives() {
    let cli = parsed(
        "build dir --arg A=b=c --arg B --context s=../s -t acme/app -o oci:x:1 --no-cache -j 3",
    );
    let Some(Command::Build(build)) = cli.unwrap().command else {
        panic!("not a build");
    };
    assert_eq!(build.spec.specs, [PathBuf::from("dir")]);
    assert_eq!(build.spec.args[0].value.as_deref(), Some("b=c"));
    assert_eq!(build.spec.args[1].value, None);
    assert_eq!(build.spec.contexts[0].directory, PathBuf::from("../s"));
    assert_eq!(
        build.result.tags[0].to_string(),
        "docker.io/acme/app:latest"
    );
    assert_eq!(build.result.outputs[0].to_string(), "oci:x:1");
    assert!(build.how.no_cache);
}

#[test]
fn ages_have_days() {
    let seconds = |text: &str| text.parse::<Age>().map(|age| age.0.as_secs());
    assert_eq!(seconds("14d"), Ok(14 * 24 * 60 * 60));
    assert_eq!(seconds("36h"), Ok(36 * 60 * 60));
    for wrong in ["14", "d", "-1d", "1w", "99999999999d"] {
        assert!(seconds(wrong).is_err(), "{wrong}");
    }
}
