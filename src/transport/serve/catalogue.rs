//! The catalogue: which names lead to which documents, and what refers to what.
//!
//! Comes in: the named entries of a place, and its documents. Goes out: maps in memory in which
//! requests are looked up. A document that is missing or damaged is left out and noted; images of
//! one platform out of an index of many are nothing unusual.
//!
//! **How names become repositories.** The image `docker.io/acme/app:1.4.0` is `acme/app:1.4.0`
//! here, which is what a mirror of docker.io is asked for, and `docker.io/acme/app:1.4.0`, so that
//! equal names of two registries can be told apart. `docker.io/library/app` is `app`, too. What
//! has a tag and no name is called after its place, and so is the one image that has neither, with
//! the tag `latest`. Documents and blobs are served by their digests under any name.

use std::collections::BTreeMap;
use std::io;

use serde::Deserialize;

use crate::oci::document::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME};
use crate::oci::reference::is_tag;
use crate::oci::{Descriptor, Digest, MediaType, Reference, VerifyingReader};
use crate::transport::disk;
use crate::transport::layout::{LayoutFiles, MOST_DOCUMENT};
use crate::transport::select;
use crate::transport::serve::ask::Page;

/// More documents than any place has; what comes after them is not served by its name.
const MOST_DOCUMENTS: usize = 50_000;

/// What is served, by names and digests.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    /// By repository, then by tag.
    repositories: BTreeMap<String, BTreeMap<String, Digest>>,
    /// The same under longer names, which lists leave out.
    aliases: BTreeMap<String, BTreeMap<String, Digest>>,
    /// Manifests and indexes that some name leads to.
    documents: BTreeMap<Digest, Descriptor>,
    /// The documents that have this one as their subject.
    referrers: BTreeMap<Digest, BTreeMap<Digest, Descriptor>>,
    /// How long blobs are said to be; `None` where that is said in two ways.
    sizes: BTreeMap<Digest, Option<u64>>,
    /// What is wrong with the place.
    pub(crate) notes: Vec<String>,
}

/// A document with the names that lead to it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) descriptor: Descriptor,
    pub(crate) names: Vec<ServedName>,
}

/// One name: the repository and others for it, and the tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServedName {
    repository: String,
    aliases: Vec<String>,
    tag: String,
}

/// What is looked for in manifests and indexes.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

impl ServedName {
    /// The name of a full reference; `None` if it has no tag.
    pub(crate) fn of(reference: &Reference) -> Option<ServedName> {
        let (path, domain) = (reference.path(), reference.domain());
        let tag = reference.tag()?.to_owned();
        let library = path
            .strip_prefix("library/")
            .filter(|_| domain == "docker.io");
        let mut aliases = vec![reference.repository()];
        aliases.extend(library.map(|_| path.to_owned()));
        Some(ServedName {
            repository: library.unwrap_or(path).to_owned(),
            aliases,
            tag,
        })
    }

    fn in_place(place: &str, tag: &str) -> ServedName {
        ServedName {
            repository: place.to_owned(),
            aliases: Vec::new(),
            tag: tag.to_owned(),
        }
    }
}

/// The entries of a layout's index; `place` is the repository of what has no name of its own.
pub(crate) fn layout_entries(manifests: Vec<Descriptor>, place: &str) -> Vec<Entry> {
    let unnamed = manifests.iter();
    let unnamed = unnamed.filter(|entry| select::names(entry).next().is_none());
    let is_alone = unnamed.count() == 1;
    let entry = |descriptor: Descriptor| {
        let annotation = |key| descriptor.annotations.get(key).map(String::as_str);
        let full = annotation(ANNOTATION_IMAGE_NAME).and_then(select::full_name);
        let said = annotation(ANNOTATION_REF_NAME);
        let mut names: Vec<ServedName> = full.iter().filter_map(ServedName::of).collect();
        names.extend(match (said, &full) {
            (None, Some(_)) => None,
            (None, None) => is_alone.then(|| ServedName::in_place(place, "latest")),
            (Some(said), _) if said.contains(['/', ':']) => {
                select::full_name(said).as_ref().and_then(ServedName::of)
            }
            (Some(tag), Some(full)) => full.with_tag(tag).ok().as_ref().and_then(ServedName::of),
            (Some(tag), None) => is_tag(tag).then(|| ServedName::in_place(place, tag)),
        });
        Entry { descriptor, names }
    };
    manifests.into_iter().map(entry).collect()
}

