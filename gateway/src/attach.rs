//! Transport requests with a token of ours: WebSockets, event streams, polls, POSTs, DELETEs (signalr-wire §4, §5).

mod admit;
mod connect;
mod post;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, Version};
use hubgate_protocol::websocket::{self, OpCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::io::{ReadHalf, split};

pub(crate) use self::admit::{admit, credentials};
pub(crate) use self::connect::connect;
use self::post::post;
use crate::answer;
use crate::backend::Share;
use crate::body::Body;
use crate::config::StatefulReconnect;
use crate::edge::{Asked, Bounds, Edge, End, Kind, Poll, Upward, event_stream, read_hub};
use crate::forward::{Agreed, join, upgrade_key};
use crate::identity::Admission;
use crate::io::Stream;
use crate::link::SweepRules;
use crate::negotiate::seconds;
use crate::observe::{Attached, connect_outcome, note_connection, transport};
use crate::outbound;
use crate::relay::Report;
use crate::stateful::{self, Granted, Kept, Passed};
use crate::table::{Entry, Offered, State, TokenKey, Waiting};
use crate::token::{Contents, HubDigest};
use crate::visit::{Visit, wants_event_stream, wants_web_socket};

/// A token that was presented and is ours.
pub(crate) struct Presented {
    /// By what its connection is found.
    key: TokenKey,
    /// What it says; `None` where only the table knows.
    contents: Option<Contents>,
}

/// Whether the `id` of a request is a token of ours.
pub(crate) fn presented(visit: &Visit, id: &str) -> Option<Presented> {
    match visit.live.tokens.open(id.as_bytes()) {
        Ok((contents, id)) => Some(Presented { key: TokenKey::Sealed(id), contents: Some(contents) }),
        Err(_) => {
            let key = TokenKey::Random(id.into());
            visit.gate.table.find(&key).map(|_| Presented { key, contents: None })
        }
    }
}

/// Serves a request with a token of ours.
pub(crate) async fn serve(visit: &Visit, presented: Presented, request: Request<Incoming>) -> Response<Body> {
    let origin = request.headers().get(http::header::ORIGIN).cloned();
    let mut response = dispatch(visit, presented, request).await;
    outbound::apply_cors(visit, origin.as_ref(), &mut response);
    response
}

/// The connection of a token on the hub path it was made for (rule A3); a token that only a gateway with our keys knows
/// has none yet.
///
/// # Errors
/// The token belongs to another path.
pub(crate) fn find(visit: &Visit, presented: &Presented) -> Result<Option<Arc<Entry>>, AnotherPath> {
    let hub = visit.path.hub();
    let entry = visit.gate.table.find(&presented.key);
    let elsewhere = presented.contents.as_ref().is_some_and(|contents| contents.hub != HubDigest::of(hub))
        || entry.as_ref().is_some_and(|entry| *entry.path != *hub);
    if elsewhere { Err(AnotherPath) } else { Ok(entry) }
}

/// A token was presented on another path than its own.
pub(crate) struct AnotherPath;

async fn dispatch(visit: &Visit, presented: Presented, request: Request<Incoming>) -> Response<Body> {
    let Ok(entry) = find(visit, &presented) else { return not_here(&request) };
    let connects = *request.method() == Method::GET || *request.method() == Method::CONNECT;
    let kind = match *request.method() {
        _ if connects && wants_event_stream(request.headers()) => Some(Kind::EventStream),
        _ if connects && wants_web_socket(&request) => Some(Kind::WebSocket).filter(|_| !came_back(entry.as_deref())),
        Method::GET if entry.as_ref().is_none_or(|entry| matches!(*entry.state(), State::Waiting(_))) => {
            Some(Kind::LongPolling)
        }
        _ => None,
    };
    let connection_id: Box<str> = entry.as_ref().map(|entry| entry.connection_id.clone()).unwrap_or_default();
    let started = std::time::Instant::now();
    let mut response = serve_by_method(visit, presented, entry, connects, request).await;
    if let Some(kind) = kind {
        let (outcome, took) = (connect_outcome(response.status()), started.elapsed());
        visit.gate.metrics.connected(&visit.route.meters, transport(kind), outcome, took);
    }
    note_connection(&mut response, &connection_id);
    response
}

/// Whether a connection has had a WebSocket before: what comes now is a resume, which has counters of its own.
fn came_back(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| matches!(*entry.state(), State::Stateful(_) | State::Passed(_)))
}

