//! Tar streams of other tools, read without trust.
//!
//! USTAR, GNU and PAX headers, as Docker, containerd, buildah, kaniko, bazel and apko write them.
//! Everything that a header claims is bounded before memory is taken, a damaged header is an error
//! and never the end, and nothing here touches a file system.

use std::io::{self, Read};

use crate::layer::error::LayerError;
use crate::layer::header::BLOCK;
use crate::tree::Bytes;

/// How much a layer of someone else may ask of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries in one layer.
    pub entries: u64,
    /// Bytes of names, link targets and attributes in one layer: they stay in memory.
    pub metadata: u64,
    /// Bytes of one extended header.
    pub extended_header: u64,
    /// Uncompressed bytes of one layer.
    pub uncompressed: u64,
    /// Uncompressed bytes for each compressed one, once there are more than a gibibyte of them.
    pub expansion: u64,
}

impl Default for Limits {
    /// Above every honest layer, and small enough to fit into memory: 400,000 entries, 128 MiB of
    /// names, 1 TiB of contents.
    fn default() -> Limits {
        Limits {
            entries: 400_000,
            metadata: 128 << 20,
            extended_header: 1 << 20,
            uncompressed: 1 << 40,
            expansion: 300,
        }
    }
}

/// One entry as the archive says it, before anyone judged its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TarEntry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: TarKind,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    /// Nanoseconds behind [`Self::mtime`].
    pub(crate) mtime_nanos: u32,
    /// Length of the content that follows.
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<(Bytes, Bytes)>,
    /// Where the entry's first header begins in the stream.
    pub(crate) header_offset: u64,
    /// Where the content begins in the stream.
    pub(crate) content_offset: u64,
}

/// The kinds of entries that an image can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TarKind {
    File,
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Directory,
    Fifo,
}

/// Reads entries one after the other.
pub(crate) struct TarReader<R> {
    reader: R,
    limits: Limits,
    offset: u64,
    /// Content and padding of the last entry that nobody has read.
    content_left: u64,
    padding_left: u64,
    entries: u64,
    metadata: u64,
    global: Records,
}

