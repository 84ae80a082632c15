//! Cuts at every byte of either direction, in the first socket and in the repetition of the second.

use hubgate_protocol::HubProtocol;

use super::history::{self, ClientKind, Op, Plan, Seen};

/// Two messages each way, with a Ping in front of the client's, and bytes to spare for Sequence and Ack.
const BYTES: usize = 36;

fn lose() -> [Op; 4] {
    [Op::Cut, Op::ServerNotices, Op::ClientNotices, Op::Resume]
}

fn deliver(down: usize, up: usize) -> [Op; 2] {
    [Op::Down(down), Op::Up(up)]
}

fn start() -> Vec<Op> {
    let sends = [Op::HubSends(0), Op::ClientSends(0)];
    [&[Op::Down(3), Op::ClientPings, Op::Up(3)][..], &sends, &sends].concat()
}

fn run_for_each_client(ops: &[Op], seen: &mut Seen) {
    for client in [ClientKind::Js, ClientKind::Net, ClientKind::Ours] {
        let plan = Plan { ops: ops.to_vec(), ..Plan::quiet(client, HubProtocol::MessagePack) };
        if let Err(error) = history::run(&plan, None, seen) {
            panic!("{error}\n{plan:?}");
        }
    }
}

#[test]
fn a_cut_at_every_byte_of_both_directions() {
    let mut seen = Seen::default();
    for down in 0..BYTES {
        for up in 0..BYTES {
            let ops = [&start()[..], &deliver(down, up), &lose()].concat();
            run_for_each_client(&ops, &mut seen);
        }
    }
    assert!(seen.torn_tails > 1_000, "{seen:?}");
}

#[test]
fn a_second_cut_at_every_byte_of_both_repetitions() {
    let mut seen = Seen::default();
    for (first_down, first_up, wait) in [(0, 0, 0), (13, 14, 0), (BYTES, BYTES, 0), (BYTES, BYTES, 1_000)] {
        for down in 0..BYTES {
            for up in 0..BYTES {
                // The Acks of the first socket fall due in the repetition.
                let first = [&start()[..], &deliver(first_down, first_up), &lose(), &[Op::Wait(wait)]].concat();
                let ops = [&first[..], &[Op::HubSends(0)], &deliver(down, up), &[Op::Wait(wait)], &lose()].concat();
                run_for_each_client(&ops, &mut seen);
            }
        }
    }
    assert!(seen.cuts_in_repetition > 1_000 && seen.cuts_in_client_repetition > 1_000, "{seen:?}");
}

#[test]
fn a_cut_before_either_end_notices_and_while_both_write() {
    let mut seen = Seen::default();
    for down in 0..BYTES {
        let unnoticed =
            [Op::Cut, Op::HubSends(0), Op::ClientSends(0), Op::ClientNotices, Op::ClientSends(0), Op::Resume];
        let ops = [&start()[..], &deliver(down, BYTES - down), &unnoticed, &deliver(down, down), &unnoticed].concat();
        run_for_each_client(&ops, &mut seen);
    }
    assert!(seen.resumes_unnoticed > 0, "{seen:?}");
}
