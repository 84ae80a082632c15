//! Negotiate on the client's behalf (architecture, decisions 1 and 2): the hub's own `connectionId`, our sealed token.
//!
//! Whether a path is a hub's shows in what its negotiate answers (rule B5); anything else passes through untouched.

mod redirect;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, HOST, ORIGIN, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use hubgate_protocol::Transport;
use hubgate_protocol::negotiate::{AvailableTransport, NegotiateResponse, NegotiatedConnection, WebTransportOffer};
use hyper::body::Incoming;

pub(crate) use self::redirect::Elsewhere;

use crate::answer;
use crate::backend::{Backend, HubHttp, Reply};
use crate::body::Body;
use crate::config::{Redirects, StatefulReconnect, TransportName};
use crate::cookie::HubCookies;
use crate::forward::{ask, failure};
use crate::headers;
use crate::metrics::Limit;
use crate::observe::note_connection;
use crate::outbound;
use crate::query::{NegotiateVersion, Query};
use crate::secret::Secret;
use crate::table::{Offered, Shown, TokenKey, Waiting};
use crate::token::{Contents, HubDigest, Sealed, random_token};
use crate::visit::Visit;

/// What a client is told whose hub cannot be reached by any transport that the gateway uses (rule D5).
const NO_WAY_TO_HUB: &str = "The gateway cannot reach this hub: it offers neither WebSockets nor long polling.";

/// How long what negotiate showed is kept for a WebTransport session, in seconds (rule H4).
const SHOWN_SECONDS: u32 = 15;

/// What a hub's answer to negotiate was.
struct Answered {
    backend: Arc<Backend>,
    connection: HubHttp,
    head: http::response::Parts,
    body: Bytes,
    /// Where the hub is, if a redirect was followed.
    elsewhere: Option<Elsewhere>,
}

/// Marks an answer that opened a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Granted;

/// What a client asked for, as far as its answer depends on it.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    hub: &'a str,
    version: i32,
    /// The affinity cookie named the backend already.
    had_affinity: bool,
    /// Stateful reconnect is asked for.
    stateful: bool,
    /// WebTransport is asked for, and there.
    web_transport: Option<&'a ForSession>,
}

/// What a client that asks for WebTransport is told, and what is kept for its session.
#[derive(Debug)]
struct ForSession {
    offer: WebTransportOffer,
    shown: Shown,
}

/// Whether a client asked for WebTransport (rule H2) and both its listener and the route have it.
fn for_session(visit: &Visit, query: Query<'_>, headers: &HeaderMap, authority: Option<&str>) -> Option<ForSession> {
    let wanted = &visit.route.config.transports;
    let listener = visit.client.web_transport.as_ref()?;
    if !query.web_transport() || !(wanted.is_empty() || wanted.contains(&TransportName::WebTransport)) {
        return None;
    }
    let mut credentials = HeaderMap::new();
    for name in [AUTHORIZATION, COOKIE] {
        for value in headers.get_all(&name) {
            let mut value = value.clone();
            value.set_sensitive(true);
            credentials.append(name.clone(), value);
        }
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).or(authority).unwrap_or_default();
    let until = visit.gate.clock.now().saturating_add(SHOWN_SECONDS);
    let shown = Shown { origin: headers.get(ORIGIN).cloned(), credentials, until };
    Some(ForSession { offer: listener.told_to(host), shown })
}