/// What PAX and GNU headers said about the next entry.
#[derive(Debug, Clone, Default)]
struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Bytes, Bytes)>,
    is_sparse: bool,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(reader: R, limits: Limits) -> TarReader<R> {
        TarReader {
            reader,
            limits,
            offset: 0,
            content_left: 0,
            padding_left: 0,
            entries: 0,
            metadata: 0,
            global: Records::default(),
        }
    }

    /// The next entry; `None` at the end of the archive. What was not read of the last entry's
    /// content is passed over.
    pub(crate) fn next_entry(&mut self) -> Result<Option<TarEntry>, LayerError> {
        io::copy(&mut self.content(), &mut io::sink()).map_err(|error| self.broken(&error))?;
        let start = self.offset + self.padding_left;
        let mut records = self.global.clone();
        loop {
            self.skip_padding()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            match header.0[156] {
                b'x' => records.read_pax(&self.extended(&header)?, |problem| {
                    self.malformed(start, problem)
                })?,
                b'g' => {
                    let text = self.extended(&header)?;
                    let mut global = std::mem::take(&mut self.global);
                    global.read_pax(&text, |problem| self.malformed(start, problem))?;
                    records = global.clone();
                    self.global = global;
                }
                b'L' => records.path = Some(trim_nul(self.extended(&header)?)),
                b'K' => records.link = Some(trim_nul(self.extended(&header)?)),
                _ => return self.entry(&header, records, start).map(Some),
            }
        }
    }

    /// The content of the last entry, as far as it has not been read.
    pub(crate) fn content(&mut self) -> ContentOf<'_, R> {
        ContentOf(self)
    }

    /// Reads to the end of the stream, past the end of the archive.
    pub(crate) fn drain(&mut self) -> Result<(), LayerError> {
        let rest =
            io::copy(&mut self.reader, &mut io::sink()).map_err(|error| self.broken(&error))?;
        self.offset += rest;
        Ok(())
    }

    /// The stream, wherever it stands.
    pub(crate) fn into_inner(self) -> R {
        self.reader
    }

    fn entry(
        &mut self,
        header: &Header,
        records: Records,
        start: u64,
    ) -> Result<TarEntry, LayerError> {
        let name = records.path.clone().unwrap_or_else(|| header.name());
        let wrong = |problem: String| LayerError::Malformed {
            entry: format!(
                "{:?}",
                String::from_utf8_lossy(&name[..name.len().min(120)])
            ),
            offset: start,
            problem,
        };
        let not_a_number = |what: &str| wrong(format!("its {what} is no number that fits"));
        let kind = header
            .kind(&name, records.link.as_deref(), records.is_sparse)
            .map_err(&wrong)?;
        // Links and devices have no content, whatever their size field says.
        let size = match kind {
            TarKind::File => records
                .size
                .or_else(|| header.number(124, 12))
                .ok_or_else(|| not_a_number("size"))?,
            _ => 0,
        };
        let id = |record: Option<u64>, at| {
            record
                .or_else(|| header.number(at, 8))
                .and_then(|id| u32::try_from(id).ok())
        };
        let uid = id(records.uid, 108).ok_or_else(|| not_a_number("owner"))?;
        let gid = id(records.gid, 116).ok_or_else(|| not_a_number("group"))?;
        let mode = header.number(100, 8).ok_or_else(|| not_a_number("mode"))? & 0o7777;
        let mtime = header
            .number(136, 12)
            .and_then(|mtime| Some((i64::try_from(mtime).ok()?, 0)));
        let (mtime, mtime_nanos) = records.mtime.or(mtime).unwrap_or((0, 0));
        let attributes: usize = records
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.entries += 1;
        self.metadata += (name.len() + attributes + 64) as u64;
        if self.entries > self.limits.entries || self.metadata > self.limits.metadata {
            return Err(wrong(
                "the layer has more entries or longer names than we accept".to_owned(),
            ));
        }
        self.content_left = size;
        self.padding_left = size
            .checked_next_multiple_of(BLOCK as u64)
            .ok_or_else(|| wrong("its size is no number that fits".to_owned()))?
            - size;
        Ok(TarEntry {
            name,
            kind,
            mode: mode as u16,
            uid,
            gid,
            mtime,
            mtime_nanos,
            size,
            xattrs: records.xattrs,
            header_offset: start,
            content_offset: self.offset,
        })
    }

    /// The next header block; `None` at the end, which is two blocks of zeros or, leniently, the
    /// end of the stream between two entries.
    fn header(&mut self) -> Result<Option<Header>, LayerError> {
        let start = self.offset;
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => {
                    return Err(self.malformed(start, "the archive ends in the middle of a header"));
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
        self.offset += BLOCK as u64;
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let header = Header(block);
        match header.checksum_is_right() {
            true => Ok(Some(header)),
            false => Err(self.malformed(start, "its header's checksum is wrong")),
        }
    }

    /// The content of an extended header.
    fn extended(&mut self, header: &Header) -> Result<Vec<u8>, LayerError> {
        let start = self.offset;
        let size = header
            .number(124, 12)
            .filter(|size| *size <= self.limits.extended_header);
        let size = size
            .ok_or_else(|| self.malformed(start, "its extended header is larger than we accept"))?;
        let mut text = vec![0; size as usize];
        self.reader
            .read_exact(&mut text)
            .map_err(|error| self.broken(&error))?;
        self.offset += size;
        self.padding_left = size.next_multiple_of(BLOCK as u64) - size;
        Ok(text)
    }

    fn skip_padding(&mut self) -> Result<(), LayerError> {
        let mut padding = [0; BLOCK];
        let padding = &mut padding[..self.padding_left as usize];
        self.reader
            .read_exact(padding)
            .map_err(|error| self.broken(&error))?;
        self.offset += self.padding_left;
        self.padding_left = 0;
        Ok(())
    }

    fn malformed(&self, offset: u64, problem: impl Into<String>) -> LayerError {
        LayerError::Malformed {
            entry: format!("number {}", self.entries + 1),
            offset,
            problem: problem.into(),
        }
    }

    fn broken(&self, error: &io::Error) -> LayerError {
        let problem = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the archive is truncated".to_owned(),
            _ => error.to_string(),
        };
        self.malformed(self.offset, problem)
    }
}

/// The content of one entry.
pub(crate) struct ContentOf<'a, R>(&'a mut TarReader<R>);

impl<R: Read> Read for ContentOf<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer
            .len()
            .min(usize::try_from(self.0.content_left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.0.reader.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0.offset += count as u64;
        self.0.content_left -= count as u64;
        Ok(count)
    }
}

/// Whether these bytes begin with the header of a tar entry.
pub(crate) fn is_header(start: &[u8]) -> bool {
    let block = start.first_chunk::<BLOCK>();
    block.is_some_and(|block| {
        block.iter().any(|&byte| byte != 0) && Header(*block).checksum_is_right()
    })
}

struct Header([u8; BLOCK]);

impl Header {
    /// A text field up to its first NUL.
    fn field(&self, at: usize, length: usize) -> &[u8] {
        let field = &self.0[at..at + length];
        &field[..memchr::memchr(0, field).unwrap_or(length)]
    }

    fn name(&self) -> Vec<u8> {
        let name = self.field(0, 100);
        // GNU's magic ends in blanks, and other things stand where USTAR has a prefix.
        let is_ustar = &self.0[257..263] == b"ustar\0";
        match self.field(345, 155) {
            prefix if is_ustar && !prefix.is_empty() => [prefix, b"/", name].concat(),
            _ => name.to_vec(),
        }
    }

