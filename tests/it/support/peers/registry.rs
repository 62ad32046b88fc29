//! The reference registry on a free port of loopback.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use super::keeper::{Keeper, folder};
use super::{Skip, required};

/// A running registry without TLS or accounts; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    /// Held for its `Drop`.
    _keeper: Keeper,
    address: String,
}

impl Registry {
    pub(crate) fn start() -> Result<Registry, Skip> {
        let program = required("docker-registry")?;
        let folder = folder("registry");
        // Port 0: the system chooses a free one, and the log says which. To look for a free port
        // first would be a race with other tests.
        let settings = format!(
            "version: 0.1\nlog: {{level: info, formatter: text}}\n\
             storage:\n  filesystem: {{rootdirectory: {}/data}}\n  delete: {{enabled: true}}\n\
             http: {{addr: \"127.0.0.1:0\"}}\n",
            folder.path().display()
        );
        let file = folder.path().join("config.yml");
        fs::write(&file, settings).expect("write config.yml");
        let mut daemon = Command::new(program);
        daemon
            .arg("serve")
            .arg(file)
            .env("OTEL_TRACES_EXPORTER", "none");
        let answers =
            |dir: &Path| address(dir).is_some_and(|address| TcpStream::connect(address).is_ok());
        let keeper = Keeper::of_daemon(folder, &mut daemon, answers);
        let address = address(keeper.dir()).expect("it has answered there");
        Ok(Registry {
            _keeper: keeper,
            address,
        })
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// The address in the line `listening on 127.0.0.1:PORT` of the log.
fn address(dir: &Path) -> Option<String> {
    let log = fs::read_to_string(dir.join("log")).ok()?;
    let (_, rest) = log.split_once("listening on ")?;
    // The line may be half written; a whole address is followed by a quote or a space.
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')?;
    Some(rest[..end].to_owned())
}
