//! Open-loop echo at a fixed rate: each connection calls when its turn has come, whether or not the last answer is there.
//!
//! A call is timed from the moment it goes out, and from the moment it was due where the client was late by more than its timer's grain:
//! a client that was held up must not look like a server that is fast.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{Board, Sample, Target, Timing, join_all};
use crate::call::Call;
use crate::hub_client::{Error, HubClient, PATIENCE};
use crate::load::connects::connect_many;
use crate::process::Probe;

/// Lateness that the client's timer alone explains.
const GRAIN: Duration = Duration::from_millis(2);

/// Runs one round of `per_second` calls, spread evenly over `connections`. Must run inside a local set.
pub(crate) async fn run(
    target: Target,
    connections: usize,
    per_second: usize,
    timing: Timing,
    probe: &Probe,
) -> Sample {
    let board = Rc::new(Board::new());
    let clients = connect_many(target, connections, &board).await;
    let interval = Duration::from_secs_f64(connections as f64 / per_second.max(1) as f64);
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for (index, client) in clients {
        let board = Rc::clone(&board);
        let call = Call::echo(target.kind, index);
        let first = started + interval.mul_f64(index as f64 / connections.max(1) as f64);
        tasks.spawn_local(async move {
            if let Err(error) = converse(client, call, first, interval, &board).await {
                board.fail(error);
            }
        });
    }
    let sample = board.measure(timing, probe).await;
    join_all(&mut tasks, &board, PATIENCE).await;
    board.completed(sample)
}

/// Calls whenever it is due until the board says stop, takes all answers that are due, and closes.
async fn converse(
    mut client: HubClient,
    mut call: Call,
    mut due: Instant,
    interval: Duration,
    board: &Board,
) -> Result<(), Error> {
    let mut in_flight = VecDeque::new();
    let (mut sent, mut received) = (0_u64, 0_u64);
    loop {
        if board.stopping.get() && in_flight.is_empty() {
            return client.close().await;
        }
        tokio::select! {
            filled = client.fill() => filled?,
            () = sleep_until(due) => {
                if !board.stopping.get() {
                    let now = Instant::now();
                    in_flight.push_back(if now.duration_since(due) > GRAIN { due } else { now });
                    client.queue(call.request(sent));
                    client.flush().await?;
                    sent += 1;
                }
                due += interval;
                continue;
            }
        }
        let now = Instant::now();
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
    use super::*;
    use crate::call::HubKind;

    #[tokio::test]
    async fn the_rate_is_held_whatever_the_answers_do() {
        let listener = crate::bare_hub::listen().await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(crate::bare_hub::serve(listener));
        let target = Target::web_sockets(address, HubKind::Bare, "/contract");
        let timing = Timing { warm_up: Duration::from_millis(50), window: Duration::from_millis(400) };
        let local = tokio::task::LocalSet::new();
        let sample = local.run_until(run(target, 4, 200, timing, &Probe::default())).await;
        assert_eq!(sample.failures.count, 0, "{:?}", sample.failures);
        // 200 a second for 0.4 s and what a busy machine adds to the window; a closed loop would make thousands.
        let expected = sample.seconds * 200.0;
        assert!((sample.units as f64 - expected).abs() < expected / 2.0, "{} of {expected}", sample.units);
    }
}
