//! Interruptions: while a container runs, Ctrl-C and SIGTERM must not leave it behind.
//!
//! Everywhere else they end the process at once, as they always do: nothing there needs cleaning
//! up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::cli::exit::{Blame, Failure};

struct Flags {
    /// Whether a signal may end the process at once.
    may_end: Arc<AtomicBool>,
    /// Whether one has come meanwhile.
    has_come: Arc<AtomicBool>,
}

static FLAGS: OnceLock<Option<Flags>> = OnceLock::new();

fn flags() -> Option<&'static Flags> {
    let flags = FLAGS.get_or_init(|| {
        let flags = Flags {
            may_end: Arc::new(AtomicBool::new(true)),
            has_come: Arc::new(AtomicBool::new(false)),
        };
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_default(signal, Arc::clone(&flags.may_end)).ok()?;
            flag::register(signal, Arc::clone(&flags.has_come)).ok()?;
        }
        Some(flags)
    });
    flags.as_ref()
}

/// As long as it lives, signals are only remembered.
#[derive(Debug)]
pub(crate) struct Delayed(());

impl Delayed {
    pub(crate) fn begin() -> Delayed {
        if let Some(flags) = flags() {
            flags.may_end.store(false, Ordering::SeqCst);
        }
        Delayed(())
    }
}

impl Drop for Delayed {
    fn drop(&mut self) {
        if let Some(flags) = flags() {
            flags.may_end.store(true, Ordering::SeqCst);
        }
    }
}

/// Waits a little.
///
/// # Errors
/// A signal has come; whoever gets this clears away and goes.
pub(crate) fn pause(span: Duration) -> Result<(), Failure> {
    std::thread::sleep(span);
    match flags() {
        Some(flags) if flags.has_come.load(Ordering::SeqCst) => {
            Err(Failure::new(Blame::System, "interrupted"))
        }
        _ => Ok(()),
    }
}
