//! Every setting there is: name, meaning, default.
//!
//! Why: this file is the reference. The program's defaults, the reader, the environment's overrides and
//! `docs/guide/hubgate.default.toml` are all made from it. What belongs together or must name something else is checked
//! in [`super::validate`].
//!
//! Invariant: a setting that is not here is refused, and a default that is changed here changes the golden file.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::codec::{
    AddressOrNone, AddressOrOff, Addresses, Count, File, Flag, Named, Networks, Secrets, Size, Span, SpanOrNone, Table,
    TableOrNone, Tables, Text, Texts, Word, WordList, Words,
};
use super::network::Network;
use super::section::section;
use crate::secret::Secret;

/// Names that later versions will use (rule G1).
pub(crate) const RESERVED: [&str; 3] = ["auth", "rate_limit", "cluster"];

section! {
    /// hubgate stands between SignalR clients and the hubs behind it.
    pub(crate) struct RawConfig {
        /// Worker threads; 0 takes one per processor core. Changing it needs a restart.
        threads: usize as Count = 0;
        /// Proxies in front of this one (addresses or networks). Only their `Forwarded`, `X-Forwarded-*`, `X-Real-IP`
        /// and `X-Original-*` headers are believed and passed on; everybody else's are dropped.
        trusted_proxies: Vec<Network> as Networks = Vec::new();
        /// Local addresses to connect to backends from, used in turn. Each one gives about 28,000 more connections per
        /// backend address; empty leaves the choice to the system.
        source_addresses: Vec<IpAddr> as Addresses = Vec::new();
        /// Where clients connect; at least one.
        listener: Vec<RawListener> as Tables<RawListener> = Vec::new();
        /// Pools of hub servers, by name.
        backend: BTreeMap<String, RawBackend> as Named<RawBackend> = BTreeMap::new();
        /// What is served, and from which pool.
        route: Vec<RawRoute> as Tables<RawRoute> = Vec::new();
        /// Keys of the connection tokens.
        token: RawToken as Table<RawToken> = RawToken::default();
        /// Bounds.
        limits: Limits as Table<Limits> = Limits::default();
        /// Waits.
        timeouts: Timeouts as Table<Timeouts> = Timeouts::default();
        /// What is written about all this.
        log: Log as Table<Log> = Log::default();
        /// Health and metrics.
        admin: RawAdmin as Table<RawAdmin> = RawAdmin::default();
    }
}

section! {
    /// An address where clients connect. HTTP/1.1 and HTTP/2 are both served, also without TLS.
    pub(crate) struct RawListener {
        /// IP address and port; port 0 takes a free one. Changing it needs a restart.
        address: Option<SocketAddr> as AddressOrOff = None => "\"127.0.0.1:8080\"";
        /// Serves HTTP/2 beside HTTP/1.1.
        http2: bool as Flag = true;
        /// Serves TLS with these certificates, chosen by the name the client asks for; the first one is the default.
        tls: Option<RawTls> as TableOrNone<RawTls> = None
            => "{ certificates = [{ certificate_file = \"example.com.pem\", key_file = \"example.com.key\" }] }";
        /// Serves WebTransport over UDP beside it and offers that to clients that ask for it. `{}` takes the address, the port
        /// and the certificates of this listener; `address`, `public_port` (the port that clients reach, where it is another
        /// one) and `certificates` say otherwise. Browsers accept a self-signed certificate that is valid for at most 14 days
        /// and has an ECDSA P-256 key: they are told its hash.
        web_transport: Option<RawWebTransport> as TableOrNone<RawWebTransport> = None => "{}";
    }
}

section! {
    /// WebTransport beside a listener.
    pub(crate) struct RawWebTransport {
        /// IP address and UDP port; those of the listener by default. Changing it needs a restart.
        address: Option<SocketAddr> as AddressOrNone = None => "\"0.0.0.0:443\"";
        /// The UDP port that clients are told; 0 means the one that is listened on.
        public_port: usize as Count = 0;
        /// Its certificates; those of the listener by default.
        certificates: Vec<RawCertificate> as Tables<RawCertificate> = Vec::new();
    }
}

section! {
    /// TLS of a listener.
    pub(crate) struct RawTls {
        /// The certificates; at least one.
        certificates: Vec<RawCertificate> as Tables<RawCertificate> = Vec::new();
    }
}

section! {
    /// A certificate with its key; both files are read again at a reload.
    pub(crate) struct RawCertificate {
        /// PEM file with the certificate and the chain behind it.
        certificate_file: Option<PathBuf> as File = None;
        /// PEM file with the private key.
        key_file: Option<PathBuf> as File = None;
    }
}

