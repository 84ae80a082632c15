//! Requests to a backend over HTTP/1.1 connections that are kept for the next one.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use http::HeaderMap;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::{Backend, ConnectError};
use crate::body::Body;
use crate::headers;
use crate::io::Watched;

/// A write to a backend may be stuck this long: hubs stop reading under back-pressure, so there is no short limit.
const STUCK_WRITE: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Why an exchange with a backend failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// The backend could not be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke before or while the answer came.
    #[error("the exchange broke off: {0}")]
    Broken(#[source] hyper::Error),
    /// No headers within `backend_headers_timeout`.
    #[error("no answer within `timeouts.backend_headers_timeout`")]
    TimedOut,
    /// There is no backend to ask.
    #[error("the pool has no backend that was not tried")]
    NoBackend,
}

/// A kept connection.
#[derive(Debug)]
pub(super) struct Idle {
    http: SendRequest<Body>,
    since: Instant,
}

/// One HTTP/1.1 connection to a backend.
#[derive(Debug)]
pub(crate) struct HubHttp {
    http: SendRequest<Body>,
    /// Whether it has carried a request before, so that it may turn out to be stale.
    kept: bool,
}

/// A request that could not be sent at all, given back.
pub(crate) enum Failed {
    /// Nothing of it went out: it may be tried again.
    Unsent(Box<Request<Body>>, ExchangeError),
    /// It is unknown how much went out.
    Sent(ExchangeError),
}

impl HubHttp {
    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.http.is_closed()
    }

    /// Sends a request and waits for the headers of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
        headers_timeout: std::time::Duration,
    ) -> Result<Response<Incoming>, Failed> {
        if self.http.ready().await.is_err() {
            return Err(Failed::Unsent(Box::new(request), ExchangeError::NoBackend));
        }
        let answer = tokio::time::timeout(headers_timeout, self.http.try_send_request(request)).await;
        self.kept = true;
        match answer {
            Err(_) => Err(Failed::Sent(ExchangeError::TimedOut)),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut error)) => match error.take_message() {
                Some(request) => Err(Failed::Unsent(Box::new(request), ExchangeError::Broken(error.into_error()))),
                None => Err(Failed::Sent(ExchangeError::Broken(error.into_error()))),
            },
        }
    }
}

impl Backend {
    /// A kept connection that is free, or a new one.
    ///
    /// # Errors
    /// The backend cannot be reached.
    pub(crate) async fn http(&self) -> Result<HubHttp, ConnectError> {
        if let Some(kept) = self.take_idle() {
            return Ok(kept);
        }
        self.fresh_http().await
    }

    /// A new connection.
    ///
    /// # Errors
    /// The backend cannot be reached.
    pub(crate) async fn fresh_http(&self) -> Result<HubHttp, ConnectError> {
        let stream = Watched::new(self.connect().await?, STUCK_WRITE, None);
        let handshake = http1::Builder::new()
            .max_header_size(self.terms.header_bytes_max)
            .handshake::<_, Body>(TokioIo::new(stream))
            .await;
        let (http, connection) = handshake.map_err(|error| ConnectError::Tcp(std::io::Error::other(error)))?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a backend connection ended");
            }
        });
        Ok(HubHttp { http, kept: false })
    }

    /// Keeps a connection for the next request. It may still be busy with an answer's body.
    pub(crate) fn keep(&self, connection: HubHttp) {
        if connection.http.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.terms.idle_max {
            idle.push(Idle { http: connection.http, since: Instant::now() });
        }
    }

    /// The same behind an answer that may have bound a user to the connection, which then must not be shared (rule D3).
    pub(crate) fn keep_after(&self, connection: HubHttp, answer: &HeaderMap) {
        if !headers::binds_connection(answer) {
            self.keep(connection);
        }
    }

    fn take_idle(&self) -> Option<HubHttp> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| !kept.http.is_closed());
        let at = idle.iter().rposition(|kept| kept.http.is_ready())?;
        let kept = idle.swap_remove(at);
        (kept.since.elapsed() < self.terms.idle_timeout).then_some(HubHttp { http: kept.http, kept: true })
    }

    pub(super) fn sweep_idle(&self) {
        let timeout = self.terms.idle_timeout;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|kept| !kept.http.is_closed() && kept.since.elapsed() < timeout);
    }

    /// Sends a request over a kept or new connection; one that turns out to be stale is replaced, once. The connection
    /// comes back with the answer.
    ///
    /// # Errors
    /// [`Failed::Unsent`] gives the request back for another backend (rule B10).
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, HubHttp), Failed> {
        let mut connection = match self.http().await {
            Ok(connection) => connection,
            Err(error) => return Err(Failed::Unsent(Box::new(request), error.into())),
        };
        loop {
            let stale = connection.kept;
            match connection.send(request, self.terms.headers_timeout).await {
                Ok(response) => return Ok((response, connection)),
                Err(Failed::Unsent(unsent, _)) if stale => {
                    request = *unsent;
                    connection = match self.fresh_http().await {
                        Ok(connection) => connection,
                        Err(error) => return Err(Failed::Unsent(Box::new(request), error.into())),
                    };
                }
                Err(failed) => return Err(failed),
            }
        }
    }

    /// How long to wait for an answer's headers.
    pub(crate) fn headers_timeout(&self) -> std::time::Duration {
        self.terms.headers_timeout
    }
}
