//! `boxwright login` and `logout`: accounts at registries, kept where Docker and podman find them.

use std::io::{BufRead, IsTerminal, Read, stdin};
use std::path::PathBuf;

use boxwright::transport::http::Secret;
use boxwright::transport::registry::{RegistryClient, RegistryError, Stored, log_in, log_out};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::cli::args::{LoginArgs, LogoutArgs};
use crate::cli::exit::{Blame, Failure};
use crate::cli::settings::Environment;
use crate::cli::terminal::Terminal;

/// A password is no book.
const MOST_PASSWORD: u64 = 64 << 10;

/// Tries an account and keeps it.
pub(crate) fn log_in_at(
    args: &LoginArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let file = auth_file(args.authfile.as_ref(), environment)?;
    let user = match &args.username {
        Some(user) => user.clone(),
        None => asked_user(terminal)?,
    };
    let password = match args.password_stdin {
        true => piped_password()?,
        false => asked_password(terminal)?,
    };
    let client = RegistryClient::new(environment.registries(&args.network));
    let stored = log_in(&client, &args.registry, &user, &password, &file).map_err(refused)?;
    terminal.say(&match stored {
        Stored::File(file) => format!(
            "Logged in at {}; the password lies in {}, readable for you alone but not encrypted.\n",
            args.registry,
            file.display()
        ),
        Stored::Program(name) => format!(
            "Logged in at {}; docker-credential-{name} keeps the password.\n",
            args.registry
        ),
    });
    Ok(())
}

/// Forgets an account.
pub(crate) fn log_out_at(
    args: &LogoutArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let file = auth_file(args.authfile.as_ref(), environment)?;
    let client = RegistryClient::new(environment.registries(&Default::default()));
    let from = match log_out(&client, &args.registry, &file).map_err(refused)? {
        Some(Stored::File(file)) => format!("removed from {}", file.display()),
        Some(Stored::Program(name)) => format!("removed from docker-credential-{name}"),
        None => format!("there was no account in {}", file.display()),
    };
    terminal.say(&format!("Logged out at {}: {from}.\n", args.registry));
    Ok(())
}

fn auth_file(typed: Option<&PathBuf>, environment: &Environment) -> Result<PathBuf, Failure> {
    typed.cloned().or_else(|| environment.auth_file()).ok_or_else(|| {
        let headline = "there is no place for credentials: REGISTRY_AUTH_FILE, DOCKER_CONFIG and HOME are not set";
        Failure::new(Blame::CommandLine, headline).hint("name one with --authfile FILE")
    })
}

fn refused(error: RegistryError) -> Failure {
    let blame = match &error {
        RegistryError::Http { .. } | RegistryError::AuthFile { .. } => Blame::System,
        _ => Blame::Input,
    };
    Failure::failed(blame, &error)
}

fn asked_user(terminal: &Terminal) -> Result<String, Failure> {
    if !stdin().is_terminal() {
        let headline = "the user is missing";
        return Err(Failure::new(Blame::CommandLine, headline).hint("name it with --username USER"));
    }
    terminal.say("User: ");
    line()
}

fn asked_password(terminal: &Terminal) -> Result<Secret, Failure> {
    let input = stdin();
    if !input.is_terminal() {
        let headline = "the password is missing, and nobody is at the terminal";
        return Err(Failure::new(Blame::CommandLine, headline)
            .hint("pipe it in: … | boxwright login --username USER --password-stdin HOST"));
    }
    terminal.say("Password: ");
    let before = tcgetattr(&input).map_err(|error| Failure::system("read a password", &error))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let set = |modes| tcsetattr(&input, OptionalActions::Now, modes);
    set(&silent).map_err(|error| Failure::system("hide a password", &error))?;
    let password = line();
    // What cannot be put back is a terminal that is gone.
    let _ = set(&before);
    terminal.say("\n");
    password.map(Secret::new)
}

fn piped_password() -> Result<Secret, Failure> {
    let mut text = String::new();
    stdin()
        .take(MOST_PASSWORD)
        .read_to_string(&mut text)
        .map_err(|error| Failure::system("read the password from standard input", &error))?;
    let password = text.trim_end_matches(['\n', '\r']);
    match password.is_empty() {
        true => Err(Failure::new(
            Blame::CommandLine,
            "there is no password on standard input",
        )),
        false => Ok(Secret::new(password)),
    }
}

fn line() -> Result<String, Failure> {
    let mut line = String::new();
    let read = stdin().lock().take(MOST_PASSWORD).read_line(&mut line);
    read.map_err(|error| Failure::system("read from the terminal", &error))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
