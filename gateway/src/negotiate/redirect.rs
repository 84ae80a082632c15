//! Following redirects in negotiate answers, on routes that want it (rule B7): only to origins that the route names, at
//! most five hops, with the answer's `accessToken` only; the client's own credentials never leave for another origin.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hubgate_protocol::negotiate::{CONTENT_TYPE, NegotiateResponse, Redirect};

use super::{Answered, Asked, grant, read};
use crate::answer;
use crate::backend::Failed;
use crate::body::Body;
use crate::config::Origin;
use crate::forward::failure;
use crate::query::Query;
use crate::secret::Secret;
use crate::visit::Visit;

/// Most redirects followed for one negotiate.
const HOPS_MAX: usize = 5;
/// What a client is told whose hub redirects to where the route does not follow.
const NOT_FOLLOWED: &str = "The hub redirects to an origin that this gateway does not follow.";
/// What a client is told whose hub redirects without end.
const TOO_MANY: &str = "Negotiate redirection limit exceeded.";

/// A hub connection that does not live at the route's own backends.
#[derive(Debug, Clone)]
pub(crate) struct Elsewhere {
    /// The hub's path there.
    pub(crate) path: Box<str>,
    /// The redirect URL's query, kept for all requests.
    pub(crate) query: Box<str>,
    /// The only credential that goes there.
    access_token: Option<Secret>,
}

impl Elsewhere {
    fn of(uri: &Uri, access_token: Option<Secret>) -> Self {
        Self { path: uri.path().into(), query: uri.query().unwrap_or_default().into(), access_token }
    }

    /// Makes a request of the client's fit for there: other target, other credentials.
    pub(crate) fn readdress<B>(&self, request: &mut Request<B>, hub_token: &Secret) {
        let query = Query::new(&self.query).edited(&[("id", Some(hub_token.expose()))]);
        if let Ok(target) = Uri::try_from(format!("{}?{query}", self.path)) {
            *request.uri_mut() = target;
        }
        request.headers_mut().remove(HOST);
        self.authorize(request.headers_mut());
    }

    fn authorize(&self, headers: &mut HeaderMap) {
        crate::headers::remove_credentials(headers);
        let token = self.access_token.as_ref().map(|token| HeaderValue::try_from(format!("Bearer {}", token.expose())));
        if let Some(Ok(mut token)) = token {
            token.set_sensitive(true);
            headers.insert(AUTHORIZATION, token);
        }
    }
}

/// Negotiates where a hub's answer points to.
pub(super) async fn follow(
    visit: &Visit,
    asked: Asked<'_>,
    redirect: Redirect,
    allowed: &[Origin],
    user_agent: Option<HeaderValue>,
) -> Response<Body> {
    let (mut url, mut token) = (redirect.url, redirect.access_token);
    for _ in 0..HOPS_MAX {
        let Ok(uri) = url.parse::<Uri>() else { return told(NOT_FOLLOWED) };
        if !Origin::of(&uri).is_some_and(|origin| allowed.contains(&origin)) {
            return told(NOT_FOLLOWED);
        }
        let elsewhere = Elsewhere::of(&uri, token.as_ref().map(|token| Secret::new(token.expose())));
        let backend = match visit.live.elsewhere(&uri).await {
            Ok(backend) => backend,
            Err(error) => {
                tracing::warn!(route = visit.route.name(), %error, "a redirect cannot be followed");
                return answer::gateway_error(StatusCode::BAD_GATEWAY, visit.route.name());
            }
        };
        let request = request(&elsewhere, &backend.origin.authority, user_agent.as_ref());
        let (response, connection) = match backend.ask(Box::new(request)).await {
            Ok(answered) => answered,
            Err(Failed::Unsent(_, error) | Failed::Sent(error)) => return failure(visit, &error, false),
        };
        match read(visit, backend, response, connection).await {
            Ok((_, NegotiateResponse::Redirect(next))) => {
                url = next.url;
                token = next.access_token.or(token);
            }
            Ok((_, NegotiateResponse::Error(text))) => return told(&text),
            Ok((answered, NegotiateResponse::Connection(negotiated))) => {
                let answered = Answered { elsewhere: Some(elsewhere), ..answered };
                return grant(visit, asked, answered, negotiated);
            }
            Err(passed) => return *passed,
        }
    }
    told(TOO_MANY)
}

fn request(elsewhere: &Elsewhere, authority: &str, user_agent: Option<&HeaderValue>) -> Request<Body> {
    let query = Query::new(&elsewhere.query).edited(&[("negotiateVersion", Some("1")), ("useStatefulReconnect", None)]);
    let target = format!("{}/negotiate?{query}", elsewhere.path.trim_end_matches('/'));
    let mut request = Request::new(Body::Empty);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::try_from(target).unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(authority) {
        headers.insert(HOST, host);
    }
    headers.insert(HeaderName::from_static("x-requested-with"), HeaderValue::from_static("XMLHttpRequest"));
    if let Some(user_agent) = user_agent {
        headers.insert(USER_AGENT, user_agent.clone());
    }
    elsewhere.authorize(headers);
    request
}

/// A negotiate answer that says why there is no connection.
pub(super) fn told(text: &str) -> Response<Body> {
    let body = NegotiateResponse::Error(text.to_owned()).to_json();
    answer::with(StatusCode::OK, HeaderValue::from_static(CONTENT_TYPE), Body::Full(Bytes::from(body)))
}