async fn serve_by_method(
    visit: &Visit,
    presented: Presented,
    entry: Option<Arc<Entry>>,
    connects: bool,
    request: Request<Incoming>,
) -> Response<Body> {
    match *request.method() {
        _ if connects && wants_event_stream(request.headers()) => attach_event_stream(visit, entry, request).await,
        _ if connects && wants_web_socket(&request) => attach_web_socket(visit, presented, entry, request).await,
        Method::GET => answer::uncached(poll(visit, entry, request).await),
        Method::POST => post(visit, entry, request).await,
        Method::DELETE => delete(visit, entry, request).await,
        _ => answer::empty(StatusCode::METHOD_NOT_ALLOWED),
    }
}

/// 404 as the reference words it: a WebSocket's has no media type.
fn not_here(request: &Request<Incoming>) -> Response<Body> {
    let mut response = answer::no_connection();
    if wants_event_stream(request.headers()) {
        return response;
    }
    if wants_web_socket(request) {
        response.headers_mut().remove(http::header::CONTENT_TYPE);
        return response;
    }
    if request.method() == Method::GET { answer::uncached(response) } else { response }
}

/// Takes a waiting connection for a transport, or says why not (signalr-wire §4.2).
pub(crate) fn take(visit: &Visit, entry: &Entry, kind: Kind) -> Result<Box<Waiting>, Response<Body>> {
    if !entry.offered.has(kind) && matches!(*entry.state(), State::Waiting(_)) {
        return Err(answer::not_offered(kind.name()));
    }
    if let Some(waiting) = visit.gate.table.attach(entry, kind) {
        return Ok(waiting);
    }
    Err(match &*entry.state() {
        State::Finished | State::Waiting(_) => answer::no_connection(),
        State::WebSocket | State::Stateful(_) | State::Passed(_) if kind == Kind::WebSocket => {
            answer::empty(StatusCode::CONFLICT)
        }
        State::Attaching(other) if *other == kind => answer::empty(StatusCode::CONFLICT),
        State::Edge(edge) if edge.kind == kind => answer::empty(StatusCode::CONFLICT),
        State::WebSocket | State::Stateful(_) | State::Passed(_) | State::Attaching(_) | State::Edge(_) => {
            answer::text(StatusCode::BAD_REQUEST, answer::CANNOT_CHANGE)
        }
    })
}

/// Gives the connection up if its transport does not come about.
struct Attaching<'a> {
    entry: &'a Entry,
    done: bool,
}

impl Drop for Attaching<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.entry.set(State::Finished);
        }
    }
}

async fn attach_web_socket(
    visit: &Visit,
    presented: Presented,
    entry: Option<Arc<Entry>>,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let entry = match entry.or_else(|| adopt(visit, &presented)) {
        Some(entry) => entry,
        None => return not_here(&request),
    };
    let came_back = match &*entry.state() {
        State::Stateful(kept) => Some(Back::Kept(Arc::clone(kept))),
        State::Passed(passed) => Some(Back::Passed(Arc::clone(passed))),
        _ => None,
    };
    match came_back {
        Some(Back::Kept(kept)) => return stateful::resume(visit, &kept, request).await,
        Some(Back::Passed(passed)) => return stateful::resume_passed(visit, &entry, &passed, request).await,
        None => {}
    }
    let waiting = match take(visit, &entry, Kind::WebSocket) {
        Ok(waiting) => waiting,
        Err(_) if matches!(*entry.state(), State::Finished) => return not_here(&request),
        Err(refusal) => return refusal,
    };
    let mut attaching = Attaching { entry: &entry, done: false };
    let to_http2 = request.version() == Version::HTTP_2;
    let client = hyper::upgrade::on(&mut request);
    let key = upgrade_key(visit, &request);
    let admission = Admission::new(&credentials(visit, &request), visit.route.config.bind_identity);
    match connect(visit, *waiting, request.map(|_| Body::Empty), &key, to_http2).await {
        Ok((waiting, agreed)) => {
            attaching.done = true;
            join_web_socket(visit, &entry, client, admission, waiting, agreed)
        }
        Err(refusal) => *refusal,
    }
}

/// A client that comes back to its connection.
enum Back {
    /// Kept by the gateway.
    Kept(Arc<Kept>),
    /// Kept by the hub.
    Passed(Arc<Passed>),
}

