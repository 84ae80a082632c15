//! Connecting to a backend: TCP, then TLS where its URL says so.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::{Backend, Terms};
use crate::io::Stream;

/// How TLS to a backend is verified.
pub(crate) struct TlsClient {
    /// The connector with its roots.
    pub(crate) connector: TlsConnector,
    /// The name that the certificate must have.
    pub(crate) server_name: ServerName<'static>,
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsClient").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Why a backend could not be connected to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// TCP failed.
    #[error("TCP connect failed: {0}")]
    Tcp(#[source] io::Error),
    /// All local ports towards this backend are taken.
    #[error("no local port is left towards this backend: add addresses to `source_addresses` or more backends")]
    PortsExhausted,
    /// The process has no descriptor left for a socket.
    #[error("no descriptor is left for a socket: {0}")]
    NoSocket(#[source] io::Error),
    /// TLS failed.
    #[error("TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    /// It took longer than `backend_connect_timeout`.
    #[error("connecting took longer than `timeouts.backend_connect_timeout`")]
    TimedOut,
}

impl Backend {
    /// Opens a connection and notes whether the backend could be reached.
    ///
    /// # Errors
    /// A [`ConnectError`], which counts against the backend (rule B10) unless ports or descriptors are used up.
    pub(crate) async fn connect(&self) -> Result<Stream, ConnectError> {
        let attempt = async {
            let tcp = tcp_connect(self.address, &self.terms).await?;
            match &self.origin.tls {
                None => Ok(Stream::Tcp(tcp)),
                Some(tls) => tls_connect(tls, tcp).await,
            }
        };
        let result = match tokio::time::timeout(self.terms.connect_timeout, attempt).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::TimedOut),
        };
        match &result {
            Ok(_) => self.reached(),
            Err(ConnectError::PortsExhausted) => {
                self.metrics.ports_exhausted.inc();
                tracing::error!(backend = %self.address, "{}", ConnectError::PortsExhausted)
            }
            // Ours is the fault, not the backend's.
            Err(error @ ConnectError::NoSocket(_)) => {
                tracing::error!(backend = %self.address, %error, "cannot connect")
            }
            Err(error) => self.unreachable(error),
        }
        result
    }
}

async fn tcp_connect(address: SocketAddr, terms: &Terms) -> Result<TcpStream, ConnectError> {
    let socket =
        if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(ConnectError::NoSocket)?;
    if let Some(source) = next_source(address, &terms.source_addresses) {
        socket.bind(SocketAddr::new(source, 0)).map_err(|error| match error.kind() {
            // With an address of its own a socket gets its port here.
            io::ErrorKind::AddrInUse => ConnectError::PortsExhausted,
            _ => ConnectError::Tcp(error),
        })?;
    }
    let tcp = socket.connect(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => ConnectError::PortsExhausted,
        _ => ConnectError::Tcp(error),
    })?;
    prepare(&tcp, terms.tcp_keep_alive);
    Ok(tcp)
}

/// Sets what every TCP connection of ours has: no delay, keep-alive.
pub(crate) fn prepare(tcp: &impl AsFd, keep_alive: std::time::Duration) {
    let reference = socket2::SockRef::from(tcp);
    let keep_alive = socket2::TcpKeepalive::new().with_time(keep_alive).with_interval(keep_alive / 4);
    if let Err(error) = reference.set_tcp_nodelay(true).and_then(|()| reference.set_tcp_keepalive(&keep_alive)) {
        tracing::debug!(%error, "cannot set TCP options");
    }
}

fn next_source(towards: SocketAddr, sources: &[IpAddr]) -> Option<IpAddr> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let fitting: Vec<_> = sources.iter().filter(|source| source.is_ipv4() == towards.is_ipv4()).collect();
    let at = TURN.fetch_add(1, Relaxed).checked_rem(fitting.len())?;
    fitting.get(at).map(|source| **source)
}

async fn tls_connect(tls: &Arc<TlsClient>, tcp: TcpStream) -> Result<Stream, ConnectError> {
    let stream = tls.connector.connect(tls.server_name.clone(), tcp).await.map_err(ConnectError::Tls)?;
    Ok(Stream::Tls(Box::new(stream.into())))
}
