//! The cases: which hub, which load, how many rounds, in which order. Rounds are interleaved: each goes once through all
//! peers, and each starts with another peer, so that a machine that grows slower or is disturbed treats them alike.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::call::HubKind;
use crate::load::idle::IdleSample;
use crate::load::{self, Sample, Target, Timing};
use crate::peer::{self, Peer, Places, Running};
use crate::process::Probe;
use crate::report::{Bar, Row, Table};

mod web_transport;

const PATH: &str = "/contract";

/// Descriptors that one relayed connection costs its proxy, and those that are left for everything else.
const DESCRIPTORS_SPARE: u64 = 500;

/// What the command line asks for, resolved.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) cases: Vec<Case>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) rounds: usize,
    pub(crate) timing: Timing,
    /// Connections of (a) and (b).
    pub(crate) connections: usize,
    /// Clients of (c).
    pub(crate) audience: usize,
    /// Clients in flight of (d).
    pub(crate) at_once: usize,
    /// Connections of (e).
    pub(crate) idle: usize,
    /// Rest of (e).
    pub(crate) rest: Duration,
    /// Sessions of the WebTransport case: few, many.
    pub(crate) sessions: [usize; 2],
    /// Calls in a second that are a moderate load of the WebTransport case.
    pub(crate) moderate: usize,
    /// Descriptors that this process may have open.
    pub(crate) descriptors_max: u64,
}

impl Plan {
    /// Whether the WebTransport case has that row: all of its own unless some of them were asked for.
    fn wants_of_web_transport(&self, peer: Peer) -> bool {
        let asked = |peer: &Peer| self.peers.contains(peer);
        let any = self.peers.len() < Peer::ALL.len() && Peer::WEB_TRANSPORT.iter().any(asked);
        !any || asked(&peer)
    }
}

/// One case of the suite, named as in the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Case {
    /// Echo by the bare hub.
    A,
    /// JSON echo by the contract hub.
    B,
    /// Broadcast by the contract hub.
    C,
    /// Connects to the contract hub.
    D,
    /// Connects to the bare hub: the same with next to nothing behind the proxy.
    Dbare,
    /// Idle memory.
    E,
    /// Echo over WebTransport beside WebSockets and a bare echo.
    Webtransport,
}

impl Case {
    /// All cases in order.
    pub(crate) const ALL: [Self; 7] = [Self::A, Self::B, Self::C, Self::D, Self::Dbare, Self::E, Self::Webtransport];

    /// Whether the case needs the contract hub, and with it .NET.
    pub(crate) fn wants_contract_hub(self) -> bool {
        matches!(self, Self::B | Self::C | Self::D)
    }
}

/// What a line of a case does to a target.
#[derive(Debug, Clone, Copy)]
enum Load {
    Echo { connections: usize, depth: usize },
    Broadcast { clients: usize },
    Connects { at_once: usize },
    Paced { connections: usize, per_second: usize },
}

/// Runs one case; a peer that cannot be started is told on standard error and left out.
pub(crate) async fn run(case: Case, plan: &Plan, places: &Places) -> Result<Vec<Table>, peer::Error> {
    if case == Case::E {
        return Ok(vec![idle(plan, places).await]);
    }
    if case == Case::Webtransport {
        return web_transport::run(plan, places).await;
    }
    let hub = if case.wants_contract_hub() {
        peer::start_contract_hub(places, "load")?
    } else {
        peer::start_bare_hub("load")?
    };
    let mut running = start_all(plan, &hub, places);
    // What it costs shows in messages; its connects are the same.
    running.retain(|(peer, _)| !peer.is_stateful() || matches!(case, Case::A | Case::B));
    let kind = if case.wants_contract_hub() { HubKind::Contract } else { HubKind::Bare };
    let mut tables = Vec::new();
    for (load, mut table) in lines(case, plan) {
        table.rows = interleave(load, kind, plan, &hub, &running).await;
        tables.push(table);
    }
    Ok(tables)
}

fn start_all(plan: &Plan, hub: &Running, places: &Places) -> Vec<(Peer, Running)> {
    let mut running = Vec::new();
    for peer in &plan.peers {
        match peer::start(*peer, hub.address, places, "load") {
            Ok(process) => running.push((*peer, process)),
            Err(error) => eprintln!("left out: {}: {error}", peer.name()),
        }
    }
    running
}

fn lines(case: Case, plan: &Plan) -> Vec<(Load, Table)> {
    let connections = plan.connections;
    let echo = |id: &str, hub: &str, depth: usize| {
        let title = format!("({id}) echo by {hub}, {connections} connections, depth {depth}");
        let table = Table::new(&format!("{id}{depth}"), title, "message", Bar::nginx(1.05));
        (Load::Echo { connections, depth }, table)
    };
    let connects = |id: &str, hub: &str, bar: Bar| {
        let at_once = plan.at_once;
        let title = format!("({id}) connects to {hub}: negotiate, upgrade, handshake, call, close, {at_once} at once");
        (Load::Connects { at_once }, Table::new(id, title, "connect", bar))
    };
    let contract = "the contract hub on ASP.NET Core";
    match case {
        Case::A => vec![echo("a", "the bare hub", 1), echo("a", "the bare hub", 8)],
        Case::B => vec![echo("b", contract, 1), echo("b", contract, 8)],
        Case::C => {
            let clients = plan.audience;
            let title = format!("(c) broadcast by {contract} to {clients} clients");
            vec![(Load::Broadcast { clients }, Table::new("c", title, "delivery", Bar::nginx(1.05)))]
        }
        Case::D => vec![connects("d", contract, Bar::both(0.8, 1.05))],
        Case::Dbare => vec![connects("dbare", "the bare hub", Bar::None)],
        Case::E | Case::Webtransport => Vec::new(),
    }
}