    /// The kind, or why an image cannot hold it.
    fn kind(&self, name: &[u8], link: Option<&[u8]>, is_sparse: bool) -> Result<TarKind, String> {
        let link = || link.unwrap_or_else(|| self.field(157, 100)).to_vec();
        let device = |at| {
            self.number(at, 8)
                .and_then(|number| u32::try_from(number).ok())
        };
        let devices = || {
            device(329)
                .zip(device(337))
                .ok_or("its device number does not fit")
        };
        match self.0[156] {
            _ if is_sparse => Err("sparse files are not allowed in image layers".to_owned()),
            b'0' | b'7' | 0 if name.ends_with(b"/") => Ok(TarKind::Directory),
            b'0' | b'7' | 0 => Ok(TarKind::File),
            b'1' => Ok(TarKind::HardLink(link())),
            // No file system holds one, and what we would copy from it no runtime could unpack.
            b'2' if link().is_empty() => Err("it is a symlink to nothing".to_owned()),
            b'2' => Ok(TarKind::Symlink(link())),
            b'3' => Ok(devices().map(|(major, minor)| TarKind::CharDevice(major, minor))?),
            b'4' => Ok(devices().map(|(major, minor)| TarKind::BlockDevice(major, minor))?),
            b'5' => Ok(TarKind::Directory),
            b'6' => Ok(TarKind::Fifo),
            b'S' => Err("sparse files are not allowed in image layers".to_owned()),
            other => Err(format!(
                "entries of type {:?} are not allowed in image layers",
                char::from(other)
            )),
        }
    }

    /// Octal digits with blanks or NULs around them, or GNU's binary form, which is never negative
    /// here.
    fn number(&self, at: usize, length: usize) -> Option<u64> {
        let field = &self.0[at..at + length];
        if field[0] & 0x80 != 0 {
            let mut bytes = field.to_vec();
            bytes[0] &= 0x7f;
            let (high, low) = bytes.split_at(length - 8);
            let low = u64::from_be_bytes(low.try_into().ok()?);
            return high.iter().all(|&byte| byte == 0).then_some(low);
        }
        let text = std::str::from_utf8(field).ok()?;
        match text.trim_matches([' ', '\0']) {
            "" => Some(0),
            digits => u64::from_str_radix(digits, 8).ok(),
        }
    }

    /// Some old archivers summed signed bytes.
    fn checksum_is_right(&self) -> bool {
        let blanked = |at: usize| {
            if (148..156).contains(&at) {
                b' '
            } else {
                self.0[at]
            }
        };
        let unsigned: u64 = (0..BLOCK).map(|at| u64::from(blanked(at))).sum();
        let signed: i64 = (0..BLOCK).map(|at| i64::from(blanked(at) as i8)).sum();
        let found = self.number(148, 8);
        found == Some(unsigned) || found.and_then(|sum| i64::try_from(sum).ok()) == Some(signed)
    }
}

impl Records {
    /// Reads `LENGTH KEY=VALUE\n` records. An empty value takes back an earlier one.
    fn read_pax(
        &mut self,
        mut text: &[u8],
        malformed: impl Fn(&str) -> LayerError,
    ) -> Result<(), LayerError> {
        while !text.is_empty() {
            let record =
                split_record(text).ok_or_else(|| malformed("its PAX header is damaged"))?;
            let (key, value, rest) = record;
            text = rest;
            self.take(key, value)
                .ok_or_else(|| malformed("its PAX header holds a bad number"))?;
        }
        Ok(())
    }

    /// `None` where a value makes no sense. Keys that mean nothing to an image are passed over.
    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let text = || std::str::from_utf8(value).ok();
        let number = || match text()? {
            "" => Some(None),
            digits => digits.parse::<u64>().ok().map(Some),
        };
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link = bytes(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => self.mtime = seconds(text()?)?,
            _ if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.into(), value.into()));
                }
            }
        }
        Some(())
    }
}

/// Whole seconds of a PAX time, rounded down, and the nanoseconds behind them.
fn seconds(text: &str) -> Option<Option<(i64, u32)>> {
    if text.is_empty() {
        return Some(None);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0, |nanos, digit| {
        nanos * 10 + u32::from(digit.saturating_sub(b'0').min(9))
    });
    let has_fraction = fraction.bytes().any(|digit| digit != b'0');
    Some(Some(if whole.starts_with('-') && has_fraction {
        (
            seconds.checked_sub(1)?,
            (1_000_000_000 - nanos) % 1_000_000_000,
        )
    } else {
        (seconds, nanos)
    }))
}

fn split_record(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = memchr::memchr(b' ', text)?;
    let length: usize = std::str::from_utf8(&text[..blank]).ok()?.parse().ok()?;
    if length > text.len() || length < blank + 3 {
        return None;
    }
    let (record, rest) = text.split_at(length);
    let record = record[blank + 1..].strip_suffix(b"\n")?;
    let equals = memchr::memchr(b'=', record)?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

/// GNU long names end in a NUL.
fn trim_nul(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(memchr::memchr(0, &name).unwrap_or(name.len()));
    name
}

#[cfg(test)]
mod tests;
