//! Carries a plan out and judges it.

use core::time::Duration;

use bytes::Bytes;
use hubgate_protocol::message::{Ack, Close, Sequence};
use hubgate_protocol::stateful::{Endpoint, Kind, Received, ResumeRefused, Timed, classify};
use hubgate_protocol::{HubMessage, HubProtocol};

use super::client::Client;
use super::ledger::Ledger;
use super::models::Got;
use super::plan::{Mutant, Op, Plan};
use super::seen::Seen;
use super::wire::{Input, Pipe};

/// How a connection ended; each was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Overflow,
    Window,
    RefusedForRate,
    Refused,
    ClosedByHub,
    ClosedByClient,
    SequenceRefused,
}

/// The two ends and what is between them.
#[derive(Debug)]
pub struct World {
    now: Duration,
    protocol: HubProtocol,
    server: Endpoint,
    server_input: Input,
    client: Client,
    down: Pipe,
    up: Pipe,
    pipe_bytes: usize,
    ledger: Ledger,
    mutant: Option<Mutant>,
    overflow_wait: Duration,
    window: Duration,
    ping_in_gap: Duration,
    /// The socket broke: nothing arrives any more.
    broken: bool,
    /// When the server noticed.
    server_lost: Option<Duration>,
    client_lost: bool,
    hub_closed: bool,
    /// The hub's Close went into a socket, whole or broken.
    close_written: bool,
    client_pinged: bool,
    pings_in_gap: u32,
    /// Since when a message waits for room.
    waits: Option<Duration>,
    /// Since when sockets neither break nor stall.
    calm: Option<Duration>,
    to_hub: usize,
    to_client: usize,
    /// Counted messages that the client received on this socket, and those that this socket owes the server.
    received_here: u64,
    client_repeats: usize,
    received_up_here: usize,
    ended: Option<End>,
    seen: Seen,
    trace: Option<Vec<String>>,
}

type Checked = Result<(), String>;

impl World {
    pub fn new(plan: &Plan, mutant: Option<Mutant>) -> Self {
        let mut server = Endpoint::new(plan.protocol, plan.config.clone(), Duration::ZERO);
        if let Some(Mutant::Without(guard)) = mutant {
            server = server.without(guard);
        }
        let mut down = Pipe::default();
        down.push(&Bytes::from_static(b"{}\x1e"), false);
        Self {
            now: Duration::ZERO,
            protocol: plan.protocol,
            server,
            server_input: Input::new(plan.protocol),
            client: Client::new(plan),
            down,
            up: Pipe::default(),
            pipe_bytes: plan.pipe_bytes,
            ledger: Ledger::new(plan.protocol, &plan.config),
            mutant,
            overflow_wait: plan.config.overflow_wait,
            window: plan.config.window,
            ping_in_gap: plan.config.ping_in_gap,
            broken: false,
            server_lost: None,
            client_lost: false,
            hub_closed: false,
            close_written: false,
            client_pinged: false,
            pings_in_gap: 0,
            waits: None,
            calm: None,
            to_hub: 0,
            to_client: 0,
            received_here: 0,
            client_repeats: 0,
            received_up_here: 0,
            ended: None,
            seen: Seen::default(),
            trace: None,
        }
    }

    pub fn traced(mut self) -> Self {
        self.trace = Some(Vec::new());
        self
    }

    pub fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    /// How it ended, if it did.
    #[allow(dead_code, reason = "only the tests ask")]
    pub fn ended(&self) -> Option<End> {
        self.ended
    }

    /// Carries all of the plan out, then lets everything come to rest.
    pub fn run(&mut self, plan: &Plan, seen: &mut Seen) -> Checked {
        let outcome = plan.ops.iter().try_for_each(|op| self.step(*op)).and_then(|()| self.finish());
        self.seen.histories = 1;
        self.seen.messages = (self.to_hub + self.to_client) as u64;
        self.seen.duplicates = self.server.duplicates();
        seen.add(&self.seen);
        if let Err(error) = &outcome {
            self.say(|| format!("FAILED: {error}"));
        }
        outcome
    }

