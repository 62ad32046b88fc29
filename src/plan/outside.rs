//! What a spec takes from the world outside: images of registries and files of the web. A build
//! knows each by a digest before it begins; where the spec has none, a lock has.

use crate::oci::{Digest, Platform, Reference};
use crate::spec::{
    Action, Add, Base, BuildSpec, Diagnostic, Diagnostics, HttpUrl, ImageSource, Lock, Origin,
    Spanned, Stage,
};

/// What some stages take from the world outside, in the order of the text, with repetitions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outside<'a> {
    /// Images of registries.
    pub images: Vec<Spanned<&'a Reference>>,
    /// Files of the web.
    pub files: Vec<&'a Add>,
}

/// What stages take from the world outside.
pub fn outside<'a>(stages: impl IntoIterator<Item = &'a Stage>) -> Outside<'a> {
    let mut found = Outside::default();
    for stage in stages {
        if let Base::Image(ImageSource::Registry(reference)) = &stage.from.value {
            found.images.push(Spanned::new(reference, stage.from.span));
        }
        for step in &stage.steps {
            for origin in step.origins() {
                if let Origin::Image(ImageSource::Registry(reference)) = &origin.value {
                    found.images.push(Spanned::new(reference, origin.span));
                }
            }
            if let Action::Add(add) = &step.action {
                found.files.push(add);
            }
        }
    }
    found
}

/// What is wrong if the lock does not have a reference, or no document of it for the platform where
/// one matters.
fn locked_image(
    spec: &BuildSpec,
    reference: Spanned<&Reference>,
    lock: &Lock,
    platform: Option<&Platform>,
) -> Option<Diagnostic> {
    let full = reference.value.clone().with_default_tag();
    let Some(image) = lock.images.get(&full) else {
        let repository = full.repository();
        let others = lock.images.keys();
        let others = others.filter(|other| other.repository() == repository);
        let others: Vec<String> = others.map(ToString::to_string).collect();
        let diagnostic = not_locked(spec, reference.map(|_| full.to_string()), lock);
        return Some(match others.is_empty() {
            true => diagnostic,
            false => diagnostic.label(format!("the lock has {}", others.join(", "))),
        });
    };
    let missing = platform.filter(|platform| image.for_platform(platform).is_none());
    missing.map(|platform| {
        let message = format!("{full} is not locked for {platform}");
        let known: Vec<String> = image.platforms.keys().map(ToString::to_string).collect();
        Diagnostic::new(&spec.source, reference.span, message)
            .label(format!(
                "when it was locked it was for {}",
                known.join(", ")
            ))
            .help(format!(
                "see whether there is one by now: boxwright lock --update {full}"
            ))
    })
}

/// The digest of a file of the web: that of the spec, of the lock, or of both.
///
/// # Errors
/// Neither has one, the lock has not heard of the URL, or they contradict each other.
pub(crate) fn known_file(
    spec: &BuildSpec,
    add: &Add,
    lock: Option<&Lock>,
) -> Result<Digest, Box<Diagnostic>> {
    let url = &add.url.value;
    let Some(lock) = lock else {
        return add.checksum.map(|checksum| checksum.value).ok_or_else(|| {
            let message = "an add step needs the key `checksum`";
            let diagnostic = Diagnostic::new(&spec.source, add.url.span, message)
                .help("write `checksum: sha256:…`, as sha256sum prints it: a build may only fetch what is known")
                .help("or let a lock know it: boxwright lock, then boxwright build --locked");
            Box::new(diagnostic)
        });
    };
    let Some(locked) = lock.files.get(url) else {
        let url = add.url.as_ref().map(HttpUrl::as_str);
        return Err(Box::new(not_locked(spec, url, lock)));
    };
    match &add.checksum {
        Some(checksum) if checksum.value != locked.digest.value => {
            let message = format!("{url} has another checksum in {}", lock.source.name);
            let diagnostic = Diagnostic::new(&spec.source, checksum.span, message)
                .label(format!("the lock has {}", locked.digest))
                .help("if the spec is right, write the lock anew: boxwright lock");
            Err(Box::new(diagnostic))
        }
        _ => Ok(locked.digest.value),
    }
}

fn not_locked(spec: &BuildSpec, what: Spanned<impl std::fmt::Display>, lock: &Lock) -> Diagnostic {
    let message = format!("{} is not in {}", what.value, lock.source.name);
    Diagnostic::new(&spec.source, what.span, message)
        .help("write the lock anew, with the same --arg and --profile: boxwright lock")
        .help("or keep what is in it for other arguments: boxwright lock --add")
}

/// What some stages of a spec take from the world outside and nothing knows the digest of, on one
/// platform or, without one, at all.
pub fn unknown<'a>(
    spec: &BuildSpec,
    stages: impl IntoIterator<Item = &'a Stage>,
    lock: Option<&Lock>,
    platform: Option<&Platform>,
) -> Diagnostics {
    let found = outside(stages);
    let images = found.images.iter().filter_map(|image| {
        let lock = lock?;
        locked_image(spec, *image, lock, platform)
    });
    let files = found.files.iter();
    let files = files.filter_map(|add| known_file(spec, add, lock).err().map(|error| *error));
    images.chain(files).collect()
}