/// Joins both sides, in the way that was granted (rule I1).
fn join_web_socket(
    visit: &Visit,
    entry: &Arc<Entry>,
    client: OnUpgrade,
    admission: Admission,
    waiting: Waiting,
    agreed: Agreed,
) -> Response<Body> {
    let backend = waiting.share.backend();
    let attached = Attached::new(visit, Kind::WebSocket, backend.address, &*entry.connection_id);
    match entry.offered.stateful {
        StatefulReconnect::Off => {
            entry.set(State::WebSocket);
            let kept = Arc::clone(entry);
            let ended = move |report: &Report| {
                kept.set(State::Finished);
                attached.ended(report.outcome.into(), report.spoken, report.bytes);
            };
            join(visit, client, agreed.hub, waiting.share, early_frames(&waiting.early), false, ended);
            agreed.response
        }
        StatefulReconnect::Edge => {
            entry.set(State::WebSocket);
            // A hub elsewhere knows the redirect's token, not the client's credentials.
            let judge = waiting.elsewhere.is_none().then(|| Arc::clone(backend));
            let early = early_frames(&waiting.early);
            let granted = Granted { client, hub: agreed.hub, share: waiting.share, admission, judge, early };
            stateful::keep(visit, Arc::clone(entry), granted, attached);
            agreed.response
        }
        StatefulReconnect::Backend => {
            let passed = Passed::new(visit, &waiting, admission);
            entry.set(State::Passed(Arc::clone(&passed)));
            stateful::relay_passed(visit, &passed, client, waiting, agreed, attached)
        }
    }
}

/// Enters a token of another gateway with the same keys, or of one that has started anew (rule A1).
fn adopt(visit: &Visit, presented: &Presented) -> Option<Arc<Entry>> {
    let contents = presented.contents.as_ref().filter(|contents| !contents.is_expired(SystemTime::now()))?;
    let backend = visit.route.pool.as_ref()?.by_digest(contents.backend.to_bytes())?;
    let now = visit.gate.clock.now();
    let expires = now + seconds(visit.live.config.timeouts.disconnect_timeout) + 1;
    let waiting = Waiting {
        share: backend.share(),
        hub_token: contents.backend_token.clone(),
        held: None,
        cookies: crate::cookie::HubCookies::default(),
        early: BytesMut::new(),
        hub_has_web_sockets: true,
        elsewhere: None,
        // Another gateway's, so that its WebTransport session is refused here.
        shown: None,
    };
    let stateful = if contents.stateful { visit.route.config.stateful_reconnect } else { StatefulReconnect::Off };
    let offered = Offered::web_sockets(stateful);
    Some(visit.gate.table.enter(presented.key.clone(), visit.path.hub(), "", expires, offered, waiting))
}

/// What was posted before the WebSocket came, as frames for the hub.
pub(crate) fn early_frames(early: &[u8]) -> Bytes {
    if early.is_empty() {
        return Bytes::new();
    }
    let mut frames = BytesMut::new();
    let opcode = if std::str::from_utf8(early).is_ok() { OpCode::Text } else { OpCode::Binary };
    websocket::write_frame(&mut frames, true, opcode, Some([0x11, 0x22, 0x33, 0x44]), early);
    frames.freeze()
}

/// Attaches an event stream or the first poll: reaches the hub, starts reading it.
async fn attach_edge(
    visit: &Visit,
    entry: &Arc<Entry>,
    kind: Kind,
    request: Request<Incoming>,
) -> Result<Arc<Edge>, Response<Body>> {
    let waiting = take(visit, entry, kind)?;
    let opened = open_edge(visit, entry, kind, waiting, request.map(|_| Body::Empty))
        .await
        .map_err(|refusal| refusal_for(kind, *refusal))?;
    let edge = Arc::clone(&opened.edge);
    let kept = Arc::clone(entry);
    tokio::spawn(async move {
        opened.read().await;
        // An event stream is over with its hub; polls still fetch what is left.
        if kind == Kind::EventStream {
            kept.set(State::Finished);
        }
    });
    Ok(edge)
}

/// A connection whose hub has been reached and is not read yet.
pub(crate) struct Opened {
    /// The connection.
    pub(crate) edge: Arc<Edge>,
    reading: ReadHalf<Stream>,
    ahead: Bytes,
    share: Share,
    attached: Attached,
}

