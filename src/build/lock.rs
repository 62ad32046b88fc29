//! Locks: what everything that a spec takes from outside is now, and whether it still is.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::build::downloads::{fetch_known, fetch_unknown};
use crate::build::error::BuildError;
use crate::build::request::BuildRequest;
use crate::build::run::specs;
use crate::oci::{Digest, Platform, Reference};
use crate::plan::{KnownBy, PlannedFile, outside, unknown};
use crate::spec::compose::{PINS_HEADER, Pin, pins_text};
use crate::spec::{
    BuildSpec, Diagnostic, Diagnostics, HttpUrl, Lock, LockedFile, LockedImage, Span, Spanned,
};
use crate::store::{Store, StoreError};
use crate::transport::TransportError;
use crate::transport::registry::{RegistryClient, Resolved};

/// What of an earlier lock stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockScope {
    /// Nothing: the lock is what the spec needs now.
    Everything,
    /// What the spec does not need with these arguments.
    Additions,
    /// Everything but these: references, repositories or URLs.
    Only(Vec<String>),
}

/// A lock, and how it differs from the earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The lock.
    pub lock: Lock,
    /// What is other than before, in the order of the lock.
    pub changes: Vec<LockChange>,
}

/// One thing that is other than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockChange {
    /// The reference or the URL.
    pub name: String,
    /// What it was, if it was there.
    pub before: Option<Digest>,
    /// What it is, if it is still there.
    pub after: Option<Digest>,
}

/// What a spec takes from outside, on all its platforms, each once.
struct Wanted<'a> {
    images: BTreeMap<Reference, Span>,
    files: BTreeMap<&'a HttpUrl, WantedFile>,
}

struct WantedFile {
    span: Span,
    checksum: Option<Spanned<Digest>>,
}

/// Finds out what everything that the spec takes from outside is now. Files of the web come into
/// the store, and of images the manifests.
///
/// # Errors
/// A wrong spec, checksums that are wrong, names that the spec does not use, and whatever registries
/// and servers fail with.
pub fn lock(
    request: &BuildRequest,
    earlier: &Lock,
    scope: &LockScope,
) -> Result<Locked, BuildError> {
    let specs = specs(request)?;
    let wanted = wanted(&specs)?;
    if let LockScope::Only(names) = scope {
        check_names(request, names, &wanted)?;
    }
    let is_chosen = |is_it: &dyn Fn(&str) -> bool| match scope {
        LockScope::Everything | LockScope::Additions => true,
        LockScope::Only(names) => names.iter().any(|name| is_it(name)),
    };
    let mut lock = match scope {
        LockScope::Everything => Lock::empty(&earlier.source.name),
        LockScope::Additions | LockScope::Only(_) => earlier.clone(),
    };
    let store = Store::open(&request.store_root)?;
    let registries = RegistryClient::new(request.registries.clone());
    let platforms = platforms(&specs);
    for reference in wanted.images.keys() {
        if is_chosen(&|name| means_image(name, reference)) {
            let Resolved { digest, platforms } = registries
                .resolve(reference, &platforms, &store)
                .map_err(TransportError::from)?;
            let digest = Spanned::new(digest, Span::default());
            let image = LockedImage { digest, platforms };
            lock.images.insert(reference.clone(), image);
        }
    }
    for (url, file) in &wanted.files {
        if is_chosen(&|name| name == url.as_str()) {
            let file = locked_file(url, file, request, &store, &registries)?;
            lock.files.insert((*url).clone(), file);
        }
    }
    let changes = changes(earlier, &lock);
    Ok(Locked { lock, changes })
}

/// Whether a lock has everything that the spec takes from outside, and whether registries still
/// have the same under its tags. Without network only the spec is compared. Files of the web are
/// not fetched.
///
/// # Errors
/// All that is not as the lock has it, each in its place, and whatever registries fail with.
pub fn check_lock(request: &BuildRequest, lock: &Lock) -> Result<(), BuildError> {
    let specs = specs(request)?;
    let mut problems = Diagnostics::new();
    for (_, spec) in &specs {
        // A stage that is not for this platform may be from an image that is not, either.
        problems.extend(unknown(spec, &spec.stages, Some(lock), None));
    }
    let store = Store::open(&request.store_root)?;
    let registries = RegistryClient::new(request.registries.clone());
    let platforms = platforms(&specs);
    for reference in wanted(&specs)?.images.keys() {
        if let Some(image) = lock.images.get(reference)
            && !registries.is_offline()
        {
            let now = registries.resolve(reference, &platforms, &store);
            let now = now.map_err(TransportError::from)?;
            problems.extend(moved(lock, reference, image, &now));
        }
    }
    Ok(problems.finish(())?)
}

