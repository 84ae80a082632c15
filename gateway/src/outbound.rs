//! Requests on their way to a backend and answers on their way back: headers, address, cookies, CORS.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, EXPECT, HOST, ORIGIN, SET_COOKIE, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::backend::{Backend, Pool};
use crate::body::Body;
use crate::config::{Affinity, Digest};
use crate::observe::note_backend;
use crate::visit::Visit;
use crate::{cookie, cors, headers};

/// The host that a request names, as received.
fn received_host<B>(request: &Request<B>) -> Option<HeaderValue> {
    request.headers().get(HOST).cloned().or_else(|| {
        let authority = request.uri().authority()?;
        HeaderValue::from_str(authority.as_str()).ok()
    })
}

/// Makes a client's request ours: target, version, headers (rules B1, B3).
pub(crate) fn prepare<B>(visit: &Visit, request: &mut Request<B>, query: &str) {
    let host = received_host(request);
    let peer: SocketAddr = visit.client.peer;
    let incoming = headers::Incoming {
        peer: peer.ip(),
        trusted: visit.live.config.trusts(peer.ip()),
        https: visit.client.secure,
        host: host.as_ref(),
    };
    headers::to_backend(request.headers_mut(), &incoming, host.clone());
    cookie::remove_ours(request.headers_mut());
    *request.version_mut() = Version::HTTP_11;
    let target = visit.target(query);
    let target = PathAndQuery::try_from(target).unwrap_or_else(|_| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(target);
}

/// The body to pass on. A client that waits for `100 Continue` is not told to send what a hub would not read: the hub's
/// refusal comes at once, as from the reference (signalr-wire §2).
pub(crate) fn body_to_send(request: Request<Incoming>, hub_ignores_it: bool) -> Request<Body> {
    let waits = request.headers().contains_key(EXPECT);
    let mut request = request.map(|body| {
        let nothing = body.is_end_stream() || (waits && hub_ignores_it);
        if nothing { Body::Empty } else { Body::Stream(body) }
    });
    if waits && hub_ignores_it {
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT] {
            request.headers_mut().remove(name);
        }
    }
    request
}

/// Addresses a request to one backend: only `Host` can depend on it, the address connected to never comes from a
/// client (rule B2).
pub(crate) fn address<B>(pool: &Pool, backend: &Backend, request: &mut Request<B>) {
    if pool.pass_host && request.headers().contains_key(HOST) {
        return;
    }
    if let Ok(host) = HeaderValue::from_str(&backend.origin.authority) {
        request.headers_mut().insert(HOST, host);
    }
}

/// Makes a backend's answer ours.
pub(crate) fn finish(visit: &Visit, backend: &Backend, response: &mut Response<Body>) {
    note_backend(response, backend.address);
    *response.version_mut() = Version::HTTP_11;
    headers::to_client(response.headers_mut());
    if visit.route.config.cors.is_some() {
        cors::remove(response.headers_mut());
    }
}

/// The backend that the request's affinity cookie names, where the route has affinity (rule D6).
pub(crate) fn affinity(visit: &Visit, headers: &HeaderMap) -> Option<Arc<Backend>> {
    if visit.route.config.affinity != Affinity::Cookie {
        return None;
    }
    let pool = visit.route.pool.as_ref()?;
    let backends = pool.backends();
    let candidates = backends.iter().map(|backend| Digest::from_bytes(backend.digest));
    let digest = cookie::affine_backend(headers, &visit.live.tokens, visit.route.config.digest, candidates)?;
    pool.by_digest(digest.to_bytes())
}

/// Gives the client the cookie that brings it back to this backend, where the route has affinity and it has none yet.
pub(crate) fn set_affinity(visit: &Visit, backend: &Backend, had: bool, response: &mut Response<Body>) {
    if had || visit.route.config.affinity != Affinity::Cookie {
        return;
    }
    let digest = Digest::from_bytes(backend.digest);
    if let Some(cookie) =
        cookie::set_affinity(&visit.live.tokens, visit.route.config.digest, digest, visit.client.secure)
    {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

/// Remembers what the backend lets pages of this origin do (rule C1).
pub(crate) fn note_cors(visit: &Visit, hub: &str, origin: Option<&HeaderValue>, answer: &HeaderMap) {
    if let (Some(origin), None) = (origin, &visit.route.config.cors) {
        visit.gate.cors.note(visit.route.config.digest, hub, origin, answer);
    }
}

/// Puts the `Access-Control-*` of the route, or of the backend's last answer to this origin, on an answer of ours.
pub(crate) fn apply_cors(visit: &Visit, origin: Option<&HeaderValue>, response: &mut Response<Body>) {
    let Some(origin) = origin else { return };
    let fields = match &visit.route.config.cors {
        Some(cors) => Some(cors.answer(origin)),
        None => visit.gate.cors.find(visit.route.config.digest, visit.path.hub(), origin),
    };
    let already = response.headers().contains_key(http::header::ACCESS_CONTROL_ALLOW_ORIGIN);
    if let (Some(fields), false) = (fields, already) {
        fields.add_to(response.headers_mut());
    }
}

/// The route's own answer to a pre-flight, where it has a `cors` block.
pub(crate) fn preflight<B>(visit: &Visit, request: &Request<B>) -> Option<Response<Body>> {
    let cors = visit.route.config.cors.as_ref()?;
    let origin = request.headers().get(ORIGIN)?;
    if *request.method() != Method::OPTIONS || !cors::is_preflight(request.method(), request.headers()) {
        return None;
    }
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = http::StatusCode::NO_CONTENT;
    cors.preflight(origin).add_to(response.headers_mut());
    Some(response)
}
