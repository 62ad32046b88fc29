//! `boxwright serve` as a process, and a client that says bytes and hears answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::peers::keeper::{Keeper, folder};

/// No test waits longer for a byte that must come.
const LIMIT: Duration = Duration::from_secs(60);

/// The compiled program, serving; it ends when dropped.
pub(crate) struct Served {
    keeper: Keeper,
    address: String,
}

impl Served {
    /// Serves `source` on a free port.
    #[track_caller]
    pub(crate) fn start(source: &str) -> Served {
        let folder = folder("serve");
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_boxwright"));
        daemon
            .args(["serve", "--listen", "127.0.0.1:0", source])
            .env("BOXWRIGHT_STORE", folder.path().join("store"));
        let keeper = Keeper::of_daemon(folder, &mut daemon, |dir| listening(dir).is_some());
        let address = listening(keeper.dir()).expect("it has said so");
        Served { keeper, address }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        self.keeper.log()
    }
}

/// The line that is an address and nothing else.
fn listening(dir: &Path) -> Option<String> {
    let log = std::fs::read_to_string(dir.join("log")).ok()?;
    let is_address = |line: &&str| line.parse::<SocketAddr>().is_ok();
    // A line that is not ended yet may lack digits of the port.
    let mut lines = log
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    lines.find_map(|line| Some(line.trim_end()).filter(is_address).map(str::to_owned))
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    /// By their names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Heard {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of the one error in it.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        let errors = self.json();
        let code = errors["errors"][0]["code"].as_str();
        code.unwrap_or_else(|| panic!("no code: {self:?}"))
            .to_owned()
    }
}

/// A connection.
pub(crate) struct Caller {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Caller {
    #[track_caller]
    pub(crate) fn of(address: &str) -> Caller {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        let reader = BufReader::new(stream.try_clone().expect("a second handle"));
        Caller { stream, reader }
    }

    /// Sends bytes; whether they could be sent.
    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// The next answer to GET; `None` if the connection ended without.
    pub(crate) fn hear(&mut self) -> Option<Heard> {
        self.hear_of(false)
    }

    /// The next answer.
    pub(crate) fn hear_of(&mut self, is_head: bool) -> Option<Heard> {
        let status = self.line()?;
        let status = status.split(' ').nth(1)?.parse().ok()?;
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            let earlier = headers.insert(name.to_ascii_lowercase(), value.to_owned());
            assert_eq!(earlier, None, "{name} is there twice");
        }
        let length = headers
            .get("content-length")
            .map(|text| text.parse::<usize>());
        let length = length.map_or(0, |length| length.expect("a length"));
        let mut body = vec![0; if is_head { 0 } else { length }];
        self.reader.read_exact(&mut body).ok()?;
        Some(Heard {
            status,
            headers,
            body,
        })
    }

    /// The connection itself, for bytes that are no answer yet.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// All that still comes until the other side ends the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = self.reader.read_to_end(&mut rest);
        rest
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).ok()?;
        let line = line.strip_suffix("\r\n")?;
        Some(line.to_owned())
    }
}

/// One request on a connection of its own; `headers` are whole lines.
#[track_caller]
pub(crate) fn ask(address: &str, method: &str, target: &str, headers: &[&str]) -> Heard {
    let mut caller = Caller::of(address);
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    caller.say(format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"
    ));
    let heard = caller.hear_of(method == "HEAD");
    heard.unwrap_or_else(|| panic!("no answer to {method} {target}"))
}
