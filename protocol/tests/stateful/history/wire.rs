//! One direction of a socket: bytes under way, and which messages they are.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use hubgate_protocol::HubProtocol;
use hubgate_protocol::framing::MessageSplitter;

/// Bytes under way.
#[derive(Debug, Default)]
pub struct Pipe {
    bytes: VecDeque<u8>,
    written: usize,
    /// Where each message under way ends, counted as `written` is, and whether it is an Ack.
    ends: VecDeque<(usize, bool)>,
}

/// What a cut took away.
#[derive(Debug, Default, Clone, Copy)]
pub struct Lost {
    /// Whether a message was cut in two.
    pub torn: bool,
    /// Acks that did not arrive.
    pub acks: u64,
}

impl Pipe {
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn push(&mut self, message: &Bytes, is_ack: bool) {
        self.bytes.extend(message.iter());
        self.written += message.len();
        self.ends.push_back((self.written, is_ack));
    }

    /// Moves up to `count` bytes to the receiver's input.
    pub fn deliver(&mut self, count: usize, input: &mut BytesMut) {
        let count = count.min(self.bytes.len());
        input.extend(self.bytes.drain(..count));
        let delivered = self.written - self.bytes.len();
        while self.ends.front().is_some_and(|(end, _)| *end <= delivered) {
            self.ends.pop_front();
        }
    }

    /// Tells what is lost with the socket, given what the receiver's input still holds.
    pub fn lost(&self, input: &BytesMut) -> Lost {
        Lost { torn: !input.is_empty(), acks: self.ends.iter().filter(|(_, is_ack)| *is_ack).count() as u64 }
    }
}

/// A receiver's input.
#[derive(Debug)]
pub struct Input {
    pub bytes: BytesMut,
    protocol: HubProtocol,
    splitter: MessageSplitter,
}

impl Input {
    pub fn new(protocol: HubProtocol) -> Self {
        Self { bytes: BytesMut::new(), protocol, splitter: protocol.splitter(1 << 20) }
    }

    pub fn next(&mut self) -> Result<Option<Bytes>, String> {
        match self.splitter.next(&mut self.bytes) {
            Ok(message) => Ok(message.map(hubgate_protocol::framing::WholeMessage::into_framed)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Drops an incomplete message.
    pub fn restart(&mut self) {
        self.bytes.clear();
        self.splitter = self.protocol.splitter(1 << 20);
    }
}
