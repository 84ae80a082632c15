//! Requests to a backend over HTTP/1.1 connections that are kept for the next one.
//!
//! Requests go boxed: each future on their way would hold a copy of its own.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use tokio::net::TcpStream;

use super::direct::{self, Came};
use super::{Backend, ConnectError, Terms};
use crate::body::Body;
use crate::headers;
use crate::io::{Stream, Watched};

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
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
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
    http: HubHttp,
    since: Instant,
}

/// One HTTP/1.1 connection to a backend.
#[derive(Debug)]
pub(crate) struct HubHttp {
    way: Way,
    /// Whether it has carried a request before, so that it may turn out to be stale.
    kept: bool,
}

/// How requests go over a connection.
#[derive(Debug)]
enum Way {
    /// Read and written by whoever asks.
    Direct(TcpStream),
    /// By an HTTP client in a task of its own.
    Http(SendRequest<Body>),
    /// No more.
    Ended,
}

/// A request that could not be sent at all, given back.
pub(crate) enum Failed {
    /// Nothing of it went out: it may be tried again.
    Unsent(Box<Request<Body>>, ExchangeError),
    /// It is unknown how much went out.
    Sent(ExchangeError),
}

/// An answer, and how its body or its stream is had.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The body comes through the HTTP client.
    Http(Response<Incoming>),
    /// The body is there.
    Whole(Response<Bytes>),
    /// 101, the connection, and what came behind the head.
    Switched(Response<Bytes>, Stream, Bytes),
}

impl HubHttp {
    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.way {
            Way::Http(http) => http.is_closed(),
            // Between two requests nothing may come: neither bytes nor the end.
            Way::Direct(tcp) => {
                !matches!(tcp.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
            }
            Way::Ended => true,
        }
    }

    fn is_ready(&self) -> bool {
        match &self.way {
            Way::Http(http) => http.is_ready(),
            Way::Direct(_) => true,
            Way::Ended => false,
        }
    }

    /// Sends a request and waits for the headers of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Box<Request<Body>>,
        terms: &Terms,
    ) -> Result<Response<Incoming>, Failed> {
        if let Way::Direct(_) = self.way
            && let Way::Direct(tcp) = std::mem::replace(&mut self.way, Way::Ended)
        {
            match shake_hands(Watched::new(Stream::Tcp(tcp), STUCK_WRITE, None), terms).await {
                Ok(http) => self.way = Way::Http(http),
                Err(error) => return Err(Failed::Unsent(request, error.into())),
            }
        }
        self.send_by_http(request, terms).await
    }

    async fn send_by_http(&mut self, request: Box<Request<Body>>, terms: &Terms) -> Result<Response<Incoming>, Failed> {
        let Way::Http(http) = &mut self.way else {
            return Err(Failed::Unsent(request, ExchangeError::NoBackend));
        };
        if http.ready().await.is_err() {
            return Err(Failed::Unsent(request, ExchangeError::NoBackend));
        }
        let answer = tokio::time::timeout(terms.headers_timeout, http.try_send_request(*request)).await;
        self.kept = true;
        match answer {
            Err(_) => Err(Failed::Sent(ExchangeError::TimedOut)),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut error)) => match error.take_message() {
                Some(request) => {
                    Err(Failed::Unsent(Box::new(request), ExchangeError::Broken(error.into_error().into())))
                }
                None => Err(Failed::Sent(ExchangeError::Broken(error.into_error().into()))),
            },
        }
    }

    /// Asks a hub: sends a request of a few bytes whose answer is short, or an upgrade.
    pub(crate) async fn ask(&mut self, request: Box<Request<Body>>, terms: &Terms) -> Result<Reply, Failed> {
        if !direct::is_plain(&request) || !matches!(self.way, Way::Direct(_)) {
            return self.send(request, terms).await.map(Reply::Http);
        }
        let Way::Direct(tcp) = std::mem::replace(&mut self.way, Way::Ended) else {
            return Err(Failed::Unsent(request, ExchangeError::NoBackend));
        };
        self.kept = true;
        let exchange = direct::exchange(tcp, &request, terms.header_bytes_max);
        match tokio::time::timeout(terms.headers_timeout, exchange).await {
            Err(_) => Err(Failed::Sent(ExchangeError::TimedOut)),
            Ok(Ok(Came::Answer(response, tcp))) => {
                self.way = tcp.map_or(Way::Ended, Way::Direct);
                Ok(Reply::Whole(response))
            }
            Ok(Ok(Came::Switched(response, tcp, ahead))) => Ok(Reply::Switched(response, Stream::Tcp(tcp), ahead)),
            Ok(Ok(Came::Other(tcp, read))) => {
                let stream = Watched::new(Stream::Tcp(tcp), STUCK_WRITE, None).with_answer(read);
                match shake_hands(stream, terms).await {
                    Ok(http) => self.way = Way::Http(http),
                    Err(error) => return Err(Failed::Sent(error.into())),
                }
                match self.send_by_http(request, terms).await {
                    Err(Failed::Unsent(_, error)) => Err(Failed::Sent(error)),
                    other => other.map(Reply::Http),
                }
            }
            Ok(Err(direct::Error::Unsent(error))) => Err(Failed::Unsent(request, ExchangeError::Broken(error.into()))),
            Ok(Err(direct::Error::Sent(error))) => Err(Failed::Sent(ExchangeError::Broken(error.into()))),
        }
    }
}

