//! Transport requests with a token of ours: WebSockets, event streams, polls, POSTs, DELETEs (signalr-wire §4, §5).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hubgate_protocol::websocket::{self, OpCode};
use hyper::body::Incoming;
use tokio::io::split;

use crate::answer;
use crate::backend::{Backend, Failed, HubHttp};
use crate::body::Body;
use crate::edge::{Bounds, Edge, End, Kind, Poll, Upward, UpwardError, event_stream, read_hub};
use crate::forward::{Agreed, agree, failure, join, upgrade_key, upgrade_request};
use crate::identity::{Admission, Credentials, Verdict};
use crate::metrics::Limit;
use crate::negotiate::seconds;
use crate::observe::{Attached, connect_outcome, note_connection, transport};
use crate::outbound;
use crate::polling;
use crate::query::Query;
use crate::relay::Report;
use crate::table::{EARLY_BYTES_MAX, Entry, State, TokenKey, Waiting};
use crate::token::{Contents, HubDigest};
use crate::visit::{Visit, wants_event_stream, wants_web_socket};

/// Largest piece in which a POST's bytes go on, so that one POST is mostly one frame.
const PIECE_BYTES: usize = 64 * 1024;

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

async fn dispatch(visit: &Visit, presented: Presented, request: Request<Incoming>) -> Response<Body> {
    let hub = visit.path.hub();
    if presented.contents.as_ref().is_some_and(|contents| contents.hub != HubDigest::of(hub)) {
        return not_here(&request);
    }
    let entry = visit.gate.table.find(&presented.key);
    if entry.as_ref().is_some_and(|entry| *entry.path != *hub) {
        return not_here(&request);
    }
    let connects = *request.method() == Method::GET || *request.method() == Method::CONNECT;
    let kind = match *request.method() {
        _ if connects && wants_event_stream(request.headers()) => Some(Kind::EventStream),
        _ if connects && wants_web_socket(&request) => Some(Kind::WebSocket),
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
        visit.gate.metrics.connected(visit.route.name(), transport(kind), outcome, took);
    }
    note_connection(&mut response, &connection_id);
    response
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
fn take(visit: &Visit, entry: &Entry, kind: Kind) -> Result<Box<Waiting>, Response<Body>> {
    if let Some(waiting) = visit.gate.table.attach(entry, kind) {
        return Ok(waiting);
    }
    Err(match &*entry.state() {
        State::Finished | State::Waiting(_) => answer::no_connection(),
        State::WebSocket if kind == Kind::WebSocket => answer::empty(StatusCode::CONFLICT),
        State::Attaching(other) if *other == kind => answer::empty(StatusCode::CONFLICT),
        State::Edge(edge) if edge.kind == kind => answer::empty(StatusCode::CONFLICT),
        State::WebSocket | State::Attaching(_) | State::Edge(_) => {
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
    let waiting = match take(visit, &entry, Kind::WebSocket) {
        Ok(waiting) => waiting,
        Err(refusal) if refusal.status() == StatusCode::NOT_FOUND => return not_here(&request),
        Err(refusal) => return refusal,
    };
    let mut attaching = Attaching { entry: &entry, done: false };
    let to_http2 = request.version() == Version::HTTP_2;
    let client = hyper::upgrade::on(&mut request);
    let key = upgrade_key(visit, &request);
    match connect(visit, *waiting, request.map(|_| Body::Empty), &key, to_http2).await {
        Ok((waiting, agreed)) => {
            let Waiting { share, early, .. } = waiting;
            attaching.done = true;
            entry.set(State::WebSocket);
            let kept = Arc::clone(&entry);
            let attached = Attached::new(visit, Kind::WebSocket, share.backend().address, &*entry.connection_id);
            let ended = move |report: &Report| {
                kept.set(State::Finished);
                attached.ended(report.outcome.into(), report.spoken, report.bytes);
            };
            join(visit, client, agreed.hub, share, early_frames(&early), ended);
            agreed.response
        }
        Err(refusal) => *refusal,
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
    };
    Some(visit.gate.table.enter(presented.key.clone(), visit.path.hub(), "", expires, waiting))
}

/// What was posted before the WebSocket came, as frames for the hub.
fn early_frames(early: &[u8]) -> Bytes {
    if early.is_empty() {
        return Bytes::new();
    }
    let mut frames = BytesMut::new();
    let opcode = if std::str::from_utf8(early).is_ok() { OpCode::Text } else { OpCode::Binary };
    websocket::write_frame(&mut frames, true, opcode, Some([0x11, 0x22, 0x33, 0x44]), early);
    frames.freeze()
}

/// Opens the hub's WebSocket over the connection that carried the negotiate, or another one to the same backend
/// (rules D2, D4).
async fn connect(
    visit: &Visit,
    mut waiting: Waiting,
    mut request: Request<Body>,
    key: &HeaderValue,
    to_http2: bool,
) -> Result<(Waiting, Agreed), Box<Response<Body>>> {
    let raw_query = request.uri().query().unwrap_or_default().to_owned();
    let query = Query::new(&raw_query).edited(&[
        ("id", Some(waiting.hub_token.expose())),
        ("useStatefulReconnect", None),
        ("webTransport", None),
    ]);
    let event_stream = wants_event_stream(request.headers());
    upgrade_request(visit, &mut request, &query, key, true);
    if let Some(elsewhere) = &waiting.elsewhere {
        elsewhere.readdress(&mut request, &waiting.hub_token);
    }
    waiting.cookies.add_to(request.headers_mut());
    let mut backend = Arc::clone(waiting.share.backend());
    if visit.gate.ignore_token_backend
        && let Some(any) = visit.route.pool.as_ref().and_then(|pool| pool.choose(&[], visit.gate.chance()))
    {
        waiting.held = None;
        backend = any;
    }
    if let Some(pool) = &visit.route.pool {
        outbound::address(pool, &backend, &mut request);
    }
    let held = waiting.held.take().map(|(http, _)| http);
    if !waiting.hub_has_web_sockets {
        return connect_over_polls(visit, &backend, held, request, key, to_http2).await.map(|agreed| (waiting, agreed));
    }
    match send(&backend, held, request).await {
        Ok((response, connection)) => {
            drop(connection);
            match agree(visit, &backend, response, key.as_bytes(), to_http2).await {
                Ok(agreed) => Ok((waiting, agreed)),
                // Clients in Node repeat an event stream that is refused with 5xx for ever (rule B8).
                Err(refusal) if event_stream && refusal.status().is_server_error() => {
                    Err(Box::new(answer::no_connection()))
                }
                Err(refusal) => Err(refusal),
            }
        }
        Err(Failed::Unsent(_, error) | Failed::Sent(error)) => Err(Box::new(failure(visit, &error, event_stream))),
    }
}

/// Reaches a hub that offers no WebSockets over long polling (rule D5).
async fn connect_over_polls(
    visit: &Visit,
    backend: &Arc<Backend>,
    held: Option<HubHttp>,
    request: Request<Body>,
    key: &HeaderValue,
    to_http2: bool,
) -> Result<Agreed, Box<Response<Body>>> {
    let config = &visit.live.config;
    let bounds = polling::Bounds {
        client_message_bytes_max: config.limits.client_message_bytes_max,
        hub_message_bytes_max: config.limits.hub_message_bytes_max,
        hub_ping_interval: config.timeouts.hub_ping_interval,
    };
    match polling::connect(backend, held, request, bounds).await {
        Ok(Ok(hub)) => Ok(Agreed { response: polling::switching(key, to_http2), hub: (hub, Bytes::new()) }),
        Ok(Err(mut refusal)) => {
            outbound::finish(visit, backend, &mut refusal);
            Err(Box::new(refusal))
        }
        Err(error) => Err(Box::new(failure(visit, &error, true))),
    }
}

async fn send(
    backend: &Arc<Backend>,
    held: Option<HubHttp>,
    request: Request<Body>,
) -> Result<(Response<Incoming>, HubHttp), Failed> {
    let mut request = request;
    if let Some(mut held) = held.filter(|held| !held.is_closed()) {
        match held.send(request, backend.headers_timeout()).await {
            Ok(response) => return Ok((response, held)),
            Err(Failed::Unsent(unsent, _)) => request = *unsent,
            Err(sent) => return Err(sent),
        }
    }
    match backend.fresh_http().await {
        Ok(mut fresh) => {
            let response = fresh.send(request, backend.headers_timeout()).await?;
            Ok((response, fresh))
        }
        Err(error) => Err(Failed::Unsent(Box::new(request), error.into())),
    }
}

/// Attaches an event stream or the first poll: reaches the hub, starts reading it.
async fn attach_edge(
    visit: &Visit,
    entry: &Arc<Entry>,
    kind: Kind,
    request: Request<Incoming>,
) -> Result<Arc<Edge>, Response<Body>> {
    let waiting = take(visit, entry, kind)?;
    let mut attaching = Attaching { entry, done: false };
    let credentials = credentials(visit, &request);
    let admission = Admission::new(&credentials, visit.route.config.bind_identity);
    let key = upgrade_key(visit, &request);
    let (waiting, agreed) = connect(visit, *waiting, request.map(|_| Body::Empty), &key, false)
        .await
        .map_err(|refusal| refusal_for(kind, *refusal))?;
    let config = &visit.live.config;
    let bounds = Bounds {
        waiting_bytes_max: config.limits.waiting_bytes_max,
        hub_message_bytes_max: config.limits.hub_message_bytes_max,
        send_timeout: config.timeouts.send_timeout,
        poll_timeout: config.timeouts.poll_timeout,
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
    let (reader, share, kept) = (Arc::clone(&edge), waiting.share, Arc::clone(entry));
    tokio::spawn(async move {
        read_hub(Arc::clone(&reader), reading, ahead).await;
        drop(share);
        // An event stream is over with its hub; polls still fetch what is left.
        if kind == Kind::EventStream {
            kept.set(State::Finished);
        }
        let end = reader.ended().unwrap_or(End::HubLost);
        attached.ended(end.into(), reader.spoken(), reader.bytes());
    });
    Ok(edge)
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
        Ok(edge) => answer::event_stream(event_stream(edge)),
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
            State::Edge(edge) => Some(Arc::clone(edge)),
            State::Attaching(Kind::EventStream | Kind::LongPolling) => None,
            State::Attaching(Kind::WebSocket) | State::WebSocket => {
                return Err(answer::text(StatusCode::METHOD_NOT_ALLOWED, answer::POST_ON_WEB_SOCKET));
            }
            State::Waiting(_) | State::Finished => return Err(answer::no_connection()),
        };
        match found {
            Some(edge) => return admit(visit, &edge, request).await.map(|()| edge),
            None => changed.await,
        }
    }
}

/// What a request shows of its user.
fn credentials(visit: &Visit, request: &Request<Incoming>) -> Credentials {
    let query = Query::new(request.uri().query().unwrap_or_default());
    visit.gate.fingerprints.credentials(request.headers(), query)
}

/// Refuses another user's request (rule A4), and has the hub look at credentials that it has not seen (rule A5).
async fn admit(visit: &Visit, edge: &Edge, request: &Request<Incoming>) -> Result<(), Response<Body>> {
    let credentials = credentials(visit, request);
    let verdict = edge.admission().judge(&credentials, SystemTime::now());
    match verdict {
        Verdict::Known => Ok(()),
        Verdict::AnotherUser => Err(answer::text(StatusCode::FORBIDDEN, answer::USER_CHANGED)),
        Verdict::AskHub => {
            let Some(backend) = &edge.judge else { return Ok(()) };
            let (head, ()) = copy_head(request).into_parts();
            let mut question = Request::from_parts(head, Body::Empty);
            // A POST without `id` opens nothing: it is refused by the hub's authorisation or for want of an id.
            *question.method_mut() = Method::POST;
            question.headers_mut().remove(http::header::CONTENT_LENGTH);
            question.headers_mut().remove(http::header::TRANSFER_ENCODING);
            let raw_query = request.uri().query().unwrap_or_default();
            let query = Query::new(raw_query).edited(&[("id", None)]);
            outbound::prepare(visit, &mut question, &query);
            if let Some(pool) = &visit.route.pool {
                outbound::address(pool, backend, &mut question);
            }
            match backend.exchange(question).await {
                Ok((response, connection)) => {
                    backend.keep(connection);
                    let status = response.status();
                    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
                        let mut response = response.map(Body::Stream);
                        outbound::finish(visit, backend, &mut response);
                        return Err(response);
                    }
                    let memory = visit.live.config.timeouts.credentials_memory;
                    edge.admission().remember(&credentials, SystemTime::now(), memory);
                    Ok(())
                }
                Err(Failed::Unsent(_, error) | Failed::Sent(error)) => Err(failure(visit, &error, true)),
            }
        }
    }
}

fn copy_head(request: &Request<Incoming>) -> Request<()> {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

async fn poll(visit: &Visit, entry: Option<Arc<Entry>>, request: Request<Incoming>) -> Response<Body> {
    let Some(entry) = entry else { return answer::no_connection() };
    let first = matches!(*entry.state(), State::Waiting(_));
    if first {
        return match attach_edge(visit, &entry, Kind::LongPolling, request).await {
            Ok(_) => answer::with(StatusCode::OK, answer::OCTETS, Body::Empty),
            Err(refusal) => refusal,
        };
    }
    if matches!(*entry.state(), State::WebSocket | State::Attaching(Kind::WebSocket | Kind::EventStream)) {
        return answer::text(StatusCode::BAD_REQUEST, answer::CANNOT_CHANGE);
    }
    let edge = match edge_of(visit, &entry, &request).await {
        Ok(edge) if edge.kind != Kind::LongPolling => {
            return answer::text(StatusCode::BAD_REQUEST, answer::CANNOT_CHANGE);
        }
        Ok(edge) => edge,
        Err(refusal) => return refusal,
    };
    match edge.poll().await {
        Poll::Messages(messages) => answer::with(StatusCode::OK, answer::OCTETS, Body::Full(messages)),
        Poll::TimedOut => answer::empty(StatusCode::OK),
        Poll::Replaced => answer::empty(StatusCode::NO_CONTENT),
        Poll::Ended(_) => {
            entry.set(State::Finished);
            edge.over.cancel();
            answer::empty(StatusCode::NO_CONTENT)
        }
    }
}

async fn post(visit: &Visit, entry: Option<Arc<Entry>>, request: Request<Incoming>) -> Response<Body> {
    let Some(entry) = entry else { return answer::no_connection() };
    let limit = visit.live.config.limits.post_bytes_max as u64;
    if http_body::Body::size_hint(request.body()).lower() > limit {
        visit.gate.metrics.limit_reached(Limit::PostBytes);
        let mut response = answer::empty(StatusCode::BAD_REQUEST);
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    let mut ahead = Bytes::new();
    if matches!(*entry.state(), State::Waiting(_)) {
        match post_early(&entry, request).await {
            Early::Answered(response) => return response,
            Early::Attached(bytes, rest) => {
                ahead = bytes;
                return match edge_of(visit, &entry, &rest).await {
                    Ok(edge) => send_up(visit, &edge, ahead, rest).await,
                    Err(refusal) => refusal,
                };
            }
        }
    }
    match edge_of(visit, &entry, &request).await {
        Ok(edge) => send_up(visit, &edge, ahead, request).await,
        Err(refusal) => refusal,
    }
}

/// What became of a POST before any transport.
enum Early {
    /// It is answered.
    Answered(Response<Body>),
    /// A transport has attached meanwhile: these bytes and the rest go to it.
    Attached(Bytes, Request<Incoming>),
}

/// Keeps the bytes of a POST that comes before its transport; more than the reference's pipe takes waits for one.
async fn post_early(entry: &Entry, mut request: Request<Incoming>) -> Early {
    loop {
        let frame = match request.body_mut().frame().await {
            None => return Early::Answered(answer::empty(StatusCode::OK)),
            Some(Err(_)) => return Early::Answered(answer::empty(StatusCode::BAD_REQUEST)),
            Some(Ok(frame)) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        loop {
            let changed = entry.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match &mut *entry.state() {
                State::Waiting(waiting) if waiting.early.len() + data.len() <= EARLY_BYTES_MAX => {
                    waiting.early.extend_from_slice(&data);
                    break;
                }
                State::Waiting(_) => {}
                State::Attaching(Kind::WebSocket) | State::WebSocket | State::Finished => {
                    return Early::Answered(answer::empty(StatusCode::NOT_FOUND));
                }
                State::Attaching(_) | State::Edge(_) => return Early::Attached(data, request),
            }
            changed.await;
        }
    }
}

/// Passes a POST's bytes to the hub; the answer waits until all of them are written (signalr-wire §5.3).
async fn send_up(visit: &Visit, edge: &Edge, ahead: Bytes, request: Request<Incoming>) -> Response<Body> {
    let mut sending = match edge.sending().await {
        Ok(sending) => sending,
        Err(error) => return unsendable(edge, &error),
    };
    let mut body = request.into_body();
    let mut gathered = BytesMut::from(&ahead[..]);
    let mut pace = Pace::new(visit);
    let broken = loop {
        match pace.next(&mut body).await {
            Some(Ok(data)) => gathered.extend_from_slice(&data),
            Some(Err(Unread::TooSlow)) => {
                visit.gate.metrics.limit_reached(Limit::BodyRate);
                break true;
            }
            Some(Err(Unread::Broken)) => break true,
            None => break false,
        }
        if gathered.len() >= PIECE_BYTES
            && let Err(error) = sending.pass(gathered.split().freeze()).await
        {
            return unsendable(edge, &error);
        }
    };
    if let Err(error) = sending.pass(gathered.freeze()).await {
        return unsendable(edge, &error);
    }
    answer::empty(if broken { StatusCode::BAD_REQUEST } else { StatusCode::OK })
}

/// The answer to bytes that cannot go on. Between a hub's Close and the poll that tells the end it is still 200.
fn unsendable(edge: &Edge, error: &UpwardError) -> Response<Body> {
    match error {
        UpwardError::Hub(_) if edge.kind == Kind::LongPolling && !edge.over.is_cancelled() => {
            answer::empty(StatusCode::OK)
        }
        _ => answer::empty(StatusCode::NOT_FOUND),
    }
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy)]
enum Unread {
    /// It came slower than `limits.body_rate_min`.
    TooSlow,
    /// Its framing is wrong, or the client left.
    Broken,
}

/// Reads a body and gives up on one that comes too slowly (rule F2).
struct Pace {
    grace: std::time::Duration,
    rate_min: u64,
    since: tokio::time::Instant,
    bytes: u64,
}

impl Pace {
    fn new(visit: &Visit) -> Self {
        let config = &visit.live.config;
        Self {
            grace: config.timeouts.body_grace,
            rate_min: config.limits.body_rate_min as u64,
            since: tokio::time::Instant::now(),
            bytes: 0,
        }
    }

    /// When the bytes so far are too few.
    fn deadline(&self) -> tokio::time::Instant {
        let earned = self.bytes.checked_div(self.rate_min).unwrap_or(u64::from(u32::MAX));
        self.since + self.grace + std::time::Duration::from_secs(earned)
    }

    async fn next(&mut self, body: &mut Incoming) -> Option<Result<Bytes, Unread>> {
        loop {
            let frame = match tokio::time::timeout_at(self.deadline(), body.frame()).await {
                Err(_) => return Some(Err(Unread::TooSlow)),
                Ok(None) => return None,
                Ok(Some(Err(_))) => return Some(Err(Unread::Broken)),
                Ok(Some(Ok(frame))) => frame,
            };
            if let Ok(data) = frame.into_data() {
                self.bytes += data.len() as u64;
                return Some(Ok(data));
            }
        }
    }
}

async fn delete(visit: &Visit, entry: Option<Arc<Entry>>, request: Request<Incoming>) -> Response<Body> {
    let Some(entry) = entry else { return answer::no_connection() };
    if matches!(*entry.state(), State::Waiting(_) | State::WebSocket | State::Attaching(_)) {
        return answer::text(StatusCode::BAD_REQUEST, answer::CANNOT_DELETE);
    }
    match edge_of(visit, &entry, &request).await {
        Ok(edge) if edge.kind != Kind::LongPolling => answer::text(StatusCode::BAD_REQUEST, answer::CANNOT_DELETE),
        Ok(edge) => {
            // A pending poll gets the Close message; what waited is lost.
            edge.part(End::ClientClosed, true);
            entry.set(State::Finished);
            edge.over.cancel();
            edge.close_hub(Some((1000, ""))).await;
            answer::empty(StatusCode::ACCEPTED)
        }
        Err(refusal) => refusal,
    }
}

/// Ends connections whose client has not polled for too long.
pub(crate) fn reap(gate: &crate::gate::Gate) {
    let timeout = seconds(gate.live.load().config.timeouts.disconnect_timeout);
    let now = gate.clock.now();
    for entry in gate.table.edges() {
        let State::Edge(edge) = &*entry.state() else { continue };
        let edge = Arc::clone(edge);
        if edge.abandoned(now, timeout) {
            edge.end(End::ClientGone, true);
            edge.over.cancel();
            let entry = Arc::clone(&entry);
            tokio::spawn(async move { entry.set(State::Finished) });
        }
    }
}

/// How many bytes wait for clients over all connections.
pub(crate) fn waiting_bytes(gate: &crate::gate::Gate) -> u64 {
    let mut bytes = 0;
    for entry in gate.table.edges() {
        if let State::Edge(edge) = &*entry.state() {
            bytes += edge.waiting_bytes() as u64;
        }
    }
    gate.links.for_each(|link| bytes += link.held_bytes.load(Relaxed));
    bytes
}
