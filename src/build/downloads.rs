//! Files of the web: fetched once, known by the digest that the spec or the lock demands.

use std::io::{Read, Write};
use std::sync::Arc;

use crate::build::error::BuildError;
use crate::build::stages::Workshop;
use crate::layer::{ArchiveError, Limits, unpack_archive};
use crate::oci::{Digest, Hasher};
use crate::plan::key;
use crate::plan::{KnownBy, PlannedFile};
use crate::spec::{Diagnostic, Diagnostics, HttpUrl, SourceText, Spanned};
use crate::steps::{SourceKind, download_path};
use crate::store::{Store, StoreError};
use crate::transport::http::{Download, HttpClient, HttpError, Trust, Unreachable, Url};
use crate::tree::{BlobRange, Content, Entry, File, Node, Tree};

/// The most that one file of the web may have: more than any tool, less than a disk.
const MOST: u64 = 16 << 30;

impl Workshop<'_> {
    /// The tree with the one file, which is fetched unless the store has it, or with what it holds,
    /// and whose files those are.
    pub(crate) fn download(
        &self,
        file: &PlannedFile,
    ) -> Result<(Arc<Tree>, SourceKind), BuildError> {
        let digest = file.digest.value;
        if !self.store.contains_blob(&digest)? {
            // Another build may be at it.
            let _claim = self.store.claim_soon(&key::work("fetch", &digest));
            if !self.store.contains_blob(&digest)? {
                let source = &self.plan.source;
                fetch_known(file, source, self.store, &self.registries.http)?;
            }
        }
        if file.unpack {
            let tree = unpack_archive(self.store, &digest, Limits::default(), 0);
            let tree = tree.map_err(|error| self.not_unpacked(file, &error))?;
            return Ok((Arc::new(tree), SourceKind::Tree));
        }
        let blob = self.store.open_blob(&digest)?;
        let size = blob.and_then(|blob| blob.metadata().ok());
        let range = BlobRange {
            blob: digest,
            offset: 0,
            size: size.map_or(0, |found| found.len()),
            digest,
        };
        let node = Node::File(File {
            content: Content::Blob(range),
            inode: None,
        });
        let mut tree = Tree::new();
        let path = download_path(&file.url.value.to_string());
        tree.insert(path, Entry::new(node, 0o644));
        Ok((Arc::new(tree), SourceKind::Context))
    }

    /// What is wrong with an archive is told at its URL, with the way out.
    fn not_unpacked(&self, file: &PlannedFile, error: &ArchiveError) -> BuildError {
        let url = &file.url.value;
        let message = format!("failed to unpack {url}: {error}");
        let diagnostic = Diagnostic::new(&self.plan.source, file.url.span, message);
        let diagnostic = match error {
            ArchiveError::Unknown => {
                diagnostic.help("leave `unpack` away to add the file as it is")
            }
            _ => diagnostic,
        };
        Diagnostics::from(diagnostic).into()
    }
}

/// Brings a file into the store, if it is what it should be.
pub(crate) fn fetch_known(
    file: &PlannedFile,
    source: &Arc<SourceText>,
    store: &Store,
    http: &HttpClient,
) -> Result<(), BuildError> {
    let trust = Trust::default();
    let url = url_of(&file.url, source)?;
    let download = opened(&url, http, &trust)?;
    match store.import_blob(&file.digest.value, None, download) {
        Err(StoreError::WrongDigest { found, .. }) => {
            let message = format!("{url} gave a file with the digest {found}");
            let diagnostic = Diagnostic::new(source, file.digest.span, message);
            let diagnostic = match file.known_by {
                KnownBy::Spec => diagnostic
                    .help("if that is the file that you want, write this digest as its checksum"),
                KnownBy::Lock => diagnostic
                    .label(format!("the lock has {}", file.digest))
                    .help(format!(
                        "if that is the file that you want: boxwright lock --update {url}"
                    )),
            };
            Err(Diagnostics::from(diagnostic).into())
        }
        result => Ok(result?),
    }
}

/// Brings into the store whatever a URL gives; its digest and size come out.
pub(crate) fn fetch_unknown(
    url: &Spanned<HttpUrl>,
    source: &Arc<SourceText>,
    store: &Store,
    http: &HttpClient,
) -> Result<(Digest, u64), BuildError> {
    let trust = Trust::default();
    let url = url_of(url, source)?;
    let mut download = opened(&url, http, &trust)?;
    let mut writer = store.create_blob()?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = match download.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(source) => {
                return Err(download_error(&url)(HttpError::Unreachable {
                    url: url.clone(),
                    attempts: 1,
                    kind: Unreachable::Broken,
                    source,
                }));
            }
        };
        hasher.update(&buffer[..count]);
        let written = writer.write_all(&buffer[..count]);
        written.map_err(StoreError::io("write", store.root()))?;
    }
    let size = hasher.size();
    let digest = hasher.finish();
    writer.finish_as(digest, size)?;
    Ok((digest, size))
}

fn opened<'a>(
    url: &Url,
    http: &'a HttpClient,
    trust: &'a Trust,
) -> Result<Download<'a>, BuildError> {
    let download = http.download(url, trust, MOST);
    download.map_err(download_error(url))
}

fn download_error(url: &Url) -> impl FnOnce(HttpError) -> BuildError {
    let url = url.to_string();
    move |error| BuildError::Download {
        url,
        source: Box::new(error),
    }
}

fn url_of(url: &Spanned<HttpUrl>, source: &Arc<SourceText>) -> Result<Url, BuildError> {
    let text = url.value.as_str();
    text.parse().map_err(|error| {
        let message = format!("{text:?} is no URL: {error}");
        Diagnostics::from(Diagnostic::new(source, url.span, message)).into()
    })
}
