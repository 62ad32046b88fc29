//! `certs.d`: authorities and client certificates of a registry, in a folder of its name.
//!
//! `containers-certs.d(5)` and dockerd's `/etc/docker/certs.d`: every `*.crt` is an authority, every
//! `NAME.cert` a client certificate whose key is `NAME.key`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::transport::http::{HttpError, Identity};

/// What the first folder that knows a registry holds for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Certificates {
    pub(crate) authorities: Vec<PathBuf>,
    pub(crate) identity: Option<Identity>,
}

impl Certificates {
    /// Looks for the registry `host`, `HOST[:PORT]`, in the folders.
    pub(crate) fn find(folders: &[PathBuf], host: &str) -> Result<Certificates, HttpError> {
        let folder = folders
            .iter()
            .map(|folder| folder.join(host))
            .find(|folder| folder.is_dir());
        match folder {
            Some(folder) => Certificates::in_folder(&folder),
            None => Ok(Certificates::default()),
        }
    }

    fn in_folder(folder: &Path) -> Result<Certificates, HttpError> {
        let wrong = |problem: String| HttpError::Certificate {
            path: folder.to_owned(),
            problem,
        };
        let entries = fs::read_dir(folder).map_err(|error| wrong(error.to_string()))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let mut found = Certificates::default();
        for file in files {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => found.authorities.push(file),
                Some("cert") if found.identity.is_none() => {
                    let key = file.with_extension("key");
                    if !key.is_file() {
                        let name = file.file_name().unwrap_or_default().to_string_lossy();
                        return Err(wrong(format!("{name} has no .key beside it")));
                    }
                    found.identity = Some(Identity {
                        certificate: file,
                        key,
                    });
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_that_knows_a_registry_decides() {
        let root = tempfile::tempdir().unwrap();
        let folders = ["one", "two"].map(|name| root.path().join(name)).to_vec();
        let of = |host: &str| Certificates::find(&folders, host);
        assert_eq!(of("r:5000").unwrap(), Certificates::default());
        let folder = folders[1].join("r:5000");
        fs::create_dir_all(&folder).unwrap();
        for name in ["ca.crt", "b.crt", "me.cert", "notes"] {
            fs::write(folder.join(name), "").unwrap();
        }
        assert!(
            of("r:5000")
                .unwrap_err()
                .to_string()
                .contains("has no .key")
        );
        fs::write(folder.join("me.key"), "").unwrap();
        let found = of("r:5000").unwrap();
        assert_eq!(
            found.authorities,
            [folder.join("b.crt"), folder.join("ca.crt")]
        );
        assert_eq!(found.identity.unwrap().key, folder.join("me.key"));
    }
}
