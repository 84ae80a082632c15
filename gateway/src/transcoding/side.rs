//! The two sides as frames: reading whole WebSocket messages, writing frames.
//!
//! Invariant: reading may be given up between any two bytes and loses nothing; frames are written whole.

use bytes::{Bytes, BytesMut};
use hubgate_protocol::HubProtocol;
use hubgate_protocol::websocket::{self, Incoming, MessageDecoder, OpCode, Sender, Violation};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes asked for in one read: what an idle connection holds for each direction.
const READ_BYTES: usize = 4 * 1024;

/// The side that was to be written to is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// Reads one side.
pub(super) struct Input<R> {
    reading: R,
    decoder: MessageDecoder,
    bytes: BytesMut,
}

impl<R: AsyncRead + Unpin> Input<R> {
    pub(super) fn of_client(reading: R, message_bytes_max: usize) -> Self {
        let decoder = MessageDecoder::new(Sender::Client, message_bytes_max);
        Self { reading, decoder, bytes: BytesMut::new() }
    }

    /// `ahead` was read already.
    pub(super) fn of_hub(reading: R, ahead: Bytes, message_bytes_max: usize) -> Self {
        let decoder = MessageDecoder::new(Sender::Server, message_bytes_max);
        Self { reading, decoder, bytes: BytesMut::from(&ahead[..]) }
    }

    /// The next message or control frame; `None` at the end.
    pub(super) async fn take(&mut self) -> Result<Option<Incoming>, Violation> {
        loop {
            if let Some(incoming) = self.decode()? {
                return Ok(Some(incoming));
            }
            if self.read().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// The next message or control frame among what was read.
    pub(super) fn decode(&mut self) -> Result<Option<Incoming>, Violation> {
        self.decoder.decode(&mut self.bytes)
    }

    /// Reads more; tells how many bytes.
    pub(super) async fn read(&mut self) -> Result<usize, Gone> {
        self.bytes.reserve(READ_BYTES);
        match self.reading.read_buf(&mut self.bytes).await {
            Ok(0) | Err(_) => Err(Gone),
            Ok(read) => Ok(read),
        }
    }

    /// The last `count` bytes that were read; nothing may have been decoded since.
    pub(super) fn newest(&self, count: usize) -> &[u8] {
        self.bytes.get(self.bytes.len().saturating_sub(count)..).unwrap_or_default()
    }

    /// Everything that was read and not decoded.
    pub(super) fn take_raw(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }

    pub(super) fn reading(&mut self) -> &mut R {
        &mut self.reading
    }

    pub(super) fn into_reading(self) -> R {
        self.reading
    }
}

/// Writes one side.
pub(super) struct Output<W> {
    writing: W,
    opcode: OpCode,
    /// Towards hubs: makes masking keys differ.
    chance: Option<u64>,
    /// A frame is begun: whatever came next would be taken for its rest.
    in_frame: bool,
}

impl<W: AsyncWrite + Unpin> Output<W> {
    pub(super) fn to_client(writing: W) -> Self {
        Self { writing, opcode: OpCode::Text, chance: None, in_frame: false }
    }

    pub(super) fn to_hub(writing: W, seed: u64) -> Self {
        Self { writing, opcode: OpCode::Text, chance: Some(seed | 1), in_frame: false }
    }

    /// Sets the protocol, and with it the kind of frames.
    pub(super) fn speaks(&mut self, protocol: HubProtocol) {
        self.opcode = match protocol {
            HubProtocol::Json => OpCode::Text,
            HubProtocol::MessagePack => OpCode::Binary,
        };
    }

    /// A masking key for the next frame. It need not be secret from the hub, only differ from frame to frame.
    fn key(&mut self) -> Option<[u8; 4]> {
        let chance = self.chance.as_mut()?;
        *chance ^= *chance << 13;
        *chance ^= *chance >> 7;
        *chance ^= *chance << 17;
        let [a, b, c, d, ..] = chance.to_le_bytes();
        Some([a, b, c, d])
    }

    pub(super) async fn message(&mut self, payload: &[u8]) -> Result<(), Gone> {
        self.frame(self.opcode, payload).await
    }

    /// Passes a ping, a pong or a close on.
    pub(super) async fn pass_control(&mut self, control: &Incoming) -> Result<(), Gone> {
        match control {
            Incoming::Ping(payload) => self.frame(OpCode::Ping, payload).await,
            Incoming::Pong(payload) => self.frame(OpCode::Pong, payload).await,
            Incoming::Close(close) => {
                let mut frame = BytesMut::new();
                let close = close.as_ref().map(|(code, reason)| (*code, reason.as_str()));
                let key = self.key();
                websocket::write_close(&mut frame, key, close);
                self.whole(&frame).await
            }
            Incoming::Text(_) | Incoming::Binary(_) => Ok(()),
        }
    }

    /// Closes as after a hub protocol's Close.
    pub(super) async fn close(&mut self) -> Result<(), Gone> {
        if self.in_frame {
            return Err(Gone);
        }
        let mut frame = BytesMut::new();
        let key = self.key();
        websocket::write_close(&mut frame, key, Some((1000, "")));
        self.whole(&frame).await
    }

    async fn frame(&mut self, opcode: OpCode, payload: &[u8]) -> Result<(), Gone> {
        let mut frame = BytesMut::new();
        let key = self.key();
        websocket::write_frame(&mut frame, true, opcode, key, payload);
        self.whole(&frame).await
    }

    async fn whole(&mut self, frame: &[u8]) -> Result<(), Gone> {
        self.in_frame = true;
        self.write_raw(frame).await?;
        self.in_frame = false;
        Ok(())
    }

    /// Writes bytes that are frames already.
    pub(super) async fn write_raw(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.writing.write_all(bytes).await.map_err(|_| Gone)?;
        self.writing.flush().await.map_err(|_| Gone)
    }

    pub(super) fn writing(&mut self) -> &mut W {
        &mut self.writing
    }

    pub(super) fn into_writing(self) -> W {
        self.writing
    }
}
