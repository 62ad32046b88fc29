//! BW003, BW004, BW005, BW022: secrets, by name and by the first bytes.
//!
//! A file is judged only if it is small, as keys and settings are. A name alone convicts only
//! where the format is made for secrets; elsewhere a value must be there, and one that is filled
//! in later (`${TOKEN}`, `<token>`) is none. Messages never show what they found.

use crate::explain::check::View;
use crate::explain::check::code::Code;
use crate::explain::check::finding::{Below, Finding, Findings};
use crate::explain::check::leftovers::ends_with_names;
use crate::explain::error::ExplainError;
use crate::tree::{Entry, LayerPath};

/// Larger files are no keys and no settings.
const LARGEST: u64 = 256 * 1024;
/// So much of a file is looked at: bundles put a chain of certificates before the key.
const HEAD: usize = 16 * 1024;

/// What proves that a file of a known name holds a credential.
#[derive(Debug, Clone, Copy)]
enum Evidence {
    /// It is there.
    Presence,
    /// One of these keys has a value.
    Value(&'static [&'static str]),
    /// A URL holds a password: `//user:password@`.
    PasswordInUrl,
}

use Evidence::{PasswordInUrl, Presence, Value};

/// The names a path ends with, what the file is, and what proves that it holds a credential.
const CREDENTIALS: [(&str, &str, Evidence); 38] = [
    (
        ".npmrc",
        "npm's settings",
        Value(&["_authToken", "_auth", "_password"]),
    ),
    (
        ".yarnrc.yml",
        "yarn's settings",
        Value(&["npmAuthToken", "npmAuthIdent"]),
    ),
    ("pip.conf", "pip's settings", PasswordInUrl),
    ("pip.ini", "pip's settings", PasswordInUrl),
    (".config/uv/uv.toml", "uv's settings", PasswordInUrl),
    (".pypirc", "Python's upload settings", Value(&["password"])),
    (".netrc", "a netrc file", Value(&["password"])),
    ("_netrc", "a netrc file", Value(&["password"])),
    (
        ".docker/config.json",
        "docker's logins",
        Value(&["\"auth\"", "\"identitytoken\"", "\"registrytoken\""]),
    ),
    (".dockercfg", "docker's logins", Value(&["\"auth\""])),
    (
        "containers/auth.json",
        "podman's logins",
        Value(&["\"auth\""]),
    ),
    (".git-credentials", "git's passwords", PasswordInUrl),
    (".git/config", "git's settings", PasswordInUrl),
    (".gitconfig", "git's settings", PasswordInUrl),
    (
        ".config/gh/hosts.yml",
        "GitHub's login",
        Value(&["oauth_token"]),
    ),
    (
        ".config/glab-cli/config.yml",
        "GitLab's login",
        Value(&["token"]),
    ),
    (
        ".aws/credentials",
        "AWS credentials",
        Value(&["aws_secret_access_key", "aws_session_token"]),
    ),
    (
        ".aws/config",
        "AWS settings",
        Value(&["aws_secret_access_key", "aws_session_token"]),
    ),
    (
        "gcloud/application_default_credentials.json",
        "Google Cloud credentials",
        Presence,
    ),
    (
        "gcloud/credentials.db",
        "Google Cloud credentials",
        Presence,
    ),
    (
        "gcloud/access_tokens.db",
        "Google Cloud credentials",
        Presence,
    ),
    (
        ".boto",
        "Google Cloud credentials",
        Value(&[
            "gs_secret_access_key",
            "gs_oauth2_refresh_token",
            "aws_secret_access_key",
        ]),
    ),
    (".azure/accessTokens.json", "Azure credentials", Presence),
    (
        ".azure/msal_token_cache.json",
        "Azure credentials",
        Presence,
    ),
    (".azure/msal_token_cache.bin", "Azure credentials", Presence),
    (
        ".azure/service_principal_entries.json",
        "Azure credentials",
        Presence,
    ),
    (
        ".kube/config",
        "a Kubernetes login",
        Value(&["token", "client-key-data", "password"]),
    ),
    (
        ".config/doctl/config.yaml",
        "a DigitalOcean login",
        Value(&["access-token"]),
    ),
    (
        ".terraform.d/credentials.tfrc.json",
        "Terraform's logins",
        Value(&["\"token\""]),
    ),
    (".terraformrc", "Terraform's settings", Value(&["token"])),
    (".vault-token", "a Vault token", Presence),
    (
        ".cargo/credentials.toml",
        "cargo's logins",
        Value(&["token"]),
    ),
    (".cargo/credentials", "cargo's logins", Value(&["token"])),
    (".gem/credentials", "RubyGems' logins", Value(&["_api_key"])),
    (
        ".m2/settings.xml",
        "Maven's settings",
        Value(&["<password>", "<passphrase>"]),
    ),
    (
        ".gradle/gradle.properties",
        "Gradle's settings",
        Value(&["Password", "Token", "signing.password"]),
    ),
    (".pgpass", "PostgreSQL passwords", Presence),
    (".my.cnf", "MySQL settings", Value(&["password"])),
];

/// Names that only private keys have.
const KEY_NAMES: [&str; 6] = [
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_ecdsa_sk",
    "id_ed25519_sk",
];
/// Containers that exist to carry a private key.
const KEY_EXTENSIONS: [&str; 2] = [".p12", ".pfx"];

