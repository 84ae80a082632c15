//! A WebSocket client that shows every frame, over HTTP/1.1 or an HTTP/2 stream.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use sha1::{Digest as _, Sha1};

use super::frame::{self, Frame};
use super::http::{Answer, Connection, Head, Request};
use super::http2::Channel;
use super::{End, Error, hex, show, within};

/// The `Sec-WebSocket-Key` of every upgrade; a fixed one makes failures repeatable.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Answer to an upgrade request.
#[derive(Debug)]
pub enum Upgrade {
    /// 101, or 200 over HTTP/2.
    Switched(Box<WebSocket>),
    /// Anything else.
    Refused(Box<Answer>),
}

/// What came next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A frame.
    Frame(Frame),
    /// The end of the stream.
    End(End),
}

/// A message, a control frame or the end, as transcripts show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole message with its opcode.
    Message(u8, Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close frame: code (none: 1005) and reason.
    Close(u16, String),
    /// The end of the stream.
    End(End),
}

impl std::fmt::Display for Event {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Message(frame::TEXT, payload) => write!(out, "TEXT {}", show(payload)),
            Self::Message(_, payload) if payload.ends_with(b"\x1e") && payload.starts_with(b"{") => {
                write!(out, "BIN {}", show(payload))
            }
            Self::Message(_, payload) => write!(out, "BIN hex:{}", hex(payload)),
            Self::Ping(payload) => write!(out, "PING {}", show(payload)),
            Self::Pong(payload) => write!(out, "PONG {}", show(payload)),
            Self::Close(code, reason) => write!(out, "CLOSE {code} {reason:?}"),
            Self::End(end) => write!(out, "{end}"),
        }
    }
}

/// The byte stream below the frames.
#[derive(Debug)]
enum Stream {
    Tcp(Connection),
    Http2(Channel),
}

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: Stream,
    /// Status line and headers of the 101 (or 200) answer.
    pub head: Head,
    /// Whether a close frame of the server is answered by itself with the same code (it is, unless switched off).
    pub answers_close: bool,
    buffer: BytesMut,
    message: Option<(u8, Vec<u8>)>,
    close_sent: bool,
}

/// Adds what every upgrade request carries.
#[must_use]
pub fn upgrade_request(target: &str) -> Request {
    Request::new("GET", target)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY)
}

/// The `Sec-WebSocket-Accept` that belongs to [`KEY`].
#[must_use]
pub fn accept_of_key() -> String {
    STANDARD.encode(Sha1::digest(format!("{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")))
}

