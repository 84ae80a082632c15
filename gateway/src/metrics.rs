//! Metrics: names, labels and buckets are a contract (rule G5).
//!
//! Why: dashboards and alerts are built on them. `docs/guide/metrics.md` is made from what is encoded here, and a test
//! compares, so that no name changes unseen.
//!
//! The hot path holds handles: a route's counters are looked up when its configuration is loaded, a connection's when it
//! attaches; a message then costs an atomic addition.
//!
//! Process metrics have the names that every Prometheus client gives them; all others begin with `hubgate_`.
//!
//! Invariant: a label value comes from the configuration, from a closed list in this module, or is the address of a
//! configured server. Nothing that a client sends makes a series.

mod meters;
mod process;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use self::meters::Meters;

/// Upper bounds of the connect latency's buckets, in seconds.
const CONNECT_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// Defines a closed list of label values.
macro_rules! label {
    ($(#[$doc:meta])* pub enum $name:ident { $( $(#[$value_doc:meta])* $variant:ident = $word:literal, )* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$value_doc])* $variant, )*
        }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// The word in metrics and logs.
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.as_str())
            }
        }
    };
}

label! {
    /// How a client is attached.
    pub enum Transport {
        /// A WebSocket.
        WebSockets = "WebSockets",
        /// Server-Sent Events.
        ServerSentEvents = "ServerSentEvents",
        /// Long polling.
        LongPolling = "LongPolling",
        /// WebTransport.
        WebTransport = "WebTransport",
    }
}

label! {
    /// What a connection speaks.
    pub enum Protocol {
        /// Its handshake has not come yet.
        Unknown = "unknown",
        /// JSON.
        Json = "json",
        /// MessagePack.
        MessagePack = "messagepack",
        /// Another hub protocol.
        Other = "other",
        /// No hub protocol.
        Opaque = "opaque",
    }
}

label! {
    /// Which way something goes.
    pub enum Direction {
        /// From clients to hubs.
        FromClient = "from_client",
        /// From hubs to clients.
        ToClient = "to_client",
    }
}

label! {
    /// What became of a negotiate.
    pub enum NegotiateOutcome {
        /// A connection was made.
        Ok = "ok",
        /// The hub answered an error text or 4xx.
        Refused = "refused",
        /// The answer was a redirect.
        Redirected = "redirected",
        /// The hub answered 5xx or what is no negotiate answer.
        BackendError = "backend_error",
        /// No server could be reached.
        Unreachable = "unreachable",
        /// The server did not answer in time.
        TimedOut = "timed_out",
        /// A limit of the gateway.
        Limit = "limit",
    }
}

label! {
    /// What became of a transport's first request.
    pub enum ConnectOutcome {
        /// It is attached.
        Ok = "ok",
        /// The token is none, expired, used up, or another path's.
        UnknownToken = "unknown_token",
        /// The request cannot be served as it is (transport disabled, taken, or malformed).
        BadRequest = "bad_request",
        /// The hub answered 401, 403 or another 4xx.
        Refused = "refused",
        /// The hub answered 5xx or no WebSocket.
        BackendError = "backend_error",
        /// The server could not be reached.
        Unreachable = "unreachable",
        /// The server did not answer in time.
        TimedOut = "timed_out",
        /// The client left before.
        ClientLeft = "client_left",
        /// A limit of the gateway.
        Limit = "limit",
    }
}

label! {
    /// Who ended a connection, and how.
    pub enum End {
        /// The client closed.
        ClientClosed = "client_closed",
        /// The client was lost without closing.
        ClientLost = "client_lost",
        /// The client did not read for the send time-out.
        ClientStuck = "client_stuck",
        /// The hub closed.
        HubClosed = "hub_closed",
        /// The hub was lost without closing.
        HubLost = "hub_lost",
        /// A side was silent, not even Pongs came.
        Silent = "silent",
        /// The gateway refused to go on.
        Refused = "refused",
        /// The gateway was stopping.
        Drained = "drained",
    }
}

