//! One WebSocket whose messages are read: a stream, the frames that came, the bytes that go.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use hubgate_protocol::websocket::{self, Incoming, MessageDecoder, OpCode, Sender, Violation};
use tokio::io::AsyncWrite;

use crate::io::{Stream, poll_read_onto};

/// Why nothing more can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// The end of the stream.
    Closed,
    /// An error, such as a reset.
    Reset,
}

/// Reads once and appends what came.
pub(super) fn read(cx: &mut Context<'_>, stream: &mut Stream, input: &mut BytesMut) -> Poll<Result<(), ReadEnd>> {
    Poll::Ready(match ready!(poll_read_onto(cx, stream, input)) {
        Err(_) => Err(ReadEnd::Reset),
        Ok(0) => Err(ReadEnd::Closed),
        Ok(_) => Ok(()),
    })
}

/// What came of a look at a socket.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message or control frame.
    Frame(Incoming),
    /// The stream is over without a close frame.
    Lost,
    /// A frame is illegal.
    Violated(Violation),
}

/// One WebSocket.
#[derive(Debug)]
pub(super) struct Socket {
    /// `None` once it was cut.
    stream: Option<Stream>,
    decoder: MessageDecoder,
    input: BytesMut,
    out: BytesMut,
    unflushed: bool,
    /// Bytes were written since the last look (see [`Socket::progressed`]).
    progressed: bool,
    /// What masks our frames, on the side where we are the client.
    mask: Option<u64>,
    /// Bytes read since the last look.
    bytes_read: u64,
}

impl Socket {
    /// A socket of a client; `seen` was read before.
    pub(super) fn of_client(stream: Stream, seen: BytesMut, message_bytes_max: usize) -> Self {
        Self::new(stream, seen, Sender::Client, message_bytes_max, None)
    }

    /// A socket of a hub; `seed` makes masking keys differ.
    pub(super) fn of_hub(stream: Stream, seen: BytesMut, message_bytes_max: usize, seed: u64) -> Self {
        Self::new(stream, seen, Sender::Server, message_bytes_max, Some(seed | 1))
    }

    fn new(stream: Stream, input: BytesMut, sender: Sender, message_bytes_max: usize, mask: Option<u64>) -> Self {
        let bytes_read = input.len() as u64;
        Self {
            stream: Some(stream),
            decoder: MessageDecoder::new(sender, message_bytes_max),
            input,
            out: BytesMut::new(),
            unflushed: false,
            progressed: false,
            mask,
            bytes_read,
        }
    }

    /// The next message or control frame, or the end.
    pub(super) fn hear(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        loop {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(frame)) => return Poll::Ready(Heard::Frame(frame)),
                Ok(None) => {}
                Err(violation) => return Poll::Ready(Heard::Violated(violation)),
            }
            if self.input.is_empty() && self.input.capacity() > 0 {
                // An idle connection holds no buffer.
                self.input = BytesMut::new();
            }
            let before = self.input.len();
            let Some(stream) = &mut self.stream else { return Poll::Ready(Heard::Lost) };
            match ready!(read(cx, stream, &mut self.input)) {
                Ok(()) => self.bytes_read += (self.input.len() - before) as u64,
                Err(_) => return Poll::Ready(Heard::Lost),
            }
        }
    }

    /// Reads and gives up all that comes; `true` at the end of the stream or at a close frame.
    pub(super) fn drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match ready!(self.hear(cx)) {
                Heard::Frame(Incoming::Close(_)) | Heard::Lost | Heard::Violated(_) => return Poll::Ready(()),
                Heard::Frame(_) => {}
            }
        }
    }

    fn key(&mut self) -> Option<[u8; 4]> {
        let state = self.mask.as_mut()?;
        // It need not be secret from the hub, only differ from frame to frame.
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        let [a, b, c, d, ..] = state.to_le_bytes();
        Some([a, b, c, d])
    }

    /// Queues one frame.
    pub(super) fn put(&mut self, opcode: OpCode, payload: &[u8]) {
        let key = self.key();
        websocket::write_frame(&mut self.out, true, opcode, key, payload);
    }

    /// Queues a close frame.
    pub(super) fn put_close(&mut self, close: Option<(u16, &str)>) {
        let key = self.key();
        websocket::write_close(&mut self.out, key, close);
    }

    /// Queues the answer to a Ping.
    pub(super) fn put_pong(&mut self, payload: &Bytes) {
        self.put(OpCode::Pong, payload);
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.out.len()
    }

    /// Bytes read since the last time this was asked.
    pub(super) fn take_bytes_read(&mut self) -> u64 {
        std::mem::take(&mut self.bytes_read)
    }

    /// Whether something was written since the last time this was asked.
    pub(super) fn progressed(&mut self) -> bool {
        std::mem::take(&mut self.progressed)
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(std::io::ErrorKind::NotConnected.into()));
        };
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
            self.progressed = true;
            self.unflushed = true;
            if self.out.is_empty() {
                self.out = BytesMut::new();
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut *stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will be written.
    pub(super) fn shut(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Ends the connection at once, so that its peer sees a loss.
    pub(super) fn cut(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.reset_on_close();
        }
    }
}
