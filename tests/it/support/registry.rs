//! docker-registry with locks on its door: TLS, accounts in a file, or tokens from a server of ours.
//!
//! Everything listens on a free port of loopback and goes with the test. The certificate is for
//! `localhost` and `127.0.0.1` and signed by itself; [`RegistryServer::ca`] is its file.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::peers::keeper::{Keeper, folder};
use super::peers::{Skip, required};
use super::process::run;
use super::token_server::TokenServer;

/// Whether the registry speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Plain,
    Tls,
    /// TLS, and clients must show the server's own certificate.
    Mutual,
}

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Everybody.
    Open,
    /// Who knows [`USER`] and [`PASSWORD`].
    Htpasswd,
    /// Who brings a token: anyone may pull from `public/…`, [`USER`] may do everything.
    Token,
}

/// The one account.
pub(crate) const USER: &str = "ada";
/// Its password: must never be seen in any output.
pub(crate) const PASSWORD: &str = "s3cret-pass:word";

/// A running registry; it stops when dropped.
#[derive(Debug)]
pub(crate) struct RegistryServer {
    keeper: Keeper,
    address: String,
    tokens: Option<TokenServer>,
}

impl RegistryServer {
    /// A plain one for everybody.
    pub(crate) fn open() -> Result<RegistryServer, Skip> {
        RegistryServer::start(Wire::Plain, Door::Open)
    }

    /// Starts a registry and waits until it answers.
    pub(crate) fn start(wire: Wire, door: Door) -> Result<RegistryServer, Skip> {
        let program = required("docker-registry")?;
        let folder = folder("registry");
        let dir = folder.path().to_owned();
        if wire != Wire::Plain || door == Door::Token {
            make_certificate(&dir)?;
        }
        let tokens = match door {
            Door::Token => Some(TokenServer::start(&dir)),
            Door::Open | Door::Htpasswd => None,
        };
        let settings = settings(&dir, wire, door, tokens.as_ref())?;
        let file = dir.join("config.yml");
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
        Ok(RegistryServer {
            keeper,
            address,
            tokens,
        })
    }

    /// ferro-oci-server, a registry of opposite habits: it knows referrers, answers a mount with 202,
    /// gives relative places for uploads, and refuses chunks out of order. Plain and for everybody.
    pub(crate) fn ferro() -> Result<RegistryServer, Skip> {
        let program = required("ferro-oci-server")?;
        let folder = folder("ferro");
        // It does not say which port it got, so a free one is looked for.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = port.expect("a free port").to_string();
        let mut daemon = Command::new(program);
        daemon
            .env("FERRO_OCI_LISTEN", &address)
            .env("FERRO_OCI_STORAGE_DIR", folder.path().join("data"));
        let keeper = Keeper::of_daemon(folder, &mut daemon, |_| {
            TcpStream::connect(&address).is_ok()
        });
        Ok(RegistryServer {
            keeper,
            address,
            tokens: None,
        })
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The file of its certificate, which is its own authority.
    pub(crate) fn ca(&self) -> PathBuf {
        self.keeper.dir().join("cert.pem")
    }

    /// The private key of its certificate.
    pub(crate) fn key(&self) -> PathBuf {
        self.keeper.dir().join("key.pem")
    }

    /// The server that gives tokens, where there is one.
    pub(crate) fn tokens(&self) -> &TokenServer {
        self.tokens.as_ref().expect("a registry with tokens")
    }

    /// What it logged so far: one line for each request, among others.
    pub(crate) fn log(&self) -> String {
        self.keeper.log()
    }
}

fn settings(
    dir: &Path,
    wire: Wire,
    door: Door,
    tokens: Option<&TokenServer>,
) -> Result<String, Skip> {
    let dir_text = dir.display();
    let tls = match wire {
        Wire::Plain => String::new(),
        Wire::Tls => {
            format!(", tls: {{certificate: {dir_text}/cert.pem, key: {dir_text}/key.pem}}")
        }
        Wire::Mutual => format!(
            ", tls: {{certificate: {dir_text}/cert.pem, key: {dir_text}/key.pem, \
             clientcas: [{dir_text}/cert.pem]}}"
        ),
    };
    let auth = match (door, tokens) {
        (Door::Htpasswd, _) => {
            let program = required("htpasswd")?;
            let accounts = run(Command::new(program).args(["-Bbn", USER, PASSWORD])).ok();
            fs::write(dir.join("accounts"), accounts.stdout).expect("write the accounts");
            format!("auth: {{htpasswd: {{realm: probe, path: {dir_text}/accounts}}}}\n")
        }
        (Door::Token, Some(tokens)) => format!(
            "auth: {{token: {{realm: \"{}\", service: registry.test, issuer: issuer.test, \
             rootcertbundle: {dir_text}/cert.pem}}}}\n",
            tokens.realm()
        ),
        _ => String::new(),
    };
    // Port 0: the system chooses a free one, and the log says which.
    Ok(format!(
        "version: 0.1\nlog: {{level: info, formatter: text}}\n\
         storage:\n  filesystem: {{rootdirectory: {dir_text}/data}}\n  delete: {{enabled: true}}\n\
         http: {{addr: \"127.0.0.1:0\"{tls}}}\n{auth}"
    ))
}

/// Makes `cert.pem` and `key.pem` in the folder.
pub(crate) fn make_certificate(dir: &Path) -> Result<(), Skip> {
    let program = required("openssl")?;
    let mut command = Command::new(program);
    command
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext"])
        .arg("subjectAltName=DNS:localhost,IP:127.0.0.1")
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"));
    run(&mut command).ok();
    Ok(())
}

/// The address in the line `listening on 127.0.0.1:PORT` of the log.
fn address(dir: &Path) -> Option<String> {
    let log = fs::read_to_string(dir.join("log")).ok()?;
    let (_, rest) = log.split_once("listening on ")?;
    // The line may be half written; a whole address is followed by a quote or a comma.
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')?;
    Some(rest[..end].to_owned())
}

#[test]
fn every_kind_of_door_answers() {
    for (wire, door) in [
        (Wire::Plain, Door::Open),
        (Wire::Tls, Door::Htpasswd),
        (Wire::Tls, Door::Token),
    ] {
        let server = super::peers::peer!(RegistryServer::start(wire, door));
        assert!(
            server.address().starts_with("127.0.0.1:"),
            "{}",
            server.log()
        );
        assert_eq!(server.ca().exists(), wire == Wire::Tls);
    }
}