label! {
    /// A bound that can be reached; the names are those of `[limits]`.
    pub enum Limit {
        /// `limits.connections_max`.
        Connections = "connections_max",
        /// `limits.unattached_tokens_max`.
        UnattachedTokens = "unattached_tokens_max",
        /// `limits.buffered_bytes_max`.
        BufferedBytes = "buffered_bytes_max",
        /// `limits.waiting_bytes_max`.
        WaitingBytes = "waiting_bytes_max",
        /// `limits.client_message_bytes_max`.
        ClientMessage = "client_message_bytes_max",
        /// `limits.hub_message_bytes_max`.
        HubMessage = "hub_message_bytes_max",
        /// `limits.post_bytes_max`.
        PostBytes = "post_bytes_max",
        /// `limits.negotiate_bytes_max`.
        NegotiateBytes = "negotiate_bytes_max",
        /// `limits.header_bytes_max` and `limits.headers_max`.
        Headers = "header_bytes_max",
        /// `limits.body_rate_min`.
        BodyRate = "body_rate_min",
        /// `limits.tls_handshakes_max`.
        TlsHandshakes = "tls_handshakes_max",
        /// `limits.quic_handshakes_max`.
        QuicHandshakes = "quic_handshakes_max",
        /// `limits.held_connections_max`.
        HeldConnections = "held_connections_max",
        /// The process has no file descriptor left.
        Descriptors = "descriptors",
        /// No local port is left towards a server (`source_addresses` helps).
        Ports = "ports",
    }
}

label! {
    /// How the messages of a poll's lost answer were saved.
    pub enum Rescue {
        /// The answer could not be handed over: its messages waited for the next poll.
        Returned = "returned",
        /// The client's side asked for it again.
        Repeated = "repeated",
    }
}

label! {
    /// What became of a client that came back by stateful reconnect.
    pub enum ResumeOutcome {
        /// Its connection goes on.
        Ok = "ok",
        /// The connection has ended.
        Ended = "ended",
        /// More often than `limits.resumes_per_second_max`.
        TooOften = "too_often",
        /// Another user, or refused by the hub.
        Refused = "refused",
        /// The hub could not be asked.
        BackendError = "backend_error",
    }
}

label! {
    /// Why a hub message could not be transcoded.
    pub enum TranscodeCause {
        /// It violates its own protocol.
        Protocol = "protocol",
        /// A value has no form in the other protocol.
        Value = "value",
        /// A value is not what a hint of the route says.
        Hint = "hint",
        /// It is too long or nested too deep, or too many calls wait.
        Limit = "limit",
    }
}

label! {
    /// What became of a reload.
    pub enum ReloadOutcome {
        /// The new configuration is in force.
        Ok = "ok",
        /// It is wrong, and the old one stays.
        Refused = "refused",
    }
}

/// All metrics of a gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: Gauges,
    web_socket_messages: Counters,
    hub_messages: Counters,
    polls_rescued: Counters,
    bytes: Counters,
    negotiates: Counters,
    connects: Counters,
    connect_seconds: Histograms,
    ends: Counters,
    requests: Counters,
    resumes: Counters,
    stateful_resent: Counters,
    stateful_duplicates: Counters,
    stateful_overflows: Counters,
    stateful_bytes: Gauges,
    transcoded_messages: Counters,
    transcoded_bytes: Counters,
    transcode_errors: Counters,
    backend_up: Gauges,
    backend_connections: Gauges,
    backend_connect_failures: Counters,
    backend_resolve_failures: Counters,
    limits: Counters,
    reloads: Counters,
    reloaded_at: Gauge,
    /// Client connections (TCP) that are open now.
    pub client_sockets: Gauge,
    /// Negotiated connections that no transport has taken up yet.
    pub unattached_tokens: Gauge,
    /// Bytes waiting for slow clients and servers.
    pub buffered_bytes: Gauge,
    /// Access log lines that could not be written in time.
    pub access_log_dropped: Counter,
    no_route: Meters,
}

/// Handles of a route, got once when it is loaded.
#[derive(Debug, Clone)]
pub struct RouteMetrics {
    /// WebSocket messages of clients that are passed through.
    pub web_socket_messages_from_client: Counter,
    /// WebSocket messages of hubs that are passed through.
    pub web_socket_messages_to_client: Counter,
    /// Hub messages to clients, where the gateway re-frames.
    pub hub_messages_to_client: Counter,
    /// Answers of polls that could not be handed over.
    pub polls_returned: Counter,
    /// Answers of polls that were asked for again.
    pub polls_repeated: Counter,
    /// Bytes of clients, framing included.
    pub bytes_from_client: Counter,
    /// Bytes to clients, framing included.
    pub bytes_to_client: Counter,
    /// Hub messages written again.
    pub stateful_resent: Counter,
    /// Repeated messages dropped.
    pub stateful_duplicates: Counter,
    /// Buffers full for too long.
    pub stateful_overflows: Counter,
    /// Bytes kept now.
    pub stateful_bytes: Gauge,
}

/// Directions in the order of [`TranscodeMetrics`].
const DIRECTIONS: [Direction; 2] = [Direction::FromClient, Direction::ToClient];

