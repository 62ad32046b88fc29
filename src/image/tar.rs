//! A walk through the headers of a tar stream, strict and with bounded memory.
//!
//! It serves those who must not trust a tar: [`crate::image::validate`], which judges layers
//! without sharing code with what writes them, and `transport`, which finds blobs inside an
//! archive. Names come out as bytes and are never made into paths of this machine.
//!
//! POSIX.1-2001 `pax` ("ustar Interchange Format", "pax Header Block") with GNU's long names and
//! base-256 numbers, which Go's and GNU's writers use.

use std::io::{self, Read};

const BLOCK: usize = 512;

/// The longest PAX header or GNU long name that is read; Linux has no path this long.
const MOST_METADATA: u64 = 1 << 20;

/// A reader that can pass over bytes.
pub(crate) trait Advance: Read + Sized {
    /// Passes over the next `count` bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if there are fewer.
    fn advance(&mut self, count: u64) -> io::Result<()> {
        match io::copy(&mut self.by_ref().take(count), &mut io::sink())? {
            passed if passed == count => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl<R: Read + ?Sized> Advance for &mut R {}
impl<R: Read + ?Sized> Advance for Box<R> {}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TarKind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// A file with holes, in one of GNU's encodings.
    Sparse,
    /// None of these; its type flag.
    Other(u8),
}

/// One entry of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TarEntry {
    /// The name as it stands there.
    pub(crate) name: Vec<u8>,
    /// The target of a link as it stands there.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: TarKind,
    /// Length of the content in bytes.
    pub(crate) size: u64,
    /// Where the header begins in the stream.
    pub(crate) header_at: u64,
    /// Where the content begins.
    pub(crate) content_at: u64,
}

/// Why a walk ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    /// The stream cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It ends within an entry.
    #[error("the tar ends within the entry at byte {0}")]
    Truncated(u64),
    /// It is no tar, or none that two readers would read alike.
    #[error("the tar entry at byte {at} {problem}")]
    Malformed {
        /// Where its header begins.
        at: u64,
        /// What is wrong.
        problem: &'static str,
    },
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TarEnd {
    /// With two blocks of zeros.
    Marked,
    /// Without: the stream just ends, or after one block of zeros.
    Unmarked,
}

/// A walk through the entries of a stream.
#[derive(Debug)]
pub(crate) struct TarWalk<R> {
    inner: R,
    /// Bytes taken from `inner`.
    at: u64,
    /// What is left of the current content and its padding.
    content: u64,
    padding: u64,
    end: Option<TarEnd>,
}

/// What PAX and GNU headers say about the entry behind them.
#[derive(Default)]
struct Extra {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
    is_any: bool,
}

impl<R: Advance> TarWalk<R> {
    pub(crate) fn new(inner: R) -> TarWalk<R> {
        TarWalk {
            inner,
            at: 0,
            content: 0,
            padding: 0,
            end: None,
        }
    }

    /// The next entry; what was not read of the current one's content is passed over.
    pub(crate) fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        let mut extra = Extra::default();
        let first_at = self.at + self.content + self.padding;
        loop {
            self.pass_content(first_at)?;
            let header_at = self.at;
            let Some(block) = self.block()? else {
                return match extra.is_any {
                    true => Err(TarError::Truncated(first_at)),
                    false => Ok(None),
                };
            };
            let malformed = |problem| TarError::Malformed {
                at: header_at,
                problem,
            };
            check_sum(&block).map_err(malformed)?;
            let size = number(&block[124..136]).map_err(malformed)?;
            match block[156] {
                b'x' | b'L' | b'K' => {
                    let flag = block[156];
                    let metadata = self.metadata(size, header_at)?;
                    extra.take(flag, metadata).map_err(malformed)?;
                }
                b'g' => {
                    let metadata = self.metadata(size, header_at)?;
                    refuse_global(&metadata).map_err(malformed)?;
                }
                _ => return self.entry(&block, size, extra, first_at).map(Some),
            }
        }
    }