impl Catalogue {
    /// Reads all documents that the entries lead to.
    pub(crate) fn of(entries: Vec<Entry>, files: &dyn LayoutFiles) -> Catalogue {
        let mut catalogue = Catalogue::default();
        let mut open = Vec::new();
        for entry in entries {
            for name in &entry.names {
                catalogue.enter(name, entry.descriptor.digest);
            }
            open.push(entry.descriptor);
        }
        // A document is read once, so indexes that lead to themselves, and deep ones, end.
        while let Some(descriptor) = open.pop() {
            if catalogue.documents.contains_key(&descriptor.digest) {
                continue;
            }
            if catalogue.documents.len() == MOST_DOCUMENTS {
                let note = format!("only the first {MOST_DOCUMENTS} documents are served");
                catalogue.notes.push(note);
                break;
            }
            match read_document(&descriptor, files) {
                Ok(Some(bytes)) => open.extend(catalogue.learn(descriptor, &bytes)),
                Ok(None) => {}
                Err(error) => {
                    let note = format!("{} is not served: {error}", descriptor.digest);
                    catalogue.notes.push(note);
                }
            }
        }
        catalogue.forget_dead_tags();
        catalogue
    }

    /// Enters a name. The first document of a name keeps it.
    fn enter(&mut self, name: &ServedName, digest: Digest) {
        let (repository, tag) = (&name.repository, &name.tag);
        let tags = self.repositories.entry(repository.clone()).or_default();
        let here = *tags.entry(tag.clone()).or_insert(digest);
        let mut full = None;
        for alias in &name.aliases {
            let tags = self.aliases.entry(alias.clone()).or_default();
            let first = *tags.entry(tag.clone()).or_insert(digest);
            full.get_or_insert((alias, first));
        }
        let (shown, first) = full.unwrap_or((repository, here));
        if first != digest {
            let note = format!("{shown}:{tag} is there twice; {first} is served");
            self.notes.push(note);
        } else if here != digest {
            let note = format!("{repository}:{tag} is another image; {shown}:{tag} is this one");
            self.notes.push(note);
        }
    }

    /// Takes a document in; gives those that it leads to.
    fn learn(&mut self, descriptor: Descriptor, bytes: &[u8]) -> Vec<Descriptor> {
        let digest = descriptor.digest;
        let below = match serde_json::from_slice::<Document>(bytes) {
            Ok(document) => self.take_in(&descriptor, document),
            // It is what its digest says, and its readers may understand more than we do.
            Err(_) => Vec::new(),
        };
        self.sizes.insert(digest, Some(descriptor.size));
        self.documents.insert(digest, descriptor);
        below
    }

    fn take_in(&mut self, descriptor: &Descriptor, document: Document) -> Vec<Descriptor> {
        let blobs = document
            .config
            .iter()
            .chain(document.layers.iter().flatten());
        for blob in blobs {
            let said = self.sizes.entry(blob.digest).or_insert(Some(blob.size));
            *said = said.filter(|said| *said == blob.size);
        }
        if let Some(subject) = document.subject {
            let config = document.config.map(|config| config.media_type.to_string());
            let said = document.artifact_type.filter(|said| !said.is_empty());
            let mut referrer = Descriptor::new(
                descriptor.media_type.clone(),
                descriptor.digest,
                descriptor.size,
            );
            referrer.annotations = document.annotations.unwrap_or_default();
            if let Some(artifact_type) = said.or(config) {
                let key = "artifactType".to_owned();
                referrer.other.insert(key, artifact_type.into());
            }
            let all = self.referrers.entry(subject.digest).or_default();
            all.insert(referrer.digest, referrer);
        }
        document.manifests.unwrap_or_default()
    }

