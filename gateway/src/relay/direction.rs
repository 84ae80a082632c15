//! One direction of a relay: read, follow, write; hold only what the other side would not take at once.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use hubgate_protocol::websocket::{self, FrameHeader, FrameTracker, OpCode, Tracked};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::Stream;

/// Size of the buffer that a thread lends to whoever reads: one read takes at most this.
const LENT_BYTES: usize = 32 * 1024;
/// Payload length of our own WebSocket pings, by which their Pongs are told from others.
const PING_BYTES: usize = 8;
/// Reads in one turn, so that a fast peer does not starve the others of its thread.
const READS_PER_TURN: u8 = 16;

thread_local! {
    static LENT: RefCell<Box<[u8]>> = RefCell::new(vec![0; LENT_BYTES].into_boxed_slice());
}

/// Bytes in the thread's lent buffer, taken out of it while they are in hand.
pub(super) struct Lent {
    buffer: Box<[u8]>,
    len: usize,
}

impl std::ops::Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        LENT.with(|lent| *lent.borrow_mut() = buffer);
    }
}

/// Why a direction has stopped for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The source is at its end; `lost` when it ended with an error.
    SourceEnded {
        /// A reset rather than an end of stream.
        lost: bool,
    },
    /// The other side takes no more.
    SinkFailed,
}

/// What one step of a direction gave.
pub(super) enum Pumped {
    /// Bytes to follow and write.
    Read(Lent),
    /// Nothing more will come.
    Stopped(Stop),
}

/// The state of one direction.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// Where the stream stands.
    pub(super) tracker: FrameTracker,
    /// Whole data messages seen.
    pub(super) messages: u64,
    /// A close frame has gone by.
    pub(super) saw_close_frame: bool,
    /// A hub Close message has gone by.
    pub(super) saw_hub_close: bool,
    /// The stream was cut inside a frame.
    pub(super) cut: bool,
    /// The sink's writing side is shut.
    pub(super) shut: bool,
    /// A held byte was written since the last look.
    pub(super) progressed: bool,
    held: BytesMut,
    unflushed: bool,
    /// TLS or HTTP/2 has taken the bytes, and its peer has not.
    flushing: bool,
    stopped: Option<Stop>,
    reads: u8,
    ping: Option<Box<PingWatch>>,
    /// The number of the last Ping of ours to this direction's sink.
    pings: u8,
}

/// Pings of ours whose Pongs are to be swallowed. A peer may answer only the last of several.
#[derive(Debug)]
struct PingWatch {
    last: u8,
    header: Option<FrameHeader>,
    kept: BytesMut,
}

impl Direction {
    /// Bytes held because the sink would block.
    pub(super) fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Whether the sink takes nothing at the moment.
    pub(super) fn is_blocked(&self) -> bool {
        !self.held.is_empty() || self.flushing
    }

    /// Appends bytes to be written before anything else.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Follows bytes of the stream and counts data messages that end in them; `see` gets each piece of payload.
    pub(super) fn track(&mut self, bytes: &[u8], mut see: impl FnMut(&FrameHeader, &[u8], usize)) -> u64 {
        let (mut rest, mut messages, mut header) = (bytes, 0, None);
        let mut offset = 0;
        while !rest.is_empty() {
            let Ok((used, tracked)) = self.tracker.step(rest) else {
                // Boundaries are lost for good; the receiver will refuse the frame.
                self.cut = true;
                break;
            };
            let (head, tail) = rest.split_at(used.min(rest.len()));
            match tracked {
                Tracked::Header(found) => {
                    self.saw_close_frame |= found.opcode == OpCode::Close;
                    self.saw_hub_close |= is_hub_close(&found, tail);
                    messages += u64::from(found.fin && !found.opcode.is_control());
                    header = Some(found);
                    offset = 0;
                }
                Tracked::Payload { .. } => {
                    if let Some(header) = &header {
                        see(header, head, offset);
                        offset += head.len();
                    }
                }
                Tracked::PartialHeader => {}
            }
            rest = tail;
        }
        self.messages += messages;
        messages
    }

    /// Reads once, after all that is held has been written.
    pub(super) fn pump(&mut self, cx: &mut Context<'_>, source: &mut Stream, sink: &mut Stream) -> Poll<Pumped> {
        if let Some(stop) = self.stopped {
            return Poll::Ready(Pumped::Stopped(stop));
        }
        match ready!(self.flush_held(cx, sink)) {
            Ok(()) => {}
            Err(_) => return Poll::Ready(self.stop(Stop::SinkFailed)),
        }
        if self.reads >= READS_PER_TURN {
            self.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match read_lent(cx, source) {
            Poll::Pending => {
                self.reads = 0;
                Poll::Pending
            }
            Poll::Ready(Ok(lent)) if lent.is_empty() => Poll::Ready(self.stop(Stop::SourceEnded { lost: false })),
            Poll::Ready(Ok(lent)) => {
                self.reads += 1;
                Poll::Ready(Pumped::Read(lent))
            }
            Poll::Ready(Err(_)) => Poll::Ready(self.stop(Stop::SourceEnded { lost: true })),
        }
    }

    fn stop(&mut self, stop: Stop) -> Pumped {
        self.stopped = Some(stop);
        Pumped::Stopped(stop)
    }

    /// Writes bytes just read; what the sink does not take is held.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, sink: &mut Stream, bytes: Lent) {
        if self.ping.is_some() {
            self.write_without_pong(&bytes);
            return;
        }
        let mut rest: &[u8] = &bytes;
        while !rest.is_empty() {
            match Pin::new(&mut *sink).poll_write(cx, rest) {
                Poll::Ready(Ok(written @ 1..)) => rest = rest.get(written..).unwrap_or_default(),
                Poll::Ready(_) => {
                    self.stopped = Some(Stop::SinkFailed);
                    return;
                }
                Poll::Pending => {
                    self.held.extend_from_slice(rest);
                    break;
                }
            }
        }
        self.unflushed = !matches!(sink, Stream::Tcp(_));
    }

