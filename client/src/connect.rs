//! From a URL to a connection that has shaken hands: negotiate, choice of transport, handshake (signalr-wire §3, §6, §14).
//!
//! Invariant: every transport that is tried has a negotiate of its own; what a failed attempt left behind is the server's to forget.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use hubgate_protocol::limits::REDIRECTS_MAX;
use hubgate_protocol::negotiate::{NegotiateResponse, NegotiatedConnection, WebTransportOffer};
use hubgate_protocol::session::{ClientConfig, End, Output, Session};
use hubgate_protocol::{Secret, Transport as Kind, query};
use tokio::time::Instant;

use crate::builder::{Config, parse_url};
use crate::error::ClientError;
use crate::http_client::HttpClient;
use crate::transport::long_polling::LongPolling;
use crate::transport::server_sent_events::ServerSentEvents;
use crate::transport::web_sockets::WebSockets;
use crate::transport::web_transport::WebTransport;
use crate::transport::{Event, Transport};

/// Letters of a refusing body that an error text shows.
const BODY_LETTERS_MAX: usize = 200;

/// A connection that is up.
pub(crate) struct Live {
    pub(crate) transport: Transport,
    pub(crate) session: Session,
    pub(crate) connection_id: Option<String>,
    pub(crate) kind: Kind,
    /// Origin of the session's time.
    pub(crate) origin: Instant,
}

impl Live {
    /// The session's time.
    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// Where negotiation led.
struct Negotiated {
    url: Uri,
    token: Option<Secret>,
    answer: NegotiatedConnection,
}

/// Connects by the first transport that works.
pub(crate) async fn connect(config: &Config) -> Result<Live, ClientError> {
    let http = Arc::new(HttpClient::new(config.tls.clone()));
    if config.skip_negotiation {
        let token = fetch_token(config).await;
        let headers = headers(config, token.as_ref())?;
        return open(config, &http, Kind::WebSockets, &config.url, &headers, None).await;
    }
    let mut negotiated = Some(negotiate(config, &http).await?);
    let offered: Vec<Kind> = negotiated.iter().flat_map(|first| offers(config, &first.answer)).collect();
    if offered.is_empty() {
        return Err(ClientError::NoTransport);
    }
    let mut failures = Vec::new();
    for kind in &offered {
        let attempt = match negotiated.take() {
            Some(first) => first,
            None => negotiate(config, &http).await?,
        };
        match open_negotiated(config, &http, *kind, &attempt).await {
            Ok(live) => return Ok(live),
            // A server that refuses the handshake would do so on every transport.
            Err(error @ (ClientError::HandshakeRefused(_) | ClientError::HandshakeLost)) => return Err(error),
            Err(error) if offered.len() == 1 => return Err(error),
            Err(error) => failures.push(format!("{kind} failed: {error}")),
        }
    }
    Err(ClientError::Transports(failures.join(" ")))
}

/// The transports to try: what the server offers, in its order, if allowed here and fit for the protocol.
fn offers(config: &Config, answer: &NegotiatedConnection) -> Vec<Kind> {
    let format = config.protocol.transfer_format();
    let offered = answer.available_transports.iter().filter(|offered| offered.carries(format));
    let known = offered.filter_map(|offered| Kind::from_name(&offered.transport));
    known.filter(|kind| config.transports.contains(kind) && kind.carries(format)).collect()
}

async fn open_negotiated(
    config: &Config,
    http: &Arc<HttpClient>,
    kind: Kind,
    negotiated: &Negotiated,
) -> Result<Live, ClientError> {
    let url = with_query(&negotiated.url, |query| query::with(query, "id", negotiated.answer.token()))?;
    let headers = headers(config, negotiated.token.as_ref())?;
    open(config, http, kind, &url, &headers, Some(&negotiated.answer)).await
}

async fn open(
    config: &Config,
    http: &Arc<HttpClient>,
    kind: Kind,
    url: &Uri,
    headers: &HeaderMap,
    answer: Option<&NegotiatedConnection>,
) -> Result<Live, ClientError> {
    let format = config.protocol.transfer_format();
    let largest = config.message_bytes_max;
    let transport = match kind {
        Kind::WebSockets => {
            Transport::WebSockets(Box::new(WebSockets::connect(http, url, headers, format, largest).await?))
        }
        Kind::ServerSentEvents => {
            Transport::ServerSentEvents(Box::new(ServerSentEvents::connect(http, url, headers, largest).await?))
        }
        Kind::LongPolling => Transport::LongPolling(Box::new(LongPolling::connect(http, url, headers).await?)),
        Kind::WebTransport => {
            let available = answer.iter().flat_map(|answer| &answer.available_transports);
            let offer =
                available.filter_map(WebTransportOffer::from_available).next().ok_or(ClientError::NoTransport)?;
            Transport::WebTransport(Box::new(WebTransport::connect(http, url, headers, &offer).await?))
        }
    };
    let session = ClientConfig {
        has_inherent_keep_alive: kind.has_inherent_keep_alive(),
        message_bytes_max: config.message_bytes_max,
        handshake_timeout: config.handshake_timeout,
        keep_alive_interval: config.keep_alive_interval,
        server_timeout: config.server_timeout,
        ..ClientConfig::new(config.protocol)
    };
    let session = Session::client(session, Duration::ZERO);
    let connection_id = answer.map(|answer| answer.connection_id.clone());
    shake_hands(Live { transport, session, connection_id, kind, origin: Instant::now() }).await
}

/// Drives the session until it is connected.
async fn shake_hands(mut live: Live) -> Result<Live, ClientError> {
    let mut lost = None;
    loop {
        while let Some(output) = live.session.next_output() {
            match output {
                Output::Write(bytes) => live.transport.queue(bytes),
                Output::Connected { .. } => return Ok(live),
                Output::Message(_) => {}
                Output::Ended(End::HandshakeRefused(text)) => return Err(ClientError::HandshakeRefused(text)),
                Output::Ended(End::HandshakeMalformed(error)) => {
                    return Err(ClientError::Protocol(error.to_string()));
                }
                Output::Ended(_) => return Err(lost.map_or(ClientError::HandshakeLost, ClientError::Transport)),
            }
        }
        let deadline = live.session.deadline().and_then(|due| live.origin.checked_add(due));
        let event = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, live.transport.drive(true)).await,
            None => Ok(live.transport.drive(true).await),
        };
        let now = live.now();
        match event {
            Ok(Some(Event::Received(bytes))) => live.session.receive(&bytes, now),
            Ok(Some(Event::Ended(error))) => {
                lost = error;
                live.session.input_ended(now);
            }
            Ok(None) => {}
            Err(_elapsed) => live.session.timer(now),
        }
    }
}

