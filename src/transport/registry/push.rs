//! Push: an image goes into a repository, under all its tags.
//!
//! What is there already is not sent; what another repository of the registry has is mounted. A
//! push that is interrupted at any instant and done again ends right: nothing gets a name before
//! all that it points at is there.

use serde::Serialize;
use ureq::http::Method;

use crate::oci::{Descriptor, Digest, Reference};
use crate::store::Store;
use crate::transport::error::TransportError;
use crate::transport::http::{Payload, Response, Traffic};
use crate::transport::parcel::{Paper, Parcel};
use crate::transport::registry::client::{Place, RegistryClient};
use crate::transport::registry::error::RegistryError;
use crate::transport::registry::outgoing::{Counter, Progress};
use crate::transport::registry::target::{Ask, Target};
use crate::transport::registry::upload::Upload;
use crate::transport::registry::{known, parallel, referrers};

/// A repository, and the tags that the image gets there. Without any it is pushed by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Registry and repository; a tag or digest in it means nothing.
    pub repository: Reference,
    /// The tags.
    pub tags: Vec<String>,
}

/// What came of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the manifest or index, as the registry has it.
    pub digest: Digest,
    /// The blobs, layers first.
    pub blobs: Vec<PushedBlob>,
    /// How many manifests and indexes were sent; one that gets two tags is sent twice.
    pub documents: usize,
    /// Bytes on the wire, everything in all.
    pub traffic: Traffic,
}

/// One blob of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PushedBlob {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// How it came there.
    pub delivery: Delivery,
    /// The repository that it was mounted from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounted_from: Option<String>,
    /// How many of its bytes were sent: fewer than it has if an earlier push had sent some, more if
    /// some had to be sent again.
    pub sent: u64,
}

/// How a blob came into a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It was there.
    Present,
    /// The registry took it from another repository of its own.
    Mounted,
    /// Its bytes were sent.
    Sent,
}

/// What is told while a push runs, by several threads.
#[derive(Debug, Clone, Copy)]
pub enum PushNews<'a> {
    /// How far the bytes have come.
    Progress(Progress),
    /// A blob is there.
    Blob(&'a PushedBlob),
}

