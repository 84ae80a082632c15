//! The server under test and the requests that reach it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::expected::Expected;
use crate::failure::{Outcome, Step, mismatch, same, skip};
use crate::servers::Servers;
use crate::wire::events::{EventStream, Subscription};
use crate::wire::http::{Answer, Connection, Request};
use crate::wire::http2::Http2;
use crate::wire::web_socket::{Upgrade, WebSocket, upgrade_request};
use crate::wire::{self, show};

/// A server, straight or behind a gateway, with what it can do.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port` for HTTP/1.1.
    pub address: String,
    /// `host:port` for HTTP/2 with prior knowledge.
    pub http2_address: Option<String>,
    /// Whether a gateway answers.
    pub gateway: bool,
    /// ASP.NET Core's major version behind the address.
    pub version: u8,
    /// `host:port` of a second gateway before the same application, with the time-outs of [`SHORT_TRANSPORT`].
    pub short_address: Option<String>,
    /// Starts further servers of the same make, for rows that stop one.
    pub servers: Option<Arc<Servers>>,
    /// Every wait is multiplied by this (environment `HUBGATE_PATIENCE`, 1 unless set).
    pub patience: u32,
}

/// A hub path with the time-outs that hold there, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The hub path.
    pub path: &'static str,
    /// Handshake time-out.
    pub handshake: u64,
    /// Interval of the hub's pings.
    pub keep_alive: u64,
    /// Client time-out.
    pub client: u64,
    /// Poll time-out.
    pub poll: u64,
    /// Send time-out.
    pub send: u64,
    /// WebSocket close time-out.
    pub close: u64,
}

/// ASP.NET Core's defaults.
pub const DEFAULTS: Times =
    Times { path: "/contract", handshake: 15, keep_alive: 15, client: 30, poll: 90, send: 10, close: 5 };

/// A short handshake time-out; it hurries everything that connects there.
pub const SHORT_HANDSHAKE: Times = Times { path: "/contract-short", handshake: 1, ..DEFAULTS };

/// Frequent hub pings.
pub const SHORT_PING: Times = Times { path: "/contract-short-ping", keep_alive: 1, ..DEFAULTS };

/// A short client time-out.
pub const SHORT_CLIENT: Times = Times { path: "/contract-short-timeout", client: 2, ..DEFAULTS };

/// Short time-outs of the transports; a gateway must be started with the same ones.
pub const SHORT_TRANSPORT: Times = Times { path: "/contract-short-transport", poll: 2, send: 2, close: 1, ..DEFAULTS };

/// A hub path with what every request to it carries.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The path.
    pub path: String,
    /// Query parameters, joined by `&`, empty for none.
    pub query: String,
    /// Header lines.
    pub headers: Vec<(String, String)>,
}

impl From<&str> for Place {
    fn from(path: &str) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}

impl From<&Place> for Place {
    fn from(place: &Place) -> Self {
        place.clone()
    }
}

impl Place {
    /// Adds query parameters as they are.
    #[must_use]
    pub fn query(mut self, query: &str) -> Self {
        if !self.query.is_empty() {
            self.query.push('&');
        }
        self.query.push_str(query);
        self
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    fn target(&self, suffix: &str, parameters: &str) -> String {
        let both = [self.query.as_str(), parameters];
        let query = both.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}{suffix}{mark}{query}", self.path)
    }

    fn dress(&self, mut request: Request) -> Request {
        request.headers.extend(self.headers.iter().cloned());
        request
    }

    /// A request of that method with the token as `id`.
    #[must_use]
    pub fn request(&self, method: &str, token: &str) -> Request {
        self.dress(Request::new(method, self.target("", &format!("id={token}"))))
    }

    /// A long poll.
    #[must_use]
    pub fn poll(&self, token: &str) -> Request {
        self.request("GET", token)
    }

    /// A POST with a body.
    #[must_use]
    pub fn post(&self, token: &str, body: impl Into<Vec<u8>>) -> Request {
        self.request("POST", token).header("Content-Type", "text/plain;charset=UTF-8").body(body)
    }

    /// A DELETE.
    #[must_use]
    pub fn delete(&self, token: &str) -> Request {
        self.request("DELETE", token)
    }

    /// A request for an event stream.
    #[must_use]
    pub fn events(&self, token: &str) -> Request {
        self.request("GET", token).header("Accept", "text/event-stream")
    }