impl Opened {
    /// Reads the hub until it or its client ends, and tells that.
    pub(crate) async fn read(self) {
        let Self { edge, reading, ahead, share, attached } = self;
        read_hub(Arc::clone(&edge), reading, ahead).await;
        drop(share);
        let end = edge.ended().unwrap_or(End::HubLost);
        attached.ended(end.into(), edge.spoken(), edge.bytes());
    }
}

/// Reaches the hub of a connection that was taken for a transport which is no WebSocket.
///
/// # Errors
/// The hub's refusal, or why it was not reached.
pub(crate) async fn open_edge(
    visit: &Visit,
    entry: &Arc<Entry>,
    kind: Kind,
    waiting: Box<Waiting>,
    request: Request<Body>,
) -> Result<Opened, Box<Response<Body>>> {
    let mut attaching = Attaching { entry, done: false };
    let credentials = credentials(visit, &request);
    let admission = Admission::new(&credentials, visit.route.config.bind_identity);
    let key = upgrade_key(visit, &request);
    let (waiting, agreed) = connect(visit, *waiting, request, &key, false).await?;
    let config = &visit.live.config;
    let bounds = Bounds {
        waiting_bytes_max: config.limits.waiting_bytes_max,
        hub_message_bytes_max: config.limits.hub_message_bytes_max,
        send_timeout: config.timeouts.send_timeout,
        poll_timeout: config.timeouts.poll_timeout,
        close_timeout: config.timeouts.close_timeout,
    };
    let (hub, ahead) = agreed.hub;
    let (reading, writing) = split(hub);
    let upward = Upward::new(writing, visit.gate.chance());
    let (traffic, clock) = (Arc::clone(&visit.route.traffic), Arc::clone(&visit.gate.clock));
    let backend = Arc::clone(waiting.share.backend());
    // A hub elsewhere knows the redirect's token, not the client's credentials.
    let judge = waiting.elsewhere.is_none().then_some(backend);
    let edge = Edge::new(kind, bounds, upward, admission, judge, traffic, clock);
    if !waiting.early.is_empty()
        && let Ok(mut sending) = edge.sending().await
    {
        let _noticed_by_the_reader = sending.pass(waiting.early.clone().freeze()).await;
    }
    attaching.done = true;
    entry.set(State::Edge(Arc::clone(&edge)));
    let attached = Attached::new(visit, kind, waiting.share.backend().address, &*entry.connection_id);
    Ok(Opened { edge, reading, ahead, share: waiting.share, attached })
}

/// A first poll gets the hub's 401 and 403, else 404; never 204 (rule B8).
fn refusal_for(kind: Kind, refusal: Response<Body>) -> Response<Body> {
    let status = refusal.status();
    let keeps = match kind {
        Kind::LongPolling => status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN,
        _ => status.is_client_error(),
    };
    if keeps { refusal } else { answer::no_connection() }
}

async fn attach_event_stream(visit: &Visit, entry: Option<Arc<Entry>>, request: Request<Incoming>) -> Response<Body> {
    let Some(entry) = entry else { return answer::no_connection() };
    match attach_edge(visit, &entry, Kind::EventStream, request).await {
        Ok(edge) => {
            let mut response = answer::event_stream(event_stream(Arc::clone(&edge)));
            response.extensions_mut().insert(edge);
            response
        }
        Err(refusal) => refusal,
    }
}

/// The connection of a request that is not the first one of its transport.
async fn edge_of(visit: &Visit, entry: &Entry, request: &Request<Incoming>) -> Result<Arc<Edge>, Response<Body>> {
    loop {
        let changed = entry.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let found = match &*entry.state() {
            // Given up already; the sweep tidies it away.
            State::Edge(edge) if edge.over.is_cancelled() => return Err(answer::no_connection()),
            State::Edge(edge) if edge.kind == Kind::WebTransport => {
                return Err(answer::text(StatusCode::METHOD_NOT_ALLOWED, answer::POST_ON_WEB_SOCKET));
            }
            State::Edge(edge) => Some(Arc::clone(edge)),
            State::Attaching(Kind::EventStream | Kind::LongPolling) => None,
            State::Attaching(Kind::WebSocket | Kind::WebTransport)
            | State::WebSocket
            | State::Stateful(_)
            | State::Passed(_) => {
                return Err(answer::text(StatusCode::METHOD_NOT_ALLOWED, answer::POST_ON_WEB_SOCKET));
            }
            State::Waiting(_) | State::Finished => return Err(answer::no_connection()),
        };
        match found {
            Some(edge) => {
                let credentials = credentials(visit, request);
                let admitted = admit(visit, || edge.admission(), edge.judge.as_ref(), &credentials, request).await;
                return admitted.map(|()| edge);
            }
            None => changed.await,
        }
    }
}

