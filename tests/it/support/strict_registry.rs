//! A registry of the tests that takes pushes and keeps to the letter of the distribution spec: the
//! opposite habits of docker-registry, and faults as a test tells it.
//!
//! It knows referrers, answers a mount with 202, gives relative places without a query for uploads,
//! refuses chunks out of order with 416, keeps what came of a chunk that was cut, and refuses
//! manifests whose blobs it does not have. Everything is in memory.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::fault_server::{Asked, Reply, read_head, write_reply};
use super::listing::content_of;

/// What is other than the letter of the spec has it by default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// Whether it takes blobs from other repositories of its own.
    pub(crate) mounts: bool,
    /// Whether places of uploads are absolute and have a query.
    pub(crate) absolute: bool,
    /// Whether it takes chunks at all.
    pub(crate) chunks: bool,
    /// Whether it keeps lists of referrers.
    pub(crate) referrers: bool,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits {
            mounts: false,
            absolute: false,
            chunks: true,
            referrers: true,
        }
    }
}

/// What goes wrong with a request.
pub(crate) enum Fault {
    /// This is answered, and the body is not looked at.
    Reply(Reply),
    /// So many bytes of the body are taken, then the connection is cut.
    CutAfter(usize),
    /// All is done as asked, and nothing is answered.
    LoseAnswer,
    /// All is done as asked, and the answer has one more header.
    Header(&'static str, String),
    /// So many bytes of the body are taken, and then nothing happens until the client goes away.
    StopAfter(usize),
}

type Judge = dyn Fn(&Asked) -> Option<Fault> + Send + Sync;

/// A running registry, which ends with the test's process.
pub(crate) struct StrictRegistry {
    address: String,
    state: Arc<State>,
}

struct State {
    address: String,
    habits: Habits,
    judge: Box<Judge>,
    asked: Mutex<Vec<Asked>>,
    content: Mutex<Content>,
    /// Bytes of blobs that came, whatever became of them.
    uploaded: AtomicUsize,
}

#[derive(Default)]
struct Content {
    /// By repository and digest.
    blobs: BTreeMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest: media type and bytes.
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: BTreeMap<String, Vec<u8>>,
    begun: usize,
}

impl StrictRegistry {
    pub(crate) fn start() -> StrictRegistry {
        StrictRegistry::with(Habits::default(), |_| None)
    }

    pub(crate) fn with(
        habits: Habits,
        judge: impl Fn(&Asked) -> Option<Fault> + Send + Sync + 'static,
    ) -> StrictRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen on loopback");
        let address = listener.local_addr().expect("a bound address").to_string();
        let state = Arc::new(State {
            address: address.clone(),
            habits,
            judge: Box::new(judge),
            asked: Mutex::default(),
            content: Mutex::default(),
            uploaded: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that goes away is its own concern.
                thread::spawn(move || state.converse(stream).is_ok());
            }
        });
        StrictRegistry { address, state }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Everything that it was asked so far, without bodies.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state
            .asked
            .lock()
            .expect("no test panics here")
            .clone()
    }

    /// The lines of what it was asked for that begin with a word.
    pub(crate) fn lines(&self, begin: &str) -> Vec<String> {
        let lines = self.asked();
        let lines = lines.iter().map(Asked::line);
        lines.filter(|line| line.starts_with(begin)).collect()
    }

    /// How many bytes of blobs came so far.
    pub(crate) fn uploaded(&self) -> usize {
        self.state.uploaded.load(Ordering::SeqCst)
    }

    /// The bytes of a manifest, by its repository and its tag or digest.
    pub(crate) fn manifest(&self, repository: &str, name: &str) -> Option<Vec<u8>> {
        let content = self.state.content.lock().expect("no test panics here");
        let key = (repository.to_owned(), name.to_owned());
        content.manifests.get(&key).map(|(_, bytes)| bytes.clone())
    }

    /// Forgets all uploads that have begun.
    pub(crate) fn forget_uploads(&self) {
        let mut content = self.state.content.lock().expect("no test panics here");
        content.uploads.clear();
    }
}

/// A body that a client sends when it is told to: who refuses it never reads it.
struct Awaited<R> {
    stream: TcpStream,
    is_awaited: bool,
    inner: R,
}

impl<R: Read> Read for Awaited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if std::mem::take(&mut self.is_awaited) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.inner.read(buffer)
    }
}

