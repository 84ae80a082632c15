//! The same bytes through the gateway: a relayed server must answer as it does straight.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::cases::{self, Case, End};
use crate::raw::{self, Observed};
use crate::{node, ours, tungstenite};

/// `hubgate serve` in front of a server, ending with its value.
struct Gateway {
    child: Child,
    address: SocketAddr,
}

impl Gateway {
    fn start(backend: SocketAddr) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hubgate"))
            .args(["serve", "--listen", "127.0.0.1:0", "--backend", &format!("http://{backend}")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let address = loop {
            let line = lines.next().expect("a line").expect("text");
            if let Some(url) = line.strip_prefix("listening on http://") {
                break url.parse().expect("an address");
            }
        };
        // Keeps reading, so that the gateway never waits for us.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { child, address }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Whether two answers are the same; a close code may be lost to a reset on either way, but nothing may be made up.
fn same(straight: &Observed, relayed: &Observed, case: &Case) -> bool {
    if matches!(case.end, End::Failed(_)) && (straight.code == 1006 || relayed.code == 1006) {
        return true;
    }
    straight == relayed
}

async fn compare(name: &str, server: SocketAddr) {
    let gateway = Gateway::start(server);
    let cases = cases::all();
    let mut failures = Vec::new();
    for case in &cases {
        let straight = raw::play(server, case).await;
        let relayed = raw::play(gateway.address, case).await;
        if !straight.satisfies(case) {
            println!("{name} itself differs: {}: {}", case.name, straight.code);
        }
        if !same(&straight, &relayed, case) {
            failures.push(format!("{}: straight {}, relayed {}", case.name, straight.code, relayed.code));
        }
    }
    assert!(failures.is_empty(), "{name}: {failures:#?}");
    println!("{} cases through the gateway answered as straight by {name}", cases.len());
}

#[tokio::test]
async fn tungstenite_behind_the_gateway_answers_as_straight() {
    compare("tungstenite", tungstenite::serve().await).await;
}

#[tokio::test]
async fn npm_ws_behind_the_gateway_answers_as_straight() {
    let Some(directory) = node::installed() else { return };
    let server = node::Server::start(directory);
    compare("npm ws", server.address).await;
}

#[tokio::test]
async fn the_codec_behind_the_gateway_answers_as_straight() {
    compare("the codec", ours::serve().await).await;
}

#[tokio::test]
async fn npm_ws_as_a_client_of_the_gateway_gets_everything_back() {
    let Some(directory) = node::installed() else { return };
    let gateway = Gateway::start(ours::serve().await);
    println!("npm ws as a client of the gateway: {}", node::run_client(directory.clone(), gateway.address).await);
}
