//! The QUIC connection below a session: addresses, certificates, limits.
//!
//! Invariant: a certificate counts as the server's only by a hash from the negotiate answer, which is as good as the connection that
//! brought it, or by the authorities that the TLS configuration trusts. 0-RTT is never used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};
use web_transport_quinn::quinn::crypto::rustls::QuicClientConfig;
use web_transport_quinn::quinn::{ClientConfig, Connection, Endpoint, TransportConfig, VarInt};
use web_transport_quinn::{ALPN, crypto};

/// Time for the QUIC handshake: where UDP is dropped, nothing else tells.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Head start of an address before the next is tried beside it (RFC 8305 §8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Keeps the mapping of a NAT box, and the connection where hub pings are rare.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Streams the server may open to us: HTTP/3's control and QPACK streams, and some it may not mean for us.
const SERVER_STREAMS_MAX: u32 = 8;
/// Datagrams are not used; the protocol wants them to be possible.
const DATAGRAM_BYTES_MAX: usize = 16 * 1024;

/// The QUIC configuration that accepts a certificate by its SHA-256 where there are `hashes`, else as `tls` says.
pub(super) fn trust(tls: Option<&Arc<rustls::ClientConfig>>, hashes: &[[u8; 32]]) -> Result<ClientConfig, String> {
    let mut config = match tls {
        Some(tls) if hashes.is_empty() => rustls::ClientConfig::clone(tls),
        _ => by_hash(hashes)?,
    };
    config.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
    let crypto = QuicClientConfig::try_from(config).map_err(|error| error.to_string())?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(SERVER_STREAMS_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES_MAX))
        .keep_alive_interval(Some(KEEP_ALIVE_INTERVAL));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Connects to the first address of `host` that answers.
pub(super) async fn connect(host: &str, port: u16, config: ClientConfig) -> Result<Connection, String> {
    let found = lookup_host((host, port)).await.map_err(|error| error.to_string())?;
    let mut addresses = found.take(ADDRESSES_MAX).collect::<Vec<_>>().into_iter();
    let mut attempts = FuturesUnordered::new();
    let racing = async {
        let mut last = format!("{host} has no address");
        loop {
            match addresses.next() {
                Some(address) => attempts.push(shake_hands(address, host, config.clone())),
                None if attempts.is_empty() => return Err(last),
                None => {}
            }
            tokio::select! {
                Some(attempt) = attempts.next() => match attempt {
                    Ok(connection) => return Ok(connection),
                    Err(error) => last = error,
                },
                () = sleep(ATTEMPT_DELAY), if addresses.len() > 0 => {}
            }
        }
    };
    let failed = || format!("no QUIC connection to UDP port {port} within {} s", CONNECT_TIMEOUT.as_secs());
    timeout(CONNECT_TIMEOUT, racing).await.unwrap_or_else(|_| Err(failed()))
}

async fn shake_hands(address: SocketAddr, host: &str, config: ClientConfig) -> Result<Connection, String> {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    // A socket of its own for each connection; it goes with it.
    let endpoint = Endpoint::client((any, 0).into()).map_err(|error| error.to_string())?;
    let connecting = endpoint.connect_with(config, address, host).map_err(|error| error.to_string())?;
    connecting.await.map_err(|error| error.to_string())
}

fn by_hash(hashes: &[[u8; 32]]) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = ByHash { provider: Arc::clone(&provider), hashes: hashes.to_vec() };
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Accepts the certificates with these SHA-256, whatever their names; that the server has the key is proved as always.
#[derive(Debug)]
struct ByHash {
    provider: Arc<CryptoProvider>,
    hashes: Vec<[u8; 32]>,
}

impl ServerCertVerifier for ByHash {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let hash = crypto::sha256(&self.provider, end_entity);
        if self.hashes.iter().any(|accepted| accepted == hash.as_ref()) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
