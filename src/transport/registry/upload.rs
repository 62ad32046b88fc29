//! Uploads: one blob on its way into a repository.
//!
//! Distribution spec, "Pushing Blobs". A blob of one chunk goes with `POST` and `PUT`; a larger one
//! in chunks with `PATCH`, so that what a cut connection or a killed process has sent is not sent
//! again: the registry is asked how much it has. Where that cannot be had, the blob begins anew:
//! docker-registry throws an upload away that was cut within a chunk, others take no chunks at
//! all, and then one `PUT` carries the whole blob as a stream.

use std::io;
use std::time::Duration;

use ureq::http::Method;

use crate::oci::{BlobError, BlobSource, Descriptor};
use crate::transport::error::TransportError;
use crate::transport::http::{Opener, Passing, Payload, Response, Retry, Url, query_encoded};
use crate::transport::registry::client::{Access, Place};
use crate::transport::registry::error::RegistryError;
use crate::transport::registry::outgoing::{Counter, Outgoing};
use crate::transport::registry::session::{Session, SessionRecord, received};
use crate::transport::registry::target::{Ask, Target};

/// One blob that a repository does not have yet.
pub(crate) struct Upload<'a> {
    target: &'a Target<'a>,
    blob: &'a Descriptor,
    outgoing: Outgoing<'a>,
    record: SessionRecord<'a>,
    /// The most bytes of one request.
    chunk: u64,
    /// Whether the registry takes no chunks.
    whole: bool,
    /// Whether it went on from where the registry said: then its bytes may be others than ours.
    resumed: bool,
    /// Whether something went wrong: then the registry is asked whether it wants the bytes, because
    /// one that says no and closes the connection while they are sent is not heard.
    cautious: bool,
    /// How often the registry wanted other bytes than it had said.
    contradictions: u32,
}

/// Why an upload did not get on.
enum Trouble {
    /// It may do so after a while, from where the registry says.
    Passing(Box<TransportError>, Option<Duration>),
    /// It may do so from the beginning.
    Gone(Box<TransportError>),
    /// It never will.
    Final(Box<TransportError>),
}

/// What comes of asking for a mount.
enum Mounting {
    Mounted,
    /// The registry rather wants the bytes, and has begun an upload for them.
    Begun(Session),
    Refused,
}

/// How a blob came into the repository.
pub(crate) struct Uploaded {
    /// The repository that it was mounted from.
    pub(crate) mounted_from: Option<String>,
    /// How many of its bytes were sent.
    pub(crate) sent: u64,
}

impl From<RegistryError> for Trouble {
    fn from(error: RegistryError) -> Trouble {
        let passing = match &error {
            RegistryError::Http { source, .. } => source.passing(),
            _ => None,
        };
        match passing {
            Some(Passing { asked }) => Trouble::Passing(boxed(error), asked),
            None => Trouble::Final(boxed(error)),
        }
    }
}

