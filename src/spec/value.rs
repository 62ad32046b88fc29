//! Small values with a grammar of their own: names, owners, ports, signals, tags and the like.

use std::fmt;
use std::str::FromStr;

use crate::oci::Reference;
use crate::spec::arguments::nearest;
use crate::spec::error::ValueError;

/// The name of a stage, context, layer, cache, secret or agent: a letter, then up to 127 letters,
/// digits and `. _ -`. It is never an image reference and never `scratch`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The name of a user or a group, as `/etc/passwd` can hold it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName(String);

/// A user or group: by number, or by a name of the image's own account files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A number.
    Id(u32),
    /// A name.
    Name(AccountName),
}

/// `user[:group]`. Without a group, a named user brings its primary group. A number alone brings the
/// group of the same number to files, as `COPY --chown` does, and to a process the group that the
/// image has for it, or 0, as `USER` does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The user.
    pub user: Identity,
    /// The group, where one was written.
    pub group: Option<Identity>,
}

/// A tag of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// An `http` or `https` URL without credentials.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpUrl(String);

/// A port that a container listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Its number, never 0.
    pub number: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Protocol {
    /// `tcp`.
    #[default]
    Tcp,
    /// `udp`.
    Udp,
}

/// A signal of Linux: `SIGTERM`, `SIGRTMIN+3`, or a number from 1 to 64.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(String);

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// With gzip, at a level from 1 to 12 where one was written.
    Gzip(Option<u8>),
    /// With zstd, at a level from 1 to 22 where one was written.
    Zstd(Option<u8>),
}

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AccountName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl HttpUrl {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Signal {
    /// The text as the config of an image holds it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Port {
    /// Reads `PORT`, `PORT/tcp`, `PORT/udp` or a range `FIRST-LAST[/PROTOCOL]`.
    ///
    /// # Errors
    /// Another text, port 0, or a range that ends before it begins.
    pub fn parse_range(text: &str) -> Result<Vec<Port>, ValueError> {
        let invalid = || {
            ValueError::new(format!("{text:?} is no port"))
                .help("write a number from 1 to 65535 or a range, with /tcp or /udp: 8080, 53/udp, 8000-8010")
        };
        if text.contains(':') {
            return Err(ValueError::new(format!("{text:?} publishes a port")).help(
                "write only the port that the program listens on; publishing is up to `run -p`",
            ));
        }
        let (numbers, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
            Some((numbers, "udp")) => (numbers, Protocol::Udp),
            Some(_) => return Err(invalid()),
        };
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>()
                .ok()
                .filter(|port| digits && *port > 0)
                .ok_or_else(invalid)
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(invalid());
        }
        Ok((first..=last)
            .map(|number| Port { number, protocol })
            .collect())
    }
}

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Name, ValueError> {
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if text == "scratch" {
            return Err(ValueError::new("`scratch` is the empty base, not a name")
                .help("choose another name"));
        }
        let valid = text.len() <= 128
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(rest);
        if valid {
            return Ok(Name(text.to_owned()));
        }
        Err(ValueError::new(format!("{text:?} is no name"))
            .help("use letters, digits and . _ -, beginning with a letter"))
    }
}

impl FromStr for AccountName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<AccountName, ValueError> {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let body = text.strip_suffix('$').unwrap_or(text);
        if text.len() <= 32 && body.starts_with(first) && body.chars().all(rest) {
            return Ok(AccountName(text.to_owned()));
        }
        Err(
            ValueError::new(format!("{text:?} is no name of a user or group"))
                .help("use up to 32 letters, digits and . _ -, beginning with a letter or _"),
        )
    }
}

impl FromStr for Identity {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Identity, ValueError> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Identity::Name);
        }
        account_id(text).map(Identity::Id)
    }
}

/// A user or group ID. The highest number means "do not change" to `chown`, so it is none.
pub(crate) fn account_id(text: &str) -> Result<u32, ValueError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text
        .parse::<u32>()
        .ok()
        .filter(|id| digits && *id != u32::MAX);
    id.ok_or_else(|| {
        ValueError::new(format!("{text:?} is no user or group ID"))
            .help("write a number from 0 to 4294967294")
    })
}

