//! HTTP/1.1 requests to one server, with kept connections and cookies.
//!
//! Invariant: a connection is kept only after its answer was read to the end, and no more than [`IDLE_MAX`] are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

/// Connections kept for the next request; long polling uses two at once.
const IDLE_MAX: usize = 4;
/// Largest answer that is read as a whole, in bytes: a poll answers with everything that waits.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most cookies that are kept.
const COOKIES_MAX: usize = 64;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// The request is not well-formed.
    #[error("cannot make the request: {0}")]
    Request(#[from] http::Error),
    /// The connection failed on the way.
    #[error("the request failed: {0}")]
    Exchange(#[from] hyper::Error),
    /// The answer is too long.
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
}

/// Makes requests.
#[derive(Debug)]
pub(crate) struct HttpClient {
    tls: Option<Arc<rustls::ClientConfig>>,
    idle: Mutex<Vec<Idle>>,
    cookies: Mutex<BTreeMap<String, String>>,
}

#[derive(Debug)]
struct Idle {
    authority: String,
    sender: SendRequest<Full<Bytes>>,
}

/// An answer that was read as a whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// An answer whose body is still coming; dropping it closes its connection.
#[derive(Debug)]
pub(crate) struct Streaming {
    pub(crate) response: Response<Incoming>,
    /// Keeps the connection open.
    _sender: SendRequest<Full<Bytes>>,
}

impl HttpClient {
    pub(crate) fn new(tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        Self { tls, idle: Mutex::default(), cookies: Mutex::default() }
    }

    pub(crate) fn tls(&self) -> Option<&Arc<rustls::ClientConfig>> {
        self.tls.as_ref()
    }

    /// Makes a request and reads its answer as a whole.
    pub(crate) async fn request(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Answer, HttpError> {
        let (response, sender) = self.exchange(method, uri, headers, body).await?;
        self.keep_cookies(response.headers());
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => HttpError::Exchange(*error),
            Err(other) if other.is::<LengthLimitError>() => HttpError::TooLong,
            Err(_) => HttpError::TooLong,
        })?;
        self.keep(uri, sender);
        Ok(Answer { status, body: body.to_bytes() })
    }

    /// Makes a request whose answer is a stream.
    pub(crate) async fn stream(&self, uri: &Uri, headers: &HeaderMap) -> Result<Streaming, HttpError> {
        let (response, sender) = self.exchange(Method::GET, uri, headers, Bytes::new()).await?;
        Ok(Streaming { response, _sender: sender })
    }

    /// The `Cookie` header for the next request.
    pub(crate) fn cookies(&self) -> Option<HeaderValue> {
        let cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { None } else { HeaderValue::from_str(&pairs.join("; ")).ok() }
    }

    async fn exchange(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), HttpError> {
        // A kept connection may have been closed by the server meanwhile; a fresh one is then tried once.
        if let Some(mut sender) = self.take(uri)
            && sender.ready().await.is_ok()
        {
            let request = self.build(&method, uri, headers, body.clone())?;
            match sender.send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(error) if error.is_canceled() || error.is_closed() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let io = crate::io::connect(uri, self.tls.as_ref()).await.map_err(HttpError::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "connection ended");
            }
        });
        let response = sender.send_request(self.build(&method, uri, headers, body)?).await?;
        Ok((response, sender))
    }

    fn build(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, HttpError> {
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = Request::builder().method(method).uri(target).body(Full::new(body))?;
        *request.headers_mut() = headers.clone();
        if let Some(cookies) = self.cookies() {
            request.headers_mut().insert(header::COOKIE, cookies);
        }
        if let Some(host) = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(request)
    }

    fn keep_cookies(&self, headers: &HeaderMap) {
        let mut cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        for line in headers.get_all(header::SET_COOKIE).iter().filter_map(|line| line.to_str().ok()) {
            let pair = line.split(';').next().and_then(|pair| pair.split_once('='));
            if let Some((name, value)) = pair
                && (cookies.len() < COOKIES_MAX || cookies.contains_key(name.trim()))
            {
                cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }

    fn take(&self, uri: &Uri) -> Option<SendRequest<Full<Bytes>>> {
        let authority = key(uri);
        let mut idle = self.idle();
        idle.retain(|kept| !kept.sender.is_closed());
        let at = idle.iter().position(|kept| kept.authority == authority)?;
        Some(idle.swap_remove(at).sender)
    }

    fn keep(&self, uri: &Uri, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX && !sender.is_closed() {
            idle.push(Idle { authority: key(uri), sender });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(uri: &Uri) -> String {
    format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |authority| authority.as_str()))
}