/// Serves POST `…/negotiate`.
pub(crate) async fn negotiate(visit: &Visit, hub: &str, request: Request<Incoming>) -> Response<Body> {
    let limits = &visit.live.config.limits;
    if visit.gate.draining.load(Relaxed) {
        return answer::gateway_error(StatusCode::SERVICE_UNAVAILABLE, visit.route.name());
    }
    if visit.gate.table.unattached() >= limits.unattached_tokens_max {
        tracing::warn!("limits.unattached_tokens_max is reached: negotiates are refused");
        visit.gate.metrics.limit_reached(Limit::UnattachedTokens);
        return answer::gateway_error(StatusCode::SERVICE_UNAVAILABLE, visit.route.name());
    }
    let raw_query = request.uri().query().unwrap_or_default().to_owned();
    let query = Query::new(&raw_query);
    let asked = query.negotiate_version();
    let certain =
        !matches!(visit.route.config.kind, crate::config::RouteKind::Hubs { .. }) || visit.route.knows_hub(hub);
    // Version 0 is asked for as it is first: a hub may refuse it, and an application's own endpoint is left alone.
    let plain = matches!(asked, NegotiateVersion::Absent | NegotiateVersion::Number(0));
    // Who keeps the connection is decided here: the hub is told of it only where it does so itself (rules E5, I1).
    let to_hub = visit.route.config.stateful_reconnect == StatefulReconnect::Backend;
    let stateful = query.use_stateful_reconnect();
    let told = if to_hub && stateful { Some("true") } else { None };
    let edits = [("useStatefulReconnect", told), ("webTransport", None)];
    let towards_hub = if plain { raw_query.clone() } else { query.edited(&edits) };
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let session = for_session(visit, query, request.headers(), authority);
    let web_transport = session.as_ref();
    let affinity = outbound::affinity(visit, request.headers());
    let had_affinity = affinity.is_some();
    let again = plain.then(|| request_without_body(&request));
    let user_agent = request.headers().get(http::header::USER_AGENT).cloned();
    let mut request = outbound::body_to_send(request, certain);
    outbound::prepare(visit, &mut request, &towards_hub);
    let (backend, response, connection) = match ask(visit, Box::new(request), affinity).await {
        Ok(exchanged) => exchanged,
        Err(error) => return failure(visit, &error, false),
    };
    let (answered, parsed) = match read(visit, backend, response, connection).await {
        Ok(read) => read,
        Err(passed) => return *passed,
    };
    visit.route.remember_hub(hub);
    match again {
        // The hub gave this client a version 0 token, which is public: ask anew with version 1 (rule A6).
        Some(mut request) if matches!(&parsed, NegotiateResponse::Connection(_)) => {
            let [stateful_told, web_transport_told] = edits;
            let query = query.edited(&[("negotiateVersion", Some("1")), stateful_told, web_transport_told]);
            outbound::prepare(visit, &mut request, &query);
            answered.backend.keep(answered.connection);
            match ask(visit, Box::new(request), Some(answered.backend)).await {
                Ok((backend, response, connection)) => match read(visit, backend, response, connection).await {
                    Ok((answered, parsed)) => {
                        let asked = Asked { hub, version: 0, had_affinity, stateful, web_transport };
                        finish(visit, asked, answered, parsed, user_agent).await
                    }
                    Err(passed) => *passed,
                },
                Err(error) => failure(visit, &error, false),
            }
        }
        _ => {
            let version = i32::from(matches!(asked, NegotiateVersion::Number(1..)));
            let asked = Asked { hub, version, had_affinity, stateful, web_transport };
            finish(visit, asked, answered, parsed, user_agent).await
        }
    }
}

fn request_without_body(request: &Request<Incoming>) -> Request<Body> {
    let mut copy = Request::new(Body::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy.headers_mut().remove(CONTENT_LENGTH);
    copy.headers_mut().remove(TRANSFER_ENCODING);
    copy
}

/// Reads a negotiate answer; what is none comes back as the answer to pass on.
async fn read(
    visit: &Visit,
    backend: Arc<Backend>,
    reply: Reply,
    connection: HubHttp,
) -> Result<(Answered, NegotiateResponse), Box<Response<Body>>> {
    let response = match reply {
        Reply::Http(response) => response.map(Body::Stream),
        Reply::Whole(response) | Reply::Switched(response, ..) => response.map(Body::Full),
    };
    let bytes_max = visit.live.config.limits.negotiate_bytes_max;
    let small = response.body().size_hint().upper().is_none_or(|length| length <= bytes_max as u64);
    let pass = |response: Response<Body>| {
        let mut response = response;
        outbound::finish(visit, &backend, &mut response);
        Box::new(response)
    };
    if response.status() != StatusCode::OK || !small || response.headers().contains_key(CONTENT_ENCODING) {
        backend.keep_after(connection, response.headers());
        return Err(pass(response));
    }
    let (head, incoming) = response.into_parts();
    let body = match incoming {
        Body::Stream(incoming) => match gather(visit, incoming, bytes_max).await? {
            Gathered::Whole(body) => body,
            Gathered::Other(body) => return Err(pass(Response::from_parts(head, body))),
        },
        Body::Full(body) => body,
        _ => Bytes::new(),
    };
    match NegotiateResponse::from_json(&body) {
        Ok(parsed) => Ok((Answered { backend, connection, head, body, elsewhere: None }, parsed)),
        Err(_) => {
            backend.keep_after(connection, &head.headers);
            Err(pass(Response::from_parts(head, Body::Full(body))))
        }
    }
}

/// The body of an answer to negotiate.
enum Gathered {
    /// All of it.
    Whole(Bytes),
    /// It is no negotiate answer and goes on to the client.
    Other(Body),
}

/// Gathers the body of an answer that may be a hub's.
async fn gather(visit: &Visit, mut incoming: Incoming, bytes_max: usize) -> Result<Gathered, Box<Response<Body>>> {
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        match frame {
            Ok(frame) => body.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Err(error) => {
                tracing::debug!(%error, "a negotiate answer broke off");
                return Err(Box::new(answer::gateway_error(StatusCode::BAD_GATEWAY, visit.route.name())));
            }
        }
        // What does not begin as a JSON object is none of ours and streams on. The media type says nothing: hubs that are
        // not ASP.NET Core send others, and no client looks at it.
        let other = body.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte != b'{');
        if other || body.len() > bytes_max {
            return Ok(Gathered::Other(Body::Resumed(body.freeze(), incoming)));
        }
    }
    Ok(Gathered::Whole(body.freeze()))
}