    /// Writes all that is held, then flushes.
    pub(super) fn flush_held(&mut self, cx: &mut Context<'_>, sink: &mut Stream) -> Poll<std::io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut *sink).poll_write(cx, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
            self.progressed = true;
            self.unflushed = true;
            if self.held.is_empty() {
                self.held = BytesMut::new();
            }
        }
        if self.unflushed {
            let flushed = Pin::new(&mut *sink).poll_flush(cx);
            self.flushing = flushed.is_pending();
            ready!(flushed)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and gives up bytes; `None` at the end.
    pub(super) fn discard(&mut self, cx: &mut Context<'_>, source: &mut Stream) -> Poll<Option<Lent>> {
        match ready!(read_lent(cx, source)) {
            Ok(lent) if !lent.is_empty() => Poll::Ready(Some(lent)),
            _ => Poll::Ready(None),
        }
    }

    /// Sends a Ping of ours to this direction's sink, at a frame boundary only, and watches the other direction's
    /// frames for nothing: the Pong is swallowed where it comes in (see [`Direction::expect_pong`]). Gives its number.
    pub(super) fn ping(&mut self, masked: bool) -> Option<u8> {
        if !self.tracker.at_frame_boundary() || self.saw_close_frame {
            return None;
        }
        self.pings = self.pings.wrapping_add(1);
        let mask = masked.then_some([0x5A, 0xC3, 0x3C, 0xA5]);
        let mut frame = BytesMut::new();
        websocket::write_frame(&mut frame, true, OpCode::Ping, mask, &ping_payload(self.pings));
        self.held.extend_from_slice(&frame);
        Some(self.pings)
    }

    /// Whether Pongs can be watched for: inside a frame it cannot be told where the next one begins.
    pub(super) fn can_expect_pong(&self) -> bool {
        self.ping.is_some() || self.tracker.at_frame_boundary()
    }

    /// From now on Pongs of ours are not passed on, until that with this number.
    pub(super) fn expect_pong(&mut self, number: u8) {
        match &mut self.ping {
            Some(watch) => watch.last = number,
            None => self.ping = Some(Box::new(PingWatch { last: number, header: None, kept: BytesMut::new() })),
        }
    }

    fn write_without_pong(&mut self, bytes: &[u8]) {
        let Some(mut watch) = self.ping.take() else { return };
        watch.kept.extend_from_slice(bytes);
        let mut found = false;
        loop {
            if let Some(header) = watch.header {
                // Inside a frame that is passed on.
                let take = watch.kept.len().min(usize::try_from(header.payload_len).unwrap_or(usize::MAX));
                self.held.extend_from_slice(&watch.kept.split_to(take));
                let left = header.payload_len - take as u64;
                watch.header = (left > 0).then_some(FrameHeader { payload_len: left, ..header });
                if watch.header.is_some() {
                    break;
                }
                continue;
            }
            let Ok(Some(header)) = FrameHeader::parse(&watch.kept) else { break };
            if header.opcode == OpCode::Pong && header.payload_len == PING_BYTES as u64 {
                if watch.kept.len() < header.header_len + PING_BYTES {
                    break;
                }
                let mut payload = [0; PING_BYTES];
                payload.copy_from_slice(
                    watch.kept.get(header.header_len..header.header_len + PING_BYTES).unwrap_or(&[0; PING_BYTES]),
                );
                if let Some(key) = header.mask {
                    websocket::apply_mask(&mut payload, key, 0);
                }
                if payload == ping_payload(watch.last) {
                    watch.kept.advance(header.header_len + PING_BYTES);
                    found = true;
                    break;
                }
                if payload.starts_with(PING_NAME) {
                    watch.kept.advance(header.header_len + PING_BYTES);
                    continue;
                }
            }
            self.held.extend_from_slice(&watch.kept.split_to(header.header_len));
            watch.header = (header.payload_len > 0).then_some(header);
        }
        if found {
            self.held.extend_from_slice(&watch.kept);
        } else {
            self.ping = Some(watch);
        }
    }
}

/// How the payload of our own pings begins; a number follows.
const PING_NAME: &[u8; 7] = b"hubgate";

fn ping_payload(number: u8) -> [u8; PING_BYTES] {
    let [a, b, c, d, e, f, g] = *PING_NAME;
    [a, b, c, d, e, f, g, number]
}

/// Reads into the thread's buffer.
fn read_lent(cx: &mut Context<'_>, source: &mut Stream) -> Poll<std::io::Result<Lent>> {
    let mut buffer = LENT.with(|lent| std::mem::take(&mut *lent.borrow_mut()));
    if buffer.is_empty() {
        buffer = vec![0; LENT_BYTES].into_boxed_slice();
    }
    let mut read = ReadBuf::new(&mut buffer);
    let result = Pin::new(source).poll_read(cx, &mut read);
    let len = read.filled().len();
    let lent = Lent { buffer, len };
    result.map(|result| result.map(|()| lent))
}

/// Whether a frame from a hub starts with a hub Close message, JSON or MessagePack.
fn is_hub_close(header: &FrameHeader, payload: &[u8]) -> bool {
    match header.opcode {
        OpCode::Text => payload.starts_with(br#"{"type":7"#),
        OpCode::Binary => matches!(payload, [len, 0x92 | 0x93, 7, ..] if u64::from(*len) < header.payload_len),
        _ => false,
    }
}
