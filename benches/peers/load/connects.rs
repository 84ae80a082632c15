//! Connects: each unit is a new client that negotiates, upgrades, shakes hands, makes one call and closes.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::{Board, Sample, Target, Timing, join_all};
use crate::call::Call;
use crate::hub_client::{Error, HubClient, PATIENCE};
use crate::process::Probe;

/// Connects in flight while the clients of another load connect.
pub(super) const CONNECTING_MAX: usize = 50;

/// Runs one round with `at_once` clients in flight; the unit is a whole client life. Must run inside a local set.
pub(crate) async fn run(target: Target, at_once: usize, timing: Timing, probe: &Probe) -> Sample {
    let board = Rc::new(Board::new());
    let mut tasks = JoinSet::new();
    for index in 0..at_once {
        let board = Rc::clone(&board);
        tasks.spawn_local(async move {
            let mut call = Call::echo(target.kind, index);
            let mut number = 0;
            while !board.stopping.get() {
                let started = Instant::now();
                match live_once(target, &mut call, number).await {
                    Ok(()) => board.done(1, started.elapsed()),
                    Err(error) => board.fail(error),
                }
                number += 1;
            }
        });
    }
    let sample = board.measure(timing, probe).await;
    join_all(&mut tasks, &board, PATIENCE * 3).await;
    board.completed(sample)
}

async fn live_once(target: Target, call: &mut Call, number: u64) -> Result<(), Error> {
    let mut client = HubClient::connect(target).await?;
    let request = call.request(number).to_vec();
    client.call(&request, call.reply(number)).await?;
    client.close().await
}

/// Connects `count` clients, 50 at a time, and yields those that came up with their numbers; the others are failures.
pub(super) async fn connect_many(target: Target, count: usize, board: &Rc<Board>) -> Vec<(usize, HubClient)> {
    let next = Rc::new(Cell::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTING_MAX.min(count) {
        let (next, board) = (Rc::clone(&next), Rc::clone(board));
        tasks.spawn_local(async move {
            let mut clients = Vec::new();
            while next.get() < count {
                let index = next.replace(next.get() + 1);
                match HubClient::connect(target).await {
                    Ok(client) => clients.push((index, client)),
                    Err(error) => board.fail(error),
                }
            }
            clients
        });
    }
    let mut clients = Vec::with_capacity(count);
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(part) => clients.extend(part),
            Err(error) => board.fail(error),
        }
    }
    clients
}
