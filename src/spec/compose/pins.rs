//! Pins: a compose file that goes over others and names their images by digest.

use std::fmt::Write as _;

use crate::oci::{Digest, Reference};

/// A service, and the image it shall run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The service.
    pub service: String,
    /// The image's name, of which only the repository counts.
    pub name: Reference,
    /// What is in it: the manifest, or the index of several.
    pub digest: Digest,
    /// Where the image is to be found.
    pub pull: PinPull,
}

/// Where an image is to be found that a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinPull {
    /// In a registry, to which it was pushed.
    Registry,
    /// It is loaded before; no registry is asked.
    Never,
}

/// How such a file begins: what begins otherwise is not ours to write over.
pub const PINS_HEADER: &str = "# Written by `boxwright build --compose-lock`";

/// A compose file that pins services to images. The same pins give the same bytes.
pub fn pins_text(pins: &[Pin]) -> String {
    let mut sorted: Vec<&Pin> = pins.iter().collect();
    sorted.sort_by(|one, two| one.service.cmp(&two.service));
    let mut text = format!(
        "{PINS_HEADER}: the images of this build, by digest.\n\
         # Name it as the last file: podman-compose -f compose.yaml -f THIS up --no-build\n\
         services:\n",
    );
    for pin in sorted {
        let (repository, digest) = (pin.name.repository(), &pin.digest);
        let _ = writeln!(text, "  {}:", key(&pin.service));
        let _ = writeln!(text, "    image: {repository}@{digest}");
        if pin.pull == PinPull::Never {
            text.push_str("    pull_policy: never\n");
        }
    }
    text
}

/// A key that no reader of YAML takes for anything but a text.
fn key(service: &str) -> String {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_text = service.starts_with(|c: char| c.is_ascii_alphabetic())
        && service.chars().all(is_plain)
        && !WORDS.contains(&service.to_ascii_lowercase().as_str());
    match is_text {
        true => service.to_owned(),
        false => serde_json::Value::from(service).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_sorted_text_that_compose_reads() {
        let pin = |service: &str, name: &str, pull| Pin {
            service: service.to_owned(),
            name: name.parse().unwrap(),
            digest: Digest::of(name.as_bytes()),
            pull,
        };
        let pins = [
            pin(
                "web",
                "registry.example.com:5000/team/web:1",
                PinPull::Registry,
            ),
            pin("on", "app", PinPull::Never),
            pin("1.2", "localhost/p_s:latest", PinPull::Never),
        ];
        insta::assert_snapshot!(pins_text(&pins));
    }
}
