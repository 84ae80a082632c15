//! One HTTP request: refuse what is ambiguous, find the route, tell hubs from everything else.

use std::sync::Arc;

use http::header::{HOST, ORIGIN};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol;

use crate::answer;
use crate::attach;
use crate::body::Body;
use crate::config::RouteKind;
use crate::cors;
use crate::forward::forward;
use crate::gate::Gate;
use crate::headers;
use crate::negotiate::negotiate;
use crate::observe::{Watching, negotiate_outcome, note_cause};
use crate::outbound;
use crate::path::NormalPath;
use crate::query::Query;
use crate::visit::{Client, Visit, wants_event_stream, wants_web_socket};

/// Serves one request of a client.
pub(crate) async fn serve(gate: Arc<Gate>, client: Arc<Client>, mut request: Request<Incoming>) -> Response<Body> {
    fold_method(request.method_mut());
    let watching = Watching::begin(&gate, client.peer.ip(), &request);
    let metrics = Arc::clone(&gate.metrics);
    let (found, mut response) = match visit(gate, client, &request) {
        Ok(visit) => {
            let response = route(&visit, request).await;
            (Some(visit.route), response)
        }
        Err(mut refusal) => {
            note_cause(&mut refusal, "no route, or not to be read in one way");
            (None, *refusal)
        }
    };
    metrics.answered(found.as_ref().map(|route| &route.meters), response.status());
    if let Some(watching) = watching {
        response = watching.follow(found.as_deref(), response);
    }
    response
}

/// Reads `get` as GET, as Kestrel does.
fn fold_method(method: &mut Method) {
    if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase())
        && let Ok(upper) = Method::from_bytes(method.as_str().to_ascii_uppercase().as_bytes())
    {
        *method = upper;
    }
}

/// Finds out what a request is about; the error is its answer.
pub(crate) fn visit<B>(
    gate: Arc<Gate>,
    client: Arc<Client>,
    request: &Request<B>,
) -> Result<Visit, Box<Response<Body>>> {
    let named = matches!(request.version(), Version::HTTP_2 | Version::HTTP_3);
    let authority = named.then(|| request.uri().authority()).flatten();
    headers::check(request.headers(), authority.map(http::uri::Authority::as_str))
        .map_err(|error| Box::new(answer::bad_request(&error.to_string())))?;
    if *request.method() == Method::CONNECT && request.extensions().get::<Protocol>().is_none() {
        return Err(Box::new(answer::empty(StatusCode::METHOD_NOT_ALLOWED)));
    }
    let path =
        NormalPath::parse(request.uri().path()).map_err(|error| Box::new(answer::bad_request(&error.to_string())))?;
    let live = gate.live.load_full();
    let host = match request.headers().get(HOST) {
        Some(host) => host.to_str().unwrap_or_default().to_owned(),
        None => request.uri().authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default(),
    };
    let found = live
        .config
        .routes
        .find(&host, &path)
        .map_err(|ambiguity| Box::new(answer::bad_request(&ambiguity.to_string())))?;
    let route = found.and_then(|route| live.route(route)).cloned();
    let Some(route) = route else { return Err(Box::new(answer::empty(StatusCode::NOT_FOUND))) };
    Ok(Visit { gate, live, client, route, path: Arc::new(path) })
}

async fn route(visit: &Visit, request: Request<Incoming>) -> Response<Body> {
    if let Some(preflight) = outbound::preflight(visit, &request) {
        return preflight;
    }
    let may_forward = match visit.route.config.kind {
        RouteKind::Refuse => return answer::empty(StatusCode::NOT_FOUND),
        RouteKind::Forward => return forward_with_cors(visit, request).await,
        RouteKind::Hub | RouteKind::Hubs { forward: true } => true,
        RouteKind::Hubs { forward: false } => false,
    };
    // A path that can be read in two ways is never taken for a hub's (rule B1); pre-flights are the backend's (rule C1).
    let preflight = cors::is_preflight(request.method(), request.headers());
    if visit.path.ambiguity().is_some() || preflight {
        return forward_with_cors(visit, request).await;
    }
    if *request.method() == Method::POST
        && let Some(hub) = visit.path.negotiate_hub()
    {
        let hub = hub.to_owned();
        let origin = request.headers().get(ORIGIN).cloned();
        // Boxed: these futures are large, and a connection's own future would carry the largest of them all the time.
        let mut response = Box::pin(negotiate(visit, &hub, request)).await;
        let granted = response.extensions().get::<crate::negotiate::Granted>().is_some();
        if visit.route.knows_hub(&hub) {
            let outcome = negotiate_outcome(response.status(), granted);
            visit.gate.metrics.negotiated(&visit.route.meters, outcome);
        }
        if visit.route.config.cors.is_some() {
            outbound::apply_cors(visit, origin.as_ref(), &mut response);
        } else {
            outbound::note_cors(visit, &hub, origin.as_ref(), response.headers());
        }
        return response;
    }
    if let Some(id) = Query::new(request.uri().query().unwrap_or_default()).id()
        && let Some(presented) = attach::presented(visit, &id)
    {
        return Box::pin(attach::serve(visit, presented, request)).await;
    }
    if may_forward || is_hubs(visit, &request) {
        forward_with_cors(visit, request).await
    } else {
        answer::empty(StatusCode::NOT_FOUND)
    }
}

/// Where nothing but hubs is served: whether a request may be one's all the same. The hub itself answers it.
fn is_hubs(visit: &Visit, request: &Request<Incoming>) -> bool {
    let hub = visit.path.negotiate_hub().unwrap_or_else(|| visit.path.hub());
    let preflight = cors::is_preflight(request.method(), request.headers());
    visit.route.knows_hub(hub) || wants_web_socket(request) || wants_event_stream(request.headers()) || preflight
}

/// Forwards, and learns from pre-flights what the backend lets pages of other origins do (rule C1).
async fn forward_with_cors(visit: &Visit, request: Request<Incoming>) -> Response<Body> {
    let origin = request.headers().get(ORIGIN).cloned();
    let preflight = cors::is_preflight(request.method(), request.headers());
    let mut response = Box::pin(forward(visit, request)).await;
    if preflight {
        let hub = visit.path.negotiate_hub().unwrap_or_else(|| visit.path.hub());
        outbound::note_cors(visit, hub, origin.as_ref(), response.headers());
    } else if visit.route.config.cors.is_some() {
        outbound::apply_cors(visit, origin.as_ref(), &mut response);
    }
    response
}