/// Handles of a route whose hubs speak another protocol than its clients.
#[derive(Debug, Clone)]
pub struct TranscodeMetrics {
    messages: [Counter; 2],
    bytes: [Counter; 2],
    /// By direction and cause.
    errors: [Vec<Counter>; 2],
    limits: [Counter; 2],
}

impl TranscodeMetrics {
    /// Counts a message that was transcoded, with its bytes as it came, framing included.
    pub fn passed(&self, direction: Direction, bytes: usize) {
        let at = direction as usize;
        if let (Some(messages), Some(all)) = (self.messages.get(at), self.bytes.get(at)) {
            messages.inc();
            all.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }

    /// Counts a message that could not be.
    pub fn refused(&self, direction: Direction, cause: TranscodeCause) {
        if let Some(errors) = self.errors.get(direction as usize).and_then(|causes| causes.get(cause as usize)) {
            errors.inc();
        }
    }

    /// Counts a message that is too long, or would be.
    pub fn too_long(&self, direction: Direction) {
        if let Some(limit) = self.limits.get(direction as usize) {
            limit.inc();
        }
    }
}

/// Handles of a server at one of its addresses.
#[derive(Debug, Clone)]
pub struct BackendMetrics {
    /// 1 while it can be reached.
    pub up: Gauge,
    /// Client connections that are its, unattached ones included.
    pub connections: Gauge,
    /// Failed connects.
    pub connect_failures: Counter,
    /// Connects for which no local port was left.
    pub ports_exhausted: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers all of them; counts begin at nothing.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("hubgate");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The version that runs", Info::new(version));
        let latency: fn() -> Histogram = || Histogram::new(CONNECT_BUCKETS);
        let metrics = Self {
            connections: Family::default(),
            web_socket_messages: Family::default(),
            hub_messages: Family::default(),
            polls_rescued: Family::default(),
            bytes: Family::default(),
            negotiates: Family::default(),
            connects: Family::default(),
            connect_seconds: Family::new_with_constructor(latency),
            ends: Family::default(),
            requests: Family::default(),
            resumes: Family::default(),
            stateful_resent: Family::default(),
            stateful_duplicates: Family::default(),
            stateful_overflows: Family::default(),
            stateful_bytes: Family::default(),
            transcoded_messages: Family::default(),
            transcoded_bytes: Family::default(),
            transcode_errors: Family::default(),
            backend_up: Family::default(),
            backend_connections: Family::default(),
            backend_connect_failures: Family::default(),
            backend_resolve_failures: Family::default(),
            limits: Family::default(),
            reloads: Family::default(),
            reloaded_at: Gauge::default(),
            client_sockets: Gauge::default(),
            unattached_tokens: Gauge::default(),
            buffered_bytes: Gauge::default(),
            access_log_dropped: Counter::default(),
            no_route: Meters::new(""),
            registry,
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        let mut family = |name: &str, help: &str, metric: &Counters| registry.register(name, help, metric.clone());
        family("websocket_messages", "WebSocket messages passed through whole", &self.web_socket_messages);
        family(
            "hub_messages",
            "Hub messages to clients, counted where the gateway re-frames them (Server-Sent Events, long polling, stateful reconnect)",
            &self.hub_messages,
        );
        let help = "Answers of polls that would have been lost, by how their messages were saved";
        family("polls_rescued", help, &self.polls_rescued);
        family("negotiates", "Negotiate requests by what became of them", &self.negotiates);
        family("connects", "First transport requests by what became of them", &self.connects);
        family("connection_ends", "Attached connections that have ended, by who ended them and how", &self.ends);
        family("requests", "HTTP requests answered, by class of status", &self.requests);
        family("resumes", "Clients that came back by stateful reconnect, by what became of them", &self.resumes);
        family(
            "stateful_resent_messages",
            "Hub messages written again to clients that came back",
            &self.stateful_resent,
        );
        family(
            "stateful_duplicate_messages",
            "Messages that clients repeated and that were dropped, since their hubs had them",
            &self.stateful_duplicates,
        );
        family(
            "stateful_overflows",
            "Connections ended because their client did not acknowledge in time",
            &self.stateful_overflows,
        );
        family("transcoded_messages", "Hub messages put into the other hub protocol", &self.transcoded_messages);
        family(
            "transcode_errors",
            "Hub messages that could not be put into the other hub protocol, by cause",
            &self.transcode_errors,
        );
        family("backend_connect_failures", "Connects to a server that failed", &self.backend_connect_failures);
        family("backend_resolve_failures", "Server names that did not resolve", &self.backend_resolve_failures);
        family("limit_reached", "Times that a bound was reached", &self.limits);
        family("config_reload", "Reloads of the configuration", &self.reloads);
        let bytes = "Bytes of attached connections, framing included";
        registry.register_with_unit("connection", bytes, Unit::Bytes, self.bytes.clone());
        let bytes = "Bytes of hub messages that were put into the other hub protocol, as they came";
        registry.register_with_unit("transcoded", bytes, Unit::Bytes, self.transcoded_bytes.clone());
        registry.register_with_unit(
            "connect_duration",
            "From a transport's first request to its being attached",
            Unit::Seconds,
            self.connect_seconds.clone(),
        );
        let help = "Bytes of hub messages kept now until clients with stateful reconnect acknowledge them";
        registry.register_with_unit("stateful_buffered", help, Unit::Bytes, self.stateful_bytes.clone());
        registry.register("connections", "Attached connections now", self.connections.clone());
        registry.register("backend_up", "Whether a server can be reached: 1 or 0", self.backend_up.clone());
        let help = "Client connections of a server now, unattached ones included";
        registry.register("backend_connections", help, self.backend_connections.clone());
        registry.register("client_sockets", "Client sockets open now", self.client_sockets.clone());
        let help = "Negotiated connections that no transport has taken up yet";
        registry.register("unattached_tokens", help, self.unattached_tokens.clone());
        let help = "Bytes waiting now for slow clients and servers";
        registry.register_with_unit("buffered", help, Unit::Bytes, self.buffered_bytes.clone());
        let help = "When the configuration in force was loaded, in Unix time";
        let name = "config_reload_last_success_timestamp";
        registry.register_with_unit(name, help, Unit::Seconds, self.reloaded_at.clone());
        let help = "Access log lines that could not be written in time";
        registry.register("access_log_dropped", help, self.access_log_dropped.clone());
        for outcome in ReloadOutcome::ALL {
            drop(self.reloads.get_or_create(&vec![("outcome", outcome.to_string())]));
        }
        for limit in Limit::ALL {
            drop(self.limits.get_or_create(&vec![("limit", limit.to_string())]));
        }
        self
    }

