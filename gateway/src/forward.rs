//! What is not SignalR's: forwarded as by a good reverse proxy, streaming, WebSockets of others included.
//!
//! Also what the gateway has no answer of its own for: a hub answers wrong verbs, unknown ids and missing users itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hubgate_protocol::websocket;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::answer;
use crate::backend::{Backend, ExchangeError, Failed, HubHttp, Reply, Share};
use crate::body::Body;
use crate::edge::Kind;
use crate::io::Stream;
use crate::link::Link;
use crate::metrics::Limit;
use crate::observe::{Attached, connect_outcome, note_cause};
use crate::outbound;
use crate::pace::Paced;
use crate::relay::{Ends, Relay, Report, Surroundings};
use crate::transcoding;
use crate::visit::{Visit, wants_event_stream, wants_web_socket};

/// Passes a request on as it is.
pub(crate) async fn forward(visit: &Visit, request: Request<Incoming>) -> Response<Body> {
    let stream_first = visit.route.knows_hub(visit.path.hub()) && wants_event_stream(request.headers());
    if wants_web_socket(&request) && !stream_first {
        if visit.gate.draining.load(Relaxed) {
            return answer::gateway_error(StatusCode::SERVICE_UNAVAILABLE, visit.route.name());
        }
        let started = std::time::Instant::now();
        let response = forward_web_socket(visit, request).await;
        let (outcome, took) = (connect_outcome(response.status()), started.elapsed());
        visit.gate.metrics.connected(&visit.route.meters, crate::metrics::Transport::WebSockets, outcome, took);
        return response;
    }
    if request.method() == Method::CONNECT {
        return answer::empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let stream_of_hub = wants_event_stream(request.headers())
        && crate::query::Query::new(request.uri().query().unwrap_or_default()).id().is_some();
    let affinity = outbound::affinity(visit, request.headers());
    let had_affinity = affinity.is_some();
    let query = request.uri().query().unwrap_or_default().to_owned();
    // A POST to a hub without a token of ours opens nothing: its body is not read.
    let ignored = *request.method() == Method::POST && visit.route.knows_hub(visit.path.hub());
    let mut request = outbound::body_to_send(request, ignored);
    outbound::prepare(visit, &mut request, &query);
    let too_slow = Arc::new(AtomicBool::new(false));
    let (grace, rate_min) = (visit.live.config.timeouts.body_grace, visit.live.config.limits.body_rate_min as u64);
    let request = request.map(|body| match body {
        Body::Stream(body) => Body::Paced(Box::new(Paced::new(body, grace, rate_min, Arc::clone(&too_slow)))),
        other => other,
    });
    match exchange(visit, request, affinity).await {
        Ok((backend, response, connection)) => {
            backend.keep_after(connection, response.headers());
            let mut response = response.map(Body::Stream);
            outbound::finish(visit, &backend, &mut response);
            outbound::set_affinity(visit, &backend, had_affinity, &mut response);
            response
        }
        Err(_) if too_slow.load(Relaxed) => {
            visit.gate.metrics.limit_reached(Limit::BodyRate);
            answer::closing(StatusCode::REQUEST_TIMEOUT)
        }
        Err(error) => failure(visit, &error, stream_of_hub),
    }
}

/// The answer to a request whose backend failed (rule B8).
pub(crate) fn failure(visit: &Visit, error: &ExchangeError, event_stream: bool) -> Response<Body> {
    tracing::debug!(route = visit.route.name(), %error, "a request found no answer");
    if event_stream {
        // Clients in Node repeat an event stream that is refused with 5xx for ever.
        return answer::no_connection();
    }
    let status = match error {
        ExchangeError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        ExchangeError::NoBackend => StatusCode::SERVICE_UNAVAILABLE,
        ExchangeError::Connect(_) | ExchangeError::Broken(_) => StatusCode::BAD_GATEWAY,
    };
    let mut response = answer::gateway_error(status, visit.route.name());
    note_cause(
        &mut response,
        match error {
            ExchangeError::TimedOut => "backend timed out",
            ExchangeError::NoBackend => "no backend",
            ExchangeError::Connect(_) => "backend unreachable",
            ExchangeError::Broken(_) => "backend broke off",
        },
    );
    response
}

/// Sends a request to the least busy backend that can be reached; another one is tried only if nothing of it went out
/// (rule B10).
///
/// # Errors
/// No backend answered.
pub(crate) async fn exchange(
    visit: &Visit,
    request: Request<Body>,
    prefer: Option<Arc<Backend>>,
) -> Result<(Arc<Backend>, Response<Incoming>, HubHttp), ExchangeError> {
    match exchange_by(visit, Box::new(request), prefer, false).await? {
        (backend, Reply::Http(response), connection) => Ok((backend, response, connection)),
        _ => Err(ExchangeError::NoBackend),
    }
}

/// The same for a negotiate, whose answer is short.
///
/// # Errors
/// No backend answered.
pub(crate) async fn ask(
    visit: &Visit,
    request: Box<Request<Body>>,
    prefer: Option<Arc<Backend>>,
) -> Result<(Arc<Backend>, Reply, HubHttp), ExchangeError> {
    exchange_by(visit, request, prefer, true).await
}

async fn exchange_by(
    visit: &Visit,
    mut request: Box<Request<Body>>,
    prefer: Option<Arc<Backend>>,
    asks: bool,
) -> Result<(Arc<Backend>, Reply, HubHttp), ExchangeError> {
    let pool = visit.route.pool.as_ref().ok_or(ExchangeError::NoBackend)?;
    let (mut tried, mut last) = (Vec::new(), ExchangeError::NoBackend);
    let mut prefer = prefer.filter(|backend| backend.is_up());
    while let Some(backend) = prefer.take().or_else(|| pool.choose(&tried, visit.gate.chance())) {
        outbound::address(pool, &backend, &mut request);
        let answered = if asks {
            backend.ask(request).await
        } else {
            backend.exchange(request).await.map(|(response, connection)| (Reply::Http(response), connection))
        };
        match answered {
            Ok((reply, connection)) => return Ok((backend, reply, connection)),
            Err(Failed::Unsent(unsent, error)) => {
                tried.push(backend.digest);
                request = unsent;
                last = error;
            }
            Err(Failed::Sent(error)) => return Err(error),
        }
    }
    Err(last)
}

/// A WebSocket that a backend has agreed to.
pub(crate) struct Agreed {
    /// The answer for the client.
    pub(crate) response: Response<Body>,
    /// The backend's stream and what was read ahead of it.
    pub(crate) hub: (Stream, bytes::Bytes),
}

impl Agreed {
    /// In the protocol of the client, where the route's hubs may speak another (rule I6).
    pub(crate) fn transcoded(self, visit: &Visit) -> Self {
        Self { response: self.response, hub: transcoding::in_front_of(visit, self.hub) }
    }
}

/// Asks a backend for a WebSocket; any other answer than a right 101 is handed on (rule B4).
///
/// # Errors
/// The answer for the client.
pub(crate) async fn agree(
    visit: &Visit,
    backend: &Arc<Backend>,
    reply: Reply,
    key: &[u8],
    to_http2: bool,
) -> Result<Agreed, Box<Response<Body>>> {
    let headers = match &reply {
        Reply::Http(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => response.headers(),
        Reply::Switched(response, ..) => response.headers(),
        Reply::Http(_) | Reply::Whole(_) => {
            let mut response = match reply {
                Reply::Http(response) => response.map(Body::Stream),
                Reply::Whole(response) | Reply::Switched(response, ..) => response.map(Body::Full),
            };
            outbound::finish(visit, backend, &mut response);
            return Err(Box::new(response));
        }
    };
    let refuse = || Box::new(answer::gateway_error(StatusCode::BAD_GATEWAY, visit.route.name()));
    let accept = websocket::accept_key(key);
    let upgraded = headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let accepted = headers.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|given| given.as_bytes() == accept.as_bytes());
    if !upgraded || !accepted {
        tracing::warn!(backend = %backend.address, "a backend's 101 is no answer to our WebSocket key");
        return Err(refuse());
    }
    let mut answer = Response::new(Body::Empty);
    let hub = match reply {
        Reply::Whole(_) => return Err(refuse()),
        Reply::Switched(response, stream, ahead) => {
            *answer.headers_mut() = response.into_parts().0.headers;
            (stream, ahead)
        }
        Reply::Http(mut response) => {
            *answer.headers_mut() = std::mem::take(response.headers_mut());
            match hyper::upgrade::on(response).await {
                Ok(upgraded) => Stream::from_upgraded(upgraded),
                Err(error) => {
                    tracing::debug!(%error, "a backend's connection ended with its 101");
                    return Err(refuse());
                }
            }
        }
    };
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    outbound::finish(visit, backend, &mut answer);
    if to_http2 {
        *answer.status_mut() = StatusCode::OK;
        answer.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
    } else {
        answer.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("Upgrade"));
        answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    Ok(Agreed { response: answer, hub })
}

/// The key of an upgrade: the client's own, or a new one for HTTP/2, which has none.
pub(crate) fn upgrade_key<B>(visit: &Visit, request: &Request<B>) -> HeaderValue {
    if let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) {
        return key.clone();
    }
    use base64::Engine as _;
    let mut bytes = [0; 16];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&visit.gate.chance().to_le_bytes());
    }
    let key = base64::engine::general_purpose::STANDARD.encode(bytes);
    HeaderValue::from_str(&key).unwrap_or_else(|_| HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="))
}

