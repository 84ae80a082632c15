//! Bad input and its bounds (rules F1 to F3, E2): what each bad peer gets, that the gateway's memory does not grow with
//! the number of offences, and that a neighbour does not notice.
//!
//! Hub and gateway run as processes of their own. Each test prints its figures; `cargo test --test bad_peers --
//! --nocapture` shows them. "Memory bounded" is at most 16 MiB more resident memory at any moment of the attack than
//! before it; where an offence is a live connection with bytes that wait for it, than a first round of as many at once
//! needed. The neighbour's p99 during an attack must stay below twice that of before. Attackers, neighbour, gateway and hub
//! share the machine's processors, so: it is taken over blocks of calls (see [`neighbour::block_p99`]), times under 50 ms are
//! not told apart, and a control that calls the neighbour's hub (which nobody
//! attacks) without the gateway tells how much slower the machine has become for
//! everybody, which is allowed for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    // One attack at a time, from its first await to its last.
    clippy::await_holding_lock,
    clippy::wrong_self_convention,
    clippy::cast_possible_truncation,
    missing_docs,
    unreachable_pub
)]

mod connections;
mod http1;
mod http2;
mod http2_frames;
mod hubs;
mod neighbour;
mod process;
mod readers;
mod rig;
mod sessions;
mod wire;

use std::time::Duration;

/// How long anything that must happen may take: for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Offences begun in a second at most: what occupies both processors would disturb any neighbour.
const OFFENCES_PER_SECOND: f64 = 2_500.0;

/// Runs many offences, `at_once` of them at a time; panics of one are the test's.
pub async fn flood<F>(offences: usize, at_once: usize, mut offend: impl FnMut(usize) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let mut running = tokio::task::JoinSet::new();
            let began = tokio::time::Instant::now();
            for number in 0..offences {
                tokio::time::sleep_until(began + Duration::from_secs_f64(number as f64 / OFFENCES_PER_SECOND)).await;
                if running.len() >= at_once {
                    running.join_next().await.expect("one is running").expect("an offence goes as expected");
                }
                running.spawn_local(offend(number));
            }
            while let Some(done) = running.join_next().await {
                done.expect("an offence goes as expected");
            }
        })
        .await;
}
