//! Ending what runs from another thread.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ends all commands that were started with it, when it is pulled; those that are started later
/// end at once. Clones are the same switch.
#[derive(Clone, Default)]
pub struct StopSwitch(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_pulled: bool,
    next: u64,
    /// The builder's ends of the sockets of what runs.
    running: BTreeMap<u64, UnixStream>,
}

impl StopSwitch {
    /// Ends what runs and what will be run.
    pub fn pull(&self) {
        let mut state = self.state();
        state.is_pulled = true;
        for socket in std::mem::take(&mut state.running).values() {
            hang_up(socket);
        }
    }

    /// Whether it was pulled.
    pub fn is_pulled(&self) -> bool {
        self.state().is_pulled
    }

    /// Minds a run until the guard is dropped.
    pub(crate) fn mind(&self, socket: &UnixStream) -> io::Result<Minded> {
        let socket = socket.try_clone()?;
        let mut state = self.state();
        if state.is_pulled {
            hang_up(&socket);
        }
        state.next += 1;
        let number = state.next;
        state.running.insert(number, socket);
        Ok(Minded {
            switch: self.clone(),
            number,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outer process takes the end of the socket for the end of the builder, and cleans up.
pub(crate) fn hang_up(socket: &UnixStream) {
    // One that has ended already needs no telling.
    let _ = socket.shutdown(Shutdown::Write);
}

impl fmt::Debug for StopSwitch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        out.debug_struct("StopSwitch")
            .field("is_pulled", &state.is_pulled)
            .field("running", &state.running.len())
            .finish()
    }
}

/// A run that the switch knows of.
#[derive(Debug)]
pub(crate) struct Minded {
    switch: StopSwitch,
    number: u64,
}

impl Drop for Minded {
    fn drop(&mut self) {
        self.switch.state().running.remove(&self.number);
    }
}
