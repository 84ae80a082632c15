//! What a connection is built from, with the official clients' defaults.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use hubgate_protocol::{HubProtocol, Secret, Transport, limits};

use crate::connection::HubConnection;
use crate::error::ClientError;
use crate::io::is_secure;
use crate::reconnect::{self, ReconnectPolicy, RetryContext};

/// Gives the access token; none for no token.
pub(crate) type AccessToken = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Option<Secret>> + Send>> + Send + Sync>;

/// Everything that is fixed before the start.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) url: Uri,
    pub(crate) protocol: HubProtocol,
    pub(crate) transports: Vec<Transport>,
    pub(crate) skip_negotiation: bool,
    pub(crate) negotiate_version: i32,
    pub(crate) headers: HeaderMap,
    pub(crate) access_token: Option<AccessToken>,
    pub(crate) reconnect: Option<ReconnectPolicy>,
    pub(crate) keep_alive_interval: Duration,
    pub(crate) server_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) message_bytes_max: usize,
    pub(crate) stream_items_max: usize,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

/// Builds a [`HubConnection`].
pub struct HubConnectionBuilder {
    url: String,
    headers: Vec<(String, String)>,
    config: Config,
}

impl std::fmt::Debug for HubConnectionBuilder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HubConnectionBuilder").field("protocol", &self.config.protocol).finish_non_exhaustive()
    }
}

