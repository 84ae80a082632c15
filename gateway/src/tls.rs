//! TLS: certificates of listeners, chosen by name; verification of backends.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio_rustls::TlsConnector;

use crate::backend::TlsClient;
use crate::config::{CertificateFiles, Listener, Verification};

/// Why TLS cannot be set up. Names the file and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A PEM file cannot be read.
    #[error("{}: {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A server's name cannot be verified.
    #[error("'{0}' is no name that a certificate can have")]
    Name(String),
    /// QUIC cannot be served with this.
    #[error("QUIC: {0}")]
    Quic(String),
    /// The library refused.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn bad(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::File { path: path.to_owned(), problem: problem.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let file = File::open(path).map_err(|error| bad(path, error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(BufReader::new(file)).collect();
    let found = found.map_err(|error| bad(path, error))?;
    if found.is_empty() { Err(bad(path, "holds no PEM certificate")) } else { Ok(found) }
}

/// What a listener serves TLS with; `None` for clear text.
///
/// # Errors
/// Files that cannot be read, or a key that does not belong to its certificate.
pub(crate) fn server(listener: &Listener) -> Result<Option<Arc<ServerConfig>>, Error> {
    if listener.certificates.is_empty() {
        return Ok(None);
    }
    let keys = listener.certificates.iter().map(certified).collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(keys)));
    if listener.http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Some(Arc::new(config)))
}

/// What WebTransport is served with: TLS 1.3 and HTTP/3 alone, no early data, no tickets (rule H5).
///
/// # Errors
/// As [`server`].
pub(crate) fn quic(files: &[CertificateFiles]) -> Result<(ServerConfig, Certificates), Error> {
    let keys = files.iter().map(certified).collect::<Result<Vec<_>, _>>()?;
    let certificates = Certificates(Arc::new(ByName(keys)));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&certificates.0) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols.push(b"h3".to_vec());
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok((config, certificates))
}

/// The certificates of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Certificates(Arc<ByName>);

impl Certificates {
    /// The certificate that is served to who asks for `name`.
    pub(crate) fn served_to(&self, name: Option<&str>) -> Option<CertificateDer<'static>> {
        let key = self.0.choose(name)?;
        key.end_entity_cert().ok().map(|certificate| certificate.clone().into_owned())
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &CertificateDer<'_>> {
        self.0.0.iter().filter_map(|(_, key)| key.end_entity_cert().ok())
    }
}

fn certified(files: &CertificateFiles) -> Result<(Vec<String>, Arc<CertifiedKey>), Error> {
    let chain = certificates(&files.certificate_file)?;
    let key = PrivateKeyDer::from_pem_file(&files.key_file).map_err(|error| bad(&files.key_file, error))?;
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| bad(&files.key_file, error))?;
    let names = key.end_entity_cert().ok().map(names).unwrap_or_default();
    Ok((names, Arc::new(key)))
}

/// The DNS names of a certificate, read from its subject alternative names.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    parsed.valid_dns_names().map(str::to_ascii_lowercase).collect()
}

/// Chooses a certificate by the name that the client asks for; the first one is the default (rule G3).
#[derive(Debug)]
struct ByName(Vec<(Vec<String>, Arc<CertifiedKey>)>);

impl ByName {
    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let asked = name.map(str::to_ascii_lowercase);
        let fits = |name: &String| asked.as_ref().is_some_and(|asked| matches(name, asked));
        let chosen = self.0.iter().find(|(names, _)| names.iter().any(fits)).or_else(|| self.0.first());
        chosen.map(|(_, key)| Arc::clone(key))
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(beneath) => name.split_once('.').is_some_and(|(_, rest)| rest == beneath),
        None => pattern == name,
    }
}

/// How a pool's `https` servers are spoken to (rule D7).
///
/// # Errors
/// An authority file that cannot be read, or a name that cannot be verified.
pub(crate) fn client(verification: &Verification, name: &str) -> Result<TlsClient, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = if verification.insecure_skip_verify {
        let algorithms = provider().signature_verification_algorithms;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms))).with_no_client_auth()
    } else {
        builder.with_root_certificates(roots(verification.ca_file.as_deref())?).with_no_client_auth()
    };
    config.alpn_protocols.push(b"http/1.1".to_vec());
    let server_name = ServerName::try_from(name.to_owned()).map_err(|_| Error::Name(name.to_owned()))?;
    Ok(TlsClient { connector: TlsConnector::from(Arc::new(config)), server_name })
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| bad(path, error))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "a system certificate cannot be read");
            }
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                tracing::warn!("the system has no root certificates: set `ca_file` for https backends");
            }
        }
    }
    Ok(roots)
}

/// Accepts every certificate: `insecure_skip_verify`.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
