//! A server of the tests that answers as it is told: with errors, cuts, lies and silence.
//!
//! [`FaultServer`] calls a function for every request and keeps what it was asked. [`Shelf`] is the
//! honest registry under it: it serves the images on it, by range where that is asked for, and takes
//! no uploads; a test answers some requests itself and leaves the rest to the shelf.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::file_set::FileSet;
use super::listing::content_of;

/// One request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// By their names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// How many requests came before.
    pub(crate) number: usize,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// How long its body is said to be.
    pub(crate) fn length(&self) -> usize {
        let length = self.header("content-length");
        length.and_then(|length| length.parse().ok()).unwrap_or(0)
    }

    /// `METHOD TARGET`, and the range if one is asked for.
    pub(crate) fn line(&self) -> String {
        let range = self.header("range").map(|range| format!(" {range}"));
        format!(
            "{} {}{}",
            self.method,
            self.target,
            range.unwrap_or_default()
        )
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A whole answer with its length.
    Whole(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// An answer that says it is longer than it is, and ends in a cut connection.
    Cut(u16, Vec<(&'static str, String)>, Vec<u8>, usize),
    /// Bytes without length and end.
    Endless,
    /// Headers without end.
    EndlessHeaders,
    /// One byte now and then, of an answer of this length.
    Drip(usize),
    /// Nothing, for long.
    Silence,
    /// Nothing: the connection is closed.
    Close,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Reply {
        Reply::Whole(status, Vec::new(), Vec::new())
    }

    pub(crate) fn with(status: u16, name: &'static str, value: impl Into<String>) -> Reply {
        Reply::Whole(status, vec![(name, value.into())], Vec::new())
    }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A running server, which ends with the test's process.
pub(crate) struct FaultServer {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FaultServer {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> FaultServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen on loopback");
        let address = listener.local_addr().expect("a bound address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer): (_, Arc<Answer>) = (Arc::clone(&asked), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                // A client that goes away is its own concern.
                thread::spawn(move || converse(stream, &kept, &*answer).is_ok());
            }
        });
        FaultServer { address, asked }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Everything that it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics here").clone()
    }

    /// The lines of what it was asked for with a word in them.
    pub(crate) fn lines_with(&self, word: &str) -> Vec<String> {
        let lines = self.asked();
        let lines = lines.iter().map(Asked::line);
        lines.filter(|line| line.contains(word)).collect()
    }
}

fn converse(stream: TcpStream, kept: &Mutex<Vec<Asked>>, answer: &Answer) -> std::io::Result<()> {
    let mut stream = stream;
    let mut reader = BufReader::new(stream.try_clone()?);
    let Some(mut asked) = read_head(&mut reader)? else {
        return Ok(());
    };
    asked.body = vec![0; asked.length()];
    reader.read_exact(&mut asked.body)?;
    {
        let mut kept = kept.lock().expect("no test panics here");
        asked.number = kept.len();
        kept.push(asked.clone());
    }
    let reply = answer(&asked);
    write_reply(&mut stream, reply, asked.method == "HEAD")
}

/// Writes an answer, or what there is of it.
pub(super) fn write_reply(
    stream: &mut TcpStream,
    reply: Reply,
    is_head: bool,
) -> std::io::Result<()> {
    match reply {
        Reply::Whole(status, headers, body) => {
            write_head(stream, status, &headers, Some(body.len()))?;
            if !is_head {
                stream.write_all(&body)?;
            }
        }
        Reply::Cut(status, headers, body, length) => {
            write_head(stream, status, &headers, Some(length))?;
            stream.write_all(&body)?;
        }
        Reply::Endless => {
            write_head(stream, 200, &[], None)?;
            loop {
                stream.write_all(&[b'x'; 1 << 16])?;
            }
        }
        Reply::EndlessHeaders => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            for number in 0.. {
                write!(stream, "X-{number}: {}\r\n", "x".repeat(1000))?;
            }
        }
        Reply::Drip(length) => {
            write_head(stream, 200, &[], Some(length))?;
            for _ in 0..length {
                stream.write_all(b"x")?;
                thread::sleep(Duration::from_millis(20));
            }
        }
        Reply::Silence => thread::sleep(Duration::from_secs(30)),
        Reply::Close => {}
    }
    stream.flush()
}

/// Reads a request up to its body.
pub(super) fn read_head(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Asked>> {
    // What is no text, such as the beginning of TLS, gets no answer.
    if reader
        .fill_buf()?
        .first()
        .is_none_or(|byte| !byte.is_ascii_uppercase())
    {
        return Ok(None);
    }
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some(Asked {
        method,
        target,
        headers,
        body: Vec::new(),
        number: 0,
    }))
}

fn write_head(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(&'static str, String)],
    length: Option<usize>,
) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} Status\r\nConnection: close\r\n")?;
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    if let Some(length) = length {
        write!(stream, "Content-Length: {length}\r\n")?;
    }
    stream.write_all(b"\r\n")
}

