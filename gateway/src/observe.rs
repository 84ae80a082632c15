//! What happened, told to metrics and access log: one line per request and one per connection's end (rule G4).
//!
//! A handler notes what it learnt in the answer's extensions ([`Noted`]); the line is written when the answer's body is
//! done, so that bytes and duration are true.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::access_log::{ConnectionEnd, RequestEnd};
use crate::body::{Body, BodyError};
use crate::config::AccessLogFormat;
use crate::edge::{self, Kind};
use crate::gate::Gate;
use crate::live::Route;
use crate::metrics::{ConnectOutcome, End, NegotiateOutcome, Transport};
use crate::relay::{Outcome, Spoken};

/// What a handler learnt about a request, as an extension of its answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Noted {
    /// Who answered.
    pub(crate) backend: Option<SocketAddr>,
    /// The hub's own id of the connection.
    pub(crate) connection_id: Option<Box<str>>,
    /// Why the gateway answered itself.
    pub(crate) cause: Option<&'static str>,
}

/// Notes on an answer who gave it.
pub(crate) fn note_backend<B>(response: &mut Response<B>, backend: SocketAddr) {
    let mut noted = response.extensions_mut().remove::<Noted>().unwrap_or_default();
    noted.backend = Some(backend);
    response.extensions_mut().insert(noted);
}

/// Notes on an answer which connection it belonged to.
pub(crate) fn note_connection<B>(response: &mut Response<B>, connection_id: &str) {
    let mut noted = response.extensions_mut().remove::<Noted>().unwrap_or_default();
    noted.connection_id = (!connection_id.is_empty()).then(|| connection_id.into());
    response.extensions_mut().insert(noted);
}

/// Notes on an answer why the gateway gave it.
pub(crate) fn note_cause<B>(response: &mut Response<B>, cause: &'static str) {
    let mut noted = response.extensions_mut().remove::<Noted>().unwrap_or_default();
    noted.cause.get_or_insert(cause);
    response.extensions_mut().insert(noted);
}

/// A request under way, as the access log will tell it.
#[derive(Debug)]
pub(crate) struct Watching {
    gate: Arc<Gate>,
    format: AccessLogFormat,
    peer: IpAddr,
    method: http::Method,
    host: String,
    path: String,
    query: String,
    http: &'static str,
    bytes_in: u64,
    started: Instant,
}

impl Watching {
    /// Begins to watch a request; `None` while the access log is off.
    pub(crate) fn begin<B: HttpBody>(gate: &Arc<Gate>, peer: IpAddr, request: &Request<B>) -> Option<Self> {
        let format = gate.live.load().config.log.access;
        if format == AccessLogFormat::Off {
            return None;
        }
        let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
        Some(Self {
            gate: Arc::clone(gate),
            format,
            peer,
            method: request.method().clone(),
            host: host
                .or_else(|| request.uri().authority().map(http::uri::Authority::as_str))
                .unwrap_or_default()
                .into(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            http: match request.version() {
                Version::HTTP_3 => "3",
                Version::HTTP_2 => "2",
                Version::HTTP_10 => "1.0",
                _ => "1.1",
            },
            // What was announced; a body without a length counts as none.
            bytes_in: request.body().size_hint().exact().unwrap_or(0),
            started: Instant::now(),
        })
    }

    /// Follows the answer to its last byte.
    pub(crate) fn follow(self, route: Option<&Route>, response: Response<Body>) -> Response<Body> {
        let noted = response.extensions().get::<Noted>().cloned().unwrap_or_default();
        let status = response.status();
        let route = route.map(|route| route.name().into());
        response
            .map(|body| Body::Followed(Box::new(Followed { body, watching: self, route, noted, status, bytes_out: 0 })))
    }
}

/// An answer's body whose end is told to the access log.
#[derive(Debug)]
pub(crate) struct Followed {
    body: Body,
    watching: Watching,
    route: Option<Box<str>>,
    noted: Noted,
    status: StatusCode,
    bytes_out: u64,
}

impl Followed {
    /// The next piece.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    /// Whether nothing follows.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// How much there is.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let watching = &self.watching;
        let backend = self.noted.backend.map(|backend| backend.to_string());
        let line = RequestEnd {
            peer: watching.peer,
            method: watching.method.as_str(),
            host: &watching.host,
            path: &watching.path,
            query: &watching.query,
            http: watching.http,
            route: self.route.as_deref(),
            backend: backend.as_deref(),
            connection_id: self.noted.connection_id.as_deref(),
            status: self.status.as_u16(),
            bytes_in: watching.bytes_in,
            bytes_out: self.bytes_out,
            duration: watching.started.elapsed(),
            cause: self.noted.cause,
        };
        if let Some(line) = line.line(watching.format, SystemTime::now()) {
            watching.gate.log(line);
        }
    }
}

