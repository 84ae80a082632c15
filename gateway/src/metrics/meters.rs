//! The handles that routes and servers count with, taken from the registry.
//!
//! Why: what relays and pools hold is their own; this is the one place that says which series each of it is.
//!
//! Invariant: a handle asked for again counts into the same series, so that a reload loses nothing.

use std::sync::{Arc, OnceLock};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::{ConnectOutcome, Counters, End, Labels, Metrics, NegotiateOutcome, Protocol, Transport};
use crate::backend;
use crate::relay::Traffic;

/// Transports in the order of [`Traffic::speaking`].
const TRANSPORTS: [Transport; 4] =
    [Transport::WebSockets, Transport::ServerSentEvents, Transport::LongPolling, Transport::WebTransport];

/// Protocols in the order of [`Traffic::speaking`].
const PROTOCOLS: [Protocol; 5] =
    [Protocol::Unknown, Protocol::Json, Protocol::MessagePack, Protocol::Other, Protocol::Opaque];

/// The series that a route's requests count into, each taken from the registry when it counts first.
#[derive(Debug)]
pub struct Meters {
    route: Box<str>,
    pub(super) negotiates: [OnceLock<Counter>; NegotiateOutcome::ALL.len()],
    pub(super) connects: [[OnceLock<Counter>; ConnectOutcome::ALL.len()]; TRANSPORTS.len()],
    pub(super) connect_seconds: [OnceLock<Histogram>; TRANSPORTS.len()],
    pub(super) ends: [[OnceLock<Counter>; End::ALL.len()]; TRANSPORTS.len()],
    /// By the first digit of the status.
    pub(super) requests: [OnceLock<Counter>; 5],
}

impl Meters {
    /// The series of a route by its name.
    pub fn new(route: &str) -> Self {
        Self {
            route: route.into(),
            negotiates: Default::default(),
            connects: Default::default(),
            connect_seconds: Default::default(),
            ends: Default::default(),
            requests: Default::default(),
        }
    }

    /// Labels behind the route's.
    pub(super) fn labelled(&self, more: Labels) -> Labels {
        [("route", self.route.to_string())].into_iter().chain(more).collect()
    }

    /// Counts into the series at `at`, whose labels are the route's and `labels`.
    pub(super) fn count(
        &self,
        series: &[OnceLock<Counter>],
        at: usize,
        family: &Counters,
        labels: impl FnOnce() -> Labels,
    ) {
        if let Some(series) = series.get(at) {
            series.get_or_init(|| family.get_or_create_owned(&self.labelled(labels()))).inc();
        }
    }
}

impl Metrics {
    /// The handles of a route's relays and event streams.
    pub(crate) fn traffic(&self, route: &str) -> Arc<Traffic> {
        let handles = self.route(route);
        let speaking: [[Gauge; 5]; 4] =
            TRANSPORTS.map(|transport| PROTOCOLS.map(|protocol| self.connections(route, transport, protocol)));
        Arc::new(Traffic {
            client_messages: handles.web_socket_messages_from_client,
            client_bytes: handles.bytes_from_client,
            hub_messages: handles.web_socket_messages_to_client,
            hub_bytes: handles.bytes_to_client,
            reframed_messages: handles.hub_messages_to_client,
            repeated_polls: handles.polls_repeated,
            returned_polls: handles.polls_returned,
            stateful_resent: handles.stateful_resent,
            stateful_duplicates: handles.stateful_duplicates,
            stateful_overflows: handles.stateful_overflows,
            stateful_bytes: handles.stateful_bytes,
            speaking,
        })
    }

    /// The handles of a server in a pool.
    pub(crate) fn backend_counters(&self, pool: &str, address: &str) -> backend::BackendMetrics {
        let handles = self.backend(pool, address);
        backend::BackendMetrics {
            up: handles.up,
            connections: handles.connections,
            connect_failures: handles.connect_failures,
            ports_exhausted: handles.ports_exhausted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::Kind;
    use crate::relay::Spoken;

    #[test]
    fn er_g5_the_words_of_relays_are_those_of_the_contract() {
        let kinds = [Kind::WebSocket, Kind::EventStream, Kind::LongPolling, Kind::WebTransport];
        assert_eq!(kinds.map(Kind::name), TRANSPORTS.map(Transport::as_str));
        assert_eq!(Spoken::ALL.map(Spoken::name), PROTOCOLS.map(Protocol::as_str));
        let metrics = Metrics::new();
        let traffic = metrics.traffic("chat");
        for kind in kinds {
            for spoken in Spoken::ALL {
                let gauge = traffic.speaking(spoken, kind);
                gauge.inc();
                let (kind, spoken) = (kind.name(), spoken.name());
                let line =
                    format!("hubgate_connections{{route=\"chat\",transport=\"{kind}\",protocol=\"{spoken}\"}} 1");
                assert!(metrics.encode().contains(&line), "{line}");
                gauge.dec();
            }
        }
    }

    #[test]
    fn er_g5_a_reload_counts_on() {
        let metrics = Metrics::new();
        metrics.traffic("chat").hub_bytes.inc_by(3);
        metrics.traffic("chat").hub_bytes.inc_by(4);
        metrics.backend_counters("app", "10.0.0.1:1").connect_failures.inc();
        metrics.resolve_failures("app").inc();
        let text = metrics.encode();
        for line in [
            "hubgate_connection_bytes_total{route=\"chat\",direction=\"to_client\"} 7",
            "hubgate_backend_connect_failures_total{backend=\"app\",address=\"10.0.0.1:1\"} 1",
            "hubgate_backend_resolve_failures_total{backend=\"app\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }
}