    /// One step; nothing happens any more once the connection ended.
    pub fn step(&mut self, op: Op) -> Checked {
        if self.ended.is_some() {
            return Ok(());
        }
        self.say(|| format!("- {op:?}"));
        match op {
            Op::HubSends(len) => self.hub_sends(len)?,
            Op::ClientSends(len) => self.client_sends(len),
            Op::HubPings => {
                if self.server_lost.is_none() {
                    self.ledger.pinged();
                }
                self.server.send(Kind::Ping, Bytes::from_static(self.protocol.ping()), self.now);
            }
            Op::ClientPings => self.client_uncounted(Kind::Ping, &HubMessage::Ping),
            Op::HubSendsForeign(number) => self.hub_sends_foreign(number),
            Op::Down(bytes) => self.deliver_down(bytes)?,
            Op::Up(bytes) => self.deliver_up(bytes)?,
            Op::Wait(ms) => self.wait(Duration::from_millis(ms))?,
            Op::Cut => self.cut(),
            Op::ServerNotices => self.server_notices(),
            Op::ClientNotices => self.client_notices(),
            Op::ClientAbandons => self.client_abandons(),
            Op::Resume => self.resume(None)?,
            Op::ResumeEarly(len) => self.resume(Some(len))?,
            Op::RepeatsAck => self.client.repeat_ack(),
            Op::FalseAck(off) => self.false_ack(off)?,
            Op::FalseSequence(off) => self.false_sequence(off)?,
            Op::HubCloses => {
                let close = self.protocol.to_bytes(&HubMessage::Close(Close::default()));
                self.server.send(Kind::Close, close, self.now);
                self.hub_closed = true;
            }
            Op::ClientCloses if self.client_lost || !self.client.shaken => {}
            Op::ClientCloses => self.client_uncounted(Kind::Close, &HubMessage::Close(Close::default())),
        }
        self.pump()
    }

    fn hub_sends(&mut self, len: usize) -> Checked {
        if self.hub_closed || !self.server.has_room() {
            return Ok(());
        }
        let framed = message(self.protocol, self.ledger.sent.len() as i64, len);
        self.seen.miscounts_averted += u64::from(self.client.is_js() && !self.client.shaken);
        self.server.send(Kind::Counted, framed.clone(), self.now);
        self.seen.waits_for_room += u64::from(!self.server.has_room());
        self.ledger.accepted(framed, !self.server.has_room(), self.server.buffered_bytes())
    }

    fn client_sends(&mut self, len: usize) {
        if self.client.shaken && self.client.has_room() {
            let framed = message(self.protocol, -1 - self.client.sent.len() as i64, len);
            self.client.send(framed, self.now);
        }
    }

    fn client_uncounted(&mut self, kind: Kind, message: &HubMessage) {
        if self.client.shaken && !self.client.closed {
            self.client.send_uncounted(kind, self.protocol.to_bytes(message), self.now);
        }
    }

    fn hub_sends_foreign(&mut self, number: i64) {
        let (kind, message) = match number {
            0.. => (Kind::Ack(number), HubMessage::Ack(Ack { sequence_id: number })),
            _ => (Kind::Sequence(-number), HubMessage::Sequence(Sequence { sequence_id: -number })),
        };
        self.server.send(kind, self.protocol.to_bytes(&message), self.now);
    }

    /// Lets both ends write what their sockets take.
    fn pump(&mut self) -> Checked {
        self.note_room();
        while self.broken || self.down.len() < self.pipe_bytes {
            let Some(framed) = self.server.next_write(self.now) else { break };
            let wrote = self.ledger.wrote(&framed, self.to_hub, &mut self.seen)?;
            self.say(|| format!("    server writes {:?} {}", wrote.kind, wrote.number));
            self.close_written |= wrote.kind == Kind::Close;
            if !self.broken {
                self.down.push(&framed, matches!(wrote.kind, Kind::Ack(_)));
            }
        }
        self.seen.slow_sockets += u64::from(!self.broken && self.down.len() >= self.pipe_bytes);
        while !self.client_lost && (self.broken || self.up.len() < self.pipe_bytes) {
            let Some(framed) = self.client.next_write(self.now) else { break };
            if !self.broken {
                let kind = classify(self.protocol, &framed).map_err(|error| error.to_string())?;
                self.say(|| format!("    client writes {kind:?}"));
                self.up.push(&framed, matches!(kind, Kind::Ack(_)));
            }
        }
        Ok(())
    }

