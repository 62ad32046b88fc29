//! Files of the web: fetched once, known by the digest that the spec demands.

use std::sync::Arc;

use crate::build::error::BuildError;
use crate::build::stages::Workshop;
use crate::layer::{ArchiveError, Limits, unpack_archive};
use crate::oci::Digest;
use crate::spec::{Add, Diagnostic, Diagnostics};
use crate::steps::{SourceKind, download_path};
use crate::store::StoreError;
use crate::transport::http::{Trust, Url};
use crate::tree::{BlobRange, Content, Entry, File, Node, Tree};

/// The most that one file of the web may have: more than any tool, less than a disk.
const MOST: u64 = 16 << 30;

impl Workshop<'_> {
    /// The tree with the one file of the step, which is fetched unless the store has it, or with
    /// what it holds, and whose files those are.
    pub(crate) fn download(&self, add: &Add) -> Result<(Arc<Tree>, SourceKind), BuildError> {
        let digest = add.checksum.value;
        if !self.store.contains_blob(&digest)? {
            self.fetch(add, &digest)?;
        }
        if add.unpack {
            let tree = unpack_archive(self.store, &digest, Limits::default(), 0);
            let tree = tree.map_err(|error| self.not_unpacked(add, &error))?;
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
        let path = download_path(&add.url.value.to_string());
        tree.insert(path, Entry::new(node, 0o644));
        Ok((Arc::new(tree), SourceKind::Context))
    }

    /// What is wrong with an archive is told at its URL, with the way out.
    fn not_unpacked(&self, add: &Add, error: &ArchiveError) -> BuildError {
        let url = &add.url.value;
        let message = format!("failed to unpack {url}: {error}");
        let diagnostic = Diagnostic::new(&self.plan.source, add.url.span, message);
        let diagnostic = match error {
            ArchiveError::Unknown => {
                diagnostic.help("leave `unpack` away to add the file as it is")
            }
            _ => diagnostic,
        };
        Diagnostics::from(diagnostic).into()
    }

    fn fetch(&self, add: &Add, digest: &Digest) -> Result<(), BuildError> {
        let url = add.url.value.to_string();
        let wrong = |message: String| {
            let diagnostic = Diagnostic::new(&self.plan.source, add.url.span, message);
            Diagnostics::from(diagnostic)
        };
        let parsed: Url = url
            .parse()
            .map_err(|error| wrong(format!("{url:?} is no URL: {error}")))?;
        let trust = Trust::default();
        let download = self.registries.http.download(&parsed, &trust, MOST);
        let download = download.map_err(|error| BuildError::Download {
            url: url.clone(),
            source: Box::new(error),
        })?;
        match self.store.import_blob(digest, None, download) {
            Err(StoreError::WrongDigest { found, .. }) => {
                let message = format!("{url} gave a file with the digest {found}");
                let span = add.checksum.span;
                let diagnostic = Diagnostic::new(&self.plan.source, span, message)
                    .help("if that is the file that you want, write this digest as its checksum");
                Err(Diagnostics::from(diagnostic).into())
            }
            result => Ok(result?),
        }
    }
}
