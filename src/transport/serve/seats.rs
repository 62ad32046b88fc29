//! Seats: how many clients are served at once, and who goes when all seats are taken.
//!
//! Each connection has a thread and a seat. A client that is being answered keeps its seat; one that
//! only waits, with a request half said or none, loses it to who comes next, the longest waiting
//! first. So any number of silent or slow clients cannot keep a talking one out.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// All seats of a server.
#[derive(Debug)]
pub(crate) struct Seats {
    most: usize,
    inner: Mutex<Inner>,
    /// Someone has left.
    left: Condvar,
    is_cut: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    taken: BTreeMap<u64, Client>,
    /// Nobody waits for another request.
    is_closing: bool,
}

#[derive(Debug)]
struct Client {
    stream: Arc<TcpStream>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting(Instant),
    Answered,
    /// It was told to go.
    Leaving,
}

/// A taken seat; it is free when dropped.
#[derive(Debug)]
pub(crate) struct Seat<'a> {
    seats: &'a Seats,
    number: u64,
    pub(crate) stream: Arc<TcpStream>,
}

impl Seats {
    pub(crate) fn new(most: usize) -> Seats {
        Seats {
            most,
            inner: Mutex::default(),
            left: Condvar::new(),
            is_cut: AtomicBool::new(false),
        }
    }

    /// Whether someone who comes now gets a seat. If not, the one who has waited longest goes, and
    /// `patience` is how long that may take.
    pub(crate) fn has_room(&self, patience: Duration) -> bool {
        let mut inner = self.inner();
        if inner.taken.len() < self.most {
            return true;
        }
        let mut clients = inner.taken.values_mut();
        if clients.all(|client| client.state != State::Leaving) {
            let waiting = inner
                .taken
                .values_mut()
                .filter_map(|client| match client.state {
                    State::Waiting(since) => Some((since, client)),
                    State::Answered | State::Leaving => None,
                });
            if let Some((_, client)) = waiting.min_by_key(|(since, _)| *since) {
                client.dismiss();
            }
        }
        let waited = self.left.wait_timeout(inner, patience);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.taken.len() < self.most
    }

    /// Gives a seat to a client.
    pub(crate) fn take(&self, stream: TcpStream) -> Seat<'_> {
        let stream = Arc::new(stream);
        let mut inner = self.inner();
        let number = inner.next;
        inner.next += 1;
        let client = Client {
            stream: Arc::clone(&stream),
            state: State::Waiting(Instant::now()),
        };
        inner.taken.insert(number, client);
        Seat {
            seats: self,
            number,
            stream,
        }
    }

    /// Lets those go who wait. The others go when they have their answers.
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        inner.is_closing = true;
        let clients = inner.taken.values_mut();
        clients
            .filter(|client| matches!(client.state, State::Waiting(_)))
            .for_each(Client::dismiss);
    }

    /// Ends all answers where they are.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.inner().taken.values_mut().for_each(Client::dismiss);
    }

    /// Whether all have left. If not, someone may leave for as long as `patience`.
    pub(crate) fn are_empty(&self, patience: Duration) -> bool {
        let inner = self.inner();
        if inner.taken.is_empty() {
            return true;
        }
        let waited = self.left.wait_timeout(inner, patience);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.taken.is_empty()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Both directions end, and whoever reads or writes learns of it at once.
    fn dismiss(&mut self) {
        self.state = State::Leaving;
        // A client that has gone already is no concern.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Seat<'_> {
    /// The client waits for its next request from now on; false if there will be none.
    pub(crate) fn await_request(&self) -> bool {
        self.turn(State::Waiting(Instant::now()))
    }

    /// The client is answered from now on; false if it has to go.
    pub(crate) fn begin_answer(&self) -> bool {
        self.turn(State::Answered)
    }

    /// Whether answers end where they are.
    pub(crate) fn is_cut(&self) -> bool {
        self.seats.is_cut.load(Ordering::Relaxed)
    }

    fn turn(&self, state: State) -> bool {
        let mut inner = self.seats.inner();
        if inner.is_closing && matches!(state, State::Waiting(_)) {
            return false;
        }
        match inner.taken.get_mut(&self.number) {
            Some(client) if client.state != State::Leaving => {
                client.state = state;
                true
            }
            _ => false,
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.seats.inner().taken.remove(&self.number);
        self.seats.left.notify_all();
    }
}
