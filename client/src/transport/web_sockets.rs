//! The WebSocket transport (signalr-wire §5.1).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Uri};
use hubgate_protocol::TransferFormat;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame as RawFrame};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::Event;
use crate::error::ClientError;
use crate::http_client::HttpClient;
use crate::io::{self, ClientIo, is_secure};
use crate::misbehave::Frame;

/// Bytes of one read from the socket; small, as the buffer lives as long as the connection.
const READ_BUFFER_BYTES: usize = 4096;
/// Time the server has to answer the close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// An open WebSocket.
#[derive(Debug)]
pub(crate) struct WebSockets {
    socket: WebSocketStream<ClientIo>,
    opcode: Data,
    outgoing: VecDeque<Message>,
    queued_bytes: usize,
    flushing: bool,
}

impl WebSockets {
    /// Upgrades at `uri`, which may be an `http(s)` one.
    pub(crate) async fn connect(
        http: &HttpClient,
        uri: &Uri,
        headers: &HeaderMap,
        format: TransferFormat,
        message_bytes_max: usize,
    ) -> Result<Self, ClientError> {
        let scheme = if is_secure(uri) { "wss" } else { "ws" };
        let rest = uri.to_string().split_once("://").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        let failed = |error: Error| match error {
            Error::Http(response) => {
                let status = response.status().as_u16();
                ClientError::Transport(format!(
                    "The server returned status code '{status}' when status code '101' was expected."
                ))
            }
            other => ClientError::Transport(other.to_string()),
        };
        let mut request = format!("{scheme}://{rest}").into_client_request().map_err(failed)?;
        request.headers_mut().extend(headers.clone());
        if let Some(cookies) = http.cookies() {
            request.headers_mut().insert(http::header::COOKIE, cookies);
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        let io = io::connect(uri, http.tls()).await.map_err(|error| failed(Error::Io(error)))?;
        let (socket, _) = client_async_with_config(request, io, Some(config)).await.map_err(failed)?;
        let opcode = match format {
            TransferFormat::Text => Data::Text,
            TransferFormat::Binary => Data::Binary,
        };
        Ok(Self { socket, opcode, outgoing: VecDeque::new(), queued_bytes: 0, flushing: false })
    }

    pub(super) fn queue(&mut self, messages: Bytes) {
        self.queued_bytes += messages.len();
        self.outgoing.push_back(Message::Frame(RawFrame::message(messages, OpCode::Data(self.opcode), true)));
    }

    pub(super) fn queue_frame(&mut self, frame: Frame) {
        let message = match frame {
            Frame::Text(payload) => Message::Frame(RawFrame::message(payload, OpCode::Data(Data::Text), true)),
            Frame::Binary(payload) => Message::Binary(payload),
            Frame::Fragment { payload, first, last } => {
                let opcode = if first { self.opcode } else { Data::Continue };
                Message::Frame(RawFrame::message(payload, OpCode::Data(opcode), last))
            }
            Frame::Ping(payload) => Message::Ping(payload),
            Frame::Pong(payload) => Message::Pong(payload),
            Frame::Close { code, reason } => {
                Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() }))
            }
        };
        self.queued_bytes += message.len();
        self.outgoing.push_back(message);
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) async fn drive(&mut self, read: bool) -> Option<Event> {
        let queued_before = self.queued_bytes;
        poll_fn(|cx| {
            if let Err(error) = self.write(cx) {
                return Poll::Ready(Some(Event::Ended(Some(error.to_string()))));
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
            while !self.outgoing.is_empty() || self.flushing {
                if let Some(Event::Ended(_)) = self.drive(false).await {
                    return;
                }
            }
            let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            if self.socket.send(Message::Close(Some(close))).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        if timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::debug!("the server did not finish the closing handshake");
        }
    }

    pub(super) fn cut(self) {
        io::reset_on_close(self.socket.get_ref());
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        while !self.outgoing.is_empty() {
            match self.socket.poll_ready_unpin(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Ok(()),
            }
            if let Some(message) = self.outgoing.pop_front() {
                self.queued_bytes = self.queued_bytes.saturating_sub(message.len());
                self.flushing = true;
                self.socket.start_send_unpin(message)?;
            }
        }
        if self.flushing
            && let Poll::Ready(flushed) = self.socket.poll_flush_unpin(cx)
        {
            flushed?;
            self.flushing = false;
        }
        Ok(())
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            let Poll::Ready(next) = self.socket.poll_next_unpin(cx) else { return Poll::Pending };
            return Poll::Ready(match next {
                Some(Ok(Message::Text(text))) => Event::Received(text.into()),
                Some(Ok(Message::Binary(payload))) => Event::Received(payload),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Close(frame))) => Event::Ended(frame.and_then(|frame| closed_text(&frame))),
                Some(Err(error)) => Event::Ended(Some(error.to_string())),
                None => Event::Ended(None),
            });
        }
    }
}

/// The text of a close that is an error (signalr-wire §5.1).
fn closed_text(frame: &CloseFrame) -> Option<String> {
    let code = u16::from(frame.code);
    let reason = if frame.reason.is_empty() { "no reason given" } else { frame.reason.as_str() };
    (code != 1000).then(|| format!("WebSocket closed with status code: {code} ({reason})."))
}
