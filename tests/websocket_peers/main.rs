//! The WebSocket codec and the relay against independent peers, by Autobahn's categories: framing, pings, reserved bits,
//! opcodes, fragments, UTF-8, close, limits.
//!
//! Peers: tokio-tungstenite, and the npm `ws` package where Node is (see [`node`]). The cases are bytes written without any
//! codec ([`cases`], [`raw`]), so that no peer can round them off.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    missing_docs,
    unreachable_pub
)]

mod cases;
mod node;
mod ours;
mod raw;
mod relay;
mod tungstenite;

use std::time::Duration;

/// How long anything that must happen may take: for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_codec_answers_every_case_as_rfc_6455_asks() {
    let server = ours::serve().await;
    let cases = cases::all();
    for case in &cases {
        let observed = raw::play(server, case).await;
        let exact = match case.end {
            cases::End::Closed(code) => observed.code == code,
            // The codec fails every time with a code; a reason that is not UTF-8 is 1002 as with the reference.
            cases::End::Failed(code) => {
                observed.code == code || (code == 1007 && case.name.starts_with("7 ") && observed.code == 1002)
            }
        };
        assert!(exact && observed.satisfies(case), "{}: {:?} {:?}", case.name, observed.code, observed.pongs);
        assert_eq!(observed.echoes, case.echoes, "{}", case.name);
    }
    println!("{} cases against the codec", cases.len());
}

#[tokio::test]
async fn npm_ws_as_a_client_gets_everything_back_from_the_codec() {
    let Some(directory) = node::installed() else { return };
    let server = ours::serve().await;
    println!("npm ws as a client of the codec: {}", node::run_client(directory.clone(), server).await);
}

#[tokio::test]
async fn the_codec_as_a_client_gets_everything_back_from_npm_ws() {
    let Some(directory) = node::installed() else { return };
    let server = node::Server::start(directory);
    tungstenite::exercise(server.address).await;
}