    /// Handles of a route.
    pub fn route(&self, route: &str) -> RouteMetrics {
        let handle = |family: &Counters, direction: Direction| {
            family.get_or_create_owned(&vec![("route", route.to_owned()), ("direction", direction.to_string())])
        };
        let rescued = |rescue: Rescue| {
            self.polls_rescued.get_or_create_owned(&vec![("route", route.to_owned()), ("how", rescue.to_string())])
        };
        let of_route = vec![("route", route.to_owned())];
        RouteMetrics {
            web_socket_messages_from_client: handle(&self.web_socket_messages, Direction::FromClient),
            web_socket_messages_to_client: handle(&self.web_socket_messages, Direction::ToClient),
            polls_returned: rescued(Rescue::Returned),
            polls_repeated: rescued(Rescue::Repeated),
            hub_messages_to_client: handle(&self.hub_messages, Direction::ToClient),
            bytes_from_client: handle(&self.bytes, Direction::FromClient),
            bytes_to_client: handle(&self.bytes, Direction::ToClient),
            stateful_resent: self.stateful_resent.get_or_create_owned(&of_route),
            stateful_duplicates: self.stateful_duplicates.get_or_create_owned(&of_route),
            stateful_overflows: self.stateful_overflows.get_or_create_owned(&of_route),
            stateful_bytes: self.stateful_bytes.get_or_create_owned(&of_route),
        }
    }

    /// Handles of a route whose hubs speak another protocol than its clients.
    pub fn transcodes(&self, route: &str) -> TranscodeMetrics {
        let by_direction = |family: &Counters| {
            let labels = |direction: Direction| vec![("route", route.to_owned()), ("direction", direction.to_string())];
            DIRECTIONS.map(|direction| family.get_or_create_owned(&labels(direction)))
        };
        let errors = DIRECTIONS.map(|direction| {
            let labels = |cause: &TranscodeCause| {
                vec![("route", route.to_owned()), ("direction", direction.to_string()), ("cause", cause.to_string())]
            };
            TranscodeCause::ALL.iter().map(|cause| self.transcode_errors.get_or_create_owned(&labels(cause))).collect()
        });
        TranscodeMetrics {
            messages: by_direction(&self.transcoded_messages),
            bytes: by_direction(&self.transcoded_bytes),
            errors,
            limits: [Limit::ClientMessage, Limit::HubMessage]
                .map(|limit| self.limits.get_or_create_owned(&vec![("limit", limit.to_string())])),
        }
    }

