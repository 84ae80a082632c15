//! The registry of live relays and the one clock that all their time-outs hang on.
//!
//! A relay owns no timer: once a second the sweep looks at every [`Link`] and wakes the relay that has something to do
//! (a keep-alive ping, a stuck write, the end of a wait, a drain). An idle connection costs an entry here and no more.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::task::AtomicWaker;
use slab::Slab;

use crate::buffered::Buffered;

/// Seconds since the gateway started, advanced by the sweep; and the account of waiting bytes, which as many share.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU32, Buffered);

impl Clock {
    /// The current second.
    pub(crate) fn now(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// The account of bytes that wait for slow peers.
    pub(crate) fn buffered(&self) -> &Buffered {
        &self.1
    }

    /// Sets the current second.
    pub(crate) fn set(&self, second: u32) {
        self.0.store(second, Relaxed);
    }
}

/// What the sweep asks of a relay; the bits may come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orders(pub(crate) u32);

impl Orders {
    /// Send WebSocket pings to both sides.
    pub(crate) const PING: u32 = 1;
    /// End in good order: Close message where possible, then a close frame.
    pub(crate) const DRAIN: u32 = 2;
    /// End in good order now, message boundary or not.
    pub(crate) const DRAIN_NOW: u32 = 4;
    /// The client has stopped reading: reset it.
    pub(crate) const STUCK: u32 = 8;
    /// A wait has ended: drop what is left.
    pub(crate) const DEADLINE: u32 = 16;
    /// Nothing was heard from a side, not even Pongs.
    pub(crate) const DEAD: u32 = 32;
    /// The client of a kept connection is back (rule A7).
    pub(crate) const RESUME: u32 = 64;
    /// Too many bytes wait over all connections: end this one for good.
    pub(crate) const GIVE_UP: u32 = 128;

    /// Whether one of the bits is set.
    pub(crate) fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

/// What a relay shares with the sweep.
#[derive(Debug, Default)]
pub(crate) struct Link {
    waker: AtomicWaker,
    orders: AtomicU32,
    /// Second in which the client was last heard.
    pub(crate) client_heard: AtomicU32,
    /// Second in which the hub was last heard.
    pub(crate) hub_heard: AtomicU32,
    /// Second since which a write to the client makes no progress, plus one; 0 for none.
    pub(crate) stuck_since: AtomicU32,
    /// Second since which a kept connection's client has acknowledged nothing of what it was sent, plus one; 0 for none.
    pub(crate) unacknowledged_since: AtomicU32,
    /// Second at which the relay is dropped, plus one; 0 for none.
    pub(crate) deadline: AtomicU32,
    /// Second of the last message in either direction; kept only where `idle_limit` is set.
    pub(crate) talked: AtomicU32,
    /// Seconds without a message after which the relay ends; 0 for no limit.
    pub(crate) idle_limit: AtomicU32,
    /// It was given up to free its bytes, and is about to let go of them.
    pub(crate) given_up: AtomicBool,
    /// Bytes held for either side while it would block.
    pub(crate) held_bytes: AtomicU64,
}

impl Link {
    /// Gives an order and wakes the relay.
    pub(crate) fn order(&self, bits: u32) {
        self.orders.fetch_or(bits, Relaxed);
        self.waker.wake();
    }

    /// Takes the orders given since the last call. Call [`Link::listen`] first.
    pub(crate) fn take_orders(&self) -> Orders {
        if self.orders.load(Relaxed) == 0 {
            return Orders(0);
        }
        Orders(self.orders.swap(0, Relaxed))
    }

    /// Has the waker woken at the next order.
    pub(crate) fn listen(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }
}

/// All live relays.
#[derive(Debug, Default)]
pub(crate) struct Links(Mutex<Slab<Arc<Link>>>);

/// Keeps a relay in the registry.
#[derive(Debug)]
pub(crate) struct LinkGuard {
    links: Arc<Links>,
    key: usize,
}

impl Links {
    /// Enters a relay.
    pub(crate) fn enter(self: &Arc<Self>, link: Arc<Link>) -> LinkGuard {
        let key = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(link);
        LinkGuard { links: Arc::clone(self), key }
    }

