//! The table of registries: where a reference is really looked for.
//!
//! One reader for two files: containers' `registries.conf` (version 2, as podman and skopeo read
//! it) and our `registries.toml`, which is the same with the files of authorities and client
//! certificates beside each place:
//!
//! ```toml
//! [[registry]]
//! prefix = "docker.io"            # or HOST/PATH, or *.DOMAIN
//! location = "hub.example.com/docker.io"
//! insecure = false
//! blocked = false
//! ca = "/etc/ssl/example.pem"     # ours
//! client-cert = "me.pem"          # ours
//! client-key = "me.key"           # ours
//!
//! [[registry.mirror]]             # asked first, in order
//! location = "mirror.example.com/hub"
//! insecure = true
//! pull-from-mirror = "all"        # or digest-only, tag-only
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::oci::Reference;
use crate::transport::http::Identity;
use crate::transport::registry::error::RegistryError;

/// What is said about registries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistryTable {
    by_prefix: BTreeMap<String, Entry>,
}

/// A place where a repository is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// `HOST[:PORT]`, as it is written.
    pub host: String,
    /// The repository there.
    pub repository: String,
    /// What may be done to reach it.
    pub safety: Safety,
    /// A file of authorities that vouch for it.
    pub ca: Option<PathBuf>,
    /// What we show it.
    pub identity: Option<Identity>,
    /// Whether it stands in for the registry that was named.
    pub is_mirror: bool,
}

/// What may be done to reach a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safety {
    /// TLS with a certificate that someone vouches for.
    Verified,
    /// The same, or no TLS at all: this machine itself, as Docker does.
    Loopback,
    /// Whatever it offers.
    Insecure,
}

/// One `[[registry]]`, or a mirror in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Entry {
    prefix: Option<String>,
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    pull_from_mirror: Option<MirrorUse>,
    mirror: Vec<Entry>,
    ca: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
}

/// Which references a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum MirrorUse {
    All,
    DigestOnly,
    TagOnly,
}

/// The file. What it says besides registries is not for us.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    registry: Vec<Entry>,
}

impl RegistryTable {
    /// Reads one more file; what it says of a prefix replaces what was said before. `path` is where
    /// the text is from: files named in it are relative to its folder.
    ///
    /// # Errors
    /// A text that is no TOML or names no place.
    pub fn read(&mut self, path: &Path, text: &str) -> Result<(), RegistryError> {
        let wrong = |problem: String| RegistryError::Table {
            path: path.to_owned(),
            problem,
        };
        let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for mut entry in file.registry {
            let named = entry.prefix.clone().or_else(|| entry.location.clone());
            let Some(prefix) = named.filter(|prefix| !prefix.is_empty()) else {
                let problem = "a [[registry]] has neither `prefix` nor `location`";
                return Err(wrong(problem.to_owned()));
            };
            if entry.location.is_none() && !prefix.starts_with("*.") {
                entry.location = Some(prefix.clone());
            }
            if let Some(mirror) = entry.mirror.iter().find(|mirror| mirror.location.is_none()) {
                let problem = format!("a mirror of {prefix} has no `location` ({mirror:?})");
                return Err(wrong(problem));
            }
            entry.seen_from(folder);
            entry
                .mirror
                .iter_mut()
                .for_each(|one| one.seen_from(folder));
            let prefix = without_scheme(&prefix).to_owned();
            self.by_prefix.insert(prefix, entry);
        }
        Ok(())
    }

    /// Where a reference is looked for: mirrors in order, then the registry itself.
    ///
    /// # Errors
    /// A registry that is blocked.
    pub fn locations(&self, reference: &Reference) -> Result<Vec<Location>, RegistryError> {
        let Some((prefix, entry)) = self.entry_of(reference) else {
            return Ok(vec![Location::of(
                &reference.repository(),
                &Entry::default(),
            )]);
        };
        if entry.blocked {
            return Err(RegistryError::Blocked {
                reference: reference.to_string(),
                prefix: prefix.to_owned(),
            });
        }
        let mirrors = entry.mirror.iter().filter(|mirror| {
            let which = match (mirror.pull_from_mirror, entry.mirror_by_digest_only) {
                (Some(which), _) => which,
                (None, true) => MirrorUse::DigestOnly,
                (None, false) => MirrorUse::All,
            };
            match which {
                MirrorUse::All => true,
                MirrorUse::DigestOnly => reference.digest().is_some(),
                MirrorUse::TagOnly => reference.digest().is_none(),
            }
        });
        let place = |entry: &Entry, is_mirror| {
            let name = reference.repository();
            let name = match &entry.location {
                // With a wildcard there is nothing that could be replaced.
                None => name,
                Some(location) => {
                    let rest = match prefix.strip_prefix("*.") {
                        Some(_) => &name[reference.domain().len()..],
                        None => &name[prefix.len().min(name.len())..],
                    };
                    format!("{}{rest}", without_scheme(location))
                }
            };
            Location {
                is_mirror,
                ..Location::of(&name, entry)
            }
        };
        let mirrors = mirrors.map(|mirror| place(mirror, true));
        Ok(mirrors.chain([place(entry, false)]).collect())
    }

