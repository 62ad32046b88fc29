//! Asking other programs: a command, its exit code and its words, within a time.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a program answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The exit code; `None` if it was killed, or had to be.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// No more of what a program says is kept.
const MOST_WORDS: u64 = 64 << 10;

impl Answer {
    pub(crate) fn is_ok(&self) -> bool {
        self.code == Some(0)
    }

    /// The last line of what was said, or what is known without one.
    pub(crate) fn last_line(&self) -> String {
        let lines = [&self.err, &self.out].into_iter().flat_map(|text| {
            let lines = text.lines().rev().map(str::trim);
            lines.filter(|line| !line.is_empty()).take(1)
        });
        lines
            .map(str::to_owned)
            .next()
            .unwrap_or_else(|| match self.code {
                Some(code) => format!("exit code {code}, without a word"),
                None => "killed, without a word".to_owned(),
            })
    }
}

/// Runs a command to its end; at `limit` it is killed.
///
/// Outputs go through files: what a runner leaves running may keep a pipe open for ever.
///
/// # Errors
/// It cannot be started, in words.
pub(crate) fn ask(command: &mut Command, limit: Duration) -> Result<Answer, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| format!("{name} cannot be started: {error}");
    let (mut out, mut err) = (
        tempfile::tempfile().map_err(failed)?,
        tempfile::tempfile().map_err(failed)?,
    );
    let mut child = command
        .stdin(Stdio::null())
        .stdout(out.try_clone().map_err(failed)?)
        .stderr(err.try_clone().map_err(failed)?)
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("{name} is not installed"),
            _ => failed(error),
        })?;
    let began = Instant::now();
    let code = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status.code(),
            None if began.elapsed() > limit => {
                // If it has ended by itself meanwhile, so much the better.
                let _ = child.kill();
                child.wait().map_err(failed)?;
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(4)),
        }
    };
    Ok(Answer {
        code,
        out: words(&mut out),
        err: words(&mut err),
    })
}

fn words(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // What cannot be read is only missing from a message.
    let _ = file.rewind();
    let _ = file.take(MOST_WORDS).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_a_code_and_a_last_word() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            ask(&mut command, Duration::from_secs(20)).unwrap()
        };
        let answer = shell("echo one; echo two; echo three >&2; exit 4");
        assert_eq!((answer.code, &*answer.last_line()), (Some(4), "three"));
        assert_eq!(shell("echo one; echo two; echo").last_line(), "two");
        assert_eq!(shell("exit 5").last_line(), "exit code 5, without a word");
        let missing = ask(&mut Command::new("/no/such"), Duration::from_secs(1));
        assert_eq!(missing.unwrap_err(), "/no/such is not installed");
    }

    #[test]
    fn what_takes_too_long_is_killed() {
        let mut command = Command::new("sleep");
        let answer = ask(command.arg("1000"), Duration::from_millis(50)).unwrap();
        assert!(!answer.is_ok());
        assert_eq!(answer.code, None);
    }
}
