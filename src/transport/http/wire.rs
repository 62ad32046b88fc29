//! The wire: connections on which no silence lasts longer than patience does.
//!
//! The client library limits a whole answer or nothing. What tells a slow server from a dead one is
//! the time between two arrivals, so every wait of every connection is cut to that. This is the one
//! place that leans on the library's connection API, which may change with its minor versions.

use std::time::Duration;

use ureq::unversioned::transport::time::Duration as Wait;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Puts [`Impatient`] around connections.
#[derive(Debug)]
pub(crate) struct IdleLimit(pub(crate) Duration);

/// A connection whose every wait is limited.
#[derive(Debug)]
pub(crate) struct Impatient<T> {
    inner: T,
    most: Duration,
}

impl<In: Transport> Connector<In> for IdleLimit {
    type Out = Impatient<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Impatient<In>>, ureq::Error> {
        Ok(chained.map(|inner| Impatient {
            inner,
            most: self.0,
        }))
    }
}

impl<T> Impatient<T> {
    fn cut(&self, timeout: NextTimeout) -> NextTimeout {
        match *timeout.after > self.most {
            true => NextTimeout {
                after: Wait::Exact(self.most),
                reason: timeout.reason,
            },
            false => timeout,
        }
    }
}

impl<T: Transport> Transport for Impatient<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let timeout = self.cut(timeout);
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = self.cut(timeout);
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