/// Applies the rules to one entry.
pub(crate) fn judge(
    view: &View<'_>,
    path: &LayerPath,
    entry: &Entry,
    findings: &mut Findings,
) -> Result<(), ExplainError> {
    let Some(size) = entry.as_file().map(|file| file.content.size()) else {
        return Ok(());
    };
    let (Some(name), 1..=LARGEST) = (path.name(), size) else {
        return Ok(());
    };
    let head = view.head(path, HEAD)?;
    let key = || private_key(name, &head).map(|what| (Code::PrivateKey, what));
    let account = || service_account(name, &head).map(|what| (Code::Credential, what));
    let verdict = key()
        .or_else(account)
        .map(|(code, what)| match is_for_tests(path) {
            true => (Code::TestKey, what),
            false => (code, what),
        })
        .or_else(|| credential(path, &head).map(|what| (Code::Credential, what)))
        .or_else(|| environment(name).map(|what| (Code::EnvFile, what)));
    if let Some((code, what)) = verdict {
        let finding = Finding::at(code, path, what.to_owned()).sized(1, size);
        findings.push(finding, Below::Counted);
    }
    Ok(())
}

fn private_key(name: &[u8], head: &[u8]) -> Option<&'static str> {
    let lines = || head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let begins = |text: &str| head.trim_ascii_start().starts_with(text.as_bytes());
    if lines().zip(lines().skip(1)).any(is_pem_key) {
        return Some("a private key (PEM)");
    }
    if begins("PuTTY-User-Key-File-") {
        return Some("a private key (PuTTY)");
    }
    if lines().any(|line| line.starts_with(b"AGE-SECRET-KEY-1")) {
        return Some("a private key (age)");
    }
    if KEY_NAMES.iter().any(|key| name == key.as_bytes()) {
        return Some("named as a private key of ssh");
    }
    // DER, which PKCS #12 is, begins with a long SEQUENCE; text of that name is something else.
    let is_container = KEY_EXTENSIONS
        .iter()
        .any(|end| name.ends_with(end.as_bytes()));
    (is_container && head.starts_with(&[0x30])).then_some("a container of a private key (PKCS #12)")
}

/// A line that begins a private key, and a next line that a key may have: a string in somebody's
/// source text, or the documentation of the format, has something else there.
fn is_pem_key((line, next): (&[u8], &[u8])) -> bool {
    let is_begin = line.starts_with(b"-----BEGIN ")
        && (line.ends_with(b"PRIVATE KEY-----") || line.ends_with(b"PRIVATE KEY BLOCK-----"));
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let is_body = next.len() >= 32 && next.iter().all(is_base64);
    let is_header =
        next.is_empty() || next.starts_with(b"Proc-Type:") || next.starts_with(b"Version:");
    is_begin && (is_body || is_header)
}

fn credential(path: &LayerPath, head: &[u8]) -> Option<&'static str> {
    let known = CREDENTIALS
        .iter()
        .find(|(names, ..)| ends_with_names(path.as_bytes(), names.as_bytes()));
    let (_, what, evidence) = known?;
    proves(*evidence, head).then_some(*what)
}

fn service_account(name: &[u8], head: &[u8]) -> Option<&'static str> {
    let has = |text: &str| memchr::memmem::find(head, text.as_bytes()).is_some();
    let is_account = name.ends_with(b".json")
        && has("\"service_account\"")
        && has("\"private_key\"")
        && has("PRIVATE KEY-----");
    is_account.then_some("the key of a Google Cloud service account")
}

/// Keys in there are published with the package that they test, so they open nothing.
fn is_for_tests(path: &LayerPath) -> bool {
    let names: [&[u8]; 5] = [b"test", b"tests", b"testdata", b"test_data", b"__tests__"];
    path.components().any(|name| names.contains(&name))
}

fn proves(evidence: Evidence, head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let lines = || {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.starts_with(['#', ';']))
    };
    match evidence {
        Presence => true,
        Value(keys) => lines().any(|line| keys.iter().any(|key| has_value(line, key))),
        PasswordInUrl => lines().any(has_password_in_url),
    }
}

/// Whether `key` stands in `line` as a word of its own with a value behind it.
fn has_value(line: &str, key: &str) -> bool {
    line.match_indices(key).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        // `_api_key` and `Password` are ends of longer keys; the others are whole words.
        let may_follow_letters =
            key.starts_with('_') || key.starts_with(|c: char| c.is_uppercase());
        let is_key = may_follow_letters || before.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let behind = &line[at + key.len()..];
        let value = behind.trim_start_matches([' ', '\t', '=', ':', '"', '\'']);
        is_key && (value.len() < behind.len() || key.ends_with('>')) && is_filled_in(value)
    })
}

/// A value that somebody else will fill in later is no secret.
fn is_filled_in(value: &str) -> bool {
    let value = value.trim_end_matches([',', '"', '\'', ' ']);
    !value.is_empty() && !value.starts_with(['$', '<', '{', '%', '}'])
}

/// `scheme://user:password@host`, or `scheme://token@host` as git writes it.
fn has_password_in_url(line: &str) -> bool {
    line.match_indices("://").any(|(at, scheme)| {
        let authority = line[at + scheme.len()..].split(['/', ' ', '"']).next();
        let login = authority.and_then(|authority| authority.rsplit_once('@'));
        let password = login.and_then(|(login, _)| login.split_once(':'));
        password.is_some_and(|(_, password)| is_filled_in(password))
    })
}

/// `.env`, `.env.production` and so on, but not the examples that are meant to be read.
fn environment(name: &[u8]) -> Option<&'static str> {
    let harmless = [".example", ".sample", ".template", ".dist", ".defaults"];
    let is_harmless = harmless.iter().any(|end| name.ends_with(end.as_bytes()));
    let is_environment = name == b".env" || name.starts_with(b".env.");
    (is_environment && !is_harmless).then_some("an environment file")
}
