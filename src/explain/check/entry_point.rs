//! BW011 to BW014, BW018, BW020, BW021: whether the container can start.

use crate::explain::check::View;
use crate::explain::check::code::Code;
use crate::explain::check::finding::{Below, Finding, Findings};
use crate::explain::check::program::{Fault, Search, load, search};
use crate::explain::check::user::{EXECUTE, Identity};
use crate::explain::error::ExplainError;
use crate::tree::LayerPath;

/// Programs that run the program behind their options.
const WRAPPERS: [&str; 8] = [
    "dumb-init",
    "tini",
    "tini-static",
    "catatonit",
    "env",
    "nice",
    "setpriv",
    "docker-init",
];

/// Words that a shell understands without a program; enough of them to be sure of the others.
const SHELL_WORDS: [&str; 24] = [
    "[", ":", ".", "test", "true", "false", "exit", "echo", "printf", "cd", "exec", "eval", "set",
    "export", "if", "while", "for", "case", "until", "command", "kill", "wait", "trap", "read",
];

/// Applies the rules.
pub(crate) fn judge(
    view: &View<'_>,
    identity: &Identity,
    findings: &mut Findings,
) -> Result<(), ExplainError> {
    let config = &view.subject.config.config;
    let command: Vec<&str> = config
        .entrypoint
        .iter()
        .chain(&config.cmd)
        .map(String::as_str)
        .collect();
    match command.split_first() {
        None => {
            let message = "neither an entry point nor a command is set".to_owned();
            findings.push(
                Finding::about_config(Code::NothingToRun, message),
                Below::Counted,
            );
        }
        Some((program, arguments)) => {
            judge_program(view, identity, program, findings)?;
            let is_wrapper = program
                .rsplit('/')
                .next()
                .is_some_and(|name| WRAPPERS.contains(&name));
            if let Some(wrapped) = wrapped_program(arguments).filter(|_| is_wrapper) {
                judge_program(view, identity, wrapped, findings)?;
            }
        }
    }
    judge_workdir(view, identity, findings);
    judge_healthcheck(view, identity, findings);
    Ok(())
}

/// The program behind a wrapper's options: after `--`, or the first word if there are no options.
fn wrapped_program<'a>(arguments: &[&'a str]) -> Option<&'a str> {
    let behind = match arguments.iter().position(|word| *word == "--") {
        Some(dashes) => &arguments[dashes + 1..],
        None => arguments,
    };
    let first = behind.iter().find(|word| !word.contains('='))?;
    // Whether an option takes the next word is the wrapper's secret.
    (!first.starts_with('-')).then_some(*first)
}

fn judge_program(
    view: &View<'_>,
    identity: &Identity,
    program: &str,
    findings: &mut Findings,
) -> Result<(), ExplainError> {
    let finding = match search(view, identity, program) {
        Search::Missing if program.contains('/') => {
            let message = format!("{program} is not in the image");
            Some(Finding::about_config(Code::ProgramMissing, message))
        }
        Search::Missing => {
            let message = format!("{program} is in no directory of PATH");
            Some(Finding::about_config(Code::ProgramMissing, message))
        }
        Search::Forbidden(path, reason) => Some(Finding::at(Code::NotExecutable, &path, reason)),
        Search::Found(path) => load(view, identity, &path)?.map(|fault| match fault {
            Fault::CannotLoad(reason) => Finding::at(Code::CannotLoad, &path, reason),
            Fault::WrongArchitecture(found) => {
                let wanted = &view.subject.config.platform;
                let message = format!("it is built for {found}, and the image for {wanted}");
                Finding::at(Code::WrongArchitecture, &path, message)
            }
        }),
    };
    if let Some(finding) = finding {
        findings.push(finding, Below::Counted);
    }
    Ok(())
}

fn judge_workdir(view: &View<'_>, identity: &Identity, findings: &mut Findings) {
    let text = &view.subject.config.config.working_dir;
    if text.is_empty() {
        return;
    }
    let finding = match view.find(&LayerPath::root(), text.as_bytes()) {
        None if identity.is_root() => return,
        None => {
            let who = identity.shown();
            let message = format!("{text} does not exist; {who} could not write to it");
            Finding::about_config(Code::WorkdirMissing, message)
        }
        Some((path, entry)) if !entry.is_directory() => {
            let message = "the working directory is no directory".to_owned();
            Finding::at(Code::WorkdirMissing, &path, message)
        }
        Some((path, entry)) if !identity.may(entry, EXECUTE) => {
            let message = format!("{} may not enter the working directory", identity.shown());
            Finding::at(Code::WorkdirMissing, &path, message)
        }
        Some(_) => return,
    };
    findings.push(finding, Below::Counted);
}

fn judge_healthcheck(view: &View<'_>, identity: &Identity, findings: &mut Findings) {
    let config = &view.subject.config.config;
    let Some(check) = &config.healthcheck else {
        return;
    };
    let words: Vec<&str> = check.test.iter().map(String::as_str).collect();
    let programs = match words[..] {
        ["CMD", program, ..] => vec![program],
        ["CMD-SHELL", command, ..] => {
            let shell = config.shell.first().map_or("/bin/sh", String::as_str);
            std::iter::once(shell)
                .chain(first_program(command))
                .collect()
        }
        _ => Vec::new(),
    };
    for program in programs {
        let message = match search(view, identity, program) {
            Search::Found(_) => continue,
            Search::Missing => {
                format!("the health check runs {program}, which is not in the image")
            }
            Search::Forbidden(_, reason) => format!("the health check cannot run: {reason}"),
        };
        let finding = Finding::about_config(Code::HealthcheckMissing, message);
        findings.push(finding, Below::Counted);
    }
}

/// The program that a shell command begins with, where that is beyond doubt.
fn first_program(command: &str) -> Option<&str> {
    let word = command.split_whitespace().next()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '+');
    (word.chars().all(is_plain) && !SHELL_WORDS.contains(&word)).then_some(word)
}