impl<'a> Upload<'a> {
    pub(crate) fn new(
        target: &'a Target<'a>,
        blob: &'a Descriptor,
        bytes: &'a dyn BlobSource,
        counter: &'a Counter<'a>,
    ) -> Result<Upload<'a>, RegistryError> {
        let base = target.client.base(target.endpoint)?;
        let Target {
            client,
            endpoint,
            store,
            ..
        } = target;
        Ok(Upload {
            target,
            blob,
            outgoing: Outgoing::new(bytes, blob, counter),
            record: SessionRecord::open(store, endpoint, base, &blob.digest),
            chunk: client.settings().chunk.get(),
            whole: false,
            resumed: false,
            cautious: false,
            contradictions: 0,
        })
    }

    /// Brings the blob there: from `other`, a repository of the same registry, or by its bytes.
    pub(crate) fn run(mut self, other: Option<&str>) -> Result<Uploaded, TransportError> {
        let mut session = self.record.recall();
        if let Some(other) = other.filter(|_| session.is_none()) {
            match self.mount(other)? {
                Mounting::Mounted => {
                    self.outgoing.reach(self.blob.size);
                    return Ok(Uploaded {
                        mounted_from: Some(other.to_owned()),
                        sent: 0,
                    });
                }
                Mounting::Begun(begun) => session = Some(begun),
                Mounting::Refused => {}
            }
        }
        self.transfer(session)?;
        self.record.forget();
        self.outgoing.reach(self.blob.size);
        Ok(Uploaded {
            mounted_from: None,
            sent: self.outgoing.sent(),
        })
    }

    /// Tries until it is done or nothing helps. Patience is new whenever bytes have arrived.
    fn transfer(&mut self, mut session: Option<Session>) -> Result<(), TransportError> {
        let patience = self.target.client.settings().http.patience.clone();
        let (mut troubles, mut beginnings, mut furthest) = (0, 0, 0);
        loop {
            let trouble = match self.advance(&mut session) {
                Ok(()) => return Ok(()),
                Err(trouble) => trouble,
            };
            let offset = session.as_ref().map_or(0, |session| session.offset);
            if offset > furthest {
                (troubles, furthest) = (0, offset);
            }
            troubles += 1;
            self.cautious = true;
            let (error, asked) = match trouble {
                Trouble::Final(error) => return Err(*error),
                Trouble::Passing(error, asked) => (error, asked),
                Trouble::Gone(error) => {
                    self.record.forget();
                    (session, self.resumed, furthest) = (None, false, 0);
                    beginnings += 1;
                    troubles = troubles.max(beginnings);
                    (error, None)
                }
            };
            if let Some(session) = &mut session {
                session.is_certain = false;
            }
            match patience.pause_before(troubles + 1, asked) {
                Some(pause) => std::thread::sleep(pause),
                None => return Err(*error),
            }
        }
    }

    /// Goes on with the upload, or begins it, to its end.
    fn advance(&mut self, session: &mut Option<Session>) -> Result<(), Trouble> {
        if let Some(known) = session.as_ref().filter(|session| !session.is_certain) {
            // The answer that was lost may have been the last one.
            let Descriptor { digest, size, .. } = self.blob;
            if self.target.has_blob(digest, *size)? {
                return Ok(());
            }
            *session = self.where_it_is(known)?;
            self.resumed = session.as_ref().is_some_and(|session| session.offset > 0);
        }
        if self.whole && session.as_ref().is_some_and(|session| session.offset > 0) {
            *session = None;
        }
        let session = match session {
            Some(session) => session,
            None => {
                self.resumed = false;
                session.insert(self.begin()?)
            }
        };
        self.outgoing.reach(session.offset);
        let size = self.blob.size;
        if self.whole || (session.offset == 0 && size <= self.chunk) {
            return self.finish(session, size);
        }
        while session.offset < size {
            self.send_chunk(session)?;
        }
        self.finish(session, 0)
    }

    /// Asks for the blob of another repository.
    fn mount(&mut self, other: &str) -> Result<Mounting, TransportError> {
        let target = self.target;
        let digest = self.blob.digest;
        let from = query_encoded(other);
        let place = format!("blobs/uploads/?mount={digest}&from={from}");
        let access = [
            target.access[0].clone(),
            Access {
                repository: other.to_owned(),
                actions: "pull",
            },
        ];
        let ask = Ask::new(Method::POST, Place::Repository(&place));
        let answer = match target.ask_with(ask, &access) {
            Ok(answer) => answer,
            // Who may not read there can still send the bytes.
            Err(RegistryError::Unauthorized { .. }) => return Ok(Mounting::Refused),
            Err(error) => return Err(error.into()),
        };
        match answer.status() {
            201 => {
                target.check_digest(&answer, &digest, || self.action("mount"))?;
                Ok(Mounting::Mounted)
            }
            202 => Ok(Mounting::Begun(self.begun(&answer)?)),
            _ => Ok(Mounting::Refused),
        }
    }

    /// Begins an upload.
    fn begin(&mut self) -> Result<Session, Trouble> {
        let ask = Ask::new(Method::POST, Place::Repository("blobs/uploads/"));
        let answer = self.target.ask(ask)?;
        if answer.status() != 202 {
            return Err(self.refused("begin to send", answer));
        }
        let session = self.begun(&answer)?;
        if self.blob.size > self.chunk && !self.whole {
            self.record.remember(&session);
        }
        Ok(session)
    }

    fn begun(&mut self, answer: &Response) -> Result<Session, RegistryError> {
        let action = self.action("begin to send");
        let place = self.target.location(answer, &action)?;
        let place = place.ok_or_else(|| RegistryError::Misbehaves {
            action,
            problem: "it does not say where to send it".to_owned(),
        })?;
        // The least that a registry takes at once, where its storage cannot do with less.
        let least = answer.header("oci-chunk-min-length");
        let least = least.and_then(|least| least.trim().parse().ok());
        self.chunk = self.chunk.max(least.unwrap_or(0));
        Ok(Session {
            place,
            offset: 0,
            is_certain: true,
        })
    }

    /// Asks how far an upload has come; `None` if the registry knows no such upload.
    fn where_it_is(&self, session: &Session) -> Result<Option<Session>, Trouble> {
        let place = Place::Absolute(session.place.clone());
        let answer = self.target.ask(Ask::new(Method::GET, place))?;
        if !answer.is_success() {
            return match answer.passing() {
                Some(_) => Err(self.refused("go on with", answer)),
                None => Ok(None),
            };
        }
        let offset = answer.header("range").and_then(received).unwrap_or(0);
        let place = self.target.location(&answer, &self.action("go on with"))?;
        Ok((offset <= self.blob.size).then(|| Session {
            place: place.unwrap_or_else(|| session.place.clone()),
            offset,
            is_certain: true,
        }))
    }

    /// Sends the next chunk.
    fn send_chunk(&mut self, session: &mut Session) -> Result<(), Trouble> {
        let offset = session.offset;
        let count = self.chunk.min(self.blob.size - offset);
        let last = offset + count - 1;
        let headers = vec![
            ("content-type", "application/octet-stream".to_owned()),
            ("content-range", format!("{offset}-{last}")),
        ];
        let place = session.place.clone();
        let answer = self.send(Method::PATCH, place, headers, offset, count)?;
        match answer.status() {
            200..=299 => {}
            416 => return Err(self.elsewhere(answer)),
            400..=499 | 501 if !matches!(answer.status(), 403 | 404 | 408 | 410 | 413 | 429) => {
                self.whole = true;
                return Err(self.gone(answer));
            }
            404 | 410 => return Err(self.gone(answer)),
            _ => return Err(self.refused("send a part of", answer)),
        }
        let range = answer.header("range").and_then(received);
        let reached = range.unwrap_or(offset + count);
        if reached <= offset || reached > offset + count {
            let problem =
                format!("after bytes {offset}-{last} it says that it has {reached} bytes");
            let action = self.action("send a part of");
            return Err(Trouble::Gone(boxed(RegistryError::Misbehaves {
                action,
                problem,
            })));
        }
        let next = self.target.location(&answer, &self.action("send"))?;
        session.place = next.unwrap_or_else(|| session.place.clone());
        session.offset = reached;
        self.record.remember(session);
        Ok(())
    }

    /// Ends an upload, with all the blob's bytes or with none.
    fn finish(&mut self, session: &mut Session, count: u64) -> Result<(), Trouble> {
        let digest = self.blob.digest;
        let place = session.place.clone();
        let place = place.with_query("digest", &digest.to_string());
        let headers = vec![("content-type", "application/octet-stream".to_owned())];
        let answer = self.send(Method::PUT, place, headers, 0, count)?;
        match answer.status() {
            200..=299 => {
                let what = || self.action("send");
                Ok(self.target.check_digest(&answer, &digest, what)?)
            }
            404 | 410 => Err(self.gone(answer)),
            416 => Err(self.elsewhere(answer)),
            400 => {
                self.check_own_bytes()
                    .map_err(|error| Trouble::Final(Box::new(error)))?;
                match self.resumed {
                    true => Err(self.gone(answer)),
                    false => Err(self.refused("send", answer)),
                }
            }
            _ => Err(self.refused("send", answer)),
        }
    }

    fn send(
        &self,
        method: Method,
        place: Url,
        mut headers: Vec<(&'static str, String)>,
        offset: u64,
        count: u64,
    ) -> Result<Response, Trouble> {
        if self.cautious && count > 0 {
            headers.push(("expect", "100-continue".to_owned()));
        }
        let open = || self.outgoing.open(offset, count);
        let open: &Opener<'_> = &open;
        let answer = self.target.ask(Ask {
            method,
            place: Place::Absolute(place),
            headers,
            payload: match count {
                0 => Payload::Empty,
                size => Payload::Stream { size, open },
            },
            // Where to go on must be asked first.
            retry: Retry::No,
        });
        match self.outgoing.failure() {
            Some(source) => Err(Trouble::Final(Box::new(self.unreadable(source)))),
            None => Ok(answer?),
        }
    }

    /// A registry that finds other bytes than were promised may be right.
    fn check_own_bytes(&self) -> Result<(), TransportError> {
        let digest = self.blob.digest;
        let found = self
            .outgoing
            .digest()
            .and_then(|found| match found == digest {
                true => Ok(()),
                false => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    BlobError::Digest { digest, found },
                )),
            });
        found.map_err(|source| self.unreadable(source))
    }

    fn unreadable(&self, source: io::Error) -> TransportError {
        TransportError::Store {
            digest: self.blob.digest,
            source,
        }
    }

    /// The registry is somewhere else than we thought: it is asked, and if that does not help the
    /// blob begins anew.
    fn elsewhere(&mut self, answer: Response) -> Trouble {
        let error = boxed(RegistryError::refused(
            self.action("send a part of"),
            answer,
        ));
        self.contradictions += 1;
        match self.contradictions % 2 {
            1 => Trouble::Passing(error, None),
            _ => Trouble::Gone(error),
        }
    }

    fn gone(&self, answer: Response) -> Trouble {
        Trouble::Gone(boxed(RegistryError::refused(self.action("send"), answer)))
    }

    fn refused(&self, doing: &str, answer: Response) -> Trouble {
        let passing = answer.passing();
        let error = boxed(RegistryError::refused(self.action(doing), answer));
        match passing {
            Some(Passing { asked }) => Trouble::Passing(error, asked),
            None => Trouble::Final(error),
        }
    }

    fn action(&self, doing: &str) -> String {
        format!(
            "{doing} blob {} to {}",
            self.blob.digest,
            self.target.name()
        )
    }
}

fn boxed(error: RegistryError) -> Box<TransportError> {
    Box::new(error.into())
}
