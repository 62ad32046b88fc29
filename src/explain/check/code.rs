//! Codes: the stable names of what `check` can find, and which of them are allowed.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::spec::{Allow, Diagnostic, Diagnostics, SourceText, Spanned};

/// What a rule finds. Codes keep their numbers for ever; a rule that goes leaves a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "the table of `Code::row` says what each one means"
)]
pub enum Code {
    RootUser,
    BuildStage,
    PrivateKey,
    Credential,
    EnvFile,
    PackageCache,
    VersionControl,
    BuildTools,
    WorldWritable,
    Privileged,
    ProgramMissing,
    NotExecutable,
    CannotLoad,
    WorkdirMissing,
    UnknownUser,
    UnnamedUser,
    NamedUser,
    HealthcheckMissing,
    LowPort,
    NothingToRun,
    WrongArchitecture,
    TestKey,
}

/// How much a finding weighs. Only errors make `check` fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The image must not be shipped like this: a secret is in it, or it cannot start.
    Error,
    /// The image works and is larger or weaker than it should be.
    Warning,
    /// Worth knowing.
    Info,
}

/// A text that is no code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no code of a finding; codes are BW001 to {last}", last = Code::ALL[Code::ALL.len() - 1])]
pub struct UnknownCode(pub String);

/// The codes that a spec or a caller allows: findings with them are counted and not reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(BTreeSet<Code>);

/// Name, weight, meaning and remedy of a code.
type Row = (&'static str, Severity, &'static str, &'static str);

impl Code {
    /// All codes in the order of their numbers.
    pub const ALL: [Code; 22] = [
        Code::RootUser,
        Code::BuildStage,
        Code::PrivateKey,
        Code::Credential,
        Code::EnvFile,
        Code::PackageCache,
        Code::VersionControl,
        Code::BuildTools,
        Code::WorldWritable,
        Code::Privileged,
        Code::ProgramMissing,
        Code::NotExecutable,
        Code::CannotLoad,
        Code::WorkdirMissing,
        Code::UnknownUser,
        Code::UnnamedUser,
        Code::NamedUser,
        Code::HealthcheckMissing,
        Code::LowPort,
        Code::NothingToRun,
        Code::WrongArchitecture,
        Code::TestKey,
    ];

    /// The name, such as `BW001`.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// How much findings of this code weigh.
    pub fn severity(self) -> Severity {
        self.row().1
    }

    /// What it means, in a few words.
    pub fn title(self) -> &'static str {
        self.row().2
    }

    /// What to do about it, in one line.
    pub fn remedy(self) -> &'static str {
        self.row().3
    }

    #[rustfmt::skip]
    fn row(self) -> Row {
        use Severity::{Error, Info, Warning};
        match self {
            Code::RootUser => ("BW001", Error, "the container runs as root", "set `config.user` to a user of the image; if it must be root, write `allow: [root]`"),
            Code::BuildStage => ("BW002", Error, "the image is built from a stage that runs commands", "start the final stage from a runtime base and copy what it needs from the build stage, or write `allow: [build-stage]`"),
            Code::PrivateKey => ("BW003", Error, "a private key is in the image", "keep it out (.dockerignore, `exclude`) and mount it at run time; a key that was published must be replaced"),
            Code::Credential => ("BW004", Error, "a credential is in the image", "keep it out (.dockerignore, `exclude`); builds read it from a secret mount; revoke it if the image was published"),
            Code::EnvFile => ("BW005", Warning, "an environment file is in the image", "keep it out (.dockerignore, `exclude`) and pass the values at run time"),
            Code::PackageCache => ("BW006", Warning, "a package manager's cache is in the image", "put the cache on a `cache` mount of the step that fills it, or remove it in the same step"),
            Code::VersionControl => ("BW007", Warning, "a repository's history is in the image", "add it to .dockerignore"),
            Code::BuildTools => ("BW008", Info, "build tools or sources are in the image", "build in a stage of its own and copy only the results"),
            Code::WorldWritable => ("BW009", Warning, "everybody may write to a file", "copy it with `mode: go-w`"),
            Code::Privileged => ("BW010", Warning, "a program runs with more rights than its caller", "take the right away with `mode: ug-s`, or remove the program"),
            Code::ProgramMissing => ("BW011", Error, "the program to run is not in the image", "copy it into the image, or correct `entrypoint`, `cmd` or PATH"),
            Code::NotExecutable => ("BW012", Error, "the user cannot execute the program", "copy it with `mode: a+rx`, and its directories with `mode: a+X`"),
            Code::CannotLoad => ("BW013", Error, "the program cannot be loaded", "add what it needs to the image, or link it statically"),
            Code::WorkdirMissing => ("BW014", Warning, "the working directory is not in the image", "make it with `mkdir` and give it to the user; runtimes create it as root's"),
            Code::UnknownUser => ("BW015", Error, "the user or group is not in the image", "add it under `users`, or write a number"),
            Code::UnnamedUser => ("BW016", Info, "the user's number has no name in the image", "add it under `users` if programs ask for its name or home directory"),
            Code::NamedUser => ("BW017", Info, "the user is written as a name", "write the number: Kubernetes' `runAsNonRoot` cannot judge names"),
            Code::HealthcheckMissing => ("BW018", Warning, "the program of the health check cannot run", "copy it into the image, or check with a program that is there"),
            Code::LowPort => ("BW019", Info, "the user may not open the port everywhere", "listen on a port from 1024 on: Kubernetes and older runtimes keep lower ones for root"),
            Code::NothingToRun => ("BW020", Info, "the image names no program to run", "set `entrypoint` or `cmd`"),
            Code::WrongArchitecture => ("BW021", Error, "the program is for another processor", "copy the program built for the image's platform"),
            Code::TestKey => ("BW022", Info, "a key for tests is in the image", "leave tests out of the image: `exclude: [\"**/tests\"]`"),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Code, UnknownCode> {
        let found = Code::ALL.into_iter().find(|code| code.as_str() == text);
        found.ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        })
    }
}

