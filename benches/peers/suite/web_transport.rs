//! The WebTransport case: the same echo over WebTransport and WebSockets through one gateway, and by `wtransport`'s bare echo, which has no
//! hub behind it.
//!
//! One gateway serves the rows of a load table, so that they differ in the transport alone; for memory each has a fresh one.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{Load, PATH, Plan, idle_row, once, progress};
use crate::call::HubKind;
use crate::line::Dialer;
use crate::load::{self, Target, Way};
use crate::peer::{self, HubgateWithTls, Peer, Places, Running};
use crate::process::Probe;
use crate::report::{Bar, Beside, Row, Table};

/// Rest before memory is looked at; acknowledgements and timers of the handshake are long over then.
const REST: Duration = Duration::from_secs(10);
/// Resident bytes that a session may cost.
const BYTES_MAX: f64 = 45_000.0;
/// What 99 of 100 messages may take at a moderate load, in milliseconds.
const P99_MS: f64 = 10.0;

/// The servers of the load tables.
struct Servers {
    hub: Running,
    hubgate: HubgateWithTls,
    echo: Running,
    dialer: &'static Dialer,
}

impl Servers {
    fn start(places: &Places, tag: &str, dialer: &'static Dialer) -> Result<Self, peer::Error> {
        let hub = peer::start_bare_hub(tag)?;
        let hubgate = peer::start_hubgate_with_tls(hub.address, places, tag)?;
        let echo = peer::start(Peer::WebTransportEcho, hub.address, places, tag)?;
        Ok(Self { hub, hubgate, echo, dialer })
    }

    fn target(&self, peer: Peer) -> Target {
        let at = |address: SocketAddr, way: Way| Target { way, ..Target::web_sockets(address, HubKind::Bare, PATH) };
        match peer {
            Peer::HubgateOneTls => at(self.hubgate.tls, Way::SecureWebSockets(self.dialer)),
            Peer::HubgateOneWebTransport => at(self.hubgate.process.address, Way::WebTransport(self.dialer)),
            Peer::WebTransportEcho => at(self.echo.address, Way::BareWebTransport(self.dialer)),
            _ => at(self.hubgate.process.address, Way::WebSockets),
        }
    }

    fn probe(&self, peer: Peer) -> Probe {
        match peer {
            Peer::WebTransportEcho => Probe { hub: Vec::new(), ..self.echo.probe(&self.hub) },
            _ => self.hubgate.process.probe(&self.hub),
        }
    }
}

pub(super) async fn run(plan: &Plan, places: &Places) -> Result<Vec<Table>, peer::Error> {
    let dialer = Dialer::leaked()?;
    let peers: Vec<Peer> = Peer::WEB_TRANSPORT.into_iter().filter(|peer| plan.wants_of_web_transport(*peer)).collect();
    let servers = Servers::start(places, "webtransport", dialer)?;
    let mut tables = Vec::new();
    for (load, mut table) in lines(plan) {
        eprintln!("{}", table.title);
        table.rows = peers.iter().copied().map(Row::new).collect();
        for round in 0..plan.rounds {
            for turn in 0..peers.len() {
                let Some(row) = table.rows.get_mut((turn + round) % peers.len()) else { continue };
                let (target, probe) = (servers.target(row.peer), servers.probe(row.peer));
                let sample = once(load, target, "", plan.timing, &probe).await;
                progress(row.peer, round, &sample);
                row.samples.push(sample);
            }
        }
        tables.push(table);
    }
    drop(servers);
    tables.push(idle(plan, places, &peers, dialer).await);
    Ok(tables)
}

fn lines(plan: &Plan) -> Vec<(Load, Table)> {
    let [_, many] = plan.sessions;
    let mut lines = Vec::new();
    for connections in plan.sessions {
        let per_second = plan.moderate;
        let title =
            format!("(webtransport) echo, {connections} sessions, moderate load of {per_second} messages a second");
        let bar = if connections == many { Bar::P99(P99_MS) } else { Bar::None };
        let table = Table::new(&format!("webtransport-moderate-{connections}"), title, "message", bar);
        lines.push((Load::Paced { connections, per_second }, Table { beside: Beside::WebSockets, ..table }));
    }
    for connections in plan.sessions {
        let title = format!("(webtransport) echo, {connections} sessions, saturation, depth 1");
        let table = Table::new(&format!("webtransport-saturation-{connections}"), title, "message", Bar::None);
        lines.push((Load::Echo { connections, depth: 1 }, Table { beside: Beside::WebSockets, ..table }));
    }
    lines
}

/// Memory of each row's process, all at rest at the same time.
async fn idle(plan: &Plan, places: &Places, peers: &[Peer], dialer: &'static Dialer) -> Table {
    let [_, count] = plan.sessions;
    let rest = plan.rest.min(REST);
    let title =
        format!("(webtransport) user-space memory per idle session, {count}, {} s after a message", rest.as_secs());
    let mut table = Table::new("webtransport-idle", title, "session", Bar::Bytes(BYTES_MAX));
    table.beside = Beside::WebSockets;
    let turn = Rc::new(Semaphore::new(1));
    let tasks: Vec<_> = peers
        .iter()
        .map(|peer| {
            let (peer, places, turn) = (*peer, places.clone(), Rc::clone(&turn));
            tokio::task::spawn_local(async move {
                let servers = Servers::start(&places, &format!("webtransport-idle-{peer:?}"), dialer)?;
                let sample = load::idle::run(servers.target(peer), count, rest, &turn, &servers.probe(peer)).await;
                Ok::<_, peer::Error>(idle_row(peer, sample))
            })
        })
        .collect();
    for task in tasks {
        match task.await {
            Ok(Ok(row)) => table.rows.push(row),
            Ok(Err(error)) => eprintln!("left out: {error}"),
            Err(error) => eprintln!("left out: {error}"),
        }
    }
    table
}
