//! What a history consists of, drawn from a seed.

use core::time::Duration;

use hubgate_protocol::HubProtocol;
use hubgate_protocol::stateful::{Config, Guard};

/// Longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 640;

/// Whose client is at the other end (signalr-wire §12.4 to §12.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// The JavaScript client.
    Js,
    /// The .NET client.
    Net,
    /// An endpoint of our own.
    Ours,
}

/// What is taken out of the server's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A guard of the endpoint.
    Without(Guard),
    /// The caller's duty: it keeps the incomplete message at the end of a lost socket's input.
    TornTailKept,
}

impl Mutant {
    /// Every mutant.
    pub fn all() -> impl Iterator<Item = Self> {
        Guard::ALL.into_iter().map(Self::Without).chain([Self::TornTailKept])
    }
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// The hub sends a message of about so many bytes, if there is room.
    HubSends(usize),
    /// The client sends a message of about so many bytes, if its buffer lets it.
    ClientSends(usize),
    /// The hub pings.
    HubPings,
    /// The client pings.
    ClientPings,
    /// The hub sends an Ack or a Sequence, which is nobody's.
    HubSendsForeign(i64),
    /// So many bytes reach the client.
    Down(usize),
    /// So many bytes reach the server.
    Up(usize),
    /// Milliseconds pass.
    Wait(u64),
    /// The socket breaks: what is under way is lost, and what is written until an end notices.
    Cut,
    /// The server notices that its socket broke.
    ServerNotices,
    /// The client notices that its socket broke.
    ClientNotices,
    /// The client gives its socket up, though what it wrote still arrives.
    ClientAbandons,
    /// The client opens a new socket if it has none.
    Resume,
    /// The same, and a message slips out in front of its Sequence (.NET).
    ResumeEarly(usize),
    /// The client repeats its last Ack.
    RepeatsAck,
    /// A false Ack: of a number so far beyond what was written, or so far below what was acknowledged, or below 1.
    FalseAck(i64),
    /// A false Sequence: so far beyond what the client sent, or below 1. Ends the connection.
    FalseSequence(i64),
    /// The hub ends the connection.
    HubCloses,
    /// The client ends the connection.
    ClientCloses,
}

/// Everything that a history is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    pub client: ClientKind,
    pub protocol: HubProtocol,
    /// The server's limits.
    pub config: Config,
    /// Bytes that the client buffers before it holds its application up.
    pub client_bytes_max: usize,
    /// Bytes of a socket's pipe, each way.
    pub pipe_bytes: usize,
    pub ops: Vec<Op>,
}

/// A source of draws: splitmix64.
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut drawn = self.0;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        drawn ^ (drawn >> 31)
    }

    /// From 0 to `end`, which is left out.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// From 0 to one of the ends, which is left out.
    fn below_one_of<const N: usize>(&mut self, ends: [u64; N]) -> u64 {
        let end = self.one_of(ends);
        self.below(end)
    }

    fn one_of<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[self.below(N as u64) as usize]
    }
}

impl Plan {
    /// The history of a seed.
    pub fn drawn(seed: u64) -> Self {
        let draw = &mut Draw::new(seed);
        let mut plan = Self::quiet(
            draw.one_of([ClientKind::Js, ClientKind::Net, ClientKind::Ours]),
            draw.one_of([HubProtocol::Json, HubProtocol::MessagePack]),
        );
        plan.config.unacknowledged_bytes_max = draw.one_of([60, 300, 300, 1_000, 4_000, 100_000]);
        plan.config.held_bytes_max = plan.config.unacknowledged_bytes_max + draw.one_of([0, 300, 1_500, 12_000]);
        plan.config.ack_after_bytes = draw.one_of([50, 300, 2_000, 32_768]);
        plan.config.resumes_per_second_max = draw.one_of([1, 5, 100, 100, 100, 100]);
        plan.config.ping_in_gap = Duration::from_millis(draw.one_of([700, 3_000, 15_000]));
        plan.client_bytes_max = draw.one_of([100, 1_000, 100_000]);
        plan.pipe_bytes = draw.one_of([1, 40, 300, 10_000, 10_000]);
        let (losses, hostile) = (draw.one_of([1, 5, 15, 30]), draw.below(4) == 0);
        let len = draw.one_of([10, 30, 60, 100]);
        while plan.ops.len() < len {
            match draw.below(100) {
                drawn if drawn < losses => Op::draw_loss(draw, &mut plan.ops),
                drawn if drawn > 90 && hostile => Op::draw_falsehood(draw, &mut plan.ops),
                _ => plan.ops.push(Op::drawn(draw)),
            }
        }
        plan
    }