section! {
    /// A pool of servers that serve the same hubs. A name that resolves to several addresses counts as that many servers.
    pub(crate) struct RawBackend {
        /// The servers as origins; paths belong to the routes.
        servers: Vec<String> as Texts = Vec::new();
        /// The `Host` that the servers see: "pass" is the client's, "backend" the server's own name and port.
        host: HostHeader as Word<HostHeader> = HostHeader::Pass;
        /// PEM file with the authorities to verify `https` servers with, instead of the system's.
        ca_file: Option<PathBuf> as File = None => "\"internal-ca.pem\"";
        /// The name that the servers' certificates must have, instead of the one in `servers`.
        server_name: Option<String> as Text = None => "\"hubs.internal\"";
        /// Accepts any certificate of the servers. Anyone between can then read and change everything.
        insecure_skip_verify: bool as Flag = false;
    }
}

section! {
    /// What is served under a host and path. A route with a host goes before one without, a longer path before a
    /// shorter one, an exact hub before a prefix; the order in this file does not matter.
    pub(crate) struct RawRoute {
        /// The name in logs, metrics and error answers.
        name: Option<String> as Text = None => "\"everything\"";
        /// Hosts it serves: names, or "*.example.com" for all names beneath one. None means every host.
        host: Vec<String> as Texts = Vec::new();
        /// Exactly one of `hub`, `hubs` and `prefix` says what is served. `hub`: this one hub path (with its `/negotiate`).
        hub: Option<String> as Text = None => "\"/chat\"";
        /// `hubs`: this path and everything beneath it. Hubs are recognised by what negotiate answers; all else is forwarded.
        hubs: Option<String> as Text = None => "\"/\"";
        /// `prefix`: this path and everything beneath it is forwarded as it is; hubs there get no care.
        prefix: Option<String> as Text = None => "\"/api\"";
        /// The pool that serves it.
        backend: Option<String> as Text = None => "\"app\"";
        /// What the servers see in place of the path of `hub`, `hubs` or `prefix`; "/" cuts it off.
        replace_prefix: Option<String> as Text = None => "\"/\"";
        /// Under `hubs`: whether what is no hub's is forwarded; else it is answered 404.
        forward: bool as Flag = true;
        /// With `prefix` and without `backend`: everything there is answered 404.
        refuse: bool as Flag = false;
        /// "hub" expects a SignalR hub behind a connection, "any" takes raw connection endpoints too.
        protocol: RouteProtocol as Word<RouteProtocol> = RouteProtocol::Hub;
        /// The transports offered to clients, in this order; none means those that the hub itself offers.
        transports: Vec<TransportName> as WordList<TransportName> = Vec::new();
        /// Who keeps a connection whose WebSocket is lost, where a client asks for stateful reconnect: "edge" is the gateway,
        /// whatever the hub can do; "backend" leaves it to the hub; "off" grants it to nobody.
        stateful_reconnect: StatefulReconnect as Word<StatefulReconnect> = StatefulReconnect::Edge;
        /// What the hubs speak: "json" or "messagepack" puts the messages of clients that speak the other one into it and back;
        /// "client" leaves them alone. The guide's page on transcoding tells what becomes of what.
        backend_protocol: BackendProtocol as Word<BackendProtocol> = BackendProtocol::Client;
        /// Names of members, where messages are transcoded: "keep" leaves them alone, "camel-to-pascal" makes `stringProp` in JSON
        /// `StringProp` in MessagePack and back, as ASP.NET Core's two protocols have them.
        property_names: PropertyNames as Word<PropertyNames> = PropertyNames::Keep;
        /// With "camel-to-pascal": names whose declaration their JSON form does not tell.
        declared_names: Vec<String> as Texts = Vec::new() => "[\"ID\", \"URLValue\"]";
        /// What values are that bytes alone do not tell.
        hints: Vec<RawHints> as Tables<RawHints> = Vec::new()
            => "[{ target = \"Upload\", values = { \"arguments.0\" = \"bytes\", \"result.sentAt\" = \"date\" } }]";
        /// "cookie" brings a browser back to the server it was at (Blazor Server needs that), "off" does not.
        affinity: Affinity as Word<Affinity> = Affinity::Off;
        /// What becomes of redirects in negotiate answers: "pass" hands them to the client, "follow" follows them.
        redirects: RedirectMode as Word<RedirectMode> = RedirectMode::Pass;
        /// The origins to which redirects are followed.
        redirect_origins: Vec<String> as Texts = Vec::new();
        /// Refuses requests of another user on a connection (403), by the subject of their JWT.
        bind_identity: bool as Flag = true;
        /// Answers browsers of other origins here instead of leaving that to the hub.
        cors: Option<RawCors> as TableOrNone<RawCors> = None => "{ origins = [\"https://www.example.com\"] }";
    }
}

