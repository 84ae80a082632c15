//! The UDP socket, its QUIC endpoint, and what bounds newcomers (rule H5).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio_util::sync::CancellationToken;

use super::session::H3_NO_ERROR;
use super::{Listener, arrival, certificate};
use crate::config::{Config, Limits, Timeouts, WebTransport};
use crate::gate::Gate;
use crate::listen::{Counted, Handshakes};
use crate::metrics::Limit;
use crate::tls::{self, Certificates};

/// Streams that a client may have open: the CONNECT's and the session's one, and HTTP/3's own (control, two of QPACK, one that
/// means nothing).
const CLIENT_BIDI_STREAMS: u32 = 2;
const CLIENT_UNI_STREAMS: u32 = 4;
/// What is held of datagrams, which nobody reads: one.
const DATAGRAM_BYTES: usize = 1350;
/// Newcomers that we have not looked at yet, the bytes of one, and of all.
const INCOMING_MAX: usize = 1_024;
const INCOMING_BYTES: u64 = 64 << 10;
const INCOMING_BYTES_TOTAL: u64 = 4 << 20;
/// A live client is asked for a sign of life that often within the idle time-out.
const PINGS_PER_IDLE_TIMEOUT: u32 = 3;

/// A listener's WebTransport, bound.
#[derive(Debug)]
pub(crate) struct Bound {
    endpoint: Endpoint,
    handshakes: Arc<Handshakes>,
    /// What clients of the listener are told.
    pub(crate) listener: Arc<Listener>,
    /// Where.
    pub(crate) address: SocketAddr,
}

/// The part of an endpoint that a reload and the end of the gateway need.
#[derive(Debug)]
pub(crate) struct OpenEndpoint {
    endpoint: Endpoint,
    listener: Arc<Listener>,
    /// Where.
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// Binds `address`.
    ///
    /// # Errors
    /// The system's, an address in use above all; settings that the library refuses.
    pub(crate) fn bind(
        configured: &WebTransport,
        address: SocketAddr,
        config: &Config,
        (server, certificates): (rustls::ServerConfig, Certificates),
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        let wanted = config.limits.udp_receive_buffer_bytes;
        socket.set_recv_buffer_size(wanted)?;
        // What is under way to clients is bounded by `quic_send_bytes_max` each; this only lets bursts out.
        socket.set_send_buffer_size(wanted)?;
        // Linux tells twice what it took.
        let given = socket.recv_buffer_size()? / if cfg!(target_os = "linux") { 2 } else { 1 };
        if given < wanted {
            tracing::warn!(
                given,
                wanted,
                "limits.udp_receive_buffer_bytes: the system gives less, so that bursts of WebTransport's datagrams may be \
                 dropped (Linux: raise net.core.rmem_max)"
            );
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let server = quic_server(server, &config.limits, &config.timeouts)?;
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(server), socket.into(), Arc::new(TokioRuntime))?;
        let address = endpoint.local_addr()?;
        complain(&certificates);
        tracing::info!(%address, "WebTransport is served (UDP)");
        let listener = Arc::new(Listener::new(configured, address, certificates));
        Ok(Self { endpoint, handshakes: Arc::default(), listener, address })
    }

    /// What a reload and the end need of it.
    pub(crate) fn open_endpoint(&self) -> OpenEndpoint {
        OpenEndpoint { endpoint: self.endpoint.clone(), listener: Arc::clone(&self.listener), address: self.address }
    }

