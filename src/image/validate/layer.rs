//! The rules of a layer: its compression, its tar, and what the tar may say.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};

use crate::image::tar::{TarEnd, TarEntry, TarError, TarKind, TarWalk};
use crate::image::validate::codec::sniffed;
use crate::image::validate::judge_bytes;
use crate::image::validate::rule::{Rule, Violations};
use crate::layer::decoder;
use crate::oci::{BlobReader, Codec, Descriptor, DiffId, HashingReader};

/// More names than any image has; the names of one layer are held in memory.
const MOST_ENTRIES: usize = 4_000_000;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Reads a layer to its end. Gives what it unpacks to, or `None` if it does not unpack.
pub(crate) fn judge(
    blob: BlobReader,
    descriptor: &Descriptor,
    codec: Codec,
    place: &str,
    found: &mut Violations,
) -> Option<DiffId> {
    // One byte too many is enough to see that there are too many.
    let mut stored = HashingReader::new(blob.take(descriptor.size.saturating_add(1)));
    let mut start = [0; 4];
    let length = read_start(&mut stored, &mut start);
    let looks_like = sniffed(&start[..length]);
    found.must(looks_like == codec, Rule::LayerCodec, place, || {
        format!("its media type says {codec}, its bytes look like {looks_like}")
    });
    let unpacked = unpack(
        (&start[..length]).chain(&mut stored),
        looks_like,
        place,
        found,
    );
    let drained = io::copy(&mut stored, &mut io::sink());
    judge_bytes(stored, drained.err(), descriptor, place, found);
    match unpacked {
        Ok(diff_id) => Some(diff_id),
        Err(error) => {
            found.add(
                Rule::LayerCodec,
                place,
                format!("cannot be unpacked as {looks_like}: {error}"),
            );
            None
        }
    }
}