section! {
    /// What values in the messages of one target are, where they are transcoded.
    pub(crate) struct RawHints {
        /// The method, of the hub or the client.
        target: Option<String> as Text = None;
        /// Hints by path: `arguments.N`, `streams.N`, `result` or `item`, then names of members, numbers of elements, or `*`.
        values: BTreeMap<String, String> as Named<String> = BTreeMap::new();
    }
}

section! {
    /// What browsers of other origins may do.
    pub(crate) struct RawCors {
        /// The origins, exactly as browsers send them.
        origins: Vec<String> as Texts = Vec::new();
        /// The methods.
        methods: Vec<String> as Texts = ["GET", "POST", "DELETE"].map(str::to_owned).to_vec();
        /// The request headers.
        headers: Vec<String> as Texts =
            ["authorization", "content-type", "x-requested-with", "x-signalr-user-agent"].map(str::to_owned).to_vec();
        /// Allows cookies and other credentials; clients ask for that by default.
        credentials: bool as Flag = true;
        /// How long a browser may remember a pre-flight; "none" leaves that to it.
        max_age: Option<Duration> as SpanOrNone = None;
    }
}

section! {
    /// Keys that seal the connection tokens. Several gateways in front of the same servers must share them. Without any, a
    /// random one is made at start, and clients negotiate again after a restart.
    pub(crate) struct RawToken {
        /// Keys of at least 32 bytes: the first one seals, all open. Better kept in `keys_file` or HUBGATE_TOKEN_KEYS.
        keys: Vec<Secret> as Secrets = Vec::new();
        /// A file with one key per line, read again at a reload.
        keys_file: Option<PathBuf> as File = None => "\"token.keys\"";
    }
}

section! {
    /// Bounds. What reaches one is refused or ended, and counted in `hubgate_limit_reached_total`.
    pub struct Limits {
        /// Client connections at once, over all listeners.
        connections_max: usize as Count = 100_000;
        /// Negotiated connections that no transport has taken up yet.
        unattached_tokens_max: usize as Count = 100_000;
        /// Bytes waiting for slow clients and servers, over all connections.
        buffered_bytes_max: usize as Size = 256 << 20;
        /// Bytes of whole messages waiting for one long-polling or Server-Sent Events client, before its hub is no longer read.
        waiting_bytes_max: usize as Size = 64 << 10;
        /// Bytes of hub messages kept for a client with stateful reconnect until it acknowledges them, before its hub is no
        /// longer read. Counted among `buffered_bytes_max` too.
        stateful_buffer_bytes_max: usize as Size = 100_000;
        /// How often, per second, a client with stateful reconnect may come back; up to twice as many at once.
        resumes_per_second_max: usize as Count = 10;
        /// A message of a client, where the gateway must hold it as a whole.
        client_message_bytes_max: usize as Size = 1 << 20;
        /// A message of a hub.
        hub_message_bytes_max: usize as Size = 16 << 20;
        /// The body of a POST that carries messages.
        post_bytes_max: usize as Size = 30_000_000;
        /// A negotiate answer of a hub.
        negotiate_bytes_max: usize as Size = 64 << 10;
        /// All header lines of a request or answer together.
        header_bytes_max: usize as Size = 32 << 10;
        /// Header lines of a request or answer.
        headers_max: usize as Count = 100;
        /// Streams at once on one HTTP/2 connection.
        http2_streams_max: usize as Count = 100;
        /// The slowest rate, per second, at which a request body may come once `body_grace` is over; 0 B means any.
        body_rate_min: usize as Size = 240;
        /// TLS handshakes in progress at once.
        tls_handshakes_max: usize as Count = 1_000;
        /// WebTransport: QUIC handshakes in progress at once; more are refused.
        quic_handshakes_max: usize as Count = 1_000;
        /// WebTransport: QUIC handshakes in progress beyond which newcomers must first show that their address is theirs (a
        /// Retry, which costs them a round trip).
        quic_retry_above: usize as Count = 100;
        /// WebTransport: bytes of one session sent and not yet acknowledged, or not yet sent.
        quic_send_bytes_max: usize as Size = 256 << 10;
        /// WebTransport: bytes of one session that are received and not yet passed on.
        quic_receive_bytes_max: usize as Size = 256 << 10;
        /// WebTransport: what the system may hold of a listener's datagrams before we read them. It gives no more than its own
        /// bound (Linux: `net.core.rmem_max`). Changing it needs a restart.
        udp_receive_buffer_bytes: usize as Size = 4 << 20;
        /// Backend connections that wait after a negotiate for the transport that belongs to it.
        held_connections_max: usize as Count = 1_000;
        /// Idle connections kept per server for forwarded requests.
        idle_connections_max: usize as Count = 64;
        /// Answers to browsers of other origins that are remembered, per route and origin.
        cors_answers_max: usize as Count = 1_000;
    }
}

