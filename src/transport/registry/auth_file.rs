//! Files with credentials: Docker's `config.json`, podman's `auth.json`.
//!
//! Both have the same form, `containers-auth.json(5)`. Keys are hosts, hosts with a path (podman),
//! or URLs (Docker, `https://index.docker.io/v1/` for its hub). Fields that mean nothing to us stay
//! as they are when a file is written.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::{Map, Value};

use crate::transport::http::Secret;
use crate::transport::registry::credentials::{Credentials, Proof};
use crate::transport::registry::error::RegistryError;

/// Larger files are refused: 4 MiB.
const MOST: u64 = 4 << 20;

/// What Docker calls its hub in such files, and what it answers to.
const HUB: &str = "https://index.docker.io/v1/";
const HUB_NAMES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// A file with credentials, as it is.
#[derive(Clone, Default)]
pub(crate) struct AuthFile {
    document: Map<String, Value>,
}

/// Who knows the credentials of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// The file itself.
    File(Credentials),
    /// The credential helper `docker-credential-NAME`, under this key.
    Program { name: String, key: String },
}

impl AuthFile {
    /// Reads a file; one that is missing is empty.
    pub(crate) fn read(path: &Path) -> Result<AuthFile, RegistryError> {
        let wrong = |problem: String| RegistryError::AuthFile {
            path: path.to_owned(),
            problem,
        };
        let bytes = match fs::metadata(path).and_then(|metadata| match metadata.len() > MOST {
            true => Err(io::Error::other("it is too long")),
            false => fs::read(path),
        }) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(AuthFile::default()),
            Err(error) => return Err(wrong(error.to_string())),
        };
        AuthFile::parse(&bytes).map_err(wrong)
    }

    /// Reads the text of a file. The error quotes nothing of it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<AuthFile, String> {
        if bytes.trim_ascii().is_empty() {
            return Ok(AuthFile::default());
        }
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| format!("it is no JSON from line {} on", error.line()))?;
        match value {
            Value::Object(document) => Ok(AuthFile { document }),
            _ => Err("it is no JSON object".to_owned()),
        }
    }

    /// Who knows the credentials for a repository of a registry. `from` says in messages where
    /// they are from.
    pub(crate) fn keeper(
        &self,
        host: &str,
        repository: &str,
        from: &str,
    ) -> Result<Option<Keeper>, String> {
        let program = |name: &Value, key: &str| {
            let name = name.as_str()?.to_owned();
            (!name.is_empty()).then(|| Keeper::Program {
                name,
                key: key.to_owned(),
            })
        };
        let names = names_of(host);
        if let Some(programs) = self.document.get("credHelpers").and_then(Value::as_object) {
            let found = names
                .iter()
                .find_map(|name| program(programs.get(*name)?, name));
            if found.is_some() {
                return Ok(found);
            }
        }
        if let Some((key, entry)) = self.entry(host, repository)
            && let Some(credentials) = credentials(key, entry, from)?
        {
            return Ok(Some(Keeper::File(credentials)));
        }
        let store = self.document.get("credsStore");
        Ok(store.and_then(|name| program(name, server_key(host))))
    }

    /// The entry with the longest key that the repository falls under.
    fn entry(&self, host: &str, repository: &str) -> Option<(&str, &Value)> {
        let auths = self.document.get("auths")?.as_object()?;
        let places: Vec<String> = names_of(host)
            .iter()
            .map(|name| format!("{name}/{repository}"))
            .collect();
        let falls_under = |key: &str| {
            let key = place_of(key);
            places.iter().any(|place| {
                place
                    .strip_prefix(key)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        auths
            .iter()
            .filter(|(key, _)| falls_under(key))
            .max_by_key(|(key, _)| place_of(key).len())
            .map(|(key, entry)| (key.as_str(), entry))
    }

    /// The program that all credentials are to be stored with, or those of this registry.
    pub(crate) fn program_for(&self, host: &str) -> Option<&str> {
        let programs = self.document.get("credHelpers").and_then(Value::as_object);
        let of_host = programs
            .and_then(|programs| names_of(host).iter().find_map(|name| programs.get(*name)));
        let name = of_host.or_else(|| self.document.get("credsStore"))?;
        name.as_str().filter(|name| !name.is_empty())
    }

    /// Keeps a password under the key that Docker and podman look for.
    pub(crate) fn store(&mut self, host: &str, user: &str, password: &Secret) {
        let auth = STANDARD.encode(format!("{user}:{}", password.reveal()));
        let entry = BTreeMap::from([("auth", auth)]);
        let auths = self
            .document
            .entry("auths")
            .or_insert_with(|| Map::new().into());
        if !auths.is_object() {
            *auths = Map::new().into();
        }
        if let Some(auths) = auths.as_object_mut() {
            let entry = entry
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into()));
            auths.insert(server_key(host).to_owned(), Value::Object(entry.collect()));
        }
    }

    /// Forgets what is known of a registry; false if that is nothing.
    pub(crate) fn forget(&mut self, host: &str) -> bool {
        let names = names_of(host);
        let Some(auths) = self
            .document
            .get_mut("auths")
            .and_then(Value::as_object_mut)
        else {
            return false;
        };
        let before = auths.len();
        auths.retain(|key, _| !names.contains(&place_of(key)));
        auths.len() < before
    }

    /// Writes the file under a temporary name, for its owner only, and renames it.
    pub(crate) fn write(&self, path: &Path) -> Result<(), RegistryError> {
        let wrong = |error: io::Error| RegistryError::AuthFile {
            path: path.to_owned(),
            problem: error.to_string(),
        };
        // A link to the file stays a link.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(wrong)?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(wrong)?;
        let mut text = serde_json::to_vec_pretty(&self.document).unwrap_or_default();
        text.push(b'\n');
        file.write_all(&text).map_err(wrong)?;
        let private = fs::Permissions::from_mode(0o600);
        file.as_file().set_permissions(private).map_err(wrong)?;
        file.as_file().sync_data().map_err(wrong)?;
        file.persist(path)
            .map(drop)
            .map_err(|error| wrong(error.error))
    }
}