async fn finish(
    visit: &Visit,
    asked: Asked<'_>,
    answered: Answered,
    parsed: NegotiateResponse,
    user_agent: Option<HeaderValue>,
) -> Response<Body> {
    let allowed = match &visit.route.config.redirects {
        Redirects::Follow(allowed) => Some(allowed),
        Redirects::Pass => None,
    };
    match (parsed, allowed) {
        (NegotiateResponse::Redirect(redirect), Some(allowed)) => {
            answered.backend.keep(answered.connection);
            redirect::follow(visit, asked, redirect, allowed, user_agent).await
        }
        (NegotiateResponse::Connection(connection), _) if visit.route.pool.is_some() => {
            grant(visit, asked, answered, connection)
        }
        _ => {
            // Redirects and errors are the client's to read.
            let Answered { backend, connection, head, body, .. } = answered;
            backend.keep(connection);
            let mut response = Response::from_parts(head, Body::Full(body));
            outbound::finish(visit, &backend, &mut response);
            response
        }
    }
}

/// Makes the hub's connection one of ours.
fn grant(visit: &Visit, asked: Asked<'_>, answered: Answered, mut negotiated: NegotiatedConnection) -> Response<Body> {
    let Asked { hub, version, had_affinity, stateful, web_transport } = asked;
    let Answered { backend, connection, head, elsewhere, .. } = answered;
    let hub_has_web_sockets = negotiated.offers(Transport::WebSockets);
    let reachable = hub_has_web_sockets || negotiated.offers(Transport::LongPolling);
    if !reachable && !negotiated.available_transports.is_empty() {
        backend.keep(connection);
        tracing::warn!(route = visit.route.name(), "a hub offers neither WebSockets nor long polling");
        return redirect::told(NO_WAY_TO_HUB);
    }
    let timeouts = &visit.live.config.timeouts;
    offer(visit, &mut negotiated);
    if let Some(session) = web_transport {
        negotiated.available_transports.insert(0, session.offer.to_available());
    }
    let stateful = granted_stateful(visit, stateful, &negotiated);
    let hub_token = Secret::new(negotiated.token());
    let wait = timeouts.disconnect_timeout;
    let contents = Contents {
        route: visit.route.config.digest,
        backend: crate::config::Digest::from_bytes(backend.digest),
        hub: HubDigest::of(hub),
        negotiate_version: u8::from(version > 0),
        stateful: stateful != StatefulReconnect::Off,
        expires: SystemTime::now() + wait + Duration::from_secs(1),
        backend_token: hub_token.clone(),
    };
    let (token, key) = match seal(visit, &contents, elsewhere.is_some()) {
        Ok(sealed) => sealed,
        Err(error) => {
            tracing::error!(%error, "cannot seal a connection token");
            return answer::gateway_error(StatusCode::SERVICE_UNAVAILABLE, visit.route.name());
        }
    };
    let now = visit.gate.clock.now();
    let hold = visit.gate.table.unattached() < visit.live.config.limits.held_connections_max
        && !headers::binds_connection(&head.headers);
    let held = if hold {
        Some((connection, now.saturating_add(seconds(timeouts.negotiate_hold))))
    } else {
        backend.keep_after(connection, &head.headers);
        None
    };
    let waiting = Waiting {
        share: backend.share(),
        hub_token,
        held,
        cookies: HubCookies::of(&head.headers),
        early: BytesMut::new(),
        hub_has_web_sockets,
        elsewhere,
        shown: web_transport.map(|session| Box::new(session.shown.clone())),
    };
    let offered = Offered::of(&negotiated, stateful);
    let cross_origin = waiting.elsewhere.is_some();
    let expires = now.saturating_add(seconds(wait)).saturating_add(1);
    visit.gate.table.enter(key, hub, &negotiated.connection_id, expires, offered, waiting);
    let connection_id = negotiated.connection_id.clone();

    negotiated.use_stateful_reconnect = stateful != StatefulReconnect::Off;
    if cross_origin {
        // It is for the hub there, and this gateway holds it.
        negotiated.access_token = None;
    }
    negotiated.negotiate_version = version;
    if version == 0 {
        negotiated.connection_id = token.expose().to_owned();
        negotiated.connection_token = None;
    } else {
        negotiated.connection_token = Some(hubgate_protocol::Secret::new(token.expose()));
    }
    let body = NegotiateResponse::Connection(negotiated).to_json();
    let mut response = Response::from_parts(head, Body::Full(Bytes::from(body)));
    outbound::finish(visit, &backend, &mut response);
    if cross_origin {
        response.headers_mut().remove(http::header::SET_COOKIE);
    }
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().remove(TRANSFER_ENCODING);
    outbound::set_affinity(visit, &backend, had_affinity, &mut response);
    response.extensions_mut().insert(Granted);
    note_connection(&mut response, &connection_id);
    response
}

