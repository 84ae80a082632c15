//! The connections that this gateway knows by their token: negotiated, attached, ended.
//!
//! A token attaches once. What has ended is remembered until its token has expired, so that it answers 404 for good
//! (rule A2); after that the token itself no longer opens anything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, StatusCode};
use hubgate_protocol::Transport;
use hubgate_protocol::negotiate::NegotiatedConnection;
use tokio::sync::Notify;

use crate::backend::{HubHttp, Share};
use crate::config::StatefulReconnect;
use crate::cookie::HubCookies;
use crate::edge::{Edge, Kind};
use crate::negotiate::Elsewhere;
use crate::secret::Secret;
use crate::stateful::{Kept, Passed};
use crate::token::TokenId;

/// By what a connection is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TokenKey {
    /// The random part of a sealed token.
    Sealed(TokenId),
    /// A token that says nothing, since its contents did not fit (rule A1).
    Random(Secret),
}

/// Bytes posted before a transport attaches: as many as the reference's pipe takes (signalr-wire §5.3).
pub(crate) const EARLY_BYTES_MAX: usize = 65_535;

/// A negotiated connection.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The hub path in the form that is compared (rule A3).
    pub(crate) path: Box<str>,
    /// The public id, for logs.
    pub(crate) connection_id: Box<str>,
    /// Second after which an unattached token is given up.
    pub(crate) expires: u32,
    /// What its client may attach with.
    pub(crate) offered: Offered,
    state: Mutex<State>,
    /// Woken when the state has changed.
    pub(crate) changed: Notify,
}

/// The transports that a client was offered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offered {
    web_sockets: bool,
    event_streams: bool,
    long_polling: bool,
    web_transport: bool,
    /// Who keeps its connection when a WebSocket is lost; `Off` where it was not granted (rule I1).
    pub(crate) stateful: StatefulReconnect,
}

impl Offered {
    /// Those of a negotiate answer.
    pub(crate) fn of(negotiated: &NegotiatedConnection, stateful: StatefulReconnect) -> Self {
        Self {
            stateful,
            web_sockets: negotiated.offers(Transport::WebSockets),
            event_streams: negotiated.offers(Transport::ServerSentEvents),
            long_polling: negotiated.offers(Transport::LongPolling),
            web_transport: negotiated.offers(Transport::WebTransport),
        }
    }

    /// WebSockets alone: the one transport that another gateway's token is good for here.
    pub(crate) fn web_sockets(stateful: StatefulReconnect) -> Self {
        Self { web_sockets: true, event_streams: false, long_polling: false, web_transport: false, stateful }
    }

    /// Whether a transport is among them.
    pub(crate) fn has(self, kind: Kind) -> bool {
        match kind {
            Kind::WebSocket => self.web_sockets,
            Kind::EventStream => self.event_streams,
            Kind::LongPolling => self.long_polling,
            Kind::WebTransport => self.web_transport,
        }
    }
}

/// Where a connection stands.
#[derive(Debug)]
pub(crate) enum State {
    /// No transport yet.
    Waiting(Box<Waiting>),
    /// A transport is attaching: its kind is fixed, the hub has not answered.
    Attaching(Kind),
    /// A relayed WebSocket.
    WebSocket,
    /// A WebSocket that may be lost and come back.
    Stateful(Arc<Kept>),
    /// The same, but the hub itself keeps the connection.
    Passed(Arc<Passed>),
    /// An event stream or polls.
    Edge(Arc<Edge>),
    /// It has ended.
    Finished,
}

/// What a connection without a transport holds.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The backend it belongs to.
    pub(crate) share: Share,
    /// The hub's own token.
    pub(crate) hub_token: Secret,
    /// The backend connection that carried the negotiate (rule D2), until that second.
    pub(crate) held: Option<(HubHttp, u32)>,
    /// Cookies that the hub's negotiate set.
    pub(crate) cookies: HubCookies,
    /// Bytes posted early.
    pub(crate) early: BytesMut,
    /// Whether the hub offers WebSockets, so that it is reached over them (rule D5).
    pub(crate) hub_has_web_sockets: bool,
    /// Where the hub is, if a redirect was followed (rule B7).
    pub(crate) elsewhere: Option<Elsewhere>,
    /// What a WebTransport session cannot show again, where one was asked for (rule H4).
    pub(crate) shown: Option<Box<Shown>>,
}

/// What the negotiate request showed of its client, for a WebTransport session that cannot (rule H4). It goes with the
/// waiting connection, so it is used once.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// The page's origin; the session must name the same.
    pub(crate) origin: Option<HeaderValue>,
    /// `Authorization` and `Cookie` for the hub.
    pub(crate) credentials: HeaderMap,
    /// Second until which the session may come.
    pub(crate) until: u32,
}