    /// A history in which nothing happens, with limits that nothing reaches.
    pub fn quiet(client: ClientKind, protocol: HubProtocol) -> Self {
        Self {
            client,
            protocol,
            config: Config { resumes_per_second_max: 100, ..Config::server() },
            client_bytes_max: 100_000,
            pipe_bytes: 1 << 20,
            ops: Vec::new(),
        }
    }
}

impl Op {
    /// A step of a day without losses.
    pub fn drawn(draw: &mut Draw) -> Self {
        match draw.below(40) {
            0..8 => Self::HubSends(Self::len(draw)),
            8..15 => Self::ClientSends(Self::len(draw)),
            15..19 => Self::Down(Self::bytes(draw)),
            19..23 => Self::Up(Self::bytes(draw)),
            23..27 => Self::Wait(Self::ms(draw)),
            27 => Self::HubPings,
            28 => Self::ClientPings,
            29 => Self::HubSendsForeign(draw.below(8) as i64 - 4),
            30 => Self::RepeatsAck,
            31 if draw.below(30) == 0 => Self::HubCloses,
            31 if draw.below(30) == 0 => Self::ClientCloses,
            31..36 => Self::Up(10_000),
            _ => Self::Down(10_000),
        }
    }

    /// The loss of a socket, in most cases with what follows it: whatever of it comes, it may come in another order.
    fn draw_loss(draw: &mut Draw, ops: &mut Vec<Self>) {
        ops.push(if draw.below(6) == 0 { Self::ClientAbandons } else { Self::Cut });
        if draw.below(3) > 0 {
            ops.push(Self::ServerNotices);
        }
        for _ in 0..draw.below(4) {
            ops.push(Self::drawn(draw));
        }
        if draw.below(10) > 0 {
            ops.push(Self::ClientNotices);
        }
        for _ in 0..draw.below_one_of([1, 1, 3]) {
            ops.push(Self::drawn(draw));
        }
        match draw.below(8) {
            0 => {}
            1 => ops.push(Self::ResumeEarly(draw.below(120) as usize)),
            _ => ops.push(Self::Resume),
        }
        for _ in 0..draw.below(4) {
            ops.push(if draw.below(2) == 0 { Self::Down(Self::bytes(draw)) } else { Self::Up(Self::bytes(draw)) });
        }
    }

    /// What no peer may say.
    fn draw_falsehood(draw: &mut Draw, ops: &mut Vec<Self>) {
        ops.push(match draw.below(12) {
            0 => Self::FalseSequence(draw.one_of([1, 2, 30, i64::MAX, 0, -1, -3, i64::MIN])),
            1..5 => Self::FalseAck(draw.one_of([1, 1, 2, 5, 9, 1 << 40, i64::MAX, i64::MIN])),
            _ => Self::FalseAck(draw.one_of([-1, -2, -7])),
        });
        if draw.below(2) == 0 {
            ops.extend([Self::RepeatsAck, Self::Up(10_000)]);
        }
    }

    fn len(draw: &mut Draw) -> usize {
        draw.below_one_of([1, 20, 100, MESSAGE_BYTES_MAX as u64 - 60]) as usize
    }

    fn bytes(draw: &mut Draw) -> usize {
        1 + draw.below_one_of([4, 50, 400]) as usize
    }

    /// Long enough for an Ack in many cases, for an overflow or a window in few.
    fn ms(draw: &mut Draw) -> u64 {
        let end = [20, 20, 200, 200, 200, 1_100, 1_100, 1_100, 1_100, 1_100, 2_500, 2_500, 2_500, 6_000, 6_000, 16_000];
        draw.below_one_of(end)
    }
}
