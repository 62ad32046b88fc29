//! Early syncs: a large file goes to the disk while the rest of it is still being made.
//!
//! A file must be on the disk before it gets its name. Waiting for that at the end costs as long as
//! the disk takes for all of it; here another thread hands over what there is now and then, so that
//! at the end little is left. It changes nothing about what is written, and its failures do not
//! count: the sync at the end tells of them.

use std::fs::File;
use std::io::{self, Take};
use std::sync::mpsc::{SyncSender, sync_channel};

/// So many bytes are worth a sync.
const PORTION: u64 = 16 << 20;

/// Syncs one file early.
#[derive(Debug, Default)]
pub struct EarlySync {
    waiting: u64,
    pulse: Option<SyncSender<()>>,
}

impl EarlySync {
    /// `count` more bytes were written to `file`.
    pub fn wrote(&mut self, file: &File, count: u64) {
        self.waiting += count;
        if self.waiting < PORTION {
            return;
        }
        self.waiting = 0;
        if self.pulse.is_none() {
            self.pulse = start(file);
        }
        if let Some(pulse) = &self.pulse {
            // If a sync is under way and one is waiting, that one will see these bytes, too.
            let _ = pulse.try_send(());
        }
    }

    /// Appends what is left in `source` to `out`, without a way through memory where the system
    /// has one: on file systems that can share blocks that is no copy at all. Gives the number of
    /// bytes.
    ///
    /// # Errors
    /// One of the files failing.
    pub fn copy(&mut self, mut source: Take<&File>, mut out: &File) -> io::Result<u64> {
        let (mut left, mut copied) = (source.limit(), 0);
        while left > 0 {
            source.set_limit(left.min(PORTION));
            let count = io::copy(&mut source, &mut out)?;
            if count == 0 {
                break;
            }
            self.wrote(out, count);
            (left, copied) = (left - count, copied + count);
        }
        Ok(copied)
    }
}

/// A thread that syncs whenever it is told to, and ends with its sender.
fn start(file: &File) -> Option<SyncSender<()>> {
    let file = file.try_clone().ok()?;
    let (pulse, pulses) = sync_channel(1);
    let work = move || pulses.iter().for_each(|()| drop(file.sync_data()));
    let thread = std::thread::Builder::new().name("early sync".to_owned());
    thread.spawn(work).ok().map(|_| pulse)
}
