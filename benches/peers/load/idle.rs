//! Idle connections: what a proxy's memory grows by for each hub connection that carried a message and then rested.
//!
//! As official clients do, each connection sends a SignalR ping every 15 s; the bare hub's echo stands for the hub's own.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Board, Failures, Target};
use crate::call::Call;
use crate::hub_client::{Error, HubClient, PATIENCE};
use crate::load::connects::{CONNECTING_MAX, connect_many};
use crate::process::{Memory, Probe};

/// The client's keep-alive interval of SignalR's defaults.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Connections that come and go before the first look at the memory: as many as connect at once later, so that what all of them
/// share is there already.
const PRIMING: usize = CONNECTING_MAX;

/// What the idle case found at one target.
#[derive(Debug, Clone)]
pub(crate) struct IdleSample {
    /// Connections that were open at both looks.
    pub(crate) connections: usize,
    /// The proxy before them.
    pub(crate) before: Memory,
    /// The proxy with them at rest.
    pub(crate) after: Memory,
    pub(crate) failures: Failures,
}

/// Connects `count` clients, one call each, rests, looks, calls once more and closes. `turn` keeps the connecting of
/// targets that are measured side by side apart. Must run inside a local set.
pub(crate) async fn run(target: Target, count: usize, rest: Duration, turn: &Semaphore, probe: &Probe) -> IdleSample {
    let board = Rc::new(Board::new());
    let permit = turn.acquire().await;
    let primed = connect_many(target, PRIMING.min(count), &board).await;
    call_each(primed, target, 0, &board, true).await;
    let before = probe.memory();
    let clients = connect_many(target, count, &board).await;
    let mut clients = call_each(clients, target, 0, &board, false).await;
    drop(permit);
    let measured_at = Instant::now() + rest;
    let connections = clients.len();
    while Instant::now() + PING_INTERVAL < measured_at {
        tokio::time::sleep(PING_INTERVAL).await;
        clients = ping_each(clients, &board).await;
    }
    tokio::time::sleep_until(measured_at).await;
    let after = probe.memory();
    call_each(clients, target, 1, &board, true).await;
    let failures = board.failures.borrow().clone();
    IdleSample { connections, before, after, failures }
}

/// Makes call `number` on each client; those that pass are closed or kept.
async fn call_each(
    clients: Vec<(usize, HubClient)>,
    target: Target,
    number: u64,
    board: &Board,
    close: bool,
) -> Vec<(usize, HubClient)> {
    let mut kept = Vec::with_capacity(clients.len());
    for (index, mut client) in clients {
        let mut call = Call::echo(target.kind, index);
        let request = call.request(number).to_vec();
        match client.call(&request, call.reply(number)).await {
            Err(error) => board.fail(error),
            Ok(()) if close => {
                if let Err(error) = client.close().await {
                    board.fail(error);
                }
            }
            Ok(()) => {
                client.rest();
                kept.push((index, client));
            }
        }
    }
    kept
}

async fn ping_each(clients: Vec<(usize, HubClient)>, board: &Board) -> Vec<(usize, HubClient)> {
    let mut kept = Vec::with_capacity(clients.len());
    for (index, mut client) in clients {
        match ping(&mut client).await {
            Ok(()) => {
                client.rest();
                kept.push((index, client));
            }
            Err(error) => board.fail(error),
        }
    }
    kept
}

/// Sends a ping and reads its echo, so that none is left in a buffer on the way.
async fn ping(client: &mut HubClient) -> Result<(), Error> {
    client.queue_ping();
    client.flush().await?;
    tokio::time::timeout(PATIENCE, client.fill()).await.map_err(|_| Error::TimedOut)??;
    client.drop_pings()
}
