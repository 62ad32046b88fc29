//! A token server of the tests: the other half of docker-registry's `auth: token`.
//!
//! Distribution's "Docker Registry v2 authentication via central service" and "token scope". JWTs
//! are signed with RS256 by `openssl`, with the certificate in `x5c`. It counts what it gave and
//! can be told to give tokens that are soon worth nothing.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::registry::{PASSWORD, USER};

/// A running token server, which ends with the test's process.
#[derive(Debug)]
pub(crate) struct TokenServer {
    realm: String,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    dir: PathBuf,
    /// How long the next tokens are good, in seconds.
    lifetime: AtomicU64,
    /// The scopes that were asked for, one request after the other, with who asked.
    asked: Mutex<Vec<String>>,
}

impl TokenServer {
    /// Starts one that signs with `key.pem` and `cert.pem` of the folder.
    pub(crate) fn start(dir: &Path) -> TokenServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen on loopback");
        let address = listener.local_addr().expect("a bound address");
        let state = Arc::new(State {
            dir: dir.to_owned(),
            lifetime: AtomicU64::new(300),
            asked: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is its own concern.
                let _ = shared.answer(stream);
            }
        });
        TokenServer {
            realm: format!("http://{address}/token"),
            state,
        }
    }

    /// What a registry names as the realm.
    pub(crate) fn realm(&self) -> &str {
        &self.realm
    }

    /// How long the tokens from now on are good, in seconds.
    pub(crate) fn set_lifetime(&self, seconds: u64) {
        self.state.lifetime.store(seconds, Ordering::SeqCst);
    }

    /// Who asked for what so far: `USER SCOPE`, the user being `-` for nobody.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state
            .asked
            .lock()
            .expect("no test panics here")
            .clone()
    }
}

impl State {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let method = line.split(' ').next().unwrap_or_default().to_owned();
        let mut user = None;
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => user = Some(value.trim().to_owned()),
                "content-length" => length = value.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let query = match method.as_str() {
            "POST" => String::from_utf8_lossy(&body).into_owned(),
            _ => target
                .split_once('?')
                .map_or("", |(_, query)| query)
                .to_owned(),
        };
        let (status, body) = self.judge(&query, user.as_deref());
        let body = body.to_string();
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn judge(&self, query: &str, user: Option<&str>) -> (&'static str, Value) {
        let known = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let user = match user {
            None => "-",
            Some(sent) if sent == known => USER,
            Some(_) => return ("401 Unauthorized", json!({"details": "wrong password"})),
        };
        let mut access = Vec::new();
        let scopes: Vec<String> = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("scope="))
            .map(decoded)
            .flat_map(|scope| scope.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let mut asked = self.asked.lock().expect("no test panics here");
        asked.push(format!("{user} {}", scopes.join(" ")));
        for scope in &scopes {
            let mut parts = scope.splitn(2, ':');
            let (kind, rest) = (parts.next(), parts.next().unwrap_or_default());
            let (name, actions) = rest.rsplit_once(':').unwrap_or((rest, ""));
            let allowed =
                |action: &&str| user == USER || (*action == "pull" && name.starts_with("public/"));
            let actions: Vec<&str> = actions.split(',').filter(allowed).collect();
            access.push(json!({"type": kind, "name": name, "actions": actions}));
        }
        let lifetime = self.lifetime.load(Ordering::SeqCst);
        let token = self.signed(&access, lifetime);
        ("200 OK", json!({"token": token, "expires_in": lifetime}))
    }

    fn signed(&self, access: &[Value], lifetime: u64) -> String {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("a time after 1970")
            .as_secs();
        let pem = fs::read_to_string(self.dir.join("cert.pem")).expect("read the certificate");
        let der: String = pem
            .lines()
            .filter(|line| !line.starts_with("---"))
            .collect();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
        let claims = json!({
            "iss": "issuer.test", "sub": "", "aud": "registry.test",
            "exp": now + lifetime, "nbf": now - 10, "iat": now - 10,
            "jti": format!("{now}"), "access": access,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&header), part(&claims));
        let mut signer = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(self.dir.join("key.pem"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start openssl");
        let mut stdin = signer.stdin.take().expect("a pipe");
        stdin.write_all(text.as_bytes()).expect("write to openssl");
        drop(stdin);
        let signature = signer.wait_with_output().expect("wait for openssl").stdout;
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.get(..2)).flatten();
        let value =
            escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match value {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