    /// How the walk ended; `None` while it has not.
    pub(crate) fn end(&self) -> Option<TarEnd> {
        self.end
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        size: u64,
        extra: Extra,
        header_at: u64,
    ) -> Result<TarEntry, TarError> {
        let malformed = |problem| TarError::Malformed {
            at: header_at,
            problem,
        };
        let kind = match block[156] {
            _ if extra.is_sparse => TarKind::Sparse,
            0 | b'0' | b'7' => TarKind::File,
            b'1' => TarKind::HardLink,
            b'2' => TarKind::Symlink,
            b'3' => TarKind::CharDevice,
            b'4' => TarKind::BlockDevice,
            b'5' => TarKind::Directory,
            b'6' => TarKind::Fifo,
            b'S' => TarKind::Sparse,
            other => TarKind::Other(other),
        };
        let size = extra.size.unwrap_or(size);
        let has_content = matches!(kind, TarKind::File | TarKind::Sparse | TarKind::Other(_));
        if !has_content && size != 0 {
            return Err(malformed(
                "is no file but has content, which readers understand differently",
            ));
        }
        if size > i64::MAX as u64 {
            return Err(malformed("claims an impossible size"));
        }
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        let name = extra.name.unwrap_or_else(|| name_of(block));
        // Before POSIX a directory was a file with a slash at the end.
        let kind = match kind {
            TarKind::File if block[156] == 0 && name.ends_with(b"/") => TarKind::Directory,
            kind => kind,
        };
        Ok(TarEntry {
            name,
            link: extra
                .link
                .unwrap_or_else(|| until_nul(&block[157..257]).to_vec()),
            kind,
            size,
            header_at,
            content_at: self.at,
        })
    }

    fn pass_content(&mut self, entry_at: u64) -> Result<(), TarError> {
        let rest = self.content + self.padding;
        self.inner
            .advance(rest)
            .map_err(|error| truncated(error, entry_at))?;
        self.at += rest;
        (self.content, self.padding) = (0, 0);
        Ok(())
    }

    /// The next header block; `None` at the end of the tar.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        if !self.fill(&mut block)? {
            self.end = Some(TarEnd::Unmarked);
            return Ok(None);
        }
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        let is_second = self.fill(&mut block)?;
        if is_second && block != [0; BLOCK] {
            return Err(TarError::Malformed {
                at: self.at - BLOCK as u64,
                problem: "stands behind a block of zeros, where some readers stop",
            });
        }
        self.end = Some(match is_second {
            true => TarEnd::Marked,
            false => TarEnd::Unmarked,
        });
        Ok(None)
    }

    /// Reads a whole block, or nothing at the end of the stream.
    fn fill(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(TarError::Truncated(self.at)),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.at += BLOCK as u64;
        Ok(true)
    }

    fn metadata(&mut self, size: u64, header_at: u64) -> Result<Vec<u8>, TarError> {
        if size > MOST_METADATA {
            let problem = "has more than a mebibyte of metadata";
            return Err(TarError::Malformed {
                at: header_at,
                problem,
            });
        }
        let mut bytes = vec![0; size as usize];
        self.inner
            .read_exact(&mut bytes)
            .map_err(|error| truncated(error, header_at))?;
        self.at += size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(bytes)
    }
}

/// The content of the current entry.
impl<R: Advance> Read for TarWalk<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most =
            usize::try_from(self.content).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content -= count as u64;
        self.at += count as u64;
        Ok(count)
    }
}

