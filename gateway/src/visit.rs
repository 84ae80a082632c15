//! One request on its way through the gateway: who asks, over what, for which route.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use hyper::ext::Protocol;

use crate::edge::{Edge, Handover};
use crate::gate::Gate;
use crate::live::{Live, Route};
use crate::path::NormalPath;
use crate::web_transport::Listener;

/// A client's connection to us.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its address.
    pub(crate) peer: SocketAddr,
    /// Whether it came over TLS.
    pub(crate) secure: bool,
    /// The WebTransport of its listener.
    pub(crate) web_transport: Option<Arc<Listener>>,
    /// Connections whose polls were answered over it; they end when a write over it is stuck.
    polled: Mutex<Vec<Weak<Edge>>>,
    /// Answers of polls that were written and not yet flushed.
    written: Mutex<Vec<Arc<Handover>>>,
    /// A [`Fate`].
    fate: AtomicU8,
}

/// What became of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is open, as far as we know.
    Open,
    /// It ended in good order.
    Closed,
    /// It was reset, or given up.
    Broken,
}

/// Ends a [`Client`] with its connection: what was not handed over goes back.
#[derive(Debug)]
pub(crate) struct Ends(pub(crate) Arc<Client>);

impl Drop for Ends {
    fn drop(&mut self) {
        let _only_if_open = self.0.fate.compare_exchange(Fate::Open as u8, Fate::Closed as u8, Relaxed, Relaxed);
        drop(self.0.take_written());
    }
}

/// Polled connections remembered for one client connection.
const POLLED_MAX: usize = 256;

impl Client {
    /// A connection that has just been accepted.
    pub(crate) fn new(peer: SocketAddr, secure: bool, web_transport: Option<Arc<Listener>>) -> Self {
        Self {
            peer,
            secure,
            web_transport,
            polled: Mutex::default(),
            written: Mutex::default(),
            fate: AtomicU8::default(),
        }
    }

    /// Notes that a connection's messages go out over this one.
    pub(crate) fn polls(&self, edge: &Arc<Edge>) {
        let mut polled = self.polled.lock().unwrap_or_else(PoisonError::into_inner);
        if polled.iter().any(|known| known.as_ptr() == Arc::as_ptr(edge)) {
            return;
        }
        polled.retain(|known| known.strong_count() > 0);
        if polled.len() < POLLED_MAX {
            polled.push(Arc::downgrade(edge));
        }
    }

    /// What became of it.
    pub(crate) fn fate(&self) -> Fate {
        match self.fate.load(Relaxed) {
            fate if fate == Fate::Open as u8 => Fate::Open,
            fate if fate == Fate::Closed as u8 => Fate::Closed,
            _ => Fate::Broken,
        }
    }

    /// A read or a write failed.
    pub(crate) fn broke(&self) {
        self.fate.store(Fate::Broken as u8, Relaxed);
    }

    /// Notes a poll's answer that was written: the next flush hands it over.
    pub(crate) fn has_written(&self, handover: Arc<Handover>) {
        if self.fate() == Fate::Open {
            self.written.lock().unwrap_or_else(PoisonError::into_inner).push(handover);
        }
    }

    /// What was written is with the system.
    pub(crate) fn flushed(&self) {
        self.take_written().iter().for_each(|handover| handover.handed_over());
    }

    fn take_written(&self) -> Vec<Arc<Handover>> {
        std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the connections whose messages are stuck here (signalr-wire §4.4).
    pub(crate) fn stuck(&self) {
        let polled = std::mem::take(&mut *self.polled.lock().unwrap_or_else(PoisonError::into_inner));
        for edge in polled.iter().filter_map(Weak::upgrade) {
            edge.give_up();
        }
    }
}

/// The circumstances of one request.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    /// The gateway.
    pub(crate) gate: Arc<Gate>,
    /// The configuration in force when the request came.
    pub(crate) live: Arc<Live>,
    /// Who asks.
    pub(crate) client: Arc<Client>,
    /// The route.
    pub(crate) route: Arc<Route>,
    /// The path in its one reading.
    pub(crate) path: Arc<NormalPath>,
}

impl Visit {
    /// The request's target at the backend, with another query.
    pub(crate) fn target(&self, query: &str) -> String {
        let path = self.route.config.backend_path(&self.path);
        if query.is_empty() { path.into_owned() } else { format!("{path}?{query}") }
    }
}

/// Whether a request asks for a WebSocket, by signalr-wire §4.1.
pub(crate) fn wants_web_socket<B>(request: &Request<B>) -> bool {
    let version_13 = request.headers().get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    if request.version() == Version::HTTP_2 {
        let protocol = request.extensions().get::<Protocol>();
        return request.method() == Method::CONNECT
            && version_13
            && protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"));
    }
    request.method() == Method::GET
        && version_13
        && has_token(request.headers(), &CONNECTION, "upgrade")
        && has_token(request.headers(), &UPGRADE, "websocket")
        && !has_body(request.headers())
        && request
            .headers()
            .get(SEC_WEBSOCKET_KEY)
            .is_some_and(|key| hubgate_protocol::websocket::is_key(key.as_bytes()))
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(http::header::TRANSFER_ENCODING)
        || headers.get(http::header::CONTENT_LENGTH).is_some_and(|length| length != "0")
}

/// Whether a list header names a token, letter case aside.
pub(crate) fn has_token(headers: &HeaderMap, name: &http::HeaderName, token: &str) -> bool {
    let names = |value: &HeaderValue| {
        value.to_str().is_ok_and(|list| list.split(',').any(|entry| entry.trim().eq_ignore_ascii_case(token)))
    };
    headers.get_all(name).iter().any(names)
}

/// Whether `Accept` holds exactly `text/event-stream` (signalr-wire §4.1: a parameter defeats an entry).
pub(crate) fn wants_event_stream(headers: &HeaderMap) -> bool {
    has_token(headers, &http::header::ACCEPT, "text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::get("/hub?id=x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn an_upgrade_is_taken_for_one_as_the_reference_does() {
        let good = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "h2c, WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        assert!(wants_web_socket(&request(&good)));
        for spoilt in 0..good.len() {
            let rest: Vec<_> = good.iter().enumerate().filter(|(at, _)| *at != spoilt).map(|(_, h)| *h).collect();
            assert!(!wants_web_socket(&request(&rest)), "without {}", good[spoilt].0);
        }
        let mut with_body = good.to_vec();
        with_body.push(("content-length", "3"));
        assert!(!wants_web_socket(&request(&with_body)));
    }

    #[test]
    fn only_the_bare_media_type_asks_for_an_event_stream() {
        for (accept, wanted) in [
            ("text/event-stream", true),
            ("TEXT/Event-Stream", true),
            ("text/html, text/event-stream", true),
            ("text/event-stream;q=0.9, text/event-stream", true),
            ("text/event-stream;q=0.9", false),
            ("text/*", false),
            ("*/*", false),
        ] {
            assert_eq!(wants_event_stream(request(&[("accept", accept)]).headers()), wanted, "{accept}");
        }
    }
}
