//! Image arguments: `oci:DIR[:REF]` and its like, or just the path of a layout or an archive.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use boxwright::spec::ImageSource;

use crate::cli::exit::{Blame, Failure};

const TRANSPORTS: [&str; 4] = ["oci:", "oci-archive:", "docker-archive:", "docker://"];

/// What a path turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Layout,
    OciArchive,
    DockerArchive,
    /// A text, a directory, an archive of something else.
    NoImage,
}

/// The image that an argument names; `None` if it names no image, but perhaps a spec.
pub(crate) fn recognize(text: &str) -> Result<Option<ImageSource>, Failure> {
    if TRANSPORTS
        .iter()
        .any(|transport| text.starts_with(transport))
    {
        let source: Result<ImageSource, _> = text.parse();
        return source.map(Some).map_err(|error| {
            let failure = Failure::new(Blame::CommandLine, error.message);
            error.help.into_iter().fold(failure, Failure::hint)
        });
    }
    let path = Path::new(text);
    let found = look_at(path).map_err(|error| {
        let blame = match error.kind() {
            io::ErrorKind::NotFound => Blame::Input,
            _ => Blame::System,
        };
        Failure::new(blame, format!("cannot read {text}")).because(&error)
    })?;
    let (file, reference) = (path.to_owned(), None);
    Ok(match found {
        Found::Layout => Some(ImageSource::Layout {
            dir: file,
            reference,
        }),
        Found::OciArchive => Some(ImageSource::OciArchive { file, reference }),
        Found::DockerArchive => Some(ImageSource::DockerArchive { file, reference }),
        Found::NoImage => None,
    })
}

/// The image that an argument must name.
pub(crate) fn image(text: &str) -> Result<ImageSource, Failure> {
    recognize(text)?.ok_or_else(|| {
        let headline = format!("{text} is neither a layout nor an archive of an image");
        Failure::new(Blame::Input, headline)
            .hint("images are written oci:DIR[:REF], oci-archive:FILE, docker-archive:FILE or docker://NAME")
    })
}

fn look_at(path: &Path) -> io::Result<Found> {
    if path.metadata()?.is_dir() {
        let is_layout = path.join("oci-layout").is_file();
        return Ok(if is_layout {
            Found::Layout
        } else {
            Found::NoImage
        });
    }
    let mut file = File::open(path)?;
    look_at_archive(&mut file)
}

/// More entries than any image has that is worth asking; a larger archive is something else.
const MOST_ENTRIES: usize = 100_000;
const BLOCK: u64 = 512;

/// Goes through the headers of a tar and looks for the documents that begin an image.
fn look_at_archive(archive: &mut (impl Read + Seek)) -> io::Result<Found> {
    let mut found = Found::NoImage;
    let mut header = [0; BLOCK as usize];
    for _ in 0..MOST_ENTRIES {
        match archive.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
        let (Some(size), true) = (octal(&header[124..136]), &header[257..262] == b"ustar") else {
            break;
        };
        let name = header[..100]
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default();
        match name.strip_prefix(b"./").unwrap_or(name) {
            // An archive that is both is an OCI archive: it says more.
            b"oci-layout" | b"index.json" => return Ok(Found::OciArchive),
            b"manifest.json" => found = Found::DockerArchive,
            _ => {}
        }
        let Ok(padded) = i64::try_from(size.div_ceil(BLOCK).saturating_mul(BLOCK)) else {
            break;
        };
        archive.seek(SeekFrom::Current(padded))?;
    }
    Ok(found)
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn archive(entries: &[(&str, usize)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, size) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_size(*size as u64);
            builder
                .append_data(&mut header, name, &vec![b'x'; *size][..])
                .unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn found(bytes: Vec<u8>) -> Found {
        look_at_archive(&mut Cursor::new(bytes)).unwrap()
    }

    #[test]
    fn archives_are_told_apart() {
        let docker = [("abc/layer.tar", 1000), ("manifest.json", 3)];
        assert_eq!(found(archive(&docker)), Found::DockerArchive);
        let hybrid = [
            ("manifest.json", 3),
            ("blobs/sha256/a", 513),
            ("oci-layout", 30),
        ];
        assert_eq!(found(archive(&hybrid)), Found::OciArchive);
        assert_eq!(found(archive(&[("a", 600), ("b", 0)])), Found::NoImage);
        assert_eq!(found(b"format: 1\n".repeat(100)), Found::NoImage);
        assert_eq!(found(Vec::new()), Found::NoImage);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_harm(bytes in proptest::collection::vec(0u8.., 0..2000)) {
            let mut archive = archive(&[("a", 600)]);
            archive[..bytes.len()].copy_from_slice(&bytes);
            let _ = found(archive);
            let _ = found(bytes);
        }
    }

    #[test]
    fn damaged_archives_are_no_images_and_no_panics() {
        let mut bytes = archive(&[("a", 600)]);
        bytes[124..136].copy_from_slice(b"777777777777");
        assert_eq!(found(bytes.clone()), Found::NoImage);
        bytes.truncate(700);
        assert_eq!(found(bytes), Found::NoImage);
    }
}
