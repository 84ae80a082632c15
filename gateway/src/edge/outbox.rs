//! What waits for a client: whole messages in order, then the end.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::poll::Polls;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The hub closed it.
    HubClosed,
    /// The hub was lost.
    HubLost,
    /// The client deleted it or closed its stream.
    ClientClosed,
    /// The client has not polled, or not read, for too long.
    ClientGone,
    /// The gateway refused to go on: bad format, over a limit.
    Refused,
    /// The gateway is stopping.
    Drained,
}

/// What a look into the outbox gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// One or more whole messages.
    Messages(Bytes),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Ended(End),
}

/// Messages for one client.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: BytesMut,
    units: VecDeque<usize>,
    ended: Option<End>,
    /// The hub has answered the handshake.
    pub(super) handshaken: bool,
    /// The hub's Close message has gone by.
    pub(super) closed: bool,
    /// The polls, and the last one's answer.
    pub(super) polls: Polls,
}

impl Outbox {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that wait, and those of a poll's answer that is kept.
    pub(super) fn held(&self) -> usize {
        self.bytes.len() + self.polls.kept_bytes()
    }

    /// Puts messages that were taken before all others; also when the end has come meanwhile.
    pub(super) fn put_back(&mut self, messages: &[u8]) {
        let later = std::mem::take(&mut self.bytes);
        self.bytes.reserve(messages.len() + later.len());
        self.bytes.extend_from_slice(messages);
        self.bytes.extend_from_slice(&later);
        self.units.push_front(messages.len());
    }

    /// Appends one whole message.
    pub(super) fn push(&mut self, unit: &[u8]) {
        if self.ended.is_none() {
            self.bytes.extend_from_slice(unit);
            self.units.push_back(unit.len());
        }
    }

    /// Forgets what waits, and what was answered last.
    pub(super) fn clear(&mut self) {
        self.polls.forget();
        self.bytes = BytesMut::new();
        self.units.clear();
    }

    /// Notes the end; the first one counts.
    pub(super) fn end(&mut self, end: End, discard: bool) {
        if discard {
            self.clear();
        }
        self.ended.get_or_insert(end);
    }

    /// How it ended, if it has; messages may still wait.
    pub(super) fn ended(&self) -> Option<End> {
        self.ended
    }

    /// Takes everything.
    pub(super) fn take(&mut self) -> Taken {
        if self.units.is_empty() {
            return self.ended.map_or(Taken::Nothing, Taken::Ended);
        }
        self.units.clear();
        Taken::Messages(std::mem::take(&mut self.bytes).freeze())
    }

    /// Takes the first message only.
    pub(super) fn take_one(&mut self) -> Taken {
        let Some(len) = self.units.pop_front() else {
            return self.ended.map_or(Taken::Nothing, Taken::Ended);
        };
        Taken::Messages(self.bytes.split_to(len.min(self.bytes.len())).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_before_the_end_is_fetched_first() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.take(), Taken::Nothing);
        outbox.push(b"one");
        outbox.push(b"two");
        outbox.end(End::HubClosed, false);
        outbox.push(b"late");
        assert_eq!(outbox.take_one(), Taken::Messages(Bytes::from_static(b"one")));
        assert_eq!(outbox.take(), Taken::Messages(Bytes::from_static(b"two")));
        outbox.end(End::Drained, false);
        assert_eq!(outbox.take(), Taken::Ended(End::HubClosed), "the first end counts");
    }

    #[test]
    fn a_discarding_end_leaves_nothing() {
        let mut outbox = Outbox::default();
        outbox.push(b"one");
        outbox.end(End::ClientClosed, true);
        assert_eq!(outbox.take(), Taken::Ended(End::ClientClosed));
    }
}