impl WebSocket {
    /// Sends an upgrade request, and `early` bytes in the same segment, and takes the answer.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn upgrade(mut connection: Connection, request: &Request, early: &[u8]) -> Result<Upgrade, Error> {
        let mut bytes = request.to_bytes(connection.host());
        bytes.extend_from_slice(early);
        connection.send_bytes(&bytes).await?;
        let head = connection.head().await?;
        if head.status == 101 {
            let socket = Self::over(Stream::Tcp(connection), head);
            return Ok(Upgrade::Switched(Box::new(socket)));
        }
        let (body, framing) = connection.body(&head, &request.method).await?;
        Ok(Upgrade::Refused(Box::new(Answer { head, body, framing, interim: Vec::new() })))
    }

    /// Makes a WebSocket of an accepted HTTP/2 stream.
    #[must_use]
    pub fn over_http2(channel: Channel, head: Head) -> Self {
        Self::over(Stream::Http2(channel), head)
    }

    fn over(stream: Stream, head: Head) -> Self {
        let buffer = BytesMut::new();
        Self { stream, head, answers_close: true, buffer, message: None, close_sent: false }
    }

    /// Sends a frame, masked.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub async fn send(&mut self, frame: &Frame) -> Result<(), Error> {
        self.close_sent |= frame.opcode == frame::CLOSE;
        self.send_bytes(&frame.masked()).await
    }

    /// Sends several frames in one write.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub async fn send_all(&mut self, frames: &[Frame]) -> Result<(), Error> {
        self.close_sent |= frames.iter().any(|frame| frame.opcode == frame::CLOSE);
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::masked).collect();
        self.send_bytes(&bytes).await
    }

    /// Sends a Text message.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub async fn text(&mut self, text: &str) -> Result<(), Error> {
        self.send(&Frame::text(text)).await
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.stream {
            Stream::Tcp(connection) => connection.send_bytes(bytes).await,
            Stream::Http2(channel) => channel.send(bytes, false).await,
        }
    }

    /// Writes as much of `bytes` as goes at once (TCP only; an HTTP/2 stream takes all).
    ///
    /// # Errors
    /// [`Error::Write`].
    pub async fn send_some(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        match &mut self.stream {
            Stream::Tcp(connection) => connection.send_some(bytes).await,
            Stream::Http2(channel) => channel.send(bytes, false).await.map(|()| bytes.len()),
        }
    }

    /// Waits for the next frame or the end.
    ///
    /// # Errors
    /// [`Error::Late`] when neither comes within `limit`.
    pub async fn incoming(&mut self, limit: Duration) -> Result<Incoming, Error> {
        within(limit, async {
            loop {
                if let Some(frame) = Frame::take(&mut self.buffer) {
                    return Ok(Incoming::Frame(frame));
                }
                if let Some(end) = self.read().await? {
                    return Ok(Incoming::End(end));
                }
            }
        })
        .await
    }

    /// Waits for the next whole message, control frame or the end, and answers pings and close frames.
    ///
    /// # Errors
    /// [`Error::Late`] when nothing comes within `limit`; [`Error::Malformed`] for frames no server may send.
    pub async fn event(&mut self, limit: Duration) -> Result<Event, Error> {
        loop {
            let frame = match self.incoming(limit).await? {
                Incoming::End(end) => return Ok(Event::End(end)),
                Incoming::Frame(frame) => frame,
            };
            if frame.rsv != 0 {
                return Err(Error::Malformed(format!("reserved bits in {frame:?}")));
            }
            match (frame.opcode, self.message.take()) {
                (frame::PING, unfinished) => {
                    self.message = unfinished;
                    let _ = self.send(&Frame::new(frame::PONG, frame.payload.clone())).await;
                    return Ok(Event::Ping(frame.payload));
                }
                (frame::PONG, unfinished) => {
                    self.message = unfinished;
                    return Ok(Event::Pong(frame.payload));
                }
                (frame::CLOSE, _) => return Ok(self.take_close(&frame).await),
                (opcode @ (frame::TEXT | frame::BINARY), None) => self.message = Some((opcode, frame.payload)),
                (frame::CONTINUATION, Some((opcode, mut payload))) => {
                    payload.extend_from_slice(&frame.payload);
                    self.message = Some((opcode, payload));
                }
                (opcode, _) => return Err(Error::Malformed(format!("opcode {opcode} out of turn"))),
            }
            if frame.fin
                && let Some((opcode, payload)) = self.message.take()
            {
                return Ok(Event::Message(opcode, payload));
            }
        }
    }

    /// Closes our sending side (FIN, or END_STREAM); reading goes on.
    pub async fn finish(&mut self) {
        match &mut self.stream {
            Stream::Tcp(connection) => connection.finish().await,
            Stream::Http2(channel) => {
                let _ = channel.send(b"", true).await;
            }
        }
    }

    /// Resets the TCP connection, or the HTTP/2 stream with CANCEL.
    pub fn reset(self) {
        match self.stream {
            Stream::Tcp(connection) => connection.reset(),
            Stream::Http2(channel) => channel.reset(),
        }
    }

    async fn take_close(&mut self, frame: &Frame) -> Event {
        let (code, reason) = frame.close_reason().unwrap_or((1005, String::new()));
        if self.answers_close && !self.close_sent {
            let payload = frame.payload.get(..2).unwrap_or_default().to_vec();
            let _ = self.send(&Frame::new(frame::CLOSE, payload)).await;
            if matches!(self.stream, Stream::Http2(_)) {
                self.finish().await;
            }
        }
        Event::Close(code, reason)
    }

    async fn read(&mut self) -> Result<Option<End>, Error> {
        match &mut self.stream {
            Stream::Tcp(connection) => {
                if connection.buffer().is_empty() {
                    match connection.fill().await {
                        Ok(()) => {}
                        Err(Error::Ended { end, .. }) => return Ok(Some(end)),
                        Err(other) => return Err(other),
                    }
                }
                let bytes = connection.buffer().split();
                self.buffer.extend_from_slice(&bytes);
                Ok(None)
            }
            Stream::Http2(channel) => channel.read(&mut self.buffer).await,
        }
    }
}
