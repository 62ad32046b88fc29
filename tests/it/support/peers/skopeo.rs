//! skopeo: copies images between transports and inspects them.

use std::ffi::OsStr;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::keeper::folder;
use super::{Skip, required};
use crate::support::process::{Ran, run};

/// skopeo without policy, credentials or home of the machine.
#[derive(Debug)]
pub(crate) struct Skopeo {
    home: TempDir,
}

impl Skopeo {
    pub(crate) fn start() -> Result<Skopeo, Skip> {
        required("skopeo")?;
        Ok(Skopeo {
            home: folder("skopeo"),
        })
    }

    /// Any skopeo command.
    #[track_caller]
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        let mut command = Command::new("skopeo");
        command
            .env("HOME", self.home.path())
            .env("TMPDIR", self.home.path())
            .env("REGISTRY_AUTH_FILE", self.home.path().join("auth.json"))
            .arg("--insecure-policy")
            .args(args);
        run(&mut command)
    }

    /// Copies an image as it is. Digests are kept by force: skopeo otherwise swaps a layer for
    /// another compression of it that it happens to know.
    #[track_caller]
    pub(crate) fn copy(&self, from: &str, to: &str) -> Ran {
        self.run([
            "copy",
            "--preserve-digests",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            from,
            to,
        ])
    }

    /// What `skopeo inspect` says of an image.
    #[track_caller]
    pub(crate) fn inspect(&self, image: &str) -> Value {
        let ran = self.run(["inspect", "--tls-verify=false", image]).ok();
        serde_json::from_str(&ran.stdout).expect("skopeo prints JSON")
    }

    /// The config of an image, as stored.
    #[track_caller]
    pub(crate) fn config(&self, image: &str) -> Value {
        let ran = self
            .run(["inspect", "--raw", "--config", "--tls-verify=false", image])
            .ok();
        serde_json::from_str(&ran.stdout).expect("skopeo prints JSON")
    }
}
