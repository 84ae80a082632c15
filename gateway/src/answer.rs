//! The answers that the gateway gives itself, with the reference's status, headers and texts (signalr-wire §2).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, EXPIRES, PRAGMA};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::Body;

/// Text for an `id` that nothing belongs to.
pub(crate) const NO_CONNECTION: &str = "No Connection with that ID";
/// Text for a connection that has another transport already.
pub(crate) const CANNOT_CHANGE: &str = "Cannot change transports mid-connection";
/// Text for a POST to a WebSocket's token.
pub(crate) const POST_ON_WEB_SOCKET: &str = "POST requests are not allowed for WebSocket connections.";
/// Text for a DELETE of what is no long-polling connection.
pub(crate) const CANNOT_DELETE: &str = "Cannot terminate this connection using the DELETE endpoint.";
/// Text for a request by another user (11.0's, rule A4).
pub(crate) const USER_CHANGED: &str = "The user associated with this connection changed.";

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
/// Media type of poll answers with data.
pub(crate) const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// An answer with a body and a media type.
pub(crate) fn with(status: StatusCode, media_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

/// An answer with a short text, in chunks as the reference sends it.
pub(crate) fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    with(status, TEXT, Body::Chunked(Bytes::from_static(text.as_bytes())))
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    with(status, TEXT, Body::Empty)
}

/// No body, and the connection is closed behind it: what the client still sends is not read.
pub(crate) fn closing(status: StatusCode) -> Response<Body> {
    let mut response = empty(status);
    response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    response
}

/// 404 for an unknown `id`.
pub(crate) fn no_connection() -> Response<Body> {
    text(StatusCode::NOT_FOUND, NO_CONNECTION)
}

/// An error of the gateway's own; it names the route and neither address nor cause (rule B8).
pub(crate) fn gateway_error(status: StatusCode, route: &str) -> Response<Body> {
    let reason = match status {
        StatusCode::BAD_GATEWAY => "no backend of this route could be reached, or its answer was no HTTP",
        StatusCode::GATEWAY_TIMEOUT => "the backend of this route did not answer in time",
        _ => "this route takes no new connections at the moment",
    };
    with(status, TEXT, Body::Full(Bytes::from(format!("hubgate: route '{route}': {reason}\n"))))
}

/// A request that cannot be read in one way only, or breaks HTTP.
pub(crate) fn bad_request(why: &str) -> Response<Body> {
    with(StatusCode::BAD_REQUEST, TEXT, Body::Full(Bytes::from(format!("hubgate: {why}\n"))))
}

/// 404 for a transport that the endpoint does not offer (signalr-wire §4.2).
pub(crate) fn not_offered(transport: &str) -> Response<Body> {
    let text = format!("{transport} transport not supported by this end point type");
    with(StatusCode::NOT_FOUND, TEXT, Body::Chunked(Bytes::from(text)))
}

/// Adds the cache headers that every answer of the long-polling branch carries (signalr-wire §4.1).
pub(crate) fn uncached(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(EXPIRES, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
    response
}

/// The head of an event stream (signalr-wire §5.2; rule B9).
pub(crate) fn event_stream(body: Body) -> Response<Body> {
    let mut response = with(StatusCode::OK, HeaderValue::from_static("text/event-stream"), body);
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache,no-store"));
    headers.insert(http::header::CONTENT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