    /// Accepts until told to stop; sessions go on.
    pub(crate) async fn serve(self, gate: Arc<Gate>, stop: CancellationToken) {
        loop {
            let incoming = tokio::select! {
                () = stop.cancelled() => {
                    self.endpoint.set_server_config(None);
                    return;
                }
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { return };
            self.admit(&gate, incoming);
        }
    }

    /// Begins a handshake, unless there are as many as there may be.
    fn admit(&self, gate: &Arc<Gate>, incoming: Incoming) {
        use std::sync::atomic::Ordering::Relaxed;
        let limits = &gate.live.load().config.limits;
        let connections = gate.tcp_connections.load(Relaxed) + gate.links.len();
        if connections >= limits.connections_max {
            tracing::warn!(limit = limits.connections_max, "limits.connections_max is reached: a session is refused");
            gate.metrics.limit_reached(Limit::Connections);
            return incoming.refuse();
        }
        let unproven = !incoming.remote_address_validated() && incoming.may_retry();
        if unproven && self.handshakes.count() >= limits.quic_retry_above {
            // An address that is not the sender's own costs us one datagram and no memory.
            if let Err(error) = incoming.retry() {
                tracing::debug!(%error, "a newcomer cannot be asked to show its address");
            }
            return;
        }
        let Some(handshake) = self.handshakes.enter(limits.quic_handshakes_max) else {
            tracing::warn!(
                limit = limits.quic_handshakes_max,
                "limits.quic_handshakes_max is reached: a session is refused"
            );
            gate.metrics.limit_reached(Limit::QuicHandshakes);
            return incoming.refuse();
        };
        let counted = Counted::new(Arc::clone(gate));
        tokio::spawn(arrival::serve(Arc::clone(gate), incoming, handshake, counted));
    }
}

impl OpenEndpoint {
    /// Takes other certificates and bounds for sessions to come.
    ///
    /// # Errors
    /// Settings that the library refuses; the old ones stay.
    pub(crate) fn replace(
        &self,
        config: &Config,
        (server, certificates): (rustls::ServerConfig, Certificates),
    ) -> io::Result<()> {
        let server = quic_server(server, &config.limits, &config.timeouts)?;
        complain(&certificates);
        self.endpoint.set_server_config(Some(server));
        self.listener.certificates.store(Arc::new(certificates));
        Ok(())
    }

    /// Ends what is left, and waits until clients have been told.
    pub(crate) async fn close(&self) {
        self.endpoint.close(H3_NO_ERROR, b"");
        self.endpoint.wait_idle().await;
    }
}

/// Tells an operator of certificates that browsers will not accept.
fn complain(certificates: &Certificates) {
    for certificate in certificates.all() {
        if let Some(complaint) = certificate::complaint(certificate, SystemTime::now()) {
            tracing::warn!("browsers will not accept a certificate of WebTransport: {complaint}");
        }
    }
}

fn quic_server(tls: rustls::ServerConfig, limits: &Limits, timeouts: &Timeouts) -> io::Result<ServerConfig> {
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(Arc::new(transport(limits, timeouts)?));
    // Newcomers are taken or refused at once; what waits meanwhile is little.
    server
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
    Ok(server)
}

fn transport(limits: &Limits, timeouts: &Timeouts) -> io::Result<TransportConfig> {
    let bytes = |bytes: usize| VarInt::try_from(bytes as u64).map_err(io::Error::other);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(CLIENT_BIDI_STREAMS.into())
        .max_concurrent_uni_streams(CLIENT_UNI_STREAMS.into())
        .stream_receive_window(bytes(limits.quic_receive_bytes_max)?)
        // Beside the session's stream: the CONNECT and HTTP/3's own.
        .receive_window(bytes(limits.quic_receive_bytes_max + (32 << 10))?)
        .send_window(limits.quic_send_bytes_max as u64)
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES))
        .datagram_send_buffer_size(0)
        .max_idle_timeout(Some(timeouts.quic_idle_timeout.try_into().map_err(io::Error::other)?))
        .keep_alive_interval(Some(timeouts.quic_idle_timeout / (PINGS_PER_IDLE_TIMEOUT + 1)));
    Ok(transport)
}

/// Makes the server's part of TLS for WebTransport.
///
/// # Errors
/// As [`tls::quic`].
pub(crate) fn tls_of(configured: &WebTransport) -> Result<(rustls::ServerConfig, Certificates), tls::Error> {
    tls::quic(&configured.certificates)
}
