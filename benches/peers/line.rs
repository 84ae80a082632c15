//! What a client's bytes go over: TCP, TLS over it, or the stream of a WebTransport session; and who opens them.
//!
//! The load client and the gateway both stand on quinn here, as there is no second implementation of QUIC to load a server with from
//! one process. Certificates are not looked at: it is loopback, and what is measured comes after the handshake.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use web_transport_quinn::proto::ConnectRequest;
use web_transport_quinn::quinn::crypto::rustls::QuicClientConfig;
use web_transport_quinn::quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime};
use web_transport_quinn::{ALPN, ClientError, RecvStream, SendStream, Session};

/// Sessions of one UDP socket of the load client: so few that its receive buffer is not what overflows.
const SESSIONS_PER_SOCKET: usize = 25;
/// Bytes wished for the receive and the send buffer of each socket; the system may give less.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// The name in the handshake.
const SERVER_NAME: &str = "localhost";

/// Why a line cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no QUIC connection: {0}")]
    Connect(#[from] web_transport_quinn::quinn::ConnectError),
    #[error("the QUIC connection failed: {0}")]
    Connection(#[from] web_transport_quinn::quinn::ConnectionError),
    #[error("no session: {0}")]
    Session(#[from] Box<ClientError>),
    #[error("no stream: {0}")]
    Stream(#[from] web_transport_quinn::SessionError),
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// An open line.
#[derive(Debug)]
pub(crate) enum Line {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    WebTransport(Box<Stream>),
}

/// The stream of a session.
#[derive(Debug)]
pub(crate) struct Stream {
    session: Session,
    send: SendStream,
    receive: RecvStream,
}

impl Line {
    /// Connects over TCP.
    pub(crate) async fn tcp(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Whether messages need WebSocket frames.
    pub(crate) fn is_framed(&self) -> bool {
        !matches!(self, Self::WebTransport(_))
    }

    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Self::WebTransport(stream) => AsyncWriteExt::write_all(&mut stream.send, bytes).await,
        }
    }

    /// Appends what comes next to `inbox`; 0 at the end.
    pub(crate) async fn read(&mut self, inbox: &mut BytesMut) -> io::Result<usize> {
        self.read_buf(inbox).await
    }

    /// Ends our half of a stream; sockets end by their close frames.
    pub(crate) fn end_sending(&mut self) {
        if let Self::WebTransport(stream) = self {
            // A stream that is closed already has no end to tell.
            let _ = stream.send.finish();
        }
    }

    /// After the end of what is read: waits for the close of a session, or closes it where the server leaves that to us.
    pub(crate) async fn ended(&self) {
        if let Self::WebTransport(stream) = self {
            stream.session.close(1000, b"");
            stream.session.closed().await;
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::WebTransport(stream) => Pin::new(&mut stream.receive).poll_read(cx, buffer),
        }
    }
}

/// Opens lines over TLS and WebTransport.
#[derive(Debug)]
pub(crate) struct Dialer {
    tls: TlsConfig,
    quic: ClientConfig,
    endpoints: RefCell<Vec<Endpoint>>,
}

struct TlsConfig(Arc<rustls::ClientConfig>);

impl std::fmt::Debug for TlsConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TlsConfig")
    }
}

impl Dialer {
    /// A dialer that lives as long as the program, since targets are copied freely.
    pub(crate) fn leaked() -> Result<&'static Self, Error> {
        let tls = any_certificate(&[])?;
        let quic =
            QuicClientConfig::try_from(any_certificate(&[ALPN])?).map_err(|error| Error::Tls(error.to_string()))?;
        let quic = ClientConfig::new(Arc::new(quic));
        Ok(Box::leak(Box::new(Self { tls: TlsConfig(Arc::new(tls)), quic, endpoints: RefCell::default() })))
    }

    /// Connects over TLS.
    pub(crate) async fn tls(&self, address: SocketAddr) -> Result<Line, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|error| Error::Tls(error.to_string()))?;
        let stream = TlsConnector::from(Arc::clone(&self.tls.0)).connect(name, stream).await?;
        Ok(Line::Tls(Box::new(stream)))
    }

    /// Opens a session and its stream.
    pub(crate) async fn web_transport(&self, address: SocketAddr, path: &str, id: &str) -> Result<Line, Error> {
        let connection = self.endpoint()?.connect_with(self.quic.clone(), address, SERVER_NAME)?.await?;
        let url = format!("https://{address}{path}?id={id}");
        let request = ConnectRequest::new(url::Url::parse(&url).map_err(io::Error::other)?);
        let session = Session::connect(connection, request).await.map_err(Box::new)?;
        let (send, receive) = session.open_bi().await?;
        Ok(Line::WebTransport(Box::new(Stream { session, send, receive })))
    }

    /// An endpoint with room, each with a socket of its own.
    fn endpoint(&self) -> Result<Endpoint, Error> {
        let mut endpoints = self.endpoints.borrow_mut();
        if let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.open_connections() < SESSIONS_PER_SOCKET) {
            return Ok(endpoint.clone());
        }
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket.into(), Arc::new(TokioRuntime))?;
        endpoints.push(endpoint.clone());
        Ok(endpoint)
    }
}

fn any_certificate(alpn: &[&str]) -> Result<rustls::ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Error::Tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}

/// Takes every certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