    /// The entry with the longest prefix that a reference falls under.
    fn entry_of(&self, reference: &Reference) -> Option<(&str, &Entry)> {
        let name = reference.repository();
        let falls_under = |prefix: &str| match prefix.strip_prefix("*.") {
            Some(domain) => reference
                .domain()
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.')),
            None => name
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        };
        self.by_prefix
            .iter()
            .filter(|(prefix, _)| falls_under(prefix))
            .max_by_key(|(prefix, _)| prefix.len())
            .map(|(prefix, entry)| (prefix.as_str(), entry))
    }
}

impl Entry {
    fn seen_from(&mut self, folder: &Path) {
        for path in [&mut self.ca, &mut self.client_cert, &mut self.client_key] {
            *path = path.take().map(|path| folder.join(path));
        }
    }
}

impl Location {
    fn of(name: &str, entry: &Entry) -> Location {
        let (host, repository) = name.split_once('/').unwrap_or((name, ""));
        let identity = match (&entry.client_cert, &entry.client_key) {
            (Some(certificate), key) => Some(Identity {
                certificate: certificate.clone(),
                // One file may hold both.
                key: key.as_ref().unwrap_or(certificate).clone(),
            }),
            (None, _) => None,
        };
        Location {
            host: host.to_owned(),
            repository: repository.to_owned(),
            safety: match entry.insecure {
                true => Safety::Insecure,
                false => Safety::Verified,
            },
            ca: entry.ca.clone(),
            identity,
            is_mirror: false,
        }
    }
}

fn without_scheme(text: &str) -> &str {
    text.split_once("://").map_or(text, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONF: &str = r#"
unqualified-search-registries = ["quay.io"]
short-name-mode = "permissive"

[[registry]]
prefix = "docker.io"
location = "hub.corp/proxy"
[[registry.mirror]]
location = "m1.corp:5000/hub"
insecure = true
[[registry.mirror]]
location = "m2.corp"
pull-from-mirror = "digest-only"

[[registry]]
location = "bad.example"
blocked = true

[[registry]]
prefix = "quay.io/acme"
location = "quay.io/acme-eu"
ca = "eu.pem"
client-cert = "me.pem"

[[registry]]
prefix = "*.corp"
insecure = true
"#;

    fn table() -> RegistryTable {
        let mut table = RegistryTable::default();
        table.read(Path::new("/etc/r.toml"), CONF).unwrap();
        table
    }

    fn places(reference: &str) -> Vec<String> {
        let reference = reference.parse().unwrap();
        let places = table().locations(&reference).unwrap();
        places
            .iter()
            .map(|place| format!("{}/{} {:?}", place.host, place.repository, place.safety))
            .collect()
    }

    #[test]
    fn references_are_looked_for_where_the_table_says() {
        let digest = crate::oci::Digest::of(b"");
        for (reference, expected) in [
            (
                "alpine".to_owned(),
                vec![
                    "m1.corp:5000/hub/library/alpine Insecure",
                    "hub.corp/proxy/library/alpine Verified",
                ],
            ),
            (
                format!("alpine@{digest}"),
                vec![
                    "m1.corp:5000/hub/library/alpine Insecure",
                    "m2.corp/library/alpine Verified",
                    "hub.corp/proxy/library/alpine Verified",
                ],
            ),
            (
                "quay.io/acme/x:1".to_owned(),
                vec!["quay.io/acme-eu/x Verified"],
            ),
            (
                "quay.io/acmex/x".to_owned(),
                vec!["quay.io/acmex/x Verified"],
            ),
            ("r.corp/x".to_owned(), vec!["r.corp/x Insecure"]),
            ("corp.io/x".to_owned(), vec!["corp.io/x Verified"]),
        ] {
            assert_eq!(places(&reference), expected, "{reference}");
        }
        let blocked = table().locations(&"bad.example/x".parse().unwrap());
        let blocked = blocked.unwrap_err().to_string();
        assert!(blocked.contains("blocked"), "{blocked}");
    }

    #[test]
    fn files_are_seen_from_the_tables_folder() {
        let places = table()
            .locations(&"quay.io/acme/x".parse().unwrap())
            .unwrap();
        assert_eq!(places[0].ca.as_deref(), Some(Path::new("/etc/eu.pem")));
        let identity = places[0].identity.as_ref().unwrap();
        assert_eq!(identity.key, Path::new("/etc/me.pem"));
    }

    #[test]
    fn a_later_table_replaces_what_was_said_of_a_prefix() {
        let mut table = table();
        let later = "[[registry]]\nprefix = 'docker.io'\n";
        table.read(Path::new("later"), later).unwrap();
        let places = table.locations(&"alpine".parse().unwrap()).unwrap();
        assert_eq!((places.len(), places[0].host.as_str()), (1, "docker.io"));
        for wrong in [
            "[[registry]]\n",
            "registry = 1",
            "x",
            "[[registry]]\nlocation='a'\n[[registry.mirror]]\n",
        ] {
            let error = table.read(Path::new("w"), wrong).unwrap_err().to_string();
            assert!(
                error.starts_with("read the table of registries w"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\[\\[registry\\]\\]\n)?([a-z-]{1,10} ?= ?[a-z\"'.*/]{0,10}\n){0,5}") {
            let mut table = RegistryTable::default();
            if table.read(Path::new("t"), &text).is_ok() {
                let _ = table.locations(&"a.b/c:d".parse().unwrap());
            }
        }
    }
}
