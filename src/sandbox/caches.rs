//! Caches of commands: `STORE/caches/NAME`, who holds them, and how their files leave and come.
//!
//! A cache is a directory that commands write to and that no image holds. What is in it belongs to
//! the ids of the tier that wrote it, so only the outer process of such a tier can read all of it
//! and make it again. It and the builder speak of files one by one ([`CacheEntry`]), contents
//! behind them: neither holds more than one file's name and a part of its content.
//!
//! ```text
//! STORE/caches/NAME/          the files; NAME.1 and so on where commands must not share
//! STORE/caches/.locks/NAME    held by whoever uses it; its time says when that last was
//! ```
//!
//! **What is kept** of a file: content, mode, owner, time to the nanosecond (tools that decide by
//! times would do work again, or worse, not do it), `user.*` attributes, and several names of one
//! file. Owners are kept in numbers as commands see them: out of the range of tier A and out of the
//! attributes of tier B, so each tier can take what another gave. **What is not:** sockets, pipes
//! and devices; the owners of symbolic links in tier B, which has no place for them; setuid and
//! setgid of files, for an archive must not bring programs that run as root.

mod entry;
mod incoming;
mod lock;
mod outgoing;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

pub use entry::{CacheEntry, CacheKind};
pub use lock::{Caches, HeldCache, Hold};

pub(crate) use entry::{DEEPEST, Feed};
pub(crate) use lock::used_now;

pub(crate) use incoming::fill_here;
pub(crate) use outgoing::pack_here;

use crate::sandbox::channel::send;
use crate::sandbox::error::SandboxError;
use crate::sandbox::order::{End, Failed, Report, Task};
use crate::sandbox::probe::{Footing, SandboxSettings};
use crate::sandbox::run::order_with;
use crate::sandbox::scratch::Scratch;

/// Sees each file of the directory of a cache, in the order of paths; directories before what is
/// in them. Gives what a person should know.
///
/// # Errors
/// A file that cannot be read, such as one of ids that this tier does not have; what `see` fails
/// with ends it, too, and is for the caller to remember.
pub fn read_cache(
    folder: &Path,
    footing: &Footing,
    settings: &SandboxSettings,
    see: &mut dyn FnMut(&CacheEntry, &mut dyn Read) -> io::Result<()>,
) -> Result<Vec<String>, SandboxError> {
    let mut notes = Vec::new();
    let task = Task::PackCache(folder.to_owned());
    let ended = order_with(footing, task, settings, &mut |report, socket| {
        match report {
            Report::Entry(entry) => {
                let size = entry.content_size();
                let mut content = socket.take(size);
                see(&entry, &mut content)?;
                io::copy(&mut content, &mut io::sink())?;
            }
            Report::Notes(told) => notes = told,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(())
    })?;
    done(ended, footing)?;
    Ok(notes)
}

/// Makes caches: `feed` gives every file, then names the caches that are whole. What was not
/// named, and what a named one replaces, is gone at the end. Gives what a person should know.
///
/// # Errors
/// A file that cannot be made, a full disk. What `feed` fails with ends it, too, and is for the
/// caller to remember.
pub fn write_caches(
    footing: &Footing,
    settings: &SandboxSettings,
    feed: &mut dyn FnMut(&mut Feeder<'_>) -> io::Result<()>,
) -> Result<Vec<String>, SandboxError> {
    let staging = Scratch::create(&settings.scratch)?;
    let mut notes = Vec::new();
    let task = Task::FillCaches(staging.path().to_owned());
    let ended = order_with(footing, task, settings, &mut |report, socket| {
        match report {
            Report::Ready => {
                let mut feeder = Feeder {
                    socket,
                    buffer: vec![0; 1 << 17],
                };
                let fed = feed(&mut feeder).and_then(|()| feeder.tell(&Feed::End));
                if fed.is_err() {
                    // It cleans up when it hears no more, and says why if it was its own doing.
                    let _ = socket.shutdown(Shutdown::Write);
                }
            }
            Report::Notes(told) => notes = told,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(())
    })?;
    done(ended, footing)?;
    Ok(notes)
}

fn done(outcome: Result<End, Failed>, footing: &Footing) -> Result<(), SandboxError> {
    match outcome {
        Ok(_) => Ok(()),
        Err(Failed::Setup(setup) | Failed::Start(setup)) => Err(SandboxError::Cache {
            tier: footing.tier,
            setup,
        }),
    }
}

/// Takes the files of caches.
#[derive(Debug)]
pub struct Feeder<'a> {
    socket: &'a UnixStream,
    buffer: Vec<u8>,
}

impl Feeder<'_> {
    /// A file of a cache; its path begins with the cache's name. Paths come in their order.
    ///
    /// # Errors
    /// The content cannot be read, or nobody takes it any more.
    pub fn entry(&mut self, entry: &CacheEntry, content: &mut dyn Read) -> io::Result<()> {
        self.tell(&Feed::Entry(Box::new(entry.clone())))?;
        let mut left = entry.content_size();
        while left > 0 {
            let most = (self.buffer.len() as u64).min(left) as usize;
            let count = content.read(&mut self.buffer[..most])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.socket.write_all(&self.buffer[..count])?;
            left -= count as u64;
        }
        Ok(())
    }

    /// All of a cache has come; it takes the place of the one of that name. Whoever calls this
    /// holds it alone.
    ///
    /// # Errors
    /// Nobody takes it any more.
    pub fn place(&mut self, caches: &Caches, name: &str) -> io::Result<()> {
        let place: PathBuf = caches.path(name);
        let name = name.to_owned();
        self.tell(&Feed::Place { name, place })
    }

    fn tell(&self, feed: &Feed) -> io::Result<()> {
        send(self.socket, feed)
    }
}

#[cfg(test)]
mod tests;