    fn note_room(&mut self) {
        if self.server.has_room() || self.hub_closed {
            self.waits = None;
        } else if self.waits.is_none() {
            self.waits = Some(self.now);
        }
    }

    fn deliver_down(&mut self, bytes: usize) -> Checked {
        if self.broken || self.client_lost {
            return Ok(());
        }
        self.down.deliver(bytes, &mut self.client.input.bytes);
        let was_shaken = self.client.shaken;
        if !self.client.shake(self.now) {
            return Ok(());
        }
        while let Some(framed) = self.client.input.next()? {
            let kind = classify(self.protocol, &framed).map_err(|error| error.to_string())?;
            let got = self.client.receive(kind, framed.len(), !was_shaken, self.now)?;
            self.received_here += u64::from(kind == Kind::Counted);
            self.say(|| format!("    client receives {kind:?}: {got:?}"));
            match kind {
                Kind::Counted if got == Got::Delivered => {
                    if self.ledger.sent.get(self.to_client) != Some(&framed) {
                        return Err(format!("the client got {framed:?} as message {}", self.to_client + 1));
                    }
                    self.to_client += 1;
                }
                Kind::Close if got == Got::Delivered => {
                    if self.to_client != self.ledger.sent.len() {
                        return Err("the Close overtook a message".to_owned());
                    }
                    self.end(End::ClosedByHub);
                    return Ok(());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn deliver_up(&mut self, bytes: usize) -> Checked {
        if self.broken {
            return Ok(());
        }
        self.up.deliver(bytes, &mut self.server_input.bytes);
        while let Some(framed) = self.server_input.next()? {
            let kind = classify(self.protocol, &framed).map_err(|error| format!("at the server: {error}"))?;
            let len = framed.len();
            let received =
                self.server.receive(kind, len, self.now).map_err(|error| format!("at the server: {error}"))?;
            self.say(|| format!("    server receives {kind:?}: {received:?}"));
            match kind {
                Kind::Counted => {
                    self.received_up_here += 1;
                    if received != Received::Consumed {
                        self.ledger.received(len);
                    }
                    if received == Received::Deliver {
                        if self.client.sent.get(self.to_hub) != Some(&framed) {
                            return Err(format!("the hub got {framed:?} as message {}", self.to_hub + 1));
                        }
                        self.to_hub += 1;
                    }
                }
                Kind::Ping if received == Received::Deliver => self.client_pinged = true,
                Kind::Ping => return Err("a Ping did not get through".to_owned()),
                Kind::Ack(number) => self.ledger.acknowledged = self.ledger.acknowledged.max(number as u64),
                Kind::Close => {
                    if self.to_hub != self.client.sent.len() {
                        return Err("the client's Close overtook a message".to_owned());
                    }
                    self.end(End::ClosedByClient);
                    return Ok(());
                }
                Kind::Sequence(_) | Kind::Other => {}
            }
            self.pump()?;
        }
        Ok(())
    }

    /// Lets time pass, from deadline to deadline.
    fn wait(&mut self, time: Duration) -> Checked {
        let until = self.now + time;
        if self.client.is_js() && !self.client.shaken && until >= Duration::from_millis(900) {
            // The second of rule I3 covers a handshake response that is read within it, no later one.
            self.deliver_down(3)?;
            self.pump()?;
        }
        let mut stood_still = 0;
        while self.ended.is_none() {
            let due = [self.server.deadline(), self.client.deadline(self.now)].into_iter().flatten().min();
            let next = due.unwrap_or(until).clamp(self.now, until);
            stood_still = if next > self.now { 0 } else { stood_still + 1 };
            if stood_still > 100 {
                return Err(format!("the deadline stays at {:?}", self.server.deadline()));
            }
            self.now = next;
            self.client.timer(self.now);
            while let Some(timed) = self.server.timer(self.now) {
                self.timed(timed)?;
            }
            self.pump()?;
            if self.now == until && due.is_none_or(|due| due > until) {
                break;
            }
        }
        self.judge_times()
    }

    fn timed(&mut self, timed: Timed) -> Checked {
        self.say(|| format!("    server tells {timed:?}"));
        match timed {
            Timed::PingOther => self.pings_in_gap += 1,
            Timed::Overflowed => {
                let since = self.waits.ok_or("an overflow without a message that waits")?;
                if since + self.overflow_wait > self.now {
                    return Err("an overflow before its time".to_owned());
                }
                let held = self.ledger.may_be_held(self.ledger.unacknowledged_bytes());
                if self.calm.is_some_and(|calm| calm + Duration::from_millis(3_500) <= self.now) && !held {
                    return Err("an overflow though all acknowledge".to_owned());
                }
                self.seen.overflows += 1;
                self.seen.overflows_in_gap += u64::from(self.server_lost.is_some());
                self.tell_overflow()?;
                self.end(End::Overflow);
            }
            Timed::WindowOver => {
                if self.server_lost.is_none_or(|lost| lost + self.window > self.now) {
                    return Err("the window was over before its time".to_owned());
                }
                self.seen.windows_over += 1;
                self.end(End::Window);
            }
        }
        Ok(())
    }

    /// The Close of an overflow goes past what is buffered.
    fn tell_overflow(&mut self) -> Checked {
        let close = self.protocol.to_bytes(&HubMessage::Close(Close::with_error(None)));
        self.server.send(Kind::Close, close, self.now);
        let mut told = false;
        while let Some(framed) = self.server.next_write(self.now) {
            match classify(self.protocol, &framed) {
                Ok(Kind::Close) => told = true,
                Ok(Kind::Ack(_) | Kind::Sequence(_)) if !told => {}
                other => return Err(format!("{other:?} around the Close of an overflow")),
            }
        }
        if told == self.server_lost.is_none() { Ok(()) } else { Err("the overflow was not told".to_owned()) }
    }

    /// What had to happen by now.
    fn judge_times(&self) -> Checked {
        if self.ended.is_some() || self.close_written {
            return Ok(());
        }
        if self.waits.is_some_and(|since| since + self.overflow_wait < self.now) {
            return Err("an overflow was not told".to_owned());
        }
        if self.server_lost.is_some_and(|lost| lost + self.window < self.now) {
            return Err("the window was not closed".to_owned());
        }
        Ok(())
    }

    fn cut(&mut self) {
        if !self.broken && self.client.shaken {
            self.lose_socket();
        }
    }

    fn client_abandons(&mut self) {
        if !self.broken && self.client.shaken && !self.client_lost {
            self.client_lost = true;
            self.client.lost(self.now);
            self.seen.abandoned += 1;
        }
    }

    /// Nothing that is under way arrives any more.
    fn lose_socket(&mut self) {
        self.broken = true;
        self.seen.cuts += 1;
        let (down, up) = (self.down.lost(&self.client.input.bytes), self.up.lost(&self.server_input.bytes));
        self.seen.torn_tails += u64::from(down.torn) + u64::from(up.torn);
        self.seen.acks_lost += down.acks + up.acks;
        self.seen.cuts_in_repetition += u64::from(self.ledger.repetition_left(self.received_here));
        self.seen.cuts_in_client_repetition += u64::from(self.received_up_here < self.client_repeats);
        self.down = Pipe::default();
        self.up = Pipe::default();
    }

    fn server_notices(&mut self) {
        if self.broken && self.server_lost.is_none() {
            self.drop_server_tail();
            self.ledger.socket_gone();
            self.server.lost(self.now);
            self.server_lost = Some(self.now);
            self.pings_in_gap = 0;
        }
    }

    fn client_notices(&mut self) {
        if self.broken && !self.client_lost {
            self.client_lost = true;
            self.client.lost(self.now);
        }
    }

    fn drop_server_tail(&mut self) {
        if self.mutant != Some(Mutant::TornTailKept) {
            self.server_input.restart();
        }
    }

    fn resume(&mut self, early: Option<usize>) -> Checked {
        if !self.client_lost || self.client.closed {
            return Ok(());
        }
        match self.server.judge_resume(self.now) {
            Ok(()) => {}
            Err(ResumeRefused::TooOften) => {
                self.seen.resumes_refused += 1;
                self.end(End::RefusedForRate);
                return self.ledger.refused(self.now);
            }
            Err(ResumeRefused::Over) if self.close_written => {
                self.end(End::Refused);
                return Ok(());
            }
            Err(ResumeRefused::Over) => return Err("a resume was refused though nothing ended".to_owned()),
        }
        self.judge_pings_in_gap()?;
        if !self.broken {
            self.lose_socket();
        }
        self.seen.resumes += 1;
        self.seen.resumes_unnoticed += u64::from(self.server_lost.is_none());
        self.ledger.resumed(self.now)?;
        self.drop_server_tail();
        self.server.resumed(self.now);
        let early = early.map(|len| message(self.protocol, -1 - self.client.sent.len() as i64, len));
        self.client_repeats = self.client.unacknowledged();
        self.seen.early_messages += u64::from(self.client.resumed(early, self.now));
        (self.broken, self.client_lost, self.server_lost) = (false, false, None);
        (self.received_here, self.received_up_here) = (0, 0);
        Ok(())
    }

    fn judge_pings_in_gap(&self) -> Checked {
        let Some(lost) = self.server_lost else { return Ok(()) };
        let due = match self.client_pinged {
            true => (self.now - lost).as_nanos() / self.ping_in_gap.as_nanos(),
            false => 0,
        };
        if due == u128::from(self.pings_in_gap) {
            return Ok(());
        }
        Err(format!("{} Pings instead of {due} in the gap", self.pings_in_gap))
    }

    fn false_ack(&mut self, off: i64) -> Checked {
        if self.server_lost.is_some() || !self.client.shaken {
            return Ok(());
        }
        let number = match off {
            1.. => (self.ledger.written as i64).saturating_add(off),
            -100..=-1 => self.ledger.acknowledged as i64 + off,
            _ => off,
        };
        self.seen.false_acks += 1;
        self.server.receive(Kind::Ack(number), 30, self.now).map(drop).map_err(|error| format!("false Ack: {error}"))
    }

    fn false_sequence(&mut self, off: i64) -> Checked {
        if self.server_lost.is_some() {
            return Ok(());
        }
        let number = if off > 0 { (self.client.sent.len() as i64 + 1).saturating_add(off) } else { off };
        self.seen.false_sequences += 1;
        if self.server.receive(Kind::Sequence(number), 30, self.now).is_ok() {
            return Err(format!("Sequence {number} was obeyed"));
        }
        self.end(End::SequenceRefused);
        Ok(())
    }

    fn end(&mut self, end: End) {
        self.say(|| format!("    ended: {end:?}"));
        self.seen.closes += u64::from(matches!(end, End::ClosedByHub | End::ClosedByClient));
        self.ended = Some(end);
    }

    /// Lets everything come to rest and judges what arrived.
    pub fn finish(&mut self) -> Checked {
        self.say(|| "- everything comes to rest".to_owned());
        self.pipe_bytes = usize::MAX;
        self.come_to_rest()?;
        if self.ended.is_none() && !self.client.closed {
            self.judge_rest()?;
            let held = self.ledger.may_be_held(self.ledger.unacknowledged_bytes());
            if self.server.has_room() {
                self.hub_sends(1)?;
            } else if !held {
                return Err("no room at rest".to_owned());
            }
            if !self.client.has_room() {
                return Err("the client is held up at rest".to_owned());
            }
            self.client_sends(1);
            self.come_to_rest()?;
            if self.ended.is_none() {
                self.judge_rest()?;
                if self.server.buffered_bytes() + self.client.unacknowledged() > 0 {
                    return Err("something stays buffered at rest".to_owned());
                }
            }
        }
        self.judge_over()
    }

    fn come_to_rest(&mut self) -> Checked {
        self.deliver_down(usize::MAX)?;
        self.server_notices();
        self.client_notices();
        for _ in 0..1_000 {
            if self.client_lost && self.ended.is_none() {
                // Two quiet seconds fill the places for resumes.
                self.wait(Duration::from_secs(2))?;
                if self.ended.is_none() && !self.client.closed {
                    self.resume(None)?;
                }
            }
            if self.ended.is_some() || self.client_lost {
                return Ok(());
            }
            self.calm.get_or_insert(self.now);
            self.flow()?;
            let due = [self.server.deadline(), self.client.deadline(self.now)].into_iter().flatten().min();
            match due {
                Some(due) if self.ended.is_none() => self.wait(due.saturating_sub(self.now))?,
                _ => return Ok(()),
            }
        }
        Err("it does not come to rest".to_owned())
    }

    /// Lets all bytes arrive.
    fn flow(&mut self) -> Checked {
        while self.ended.is_none() {
            self.pump()?;
            if self.down.len() + self.up.len() == 0 {
                break;
            }
            self.deliver_up(usize::MAX)?;
            if self.ended.is_none() {
                self.deliver_down(usize::MAX)?;
            }
        }
        Ok(())
    }

    fn judge_rest(&self) -> Checked {
        if self.hub_closed {
            return Err("the Close did not arrive".to_owned());
        }
        let (hub, client) = (self.ledger.sent.len() - self.to_client, self.client.sent.len() - self.to_hub);
        if hub + client > 0 {
            return Err(format!("{hub} messages of the hub and {client} of the client did not arrive"));
        }
        Ok(())
    }

    /// Nothing resumes what ended.
    fn judge_over(&mut self) -> Checked {
        let over = self.ended.is_some_and(|end| end != End::RefusedForRate);
        if over && self.server.judge_resume(self.now + Duration::from_secs(5)) != Err(ResumeRefused::Over) {
            return Err(format!("resumed after {:?}", self.ended));
        }
        Ok(())
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let line = format!("{:>7.3} s {}", self.now.as_secs_f64(), line());
            trace.push(line);
        }
    }
}

/// A counted message that is unlike any other: positive numbers are the hub's, of types 1 to 3, negative ones the
/// client's, of all five types.
fn message(protocol: HubProtocol, number: i64, len: usize) -> Bytes {
    let (kind, id) = match number {
        0.. => ([1, 2, 3][number as usize % 3], number.to_string()),
        _ => (1 + number.unsigned_abs() % 5, format!("c{}", number.unsigned_abs())),
    };
    let padding = "x".repeat(len);
    match protocol {
        HubProtocol::Json => Bytes::from(match kind {
            2 => format!("{{\"type\":2,\"invocationId\":\"{id}\",\"item\":\"{padding}\"}}\u{1e}"),
            3 => format!("{{\"type\":3,\"invocationId\":\"{id}\",\"result\":\"{padding}\"}}\u{1e}"),
            5 => format!("{{\"type\":5,\"invocationId\":\"{id}{padding}\"}}\u{1e}"),
            _ => {
                format!("{{\"type\":{kind},\"invocationId\":\"{id}\",\"target\":\"{padding}\",\"arguments\":[]}}\u{1e}")
            }
        }),
        HubProtocol::MessagePack => {
            let mut body = vec![0x95, kind as u8, 0x80, 0xD9, id.len() as u8];
            body.extend_from_slice(id.as_bytes());
            body.extend_from_slice(&[0xDA, (len >> 8) as u8, len as u8]);
            body.extend_from_slice(padding.as_bytes());
            body.push(0x90);
            let mut framed = Vec::new();
            if body.len() >= 128 {
                framed.push(body.len() as u8 | 0x80);
                framed.push((body.len() >> 7) as u8);
            } else {
                framed.push(body.len() as u8);
            }
            framed.extend(body);
            Bytes::from(framed)
        }
    }
}
