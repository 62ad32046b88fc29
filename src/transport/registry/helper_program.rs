//! Credential helpers: `docker-credential-NAME`, programs that keep passwords.
//!
//! Docker's protocol: the action is the argument, the key goes to standard input, JSON comes from
//! standard output. A helper that hangs is ended; what it says on standard error is not shown,
//! for it may be anything.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::transport::http::Secret;
use crate::transport::registry::credentials::{Credentials, Proof};
use crate::transport::registry::error::{RegistryError, too_slow};

/// What a helper says when it knows nothing; it fails then.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The name of an account whose secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// The most that is read of its output.
const MOST: u64 = 64 << 10;

/// The credentials that a helper knows for a key.
pub(crate) fn ask(
    name: &str,
    key: &str,
    limit: Duration,
) -> Result<Option<Credentials>, RegistryError> {
    let failed = |problem: String| failure(name, key, problem);
    let said = run(name, "get", key.as_bytes(), limit).map_err(failed)?;
    let output = match said {
        Said::Well(output) => output,
        Said::Badly(output) if output.trim_ascii() == NOT_FOUND.as_bytes() => return Ok(None),
        Said::Badly(_) => return Err(failed("it failed".to_owned())),
    };
    let document: Value = serde_json::from_slice(&output)
        .map_err(|_| failed("what it says is no JSON".to_owned()))?;
    let user = document["Username"].as_str().unwrap_or_default();
    let Some(secret) = document["Secret"]
        .as_str()
        .filter(|secret| !secret.is_empty())
    else {
        return Ok(None);
    };
    let secret = Secret::new(secret);
    Ok(Some(Credentials {
        user: user.to_owned(),
        proof: match user {
            TOKEN_USER => Proof::IdentityToken(secret),
            _ => Proof::Password(secret),
        },
        from: format!("docker-credential-{name}"),
    }))
}

/// Gives a password to a helper.
pub(crate) fn store(
    name: &str,
    key: &str,
    user: &str,
    password: &Secret,
    limit: Duration,
) -> Result<(), RegistryError> {
    let document = json!({"ServerURL": key, "Username": user, "Secret": password.reveal()});
    match run(name, "store", document.to_string().as_bytes(), limit) {
        Ok(Said::Well(_)) => Ok(()),
        Ok(Said::Badly(_)) => Err(failure(name, key, "it failed".to_owned())),
        Err(problem) => Err(failure(name, key, problem)),
    }
}

/// Has a helper forget; false if it knew nothing.
pub(crate) fn erase(name: &str, key: &str, limit: Duration) -> Result<bool, RegistryError> {
    match run(name, "erase", key.as_bytes(), limit) {
        Ok(Said::Well(_)) => Ok(true),
        Ok(Said::Badly(_)) => Ok(false),
        Err(problem) => Err(failure(name, key, problem)),
    }
}

fn failure(name: &str, key: &str, problem: String) -> RegistryError {
    RegistryError::CredentialProgram {
        name: name.to_owned(),
        registry: key.to_owned(),
        problem,
    }
}

/// What a helper wrote, and whether it ended well.
enum Said {
    Well(Vec<u8>),
    Badly(Vec<u8>),
}

/// Runs a helper to its end. The error is one line without secrets.
fn run(name: &str, action: &str, input: &[u8], limit: Duration) -> Result<Said, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_name) {
        return Err("that is no name of a program".to_owned());
    }
    run_program(&format!("docker-credential-{name}"), action, input, limit)
}

fn run_program(program: &str, action: &str, input: &[u8], limit: Duration) -> Result<Said, String> {
    let mut child = Command::new(program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    // The input is smaller than a pipe holds, so this does not wait for the helper to read.
    if let Some(mut stdin) = stdin {
        // One that does not listen will say so by what it answers.
        let _ = stdin.write_all(input);
    }
    // The reader is not waited for: something the helper left behind may keep the pipe open.
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut output = Vec::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(MOST).read_to_end(&mut output);
        }
        let _ = sender.send(output);
    });
    let deadline = Instant::now() + limit;
    let well = wait(&mut child, deadline).ok_or_else(|| too_slow(limit))?;
    let left = deadline.saturating_duration_since(Instant::now());
    let output = receiver.recv_timeout(left).map_err(|_| too_slow(limit))?;
    Ok(match well {
        true => Said::Well(output),
        false => Said::Badly(output),
    })
}

/// Whether it ended well; `None` if it had to be ended.
fn wait(child: &mut Child, deadline: Instant) -> Option<bool> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            Ok(None) | Err(_) => {
                // It may have ended meanwhile, which is as well.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_helper_that_hangs_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path.display().to_string()
        };
        let short = Duration::from_millis(300);
        let start = Instant::now();
        // The second leaves a child behind that keeps the pipe open.
        for program in [
            program("hangs", "exec sleep 20"),
            program("leaves", "sleep 20 &"),
        ] {
            let Err(error) = run_program(&program, "get", b"x", short) else {
                panic!("it ended");
            };
            assert!(error.contains("still running after 0.3 s"), "{error}");
        }
        assert!(start.elapsed() < Duration::from_secs(10));
        let echo = program("echo", "echo $1; cat");
        let Ok(Said::Well(said)) = run_program(&echo, "get", b"key", Duration::from_secs(20))
        else {
            panic!("it failed");
        };
        assert_eq!(said, b"get\nkey");
        let endless = program("endless", "exec yes");
        assert!(run_program(&endless, "get", b"", Duration::from_secs(20)).is_ok());
    }

    #[test]
    fn names_never_become_paths() {
        for name in ["", "../x", "a/b", "a b"] {
            let error = ask(name, "k", Duration::ZERO).unwrap_err().to_string();
            assert!(error.contains("no name of a program"), "{error}");
        }
    }
}