    /// A WebSocket upgrade.
    #[must_use]
    pub fn upgrade(&self, token: &str) -> Request {
        self.dress(upgrade_request(&self.target("", &format!("id={token}"))))
    }

    /// A WebSocket upgrade without `id`.
    #[must_use]
    pub fn upgrade_alone(&self) -> Request {
        self.dress(upgrade_request(&self.target("", "")))
    }

    /// A negotiate request with these parameters.
    #[must_use]
    pub fn negotiate(&self, parameters: &str) -> Request {
        self.dress(Request::new("POST", self.target("/negotiate", parameters)).body(""))
    }
}

/// A negotiated connection.
#[derive(Debug, Clone)]
pub struct Negotiated {
    /// The public id.
    pub connection_id: String,
    /// The secret for `id=`.
    pub token: String,
    /// The whole answer.
    pub answer: Value,
}

impl Target {
    /// Whether a gateway answers.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        self.gateway
    }

    /// Seconds, as patient as this run is.
    #[must_use]
    pub fn seconds(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds) * self.patience
    }

    /// The longest that an answer which needs no waiting may take.
    #[must_use]
    pub fn soon(&self) -> Duration {
        self.seconds(15)
    }

    /// How long nothing must happen to be called silence. Not stretched by patience: longer proves more, not less.
    #[must_use]
    pub fn moment(&self) -> Duration {
        Duration::from_millis(400)
    }

    /// The target whose time-outs are short: the same, or a second gateway.
    ///
    /// # Errors
    /// When there is no such gateway (skipped).
    pub fn with_short_times(&self) -> Outcome<Self> {
        if !self.gateway {
            return Ok(self.clone());
        }
        match &self.short_address {
            Some(address) => Ok(Self { address: address.clone(), ..self.clone() }),
            None => skip("there is no gateway with short time-outs"),
        }
    }

    /// Opens a TCP connection.
    ///
    /// # Errors
    /// When that fails.
    pub async fn connect(&self) -> Outcome<Connection> {
        Ok(Connection::open(&self.address).await?)
    }

    /// Opens an HTTP/2 connection.
    ///
    /// # Errors
    /// When that fails, or the target has no such address (skipped).
    pub async fn connect_http2(&self) -> Outcome<Http2> {
        match &self.http2_address {
            Some(address) => Ok(wire::within(self.soon(), Http2::open(address)).await?),
            None => skip("the target has no HTTP/2 address"),
        }
    }

    /// Sends a request on a TCP connection of its own and reads the answer.
    ///
    /// # Errors
    /// When there is no complete answer soon.
    pub async fn exchange(&self, request: &Request) -> Outcome<Answer> {
        let mut connection = self.connect().await?;
        wire::within(self.soon(), connection.exchange(request))
            .await
            .step(format!("{} {}", request.method, request.target))
    }

    /// Sends a request on a TCP connection of its own; the answer is read later.
    ///
    /// # Errors
    /// When writing fails.
    pub async fn begin(&self, request: &Request) -> Outcome<Pending> {
        let mut connection = self.connect().await?;
        connection.send(request).await?;
        Ok(Pending { connection, method: request.method.clone() })
    }

    /// As [`Target::begin`], for a body that the server may not take whole: it is written in the background.
    ///
    /// # Errors
    /// When connecting fails.
    pub async fn begin_apart(&self, request: &Request) -> Outcome<Pending> {
        let mut connection = self.connect().await?;
        connection.send_apart(request);
        Ok(Pending { connection, method: request.method.clone() })
    }

    /// Sends an upgrade request and takes the answer, whatever it is.
    ///
    /// # Errors
    /// When there is none soon.
    pub async fn try_upgrade(&self, request: &Request) -> Outcome<Upgrade> {
        let connection = self.connect().await?;
        wire::within(self.soon(), WebSocket::upgrade(connection, request, b""))
            .await
            .step(format!("upgrade {}", request.target))
    }

    /// Upgrades to a WebSocket.
    ///
    /// # Errors
    /// When the answer is anything but 101.
    pub async fn upgrade(&self, request: &Request) -> Outcome<WebSocket> {
        match self.try_upgrade(request).await? {
            Upgrade::Switched(socket) => Ok(*socket),
            Upgrade::Refused(answer) => mismatch(format!("upgrade {}", request.target), "101", answer.brief()),
        }
    }

    /// Sends an upgrade request that must be refused, and gives the answer.
    ///
    /// # Errors
    /// When it is accepted.
    pub async fn refused_upgrade(&self, request: &Request) -> Outcome<Answer> {
        match self.try_upgrade(request).await? {
            Upgrade::Switched(_) => mismatch(format!("upgrade {}", request.target), "a refusal", "101"),
            Upgrade::Refused(answer) => Ok(*answer),
        }
    }

    /// Opens an event stream.
    ///
    /// # Errors
    /// When the answer is no event stream.
    pub async fn subscribe(&self, request: &Request) -> Outcome<EventStream> {
        let connection = self.connect().await?;
        match wire::within(self.soon(), EventStream::open(connection, request)).await? {
            Subscription::Open(stream) => Ok(*stream),
            Subscription::Refused(answer) => mismatch("event stream", "200 text/event-stream", answer.brief()),
        }
    }

    /// Negotiates with version 1.
    ///
    /// # Errors
    /// When the answer lacks id or token.
    pub async fn negotiate(&self, place: impl Into<Place>) -> Outcome<Negotiated> {
        self.negotiate_with(place, "negotiateVersion=1").await
    }

    /// Negotiates with these parameters.
    ///
    /// # Errors
    /// When the answer lacks the id, or in version 1 the token.
    pub async fn negotiate_with(&self, place: impl Into<Place>, parameters: &str) -> Outcome<Negotiated> {
        let answer = self.exchange(&place.into().negotiate(parameters)).await.step("negotiate")?;
        same("negotiate: status", 200, answer.head.status).step(show(&answer.body))?;
        let json: Value = match serde_json::from_slice(&answer.body) {
            Ok(json) => json,
            Err(_) => return mismatch("negotiate", "JSON", answer.brief()),
        };
        let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        let version = json.get("negotiateVersion").and_then(Value::as_i64);
        let token = if version == Some(0) { text("connectionId") } else { text("connectionToken") };
        match (text("connectionId"), token) {
            (Some(connection_id), Some(token)) => Ok(Negotiated { connection_id, token, answer: json }),
            _ => mismatch("negotiate", "connectionId and connectionToken", json),
        }
    }
}