fn read_start(reader: &mut impl Read, start: &mut [u8; 4]) -> usize {
    let mut length = 0;
    while length < start.len() {
        match reader.read(&mut start[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The error comes again when the rest is read.
            Err(_) => break,
        }
    }
    length
}

fn unpack(
    compressed: impl Read + Send,
    codec: Codec,
    place: &str,
    found: &mut Violations,
) -> io::Result<DiffId> {
    let mut plain = HashingReader::new(decoder(codec, compressed)?);
    walk(&mut plain, place, found)?;
    let rest_is_zeros = drain(&mut plain)?;
    found.must(rest_is_zeros, Rule::Tar, place, || {
        "has more than zeros behind the tar's end".to_owned()
    });
    let (_, digest, _) = plain.finish();
    Ok(DiffId(digest))
}

/// Reads to the end; whether there was nothing but zeros.
fn drain(reader: &mut impl Read) -> io::Result<bool> {
    let mut buffer = vec![0; 1 << 16];
    let mut is_zeros = true;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(is_zeros),
            Ok(count) => is_zeros &= buffer[..count].iter().all(|&byte| byte == 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Judges all entries. An error is one of the compression; those of the tar are violations.
fn walk(plain: &mut impl Read, place: &str, found: &mut Violations) -> io::Result<()> {
    let mut walk = TarWalk::new(plain);
    let mut names = Names::default();
    loop {
        match walk.next_entry() {
            Ok(Some(entry)) => names.judge(&entry, place, found),
            Ok(None) => break,
            Err(TarError::Io(error)) => return Err(error),
            Err(error) => {
                found.add(Rule::Tar, place, error.to_string());
                return Ok(());
            }
        }
        if names.kinds.len() > MOST_ENTRIES {
            found.add(
                Rule::Tar,
                place,
                format!("has more than {MOST_ENTRIES} entries"),
            );
            return Ok(());
        }
    }
    let is_marked = walk.end() == Some(TarEnd::Marked);
    found.must(is_marked, Rule::Tar, place, || {
        "does not end with two blocks of zeros".to_owned()
    });
    Ok(())
}

/// The names that a layer has had so far.
#[derive(Default)]
struct Names {
    kinds: HashMap<Vec<u8>, TarKind>,
    /// Directories that have had something in them before they came themselves.
    entered: HashSet<Vec<u8>>,
}

impl Names {
    fn judge(&mut self, entry: &TarEntry, place: &str, found: &mut Violations) {
        let shown = String::from_utf8_lossy(&entry.name)
            .chars()
            .take(200)
            .collect::<String>();
        let place = format!("{place}, entry {shown:?}");
        let Some(name) = normal(&entry.name) else {
            found.add(
                Rule::EntryName,
                &place,
                "is absolute, empty, climbs with \"..\" or holds a NUL",
            );
            return;
        };
        match entry.kind {
            TarKind::Sparse => found.add(
                Rule::EntryKind,
                &place,
                "is sparse, which readers unpack differently",
            ),
            TarKind::Other(flag) => {
                found.add(
                    Rule::EntryKind,
                    &place,
                    format!("is of the unknown kind {:?}", flag as char),
                );
            }
            TarKind::HardLink => found.must(
                normal(&entry.link).is_some_and(|link| !link.is_empty() && link != name),
                Rule::HardLink,
                &place,
                || {
                    format!(
                        "is a hard link to {:?}",
                        String::from_utf8_lossy(&entry.link)
                    )
                },
            ),
            TarKind::Symlink => found.must(!entry.link.is_empty(), Rule::EntryKind, &place, || {
                "is a symlink to nothing".to_owned()
            }),
            _ => {}
        }
        if name.is_empty() {
            found.must(
                entry.kind == TarKind::Directory,
                Rule::EntryKind,
                &place,
                || "is the root, but no directory".to_owned(),
            );
        }
        whiteout(&name, entry, &place, found);
        self.order(&name, entry.kind, &place, found);
    }

    fn order(&mut self, name: &[u8], kind: TarKind, place: &str, found: &mut Violations) {
        let mut above = name;
        while let Some(slash) = memchr::memrchr(b'/', above) {
            above = &above[..slash];
            match self.kinds.get(above) {
                None if self.entered.contains(above) => break,
                None => {
                    self.entered.insert(above.to_vec());
                }
                Some(TarKind::Directory) => break,
                Some(_) => {
                    let above = String::from_utf8_lossy(above).into_owned();
                    found.add(
                        Rule::EntryOrder,
                        place,
                        format!("stands below {above:?}, which is no directory"),
                    );
                    break;
                }
            }
        }
        if self.entered.contains(name) {
            found.add(Rule::EntryOrder, place, "comes after what is in it");
        }
        if self.kinds.insert(name.to_vec(), kind).is_some() {
            found.add(Rule::EntryTwice, place, "stands there twice");
        }
    }
}

fn whiteout(name: &[u8], entry: &TarEntry, place: &str, found: &mut Violations) {
    let mut names = name.split(|&byte| byte == b'/').rev();
    let last = names.next().unwrap_or_default();
    if names.any(|above| above.starts_with(WHITEOUT_PREFIX)) {
        found.add(Rule::Whiteout, place, "stands below a whiteout");
    }
    let Some(removed) = last.strip_prefix(WHITEOUT_PREFIX) else {
        return;
    };
    let names_something = last == OPAQUE || !matches!(removed, b"" | b"." | b"..");
    found.must(names_something, Rule::Whiteout, place, || {
        "removes nothing that can be".to_owned()
    });
    let is_empty_file = entry.kind == TarKind::File && entry.size == 0;
    // AUFS left links and directories of its own, `.wh..wh.*`, in old layers.
    let is_aufs = removed.starts_with(WHITEOUT_PREFIX) && last != OPAQUE;
    found.must(is_empty_file || is_aufs, Rule::Whiteout, place, || {
        "is a whiteout, but no empty file".to_owned()
    });
}

/// The name without `./`, doubled and trailing slashes; empty for the root, `None` if it leaves
/// the root or cannot be a name.
fn normal(name: &[u8]) -> Option<Vec<u8>> {
    let is_bad = name.is_empty() || name[0] == b'/' || name.contains(&0);
    let mut parts = Vec::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            part => parts.push(part),
        }
    }
    (!is_bad).then(|| parts.join(&b'/'))
}
