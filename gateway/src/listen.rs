//! Listeners: TCP, TLS, HTTP/1.1 and HTTP/2 on one port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::backend::prepare;
use crate::flow::{Carrier, Streams, ToClient};
use crate::gate::Gate;
use crate::http;
use crate::io::{Stream, Watched, read_more};
use crate::metrics::Limit;
use crate::visit::{Client, Ends};
use crate::web_transport;

/// Connections that the kernel keeps for us to accept.
const BACKLOG: u32 = 4096;
/// What the kernel takes for a client beyond what is under way to it. Without a bound it takes up to 4 MB from a hub for a
/// client that does not read (rule F3): what is under way is not bounded by this, so that nobody gets anything later.
const UNSENT_BYTES: u32 = 128 * 1024;
/// Pause when accepting fails for want of descriptors, so that it does not spin (rule F1).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The system's, and the process's, descriptors are used up.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
/// What a request's first line may take beside its headers.
const REQUEST_LINE_BYTES: usize = 16 * 1024;
/// What one HTTP/2 stream holds of an answer before its window opens.
const HTTP2_SEND_BYTES: usize = 64 * 1024;
/// Streams reset by the client before we have looked at them, and streams reset for the client's errors, after which an
/// HTTP/2 connection ends (rule F3: rapid reset).
const HTTP2_RESETS_MAX: usize = 20;
const HTTP2_ERRORS_MAX: usize = 100;
/// How HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of it that no HTTP/1.1 request begins with.
const PREFACE_TOLD_BYTES: usize = 4;

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Where.
    pub(crate) address: SocketAddr,
    /// What it serves TLS with; replaced by a reload.
    pub(crate) tls: Arc<ArcSwapOption<ServerConfig>>,
    listener: TcpListener,
    handshakes: Arc<Handshakes>,
    http2: bool,
    web_transport: Option<Arc<web_transport::Listener>>,
}

impl Bound {
    /// Binds an address.
    ///
    /// # Errors
    /// The system's, an address in use above all.
    pub(crate) fn bind(
        address: SocketAddr,
        http2: bool,
        tls: Option<Arc<ServerConfig>>,
        keep_alive: Duration,
    ) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        // Accepted sockets inherit all of these.
        prepare(&socket, keep_alive);
        bound_unsent(&socket);
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let tls = Arc::new(ArcSwapOption::new(tls));
        Ok(Self { address, tls, listener, handshakes: Arc::default(), http2, web_transport: None })
    }

    /// Tells its clients of WebTransport.
    pub(crate) fn with_web_transport(mut self, listener: Option<Arc<web_transport::Listener>>) -> Self {
        self.web_transport = listener;
        self
    }

    /// Accepts until told to stop.
    pub(crate) async fn serve(self, gate: Arc<Gate>, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // A connection that was reset in the queue is no reason to wait.
                    if error.kind() != io::ErrorKind::ConnectionAborted {
                        if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) {
                            gate.metrics.limit_reached(Limit::Descriptors);
                        }
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            };
            let limit = gate.live.load().config.limits.connections_max;
            if gate.tcp_connections.load(Relaxed) + gate.links.len() >= limit {
                tracing::warn!(limit, "limits.connections_max is reached: a connection is refused");
                gate.metrics.limit_reached(Limit::Connections);
                continue;
            }
            let connection = Connection {
                counted: Counted::new(Arc::clone(&gate)),
                peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
                tls: self.tls.load_full(),
                handshakes: Arc::clone(&self.handshakes),
                http2: self.http2,
                web_transport: self.web_transport.clone(),
            };
            tokio::spawn(connection.serve(tcp));
        }
    }
}

fn bound_unsent(socket: &TcpSocket) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::debug!(%error, "cannot bound what the kernel takes for clients that do not read");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _unbounded = (socket, UNSENT_BYTES);
}

/// Counts a connection as long as it is HTTP; a relay counts itself.
pub(crate) struct Counted(Arc<Gate>);

impl Counted {
    /// One more.
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        gate.tcp_connections.fetch_add(1, Relaxed);
        Self(gate)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tcp_connections.fetch_sub(1, Relaxed);
    }
}

/// Handshakes in progress at one listener.
#[derive(Debug, Default)]
pub(crate) struct Handshakes(AtomicUsize);

/// One handshake in progress.
pub(crate) struct Handshake(Arc<Handshakes>);

impl Handshakes {
    /// Counts one more, unless there are as many as there may be.
    pub(crate) fn enter(self: &Arc<Self>, limit: usize) -> Option<Handshake> {
        let handshake = Handshake(Arc::clone(self));
        (self.0.fetch_add(1, Relaxed) < limit).then_some(handshake)
    }
}