impl State {
    fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let Some(mut asked) = read_head(&mut reader)? else {
            return Ok(());
        };
        {
            let mut all = self.asked.lock().expect("no test panics here");
            asked.number = all.len();
            all.push(asked.clone());
        }
        let fault = (self.judge)(&asked);
        let is_head = asked.method == "HEAD";
        let taken = match &fault {
            Some(Fault::Reply(reply)) => {
                write_reply(&mut stream, reply.clone(), is_head)?;
                // Closing with something unread would take the answer away again.
                stream.shutdown(Shutdown::Write)?;
                stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                let mut rest = (&mut reader).take(1 << 20);
                return std::io::copy(&mut rest, &mut std::io::sink()).map(drop);
            }
            Some(Fault::CutAfter(count) | Fault::StopAfter(count)) => *count,
            _ => asked.length(),
        };
        let mut body = Awaited {
            stream: stream.try_clone()?,
            is_awaited: asked.header("expect").is_some(),
            inner: (&mut reader).take(taken as u64),
        };
        let mut reply = self.answer(&asked, &mut body)?;
        match fault {
            Some(Fault::CutAfter(_) | Fault::LoseAnswer) => return Ok(()),
            Some(Fault::StopAfter(_)) => {
                // The end of the client ends it.
                let mut rest = [0; 1];
                while stream.peek(&mut rest)? > 0 {
                    thread::sleep(Duration::from_millis(10));
                }
                return Ok(());
            }
            Some(Fault::Header(name, value)) => {
                if let Reply::Whole(_, headers, _) = &mut reply {
                    headers.retain(|(known, _)| *known != name);
                    headers.push((name, value));
                }
            }
            Some(Fault::Reply(_)) | None => {}
        }
        write_reply(&mut stream, reply, is_head)
    }

    fn answer(&self, asked: &Asked, body: &mut impl Read) -> std::io::Result<Reply> {
        let path = asked.target.split('?').next().unwrap_or_default();
        let Some(path) = path.strip_prefix("/v2/").filter(|path| !path.is_empty()) else {
            return Ok(Reply::status(200));
        };
        let method = asked.method.as_str();
        for (kind, part) in [
            ("upload", "/blobs/uploads/"),
            ("blob", "/blobs/"),
            ("manifest", "/manifests/"),
            ("referrers", "/referrers/"),
        ] {
            let Some((repository, name)) = path.split_once(part) else {
                continue;
            };
            return match (kind, method) {
                ("upload", "POST") => Ok(self.begin(repository, &asked.target)),
                ("upload", "PATCH") => self.chunk(repository, name, asked, body),
                ("upload", "PUT") => self.finish(repository, name, asked, body),
                ("upload", "GET") => Ok(self.progress(repository, name, 204)),
                ("blob", "HEAD" | "GET") => Ok(self.blob(repository, name)),
                ("manifest", "HEAD" | "GET") => Ok(self.read_manifest(repository, name)),
                ("manifest", "PUT") => self.take_manifest(repository, name, asked, body),
                ("referrers", "GET") if self.habits.referrers => {
                    Ok(self.referrers(repository, name))
                }
                _ => Ok(Reply::status(405)),
            };
        }
        Ok(Reply::status(404))
    }

    fn begin(&self, repository: &str, target: &str) -> Reply {
        let mut content = self.content.lock().expect("no test panics here");
        if let (Some(digest), Some(from)) = (query(target, "mount="), query(target, "from="))
            && self.habits.mounts
            && let Some(blob) = content.blobs.get(&(from, digest.clone())).cloned()
        {
            content
                .blobs
                .insert((repository.to_owned(), digest.clone()), blob);
            return Reply::with(201, "Docker-Content-Digest", digest);
        }
        content.begun += 1;
        let id = format!("upload-{}", content.begun);
        content.uploads.insert(id.clone(), Vec::new());
        drop(content);
        self.progress(repository, &id, 202)
    }

    /// Where an upload is and what it has.
    fn progress(&self, repository: &str, id: &str, status: u16) -> Reply {
        let content = self.content.lock().expect("no test panics here");
        let Some(upload) = content.uploads.get(id) else {
            return error(404, "BLOB_UPLOAD_UNKNOWN");
        };
        let path = format!("/v2/{repository}/blobs/uploads/{id}");
        let place = match self.habits.absolute {
            true => format!("http://{}{path}?_state={}", self.address, upload.len()),
            false => path,
        };
        let range = format!("0-{}", upload.len().saturating_sub(1));
        let headers = vec![("Location", place), ("Range", range)];
        Reply::Whole(status, headers, Vec::new())
    }

    fn chunk(
        &self,
        repository: &str,
        id: &str,
        asked: &Asked,
        body: &mut impl Read,
    ) -> std::io::Result<Reply> {
        if !self.habits.chunks {
            return Ok(error(405, "UNSUPPORTED"));
        }
        let known = {
            let content = self.content.lock().expect("no test panics here");
            content.uploads.get(id).map(Vec::len)
        };
        let Some(known) = known else {
            return Ok(error(404, "BLOB_UPLOAD_UNKNOWN"));
        };
        let range = asked.header("content-range").unwrap_or_default();
        if range != format!("{known}-{}", known + asked.length() - 1) {
            return Ok(self.progress(repository, id, 416));
        }
        self.append(id, body)?;
        Ok(self.progress(repository, id, 202))
    }

    fn append(&self, id: &str, body: &mut impl Read) -> std::io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = body.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.uploaded.fetch_add(count, Ordering::SeqCst);
            let mut content = self.content.lock().expect("no test panics here");
            if let Some(upload) = content.uploads.get_mut(id) {
                upload.extend_from_slice(&buffer[..count]);
            }
        }
    }

    fn finish(
        &self,
        repository: &str,
        id: &str,
        asked: &Asked,
        body: &mut impl Read,
    ) -> std::io::Result<Reply> {
        self.append(id, body)?;
        let mut content = self.content.lock().expect("no test panics here");
        let Some(upload) = content.uploads.remove(id) else {
            return Ok(error(404, "BLOB_UPLOAD_UNKNOWN"));
        };
        let digest = query(&asked.target, "digest=").unwrap_or_default();
        if content_of(&upload[..]).1 != digest {
            return Ok(error(400, "DIGEST_INVALID"));
        }
        content
            .blobs
            .insert((repository.to_owned(), digest.clone()), upload);
        Ok(Reply::with(201, "Docker-Content-Digest", digest))
    }

    fn blob(&self, repository: &str, digest: &str) -> Reply {
        let content = self.content.lock().expect("no test panics here");
        match content
            .blobs
            .get(&(repository.to_owned(), digest.to_owned()))
        {
            Some(bytes) => Reply::Whole(200, Vec::new(), bytes.clone()),
            None => error(404, "BLOB_UNKNOWN"),
        }
    }

    fn read_manifest(&self, repository: &str, name: &str) -> Reply {
        let content = self.content.lock().expect("no test panics here");
        let key = (repository.to_owned(), name.to_owned());
        match content.manifests.get(&key) {
            Some((media_type, bytes)) => Reply::Whole(
                200,
                vec![
                    ("Content-Type", media_type.clone()),
                    ("Docker-Content-Digest", content_of(&bytes[..]).1),
                ],
                bytes.clone(),
            ),
            None => error(404, "MANIFEST_UNKNOWN"),
        }
    }

    fn take_manifest(
        &self,
        repository: &str,
        name: &str,
        asked: &Asked,
        body: &mut impl Read,
    ) -> std::io::Result<Reply> {
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes)?;
        let Ok(document) = serde_json::from_slice::<Value>(&bytes) else {
            return Ok(error(400, "MANIFEST_INVALID"));
        };
        let digest = content_of(&bytes[..]).1;
        let mut content = self.content.lock().expect("no test panics here");
        let key = |name: &Value| {
            let name = name["digest"].as_str().unwrap_or_default();
            (repository.to_owned(), name.to_owned())
        };
        let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
        let mut blobs = list("layers");
        blobs.extend(document.get("config").cloned());
        blobs.retain(|blob| !blob["mediaType"].to_string().contains("nondistributable"));
        let has_all = blobs
            .iter()
            .all(|blob| content.blobs.contains_key(&key(blob)))
            && list("manifests")
                .iter()
                .all(|entry| content.manifests.contains_key(&key(entry)));
        if !has_all {
            return Ok(error(404, "MANIFEST_BLOB_UNKNOWN"));
        }
        let media_type = asked.header("content-type").unwrap_or_default().to_owned();
        for name in [name, &digest] {
            let kept = (media_type.clone(), bytes.clone());
            content
                .manifests
                .insert((repository.to_owned(), name.to_owned()), kept);
        }
        let mut headers = vec![("Docker-Content-Digest", digest)];
        if let Some(subject) = document["subject"]["digest"].as_str()
            && self.habits.referrers
        {
            headers.push(("OCI-Subject", subject.to_owned()));
        }
        Ok(Reply::Whole(201, headers, Vec::new()))
    }

    fn referrers(&self, repository: &str, subject: &str) -> Reply {
        let content = self.content.lock().expect("no test panics here");
        let entries = content
            .manifests
            .iter()
            .filter_map(|((owner, name), kept)| {
                let (media_type, bytes) = kept;
                let document: Value = serde_json::from_slice(bytes).ok()?;
                let belongs = owner == repository
                    && name.starts_with("sha256:")
                    && document["subject"]["digest"] == subject;
                belongs
                    .then(|| json!({"mediaType": media_type, "digest": name, "size": bytes.len()}))
            });
        let entries: Vec<Value> = entries.collect();
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
        let headers = vec![("Content-Type", media_type.to_owned())];
        Reply::Whole(200, headers, index.to_string().into_bytes())
    }
}

fn error(status: u16, code: &str) -> Reply {
    let body = json!({"errors": [{"code": code, "message": "no"}]});
    Reply::Whole(status, Vec::new(), body.to_string().into_bytes())
}

/// The value of `name=` in the query.
fn query(target: &str, name: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name))?;
    Some(value.replace("%2F", "/"))
}
