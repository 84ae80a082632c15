//! Stateful reconnect: seeded histories, cuts at every byte, the reference's defects by name, and proof that every
//! guard is needed. The long run is `cargo run --release -p hubgate-protocol --example stateful-histories`.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

#[path = "history/root.rs"]
mod history;

mod every_byte;
mod named;

use history::{ClientKind, Mutant, Op, Plan, Seen};
use hubgate_protocol::HubProtocol;
use proptest::collection::vec;
use proptest::prelude::*;

/// Seeds of the short run; the long one has a million. Every mutant is noticed within as many.
const HISTORIES: u64 = 4_000;

#[test]
fn seeded_histories_lose_double_and_reorder_nothing() {
    let mut seen = Seen::default();
    for seed in 0..HISTORIES {
        let plan = Plan::drawn(seed);
        if let Err(error) = history::run(&plan, None, &mut seen) {
            panic!("seed {seed}: {error}\n{:?}", history::shrink(&plan, None));
        }
    }
    let never: Vec<_> = seen.all().into_iter().filter(|(_, met)| *met == 0).collect();
    assert!(never.is_empty(), "never met: {never:?}");
}

#[test]
fn every_guard_is_missed_when_it_is_taken_out() {
    for mutant in Mutant::all() {
        let noticed =
            (0..HISTORIES).any(|seed| history::run(&Plan::drawn(seed), Some(mutant), &mut Seen::default()).is_err());
        assert!(noticed, "nobody misses {mutant:?} in {HISTORIES} histories");
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..580_usize).prop_map(Op::HubSends),
        4 => (0..580_usize).prop_map(Op::ClientSends),
        1 => Just(Op::HubPings),
        1 => Just(Op::ClientPings),
        1 => (-9..9_i64).prop_map(Op::HubSendsForeign),
        6 => (1..700_usize).prop_map(Op::Down),
        6 => (1..700_usize).prop_map(Op::Up),
        4 => (0..2_500_u64).prop_map(Op::Wait),
        3 => Just(Op::Cut),
        2 => Just(Op::ServerNotices),
        3 => Just(Op::ClientNotices),
        1 => Just(Op::ClientAbandons),
        3 => Just(Op::Resume),
        1 => (0..120_usize).prop_map(Op::ResumeEarly),
        1 => Just(Op::RepeatsAck),
        1 => prop_oneof![-5..5_i64, any::<i64>()].prop_map(Op::FalseAck),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let client = prop_oneof![Just(ClientKind::Js), Just(ClientKind::Net), Just(ClientKind::Ours)];
    let protocol = prop_oneof![Just(HubProtocol::Json), Just(HubProtocol::MessagePack)];
    let bytes = (60..2_000_usize, 0..2_000_usize, 50..5_000_usize, 1..2_000_usize);
    (client, protocol, bytes, vec(op(), 0..90)).prop_map(|(client, protocol, bytes, ops)| {
        let mut plan = Plan::quiet(client, protocol);
        plan.config.unacknowledged_bytes_max = bytes.0;
        plan.config.held_bytes_max = bytes.0 + bytes.1;
        plan.config.ack_after_bytes = bytes.2;
        plan.pipe_bytes = bytes.3;
        plan.ops = ops;
        plan
    })
}

proptest! {
    #[test]
    fn any_history_loses_doubles_and_reorders_nothing(plan in plan()) {
        prop_assert_eq!(history::run(&plan, None, &mut Seen::default()), Ok(()));
    }
}
