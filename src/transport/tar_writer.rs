//! The tar of an archive: few files with short names, and nothing of this machine in their headers.
//!
//! POSIX.1-2001 `pax`: USTAR headers, and a PAX record for the size of a file over 8 GiB. All
//! owners and times are 0. The `tar` crate would do this, too, but its builder takes times and
//! owners from files; here are no files to take them from.

use std::io::{self, Read, Write};

const BLOCK: u64 = 512;

/// The largest size that eleven octal digits can say.
const MOST_OCTAL: u64 = 0o777_7777_7777;

/// What a header says.
struct Header<'a> {
    name: &'a str,
    flag: u8,
    mode: u16,
    size: u64,
}

/// A tar stream in the making.
#[derive(Debug)]
pub(crate) struct TarWriter<W> {
    out: W,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(out: W) -> TarWriter<W> {
        TarWriter { out }
    }

    /// A directory; its name ends with a slash.
    pub(crate) fn directory(&mut self, name: &str) -> io::Result<()> {
        self.header(&Header {
            name,
            flag: b'5',
            mode: 0o755,
            size: 0,
        })
    }

    /// A file of exactly `size` bytes.
    ///
    /// # Errors
    /// `content` has fewer bytes ([`io::ErrorKind::UnexpectedEof`]); more are not taken.
    pub(crate) fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        if size > MOST_OCTAL {
            let record = size_record(size);
            let header = Header {
                name: "PaxHeader",
                flag: b'x',
                mode: 0o644,
                size: record.len() as u64,
            };
            self.header(&header)?;
            self.out.write_all(record.as_bytes())?;
            self.pad(record.len() as u64)?;
        }
        self.header(&Header {
            name,
            flag: b'0',
            mode: 0o644,
            size,
        })?;
        if io::copy(&mut content.take(size), &mut self.out)? != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(size)
    }

    /// Ends the tar; gives the stream back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        Ok(self.out)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.next_multiple_of(BLOCK) - size;
        self.out.write_all(&[0; BLOCK as usize][..padding as usize])
    }

    fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        let name = header.name.as_bytes();
        if name.len() > 100 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "names in archives have at most 100 bytes",
            ));
        }
        let mut block = [0; BLOCK as usize];
        block[..name.len()].copy_from_slice(name);
        octal(&mut block[100..108], u64::from(header.mode));
        octal(&mut block[108..116], 0);
        octal(&mut block[116..124], 0);
        octal(
            &mut block[124..136],
            if header.size > MOST_OCTAL {
                0
            } else {
                header.size
            },
        );
        octal(&mut block[136..148], 0);
        block[148..156].fill(b' ');
        block[156] = header.flag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum = block.iter().map(|&byte| u64::from(byte)).sum();
        octal(&mut block[148..155], sum);
        self.out.write_all(&block)
    }
}

/// How many bytes a tar takes with these files and directories in it.
pub(crate) fn total_size(files: impl Iterator<Item = u64>, directories: u64) -> u64 {
    let of_file = |size: u64| {
        let pax = if size > MOST_OCTAL { 2 * BLOCK } else { 0 };
        pax + BLOCK + size.next_multiple_of(BLOCK)
    };
    files.map(of_file).sum::<u64>() + directories * BLOCK + 2 * BLOCK
}

/// Zero-filled octal digits and a final NUL.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
    field[digits] = 0;
}

/// `LENGTH size=SIZE\n`, where the length counts itself.
fn size_record(size: u64) -> String {
    let rest = format!(" size={size}\n");
    // A size that needs a record has at least ten digits, so the length has two.
    format!("{}{rest}", rest.len() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_reader_agrees() {
        let mut tar = TarWriter::new(Vec::new());
        tar.directory("blobs/").unwrap();
        tar.file("a", 7, &mut &b"content"[..]).unwrap();
        tar.file("empty", 0, &mut io::empty()).unwrap();
        tar.file("cut", 3, &mut &b"too long"[..]).unwrap();
        assert!(tar.file("short", 4, &mut &b"abc"[..]).is_err());
        let mut tar = TarWriter::new(Vec::new());
        tar.directory("blobs/").unwrap();
        tar.file("a", 513, &mut io::repeat(b'x')).unwrap();
        let bytes = tar.finish().unwrap();
        assert_eq!(bytes.len() as u64, total_size([513].into_iter(), 1));
        let mut archive = tar::Archive::new(&bytes[..]);
        let listed: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().to_string_lossy().into_owned();
                (
                    path,
                    header.mode().unwrap(),
                    header.uid().unwrap(),
                    header.mtime().unwrap(),
                    entry.size(),
                )
            })
            .collect();
        assert_eq!(
            listed,
            [
                ("blobs/".to_owned(), 0o755, 0, 0, 0),
                ("a".to_owned(), 0o644, 0, 0, 513)
            ]
        );
    }

    /// Only the start of such a file is looked at; nobody writes 9 GiB in a test.
    #[test]
    fn files_over_eight_gibibytes_say_their_size_in_pax() {
        let size = 9 << 30;
        let mut tar = TarWriter::new(Vec::new());
        assert!(tar.file("big", size, &mut io::empty()).is_err());
        let mut archive = tar::Archive::new(&tar.out[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(
            (entry.path_bytes().as_ref(), entry.size()),
            (&b"big"[..], size)
        );
        assert_eq!(tar.out.len() as u64, 3 * BLOCK);
        assert_eq!(size_record(size), "19 size=9663676416\n");
    }
}
