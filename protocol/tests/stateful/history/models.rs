//! The message buffers of the official clients, quirks included, as observed (signalr-wire §12.4 to §12.7).

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use hubgate_protocol::message::{Ack, Sequence};
use hubgate_protocol::stateful::Kind;
use hubgate_protocol::{HubMessage, HubProtocol};

/// What the client does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    Delivered,
    Dropped,
}

/// The message buffer of the JavaScript or of the .NET client.
#[derive(Debug)]
pub struct Model {
    is_js: bool,
    protocol: HubProtocol,
    bytes_max: usize,
    buffer: VecDeque<(u64, Bytes)>,
    buffered_bytes: usize,
    sent: u64,
    next: u64,
    latest: u64,
    /// JavaScript: between two sockets, and until the first Sequence of the new one.
    awaits_sequence: bool,
    attached: bool,
    /// JavaScript's one-shot timer.
    ack_due: Option<Duration>,
    /// .NET: the last number it acknowledged, whether or not the Ack arrived.
    acknowledged: u64,
    /// What the socket has not taken yet.
    out: VecDeque<Bytes>,
}

impl Model {
    pub fn new(is_js: bool, protocol: HubProtocol, bytes_max: usize) -> Self {
        Self {
            is_js,
            protocol,
            bytes_max,
            buffer: VecDeque::new(),
            buffered_bytes: 0,
            sent: 0,
            next: 1,
            latest: 0,
            awaits_sequence: false,
            attached: true,
            ack_due: None,
            acknowledged: 0,
            out: VecDeque::new(),
        }
    }

    /// .NET holds a write up behind more than the limit; JavaScript sends and only keeps the promise pending.
    pub fn has_room(&self) -> bool {
        self.is_js || self.buffered_bytes <= self.bytes_max
    }

    pub fn send(&mut self, framed: Bytes) {
        self.sent += 1;
        self.buffered_bytes += framed.len();
        self.buffer.push_back((self.sent, framed.clone()));
        self.send_uncounted(framed);
    }

    pub fn send_uncounted(&mut self, framed: Bytes) {
        if self.attached {
            self.out.push_back(framed);
        }
    }

    pub fn next_write(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    pub fn unacknowledged(&self) -> usize {
        self.buffer.len()
    }

    pub fn lost(&mut self) {
        self.attached = false;
        self.awaits_sequence = self.is_js;
        self.out.clear();
    }

    /// A new socket. `early` slips out in front of the Sequence, which only .NET's locking could let happen.
    pub fn resumed(&mut self, early: Option<Bytes>) {
        self.attached = true;
        if let Some(framed) = early {
            self.send(framed);
        }
        let sequence_id = self.buffer.front().map_or(self.sent + 1, |(number, _)| *number);
        self.out.push_back(self.protocol.to_bytes(&HubMessage::Sequence(Sequence { sequence_id: sequence_id as i64 })));
        self.out.extend(self.buffer.iter().map(|(_, framed)| framed.clone()));
    }

    /// Takes a message; `uncounted` when it came in one chunk with the handshake response.
    pub fn receive(&mut self, kind: Kind, uncounted: bool, now: Duration) -> Result<Got, String> {
        if self.awaits_sequence && !matches!(kind, Kind::Sequence(_)) {
            return Ok(Got::Dropped);
        }
        match kind {
            Kind::Counted if uncounted && self.is_js => {}
            Kind::Counted => return Ok(self.receive_counted(now)),
            Kind::Ack(number) => {
                while self.buffer.front().is_some_and(|(first, _)| *first as i64 <= number) {
                    self.buffered_bytes -= self.buffer.pop_front().map_or(0, |(_, framed)| framed.len());
                }
            }
            Kind::Sequence(number) => {
                if number > self.next as i64 {
                    return Err(format!("the client refused Sequence {number} since its next is {}", self.next));
                }
                self.next = number as u64;
                self.awaits_sequence = false;
            }
            Kind::Ping | Kind::Close | Kind::Other => {}
        }
        Ok(Got::Delivered)
    }

    fn receive_counted(&mut self, now: Duration) -> Got {
        let number = self.next;
        self.next += 1;
        if number <= self.latest {
            if number == self.latest && self.is_js {
                self.start_timer(now);
            }
            return Got::Dropped;
        }
        self.latest = number;
        self.start_timer(now);
        Got::Delivered
    }

    fn start_timer(&mut self, now: Duration) {
        if self.is_js && self.ack_due.is_none() {
            self.ack_due = Some(now + Duration::from_secs(1));
        }
    }

    /// When the next Ack is due: JavaScript's timer, or .NET's next full second if there is something new.
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        if self.is_js {
            return self.ack_due;
        }
        (self.latest > self.acknowledged).then(|| Duration::from_secs(now.as_secs() + 1))
    }

    /// Sends the Ack that is due; without a socket it is lost for good.
    pub fn timer(&mut self, now: Duration) {
        let due = match self.is_js {
            true => self.ack_due.take_if(|due| *due <= now).is_some(),
            false => self.latest > self.acknowledged && now.subsec_nanos() == 0,
        };
        if due {
            self.acknowledged = self.latest;
            self.send_ack();
        }
    }

    /// Sends the last Ack once more.
    pub fn send_ack(&mut self) {
        if self.latest > 0 {
            let ack = self.protocol.to_bytes(&HubMessage::Ack(Ack { sequence_id: self.latest as i64 }));
            self.send_uncounted(ack);
        }
    }
}