section! {
    /// Waits.
    pub struct Timeouts {
        /// From accepting a connection to its first byte.
        first_byte_timeout: Duration as Span = Duration::from_secs(10);
        /// For a TLS handshake.
        tls_handshake_timeout: Duration as Span = Duration::from_secs(10);
        /// From the first byte of a request to the end of its headers.
        headers_timeout: Duration as Span = Duration::from_secs(30);
        /// How long a request body may come slower than `limits.body_rate_min`.
        body_grace: Duration as Span = Duration::from_secs(5);
        /// How long a connection of a client may stay idle between two requests.
        http_idle_timeout: Duration as Span = Duration::from_secs(130);
        /// WebTransport: silence after which a client counts as lost; it is asked three times in that time.
        quic_idle_timeout: Duration as Span = Duration::from_secs(30);
        /// How often an idle HTTP/2 connection is asked whether it is still there.
        http2_ping_interval: Duration as Span = Duration::from_secs(30);
        /// How long that answer may take.
        http2_ping_timeout: Duration as Span = Duration::from_secs(20);
        /// For connecting to a server, TLS included.
        backend_connect_timeout: Duration as Span = Duration::from_secs(5);
        /// From a request to the headers of the server's answer.
        backend_headers_timeout: Duration as Span = Duration::from_secs(100);
        /// How long a connection to a server is kept for the next request; shorter than the server's own idle time-out
        /// (Kestrel's is 130 s), so that no request meets a closing connection.
        backend_idle_timeout: Duration as Span = Duration::from_secs(90);
        /// How often server names are resolved anew.
        backend_resolve_interval: Duration as Span = Duration::from_secs(30);
        /// How long a server that cannot be reached is left alone at first; each failure doubles it.
        backend_retry_delay: Duration as Span = Duration::from_secs(1);
        /// The longest that it is left alone.
        backend_retry_delay_max: Duration as Span = Duration::from_secs(30);
        /// How long a connection to a server is held after a negotiate for the transport that belongs to it.
        negotiate_hold: Duration as Span = Duration::from_secs(10);
        /// How long a WebSocket that is not a hub's may stay silent; hubs' WebSockets have the time-outs of the hub.
        tunnel_idle_timeout: Option<Duration> as SpanOrNone = None;
        /// How often the gateway pings both ends of a WebSocket that says nothing.
        websocket_ping_interval: Duration as Span = Duration::from_secs(30);
        /// How often clients get a hub ping where their hub is reached over long polling.
        hub_ping_interval: Duration as Span = Duration::from_secs(15);
        /// When TCP asks a silent peer whether it is still there.
        tcp_keep_alive: Duration as Span = Duration::from_secs(60);
        /// How long a poll waits for a message.
        poll_timeout: Duration as Span = Duration::from_secs(90);
        /// How long writing to a client may make no progress.
        send_timeout: Duration as Span = Duration::from_secs(10);
        /// How long a connection lives without a transport: before the first one, and between two polls.
        disconnect_timeout: Duration as Span = Duration::from_secs(15);
        /// How long a client with stateful reconnect may be away.
        resume_window: Duration as Span = Duration::from_secs(15);
        /// How long a hub's message may wait for room in a full `limits.stateful_buffer_bytes_max`, before the connection ends.
        stateful_buffer_timeout: Duration as Span = Duration::from_secs(5);
        /// How long the other side has for its part of closing a connection.
        close_timeout: Duration as Span = Duration::from_secs(5);
        /// How long a close of ours waits for the end of a message under way.
        boundary_timeout: Duration as Span = Duration::from_secs(1);
        /// How long credentials that the hub has admitted are not shown to it again.
        credentials_memory: Duration as Span = Duration::from_secs(60);
        /// After the signal to stop: how long new connections are still accepted (Kubernetes wants some seconds).
        shutdown_delay: Duration as Span = Duration::ZERO;
        /// After that: how long connections have to end.
        drain_timeout: Duration as Span = Duration::from_secs(30);
    }
}

