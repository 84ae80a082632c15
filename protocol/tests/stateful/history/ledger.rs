//! What the server's end wrote and was told, from outside: every rule that one look at the wire can judge.

use core::time::Duration;

use bytes::Bytes;
use hubgate_protocol::HubProtocol;
use hubgate_protocol::stateful::{Config, Kind, classify};

use super::plan::MESSAGE_BYTES_MAX;
use super::seen::Seen;

/// Longest message that stands for an acknowledged one.
const STUB_BYTES_MAX: usize = 31;

/// The books of the server's end.
#[derive(Debug)]
pub struct Ledger {
    protocol: HubProtocol,
    config: Config,
    /// The hub's counted messages.
    pub sent: Vec<Bytes>,
    /// Bytes of the first so many of them.
    totals: Vec<usize>,
    /// Highest number that the client acknowledged.
    pub acknowledged: u64,
    /// Highest number ever written.
    pub written: u64,
    /// Highest number written on earlier sockets.
    repeated_to: u64,
    /// The next counted message on this socket; `None` until the Sequence.
    cursor: Option<u64>,
    /// Where this socket's repetition began.
    repeats_from: u64,
    pings: u64,
    /// Bytes received since the last Ack.
    received: usize,
    last_ack: u64,
    granted: Vec<Duration>,
}

/// A write, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrote {
    pub kind: Kind,
    /// The number of a counted message.
    pub number: u64,
}

impl Ledger {
    pub fn new(protocol: HubProtocol, config: &Config) -> Self {
        Self {
            protocol,
            config: config.clone(),
            sent: Vec::new(),
            totals: vec![0],
            acknowledged: 0,
            written: 0,
            repeated_to: 0,
            cursor: Some(1),
            repeats_from: 1,
            pings: 0,
            received: 0,
            last_ack: 0,
            granted: Vec::new(),
        }
    }

    fn bytes_between(&self, from: u64, to: u64) -> usize {
        let total = |number: u64| self.totals.get(number as usize).copied().unwrap_or_default();
        total(to).saturating_sub(total(from))
    }

    /// The hub sent a message; `waits` when the endpoint then had no room.
    pub fn accepted(&mut self, framed: Bytes, waits: bool, held: usize) -> Result<(), String> {
        let before = self.sent.len() as u64;
        let unacknowledged = self.bytes_between(self.acknowledged, before);
        let fresh = self.bytes_between(self.acknowledged.max(self.repeated_to), before);
        self.totals.push(self.bytes_between(0, before) + framed.len());
        self.sent.push(framed);
        if waits && unacknowledged <= self.config.unacknowledged_bytes_max && !self.may_be_held(unacknowledged) {
            return Err(format!("a message waits behind {unacknowledged} unacknowledged bytes"));
        }
        if !waits && fresh > self.config.unacknowledged_bytes_max {
            return Err(format!("a message did not wait behind {fresh} unacknowledged bytes"));
        }
        if held > self.config.held_bytes_max + 2 * MESSAGE_BYTES_MAX {
            return Err(format!("{held} bytes are held"));
        }
        Ok(())
    }

    /// Whether what is kept may be too much, given how much of it is unacknowledged.
    pub fn may_be_held(&self, unacknowledged: usize) -> bool {
        unacknowledged + STUB_BYTES_MAX * self.sent.len() > self.config.held_bytes_max
    }

    pub fn unacknowledged_bytes(&self) -> usize {
        self.bytes_between(self.acknowledged, self.sent.len() as u64)
    }

    pub fn pinged(&mut self) {
        self.pings += 1;
    }

    /// The server's end was told that its socket is lost, or has a new one.
    pub fn socket_gone(&mut self) {
        self.pings = 0;
    }

    /// A new socket was granted.
    pub fn resumed(&mut self, now: Duration) -> Result<(), String> {
        self.socket_gone();
        self.repeated_to = self.written;
        self.cursor = None;
        self.granted.retain(|granted| *granted + Duration::from_secs(1) > now);
        self.granted.push(now);
        let most = 3 * self.config.resumes_per_second_max as usize;
        match self.granted.len() > most {
            true => Err(format!("more than {most} resumes in a second")),
            false => Ok(()),
        }
    }

    /// A resume was refused for its rate.
    pub fn refused(&mut self, now: Duration) -> Result<(), String> {
        match self.granted.last() {
            Some(granted) if *granted + Duration::from_secs(1) > now => Ok(()),
            _ => Err("a resume was refused after a quiet second".to_owned()),
        }
    }

    /// Counted messages that this socket's repetition still owes the client that received so many on it.
    pub fn repetition_left(&self, received: u64) -> bool {
        self.repeats_from + received <= self.repeated_to
    }

    pub fn received(&mut self, len: usize) {
        self.received += len;
    }

    /// Judges a write of the server's end; `delivered` is how many messages reached the hub.
    pub fn wrote(&mut self, framed: &Bytes, delivered: usize, seen: &mut Seen) -> Result<Wrote, String> {
        let kind = classify(self.protocol, framed).map_err(|error| error.to_string())?;
        let ack_owed = self.received >= self.config.ack_after_bytes;
        let mut wrote = Wrote { kind, number: 0 };
        let Some(cursor) = &mut self.cursor else {
            let Kind::Sequence(number) = kind else { return Err(format!("{kind:?} in front of the Sequence")) };
            self.cursor = Some(number as u64);
            self.repeats_from = number as u64;
            return Ok(wrote);
        };
        match kind {
            Kind::Ack(number) => {
                if number != delivered as i64 {
                    return Err(format!("Ack {number} when {delivered} messages were delivered"));
                }
                seen.acks_repeated += u64::from(self.last_ack == number as u64);
                self.last_ack = number as u64;
                self.received = 0;
            }
            _ if ack_owed => return Err(format!("{kind:?} when an Ack is owed")),
            Kind::Sequence(number) => return Err(format!("Sequence {number} in the middle")),
            Kind::Ping => {
                self.pings = self.pings.checked_sub(1).ok_or("a Ping that nobody sent since the socket came")?;
            }
            Kind::Counted => {
                let sent = self.sent.get((*cursor as usize).wrapping_sub(1));
                wrote.number = *cursor;
                *cursor += 1;
                seen.resent += u64::from(wrote.number <= self.written);
                self.written = self.written.max(wrote.number);
                if sent != Some(framed) {
                    if wrote.number > self.acknowledged {
                        return Err(format!("number {} was written as {framed:?}", wrote.number));
                    }
                    seen.stubs += 1;
                }
            }
            Kind::Close | Kind::Other => {}
        }
        Ok(wrote)
    }
}