/// Writes a lock under a temporary name and renames it; says whether it was another before.
///
/// # Errors
/// The file system failing.
pub fn write_lock(lock: &Lock, path: &Path) -> Result<bool, BuildError> {
    let wrong = |source: io::Error| BuildError::Lock {
        path: path.to_owned(),
        source,
    };
    replace(path, &lock.to_string()).map_err(wrong)
}

/// Writes a compose file that pins services to images; says whether it was another before.
///
/// # Errors
/// The file cannot be written.
pub fn write_pins(pins: &[Pin], path: &Path) -> Result<bool, BuildError> {
    let wrong = |source: io::Error| BuildError::Lock {
        path: path.to_owned(),
        source,
    };
    may_be_pins(path)?;
    replace(path, &pins_text(pins)).map_err(wrong)
}

/// Whether pins may be written there: nothing stands there, or pins.
///
/// # Errors
/// Something else does.
pub fn may_be_pins(path: &Path) -> Result<(), BuildError> {
    let allowed = match stands_there(path) {
        Ok(Some(beginning)) if beginning != PINS_HEADER.as_bytes() => Err(io::Error::other(
            "something else stands there; name another file, or remove it",
        )),
        other => other.map(drop),
    };
    allowed.map_err(|source| BuildError::Lock {
        path: path.to_owned(),
        source,
    })
}

/// How the file begins that stands at a path, as far as pins tell it; nothing of what is no file: a
/// pipe or device would make us wait.
fn stands_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    let mut beginning = Vec::new();
    if found.is_file() {
        let most = PINS_HEADER.len() as u64;
        fs::File::open(path)?
            .take(most)
            .read_to_end(&mut beginning)?;
    }
    Ok(Some(beginning))
}