    /// How many relays live.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Looks at every relay.
    pub(crate) fn for_each(&self, mut look: impl FnMut(&Link)) {
        for (_, link) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            look(link);
        }
    }

    /// Copies of all entries, to be ordered about one after the other.
    pub(crate) fn all(&self) -> Vec<Arc<Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, link)| Arc::clone(link)).collect()
    }
}

impl Drop for LinkGuard {
    fn drop(&mut self) {
        self.links.0.lock().unwrap_or_else(PoisonError::into_inner).try_remove(self.key);
    }
}

/// How long things may take, in seconds, for [`sweep`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct SweepRules {
    /// Silence after which a side is pinged.
    pub(crate) ping_after: u32,
    /// Silence after which a side that was pinged is dead.
    pub(crate) dead_after: u32,
    /// How long a write to a client may be stuck.
    pub(crate) send_timeout: u32,
}

/// One look at every relay.
pub(crate) fn sweep(links: &Links, now: u32, rules: SweepRules) {
    links.for_each(|link| {
        let quiet = |heard: &AtomicU32| now.saturating_sub(heard.load(Relaxed));
        let quietest = quiet(&link.client_heard).max(quiet(&link.hub_heard));
        let since = |mark: u32| mark != 0 && now >= mark - 1;
        if since(link.deadline.load(Relaxed)) {
            link.order(Orders::DEADLINE);
        } else if let stuck @ 1.. = link.stuck_since.load(Relaxed)
            && now.saturating_sub(stuck - 1) > rules.send_timeout
        {
            link.order(Orders::STUCK);
        } else if let limit @ 1.. = link.idle_limit.load(Relaxed)
            && quiet(&link.talked) >= limit
        {
            link.order(Orders::DRAIN_NOW);
        } else if quietest >= rules.dead_after {
            link.order(Orders::DEAD);
        } else if quietest > 0 && quietest % rules.ping_after == 0 {
            link.order(Orders::PING);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: SweepRules = SweepRules { ping_after: 30, dead_after: 90, send_timeout: 10 };

    fn orders_at(now: u32, prepare: impl Fn(&Link)) -> Orders {
        let links = Arc::new(Links::default());
        let link = Arc::new(Link::default());
        prepare(&link);
        let _guard = links.enter(Arc::clone(&link));
        sweep(&links, now, RULES);
        link.take_orders()
    }

    #[test]
    fn er_d8_a_silent_side_is_pinged_and_at_last_given_up() {
        assert_eq!(orders_at(29, |_| {}), Orders(0));
        assert_eq!(orders_at(30, |_| {}), Orders(Orders::PING));
        assert_eq!(orders_at(31, |_| {}), Orders(0), "one ping for each 30 s");
        let hub_talks = |link: &Link| link.hub_heard.store(59, Relaxed);
        assert_eq!(orders_at(60, hub_talks), Orders(Orders::PING), "the client is silent all the same");
        assert_eq!(orders_at(90, hub_talks), Orders(Orders::DEAD));
    }

    #[test]
    fn a_write_is_stuck_only_after_the_send_timeout() {
        let stuck = |link: &Link| link.stuck_since.store(1, Relaxed);
        assert_eq!(orders_at(10, stuck), Orders(0));
        assert_eq!(orders_at(11, stuck), Orders(Orders::STUCK));
    }

    #[test]
    fn a_guard_takes_its_relay_out_of_the_registry() {
        let links = Arc::new(Links::default());
        let guard = links.enter(Arc::default());
        assert_eq!(links.len(), 1);
        drop(guard);
        assert_eq!(links.len(), 0);
    }
}
