//! Stateful reconnect at the gateway (rules I1 to I4): a client's WebSocket is lost and comes back, and its hub, which
//! knows nothing of stateful reconnect, never notices.
//!
//! In reading order: [`arrival`] decides by the handshake whether a connection is one of these; [`Pump`] is the
//! connection, one future that owns the hub's WebSocket and, while there is one, the client's; [`resume`] serves the
//! requests of clients that come back. The numbers and buffers are [`hubgate_protocol::stateful`]'s.
//!
//! [`Passed`] is the other kind: the hub keeps the connection itself (`stateful_reconnect = "backend"`), and the gateway
//! only finds the way back to it.
//!
//! Invariants: a request that is refused changes nothing (rule A7); a newcomer replaces the socket before it without a
//! close handshake; once the connection has ended its token answers 404.

mod arrival;
mod closing;
mod hub_side;
mod passed;
mod pump;
mod resume;
mod socket;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use hubgate_protocol::stateful::ResumeRate;

pub(crate) use self::passed::{Passed, relay_passed, resume_passed};
pub(crate) use self::pump::Terms;
pub(crate) use self::resume::{Granted, keep, resume};

use crate::backend::Backend;
use crate::identity::Admission;
use crate::io::Stream;
use crate::link::{Link, Orders};

/// A kept connection as the requests of its client see it.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Wakes the connection.
    link: Arc<Link>,
    /// The newest socket that has come; an older one that nobody has taken is dropped.
    newcomer: Mutex<Option<(Stream, Bytes)>>,
    /// The connection has ended; sockets that come are dropped.
    over: AtomicBool,
    rate: Mutex<ResumeRate>,
    /// The origin of the rate's time.
    since: Instant,
    /// Whose connection it is (rules A4, A5).
    admission: Mutex<Admission>,
    /// The backend to be asked about new credentials.
    judge: Option<Arc<Backend>>,
}

impl Kept {
    /// Gives the connection the socket of a client that is back.
    fn come(&self, client: Stream, ahead: Bytes) {
        if !self.over.load(Relaxed) {
            *self.newcomer.lock().unwrap_or_else(PoisonError::into_inner) = Some((client, ahead));
            self.link.order(Orders::RESUME);
        }
    }

    /// Takes the newest socket.
    fn take(&self) -> Option<(Stream, Bytes)> {
        self.newcomer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends it for requests.
    fn end(&self) {
        self.over.store(true, Relaxed);
        drop(self.take());
    }

    /// Whether the client may come back now, as far as the rate goes.
    fn may_come(&self) -> bool {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(self.since.elapsed())
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
