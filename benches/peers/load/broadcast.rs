//! Broadcast: one client asks the hub to send to all; when every client has the message, it asks for the next.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Board, Sample, Target, Timing, join_all};
use crate::call::Call;
use crate::hub_client::{Error, HubClient, PATIENCE};
use crate::load::connects::connect_many;
use crate::process::Probe;

/// The broadcast under way.
struct Round {
    started: Cell<Instant>,
    missing: Cell<usize>,
    complete: Notify,
    over: tokio::sync::watch::Sender<bool>,
}

/// Runs one round with `count` clients, the sender among them; the unit is a delivery. Must run inside a local set.
pub(crate) async fn run(target: Target, count: usize, name: &str, timing: Timing, probe: &Probe) -> Sample {
    let board = Rc::new(Board::new());
    let mut clients = connect_many(target, count, &board).await;
    let receivers = clients.len();
    let speaker = clients.pop();
    let mut tasks = JoinSet::new();
    let round = Rc::new(Round {
        started: Cell::new(Instant::now()),
        missing: Cell::new(0),
        complete: Notify::new(),
        over: tokio::sync::watch::Sender::new(false),
    });
    let call = Call::broadcast(name);
    for (_, client) in clients {
        let (round, board, call) = (Rc::clone(&round), Rc::clone(&board), call.clone());
        tasks.spawn_local(async move {
            if let Err(error) = listen(client, call, &round, &board).await {
                board.fail(error);
            }
        });
    }
    if let Some((_, client)) = speaker {
        let (round, board) = (Rc::clone(&round), Rc::clone(&board));
        tasks.spawn_local(async move {
            if let Err(error) = speak(client, call, receivers, &round, &board).await {
                board.fail(error);
            }
            round.over.send_replace(true);
        });
    }
    let sample = board.measure(timing, probe).await;
    join_all(&mut tasks, &board, PATIENCE).await;
    board.completed(sample)
}

fn delivered(round: &Round, board: &Board) {
    board.done(1, round.started.get().elapsed());
    round.missing.set(round.missing.get().saturating_sub(1));
    if round.missing.get() == 0 {
        round.complete.notify_one();
    }
}

/// Sends broadcast after broadcast, each when all have the last.
async fn speak(
    mut client: HubClient,
    mut call: Call,
    receivers: usize,
    round: &Round,
    board: &Board,
) -> Result<(), Error> {
    let mut number = 0;
    while !board.stopping.get() {
        round.missing.set(receivers);
        round.started.set(Instant::now());
        let request = call.request(number).to_vec();
        client.call(&request, call.reply(number)).await?;
        delivered(round, board);
        tokio::time::timeout(PATIENCE, round.complete.notified()).await.map_err(|_| Error::TimedOut)?;
        number += 1;
    }
    client.close().await
}

/// Takes each broadcast in order until the speaker is done.
async fn listen(mut client: HubClient, mut call: Call, round: &Round, board: &Board) -> Result<(), Error> {
    let mut over = round.over.subscribe();
    let mut number = 0;
    loop {
        while client.take(call.reply(number))? {
            delivered(round, board);
            number += 1;
        }
        tokio::select! {
            biased;
            filled = client.fill() => filled?,
            _ = over.wait_for(|over| *over) => return client.close().await,
        }
    }
}