impl Handshakes {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

struct Connection {
    counted: Counted,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    handshakes: Arc<Handshakes>,
    http2: bool,
    web_transport: Option<Arc<web_transport::Listener>>,
}

impl Connection {
    async fn serve(self, mut tcp: TcpStream) {
        let mut ahead = Vec::new();
        let gate = Arc::clone(&self.counted.0);
        let live = gate.live.load_full();
        let timeouts = &live.config.timeouts;
        let secure = self.tls.is_some();
        let client = Arc::new(Client::new(self.peer, secure, self.web_transport.clone()));
        let _ends = Ends(Arc::clone(&client));
        let (stream, is_http2) = match &self.tls {
            Some(config) => {
                let limit = live.config.limits.tls_handshakes_max;
                let Some(_counted) = self.handshakes.enter(limit) else {
                    gate.metrics.limit_reached(Limit::TlsHandshakes);
                    return tracing::warn!(limit, "limits.tls_handshakes_max is reached: a connection is refused");
                };
                let accepting = Box::pin(TlsAcceptor::from(Arc::clone(config)).accept(tcp));
                match tokio::time::timeout(timeouts.tls_handshake_timeout, accepting).await {
                    Ok(Ok(tls)) => {
                        let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
                        (Stream::Tls(Box::new(tls.into())), is_http2)
                    }
                    Ok(Err(error)) => return tracing::debug!(peer = %self.peer, %error, "a TLS handshake failed"),
                    Err(_) => return tracing::debug!(peer = %self.peer, "a TLS handshake took too long"),
                }
            }
            None => match tokio::time::timeout(timeouts.first_byte_timeout, first_bytes(&mut tcp)).await {
                Ok(Ok(first)) => {
                    let is_http2 = begins_http2(&first);
                    ahead = first;
                    (Stream::Tcp(tcp), is_http2 && self.http2)
                }
                Ok(Err(_)) => return,
                Err(_) => return tracing::debug!(peer = %self.peer, "a connection said nothing"),
            },
        };
        let stream = Watched::new(stream, timeouts.send_timeout, Some(Arc::clone(&client))).with_ahead(ahead);
        let result = if is_http2 {
            Box::pin(serve_http2(gate, client, stream)).await
        } else {
            Box::pin(serve_http1(gate, client, stream)).await
        };
        if let Err(error) = result {
            tracing::debug!(peer = %self.peer, %error, "a client connection ended");
        }
    }
}

/// Reads the first bytes: enough to tell HTTP/2 from HTTP/1.1, mostly a whole request. HTTP gets them back.
async fn first_bytes(tcp: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    loop {
        if read_more(tcp, &mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Up to three letters of a POST or PUT look the same: wait for more.
        if first.len() >= PREFACE_TOLD_BYTES || !begins_http2(&first) {
            return Ok(first);
        }
    }
}

fn begins_http2(first: &[u8]) -> bool {
    first.iter().zip(PREFACE).all(|(have, want)| have == want)
}

async fn serve_http1(gate: Arc<Gate>, client: Arc<Client>, stream: Watched) -> hyper::Result<()> {
    let live = gate.live.load_full();
    let (limits, timeouts) = (&live.config.limits, &live.config.timeouts);
    let carrier = Carrier::new();
    let stream = TokioIo::new(stream.with_headers_timeout(Arc::clone(&carrier), timeouts.headers_timeout));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.http_idle_timeout)
        .max_headers(limits.headers_max)
        .max_header_size(limits.header_bytes_max)
        // Also what HTTP holds of an answer that is not read, so no more than a request needs.
        .max_buf_size(limits.header_bytes_max.saturating_add(REQUEST_LINE_BYTES));
    let service = service_fn(move |request| {
        carrier.came();
        let (gate, client, carrier) = (Arc::clone(&gate), Arc::clone(&client), Arc::clone(&carrier));
        async move {
            let clock = Arc::clone(&gate.clock);
            let answer = http::serve(gate, client, request).await;
            Ok::<_, std::convert::Infallible>(ToClient::over_http1(answer, carrier, &clock))
        }
    });
    builder.serve_connection(stream, service).with_upgrades().await
}

async fn serve_http2(gate: Arc<Gate>, client: Arc<Client>, stream: Watched) -> hyper::Result<()> {
    let live = gate.live.load_full();
    let (limits, timeouts) = (&live.config.limits, &live.config.timeouts);
    let streams = u32::try_from(limits.http2_streams_max).unwrap_or(u32::MAX);
    let header_bytes = u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX);
    let running = Streams::new(Arc::clone(&gate.clock), timeouts.send_timeout);
    let mut builder = http2::Builder::new(running.clone());
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(streams)
        .max_header_list_size(header_bytes)
        .max_send_buf_size(HTTP2_SEND_BYTES)
        .max_pending_accept_reset_streams(HTTP2_RESETS_MAX)
        .max_local_error_reset_streams(HTTP2_ERRORS_MAX)
        .keep_alive_interval(timeouts.http2_ping_interval)
        .keep_alive_timeout(timeouts.http2_ping_timeout);
    let service = service_fn(move |request| {
        let (gate, client) = (Arc::clone(&gate), Arc::clone(&client));
        async move { Ok::<_, std::convert::Infallible>(ToClient::over_http2(http::serve(gate, client, request).await)) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = connection => ended,
        () = idle(&running, timeouts.headers_timeout, timeouts.http_idle_timeout) => Ok(()),
    }
}

/// Waits until an HTTP/2 connection has had no stream for too long: from its start as long as headers may take, later
/// as long as any connection may stay idle.
async fn idle(streams: &Streams, first: Duration, later: Duration) {
    let (mut known, mut since) = (0, Instant::now());
    loop {
        let (live, begun) = streams.count();
        if live > 0 || begun != known {
            (known, since) = (begun, Instant::now());
        }
        let until = since + if begun == 0 { first } else { later };
        if Instant::now() >= until {
            return;
        }
        // Streams that come and go meanwhile show in the count, so the time is right to the second.
        tokio::time::sleep_until(until.min(Instant::now() + Duration::from_secs(1))).await;
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn er_f3_the_kernel_takes_little_for_clients_that_do_not_read() {
        let bound = Bound::bind(([127, 0, 0, 1], 0).into(), true, None, Duration::from_secs(60)).unwrap();
        let connecting = TcpStream::connect(bound.address);
        let (_client, accepted) = tokio::try_join!(connecting, bound.listener.accept()).unwrap();
        assert_eq!(socket2::SockRef::from(&accepted.0).tcp_notsent_lowat().unwrap(), UNSENT_BYTES);
    }
}
