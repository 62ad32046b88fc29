//! Platforms: `os/architecture[/variant]`, in Go's names, as the image spec asks.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system, such as `linux`.
    pub os: String,
    /// Processor architecture, such as `amd64` or `arm64`.
    pub architecture: String,
    /// Variant of the architecture, such as `v7`; absent where the architecture has just one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no platform; write os/architecture, such as linux/amd64")]
pub struct PlatformError(pub String);

impl Platform {
    /// `linux` on the architecture this program was compiled for.
    pub fn host() -> Platform {
        Platform {
            os: "linux".to_owned(),
            architecture: go_architecture(std::env::consts::ARCH).to_owned(),
            variant: None,
        }
    }

    /// The same platform with the variants that say nothing taken off: `arm64/v8` is `arm64`,
    /// `arm` is `arm/v7`. Two platforms are the same if their normal forms are equal.
    pub fn normalized(&self) -> Platform {
        let architecture = go_architecture(&self.architecture);
        let variant = match (architecture, self.variant.as_deref()) {
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) => None,
            ("arm", None) => Some("v7".to_owned()),
            (_, variant) => variant.map(str::to_owned),
        };
        Platform {
            os: self.os.clone(),
            architecture: architecture.to_owned(),
            variant,
        }
    }
}

/// Other names under which architectures are known.
fn go_architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "armhf" | "armv7" => "arm",
        "x86" | "i386" | "i686" => "386",
        "powerpc64le" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let word = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
        };
        let parts: Vec<&str> = text.split('/').filter(word).collect();
        if parts.len() != text.split('/').count() {
            return Err(PlatformError(text.to_owned()));
        }
        match parts[..] {
            [os, architecture] => Ok(Platform {
                os: os.to_owned(),
                architecture: go_architecture(architecture).to_owned(),
                variant: None,
            }),
            [os, architecture, variant] => Ok(Platform {
                os: os.to_owned(),
                architecture: go_architecture(architecture).to_owned(),
                variant: Some(variant.to_owned()),
            }),
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Both may come from a stranger's config, and go to a terminal.
        let mut write = |text: &str| {
            text.chars().try_for_each(|character| match character {
                character if character.is_control() => write!(f, "{}", character.escape_default()),
                character => f.write_char(character),
            })
        };
        write(&self.os)?;
        write("/")?;
        write(&self.architecture)?;
        self.variant.iter().try_for_each(|variant| {
            write("/")?;
            write(variant)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_and_print() {
        for (text, printed) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm/v7", "linux/arm/v7"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), printed);
        }
        for text in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "linux/amd64/v2/x",
            "Linux/amd64",
            "linux//v7",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn empty_variants_do_not_distinguish() {
        let normal = |text: &str| text.parse::<Platform>().unwrap().normalized();
        assert_eq!(normal("linux/arm64/v8"), normal("linux/aarch64"));
        assert_eq!(normal("linux/arm"), normal("linux/arm/v7"));
        assert_ne!(normal("linux/arm/v6"), normal("linux/arm/v7"));
    }
}
