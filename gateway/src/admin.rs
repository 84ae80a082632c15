//! The admin listener's answers: `/healthz`, `/readyz`, `/metrics` (rules F4, G6).
//!
//! Why: a pure function of request and state. It is served on an address of its own and never on a listener for
//! clients, so nothing here asks who is calling.
//!
//! Invariant: `/healthz` depends on nothing but the process, and `/readyz` on backends only where an operator asked for
//! it; else one dead backend would take all gateways out of service.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};

/// The media type of what [`crate::metrics::Metrics::encode`] gives.
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What readiness depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Clients may come.
    Ready,
    /// The gateway is stopping (rule F4).
    Stopping,
    /// No server of some route can be reached; given only with `admin.ready_needs_backends`.
    NoBackend,
}

/// Answers a request to the admin listener; `metrics` is asked only for `/metrics`.
pub fn answer(method: &Method, path: &str, readiness: Readiness, metrics: impl FnOnce() -> String) -> Response<String> {
    if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
        return text(StatusCode::NOT_FOUND, "here are /healthz, /readyz and /metrics\n");
    }
    if method != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    match (path, readiness) {
        ("/healthz", _) => text(StatusCode::OK, "alive\n"),
        ("/readyz", Readiness::Ready) => text(StatusCode::OK, "ready\n"),
        ("/readyz", Readiness::Stopping) => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        ("/readyz", Readiness::NoBackend) => text(StatusCode::SERVICE_UNAVAILABLE, "no backend can be reached\n"),
        _ => {
            let mut response = text(StatusCode::OK, "");
            *response.body_mut() = metrics();
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE));
            response
        }
    }
}

fn text(status: StatusCode, body: &str) -> Response<String> {
    let mut response = Response::new(body.to_owned());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, path: &str, readiness: Readiness) -> (u16, String) {
        let response = answer(&method, path, readiness, || "numbers".to_owned());
        (response.status().as_u16(), response.into_body())
    }

    #[test]
    fn er_f4_readiness_ends_at_once_and_health_does_not() {
        assert_eq!(ask(Method::GET, "/readyz", Readiness::Ready), (200, "ready\n".to_owned()));
        assert_eq!(ask(Method::GET, "/readyz", Readiness::Stopping), (503, "stopping\n".to_owned()));
        assert_eq!(ask(Method::GET, "/readyz", Readiness::NoBackend).0, 503);
        for readiness in [Readiness::Ready, Readiness::Stopping, Readiness::NoBackend] {
            assert_eq!(ask(Method::GET, "/healthz", readiness), (200, "alive\n".to_owned()));
            assert_eq!(ask(Method::GET, "/metrics", readiness), (200, "numbers".to_owned()));
        }
    }

    #[test]
    fn er_g6_answers_get_on_its_own_paths_only() {
        for path in ["/", "/healthz/", "/metrics2", "/HEALTHZ", "/chat/negotiate", ""] {
            assert_eq!(ask(Method::GET, path, Readiness::Ready).0, 404, "{path}");
        }
        for method in [Method::POST, Method::HEAD, Method::PUT, Method::OPTIONS, Method::CONNECT] {
            assert_eq!(ask(method.clone(), "/metrics", Readiness::Ready), (405, String::new()), "{method}");
        }
        let response = answer(&Method::POST, "/readyz", Readiness::Ready, String::new);
        assert_eq!(response.headers()[ALLOW], "GET");
    }

    #[test]
    fn er_g6_metrics_have_their_media_type() {
        let response = answer(&Method::GET, "/metrics", Readiness::Ready, String::new);
        assert_eq!(response.headers()[CONTENT_TYPE], METRICS_TYPE);
    }
}