section! {
    /// What is written to standard error.
    pub struct Log {
        /// The least grave level: "error", "warn", "info", "debug" or "trace". Changing it needs a restart.
        level: LogLevel as Word<LogLevel> = LogLevel::Info;
        /// "text" or "json". Changing it needs a restart.
        format: LogFormat as Word<LogFormat> = LogFormat::Text;
        /// One line per request and per connection's end: "off", "text" or "json".
        access: AccessLogFormat as Word<AccessLogFormat> = AccessLogFormat::Off;
        /// A line that repeats is written once per this time, with the count.
        repeat_interval: Duration as Span = Duration::from_secs(10);
    }
}

section! {
    /// Health, readiness and metrics: /healthz, /readyz, /metrics.
    pub(crate) struct RawAdmin {
        /// An address that clients cannot reach, or "off". Changing it needs a restart.
        address: Option<SocketAddr> as AddressOrOff = Some(SocketAddr::from(([127, 0, 0, 1], 9464)));
        /// Whether /readyz says no while none of the servers of a route can be reached.
        ready_needs_backends: bool as Flag = false;
    }
}

/// Defines a closed list of words with what they mean.
macro_rules! words {
    ($(#[$doc:meta])* pub enum $name:ident { $( $(#[$word_doc:meta])* $variant:ident = $word:literal, )* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$word_doc])* $variant, )*
        }

        impl $name {
            /// The word as configuration, logs and metrics write it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )*
                }
            }
        }

        impl Words for $name {
            const ALL: &'static [(&'static str, Self)] = &[$( ($word, Self::$variant), )*];
        }
    };
}

words! {
    /// The `Host` that servers see (rule B3).
    pub enum HostHeader {
        /// The one that the client sent.
        Pass = "pass",
        /// The server's own name and port.
        Backend = "backend",
    }
}

words! {
    /// What may be behind a connection of a route.
    pub enum RouteProtocol {
        /// A SignalR hub with its handshake.
        Hub = "hub",
        /// A hub or a raw connection endpoint.
        Any = "any",
    }
}

words! {
    /// A transport by the name that negotiate gives it.
    pub enum TransportName {
        /// WebSockets.
        WebSockets = "WebSockets",
        /// Server-Sent Events.
        ServerSentEvents = "ServerSentEvents",
        /// Long polling.
        LongPolling = "LongPolling",
        /// WebTransport, for clients that ask for it, where the listener has it.
        WebTransport = "WebTransport",
    }
}

words! {
    /// Who keeps a connection whose WebSocket is lost (rules I1, I5).
    pub enum StatefulReconnect {
        /// The gateway.
        Edge = "edge",
        /// The hub, if it can.
        Backend = "backend",
        /// Nobody.
        Off = "off",
    }
}

words! {
    /// What the hubs of a route speak.
    pub enum BackendProtocol {
        /// What their clients speak.
        Client = "client",
        /// JSON.
        Json = "json",
        /// MessagePack.
        MessagePack = "messagepack",
    }
}

words! {
    /// What happens to names of members where messages are transcoded.
    pub enum PropertyNames {
        /// Nothing.
        Keep = "keep",
        /// camelCase in JSON, PascalCase in MessagePack.
        CamelToPascal = "camel-to-pascal",
    }
}

words! {
    /// Whether a client comes back to the server it was at (rule D6).
    pub enum Affinity {
        /// It does not.
        Off = "off",
        /// It does, by a cookie.
        Cookie = "cookie",
    }
}

words! {
    /// What becomes of redirects in negotiate answers (rule B7).
    pub enum RedirectMode {
        /// The client gets them.
        Pass = "pass",
        /// The gateway follows them.
        Follow = "follow",
    }
}

words! {
    /// The least grave level that is logged.
    pub enum LogLevel {
        /// An operator must act.
        Error = "error",
        /// Something is degraded.
        Warn = "warn",
        /// The life cycle.
        Info = "info",
        /// Each connection.
        Debug = "debug",
        /// Each message.
        Trace = "trace",
    }
}

words! {
    /// How log lines are written.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// For machines.
        Json = "json",
    }
}

words! {
    /// How access log lines are written (rule G4).
    pub enum AccessLogFormat {
        /// Not at all.
        Off = "off",
        /// For people.
        Text = "text",
        /// For machines.
        Json = "json",
    }
}
