//! The client's side of a history: an official client's buffer or an endpoint of our own, and its application.

use core::time::Duration;

use bytes::Bytes;
use hubgate_protocol::HubProtocol;
use hubgate_protocol::stateful::{Config, Endpoint, Kind, Received};

use super::models::{Got, Model};
use super::plan::{ClientKind, Plan};
use super::wire::Input;

/// A client and what its application sent.
#[derive(Debug)]
pub struct Client {
    kind: ClientKind,
    protocol: HubProtocol,
    end: End,
    pub input: Input,
    /// Whether the handshake response was read.
    pub shaken: bool,
    /// Whether it sent a Close.
    pub closed: bool,
    pub sent: Vec<Bytes>,
}

#[derive(Debug)]
enum End {
    Model(Model),
    Ours(Box<Endpoint>),
}

impl Client {
    pub fn new(plan: &Plan) -> Self {
        let end = match plan.client {
            ClientKind::Ours => {
                let config = Config {
                    unacknowledged_bytes_max: plan.client_bytes_max,
                    held_bytes_max: plan.client_bytes_max + 100_000,
                    overflow_wait: Duration::MAX,
                    window: Duration::MAX,
                    ..Config::client()
                };
                End::Ours(Box::new(Endpoint::new(plan.protocol, config, Duration::ZERO)))
            }
            kind => End::Model(Model::new(kind == ClientKind::Js, plan.protocol, plan.client_bytes_max)),
        };
        let (kind, protocol) = (plan.client, plan.protocol);
        Self { kind, protocol, end, input: Input::new(protocol), shaken: false, closed: false, sent: Vec::new() }
    }

    pub fn is_js(&self) -> bool {
        self.kind == ClientKind::Js
    }

    /// Whether its application may send another message.
    pub fn has_room(&self) -> bool {
        !self.closed
            && match &self.end {
                End::Model(model) => model.has_room(),
                End::Ours(endpoint) => endpoint.has_room(),
            }
    }

    pub fn send(&mut self, framed: Bytes, now: Duration) {
        self.sent.push(framed.clone());
        match &mut self.end {
            End::Model(model) => model.send(framed),
            End::Ours(endpoint) => endpoint.send(Kind::Counted, framed, now),
        }
    }

    pub fn send_uncounted(&mut self, kind: Kind, framed: Bytes, now: Duration) {
        self.closed |= kind == Kind::Close;
        match &mut self.end {
            End::Model(model) => model.send_uncounted(framed),
            End::Ours(endpoint) => endpoint.send(kind, framed, now),
        }
    }

    pub fn repeat_ack(&mut self) {
        if let End::Model(model) = &mut self.end {
            model.send_ack();
        }
    }

    pub fn next_write(&mut self, now: Duration) -> Option<Bytes> {
        match &mut self.end {
            End::Model(model) => model.next_write(),
            End::Ours(endpoint) => endpoint.next_write(now),
        }
    }

    pub fn lost(&mut self, now: Duration) {
        match &mut self.end {
            End::Model(model) => model.lost(),
            End::Ours(endpoint) => endpoint.lost(now),
        }
    }

    /// A new socket; tells whether `early` was taken.
    pub fn resumed(&mut self, early: Option<Bytes>, now: Duration) -> bool {
        let early = early.filter(|_| self.kind == ClientKind::Net && self.has_room());
        self.sent.extend(early.clone());
        let taken = early.is_some();
        self.input.restart();
        match &mut self.end {
            End::Model(model) => model.resumed(early),
            End::Ours(endpoint) => endpoint.resumed(now),
        }
        taken
    }

    /// Takes the handshake response off the input; tells whether it is there.
    pub fn shake(&mut self, now: Duration) -> bool {
        if !self.shaken {
            let Some(end) = self.input.bytes.iter().position(|byte| *byte == 0x1E) else { return false };
            drop(self.input.bytes.split_to(end + 1));
            self.shaken = true;
            if self.is_js() {
                self.send_uncounted(Kind::Ping, Bytes::from_static(self.protocol.ping()), now);
            }
        }
        true
    }

    pub fn receive(&mut self, kind: Kind, len: usize, uncounted: bool, now: Duration) -> Result<Got, String> {
        match &mut self.end {
            End::Model(model) => model.receive(kind, uncounted, now),
            End::Ours(endpoint) => match endpoint.receive(kind, len, now) {
                Ok(Received::Deliver) => Ok(Got::Delivered),
                Ok(Received::Duplicate | Received::Consumed) => Ok(Got::Dropped),
                Err(error) => Err(format!("our client: {error}")),
            },
        }
    }

    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        match &self.end {
            End::Model(model) => model.deadline(now),
            End::Ours(endpoint) => endpoint.deadline(),
        }
    }

    pub fn timer(&mut self, now: Duration) {
        match &mut self.end {
            End::Model(model) => model.timer(now),
            End::Ours(endpoint) => while endpoint.timer(now).is_some() {},
        }
    }

    /// Messages, or for our own end bytes, that it still keeps.
    pub fn unacknowledged(&self) -> usize {
        match &self.end {
            End::Model(model) => model.unacknowledged(),
            End::Ours(endpoint) => endpoint.buffered_bytes(),
        }
    }
}
