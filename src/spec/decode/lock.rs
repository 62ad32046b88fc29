//! The lock file: two maps, of images and of files.

use std::collections::BTreeMap;

use crate::oci::{Digest, Platform, Reference};
use crate::spec::decode::Decoder;
use crate::spec::decode::fields::Fields;
use crate::spec::decode::shapes::{LOCK, LOCKED_FILE, LOCKED_IMAGE};
use crate::spec::diagnostic::Diagnostics;
use crate::spec::error::ValueError;
use crate::spec::lock::{Lock, LockedFile, LockedImage};
use crate::spec::source::Spanned;
use crate::spec::value::HttpUrl;
use crate::spec::yaml::{Entry, Node, Value};

const FORMAT: &str = "this version reads `format: 1`";
const DIGEST: &str = "a digest is `sha256:` and 64 hex digits";
const MAP: &str = "each has a map with its `digest`";

/// The lock that `root` describes.
pub(crate) fn decode_lock(mut decoder: Decoder<'_>, root: &Node) -> Result<Lock, Diagnostics> {
    let lock = decoder.lock(root);
    let lock = decoder.diagnostics.finish(lock)?;
    Ok(lock.expect("whatever makes a lock unreadable has been reported"))
}

impl Decoder<'_> {
    fn lock(&mut self, root: &Node) -> Option<Lock> {
        let fields = self.fields(root, &LOCK, FORMAT)?;
        let format = self.required(&fields, "format", FORMAT)?;
        if !matches!(&format.value, Value::Scalar(scalar) if scalar.text == "1") {
            let diagnostic = self.error(format.span, "this is a lock of another format");
            self.report(diagnostic.help(FORMAT));
            return None;
        }
        Some(Lock {
            source: self.source.clone(),
            images: self.map_of(&fields, "images", Decoder::locked_image),
            files: self.map_of(&fields, "files", Decoder::locked_file),
        })
    }

    /// A map from what is locked to what it was.
    fn map_of<K: Ord, V>(
        &mut self,
        fields: &Fields<'_>,
        what: &str,
        read: impl Fn(&mut Self, &Entry) -> Option<(K, V)>,
    ) -> BTreeMap<K, V> {
        let node = fields.value(what);
        let entries = node.and_then(|node| self.entries(node, what, MAP));
        let mut map = BTreeMap::new();
        for entry in entries.unwrap_or_default() {
            let Some((key, value)) = read(self, entry) else {
                continue;
            };
            if map.insert(key, value).is_some() {
                let message = format!("{} is locked twice", entry.key.value);
                let diagnostic = self.error(entry.key.span, message);
                self.report(diagnostic.help("keep one of the two"));
            }
        }
        map
    }

    fn locked_image(&mut self, entry: &Entry) -> Option<(Reference, LockedImage)> {
        let reference: Reference = self.key_of(&entry.key)?;
        let fields = self.fields(&entry.value, &LOCKED_IMAGE, MAP)?;
        let digest: Spanned<Digest> = self.needed(&fields, "digest", DIGEST)?;
        if reference.digest().is_some_and(|said| *said != digest.value) {
            let message = "the reference names another digest than its lock";
            let diagnostic = self.error(digest.span, message);
            self.report(diagnostic.also(entry.key.span, "the reference"));
        }
        let platforms = self.map_of(&fields, "platforms", |decoder, entry| {
            let platform: Platform = decoder.key_of(&entry.key)?;
            let manifest = decoder.parsed(&entry.value, &entry.key.value)?;
            Some((platform.normalized(), manifest.value))
        });
        let image = LockedImage { digest, platforms };
        Some((reference.with_default_tag(), image))
    }

    fn locked_file(&mut self, entry: &Entry) -> Option<(HttpUrl, LockedFile)> {
        let url = self.key_of(&entry.key)?;
        let fields = self.fields(&entry.value, &LOCKED_FILE, MAP)?;
        let digest = self.needed(&fields, "digest", DIGEST)?;
        let size = self.required(&fields, "size", "write the number of bytes")?;
        let size = self.converted(size, "size", |text| {
            let number = || ValueError::new(format!("{text:?} is no number of bytes"));
            text.parse().map_err(|_| number())
        })?;
        let file = LockedFile {
            digest,
            size: size.value,
        };
        Some((url, file))
    }

    /// What a key names. Keys have no arguments: they are what a spec came to.
    fn key_of<T>(&mut self, key: &Spanned<String>) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: Into<ValueError>,
    {
        match key.value.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(key.span, error);
                None
            }
        }
    }
}