/// Lets a file hold `text`, whole or not at all; says whether it was another before.
fn replace(path: &Path, text: &str) -> io::Result<bool> {
    if fs::read(path).is_ok_and(|before| before == text.as_bytes()) {
        return Ok(false);
    }
    // A link to the file stays a link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().filter(|folder| *folder != Path::new(""));
    // The umask applies, as for any file that a program creates.
    let mut file = tempfile::Builder::new()
        .prefix(".boxwright-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_data()?;
    file.persist(&target).map_err(|error| error.error)?;
    Ok(true)
}

fn platforms(specs: &[(Platform, BuildSpec)]) -> Vec<Platform> {
    specs.iter().map(|(platform, _)| platform.clone()).collect()
}

fn wanted(specs: &[(Platform, BuildSpec)]) -> Result<Wanted<'_>, Diagnostics> {
    let mut wanted = Wanted {
        images: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let mut problems = Diagnostics::new();
    for (_, spec) in specs {
        let found = outside(&spec.stages);
        for image in found.images {
            let full = image.value.clone().with_default_tag();
            wanted.images.entry(full).or_insert(image.span);
        }
        for add in found.files {
            let entry = wanted.files.entry(&add.url.value);
            let known = entry.or_insert(WantedFile {
                span: add.url.span,
                checksum: add.checksum,
            });
            match (&known.checksum, &add.checksum) {
                (Some(one), Some(other)) if one.value != other.value => problems.push(
                    Diagnostic::new(
                        &spec.source,
                        other.span,
                        format!("{} has two checksums", add.url.as_str()),
                    )
                    .help("one URL gives one file: write the same checksum twice")
                    .also(one.span, "the other"),
                ),
                (None, Some(_)) => known.checksum = add.checksum,
                _ => {}
            }
        }
    }
    problems.finish(wanted)
}

/// Names that mean nothing in the spec are mistakes.
fn check_names(
    request: &BuildRequest,
    names: &[String],
    wanted: &Wanted<'_>,
) -> Result<(), Diagnostics> {
    let images = || wanted.images.keys();
    let is_known = |name: &str| {
        images().any(|reference| means_image(name, reference))
            || wanted.files.keys().any(|url| url.as_str() == name)
    };
    let mut problems = Diagnostics::new();
    for name in names.iter().filter(|name| !is_known(name)) {
        let all = images().map(ToString::to_string);
        let all = all.chain(wanted.files.keys().map(|url| url.as_str().to_owned()));
        let all: Vec<String> = all.collect();
        let help = match all.is_empty() {
            true => "it takes nothing from registries or the web".to_owned(),
            false => format!("it uses {}", all.join(", ")),
        };
        let message = format!("--update names {name:?}, which this spec does not use");
        problems.push(Diagnostic::about(&request.source, message).help(help));
    }
    problems.finish(())
}

/// Whether a name is that of an image, in full or short, or of its repository.
fn means_image(name: &str, reference: &Reference) -> bool {
    name.parse::<Reference>().is_ok_and(|named| {
        let is_repository = named.tag().is_none() && named.digest().is_none();
        is_repository && named.repository() == reference.repository()
            || named.with_default_tag() == *reference
    })
}

fn locked_file(
    url: &HttpUrl,
    wanted: &WantedFile,
    request: &BuildRequest,
    store: &Store,
    registries: &RegistryClient,
) -> Result<LockedFile, BuildError> {
    let (source, http) = (&request.source, &registries.http);
    let url = Spanned::new(url.clone(), wanted.span);
    let Some(checksum) = wanted.checksum else {
        let (digest, size) = fetch_unknown(&url, source, store, http)?;
        let digest = Spanned::new(digest, Span::default());
        return Ok(LockedFile { digest, size });
    };
    if !store.contains_blob(&checksum.value)? {
        let file = PlannedFile {
            url,
            digest: checksum,
            known_by: KnownBy::Spec,
            unpack: false,
        };
        fetch_known(&file, source, store, http)?;
    }
    let path = store.blob_path(&checksum.value);
    let size = fs::metadata(&path).map_err(StoreError::io("read", &path))?;
    Ok(LockedFile {
        digest: checksum,
        size: size.len(),
    })
}

/// What is wrong with the lock of a reference that is `now` something else.
fn moved(
    lock: &Lock,
    reference: &Reference,
    image: &LockedImage,
    now: &Resolved,
) -> Option<Diagnostic> {
    let message = match (
        image.digest.value == now.digest,
        image.platforms == now.platforms,
    ) {
        (true, true) => return None,
        (true, false) => format!("the platforms of {reference} are not those of its index"),
        (false, _) => format!("{reference} has moved to {}", now.digest),
    };
    Some(
        Diagnostic::new(&lock.source, image.digest.span, message)
            .label("what it was when it was locked")
            .help(format!(
                "take what it is now: boxwright lock --update {reference}"
            )),
    )
}

fn changes(before: &Lock, after: &Lock) -> Vec<LockChange> {
    let digests = |lock: &Lock| {
        let images = lock.images.iter();
        let images = images.map(|(name, image)| ((0, name.to_string()), image.digest.value));
        let files = lock.files.iter();
        let files = files.map(|(url, file)| ((1, url.as_str().to_owned()), file.digest.value));
        images.chain(files).collect::<BTreeMap<_, _>>()
    };
    let (before, after) = (digests(before), digests(after));
    let mut names: Vec<&(u8, String)> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let changes = names.into_iter().map(|name| LockChange {
        name: name.1.clone(),
        before: before.get(name).copied(),
        after: after.get(name).copied(),
    });
    changes
        .filter(|change| change.before != change.after)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_a_reference_or_all_of_a_repository() {
        let reference: Reference = "docker.io/library/node:20".parse().unwrap();
        for (name, expected) in [
            ("node:20", true),
            ("docker.io/library/node:20", true),
            ("node", true),
            ("library/node", true),
            ("node:latest", false),
            ("acme/node", false),
            ("", false),
            ("https://example.com/node", false),
        ] {
            assert_eq!(means_image(name, &reference), expected, "{name}");
        }
    }

    #[test]
    fn a_link_stays_and_an_unchanged_lock_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let lock = Lock::empty("link");
        assert!(write_lock(&lock, &link).unwrap());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), lock.to_string());
        assert!(!write_lock(&lock, &link).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        let nowhere = folder.path().join("no/such/folder.lock");
        let error = write_lock(&lock, &nowhere).unwrap_err().to_string();
        assert!(error.contains("folder.lock"), "{error}");
    }
}
