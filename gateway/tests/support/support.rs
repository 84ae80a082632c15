//! What the tests of the edge rules share: a gateway in this process, scripted backends behind it, raw clients before it.
//!
//! In reading order: [`front`] starts gateways, [`backend`] is a server that does what a test scripts and records what it
//! got, [`wire`] reads and writes HTTP and WebSocket bytes for either side, [`session`] is a WebTransport client, [`hub`] knows
//! the few SignalR words needed.
//!
//! Invariant: nothing here shares code with the gateway's HTTP or relaying, so both cannot be wrong in the same way.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test binary uses its part")]

#[path = "backend.rs"]
pub mod backend;
#[path = "front.rs"]
pub mod front;
#[path = "hub.rs"]
pub mod hub;
#[path = "session.rs"]
pub mod session;
#[path = "wire.rs"]
pub mod wire;

use std::time::Duration;

pub use backend::{Backend, Reply, Seen};
pub use front::{Front, Setup};
pub use hub::{Negotiated, negotiate, web_socket};
pub use session::{Carrier, Session};
pub use wire::{Answer, Ended, Frame, Wire};

/// The longest that a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must come.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Repeats a question until the answer is yes.
pub async fn until<F: Future<Output = bool>>(what: &str, mut question: impl FnMut() -> F) {
    soon(what, async {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        while !question().await {
            pause.tick().await;
        }
    })
    .await;
}
