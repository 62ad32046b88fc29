//! Digests: what names a blob, and the two other identities that look alike but never mix.
//!
//! OCI image spec, `descriptor.md` "Digests" and `config.md` "Layer DiffID", "Layer ChainID".

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256};

/// The SHA-256 digest of exact bytes, written `sha256:` and 64 lower-case hex digits.
///
/// `sha256` is the one algorithm that every registry and loader accepts; a `sha512` digest in a
/// document is refused by [`FromStr`] with an error that says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// The digest of one *uncompressed* layer tar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

/// The digest of an ordered stack of layers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(pub Digest);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// The text has no `algorithm:` prefix.
    #[error("digest {0:?} has no algorithm; write it as sha256:…")]
    NoAlgorithm(String),
    /// The algorithm is not `sha256`.
    #[error("digest algorithm {0:?} is not supported; only sha256 is")]
    Algorithm(String),
    /// The part after the colon is not 64 lower-case hex digits.
    #[error("digest {0:?} does not end in 64 lower-case hex digits")]
    Encoded(String),
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// A digest from its 32 raw bytes, as kept in binary records.
    pub const fn from_raw(raw: [u8; 32]) -> Digest {
        Digest(raw)
    }

    /// The 32 raw bytes.
    pub const fn raw(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits without the algorithm: the file name of a blob in a layout.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0
            .iter()
            .fold(String::with_capacity(64), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
    }

    /// The first twelve hex digits, for people.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }

    /// A digest from 64 lower-case hex digits without an algorithm.
    pub fn from_hex(hex: &str) -> Result<Digest, DigestError> {
        let invalid = || DigestError::Encoded(hex.to_owned());
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return Err(invalid());
        }
        let mut raw = [0u8; 32];
        for (byte, pair) in raw.iter_mut().zip(digits.chunks_exact(2)) {
            *byte =
                nibble(pair[0]).ok_or_else(invalid)? << 4 | nibble(pair[1]).ok_or_else(invalid)?;
        }
        Ok(Digest(raw))
    }
}

/// Upper-case digits are refused: the grammar allows one spelling per digest.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        match text.split_once(':') {
            None => Err(DigestError::NoAlgorithm(text.to_owned())),
            Some(("sha256", hex)) => Digest::from_hex(hex),
            Some((algorithm, _)) => Err(DigestError::Algorithm(algorithm.to_owned())),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "diff_id {}", self.0)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain_id {}", self.0)
    }
}

impl ChainId {
    /// The identity of `diff_ids` applied in order; `None` for an empty stack.
    pub fn of(diff_ids: &[DiffId]) -> Option<ChainId> {
        let (first, rest) = diff_ids.split_first()?;
        Some(rest.iter().fold(ChainId(first.0), |chain, diff_id| {
            ChainId(Digest::of(format!("{chain} {diff_id}").as_bytes()))
        }))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes bytes as they come and counts them.
#[derive(Clone, Default)]
pub struct Hasher {
    state: Sha256,
    size: u64,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Hasher {
        Hasher::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// How many bytes have been seen.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of everything seen.
    pub fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }

    /// What the hasher knows after the bytes it has seen, so that another can go on from there.
    pub fn save(&self) -> HasherState {
        let mut state = [0; HASHER_STATE];
        let serialized = self.state.serialize();
        state[..8].copy_from_slice(&self.size.to_le_bytes());
        state[8..].copy_from_slice(&serialized);
        HasherState(state)
    }

    /// A hasher that goes on where the saved one was; `None` if the state makes no sense.
    pub fn resume(state: &HasherState) -> Option<Hasher> {
        let (size, serialized) = state.0.split_at(8);
        let size = u64::from_le_bytes(size.try_into().ok()?);
        let serialized = serialized.try_into().ok()?;
        let state = Sha256::deserialize(&serialized).ok()?;
        Some(Hasher { state, size })
    }
}

/// Length of a [`HasherState`] in bytes.
pub const HASHER_STATE: usize = 8 + 104;

/// A saved [`Hasher`]. Whoever keeps one must guard it against damage, for a wrong state gives a
/// wrong digest and nothing else would tell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HasherState(pub [u8; HASHER_STATE]);

impl fmt::Debug for HasherState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HasherState(…)")
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// A writer that hashes what passes through it.
#[derive(Debug)]
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> HashingWriter<W> {
    /// Wraps `inner`.
    pub fn new(inner: W) -> HashingWriter<W> {
        HashingWriter {
            inner,
            hasher: Hasher::new(),
        }
    }

    /// The writer, and the digest and size of all that was written to it.
    pub fn finish(self) -> (W, Digest, u64) {
        let size = self.hasher.size();
        (self.inner, self.hasher.finish(), size)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A reader that hashes what passes through it.
#[derive(Debug)]
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> HashingReader<R> {
    /// Wraps `inner`.
    pub fn new(inner: R) -> HashingReader<R> {
        HashingReader {
            inner,
            hasher: Hasher::new(),
        }
    }

    /// How many bytes have been read.
    pub fn size(&self) -> u64 {
        self.hasher.size()
    }

    /// The reader, and the digest and size of all that was read from it.
    pub fn finish(self) -> (R, Digest, u64) {
        let size = self.hasher.size();
        (self.inner, self.hasher.finish(), size)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_round_trips() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(digest, Digest::of(b""));
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(digest.short(), "e3b0c44298fc");
    }

    #[test]
    fn one_spelling_per_digest() {
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        for (text, why) in [
            ("e3b0", "has no algorithm"),
            ("sha512:00", "not supported"),
            ("sha256:e3b0", "64 lower-case hex digits"),
            (upper.as_str(), "64 lower-case hex digits"),
            (
                "sha256:é3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85",
                "64",
            ),
        ] {
            let error = text.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn chain_of_one_is_its_diff_id() {
        let (a, b) = (DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b")));
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(ChainId::of(&[a]), Some(ChainId(a.0)));
        let joined = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(ChainId::of(&[a, b]), Some(ChainId(joined)));
    }

    #[test]
    fn a_saved_hasher_goes_on_where_it_was() {
        let bytes: Vec<u8> = (0..1000u32).flat_map(u32::to_le_bytes).collect();
        for cut in [0, 1, 63, 64, 65, 2000, bytes.len()] {
            let mut first = Hasher::new();
            first.update(&bytes[..cut]);
            let mut second = Hasher::resume(&first.save()).unwrap();
            second.update(&bytes[cut..]);
            assert_eq!(second.size(), bytes.len() as u64);
            assert_eq!(second.finish(), Digest::of(&bytes), "{cut}");
        }
    }

    #[test]
    fn hashing_while_copying_sees_every_byte() {
        let mut reader = HashingReader::new(&b"some bytes"[..]);
        let mut writer = HashingWriter::new(Vec::new());
        io::copy(&mut reader, &mut writer).unwrap();
        let (_, read, read_size) = reader.finish();
        let (copy, written, written_size) = writer.finish();
        assert_eq!(copy, b"some bytes");
        assert_eq!((read, read_size), (written, written_size));
        assert_eq!(read, Digest::of(b"some bytes"));
    }
}
