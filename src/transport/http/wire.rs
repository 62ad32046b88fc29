//! The wire: connections on which no silence lasts longer than patience does, and whose bytes are
//! counted.
//!
//! The client library limits a whole answer or nothing. What tells a slow server from a dead one is
//! the time between two arrivals, so every wait of every connection is cut to that. This is the one
//! place that leans on the library's connection API, which may change with its minor versions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ureq::unversioned::transport::time::Duration as Wait;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// How many bytes went over all connections of a client: requests and answers with their headers,
/// as HTTP sees them. What TLS and TCP add is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// From us.
    pub sent: u64,
    /// To us.
    pub received: u64,
}

impl Traffic {
    /// What went over since an earlier count.
    #[must_use]
    pub fn since(self, earlier: Traffic) -> Traffic {
        Traffic {
            sent: self.sent.saturating_sub(earlier.sent),
            received: self.received.saturating_sub(earlier.received),
        }
    }
}

/// The counts of all connections together.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Meter {
    pub(crate) fn read(&self) -> Traffic {
        Traffic {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }
}

/// Puts [`Watched`] around connections.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The longest wait for the headers of an answer.
    pub(crate) answer: Duration,
    /// The longest wait for anything else.
    pub(crate) idle: Duration,
    /// Where bytes are counted.
    pub(crate) meter: Arc<Meter>,
}

/// A connection whose every wait is limited and whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    inner: T,
    answer: Duration,
    idle: Duration,
    meter: Arc<Meter>,
}

impl<In: Transport> Connector<In> for Watch {
    type Out = Watched<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Watched<In>>, ureq::Error> {
        Ok(chained.map(|inner| Watched {
            inner,
            answer: self.answer,
            idle: self.idle,
            meter: Arc::clone(&self.meter),
        }))
    }
}

impl<T> Watched<T> {
    fn cut(&self, timeout: NextTimeout) -> NextTimeout {
        let is_answer = timeout.reason == ureq::Timeout::RecvResponse;
        // How long an answer may take has a limit of its own: who has taken a large blob looks at
        // it first. The library counts the body in, so that what is left of the limit says where
        // we are: all of it before the headers, less behind them. There only silence counts.
        let is_body = is_answer && *timeout.after < self.answer;
        match is_body || (*timeout.after > self.idle && !is_answer) {
            true => NextTimeout {
                after: Wait::Exact(self.idle),
                reason: timeout.reason,
            },
            false => timeout,
        }
    }
}

impl<T: Transport> Transport for Watched<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let timeout = self.cut(timeout);
        // Counted before, so that what a broken connection took half of is not left out.
        self.meter.sent.fetch_add(amount as u64, Ordering::Relaxed);
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = self.cut(timeout);
        let before = self.inner.buffers().input().len();
        let result = self.inner.await_input(timeout);
        let came = self.inner.buffers().input().len().saturating_sub(before);
        self.meter
            .received
            .fetch_add(came as u64, Ordering::Relaxed);
        result
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