async fn poll(visit: &Visit, entry: Option<Arc<Entry>>, request: Request<Incoming>) -> Response<Body> {
    let Some(entry) = entry else { return answer::no_connection() };
    let asked = Asked::new(request.uri().query().unwrap_or_default(), &visit.client);
    let first = matches!(*entry.state(), State::Waiting(_));
    if first {
        return match attach_edge(visit, &entry, Kind::LongPolling, request).await {
            Ok(edge) => {
                edge.first_poll(&asked);
                answer::with(StatusCode::OK, answer::OCTETS, Body::Empty)
            }
            Err(refusal) => refusal,
        };
    }
    if matches!(
        *entry.state(),
        State::WebSocket
            | State::Stateful(_)
            | State::Passed(_)
            | State::Attaching(Kind::WebSocket | Kind::EventStream | Kind::WebTransport)
    ) {
        return answer::text(StatusCode::BAD_REQUEST, answer::CANNOT_CHANGE);
    }
    let edge = match edge_of(visit, &entry, &request).await {
        Ok(edge) if edge.kind != Kind::LongPolling => {
            return answer::text(StatusCode::BAD_REQUEST, answer::CANNOT_CHANGE);
        }
        Ok(edge) => edge,
        Err(refusal) => return refusal,
    };
    match edge.poll(&asked).await {
        Poll::Messages(messages, handover) => {
            visit.client.polls(&edge);
            let mut response = answer::with(StatusCode::OK, answer::OCTETS, Body::Full(messages));
            response.extensions_mut().insert(handover);
            response
        }
        Poll::First => answer::with(StatusCode::OK, answer::OCTETS, Body::Empty),
        Poll::TimedOut => answer::empty(StatusCode::OK),
        Poll::Replaced => answer::empty(StatusCode::NO_CONTENT),
        Poll::Ended => {
            entry.set(State::Finished);
            edge.over.cancel();
            answer::empty(StatusCode::NO_CONTENT)
        }
    }
}

async fn delete(visit: &Visit, entry: Option<Arc<Entry>>, request: Request<Incoming>) -> Response<Body> {
    let Some(entry) = entry else { return answer::no_connection() };
    let keeps = match &*entry.state() {
        State::Waiting(_) | State::WebSocket | State::Stateful(_) | State::Passed(_) | State::Attaching(_) => true,
        State::Edge(edge) => edge.kind == Kind::WebTransport,
        State::Finished => false,
    };
    if keeps {
        return answer::text(StatusCode::BAD_REQUEST, answer::CANNOT_DELETE);
    }
    match edge_of(visit, &entry, &request).await {
        Ok(edge) if edge.kind != Kind::LongPolling => answer::text(StatusCode::BAD_REQUEST, answer::CANNOT_DELETE),
        Ok(edge) => {
            // A pending poll gets the Close message; what waited is lost.
            edge.deleted();
            entry.set(State::Finished);
            edge.over.cancel();
            answer::empty(StatusCode::ACCEPTED)
        }
        Err(refusal) => refusal,
    }
}

/// Ends connections whose client has not polled for too long, and looks after hubs that say nothing.
pub(crate) fn reap(gate: &crate::gate::Gate, rules: SweepRules) {
    let timeout = seconds(gate.live.load().config.timeouts.disconnect_timeout);
    let now = gate.clock.now();
    for entry in gate.table.edges() {
        let State::Edge(edge) = &*entry.state() else { continue };
        let edge = Arc::clone(edge);
        let over = edge.over.is_cancelled() && edge.kind == Kind::LongPolling;
        if over || edge.abandoned(now, timeout) {
            edge.give_up();
            let entry = Arc::clone(&entry);
            tokio::spawn(async move { entry.set(State::Finished) });
        } else if edge.hub_silence() >= rules.ping_after {
            tokio::spawn(async move { edge.look_after_hub(rules.ping_after, rules.dead_after).await });
        }
    }
}
