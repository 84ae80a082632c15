//! The WebTransport transport: one bidirectional stream of a session of its own, at the UDP port that the negotiate answer names
//! (rule H2). No ASP.NET Core server has it; a gateway may.
//!
//! The stream carries what a WebSocket's messages would hold, one after the other; a read may end anywhere, and hub messages are cut
//! by the session above. Close codes are those of WebSockets, 0 stands for 1000. A server that is done ends its half of the
//! stream and closes the session only after ours has ended too, so that nothing is lost that was under way: the end of the stream
//! is answered with ours, then the close is waited for.
//!
//! Invariant: the connection token and `Authorization` are in no log. `web_transport_quinn` writes whole CONNECT requests at debug
//! level, therefore it runs without a subscriber while it connects.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Uri};
use hubgate_protocol::negotiate::WebTransportOffer;
use tokio::time::timeout;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;
use url::Url;
use web_transport_quinn::generic::poll::SendStream as _;
use web_transport_quinn::proto::{self, ConnectRequest};
use web_transport_quinn::quinn::{Connection, ConnectionError, VarInt};
use web_transport_quinn::{
    ClientError as OpenError, ConnectError, RecvStream, SendStream, Session, SessionError, WebTransportError,
    WriteError,
};

use super::Event;
use crate::builder::system_authorities;
use crate::error::ClientError;
use crate::http_client::HttpClient;
use crate::misbehave::Frame;

mod dial;

/// Most bytes of one read; they come without a copy.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Time the server has to end the stream and the session after our end, or the session after its own.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the news of a broken stream.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);
/// How a QUIC connection ends that is dropped: `H3_REQUEST_CANCELLED` (RFC 9114 §8.1), no close code of WebTransport.
const ABANDONED: VarInt = VarInt::from_u32(0x010c);

/// Waits for the close of the session and says why it ended.
type Closing = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// An open session with its stream; dropped without [`WebTransport::stop`], it is lost for the server.
pub(crate) struct WebTransport {
    session: Session,
    send: SendStream,
    receive: RecvStream,
    outgoing: VecDeque<Bytes>,
    queued_bytes: usize,
    /// Nothing more is sent: our half has ended, or the server reads no more.
    mute: bool,
    /// Since the server's half has ended.
    closing: Option<Closing>,
}

impl std::fmt::Debug for WebTransport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WebTransport").field("queued", &self.queued_bytes).finish_non_exhaustive()
    }
}

impl WebTransport {
    /// Opens a session at the path and query of `uri`, and its stream.
    pub(crate) async fn connect(
        http: &HttpClient,
        uri: &Uri,
        headers: &HeaderMap,
        offer: &WebTransportOffer,
    ) -> Result<Self, ClientError> {
        let failed = |text: String| ClientError::Transport(text);
        let trust = match http.tls() {
            Some(tls) => dial::trust(Some(tls), &offer.certificate_hashes),
            None if offer.certificate_hashes.is_empty() => dial::trust(Some(&system_authorities()?), &[]),
            None => dial::trust(None, &offer.certificate_hashes),
        };
        let url = session_url(uri, offer.port)?;
        let mut request = ConnectRequest::new(url).with_headers(headers.clone());
        if let Some(cookies) = http.cookies() {
            request = request.with_header(http::header::COOKIE, cookies);
        }
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let connection = dial::connect(host, offer.port, trust.map_err(failed)?).await.map_err(failed)?;
        let session = Session::connect(connection, request).with_subscriber(Dispatch::none()).await;
        let session = session.map_err(|error| failed(refused_text(error)))?;
        let (send, receive) = session.open_bi().await.map_err(|error| failed(error.to_string()))?;
        let (outgoing, queued_bytes) = (VecDeque::new(), 0);
        Ok(Self { session, send, receive, outgoing, queued_bytes, mute: false, closing: None })
    }

    pub(super) fn queue(&mut self, messages: Bytes) {
        if !self.mute {
            self.queued_bytes += messages.len();
            self.outgoing.push_back(messages);
        }
    }

