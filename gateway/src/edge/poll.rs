//! Long polls: one pending at a time, the newest wins (signalr-wire §5.4).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Edge, End, Taken};

/// How a poll is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    /// 200 with these messages.
    Messages(Bytes),
    /// 200, empty: nothing came for the poll time-out.
    TimedOut,
    /// 204: a newer poll has taken over.
    Replaced,
    /// 204: the connection is over.
    Ended(End),
}

/// Marks the connection as polled while a poll is pending; also when the client gives the poll up.
struct Pending<'a> {
    edge: &'a Edge,
    number: u32,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.edge.newest_poll.load(Relaxed) == self.number {
            self.edge.last_poll.store(self.edge.clock.now(), Relaxed);
        }
    }
}

impl Edge {
    /// Waits for messages, a newer poll, the end or the time-out.
    pub(crate) async fn poll(self: &Arc<Self>) -> Poll {
        let number = self.newest_poll.fetch_add(1, Relaxed).wrapping_add(1);
        self.last_poll.store(u32::MAX, Relaxed);
        self.out_ready.notify_waiters();
        let _pending = Pending { edge: self, number };
        let deadline = Instant::now() + self.bounds.poll_timeout;
        loop {
            let ready = self.out_ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            if self.newest_poll.load(Relaxed) != number {
                return Poll::Replaced;
            }
            match self.take() {
                Taken::Messages(messages) => return Poll::Messages(messages),
                Taken::Ended(end) => return Poll::Ended(end),
                Taken::Nothing => {}
            }
            if tokio::time::timeout_at(deadline, ready).await.is_err() {
                return Poll::TimedOut;
            }
        }
    }
}