    /// The gauge of attached connections that speak so.
    pub fn connections(&self, route: &str, transport: Transport, protocol: Protocol) -> Gauge {
        let labels =
            [("route", route.to_owned()), ("transport", transport.to_string()), ("protocol", protocol.to_string())];
        self.connections.get_or_create_owned(&labels.to_vec())
    }

    /// Counts a negotiate.
    pub fn negotiated(&self, route: &Meters, outcome: NegotiateOutcome) {
        route.count(&route.negotiates, outcome as usize, &self.negotiates, || vec![("outcome", outcome.to_string())]);
    }

    /// Counts a client that came back, or tried to.
    pub fn resumed(&self, route: &str, outcome: ResumeOutcome) {
        self.resumes.get_or_create(&vec![("route", route.to_owned()), ("outcome", outcome.to_string())]).inc();
    }

    /// Counts a transport's first request; how long it took counts where it succeeded.
    pub fn connected(&self, route: &Meters, transport: Transport, outcome: ConnectOutcome, took: Duration) {
        let transport_label = || ("transport", transport.to_string());
        if outcome == ConnectOutcome::Ok
            && let Some(seconds) = route.connect_seconds.get(transport as usize)
        {
            let labels = || route.labelled(vec![transport_label()]);
            seconds.get_or_init(|| self.connect_seconds.get_or_create_owned(&labels())).observe(took.as_secs_f64());
        }
        let Some(outcomes) = route.connects.get(transport as usize) else { return };
        let labels = || vec![transport_label(), ("outcome", outcome.to_string())];
        route.count(outcomes, outcome as usize, &self.connects, labels);
    }

    /// Counts an attached connection's end.
    pub fn ended(&self, route: &Meters, transport: Transport, end: End) {
        let Some(ends) = route.ends.get(transport as usize) else { return };
        let labels = || vec![("transport", transport.to_string()), ("ended", end.to_string())];
        route.count(ends, end as usize, &self.ends, labels);
    }

    /// Counts an answered HTTP request; requests without a route count under the empty name.
    pub fn answered(&self, route: Option<&Meters>, status: http::StatusCode) {
        let (at, class) = match status.as_u16() {
            100..=199 => (0, "1xx"),
            200..=299 => (1, "2xx"),
            300..=399 => (2, "3xx"),
            400..=499 => (3, "4xx"),
            _ => (4, "5xx"),
        };
        let route = route.unwrap_or(&self.no_route);
        route.count(&route.requests, at, &self.requests, || vec![("status", class.to_owned())]);
    }

    /// Handles of a server at `address`, which is in the pool `backend`.
    pub fn backend(&self, backend: &str, address: &str) -> BackendMetrics {
        let labels = server_labels(backend, address);
        BackendMetrics {
            up: self.backend_up.get_or_create_owned(&labels),
            connections: self.backend_connections.get_or_create_owned(&labels),
            connect_failures: self.backend_connect_failures.get_or_create_owned(&labels),
            ports_exhausted: self.limits.get_or_create_owned(&vec![("limit", Limit::Ports.to_string())]),
        }
    }

    /// Forgets a server that left its pool, so that addresses which come and go do not pile up.
    pub fn forget_backend(&self, backend: &str, address: &str) {
        let labels = server_labels(backend, address);
        self.backend_up.remove(&labels);
        self.backend_connections.remove(&labels);
        self.backend_connect_failures.remove(&labels);
    }

    /// The counter of names of a pool that did not resolve.
    pub fn resolve_failures(&self, backend: &str) -> Counter {
        self.backend_resolve_failures.get_or_create_owned(&vec![("backend", backend.to_owned())])
    }

    /// Counts a bound that was reached.
    pub fn limit_reached(&self, limit: Limit) {
        self.limits.get_or_create(&vec![("limit", limit.to_string())]).inc();
    }

    /// Notes a reload, and the first load as a successful one.
    pub fn reloaded(&self, outcome: ReloadOutcome, now: SystemTime) {
        self.reloads.get_or_create(&vec![("outcome", outcome.to_string())]).inc();
        if outcome == ReloadOutcome::Ok {
            let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            self.reloaded_at.set(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        }
    }

    /// Writes everything as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode_registry(&mut out, &self.registry);
        process::encode(&mut out);
        let _ = prometheus_client::encoding::text::encode_eof(&mut out);
        out
    }
}

fn server_labels(backend: &str, address: &str) -> Labels {
    vec![("backend", backend.to_owned()), ("address", address.to_owned())]
}