/// Images to be served: blobs and manifests by their digests, and tags.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    blobs: BTreeMap<String, Vec<u8>>,
    /// By tag or digest: media type and digest.
    manifests: BTreeMap<String, (String, String)>,
}

impl Shelf {
    /// Puts all blobs of a layout on the shelf, and the one image of its index under a tag.
    pub(crate) fn put_layout(&mut self, layout: &FileSet, tag: &str) -> String {
        for (path, bytes) in &layout.files {
            if let Some(hex) = path.strip_prefix("blobs/sha256/") {
                self.blobs.insert(format!("sha256:{hex}"), bytes.clone());
            }
        }
        let index: Value = serde_json::from_slice(&layout.files["index.json"]).expect("JSON");
        let entry = &index["manifests"][0];
        let text = |name: &str| entry[name].as_str().expect("text").to_owned();
        self.name(tag, &text("mediaType"), &text("digest"));
        text("digest")
    }

    /// Puts a manifest or index on the shelf; gives its digest.
    pub(crate) fn put_manifest(&mut self, tag: &str, media_type: &str, bytes: Vec<u8>) -> String {
        let digest = content_of(&bytes[..]).1;
        self.blobs.insert(digest.clone(), bytes);
        self.name(tag, media_type, &digest);
        digest
    }

    /// Puts a blob on the shelf; gives its digest.
    pub(crate) fn put_blob(&mut self, bytes: Vec<u8>) -> String {
        let digest = content_of(&bytes[..]).1;
        self.blobs.insert(digest.clone(), bytes);
        digest
    }

    fn name(&mut self, tag: &str, media_type: &str, digest: &str) {
        for name in [tag, digest] {
            let named = (media_type.to_owned(), digest.to_owned());
            self.manifests.insert(name.to_owned(), named);
        }
    }

    /// The blob that is asked for, if it is one of more than 100 kB: a layer, and no document.
    pub(crate) fn large(&self, asked: &Asked) -> Option<&[u8]> {
        let (_, digest) = asked.target.rsplit_once("/blobs/")?;
        let bytes = self.blobs.get(digest)?;
        (bytes.len() > 100_000).then_some(bytes)
    }

    /// The bytes of a blob.
    pub(crate) fn blob(&self, digest: &str) -> &[u8] {
        &self.blobs[digest]
    }

    /// The honest answer, whatever the repository is called.
    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
        let path = asked.target.split('?').next().unwrap_or_default();
        if path == "/v2/" {
            return Reply::status(200);
        }
        let mut parts = path.rsplit('/');
        let (name, kind) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        match kind {
            "manifests" => match self.manifests.get(name) {
                Some((media_type, digest)) => Reply::Whole(
                    200,
                    vec![
                        ("Content-Type", media_type.clone()),
                        ("Docker-Content-Digest", digest.clone()),
                    ],
                    self.blobs[digest].clone(),
                ),
                None => Reply::status(404),
            },
            "blobs" => match self.blobs.get(name) {
                Some(bytes) => in_range(bytes, asked.header("range")),
                None => Reply::status(404),
            },
            _ => Reply::status(404),
        }
    }
}

/// All bytes, or those from the first of `bytes=N-` on.
fn in_range(bytes: &[u8], range: Option<&str>) -> Reply {
    let from = range.and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    match from {
        None => Reply::Whole(200, Vec::new(), bytes.to_vec()),
        Some(from) if from < bytes.len() => {
            let value = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            Reply::Whole(206, vec![("Content-Range", value)], bytes[from..].to_vec())
        }
        Some(_) => Reply::status(416),
    }
}