impl Shown {
    /// Judges a session that comes in second `now` from `origin`; the error is its answer.
    pub(crate) fn judge(&self, now: u32, origin: Option<&HeaderValue>) -> Result<(), StatusCode> {
        if now > self.until {
            return Err(StatusCode::NOT_FOUND);
        }
        if origin != self.origin.as_ref() {
            return Err(StatusCode::FORBIDDEN);
        }
        Ok(())
    }
}

impl Entry {
    /// The state, locked.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the state and wakes who waits for it.
    pub(crate) fn set(&self, state: State) {
        *self.state() = state;
        self.changed.notify_waiters();
    }
}

/// All connections known by token.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: Mutex<HashMap<TokenKey, Arc<Entry>>>,
    unattached: AtomicUsize,
}

impl Table {
    /// Enters a connection.
    pub(crate) fn enter(
        &self,
        key: TokenKey,
        path: &str,
        connection_id: &str,
        expires: u32,
        offered: Offered,
        waiting: Waiting,
    ) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            path: path.into(),
            connection_id: connection_id.into(),
            expires,
            offered,
            state: Mutex::new(State::Waiting(Box::new(waiting))),
            changed: Notify::new(),
        });
        self.entries().insert(key, Arc::clone(&entry));
        self.unattached.fetch_add(1, Relaxed);
        entry
    }

    /// The connection of a token.
    pub(crate) fn find(&self, key: &TokenKey) -> Option<Arc<Entry>> {
        self.entries().get(key).cloned()
    }

    /// How many negotiated connections have no transport yet.
    pub(crate) fn unattached(&self) -> usize {
        self.unattached.load(Relaxed)
    }

    /// Takes a connection out of the waiting ones for a transport of that kind.
    pub(crate) fn attach(&self, entry: &Entry, kind: Kind) -> Option<Box<Waiting>> {
        let mut state = entry.state();
        match std::mem::replace(&mut *state, State::Attaching(kind)) {
            State::Waiting(waiting) => {
                self.unattached.fetch_sub(1, Relaxed);
                Some(waiting)
            }
            other => {
                *state = other;
                None
            }
        }
    }

    /// All connections with an event stream or polls.
    pub(crate) fn edges(&self) -> Vec<Arc<Entry>> {
        self.entries().values().filter(|entry| matches!(*entry.state(), State::Edge(_))).cloned().collect()
    }

    /// Gives up what was never attached, forgets what has ended, hands held connections back.
    pub(crate) fn sweep(&self, now: u32) {
        let mut given_back = Vec::new();
        self.entries().retain(|_, entry| {
            let mut state = entry.state();
            match &mut *state {
                State::Waiting(waiting) if now <= entry.expires => {
                    if let Some((http, _)) = waiting.held.take_if(|(_, until)| *until <= now) {
                        given_back.push((Arc::clone(waiting.share.backend()), http));
                    }
                    true
                }
                State::Waiting(waiting) => {
                    self.unattached.fetch_sub(1, Relaxed);
                    if let Some((http, _)) = waiting.held.take() {
                        given_back.push((Arc::clone(waiting.share.backend()), http));
                    }
                    *state = State::Finished;
                    entry.changed.notify_waiters();
                    false
                }
                State::Finished => now <= entry.expires,
                State::Passed(passed) if passed.is_over(now) => {
                    *state = State::Finished;
                    false
                }
                State::Attaching(_) | State::WebSocket | State::Stateful(_) | State::Passed(_) | State::Edge(_) => true,
            }
        });
        for (backend, http) in given_back {
            backend.keep(http);
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<TokenKey, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn er_h4_what_was_shown_is_good_for_its_origin_and_its_time() {
        let page = HeaderValue::from_static("https://page.test");
        let other = HeaderValue::from_static("https://page.test:444");
        let shown = Shown { origin: Some(page.clone()), credentials: HeaderMap::new(), until: 15 };
        assert_eq!(shown.judge(15, Some(&page)), Ok(()));
        assert_eq!(shown.judge(16, Some(&page)), Err(StatusCode::NOT_FOUND));
        assert_eq!(shown.judge(0, Some(&other)), Err(StatusCode::FORBIDDEN));
        assert_eq!(shown.judge(0, None), Err(StatusCode::FORBIDDEN));
        let nobodys = Shown { origin: None, ..shown };
        assert_eq!(nobodys.judge(0, None), Ok(()));
        assert_eq!(nobodys.judge(0, Some(&page)), Err(StatusCode::FORBIDDEN));
    }
}