/// A connection that is attached, as metrics and access log will tell its end.
#[derive(Debug)]
pub(crate) struct Attached {
    gate: Arc<Gate>,
    route: Arc<Route>,
    peer: IpAddr,
    backend: SocketAddr,
    kind: Kind,
    connection_id: Box<str>,
    since: Instant,
}

impl Attached {
    /// Begins with the transport's first request.
    pub(crate) fn new(
        visit: &crate::visit::Visit,
        kind: Kind,
        backend: SocketAddr,
        connection_id: impl Into<Box<str>>,
    ) -> Self {
        Self {
            gate: Arc::clone(&visit.gate),
            route: Arc::clone(&visit.route),
            peer: visit.client.peer.ip(),
            backend,
            kind,
            connection_id: connection_id.into(),
            since: Instant::now(),
        }
    }

    /// Tells its end.
    pub(crate) fn ended(&self, end: End, spoken: Spoken, bytes: (u64, u64)) {
        self.gate.metrics.ended(&self.route.meters, transport(self.kind), end);
        let format = self.gate.live.load().config.log.access;
        if format == AccessLogFormat::Off {
            return;
        }
        let backend = self.backend.to_string();
        let line = ConnectionEnd {
            peer: self.peer,
            route: self.route.name(),
            backend: Some(&backend),
            transport: self.kind.name(),
            protocol: spoken.name(),
            connection_id: Some(&*self.connection_id).filter(|id| !id.is_empty()),
            bytes_in: bytes.0,
            bytes_out: bytes.1,
            duration: self.since.elapsed(),
            ended: end.as_str(),
        };
        if let Some(line) = line.line(format, SystemTime::now()) {
            self.gate.log(line);
        }
    }
}

/// The metrics' word for a transport.
pub(crate) fn transport(kind: Kind) -> Transport {
    match kind {
        Kind::WebSocket => Transport::WebSockets,
        Kind::EventStream => Transport::ServerSentEvents,
        Kind::LongPolling => Transport::LongPolling,
        Kind::WebTransport => Transport::WebTransport,
    }
}

impl From<Outcome> for End {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::ClientClosed => Self::ClientClosed,
            Outcome::ClientLost => Self::ClientLost,
            Outcome::HubClosed => Self::HubClosed,
            Outcome::HubLost => Self::HubLost,
            Outcome::ClientStuck => Self::ClientStuck,
            Outcome::Silent => Self::Silent,
            Outcome::Refused => Self::Refused,
            Outcome::Drained => Self::Drained,
        }
    }
}

impl From<edge::End> for End {
    fn from(end: edge::End) -> Self {
        match end {
            edge::End::HubClosed => Self::HubClosed,
            edge::End::HubLost => Self::HubLost,
            edge::End::ClientClosed => Self::ClientClosed,
            edge::End::ClientGone => Self::ClientLost,
            edge::End::Refused => Self::Refused,
            edge::End::Drained => Self::Drained,
        }
    }
}

/// What a connect's answer says of its outcome.
pub(crate) fn connect_outcome(status: StatusCode) -> ConnectOutcome {
    match status.as_u16() {
        100..=299 => ConnectOutcome::Ok,
        400 | 405 | 409 => ConnectOutcome::BadRequest,
        404 => ConnectOutcome::UnknownToken,
        401 | 403 => ConnectOutcome::Refused,
        502 => ConnectOutcome::Unreachable,
        504 => ConnectOutcome::TimedOut,
        503 => ConnectOutcome::Limit,
        _ => ConnectOutcome::BackendError,
    }
}

/// What a negotiate's answer says of its outcome.
pub(crate) fn negotiate_outcome(status: StatusCode, granted: bool) -> NegotiateOutcome {
    match status.as_u16() {
        200 if granted => NegotiateOutcome::Ok,
        200 | 401 | 403 => NegotiateOutcome::Refused,
        502 => NegotiateOutcome::Unreachable,
        503 => NegotiateOutcome::Limit,
        504 => NegotiateOutcome::TimedOut,
        _ => NegotiateOutcome::BackendError,
    }
}