    /// A tag whose document cannot be served is no tag, and a repository without tags is none.
    fn forget_dead_tags(&mut self) {
        for names in [&mut self.repositories, &mut self.aliases] {
            for tags in names.values_mut() {
                tags.retain(|_, digest| self.documents.contains_key(digest));
            }
            names.retain(|_, tags| !tags.is_empty());
        }
    }

    /// The tags of a repository. `registry` is whom a client takes this server for, if it says so.
    pub(crate) fn tags(
        &self,
        repository: &str,
        registry: Option<&str>,
    ) -> Option<&BTreeMap<String, Digest>> {
        let full = registry.map(|registry| format!("{registry}/{repository}"));
        full.and_then(|full| self.aliases.get(&full))
            .or_else(|| self.repositories.get(repository))
            .or_else(|| self.aliases.get(repository))
    }

    /// The document of a digest.
    pub(crate) fn document(&self, digest: &Digest) -> Option<&Descriptor> {
        self.documents.get(digest)
    }

    /// How long a blob is said to be, if something says so and nothing says otherwise: a wrong
    /// manifest must not keep others from their layers.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        self.sizes.get(digest).copied().flatten()
    }

    /// What refers to a document, in the order of the digests.
    pub(crate) fn referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Vec<Descriptor> {
        let is_wanted = |one: &&Descriptor| {
            let found = one
                .other
                .get("artifactType")
                .and_then(|value| value.as_str());
            artifact_type.is_none_or(|wanted| found == Some(wanted))
        };
        let all = self.referrers.get(digest).into_iter();
        let wanted = all.flat_map(BTreeMap::values).filter(is_wanted);
        wanted.cloned().collect()
    }

    /// A part of the list of repositories, and whether there are more.
    pub(crate) fn repositories(&self, page: &Page) -> (Vec<&str>, bool) {
        page_of(self.repositories.keys(), page)
    }

    /// Everything that has a name: repository, tag, digest.
    pub(crate) fn images(&self) -> impl Iterator<Item = (&str, &str, &Digest)> {
        let repositories = self.repositories.iter();
        repositories.flat_map(|(repository, tags)| {
            let tags = tags.iter();
            tags.map(|(tag, digest)| (repository.as_str(), tag.as_str(), digest))
        })
    }
}

/// A part of a sorted list, and whether there are more.
pub(crate) fn page_of<'a>(
    sorted: impl Iterator<Item = &'a String>,
    page: &Page,
) -> (Vec<&'a str>, bool) {
    let last = page.last.as_deref();
    let mut rest = sorted.filter(|one| last.is_none_or(|last| one.as_str() > last));
    let most = page.most.unwrap_or(usize::MAX);
    let found: Vec<&str> = rest.by_ref().take(most).map(String::as_str).collect();
    (found, rest.next().is_some())
}

/// The bytes of a document; `None` if it is not here.
pub(crate) fn read_document(
    descriptor: &Descriptor,
    files: &dyn LayoutFiles,
) -> io::Result<Option<Vec<u8>>> {
    if descriptor.size > MOST_DOCUMENT {
        let problem = format!(
            "it has {} bytes, {MOST_DOCUMENT} are the most",
            descriptor.size
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    let Some(blob) = files.open_document(descriptor)? else {
        return Ok(None);
    };
    let bytes = disk::read_at_most(VerifyingReader::new(blob, descriptor), MOST_DOCUMENT)?;
    Ok(Some(bytes))
}

/// The empty list of referrers, or a full one.
pub(crate) fn referrers_index(referrers: Vec<Descriptor>) -> Vec<u8> {
    crate::oci::json::to_vec(&crate::oci::Index::new(MediaType::OciIndex, referrers))
}

#[cfg(test)]
mod tests;