    pub(super) fn queue_frame(&mut self, frame: Frame) {
        match frame {
            Frame::Close { code, reason } => self.session.close(u32::from(code), reason.as_bytes()),
            frame => self.queue(frame.into_payload()),
        }
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) async fn drive(&mut self, read: bool) -> Option<Event> {
        let queued_before = self.queued_bytes;
        poll_fn(|cx| {
            if let Poll::Ready(event) = self.write(cx) {
                return Poll::Ready(Some(event));
            }
            if read && let Poll::Ready(event) = self.read(cx) {
                return Poll::Ready(Some(event));
            }
            if self.queued_bytes < queued_before { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    pub(super) async fn stop(mut self) {
        let closing = async {
            while !self.outgoing.is_empty() {
                if let Some(Event::Ended(_)) = self.drive(false).await {
                    return;
                }
            }
            self.end_sending();
            while !matches!(self.drive(true).await, Some(Event::Ended(_))) {}
        };
        if timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::debug!("the server did not close the session");
            self.session.close(1000, b"");
            self.session.closed().await;
        }
    }

    /// Breaks the stream off; the connection goes once the server has heard of it.
    pub(super) fn cut(mut self) {
        // A stream that is closed already cannot break.
        let _ = self.send.reset(0);
        tokio::spawn(async move {
            let _not_at_once = timeout(CUT_TIMEOUT, self.session.closed()).await;
        });
    }

    /// Ready only when the connection fails.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        while let Some(chunk) = self.outgoing.front_mut() {
            match self.send.poll_write(cx, chunk) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(written)) => {
                    self.queued_bytes = self.queued_bytes.saturating_sub(written);
                    chunk.advance(written);
                    if chunk.is_empty() {
                        self.outgoing.pop_front();
                    }
                }
                // Its end of the stream or its close says why.
                Poll::Ready(Err(WriteError::Stopped(_) | WriteError::InvalidStopped(_))) => self.end_sending(),
                Poll::Ready(Err(error)) => return Poll::Ready(self.lost(&error)),
            }
        }
        Poll::Pending
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Some(closing) = &mut self.closing {
                return closing.as_mut().poll(cx).map(Event::Ended);
            }
            // The future keeps nothing of its own: what is asked for waits in the stream.
            let Poll::Ready(chunk) = pin!(self.receive.read_chunk(READ_BYTES_MAX, true)).poll(cx) else {
                return Poll::Pending;
            };
            match chunk {
                Ok(Some(chunk)) => return Poll::Ready(Event::Received(chunk.bytes)),
                Ok(None) => {
                    self.end_sending();
                    let session = self.session.clone();
                    self.closing = Some(Box::pin(async move {
                        match timeout(CLOSE_TIMEOUT, session.closed()).await {
                            Ok(_) => closed_text(&session, None),
                            Err(_elapsed) => Some("the server ended the stream without closing the session".to_owned()),
                        }
                    }));
                }
                Err(error) => return Poll::Ready(self.lost(&error)),
            }
        }
    }

    /// Ends our half of the stream; what still waits is for nobody any more.
    fn end_sending(&mut self) {
        self.mute = true;
        self.outgoing.clear();
        self.queued_bytes = 0;
        // A stream that is closed already has no end to tell.
        let _ = self.send.finish();
    }

    /// The end by an error of the stream: the close of the session if there was one, else a loss.
    fn lost(&self, error: &dyn std::error::Error) -> Event {
        Event::Ended(closed_text(&self.session, Some(error)))
    }
}

impl Drop for WebTransport {
    fn drop(&mut self) {
        // Says nothing after the session was closed.
        Connection::close(&self.session, ABANDONED, b"");
    }
}

/// The `https` URL of the session: host, path and query of `uri`, at the UDP port.
fn session_url(uri: &Uri, port: u16) -> Result<Url, ClientError> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let url = format!("https://{}:{port}{target}", uri.host().unwrap_or_default());
    // The query holds a token, so the error names the host alone.
    url.parse().map_err(|_| ClientError::Url(uri.host().unwrap_or_default().to_owned()))
}

/// What a WebSocket's refusal says, where the server answered with a status.
fn refused_text(error: OpenError) -> String {
    let status = match error {
        OpenError::HttpError(ConnectError::ErrorStatus(status)) => status,
        OpenError::HttpError(ConnectError::ProtoError(proto::ConnectError::WrongStatus(Some(status)))) => status,
        other => return other.to_string(),
    };
    let status = status.as_u16();
    format!("The server returned status code '{status}' when status code '200' was expected.")
}

/// Why a session has ended, `None` where that is no error; `stream` is what became of a stream that had no end.
fn closed_text(session: &Session, stream: Option<&dyn std::error::Error>) -> Option<String> {
    match session.close_reason() {
        Some(SessionError::WebTransportError(WebTransportError::Closed(code, reason))) => {
            let reason = if reason.is_empty() { "no reason given" } else { reason.as_str() };
            (!matches!(code, 0 | 1000)).then(|| format!("WebTransport closed with status code: {code} ({reason})."))
        }
        // Without a word: behind the end of the stream that is code 0. `web_transport_quinn` makes the same of a connection that is
        // lost, so QUIC's own reason cannot be asked for.
        Some(SessionError::ConnectionError(ConnectionError::LocallyClosed)) => {
            stream.map(|_| "The connection was lost.".to_owned())
        }
        Some(other) => Some(other.to_string()),
        None => stream.map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_has_the_port_of_the_offer() {
        let url = |uri: &str| session_url(&uri.parse().unwrap(), 8443).unwrap().to_string();
        assert_eq!(url("http://localhost:5000/hub?a=1&id=x%2By"), "https://localhost:8443/hub?a=1&id=x%2By");
        assert_eq!(url("https://[::1]/"), "https://[::1]:8443/");
    }
}
