//! The server: an address, a bounded number of clients, and an end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::transport::error::TransportError;
use crate::transport::serve::connection::attend;
use crate::transport::serve::seats::{Seat, Seats};
use crate::transport::serve::shelf::Shelf;

/// The bounds of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeSettings {
    /// How many connections are open at once; each has a thread.
    pub connections: usize,
    /// How long a request may take to arrive, from its first byte to its last.
    pub head: Duration,
    /// How long a connection may be without a request.
    pub idle: Duration,
    /// How long a client may take for 128 KiB of an answer.
    pub piece: Duration,
    /// How long answers that are under way may take when the server ends.
    pub farewell: Duration,
}

impl Default for ServeSettings {
    fn default() -> ServeSettings {
        ServeSettings {
            connections: 64,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            piece: Duration::from_secs(60),
            farewell: Duration::from_secs(5),
        }
    }
}

/// Who is told what is wrong with the place that is served.
pub type Tell<'a> = &'a (dyn Fn(&str) + Sync);

/// A server that listens, but answers only while it runs.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shelf: Shelf,
    settings: ServeSettings,
}

/// How long something is waited for that others do.
const TICK: Duration = Duration::from_millis(20);

/// What happened while nothing was done.
enum Event {
    Stop,
    Client,
}

impl Server {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// The address is taken, or not this machine's, or needs privilege.
    pub fn bind(
        address: SocketAddr,
        shelf: Shelf,
        settings: ServeSettings,
    ) -> Result<Server, TransportError> {
        let failed = |source| TransportError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        // A client that has gone again must not hold up the others.
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Server {
            listener,
            address,
            shelf,
            settings,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it serves.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Answers until something can be read from `stop`, or its other end is closed. Answers that
    /// are under way are finished then, unless they take too long, or `stop` has yet more to read.
    ///
    /// # Errors
    /// The system refuses to wait for clients.
    pub fn run(&self, stop: impl AsFd, tell: Tell<'_>) -> Result<(), TransportError> {
        let stop = stop.as_fd();
        let seats = Seats::new(self.settings.connections.max(1));
        // What is wrong from the beginning is told before anybody asks.
        self.shelf.current(tell);
        thread::scope(|scope| {
            let attended = loop {
                match self.next_event(stop) {
                    Ok(Event::Stop) => break Ok(()),
                    Ok(Event::Client) => {}
                    Err(source) => break Err(source),
                }
                if !seats.has_room(TICK) {
                    continue;
                }
                let stream = match self.listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) if is_of_client(&error) => continue,
                    Err(_) => {
                        // Too many open files, or no memory: that passes.
                        thread::sleep(TICK);
                        continue;
                    }
                };
                let seat = seats.take(stream);
                let serve = move || self.serve(&seat, tell);
                // Without a thread there is no answer; the seat goes with it.
                let _ = thread::Builder::new().spawn_scoped(scope, serve);
            };
            seats.close();
            self.say_farewell(&seats, stop);
            attended
        })
        .map_err(|source| TransportError::Listen {
            address: self.address,
            source,
        })
    }

    fn serve(&self, seat: &Seat<'_>, tell: Tell<'_>) {
        // A client that goes away, or is too slow, is its own concern.
        let _ = attend(seat, &self.shelf, &self.settings, &tell);
    }

    fn next_event(&self, stop: BorrowedFd<'_>) -> io::Result<Event> {
        loop {
            let mut files = [
                PollFd::from_borrowed_fd(stop, PollFlags::IN),
                PollFd::new(&self.listener, PollFlags::IN),
            ];
            match rustix::event::poll(&mut files, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            if !files[0].revents().is_empty() {
                return Ok(Event::Stop);
            }
            return Ok(Event::Client);
        }
    }

    /// Waits for the answers that are under way.
    fn say_farewell(&self, seats: &Seats, stop: BorrowedFd<'_>) {
        let deadline = Instant::now() + self.settings.farewell;
        // Whoever has closed the other end cannot say it again.
        let can_hurry =
            has_more(stop) && rustix::io::read(stop, &mut [0; 16]).is_ok_and(|count| count > 0);
        while !seats.are_empty(TICK) {
            if Instant::now() > deadline || (can_hurry && has_more(stop)) {
                seats.cut();
                return;
            }
        }
    }
}

/// Whether a client came and went.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

fn has_more(stop: BorrowedFd<'_>) -> bool {
    let mut files = [PollFd::from_borrowed_fd(stop, PollFlags::IN)];
    let polled = rustix::event::poll(&mut files, Some(&Timespec::default()));
    polled.is_ok_and(|count| count > 0)
}