impl Extra {
    fn take(&mut self, flag: u8, metadata: Vec<u8>) -> Result<(), &'static str> {
        self.is_any = true;
        match flag {
            b'L' => self.name = Some(until_nul(&metadata).to_vec()),
            b'K' => self.link = Some(until_nul(&metadata).to_vec()),
            _ => {
                for record in records(&metadata) {
                    let (key, value) = record?;
                    self.record(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" | b"linkpath" if value.contains(&0) => return Err("has a NUL in its name"),
            b"path" if value.is_empty() => return Err("has no name"),
            b"path" => self.name = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => {
                let text = std::str::from_utf8(value).ok();
                let digits = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let size = digits.and_then(|digits| digits.parse().ok());
                self.size = Some(size.ok_or("has a size that is no number")?);
            }
            _ if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
            _ => {}
        }
        Ok(())
    }
}

/// The records of a PAX header: `LENGTH KEY=VALUE\n`, where the length counts itself.
fn records(mut bytes: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), &'static str>> {
    const BAD: &str = "has a damaged PAX header";
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let split = || {
            let space = memchr::memchr(b' ', &bytes[..bytes.len().min(20)])?;
            let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
            let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = memchr::memchr(b'=', record)?;
            (equals > 0).then_some((&record[..equals], &record[equals + 1..], &bytes[length..]))
        };
        match split() {
            Some((key, value, rest)) => {
                bytes = rest;
                Some(Ok((key, value)))
            }
            None => {
                bytes = &[];
                Some(Err(BAD))
            }
        }
    })
}

/// Global headers may carry comments and times; names and sizes for all entries are nonsense.
fn refuse_global(metadata: &[u8]) -> Result<(), &'static str> {
    for record in records(metadata) {
        let (key, _) = record?;
        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
            return Err("gives all entries one name or size");
        }
    }
    Ok(())
}

fn check_sum(block: &[u8; BLOCK]) -> Result<(), &'static str> {
    let stored = number(&block[148..156])?;
    let bytes = || {
        let inside = |position: usize| (148..156).contains(&position);
        block
            .iter()
            .enumerate()
            .map(move |(position, &byte)| if inside(position) { b' ' } else { byte })
    };
    let unsigned: u64 = bytes().map(u64::from).sum();
    // Some old writers summed signed characters.
    let signed: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
    match stored == unsigned || i64::try_from(stored) == Ok(signed) {
        true => Ok(()),
        false => Err("has a wrong checksum: it is no tar, or it is damaged"),
    }
}

/// Octal digits between spaces and NULs, or GNU's base 256 if the top bit is set.
fn number(field: &[u8]) -> Result<u64, &'static str> {
    const BAD: &str = "has a field that is no number";
    match field[0] {
        0x80 => field[1..].iter().try_fold(0u64, |sum, &byte| {
            let sum = sum.checked_mul(256).ok_or(BAD)?;
            Ok(sum + u64::from(byte))
        }),
        0x81.. => Err("has a number that is negative or too large"),
        _ => {
            let is_filler = |byte: &u8| matches!(byte, b' ' | 0);
            let start = field
                .iter()
                .position(|byte| !is_filler(byte))
                .unwrap_or(field.len());
            let digits = &field[start..];
            let end = digits.iter().position(is_filler).unwrap_or(digits.len());
            if !digits[end..].iter().all(is_filler) {
                return Err(BAD);
            }
            digits[..end]
                .iter()
                .try_fold(0u64, |sum, &byte| match byte {
                    b'0'..=b'7' => Ok(sum * 8 + u64::from(byte - b'0')),
                    _ => Err(BAD),
                })
        }
    }
}

/// The name in the header itself: POSIX splits long ones over two fields.
fn name_of(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&block[..100]);
    let prefix = until_nul(&block[345..500]);
    match &block[257..263] == b"ustar\0" && !prefix.is_empty() {
        true => [prefix, b"/", name].concat(),
        false => name.to_vec(),
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, field).unwrap_or(field.len());
    &field[..end]
}

fn truncated(error: io::Error, at: u64) -> TarError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => TarError::Truncated(at),
        _ => TarError::Io(error),
    }
}

#[cfg(test)]
mod tests;