/// Makes a client's upgrade request one of ours (rule D4): HTTP/1.1, GET, our hop-by-hop headers.
pub(crate) fn upgrade_request(visit: &Visit, request: &mut Request<Body>, query: &str, key: &HeaderValue, hub: bool) {
    outbound::prepare(visit, request, query);
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, key.clone());
    if hub {
        headers.remove(http::header::ACCEPT);
        headers.remove(http::header::SEC_WEBSOCKET_EXTENSIONS);
    }
    headers.remove(http::header::CONTENT_LENGTH);
    headers.remove(http::header::CONTENT_TYPE);
}

async fn forward_web_socket(visit: &Visit, mut request: Request<Incoming>) -> Response<Body> {
    let to_http2 = request.version() == Version::HTTP_2;
    let key = upgrade_key(visit, &request);
    let query = request.uri().query().unwrap_or_default().to_owned();
    let affinity = outbound::affinity(visit, request.headers());
    let client = hyper::upgrade::on(&mut request);
    // What is to be read must not be compressed.
    let hub = visit.route.knows_hub(visit.path.hub()) || visit.route.transcoding.is_some();
    let mut request = request.map(|_| Body::Empty);
    upgrade_request(visit, &mut request, &query, &key, hub);
    let (backend, response, connection) = match exchange(visit, request, affinity).await {
        Ok(exchanged) => exchanged,
        Err(error) => return failure(visit, &error, false),
    };
    drop(connection);
    match agree(visit, &backend, Reply::Http(response), key.as_bytes(), to_http2).await {
        Ok(agreed) => {
            let agreed = agreed.transcoded(visit);
            let share = backend.share();
            let attached = Attached::new(visit, Kind::WebSocket, backend.address, "");
            let ended = move |report: &Report| attached.ended(report.outcome.into(), report.spoken, report.bytes);
            join(visit, client, agreed.hub, share, bytes::Bytes::new(), false, ended);
            agreed.response
        }
        Err(response) => *response,
    }
}

