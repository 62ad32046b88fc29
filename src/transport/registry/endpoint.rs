//! Endpoints: the places where a repository is asked for, each with what is trusted there.

use crate::oci::Reference;
use crate::transport::http::{Scheme, Trust, Url, Verify};
use crate::transport::registry::certs::Certificates;
use crate::transport::registry::error::RegistryError;
use crate::transport::registry::settings::RegistrySettings;
use crate::transport::registry::table::{Location, RegistryTable, Safety};

/// One place of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The registry, `HOST[:PORT]`, as files of credentials name it.
    pub host: String,
    /// The repository there.
    pub repository: String,
    /// Whether it stands in for the registry that was named.
    pub is_mirror: bool,
    pub(crate) safety: Safety,
    pub(crate) trust: Trust,
}

/// What an endpoint is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reading: mirrors will do.
    Pull,
    /// Writing: only the registry itself will do.
    Push,
}

/// Docker Hub's registry answers under another name than it is known by.
const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

/// The endpoints of a reference, in the order in which they are asked.
pub(crate) fn endpoints(
    settings: &RegistrySettings,
    table: &RegistryTable,
    reference: &Reference,
    purpose: Purpose,
) -> Result<Vec<Endpoint>, RegistryError> {
    let mut locations = table.locations(reference)?;
    let of_call = settings
        .mirrors
        .iter()
        .filter(|mirror| mirror.registry == reference.domain());
    let of_call = of_call.map(|mirror| {
        let name = format!("{}/{}", mirror.location, reference.path());
        let (host, repository) = name.split_once('/').unwrap_or((&name, ""));
        Location {
            host: host.to_owned(),
            repository: repository.to_owned(),
            safety: Safety::Verified,
            ca: None,
            identity: None,
            is_mirror: true,
        }
    });
    locations.splice(0..0, of_call.collect::<Vec<_>>());
    locations
        .into_iter()
        .filter(|location| purpose == Purpose::Pull || !location.is_mirror)
        .map(|location| endpoint(settings, location))
        .collect()
}

fn endpoint(settings: &RegistrySettings, location: Location) -> Result<Endpoint, RegistryError> {
    let certificates = Certificates::find(&settings.certs, &location.host);
    let certificates = certificates.map_err(RegistryError::http(format!(
        "prepare to ask {}",
        location.host
    )))?;
    let mut authorities = certificates.authorities;
    authorities.extend(location.ca);
    let is_named = settings.insecure.contains(&location.host);
    let base = Url::of(Scheme::Https, host_of(&location.host), "/")?;
    let safety = match location.safety {
        _ if is_named => Safety::Insecure,
        Safety::Verified if base.is_loopback() => Safety::Loopback,
        safety => safety,
    };
    Ok(Endpoint {
        trust: Trust {
            verify: match safety {
                Safety::Insecure => Verify::Off,
                Safety::Verified | Safety::Loopback => Verify::Full,
            },
            authorities,
            identity: location.identity.or(certificates.identity),
        },
        host: location.host,
        repository: location.repository,
        is_mirror: location.is_mirror,
        safety,
    })
}

/// The host that answers for a registry.
pub(crate) fn host_of(registry: &str) -> &str {
    match registry {
        HUB | "index.docker.io" => HUB_HOST,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(settings: &RegistrySettings, reference: &str, purpose: Purpose) -> Vec<String> {
        let table = RegistryTable::default();
        let reference = reference.parse().unwrap();
        let found = endpoints(settings, &table, &reference, purpose).unwrap();
        let show = |one: &Endpoint| {
            let mirror = if one.is_mirror { " mirror" } else { "" };
            format!(
                "{}/{} {:?}{mirror}",
                host_of(&one.host),
                one.repository,
                one.safety
            )
        };
        found.iter().map(show).collect()
    }

    #[test]
    fn flags_of_a_call_come_first() {
        let settings = RegistrySettings {
            insecure: vec!["m.x:5000".to_owned()],
            mirrors: vec![
                "m.x:5000/hub".parse().unwrap(),
                "quay.io=m.y".parse().unwrap(),
            ],
            ..RegistrySettings::default()
        };
        for (reference, purpose, expected) in [
            (
                "alpine",
                Purpose::Pull,
                vec![
                    "m.x:5000/hub/library/alpine Insecure mirror",
                    "registry-1.docker.io/library/alpine Verified",
                ],
            ),
            (
                "alpine",
                Purpose::Push,
                vec!["registry-1.docker.io/library/alpine Verified"],
            ),
            (
                "quay.io/a/b",
                Purpose::Pull,
                vec!["m.y/a/b Verified mirror", "quay.io/a/b Verified"],
            ),
            (
                "127.0.0.1:5000/a",
                Purpose::Pull,
                vec!["127.0.0.1:5000/a Loopback"],
            ),
            ("localhost/a", Purpose::Pull, vec!["localhost/a Loopback"]),
        ] {
            assert_eq!(
                shown(&settings, reference, purpose),
                expected,
                "{reference}"
            );
        }
    }
}