async fn interleave(load: Load, kind: HubKind, plan: &Plan, hub: &Running, running: &[(Peer, Running)]) -> Vec<Row> {
    let mut rows: Vec<Row> = running.iter().map(|(peer, _)| Row::new(*peer)).collect();
    for round in 0..plan.rounds {
        for turn in 0..running.len() {
            let index = (turn + round) % running.len();
            let (Some((peer, process)), Some(row)) = (running.get(index), rows.get_mut(index)) else { continue };
            let target = Target { stateful: peer.is_stateful(), ..Target::web_sockets(process.address, kind, PATH) };
            let sample = once(load, target, &format!("{round}-{index}"), plan.timing, &process.probe(hub)).await;
            progress(*peer, round, &sample);
            row.samples.push(sample);
        }
    }
    rows
}

async fn once(load: Load, target: Target, name: &str, timing: Timing, probe: &Probe) -> Sample {
    match load {
        Load::Echo { connections, depth } => load::echo::run(target, connections, depth, timing, probe).await,
        Load::Broadcast { clients } => load::broadcast::run(target, clients, name, timing, probe).await,
        Load::Connects { at_once } => load::connects::run(target, at_once, timing, probe).await,
        Load::Paced { connections, per_second } => {
            load::paced::run(target, connections, per_second, timing, probe).await
        }
    }
}

fn progress(peer: Peer, round: usize, sample: &Sample) {
    let rate = sample.units as f64 / sample.seconds;
    let cost = sample.cpu.proxy.as_secs_f64() * 1e6 / (sample.units.max(1) as f64);
    let others = sample.cpu.others().as_secs_f64() / sample.seconds;
    let failures = sample.failures.count;
    let why = sample.failures.first.as_deref().unwrap_or_default();
    let p99_ms = sample.p99_us as f64 / 1000.0;
    eprintln!(
        "round {}: {:<38} {rate:>9.0}/s {cost:>8.2} us each, p99 {p99_ms:.2} ms, others use {others:.2} cores, {failures} \
         failed {why}",
        round + 1,
        peer.name()
    );
}

/// The idle case: as many peers side by side as this process has descriptors for, each fresh and before a hub of its own.
async fn idle(plan: &Plan, places: &Places) -> Table {
    let title = format!(
        "(e) user-space memory per idle connection, {} connections, {} s after a message",
        plan.idle,
        plan.rest.as_secs()
    );
    let mut table = Table::new("e", title, "connection", Bar::Bytes(3000.0));
    let per_peer = plan.idle as u64 + 100;
    let side_by_side = (plan.descriptors_max.saturating_sub(DESCRIPTORS_SPARE) / per_peer).max(1);
    let proxies: Vec<Peer> =
        plan.peers.iter().copied().filter(|peer| *peer != Peer::Direct && !peer.is_stateful()).collect();
    for group in proxies.chunks(usize::try_from(side_by_side).unwrap_or(1)) {
        let turn = Rc::new(Semaphore::new(1));
        let tasks: Vec<_> = group
            .iter()
            .map(|peer| {
                (*peer, tokio::task::spawn_local(idle_at(*peer, plan.clone(), places.clone(), Rc::clone(&turn))))
            })
            .collect();
        for (peer, task) in tasks {
            match task.await.map_err(io::Error::other) {
                Ok(Ok(row)) => table.rows.push(row),
                Ok(Err(error)) => eprintln!("left out: {}: {error}", peer.name()),
                Err(error) => eprintln!("left out: {}: {error}", peer.name()),
            }
        }
    }
    table
}

async fn idle_at(peer: Peer, plan: Plan, places: Places, turn: Rc<Semaphore>) -> Result<Row, peer::Error> {
    let hub = peer::start_bare_hub("idle")?;
    let process = peer::start(peer, hub.address, &places, "idle")?;
    let target = Target { stateful: peer.is_stateful(), ..Target::web_sockets(process.address, HubKind::Bare, PATH) };
    let sample = load::idle::run(target, plan.idle, plan.rest, &turn, &process.probe(&hub)).await;
    Ok(idle_row(peer, sample))
}

fn idle_row(peer: Peer, sample: IdleSample) -> Row {
    let grown = sample.after.resident_bytes.saturating_sub(sample.before.resident_bytes);
    let per_connection = grown / (sample.connections.max(1) as u64);
    let (failures, why) = (sample.failures.count, sample.failures.first.clone().unwrap_or_default());
    eprintln!("idle: {:<38} {per_connection} bytes each, {failures} failed {why}", peer.name());
    Row { idle: Some(sample), ..Row::new(peer) }
}
