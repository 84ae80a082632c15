//! Client → hub: the bytes of POSTs as WebSocket frames of ours.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hubgate_protocol::handshake;
use hubgate_protocol::websocket::{self, OpCode};
use tokio::io::{AsyncWriteExt, WriteHalf};

use super::boundary::Boundary;
use super::{Edge, End, Kind};
use crate::io::Stream;
use crate::relay::{Spoken, judge};

/// Bytes of a client's first message that are looked at.
const FIRST_BYTES_MAX: usize = 4096;
/// How long the end of the hub's connection waits for a write that is stuck there.
const STUCK: Duration = Duration::from_secs(1);

/// Why bytes did not reach the hub.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpwardError {
    /// The connection is over.
    #[error("the connection is over")]
    Over,
    /// The hub is lost.
    #[error("the hub is lost: {0}")]
    Hub(#[source] std::io::Error),
}

/// The writing half of the hub's connection.
#[derive(Debug)]
pub(crate) struct Upward {
    hub: WriteHalf<Stream>,
    /// The client's first bytes, until it is known what they are.
    first: Option<Vec<u8>>,
    boundary: Boundary,
    chance: u64,
}

impl Upward {
    /// Writes to a hub behind its 101. `seed` makes masking keys differ.
    pub(crate) fn new(hub: WriteHalf<Stream>, seed: u64) -> Self {
        Self { hub, first: Some(Vec::new()), boundary: Boundary::default(), chance: seed | 1 }
    }

    /// A masking key. It need not be secret from the hub, only differ from frame to frame.
    fn key(&mut self) -> [u8; 4] {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let [a, b, c, d, ..] = self.chance.to_le_bytes();
        [a, b, c, d]
    }

    async fn write(&mut self, frame: &[u8]) -> Result<(), UpwardError> {
        self.hub.write_all(frame).await.map_err(UpwardError::Hub)?;
        self.hub.flush().await.map_err(UpwardError::Hub)
    }

    async fn close(&mut self, close: Option<(u16, &str)>) {
        let mut frame = BytesMut::new();
        let key = self.key();
        websocket::write_close(&mut frame, Some(key), close);
        let _gone_already = self.write(&frame).await;
    }
}

/// The way to the hub while one POST has it.
pub(crate) struct Sending<'a> {
    edge: &'a Edge,
    upward: tokio::sync::MutexGuard<'a, Upward>,
}

impl Edge {
    /// Waits for its turn among the POSTs of this connection.
    ///
    /// # Errors
    /// The connection ends meanwhile.
    pub(crate) async fn sending(&self) -> Result<Sending<'_>, UpwardError> {
        tokio::select! {
            biased;
            () = self.over.cancelled() => Err(UpwardError::Over),
            upward = self.upward.lock() => Ok(Sending { edge: self, upward }),
        }
    }

    /// Asks a silent hub whether it is still there (rule D8); its Pong counts as being heard.
    pub(super) fn ping_hub(&self) {
        self.queue_control(OpCode::Ping, b"hubgate");
    }

    /// Answers a Ping of the hub: at once if nobody writes, else with the next write.
    pub(super) fn pong(&self, payload: &[u8]) {
        self.queue_control(OpCode::Pong, payload);
    }

    fn queue_control(&self, opcode: OpCode, payload: &[u8]) {
        let mut frame = BytesMut::new();
        websocket::write_frame(&mut frame, true, opcode, Some([0x1D, 0x2C, 0x3B, 0x4A]), payload);
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if control.len() < 4096 {
            control.extend_from_slice(&frame);
        }
    }

    /// Writes control frames that wait, if nobody is writing just now.
    pub(super) async fn flush_control(&self) {
        if let Ok(mut upward) = self.upward.try_lock() {
            let frames = std::mem::take(&mut *self.control.lock().unwrap_or_else(PoisonError::into_inner));
            if !frames.is_empty() {
                let _noticed_by_the_reader = upward.write(&frames).await;
            }
        }
    }

    /// Says goodbye to the hub with a close frame, unless a write is stuck there.
    pub(crate) async fn close_hub(&self, close: Option<(u16, &str)>) {
        let closing = async { self.upward.lock().await.close(close).await };
        let _stuck = tokio::time::timeout(STUCK, closing).await;
    }

    /// Ends our half of the hub's connection.
    pub(super) async fn shut_hub(&self) {
        let shutting = async { self.upward.lock().await.hub.shutdown().await };
        let _stuck = tokio::time::timeout(STUCK, shutting).await;
    }
}

impl Sending<'_> {
    /// Passes bytes on, as Text when they are UTF-8, else as Binary (rule E1).
    ///
    /// # Errors
    /// The connection has ended, or ends because of these bytes.
    pub(crate) async fn pass(&mut self, bytes: Bytes) -> Result<(), UpwardError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.look(&bytes)?;
        self.upward.boundary.follow(self.edge.spoken(), &bytes);
        self.edge.torn.store(self.upward.boundary.is_torn(), Relaxed);
        self.edge.count_in(&bytes);
        let mut frame = std::mem::take(&mut *self.edge.control.lock().unwrap_or_else(PoisonError::into_inner));
        let opcode = if std::str::from_utf8(&bytes).is_ok() { OpCode::Text } else { OpCode::Binary };
        let key = self.upward.key();
        websocket::write_frame(&mut frame, true, opcode, Some(key), &bytes);
        drop(bytes);
        tokio::select! {
            biased;
            () = self.edge.over.cancelled() => Err(UpwardError::Over),
            written = self.upward.write(&frame) => written,
        }
    }

    /// Learns from the first bytes what the client speaks, before the hub can answer them.
    fn look(&mut self, bytes: &Bytes) -> Result<(), UpwardError> {
        let Some(first) = &mut self.upward.first else { return Ok(()) };
        let room = FIRST_BYTES_MAX.saturating_sub(first.len()) + 1;
        first.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
        let Some(spoken) = judge(first) else { return Ok(()) };
        let name = handshake_name(first);
        self.upward.first = None;
        self.edge.now_speaks(spoken);
        let binary_only = spoken == Spoken::MessagePack || name.as_deref() == Some("blazorpack");
        if self.edge.kind == Kind::EventStream && binary_only {
            let text = handshake::transport_lacks_binary(name.as_deref().unwrap_or("messagepack"));
            let mut response = BytesMut::new();
            handshake::write_response(&handshake::HandshakeResponse { error: Some(text) }, &mut response);
            self.edge.deliver(&response);
            self.edge.end(End::Refused, false);
        }
        Ok(())
    }
}

/// The protocol name in a handshake request.
fn handshake_name(first: &[u8]) -> Option<String> {
    handshake::parse_request(first, FIRST_BYTES_MAX + 1).ok().flatten().map(|request| request.value.protocol)
}
