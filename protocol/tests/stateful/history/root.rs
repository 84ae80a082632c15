//! Histories: a server's end, a client and the sockets between them, in virtual time, out of a seed.
//!
//! A [`Plan`] is all that a history needs: the client's kind, the limits, and what happens in which order. A
//! [`World`] carries it out over byte pipes that can be cut anywhere, then lets everything come to rest, and holds
//! the outcome against what was sent. Nothing here knows how the endpoint keeps its promises.
//!
//! The promise (signalr-wire §12): each direction's messages arrive once, unchanged and in order; and all of them,
//! unless the end was told.

mod client;
mod ledger;
mod models;
mod plan;
mod seen;
mod wire;
mod world;

#[allow(unused_imports, reason = "the tests write plans of their own, the example does not")]
pub use plan::{ClientKind, Draw, Mutant, Op, Plan};
pub use seen::Seen;
pub use world::World;

/// Carries the plan out; an error tells which promise was broken.
pub fn run(plan: &Plan, mutant: Option<Mutant>, seen: &mut Seen) -> Result<(), String> {
    World::new(plan, mutant).run(plan, seen)
}

/// Carries the plan out and gives what happened, line by line.
#[allow(dead_code, reason = "the tests trace failures only through the example")]
pub fn trace(plan: &Plan, mutant: Option<Mutant>) -> (Vec<String>, Result<(), String>) {
    let mut world = World::new(plan, mutant).traced();
    let outcome = world.run(plan, &mut Seen::default());
    (world.into_trace(), outcome)
}

/// Leaves out what the failure does not need: ever smaller runs of steps.
pub fn shrink(plan: &Plan, mutant: Option<Mutant>) -> Plan {
    let mut least = plan.clone();
    let mut len = least.ops.len();
    while len > 0 {
        let mut from = 0;
        while from < least.ops.len() {
            let mut fewer = least.clone();
            fewer.ops.drain(from..(from + len).min(least.ops.len()));
            if run(&fewer, mutant, &mut Seen::default()).is_err() { least = fewer } else { from += len }
        }
        len /= 2;
    }
    least
}
