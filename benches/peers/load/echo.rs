//! Closed-loop echo: each connection keeps `depth` calls in flight and sends the next as answers arrive.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::{Board, Sample, Target, Timing, join_all};
use crate::call::Call;
use crate::hub_client::{Error, HubClient, PATIENCE};
use crate::load::connects::connect_many;
use crate::process::Probe;

/// Runs one round; the unit is an answered call. Must run inside a local set.
pub(crate) async fn run(target: Target, connections: usize, depth: usize, timing: Timing, probe: &Probe) -> Sample {
    let board = Rc::new(Board::new());
    let clients = connect_many(target, connections, &board).await;
    let mut tasks = JoinSet::new();
    for (index, client) in clients {
        let board = Rc::clone(&board);
        let call = Call::echo(target.kind, index);
        tasks.spawn_local(async move {
            if let Err(error) = converse(client, call, depth, &board).await {
                board.fail(error);
            }
        });
    }
    let sample = board.measure(timing, probe).await;
    join_all(&mut tasks, &board, PATIENCE).await;
    board.completed(sample)
}

/// Calls until the board says stop, takes all answers that are due, and closes.
async fn converse(mut client: HubClient, mut call: Call, depth: usize, board: &Board) -> Result<(), Error> {
    let mut in_flight = VecDeque::with_capacity(depth);
    let (mut sent, mut received) = (0_u64, 0_u64);
    let mut now = Instant::now();
    loop {
        while in_flight.len() < depth && !board.stopping.get() {
            client.queue(call.request(sent));
            in_flight.push_back(now);
            sent += 1;
        }
        if in_flight.is_empty() {
            return client.close().await;
        }
        client.flush().await?;
        client.fill().await?;
        now = Instant::now();
        while let Some(sent_at) = in_flight.front().copied() {
            if !client.take(call.reply(received))? {
                break;
            }
            in_flight.pop_front();
            received += 1;
            board.done(1, now.duration_since(sent_at));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::HubKind;

    #[tokio::test]
    async fn every_echo_of_the_bare_hub_is_counted_without_failure() {
        let listener = crate::bare_hub::listen().await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(crate::bare_hub::serve(listener));
        let target = Target::web_sockets(address, HubKind::Bare, "/contract");
        let timing = Timing { warm_up: Duration::ZERO, window: Duration::from_millis(100) };
        let local = tokio::task::LocalSet::new();
        let sample = local.run_until(run(target, 3, 8, timing, &Probe::default())).await;
        assert_eq!(sample.failures.count, 0, "{:?}", sample.failures);
        assert!(sample.units > 0);
        assert!(sample.p50_us <= sample.p99_us);
    }

    #[tokio::test]
    async fn a_hub_that_answers_something_else_is_a_failure() {
        let listener = crate::bare_hub::listen().await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(crate::bare_hub::serve(listener));
        // The bare hub echoes the invocation where a contract hub would complete it.
        let target = Target::web_sockets(address, HubKind::Contract, "/contract");
        let timing = Timing { warm_up: Duration::ZERO, window: Duration::from_millis(20) };
        let local = tokio::task::LocalSet::new();
        let sample = local.run_until(run(target, 3, 1, timing, &Probe::default())).await;
        assert_eq!(sample.failures.count, 4, "three connections and an empty window: {:?}", sample.failures);
    }
}