/// Relays once the client's side has been upgraded; `early` goes to the hub first. With `passes_losses` a loss of the hub
/// becomes one of the client's. `ended` is told the outcome.
pub(crate) fn join(
    visit: &Visit,
    client: OnUpgrade,
    hub: (Stream, bytes::Bytes),
    share: Share,
    early: bytes::Bytes,
    passes_losses: bool,
    ended: impl FnOnce(&Report) + Send + 'static,
) {
    let gate = Arc::clone(&visit.gate);
    let traffic = Arc::clone(&visit.route.traffic);
    let idle_limit = visit.live.config.timeouts.tunnel_idle_timeout.map_or(0, crate::negotiate::seconds);
    tokio::spawn(async move {
        let Ok(upgraded) = client.await else { return };
        let (client, client_ahead) = Stream::from_upgraded(upgraded);
        let (hub, hub_ahead) = hub;
        let link = Arc::new(Link::default());
        link.idle_limit.store(idle_limit, Relaxed);
        link.talked.store(gate.clock.now(), Relaxed);
        let _entered = gate.links.enter(Arc::clone(&link));
        let around = Surroundings { link, clock: Arc::clone(&gate.clock), traffic };
        drop(gate);
        let relay = Relay::new(Ends { client, client_ahead, hub, hub_ahead, early, passes_losses }, around);
        let report = relay.await;
        tracing::debug!(outcome = ?report.outcome, spoken = report.spoken.name(), "a WebSocket has ended");
        ended(&report);
        drop(share);
    });
}