impl FromStr for Owner {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Owner, ValueError> {
        let remedy =
            "write user or user:group, each a name or a number, such as app:app or 1000:1000";
        let part = |part: &str| {
            part.parse::<Identity>()
                .map_err(|_| ValueError::new(format!("{text:?} is no owner")).help(remedy))
        };
        Ok(match text.split_once(':') {
            None => Owner {
                user: part(text)?,
                group: None,
            },
            Some((user, group)) => Owner {
                user: part(user)?,
                group: Some(part(group)?),
            },
        })
    }
}

impl FromStr for Tag {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Tag, ValueError> {
        // The grammar of tags is the reference's; any repository serves to ask for it.
        let reference: Reference = "any".parse()?;
        reference
            .with_tag(text)
            .map_err(|error| match text.rsplit_once(':') {
                Some((_, tag)) => ValueError::new(format!("{text:?} is no tag")).help(format!(
                    "write only {tag:?}; the repository stands under `image`"
                )),
                None => error.into(),
            })?;
        Ok(Tag(text.to_owned()))
    }
}

impl FromStr for HttpUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<HttpUrl, ValueError> {
        let invalid = || {
            ValueError::new(format!("{text:?} is no URL to fetch from"))
                .help("write https://HOST/PATH")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let unprintable = |c: char| c.is_whitespace() || c.is_control();
        if !matches!(scheme, "http" | "https") || host.is_empty() || text.contains(unprintable) {
            return Err(invalid());
        }
        if host.contains('@') {
            return Err(ValueError::new(
                "the URL holds credentials, which the history of the image would show",
            )
            .help("fetch it in a `run` step with a secret mount"));
        }
        Ok(HttpUrl(text.to_owned()))
    }
}

const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

impl FromStr for Signal {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Signal, ValueError> {
        let number = |digits: &str, most: u8| {
            !digits.starts_with(['0', '+']) && digits.parse::<u8>().is_ok_and(|n| n <= most)
        };
        let real_time = |prefix: &str, most| {
            text.strip_prefix(prefix).is_some_and(|offset| {
                offset.is_empty() || {
                    let sign = if prefix == "SIGRTMIN" { '+' } else { '-' };
                    offset
                        .strip_prefix(sign)
                        .is_some_and(|offset| number(offset, most))
                }
            })
        };
        if SIGNALS.contains(&text)
            || number(text, 64)
            || real_time("SIGRTMIN", 30)
            || real_time("SIGRTMAX", 30)
        {
            return Ok(Signal(text.to_owned()));
        }
        let full = format!("SIG{}", text.to_ascii_uppercase().trim_start_matches("SIG"));
        let error = ValueError::new(format!("{text:?} is no signal"));
        Err(
            match nearest(&full, SIGNALS.into_iter()).filter(|_| text.len() > 2) {
                Some(signal) => error.help(format!("write {signal}")),
                None => error
                    .help("write a name such as SIGTERM or SIGRTMIN+3, or a number from 1 to 64"),
            },
        )
    }
}

impl FromStr for Compression {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Compression, ValueError> {
        let invalid = || {
            ValueError::new(format!("{text:?} is no compression"))
                .help("write none, gzip, gzip:LEVEL (1 to 12), zstd or zstd:LEVEL (1 to 22)")
        };
        let level = |digits: &str, most: u8| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .parse::<u8>()
                .ok()
                .filter(|n| plain && (1..=most).contains(n))
                .ok_or_else(invalid)
        };
        match text.split_once(':') {
            None if text == "none" => Ok(Compression::None),
            None if text == "gzip" => Ok(Compression::Gzip(None)),
            None if text == "zstd" => Ok(Compression::Zstd(None)),
            Some(("gzip", digits)) => level(digits, 12).map(|level| Compression::Gzip(Some(level))),
            Some(("zstd", digits)) => level(digits, 22).map(|level| Compression::Zstd(Some(level))),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Id(id) => id.fmt(f),
            Identity::Name(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.user.fmt(f)?;
        self.group
            .iter()
            .try_for_each(|group| write!(f, ":{group}"))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// As the config of an image holds it: `8080/tcp`.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, level) = match self {
            Compression::None => ("none", &None),
            Compression::Gzip(level) => ("gzip", level),
            Compression::Zstd(level) => ("zstd", level),
        };
        f.write_str(name)?;
        level.iter().try_for_each(|level| write!(f, ":{level}"))
    }
}

macro_rules! display_as_text {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

display_as_text!(Name, AccountName, Tag, HttpUrl, Signal);

#[cfg(test)]
mod tests;