/// Negotiates, following redirects.
async fn negotiate(config: &Config, http: &HttpClient) -> Result<Negotiated, ClientError> {
    let (mut url, mut token) = (config.url.clone(), fetch_token(config).await);
    for _ in 0..REDIRECTS_MAX {
        match negotiate_once(config, http, &url, token.as_ref()).await? {
            NegotiateResponse::Error(error) => return Err(ClientError::NegotiateRefused(error)),
            NegotiateResponse::Redirect(redirect) => {
                url = parse_url(&redirect.url)?;
                if redirect.access_token.is_some() {
                    token = redirect.access_token;
                }
            }
            NegotiateResponse::Connection(mut answer) => {
                let token = answer.access_token.take().or(token);
                return Ok(Negotiated { url, token, answer });
            }
        }
    }
    Err(ClientError::Redirects)
}

async fn negotiate_once(
    config: &Config,
    http: &HttpClient,
    url: &Uri,
    token: Option<&Secret>,
) -> Result<NegotiateResponse, ClientError> {
    let version = config.negotiate_version;
    let asked = |query: &str, wish: &str| query::pairs(query).any(|(name, _)| name == wish);
    let target = with_query(url, |query| {
        let mut query = query.to_owned();
        if version > 0 && !asked(&query, "negotiateVersion") {
            query = query::with(&query, "negotiateVersion", &version.to_string());
        }
        // It is offered to those alone who ask for it (rule H2).
        if config.transports.contains(&Kind::WebTransport) && !asked(&query, "webTransport") {
            query = query::with(&query, "webTransport", "1");
        }
        query
    })?;
    let mut parts = target.into_parts();
    if let Some(path) = parts.path_and_query.take() {
        let query = path.query().map(|query| format!("?{query}")).unwrap_or_default();
        let negotiate = format!("{}/negotiate{query}", path.path().trim_end_matches('/'));
        parts.path_and_query = Some(negotiate.parse().map_err(|_| ClientError::Url(url.to_string()))?);
    }
    let target = Uri::from_parts(parts).map_err(|_| ClientError::Url(url.to_string()))?;
    let answer = http.request(Method::POST, &target, &headers(config, token)?, Bytes::new()).await?;
    if answer.status != 200 {
        let body = String::from_utf8_lossy(&answer.body).chars().take(BODY_LETTERS_MAX).collect();
        return Err(ClientError::NegotiateStatus { status: answer.status, body });
    }
    Ok(NegotiateResponse::from_json(&answer.body)?)
}

async fn fetch_token(config: &Config) -> Option<Secret> {
    match &config.access_token {
        Some(factory) => factory().await,
        None => None,
    }
}

fn headers(config: &Config, token: Option<&Secret>) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    headers.insert("x-requested-with", HeaderValue::from_static("XMLHttpRequest"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("hubgate-client/", env!("CARGO_PKG_VERSION"))));
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| ClientError::Header("access token".to_owned()))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    headers.extend(config.headers.clone());
    Ok(headers)
}

/// `url` with its query changed.
fn with_query(url: &Uri, change: impl FnOnce(&str) -> String) -> Result<Uri, ClientError> {
    let not_one = || ClientError::Url(url.to_string());
    let query = change(url.query().unwrap_or_default());
    let mut parts = url.clone().into_parts();
    let target = if query.is_empty() { url.path().to_owned() } else { format!("{}?{query}", url.path()) };
    parts.path_and_query = Some(target.parse().map_err(|_| not_one())?);
    Uri::from_parts(parts).map_err(|_| not_one())
}
