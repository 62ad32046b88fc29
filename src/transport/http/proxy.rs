//! Proxies: which one, if any, a URL is reached through.
//!
//! The rules are those that Go's programs follow (docker, podman, skopeo), so that `NO_PROXY` means
//! the same everywhere: `golang.org/x/net/http/httpproxy`.

use std::net::IpAddr;

use crate::transport::http::secret::Secret;
use crate::transport::http::url::{Scheme, Url, is_loopback};

/// The proxies as the environment names them. Their URLs may carry passwords.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    /// For `http` URLs: `http_proxy`, `HTTP_PROXY`.
    pub http: Option<Secret>,
    /// For `https` URLs: `https_proxy`, `HTTPS_PROXY`.
    pub https: Option<Secret>,
    /// Hosts that are reached without: `no_proxy`, `NO_PROXY`.
    pub none_for: String,
}

impl Proxies {
    /// The proxy for a URL. This machine itself is never reached through one.
    pub(crate) fn of(&self, url: &Url) -> Option<&Secret> {
        let proxy = match url.scheme() {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        };
        proxy.filter(|_| !is_loopback(url.host()) && !self.is_excluded(url))
    }

    fn is_excluded(&self, url: &Url) -> bool {
        let host = url.host().to_ascii_lowercase();
        let entries = self.none_for.split(',').map(str::trim);
        entries
            .filter(|entry| !entry.is_empty())
            .any(|entry| excludes(&entry.to_ascii_lowercase(), &host, url.port()))
    }
}

/// One entry of `NO_PROXY`: `*`, an address, a network, or a domain, which means itself and what
/// is below it (`.domain` only what is below). A port restricts it.
fn excludes(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        let parsed = (network.parse(), bits.parse(), host.parse());
        return match parsed {
            (Ok(network), Ok(bits), Ok(address)) => is_within(address, network, bits),
            _ => false,
        };
    }
    let (entry, wanted_port) = match entry.rsplit_once(':') {
        // An IPv6 address has more colons and no port unless it stands in brackets.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (entry, None),
    };
    if wanted_port.is_some_and(|wanted| wanted.parse() != Ok(port)) {
        return false;
    }
    let entry = entry.trim_start_matches('[').trim_end_matches(']');
    let entry = entry.strip_prefix('*').unwrap_or(entry);
    match entry.strip_prefix('.') {
        Some(domain) => is_below(host, domain),
        None => host == entry || is_below(host, entry),
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.ends_with('.'))
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let of = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((address, width), (network, network_width)) = (of(address), of(network));
    let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
    width == network_width && bits <= width && address & mask == network & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_excluded_as_go_does() {
        for (entries, host, excluded) in [
            ("", "https://a.b", false),
            ("*", "https://a.b", true),
            ("a.b", "https://a.b", true),
            ("a.b", "https://x.a.b", true),
            ("a.b", "https://xa.b", false),
            (".a.b", "https://a.b", false),
            (".a.b, c", "https://x.a.b", true),
            ("*.a.b", "https://x.a.b", true),
            ("A.B:443", "https://a.b", true),
            ("a.b:444", "https://a.b", false),
            ("10.0.0.0/8", "https://10.1.2.3", true),
            ("10.0.0.0/8", "https://11.1.2.3", false),
            ("10.0.0.0/99", "https://10.1.2.3", false),
            ("fd00::/8", "https://[fd12::1]:5000", true),
            ("10.1.2.3", "https://10.1.2.3:5000", true),
            ("", "https://127.0.0.9:5000", true),
            ("", "http://localhost", true),
        ] {
            let proxies = Proxies {
                http: Some(Secret::new("http://p:1")),
                https: Some(Secret::new("http://p:1")),
                none_for: entries.to_owned(),
            };
            let url = host.parse().unwrap();
            assert_eq!(proxies.of(&url).is_none(), excluded, "{entries:?} {host}");
        }
    }
}