/// What a registry is called in such files.
fn names_of(host: &str) -> Vec<&str> {
    match HUB_NAMES.contains(&host) {
        true => HUB_NAMES.to_vec(),
        false => vec![host],
    }
}

/// The key that `docker login` writes and helpers are asked for.
pub(crate) fn server_key(host: &str) -> &str {
    match HUB_NAMES.contains(&host) {
        true => HUB,
        false => host,
    }
}

/// Host and path of a key. The version that Docker writes behind a host is no path.
fn place_of(key: &str) -> &str {
    let place = key.split_once("://").map_or(key, |(_, rest)| rest);
    let place = place.trim_end_matches('/');
    ["/v1", "/v2"]
        .iter()
        .find_map(|version| place.strip_suffix(version))
        .unwrap_or(place)
}

/// What an entry says of us; `None` if it is empty, as those beside a `credsStore` are.
fn credentials(key: &str, entry: &Value, from: &str) -> Result<Option<Credentials>, String> {
    let text = |name: &str| entry[name].as_str().filter(|text| !text.is_empty());
    let of = |user: &str, proof| {
        Some(Credentials {
            user: user.to_owned(),
            proof,
            from: from.to_owned(),
        })
    };
    let mut user = text("username").unwrap_or_default().to_owned();
    let mut password = text("password").map(str::to_owned);
    if let Some(auth) = text("auth") {
        let wrong = || format!("`auth` of {key:?} is no base64 of USER:PASSWORD");
        let auth = auth.trim_end_matches('=');
        let decoded = STANDARD_NO_PAD.decode(auth).map_err(|_| wrong())?;
        let decoded = String::from_utf8(decoded).map_err(|_| wrong())?;
        let (name, secret) = decoded.split_once(':').ok_or_else(wrong)?;
        user = name.to_owned();
        // Docker 1.6 padded with zeros.
        password = Some(secret.trim_end_matches('\0').to_owned());
    }
    if let Some(token) = text("identitytoken") {
        return Ok(of(&user, Proof::IdentityToken(Secret::new(token))));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(of(&user, Proof::RegistryToken(Secret::new(token))));
    }
    Ok(password.and_then(|password| of(&user, Proof::Password(Secret::new(password)))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = r#"{
      "HttpHeaders": {"x": "y"},
      "auths": {
        "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
        "quay.io": {"auth": "cTpwdw=="},
        "quay.io/acme": {"auth": "YWNtZTpwOnc="},
        "plain:5000": {"username": "u", "password": "pw"},
        "token.io": {"auth": "PHRva2VuPjo=", "identitytoken": "t"},
        "kept.io": {},
        "broken.io": {"auth": "%%%"}
      },
      "credHelpers": {"gcr.io": "gcloud"},
      "credsStore": "desktop"
    }"#;

    fn kept(host: &str, repository: &str) -> String {
        let file = AuthFile::parse(FILE.as_bytes()).unwrap();
        match file.keeper(host, repository, "F") {
            Ok(Some(Keeper::File(found))) => match found.proof {
                Proof::Password(secret) => format!("{}:{}", found.user, secret.reveal()),
                other => format!("{} {other:?}", found.user),
            },
            Ok(Some(Keeper::Program { name, key })) => format!("{name} {key}"),
            Ok(None) => "nobody".to_owned(),
            Err(error) => error,
        }
    }

    #[test]
    fn the_longest_key_of_a_place_decides() {
        for (host, repository, expected) in [
            ("docker.io", "library/alpine", "hub:pw"),
            ("quay.io", "a/b", "q:pw"),
            ("quay.io", "acme/b", "acme:p:w"),
            ("quay.io", "acmeb/c", "q:pw"),
            ("plain:5000", "x", "u:pw"),
            ("token.io", "x", "<token> IdentityToken(Secret(…))"),
            ("gcr.io", "x", "gcloud gcr.io"),
            ("kept.io", "x", "desktop kept.io"),
            ("other.io", "x", "desktop other.io"),
            (
                "broken.io",
                "x",
                "`auth` of \"broken.io\" is no base64 of USER:PASSWORD",
            ),
        ] {
            assert_eq!(kept(host, repository), expected, "{host}/{repository}");
        }
    }

    #[test]
    fn what_is_stored_is_found_and_forgotten_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/config.json");
        let mut file = AuthFile::parse(FILE.as_bytes()).unwrap();
        file.store("docker.io", "me", &Secret::new("a:b"));
        file.store("r:5000", "me", &Secret::new("x"));
        file.write(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let mut read = AuthFile::read(&path).unwrap();
        assert_eq!(read.document["HttpHeaders"]["x"], "y");
        for (host, password) in [("docker.io", "a:b"), ("r:5000", "x")] {
            let Ok(Some(Keeper::File(found))) = read.keeper(host, "a/b", "F") else {
                panic!("nothing is known of {host}");
            };
            assert_eq!(found.proof, Proof::Password(Secret::new(password)));
            assert!(read.forget(host));
            assert!(!read.forget(host));
        }
        assert!(
            AuthFile::read(&folder.path().join("none"))
                .unwrap()
                .document
                .is_empty()
        );
    }

    #[test]
    fn a_broken_file_is_not_quoted() {
        let error = AuthFile::parse(b"{\"auths\": {\"x\": \"hunter2\"")
            .err()
            .unwrap();
        assert!(!error.contains("hunter2"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0u8.., 0..100)) {
            let _ = AuthFile::parse(&bytes);
        }

        #[test]
        fn any_password_survives(user in "[^:\u{0}]{0,10}", password in "[^\u{0}]{1,20}") {
            let mut file = AuthFile::default();
            file.store("r.x", &user, &Secret::new(password.clone()));
            let found = file.keeper("r.x", "a", "F").unwrap();
            let expected = Credentials { user, proof: Proof::Password(Secret::new(password)), from: "F".to_owned() };
            prop_assert_eq!(found, Some(Keeper::File(expected)));
        }
    }
}