/// Who keeps the connection when its WebSocket is lost (rule I1): granted only to those who ask, since .NET acts on it
/// unasked, and only where they can use WebSockets.
fn granted_stateful(visit: &Visit, asked: bool, negotiated: &NegotiatedConnection) -> StatefulReconnect {
    match visit.route.config.stateful_reconnect {
        StatefulReconnect::Edge if asked && negotiated.offers(Transport::WebSockets) => StatefulReconnect::Edge,
        StatefulReconnect::Backend if asked && negotiated.use_stateful_reconnect => StatefulReconnect::Backend,
        _ => StatefulReconnect::Off,
    }
}

/// Seals a token, or takes a random one where its contents do not fit (rule A1).
fn seal(visit: &Visit, contents: &Contents, elsewhere: bool) -> Result<(Secret, TokenKey), crate::token::Error> {
    match visit.live.tokens.seal(contents)? {
        Sealed::Token(token, id) if !elsewhere => Ok((token, TokenKey::Sealed(id))),
        _ => {
            let token = random_token()?;
            Ok((token.clone(), TokenKey::Random(token)))
        }
    }
}

/// Says that transports carry all that they can, whatever the hub speaks itself (rule I6).
fn carry_both(negotiated: &mut NegotiatedConnection) {
    for offered in &mut negotiated.available_transports {
        if let Some(transport) = Transport::from_name(&offered.transport) {
            offered.transfer_formats = AvailableTransport::of(transport).transfer_formats;
        }
    }
}

/// Offers the route's transports, or the hub's where the route names none (rule D5).
fn offer(visit: &Visit, negotiated: &mut NegotiatedConnection) {
    let wanted = &visit.route.config.transports;
    if wanted.is_empty() {
        if visit.route.transcoding.is_some() {
            carry_both(negotiated);
        }
        return;
    }
    let transport = |name: &TransportName| match name {
        TransportName::WebSockets => Transport::WebSockets,
        TransportName::ServerSentEvents => Transport::ServerSentEvents,
        TransportName::LongPolling => Transport::LongPolling,
        TransportName::WebTransport => Transport::WebTransport,
    };
    // WebTransport has a port, which its listener tells.
    let named = wanted.iter().filter(|name| **name != TransportName::WebTransport);
    negotiated.available_transports = named.map(|name| AvailableTransport::of(transport(name))).collect();
}

/// Whole seconds, rounded up.
pub(crate) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).unwrap_or(u32::MAX)
}