/// Puts an HTTP client on a connection.
async fn shake_hands(stream: Watched, terms: &Terms) -> Result<SendRequest<Body>, ConnectError> {
    let handshake =
        http1::Builder::new().max_header_size(terms.header_bytes_max).handshake::<_, Body>(TokioIo::new(stream)).await;
    let (http, connection) = handshake.map_err(|error| ConnectError::Tcp(std::io::Error::other(error)))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a backend connection ended");
        }
    });
    Ok(http)
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
        let way = match self.connect().await? {
            Stream::Tcp(tcp) => Way::Direct(tcp),
            other => Way::Http(shake_hands(Watched::new(other, STUCK_WRITE, None), &self.terms).await?),
        };
        Ok(HubHttp { way, kept: false })
    }

    /// Keeps a connection for the next request. It may still be busy with an answer's body.
    pub(crate) fn keep(&self, connection: HubHttp) {
        if connection.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.terms.idle_max {
            idle.push(Idle { http: HubHttp { kept: true, ..connection }, since: Instant::now() });
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
        (kept.since.elapsed() < self.terms.idle_timeout).then_some(kept.http)
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
        request: Box<Request<Body>>,
    ) -> Result<(Response<Incoming>, HubHttp), Failed> {
        match self.exchange_by(request, false).await? {
            (Reply::Http(response), connection) => Ok((response, connection)),
            _ => Err(Failed::Sent(ExchangeError::NoBackend)),
        }
    }

    /// The same for a negotiate: a short answer is read at once.
    ///
    /// # Errors
    /// As [`Backend::exchange`].
    pub(crate) async fn ask(self: &Arc<Self>, request: Box<Request<Body>>) -> Result<(Reply, HubHttp), Failed> {
        self.exchange_by(request, true).await
    }

    async fn exchange_by(&self, mut request: Box<Request<Body>>, asks: bool) -> Result<(Reply, HubHttp), Failed> {
        let mut connection = match self.http().await {
            Ok(connection) => connection,
            Err(error) => return Err(Failed::Unsent(request, error.into())),
        };
        loop {
            let stale = connection.kept;
            let reply = if asks {
                connection.ask(request, &self.terms).await
            } else {
                connection.send(request, &self.terms).await.map(Reply::Http)
            };
            match reply {
                Ok(reply) => return Ok((reply, connection)),
                Err(Failed::Unsent(unsent, _)) if stale => {
                    request = unsent;
                    connection = match self.fresh_http().await {
                        Ok(connection) => connection,
                        Err(error) => return Err(Failed::Unsent(request, error.into())),
                    };
                }
                Err(failed) => return Err(failed),
            }
        }
    }

    /// How long an answer's headers are waited for, and what else requests obey.
    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::backend::{BackendMetrics, Origin};

    fn backend(address: SocketAddr) -> Arc<Backend> {
        let second = Duration::from_secs(10);
        let terms = Terms {
            connect_timeout: second,
            headers_timeout: second,
            idle_timeout: second,
            idle_max: 4,
            retry_delay: second,
            retry_delay_max: second,
            tcp_keep_alive: second,
            header_bytes_max: 16 * 1024,
            source_addresses: Vec::new(),
        };
        let origin = Origin { tls: None, host: "a".into(), authority: "a".into() };
        Arc::new(Backend::new([0; 8], address, origin, Arc::new(terms), BackendMetrics::default()))
    }

    fn question(number: u8) -> Request<Body> {
        Request::post(format!("/{number}")).header("host", "a").body(Body::Empty).expect("a request")
    }

    /// A server that gives one answer to each request on one connection and tells the requests.
    async fn server(answers: &'static [&'static str]) -> (Arc<Backend>, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut requests = Vec::new();
            for answer in answers {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    assert_ne!(stream.read_buf(&mut request).await.expect("a request"), 0);
                }
                requests.push(String::from_utf8(request).expect("text"));
                stream.write_all(answer.as_bytes()).await.expect("room");
            }
            requests
        });
        (backend(address), serving)
    }

    async fn text(reply: Reply) -> Vec<u8> {
        match reply {
            Reply::Http(response) => response.into_body().collect().await.expect("a body").to_bytes().to_vec(),
            Reply::Whole(response) | Reply::Switched(response, ..) => response.into_body().to_vec(),
        }
    }

    #[tokio::test]
    async fn one_connection_serves_direct_and_forwarded_requests_and_answers_of_any_kind() {
        const SHORT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1";
        const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n";
        let (backend, serving) = server(&[SHORT, SHORT, CHUNKED, SHORT]).await;
        for (number, direct, wanted) in [(1, true, "1"), (2, true, "1"), (3, false, "2"), (4, false, "1")] {
            let Ok((reply, connection)) = backend.ask(Box::new(question(number))).await else {
                panic!("no answer to {number}")
            };
            assert_eq!(matches!(reply, Reply::Whole(_)), direct, "{number}");
            assert_eq!(text(reply).await, wanted.as_bytes());
            backend.keep(connection);
        }
        let requests = serving.await.expect("requests");
        let first: Vec<&str> = requests.iter().filter_map(|request| request.lines().next()).collect();
        assert_eq!(first, ["POST /1 HTTP/1.1", "POST /2 HTTP/1.1", "POST /3 HTTP/1.1", "POST /4 HTTP/1.1"]);
    }

    #[tokio::test]
    async fn a_kept_connection_that_its_server_ended_is_not_used() {
        let (backend, serving) = server(&["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]).await;
        let Ok((_, connection)) = backend.ask(Box::new(question(1))).await else { panic!("no answer") };
        serving.await.expect("requests");
        let Way::Direct(tcp) = &connection.way else { panic!("a direct connection") };
        tcp.readable().await.expect("an end");
        assert!(connection.is_closed());
        backend.keep(connection);
        assert!(backend.take_idle().is_none());
    }
}