impl HubConnectionBuilder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            headers: Vec::new(),
            config: Config {
                url: Uri::default(),
                protocol: HubProtocol::Json,
                transports: Transport::ALL.to_vec(),
                skip_negotiation: false,
                negotiate_version: 1,
                headers: HeaderMap::new(),
                access_token: None,
                reconnect: None,
                keep_alive_interval: limits::KEEP_ALIVE_INTERVAL_DEFAULT,
                server_timeout: limits::TIMEOUT_DEFAULT,
                handshake_timeout: limits::HANDSHAKE_TIMEOUT_DEFAULT,
                message_bytes_max: 16 * 1024 * 1024,
                stream_items_max: 256,
                tls: None,
            },
        }
    }

    /// Sets the hub protocol; JSON.
    #[must_use]
    pub fn protocol(mut self, protocol: HubProtocol) -> Self {
        self.config.protocol = protocol;
        self
    }

    /// Allows one transport only; all three of ASP.NET Core.
    #[must_use]
    pub fn transport(self, transport: Transport) -> Self {
        self.transports(&[transport])
    }

    /// Allows these transports only; they are tried in the server's order. [`Transport::WebTransport`] is asked for where it is
    /// among them; a gateway that has it names it first, and where UDP does not pass, the next is tried after 5 seconds.
    #[must_use]
    pub fn transports(mut self, transports: &[Transport]) -> Self {
        self.config.transports = transports.to_vec();
        self
    }

    /// Connects without negotiate; needs WebSockets as the one transport (signalr-wire §3.6).
    #[must_use]
    pub fn skip_negotiation(mut self) -> Self {
        self.config.skip_negotiation = true;
        self
    }

    /// Sets the negotiate version that is asked for; 1. With 0 the parameter is left out, as old clients do.
    #[must_use]
    pub fn negotiate_version(mut self, version: i32) -> Self {
        self.config.negotiate_version = version;
        self
    }

    /// Adds a header to every request.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets where the access token comes from: asked at every negotiate, and at the first request where there is none.
    #[must_use]
    pub fn access_token<F, R>(mut self, factory: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Option<String>> + Send + 'static,
    {
        self.config.access_token = Some(Arc::new(move || {
            let token = factory();
            Box::pin(async move { token.await.filter(|token| !token.is_empty()).map(Secret::new) })
        }));
        self
    }

    /// Reconnects after 0, 2, 10 and 30 seconds; off.
    #[must_use]
    pub fn automatic_reconnect(mut self) -> Self {
        self.config.reconnect = Some(reconnect::default_policy());
        self
    }

    /// Reconnects after these delays.
    #[must_use]
    pub fn reconnect_delays(mut self, delays: &[Duration]) -> Self {
        self.config.reconnect = Some(reconnect::delays(delays));
        self
    }

    /// Reconnects as `policy` says: the delay before the next attempt, or `None` to give up.
    #[must_use]
    pub fn reconnect_policy(
        mut self,
        policy: impl Fn(RetryContext) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.config.reconnect = Some(Arc::new(policy));
        self
    }

    /// Sets the time from the last sending to a Ping; 15 s. `Duration::MAX` switches pings off but for the first.
    #[must_use]
    pub fn keep_alive_interval(mut self, interval: Duration) -> Self {
        self.config.keep_alive_interval = interval;
        self
    }

    /// Sets the silence after which the server is given up; 30 s.
    #[must_use]
    pub fn server_timeout(mut self, timeout: Duration) -> Self {
        self.config.server_timeout = timeout;
        self
    }

    /// Sets the time for the handshake response; 15 s.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.config.handshake_timeout = timeout;
        self
    }

    /// Sets the largest message and event that is read, in bytes; 16 MiB.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.config.message_bytes_max = bytes;
        self
    }

    /// Sets how many items of a stream may wait for the application before the connection is no longer read; 256.
    #[must_use]
    pub fn stream_items_max(mut self, items: usize) -> Self {
        self.config.stream_items_max = items.max(1);
        self
    }

    /// Sets the TLS configuration; the system's authorities. For WebTransport its ALPN protocols do not count, and a
    /// certificate whose hash the negotiate answer holds is accepted without it.
    #[must_use]
    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.config.tls = Some(config);
        self
    }

    /// The connection, not started.
    ///
    /// # Errors
    /// When the URL or a header is not one, negotiation is skipped with other transports, or `https` finds no authorities.
    pub fn build(mut self) -> Result<HubConnection, ClientError> {
        self.config.url = parse_url(&self.url)?;
        for (name, value) in &self.headers {
            let parsed = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
            let (parsed_name, parsed_value) = parsed.ok_or_else(|| ClientError::Header(name.clone()))?;
            self.config.headers.insert(parsed_name, parsed_value);
        }
        if self.config.skip_negotiation && self.config.transports != [Transport::WebSockets] {
            return Err(ClientError::SkipNegotiation);
        }
        if is_secure(&self.config.url) && self.config.tls.is_none() {
            self.config.tls = Some(system_authorities()?);
        }
        Ok(HubConnection::new(self.config))
    }
}

/// Reads an absolute URL; `ws` and `wss` become `http` and `https`.
pub(crate) fn parse_url(url: &str) -> Result<Uri, ClientError> {
    let not_one = || ClientError::Url(url.to_owned());
    let (scheme, rest) = url.split_once("://").ok_or_else(not_one)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => "http",
        "https" | "wss" => "https",
        _ => return Err(not_one()),
    };
    // A fragment is never sent.
    let rest = rest.split('#').next().unwrap_or_default();
    format!("{scheme}://{rest}").parse::<Uri>().map_err(|_| not_one())
}

pub(crate) fn system_authorities() -> Result<Arc<rustls::ClientConfig>, ClientError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(ClientError::NoAuthorities);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| ClientError::NoAuthorities)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_absolute() {
        assert_eq!(parse_url("WS://h:1/hub?a=1#f").unwrap().to_string(), "http://h:1/hub?a=1");
        assert_eq!(parse_url("wss://h/hub").unwrap().scheme_str(), Some("https"));
        for bad in ["/hub", "ftp://h/", "http://", "http://a b/"] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn skipping_negotiation_needs_web_sockets_alone() {
        let builder = HubConnectionBuilder::new("http://h/hub").skip_negotiation();
        assert!(matches!(builder.build(), Err(ClientError::SkipNegotiation)));
    }
}
