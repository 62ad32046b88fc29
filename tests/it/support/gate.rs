//! A gate before a server of the tests: it passes bytes on, counts those that clients send, and can
//! be told to stop before a request, as a network does that breaks between two.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A running gate, which ends with the test's process.
pub(crate) struct Gate {
    address: String,
    state: Arc<State>,
}

struct State {
    server: String,
    passed: AtomicUsize,
    /// How many requests with `PATCH` may pass still.
    left: AtomicUsize,
    stopped: AtomicUsize,
}

impl Gate {
    /// A gate before the server at `server`, through which so many requests with `PATCH` pass.
    pub(crate) fn before(server: &str, chunks: usize) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen on loopback");
        let address = listener.local_addr().expect("a bound address").to_string();
        let state = Arc::new(State {
            server: server.to_owned(),
            passed: AtomicUsize::new(0),
            left: AtomicUsize::new(chunks),
            stopped: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that goes away is its own concern.
                thread::spawn(move || state.pass(stream).is_ok());
            }
        });
        Gate { address, state }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// How many bytes of clients it has passed on.
    pub(crate) fn passed(&self) -> usize {
        self.state.passed.load(Ordering::SeqCst)
    }

    /// Whether a request stands before it.
    pub(crate) fn has_stopped(&self) -> bool {
        self.state.stopped.load(Ordering::SeqCst) > 0
    }

    /// Lets everything through from now on.
    pub(crate) fn open(&self) {
        self.state.left.store(usize::MAX, Ordering::SeqCst);
    }
}

impl State {
    fn pass(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut server = TcpStream::connect(&self.server)?;
        let (mut answers, mut to_client) = (server.try_clone()?, client.try_clone()?);
        let back = thread::spawn(move || std::io::copy(&mut answers, &mut to_client));
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = client.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            let bytes = &buffer[..count];
            // A client sends a request when it has read the answer to the last one, so the head of
            // one begins a read.
            if bytes.starts_with(b"PATCH ") {
                let may_pass = |left: usize| left.checked_sub(1);
                let order = Ordering::SeqCst;
                if self.left.fetch_update(order, order, may_pass).is_err() {
                    self.stopped.fetch_add(1, Ordering::SeqCst);
                    while client.read(&mut buffer)? > 0 {}
                    break;
                }
            }
            self.passed.fetch_add(count, Ordering::SeqCst);
            server.write_all(bytes)?;
        }
        // What a client that is gone had sent is not to be taken for more than it is.
        let _ = server.shutdown(Shutdown::Both);
        let _ = back.join();
        Ok(())
    }
}
