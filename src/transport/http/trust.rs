//! Trust: which authorities vouch for a server, and how we prove ourselves.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};

use crate::transport::http::error::HttpError;
use crate::transport::http::settings::HttpSettings;

/// How a server proves itself to us and we to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Trust {
    /// Whether its certificate is looked at.
    pub verify: Verify,
    /// Files of authorities in PEM that are trusted besides the system's.
    pub authorities: Vec<PathBuf>,
    /// What we show where a server asks for it.
    pub identity: Option<Identity>,
}

/// Whether a server's certificate is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verify {
    /// It must be valid and signed by an authority.
    #[default]
    Full,
    /// Any will do: for registries that are named as insecure.
    Off,
}

/// A client certificate with its key, both files in PEM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The certificate, and the chain behind it.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Where systems keep their bundle of authorities: Debian, Fedora, openSUSE, Alpine and others.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];

/// Larger bundles are refused: 16 MiB.
const MOST_BUNDLE: u64 = 16 << 20;

/// The TLS configuration of the client library.
pub(crate) fn tls_config(settings: &HttpSettings, trust: &Trust) -> Result<TlsConfig, HttpError> {
    let cryptography = Arc::new(rustls::crypto::ring::default_provider());
    let mut builder = TlsConfig::builder().unversioned_rustls_crypto_provider(cryptography);
    match trust.verify {
        Verify::Off => builder = builder.disable_verification(true),
        Verify::Full => {
            let mut roots = roots(settings)?;
            for file in &trust.authorities {
                roots.extend(certificates(file)?);
            }
            builder = builder.root_certs(RootCerts::Specific(Arc::new(roots)));
        }
    }
    if let Some(identity) = &trust.identity {
        let chain = certificates(&identity.certificate)?;
        let key = private_key(&identity.key)?;
        builder = builder.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
    Ok(builder.build())
}

/// The authorities of the settings, else of the system. None at all is no error yet: a registry on
/// plain HTTP needs none.
fn roots(settings: &HttpSettings) -> Result<Vec<Certificate<'static>>, HttpError> {
    let mut roots = Vec::new();
    if settings.ca_file.is_none() && settings.ca_dirs.is_empty() {
        let bundle = SYSTEM_BUNDLES.into_iter().map(Path::new);
        return bundle
            .filter(|path| path.is_file())
            .map(certificates)
            .next()
            .unwrap_or(Ok(roots));
    }
    if let Some(file) = &settings.ca_file {
        roots.extend(certificates(file)?);
    }
    for dir in &settings.ca_dirs {
        // As OpenSSL does: a folder that is missing holds nothing.
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            roots.extend(certificates(file).unwrap_or_default());
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, HttpError> {
    let items = pem_items(path)?;
    let certificates: Vec<_> = items
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    match certificates.is_empty() {
        true => Err(wrong(path, "there is no certificate in PEM in it")),
        false => Ok(certificates),
    }
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>, HttpError> {
    pem_items(path)?
        .into_iter()
        .find_map(|item| match item {
            PemItem::PrivateKey(key) => Some(key),
            _ => None,
        })
        .ok_or_else(|| wrong(path, "there is no private key in PEM in it"))
}

fn pem_items(path: &Path) -> Result<Vec<PemItem<'static>>, HttpError> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| wrong(path, error))?;
    file.take(MOST_BUNDLE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(path, error))?;
    if bytes.len() as u64 > MOST_BUNDLE {
        return Err(wrong(path, "the file is too long"));
    }
    ureq::tls::parse_pem(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|_| wrong(path, "it is no PEM"))
}

fn wrong(path: &Path, problem: impl ToString) -> HttpError {
    HttpError::Certificate {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let settings = HttpSettings {
            ca_file: Some(file.clone()),
            ..HttpSettings::default()
        };
        let told = |settings: &HttpSettings, trust: &Trust| {
            tls_config(settings, trust).unwrap_err().to_string()
        };
        assert!(told(&settings, &Trust::default()).contains("No such file"));
        fs::write(&file, "x").unwrap();
        assert!(told(&settings, &Trust::default()).contains("no certificate"));
        let off = Trust {
            verify: Verify::Off,
            ..Trust::default()
        };
        assert!(tls_config(&settings, &off).is_ok());
        let missing = HttpSettings {
            ca_dirs: vec![folder.path().join("missing")],
            ..HttpSettings::default()
        };
        assert!(tls_config(&missing, &Trust::default()).is_ok());
    }
}