impl Allowed {
    /// The same, and what a stage's `allow` says.
    ///
    /// # Errors
    /// One diagnostic for each code that does not exist.
    pub fn with_spec(
        mut self,
        source: &Arc<SourceText>,
        allow: &[Spanned<Allow>],
    ) -> Result<Allowed, Diagnostics> {
        let mut wrong = Diagnostics::new();
        for item in allow {
            match &item.value {
                Allow::Root => self.extend([Code::RootUser]),
                Allow::BuildStage => self.extend([Code::BuildStage]),
                Allow::Code(text) => match text.parse() {
                    Ok(code) => self.extend([code]),
                    Err(error) => wrong.push(unknown_code(source, item, &error)),
                },
            }
        }
        wrong.finish(self)
    }

    /// Whether findings with this code are passed over.
    pub fn contains(&self, code: Code) -> bool {
        self.0.contains(&code)
    }
}

impl FromIterator<Code> for Allowed {
    fn from_iter<I: IntoIterator<Item = Code>>(codes: I) -> Allowed {
        Allowed(codes.into_iter().collect())
    }
}

impl Extend<Code> for Allowed {
    fn extend<I: IntoIterator<Item = Code>>(&mut self, codes: I) {
        self.0.extend(codes);
    }
}

fn unknown_code(
    source: &Arc<SourceText>,
    item: &Spanned<Allow>,
    error: &UnknownCode,
) -> Diagnostic {
    let last = Code::ALL[Code::ALL.len() - 1];
    Diagnostic::new(
        source,
        item.span,
        format!("{:?} is no code of a finding", error.0),
    )
    .label("no rule has this code")
    .help(format!(
        "codes are BW001 to {last}; `boxwright check` shows them"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Span;

    #[test]
    fn numbers_are_gapless_and_parse_back() {
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.as_str(), format!("BW{:03}", index + 1));
            assert_eq!(code.as_str().parse(), Ok(code));
        }
        assert_eq!(
            "BW999".parse::<Code>().unwrap_err().to_string(),
            "\"BW999\" is no code of a finding; codes are BW001 to BW022"
        );
    }

    #[test]
    fn a_spec_allows_by_word_and_by_code() {
        let source = Arc::new(SourceText::new("b.yaml", "allow: [root, BW009, BW999]"));
        let item = |allow, start, end| Spanned::new(allow, Span::new(start, end));
        let good = [
            item(Allow::Root, 8, 12),
            item(Allow::Code("BW009".into()), 14, 19),
        ];
        let allowed = Allowed::default().with_spec(&source, &good).unwrap();
        assert!(allowed.contains(Code::RootUser) && allowed.contains(Code::WorldWritable));
        assert!(!allowed.contains(Code::BuildStage));
        let bad = [item(Allow::Code("BW999".into()), 21, 26)];
        let wrong = Allowed::default().with_spec(&source, &bad).unwrap_err();
        assert_eq!(
            source.at(wrong.iter().next().unwrap().span.unwrap()),
            "BW999"
        );
    }
}