impl Target {
    /// Requires that a connection is removed: soon a POST is answered with 404 `No Connection with that ID`.
    ///
    /// Between the end that a client sees and the removal lies a moment in which POST is answered as before the end,
    /// or with an empty 404 (`signalr-wire` §4.2), so this asks until it is over.
    ///
    /// # Errors
    /// When the connection is still known after a while.
    pub async fn removed(&self, what: &str, place: impl Into<Place>, token: &str) -> Outcome {
        let request = place.into().post(token, "");
        let until = tokio::time::Instant::now() + self.soon() / 3;
        loop {
            let answer = self.exchange(&request).await.step(what)?;
            if !answer.body.is_empty() && answer.head.status == 404 || tokio::time::Instant::now() > until {
                return Expected::no_connection().check(self, &format!("{what}: POST afterwards"), &answer);
            }
        }
    }
}

/// A request whose answer has not been read.
#[derive(Debug)]
pub struct Pending {
    /// The TCP connection.
    pub connection: Connection,
    method: String,
}

impl Pending {
    /// Waits for the answer.
    ///
    /// # Errors
    /// When none comes within `limit`.
    pub async fn answer(&mut self, limit: Duration) -> Outcome<Answer> {
        let method = self.method.clone();
        wire::within(limit, self.connection.answer(&method)).await.step(format!("answer to {method}"))
    }

    /// Whether not a byte of the answer comes within `time`.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn is_pending(&mut self, time: Duration) -> Outcome<bool> {
        if !self.connection.buffer().is_empty() {
            return Ok(false);
        }
        match wire::within(time, self.connection.fill()).await {
            Ok(()) => Ok(false),
            Err(wire::Error::Late(_)) => Ok(true),
            Err(other) => Err(other.into()),
        }
    }

    /// Requires that no answer comes within `time`.
    ///
    /// # Errors
    /// When one comes.
    pub async fn stays(&mut self, what: &str, time: Duration) -> Outcome {
        if self.is_pending(time).await.step(what)? {
            return Ok(());
        }
        let answer = self.answer(Duration::from_secs(1)).await;
        mismatch(what, "no answer yet", answer.map_or_else(|failure| failure.to_string(), |answer| answer.brief()))
    }
}