/// Who is told.
pub type PushWatch<'a> = &'a (dyn Fn(PushNews<'_>) + Sync);

impl RegistryClient {
    /// Puts an image into a repository. `store` keeps how far uploads have come, and which
    /// repositories have which blobs.
    ///
    /// # Errors
    /// No network, a registry that refuses or misbehaves, blobs that are missing or damaged here.
    pub fn push(
        &self,
        parcel: &Parcel<'_>,
        to: &Destination,
        store: &Store,
        watch: PushWatch<'_>,
    ) -> Result<Pushed, TransportError> {
        let name = to.repository.repository();
        if self.is_offline() {
            return Err(RegistryError::OfflinePush(name).into());
        }
        let before = self.http.traffic();
        let endpoint = &self.itself(&to.repository)?;
        let push = Push {
            target: Target::new(self, endpoint, store),
            parcel,
            watch,
        };
        let blobs = push.blobs()?;
        let documents = push.papers(&to.tags)?;
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
        // What cannot be noted costs a later push its mounts, and nothing else.
        let _ = known::remember_pushed(store, endpoint, &digests);
        Ok(Pushed {
            digest: parcel.root().digest,
            blobs,
            documents,
            traffic: self.http.traffic().since(before),
        })
    }
}

struct Push<'a> {
    target: Target<'a>,
    parcel: &'a Parcel<'a>,
    watch: PushWatch<'a>,
}

impl Push<'_> {
    /// Brings all blobs there, configs after layers: whoever has the config has the image nearly.
    fn blobs(&self) -> Result<Vec<PushedBlob>, TransportError> {
        let (layers, configs) = (self.parcel.layers(), self.parcel.configs());
        let all: Vec<&Descriptor> = layers.iter().chain(configs).collect();
        let threads = self.target.client.settings().parallel.get();
        let is_there = |blob: &&Descriptor| self.target.has_blob(&blob.digest, blob.size);
        let there = parallel::each(&all, threads, is_there)?;
        let missing = all.iter().zip(&there).filter(|(_, there)| !**there);
        let total = missing.clone().map(|(blob, _)| blob.size);
        let total = total.fold(0, u64::saturating_add);
        let places = match there.contains(&false) {
            false => Default::default(),
            // Without what is known everything is sent.
            true => {
                known::other_places(self.target.client, self.target.store, self.target.endpoint)
                    .unwrap_or_default()
            }
        };
        let tell = |progress| (self.watch)(PushNews::Progress(progress));
        let counter = Counter::new(total, &tell);
        let bring = |(blob, there): &(&Descriptor, bool)| {
            let other = places.get(&blob.digest).map(String::as_str);
            self.bring(blob, *there, other, &counter)
        };
        let all: Vec<(&Descriptor, bool)> = all.into_iter().zip(there).collect();
        let (layers, configs) = all.split_at(layers.len());
        let mut done = parallel::each(layers, threads, bring)?;
        done.extend(parallel::each(configs, threads, bring)?);
        Ok(done)
    }

    fn bring(
        &self,
        blob: &Descriptor,
        is_there: bool,
        other: Option<&str>,
        counter: &Counter<'_>,
    ) -> Result<PushedBlob, TransportError> {
        let mut pushed = PushedBlob {
            digest: blob.digest,
            size: blob.size,
            delivery: Delivery::Present,
            mounted_from: None,
            sent: 0,
        };
        if !is_there {
            let upload = Upload::new(&self.target, blob, self.parcel.blobs(), counter)?;
            let uploaded = upload.run(other).map_err(|error| match error {
                TransportError::Store { digest, source } => self.parcel.damaged(&digest, source),
                error => error,
            })?;
            pushed.delivery = match uploaded.mounted_from {
                Some(_) => Delivery::Mounted,
                None => Delivery::Sent,
            };
            (pushed.mounted_from, pushed.sent) = (uploaded.mounted_from, uploaded.sent);
        }
        (self.watch)(PushNews::Blob(&pushed));
        Ok(pushed)
    }

    /// Puts all manifests and indexes there, what is asked for last; gives how many were sent.
    fn papers(&self, tags: &[String]) -> Result<usize, TransportError> {
        let root = self.parcel.root().digest;
        let (roots, below): (Vec<&Paper>, Vec<&Paper>) = self
            .parcel
            .papers()
            .iter()
            .partition(|paper| paper.descriptor.digest == root);
        let mut sent = 0;
        for paper in below {
            let name = paper.descriptor.digest.to_string();
            sent += usize::from(self.paper(paper, &name)?);
        }
        for paper in roots {
            if tags.is_empty() {
                sent += usize::from(self.paper(paper, &root.to_string())?);
            }
            for tag in tags {
                sent += usize::from(self.paper(paper, tag)?);
            }
        }
        Ok(sent)
    }

    /// Puts a document there under a name, unless it has it; gives whether it was sent.
    fn paper(&self, paper: &Paper, name: &str) -> Result<bool, TransportError> {
        let Paper {
            descriptor,
            subject,
        } = paper;
        // Only sending it tells whether the registry lists it with its subject.
        if subject.is_none() && self.names(name, descriptor)? {
            return Ok(false);
        }
        let bytes = self.parcel.paper(paper)?;
        let place = format!("manifests/{name}");
        let mut ask = Ask::new(Method::PUT, Place::Repository(&place));
        let media_type = descriptor.media_type.as_str().to_owned();
        ask.headers.push(("content-type", media_type));
        ask.payload = Payload::Bytes(&bytes);
        let answer = self.target.ask(ask)?;
        let action = || format!("write manifest {name} of {}", self.target.name());
        if !answer.is_success() {
            return Err(RegistryError::refused(action(), answer).into());
        }
        self.target
            .check_digest(&answer, &descriptor.digest, action)?;
        if let Some(subject) = subject.filter(|_| !is_listed(&answer)) {
            referrers::list(&self.target, &subject, descriptor, &bytes)?;
        }
        Ok(true)
    }

    /// Whether a name means a document already.
    fn names(&self, name: &str, descriptor: &Descriptor) -> Result<bool, TransportError> {
        let place = format!("manifests/{name}");
        let mut ask = Ask::new(Method::HEAD, Place::Repository(&place));
        let accepted = descriptor.media_type.as_str().to_owned();
        ask.headers.push(("accept", accepted));
        let answer = self.target.ask(ask)?;
        let said = answer.header("docker-content-digest").map(str::trim);
        let is_this = said.is_some_and(|said| said == descriptor.digest.to_string());
        Ok(answer.is_success() && is_this)
    }
}

/// Whether the registry keeps the list of referrers itself.
fn is_listed(answer: &Response) -> bool {
    answer.header("oci-subject").is_some()
}
